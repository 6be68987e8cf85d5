// SPDX-License-Identifier: GPL-2.0
//! Two groups of one container in domains of their own, as behind two kinds of IOMMUs. The test
//! machine has one kind, so the attach of the second group to the first one's domain is made to
//! fail: debug kernel only.

use std::slice::from_ref;

use nix::errno::Errno;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::container::RawBitmap;
use vfio_client::dma::PageSize;
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, Edu, Group, Setting};
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::setup::{Bound, E1000E, IGB, PAGE};
use vfio_rs_selftests::space::{Mapped, Space, TABLE, scattered, translates, untouched};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite, translation};

/// Where the first mapping is, and a second one.
const FIRST: u64 = 1 << 24;
const SECOND: u64 = 5 << 30;
const PAGES: u64 = 40;

/// An edu in a container of its own, and a second device that is to join it.
struct Two {
    faults: Faults,
    space: Space,
    other: Bound,
}

impl Two {
    fn new(kind: u32) -> Result<Self> {
        Ok(Self {
            faults: Faults::new()?,
            space: Space::new(kind)?,
            other: E1000E.bind()?,
        })
    }

    /// The second device joins, and gets a domain of its own.
    fn join(&self) -> Result<Group> {
        self.faults
            .attach_apart(&self.other, &self.space.container, &self.space.pci)
    }

    /// Both devices reach exactly `maps`, which are all that is locked.
    fn both_reach(&self, maps: &[Mapped]) -> Outcome {
        self.space.holds(maps).context("the first")?;
        translates(&self.other.pci, maps).context("the second")
    }

    /// Maps `buf` at `iova` for both.
    fn map(&self, buf: &DmaBuf, iova: u64) -> Result<Mapped> {
        self.space.container.map_buf(buf, iova)?;
        Mapped::memory(buf, iova)
    }
}

fn replay_map_unmap() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let (a, b) = (scattered(PAGES)?.0, untouched(PAGES)?);
    let first = two.map(&a, FIRST)?;
    let group = two.join()?;
    two.both_reach(from_ref(&first)).context("replayed")?;
    let second = two.map(&b, SECOND)?;
    two.both_reach(&[first, second.clone()]).context("mapped")?;
    let len = PAGES * PAGE;
    same("unmapped", two.space.container.unmap(FIRST, len)?, len)?;
    two.both_reach(&[second]).context("unmapped")?;
    same("unmapped", two.space.container.unmap_all()?, len)?;
    two.both_reach(&[]).context("all unmapped")?;
    drop(group);
    two.space.holds(&[])
}

/// Each version's way with a range that cuts a mapping, in both domains.
fn cut_mappings() -> Outcome {
    for kind in [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU] {
        let two = Two::new(kind)?;
        let (a, b) = (scattered(PAGES)?.0, scattered(PAGES)?.0);
        let first = two.map(&a, FIRST)?;
        let _group = two.join()?;
        let second = two.map(&b, FIRST + PAGES * PAGE)?;
        let all = [first, second];
        let unmap = |at, pages| two.space.container.unmap(FIRST + at * PAGE, pages * PAGE);
        if kind == VFIO_TYPE1v2_IOMMU {
            errno("a part", unmap(0, PAGES + 1), Errno::EINVAL)?;
            two.both_reach(&all)?;
        } else {
            same("from the middle", unmap(1, 2 * PAGES)?, 0)?;
            two.both_reach(&all)?;
            let gone = unmap(0, PAGES + 1)?;
            same("a part of the second", gone, 2 * PAGES * PAGE)?;
            two.both_reach(&[])?;
        }
    }
    Ok(())
}

