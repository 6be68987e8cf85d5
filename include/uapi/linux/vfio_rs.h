/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What this VFIO has beyond <linux/vfio.h>.
 *
 * Numbers of ioctls start at VFIO_BASE + 64 for each kind of descriptor, numbers of capabilities at
 * 0xff01 and of features at 0x8001: far above what <linux/vfio.h> uses. Every struct begins with
 * its size as the caller knows it, argsz; flags and reserved fields that are not described are 0.
 * It compiles as C90 and as C++; what is newer than these is marked as an extension.
 */
#ifndef _UAPI_LINUX_VFIO_RS_H
#define _UAPI_LINUX_VFIO_RS_H

#include <linux/types.h>
#include <linux/vfio.h>

/* Kinds of IOMMU, for VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU. */
#define VFIO_PAMU_IOMMU			0x100	/* one aperture, cut into windows */
#define VFIO_KVM_IOMMU			0x101	/* shadows of a guest's I/O page tables */

/* ---- group descriptor ---- */

/**
 * struct vfio_group_msi_fd - argument of VFIO_GROUP_GET_MSI_FD
 * @argsz: size of this struct
 * @flags: 0
 * @bank: which bank of MSI registers
 * @size: out: bytes that the new descriptor can map
 */
struct vfio_group_msi_fd {
	__u32 argsz;
	__u32 flags;
	__u32 bank;
	__u32 size;
};

/* Returns a descriptor that maps a bank of MSI registers. */
#define VFIO_GROUP_GET_MSI_FD		_IO(VFIO_TYPE, VFIO_BASE + 64)

/**
 * struct vfio_group_merge - argument of VFIO_GROUP_MERGE and VFIO_GROUP_SPLIT
 * @argsz: size of this struct
 * @flags: VFIO_GROUP_MERGE_*
 * @group_fd: the group that joins or leaves; -1 to leave by one's own descriptor
 * @__reserved: 0
 */
struct vfio_group_merge {
	__u32 argsz;
	__u32 flags;
	__s32 group_fd;
	__u32 __reserved;
};

/* Fail with EXDEV rather than give the other group a domain of its own. */
#define VFIO_GROUP_MERGE_SAME_DOMAIN	(1 << 0)
/* The group @group_fd joins this one: its devices are opened through this. */
#define VFIO_GROUP_MERGE		_IO(VFIO_TYPE, VFIO_BASE + 65)
/* Undoes VFIO_GROUP_MERGE. */
#define VFIO_GROUP_SPLIT		_IO(VFIO_TYPE, VFIO_BASE + 66)
/* VFIO_GROUP_GET_STATUS: the group has joined another. */
#define VFIO_GROUP_FLAGS_MERGED		(1U << 30)

/**
 * enum vfio_viability_reason - why a device keeps its group from being used
 * @VFIO_VIABLE: it does not
 * @VFIO_NOT_VIABLE_DRIVER: a driver of the kernel has it
 * @VFIO_NOT_VIABLE_OWNED: somebody else owns the group's DMA
 * @VFIO_NOT_VIABLE_RESV_DIRECT: the firmware wants memory mapped for it at all times
 * @VFIO_NOT_VIABLE_NO_ISOLATED_MSI: its interrupts are not remapped
 * @VFIO_NOT_VIABLE_DOMAIN: it cannot be attached to an address space
 * @VFIO_NOT_VIABLE_NO_IOMMU: it has no IOMMU
 */
enum vfio_viability_reason {
	VFIO_VIABLE			= 0,
	VFIO_NOT_VIABLE_DRIVER		= 1,
	VFIO_NOT_VIABLE_OWNED		= 2,
	VFIO_NOT_VIABLE_RESV_DIRECT	= 3,
	VFIO_NOT_VIABLE_NO_ISOLATED_MSI	= 4,
	VFIO_NOT_VIABLE_DOMAIN		= 5,
	VFIO_NOT_VIABLE_NO_IOMMU	= 6
};

