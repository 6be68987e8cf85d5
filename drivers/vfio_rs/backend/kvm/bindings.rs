// SPDX-License-Identifier: GPL-2.0

//! `VFIO_KVM_BIND_TABLE` and `VFIO_KVM_UNBIND`.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    kvm::Kvm,
    kvm_slots::MemSlot,
    locked_vm::Tenant,
    uapi,
    user_sized, //
};

use super::{
    find::WalkMode,
    invalidate::TableWalk,
    Shadow, //
};
use crate::{
    iova::{
        nested::{
            format::{
                self,
                EntryAccess,
                Format, //
            },
            walk::Root, //
        },
        IovaRange,
    },
    uapi::row, //
};

/// Bindings that there can be.
const MOST: usize = 16;
/// Addresses and sizes are multiples of it.
const PAGE: u64 = 4096;

/// What a window of the address space shows.
pub(super) enum Source {
    /// What a guest's table says.
    Table(&'static Format, Root),
    /// All memory slots, as they were when all of them were looked at last.
    Slots(EntryAccess, KVVec<MemSlot>),
}

/// A window of the address space.
pub(super) struct Binding {
    pub(super) id: u32,
    /// The format's number, 0 for memory slots.
    pub(super) format: u32,
    pub(super) window: IovaRange,
    pub(super) source: Source,
    /// The memory slots' generation when all of it was walked last.
    pub(super) generation: u64,
    /// What was found last, and how many bad entries so far.
    pub(super) last: uapi::vfio_kvm_walk_result,
    pub(super) faults: u64,
}

/// Whose guest's memory it is.
pub(super) struct BoundMachine {
    pub(super) kvm: Kvm,
    /// The machine's process.
    pub(super) tenant: Arc<Tenant>,
}

/// All bindings of an address space.
pub(super) struct Bindings {
    pub(super) bound: Option<BoundMachine>,
    pub(super) all: KVec<Binding>,
    /// How many there have been.
    count: u32,
}

impl Bindings {
    pub(super) fn none() -> Self {
        Self {
            bound: None,
            all: KVec::new(),
            count: 0,
        }
    }

    /// Which one has a number.
    pub(super) fn position(&self, id: u32) -> Option<usize> {
        self.all.iter().position(|binding| binding.id == id)
    }
}

/// What `VFIO_KVM_BIND_TABLE` asks for.
struct BindRequest {
    format: u32,
    window: IovaRange,
    source: Source,
    mode: WalkMode,
}

impl BindRequest {
    fn new(user: &uapi::vfio_kvm_bind_table) -> Result<Self> {
        let has = |flag| user.flags & flag != 0;
        let mut access = EntryAccess::ALL;
        access.write = !has(uapi::VFIO_KVM_BIND_READONLY);
        let gpa_bits = match user.gpa_bits {
            0 => 52,
            bits @ 32..=52 => bits,
            _ => return Err(EINVAL),
        };
        let window = IovaRange::from_last(user.iova_start, user.iova_last).ok_or(EINVAL)?;
        if !window.is_aligned(PAGE) {
            return Err(EINVAL);
        }
        let source = if has(uapi::VFIO_KVM_BIND_IDENTITY) {
            if user.format != 0 || user.root_gpa != 0 {
                return Err(EINVAL);
            }
            Source::Slots(access, KVVec::new())
        } else {
            let format = format_of(user.format).ok_or(EINVAL)?;
            let gpa = user.root_gpa;
            let beyond = gpa.checked_shr(gpa_bits).unwrap_or(0) != 0;
            let misaligned = gpa & format.root_align.wrapping_sub(1) != 0;
            if misaligned || beyond || window.last() > format.last {
                return Err(EINVAL);
            }
            let root = Root {
                gpa,
                gpa_bits,
                access,
            };
            Source::Table(format, root)
        };
        Ok(Self {
            format: user.format,
            window,
            source,
            mode: match has(uapi::VFIO_KVM_BIND_STRICT) {
                true => WalkMode::Strict,
                false => WalkMode::Lenient,
            },
        })
    }
}

/// The formats, by their numbers.
fn format_of(number: u32) -> Option<&'static Format> {
    Some(match number {
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_VTD_SS4 => &format::SS4,
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_VTD_SS3 => &format::SS3,
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_ZPCI_ST => &format::ZPCI_ST,
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_ZPCI_RT => &format::ZPCI_RT,
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_ZPCI_RS => &format::ZPCI_RS,
        uapi::vfio_kvm_table_format_VFIO_KVM_FMT_ZPCI_RF => &format::ZPCI_RF,
        _ => return None,
    })
}

/// A bit for each format, bit 0 for memory slots.
pub(super) fn formats() -> u32 {
    let known = |number: &u32| *number == 0 || format_of(*number).is_some();
    (0..u32::BITS)
        .filter(known)
        .fold(0, |all, number| all | 1u32.wrapping_shl(number))
}

