// SPDX-License-Identifier: GPL-2.0
//! type2: what must be refused, and in what way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use vfio_client::pamu::*;
use vfio_client::uapi::*;
use vfio_client::{Container, Edu, counters, sys};
use vfio_rs_selftests::pamu::{self, MIB, cut, eight, joined, map, memory, open, open_with};
use vfio_rs_selftests::setup::{Bound, IGB, PAGE, slowness};
use vfio_rs_selftests::sriov::Vfs;
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

fn geometries_that_cannot_be() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    let max = container.pamu_get(VFIO_ATTR_LIMITS)?[0];
    let wrong = [
        ("no bytes", 0x1000, 0xfff),
        ("end before start", 0x10_0000, 0x1000),
        ("no power of two", 0, 0x2fff),
        ("less than a page", 0, 0x7ff),
        ("start not aligned", 0x1000, 0x2fff),
        ("start in a page", 0x800, 0x17ff),
        ("all there is", 0, u64::MAX),
        ("to the end", u64::MAX - 0xfff, u64::MAX),
        ("wraps", u64::MAX, 0xffe),
        ("more than there is", 0, max.wrapping_mul(2).wrapping_sub(1)),
    ];
    for (what, start, last) in wrong {
        // Some IOMMUs translate all there is.
        let at_end = start == u64::MAX - 0xfff && max == 1 << 63;
        if at_end || (start == 0 && last == max - 1) {
            continue;
        }
        errno(what, container.set_geometry(start, last), Errno::EINVAL)?;
    }
    errno("nothing is set", container.set_windows(8), Errno::EINVAL)
}

fn numbers_of_windows_that_cannot_be() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    errno("no geometry", container.set_windows(8), Errno::EINVAL)?;
    container.set_geometry(0, MIB - 1)?;
    for count in [0, 3, 255, 512, 1 << 31, u32::MAX] {
        errno(
            &format!("{count} windows"),
            container.set_windows(count),
            Errno::EINVAL,
        )?;
    }
    container.set_geometry(0, 0x7_ffff)?;
    errno(
        "smaller than a page",
        container.set_windows(256),
        Errno::EINVAL,
    )?;
    container.set_windows(128)?;
    errno("0 windows", container.set_windows(0), Errno::EINVAL)?;
    same(
        "as before",
        container.pamu_get(VFIO_ATTR_WINDOWS)?[0] as u32,
        128,
    )
}

fn before_there_are_windows() -> Outcome {
    let opened = open()?;
    let (container, buf) = (&opened.container, memory(1)?);
    for step in 0..2 {
        errno("map", map(container, &buf, 0), Errno::ENODEV)?;
        errno("banks", container.map_banks(0, PAGE), Errno::ENODEV)?;
        errno("bank", container.map_bank(0, 0), Errno::ENODEV)?;
        same("unmap", container.unmap(0, PAGE)?, 0)?;
        if step == 0 {
            container.set_geometry(0, MIB - 1)?;
        }
    }
    same("locked", counters::locked_kib()?, 0)
}

fn structs_that_are_wrong() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    let geometry = [word(48, 0), word(VFIO_ATTR_GEOMETRY, 0), 0, MIB - 1, 0, 0];
    let with = |at: usize, value| {
        let mut attr = geometry;
        attr[at] = value;
        attr
    };
    let wrong = [
        ("short", with(0, word(47, 0))),
        ("no size", with(0, 0)),
        ("flags", with(0, word(48, 1))),
        ("attribute", with(1, word(5, 0))),
        ("no attribute", with(1, word(u32::MAX, 0))),
        ("reserved", with(1, word(VFIO_ATTR_GEOMETRY, 1))),
    ];
    for (what, attr) in wrong {
        for nr in [PAMU_GET_ATTR, PAMU_SET_ATTR] {
            let mut attr = attr;
            let result = sys::with_buffer(container, nr, &mut attr);
            errno(what, result, Errno::EINVAL)?;
        }
    }
    for nr in [
        PAMU_GET_ATTR,
        PAMU_SET_ATTR,
        PAMU_MSI_BANK_MAP,
        PAMU_MSI_BANK_UNMAP,
    ] {
        let result = sys::with_value(container, nr, 8);
        errno("no struct", result, Errno::EFAULT)?;
    }
    let result = sys::with_value(&opened.group, GROUP_GET_MSI_FD, 8);
    errno("no struct", result, Errno::EFAULT)?;
    // A longer struct, of a user to come, is fine.
    let mut longer = [word(64, 0), geometry[1], 0, MIB - 1, 0, 0, 0, 0];
    sys::with_buffer(container, PAMU_SET_ATTR, &mut longer)?;
    container.set_windows(1)?;
    let mut bank = [
        (PAMU_MSI_BANK_MAP, [word(23, 0), 0, 0]),
        (PAMU_MSI_BANK_MAP, [word(24, 1), 0, 0]),
        (PAMU_MSI_BANK_MAP, [word(24, 0), word(0, 1), 0]),
        (PAMU_MSI_BANK_UNMAP, [word(15, 0), 0, 0]),
        (PAMU_MSI_BANK_UNMAP, [word(16, 1), 0, 0]),
    ];
    for (nr, arg) in &mut bank {
        errno("bank", sys::with_buffer(container, *nr, arg), Errno::EINVAL)?;
    }
    let mut fd = [word(15, 0), 0];
    let result = sys::with_buffer(&opened.group, GROUP_GET_MSI_FD, &mut fd);
    errno("descriptor", result, Errno::EINVAL)?;
    let mut fd = [word(16, 1), 0];
    let result = sys::with_buffer(&opened.group, GROUP_GET_MSI_FD, &mut fd);
    errno("descriptor", result, Errno::EINVAL)?;
    errno("dirty pages", container.dirty_pages(1), Errno::ENOTTY)
}

