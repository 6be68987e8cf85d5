// SPDX-License-Identifier: GPL-2.0
//! Random accesses to configuration space, BARs and ioctls of a device: whatever they answer, the
//! machine stands, and the device can be reset, read and handed over afterwards. `VFIO_RS_HOSTILE`
//! says how many (per device), `VFIO_RS_SEED` repeats a run.

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use fastrand::Rng;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{E1000E, EDU, IGB, Kind, NVME, Opened, number, slowness};
use vfio_rs_selftests::{Outcome, suite};

/// Accesses per device; the checkers' kernel gets fewer.
const ACCESSES: u64 = 5_000;
const IOCTLS: [u32; 7] = [
    DEVICE_GET_INFO,
    DEVICE_GET_REGION_INFO,
    DEVICE_GET_IRQ_INFO,
    DEVICE_SET_IRQS,
    DEVICE_FEATURE,
    UNKNOWN_IOCTL,
    GROUP_GET_STATUS,
];
/// The register in edu's BAR that starts a DMA: QEMU then copies whatever the other registers say,
/// outside of its own buffer too, and may end by it.
const EDU_COMMAND: Range<u64> = 0x98..0xa0;
/// Words of an ioctl's argument.
const WORDS: usize = 32;

/// Mostly small numbers and edges, sometimes anything.
fn word(rng: &mut Rng) -> u32 {
    match rng.u8(0..8) {
        0..4 => rng.u32(0..16),
        4 => 1 << rng.u8(0..32),
        5 => (1 << rng.u8(0..32)) - 1,
        6 => rng.u32(0..256),
        _ => rng.u32(..),
    }
}

fn access(
    opened: &Opened,
    regions: &[vfio_client::region::Region],
    spared: &Range<u64>,
    rng: &mut Rng,
) {
    let device = &opened.device;
    if rng.u8(0..4) == 0 {
        let mut argument = [0u32; WORDS];
        argument.iter_mut().for_each(|w| *w = word(rng));
        // A plausible size more often than not, or nothing gets past the first check. It is never
        // larger than what is there: the rest of our stack is not theirs to change.
        argument[0] = rng.u32(0..=(WORDS * 4) as u32);
        // A reset takes a tenth of a second: few of them.
        let nr = match rng.u8(..) {
            0 => DEVICE_RESET,
            _ => *rng.choice(&IOCTLS).unwrap_or(&DEVICE_GET_INFO),
        };
        let _ = sys::raw(device.as_raw_fd(), nr, argument.as_mut_ptr() as usize);
        return;
    }
    let Some(region) = rng.choice(regions) else {
        return;
    };
    let mut data = [0u8; 64];
    rng.fill(&mut data);
    let len = *rng.choice(&[1, 2, 4, 8, 3, 5, 17, 64]).unwrap_or(&4);
    // A little beyond the end too.
    let at = rng.u64(0..region.size + 8);
    let end = at + len as u64;
    if rng.bool() {
        let _ = device.read(region, at, &mut data[..len]);
    } else if region.index != 0 || end <= spared.start || spared.end <= at {
        let _ = device.write(region, at, &data[..len]);
    }
}

fn storm(kind: Kind) -> Outcome {
    let opened = kind.open()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let seed = number("VFIO_RS_SEED", now)?;
    let count = number("VFIO_RS_HOSTILE", ACCESSES / u64::from(slowness()))?;
    println!("{}: {count} accesses, VFIO_RS_SEED={seed}", kind.name);
    let mut rng = Rng::with_seed(seed);
    let regions: Vec<_> = (0..=VFIO_PCI_CONFIG_REGION_INDEX)
        .filter_map(|index| opened.device.region(index).ok())
        .filter(|r| r.size > 0)
        .collect();
    ensure!(!regions.is_empty(), "no region");
    let spared = if kind == EDU { EDU_COMMAND } else { 0..0 };
    for _ in 0..count {
        access(&opened, &regions, &spared, &mut rng);
    }
    drop(opened);
    // Opened anew it is as it was.
    let again = kind.open().context("open again")?;
    let config = again.device.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
    let id = again.device.read32(&config, 0)?;
    let want = u32::from(kind.id.1) << 16 | u32::from(kind.id.0);
    ensure!(id == want, "seed {seed}: id {id:#x}, not {want:#x}");
    Ok(())
}

fn edu() -> Outcome {
    storm(EDU)
}

fn igb() -> Outcome {
    storm(IGB)
}

fn e1000e() -> Outcome {
    storm(E1000E)
}

fn nvme() -> Outcome {
    storm(NVME)
}

suite!(iommus: All, debug: Lifetimes; edu, igb, e1000e, nvme);
