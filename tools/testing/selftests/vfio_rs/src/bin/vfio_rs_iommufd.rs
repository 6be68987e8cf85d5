// SPDX-License-Identifier: GPL-2.0
//! Devices by their own nodes: what their ioctls refuse, in which order.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::sys::mman::{ProtFlags, mprotect};
use vfio_client::edu::{BUFFER_SIZE, Edu};
use vfio_client::iommufd::{self, Ioas, Iommufd};
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, sys};
use vfio_rs_selftests::node;
use vfio_rs_selftests::setup::{EDU, IGB, IOVA, PAGE, is_rust_stack, present_kinds, read_trimmed};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

type Attach = vfio_device_attach_iommufd_pt;
type Detach = vfio_device_detach_iommufd_pt;

/// `struct vfio_device_bind_iommufd` as Linux 7.3 has it, with room behind.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Words([u32; 32]);

impl Words {
    fn bind(argsz: u32, flags: u32, fd: i32) -> Self {
        let mut words = [0; 32];
        words[..3].copy_from_slice(&[argsz, flags, fd as u32]);
        Self(words)
    }

    fn send(&mut self, device: &Device) -> io::Result<i32> {
        sys::raw(
            device.as_raw_fd(),
            DEVICE_BIND_IOMMUFD,
            std::ptr::from_mut(self).addr(),
        )
    }
}

/// Bytes of the struct, and of what must be there.
const BIND: u32 = 24;
const BIND_MIN: u32 = 16;

fn node_of_each_kind() -> Outcome {
    node::prepare()?;
    for kind in present_kinds() {
        let bound = kind.bind()?;
        let node = iommufd::node(&bound.pci)?;
        let file = fs::metadata(&node).with_context(|| node.display().to_string())?;
        same("mode", file.mode(), libc::S_IFCHR | 0o600)?;
        let name = node.file_name().context("no name")?;
        let number = read_trimmed(
            &bound
                .pci
                .path()
                .join("vfio-dev")
                .join(name)
                .join("dev")
                .display()
                .to_string(),
        )?;
        let (major, minor) = (libc::major(file.rdev()), libc::minor(file.rdev()));
        same("dev", number, format!("{major}:{minor}"))?;
        bound.pci.release()?;
        ensure!(!node.exists(), "{} stays", node.display());
    }
    Ok(())
}

fn nothing_before_bind() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let mut words = Words([64; 32]);
    let at = std::ptr::from_mut(&mut words).addr();
    for nr in (DEVICE_GET_INFO..DEVICE_GET_INFO + 14).filter(|nr| *nr != DEVICE_BIND_IOMMUFD) {
        let name = format!("ioctl {nr:#x}");
        errno(&name, sys::raw(device.as_raw_fd(), nr, at), Errno::EINVAL)?;
        // Nor does anybody look at the argument.
        errno(&name, sys::raw(device.as_raw_fd(), nr, 1), Errno::EINVAL)?;
    }
    let file = File::from(std::os::fd::AsFd::as_fd(&device).try_clone_to_owned()?);
    errno("read", file.read_at(&mut [0; 4], 0), Errno::EINVAL)?;
    errno("write", file.write_at(&[0; 4], 0), Errno::EINVAL)?;
    let region = vfio_client::region::Region {
        size: PAGE,
        ..Default::default()
    };
    errno(
        "mmap",
        device.mmap(&region, 0, PAGE as usize).map(drop),
        Errno::EINVAL,
    )
}

/// Except why the group cannot be used.
fn viability_before_bind() -> Outcome {
    if !is_rust_stack() {
        skip!("only here");
    }
    let (bound, device) = node::open(&EDU)?;
    let viability = device.viability()?;
    ensure!(
        viability.of(&bound.pci.address).is_some(),
        "{viability:?} does not name {}",
        bound.pci.address
    );
    Ok(())
}

