// SPDX-License-Identifier: GPL-2.0
//! Finds rows that have become worse than what is kept.

use vfio_rs_bench::Measured;

use crate::record::Record;
use crate::rows::{MEMORY, OF_SCALING, ROWS, THREADS};
use crate::stack::Stack;

/// How much worse a row may be.
const SLACK: f64 = 1.05;
/// What a row may be worse in any case: a tick of the clock more in a mapping of 65,536 pages.
const TICK: f64 = 0.05;

/// Prints a TAP line for each row that both have; tells whether all are well.
pub(crate) fn compare(kept: &Record, now: &Measured) -> bool {
    let gated =
        |name: &str| name != THREADS && !MEMORY.contains(&name) && !OF_SCALING.contains(&name);
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| gated(row.name))
        .filter_map(|row| Some((row, kept.value(Stack::Ours, row.name)?)))
        .collect();
    println!("TAP version 14\n1..{}", rows.len());
    let mut good = true;
    for (number, (row, before)) in (1..).zip(rows) {
        let line = match now.rows.get(row.name) {
            Some(value) if *value <= before * SLACK + TICK => {
                println!("# {}: {value:.2}, kept {before:.2}", row.name);
                format!("ok {number} {}", row.name)
            }
            Some(value) => {
                println!(
                    "# {} ({}): {value:.2}, more than 5 % above {before:.2}",
                    row.name, row.title
                );
                format!("not ok {number} {}", row.name)
            }
            None => {
                let why = now.absent.get(row.name).map_or("not measured", |why| why);
                println!("# {}: {why}", row.name);
                format!("not ok {number} {}", row.name)
            }
        };
        good &= line.starts_with("ok");
        println!("{line}");
    }
    good
}
