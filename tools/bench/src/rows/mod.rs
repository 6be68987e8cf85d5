// SPDX-License-Identifier: GPL-2.0
//! What is measured, by subject.

pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod dma;
pub(crate) mod info;
pub(crate) mod many;
pub(crate) mod scaling;
pub(crate) mod threads;
