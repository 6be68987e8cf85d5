// SPDX-License-Identifier: GPL-2.0
//! Each allocation of a call on an address space failing once, one after another: container,
//! accounting and IOMMU stay consistent, and the same call then succeeds. What every backend has
//! runs for each. Debug kernel only, but for memory that cannot be pinned.

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::container::RawBitmap;
use vfio_client::dma::PageSize;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Setting, counters};
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::setup::{E1000E, EDU, IGB, PAGE};
use vfio_rs_selftests::space::{
    Mapped, Space, TABLE, WINDOW, each, prepare, scattered, translates, untouched,
};
use vfio_rs_selftests::translation::physical_pages;
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// No memory, or a copy from or to the user that failed.
const USUAL: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];
/// Pages of the mappings: enough for several tables and batches of pointers, and a power of two.
const PAGES: u64 = 32;
/// Bytes of these.
const BYTES: u64 = PAGES * PAGE;
/// Where a neighbour is mapped that must stay.
const KEPT: u64 = WINDOW;
const V2: u32 = VFIO_TYPE1v2_IOMMU;
const BOTH: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// Where the `n`th try maps: where the IOMMU has no page table yet.
fn at(n: u32) -> u64 {
    (4 + u64::from(n % 250)) * WINDOW
}

/// Sweeps maps of what `make` makes for the `n`th try.
fn sweep_map(what: &str, space: &Space, make: impl Fn(u32) -> Result<(DmaBuf, u64)>) -> Outcome {
    let kept = untouched(4)?;
    space.container.map_buf(&kept, KEPT)?;
    let kept = Mapped::memory(&kept, KEPT)?;
    Faults::new()?.sweep(
        what,
        USUAL,
        make,
        |(buf, iova)| space.container.map_buf(buf, *iova),
        |(buf, iova), done| {
            if done.is_none() {
                space.holds(std::slice::from_ref(&kept))?;
                space.container.map_buf(&buf, iova).context("once more")?;
            }
            space.holds(&[kept.clone(), Mapped::memory(&buf, iova)?])?;
            let len = buf.len() as u64;
            same("unmapped", space.container.unmap(iova, len)?, len)?;
            space.holds(std::slice::from_ref(&kept))
        },
    )
}

fn map() -> Outcome {
    Faults::new()?;
    each(|kind| {
        let space = Space::new(kind)?;
        sweep_map("map", &space, |n| Ok((untouched(PAGES)?, at(n))))
    })
}

fn map_beside_another() -> Outcome {
    let (_, space) = (Faults::new()?, Space::new(V2)?);
    let beside = KEPT + 4 * PAGE;
    sweep_map("map beside another", &space, |_| {
        Ok((untouched(PAGES)?, beside))
    })
}

/// As many runs as pages, and more pages than fit on the stack.
fn map_scattered() -> Outcome {
    Faults::new()?;
    each(|kind| {
        let keep = std::cell::RefCell::new(Vec::new());
        sweep_map("map of scattered pages", &Space::new(kind)?, |n| {
            let (one, two) = scattered(PAGES)?;
            keep.borrow_mut().push(two);
            Ok((one, at(n)))
        })
    })
}

/// The second table may fail to come when the pages of the first are mapped already.
fn map_across_tables() -> Outcome {
    let (_, space) = (Faults::new()?, Space::new(V2)?);
    let keep = std::cell::RefCell::new(Vec::new());
    sweep_map("map of scattered pages across tables", &space, |n| {
        let (one, two) = scattered(PAGES)?;
        keep.borrow_mut().push(two);
        Ok((one, at(n) + TABLE - BYTES / 2))
    })
}

/// As many pages as a table has entries, adjacent, which is one run.
fn map_adjacent_across_tables() -> Outcome {
    let (_, space) = (Faults::new()?, Space::new(V2)?);
    let Ok(_huge) = Setting::huge_pages(TABLE) else {
        skip!("no huge pages to be had");
    };
    sweep_map("map of adjacent pages across tables", &space, |n| {
        let buf = DmaBuf::huge(TABLE as usize)?;
        buf.set(0, 1);
        Ok((buf, at(n) + TABLE - BYTES))
    })
}

