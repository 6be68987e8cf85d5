/* SPDX-License-Identifier: GPL-2.0 */
/* What lockdep is told of locks that are none of the kernel's. */
#ifndef _VFIO_RS_LOCKDEP_H
#define _VFIO_RS_LOCKDEP_H

#ifdef CONFIG_LOCKDEP
struct lock_class_key;
struct lockdep_map;

void vfio_rs_lockdep_init(struct lockdep_map *map, const char *name,
			  struct lock_class_key *key);
void vfio_rs_lockdep_hold(struct lockdep_map *map);
void vfio_rs_lockdep_release(struct lockdep_map *map);
void vfio_rs_lockdep_may_wait(struct lockdep_map *map);
#endif

#endif /* _VFIO_RS_LOCKDEP_H */
