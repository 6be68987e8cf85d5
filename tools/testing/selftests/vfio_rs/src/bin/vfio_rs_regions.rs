// SPDX-License-Identifier: GPL-2.0
//! Regions of a device by read, write and mmap: what works, what is refused, and what happens with
//! memory decoding off.

use nix::errno::Errno;
use nix::sys::mman::MapFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use vfio_client::config::{self, COMMAND_MEMORY};
use vfio_client::region::Region;
use vfio_client::uapi::*;
use vfio_client::{Device, sys};
use vfio_rs_selftests::process;
use vfio_rs_selftests::setup::{E1000E, IGB, Kind, NVME, PAGE, PATIENCE, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, ensure, errno, same, skip, suite};

/// Memory of a register by read and by mmap must be the same.
fn same_word_both_ways(kind: Kind, at: u64) -> Outcome {
    let opened = kind.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(0)?;
    let map = opened.device.mmap(&bar, 0, bar.size as usize)?;
    let (read, mapped) = (opened.device.read32(&bar, at)?, map.read32(at as usize));
    same("mapped word", mapped, read)?;
    ensure!(read != 0 && read != u32::MAX, "word is {read:#x}");
    Ok(())
}

fn igb_registers() -> Outcome {
    same_word_both_ways(IGB, 8)
}

fn e1000e_registers() -> Outcome {
    same_word_both_ways(E1000E, 8)
}

fn nvme_registers() -> Outcome {
    same_word_both_ways(NVME, 8)
}

fn read_and_write_misuse() -> Outcome {
    let opened = open_edu()?;
    let (device, bar) = (&opened.device, opened.device.region(0)?);
    let mut buf = [0; 64];
    for at in [0, bar.size, 1 << 39] {
        let what = format!("nothing at {at:#x}");
        let got = device.read(&bar, at, &mut []).context(what.clone())?;
        same(&what, got, 0)?;
    }
    errno(
        "read at the end",
        device.read(&bar, bar.size, &mut buf),
        Errno::EINVAL,
    )?;
    errno(
        "write at the end",
        device.write(&bar, bar.size, &buf),
        Errno::EINVAL,
    )?;
    errno(
        "read far beyond",
        device.read(&bar, 1 << 39, &mut buf),
        Errno::EINVAL,
    )?;
    let got = device
        .read(&bar, bar.size - 4, &mut buf)
        .context("read over the end")?;
    same("bytes of it", got, 4)?;
    let config = device.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
    // Configuration space answers another way than a BAR.
    for at in [config.size, config.size - 4] {
        errno(
            &format!("config at {at:#x}"),
            device.read(&config, at, &mut buf),
            Errno::EFAULT,
        )?;
    }
    // A BAR that the device lacks, VGA, and regions that nobody has.
    for index in [1, VFIO_PCI_VGA_REGION_INDEX, VFIO_PCI_NUM_REGIONS, 1000] {
        let none = Region {
            offset: u64::from(index) << 40,
            index,
            ..bar.clone()
        };
        errno(
            &format!("read of region {index}"),
            device.read(&none, 0, &mut buf),
            Errno::EINVAL,
        )?;
        errno(
            &format!("write of region {index}"),
            device.write(&none, 0, &buf),
            Errno::EINVAL,
        )?;
    }
    let rom = Region {
        offset: u64::from(VFIO_PCI_ROM_REGION_INDEX) << 40,
        ..bar.clone()
    };
    errno(
        "write to the ROM",
        device.write(&rom, 0, &buf),
        Errno::EINVAL,
    )?;
    bad_buffer(device, &bar)
}

fn bad_buffer(device: &Device, bar: &Region) -> Outcome {
    use std::os::fd::AsRawFd;
    let at = bar.offset as i64;
    // SAFETY: the kernel refuses the address.
    let got = unsafe { libc::pread(device.as_raw_fd(), 8 as *mut _, 4, at) };
    let result = if got < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(got)
    };
    errno("a bad buffer", result, Errno::EFAULT)
}

fn mmap_misuse() -> Outcome {
    let opened = open_edu()?;
    let (device, bar) = (&opened.device, opened.device.region(0)?);
    let page = PAGE as usize;
    errno(
        "private",
        device.mmap_flags(&bar, 0, page, MapFlags::MAP_PRIVATE),
        Errno::EINVAL,
    )?;
    errno(
        "behind the end",
        device.mmap(&bar, bar.size, page),
        Errno::EINVAL,
    )?;
    errno(
        "over the end",
        device.mmap(&bar, bar.size - PAGE, 2 * page),
        Errno::EINVAL,
    )?;
    errno("unaligned", device.mmap(&bar, 512, page), Errno::EINVAL)?;
    for index in [1, 6, VFIO_PCI_CONFIG_REGION_INDEX, 8, 9, 1000] {
        let region = Region {
            offset: u64::from(index) << 40,
            index,
            ..bar.clone()
        };
        errno(
            &format!("region {index}"),
            device.mmap(&region, 0, page),
            Errno::EINVAL,
        )?;
    }
    let last = device.mmap(&bar, bar.size - PAGE, page)?;
    let first = device.mmap(&bar, 0, page)?;
    let _ = (last.read32(0), first.read32(0));
    Ok(())
}

