// SPDX-License-Identifier: GPL-2.0

//! Pieces of device memory in and out of a [`Domain`], the IOMMU being told once for many.

use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    device_memory::DevicePiece,
    domain::{
        Domain,
        Prot, //
    },
    space::{
        window,
        WINDOW, //
    },
};
use crate::{
    params,
    sched::{
        self,
        Stop, //
    },
};

/// Pieces that are unmapped before others may have the CPU.
const BATCH: usize = 256;

/// How far one got: so many pieces as a whole, and so many bytes of the next one.
#[derive(Default)]
struct Done {
    pieces: usize,
    bytes: usize,
}

impl Domain {
    /// Maps device memory, or memory `of_kernel` that the caller keeps until it is unmapped; on
    /// failure nothing is mapped. May sleep.
    ///
    /// # Errors
    ///
    /// What the IOMMU driver says; `EINTR` if the task is being killed and `stop` says that this
    /// matters.
    pub(super) fn map_pieces(
        &self,
        pieces: &[DevicePiece],
        prot: Prot,
        of_kernel: bool,
        stop: Stop,
    ) -> Result {
        let prot = prot.to_raw();
        if of_kernel {
            return self.map_all(pieces, prot, stop);
        }
        let device = prot & !bindings::IOMMU_CACHE;
        match self.map_all(pieces, device | bindings::IOMMU_MMIO, stop) {
            // Not every virtio-iommu knows the difference.
            Err(EINVAL) => self.map_all(pieces, device, stop),
            ret => ret,
        }
    }

    fn map_all(&self, pieces: &[DevicePiece], prot: u32, stop: Stop) -> Result {
        let mut done = Done::default();
        self.map_each(pieces, prot, stop, &mut done)
            .and_then(|()| self.sync_pieces(pieces))
            .inspect_err(|_| {
                let (whole, rest) = pieces.split_at(done.pieces.min(pieces.len()));
                self.unmap_pieces(whole);
                if let Some(next) = rest.first() {
                    let len = done.bytes;
                    self.unmap_pieces(&[DevicePiece { len, ..*next }]);
                }
            })
    }

    fn map_each(&self, pieces: &[DevicePiece], prot: u32, stop: Stop, done: &mut Done) -> Result {
        for piece in pieces {
            while done.bytes < piece.len {
                let iova = piece.iova.wrapping_add(done.bytes as u64);
                let phys = piece.phys.wrapping_add(done.bytes as u64);
                let len = window(iova, piece.len - done.bytes);
                self.map_one(iova, phys, len, prot)?;
                done.bytes += len;
                sched::cond_resched();
                stop.check()?;
            }
            done.pieces += 1;
            done.bytes = 0;
        }
        Ok(())
    }

    /// Maps `len` contiguous bytes; [`sync_pieces`](Self::sync_pieces) must follow. On failure
    /// nothing is mapped.
    fn map_one(&self, iova: u64, phys: u64, len: usize, prot: u32) -> Result {
        if !self.has_pt() || params::disable_hugepages() {
            // Device memory is not the kernel's, so nothing of the kernel's can be overwritten
            // through it, even when it is no longer the device's. Of all other the caller takes
            // care.
            return self.map_run(iova, phys, len, prot);
        }
        let mut done = 0;
        // SAFETY: The domain is alive (type invariant of `Domain`) and `has_pt`. The memory as
        // above.
        to_result(unsafe {
            bindings::vfio_rs_iommu_pt_map(
                self.as_ptr(),
                iova as usize,
                phys,
                len,
                prot as c_int,
                &mut done,
            )
        })
        .inspect_err(|_| {
            self.unmap(iova, done);
        })
    }

    /// Tells the IOMMU what was mapped.
    fn sync_pieces(&self, pieces: &[DevicePiece]) -> Result {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return Ok(());
        };
        if !self.has_pt() || params::disable_hugepages() {
            return Ok(());
        }
        let end = last.iova.wrapping_add(last.len as u64);
        let len = end.wrapping_sub(first.iova) as usize;
        // SAFETY: The domain is alive (type invariant of `Domain`). What others have mapped between
        // pieces may be told again.
        to_result(unsafe {
            bindings::vfio_rs_iommu_sync_map(self.as_ptr(), first.iova as usize, len)
        })
    }

    /// Unmaps what [`map_pieces`](Self::map_pieces) mapped, and waits until no device sees it any
    /// more. May sleep.
    pub(super) fn unmap_pieces(&self, pieces: &[DevicePiece]) {
        let mut left = pieces;
        while let [first, rest @ ..] = left {
            let mut size = 0usize;
            let fits = |piece: &&DevicePiece| {
                size = size.saturating_add(piece.len);
                size <= WINDOW as usize
            };
            let count = left.iter().take(BATCH).take_while(fits).count();
            if count == 0 {
                self.unmap_large(first);
                left = rest;
            } else {
                let (batch, behind) = left.split_at(count);
                let ranges = batch.iter().filter(|piece| piece.len != 0);
                let ranges = ranges.map(|piece| (piece.iova, piece.len));
                self.unmap_each(ranges, &mut |_| {});
                left = behind;
            }
            sched::cond_resched();
        }
    }

    fn unmap_large(&self, piece: &DevicePiece) {
        let mut done = 0usize;
        while done < piece.len {
            let iova = piece.iova.wrapping_add(done as u64);
            let len = window(iova, piece.len - done);
            self.unmap(iova, len);
            done += len;
            sched::cond_resched();
        }
    }
}
