// SPDX-License-Identifier: GPL-2.0
//! Raw ioctls: the one place that crosses into the kernel with a pointer.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Types that an ioctl may read and write as plain bytes.
///
/// # Safety
/// Every bit pattern must be a valid value: the kernel may write any.
pub unsafe trait Plain {}

macro_rules! plain {
    ($from:ident: $($ty:ident),* $(,)?) => { $(
        // SAFETY: a C struct of integers only.
        unsafe impl Plain for $crate::$from::$ty {}
    )* };
}

plain!(
    bindings: iommu_destroy,
    iommu_ioas_alloc,
    iommu_ioas_map,
    iommu_hwpt_alloc,
    iommu_ioas_map_file,
    iommu_ioas_unmap,
    iommu_vfio_ioas,
    kvm_create_device,
    kvm_device_attr,
    kvm_irqfd,
    kvm_userspace_memory_region,
    vfio_group_merge,
    vfio_group_msi_fd,
    vfio_group_viability,
    vfio_kvm_bind_table,
    vfio_kvm_inv_range,
    vfio_kvm_invalidate,
    vfio_kvm_invalidate_many,
    vfio_kvm_unbind,
    vfio_pamu_attr,
    vfio_pamu_msi_bank_map,
    vfio_pamu_msi_bank_unmap,
    vfio_viability_dev,
);

plain!(
    uapi: vfio_group_status,
    vfio_device_attach_iommufd_pt,
    vfio_device_bind_iommufd,
    vfio_device_detach_iommufd_pt,
    vfio_device_info,
    vfio_region_info,
    vfio_irq_info,
    vfio_irq_set,
    vfio_iommu_type1_info,
    vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_dirty_bitmap,
    vfio_device_ioeventfd,
    vfio_device_feature,
    vfio_pci_hot_reset,
    vfio_pci_hot_reset_info,
);

// SAFETY: any bit pattern is an integer.
unsafe impl Plain for i32 {}

/// Sends ioctl `nr` with `arg` as it is. The escape hatch for misuse tests: `arg` may be any
/// number, so the caller must know that the kernel cannot write through it into memory that Rust
/// relies on.
///
/// # Errors
/// The kernel's errno.
pub fn raw(fd: RawFd, nr: u32, arg: usize) -> io::Result<i32> {
    // SAFETY: ioctl with an integer argument; see above about pointers.
    let ret = unsafe { libc::ioctl(fd, libc::c_ulong::from(nr), arg) };
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// Sends ioctl `nr` with an integer argument.
///
/// # Errors
/// The kernel's errno.
pub fn with_value(fd: &impl AsRawFd, nr: u32, value: usize) -> io::Result<i32> {
    raw(fd.as_raw_fd(), nr, value)
}

/// Sends ioctl `nr` with a struct that the kernel reads and may write.
///
/// # Errors
/// The kernel's errno.
pub fn with_struct<T: Plain>(fd: &impl AsRawFd, nr: u32, arg: &mut T) -> io::Result<i32> {
    raw(fd.as_raw_fd(), nr, std::ptr::from_mut(arg) as usize)
}

/// Sends ioctl `nr` with a buffer of 64-bit words, for structs with a tail of variable length.
///
/// # Errors
/// The kernel's errno.
pub fn with_buffer(fd: &impl AsRawFd, nr: u32, arg: &mut [u64]) -> io::Result<i32> {
    raw(fd.as_raw_fd(), nr, arg.as_mut_ptr() as usize)
}

/// A zeroed buffer of at least `bytes` bytes, aligned as every VFIO struct needs it.
#[must_use]
pub fn buffer(bytes: usize) -> Vec<u64> {
    vec![0; bytes.div_ceil(8)]
}

/// The bytes of such a buffer.
#[must_use]
pub fn bytes(buffer: &[u64]) -> &[u8] {
    // SAFETY: u64 has no padding, and u8 no alignment.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), size_of_val(buffer)) }
}

/// The bytes of such a buffer, to be changed.
#[must_use]
pub fn bytes_mut(buffer: &mut [u64]) -> &mut [u8] {
    // SAFETY: as in `bytes`; any bytes are a valid u64.
    unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), size_of_val(buffer)) }
}

/// Reads a `T` at the start of `bytes`; `None` if they are too few.
#[must_use]
pub fn read_struct<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: enough bytes, and `Plain` accepts any.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Writes `value` to the start of `bytes`.
///
/// # Panics
/// If `bytes` is shorter than `T`.
pub fn write_struct<T: Plain>(bytes: &mut [u8], value: T) {
    assert!(bytes.len() >= size_of::<T>());
    // SAFETY: enough room, checked above.
    unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) }
}
