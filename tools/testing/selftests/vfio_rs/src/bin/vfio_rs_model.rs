// SPDX-License-Identifier: GPL-2.0
//! A random mapper against a model: maps of memory and of a BAR, exact unmaps, unmaps of any range,
//! failures of each kind, a second group that comes and goes. After each step the result, the
//! locked memory, the mappings left and what the IOMMU translates, for each group, must be the
//! model's.
//!
//! `VFIO_RS_SEED` chooses another run, `VFIO_RS_STEPS` a longer one.

use std::collections::BTreeMap;
use std::fs;

use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::dma::PageSize;
use vfio_client::region::Mapping;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Edu, Group, counters};
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::model::{Mapped, Model};
use vfio_rs_selftests::setup::{Bound, E1000E, EDU, IGB, PAGE, number, read_trimmed, slowness};
use vfio_rs_selftests::translation::{self, Pages};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, suite};

const LIMIT_FILE: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
/// Mappings that the container may hold: few, so that the limit is met now and then.
const LIMIT: u32 = 10;
/// The window of I/O pages: 256 from 32 MiB on. edu's DMA engine can form all of them.
const FIRST: u64 = 0x2000;
const WINDOW: u64 = 256;
/// Small pages to map. Those from `HOLE` on cannot be.
const PAGES: u64 = 192;
const HOLE: u64 = 160;
/// Pages of a huge page.
const HUGE: u64 = 512;
/// I/O page where huge pages go, behind the window and aligned.
const HUGE_AT: u64 = 0x2200;
const READ: u32 = VFIO_DMA_MAP_FLAG_READ;
const WRITE: u32 = VFIO_DMA_MAP_FLAG_WRITE;

/// Memory to map: small pages with a hole at the end, and one huge page where there are any.
struct Memory {
    small: DmaBuf,
    _huge: DmaBuf,
    huge_at: u64,
}

impl Memory {
    fn new() -> Result<Self> {
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let huge = DmaBuf::with_flags((2 * HUGE * PAGE) as usize, both, MapFlags::MAP_PRIVATE)?;
        let _ = huge.advise(PageSize::Huge);
        let memory = Self {
            small: DmaBuf::new((PAGES * PAGE) as usize)?,
            huge_at: huge.addr().next_multiple_of(HUGE * PAGE),
            _huge: huge,
        };
        (0..PAGES).for_each(|page| memory.small.set((page * PAGE) as usize, page as u8 + 1));
        let skip = memory.huge_at - memory._huge.addr();
        (0..HUGE).for_each(|page| memory._huge.set((skip + page * PAGE) as usize, page as u8));
        memory.small.protect_none((HOLE * PAGE) as usize)?;
        Ok(memory)
    }
}

/// A BAR to map.
struct Bar {
    user: Mapping,
    pages: u64,
    pfn: u64,
    _owner: (Group, Device),
}

impl Bar {
    /// That of a network card, which joins `container`; `None` without one.
    fn new(container: &Container) -> Result<Option<Self>> {
        if IGB.find().is_err() {
            return Ok(None);
        }
        let bound = IGB.bind()?;
        let group = bound.open_group()?;
        group.set_container(container)?;
        let device = group.device(&bound.pci.address)?;
        device.config()?.update_command(0, COMMAND_MEMORY)?;
        let region = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
        Ok(Some(Self {
            user: device.mmap(&region, 0, region.size as usize)?,
            pages: region.size / PAGE,
            pfn: bound.pci.resource(0)?.0 / PAGE,
            _owner: (group, device),
        }))
    }
}

/// A second group.
struct Other {
    bound: Bound,
    group: Group,
    joined: bool,
    /// Whether it may leave.
    stays: bool,
}

impl Other {
    /// One that may come and go; `None` if the machine has no second device.
    fn new() -> Result<Option<Self>> {
        if E1000E.find().is_err() {
            return Ok(None);
        }
        let bound = E1000E.bind()?;
        Ok(Some(Self {
            group: bound.open_group()?,
            bound,
            joined: false,
            stays: false,
        }))
    }