/**
 * struct vfio_viability_dev - a device of a group
 * @name: its name on its bus, ended by 0
 * @driver: the driver that has it, empty if none, "unknown" for one that is coming or going
 * @reason: enum vfio_viability_reason
 * @__reserved: 0
 */
struct vfio_viability_dev {
	char name[32];
	char driver[32];
	__u32 reason;
	__u32 __reserved;
};

/**
 * struct vfio_group_viability - whether a group can be used, and if not, why
 * @argsz: size of this struct and of the room behind it
 * @flags: 0
 * @count: out: devices of the group
 * @reason: out: the first reason among them
 * @dev: out: the devices
 */
struct vfio_group_viability {
	__u32 argsz;
	__u32 flags;
	__u32 count;
	__u32 reason;

	__extension__ struct vfio_viability_dev dev[];
};

/* Fails with ENOSPC, @count set, if there is no room for all devices. */
#define VFIO_GROUP_GET_VIABILITY	_IO(VFIO_TYPE, VFIO_BASE + 67)

/* ---- container descriptor, VFIO_KVM_IOMMU ---- */

/**
 * enum vfio_kvm_table_format - formats of a guest's I/O page tables
 * @VFIO_KVM_FMT_VTD_SS4: Intel VT-d, second stage, four levels
 * @VFIO_KVM_FMT_VTD_SS3: Intel VT-d, second stage, three levels
 * @VFIO_KVM_FMT_ZPCI_ST: s390, from a segment table
 * @VFIO_KVM_FMT_ZPCI_RT: s390, from a region third table
 * @VFIO_KVM_FMT_ZPCI_RS: s390, from a region second table
 * @VFIO_KVM_FMT_ZPCI_RF: s390, from a region first table
 */
enum vfio_kvm_table_format {
	VFIO_KVM_FMT_VTD_SS4	= 1,
	VFIO_KVM_FMT_VTD_SS3	= 2,
	VFIO_KVM_FMT_ZPCI_ST	= 3,
	VFIO_KVM_FMT_ZPCI_RT	= 4,
	VFIO_KVM_FMT_ZPCI_RS	= 5,
	VFIO_KVM_FMT_ZPCI_RF	= 6
};

/**
 * enum vfio_kvm_fault_reason - why an entry of a guest's table is not shadowed
 * @VFIO_KVM_FAULT_NONE: there is no such entry
 * @VFIO_KVM_FAULT_TABLE: a table is not in the guest's memory
 * @VFIO_KVM_FAULT_TARGET: what is mapped is not the guest's memory
 * @VFIO_KVM_FAULT_READONLY: devices may write to memory that the guest may only read
 * @VFIO_KVM_FAULT_RESERVED: bits are set that must not be
 * @VFIO_KVM_FAULT_MISALIGNED: the address of a large page is not a multiple of its size
 * @VFIO_KVM_FAULT_PIN: the memory cannot be pinned
 * @VFIO_KVM_FAULT_IOVA: the I/O address is reserved or not translated by the host's IOMMU
 * @VFIO_KVM_FAULT_TYPE: the table is one for another level
 * @VFIO_KVM_FAULT_GPA: the address has more bits than the guest's addresses
 */
enum vfio_kvm_fault_reason {
	VFIO_KVM_FAULT_NONE		= 0,
	VFIO_KVM_FAULT_TABLE		= 1,
	VFIO_KVM_FAULT_TARGET		= 2,
	VFIO_KVM_FAULT_READONLY		= 3,
	VFIO_KVM_FAULT_RESERVED		= 4,
	VFIO_KVM_FAULT_MISALIGNED	= 5,
	VFIO_KVM_FAULT_PIN		= 6,
	VFIO_KVM_FAULT_IOVA		= 7,
	VFIO_KVM_FAULT_TYPE		= 8,
	VFIO_KVM_FAULT_GPA		= 9
};

