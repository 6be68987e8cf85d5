// SPDX-License-Identifier: GPL-2.0
//! The regions of Intel graphics: OpRegion and VBT, host bridge, LPC bridge. A module makes edu
//! look like it.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use fastrand::Rng;
use nix::errno::Errno;
use vfio_client::Device;
use vfio_client::region::Region;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::igd::{ASLS, Graphics, PLACE, config_of, reserved};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::setup::{
    Bound, EDU, Freed, IVSHMEM, PAGE, all_edus, is_rust_stack, read_trimmed,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// Bytes of the OpRegion.
const OPREGION_SIZE: usize = 8192;
/// Where the module puts the VBT, from the start of the OpRegion.
const VBT: usize = 0x4000;
/// Indices.
const OPREGION: u32 = VFIO_PCI_NUM_REGIONS;
const HOST: u32 = OPREGION + 1;
const LPC: u32 = OPREGION + 2;

/// What the firmware is to say.
#[derive(Clone, Copy)]
struct Firmware {
    version: u16,
    vbt: usize,
}

const PLAIN: Firmware = Firmware {
    version: 0x0100,
    vbt: 0,
};
const WITH_VBT: Firmware = Firmware {
    version: 0x0201,
    vbt: 0x1801,
};

impl Firmware {
    fn graphics(self) -> Result<Graphics> {
        let version = format!("version={}", self.version);
        let vbt = format!("vbt={}", self.vbt);
        Graphics::new(&[&version, &vbt])
    }

    /// What a user must find.
    fn expected(self) -> Vec<u8> {
        let mut all: Vec<u8> = (0..VBT + self.vbt)
            .map(|i| (i * 31 + (i >> 8)) as u8)
            .collect();
        let mut put = |at: usize, bytes: &[u8]| all[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"IntelGraphicsMem");
        put(0x10, &8u32.to_le_bytes());
        let own = self.version >= 0x0200 && self.vbt > 0;
        // A VBT right behind the OpRegion, as version 2.1 says it.
        let version = self.version.max(if own { 0x0201 } else { 0 });
        put(0x16, &version.to_le_bytes());
        let rvda = if own { OPREGION_SIZE as u64 } else { 0 };
        put(0x3ba, &rvda.to_le_bytes());
        put(0x3c2, &(self.vbt as u32).to_le_bytes());
        let vbt = all.split_off(VBT);
        all.truncate(OPREGION_SIZE);
        if own {
            all.extend(vbt);
        }
        all
    }
}

fn bridge(index: u32) -> &'static str {
    if index == HOST {
        "0000:00:00.0"
    } else {
        "0000:00:1f.0"
    }
}

fn what_they_are() -> Outcome {
    let graphics = WITH_VBT.graphics()?;
    let opened = graphics.open_full()?;
    let device = &opened.device;
    same("regions", device.info()?.num_regions, 12)?;
    let kind = VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x8086;
    let config_size = |index| -> Result<u64> {
        let path = PciDevice::at(bridge(index)).path().join("config");
        Ok(fs::metadata(path)?.len())
    };
    for (index, subtype, size) in [
        (
            OPREGION,
            VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION,
            8192 + 0x1801,
        ),
        (
            HOST,
            VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG,
            config_size(HOST)?,
        ),
        (
            LPC,
            VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG,
            config_size(LPC)?,
        ),
    ] {
        let region = device.region(index)?;
        let what = format!("region {index}: ");
        same(&(what.clone() + "kind"), region.kind, Some((kind, subtype)))?;
        same(&(what.clone() + "size"), region.size, size)?;
        same(
            &(what.clone() + "flags"),
            region.flags,
            VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_CAPS,
        )?;
        same(&(what.clone() + "capabilities"), region.cap_ids.len(), 1)?;
        same(&(what + "offset"), region.offset, u64::from(index) << 40)?;
    }
    same("kind of BAR 0", device.region(0)?.kind, None)?;
    for index in [12, 13, 1 << 22 | 9, i32::MAX as u32, u32::MAX] {
        let what = format!("region {index}");
        errno(&what, device.region(index), Errno::EINVAL)?;
    }
    Ok(())
}