/// A huge page, with small ones at both ends.
fn map_huge() -> Outcome {
    Faults::new()?;
    each(|kind| {
        sweep_map("map of a huge page", &Space::new(kind)?, |n| {
            let buf = DmaBuf::new(4 << 20)?;
            buf.advise(PageSize::Huge)?;
            (0..buf.len())
                .step_by(PAGE as usize)
                .for_each(|at| buf.set(at, 1));
            Ok((buf, at(n)))
        })
    })
}

/// A BAR of our own between pages of memory, mapped and unmapped.
fn map_with_a_bar() -> Outcome {
    Faults::new()?;
    each(bar_of)
}

fn bar_of(kind: u32) -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(kind)?);
    let Some(kind) = [IGB, E1000E].into_iter().find(|kind| kind.find().is_ok()) else {
        skip!("no device with a large BAR")
    };
    let bound = kind.bind()?;
    let group = bound.open_group()?;
    group.set_container(&space.container)?;
    let owner = group.device(&bound.pci.address)?;
    owner.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = owner.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let (page, len) = (PAGE as usize, bar.size as usize);
    let buf = DmaBuf::new((len + 2 * page).next_power_of_two())?;
    owner.mmap_over(&bar, 0, len, &buf, page)?;
    let end = page + len;
    buf.set(0, 1);
    (end..buf.len()).step_by(page).for_each(|at| buf.set(at, 1));
    let behind = (buf.len() - end) as u64 / PAGE;
    let pages = |first: u64, count| physical_pages(buf.addr() + first, count);
    let mut pfns = pages(0, 1)?;
    pfns.extend(Mapped::bar(&bound.pci, 0, bar.size, 0)?.pfns);
    pfns.extend(pages(end as u64, behind)?);
    // Only these pages are locked: looked at by themselves, as the BAR is not.
    let locked = || Ok::<_, std::io::Error>(counters::locked_kib()? * 1024 / PAGE);
    faults.sweep(
        "map with a BAR in it",
        USUAL,
        |n| Ok(at(n)),
        |iova| space.container.map_buf(&buf, *iova),
        |iova, done| {
            if done.is_none() {
                space.holds(&[])?;
                space.container.map_buf(&buf, iova).context("once more")?;
            }
            same("locked pages", locked()?, 1 + behind)?;
            let pfns = pfns.clone();
            let locked = false;
            translates(&space.pci, &[Mapped { iova, pfns, locked }])?;
            let size = buf.len() as u64;
            same("unmapped", space.container.unmap(iova, size)?, size)?;
            space.holds(&[])
        },
    )
}

/// An unmap may fail before it begins or when it tells the result, but does all or nothing; if
/// `partly`, the second of the mappings may be left alone. It starts `apart` bytes behind the
/// first.
fn sweep_unmap(
    kind: u32,
    what: &str,
    apart: u64,
    partly: bool,
    unmap: impl Fn(&Container, u64) -> Result<u64>,
) -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(kind)?);
    if kind == V2 {
        let start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
        space.container.dirty_pages(start)?;
    }
    let bufs = [scattered(PAGES)?.0, scattered(PAGES)?.0];
    let mapped = |iova: u64| -> Result<Vec<Mapped>> {
        let second = Mapped::memory(&bufs[1], iova + apart)?;
        Ok(vec![Mapped::memory(&bufs[0], iova)?, second])
    };
    faults.sweep(
        what,
        USUAL,
        |n| {
            space.container.map_buf(&bufs[0], at(n))?;
            space.container.map_buf(&bufs[1], at(n) + apart)?;
            Ok(at(n))
        },
        |iova| unmap(&space.container, *iova).map_err(raw),
        |iova, done| {
            let all = 2 * BYTES;
            if let Some(bytes) = done {
                same("unmapped", bytes, all)?;
            }
            let gone = space.holds(&[]);
            if gone.is_err() {
                ensure!(done.is_none(), "it told of success: {gone:?}");
                let mut left = mapped(iova)?;
                if partly && space.holds(&left).is_err() {
                    left.remove(0);
                }
                space.holds(&left).context("neither all nor nothing")?;
                let left = left.len() as u64 * BYTES;
                same("once more", space.container.unmap(iova, 2 * apart)?, left)?;
            }
            space.holds(&[])
        },
    )
}