fn maps_that_cannot_be() -> Outcome {
    let (opened, buf) = eight()?;
    let (container, vaddr) = (&opened.container, buf.addr());
    let wrong = [
        ("in a window", RW, vaddr, MIB + PAGE, PAGE),
        ("in a page", RW, vaddr, MIB + 8, PAGE),
        ("a window and a half", RW, vaddr, MIB, MIB + MIB / 2),
        ("no power of two", RW, vaddr, MIB, 3 * PAGE),
        ("less than a page", RW, vaddr, MIB, 2048),
        ("odd", RW, vaddr, MIB, PAGE + 1),
        ("no bytes", RW, vaddr, MIB, 0),
        ("beyond the end", RW, vaddr, 8 * MIB, PAGE),
        ("over the end", RW, vaddr, 7 * MIB, 2 * MIB),
        ("vaddr", RW, vaddr + 8, MIB, PAGE),
        ("no access", 0, vaddr, MIB, PAGE),
        ("new vaddr", VFIO_DMA_MAP_FLAG_VADDR, vaddr, MIB, PAGE),
        ("unknown flag", RW | 1 << 20, vaddr, MIB, PAGE),
    ];
    for (what, flags, vaddr, iova, size) in wrong {
        let result = container.map(flags, vaddr, iova, size);
        errno(what, result, Errno::EINVAL)?;
    }
    let wraps = container.map(RW, vaddr, u64::MAX - 0xfff, 2 * PAGE);
    errno("wraps", wraps, Errno::EOVERFLOW)?;
    let wraps = container.map(RW, u64::MAX - 0xfff, MIB, 2 * PAGE);
    errno("wraps", wraps, Errno::EOVERFLOW)?;
    map(container, &memory(1)?, MIB)?;
    errno(
        "taken",
        container.map(RW, vaddr, MIB, 2 * PAGE),
        Errno::EEXIST,
    )?;
    errno(
        "one taken",
        container.map(RW, vaddr, 0, 4 * MIB),
        Errno::EEXIST,
    )?;
    same("mapped", container.unmap_all()?, PAGE)
}

fn unmaps_that_cut() -> Outcome {
    let (opened, buf) = eight()?;
    let container = &opened.container;
    container.map(RW, buf.addr(), MIB, MIB)?;
    container.map(RW, buf.addr(), 2 * MIB, 4 * PAGE)?;
    let wrong = [
        ("half a window", MIB, MIB / 2),
        ("the other half", MIB + MIB / 2, MIB / 2),
        ("a page of it", MIB + PAGE, PAGE),
        ("a quarter of a short one", 2 * MIB, PAGE),
        ("no bytes", MIB, 0),
        ("below", u64::MAX - PAGE + 1, PAGE),
        ("odd", MIB, 4097),
    ];
    for (what, iova, size) in wrong {
        errno(what, container.unmap(iova, size), Errno::EINVAL)?;
    }
    let all = |flags, iova, size| container.unmap_flags(flags, iova, size);
    let flag = VFIO_DMA_UNMAP_FLAG_ALL;
    errno("all of a range", all(flag, 0, MIB), Errno::EINVAL)?;
    errno(
        "vaddr",
        all(VFIO_DMA_UNMAP_FLAG_VADDR, MIB, MIB),
        Errno::EINVAL,
    )?;
    errno("wraps", container.unmap(PAGE, u64::MAX), Errno::EOVERFLOW)?;
    same("all is there", container.unmap(0, 1 << 62)?, MIB + 4 * PAGE)
}

