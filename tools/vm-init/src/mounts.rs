// SPDX-License-Identifier: GPL-2.0
//! File systems: the host's tree below, an overlay in memory above, and the kernel's own.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, sethostname};
use vm_init::{Job, ROOT_TAG, RUN_DIR};

const NEW_ROOT: &str = "/new";
const P9: &str = "trans=virtio,version=9p2000.L,msize=512000,access=any";

/// Mounts what the first steps need, still in the initramfs.
pub(crate) fn early() -> Result<()> {
    for dir in ["/proc", "/sys", "/dev", "/host", "/overlay", NEW_ROOT] {
        fs::create_dir_all(dir)?;
    }
    kernel("proc", "/proc")?;
    kernel("sysfs", "/sys")?;
    kernel("devtmpfs", "/dev")
}

/// Makes the host's tree the root, and mounts everything that a system has mounted.
pub(crate) fn host_tree(job: &Job) -> Result<()> {
    let flags = MsFlags::MS_RDONLY;
    let options = format!("{P9},cache=loose");
    mount_at(ROOT_TAG, "/host", "9p", flags, &options)?;
    mount_at(
        "overlay",
        "/overlay",
        "tmpfs",
        MsFlags::empty(),
        "mode=755,size=75%",
    )?;
    fs::create_dir_all("/overlay/upper")?;
    fs::create_dir_all("/overlay/work")?;
    let options = "lowerdir=/host,upperdir=/overlay/upper,workdir=/overlay/work";
    mount_at("root", NEW_ROOT, "overlay", MsFlags::empty(), options)?;

    chdir(NEW_ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("moving the root")?;
    chroot(".")?;
    chdir("/")?;
    sethostname("vfio-rs-vm").context("setting the host name")?;
    system()?;
    if let Some(modules) = &job.modules {
        fs::create_dir_all("/lib/modules")?;
        let bind = MsFlags::MS_BIND;
        mount_at(modules, "/lib/modules", "", bind, "")?;
    }
    for share in &job.shares {
        let options = format!("{P9},cache=none");
        mount_at(&share.tag, &share.path, "9p", MsFlags::empty(), &options)?;
    }
    // The modprobe below must be found without a shell's help.
    for (name, value) in &job.env {
        if name == "PATH" {
            // SAFETY: this process has no other thread yet.
            unsafe { env::set_var(name, value) };
        }
    }
    Ok(())
}

/// The kernel's file systems and fresh temporary ones.
fn system() -> Result<()> {
    for dir in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
        fs::create_dir_all(dir)?;
    }
    kernel("proc", "/proc")?;
    kernel("sysfs", "/sys")?;
    kernel("devtmpfs", "/dev")?;
    for dir in ["/dev/pts", "/dev/shm", "/dev/hugepages"] {
        fs::create_dir_all(dir)?;
    }
    let none = MsFlags::empty();
    mount_at(
        "devpts",
        "/dev/pts",
        "devpts",
        none,
        "mode=620,ptmxmode=666",
    )?;
    mount_at("shm", "/dev/shm", "tmpfs", none, "mode=1777")?;
    mount_at("run", "/run", "tmpfs", none, "mode=755")?;
    mount_at("hugetlbfs", "/dev/hugepages", "hugetlbfs", none, "")?;
    kernel("debugfs", "/sys/kernel/debug")?;
    if Path::new("/sys/kernel/tracing").exists() {
        kernel("tracefs", "/sys/kernel/tracing")?;
    }
    fs::create_dir_all(RUN_DIR)?;
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        symlink(target, link).with_context(|| format!("making {link}"))?;
    }
    Ok(())
}

/// Brings the loopback interface up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the descriptor is open and the request lives through the call.
    match unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn kernel(kind: &str, at: &str) -> Result<()> {
    mount_at(kind, at, kind, MsFlags::empty(), "")
}

fn mount_at(what: &str, at: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(what), at, Some(kind), flags, Some(options))
        .with_context(|| format!("mounting {what} ({kind}) on {at}"))
}
