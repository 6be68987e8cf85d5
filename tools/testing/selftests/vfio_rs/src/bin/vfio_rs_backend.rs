// SPDX-License-Identifier: GPL-2.0
//! What every backend has in common: each test runs for type1v2 and, where the stack has it, for
//! type2. `vfio_rs_faults` has the kernel's allocations fail for both.

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use vfio_client::pamu::VFIO_PAMU_IOMMU;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Group, counters};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::pamu::{MIB, cut, map, memory, reaches, second_edu};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{Bound, EDU, PAGE, PATIENCE, slowness};
use vfio_rs_selftests::space::each;
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, suite};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// A container in which memory can be mapped at multiples of 1 MiB below 8 MiB.
fn ready(bound: &Bound, kind: u32) -> Result<(Container, Group)> {
    let (container, group) = bound.attach(kind)?;
    if kind == VFIO_PAMU_IOMMU {
        cut(&container, 8 * MIB, 8)?;
    }
    Ok((container, group))
}

fn mapped_memory_is_reached() -> Outcome {
    each(|kind| {
        let bound = EDU.bind()?;
        let (container, group) = ready(&bound, kind)?;
        let device = group.device(&bound.pci.address)?;
        let edu = Edu::new(&device)?;
        let (page, buf) = (memory(1)?, memory(4)?);
        map(&container, &page, 0)?;
        map(&container, &buf, MIB)?;
        same("locked", counters::locked_kib()?, 5 * PAGE / 1024)?;
        let to = |at: u64| reaches(&edu, (&page, 0), MIB + at, (&buf, at));
        ensure!(to(4 * PAGE - 4)?, "the end is not reached");
        same("unmapped", container.unmap(MIB, 4 * PAGE)?, 4 * PAGE)?;
        same("locked", counters::locked_kib()?, PAGE / 1024)?;
        ensure!(!to(0)?, "reached after the unmap");
        same("a hole", container.unmap(MIB, 4 * PAGE)?, 0)?;
        map(&container, &buf, MIB)?;
        ensure!(to(0)?, "not reached when mapped again");
        same("all", container.unmap_all()?, 5 * PAGE)
    })
}

fn overlaps_are_refused() -> Outcome {
    each(|kind| {
        let (container, _group) = ready(&EDU.bind()?, kind)?;
        let buf = DmaBuf::new(2 * MIB as usize)?;
        container.map(RW, buf.addr(), MIB, 4 * PAGE)?;
        for size in [PAGE, 4 * PAGE, MIB] {
            let result = container.map(RW, buf.addr(), MIB, size);
            errno("over it", result, Errno::EEXIST)?;
        }
        let result = container.map(RW, buf.addr(), 0, 2 * MIB);
        errno("around it", result, Errno::EEXIST)?;
        let cut = container.unmap(MIB, 2 * PAGE);
        errno("a part of it", cut, Errno::EINVAL)?;
        same("all", container.unmap_all()?, 4 * PAGE)
    })
}

fn bad_calls_change_nothing() -> Outcome {
    each(|kind| {
        let (container, _group) = ready(&EDU.bind()?, kind)?;
        let buf = memory(2)?;
        let vaddr = buf.addr();
        let wrong = [
            ("no access", 0, vaddr, MIB, PAGE, Errno::EINVAL),
            (
                "unknown flag",
                RW | 1 << 30,
                vaddr,
                MIB,
                PAGE,
                Errno::EINVAL,
            ),
            ("no bytes", RW, vaddr, MIB, 0, Errno::EINVAL),
            ("vaddr", RW, vaddr + 1, MIB, PAGE, Errno::EINVAL),
            ("iova", RW, vaddr, MIB + 1, PAGE, Errno::EINVAL),
            ("size", RW, vaddr, MIB, PAGE - 1, Errno::EINVAL),
            ("wraps", RW, vaddr, !(PAGE - 1), 2 * PAGE, Errno::EOVERFLOW),
            ("not there", RW, PAGE, MIB, PAGE, Errno::EFAULT),
        ];
        for (what, flags, vaddr, iova, size, want) in wrong {
            errno(what, container.map(flags, vaddr, iova, size), want)?;
        }
        errno("unmap nothing", container.unmap(MIB, 0), Errno::EINVAL)?;
        errno(
            "unmap wraps",
            container.unmap(2 * PAGE, !(PAGE - 1)),
            Errno::EOVERFLOW,
        )?;
        same("locked", counters::locked_kib()?, 0)?;
        same("mapped", container.unmap_all()?, 0)
    })
}

