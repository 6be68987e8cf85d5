// SPDX-License-Identifier: GPL-2.0
//! An ordinary user, and descriptors handed from one process to another.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::chown;

use anyhow::{Context, Result, anyhow};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use vfio_client::group::node;

use crate::Outcome;
use crate::process::{self, Child};
use crate::setup::{Bound, PAGE};

/// User and group `nobody`.
pub const NOBODY: u32 = 65534;
/// Pages that the user may lock.
pub const LIMIT: u64 = 16;

/// Gives the node of a group to the user, or back to root.
///
/// # Errors
/// errno of chown(2).
pub fn give_node(bound: &Bound, user: u32) -> Outcome {
    Ok(chown(node(bound.group), Some(user), Some(user))?)
}

/// Runs `body` in a child that is the user, with a limit of [`LIMIT`] pages.
///
/// # Errors
/// errno of fork(2).
pub fn spawn(body: impl FnOnce() -> Outcome) -> Result<Child> {
    process::spawn(|| {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let limit = LIMIT * PAGE;
        let outcome = setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit)
            .and_then(|()| setgroups(&[]))
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .context("become nobody")
            .and_then(|()| body());
        match outcome {
            Ok(()) => 0,
            Err(e) => {
                println!("as nobody: {e:#}");
                1
            }
        }
    })
}

/// The child must end well.
///
/// # Errors
/// If it does not.
pub fn expect_success(mut child: Child) -> Outcome {
    child.ended_well("status of the user's process")
}

/// Two ends of a socket that carries descriptors.
#[derive(Debug)]
pub struct Passage {
    here: OwnedFd,
    there: OwnedFd,
}

impl Passage {
    /// A new one, to be made before the fork.
    ///
    /// # Errors
    /// errno of socketpair(2).
    pub fn new() -> Result<Self> {
        let (here, there) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok(Self { here, there })
    }

    /// Sends copies of `fds`.
    ///
    /// # Errors
    /// errno of sendmsg(2).
    pub fn send(&self, fds: &[RawFd]) -> Outcome {
        let rights = [ControlMessage::ScmRights(fds)];
        let text = [IoSlice::new(b"x")];
        sendmsg::<()>(
            self.here.as_raw_fd(),
            &text,
            &rights,
            MsgFlags::empty(),
            None,
        )?;
        Ok(())
    }

    /// Waits for `N` descriptors.
    ///
    /// # Errors
    /// If others came, or errno of recvmsg(2).
    pub fn receive<const N: usize>(&self) -> Result<[OwnedFd; N]> {
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut byte = [0];
        let mut text = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(
            self.there.as_raw_fd(),
            &mut text,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(all) = part {
                // SAFETY: the kernel just made these for us.
                fds.extend(all.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
            }
        }
        let count = fds.len();
        <[OwnedFd; N]>::try_from(fds).map_err(|_| anyhow!("{count} descriptors came"))
    }
}
