// SPDX-License-Identifier: GPL-2.0
//! Collects results while they come in.

use anyhow::Result;
use vfio_rs_bench::{Measured, Point};

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Those whose name contains this, and what is measured with them.
    Containing(&'a str),
    /// The one of this name, and what is measured with it.
    Named(&'a str),
}

/// Results so far, and which are wanted.
#[derive(Debug)]
pub struct Sheet<'a> {
    wanted: Wanted<'a>,
    measured: Measured,
}

impl<'a> Sheet<'a> {
    /// For these rows.
    pub fn new(wanted: Wanted<'a>) -> Self {
        Self {
            wanted,
            measured: Measured::default(),
        }
    }

    /// Whether any of `names` is wanted.
    pub fn wants(&self, names: &[&str]) -> bool {
        let (Wanted::Containing(part) | Wanted::Named(part)) = self.wanted;
        names.iter().any(|name| name.contains(part))
    }

    /// Measures `names` by `step`, which returns one value for each. What fails is absent: the
    /// stack does not serve it.
    pub fn measure<const N: usize>(
        &mut self,
        names: [&str; N],
        step: impl FnOnce() -> Result<[f64; N]>,
    ) {
        let is_named = match self.wanted {
            Wanted::Containing(_) => true,
            Wanted::Named(name) => names.contains(&name),
        };
        if !is_named || !self.wants(&names) {
            return;
        }
        match step() {
            Ok(values) => names.iter().zip(values).for_each(|(name, value)| {
                eprintln!("{name}: {value:.1}");
                self.measured.rows.insert((*name).to_owned(), value);
            }),
            Err(e) => names.iter().for_each(|name| {
                eprintln!("{name}: absent: {e:#}");
                let why = format!("{e:#}");
                self.measured.absent.insert((*name).to_owned(), why);
            }),
        }
    }

    /// Adds a point of the scaling curve.
    pub fn point(&mut self, point: Point) {
        eprintln!("{point:?}");
        self.measured.scaling.push(point);
    }
}

impl From<Sheet<'_>> for Measured {
    fn from(sheet: Sheet<'_>) -> Self {
        sheet.measured
    }
}
