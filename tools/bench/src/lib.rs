// SPDX-License-Identifier: GPL-2.0
//! What the measuring program prints, as JSON, and the program around it reads.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All that one machine measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Value of each row that the stack serves, by the row's name.
    pub rows: BTreeMap<String, f64>,
    /// What each further mapping costs, by how many there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaling: Vec<Point>,
    /// Why rows are absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, String>,
}

/// One point of a scaling curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// One-page mappings in the address space.
    pub mappings: u64,
    /// To map one more.
    pub map: f64,
    /// To unmap one again.
    pub unmap: f64,
}
