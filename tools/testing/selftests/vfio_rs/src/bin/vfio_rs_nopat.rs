// SPDX-License-Identifier: GPL-2.0
//! A machine without page attribute tables, where no memory can be write-combining: the offer is
//! not made.

use nix::errno::Errno;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_rs_selftests::setup::{IVSHMEM, PAGE, has_pat};
use vfio_rs_selftests::{Outcome, errno, same, skip, suite};

fn no_write_combining() -> Outcome {
    if has_pat()? {
        skip!("the machine has page attribute tables");
    }
    let opened = IVSHMEM.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(2)?;
    same("capability", &bar.write_combining, &None)?;
    same("capabilities", bar.cap_ids.len(), 0)?;
    let wc = Region {
        offset: bar.offset | 1 << 62,
        ..bar.clone()
    };
    let page = PAGE as usize;
    errno("map there", opened.device.mmap(&wc, 0, page), Errno::EINVAL)?;
    // The normal way is as ever.
    let map = opened.device.mmap(&bar, 0, page)?;
    map.write32(0, 5);
    same("word", opened.device.read32(&bar, 0)?, 5)
}

suite!(iommus: All, debug: Answers; no_write_combining);
