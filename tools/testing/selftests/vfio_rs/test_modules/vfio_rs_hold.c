// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps the mmap_lock of a process, for reading, until it is removed.
 *
 * Processes can do that to themselves, by memory that comes from a slow or
 * malicious file system; vfio_rs_stall needs to see who waits for them then.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>

static int pid;
module_param(pid, int, 0400);
MODULE_PARM_DESC(pid, "The process");

static struct mm_struct *mm;

static int __init hold_init(void)
{
	struct pid *number = find_get_pid(pid);
	struct task_struct *task = get_pid_task(number, PIDTYPE_PID);

	put_pid(number);
	if (!task)
		return -ESRCH;
	mm = get_task_mm(task);
	put_task_struct(task);
	if (!mm)
		return -ESRCH;
	down_read_non_owner(&mm->mmap_lock);
	return 0;
}
module_init(hold_init);

static void __exit hold_exit(void)
{
	up_read_non_owner(&mm->mmap_lock);
	mmput(mm);
}
module_exit(hold_exit);

MODULE_DESCRIPTION("Keeps the mmap_lock of a process");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
