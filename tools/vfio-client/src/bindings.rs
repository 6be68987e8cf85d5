// SPDX-License-Identifier: GPL-2.0
//! Made by scripts/uapi: structs and numbers of the user interface, named as in C.

#[repr(C)]
#[derive(Default)]
pub struct __IncompleteArrayField<T>(::std::marker::PhantomData<T>, [T; 0]);
impl<T> __IncompleteArrayField<T> {
    #[inline]
    pub const fn new() -> Self {
        __IncompleteArrayField(::std::marker::PhantomData, [])
    }
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self as *const _ as *const T
    }
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self as *mut _ as *mut T
    }
    #[inline]
    pub unsafe fn as_slice(&self, len: usize) -> &[T] {
        ::std::slice::from_raw_parts(self.as_ptr(), len)
    }
    #[inline]
    pub unsafe fn as_mut_slice(&mut self, len: usize) -> &mut [T] {
        ::std::slice::from_raw_parts_mut(self.as_mut_ptr(), len)
    }
}
impl<T> ::std::fmt::Debug for __IncompleteArrayField<T> {
    fn fmt(&self, fmt: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        fmt.write_str("__IncompleteArrayField")
    }
}
pub const VFIO_GET_API_VERSION: u32 = 15204;
pub const VFIO_CHECK_EXTENSION: u32 = 15205;
pub const VFIO_SET_IOMMU: u32 = 15206;
pub const VFIO_GROUP_GET_STATUS: u32 = 15207;
pub const VFIO_GROUP_SET_CONTAINER: u32 = 15208;
pub const VFIO_GROUP_UNSET_CONTAINER: u32 = 15209;
pub const VFIO_GROUP_GET_DEVICE_FD: u32 = 15210;
pub const VFIO_DEVICE_GET_INFO: u32 = 15211;
pub const VFIO_DEVICE_GET_REGION_INFO: u32 = 15212;
pub const VFIO_DEVICE_GET_IRQ_INFO: u32 = 15213;
pub const VFIO_DEVICE_SET_IRQS: u32 = 15214;
pub const VFIO_DEVICE_RESET: u32 = 15215;
pub const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: u32 = 15216;
pub const VFIO_DEVICE_PCI_HOT_RESET: u32 = 15217;
pub const VFIO_DEVICE_IOEVENTFD: u32 = 15220;
pub const VFIO_DEVICE_FEATURE: u32 = 15221;
pub const VFIO_DEVICE_BIND_IOMMUFD: u32 = 15222;
pub const VFIO_DEVICE_ATTACH_IOMMUFD_PT: u32 = 15223;
pub const VFIO_DEVICE_DETACH_IOMMUFD_PT: u32 = 15224;
pub const VFIO_IOMMU_GET_INFO: u32 = 15216;
pub const VFIO_IOMMU_MAP_DMA: u32 = 15217;
pub const VFIO_IOMMU_UNMAP_DMA: u32 = 15218;
pub const VFIO_IOMMU_DIRTY_PAGES: u32 = 15221;
pub const VFIO_PAMU_IOMMU: u32 = 256;
pub const VFIO_KVM_IOMMU: u32 = 257;
pub const VFIO_GROUP_GET_MSI_FD: u32 = 15268;
pub const VFIO_GROUP_MERGE_SAME_DOMAIN: u32 = 1;
pub const VFIO_GROUP_MERGE: u32 = 15269;
pub const VFIO_GROUP_SPLIT: u32 = 15270;
pub const VFIO_GROUP_FLAGS_MERGED: u32 = 1073741824;
pub const VFIO_GROUP_GET_VIABILITY: u32 = 15271;
pub const VFIO_KVM_BIND_IDENTITY: u32 = 1;
pub const VFIO_KVM_BIND_STRICT: u32 = 2;
pub const VFIO_KVM_BIND_READONLY: u32 = 4;
pub const VFIO_KVM_INV_ALL: u32 = 1;
pub const VFIO_KVM_INV_STRICT: u32 = 2;
pub const VFIO_KVM_BIND_TABLE: u32 = 15268;
pub const VFIO_KVM_INVALIDATE: u32 = 15269;
pub const VFIO_KVM_UNBIND: u32 = 15270;
pub const VFIO_KVM_INVALIDATE_MANY: u32 = 15276;
pub const VFIO_IOMMU_INFO_CAP_KVM: u32 = 65281;
pub const VFIO_KVM_INFO_STALE: u32 = 1;
pub const VFIO_PAMU_CAP_CONTIG_REQUIRED: u32 = 1;
pub const VFIO_PAMU_CAP_SNOOP: u32 = 2;
pub const VFIO_PAMU_CAP_STASH: u32 = 4;
pub const VFIO_DMA_MAP_FLAG_MSI: u32 = 65536;
pub const VFIO_IOMMU_PAMU_GET_ATTR: u32 = 15271;
pub const VFIO_IOMMU_PAMU_SET_ATTR: u32 = 15272;
pub const VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT: u32 = 15273;
pub const VFIO_IOMMU_PAMU_MSI_BANK_MAP: u32 = 15274;
pub const VFIO_IOMMU_PAMU_MSI_BANK_UNMAP: u32 = 15275;
pub const VFIO_REGION_INFO_CAP_MMAP_ALT: u32 = 65282;
pub const VFIO_REGION_MMAP_ALT_WC: u32 = 1;
pub const VFIO_REGION_MMAP_ALT_FLAG_EXCLUSIVE: u32 = 1;
pub const VFIO_DEVICE_FEATURE_VIABILITY: u32 = 32769;
pub const IOMMU_DESTROY: u32 = 15232;
pub const IOMMU_IOAS_ALLOC: u32 = 15233;
pub const IOMMU_IOAS_MAP: u32 = 15237;
pub const IOMMU_IOAS_MAP_FILE: u32 = 15247;
pub const IOMMU_IOAS_UNMAP: u32 = 15238;
pub const IOMMU_VFIO_IOAS: u32 = 15240;
pub const IOMMU_HWPT_ALLOC: u32 = 15241;
pub const KVM_MEM_READONLY: u32 = 2;
pub const KVM_CREATE_VM: u32 = 44545;
pub const KVM_IRQFD_FLAG_DEASSIGN: u32 = 1;
pub const KVM_DEV_VFIO_FILE: u32 = 1;
pub const KVM_DEV_VFIO_FILE_ADD: u32 = 1;
pub const KVM_DEV_VFIO_FILE_DEL: u32 = 2;
pub const KVM_DEV_TYPE_VFIO: u32 = 4;
pub const KVM_SET_USER_MEMORY_REGION: u32 = 1075883590;
pub const KVM_CREATE_IRQCHIP: u32 = 44640;
pub const KVM_IRQFD: u32 = 1075883638;
pub const KVM_CREATE_DEVICE: u32 = 3222056672;
pub const KVM_SET_DEVICE_ATTR: u32 = 1075359457;
pub type __u8 = ::std::os::raw::c_uchar;
pub type __u16 = ::std::os::raw::c_ushort;
pub type __s32 = ::std::os::raw::c_int;
pub type __u32 = ::std::os::raw::c_uint;
pub type __u64 = ::std::os::raw::c_ulonglong;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_info_cap_header {
    pub id: __u16,
    pub version: __u16,
    pub next: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_group_msi_fd {
    pub argsz: __u32,
    pub flags: __u32,
    pub bank: __u32,
    pub size: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_group_merge {
    pub argsz: __u32,
    pub flags: __u32,
    pub group_fd: __s32,
    pub __reserved: __u32,
}
pub const VFIO_VIABLE: vfio_viability_reason = 0;
pub const VFIO_NOT_VIABLE_DRIVER: vfio_viability_reason = 1;
pub const VFIO_NOT_VIABLE_OWNED: vfio_viability_reason = 2;
pub const VFIO_NOT_VIABLE_RESV_DIRECT: vfio_viability_reason = 3;
pub const VFIO_NOT_VIABLE_NO_ISOLATED_MSI: vfio_viability_reason = 4;
pub const VFIO_NOT_VIABLE_DOMAIN: vfio_viability_reason = 5;
pub const VFIO_NOT_VIABLE_NO_IOMMU: vfio_viability_reason = 6;
pub type vfio_viability_reason = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_viability_dev {
    pub name: [::std::os::raw::c_char; 32usize],
    pub driver: [::std::os::raw::c_char; 32usize],
    pub reason: __u32,
    pub __reserved: __u32,
}
#[repr(C)]
#[derive(Debug, Default)]
pub struct vfio_group_viability {
    pub argsz: __u32,
    pub flags: __u32,
    pub count: __u32,
    pub reason: __u32,
    pub dev: __IncompleteArrayField<vfio_viability_dev>,
}
pub const VFIO_KVM_FMT_VTD_SS4: vfio_kvm_table_format = 1;
pub const VFIO_KVM_FMT_VTD_SS3: vfio_kvm_table_format = 2;
pub const VFIO_KVM_FMT_ZPCI_ST: vfio_kvm_table_format = 3;
pub const VFIO_KVM_FMT_ZPCI_RT: vfio_kvm_table_format = 4;
pub const VFIO_KVM_FMT_ZPCI_RS: vfio_kvm_table_format = 5;
pub const VFIO_KVM_FMT_ZPCI_RF: vfio_kvm_table_format = 6;
pub type vfio_kvm_table_format = ::std::os::raw::c_uint;
pub const VFIO_KVM_FAULT_NONE: vfio_kvm_fault_reason = 0;
pub const VFIO_KVM_FAULT_TABLE: vfio_kvm_fault_reason = 1;
pub const VFIO_KVM_FAULT_TARGET: vfio_kvm_fault_reason = 2;
pub const VFIO_KVM_FAULT_READONLY: vfio_kvm_fault_reason = 3;
pub const VFIO_KVM_FAULT_RESERVED: vfio_kvm_fault_reason = 4;
pub const VFIO_KVM_FAULT_MISALIGNED: vfio_kvm_fault_reason = 5;
pub const VFIO_KVM_FAULT_PIN: vfio_kvm_fault_reason = 6;
pub const VFIO_KVM_FAULT_IOVA: vfio_kvm_fault_reason = 7;
pub const VFIO_KVM_FAULT_TYPE: vfio_kvm_fault_reason = 8;
pub const VFIO_KVM_FAULT_GPA: vfio_kvm_fault_reason = 9;
pub type vfio_kvm_fault_reason = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_walk_result {
    pub mapped: __u64,
    pub done: __u64,
    pub fault_iova: __u64,
    pub fault_gpa: __u64,
    pub fault_count: __u32,
    pub fault_reason: __u16,
    pub fault_level: __u16,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_bind_table {
    pub argsz: __u32,
    pub flags: __u32,
    pub format: __u32,
    pub bind_id: __u32,
    pub root_gpa: __u64,
    pub iova_start: __u64,
    pub iova_last: __u64,
    pub gpa_bits: __u32,
    pub __reserved: __u32,
    pub res: vfio_kvm_walk_result,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_invalidate {
    pub argsz: __u32,
    pub flags: __u32,
    pub bind_id: __u32,
    pub __reserved: __u32,
    pub iova: __u64,
    pub size: __u64,
    pub res: vfio_kvm_walk_result,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_unbind {
    pub argsz: __u32,
    pub flags: __u32,
    pub bind_id: __u32,
    pub __reserved: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_inv_range {
    pub iova: __u64,
    pub size: __u64,
    pub mapped: __u64,
    pub done: __u64,
    pub fault_count: __u32,
    pub fault_reason: __u16,
    pub __reserved: __u16,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_kvm_invalidate_many {
    pub argsz: __u32,
    pub flags: __u32,
    pub bind_id: __u32,
    pub count: __u32,
    pub ranges: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_iommu_info_cap_kvm {
    pub header: vfio_info_cap_header,
    pub formats: __u32,
    pub flags: __u32,
    pub pinned_bytes: __u64,
    pub limit_entries: __u64,
}
pub const VFIO_ATTR_GEOMETRY: vfio_pamu_attribute = 0;
pub const VFIO_ATTR_WINDOWS: vfio_pamu_attribute = 1;
pub const VFIO_ATTR_PAMU_STASH: vfio_pamu_attribute = 2;
pub const VFIO_ATTR_MSI: vfio_pamu_attribute = 3;
pub const VFIO_ATTR_LIMITS: vfio_pamu_attribute = 4;
pub type vfio_pamu_attribute = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct vfio_pamu_attr {
    pub argsz: __u32,
    pub flags: __u32,
    pub attribute: __u32,
    pub __reserved: __u32,
    pub __bindgen_anon_1: vfio_pamu_attr__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union vfio_pamu_attr__bindgen_ty_1 {
    pub geometry: vfio_pamu_attr__bindgen_ty_1__bindgen_ty_1,
    pub windows: vfio_pamu_attr__bindgen_ty_1__bindgen_ty_2,
    pub stash: vfio_pamu_attr__bindgen_ty_1__bindgen_ty_3,
    pub msi: vfio_pamu_attr__bindgen_ty_1__bindgen_ty_4,
    pub limits: vfio_pamu_attr__bindgen_ty_1__bindgen_ty_5,
    pub data: [__u64; 4usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_attr__bindgen_ty_1__bindgen_ty_1 {
    pub aperture_start: __u64,
    pub aperture_end: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_attr__bindgen_ty_1__bindgen_ty_2 {
    pub count: __u32,
    pub max: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_attr__bindgen_ty_1__bindgen_ty_3 {
    pub cpu: __u32,
    pub cache: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_attr__bindgen_ty_1__bindgen_ty_4 {
    pub mode: __u32,
    pub banks: __u32,
    pub first_iova: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_attr__bindgen_ty_1__bindgen_ty_5 {
    pub max_aperture: __u64,
    pub min_size: __u64,
    pub caps: __u32,
    pub __reserved: __u32,
}
impl Default for vfio_pamu_attr__bindgen_ty_1 {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
impl Default for vfio_pamu_attr {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_msi_bank_map {
    pub argsz: __u32,
    pub flags: __u32,
    pub msi_bank_index: __u32,
    pub __reserved: __u32,
    pub iova: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_pamu_msi_bank_unmap {
    pub argsz: __u32,
    pub flags: __u32,
    pub iova: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct vfio_region_info_cap_mmap_alt {
    pub header: vfio_info_cap_header,
    pub attr: __u32,
    pub flags: __u32,
    pub offset: __u64,
    pub size: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_destroy {
    pub size: __u32,
    pub id: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_ioas_alloc {
    pub size: __u32,
    pub flags: __u32,
    pub out_ioas_id: __u32,
}
pub const IOMMU_IOAS_MAP_FIXED_IOVA: iommufd_ioas_map_flags = 1;
pub const IOMMU_IOAS_MAP_WRITEABLE: iommufd_ioas_map_flags = 2;
pub const IOMMU_IOAS_MAP_READABLE: iommufd_ioas_map_flags = 4;
pub type iommufd_ioas_map_flags = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_ioas_map {
    pub size: __u32,
    pub flags: __u32,
    pub ioas_id: __u32,
    pub __reserved: __u32,
    pub user_va: __u64,
    pub length: __u64,
    pub iova: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_ioas_map_file {
    pub size: __u32,
    pub flags: __u32,
    pub ioas_id: __u32,
    pub fd: __s32,
    pub start: __u64,
    pub length: __u64,
    pub iova: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_ioas_unmap {
    pub size: __u32,
    pub ioas_id: __u32,
    pub iova: __u64,
    pub length: __u64,
}
pub const IOMMU_VFIO_IOAS_GET: iommufd_vfio_ioas_op = 0;
pub const IOMMU_VFIO_IOAS_SET: iommufd_vfio_ioas_op = 1;
pub const IOMMU_VFIO_IOAS_CLEAR: iommufd_vfio_ioas_op = 2;
pub type iommufd_vfio_ioas_op = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_vfio_ioas {
    pub size: __u32,
    pub ioas_id: __u32,
    pub op: __u16,
    pub __reserved: __u16,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct iommu_hwpt_alloc {
    pub size: __u32,
    pub flags: __u32,
    pub dev_id: __u32,
    pub pt_id: __u32,
    pub out_hwpt_id: __u32,
    pub __reserved: __u32,
    pub data_type: __u32,
    pub data_len: __u32,
    pub data_uptr: __u64,
    pub fault_id: __u32,
    pub __reserved2: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct kvm_userspace_memory_region {
    pub slot: __u32,
    pub flags: __u32,
    pub guest_phys_addr: __u64,
    pub memory_size: __u64,
    pub userspace_addr: __u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct kvm_irqfd {
    pub fd: __u32,
    pub gsi: __u32,
    pub flags: __u32,
    pub resamplefd: __u32,
    pub pad: [__u8; 16usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct kvm_create_device {
    pub type_: __u32,
    pub fd: __u32,
    pub flags: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct kvm_device_attr {
    pub flags: __u32,
    pub group: __u32,
    pub attr: __u64,
    pub addr: __u64,
}
