// SPDX-License-Identifier: GPL-2.0
//! The group: one opener, its status, joining and leaving containers, and handing out devices.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags};
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Event, Group};
use vfio_rs_selftests::process;
use vfio_rs_selftests::setup::{EDU, PAGE, open_edu};
use vfio_rs_selftests::{Outcome, errno, same, suite};

fn second_opener() -> Outcome {
    let bound = EDU.bind()?;
    let first = bound.open_group()?;
    errno("a second open", Group::open(bound.group), Errno::EBUSY)?;
    let mut child = process::spawn(|| match Group::open(bound.group) {
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => 0,
        _ => 1,
    })?;
    child.ended_well("another process")?;
    drop(first);
    bound.open_group()?;
    Ok(())
}

fn duplicate_keeps_it_open() -> Outcome {
    let bound = EDU.bind()?;
    let first = bound.open_group()?;
    let copy = nix::unistd::dup(&first)?;
    drop(first);
    errno(
        "open while a duplicate is there",
        Group::open(bound.group),
        Errno::EBUSY,
    )?;
    drop(copy);
    bound.open_group()?;
    Ok(())
}

fn status_misuse() -> Outcome {
    let group = EDU.bind()?.open_group()?;
    errno(
        "NULL",
        sys::with_value(&group, GROUP_GET_STATUS, 0),
        Errno::EFAULT,
    )?;
    for argsz in [0, 7] {
        let mut status = vfio_group_status { argsz, flags: 0x55 };
        errno(
            "short argsz",
            sys::with_struct(&group, GROUP_GET_STATUS, &mut status),
            Errno::EINVAL,
        )?;
        same("flags then", status.flags, 0x55)?;
    }
    let mut status = vfio_group_status {
        argsz: 4096,
        flags: 0x55,
    };
    sys::with_struct(&group, GROUP_GET_STATUS, &mut status)?;
    same(
        "a long argsz",
        status,
        vfio_group_status {
            argsz: 4096,
            flags: VFIO_GROUP_FLAGS_VIABLE,
        },
    )
}

fn unknown_ioctls() -> Outcome {
    let group = EDU.bind()?.open_group()?;
    for nr in [
        UNKNOWN_IOCTL,
        GET_API_VERSION,
        SET_IOMMU,
        IOMMU_MAP_DMA,
        DEVICE_GET_INFO,
        0,
    ] {
        errno(
            &format!("ioctl {nr:#x}"),
            sys::with_value(&group, nr, 0),
            Errno::ENOTTY,
        )?;
    }
    Ok(())
}

fn set_container_misuse() -> Outcome {
    let group = EDU.bind()?.open_group()?;
    errno(
        "NULL",
        sys::with_value(&group, GROUP_SET_CONTAINER, 0),
        Errno::EFAULT,
    )?;
    errno("descriptor -1", group.set_container_fd(-1), Errno::EBADF)?;
    errno(
        "a closed descriptor",
        group.set_container_fd(999),
        Errno::EBADF,
    )?;
    let null = std::fs::File::open("/dev/null")?;
    errno(
        "/dev/null",
        group.set_container_fd(null.as_raw_fd()),
        Errno::EBADFD,
    )?;
    errno(
        "the group itself",
        group.set_container_fd(group.as_raw_fd()),
        Errno::EBADFD,
    )?;
    errno(
        "an eventfd",
        group.set_container_fd(Event::new()?.as_raw_fd()),
        Errno::EBADFD,
    )?;
    let container = Container::open()?;
    group.set_container(&container)?;
    errno(
        "a second time",
        group.set_container(&container),
        Errno::EINVAL,
    )?;
    errno(
        "another container",
        group.set_container(&Container::open()?),
        Errno::EINVAL,
    )?;
    errno(
        "then /dev/null",
        group.set_container_fd(null.as_raw_fd()),
        Errno::EINVAL,
    )?;
    errno("then -1", group.set_container_fd(-1), Errno::EBADF)
}