/**
 * struct vfio_kvm_walk_result - out: what a walk of a guest's table found
 * @mapped: bytes that devices can reach in what was walked
 * @done: bytes that were walked; if the call failed, how far it came
 * @fault_iova: the first I/O address that a bad entry is for
 * @fault_gpa: guest address of the memory or table that the entry names; of the entry itself if
 *	that is what is wrong
 * @fault_count: how many bad entries there are
 * @fault_reason: enum vfio_kvm_fault_reason of the first one
 * @fault_level: level of the table that has it, 1 for tables of pages
 */
struct vfio_kvm_walk_result {
	__u64 mapped;
	__u64 done;
	__u64 fault_iova;
	__u64 fault_gpa;
	__u32 fault_count;
	__u16 fault_reason;
	__u16 fault_level;
};

/**
 * struct vfio_kvm_bind_table - argument of VFIO_KVM_BIND_TABLE
 * @argsz: size of this struct
 * @flags: VFIO_KVM_BIND_*
 * @format: enum vfio_kvm_table_format; 0 with VFIO_KVM_BIND_IDENTITY
 * @bind_id: out: the binding's number
 * @root_gpa: guest address of the table; 0 with VFIO_KVM_BIND_IDENTITY
 * @iova_start: the first I/O address that is shadowed
 * @iova_last: the last one
 * @gpa_bits: bits that a guest address has, 32 to 52; 0 for 52
 * @__reserved: 0
 * @res: out: what was found
 */
struct vfio_kvm_bind_table {
	__u32 argsz;
	__u32 flags;
	__u32 format;
	__u32 bind_id;
	__u64 root_gpa;
	__u64 iova_start;
	__u64 iova_last;
	__u32 gpa_bits;
	__u32 __reserved;
	struct vfio_kvm_walk_result res;
};

#define VFIO_KVM_BIND_IDENTITY		(1 << 0)	/* no table: all guest memory at its address */
#define VFIO_KVM_BIND_STRICT		(1 << 1)	/* the first bad entry fails the call */
#define VFIO_KVM_BIND_READONLY		(1 << 2)	/* devices may not write */

/**
 * struct vfio_kvm_invalidate - argument of VFIO_KVM_INVALIDATE
 * @argsz: size of this struct
 * @flags: VFIO_KVM_INV_*
 * @bind_id: the binding
 * @__reserved: 0
 * @iova: the first I/O address that is walked again
 * @size: bytes
 * @res: out: what was found
 */
struct vfio_kvm_invalidate {
	__u32 argsz;
	__u32 flags;
	__u32 bind_id;
	__u32 __reserved;
	__u64 iova;
	__u64 size;
	struct vfio_kvm_walk_result res;
};

#define VFIO_KVM_INV_ALL		(1 << 0)	/* all of the binding; iova and size are 0 */
#define VFIO_KVM_INV_STRICT		(1 << 1)	/* the first bad entry fails the call */

/**
 * struct vfio_kvm_unbind - argument of VFIO_KVM_UNBIND
 * @argsz: size of this struct
 * @flags: 0
 * @bind_id: the binding
 * @__reserved: 0
 */
struct vfio_kvm_unbind {
	__u32 argsz;
	__u32 flags;
	__u32 bind_id;
	__u32 __reserved;
};

/**
 * struct vfio_kvm_inv_range - one of the ranges of VFIO_KVM_INVALIDATE_MANY
 * @iova: the first I/O address that is walked again
 * @size: bytes
 * @mapped: out: as in struct vfio_kvm_walk_result, and so are the following
 * @done: out
 * @fault_count: out
 * @fault_reason: out
 * @__reserved: 0
 */
struct vfio_kvm_inv_range {
	__u64 iova;
	__u64 size;
	__u64 mapped;
	__u64 done;
	__u32 fault_count;
	__u16 fault_reason;
	__u16 __reserved;
};