fn aperture_over_the_doorbell() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    let ranges = container.iommu_info()?.iova_ranges;
    let free = |address: u64| ranges.iter().any(|range| range.contains(&address));
    if free(0xfee0_0000) {
        skip!("this IOMMU reserves no doorbell");
    }
    cut(container, 1 << 32, 256)?;
    let buf = memory(1)?;
    // The window has it, though the page is elsewhere.
    let iova = 0xfe00_0000;
    ensure!(free(iova), "{iova:#x} itself is reserved");
    errno("its window", map(container, &buf, iova), Errno::EINVAL)?;
    let whole = container.map(RW, buf.addr(), iova, 16 * MIB);
    errno("all of it", whole, Errno::EINVAL)?;
    map(container, &buf, 0xfd00_0000)?;
    map(container, &buf, 0xff00_0000)?;
    same("mapped", container.unmap_all()?, 2 * PAGE)
}

fn geometry_while_others_map() -> Outcome {
    let (opened, buf) = eight()?;
    let container = &opened.container;
    let (over, changed) = (AtomicBool::new(false), AtomicU64::new(0));
    // Until either has had its turns, however they are scheduled.
    let mapping = || -> Outcome {
        let (mut round, mut mapped) = (0, 0);
        let rounds = 3000 / u64::from(slowness());
        while !over.load(Relaxed) && (round < rounds || mapped < 10 || changed.load(Relaxed) < 10) {
            // The start of a window of either geometry, or of one.
            let iova = round % 4 * MIB;
            match container.map(RW, buf.addr(), iova, MIB / 4) {
                Ok(()) => {
                    mapped += 1;
                    let size = container.unmap(iova, MIB / 4)?;
                    ensure!(size == MIB / 4, "{size:#x} bytes unmapped");
                }
                Err(e) => {
                    let known = [Errno::ENODEV, Errno::EINVAL];
                    let got = e.raw_os_error().map(Errno::from_raw);
                    ensure!(got.is_some_and(|e| known.contains(&e)), "map: {e}");
                    std::thread::yield_now();
                }
            }
            round += 1;
        }
        Ok(())
    };
    let changing = || -> Outcome {
        while !over.load(Relaxed) {
            for count in [4, 8] {
                let set = container
                    .set_geometry(0, 8 * MIB - 1)
                    .and_then(|()| container.set_windows(count));
                match set {
                    Ok(()) => {
                        changed.fetch_add(1, Relaxed);
                    }
                    result => errno("set", result, Errno::EBUSY)?,
                }
            }
        }
        Ok(())
    };
    let ending = |outcome| {
        over.store(true, Relaxed);
        outcome
    };
    std::thread::scope(|scope| -> Outcome {
        let mapper = scope.spawn(|| ending(mapping()));
        ending(changing())?;
        joined(mapper)
    })?;
    same("left", container.unmap_all()?, 0)?;
    same("locked", counters::locked_kib()?, 0)
}

/// A container of type2 for each function of igb.
fn many_containers(count: usize) -> Result<(Vfs, Vec<(Container, vfio_client::Group)>)> {
    pamu::needed()?;
    IGB.find()?;
    let vfs = Vfs::new(7)?;
    let mut all = vec![vfs.pf.clone(), vfio_rs_selftests::setup::EDU.bind()?];
    for pci in &vfs.vfs {
        all.push(Bound::new(pci.clone())?);
    }
    let containers = all
        .into_iter()
        .take(count)
        .map(|bound| bound.attach(VFIO_PAMU_IOMMU))
        .collect::<Result<_>>()?;
    Ok((vfs, containers))
}

fn too_many_windows_in_all_containers() -> Outcome {
    let (_vfs, mut all) = many_containers(9)?;
    let Some(((ninth, _group), eight)) = all.split_last_mut() else {
        return Ok(());
    };
    for (container, _) in eight.iter() {
        cut(container, 1 << 30, 256)?;
    }
    ninth.set_geometry(0, (1 << 30) - 1)?;
    errno("256 more", ninth.set_windows(256), Errno::ENOSPC)?;
    errno("16 more", ninth.set_windows(16), Errno::ENOSPC)?;
    // 8 of 2048 entries are left; n windows take n - 1.
    ninth.set_windows(8)?;
    errno("16 in place of 8", ninth.set_windows(16), Errno::ENOSPC)?;
    same("as before", ninth.pamu_get(VFIO_ATTR_WINDOWS)?[0] as u32, 8)?;
    // Setting the geometry anew, fewer windows, and closing give back.
    eight[0].0.set_geometry(0, (1 << 30) - 1)?;
    ninth.set_windows(256)?;
    eight[1].0.set_windows(1)?;
    eight[0].0.set_windows(256)?;
    errno("once more", eight[1].0.set_windows(256), Errno::ENOSPC)?;
    drop(all.pop());
    all[1].0.set_windows(256)?;
    drop(all);
    let opened = open_with(1 << 30, 256)?;
    let _ = Edu::new(&opened.device)?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    geometries_that_cannot_be,
    numbers_of_windows_that_cannot_be,
    before_there_are_windows,
    structs_that_are_wrong,
    maps_that_cannot_be,
    unmaps_that_cut,
    aperture_over_the_doorbell,
    geometry_while_others_map,
    too_many_windows_in_all_containers,
);
