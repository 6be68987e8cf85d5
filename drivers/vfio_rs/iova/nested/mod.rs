// SPDX-License-Identifier: GPL-2.0

//! A guest's I/O page tables, and shadows of them.
//!
//! Pure. Takes no lock; see `backend/kvm/` for who does.
//!
//! | file        | has                                                  |
//! |-------------|------------------------------------------------------|
//! | `format.rs` | what entries of tables mean                          |
//! | `walk.rs`   | all entries for a range of addresses                 |
//! | `diff.rs`   | what has to change in a shadow after a walk          |

pub(crate) mod diff;
pub(crate) mod format;
pub(crate) mod walk;