/// Reads at all places that matter, and at random ones.
fn check_contents(device: &Device, region: &Region, expected: &[u8], rng: &mut Rng) -> Outcome {
    let size = expected.len();
    let mut buf = vec![0; size + 300];
    let edges = [0, 0x10, 0x16, 0x17, 0x18, 0x3ba, 0x3c2, 8192, size];
    let near = edges
        .into_iter()
        .flat_map(|edge| (0..4).map(move |i| (edge + i).saturating_sub(2)));
    let mut places: Vec<(usize, usize)> = Vec::new();
    for at in near {
        places.extend([1, 2, 3, 8, 300, size].map(|len| (at, len)));
    }
    places.extend((0..300).map(|_| (rng.usize(0..size), rng.usize(0..size + 16))));
    for (at, len) in places {
        let what = format!("{len} bytes at {at:#x}");
        let got = device.read(region, at as u64, &mut buf[..len]);
        if len > 0 && at >= size {
            errno(&what, got, Errno::EINVAL)?;
            continue;
        }
        let got = got.context(what.clone())?;
        same(&what, got, len.min(size - at))?;
        ensure!(buf[..got] == expected[at..at + got], "{what} differ");
    }
    Ok(())
}

fn opregion_and_vbt_are_one() -> Outcome {
    let mut rng = Rng::with_seed(4);
    for (version, vbt) in [
        (0x0100, 0x1801),
        (0x0200, 0),
        (0x0200, 0x1801),
        (0x0201, 0),
        (0x0201, 0xc000),
        (0x0300, 1),
    ] {
        let firmware = Firmware { version, vbt };
        let graphics = firmware.graphics()?;
        let opened = graphics.open_full()?;
        let region = opened.device.region(OPREGION)?;
        let expected = firmware.expected();
        let what = format!("version {version:#x} with a VBT of {vbt}");
        same(&what, region.size, expected.len() as u64)?;
        check_contents(&opened.device, &region, &expected, &mut rng).context(what)?;
    }
    Ok(())
}

/// A guest's firmware talks to the graphics by it, so it must not be a snapshot.
fn bridges_are_read_through() -> Outcome {
    let mut rng = Rng::with_seed(5);
    let graphics = PLAIN.graphics()?;
    let opened = graphics.open_full()?;
    for index in [HOST, LPC] {
        let region = opened.device.region(index)?;
        let config = config_of(bridge(index))?;
        let mut expected = vec![0; region.size as usize];
        config.read_exact_at(&mut expected, 0)?;
        check_contents(&opened.device, &region, &expected, &mut rng)?;
        // The interrupt line is a note for software.
        for value in [!expected[0x3c], expected[0x3c]] {
            config.write_all_at(&[value], 0x3c)?;
            let mut byte = [0];
            config.read_exact_at(&mut byte, 0x3c)?;
            let got = opened.device.read32(&region, 0x3c)? as u8;
            same("interrupt line", got, byte[0])?;
        }
    }
    Ok(())
}

fn misuse() -> Outcome {
    let graphics = PLAIN.graphics()?;
    let opened = graphics.open_full()?;
    let device = &opened.device;
    let mut buf = [0; 64];
    for index in [OPREGION, HOST, LPC] {
        let region = device.region(index)?;
        for at in [0, 0xfc, region.size - 1, region.size, 1 << 39] {
            let what = format!("region {index} at {at:#x}");
            errno(&what, device.write(&region, at, &buf), Errno::EINVAL)?;
            same(&what, device.read(&region, at, &mut [])?, 0)?;
            same(&what, device.write(&region, at, &[])?, 0)?;
        }
        errno(
            "far",
            device.read(&region, 1 << 39, &mut buf),
            Errno::EINVAL,
        )?;
        let map = device.mmap(&region, 0, PAGE as usize);
        errno("map", map, Errno::EINVAL)?;
        let event = device.ioeventfd(&region, 0, VFIO_DEVICE_IOEVENTFD_32, 0, -1);
        errno("ioeventfd", event, Errno::EINVAL)?;
        // SAFETY: the kernel refuses the address.
        let got = unsafe { libc::pread(device.as_raw_fd(), 8 as *mut _, 4, region.offset as i64) };
        let got = Errno::result(got).map_err(std::io::Error::from);
        errno("a bad buffer", got, Errno::EFAULT)?;
    }
    // Beyond the last, and where write-combining maps of the regions would be.
    let some = device.region(OPREGION)?;
    for index in [12, 13, 1 << 22 | OPREGION, (1 << 23) - 1] {
        let none = Region {
            offset: u64::from(index) << 40,
            ..some.clone()
        };
        let what = format!("region {index}");
        errno(&what, device.read(&none, 0, &mut buf), Errno::EINVAL)?;
        errno(&what, device.write(&none, 0, &buf), Errno::EINVAL)?;
        errno(&what, device.mmap(&none, 0, PAGE as usize), Errno::EINVAL)?;
    }
    Ok(())
}

