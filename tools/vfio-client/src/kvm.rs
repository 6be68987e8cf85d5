// SPDX-License-Identifier: GPL-2.0
//! As much of KVM as knows about VFIO: machines, and their VFIO device that is told of groups.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use crate::bindings::*;
use crate::sys;

/// What the VFIO device is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// KVM_DEV_VFIO_FILE_ADD.
    Add = KVM_DEV_VFIO_FILE_ADD as isize,
    /// KVM_DEV_VFIO_FILE_DEL.
    Del = KVM_DEV_VFIO_FILE_DEL as isize,
}

fn owned(fd: i32) -> File {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { File::from_raw_fd(fd) }
}

/// A virtual machine without CPUs.
#[derive(Debug)]
pub struct Vm(File);

impl Vm {
    /// KVM_CREATE_VM.
    ///
    /// # Errors
    /// ENOENT if there is no KVM.
    pub fn new() -> io::Result<Self> {
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
        sys::raw(kvm.as_raw_fd(), KVM_CREATE_VM, 0).map(|fd| Self(owned(fd)))
    }

    /// KVM_SET_USER_MEMORY_REGION: guest address, address of this process, bytes (0 takes the slot
    /// away) and `KVM_MEM_*`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_slot(
        &self,
        slot: u32,
        flags: u32,
        gpa: u64,
        vaddr: u64,
        size: u64,
    ) -> io::Result<()> {
        let mut region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: gpa,
            memory_size: size,
            userspace_addr: vaddr,
        };
        sys::with_struct(&self.0, KVM_SET_USER_MEMORY_REGION, &mut region).map(drop)
    }

    /// KVM_CREATE_IRQCHIP.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn create_irqchip(&self) -> io::Result<()> {
        sys::raw(self.0.as_raw_fd(), KVM_CREATE_IRQCHIP, 0).map(drop)
    }

    fn irqfd(&self, mut irqfd: kvm_irqfd) -> io::Result<()> {
        sys::raw(
            self.0.as_raw_fd(),
            KVM_IRQFD,
            std::ptr::from_mut(&mut irqfd) as usize,
        )
        .map(drop)
    }

    /// KVM_IRQFD: an interrupt of the machine at each signal of `fd`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn add_irqfd(&self, fd: RawFd, gsi: u32) -> io::Result<()> {
        self.irqfd(kvm_irqfd {
            fd: fd as u32,
            gsi,
            ..Default::default()
        })
    }

    /// Undoes [`Vm::add_irqfd`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn remove_irqfd(&self, fd: RawFd, gsi: u32) -> io::Result<()> {
        self.irqfd(kvm_irqfd {
            fd: fd as u32,
            gsi,
            flags: KVM_IRQFD_FLAG_DEASSIGN,
            ..Default::default()
        })
    }

    /// KVM_CREATE_DEVICE of the VFIO device.
    ///
    /// # Errors
    /// EBUSY if the machine has one.
    pub fn vfio(&self) -> io::Result<KvmVfio> {
        let mut device = kvm_create_device {
            type_: KVM_DEV_TYPE_VFIO,
            fd: 0,
            flags: 0,
        };
        sys::raw(
            self.0.as_raw_fd(),
            KVM_CREATE_DEVICE,
            std::ptr::from_mut(&mut device) as usize,
        )?;
        Ok(KvmVfio(owned(device.fd as i32)))
    }
}

/// The VFIO device of a [`Vm`].
#[derive(Debug)]
pub struct KvmVfio(File);

impl KvmVfio {
    /// Tells KVM about the VFIO file `fd`.
    ///
    /// # Errors
    /// EINVAL for a file that is not VFIO's, EEXIST, ENOENT, EBADF.
    pub fn file(&self, action: FileAction, fd: RawFd) -> io::Result<()> {
        let mut attr = kvm_device_attr {
            flags: 0,
            group: KVM_DEV_VFIO_FILE,
            attr: action as u64,
            addr: std::ptr::from_ref(&fd) as u64,
        };
        sys::raw(
            self.0.as_raw_fd(),
            KVM_SET_DEVICE_ATTR,
            std::ptr::from_mut(&mut attr) as usize,
        )
        .map(drop)
    }
}