/// Whoever leaves first, the other keeps what it reaches; and who comes back gets all of it again.
fn leaving_in_either_order() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let (a, b) = (scattered(PAGES)?.0, scattered(PAGES)?.0);
    let first = two.map(&a, FIRST)?;
    let group = two.join()?;
    group.unset_container()?;
    two.space.holds(from_ref(&first)).context("second left")?;
    drop(group);
    let group = two.join()?;
    two.both_reach(from_ref(&first))?;
    two.space.group.unset_container()?;
    let all = [first.clone()];
    translates(&two.other.pci, &all).context("first left")?;
    // A mapping made now, and one that goes, are seen by the one that is there.
    let second = two.map(&b, SECOND)?;
    translates(&two.other.pci, &[first, second.clone()])?;
    two.space.container.unmap(FIRST, PAGES * PAGE)?;
    translates(&two.other.pci, from_ref(&second))?;
    two.space.group.set_container(&two.space.container)?;
    two.both_reach(from_ref(&second)).context("first is back")?;
    group.unset_container()?;
    two.space.holds(&[second]).context("second left again")
}

fn huge_pages() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(6 << 20)?;
    buf.advise(PageSize::Huge)?;
    (0..buf.len()).step_by(4096).for_each(|at| buf.set(at, 1));
    let huge = buf.addr().next_multiple_of(2 << 20) - buf.addr();
    let mapped = two.map(&buf, SECOND - huge)?;
    let group = two.join()?;
    two.both_reach(&[mapped])?;
    let large = |bound: &vfio_client::sysfs::PciDevice| -> Result<usize> {
        let entries = translation::entries(bound)?;
        Ok(entries.iter().filter(|entry| entry.size > PAGE).count())
    };
    let (one, other) = (large(&two.space.pci)?, large(&two.other.pci)?);
    same("large entries of both", other, one)?;
    ensure!(one > 0, "no large entry");
    same("unmapped", two.space.container.unmap_all()?, 6 << 20)?;
    two.both_reach(&[])?;
    drop(group);
    Ok(())
}

/// What either group's IOMMU reserves may not be mapped, and what is allowed is told once.
fn addresses_of_both() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let alone = two.space.container.iommu_info()?;
    let group = two.join()?;
    let both = two.space.container.iommu_info()?;
    ensure!(!both.iova_ranges.is_empty(), "no ranges");
    for range in &both.iova_ranges {
        let inside = |of: &std::ops::RangeInclusive<u64>| {
            of.contains(range.start()) && of.contains(range.end())
        };
        let allowed = alone.iova_ranges.iter().any(inside);
        ensure!(allowed, "{range:x?} was not allowed before");
    }
    let page = untouched(1)?;
    let doorbells = two.space.container.map_buf(&page, 0xfee0_0000);
    errno("the doorbells", doorbells, Errno::EINVAL)?;
    group.unset_container()?;
    same("alone again", two.space.container.iommu_info()?, alone)
}

fn dirty_tracking() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let buf = scattered(PAGES)?.0;
    let container = &two.space.container;
    let mapped = two.map(&buf, FIRST)?;
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)?;
    let _group = two.join()?;
    let mut words = [0u64; 1];
    container.dirty_bitmap(FIRST, PAGES * PAGE, RawBitmap::of(&mut words, PAGE))?;
    same("bits", words, [(1 << PAGES) - 1])?;
    two.both_reach(&[mapped])?;
    let mut words = [0u64; 1];
    let bitmap = RawBitmap::of(&mut words, PAGE);
    let gone = container.unmap_dirty(0, FIRST, PAGES * PAGE, bitmap)?;
    same("unmapped", gone, PAGES * PAGE)?;
    same("bits", words, [(1 << PAGES) - 1])?;
    two.both_reach(&[])
}