fn asls_is_a_copy() -> Outcome {
    let graphics = PLAIN.graphics()?;
    let real = graphics.asls()?;
    for _ in 0..2 {
        let opened = graphics.open_full()?;
        let config = opened.device.config()?;
        same("ASLS", config.read32(ASLS)?, real)?;
        config.write32(ASLS, 0x1234_5678)?;
        config.write8(ASLS + 1, 0xff)?;
        same("what was written", config.read32(ASLS)?, 0x1234_ff78)?;
        same("the device's", graphics.asls()?, real)?;
        let mut start = [0; 16];
        let region = opened.device.region(OPREGION)?;
        opened.device.read(&region, 0, &mut start)?;
        same("signature", &start, b"IntelGraphicsMem")?;
    }
    Ok(())
}

/// Else a user sets the address of what the next open reads.
fn asls_is_a_copy_without_opregion() -> Outcome {
    let graphics = PLAIN.graphics()?;
    let address = graphics.asls()?;
    for none in [0, u32::MAX] {
        graphics.set_asls(none)?;
        for _ in 0..2 {
            let opened = graphics.open()?;
            let regions = opened.device.info()?.num_regions;
            same("regions", regions, VFIO_PCI_NUM_REGIONS)?;
            if is_rust_stack() {
                let config = opened.device.config()?;
                config.write32(ASLS, address)?;
                same("what was written", config.read32(ASLS)?, address)?;
                same("the device's", graphics.asls()?, none)?;
            }
        }
    }
    Ok(())
}