fn bind_refuses() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let iommufd = Iommufd::open()?;
    let fd = iommufd.as_raw_fd();
    let other = File::open("/dev/null")?;
    let bind = |argsz, flags, fd| Words::bind(argsz, flags, fd).send(&device);
    errno(
        "pointer",
        sys::raw(device.as_raw_fd(), DEVICE_BIND_IOMMUFD, 1),
        Errno::EFAULT,
    )?;
    errno("too short", bind(BIND_MIN - 1, 0, fd), Errno::EINVAL)?;
    errno("no size", bind(0, 0, fd), Errno::EINVAL)?;
    errno("flags", bind(BIND, 2, fd), Errno::EINVAL)?;
    errno("negative", bind(BIND, 0, -1), Errno::EINVAL)?;
    errno("not open", bind(BIND, 0, 999), Errno::EBADF)?;
    errno(
        "another file",
        bind(BIND, 0, other.as_raw_fd()),
        Errno::EBADFD,
    )?;
    errno(
        "a device's",
        bind(BIND, 0, device.as_raw_fd()),
        Errno::EBADFD,
    )?;
    let mut long = Words::bind(BIND + 8, 0, fd);
    long.0[7] = 1;
    errno("more than known", long.send(&device), Errno::E2BIG)?;
    // A token for a device that has no virtual functions: looked at before the descriptor.
    let mut token = Words::bind(BIND, VFIO_DEVICE_BIND_FLAG_TOKEN, 999);
    errno("pointer of the token", token.send(&device), Errno::EFAULT)?;
    let uuid = [0u8; 16];
    let at = uuid.as_ptr().addr() as u64;
    token.0[4..6].copy_from_slice(&[at as u32, (at >> 32) as u32]);
    errno("token", token.send(&device), Errno::EINVAL)?;
    errno("still unbound", device.info(), Errno::EINVAL)?;
    // Zeros behind it are fine, and so is a short one.
    let mut long = Words::bind(BIND + 8, 0, fd);
    long.send(&device)?;
    ensure!(long.0[3] != 0, "no number");
    device.info()?;
    errno("twice", bind(BIND_MIN, 0, fd), Errno::EINVAL)
}

fn short_struct_binds() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let iommufd = Iommufd::open()?;
    Words::bind(BIND_MIN, 0, iommufd.as_raw_fd()).send(&device)?;
    device.info()?;
    Ok(())
}

fn one_file_has_the_device() -> Outcome {
    let (bound, first) = node::open(&EDU)?;
    let second = Device::open_node(&bound.pci)?;
    let iommufd = Iommufd::open()?;
    first.bind_iommufd(&iommufd)?;
    errno("second file", second.bind_iommufd(&iommufd), Errno::EINVAL)?;
    errno("still unbound", second.info(), Errno::EINVAL)?;
    drop(first);
    second.bind_iommufd(&iommufd)?;
    second.info()?;
    Ok(())
}

fn group_and_node_exclude_each_other() -> Outcome {
    let (bound, device) = node::open(&EDU)?;
    let iommufd = Iommufd::open()?;
    let group = bound.open_group()?;
    errno("BIND", device.bind_iommufd(&iommufd), Errno::EBUSY)?;
    // Before anything about the device, and after all about the struct.
    let mut words = Words::bind(BIND, 0, 999);
    errno("BIND of no file", words.send(&device), Errno::EBUSY)?;
    let mut words = Words::bind(BIND, 2, 999);
    errno("BIND with flags", words.send(&device), Errno::EINVAL)?;
    drop(group);
    device.bind_iommufd(&iommufd)?;
    let node = vfio_client::group::node(bound.group);
    let open = || OpenOptions::new().read(true).write(true).open(&node);
    errno("open the group", open(), Errno::EBUSY)?;
    drop(device);
    open()?;
    Ok(())
}

fn device_of_a_group_is_not_bound() -> Outcome {
    node::prepare()?;
    let edu = EDU.open()?;
    let iommufd = Iommufd::open()?;
    let mut attach = Attach {
        argsz: argsz::<Attach>(),
        ..Default::default()
    };
    errno("BIND", edu.device.bind_iommufd(&iommufd), Errno::EINVAL)?;
    errno(
        "ATTACH",
        sys::with_struct(&edu.device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach),
        Errno::ENOTTY,
    )?;
    errno("DETACH", edu.device.detach_pt(), Errno::ENOTTY)
}