/// The errno in `e`.
fn raw(e: anyhow::Error) -> std::io::Error {
    match e.downcast::<std::io::Error>() {
        Ok(e) => e,
        Err(e) => std::io::Error::other(e),
    }
}

fn unmap() -> Outcome {
    Faults::new()?;
    each(|kind| {
        sweep_unmap(kind, "unmap", WINDOW, false, |container, iova| {
            Ok(container.unmap(iova, 2 * WINDOW)?)
        })
    })
}

/// The range begins before the mappings and ends inside the second, which goes whole.
fn unmap_v1() -> Outcome {
    sweep_unmap(
        VFIO_TYPE1_IOMMU,
        "unmap of type1",
        BYTES,
        false,
        |container, iova| Ok(container.unmap(iova - PAGE, (PAGES + 3) * PAGE)?),
    )
}

/// The bits are copied to the user mapping by mapping, each before it goes.
fn unmap_with_dirty_bits() -> Outcome {
    let what = "unmap with dirty bits";
    sweep_unmap(V2, what, BYTES, true, |container, iova| {
        let mut words = [0u64];
        let bitmap = RawBitmap::of(&mut words, PAGE);
        let gone = container.unmap_dirty(0, iova, 2 * BYTES, bitmap)?;
        same("bits", words, [u64::MAX])?;
        Ok(gone)
    })
}

fn dirty_tracking() -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(V2)?);
    let container = &space.container;
    let buf = scattered(PAGES)?.0;
    container.map_buf(&buf, KEPT)?;
    let kept = [Mapped::memory(&buf, KEPT)?];
    let start = || container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
    faults.sweep(
        "dirty tracking on",
        USUAL,
        |_| Ok(()),
        |()| start(),
        |(), done| {
            space.holds(&kept)?;
            if done.is_none() {
                start()?;
            }
            Ok(container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)?)
        },
    )?;
    start()?;
    let get = |words: &mut [u64; 1]| {
        let bitmap = RawBitmap::of(words, PAGE);
        container.dirty_bitmap(KEPT, BYTES, bitmap)
    };
    faults.sweep(
        "dirty bits",
        USUAL,
        |_| Ok([0u64; 1]),
        get,
        |mut words, done| {
            if done.is_none() {
                get(&mut words)?;
            }
            same("bits", words, [(1 << PAGES) - 1])?;
            space.holds(&kept)
        },
    )
}

fn get_info() -> Outcome {
    let faults = Faults::new()?;
    each(|kind| {
        let space = Space::new(kind)?;
        let want = space.container.iommu_info()?;
        faults.sweep(
            "GET_INFO",
            USUAL,
            |_| Ok(()),
            |()| space.container.iommu_info(),
            |(), done| match done {
                Some(info) => same("info", info, want.clone()),
                None => space.holds(&[]),
            },
        )
    })
}

/// The memory's address is taken back and given again.
fn new_address() -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(V2)?);
    let buf = scattered(PAGES)?.0;
    space.container.map_buf(&buf, KEPT)?;
    let kept = [Mapped::memory(&buf, KEPT)?];
    let len = BYTES;
    let (old, new) = (VFIO_DMA_UNMAP_FLAG_VADDR, VFIO_DMA_MAP_FLAG_VADDR);
    faults.sweep(
        "a new address",
        USUAL,
        |_| Ok(space.container.unmap_flags(old, KEPT, len)?),
        |_| space.container.map(new, buf.addr(), KEPT, len),
        |_, done| {
            space.holds(&kept)?;
            if done.is_none() {
                space.container.map(new, buf.addr(), KEPT, len)?;
            }
            space.holds(&kept)
        },
    )
}

