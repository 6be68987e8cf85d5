// SPDX-License-Identifier: GPL-2.0
//! Buffers of a known physical shape.

use anyhow::Result;
use nix::sys::mman::{MapFlags, ProtFlags};
use vfio_client::DmaBuf;
use vfio_client::dma::PageSize;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Faults in page `number` of `buf`.
fn touch(buf: &DmaBuf, number: usize) {
    buf.set(number * PAGE, 1);
}

/// Memory of small pages, faulted in from the first to the last: mostly adjacent, in a machine that
/// just booted.
///
/// # Errors
/// errno of mmap(2) or prctl(2).
pub(crate) fn small(len: usize) -> Result<DmaBuf> {
    let buf = DmaBuf::new(len)?;
    buf.advise(PageSize::Small)?;
    (0..len / PAGE).for_each(|page| touch(&buf, page));
    Ok(buf)
}

/// Two buffers of small pages faulted in turn, so that hardly any page of one is adjacent to its
/// next.
///
/// # Errors
/// As [`small`].
pub(crate) fn scattered(len: usize) -> Result<(DmaBuf, DmaBuf)> {
    let (one, other) = (DmaBuf::new(len)?, DmaBuf::new(len)?);
    one.advise(PageSize::Small)?;
    other.advise(PageSize::Small)?;
    for page in 0..len / PAGE {
        touch(&one, page);
        touch(&other, page);
    }
    Ok((one, other))
}

/// Transparent huge pages: a buffer and where in it the first of them starts, with `len` bytes from
/// there on.
///
/// # Errors
/// As [`small`].
pub(crate) fn huge(len: usize) -> Result<(DmaBuf, u64)> {
    let buf = DmaBuf::with_flags(
        len + HUGE,
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_PRIVATE,
    )?;
    buf.advise(PageSize::Huge)?;
    let start = buf.addr().next_multiple_of(HUGE as u64);
    let skip = (start - buf.addr()) as usize;
    (0..len / PAGE).for_each(|page| buf.set(skip + page * PAGE, 1));
    Ok((buf, start))
}
