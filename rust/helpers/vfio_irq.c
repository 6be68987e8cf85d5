// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_irq.h. */
#include <linux/hardirq.h>
#include <linux/irqbypass.h>
#include <linux/jiffies.h>
#include <linux/poll.h>
#include <linux/sched.h>

#include "vfio_irq.h"

/* Whether the caller runs on the account of a process. */
bool vfio_rs_user_pays(void)
{
	return in_task() && !(current->flags & PF_KTHREAD);
}

unsigned long vfio_rs_jiffies(void)
{
	return jiffies;
}

struct workqueue_struct *vfio_rs_alloc_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND | WQ_SYSFS, 0, name);
}

void vfio_rs_init_work(struct work_struct *work, work_func_t func)
{
	INIT_WORK(work, func);
}

void vfio_rs_init_delayed_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

/* At once, also if it is to run later. */
void vfio_rs_work_now(struct workqueue_struct *wq, struct delayed_work *work)
{
	mod_delayed_work(wq, work, 0);
}

/* After @ticks, unless it is to run anyway. */
void vfio_rs_work_after(struct workqueue_struct *wq, struct delayed_work *work,
			unsigned long ticks)
{
	queue_delayed_work(wq, work, ticks);
}

void vfio_rs_init_wait_func(struct wait_queue_entry *wait, wait_queue_func_t func)
{
	init_waitqueue_func_entry(wait, func);
}

struct vfio_rs_hook {
	poll_table pt;
	struct wait_queue_entry *wait;
};

static void vfio_rs_hook_queue(struct file *file, wait_queue_head_t *wqh, poll_table *pt)
{
	add_wait_queue(wqh, container_of(pt, struct vfio_rs_hook, pt)->wait);
}

/* Puts @wait into the wait queue of an eventfd; returns what it has, EPOLL*. */
unsigned int vfio_rs_hook_eventfd(struct file *file, struct wait_queue_entry *wait)
{
	struct vfio_rs_hook hook = { .wait = wait };

	init_poll_funcptr(&hook.pt, vfio_rs_hook_queue);
	return (__force unsigned int)vfs_poll(file, &hook.pt);
}

/* From a wake function, which has the queue locked; it may be removed again. */
void vfio_rs_unhook_locked(struct wait_queue_entry *wait)
{
	list_del_init(&wait->entry);
}

int vfio_rs_irq_bypass_register(struct irq_bypass_producer *producer,
				struct eventfd_ctx *eventfd, int irq)
{
	if (!IS_ENABLED(CONFIG_IRQ_BYPASS_MANAGER))
		return 0;
	return irq_bypass_register_producer(producer, eventfd, irq);
}

void vfio_rs_irq_bypass_unregister(struct irq_bypass_producer *producer)
{
	if (IS_ENABLED(CONFIG_IRQ_BYPASS_MANAGER))
		irq_bypass_unregister_producer(producer);
}
