// SPDX-License-Identifier: GPL-2.0

//! An I/O address space that a virtual machine's guest owns: a shadow of its I/O page tables.
//!
//! The user says where a table is, and when the guest has changed it; the rest is done here. The
//! guest's memory is that of the user's process, by KVM's memory slots.
//!
//! | file            | has                                                       |
//! |-----------------|-----------------------------------------------------------|
//! | `machine.rs`    | which virtual machine it is, and whether it is still there |
//! | `bindings.rs`   | `VFIO_KVM_BIND_TABLE` and `UNBIND`                        |
//! | `invalidate.rs` | `VFIO_KVM_INVALIDATE` and `INVALIDATE_MANY`               |
//! | `guest.rs`      | guest memory: what is read, what is pinned                |
//! | `find.rs`       | what a table, or memory without one, maps                 |
//! | `entry.rs`      | parts of what is mapped                                   |
//! | `record.rs`     | what is mapped                                            |
//! | `ledger.rs`     | what a change costs, and what of it could not be          |
//! | `settle.rs`     | the way from one state to the next                        |
//! | `attach.rs`     | groups coming and going                                   |
//! | `info.rs`       | `VFIO_IOMMU_GET_INFO`, and what debugfs shows             |
//!
//! An invalidation looks at memory first and changes then: what it finds is pinned and compared
//! with the record, page by page, and only what differs leaves and enters, all of it together, so
//! that the IOMMU is told once. What did not change stays mapped throughout.
//!
//! Locks: `work`, held by whoever walks or changes, which waits for user memory, so nothing that
//! others need is held by who takes it; then `record`, for look-ups, attaching and detaching;
//! `Machines`, a spinlock. While the record differs from what is mapped it is *unsettled*, and
//! groups wait with their attaching ([`Refused::Busy`]) for `work`.

mod attach;
mod bindings;
mod entry;
mod find;
mod guest;
mod info;
mod invalidate;
mod ledger;
mod machine;
mod record;
mod settle;

use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        lock::mutex::MutexGuard,
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        IommuGroup,
        OwnedSpace,
        Sharing, //
    },
    kvm_slots,
    module_ref::{
        hold,
        ModuleName,
        ModuleRef, //
    },
    mutex::lock_killable,
    uapi,
};

use self::{
    bindings::Bindings,
    machine::Machines,
    record::Record, //
};
use super::{
    p2p::AreaAt,
    Backend,
    GroupMachine,
    Refused, //
};
use crate::uapi::container_nr as nr;

/// See the module's documentation.
#[pin_data]
pub(super) struct Shadow {
    /// Finds memory of devices that are open in what users map.
    area_at: AreaAt,
    space: OwnedSpace,
    #[pin]
    work: Mutex<Bindings>,
    #[pin]
    record: Mutex<Record>,
    #[pin]
    machines: Machines,
    /// Keeps the module of the name from being removed.
    _module: Option<ModuleRef>,
}

/// The extensions that do not depend on a group.
pub(super) fn check_extension(extension: u32) -> bool {
    extension == uapi::VFIO_KVM_IOMMU && kvm_slots::built()
}

impl Shadow {
    /// An empty address space.
    pub(super) fn new(area_at: AreaAt) -> Result<Arc<Self>> {
        let space = OwnedSpace::new()?;
        Arc::pin_init(
            pin_init!(Self {
                area_at,
                space,
                work <- new_mutex!(Bindings::none(), "Shadow::work"),
                record <- new_mutex!(Record::new(), "Shadow::record"),
                machines <- Machines::new(),
                _module: hold(ModuleName::Type1),
            }),
            GFP_KERNEL,
        )
    }

    /// Runs `f` with `work` held, and does what is owed since a machine left.
    ///
    /// # Errors
    ///
    /// What `f` says; `EINTR` if the task is being killed while it waits.
    fn with_work<T>(&self, f: impl FnOnce(&mut Bindings) -> Result<T>) -> Result<T> {
        let mut work = lock_killable(&self.work)?;
        self.sweep(&mut work);
        let result = f(&mut work);
        self.sweep(&mut work);
        drop(work);
        // The machine may have left since, when `work` could not be had.
        self.sweep_if_idle();
        result
    }

    /// Does what is owed since a machine left, unless somebody has `work`, who then will. Waits for
    /// no user memory.
    fn sweep_if_idle(&self) {
        while self.machines.is_owed() {
            let Some(mut work) = self.work.try_lock() else {
                return;
            };
            self.sweep(&mut work);
        }
    }

    /// Ends all bindings if their machine has left.
    fn sweep(&self, work: &mut MutexGuard<'_, Bindings>) {
        if self.machines.take_owed() {
            self.unbind_all(work);
        }
    }
}

impl Backend for Shadow {
    fn check_extension(&self, extension: u32) -> bool {
        match extension {
            uapi::VFIO_DMA_CC_IOMMU => self.space.enforced_coherency(),
            _ => check_extension(extension),
        }
    }

    fn attach_group(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        machine: &GroupMachine,
    ) -> Result<(), Refused> {
        self.attach(owner, sharing, machine)
    }

    fn when_idle(&self, then: &mut dyn FnMut() -> bool) -> Result {
        self.with_work(|_| {
            while then() {}
            Ok(())
        })
    }

    fn detach_group(&self, group: &IommuGroup) {
        self.detach(group);
    }

    fn release(&self) {
        // Nobody is left who could walk, but for a call that still runs: it ends as if the machine
        // had left.
        self.machines.leave();
        self.sweep_if_idle();
    }

    fn kvm_changed(&self) {
        if self.machines.check() {
            self.sweep_if_idle();
        }
    }

    fn show(&self, out: &SeqFile) {
        self.print(out);
    }

    fn ioctl(&self, cmd: u32, arg: UserArg) -> Result<isize> {
        match cmd {
            nr::IOMMU_GET_INFO => self.get_info(arg),
            nr::KVM_BIND_TABLE => self.bind_table(arg),
            nr::KVM_INVALIDATE => self.invalidate(arg),
            nr::KVM_INVALIDATE_MANY => self.invalidate_many(arg),
            nr::KVM_UNBIND => self.unbind(arg),
            // The guest's table says what is mapped.
            nr::IOMMU_MAP_DMA | nr::IOMMU_UNMAP_DMA | nr::IOMMU_DIRTY_PAGES => Err(EOPNOTSUPP),
            _ => Err(ENOTTY),
        }
        .map(|()| 0)
    }
}
