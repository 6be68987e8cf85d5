// SPDX-License-Identifier: GPL-2.0
//! Shadows of guests' tables: each allocation and user copy of the calls failing once, one after
//! another. What is bound stays what it was, and the same call then succeeds. Debug kernel only.

use nix::errno::Errno;
use vfio_client::counters::locked_kib;
use vfio_client::nested::*;
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::nested::{FREE, LARGE, MEMORY, Nested, RO, RW};
use vfio_rs_selftests::setup::PAGE;
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, suite, translation};

/// No memory, or a copy from or to the user that failed.
const USUAL: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];
const AT: u64 = 0x20_0000;
/// Pages that the guest maps, not adjacent in its memory.
const PAGES: u64 = 24;

/// What is mapped: I/O address, guest address, bytes, whether it may be written.
type Expected = Vec<(u64, u64, u64, bool)>;

/// Writes the guest's table; another one for each `turn`, of which a part is the same.
fn write(nested: &mut Nested, turn: u64) -> Expected {
    let mut all = Expected::new();
    for page in 0..PAGES {
        let (iova, gpa) = (
            AT + page * PAGE,
            FREE + (page * 3 + turn % 2 * (page % 3)) * PAGE,
        );
        if (page + turn) % 5 == 4 {
            nested.guest.map(iova, 0);
            continue;
        }
        let writes = (page + turn) % 4 != 0;
        nested.guest.map(iova, gpa | if writes { RW } else { RO });
        all.push((iova, gpa, PAGE, writes));
    }
    let large = 0x80_0000 + (turn % 2) * 0x20_0000;
    let at = nested.guest.entry(0x60_0000, 2);
    nested.guest.write(at, large | LARGE | RW);
    all.push((0x60_0000, large, 2 << 20, true));
    all
}

/// Exactly this is mapped and paid for.
fn shows(nested: &Nested, expected: &Expected) -> Outcome {
    nested.translates(expected)?;
    let size: u64 = expected.iter().map(|(_, _, size, _)| size).sum();
    same("locked KiB", locked_kib()?, size >> 10)
}

fn binding() -> Outcome {
    let faults = Faults::new()?;
    let mut nested = Nested::new()?;
    let expected = write(&mut nested, 0);
    let table = nested.guest.table();
    faults.sweep(
        "BIND_TABLE",
        USUAL,
        |_| Ok(()),
        |()| nested.container.bind_table(&table),
        |(), bound| {
            let (id, found) = match bound {
                Some(bound) => bound,
                None => {
                    shows(&nested, &Expected::new())?;
                    nested.container.bind_table(&table).context("once more")?
                }
            };
            if found.fault_count != 0 {
                // A table that could not be read is a bad entry.
                let again = nested.container.invalidate_all(id)?;
                same("bad entries", again.fault_count, 0)?;
            }
            shows(&nested, &expected)?;
            nested.container.unbind_table(id)?;
            shows(&nested, &Expected::new())
        },
    )
}

fn binding_slots() -> Outcome {
    let faults = Faults::new()?;
    let nested = Nested::new()?;
    let table = Table {
        flags: VFIO_KVM_BIND_IDENTITY,
        format: 0,
        root: 0,
        window: (FREE, FREE + 64 * PAGE - 1),
        gpa_bits: 0,
    };
    let expected = vec![(FREE, FREE, 64 * PAGE, true)];
    faults.sweep(
        "BIND_TABLE of slots",
        USUAL,
        |_| Ok(()),
        |()| nested.container.bind_table(&table),
        |(), bound| {
            let id = match bound {
                Some((id, _)) => id,
                None => {
                    shows(&nested, &Expected::new())?;
                    nested.container.bind_table(&table).context("once more")?.0
                }
            };
            shows(&nested, &expected)?;
            nested.container.unbind_table(id)?;
            shows(&nested, &Expected::new())
        },
    )
}

/// How to invalidate all that the guest changes; how many entries were bad, as those of a table are
/// that cannot be read.
fn invalidate(nested: &Nested, id: u32, many: bool) -> std::io::Result<u32> {
    if !many {
        let found = nested.container.invalidate_all(id)?;
        return Ok(found.fault_count);
    }
    let mut ranges: Vec<_> = (0..PAGES)
        .map(|page| range(AT + page * PAGE, PAGE))
        .collect();
    ranges.push(range(0x60_0000, PAGE));
    nested.container.invalidate_many(id, &mut ranges)?;
    Ok(ranges.iter().map(|range| range.fault_count).sum())
}

fn invalidating(many: bool) -> Outcome {
    let faults = Faults::new()?;
    let mut nested = Nested::new()?;
    // All of it is there, also what is not pinned.
    for page in FREE / PAGE..MEMORY / PAGE {
        nested.guest.memory.set((page * PAGE) as usize, 1);
    }
    let mut before = write(&mut nested, 0);
    let id = nested.bind()?;
    let mut turn = 0;
    let nested = std::cell::RefCell::new(nested);
    let name = if many {
        "INVALIDATE_MANY"
    } else {
        "INVALIDATE"
    };
    faults.sweep(
        name,
        USUAL,
        |_| {
            turn += 1;
            Ok(write(&mut nested.borrow_mut(), turn))
        },
        |_| invalidate(&nested.borrow(), id, many),
        |after, done| {
            let nested = nested.borrow();
            if done != Some(0) {
                partly(&nested, &before, &after)?;
                let bad = invalidate(&nested, id, many).context("once more")?;
                same("bad entries", bad, 0)?;
            }
            shows(&nested, &after)?;
            before = after;
            Ok(())
        },
    )
}

/// Each page shows what it did, or what it should, or nothing; and as much is paid for as is there.
fn partly(nested: &Nested, before: &Expected, after: &Expected) -> Outcome {
    if !translation::is_shown(&nested.bound.pci) {
        return Ok(());
    }
    let targets = |all: &Expected| -> Result<Vec<(u64, u64)>> {
        let mut pages = Vec::new();
        for (iova, gpa, size, _) in all {
            let vaddr = nested.guest.memory.addr() + gpa;
            let pfns = translation::physical_pages(vaddr, size / PAGE)?;
            pages.extend((iova / PAGE..).zip(pfns));
        }
        Ok(pages)
    };
    let (before, after) = (targets(before)?, targets(after)?);
    let got = translation::pages(&nested.bound.pci)?;
    for (page, target) in &got {
        let pair = (*page, target.pfn);
        ensure!(
            before.contains(&pair) || after.contains(&pair),
            "page {page:x} shows {target:x?}"
        );
    }
    same("locked KiB", locked_kib()?, got.len() as u64 * 4)
}

fn invalidating_all() -> Outcome {
    invalidating(false)
}

fn invalidating_ranges() -> Outcome {
    invalidating(true)
}

fn unbinding() -> Outcome {
    let faults = Faults::new()?;
    let mut nested = Nested::new()?;
    let expected = write(&mut nested, 0);
    faults.sweep(
        "UNBIND",
        USUAL,
        |_| nested.bind(),
        |id| nested.container.unbind_table(*id),
        |id, done| {
            if done.is_none() {
                // It was not read.
                shows(&nested, &expected)?;
                nested.container.unbind_table(id)?;
            }
            shows(&nested, &Expected::new())
        },
    )
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    binding,
    binding_slots,
    invalidating_all,
    invalidating_ranges,
    unbinding,
);