fn unset_container() -> Outcome {
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    errno("in no container", group.unset_container(), Errno::EINVAL)?;
    drop(group);
    let (container, group) = bound.join()?;
    group.unset_container()?;
    errno("twice", group.unset_container(), Errno::EINVAL)?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let (one, two) = (
        group.device(&bound.pci.address)?,
        group.device(&bound.pci.address)?,
    );
    errno(
        "with two devices open",
        group.unset_container(),
        Errno::EBUSY,
    )?;
    drop(one);
    errno(
        "with one device open",
        group.unset_container(),
        Errno::EBUSY,
    )?;
    drop(two);
    Ok(group.unset_container()?)
}

fn device_too_early() -> Outcome {
    let bound = EDU.bind()?;
    let name = bound.pci.address.as_str();
    let group = bound.open_group()?;
    errno("without a container", group.device(name), Errno::EINVAL)?;
    errno(
        "unknown name, without one",
        group.device("0000:ff:1f.7"),
        Errno::ENODEV,
    )?;
    let container = Container::open()?;
    group.set_container(&container)?;
    errno("before SET_IOMMU", group.device(name), Errno::EINVAL)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    group.device(name)?;
    Ok(())
}

fn device_names() -> Outcome {
    let bound = EDU.bind()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let name = bound.pci.address.as_str();
    let short = &name[..name.len() - 1];
    for unknown in [
        "",
        " ",
        "vfio",
        "0000:ff:1f.7",
        short,
        &name[5..],
        &format!("{name}0"),
        &format!(" {name}"),
    ] {
        errno(
            &format!("{unknown:?}"),
            group.device(unknown),
            Errno::ENODEV,
        )?;
    }
    // Options follow a blank; only a VF and its PF take one.
    let token = "vf_token=01234567-89ab-cdef-0123-456789abcdef";
    for option in ["x", "vf_token=", "vf_token=1", token] {
        errno(
            &format!("option {option:?}"),
            group.device(&format!("{name} {option}")),
            Errno::EINVAL,
        )?;
    }
    group.device(&format!("{name}  "))?;
    let long = format!("{name}{}", " ".repeat(4000 - name.len()));
    group.device(&long)?;
    Ok(())
}

fn device_name_pointers() -> Outcome {
    let (_container, group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let get = |pointer: u64| sys::raw(group.as_raw_fd(), GROUP_GET_DEVICE_FD, pointer as usize);
    errno("NULL", get(0), Errno::EFAULT)?;
    errno("-1", get(u64::MAX), Errno::EFAULT)?;
    let text = DmaBuf::new(2 * PAGE as usize)?;
    text.fill(b'x');
    errno("a page without end", get(text.addr()), Errno::EINVAL)?;
    text.set(PAGE as usize - 1, 0);
    errno("a page with its end", get(text.addr()), Errno::ENODEV)?;
    text.set(PAGE as usize - 1, b'x');
    text.protect_none(PAGE as usize)?;
    errno("the last page", get(text.addr()), Errno::EINVAL)?;
    errno("half of it", get(text.addr() + PAGE / 2), Errno::EFAULT)?;
    let hidden = DmaBuf::with_flags(PAGE as usize, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)?;
    errno("unreadable memory", get(hidden.addr()), Errno::EFAULT)
}

fn device_descriptor_flags() -> Outcome {
    let edu = open_edu()?;
    let flags = FdFlag::from_bits_retain(fcntl(&edu.device, FcntlArg::F_GETFD)?);
    same("close-on-exec", flags, FdFlag::FD_CLOEXEC)?;
    let mode = fcntl(&edu.device, FcntlArg::F_GETFL)? & OFlag::O_ACCMODE.bits();
    same("mode", mode, OFlag::O_RDWR.bits())?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", edu.device.as_raw_fd()))?;
    same("name", link.to_str(), Some("anon_inode:[vfio-device]"))
}

fn joins_again_elsewhere() -> Outcome {
    let bound = EDU.bind()?;
    let (first, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    drop(group.device(&bound.pci.address)?);
    group.unset_container()?;
    let second = Container::open()?;
    group.set_container(&second)?;
    second.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    errno(
        "SET_IOMMU of the first",
        first.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    group.device(&bound.pci.address)?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    second_opener,
    duplicate_keeps_it_open,
    status_misuse,
    unknown_ioctls,
    set_container_misuse,
    unset_container,
    device_too_early,
    device_names,
    device_name_pointers,
    device_descriptor_flags,
    joins_again_elsewhere,
);
