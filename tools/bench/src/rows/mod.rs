// SPDX-License-Identifier: GPL-2.0
//! What is measured, by subject.

pub mod device;
pub mod dma;
pub mod scaling;
pub mod threads;
