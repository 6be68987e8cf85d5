// SPDX-License-Identifier: GPL-2.0
//! type2: each allocation and user copy of the calls that only it has failing once, one after
//! another. Windows, accounting and the IOMMU stay as they were, and the same call then succeeds.
//! Debug kernel only; what type2 has in common with type1 is in `vfio_rs_faults`.

use std::io;

use nix::errno::Errno;
use vfio_client::pamu::*;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Event, counters};
use vfio_rs_selftests::faults::{Faults, IRQ_FILES};
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::pamu::{MIB, banks, cut};
use vfio_rs_selftests::setup::{E1000E, PAGE};
use vfio_rs_selftests::space::{Mapped, Space, scattered};
use vfio_rs_selftests::translation::{self, Target};
use vfio_rs_selftests::{Context, Outcome, Result, same, suite};

/// No memory, or a copy from or to the user that failed.
const USUAL: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];
/// Of PCI's interrupts: also none to be had.
const NO_VECTOR: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT, Errno::ENOSPC];
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
/// Banks that the containers have.
const BANKS: u32 = 3;
/// Windows of these.
const COUNT: u32 = 256;
/// Bytes of one: a page table of the IOMMU.
const WINDOW: u64 = 2 * MIB;

/// First address of window `number`.
fn at(number: u32) -> u64 {
    u64::from(number) * WINDOW
}

/// A container with windows, and banks for them.
struct Windows {
    faults: Faults,
    space: Space,
    /// Memory in window 0 that must stay there.
    kept: (DmaBuf, Mapped),
    avail: Option<u32>,
    _banks: Set,
}

impl Windows {
    /// With the windows for banks being the kernel's (0) or the user's (1).
    fn new(mode: u32) -> Result<Self> {
        let (faults, banks) = (Faults::besides(IRQ_FILES)?, banks(BANKS)?);
        let space = Space::new(VFIO_PAMU_IOMMU)?;
        let container = &space.container;
        cut(container, u64::from(COUNT) * WINDOW, COUNT)?;
        container.set_msi_mode(mode)?;
        let avail = container.iommu_info()?.dma_avail;
        let buf = scattered(4)?.0;
        container.map_buf(&buf, 0)?;
        let mapped = Mapped::memory(&buf, 0)?;
        Ok(Self {
            faults,
            kept: (buf, mapped),
            avail,
            space,
            _banks: banks,
        })
    }

    fn container(&self) -> &Container {
        &self.space.container
    }

    /// Exactly the windows from `first` on must show the banks in order, for writing only, and
    /// nothing counts as locked but what is kept.
    fn show(&self, windows: &[u32]) -> Outcome {
        let left = self.container().iommu_info()?.dma_avail;
        let taken = 1 + windows.len() as u32;
        same("mappings left", left, self.avail.map(|all| all - taken))?;
        let kept = self.kept.1.pfns.len() as u64 * PAGE / 1024;
        same("locked KiB", counters::locked_kib()?, kept)?;
        let count = halves(self.container().pamu_get(VFIO_ATTR_WINDOWS)?[0]).0;
        same("windows", count, COUNT)?;
        if !translation::is_shown(&self.space.pci) {
            return Ok(());
        }
        let mut pages = translation::pages(&self.space.pci)?;
        pages.retain(|page, _| *page >= WINDOW / PAGE);
        let write_only = |target: &Target| target.write && !target.read;
        same("write only", pages.values().all(write_only), true)?;
        let pages: Vec<_> = pages.into_keys().map(|page| page * PAGE).collect();
        let want: Vec<_> = windows.iter().map(|window| at(*window)).collect();
        same("banks at", pages, want)
    }

    /// Sweeps a call that has windows show banks, and undoes it by an unmap of all but what is
    /// kept.
    fn sweep_banks(
        &self,
        what: &str,
        windows: impl Fn(u32) -> Vec<u32>,
        map: impl Fn(u32) -> io::Result<()>,
    ) -> Outcome {
        self.faults.sweep(
            what,
            USUAL,
            |n| Ok(1 + n % 240),
            |first| map(*first),
            |first, done| {
                if done.is_none() {
                    self.show(&[])?;
                    map(first).context("once more")?;
                }
                let shown = windows(first);
                self.show(&shown)?;
                for window in &shown {
                    let gone = self.container().unmap(at(*window), WINDOW)?;
                    same("unmapped", gone, PAGE)?;
                }
                self.show(&[])
            },
        )
    }
}

