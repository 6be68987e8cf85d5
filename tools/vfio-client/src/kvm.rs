// SPDX-License-Identifier: GPL-2.0
//! As much of KVM as knows about VFIO: machines, and their VFIO device that is told of groups.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use crate::sys;

/// `_IO` and friends of `<linux/kvm.h>`.
mod nr {
    pub(super) const CREATE_VM: u32 = 0xae01;
    pub(super) const CREATE_IRQCHIP: u32 = 0xae60;
    pub(super) const IRQFD: u32 = 0x4020_ae76;
    pub(super) const CREATE_DEVICE: u32 = 0xc00c_aee0;
    pub(super) const SET_DEVICE_ATTR: u32 = 0x4018_aee1;
}

const DEV_TYPE_VFIO: u32 = 4;
const DEV_VFIO_FILE: u32 = 1;
const IRQFD_DEASSIGN: u32 = 1;

/// What the VFIO device is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// KVM_DEV_VFIO_FILE_ADD.
    Add = 1,
    /// KVM_DEV_VFIO_FILE_DEL.
    Del = 2,
}

#[repr(C)]
struct CreateDevice {
    kind: u32,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct DeviceAttr {
    flags: u32,
    group: u32,
    attr: u64,
    addr: u64,
}

#[repr(C)]
struct Irqfd {
    fd: u32,
    gsi: u32,
    flags: u32,
    resamplefd: u32,
    pad: [u8; 16],
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
        sys::raw(kvm.as_raw_fd(), nr::CREATE_VM, 0).map(|fd| Self(owned(fd)))
    }

    /// KVM_CREATE_IRQCHIP.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn create_irqchip(&self) -> io::Result<()> {
        sys::raw(self.0.as_raw_fd(), nr::CREATE_IRQCHIP, 0).map(drop)
    }

    fn irqfd(&self, mut irqfd: Irqfd) -> io::Result<()> {
        sys::raw(
            self.0.as_raw_fd(),
            nr::IRQFD,
            std::ptr::from_mut(&mut irqfd) as usize,
        )
        .map(drop)
    }

    /// KVM_IRQFD: an interrupt of the machine at each signal of `fd`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn add_irqfd(&self, fd: RawFd, gsi: u32) -> io::Result<()> {
        self.irqfd(Irqfd {
            fd: fd as u32,
            gsi,
            flags: 0,
            resamplefd: 0,
            pad: [0; 16],
        })
    }

    /// Undoes [`Vm::add_irqfd`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn remove_irqfd(&self, fd: RawFd, gsi: u32) -> io::Result<()> {
        self.irqfd(Irqfd {
            fd: fd as u32,
            gsi,
            flags: IRQFD_DEASSIGN,
            resamplefd: 0,
            pad: [0; 16],
        })
    }

    /// KVM_CREATE_DEVICE of the VFIO device.
    ///
    /// # Errors
    /// EBUSY if the machine has one.
    pub fn vfio(&self) -> io::Result<KvmVfio> {
        let mut device = CreateDevice {
            kind: DEV_TYPE_VFIO,
            fd: 0,
            flags: 0,
        };
        sys::raw(
            self.0.as_raw_fd(),
            nr::CREATE_DEVICE,
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
        let mut attr = DeviceAttr {
            flags: 0,
            group: DEV_VFIO_FILE,
            attr: action as u64,
            addr: std::ptr::from_ref(&fd) as u64,
        };
        sys::raw(
            self.0.as_raw_fd(),
            nr::SET_DEVICE_ATTR,
            std::ptr::from_mut(&mut attr) as usize,
        )
        .map(drop)
    }
}
