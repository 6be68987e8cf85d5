// SPDX-License-Identifier: GPL-2.0
/*
 * The symbols by which KVM finds VFIO, see virt/kvm/vfio.c, and the two by which
 * VFIO finds KVM. Each side looks the other up by name, so neither module needs
 * the other.
 */
#include <linux/export.h>
#include <linux/vfio.h>
#if IS_ENABLED(CONFIG_KVM)
#include <linux/kvm_host.h>
#endif

#include "vfio_kvm.h"

bool vfio_file_is_valid(struct file *file)
{
	return vfio_rs_file_is_valid(file);
}
EXPORT_SYMBOL_GPL(vfio_file_is_valid);

bool vfio_file_enforced_coherent(struct file *file)
{
	return vfio_rs_file_enforced_coherent(file);
}
EXPORT_SYMBOL_GPL(vfio_file_enforced_coherent);

void vfio_file_set_kvm(struct file *file, struct kvm *kvm)
{
	vfio_rs_file_set_kvm(file, kvm);
}
EXPORT_SYMBOL_GPL(vfio_file_set_kvm);

#if IS_ENABLED(CONFIG_KVM)
/* Takes a reference to @kvm, and one to its module so that it can be given back. */
bool vfio_rs_kvm_get_safe(void *kvm)
{
	bool (*get)(struct kvm *kvm);
	void (*put)(struct kvm *kvm);
	bool ret;

	put = symbol_get(kvm_put_kvm);
	if (!put)
		return false;
	get = symbol_get(kvm_get_kvm_safe);
	ret = get && get(kvm);
	if (get)
		symbol_put(kvm_get_kvm_safe);
	if (!ret)
		symbol_put(kvm_put_kvm);
	return ret;
}

/* Undoes vfio_rs_kvm_get_safe(). */
void vfio_rs_kvm_put(void *kvm)
{
	void (*put)(struct kvm *kvm) = symbol_get(kvm_put_kvm);

	if (WARN_ON(!put))
		return;
	put(kvm);
	symbol_put(kvm_put_kvm);
	symbol_put(kvm_put_kvm);
}
#else
bool vfio_rs_kvm_get_safe(void *kvm)
{
	return false;
}

void vfio_rs_kvm_put(void *kvm)
{
}
#endif