fn mapping_outlives_the_descriptor() -> Outcome {
    let opened = open_edu()?;
    let bar = opened.device.region(0)?;
    let map = opened.device.mmap(&bar, 0, PAGE as usize)?;
    let group = opened.bound.group;
    drop((opened.device, opened.group, opened.container));
    same("ident", map.read32(0) & 0xff, vfio_client::edu::IDENT)?;
    errno(
        "open of the group",
        vfio_client::Group::open(group),
        Errno::EBUSY,
    )?;
    drop(map);
    vfio_client::Group::open(group)?;
    Ok(())
}

fn memory_disabled() -> Outcome {
    let opened = open_edu()?;
    let bar = opened.device.region(0)?;
    let map = opened.device.mmap(&bar, 0, PAGE as usize)?;
    let ident = map.read32(0);
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    errno("read", opened.device.read32(&bar, 0), Errno::EIO)?;
    errno("write", opened.device.write32(&bar, 4, 0), Errno::EIO)?;
    let mut child = process::spawn(|| (map.read32(0) == ident).into())?;
    let status = child.wait(PATIENCE * slowness())?;
    ensure!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
        "load from the map: {status:?}"
    );
    config.update_command(0, COMMAND_MEMORY)?;
    same("ident by the same map", map.read32(0), ident)
}

fn msix_table_is_out_of_reach() -> Outcome {
    let opened = IGB.open()?;
    let config = opened.device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    let Some(at) = config.find_cap(config::CAP_MSIX)? else {
        skip!("igb without MSI-X")
    };
    let table = config.read32(at + 4)?;
    let bar = opened.device.region(table & 7)?;
    let offset = u64::from(table & !7);
    same(
        "word of the table",
        opened.device.read32(&bar, offset)?,
        u32::MAX,
    )?;
    opened.device.write32(&bar, offset, 0x1234)?;
    same(
        "after a write",
        opened.device.read32(&bar, offset)?,
        u32::MAX,
    )?;
    let wanted = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE as u16;
    same(
        "capability of its BAR",
        bar.cap_ids.contains(&wanted),
        bar.can_mmap(),
    )
}

/// What the user has room for decides whether capabilities are told, and where nothing is written.
fn room_for_capabilities() -> Outcome {
    const HEAD: u32 = size_of::<vfio_region_info>() as u32;
    /// Fills what must not be touched.
    const MARK: u64 = 0x5a5a_5a5a_5a5a_5a5a;
    let opened = IGB.open()?;
    let config = opened.device.config()?;
    let Some(at) = config.find_cap(config::CAP_MSIX)? else {
        skip!("igb without MSI-X")
    };
    // Its table's BAR has one capability, which is a header only.
    let index = config.read32(at + 4)? & 7;
    let ask = |argsz: u32| -> anyhow::Result<[u64; 8]> {
        let mut buf = [MARK; 8];
        buf[0] = argsz.into();
        buf[1] = u64::from(index);
        sys::with_buffer(&opened.device, DEVICE_GET_REGION_INFO, &mut buf)?;
        Ok(buf)
    };
    let whole = HEAD + 8;
    for (argsz, told) in [
        (HEAD, false),
        (HEAD + 1, false),
        (whole - 1, false),
        (whole, true),
        (whole + 1, true),
        (u32::MAX, true),
    ] {
        let what = format!("argsz {argsz}");
        let buf = ask(argsz)?;
        let (new, flags) = (buf[0] as u32, (buf[0] >> 32) as u32);
        same(&what, new, if told { argsz } else { whole })?;
        ensure!(flags & VFIO_REGION_INFO_FLAG_CAPS != 0, "{what}: no flag");
        same(
            &what,
            buf[1],
            u64::from(index) | if told { u64::from(HEAD) << 32 } else { 0 },
        )?;
        let cap = u64::from(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) | 1 << 16;
        same(&what, buf[4], if told { cap } else { MARK })?;
        same(&what, &buf[5..], &[MARK; 3][..])?;
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    igb_registers,
    e1000e_registers,
    nvme_registers,
    read_and_write_misuse,
    mmap_misuse,
    mapping_outlives_the_descriptor,
    memory_disabled,
    msix_table_is_out_of_reach,
    room_for_capabilities,
);
