// SPDX-License-Identifier: GPL-2.0

//! The structs of ioctls that begin with their own size: what must be there, and what may be set.
//!
//! Each is a row below. [`read`] copies what must be there, once, and checks all that a row can
//! tell; so an ioctl looks only at what its fields mean.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

/// A struct that a user passes.
pub(crate) trait Row: FromBytes + IntoBytes {
    /// Bytes that must be there: up to the end of the last field that was there in the beginning.
    const MIN: usize;

    /// Flags that may be set.
    const FLAGS: u32;

    /// `argsz`: how many bytes there are.
    fn argsz(&self) -> u32;

    /// `flags`.
    fn flags(&self) -> u32;

    /// Whether a field that must be 0 is something else.
    fn reserved_is_set(&self) -> bool;
}

/// Reads a struct.
///
/// # Errors
///
/// `EFAULT` if it is not there; `EINVAL` if `argsz` is too small, for flags that are not known and
/// for reserved fields that are not 0.
#[inline]
pub(crate) fn read<T: Row>(arg: UserArg) -> Result<T> {
    read_flags(arg, T::FLAGS)
}

/// As [`read`], where of the row's flags only `flags` may be set.
#[inline]
pub(crate) fn read_flags<T: Row>(arg: UserArg, flags: u32) -> Result<T> {
    let value = arg.read_min(T::MIN)?;
    check(&value, flags)?;
    Ok(value)
}

#[inline]
fn check<T: Row>(value: &T, flags: u32) -> Result {
    let unknown = value.flags() & !(T::FLAGS & flags);
    if (value.argsz() as usize) < T::MIN || unknown != 0 || value.reserved_is_set() {
        return Err(EINVAL);
    }
    Ok(())
}

/// How many bytes the user has behind what must be there.
pub(crate) fn room<T: Row>(value: &T) -> usize {
    (value.argsz() as usize).saturating_sub(T::MIN)
}

/// Where the field behind `$field` starts: how much of a struct a user must pass to be heard.
macro_rules! offset_of_end {
    ($type:ty, $field:ident) => {{
        const fn size<T>(_: fn(&$type) -> &T) -> usize {
            core::mem::size_of::<T>()
        }
        core::mem::offset_of!($type, $field).wrapping_add(size(|value| &value.$field))
    }};
}

macro_rules! rows {
    ($($type:ident { last: $last:ident, flags: $flags:expr $(, zero: $zero:ident)? })*) => {
        $(impl Row for uapi::$type {
            const MIN: usize = offset_of_end!(uapi::$type, $last);
            const FLAGS: u32 = $flags;

            #[inline]
            fn argsz(&self) -> u32 {
                self.argsz
            }

            #[inline]
            fn flags(&self) -> u32 {
                self.flags
            }

            #[inline]
            fn reserved_is_set(&self) -> bool {
                false $(|| self.$zero != 0)?
            }
        })*

        /// Whether each row takes what it should, and nothing else.
        #[cfg(CONFIG_VFIO_RS_KUNIT_TEST)]
        fn rows_hold() -> bool {
            use zerocopy::FromZeros;

            $({
                type T = uapi::$type;
                let is = |argsz: usize, flags: u32, expected: Result| {
                    // CAST: A struct is small.
                    let value = T { argsz: argsz as u32, flags, ..T::new_zeroed() };
                    check(&value, ANY) == expected
                };
                let unknown = if T::FLAGS == ANY { Ok(()) } else { Err(EINVAL) };
                let mut held = is(T::MIN, 0, Ok(()))
                    && is(size_of::<T>(), T::FLAGS, Ok(()))
                    && is(T::MIN.wrapping_sub(1), 0, Err(EINVAL))
                    && is(0, 0, Err(EINVAL))
                    && is(T::MIN, !T::FLAGS, unknown);
                $(
                    let value = T { argsz: T::MIN as u32, $zero: 1, ..T::new_zeroed() };
                    held = held && check(&value, ANY) == Err(EINVAL);
                )?
                if !held {
                    pr_err!("{}\n", stringify!($type));
                    return false;
                }
            })*
            true
        }
    };
}

/// Flags that the kernel sets; what the user has there does not matter.
const ANY: u32 = !0;

rows! {
    vfio_group_status { last: flags, flags: ANY }
    vfio_group_merge { last: __reserved, flags: uapi::VFIO_GROUP_MERGE_SAME_DOMAIN, zero: __reserved }
    vfio_group_msi_fd { last: size, flags: 0 }
    vfio_group_viability_header { last: reason, flags: 0 }

    vfio_device_info { last: num_irqs, flags: ANY }
    vfio_region_info { last: offset, flags: ANY }
    vfio_irq_info { last: count, flags: ANY }
    vfio_irq_set_header {
        last: count,
        flags: uapi::VFIO_IRQ_SET_DATA_TYPE_MASK | uapi::VFIO_IRQ_SET_ACTION_TYPE_MASK
    }
    vfio_device_feature_header {
        last: flags,
        flags: uapi::VFIO_DEVICE_FEATURE_MASK
            | uapi::VFIO_DEVICE_FEATURE_GET
            | uapi::VFIO_DEVICE_FEATURE_SET
            | uapi::VFIO_DEVICE_FEATURE_PROBE
    }
    vfio_device_ioeventfd {
        last: fd,
        flags: uapi::VFIO_DEVICE_IOEVENTFD_SIZE_MASK
    }
    vfio_device_attach_iommufd_pt { last: pt_id, flags: uapi::VFIO_DEVICE_ATTACH_PASID }
    vfio_device_detach_iommufd_pt { last: flags, flags: uapi::VFIO_DEVICE_DETACH_PASID }
    vfio_pci_hot_reset_info_header { last: count, flags: ANY }
    vfio_pci_hot_reset_header { last: count, flags: 0 }

    vfio_iommu_type1_info { last: iova_pgsizes, flags: ANY }
    vfio_iommu_type1_dma_map {
        last: size,
        flags: uapi::VFIO_DMA_MAP_FLAG_READ
            | uapi::VFIO_DMA_MAP_FLAG_WRITE
            | uapi::VFIO_DMA_MAP_FLAG_VADDR
            | uapi::VFIO_DMA_MAP_FLAG_MSI
    }
    vfio_iommu_type1_dma_unmap_header {
        last: size,
        flags: uapi::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
            | uapi::VFIO_DMA_UNMAP_FLAG_ALL
            | uapi::VFIO_DMA_UNMAP_FLAG_VADDR
    }
    vfio_pamu_attr_words { last: data, flags: 0, zero: __reserved }
    vfio_pamu_msi_bank_map { last: iova, flags: 0, zero: __reserved }
    vfio_pamu_msi_bank_unmap { last: iova, flags: 0 }

    vfio_kvm_bind_table {
        last: res,
        flags: uapi::VFIO_KVM_BIND_IDENTITY
            | uapi::VFIO_KVM_BIND_STRICT
            | uapi::VFIO_KVM_BIND_READONLY,
        zero: __reserved
    }
    vfio_kvm_invalidate {
        last: res,
        flags: uapi::VFIO_KVM_INV_ALL | uapi::VFIO_KVM_INV_STRICT,
        zero: __reserved
    }
    vfio_kvm_unbind { last: __reserved, flags: 0, zero: __reserved }
    vfio_kvm_invalidate_many { last: ranges, flags: 0 }
}

#[cfg(CONFIG_VFIO_RS_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(vfio_rs_rows)]
mod tests {
    #[test]
    fn rows_hold() {
        assert!(super::rows_hold());
    }
}
