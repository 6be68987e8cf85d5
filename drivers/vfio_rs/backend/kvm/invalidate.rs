// SPDX-License-Identifier: GPL-2.0

//! `VFIO_KVM_INVALIDATE` and `VFIO_KVM_INVALIDATE_MANY`.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    locked_vm::Tenant,
    uapi,
    user_sized, //
};

use super::{
    bindings::{
        Binding,
        Bindings,
        Source, //
    },
    find::{
        Finder,
        WalkMode, //
    },
    guest::GuestMemory,
    ledger::Ledger,
    Shadow, //
};
use crate::{
    iova::{
        nested::{
            diff,
            walk::walk, //
        },
        IovaRange,
    },
    uapi::row, //
};

/// Ranges of one call.
const MOST_RANGES: u32 = 4096;
/// How often a walk is begun anew because something changed that it goes by.
const TRIES: usize = 8;
/// Addresses and sizes are multiples of it.
const PAGE: u64 = 4096;

/// Walks of one binding that are settled together.
pub(super) struct TableWalk<'a> {
    shadow: &'a Shadow,
    kvm: &'a vfio_kernel::kvm::Kvm,
    binding: &'a mut Binding,
    ledger: Ledger,
    /// What was taken over.
    ranges: KVVec<IovaRange>,
}

impl<'a> TableWalk<'a> {
    /// Nothing yet, of the binding number `at`.
    pub(super) fn new(shadow: &'a Shadow, bindings: &'a mut Bindings, at: usize) -> Result<Self> {
        let bound = bindings.bound.as_ref().ok_or(ENODEV)?;
        let tenant: Arc<Tenant> = bound.tenant.clone();
        Ok(Self {
            shadow,
            kvm: &bound.kvm,
            binding: bindings.all.get_mut(at).ok_or(ENOENT)?,
            ledger: Ledger::new(tenant)?,
            ranges: KVVec::new(),
        })
    }

    /// Walks all of the binding.
    pub(super) fn all(&mut self, mode: WalkMode, res: &mut uapi::vfio_kvm_walk_result) -> Result {
        self.range(None, mode, res)
    }

    /// Walks a range, or all.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the machine has left; `EAGAIN` if memory slots or groups change all the time;
    /// `ENOMEM`, `EINTR`, `EOPNOTSUPP`; in strict mode what is wrong with the first bad entry. Then
    /// the range shows what it did before.
    fn range(
        &mut self,
        range: Option<IovaRange>,
        mode: WalkMode,
        res: &mut uapi::vfio_kvm_walk_result,
    ) -> Result {
        let mut result = Err(EAGAIN);
        for _ in 0..TRIES {
            self.shadow.machines.check_bound()?;
            result = self.try_range(range, mode, res);
            if result != Err(EAGAIN) {
                break;
            }
        }
        if result.is_err() {
            (res.mapped, res.done) = (0, 0);
        }
        self.binding.last = *res;
        let faults = u64::from(res.fault_count);
        self.binding.faults = self.binding.faults.saturating_add(faults);
        result
    }

    fn try_range(
        &mut self,
        range: Option<IovaRange>,
        mode: WalkMode,
        res: &mut uapi::vfio_kvm_walk_result,
    ) -> Result {
        let window = self.binding.window;
        let guest = GuestMemory::new(self.kvm);
        let generation = guest.generation();
        let record = self.shadow.record.lock();
        let attached = record.attached;
        let asked = range.unwrap_or(window);
        let widened = diff::widened(&record.map, asked);
        let count = record.allowed.as_ref().map_or(0, |all| all.ranges().len());
        drop(record);
        let asked = widened.intersection(&window).unwrap_or(asked);
        let mut allowed = KVec::with_capacity(count, GFP_KERNEL)?;
        let record = self.shadow.record.lock();
        for range in record.allowed.iter().flat_map(|all| all.ranges()) {
            allowed.push_within_capacity(*range).map_err(|_| EAGAIN)?;
        }
        drop(record);

        let mut finder = Finder::new(self.shadow, guest, window, asked, &allowed, mode);
        let mut slots = KVVec::new();
        let found = match &self.binding.source {
            Source::Table(format, root) => walk(format, *root, asked, &mut finder),
            Source::Slots(access, known) => {
                slots = GuestMemory::new(self.kvm).slots(window.last())?;
                // Of a part all pages are looked at.
                let known: &[_] = if range.is_none() { known } else { &[] };
                finder.find_slots(&slots, known, *access, asked)
            }
        };
        let found = found.and_then(|()| finder.finish());
        *res = finder.result;
        found?;
        if finder.generation() != generation {
            return Err(EAGAIN);
        }
        let walked = finder.walked;
        let found = core::mem::replace(&mut finder.found, KVVec::new());
        self.ranges.reserve(1, user_sized::gfp())?;
        self.shadow
            .take_over(&mut self.ledger, walked, attached, found)?;
        self.ranges.push(walked, user_sized::gfp())?;
        if range.is_none() {
            self.binding.generation = generation;
            if let Source::Slots(_, known) = &mut self.binding.source {
                *known = slots;
            }
        }
        Ok(())
    }

    /// Has devices see what was found. `res` is that of the last walk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the IOMMU driver says, if something could not be mapped; it is not mapped
    /// then.
    pub(super) fn settle(&mut self, res: &mut uapi::vfio_kvm_walk_result) -> Result {
        self.shadow.settle(&mut self.ledger, &self.ranges);
        if let Some((iova, count)) = self.ledger.silent.take() {
            if res.fault_count == 0 {
                res.fault_iova = iova;
                res.fault_gpa = 0;
                res.fault_reason = crate::iova::nested::format::Reason::NotPinned as u16;
                res.fault_level = 1;
            }
            res.fault_count = res.fault_count.saturating_add(count);
        }
        match self.ledger.refused.take() {
            None => Ok(()),
            Some((_, err)) => {
                // What the record of memory slots says may not be there.
                if let Source::Slots(_, known) = &mut self.binding.source {
                    known.clear();
                }
                Err(err)
            }
        }
    }
}

