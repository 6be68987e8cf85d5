/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for KVM. Only vfio_kvm_slots.c looks into a struct kvm. */
#ifndef _VFIO_RS_KVM_H
#define _VFIO_RS_KVM_H

#include <linux/types.h>

struct file;

bool vfio_rs_kvm_get_safe(void *kvm);
void vfio_rs_kvm_put(void *kvm);

/* A memory slot of a virtual machine: guest addresses, and where its process has the memory. */
struct vfio_rs_kvm_slot {
	u64 gpa;
	u64 size;
	u64 hva;
	u32 read_only;
	u32 id;
};

bool vfio_rs_kvm_built(void);
bool vfio_rs_kvm_is_current(void *vm);
u64 vfio_rs_kvm_generation(void *vm);
int vfio_rs_kvm_next_slot(void *vm, u64 gpa, u64 last, struct vfio_rs_kvm_slot *out);

/* Defined in vfio_kernel/kvm.rs, for the exports in vfio_kvm.c. */
bool vfio_rs_file_is_valid(struct file *file);
bool vfio_rs_file_enforced_coherent(struct file *file);
void vfio_rs_file_set_kvm(struct file *file, void *kvm);

#endif /* _VFIO_RS_KVM_H */