fn set_iommu() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    each(|kind| {
        faults.sweep(
            "SET_IOMMU",
            USUAL,
            |_| bound.join(),
            |(container, _)| container.set_iommu(kind),
            |(container, group), done| {
                if done.is_none() {
                    container.set_iommu(kind).context("once more")?;
                }
                prepare(&container, kind)?;
                let page = untouched(1)?;
                container.map_buf(&page, KEPT)?;
                Ok(group.unset_container()?)
            },
        )
    })
}

/// A second group comes to an address space that has mappings.
fn second_group() -> Outcome {
    Faults::new()?;
    each(second_group_of)
}

fn second_group_of(kind: u32) -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(kind)?);
    let other = E1000E.bind()?;
    let buf = scattered(PAGES)?.0;
    space.container.map_buf(&buf, KEPT)?;
    let kept = [Mapped::memory(&buf, KEPT)?];
    faults.sweep(
        "a second group's SET_CONTAINER",
        USUAL,
        |_| other.open_group(),
        |group| group.set_container(&space.container),
        |group, done| {
            if done.is_none() {
                space.holds(&kept)?;
                group.set_container(&space.container).context("once more")?;
            }
            space.holds(&kept)?;
            translates(&other.pci, &kept)?;
            group.unset_container()?;
            space.holds(&kept)
        },
    )
}

/// Memory of which one page in the middle cannot be pinned, for real.
fn bad_page_in_the_middle() -> Outcome {
    each(bad_page_of)
}

fn bad_page_of(kind: u32) -> Outcome {
    let space = Space::new(kind)?;
    let len = BYTES;
    let middle = (PAGES / 2 * PAGE) as usize;
    let cases = [
        ("nothing there", None, BOTH),
        ("forbidden", Some(ProtFlags::PROT_NONE), BOTH),
        (
            "forbidden to read",
            Some(ProtFlags::PROT_NONE),
            VFIO_DMA_MAP_FLAG_READ,
        ),
        ("read-only", Some(ProtFlags::PROT_READ), BOTH),
    ];
    for (what, prot, flags) in cases {
        let buf = scattered(PAGES)?.0;
        buf.replace_page(middle, prot)?;
        let map = || space.container.map(flags, buf.addr(), KEPT, len);
        errno(what, map(), Errno::EFAULT)?;
        space.holds(&[]).context(what)?;
        buf.replace_page(middle, Some(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE))?;
        map().with_context(|| format!("{what}, repaired"))?;
        if flags == BOTH {
            space.holds(&[Mapped::memory(&buf, KEPT)?])?;
        }
        same("unmapped", space.container.unmap_all()?, len)?;
    }
    space.holds(&[])
}

/// What was pinned before the file's end goes back.
fn file_that_ends_early() -> Outcome {
    each(|kind| {
        let space = Space::new(kind)?;
        let part = PAGES / 2 * PAGE;
        let buf = DmaBuf::of_file(BYTES as usize, part)?;
        let map = || space.container.map_buf(&buf, KEPT);
        errno("beyond the end of the file", map(), Errno::EFAULT)?;
        space.holds(&[])?;
        space.container.map(BOTH, buf.addr(), KEPT, part)?;
        same("unmapped", space.container.unmap_all()?, part)?;
        space.holds(&[])
    })
}

suite!(
    iommus: All, debug: Lifetimes;
    map,
    map_beside_another,
    map_scattered,
    map_across_tables,
    map_adjacent_across_tables,
    map_huge,
    map_with_a_bar,
    unmap,
    unmap_v1,
    unmap_with_dirty_bits,
    dirty_tracking,
    get_info,
    new_address,
    set_iommu,
    second_group,
    bad_page_in_the_middle,
    file_that_ends_early,
);