impl Shadow {
    /// The binding with a number, for the caller, whose machine it must be.
    fn bound(&self, bindings: &Bindings, id: u32) -> Result<usize> {
        if self.machines.has_left() {
            return Err(ENODEV);
        }
        match &bindings.bound {
            Some(bound) if !bound.kvm.is_current() => return Err(EIO),
            None if !self.machines.has_any() => return Err(ENODEV),
            _ => {}
        }
        bindings.position(id).ok_or(ENOENT)
    }

    /// `VFIO_KVM_INVALIDATE`.
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (struct, flags, not aligned, no bytes), `EINTR`, `ENODEV`
    /// (no machine), `EIO` (not the caller's, or dead), `ENOENT`, `EINVAL` (not in the binding),
    /// those of [`TableWalk::range`], and `EFAULT` if the answer cannot be written.
    pub(super) fn invalidate(&self, arg: UserArg) -> Result {
        let mut user: uapi::vfio_kvm_invalidate = row::read(arg)?;
        user.res = uapi::vfio_kvm_walk_result::default();
        let range = match user.flags & uapi::VFIO_KVM_INV_ALL {
            0 => Some(range_of(user.iova, user.size)?),
            _ if user.iova != 0 || user.size != 0 => return Err(EINVAL),
            _ => None,
        };
        let mode = match user.flags & uapi::VFIO_KVM_INV_STRICT {
            0 => WalkMode::Lenient,
            _ => WalkMode::Strict,
        };
        let result = self.with_work(|bindings| {
            let at = self.bound(bindings, user.bind_id)?;
            let mut walk = TableWalk::new(self, bindings, at)?;
            if range.is_some_and(|range| !walk.binding.window.contains(&range)) {
                return Err(EINVAL);
            }
            let result = walk.range(range, mode, &mut user.res);
            let start = range.unwrap_or(walk.binding.window).start();
            let refused = walk.settle_from(start, &mut user.res);
            result.and(refused)
        });
        let written = arg.write_prefix(&user, size_of_val(&user));
        result.and(written)
    }

    /// `VFIO_KVM_INVALIDATE_MANY`: one range after the other; what fails ends it, with the results
    /// so far written.
    ///
    /// # Errors
    ///
    /// Those of [`invalidate`](Self::invalidate); `EINVAL` for no ranges, or more than 4096.
    pub(super) fn invalidate_many(&self, arg: UserArg) -> Result {
        let user: uapi::vfio_kvm_invalidate_many = row::read(arg)?;
        if !(1..=MOST_RANGES).contains(&user.count) {
            return Err(EINVAL);
        }
        let array = UserArg::new(usize::try_from(user.ranges).map_err(|_| EFAULT)?);
        let mut ranges = KVVec::with_capacity(user.count as usize, user_sized::gfp())?;
        for number in 0..user.count {
            let at = array.at(element(number));
            let range: uapi::vfio_kvm_inv_range = at.read_min(ELEMENT)?;
            ranges.push(range, user_sized::gfp())?;
        }
        let mut done = 0usize;
        let result = self.with_work(|bindings| {
            let at = self.bound(bindings, user.bind_id)?;
            let mut walk = TableWalk::new(self, bindings, at)?;
            let mut res = uapi::vfio_kvm_walk_result::default();
            let mut result = Ok(());
            for element in ranges.iter_mut() {
                res = uapi::vfio_kvm_walk_result::default();
                result = walk.element(element, &mut res);
                element.mapped = res.mapped;
                element.done = res.done;
                element.fault_count = res.fault_count;
                element.fault_reason = res.fault_reason;
                if result.is_err() {
                    break;
                }
                done = done.saturating_add(1);
            }
            result.and(walk.settle(&mut res))
        });
        let mut written = Ok(());
        for (number, range) in (0..).zip(ranges.iter().take(done)) {
            let at = array.at(element(number));
            written = written.and(at.write_prefix(range, ELEMENT));
        }
        result.and(written)
    }
}

impl TableWalk<'_> {
    fn element(
        &mut self,
        element: &uapi::vfio_kvm_inv_range,
        res: &mut uapi::vfio_kvm_walk_result,
    ) -> Result {
        if element.__reserved != 0 {
            return Err(EINVAL);
        }
        let range = range_of(element.iova, element.size)?;
        if !self.binding.window.contains(&range) {
            return Err(EINVAL);
        }
        self.range(Some(range), WalkMode::Lenient, res)
    }

    /// As [`settle`](Self::settle), for the only walk, which began at `start`.
    fn settle_from(&mut self, start: u64, res: &mut uapi::vfio_kvm_walk_result) -> Result {
        let refused = {
            self.shadow.settle(&mut self.ledger, &self.ranges);
            self.ledger.refused
        };
        if let Some((iova, _)) = refused {
            res.done = iova.saturating_sub(start);
        }
        self.settle(res)
    }
}

/// Bytes of an element.
const ELEMENT: usize = size_of::<uapi::vfio_kvm_inv_range>();

/// Where an element is in its array.
fn element(number: u32) -> usize {
    (number as usize).wrapping_mul(ELEMENT)
}

/// A range that a user asks for.
fn range_of(iova: u64, size: u64) -> Result<IovaRange> {
    let range = IovaRange::from_size(iova, size).map_err(|_| EINVAL)?;
    if !range.is_aligned(PAGE) {
        return Err(EINVAL);
    }
    Ok(range)
}
