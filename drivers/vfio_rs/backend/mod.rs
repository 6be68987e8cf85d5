// SPDX-License-Identifier: GPL-2.0

//! Backends: what the ioctls of a container mean.
//!
//! [`open`] is the only place that knows which there are. [`p2p`] is memory of devices in I/O
//! address spaces, which the devices take away and give back.

mod kvm;
mod noiommu;
pub(crate) mod p2p;
mod slots;
mod type1;
pub(crate) mod type2;

use kernel::{
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        IommuGroup,
        Sharing, //
    },
    kvm::{
        Kvm,
        KvmId,
        KvmSlot, //
    },
    shared_page::PageMap,
    uapi,
};

use kvm::Shadow;
use noiommu::NoIommu;
use p2p::AreaAt;
use type1::{
    Type1,
    Version, //
};
use type2::Pamu;

/// A kind of I/O address space. All calls may sleep.
pub(crate) trait Backend: Send + Sync {
    /// Whether the backend has an extension, with the groups it has now.
    fn check_extension(&self, extension: u32) -> bool;

    /// Lets a group, which may belong to a virtual machine, see the address space; on failure
    /// nothing has changed.
    fn attach_group(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        machine: &GroupMachine,
    ) -> Result<(), Refused>;

    /// For who was [refused](Refused::Busy): runs `then` when that is over, and does not let it
    /// begin again meanwhile. Runs it once more if it says that it met something busy all the same.
    /// Waits for user memory, so no lock may be held.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed.
    fn when_idle(&self, then: &mut dyn FnMut() -> bool) -> Result {
        then();
        Ok(())
    }

    /// Cuts a group off. Does nothing for a group that was not attached.
    fn detach_group(&self, group: &IommuGroup);

    /// Unmaps and unpins everything; called when the last group was detached. Waits for nobody:
    /// what is just being filled goes with the call that fills it.
    fn release(&self);

    /// Some group belongs to another virtual machine than before, or to none. KVM's mutexes are
    /// held: waits for no user memory.
    fn kvm_changed(&self) {}

    /// Prints what kind it is on a line, then what is mapped, cut if it is too much.
    fn show(&self, out: &SeqFile) {
        seq_print!(out, "no mappings to show\n");
    }

    /// An ioctl that the container does not know.
    fn ioctl(&self, cmd: u32, arg: UserArg) -> Result<isize>;

    /// A device of a group is about to switch MSI or MSI-X on. On failure it does not.
    fn msi_on(&self) -> Result {
        Ok(())
    }

    /// It has switched them off.
    fn msi_off(&self) {}

    /// What shows a bank of MSI registers to the users of a group.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the backend has none.
    fn msi_bank(&self, _group: &IommuGroup, _index: u32) -> Result<Arc<PageMap>> {
        Err(ENODEV)
    }
}

/// Which virtual machine a group belongs to: that of its own file, or else that of the group that
/// it joined.
#[derive(Clone)]
pub(crate) struct GroupMachine {
    own: Arc<KvmSlot>,
    leader: Option<Arc<KvmSlot>>,
}

impl GroupMachine {
    /// For a group with such a file, and one that it joined.
    pub(crate) fn new(own: &Arc<KvmSlot>, leader: Option<&Arc<KvmSlot>>) -> Self {
        Self {
            own: own.clone(),
            leader: leader.cloned(),
        }
    }

    fn files(&self) -> impl Iterator<Item = &KvmSlot> {
        Iterator::chain(core::iter::once(&self.own), &self.leader).map(|file| &**file)
    }

    /// Which one it is now.
    fn id(&self) -> Option<KvmId> {
        self.files().find_map(KvmSlot::id)
    }

    /// The same, with a reference to it.
    fn get(&self) -> Option<Kvm> {
        self.files().find_map(KvmSlot::get)
    }
}

/// Why something cannot be done now.
pub(crate) enum Refused {
    /// Somebody else is at work there, maybe waiting for user memory.
    Busy,
    /// It cannot be at all.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(err: E) -> Self {
        Self::Failed(err.into())
    }
}

/// What keeps the devices of a container from memory that is not their user's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The IOMMU.
    Iommu,
    /// Nothing.
    Missing,
}

/// Whether some backend for devices with this fence has an extension, before one is chosen.
pub(crate) fn check_extension(fence: Fence, extension: u32) -> bool {
    match fence {
        Fence::Iommu => {
            type1::check_extension(extension)
                || type2::check_extension(extension)
                || kvm::check_extension(extension)
        }
        Fence::Missing => noiommu::check_extension(extension),
    }
}

/// Makes the backend that `VFIO_SET_IOMMU` names; `area_at` finds memory of devices that are open.
///
/// # Errors
///
/// `EINVAL` if `kind` names none; `EPERM` if the user may not have it.
pub(crate) fn open(fence: Fence, kind: u32, area_at: AreaAt) -> Result<Arc<dyn Backend>> {
    if fence == Fence::Missing {
        return Ok(NoIommu::new()?);
    }
    let version = match kind {
        uapi::VFIO_TYPE1_IOMMU => Version::V1,
        uapi::VFIO_TYPE1v2_IOMMU => Version::V2,
        uapi::VFIO_PAMU_IOMMU => return Ok(Pamu::new(area_at)?),
        uapi::VFIO_KVM_IOMMU => return Ok(Shadow::new(area_at)?),
        _ => return Err(EINVAL),
    };
    Ok(Type1::new(version, area_at)?)
}
