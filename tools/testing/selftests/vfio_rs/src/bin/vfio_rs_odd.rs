// SPDX-License-Identifier: GPL-2.0
//! Configuration spaces that the test machine's devices do not have: vital product data, chains
//! that are malformed, spaces that end early, devices that are pulled out. A module makes edu have
//! them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use vfio_client::Event;
use vfio_client::config::{CAP_MSI, COMMAND, COMMAND_MEMORY, Config, VENDOR};
use vfio_client::edu::Edu;
use vfio_client::uapi::{VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX as MSIX};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::{ChangedEdu, Set};
use vfio_rs_selftests::setup::{EDU, Opened, is_rust_stack};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

const COMMAND_IO: u16 = 0x1;
const CAP_VPD: u8 = 0x03;
const CAP_MSIX: u8 = 0x11;
const CAP_AF: u8 = 0x13;
/// Where edu has none of its own registers, and where its capability of MSI is.
const FREE: u64 = 0xc0;
const MSI: u64 = 0x40;

fn odd(arguments: &[&str]) -> Result<ChangedEdu> {
    ChangedEdu::new("vfio_rs_odd", arguments)
}

/// A byte of the device's own.
fn own_byte(odd: &ChangedEdu, at: u64) -> Result<u8> {
    Ok(fs::read(odd.pci.path().join("config"))?[at as usize])
}

/// Has the vital product data at an address read; the address register and the data afterwards.
fn read_vpd(config: &Config<'_>, address: u16) -> Result<(u16, [u8; 4])> {
    config.write16(FREE + 2, address)?;
    let data = config.read32(FREE + 4)?.to_le_bytes();
    Ok((config.read16(FREE + 2)?, data))
}

/// Has it written; the address register afterwards.
fn write_vpd(config: &Config<'_>, address: u16, data: [u8; 4]) -> Result<u16> {
    config.write32(FREE + 4, u32::from_le_bytes(data))?;
    config.write16(FREE + 2, address | 0x8000)?;
    Ok(config.read16(FREE + 2)?)
}

fn vital_product_data() -> Outcome {
    let odd = odd(&["bytes=34=c0,c0=3,c1=40", "vpd=0xc0"])?;
    let opened = odd.open()?;
    let config = opened.device.config()?;
    same("capability", config.find_cap(CAP_VPD)?, Some(FREE))?;
    same("the next", config.find_cap(CAP_MSI)?, Some(MSI))?;
    for (address, want) in [
        (0, *b"\x82\x0a\x000"),
        (4, *b"1234"),
        (1, *b"\x0a\x0001"),
        // It ends in the middle of these, and before.
        (12, *b"9\x78\0\0"),
        (16, [0; 4]),
        (0x7ffc, [0; 4]),
    ] {
        let what = format!("read of {address:#x}");
        same(&what, read_vpd(&config, address)?, (address | 0x8000, want))?;
    }
    // The byte with the flag counts.
    config.write8(FREE + 2, 4)?;
    same("not read", config.read32(FREE + 4)?, 0)?;
    config.write8(FREE + 3, 0)?;
    same("read", config.read32(FREE + 4)?.to_le_bytes(), *b"1234")?;
    config.write32(FREE, 8 << 16)?;
    same("read", config.read32(FREE)?, 0x8008_4003)?;

    same("written", write_vpd(&config, 4, *b"abcd")?, 4)?;
    same("read back", read_vpd(&config, 4)?, (0x8004, *b"abcd"))?;
    for address in [2, 12, 16] {
        let what = format!("write at {address}");
        let after = write_vpd(&config, address, *b"!!!!")?;
        same(&what, after, address | 0x8000)?;
    }
    same("unchanged", read_vpd(&config, 0)?.1, *b"\x82\x0a\x000")?;
    same("unchanged", read_vpd(&config, 4)?.1, *b"abcd")
}

fn advanced_features() -> Outcome {
    let odd = odd(&["bytes=34=c0,c0=13,c1=40,c2=6,c3=3,c4=0,c5=1"])?;
    let opened = odd.open()?;
    let config = opened.device.config()?;
    same("capability", config.find_cap(CAP_AF)?, Some(FREE))?;
    for value in [0xff, 1] {
        config.write8(FREE + 4, value)?;
        same("control", config.read8(FREE + 4)?, 0)?;
        // The kernel does the reset, as it knows how; edu has none.
        same("the device's", own_byte(&odd, FREE + 4)?, 0)?;
    }
    same("status", config.read8(FREE + 5)?, 1)
}