    /// One that is there, in a domain of its own.
    fn apart(container: &Container, first: &PciDevice) -> Result<Self> {
        let bound = E1000E.bind()?;
        Ok(Self {
            group: Faults::new()?.attach_apart(&bound, container, first)?,
            bound,
            joined: true,
            stays: true,
        })
    }
}

/// The container under test and what it should hold.
struct Run {
    rng: Rng,
    model: Model,
    memory: Memory,
    bar: Option<Bar>,
    other: Option<Other>,
    device: Device,
    container: Container,
    _group: Group,
    pci: PciDevice,
    /// Whether the IOMMU's page tables can be read.
    shown: bool,
    /// How often each answer came.
    seen: BTreeMap<String, u32>,
}

impl Run {
    fn new(kind: u32, seed: u64, apart: bool) -> Result<Self> {
        let bound = EDU.bind()?;
        let (container, group) = bound.attach(kind)?;
        let other = match apart {
            true => Some(Other::apart(&container, &bound.pci)?),
            false => Other::new()?,
        };
        Ok(Self {
            rng: Rng::with_seed(seed),
            model: Model {
                v1: kind == VFIO_TYPE1_IOMMU,
                limit: LIMIT,
                ..Default::default()
            },
            memory: Memory::new()?,
            bar: Bar::new(&container)?,
            other,
            device: group.device(&bound.pci.address)?,
            container,
            _group: group,
            shown: translation::is_shown(&bound.pci),
            pci: bound.pci,
            seen: BTreeMap::new(),
        })
    }

    /// A first page and a length of a range in the window.
    fn range(&mut self) -> (u64, u64) {
        let most = if self.rng.u8(..4) == 0 { 64 } else { 8 };
        let pages = self.rng.u64(1..=most);
        (FIRST + self.rng.u64(0..WINDOW - pages), pages)
    }

    /// One step, described.
    fn step(&mut self) -> Result<String> {
        match self.rng.u8(..100) {
            0..35 => self.map(),
            35..43 => self.map_bar(),
            43..45 => self.come_or_go(),
            45..50 => self.map_huge(),
            50..65 => self.unmap_one(),
            65..90 => {
                let (first, pages) = self.range();
                self.unmap(first, pages)
            }
            90..92 => self.unmap(0, 0),
            _ => self.misuse(),
        }
    }

    fn map(&mut self) -> Result<String> {
        let (first, pages) = self.range();
        let from = self.rng.u64(0..PAGES - pages);
        let map = Mapped {
            pages,
            vaddr: self.memory.small.addr() + from * PAGE,
            flags: [READ, WRITE, READ | WRITE][self.rng.usize(..3)],
            bar: None,
        };
        self.do_map(first, map, from + pages > HOLE)
    }

    /// A part of the BAR.
    fn map_bar(&mut self) -> Result<String> {
        let (first, pages) = self.range();
        let Some(bar) = &self.bar else {
            return self.map();
        };
        let pages = pages.min(bar.pages);
        let from = self.rng.u64(..=bar.pages - pages);
        let map = Mapped {
            pages,
            vaddr: bar.user.addr() + from * PAGE,
            flags: [READ, WRITE, READ | WRITE][self.rng.usize(..3)],
            bar: Some(bar.pfn + from),
        };
        self.do_map(first, map, false)
    }

    /// The second group leaves, or comes back and gets all that is mapped.
    fn come_or_go(&mut self) -> Result<String> {
        let Some(other) = self.other.as_mut().filter(|other| !other.stays) else {
            return self.map();
        };
        let (what, got) = match other.joined {
            true => ("leave", other.group.unset_container()),
            false => ("join", other.group.set_container(&self.container)),
        };
        other.joined = !other.joined;
        self.answer(what.to_owned(), got.map_err(errno_of), Ok(()))
    }

    fn map_huge(&mut self) -> Result<String> {
        // Whole, or a part that starts and ends anywhere in it.
        let skip = if self.rng.bool() {
            0
        } else {
            self.rng.u64(1..HUGE)
        };
        let map = Mapped {
            pages: HUGE - skip,
            vaddr: self.memory.huge_at + skip * PAGE,
            flags: READ | WRITE,
            bar: None,
        };
        self.do_map(HUGE_AT + skip, map, false)
    }

