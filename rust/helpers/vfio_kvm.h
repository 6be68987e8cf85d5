/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for KVM. A struct kvm is handed around and never looked into. */
#ifndef _VFIO_RS_KVM_H
#define _VFIO_RS_KVM_H

#include <linux/types.h>

struct file;

bool vfio_rs_kvm_get_safe(void *kvm);
void vfio_rs_kvm_put(void *kvm);

/* Defined in vfio_kernel/kvm.rs, for the exports in vfio_kvm.c. */
bool vfio_rs_file_is_valid(struct file *file);
bool vfio_rs_file_enforced_coherent(struct file *file);
void vfio_rs_file_set_kvm(struct file *file, void *kvm);

#endif /* _VFIO_RS_KVM_H */
