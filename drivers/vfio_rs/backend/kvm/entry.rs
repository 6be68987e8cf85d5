// SPDX-License-Identifier: GPL-2.0

//! Parts of the record: what a guest's table has at adjacent I/O addresses.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};
use vfio_kernel::iommu::{
    Prot,
    Replay,
    ShadowExtent,
    ShadowPages, //
};

use crate::{
    backend::p2p::{
        BarMapping,
        BarPart, //
    },
    iova::{
        nested::diff::{
            Compared,
            Extent,
            Pages,
            Unit, //
        },
        IovaRange,
        Starts, //
    },
};

/// A part of the record.
pub(super) enum Entry {
    /// Pinned and mapped.
    Mapped(ShadowExtent),
    Other(New),
}

/// What is not mapped yet, or is a device's.
pub(super) struct New(pub(super) KBox<OtherExtent>);

/// See [`New`].
pub(super) struct OtherExtent {
    start: u64,
    pub(super) what: What,
}

/// What of that there is.
pub(super) enum What {
    /// Pinned, to be mapped.
    Pages(ShadowPages),
    /// A part of a BAR; to be mapped if it is not.
    Bar {
        part: BarPart,
        prot: Prot,
        mapping: Option<BarMapping>,
    },
    /// It is somewhere else for a moment.
    Taken,
}

impl New {
    /// Pages for the I/O address `start` on.
    pub(super) fn pages(start: u64, pages: ShadowPages) -> Result<Self> {
        Self::with(start, What::Pages(pages))
    }

    /// A part of a BAR.
    pub(super) fn bar(start: u64, part: BarPart, prot: Prot) -> Result<Self> {
        let mapping = None;
        Self::with(
            start,
            What::Bar {
                part,
                prot,
                mapping,
            },
        )
    }

    pub(super) fn with(start: u64, what: What) -> Result<Self> {
        Ok(Self(KBox::new(
            OtherExtent { start, what },
            GFP_KERNEL_ACCOUNT,
        )?))
    }

    /// How many pages that are paid for.
    pub(super) fn pinned(&self) -> usize {
        match &self.0.what {
            What::Pages(pages) => pages.npages(),
            What::Bar { .. } | What::Taken => 0,
        }
    }

    pub(super) fn unit(&self) -> Unit {
        match &self.0.what {
            What::Pages(pages) => Unit::Bytes(pages.largest().bytes() as u64),
            What::Bar { .. } | What::Taken => Unit::Whole,
        }
    }
}

impl Pages for New {
    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        let OtherExtent { start, what } = &mut *self.0;
        let What::Pages(pages) = what else {
            return Err(EINVAL);
        };
        // The box first: what was cut off cannot be put back.
        let mut front = Self::with(*start, What::Taken)?;
        front.0.what = What::Pages(pages.cut_front(npages)?);
        *start = start.wrapping_add((npages as u64) << PAGE_SHIFT);
        Ok(front)
    }
}

impl Starts for Entry {
    fn start(&self) -> u64 {
        match self {
            Self::Mapped(extent) => extent.iova(),
            Self::Other(other) => other.0.start,
        }
    }
}

impl Extent for Entry {
    type New = New;

    fn unit(&self) -> Unit {
        match self {
            Self::Mapped(extent) => Unit::Bytes(extent.largest().bytes() as u64),
            Self::Other(other) => other.unit(),
        }
    }

    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        match self {
            Self::Mapped(extent) => extent.cut_front(npages).map(Self::Mapped),
            Self::Other(other) => other.cut_front(npages).map(Self::Other),
        }
    }

    fn compare(&self, at: usize, new: &New, new_at: usize, most: usize) -> Compared {
        let compared = match (self, &new.0.what) {
            (Self::Mapped(extent), What::Pages(pages)) => extent.compare(at, pages, new_at, most),
            (Self::Other(New(other)), new) => match (&other.what, new) {
                (What::Pages(old), What::Pages(new)) => old.compare(at, new, new_at, most),
                (
                    What::Bar { part, prot, .. },
                    What::Bar {
                        part: new,
                        prot: new_prot,
                        ..
                    },
                ) => {
                    let whole = (at, new_at, most) == (0, 0, new.len() >> PAGE_SHIFT);
                    (whole && prot == new_prot && part.is_same(new), most)
                }
                _ => (false, most),
            },
            _ => (false, most),
        };
        match compared {
            (true, count) => Compared::Same(count),
            (false, count) => Compared::Other(count),
        }
    }
}

impl Entry {
    /// Maps pinned pages in a new domain too; all is settled.
    pub(super) fn replay(&self, replay: &Replay<'_>) -> Result {
        match self {
            Self::Mapped(extent) => replay.add_extent(extent),
            Self::Other(_) => Ok(()),
        }
    }

    /// Maps the rest in domains that came since.
    pub(super) fn refill(&self) -> Result {
        match self {
            Self::Mapped(_) => Ok(()),
            Self::Other(New(other)) => match &other.what {
                What::Bar { mapping, .. } => {
                    let mapping = mapping.as_ref();
                    mapping.map_or(Ok(()), |mapping| mapping.mapping().refill())
                }
                What::Pages(_) | What::Taken => Ok(()),
            },
        }
    }

    /// What it is, for debugfs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Mapped(_) => "memory",
            Self::Other(New(other)) => match &other.what {
                What::Bar { .. } => "memory of a device",
                What::Pages(_) | What::Taken => "memory, not yet",
            },
        }
    }

    /// How many pages that are paid for.
    pub(super) fn pinned(&self) -> usize {
        match self {
            Self::Mapped(extent) => extent.npages(),
            Self::Other(other) => other.pinned(),
        }
    }
}

/// How many entries of a guest's table `range` is, at least.
pub(super) fn entries(unit: Unit, range: IovaRange) -> u64 {
    match unit {
        Unit::Bytes(unit) => {
            let shift = unit.trailing_zeros();
            let number = |iova: u64| iova.checked_shr(shift).unwrap_or(0);
            number(range.last())
                .wrapping_sub(number(range.start()))
                .saturating_add(1)
        }
        Unit::Whole => 1,
    }
}
