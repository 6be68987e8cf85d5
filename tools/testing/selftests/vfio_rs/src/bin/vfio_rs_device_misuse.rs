// SPDX-License-Identifier: GPL-2.0
//! Ioctls of a device that ask for the wrong: argsz, pointers, indexes, features.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::sys::{self, Plain};
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf};
use vfio_rs_selftests::irq::set;
use vfio_rs_selftests::setup::{PAGE, open_edu};
use vfio_rs_selftests::{Outcome, errno, same, suite};

const NONE: u32 = VFIO_IRQ_SET_DATA_NONE;
const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;

fn unknown_ioctls() -> Outcome {
    let edu = open_edu()?;
    for nr in [
        UNKNOWN_IOCTL,
        GET_API_VERSION,
        SET_IOMMU,
        GROUP_GET_STATUS,
        GROUP_GET_DEVICE_FD,
        0,
    ] {
        errno(
            &format!("ioctl {nr:#x}"),
            sys::with_value(&edu.device, nr, 0),
            Errno::ENOTTY,
        )?;
    }
    Ok(())
}

fn pointers() -> Outcome {
    let edu = open_edu()?;
    for nr in [
        DEVICE_GET_INFO,
        DEVICE_GET_REGION_INFO,
        DEVICE_GET_IRQ_INFO,
        DEVICE_SET_IRQS,
        DEVICE_FEATURE,
    ] {
        for pointer in [0, 8, usize::MAX, usize::MAX / 2] {
            let what = format!("ioctl {nr:#x} of {pointer:#x}");
            errno(
                &what,
                sys::with_value(&edu.device, nr, pointer),
                Errno::EFAULT,
            )?;
        }
    }
    // The struct may be read but not written.
    let ro = DmaBuf::new(PAGE as usize)?;
    ro.put(0, &64u32.to_ne_bytes());
    // SAFETY: our own page, only read from here on.
    unsafe { libc::mprotect(ro.addr() as *mut _, PAGE as usize, libc::PROT_READ) };
    for nr in [DEVICE_GET_INFO, DEVICE_GET_REGION_INFO] {
        let result = sys::raw(edu.device.as_raw_fd(), nr, ro.addr() as usize);
        errno(
            &format!("ioctl {nr:#x} of read-only memory"),
            result,
            Errno::EFAULT,
        )?;
    }
    Ok(())
}

fn with_argsz<T: Plain + Default>(device: &Device, nr: u32, argsz: u32) -> std::io::Result<i32> {
    let mut arg = T::default();
    // SAFETY: every VFIO struct begins with argsz.
    unsafe { std::ptr::from_mut(&mut arg).cast::<u32>().write(argsz) };
    sys::with_struct(device, nr, &mut arg)
}

fn argsz() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    for argsz in [0, 15] {
        errno(
            "GET_INFO",
            with_argsz::<vfio_device_info>(device, DEVICE_GET_INFO, argsz),
            Errno::EINVAL,
        )?;
        errno(
            "IRQ_INFO",
            with_argsz::<vfio_irq_info>(device, DEVICE_GET_IRQ_INFO, argsz),
            Errno::EINVAL,
        )?;
    }
    for argsz in [0, 31] {
        let result = with_argsz::<vfio_region_info>(device, DEVICE_GET_REGION_INFO, argsz);
        errno("REGION_INFO", result, Errno::EINVAL)?;
    }
    for argsz in [16, 20, 24] {
        with_argsz::<vfio_device_info>(device, DEVICE_GET_INFO, argsz)?;
    }
    with_argsz::<vfio_irq_info>(device, DEVICE_GET_IRQ_INFO, 16)?;
    with_argsz::<vfio_region_info>(device, DEVICE_GET_REGION_INFO, 32)?;
    Ok(())
}

fn info_writes_no_more_than_argsz() -> Outcome {
    let edu = open_edu()?;
    let mut buf = sys::buffer(64);
    sys::bytes_mut(&mut buf).fill(0xaa);
    sys::bytes_mut(&mut buf)[..4].copy_from_slice(&16u32.to_ne_bytes());
    sys::with_buffer(&edu.device, DEVICE_GET_INFO, &mut buf)?;
    same(
        "bytes behind argsz",
        sys::bytes(&buf)[16..].iter().all(|b| *b == 0xaa),
        true,
    )
}

fn indexes() -> Outcome {
    let edu = open_edu()?;
    for index in [VFIO_PCI_NUM_IRQS, 6, 255, u32::MAX] {
        errno(
            &format!("interrupt {index}"),
            edu.device.irq_info(index),
            Errno::EINVAL,
        )?;
        errno(
            &format!("SET_IRQS of {index}"),
            set(&edu.device, NONE | TRIGGER, index, 0, 0),
            Errno::EINVAL,
        )?;
    }
    for index in [VFIO_PCI_NUM_REGIONS, 10, 255, 1 << 24, u32::MAX] {
        errno(
            &format!("region {index}"),
            edu.device.region(index),
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

/// Newer than the crate that has the other numbers.
const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFO_V2: u32 = 12;

fn features() -> Outcome {
    let edu = open_edu()?;
    let ask = |argsz, flags| {
        let mut feature = vfio_device_feature {
            argsz,
            flags,
            ..Default::default()
        };
        sys::with_struct(&edu.device, DEVICE_FEATURE, &mut feature)
    };
    let (get, set, probe) = (
        VFIO_DEVICE_FEATURE_GET,
        VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_PROBE,
    );
    errno("argsz 0", ask(0, probe | get), Errno::EINVAL)?;
    errno("argsz 7", ask(7, probe | get), Errno::EINVAL)?;
    errno("unknown flag", ask(8, probe | get | 1 << 19), Errno::EINVAL)?;
    errno("get and set", ask(8, get | set), Errno::EINVAL)?;
    errno(
        "unknown feature",
        ask(8, probe | get | 0x7fff),
        Errno::ENOTTY,
    )?;
    errno(
        "VF token of no VF",
        ask(8, probe | set | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN),
        Errno::ENOTTY,
    )?;
    errno(
        "migration",
        ask(8, probe | get | VFIO_DEVICE_FEATURE_MIGRATION),
        Errno::ENOTTY,
    )?;
    errno(
        "a way to migrate, of a device that cannot",
        ask(8, probe | set | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFO_V2),
        Errno::EINVAL,
    )
}

suite!(
    iommus: All, debug: Answers;
    unknown_ioctls,
    pointers,
    argsz,
    info_writes_no_more_than_argsz,
    indexes,
    features,
);
