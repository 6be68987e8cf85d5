// SPDX-License-Identifier: GPL-2.0

//! Virtual machines that files are associated with, `virt/kvm/vfio.c`.
//!
//! KVM is told of a file by its user, by `KVM_DEV_VFIO_FILE_ADD`, and then calls the functions
//! that `rust/helpers/vfio_kvm.c` exports: whether the file is one of ours, whether DMA of its
//! devices always is coherent with the CPU's caches, and that it belongs to a machine now or no
//! longer. KVM holds the file until it has said the latter.
//!
//! Lock: `KvmSlot`, a spinlock. KVM calls with its own mutexes held, so whoever holds a lock that a
//! [`KvmFile`] takes must not let go of a [`Kvm`].

use core::ptr::NonNull;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        SpinLock, //
    },
};
use vfio_bindings as bindings;

use crate::fops::{
    data,
    FileOps,
    FileOpsTable, //
};

/// A reference to a virtual machine. Giving it back may sleep, and take KVM's locks.
///
/// # Invariants
///
/// The pointer is to a `struct kvm` to which this has a reference, and one to the module that can
/// give that back.
pub struct Kvm(NonNull<c_void>);

// SAFETY: The reference count (type invariant) is atomic, and nothing else of the struct is used.
unsafe impl Send for Kvm {}
// SAFETY: As above.
unsafe impl Sync for Kvm {}

/// Which machine one is, as long as it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvmId(usize);

impl Kvm {
    /// Which one it is.
    pub fn id(&self) -> KvmId {
        KvmId(self.0.as_ptr() as usize)
    }

    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Drop for Kvm {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, which ends here.
        unsafe { bindings::vfio_rs_kvm_put(self.0.as_ptr()) }
    }
}

/// Which machine a file belongs to, if any. Holds no reference.
#[pin_data]
pub struct KvmSlot {
    #[pin]
    kvm: SpinLock<Pointer>,
}

/// Names a machine.
///
/// # Invariants
///
/// Null, or to a `struct kvm` that is there until KVM has put null in this one's place, where it is
/// in a [`KvmSlot`] under the lock of that.
struct Pointer(*mut c_void);

// SAFETY: The pointer is only passed to functions that any thread may call.
unsafe impl Send for Pointer {}

impl KvmSlot {
    /// For a file that belongs to no machine yet.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: Null.
        pin_init!(Self {
            kvm <- new_spinlock!(Pointer(core::ptr::null_mut()), "KvmSlot"),
        })
    }

    /// Whether the file belongs to a machine.
    pub fn is_set(&self) -> bool {
        !self.kvm.lock().0.is_null()
    }

    /// Which machine the file belongs to.
    pub fn id(&self) -> Option<KvmId> {
        NonNull::new(self.kvm.lock().0).map(|kvm| KvmId(kvm.as_ptr() as usize))
    }

    /// Whether both files belong to the same machine, or neither to one.
    pub fn same_as(&self, other: &Self) -> bool {
        let other = other.kvm.lock().0;
        core::ptr::eq(self.kvm.lock().0, other)
    }

    /// The machine, unless it is going.
    pub fn get(&self) -> Option<Kvm> {
        let kvm = self.kvm.lock();
        let pointer = NonNull::new(kvm.0)?;
        // SAFETY: By the invariant of `Pointer` the machine is there while the lock is held.
        let got = unsafe { bindings::vfio_rs_kvm_get_safe(pointer.as_ptr()) };
        // INVARIANT: The call took both references.
        got.then_some(Kvm(pointer))
    }
}

/// A file that can belong to a virtual machine.
pub trait KvmFile {
    /// Where the machine is kept.
    fn kvm(&self) -> &KvmSlot;

    /// Whether the IOMMU keeps all DMA of the file's devices coherent with the CPU's caches, even
    /// where a device asks for less. If not, the machine must honour cache flushes.
    fn enforced_coherent(&self) -> bool;