fn geometry_and_windows() -> Outcome {
    let (faults, space) = (Faults::new()?, Space::new(VFIO_PAMU_IOMMU)?);
    let container = &space.container;
    let now = || -> Result<_> {
        let [start, last, ..] = container.pamu_get(VFIO_ATTR_GEOMETRY)?;
        let count = halves(container.pamu_get(VFIO_ATTR_WINDOWS)?[0]).0;
        let mode = halves(container.pamu_get(VFIO_ATTR_MSI)?[0]).0;
        Ok((start, last, count, mode))
    };
    let step = |what: &str, call: &dyn Fn() -> io::Result<()>, want| {
        faults.sweep(
            what,
            USUAL,
            |_| {
                cut(container, MIB, 256)?;
                Ok(container.set_msi_mode(0)?)
            },
            |()| call(),
            |(), done| {
                if done.is_none() {
                    same("as before", now()?, (0, MIB - 1, 256, 0))?;
                    call().context("once more")?;
                }
                same("set", now()?, want)
            },
        )
    };
    let geometry = || container.set_geometry(MIB, 2 * MIB - 1);
    step("SET_ATTR geometry", &geometry, (MIB, 2 * MIB - 1, 0, 0))?;
    let windows = || container.set_windows(4);
    step("SET_ATTR windows", &windows, (0, MIB - 1, 4, 0))?;
    let mode = || container.set_msi_mode(1);
    step("SET_ATTR MSI", &mode, (0, MIB - 1, 256, 1))?;
    faults.sweep(
        "GET_ATTR",
        USUAL,
        |_| Ok(()),
        |()| container.pamu_get(VFIO_ATTR_LIMITS),
        |(), _| same("as before", now()?, (0, MIB - 1, 256, 1)),
    )
}

/// Either all windows of a mapping are filled or none.
fn several_windows_by_one_map() -> Outcome {
    let all = Windows::new(1)?;
    let (container, kept) = (all.container(), &all.kept.1);
    let size = 4 * WINDOW;
    let buf = DmaBuf::new(size as usize)?;
    (0..buf.len())
        .step_by(PAGE as usize)
        .for_each(|at| buf.set(at, 1));
    let mapped = |first: u32| -> Result<Vec<Mapped>> {
        let whole = Mapped::memory(&buf, at(first))?;
        let parts = whole.pfns.chunks((WINDOW / PAGE) as usize);
        let part = |(number, pfns): (u32, &[u64])| Mapped {
            iova: at(first + number),
            pfns: pfns.to_vec(),
            locked: true,
        };
        let mut maps = vec![kept.clone()];
        maps.extend((0..).zip(parts).map(part));
        Ok(maps)
    };
    all.faults.sweep(
        "map of four windows",
        USUAL,
        |n| Ok(4 * (1 + n % 60)),
        |first| container.map_buf(&buf, at(*first)),
        |first, done| {
            if done.is_none() {
                all.space.holds(std::slice::from_ref(kept))?;
                container.map_buf(&buf, at(first)).context("once more")?;
            }
            all.space.holds(&mapped(first)?)?;
            same("unmapped", container.unmap(at(first), size)?, size)?;
            all.space.holds(std::slice::from_ref(kept))
        },
    )
}

/// Way A: the kernel maps the banks when MSI is switched on.
fn banks_with_the_first_msi() -> Outcome {
    let mut all = Windows::new(0)?;
    all.faults = all.faults.sparse(10);
    let device = all.space.group.device(&all.space.pci.address)?;
    let event = Event::new()?;
    let on = || device.enable_irqs(MSI, &[std::os::fd::AsRawFd::as_raw_fd(&event)]);
    let windows = [COUNT - 3, COUNT - 2, COUNT - 1];
    all.faults.sweep(
        "MSI on, with banks",
        NO_VECTOR,
        |_| Ok(()),
        |()| on(),
        |(), done| {
            if done.is_none() {
                all.show(&[])?;
                on().context("once more")?;
            }
            all.show(&windows)?;
            device.disable_irqs(MSI)?;
            all.show(&[])
        },
    )
}

