// SPDX-License-Identifier: GPL-2.0
//! Output for programs.

use anyhow::Result;
use serde_json::{Value, json};

/// Changes when a program that reads it would have to.
pub const SCHEMA: u32 = 1;

/// A document: `value`, an object, with the number of the schema.
///
/// # Errors
/// None that can happen.
pub fn document(value: &Value) -> Result<String> {
    let mut whole = json!({ "schema": SCHEMA });
    if let (Some(whole), Some(value)) = (whole.as_object_mut(), value.as_object()) {
        whole.extend(value.clone());
    }
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}
