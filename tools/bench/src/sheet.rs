// SPDX-License-Identifier: GPL-2.0
//! Collects results while they come in.

use anyhow::Result;
use vfio_rs_bench::{Measured, Point};

/// Results so far, and which are wanted.
#[derive(Debug)]
pub struct Sheet<'a> {
    filter: &'a str,
    exact: bool,
    measured: Measured,
}

impl<'a> Sheet<'a> {
    /// For rows whose name contains `filter`, or is the same if that is to be `exact`.
    pub fn new(filter: &'a str, exact: bool) -> Self {
        Self {
            filter,
            exact,
            measured: Measured::default(),
        }
    }

    /// Whether any of `names` is wanted.
    pub fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| name.contains(self.filter))
    }

    /// Measures `names` by `step`, which returns one value for each. What fails is absent: the
    /// stack does not serve it.
    pub fn measure<const N: usize>(
        &mut self,
        names: [&str; N],
        step: impl FnOnce() -> Result<[f64; N]>,
    ) {
        if !self.wants(&names) || (self.exact && !names.contains(&self.filter)) {
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