/**
 * struct vfio_kvm_invalidate_many - argument of VFIO_KVM_INVALIDATE_MANY
 * @argsz: size of this struct, without what @ranges points to
 * @flags: 0
 * @bind_id: the binding
 * @count: how many ranges there are, 1 to 4096
 * @ranges: address of an array of struct vfio_kvm_inv_range
 */
struct vfio_kvm_invalidate_many {
	__u32 argsz;
	__u32 flags;
	__u32 bind_id;
	__u32 count;
	__u64 ranges;
};

/* A window of I/O addresses shows what a guest's table maps. */
#define VFIO_KVM_BIND_TABLE		_IO(VFIO_TYPE, VFIO_BASE + 64)
/* The guest has changed its table, or its memory is elsewhere: shows what is there now. */
#define VFIO_KVM_INVALIDATE		_IO(VFIO_TYPE, VFIO_BASE + 65)
/* Undoes VFIO_KVM_BIND_TABLE. */
#define VFIO_KVM_UNBIND			_IO(VFIO_TYPE, VFIO_BASE + 66)
/* As VFIO_KVM_INVALIDATE, range by range; what fails ends it, with the results so far written. */
#define VFIO_KVM_INVALIDATE_MANY	_IO(VFIO_TYPE, VFIO_BASE + 72)

/* VFIO_IOMMU_GET_INFO: what can be shadowed, and is. */
#define VFIO_IOMMU_INFO_CAP_KVM		0xff01

/**
 * struct vfio_iommu_info_cap_kvm - capability VFIO_IOMMU_INFO_CAP_KVM
 * @header: of every capability
 * @formats: a bit for each enum vfio_kvm_table_format; bit 0 for VFIO_KVM_BIND_IDENTITY
 * @flags: VFIO_KVM_INFO_*
 * @pinned_bytes: guest memory that is pinned
 * @limit_entries: how many entries may be shadowed
 */
struct vfio_iommu_info_cap_kvm {
	struct vfio_info_cap_header header;
	__u32 formats;
	__u32 flags;
	__u64 pinned_bytes;
	__u64 limit_entries;
};

/* The memory slots have changed since all of some binding was walked. */
#define VFIO_KVM_INFO_STALE		(1 << 0)

/* ---- container descriptor, VFIO_PAMU_IOMMU ---- */

/**
 * enum vfio_pamu_attribute - what VFIO_IOMMU_PAMU_GET_ATTR and SET_ATTR are about
 * @VFIO_ATTR_GEOMETRY: the aperture
 * @VFIO_ATTR_WINDOWS: how many windows it has
 * @VFIO_ATTR_PAMU_STASH: the cache that DMA is put into
 * @VFIO_ATTR_MSI: how windows for MSIs come about
 * @VFIO_ATTR_LIMITS: what there can be
 */
enum vfio_pamu_attribute {
	VFIO_ATTR_GEOMETRY	= 0,
	VFIO_ATTR_WINDOWS	= 1,
	VFIO_ATTR_PAMU_STASH	= 2,
	VFIO_ATTR_MSI		= 3,
	VFIO_ATTR_LIMITS	= 4
};

/**
 * struct vfio_pamu_attr - argument of VFIO_IOMMU_PAMU_GET_ATTR and SET_ATTR
 * @argsz: size of this struct
 * @flags: 0
 * @attribute: enum vfio_pamu_attribute, tells which member of the union it is
 * @__reserved: 0
 * @geometry: first and last address of the aperture
 * @windows: number of windows now, and at most
 * @stash: processor and level of its cache
 * @msi: mode 0: made by the kernel, 1: mapped by the user; out: number of banks, and where the
 *	first is
 * @limits: out: bytes of the largest aperture and of the smallest window, VFIO_PAMU_CAP_*
 * @data: room for what may come
 */
struct vfio_pamu_attr {
	__u32 argsz;
	__u32 flags;
	__u32 attribute;
	__u32 __reserved;

