// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_lockdep.h. */
#include <linux/lockdep.h>
#include <linux/sched.h>

#include "vfio_lockdep.h"

#ifdef CONFIG_LOCKDEP
void vfio_rs_lockdep_init(struct lockdep_map *map, const char *name,
			  struct lock_class_key *key)
{
	lockdep_init_map(map, name, key, 0);
}

/* Nobody waits to hold it, so it comes behind nothing. */
void vfio_rs_lockdep_hold(struct lockdep_map *map)
{
	lock_map_acquire_tryread(map);
}

void vfio_rs_lockdep_release(struct lockdep_map *map)
{
	lock_map_release(map);
}

/* What is waited for may take a user's time, so nobody else may wait for the one who does. */
void vfio_rs_lockdep_may_wait(struct lockdep_map *map)
{
	might_sleep();
	lockdep_assert_none_held_once();
	lock_map_acquire(map);
	lock_map_release(map);
}
#endif
