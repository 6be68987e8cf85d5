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

/// Bytes of a chain that need no allocation: as much as any answer has on most machines.
const SMALL: usize = 128;

/// A chain under construction; offsets count from the start of the info struct.
pub(crate) struct CapChain {
    /// Size of the struct that the chain follows.
    base: usize,
    /// Bytes so far.
    len: usize,
    /// The chain, as long as it has room here.
    small: [u8; SMALL],
    /// The chain, if it has not.
    large: Option<KVec<u8>>,
    /// Where in it the last capability starts.
    last: Option<usize>,
}

impl CapChain {
    /// An empty chain behind a struct of `base` bytes.
    #[inline]
    pub(crate) fn after(base: usize) -> Self {
        Self {
            base,
            len: 0,
            small: [0; SMALL],
            large: None,
            last: None,
        }
    }

    /// Whether nothing was appended.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a capability: `header`, then each of `parts`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EOVERFLOW`; the chain is of no use then.
    pub(crate) fn push(&mut self, id: u32, version: u16, parts: &[&[u8]]) -> Result {
        let start = self.len;
        let at: u32 = self.base.checked_add(start).ok_or(EOVERFLOW)?.try_into()?;
        let header = vfio_info_cap_header {
            id: id.try_into()?,
            version,
            next: 0,
        };
        self.append(header.as_bytes())?;
        for part in parts {
            self.append(part)?;
        }
        let padding = self.len.wrapping_neg() % ALIGN;
        self.append([0; ALIGN].get(..padding).unwrap_or(&[]))?;
        if let Some(last) = self.last.replace(start) {
            let next = last.saturating_add(core::mem::offset_of!(vfio_info_cap_header, next));
            let bytes = match &mut self.large {
                Some(large) => large.get_mut(next..),
                None => self.small.get_mut(next..),
            };
            if let Some(link) = bytes.and_then(|bytes| bytes.first_chunk_mut()) {
                *link = at.to_ne_bytes();
            }
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result {
        let end = self.len.checked_add(bytes.len()).ok_or(EOVERFLOW)?;
        match self.small.get_mut(self.len..end) {
            Some(room) if self.large.is_none() => room.copy_from_slice(bytes),
            _ => self.append_large(bytes)?,
        }
        self.len = end;
        Ok(())
    }

    #[cold]
    fn append_large(&mut self, bytes: &[u8]) -> Result {
        let large = self.large.get_or_insert_with(KVec::new);
        if large.is_empty() {
            let so_far = self.small.get(..self.len).ok_or(EOVERFLOW)?;
            large.extend_from_slice(so_far, GFP_KERNEL)?;
        }
        Ok(large.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// Appends the I/O addresses that may be mapped, if there are any.
    pub(crate) fn push_iova_ranges(&mut self, allowed: Option<&Allowed>) -> Result {
        let ranges = || allowed.iter().flat_map(|allowed| allowed.ranges());
        let count: u32 = ranges().count().try_into()?;
        if count == 0 {
            return Ok(());
        }
        // `nr_iovas`, `reserved`, `iova_ranges`
        self.push(
            uapi::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
            1,
            &[count.as_bytes(), 0u32.as_bytes()],
        )?;
        const _: () = assert!(size_of::<uapi::vfio_iova_range>() % ALIGN == 0);
        for range in ranges() {
            let range = uapi::vfio_iova_range {
                start: range.start(),
                end: range.last(),
            };
            self.append(range.as_bytes())?;
        }
        Ok(())
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
        if self.is_empty() {
            return arg.write_prefix(&answer(argsz, 0), len);
        }
        let whole: u32 = self
            .base
            .checked_add(self.len)
            .ok_or(EOVERFLOW)?
            .try_into()?;
        if argsz < whole {
            return arg.write_prefix(&answer(whole, 0), len);
        }
        match &self.large {
            Some(large) => arg.slice(self.base, self.len).writer().write_slice(large)?,
            None => arg.at(self.base).write_prefix(&self.small, self.len)?,
        }
        arg.write_prefix(&answer(argsz, self.base.try_into()?), len)
    }
}