	__extension__ union {
		struct {
			__u64 aperture_start;
			__u64 aperture_end;
		} geometry;
		struct {
			__u32 count;
			__u32 max;
		} windows;
		struct {
			__u32 cpu;
			__u32 cache;
		} stash;
		struct {
			__u32 mode;
			__u32 banks;
			__u64 first_iova;
		} msi;
		struct {
			__u64 max_aperture;
			__u64 min_size;
			__u32 caps;
			__u32 __reserved;
		} limits;
		__u64 data[4];
	};
};

#define VFIO_PAMU_CAP_CONTIG_REQUIRED	(1 << 0)	/* windows map contiguous memory only */
#define VFIO_PAMU_CAP_SNOOP		(1 << 1)	/* DMA is kept coherent with caches */
#define VFIO_PAMU_CAP_STASH		(1 << 2)	/* DMA can be put into a cache */

/**
 * struct vfio_pamu_msi_bank_map - argument of VFIO_IOMMU_PAMU_MSI_BANK_MAP
 * @argsz: size of this struct
 * @flags: 0
 * @msi_bank_index: the bank
 * @__reserved: 0
 * @iova: start of the window that is to show it
 */
struct vfio_pamu_msi_bank_map {
	__u32 argsz;
	__u32 flags;
	__u32 msi_bank_index;
	__u32 __reserved;
	__u64 iova;
};

/**
 * struct vfio_pamu_msi_bank_unmap - argument of VFIO_IOMMU_PAMU_MSI_BANK_UNMAP
 * @argsz: size of this struct
 * @flags: 0
 * @iova: start of the window
 */
struct vfio_pamu_msi_bank_unmap {
	__u32 argsz;
	__u32 flags;
	__u64 iova;
};

/* VFIO_IOMMU_MAP_DMA: the window shows a bank of MSI registers; no vaddr. */
#define VFIO_DMA_MAP_FLAG_MSI		(1 << 16)
#define VFIO_IOMMU_PAMU_GET_ATTR	_IO(VFIO_TYPE, VFIO_BASE + 67)
#define VFIO_IOMMU_PAMU_SET_ATTR	_IO(VFIO_TYPE, VFIO_BASE + 68)
/* Returns the number. */
#define VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT	_IO(VFIO_TYPE, VFIO_BASE + 69)
#define VFIO_IOMMU_PAMU_MSI_BANK_MAP	_IO(VFIO_TYPE, VFIO_BASE + 70)
#define VFIO_IOMMU_PAMU_MSI_BANK_UNMAP	_IO(VFIO_TYPE, VFIO_BASE + 71)

/* ---- device descriptor ---- */

/* VFIO_DEVICE_GET_REGION_INFO: the region can be mapped in another way too. */
#define VFIO_REGION_INFO_CAP_MMAP_ALT	0xff02

/**
 * struct vfio_region_info_cap_mmap_alt - capability VFIO_REGION_INFO_CAP_MMAP_ALT
 * @header: of every capability
 * @attr: VFIO_REGION_MMAP_ALT_*: how it is cached
 * @flags: VFIO_REGION_MMAP_ALT_FLAG_*
 * @offset: where in the device's file that is; read and write do not work there
 * @size: bytes
 */
struct vfio_region_info_cap_mmap_alt {
	struct vfio_info_cap_header header;
	__u32 attr;
	__u32 flags;
	__u64 offset;
	__u64 size;
};

#define VFIO_REGION_MMAP_ALT_WC			1	/* write-combining */
/* Not at the same time as maps, reads and writes at the region's normal offset: EBUSY. */
#define VFIO_REGION_MMAP_ALT_FLAG_EXCLUSIVE	(1 << 0)

/*
 * VFIO_DEVICE_FEATURE, get: struct vfio_group_viability of the device's group.
 * It may be asked for before the device is bound to an iommufd.
 */
#define VFIO_DEVICE_FEATURE_VIABILITY	0x8001

#endif /* _UAPI_LINUX_VFIO_RS_H */
