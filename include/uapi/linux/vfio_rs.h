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

/* A kind of IOMMU, for VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU. */
#define VFIO_PAMU_IOMMU			0x100	/* one aperture, cut into windows */

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