fn a_space_that_ends_early() -> Outcome {
    for size in [0xa0, 0x40] {
        let odd = odd(&[&format!("size={size}")])?;
        // edu's capability of MSI would be beyond it.
        if size == 0x40 && !is_rust_stack() {
            skip!("C writes beyond its copy");
        }
        let opened = odd.open()?;
        let config = opened.device.config()?;
        same("size", config.region().size, size)?;
        same("vendor", config.read16(VENDOR)?, EDU.id.0)?;
        same("last", config.read8(size - 1)?, own_byte(&odd, size - 1)?)?;
        errno("beyond", config.read8(size), Errno::EFAULT)?;
        errno("across", config.write32(size - 2, 0), Errno::EFAULT)?;
        let msi = (size > MSI).then_some(MSI);
        same("MSI", config.find_cap(CAP_MSI)?, msi)?;
    }
    Ok(())
}

fn a_chain_without_an_end() -> Outcome {
    if !is_rust_stack() {
        skip!("C does not mind");
    }
    let odd = odd(&["bytes=41=40,80=11"])?;
    let mut log = Kmsg::now()?;
    let opened = odd.open()?;
    let said = format!(
        "vfio-pci {}: Chain of capabilities: 0x40 was seen already",
        odd.pci.address
    );
    let lines = log.lines()?;
    same("log", lines.iter().filter(|line| **line == said).count(), 1)?;
    let config = opened.device.config()?;
    same("id and next", config.read16(MSI)?, CAP_MSI.into())?;
    // It may be a capability that was never seen.
    config.write8(0x80, 0x22)?;
    same("gap", config.read8(0x80)?, 0x11)
}

/// Whoever knows where they are cannot write them, but what lies between them.
fn hidden_capabilities() -> Outcome {
    if !is_rust_stack() {
        skip!("C passes writes of them to the device");
    }
    // PCI Express and Enhanced Allocation; process address spaces, time measurement, data objects,
    // a serial number, one that nobody knows, Compute Express Link.
    let bytes = "bytes=34=c0,c0=10,c1=d8,c2=1,d8=14,d9=40,da=1,\
        100=1b,102=1,103=11,110=1f,112=1,113=12,120=2e,122=1,123=14,140=3,142=1,143=15,\
        150=77,152=1,153=40,400=23,402=1,404=98,405=1e,406=80,407=3";
    let odd = odd(&[bytes, "zero=0xd4", "size=4096"])?;
    let opened = odd.open()?;
    let config = opened.device.config()?;
    same("extended", config.read32(0x100)?, 0x1400_0000)?;
    same("hidden", config.find_cap(0x14)?, None)?;
    let gaps = [
        (0xd4, 0xd8),
        (0x108, 0x110),
        (0x11c, 0x120),
        (0x138, 0x140),
        (0x14c, 0x150),
        (0x438, 0x1000),
    ];
    for at in (0xd4..0x1000).step_by(4) {
        let is_gap = gaps.iter().any(|(start, end)| (*start..*end).contains(&at));
        let before = config.read32(at)?;
        config.write32(at, !before)?;
        let expected = if is_gap { !before } else { before };
        same(&format!("{at:#x}"), config.read32(at)?, expected)?;
    }
    Ok(())
}

/// edu with MSI-X of four vectors, and what it says of the table and the pending bits. It has one
/// BAR, of 1 MiB.
fn with_msix(table: u32, pending: u32) -> Result<ChangedEdu> {
    let mut bytes = "bytes=34=c0,c0=11,c1=40,c2=3,c3=0".to_owned();
    for (start, value) in [(0xc4, table), (0xc8, pending)] {
        for (at, byte) in (start..).zip(value.to_le_bytes()) {
            bytes += &format!(",{at:x}={byte:x}");
        }
    }
    odd(&[&bytes, "msix=0xc0"])
}

fn enable_msix(opened: &Opened) -> Result<std::io::Result<i32>> {
    let event = Event::new()?;
    Ok(opened.device.enable_irqs(MSIX, &[event.as_raw_fd(); 4]))
}

