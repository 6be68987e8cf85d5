// SPDX-License-Identifier: GPL-2.0
//! The tool of whoever assigns devices: which can be, what is in the way, who has which.
//!
//! It works with this project's modules, with Linux's own VFIO, and with neither: what it knows it
//! reads below a [`root::Root`], which may be a record of another machine. The manual is
//! `Documentation/vfio-rs.rst`.
//!
//! | file         | has                                                             |
//! |--------------|-----------------------------------------------------------------|
//! | `root.rs`    | files of a machine; `record.rs`, all of them in one file        |
//! | `machine.rs` | PCI devices and groups; `names.rs`, `address.rs`, `config.rs`   |
//! | `uses/`      | what the host uses devices for                                  |
//! | `users.rs`   | processes that have them by VFIO; `kernel.rs`, what the module says |
//! | `verdict.rs` | the module's rules, applied                                     |
//! | `klog.rs`    | the kernel's log                                                |
//! | `host.rs`    | all of that together                                            |
//! | `bind/`, `allow.rs`, `persist.rs` | the commands that change something         |
//! | `list.rs`, `show/`, `who.rs`, `top.rs`, `faults.rs`, `doctor/`, `explain.rs`, `lines.rs` |
//! |              | the others                                                      |
//! | `text.rs`, `json.rs` | how things are printed                                  |

#![forbid(unsafe_code)]

pub mod address;
pub mod allow;
pub mod bind;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod errors;
pub mod explain;
pub mod faults;
pub mod host;
pub mod json;
pub mod kernel;
pub mod klog;
pub mod lines;
pub mod list;
pub mod machine;
pub mod names;
pub mod persist;
pub mod record;
pub mod root;
pub mod run;
pub mod show;
pub mod text;
pub mod top;
pub mod users;
pub mod uses;
pub mod verdict;
pub mod who;
