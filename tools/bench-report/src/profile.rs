// SPDX-License-Identifier: GPL-2.0
//! Which functions a row's instructions are in: the machine counts them by a plugin of QEMU,
//! `tools/profile/plugin.c`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use vfio_rs_bench::Measured;

use crate::rows::ROWS;
use crate::stack::{Machines, Stack};

/// What the measuring program calls before and after each step, as the kernel knows it.
const MARKS: [&str; 2] = ["__x64_sys_getppid", "__x64_sys_getpid"];
/// Steps that are not counted: the first of each of two rows, which makes page tables.
const SKIP: u32 = 2;
/// Where the kernel's addresses begin.
const KERNEL: u64 = 1 << 63;

/// What a profile needs.
#[derive(Debug)]
pub(crate) struct Profiler<'a> {
    /// What starts the machine.
    pub machines: &'a Machines<'a>,
    /// The plugin.
    pub plugin: &'a Path,
    /// `System.map` of the machine's kernel.
    pub symbols: &'a Path,
    /// A folder for what comes out.
    pub folder: &'a Path,
}

impl Profiler<'_> {
    /// Prints for `row`, and for the one that is measured with it, how many instructions a step
    /// takes in each function, from `least` on.
    ///
    /// # Errors
    /// If there is no such row, or the machine fails.
    pub(crate) fn print(&self, stack: Stack, row: &str, least: f64) -> Result<()> {
        fs::create_dir_all(self.folder)?;
        let folder = self.folder.canonicalize()?;
        let (counts, symbols) = (folder.join("counts"), folder.join("kallsyms"));
        let text = fs::read_to_string(self.symbols).context("System.map")?;
        let [start, stop] = MARKS.map(|name| {
            text.lines()
                .find_map(|line| line.strip_suffix(name)?.split(' ').next())
                .unwrap_or_default()
        });
        let plugin = format!(
            "{},start={start},stop={stop},skip={SKIP},out={}",
            self.plugin.display(),
            counts.display()
        );
        let share = folder.to_string_lossy();
        let options = [
            "--icount",
            "--timeout",
            "1800",
            "--append",
            "nokaslr",
            "--share",
            &share,
            "--qemu-arg",
            "-plugin",
            "--qemu-arg",
            &plugin,
        ];
        let marks = symbols.to_string_lossy();
        let measured = self
            .machines
            .run(stack, &options, &["--filter", row, "--marks", &marks])?;
        let symbols = Symbols::read(&symbols)?;
        let counts = Counts::read(&counts)?;
        let rows = rows(&measured);
        match rows.as_slice() {
            [one] => report(one, &counts.sum(&symbols, &[0, 1]), least),
            [one, two] => {
                report(one, &counts.sum(&symbols, &[0]), least);
                report(two, &counts.sum(&symbols, &[1]), least);
            }
            rows => bail!("{} rows match '{row}': {rows:?}", rows.len()),
        }
        Ok(())
    }
}

/// The rows measured, in the order in which their steps come.
fn rows(measured: &Measured) -> Vec<&'static str> {
    let names = ROWS.iter().map(|row| row.name);
    names
        .filter(|name| measured.rows.contains_key(*name))
        .collect()
}

/// Functions by address, each with the module that it is in.
struct Symbols(BTreeMap<u64, (String, String)>);

impl Symbols {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context("kallsyms")?;
        let functions = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().filter(|kind| "tTwW".contains(kind))?;
            let name = demangled(words.next()?);
            let module = words.next().unwrap_or("kernel");
            Some((address, (name, module.trim_matches(['[', ']']).to_owned())))
        });
        Ok(Self(functions.collect()))
    }

    /// Function and module of an instruction.
    fn find(&self, address: u64) -> (&str, &str) {
        if address < KERNEL {
            return ("", "program");
        }
        let below = self.0.range(..=address).next_back();
        below.map_or(("?", "kernel"), |(_, (name, module))| (name, module))
    }
}

/// The path in a mangled name, less hashes and crates: all of its identifiers.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// How often each instruction ran, in two columns.
struct Counts {
    /// How many steps each column has.
    steps: [u64; 2],
    places: Vec<(u64, [u64; 2])>,
}

/// Instructions per step of each function, with its module.
type Sums<'a> = BTreeMap<(&'a str, &'a str), f64>;

impl Counts {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context("the plugin wrote nothing")?;
        let mut lines = text.lines().map(|line| line.split(' '));
        let mut head = lines.next().context("no counts")?.map(str::parse);
        let steps = [
            head.next().context("steps")??,
            head.next().context("steps")??,
        ];
        ensure!(steps[0] > 0, "the program's steps were not seen");
        let places = lines.map(|mut line| {
            let mut word = || line.next().context("a line is too short");
            let address = u64::from_str_radix(word()?, 16)?;
            Ok((address, [word()?.parse()?, word()?.parse()?]))
        });
        let places = places.collect::<Result<_>>()?;
        Ok(Self { steps, places })
    }

    /// Sums of `columns` together.
    fn sum<'a>(&self, symbols: &'a Symbols, columns: &[usize]) -> Sums<'a> {
        let total = |of: &[u64; 2]| columns.iter().map(|column| of[*column]).sum::<u64>();
        let steps = total(&self.steps).max(1) as f64;
        let mut sums = Sums::new();
        for (address, counts) in &self.places {
            *sums.entry(symbols.find(*address)).or_default() += total(counts) as f64 / steps;
        }
        sums
    }
}

/// Prints the functions of a row, the dearest first.
fn report(row: &str, sums: &Sums<'_>, least: f64) {
    let part = |of: &str| -> f64 {
        let all = sums.iter().filter(|((_, module), _)| *module == of);
        all.map(|(_, count)| count).sum()
    };
    let all: f64 = sums.values().sum();
    let ours = part("vfio_rs");
    println!("{row}: {all:.0} instructions, {ours:.0} in vfio_rs");
    let mut sorted: Vec<_> = sums.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(a.1));
    for ((name, module), count) in sorted {
        if *count >= least {
            println!("{count:10.1}  {module:<10} {name}");
        }
    }
    println!();
}