    /// The machine is another one, or none, since a moment ago. KVM's mutexes are held.
    fn kvm_changed(&self);
}

/// How to serve KVM for files of one table.
///
/// # Invariants
///
/// `fops` are the operations of a table for files whose data are of the type that both functions
/// are for.
pub struct KvmKind {
    fops: *const bindings::file_operations,
    /// To be called with files of that table.
    enforced_coherent: unsafe fn(*mut bindings::file) -> bool,
    /// As above.
    set_kvm: unsafe fn(*mut bindings::file, Pointer),
}

// SAFETY: Nothing behind the pointers is ever written.
unsafe impl Sync for KvmKind {}

impl KvmKind {
    /// For the files of `table`.
    pub const fn of<T: KvmFile + FileOps, K>(table: &'static FileOpsTable<T, K>) -> Self {
        // INVARIANT: All three are of `T`.
        Self {
            fops: table.as_ptr(),
            enforced_coherent: enforced_coherent::<T>,
            set_kvm: set_kvm::<T>,
        }
    }
}

/// # Safety
///
/// The file must be open and served by a table of `T`.
unsafe fn enforced_coherent<T: KvmFile + FileOps>(file: *mut bindings::file) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { data::<T>(file) }.enforced_coherent()
}

/// # Safety
///
/// The file must be open and served by a table of `T`.
unsafe fn set_kvm<T: KvmFile + FileOps>(file: *mut bindings::file, kvm: Pointer) {
    // SAFETY: By the contract of this function.
    let file = unsafe { data::<T>(file) };
    *file.kvm().kvm.lock() = kvm;
    file.kvm_changed();
}

/// The kinds of files that KVM may be told of.
pub struct Kinds(pub &'static [KvmKind]);

/// Null, or what [`serve`] was given.
static KINDS: Atomic<*const Kinds> = Atomic::new(core::ptr::null());

/// Lets KVM know files of `kinds`; before the first one is opened.
pub fn serve(kinds: &'static Kinds) {
    KINDS.store(kinds, Release);
}

/// The kind of a file, if it is one of ours.
///
/// # Safety
///
/// `file` must be open.
unsafe fn kind_of(file: *mut bindings::file) -> Option<&'static KvmKind> {
    // SAFETY: Null, or a reference that `serve` stored, which is good for ever.
    let kinds = unsafe { KINDS.load(Acquire).as_ref() }?;
    // SAFETY: By the contract of this function; `f_op` does not change.
    let fops = unsafe { (*file).f_op };
    kinds.0.iter().find(|kind| core::ptr::eq(kind.fops, fops))
}

/// `vfio_file_is_valid()`.
///
/// # Safety
///
/// `file` must be open.
#[no_mangle]
unsafe extern "C" fn vfio_rs_file_is_valid(file: *mut bindings::file) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { kind_of(file) }.is_some()
}

/// `vfio_file_enforced_coherent()`; true for a file that is not ours, as in C.
///
/// # Safety
///
/// `file` must be open.
#[no_mangle]
unsafe extern "C" fn vfio_rs_file_enforced_coherent(file: *mut bindings::file) -> bool {
    // SAFETY: By the contract of this function; the functions of a kind may be called with files of
    // its `fops` (invariant of `KvmKind`), and this is one.
    unsafe { kind_of(file).is_none_or(|kind| (kind.enforced_coherent)(file)) }
}

/// `vfio_file_set_kvm()`.
///
/// # Safety
///
/// `file` must be open. `kvm` must be null, or a machine that lives until the next call with this
/// file has returned.
#[no_mangle]
unsafe extern "C" fn vfio_rs_file_set_kvm(file: *mut bindings::file, kvm: *mut c_void) {
    // SAFETY: By the contract of this function; the functions of a kind may be called with files of
    // its `fops` (invariant of `KvmKind`), and this is one.
    unsafe {
        if let Some(kind) = kind_of(file) {
            // INVARIANT: By the contract of this function.
            (kind.set_kvm)(file, Pointer(kvm));
        }
    }
}
