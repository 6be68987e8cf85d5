// SPDX-License-Identifier: GPL-2.0
/*
 * What of a virtual machine's memory is where: all that looks into a struct kvm.
 * Inline functions only, so no module of KVM's is needed.
 */
#include <linux/errno.h>
#include <linux/sched.h>
#if IS_ENABLED(CONFIG_KVM)
#include <linux/kvm_host.h>
#endif

#include "vfio_kvm.h"

#if IS_ENABLED(CONFIG_KVM)
bool vfio_rs_kvm_built(void)
{
	return true;
}

/* Whether @vm is alive, and the memory of its guest is that of the current process. */
bool vfio_rs_kvm_is_current(void *vm)
{
	struct kvm *kvm = vm;

	return current->mm && kvm->mm == current->mm && !READ_ONCE(kvm->vm_dead);
}

/* Differs after a change of the memory slots. */
u64 vfio_rs_kvm_generation(void *vm)
{
	struct kvm *kvm = vm;
	u64 generation;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	generation = kvm_memslots(kvm)->generation;
	srcu_read_unlock(&kvm->srcu, idx);
	return generation;
}

/* Whether it is there, is not KVM's own, and what KVM has no address for. */
static int copy_slot(struct kvm *kvm, const struct kvm_memory_slot *slot, u64 *out)
{
	if (slot->flags & KVM_MEMSLOT_INVALID || slot->id >= KVM_USER_MEM_SLOTS)
		return 0;
	if (kvm_slot_has_gmem(slot) || kvm_arch_has_private_mem(kvm))
		return -EOPNOTSUPP;
	out[VFIO_RS_KVM_SLOT_GPA] = slot->base_gfn << PAGE_SHIFT;
	out[VFIO_RS_KVM_SLOT_SIZE] = (u64)slot->npages << PAGE_SHIFT;
	out[VFIO_RS_KVM_SLOT_HVA] = slot->userspace_addr;
	out[VFIO_RS_KVM_SLOT_READ_ONLY] = slot->flags & KVM_MEM_READONLY;
	out[VFIO_RS_KVM_SLOT_ID] = slot->id;
	return 1;
}

/*
 * Finds the first slot with an address from @gpa to @last. Returns 1 if there is one, 0 if not, or
 * a negative errno.
 */
int vfio_rs_kvm_next_slot(void *vm, u64 gpa, u64 last, u64 *out)
{
	struct kvm *kvm = vm;
	struct kvm_memslot_iter iter;
	int ret = 0;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	kvm_for_each_memslot_in_gfn_range(&iter, kvm_memslots(kvm), gpa >> PAGE_SHIFT,
					  (last >> PAGE_SHIFT) + 1) {
		ret = copy_slot(kvm, iter.slot, out);
		if (ret)
			break;
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return ret;
}
#else
bool vfio_rs_kvm_built(void)
{
	return false;
}

bool vfio_rs_kvm_is_current(void *vm)
{
	return false;
}

u64 vfio_rs_kvm_generation(void *vm)
{
	return 0;
}

int vfio_rs_kvm_next_slot(void *vm, u64 gpa, u64 last, u64 *out)
{
	return 0;
}
#endif