    fn do_map(&mut self, first: u64, map: Mapped, bad_memory: bool) -> Result<String> {
        let want = self.model.map(first, map, bad_memory);
        let (iova, size) = (first * PAGE, map.pages * PAGE);
        let got = self.container.map(map.flags, map.vaddr, iova, size);
        self.answer(
            format!("map {first:#x} {map:x?}"),
            got.map_err(errno_of),
            want,
        )
    }

    fn unmap_one(&mut self) -> Result<String> {
        let count = self.model.maps.len();
        if count == 0 {
            return Ok("nothing to unmap".to_owned());
        }
        let nth = self.rng.usize(..count);
        let one = self
            .model
            .maps
            .iter()
            .nth(nth)
            .map(|(at, map)| (*at, map.pages));
        let (first, pages) = one.context("the model has it")?;
        self.unmap(first, pages)
    }

    /// Unmaps a range; all, if it has no pages.
    fn unmap(&mut self, first: u64, pages: u64) -> Result<String> {
        let (want, got) = if pages == 0 {
            let want = self.model.pages();
            self.model.maps.clear();
            (Ok(want), self.container.unmap_all())
        } else {
            let want = self.model.unmap(first, pages);
            (want, self.container.unmap(first * PAGE, pages * PAGE))
        };
        let got = got.map(|bytes| bytes / PAGE).map_err(errno_of);
        self.answer(format!("unmap {first:#x} {pages}"), got, want)
    }

    /// Calls that must change nothing.
    fn misuse(&mut self) -> Result<String> {
        let (first, pages) = self.range();
        let (iova, size, vaddr) = (first * PAGE, pages * PAGE, self.memory.small.addr());
        let container = &self.container;
        let (what, got, want) = match self.rng.u8(..8) {
            0 => (
                "map odd iova",
                container.map(READ, vaddr, iova + 8, size),
                Errno::EINVAL,
            ),
            1 => (
                "map odd size",
                container.map(READ, vaddr, iova, size + 1),
                Errno::EINVAL,
            ),
            2 => (
                "map odd vaddr",
                container.map(READ, vaddr + 1, iova, size),
                Errno::EINVAL,
            ),
            3 => (
                "map nothing",
                container.map(READ, vaddr, iova, 0),
                Errno::EINVAL,
            ),
            4 => (
                "map without flags",
                container.map(0, vaddr, iova, size),
                Errno::EINVAL,
            ),
            5 => {
                let got = container.map(READ, vaddr, 0u64.wrapping_sub(PAGE), 2 * PAGE);
                ("map over the top", got, Errno::EOVERFLOW)
            }
            6 => {
                let got = container.unmap(iova, size + 1).map(drop);
                ("unmap odd size", got, Errno::EINVAL)
            }
            _ => {
                let got = container.unmap(2 * PAGE, 0u64.wrapping_sub(PAGE)).map(drop);
                ("unmap over the top", got, Errno::EOVERFLOW)
            }
        };
        self.answer(what.to_owned(), got.map_err(errno_of), Err(want))
    }

