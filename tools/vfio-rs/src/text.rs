// SPDX-License-Identifier: GPL-2.0
//! How things are printed: tables that fit the terminal, sizes, colours.

use std::env;
use std::fmt::Write;

use anstyle::{AnsiColor, Style};

/// Faint, for what is only context.
pub const FAINT: Style = Style::new().dimmed();
/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What asks for attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Headings.
pub const BOLD: Style = Style::new().bold();

/// `text` in a style. On the way to what is no terminal the style is taken off again.
#[must_use]
pub fn styled(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` without styles.
#[must_use]
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Columns of the terminal, 80 if there is none.
#[must_use]
pub fn width() -> usize {
    let columns = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns.or_else(terminal).unwrap_or(80).clamp(40, 400)
}

/// Whether the terminal is said to show more than ASCII.
#[must_use]
pub fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| env::var(name).ok())
        .find(|value| !value.is_empty());
    locale.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    })
}

/// `text` as the terminal can show it: no control characters, and ASCII if that is all it has.
#[must_use]
pub fn shown(text: &str) -> String {
    let utf8 = is_utf8();
    text.chars()
        .map(|c| match c {
            _ if c.is_control() => '?',
            _ if !utf8 && !c.is_ascii() => '?',
            _ => c,
        })
        .collect()
}

/// Bytes as people write them: `64 MiB`, and with a digit behind the point if they are no whole.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit < 6 && bytes >= 1 << (10 * (unit + 1)) {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    let rest = bytes - (whole << (10 * unit));
    match rest {
        0 => format!("{whole} {}", UNITS[unit]),
        _ => format!(
            "{whole}.{} {}",
            (u128::from(rest) * 10) >> (10 * unit),
            UNITS[unit]
        ),
    }
}

/// Bytes of a disk, as its label has them: powers of ten.
#[must_use]
pub fn size_round(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 1000u64;
    for (at, name) in UNITS.iter().enumerate() {
        if at == UNITS.len() - 1 || bytes < unit.saturating_mul(1000) {
            let tenths = bytes.saturating_mul(10) / unit;
            return match (tenths / 10, tenths % 10) {
                (whole, tenth) if whole < 10 && tenth > 0 => format!("{whole}.{tenth} {name}"),
                (whole, _) => format!("{whole} {name}"),
            };
        }
        unit *= 1000;
    }
    String::new()
}

/// Cuts `text` to `width` characters; what is cut ends in a dot or two.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(2);
    let head: String = text.chars().take(keep).collect();
    format!("{head}{}", &".."[..width.min(2)])
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Numbers are at the right.
    pub right: bool,
    /// The least width to which it may be cut, if it may.
    pub shrinks_to: Option<usize>,
}

impl Column {
    /// A column `title`, with its cells at the `right` or not, which may be cut to `shrinks_to`.
    #[must_use]
    pub const fn new(title: &'static str, right: bool, shrinks_to: Option<usize>) -> Self {
        Self {
            title,
            right,
            shrinks_to,
        }
    }
}

/// Rows of cells, which are printed in columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// With no rows yet.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row, of as many cells as there are columns.
    pub fn add(&mut self, row: Vec<(String, Style)>) {
        let row = row.into_iter().map(|(text, style)| (shown(&text), style));
        self.rows.push(row.collect());
    }

    /// The widths of the columns in `width` characters: those that may be cut are, the widest
    /// first.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| c.title.len()).collect();
        for row in &self.rows {
            for (have, (cell, _)) in widths.iter_mut().zip(row) {
                *have = (*have).max(cell.chars().count());
            }
        }
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            let spare = |at: &usize| {
                let least = self.columns[*at].shrinks_to?;
                widths[*at].checked_sub(least).filter(|spare| *spare > 0)
            };
            let Some(widest) = (0..widths.len())
                .filter(|at| spare(at).is_some())
                .max_by_key(spare)
            else {
                break;
            };
            widths[widest] -= 1;
        }
        widths
    }

    /// The table in lines of at most `width` characters, if that can be.
    #[must_use]
    pub fn print(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        let heads = self.columns.iter().map(|c| (c.title.to_owned(), BOLD));
        for row in std::iter::once(heads.collect()).chain(self.rows.iter().cloned()) {
            let row: Vec<(String, Style)> = row;
            let last = row
                .iter()
                .rposition(|(cell, _)| !cell.is_empty())
                .unwrap_or(0);
            for (at, (cell, style)) in row.iter().enumerate().take(last + 1) {
                let text = cut(cell, widths[at]);
                let pad = " ".repeat(widths[at] - text.chars().count());
                let text = if text.is_empty() {
                    text
                } else {
                    styled(&text, *style)
                };
                match self.columns[at].right {
                    true => out.push_str(&(pad + &text)),
                    false if at == last => out.push_str(&text),
                    false => out.push_str(&(text + &pad)),
                }
                if at != last {
                    out.push_str("  ");
                }
            }
            let _ = writeln!(out);
        }
        out
    }
}

/// Breaks `text` into lines of at most `width`, each behind `indent`.
#[must_use]
pub fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let taken = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && taken > width {
            let _ = writeln!(out, "{indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{indent}{line}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let binary = [0, 1, 1023, 1024, 1536, 16 << 20, u64::MAX].map(size);
        assert_eq!(
            binary,
            [
                "0 B", "1 B", "1023 B", "1 KiB", "1.5 KiB", "16 MiB", "15.9 EiB"
            ]
        );
        let decimal = [512, 2_000_000_000, 2_500_000_000_000, 512_110_190_592].map(size_round);
        assert_eq!(decimal, ["0.5 kB", "2 GB", "2.5 TB", "512 GB"]);
    }

    #[test]
    fn tables_are_cut_where_they_may_be() {
        let mut table = Table::new(vec![
            Column::new("N", true, None),
            Column::new("NAME", false, Some(4)),
            Column::new("WHY", false, None),
        ]);
        let plain = |text: &str| (text.to_owned(), Style::new());
        table.add(vec![plain("10"), plain("a long name"), plain("yes")]);
        table.add(vec![plain("9"), plain("short"), plain("")]);
        let lines = |width| -> Vec<String> {
            let text = anstream::adapter::strip_str(&table.print(width)).to_string();
            text.lines().map(str::to_owned).collect()
        };
        assert_eq!(
            lines(80),
            [" N  NAME         WHY", "10  a long name  yes", " 9  short"]
        );
        assert_eq!(
            lines(16),
            [" N  NAME     WHY", "10  a lon..  yes", " 9  short"]
        );
        assert_eq!(lines(3)[1], "10  a ..  yes");
    }

    #[test]
    fn text_is_wrapped() {
        assert_eq!(wrap("one two three", "  ", 9), "  one two\n  three\n");
        assert_eq!(wrap("", "  ", 9), "  \n");
    }
}
