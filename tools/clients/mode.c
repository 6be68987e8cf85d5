// SPDX-License-Identifier: GPL-2.0
/*
 * Linked with the objects of Linux's VFIO selftests, which are as upstream has them: their default
 * mode is "iommufd", which VFIO_SELFTESTS_MODE overrides.
 */
#include <poll.h>
#include <stdlib.h>

extern const char *default_iommu_mode;

__attribute__((constructor)) static void choose_mode(void)
{
	const char *mode = getenv("VFIO_SELFTESTS_MODE");

	if (mode)
		default_iommu_mode = mode;
}

/*
 * The harness ends each test after a time that is meant for real machines: an emulated one, on a
 * busy host, gets VFIO_SELFTESTS_PATIENCE times as much. Linked by --wrap=poll; the harness waits
 * so.
 */
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	const char *patience = getenv("VFIO_SELFTESTS_PATIENCE");

	if (patience && timeout > 0)
		timeout *= atoi(patience);
	return __real_poll(fds, count, timeout);
}