    /// Compares the answer and notes it.
    fn answer<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: String,
        got: Result<T, Errno>,
        want: Result<T, Errno>,
    ) -> Result<String> {
        let verb = what.split(' ').next().unwrap_or_default();
        let kind = want
            .as_ref()
            .err()
            .map_or("done".to_owned(), |e| format!("{e:?}"));
        *self.seen.entry(format!("{verb}: {kind}")).or_default() += 1;
        same(&what, got, want)?;
        Ok(what)
    }

    /// Everything that can be seen from outside must be the model's.
    fn compare(&self, with_dma: bool) -> Outcome {
        let pages = self.model.locked();
        same("locked pages", counters::locked_kib()? * 1024 / PAGE, pages)?;
        let left = LIMIT - self.model.maps.len() as u32;
        same(
            "mappings left",
            self.container.iommu_info()?.dma_avail,
            Some(left),
        )?;
        match self.shown {
            true => {
                let want = self.model.translation()?;
                let other = self.other.iter().filter(|other| other.joined);
                std::iter::once(&self.pci)
                    .chain(other.map(|other| &other.bound.pci))
                    .try_for_each(|device| {
                        differences(&translation::pages(device)?, &want)
                            .with_context(|| device.address.clone())
                    })
            }
            false if with_dma => self.compare_by_dma(),
            false => Ok(()),
        }
    }

    /// One mapped page and one that is not, as the device sees them.
    fn compare_by_dma(&self) -> Outcome {
        let edu = Edu::new(&self.device)?;
        let free = (FIRST..FIRST + WINDOW).find(|at| self.model.overlapping(*at, 1).is_empty());
        let small = self.memory.small.addr();
        let mut mapped = self.model.maps.iter();
        let found = mapped.find(|(_, map)| {
            map.flags == READ | WRITE && map.vaddr < small + HOLE * PAGE && map.vaddr >= small
        });
        let Some((at, map)) = found else {
            return Ok(());
        };
        let from = (map.vaddr - small) as usize;
        let old = self.memory.small.get(from);
        edu.fetch(at * PAGE, 64)?;
        self.memory.small.set(from, !old);
        edu.store(at * PAGE, 64)?;
        same("what the device wrote", self.memory.small.get(from), old)?;
        if let Some(free) = free {
            self.memory.small.set(from, !old);
            edu.fetch(at * PAGE, 64)?;
            // A refused fetch clears the device's buffer, so that it stores no longer what it had.
            edu.fetch(free * PAGE, 64)?;
            edu.store(at * PAGE, 64)?;
            same(
                &format!("page {free:#x} is not reached"),
                self.memory.small.get(from),
                0,
            )?;
            self.memory.small.set(from, old);
        }
        Ok(())
    }
}

fn errno_of(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

fn differences(got: &Pages, want: &Pages) -> Outcome {
    for (at, target) in want {
        same(&format!("page {at:#x}"), got.get(at), Some(target))?;
    }
    let extra = got.keys().find(|at| !want.contains_key(at));
    ensure!(
        extra.is_none(),
        "page {extra:x?} is translated and should not be"
    );
    Ok(())
}

fn random(kind: u32, apart: bool) -> Outcome {
    let seed = number("VFIO_RS_SEED", 7)?;
    let steps = number("VFIO_RS_STEPS", if slowness() > 1 { 120 } else { 600 })?;
    println!("# seed {seed}, {steps} steps");
    let mut run = Run::new(kind, seed, apart)?;
    println!(
        "# compared by {}",
        if run.shown { "page tables" } else { "DMA" }
    );
    for number in 0..steps {
        let what = run.step().with_context(|| format!("step {number}"))?;
        let with_dma = number % 32 == 31;
        run.compare(with_dma)
            .with_context(|| format!("after step {number}: {what}"))?;
    }
    run.unmap(0, 0)?;
    run.compare(false)?;
    for (what, count) in &run.seen {
        println!("# {what}: {count}");
    }
    // A run that never met an outcome has not tested it. A short one fills no container.
    let outcomes = ["map: done", "map: EEXIST", "map: EFAULT", "unmap: done"];
    let full = (steps >= 600).then_some("map: ENOSPC");
    for outcome in outcomes.into_iter().chain(full) {
        ensure!(run.seen.contains_key(outcome), "{outcome} never happened");
    }
    Ok(())
}

fn with_limit(kind: u32, apart: bool) -> Outcome {
    let old = read_trimmed(LIMIT_FILE)?;
    fs::write(LIMIT_FILE, LIMIT.to_string())?;
    let outcome = random(kind, apart);
    fs::write(LIMIT_FILE, old)?;
    outcome
}

fn type1v2_is_its_model() -> Outcome {
    with_limit(VFIO_TYPE1v2_IOMMU, false)
}

fn type1_is_its_model() -> Outcome {
    with_limit(VFIO_TYPE1_IOMMU, false)
}

/// The second group has a domain of its own: where faults can be injected.
fn two_domains_are_the_model() -> Outcome {
    Faults::new()?;
    with_limit(VFIO_TYPE1v2_IOMMU, true)
}

suite!(
    iommus: All, debug: Counted;
    type1v2_is_its_model,
    type1_is_its_model,
    two_domains_are_the_model,
);