/// A BAR is reached in both domains while its memory is on, by who came before it and who came
/// after.
fn bar() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let bound = IGB.bind()?;
    let owner_group = bound.open_group()?;
    owner_group.set_container(&two.space.container)?;
    let owner = owner_group.device(&bound.pci.address)?;
    let command = |clear, set| owner.config()?.update_command(clear, set);
    command(0, COMMAND_MEMORY)?;
    let bar = owner.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let user = owner.mmap(&bar, 0, bar.size as usize)?;
    let both = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    let map = |iova| two.space.container.map(both, user.addr(), iova, bar.size);
    let mapped = |iova| Mapped::bar(&bound.pci, 0, bar.size, iova);
    map(FIRST)?;
    let _group = two.join()?;
    two.both_reach(&[mapped(FIRST)?]).context("replayed")?;
    map(SECOND)?;
    let all = [mapped(FIRST)?, mapped(SECOND)?];
    two.both_reach(&all).context("mapped")?;
    command(COMMAND_MEMORY, 0)?;
    translates(&two.space.pci, &[]).context("memory off")?;
    translates(&two.other.pci, &[]).context("memory off")?;
    command(0, COMMAND_MEMORY)?;
    two.both_reach(&all).context("memory on")?;
    two.space.container.unmap(FIRST, bar.size)?;
    two.both_reach(&all[1..]).context("unmapped")
}

/// DMA by edu, with its own domain and then as the second.
fn dma() -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let buf = scattered(2)?.0;
    two.map(&buf, FIRST)?;
    let copies = |device: &Device, seed: u8| -> Outcome {
        let edu = Edu::new(device)?;
        buf.fill_pattern(seed);
        let want = buf.copy(0, 64);
        edu.fetch(FIRST, 64)?;
        edu.store(FIRST + PAGE, 64)?;
        same("what it copied", buf.copy(PAGE as usize, 64), want)
    };
    let _group = two.join()?;
    let device = two.space.group.device(&two.space.pci.address)?;
    copies(&device, 1)?;
    drop(device);
    // edu comes back as the one that finds a domain it cannot share.
    two.space.group.unset_container()?;
    drop(two.space.group);
    let edu = Bound::new(two.space.pci.clone())?;
    let group = two
        .faults
        .attach_apart(&edu, &two.space.container, &two.other.pci)?;
    copies(&group.device(&edu.pci.address)?, 2)
}

/// Each allocation of a map fails, in the first domain or in the second, and in the middle of
/// either: it is in neither then.
fn map_with_faults() -> Outcome {
    let (buf, _between) = scattered(PAGES)?;
    map_failing("map in two domains", &buf)
}

/// The same for a single run.
fn map_adjacent_with_faults() -> Outcome {
    let Ok(_huge) = Setting::huge_pages(TABLE) else {
        skip!("no huge pages to be had");
    };
    let buf = DmaBuf::huge(TABLE as usize)?;
    buf.set(0, 1);
    map_failing("map of adjacent pages in two domains", &buf)
}

fn map_failing(what: &str, buf: &DmaBuf) -> Outcome {
    let two = Two::new(VFIO_TYPE1v2_IOMMU)?;
    let kept = scattered(PAGES)?.0;
    let kept = [two.map(&kept, FIRST)?];
    let _group = two.join()?;
    let size = buf.len() as u64;
    two.faults.sweep(
        what,
        &[Errno::ENOMEM, Errno::EFAULT],
        // From one table into the next.
        |n| Ok(((4 + u64::from(n % 256)) << 30) + TABLE - PAGES / 2 * PAGE),
        |iova| two.space.container.map_buf(buf, *iova),
        |iova, done| {
            if done.is_none() {
                two.both_reach(&kept)?;
                two.map(buf, iova).context("once more")?;
            }
            two.both_reach(&[kept[0].clone(), Mapped::memory(buf, iova)?])?;
            same("unmapped", two.space.container.unmap(iova, size)?, size)?;
            two.both_reach(&kept)
        },
    )
}

suite!(
    iommus: All, debug: Lifetimes;
    replay_map_unmap,
    cut_mappings,
    leaving_in_either_order,
    huge_pages,
    addresses_of_both,
    dirty_tracking,
    bar,
    dma,
    map_with_faults,
    map_adjacent_with_faults,
);
