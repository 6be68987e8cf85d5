/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for KVM. Only vfio_kvm_slots.c looks into a struct kvm. */
#ifndef _VFIO_RS_KVM_H
#define _VFIO_RS_KVM_H

#include <linux/types.h>

struct file;

bool vfio_rs_kvm_get_safe(void *kvm);
void vfio_rs_kvm_put(void *kvm);

/* What vfio_rs_kvm_next_slot() tells of a memory slot, a word each. */
#define VFIO_RS_KVM_SLOT_GPA		0	/* first guest address */
#define VFIO_RS_KVM_SLOT_SIZE		1	/* bytes */
#define VFIO_RS_KVM_SLOT_HVA		2	/* where the machine's process has them */
#define VFIO_RS_KVM_SLOT_READ_ONLY	3
#define VFIO_RS_KVM_SLOT_ID		4
#define VFIO_RS_KVM_SLOT_WORDS		5

bool vfio_rs_kvm_built(void);
bool vfio_rs_kvm_is_current(void *vm);
u64 vfio_rs_kvm_generation(void *vm);
int vfio_rs_kvm_next_slot(void *vm, u64 gpa, u64 last, u64 *out);

/* Defined in vfio_kernel/kvm.rs, for the exports in vfio_kvm.c. */
bool vfio_rs_file_is_valid(struct file *file);
bool vfio_rs_file_enforced_coherent(struct file *file);
void vfio_rs_file_set_kvm(struct file *file, void *kvm);

#endif /* _VFIO_RS_KVM_H */
