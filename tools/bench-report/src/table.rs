// SPDX-License-Identifier: GPL-2.0
//! The table that the user reads.

use comfy_table::{CellAlignment, Table, presets};

use crate::record::Record;
use crate::rows::{ROWS, Row, THREADS, Target};
use crate::stack::{DRAWN, STACKS, Stack};

/// The results against the targets.
pub(crate) fn rows(record: &Record) -> Table {
    let mut table = new([
        "",
        "C",
        "compat",
        "iommufd",
        "ours",
        "ours, iommufd",
        "ours / C",
        "target",
        "",
    ]);
    for row in ROWS {
        let c = record.value(Stack::C, row.name);
        let ours = record.value(Stack::Ours, row.name);
        let mut cells = vec![row.title.to_owned()];
        cells.extend(STACKS.map(|stack| number(record.value(stack, row.name))));
        cells.push(match (ours, c) {
            (Some(ours), Some(c)) if c > 0.0 => format!("{:.2}", ours / c),
            _ => "-".to_owned(),
        });
        cells.push(wanted(row));
        let of = match row.target {
            Target::OfRow(name) => record.value(Stack::Ours, name),
            _ => c,
        };
        cells.push(verdict(row, ours, of).to_owned());
        table.add_row(cells);
    }
    table
}

/// The scaling curves as numbers: cost of mapping one more page.
pub(crate) fn scaling(record: &Record) -> Table {
    let mut table = new(["mappings", "C", "compat", "iommufd", "ours"]);
    let points = |stack: Stack| {
        record
            .stacks
            .get(stack.name())
            .map_or(&[][..], |m| &m.scaling)
    };
    for point in points(Stack::Ours) {
        let at = |stack| {
            let found = points(stack).iter().find(|p| p.mappings == point.mappings);
            number(found.map(|p| p.map))
        };
        let mut cells = vec![point.mappings.to_string()];
        cells.extend(DRAWN.map(at));
        table.add_row(cells);
    }
    table
}

fn new<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
        Some(value) if value.abs() < 1000.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn wanted(row: &Row) -> String {
    match row.target {
        Target::Max(most) => format!("<= {most}"),
        Target::Min(least) => format!(">= {least}"),
        Target::OfC(1.0) => "<= C".to_owned(),
        Target::OfC(part) => format!("<= {part} of C"),
        Target::OfRow(_) => "<= type1".to_owned(),
    }
}

/// `of` is what it is a part of.
fn verdict(row: &Row, ours: Option<f64>, of: Option<f64>) -> &'static str {
    let Some(ours) = ours else { return "absent" };
    let met = match row.target {
        Target::Max(most) => ours <= most,
        Target::Min(least) => ours >= least,
        Target::OfC(_) | Target::OfRow(_) => {
            let Some(of) = of else { return "" };
            match row.target {
                // As many digits as the ratio is printed with.
                Target::OfC(part) => ours <= of * (part + 0.005),
                // And as values are kept with.
                _ => ours <= of * 1.005 + 0.01,
            }
        }
    };
    match met {
        true => "met",
        false if row.name == THREADS => "not met (by time)",
        false => "not met",
    }
}
