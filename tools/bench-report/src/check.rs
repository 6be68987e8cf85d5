// SPDX-License-Identifier: GPL-2.0
//! Finds rows that have become worse than what is kept.

use vfio_rs_bench::Measured;

use crate::record::Record;
use crate::rows::{MEMORY, OF_SCALING, ROWS, THREADS};
use crate::stack::Stack;

/// How much worse a row may be. Rows repeat to less than that, most to the digit.
const SLACK: f64 = 1.01;
/// The same for those that are averages of all rounds, with the clock's ticks in them.
const SLACK_OF_AVERAGES: f64 = 1.03;
const AVERAGES: [&str; 3] = [OPEN, "close", "msi_on_off"];
/// What a row may be worse in any case: a tick of the clock more in a mapping of 65,536 pages.
const TICK: f64 = 0.05;

/// The rows that are compared for devices with an iommufd, as the rest is the same there: what
/// opens them, and with it what closes them.
pub(crate) const OPEN: &str = "open";
const OF_IOMMUFD: [&str; 2] = [OPEN, "close"];

/// Prints a TAP line for each row that both have; tells whether all are well.
pub(crate) fn compare(kept: &Record, now: &[(Stack, Measured)]) -> bool {
    let gated = |stack, name: &str| match stack {
        Stack::OursIommufd => OF_IOMMUFD.contains(&name),
        _ => name != THREADS && !MEMORY.contains(&name) && !OF_SCALING.contains(&name),
    };
    let mut rows = Vec::new();
    for (stack, measured) in now {
        let known = ROWS.iter().filter(|row| gated(*stack, row.name));
        rows.extend(known.filter_map(|row| {
            let before = kept.value(*stack, row.name)?;
            Some((*stack, measured, row, before))
        }));
    }
    println!("TAP version 14\n1..{}", rows.len());
    let mut good = true;
    for (number, (stack, measured, row, before)) in (1..).zip(rows) {
        let name = match stack {
            Stack::Ours => row.name.to_owned(),
            other => format!("{}: {}", other.name(), row.name),
        };
        let slack = match AVERAGES.contains(&row.name) {
            true => SLACK_OF_AVERAGES,
            false => SLACK,
        };
        let line = match measured.rows.get(row.name) {
            Some(value) if *value <= before * slack + TICK => {
                println!("# {name}: {value:.2}, kept {before:.2}");
                format!("ok {number} {name}")
            }
            Some(value) => {
                println!(
                    "# {name} ({}): {value:.2}, more than {:.0} % above {before:.2}",
                    row.title,
                    (slack - 1.0) * 100.0
                );
                format!("not ok {number} {name}")
            }
            None => {
                let absent = &measured.absent;
                let why = absent.get(row.name).map_or("not measured", |why| why);
                println!("# {name}: {why}");
                format!("not ok {number} {name}")
            }
        };
        good &= line.starts_with("ok");
        println!("{line}");
    }
    good
}
