// SPDX-License-Identifier: GPL-2.0
//! VFIO_IOMMU_MAP_DMA of all kinds of memory that a process can have, for reading, for writing and
//! for both: what can be mapped, and what is EFAULT. What is refused leaves nothing behind.

use std::ptr::null_mut;

use libc::{
    MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED,
    MAP_STACK, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, c_int, c_void,
};
use nix::errno::Errno;
use vfio_client::counters;
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE};
use vfio_rs_selftests::{Context, Outcome, Result, errno, same, suite};

const RW: c_int = PROT_READ | PROT_WRITE;
const ANON: c_int = MAP_PRIVATE | MAP_ANONYMOUS;
const LEN: usize = 2 * PAGE as usize;

/// Who may do what with memory: devices read it, and write it.
#[derive(Debug, Clone, Copy)]
enum Allowed {
    All,
    Reading,
    /// Not reading alone: who writes may do both, as with the CPU.
    Writing,
    Nothing,
}
use Allowed::{All, Nothing, Reading, Writing};

/// Memory of [`LEN`] bytes, which stays until the process ends.
type Make = fn() -> Result<u64>;

fn mmap(prot: c_int, flags: c_int, fd: c_int) -> Result<u64> {
    // SAFETY: at an address of the kernel's choice.
    let addr = unsafe { libc::mmap(null_mut(), LEN, prot, flags, fd, 0) };
    if addr == libc::MAP_FAILED {
        return Err(Errno::last().into());
    }
    Ok(addr as u64)
}

fn pointer(addr: u64) -> *mut c_void {
    addr as usize as *mut c_void
}

/// Has each page be there.
fn touched(addr: u64) -> Result<u64> {
    for at in (0..LEN).step_by(PAGE as usize) {
        // SAFETY: memory of ours that can be written.
        unsafe { pointer(addr).cast::<u8>().add(at).write_volatile(1) };
    }
    Ok(addr)
}

fn advised(addr: u64, advice: c_int) -> Result<u64> {
    // SAFETY: memory of ours, whose content nobody needs.
    Errno::result(unsafe { libc::madvise(pointer(addr), LEN, advice) })?;
    Ok(addr)
}

fn protected(addr: u64, prot: c_int) -> Result<u64> {
    // SAFETY: memory of ours, which nobody touches by itself.
    Errno::result(unsafe { libc::mprotect(pointer(addr), LEN, prot) })?;
    Ok(addr)
}

/// A file in memory of `pages` pages.
fn memfd(pages: u64, flags: u32) -> Result<c_int> {
    // SAFETY: a name, and a descriptor of ours.
    unsafe {
        let fd = Errno::result(libc::memfd_create(c"kinds".as_ptr(), flags))?;
        Errno::result(libc::ftruncate(fd, (pages * PAGE) as i64))?;
        Ok(fd)
    }
}

fn of_memfd(prot: c_int, flags: c_int) -> Result<u64> {
    mmap(prot, flags, memfd(2, 0)?)
}

fn sealed(prot: c_int, flags: c_int) -> Result<u64> {
    let fd = memfd(2, libc::MFD_ALLOW_SEALING)?;
    // SAFETY: a descriptor of ours.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) })?;
    mmap(prot, flags, fd)
}

fn shm(flags: c_int) -> Result<u64> {
    // SAFETY: a segment of ours, which goes with the process.
    let addr = unsafe {
        let id = Errno::result(libc::shmget(libc::IPC_PRIVATE, LEN, 0o600))?;
        let addr = libc::shmat(id, null_mut(), flags);
        Errno::result(libc::shmctl(id, libc::IPC_RMID, null_mut()))?;
        addr
    };
    Ok(addr as u64)
}

fn of_device(path: &std::ffi::CStr, prot: c_int, flags: c_int) -> Result<u64> {
    // SAFETY: a path.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_RDWR) })?;
    mmap(prot, flags, fd)
}

fn own_program(prot: c_int) -> Result<u64> {
    // SAFETY: a path.
    let fd = Errno::result(unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY) })?;
    mmap(prot, MAP_PRIVATE, fd)
}

/// Two pages, the second elsewhere than it was made.
fn moved() -> Result<u64> {
    let (old, new) = (touched(mmap(RW, ANON, -1)?)?, mmap(RW, ANON, -1)?);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: memory of ours replaces other memory of ours.
    let to = unsafe { libc::mremap(pointer(old), LEN, LEN, flags, pointer(new)) };
    same("moved to", to as u64, new)?;
    Ok(new)
}

fn hole() -> Result<u64> {
    let addr = mmap(RW, ANON, -1)?;
    // SAFETY: memory of ours.
    Errno::result(unsafe { libc::munmap(pointer(addr + PAGE), PAGE as usize) })?;
    Ok(addr)
}

fn locked() -> Result<u64> {
    let addr = mmap(RW, ANON, -1)?;
    // SAFETY: memory of ours.
    Errno::result(unsafe { libc::mlock(pointer(addr), LEN) })?;
    Ok(addr)
}

