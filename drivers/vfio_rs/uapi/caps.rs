// SPDX-License-Identifier: GPL-2.0

//! Capability chains: what an info struct says beyond its fields, `struct vfio_info_cap_header`.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi::{
        self,
        vfio_info_cap_header, //
    },
};
use zerocopy::{
    Immutable,
    IntoBytes, //
};

use crate::iova::Allowed;

/// Every capability starts at a multiple of this, as a user may read 64-bit fields in place.
const ALIGN: usize = 8;

/// A chain under construction; offsets count from the start of the info struct.
pub(crate) struct CapChain {
    /// Size of the struct that the chain follows.
    base: usize,
    buf: KVec<u8>,
    /// Where in `buf` the last capability starts.
    last: Option<usize>,
}

impl CapChain {
    /// An empty chain behind a struct of `base` bytes.
    pub(crate) fn after(base: usize) -> Self {
        Self {
            base,
            buf: KVec::new(),
            last: None,
        }
    }

    /// Whether nothing was appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Appends a capability: `header`, then each of `parts`.
    pub(crate) fn push(&mut self, id: u32, version: u16, parts: &[&[u8]]) -> Result {
        let start = self.buf.len();
        let at: u32 = self.base.checked_add(start).ok_or(EOVERFLOW)?.try_into()?;
        let header = vfio_info_cap_header {
            id: id.try_into()?,
            version,
            next: 0,
        };
        self.buf.extend_from_slice(header.as_bytes(), GFP_KERNEL)?;
        for part in parts {
            self.buf.extend_from_slice(part, GFP_KERNEL)?;
        }
        while self.buf.len() % ALIGN != 0 {
            self.buf.push(0, GFP_KERNEL)?;
        }
        let next = core::mem::offset_of!(vfio_info_cap_header, next);
        if let Some(link) = self.last.replace(start).and_then(|last| {
            self.buf
                .get_mut(last.checked_add(next)?..)?
                .first_chunk_mut()
        }) {
            *link = at.to_ne_bytes();
        }
        Ok(())
    }

    /// Appends the I/O addresses that may be mapped, if there are any.
    pub(crate) fn push_iova_ranges(&mut self, allowed: Option<&Allowed>) -> Result {
        let mut ranges = KVec::new();
        for range in allowed.iter().flat_map(|allowed| allowed.ranges()) {
            let range = uapi::vfio_iova_range {
                start: range.start(),
                end: range.last(),
            };
            ranges.push(range, GFP_KERNEL)?;
        }
        if ranges.is_empty() {
            return Ok(());
        }
        let count: u32 = ranges.len().try_into()?;
        // `nr_iovas`, `reserved`, `iova_ranges`
        self.push(
            uapi::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
            1,
            &[count.as_bytes(), 0u32.as_bytes(), ranges.as_bytes()],
        )
    }

    /// Answers with `info` and the chain, or with the size that both need if `argsz` is less.
    ///
    /// `answer` gets the new `argsz`, and the offset of the chain or 0, and puts them where the
    /// struct has them. `len` is how much of the struct the user knows.
    pub(crate) fn write<T: IntoBytes + Immutable>(
        &self,
        arg: UserArg,
        argsz: u32,
        len: usize,
        answer: impl FnOnce(u32, u32) -> T,
    ) -> Result {
        if self.buf.is_empty() {
            return arg.write_prefix(&answer(argsz, 0), len);
        }
        let whole: u32 = self
            .base
            .checked_add(self.buf.len())
            .ok_or(EOVERFLOW)?
            .try_into()?;
        if argsz < whole {
            return arg.write_prefix(&answer(whole, 0), len);
        }
        arg.slice(self.base, self.buf.len())
            .writer()
            .write_slice(&self.buf)?;
        arg.write_prefix(&answer(argsz, self.base.try_into()?), len)
    }
}