fn bad_firmware_is_refused() -> Outcome {
    for argument in ["sign=n", "kib=0"] {
        let graphics = Graphics::new(&[argument])?;
        let (_container, group) = Bound::new(graphics.pci().clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
        for _ in 0..2 {
            let mut log = Kmsg::now()?;
            let device = group.device(&graphics.pci().address);
            if !is_rust_stack() && device.is_ok() {
                skip!("a kernel without CONFIG_VFIO_PCI_IGD");
            }
            errno(argument, device, Errno::EINVAL)?;
            log.expect("Failed to setup Intel IGD regions")?;
        }
        // The device is as it was.
        graphics.set_asls(0)?;
        let device = group.device(&graphics.pci().address)?;
        same("regions", device.info()?.num_regions, VFIO_PCI_NUM_REGIONS)?;
        device.config()?.update_command(0, 2)?;
        let bar = device.region(0)?;
        ensure!(device.read32(&bar, 0)? != u32::MAX, "BAR 0 does not answer");
    }
    Ok(())
}

/// The first line of /proc/iomem with `text` in it: the address where that starts.
fn iomem(text: &str) -> Result<u64> {
    let all = fs::read_to_string("/proc/iomem")?;
    let line = all.lines().find(|line| line.contains(text));
    let Some(line) = line else {
        skip!("no {text} in /proc/iomem");
    };
    let start = line.trim().split('-').next().unwrap_or_default();
    Ok(u64::from_str_radix(start, 16)?)
}

/// A device can claim to be Intel's and name any address.
fn memory_of_others_is_refused() -> Outcome {
    if !is_rust_stack() {
        skip!("C reads any memory");
    }
    let end = reserved()? + 0x1_0000;
    let bar = IVSHMEM.find()?.resource(2)?.0;
    for (reserved, version) in [(0, 0x0100), (reserved()?, 0x0200), (reserved()?, 0x0201)] {
        let arguments = [
            format!("reserved={reserved:#x}"),
            format!("version={version}"),
            "vbt=0x1000".to_owned(),
        ];
        let graphics = Graphics::anywhere(&arguments.each_ref().map(String::as_str))?;
        let pci = graphics.pci();
        let (_container, group) = Bound::new(pci.clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
        for (what, at) in [
            ("code of the kernel", iomem("Kernel code")?),
            ("free memory", end),
            ("half of it", end - 0xfff),
            ("memory before it", end - 0x1_0100),
            ("a BAR", bar),
            ("configuration space", iomem("PCI ECAM")?),
            ("an interrupt controller", 0xfee0_0000),
            ("nothing", 0xf_0000_0000),
            ("the end of all", 0u64.wrapping_sub(0x1000)),
        ]
        .into_iter()
        .take(if reserved == 0 { 1 } else { 9 })
        {
            // As a distance it may wrap around, and is refused for that.
            let _at = Set::new("vfio_rs_igd", "vbt_at", &at.to_string())?;
            let what = format!("a VBT in {what}, version {version:#x}, OpRegion at {reserved:#x}");
            errno(&what, group.device(&pci.address), Errno::EINVAL)?;
        }
        if reserved == 0 {
            continue;
        }
        // To the last byte.
        let _at = Set::new("vfio_rs_igd", "vbt_at", &(end - 0x1000).to_string())?;
        let device = group.device(&pci.address)?;
        same("size", device.region(OPREGION)?.size, 8192 + 0x1000)?;
    }
    Ok(())
}

/// It is a part of the processor, at one place.
fn elsewhere_it_is_none() -> Outcome {
    if !is_rust_stack() {
        skip!("C does not mind where it is");
    }
    let edu = all_edus()?.into_iter().find(|edu| edu.address != PLACE);
    let edu = edu.context("one edu only")?;
    let _freed = Freed::around(&edu)?;
    let reserved = format!("reserved={:#x}", reserved()?);
    let graphics = Graphics::of(edu, &[&reserved])?;
    let real = graphics.asls()?;
    let opened = graphics.open()?;
    let regions = opened.device.info()?.num_regions;
    same("regions", regions, VFIO_PCI_NUM_REGIONS)?;
    // Another driver may not mind either.
    let config = opened.device.config()?;
    config.write32(ASLS, 0x1234)?;
    same("the device's", graphics.asls()?, real)
}

fn others_have_none() -> Outcome {
    let real = read_trimmed(&format!("{}/class", EDU.find()?.path().display()))?;
    let class = format!("class={real}");
    for argument in ["vendor=0x1234", class.as_str()] {
        let graphics = Graphics::new(&[argument])?;
        let opened = graphics.open()?;
        let regions = opened.device.info()?.num_regions;
        same(argument, regions, VFIO_PCI_NUM_REGIONS)?;
        errno("region 9", opened.device.region(9), Errno::EINVAL)?;
        // The register means nothing there, and is the device's.
        let config = opened.device.config()?;
        config.write32(ASLS, 0x55aa_1234)?;
        same("the device's", graphics.asls()?, 0x55aa_1234)?;
    }
    Ok(())
}

fn open_with_faults() -> Outcome {
    let faults = Faults::new()?;
    let graphics = WITH_VBT.graphics()?;
    let (_container, group) = Bound::new(graphics.pci().clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
    let open = || group.device(&graphics.pci().address);
    faults.sweep(
        "open of graphics",
        &[Errno::ENOMEM, Errno::EFAULT],
        |_| Ok(()),
        |()| open(),
        |(), done| {
            drop(done);
            let device = open().context("once more")?;
            same("regions", device.info()?.num_regions, 12)?;
            let mut start = [0; 16];
            device.read(&device.region(OPREGION)?, 0, &mut start)?;
            same("OpRegion", &start, b"IntelGraphicsMem")
        },
    )
}

suite!(
    iommus: Vtd, debug: Answers;
    what_they_are,
    opregion_and_vbt_are_one,
    bridges_are_read_through,
    misuse,
    asls_is_a_copy,
    asls_is_a_copy_without_opregion,
    bad_firmware_is_refused,
    memory_of_others_is_refused,
    elsewhere_it_is_none,
    others_have_none,
    open_with_faults,
);