fn a_group_that_joins_sees_all() -> Outcome {
    each(|kind| {
        let (container, _group) = ready(&EDU.bind()?, kind)?;
        let buf = memory(2)?;
        map(&container, &buf, MIB)?;
        let other = second_edu()?;
        let group = other.open_group()?;
        group.set_container(&container)?;
        let device = group.device(&other.pci.address)?;
        let edu = Edu::new(&device)?;
        let reached = reaches(&edu, (&buf, MIB), MIB + PAGE, (&buf, PAGE))?;
        ensure!(reached, "not reached");
        Ok(())
    })
}

fn released_in_any_order() -> Outcome {
    each(|kind| {
        for order in permutations(3) {
            let bound = EDU.bind()?;
            let (container, group) = ready(&bound, kind)?;
            let device = group.device(&bound.pci.address)?;
            let buf = memory(2)?;
            map(&container, &buf, MIB)?;
            let mut parts: [Option<Box<dyn std::any::Any>>; 3] = [
                Some(Box::new(container)),
                Some(Box::new(group)),
                Some(Box::new(device)),
            ];
            for part in order {
                parts[part] = None;
            }
            same("locked", counters::locked_kib()?, 0)?;
        }
        Ok(())
    })
}

fn released_by_kill() -> Outcome {
    each(|kind| {
        let bound = EDU.bind()?;
        let before = counters::pinned_pages()?;
        let latch = Latch::new()?;
        let mut child = process::spawn(|| {
            let body = || -> Outcome {
                let (container, _group) = ready(&bound, kind)?;
                let buf = DmaBuf::new(4 * MIB as usize)?;
                map(&container, &buf, 0)?;
                latch.open()?;
                std::thread::sleep(PATIENCE * slowness());
                Ok(())
            };
            i32::from(body().is_err())
        })?;
        latch.wait(PATIENCE * slowness())?;
        let status = child.kill()?;
        ensure!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
        let after = counters::wait_pinned_pages(before, PATIENCE * slowness())?;
        same("pinned", after, before)?;
        ready(&bound, kind).map(drop)
    })
}

fn failures_leave_nothing() -> Outcome {
    each(|kind| {
        let (container, _group) = ready(&EDU.bind()?, kind)?;
        let before = counters::pinned_pages()?;
        // Memory of which some is not there: at the end of one mapping, and of the last of several.
        let buf = DmaBuf::new(4 * MIB as usize)?;
        buf.protect_none(3 * MIB as usize)?;
        for (offset, size) in [(2 * MIB + MIB / 2, MIB), (0, 4 * MIB)] {
            let result = container.map(RW, buf.addr() + offset, 0, size);
            errno("not there", result, Errno::EFAULT)?;
            same("locked", counters::locked_kib()?, 0)?;
        }
        let after = counters::wait_pinned_pages(before, PATIENCE * slowness())?;
        same("pinned", after, before)?;
        same("mapped", container.unmap_all()?, 0)?;
        container.map(RW, buf.addr(), 0, 2 * MIB)?;
        same("mapped", container.unmap_all()?, 2 * MIB)
    })
}

suite!(
    iommus: All, debug: Answers;
    mapped_memory_is_reached,
    overlaps_are_refused,
    bad_calls_change_nothing,
    a_group_that_joins_sees_all,
    released_in_any_order,
    released_by_kill,
    failures_leave_nothing,
);