fn attach_refuses() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let ioas = Ioas::new()?;
    let id = device.bind_iommufd(&ioas)?;
    let send = |argsz, flags, pt_id| {
        let pasid = 1;
        let mut attach = Attach {
            argsz,
            flags,
            pt_id,
            pasid,
        };
        sys::with_struct(&device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
    };
    errno(
        "pointer",
        sys::raw(device.as_raw_fd(), DEVICE_ATTACH_IOMMUFD_PT, 1),
        Errno::EFAULT,
    )?;
    errno("too short", send(11, 0, ioas.id()), Errno::EINVAL)?;
    errno("flags", send(16, 2, ioas.id()), Errno::EINVAL)?;
    errno(
        "no room for the PASID",
        send(12, 1, ioas.id()),
        Errno::EINVAL,
    )?;
    errno("no such thing", send(12, 0, 12345), Errno::ENOENT)?;
    errno("a device", send(12, 0, id), Errno::EINVAL)?;
    // edu has no PASIDs.
    ensure!(device.attach_pasid(ioas.id(), 1).is_err(), "a PASID");
    errno(
        "a large PASID",
        device.attach_pasid(ioas.id(), 1 << 31),
        Errno::ENOSPC,
    )?;
    device.detach_pasid(1)?;
    // Nothing has changed.
    device.detach_pt()?;
    ensure!(device.attach_pt(ioas.id())? != 0, "no number");
    errno("a device, attached", send(12, 0, id), Errno::EINVAL)?;
    let detach = |argsz, flags| {
        let mut detach = Detach {
            argsz,
            flags,
            pasid: 1,
        };
        sys::with_struct(&device, DEVICE_DETACH_IOMMUFD_PT, &mut detach)
    };
    errno("too short", detach(7, 0), Errno::EINVAL)?;
    errno("flags", detach(12, 2), Errno::EINVAL)?;
    errno("no room for the PASID", detach(8, 1), Errno::EINVAL)?;
    errno("attached", ioas.iommufd().destroy(ioas.id()), Errno::EBUSY)?;
    detach(8, 0)?;
    device.detach_pt()?;
    Ok(ioas.iommufd().destroy(ioas.id())?)
}

/// Page tables are those of the device's own context, and stay while it is attached.
fn page_tables() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let ioas = Ioas::new()?;
    let id = device.bind_iommufd(&ioas)?;
    let own = ioas.iommufd().alloc_hwpt(id, ioas.id())?;
    same("the number", device.attach_pt(own)?, own)?;
    errno("attached", ioas.iommufd().destroy(own), Errno::EBUSY)?;
    let (_other_bound, other) = node::open(&IGB)?;
    let foreign = Ioas::new()?;
    let other_id = other.bind_iommufd(&foreign)?;
    // A number that is nothing in the first context.
    for _ in 0..8 {
        foreign.iommufd().alloc_ioas()?;
    }
    let table = foreign.iommufd().alloc_hwpt(other_id, foreign.id())?;
    errno("another's", device.attach_pt(table), Errno::ENOENT)?;
    other.attach_pt(table)?;
    errno(
        "another's, attached",
        device.attach_pt(table),
        Errno::ENOENT,
    )?;
    let buf = DmaBuf::new(PAGE as usize)?;
    ioas.map(buf.addr(), IOVA, PAGE)?;
    buf.put(0, &[0x5a; 8]);
    let edu = Edu::new(&device)?;
    edu.fetch(IOVA, 8)?;
    edu.store(IOVA + 8, 8)?;
    ensure!(buf.is_filled(8, 8, 0x5a), "attached as before");
    device.detach_pt()?;
    Ok(ioas.iommufd().destroy(own)?)
}

/// A struct that cannot be written.
struct ReadOnly(DmaBuf);