/// The kernel would write vectors into what lies behind, another device's registers maybe.
fn msix_outside_of_its_bar() -> Outcome {
    if !is_rust_stack() {
        skip!("C lets the kernel write there");
    }
    for table in [0x10_0000, 0xf_ffd0, 0x2001, 0x2007] {
        let odd = with_msix(table, 0x3000)?;
        let mut log = Kmsg::now()?;
        let opened = odd.open()?;
        log.expect("MSI-X table is not inside a memory BAR")?;
        let what = format!("table {table:#x}");
        same(&what, opened.device.irq_info(MSIX)?.count, 0)?;
        errno(&what, enable_msix(&opened)?, Errno::EINVAL)?;
        let config = opened.device.config()?;
        same(&what, config.find_cap(CAP_MSIX)?, None)?;
        same("the next", config.find_cap(CAP_MSI)?, Some(MSI))?;
        same("mappable", opened.device.region(0)?.cap_ids.len(), 0)?;
        // All else works.
        opened.device.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[-1])?;
        Edu::new(&opened.device)?;
    }
    Ok(())
}

fn msix_inside_of_its_bar() -> Outcome {
    // There are virtual functions that tell nonsense of the pending bits, which the kernel never
    // looks at.
    for (table, pending) in [(0x2000, 0x3000), (0xf_ffc0, 0x46_0007)] {
        let odd = with_msix(table, pending)?;
        let opened = odd.open()?;
        let what = format!("table {table:#x}");
        same(&what, opened.device.irq_info(MSIX)?.count, 4)?;
        let config = opened.device.config()?;
        same(&what, config.find_cap(CAP_MSIX)?, Some(FREE))?;
        same(&what, enable_msix(&opened)?.context("enable")?, 0)?;
        opened.device.disable_irqs(MSIX)?;
    }
    Ok(())
}

/// As some can be made to by their users.
fn msix_that_moves() -> Outcome {
    if !is_rust_stack() {
        skip!("C lets the kernel write there");
    }
    let odd = with_msix(0x2000, 0x3000)?;
    let opened = odd.open()?;
    let path = odd.pci.path().join("config");
    let own = fs::OpenOptions::new().write(true).open(path)?;
    for (table, expected) in [
        (0x10_2000u32, Err(Errno::EINVAL)),
        (0x3000, Err(Errno::EINVAL)),
        (0x2000, Ok(0)),
    ] {
        own.write_all_at(&table.to_le_bytes(), FREE + 4)?;
        let got = enable_msix(&opened)?;
        let got = got.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        same(&format!("table {table:#x}"), got, expected)?;
    }
    Ok(())
}

/// I/O decoding that a device without I/O ports does not have looks as if it was lost by a reset.
fn a_bit_that_does_not_stick() -> Outcome {
    if !is_rust_stack() {
        skip!("C logs as often as its user likes");
    }
    let odd = odd(&["bytes=4=2"])?;
    let opened = odd.open()?;
    let config = opened.device.config()?;
    let mut log = Kmsg::now()?;
    for _ in 0..100 {
        config.write16(COMMAND, COMMAND_IO | COMMAND_MEMORY)?;
    }
    let said = format!(
        "vfio-pci {}: Reset recovery - restoring BARs",
        odd.pci.address
    );
    let count = log.lines()?.iter().filter(|line| **line == said).count();
    ensure!((1..=20).contains(&count), "{count} log lines");
    Ok(())
}

fn pulled_out() -> Outcome {
    let odd = odd(&["bytes=34=c0,c0=3,c1=40", "vpd=0xc0"])?;
    let opened = odd.open()?;
    let config = opened.device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    let gone = Set::new("vfio_rs_odd", "gone", "1")?;
    same("status", config.read16(0x06)?, 0xffff)?;
    same("vendor", config.read16(VENDOR)?, EDU.id.0)?;
    for at in (0..config.region().size).step_by(2) {
        config.write16(at, 0)?;
        config.write16(at, 0xffff)?;
    }
    config.write16(COMMAND, COMMAND_MEMORY)?;
    drop(gone);
    // Nothing came of all that.
    config.write16(COMMAND, COMMAND_MEMORY)?;
    same("command", config.read16(COMMAND)?, COMMAND_MEMORY)?;
    Edu::new(&opened.device)?;
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    vital_product_data,
    advanced_features,
    a_space_that_ends_early,
    a_chain_without_an_end,
    hidden_capabilities,
    msix_outside_of_its_bar,
    msix_inside_of_its_bar,
    msix_that_moves,
    a_bit_that_does_not_stick,
    pulled_out,
);
