/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _VFIO_RS_NAMES_H
#define _VFIO_RS_NAMES_H

/* In vfio.ko; named by the other carriers, so that they pull it in. */
extern const bool vfio_rs_names_loaded;

#endif /* _VFIO_RS_NAMES_H */