impl Shadow {
    /// `VFIO_KVM_BIND_TABLE`.
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (struct, flags, format, alignment, window), `EINTR`,
    /// `ENODEV` (no machine), `EXDEV` (several), `EIO` (not the caller's, or dead), `EINVAL` (the
    /// window is not translated), `ENOSPC` (too many), `EEXIST` (overlaps); those of a walk:
    /// `ENOMEM` (also: locked memory, entries), `EAGAIN`, `EINTR`, `EOPNOTSUPP`, `ENODEV` (the
    /// machine left); with `VFIO_KVM_BIND_STRICT` `EFAULT`, `EPERM`, `EINVAL`; and `EFAULT` if the
    /// answer cannot be written. Then nothing is bound.
    pub(super) fn bind_table(&self, arg: UserArg) -> Result {
        let mut user: uapi::vfio_kvm_bind_table = row::read(arg)?;
        user.bind_id = 0;
        user.res = uapi::vfio_kvm_walk_result::default();
        let request = BindRequest::new(&user)?;
        self.with_work(|bindings| {
            let (id, result) = self.bind(bindings, request, &mut user.res);
            user.bind_id = id;
            let written = arg.write_prefix(&user, size_of_val(&user));
            if result.is_ok() && written.is_err() {
                self.unbind_one(bindings, id);
            }
            result.and(written)
        })
    }

    /// Binds; returns the number of the binding, 0 if there is none.
    fn bind(
        &self,
        bindings: &mut Bindings,
        request: BindRequest,
        res: &mut uapi::vfio_kvm_walk_result,
    ) -> (u32, Result) {
        let added = self.add_binding(bindings, request);
        if bindings.all.is_empty() {
            self.let_go(bindings);
        }
        let (at, id, mode) = match added {
            Ok(added) => added,
            Err(err) => return (0, Err(err)),
        };
        let result = TableWalk::new(self, bindings, at).and_then(|mut walk| {
            let result = walk.all(mode, res);
            result.and(walk.settle(res))
        });
        if result.is_err() {
            self.unbind_one(bindings, id);
            return (0, result);
        }
        (id, result)
    }

    /// Adds a binding that shows nothing yet; returns where it is, and its number.
    fn add_binding(
        &self,
        bindings: &mut Bindings,
        request: BindRequest,
    ) -> Result<(usize, u32, WalkMode)> {
        let kvm = self.machines.bind()?;
        if !kvm.is_current() {
            return Err(EIO);
        }
        let window = request.window;
        if !self.translates(window)? {
            return Err(EINVAL);
        }
        if bindings.all.len() >= MOST {
            return Err(ENOSPC);
        }
        let mut all = bindings.all.iter();
        if all.any(|binding| binding.window.overlaps(&window)) {
            return Err(EEXIST);
        }
        bindings.all.reserve(1, user_sized::gfp())?;
        if bindings.bound.is_none() {
            let tenant = Tenant::current(&self.space)?;
            bindings.bound = Some(BoundMachine { kvm, tenant });
        }
        bindings.count = bindings.count.wrapping_add(1).max(1);
        let binding = Binding {
            id: bindings.count,
            format: request.format,
            window,
            source: request.source,
            generation: 0,
            last: uapi::vfio_kvm_walk_result::default(),
            faults: 0,
        };
        let at = bindings.all.len();
        bindings.all.push(binding, user_sized::gfp())?;
        Ok((at, bindings.count, request.mode))
    }

    /// `VFIO_KVM_UNBIND`.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL` (struct), `EINTR`, `ENODEV` if the machine left, `ENOENT` for a number
    /// that names none.
    pub(super) fn unbind(&self, arg: UserArg) -> Result {
        let user: uapi::vfio_kvm_unbind = row::read(arg)?;
        self.with_work(|bindings| {
            if self.machines.has_left() {
                return Err(ENODEV);
            }
            bindings.position(user.bind_id).ok_or(ENOENT)?;
            self.unbind_one(bindings, user.bind_id);
            Ok(())
        })
    }

    /// Takes a binding out, and all that it shows.
    fn unbind_one(&self, bindings: &mut Bindings, id: u32) {
        let at = bindings.position(id);
        let Some(binding) = at.and_then(|at| bindings.all.remove(at).ok()) else {
            return;
        };
        self.clear(binding.window);
        if bindings.all.is_empty() {
            self.let_go(bindings);
        }
    }

    /// Takes all bindings out; waits for no user memory.
    pub(super) fn unbind_all(&self, bindings: &mut Bindings) {
        bindings.all.clear();
        self.drop_leaving();
        self.clear(IovaRange::ALL);
        bindings.bound = None;
    }

    /// There is no binding any more.
    fn let_go(&self, bindings: &mut Bindings) {
        self.machines.unbind();
        bindings.bound = None;
    }
}