/// Way B, all at once.
fn banks_by_a_flag() -> Outcome {
    let all = Windows::new(1)?;
    all.sweep_banks(
        "MAP_DMA of banks",
        |first| (first..first + BANKS).collect(),
        |first| {
            let size = u64::from(BANKS) * WINDOW;
            all.container().map_banks(at(first), size)
        },
    )
}

/// Way B, one.
fn a_bank_by_number() -> Outcome {
    let all = Windows::new(1)?;
    let container = all.container();
    all.sweep_banks(
        "MSI_BANK_MAP",
        |first| vec![first],
        |first| container.map_bank(1, at(first)),
    )?;
    all.faults.sweep(
        "MSI_BANK_UNMAP",
        USUAL,
        |_| Ok(container.map_bank(2, at(9))?),
        |()| container.unmap_bank(at(9)),
        |(), done| {
            if done.is_none() {
                all.show(&[9])?;
                container.unmap_bank(at(9)).context("once more")?;
            }
            all.show(&[])
        },
    )
}

/// Descriptors that this process has open.
fn descriptors() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Way C: the descriptor, and the mapping of what it shows.
fn a_bank_by_descriptor() -> Outcome {
    let all = Windows::new(1)?;
    let group = &all.space.group;
    let before = descriptors()?;
    all.faults.sweep(
        "GET_MSI_FD",
        USUAL,
        |_| Ok(()),
        |()| group.msi_fd(1),
        |(), done| {
            let fd = match done {
                Some(fd) => fd,
                None => {
                    same("descriptors", descriptors()?, before)?;
                    group.msi_fd(1).context("once more")?
                }
            };
            same("bytes", fd.size, PAGE as u32)?;
            fd.map()?.set(0, 1);
            Ok(())
        },
    )?;
    let shown = group.msi_fd(1)?.map()?;
    shown.set(0, 1);
    // As any memory of the user's it counts as locked.
    let map = |first: u32| {
        let write = VFIO_DMA_MAP_FLAG_WRITE;
        all.container().map(write, shown.addr(), at(first), PAGE)
    };
    let locked = || counters::locked_kib();
    let kept = locked()?;
    all.faults.sweep(
        "MAP_DMA of a bank's memory",
        USUAL,
        |n| Ok(1 + n % 240),
        |first| map(*first),
        |first, done| {
            if done.is_none() {
                all.show(&[])?;
                map(first).context("once more")?;
            }
            same("locked KiB", locked()?, kept + PAGE / 1024)?;
            let gone = all.container().unmap(at(first), PAGE)?;
            same("unmapped", gone, PAGE)?;
            all.show(&[])
        },
    )
}

/// A second group comes while banks and memory are in windows.
fn second_group() -> Outcome {
    let all = Windows::new(1)?;
    let container = all.container();
    let other = E1000E.bind()?;
    container.map_banks(at(8), u64::from(BANKS) * WINDOW)?;
    let windows = [8, 9, 10];
    let reached = || translation::pages(&all.space.pci);
    let want = match translation::is_shown(&all.space.pci) {
        true => Some(reached()?),
        false => None,
    };
    all.faults.sweep(
        "SET_CONTAINER of a second group",
        USUAL,
        |_| other.open_group(),
        |group| group.set_container(container),
        |group, done| {
            if done.is_none() {
                all.show(&windows)?;
                group.set_container(container).context("once more")?;
            }
            all.show(&windows)?;
            if let Some(want) = &want {
                same("the first", &reached()?, want)?;
                same("the second", &translation::pages(&other.pci)?, want)?;
            }
            group.unset_container()?;
            all.show(&windows)
        },
    )
}

suite!(
    iommus: All, debug: Answers;
    geometry_and_windows,
    several_windows_by_one_map,
    banks_with_the_first_msi,
    banks_by_a_flag,
    a_bank_by_number,
    a_bank_by_descriptor,
    second_group,
);
