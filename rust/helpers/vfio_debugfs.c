// SPDX-License-Identifier: GPL-2.0
/* debugfs. A kernel without it has stubs, inline. */
#include <linux/debugfs.h>

#include "vfio_helpers.h"

struct dentry *vfio_rs_debugfs_dir(const char *name)
{
	return debugfs_create_dir(name, NULL);
}

struct dentry *vfio_rs_debugfs_subdir(const char *name, struct dentry *parent)
{
	return debugfs_create_dir(name, parent);
}

struct dentry *vfio_rs_debugfs_file(const char *name, umode_t mode, struct dentry *parent,
				    void *data, const struct file_operations *fops)
{
	return debugfs_create_file(name, mode, parent, data, fops);
}

void vfio_rs_debugfs_remove(struct dentry *dentry)
{
	debugfs_remove(dentry);
}
