// SPDX-License-Identifier: GPL-2.0
//! Devices by their own nodes while memory fails: a call that fails has changed nothing.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::edu::Edu;
use vfio_client::iommufd::{self, Ioas, Iommufd};
use vfio_client::{Device, DmaBuf};
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::node;
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE};
use vfio_rs_selftests::{Context, Outcome, ensure, errno, suite};

const ERRORS: [Errno; 2] = [Errno::ENOMEM, Errno::EFAULT];

fn open_node() -> Outcome {
    let faults = Faults::new()?;
    node::prepare()?;
    let bound = EDU.bind()?;
    let path = iommufd::node(&bound.pci)?;
    faults.sweep(
        "open",
        &ERRORS,
        |_| Ok(()),
        |()| OpenOptions::new().read(true).write(true).open(&path),
        |(), _| Ok(()),
    )
}

fn bind() -> Outcome {
    let faults = Faults::new()?.sparse(10);
    node::prepare()?;
    let bound = EDU.bind()?;
    let iommufd = Iommufd::open()?;
    faults.sweep(
        "BIND",
        &ERRORS,
        |_| Ok(Device::open_node(&bound.pci)?),
        |device| device.bind_iommufd(&iommufd),
        |device, id| {
            if id.is_none() {
                errno("still unbound", device.info(), Errno::EINVAL)?;
                // Nobody has it.
                drop(bound.open_group().context("the group is free")?);
                device.bind_iommufd(&iommufd)?;
            }
            device.info()?;
            Ok(())
        },
    )
}

fn attach() -> Outcome {
    let faults = Faults::new()?;
    let (_bound, device) = node::open(&EDU)?;
    let ioas = Ioas::new()?;
    device.bind_iommufd(&ioas)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    ioas.map(buf.addr(), IOVA, PAGE)?;
    faults.sweep(
        "ATTACH",
        &ERRORS,
        |_| Ok(()),
        |()| device.attach_pt(ioas.id()),
        |(), pt| {
            if pt.is_none() {
                // It is not attached, so what is there can go.
                let other = ioas.iommufd().alloc_ioas()?;
                device.attach_pt(other)?;
                device.detach_pt()?;
                ioas.iommufd().destroy(other)?;
            }
            Ok(device.detach_pt()?)
        },
    )
}

fn replace() -> Outcome {
    let faults = Faults::new()?;
    let edu = node::attach(&EDU)?;
    let buf = edu.map_new(IOVA, 1)?;
    let other = edu.ioas.iommufd().alloc_ioas()?;
    let device = Edu::new(&edu.device)?;
    let mut failed = 0;
    faults.sweep(
        "ATTACH of another",
        &ERRORS,
        |_| Ok(()),
        |()| edu.device.attach_pt(other),
        |(), pt| {
            if pt.is_some() {
                edu.device.attach_pt(edu.ioas.id())?;
                return Ok(());
            }
            // VT-d's driver may have blocked the device, having failed in the middle; but iommufd
            // knows what it sees, which can be had again. A copy takes long.
            edu.device.attach_pt(other)?;
            edu.device.attach_pt(edu.ioas.id())?;
            failed += 1;
            if failed % 8 == 1 {
                buf.fill(0x11);
                device.fetch(IOVA, 16)?;
                buf.fill(0);
                device.store(IOVA, 16)?;
                ensure!(buf.is_filled(0, 16, 0x11), "DMA does not arrive");
            }
            Ok(())
        },
    )
}

fn group_takes_an_iommufd() -> Outcome {
    let faults = Faults::new()?;
    node::prepare()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    faults.sweep(
        "SET_CONTAINER",
        &ERRORS,
        |_| Ok(Iommufd::open()?),
        |iommufd| group.set_container_fd(iommufd.as_raw_fd()),
        |iommufd, set| {
            if set.is_none() {
                group.set_container_fd(iommufd.as_raw_fd())?;
            }
            Ok(group.unset_container()?)
        },
    )
}

fn device_of_such_a_group() -> Outcome {
    let faults = Faults::new()?.sparse(10);
    node::prepare()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    let iommufd = Iommufd::open()?;
    group.set_container_fd(iommufd.as_raw_fd())?;
    let ioas = iommufd.compat_ioas()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    iommufd.map(ioas, buf.addr(), IOVA, PAGE)?;
    faults.sweep(
        "GET_DEVICE_FD",
        &ERRORS,
        |_| Ok(()),
        |()| group.device(&bound.pci.address),
        |(), device| {
            if device.is_none() {
                // Nothing keeps the group.
                group.unset_container()?;
                group.set_container_fd(iommufd.as_raw_fd())?;
            }
            Ok(())
        },
    )
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    open_node,
    bind,
    attach,
    replace,
    group_takes_an_iommufd,
    device_of_such_a_group,
);