/// A page that the process shares with one that was forked.
fn shared_by_fork() -> Result<u64> {
    let addr = touched(mmap(RW, ANON, -1)?)?;
    // SAFETY: the child only waits for its end.
    if Errno::result(unsafe { libc::fork() })? == 0 {
        // SAFETY: as above; it is killed when the parent ends.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    Ok(addr)
}

static KINDS: &[(&str, Allowed, Make)] = &[
    ("private, untouched", All, || mmap(RW, ANON, -1)),
    ("private", All, || touched(mmap(RW, ANON, -1)?)),
    ("private, for reading, untouched", Reading, || {
        mmap(PROT_READ, ANON, -1)
    }),
    ("private, for reading again", Reading, || {
        protected(touched(mmap(RW, ANON, -1)?)?, PROT_READ)
    }),
    ("private, for writing", Writing, || {
        mmap(PROT_WRITE, ANON, -1)
    }),
    ("private, for running", Reading, || {
        mmap(PROT_READ | PROT_EXEC, ANON, -1)
    }),
    ("private, for nothing", Nothing, || {
        mmap(PROT_NONE, ANON, -1)
    }),
    ("private, for nothing again", Nothing, || {
        protected(touched(mmap(RW, ANON, -1)?)?, PROT_NONE)
    }),
    ("shared", All, || mmap(RW, MAP_SHARED | MAP_ANONYMOUS, -1)),
    ("shared, for reading", Reading, || {
        mmap(PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1)
    }),
    ("there from the start", All, || {
        mmap(RW, ANON | MAP_POPULATE, -1)
    }),
    ("not reserved", All, || mmap(RW, ANON | MAP_NORESERVE, -1)),
    ("of a stack", All, || mmap(RW, ANON | MAP_STACK, -1)),
    ("that grows down", All, || {
        mmap(RW, ANON | MAP_GROWSDOWN, -1)
    }),
    ("mapped locked", All, || mmap(RW, ANON | MAP_LOCKED, -1)),
    ("locked", All, locked),
    ("moved", All, moved),
    ("shared by fork", All, shared_by_fork),
    ("not needed", All, || {
        advised(touched(mmap(RW, ANON, -1)?)?, libc::MADV_DONTNEED)
    }),
    ("free", All, || {
        advised(touched(mmap(RW, ANON, -1)?)?, libc::MADV_FREE)
    }),
    ("cold", All, || {
        advised(touched(mmap(RW, ANON, -1)?)?, libc::MADV_COLD)
    }),
    ("in small pages", All, || {
        advised(mmap(RW, ANON, -1)?, libc::MADV_NOHUGEPAGE)
    }),
    ("in huge pages", All, || {
        advised(mmap(RW, ANON, -1)?, libc::MADV_HUGEPAGE)
    }),
    ("not for children", All, || {
        advised(mmap(RW, ANON, -1)?, libc::MADV_DONTFORK)
    }),
    ("wiped for children", All, || {
        advised(mmap(RW, ANON, -1)?, libc::MADV_WIPEONFORK)
    }),
    ("not dumped", All, || {
        advised(mmap(RW, ANON, -1)?, libc::MADV_DONTDUMP)
    }),
    ("a file in memory", All, || of_memfd(RW, MAP_SHARED)),
    ("a file in memory, for reading", Reading, || {
        of_memfd(PROT_READ, MAP_SHARED)
    }),
    ("a file in memory, private", All, || {
        of_memfd(RW, MAP_PRIVATE)
    }),
    ("a file in memory, private, for reading", Reading, || {
        of_memfd(PROT_READ, MAP_PRIVATE)
    }),
    ("a file in memory that is too short", Nothing, || {
        mmap(RW, MAP_SHARED, memfd(1, 0)?)
    }),
    ("a sealed file, private", All, || sealed(RW, MAP_PRIVATE)),
    ("a sealed file, for reading", Reading, || {
        sealed(PROT_READ, MAP_SHARED)
    }),
    ("a segment of System V", All, || shm(0)),
    ("a segment of System V, for reading", Reading, || {
        shm(libc::SHM_RDONLY)
    }),
    ("/dev/zero, private", All, || {
        of_device(c"/dev/zero", RW, MAP_PRIVATE)
    }),
    ("/dev/zero", All, || of_device(c"/dev/zero", RW, MAP_SHARED)),
    ("a program's file, private", All, || own_program(RW)),
    ("a program's file, private, for running", Reading, || {
        own_program(PROT_READ | PROT_EXEC)
    }),
    ("with a hole", Nothing, hole),
    ("nothing at all", Nothing, || {
        let addr = mmap(RW, ANON, -1)?;
        // SAFETY: memory of ours.
        Errno::result(unsafe { libc::munmap(pointer(addr), LEN) })?;
        Ok(addr)
    }),
    ("the kernel's", Nothing, || Ok(0xffff_8880_0000_0000)),
];

fn all_kinds() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let (read, write) = (VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE);
    let avail = container.iommu_info()?.dma_avail;
    for (name, allowed, make) in KINDS {
        for prot in [read, write, read | write] {
            let what = format!("{name}, {prot}");
            let addr = match make() {
                Err(err) if err.downcast_ref() == Some(&Errno::ENOSYS) => {
                    println!("# the kernel has none: {what}");
                    continue;
                }
                made => made.with_context(|| what.clone())?,
            };
            // What the process has locked itself counts as well.
            let before = counters::locked_kib()?;
            let result = container.map(prot, addr, IOVA, LEN as u64);
            match (allowed, prot == read) {
                (All, _) | (Reading, true) | (Writing, false) => {
                    result.with_context(|| what.clone())?;
                    same(&what, container.unmap(IOVA, LEN as u64)?, LEN as u64)?;
                }
                _ => errno(&what, result, Errno::EFAULT)?,
            }
            same(&what, counters::locked_kib()?, before)?;
            same(&what, container.iommu_info()?.dma_avail, avail)?;
            same(&what, container.unmap_all()?, 0)?;
        }
    }
    println!("# {} kinds", KINDS.len());
    // What it has locked itself.
    Ok(nix::sys::mman::munlockall()?)
}

suite!(iommus: Vtd, debug: Answers; all_kinds);