impl ReadOnly {
    fn new(words: &[u32]) -> Result<Self> {
        let buf = DmaBuf::new(PAGE as usize)?;
        for (at, word) in words.iter().enumerate() {
            buf.put(4 * at, &word.to_ne_bytes());
        }
        let at = std::ptr::NonNull::new(buf.addr() as *mut _).context("null")?;
        // SAFETY: the memory is the buffer's, of which nobody has a reference.
        unsafe { mprotect(at, PAGE as usize, ProtFlags::PROT_READ) }?;
        Ok(Self(buf))
    }

    fn send(&self, device: &Device, nr: u32) -> io::Result<i32> {
        sys::raw(device.as_raw_fd(), nr, self.0.addr() as usize)
    }
}

/// A result that cannot be written: nothing has been done.
fn bad_place_for_the_result() -> Outcome {
    let (bound, device) = node::open(&EDU)?;
    let ioas = Ioas::new()?;
    let words = [BIND, 0, ioas.as_raw_fd() as u32, 0, 0, 0];
    let bind = ReadOnly::new(&words)?;
    errno(
        "BIND",
        bind.send(&device, DEVICE_BIND_IOMMUFD),
        Errno::EFAULT,
    )?;
    errno("still unbound", device.info(), Errno::EINVAL)?;
    drop(bound.open_group().context("the group is free")?);
    device.bind_iommufd(&ioas)?;

    let attach = ReadOnly::new(&[12, 0, ioas.id()])?;
    errno(
        "ATTACH",
        attach.send(&device, DEVICE_ATTACH_IOMMUFD_PT),
        Errno::EFAULT,
    )?;
    ioas.iommufd()
        .destroy(ioas.id())
        .context("it is not attached")?;
    let first = ioas.iommufd().alloc_ioas()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    ioas.iommufd().map(first, buf.addr(), IOVA, PAGE)?;
    device.attach_pt(first)?;

    let second = ioas.iommufd().alloc_ioas()?;
    let replace = ReadOnly::new(&[12, 0, second])?;
    errno(
        "ATTACH of another",
        replace.send(&device, DEVICE_ATTACH_IOMMUFD_PT),
        Errno::EFAULT,
    )?;
    if !is_rust_stack() {
        return Ok(()); // C has detached it.
    }
    // It sees what it saw.
    buf.fill(0x5a);
    let edu = Edu::new(&device)?;
    edu.fetch(IOVA, BUFFER_SIZE)?;
    buf.fill(0);
    edu.store(IOVA, BUFFER_SIZE)?;
    ensure!(buf.is_filled(0, BUFFER_SIZE, 0x5a), "the data did not come");
    Ok(ioas.iommufd().destroy(second)?)
}

/// A struct that lies across two pages.
fn result_across_pages() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let iommufd = Iommufd::open()?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    // The result has two bytes on each page.
    let start = PAGE as usize - 14;
    for (at, word) in [BIND, 0, iommufd.as_raw_fd() as u32]
        .into_iter()
        .enumerate()
    {
        buf.put(start + 4 * at, &word.to_ne_bytes());
    }
    buf.put(start + 12, &[0xff; 4]);
    let at = buf.addr() as usize + start;
    sys::raw(device.as_raw_fd(), DEVICE_BIND_IOMMUFD, at)?;
    let id = u32::from_ne_bytes(buf.copy(start + 12, 4).try_into().unwrap_or_default());
    // The number of an object of the iommufd: it is no address space.
    errno("attach to itself", device.attach_pt(id), Errno::EINVAL)?;
    errno("to another", device.attach_pt(id ^ 0xff00), Errno::ENOENT)
}

suite!(
    iommus: All, debug: Lifetimes;
    node_of_each_kind,
    nothing_before_bind,
    viability_before_bind,
    bind_refuses,
    short_struct_binds,
    one_file_has_the_device,
    group_and_node_exclude_each_other,
    device_of_a_group_is_not_bound,
    attach_refuses,
    page_tables,
    bad_place_for_the_result,
    result_across_pages,
);
