/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for interrupts and the eventfds that stand for them. */
#ifndef _VFIO_RS_IRQ_H
#define _VFIO_RS_IRQ_H

#include <linux/param.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

struct eventfd_ctx;
struct file;
struct irq_bypass_producer;

#define VFIO_RS_HZ	HZ

bool vfio_rs_user_pays(void);
unsigned long vfio_rs_jiffies(void);
struct workqueue_struct *vfio_rs_alloc_workqueue(const char *name);
void vfio_rs_init_work(struct work_struct *work, work_func_t func);
void vfio_rs_init_delayed_work(struct delayed_work *work, work_func_t func);
void vfio_rs_work_now(struct workqueue_struct *wq, struct delayed_work *work);
void vfio_rs_work_after(struct workqueue_struct *wq, struct delayed_work *work,
			unsigned long ticks);
void vfio_rs_init_wait_func(struct wait_queue_entry *wait, wait_queue_func_t func);
unsigned int vfio_rs_hook_eventfd(struct file *file, struct wait_queue_entry *wait);
void vfio_rs_unhook_locked(struct wait_queue_entry *wait);
int vfio_rs_irq_bypass_register(struct irq_bypass_producer *producer,
				struct eventfd_ctx *eventfd, int irq);
void vfio_rs_irq_bypass_unregister(struct irq_bypass_producer *producer);

#endif /* _VFIO_RS_IRQ_H */
