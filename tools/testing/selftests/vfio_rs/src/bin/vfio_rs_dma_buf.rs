// SPDX-License-Identifier: GPL-2.0
//! BARs as dma-bufs: what may be exported, who can import it, and when it is taken back.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::edu::{BUFFER_SIZE, Edu};
use vfio_client::iommufd::Ioas;
use vfio_client::uapi::*;
use vfio_client::{Device, sys};
use vfio_rs_selftests::modules::modprobe;
use vfio_rs_selftests::node;
use vfio_rs_selftests::setup::{EDU, IOVA, IVSHMEM, Opened, PAGE};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

const GET: u32 = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
/// The BAR with memory.
const BAR: u32 = 2;
/// Bytes of `struct vfio_device_feature` and of what stands before the ranges.
const HEAD: usize = 8 + 16;

/// Offset and bytes.
type Part = (u64, u64);

/// The arguments of an export, before they are made wrong.
struct Export<'a> {
    argsz: u32,
    flags: u32,
    bar: u32,
    own_flags: u32,
    count: u32,
    ranges: &'a [Part],
}

impl<'a> Export<'a> {
    fn of(ranges: &'a [Part]) -> Self {
        Self {
            argsz: (HEAD + 16 * ranges.len()) as u32,
            flags: GET,
            bar: BAR,
            own_flags: 0,
            count: ranges.len() as u32,
            ranges,
        }
    }

    fn call(&self, device: &Device) -> io::Result<File> {
        let mut buf = sys::buffer(HEAD + 16 * self.ranges.len());
        let bytes = sys::bytes_mut(&mut buf);
        let cloexec = libc::O_CLOEXEC as u32 | libc::O_RDWR as u32;
        let words = [
            self.argsz,
            self.flags,
            self.bar,
            cloexec,
            self.own_flags,
            self.count,
        ];
        for (at, word) in words.into_iter().enumerate() {
            bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        for (at, (offset, len)) in self.ranges.iter().enumerate() {
            let at = HEAD + 16 * at;
            bytes[at..at + 8].copy_from_slice(&offset.to_ne_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&len.to_ne_bytes());
        }
        let fd = sys::with_buffer(device, DEVICE_FEATURE, &mut buf)?;
        // SAFETY: a new descriptor, which nobody else knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
    }
}

fn probe(device: &Device) -> io::Result<i32> {
    let flags = VFIO_DEVICE_FEATURE_PROBE | GET;
    let mut buf = [8 | u64::from(flags) << 32];
    sys::with_buffer(device, DEVICE_FEATURE, &mut buf)
}

/// An open device with memory on; skips if the kernel exports none.
fn open() -> Result<Opened> {
    let opened = IVSHMEM.open()?;
    if probe(&opened.device).is_err() {
        skip!("the kernel has no dma-bufs of devices' memory");
    }
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    Ok(opened)
}

fn not_in_every_kernel() -> Outcome {
    let opened = IVSHMEM.open()?;
    if probe(&opened.device).is_ok() {
        skip!("the kernel has dma-bufs of devices' memory");
    }
    errno("probe", probe(&opened.device), Errno::ENOTTY)?;
    let export = Export::of(&[(0, PAGE)]);
    errno("export", export.call(&opened.device), Errno::ENOTTY)
}

fn misuse() -> Outcome {
    let opened = open()?;
    let device = &opened.device;
    let size = device.region(BAR)?.size;
    let page = [(0, PAGE)];
    let good = || Export::of(&page);
    let wrong = [
        (
            "set",
            Export {
                flags: VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF,
                ..good()
            },
            Errno::EINVAL,
        ),
        (
            "argsz",
            Export {
                argsz: HEAD as u32 - 1,
                ..good()
            },
            Errno::EINVAL,
        ),
        (
            "flags",
            Export {
                own_flags: 1,
                ..good()
            },
            Errno::EINVAL,
        ),
        ("nothing", Export { count: 0, ..good() }, Errno::EINVAL),
        (
            "nothing, of no BAR",
            Export {
                count: 0,
                bar: 9,
                ..good()
            },
            Errno::EINVAL,
        ),
        ("no BAR", Export { bar: 1, ..good() }, Errno::ENODEV),
        (
            "the ROM",
            Export {
                bar: VFIO_PCI_ROM_REGION_INDEX,
                ..good()
            },
            Errno::ENODEV,
        ),
        (
            "far away",
            Export {
                bar: u32::MAX,
                ..good()
            },
            Errno::ENODEV,
        ),
        (
            "far too many",
            Export {
                count: u32::MAX,
                ..good()
            },
            Errno::ENOMEM,
        ),
    ];
    for (what, export, want) in wrong {
        errno(what, export.call(device), want)?;
    }
    let top = u64::MAX - PAGE + 1;
    let ranges: [(&str, &[Part], Errno); 10] = [
        ("empty", &[(0, 0)], Errno::EINVAL),
        ("offset", &[(1, PAGE)], Errno::EINVAL),
        ("length", &[(0, PAGE + 1)], Errno::EINVAL),
        (
            "the second is wrong",
            &[(0, PAGE), (PAGE, 7)],
            Errno::EINVAL,
        ),
        ("behind the end", &[(size, PAGE)], Errno::EINVAL),
        ("over the end", &[(size - PAGE, 2 * PAGE)], Errno::EINVAL),
        ("offset wraps", &[(top, PAGE)], Errno::EOVERFLOW),
        ("end wraps", &[(PAGE, top - PAGE)], Errno::EINVAL),
        ("sum wraps", &[(0, top), (0, top)], Errno::EINVAL),
        ("2^63 bytes", &[(0, 1 << 63)], Errno::EINVAL),
    ];
    for (what, ranges, want) in ranges {
        errno(what, Export::of(ranges).call(device), want)?;
    }
    Ok(())
}

fn sizes() -> Outcome {
    let opened = open()?;
    let size = opened.device.region(BAR)?.size;
    let cases: [&[Part]; 4] = [
        &[(0, PAGE)],
        &[(0, size)],
        &[(size - PAGE, PAGE), (0, PAGE)],
        // The same page twice.
        &[(PAGE, PAGE), (PAGE, PAGE)],
    ];
    for ranges in cases {
        let mut file = Export::of(ranges).call(&opened.device)?;
        let want = ranges.iter().map(|(_, len)| len).sum::<u64>();
        same("size", file.seek(SeekFrom::End(0))?, want)?;
    }
    Ok(())
}

/// An address space of iommufd, which imports dma-bufs.
fn importer() -> Result<Ioas> {
    modprobe(&["iommufd"])?;
    Ok(Ioas::new()?)
}

fn imported() -> Outcome {
    let opened = open()?;
    let ioas = importer()?;
    let file = Export::of(&[(0, 4 * PAGE)]).call(&opened.device)?;
    ioas.map_file(&file, 0, IOVA, 4 * PAGE)?;
    ioas.map_file(&file, PAGE, IOVA + 8 * PAGE, PAGE)?;
    let beyond = ioas.map_file(&file, PAGE, IOVA + 16 * PAGE, 4 * PAGE);
    errno("beyond its end", beyond, Errno::EINVAL)?;
    same("unmapped", ioas.unmap(IOVA, 4 * PAGE)?, 4 * PAGE)?;
    let two = Export::of(&[(0, PAGE), (2 * PAGE, PAGE)]).call(&opened.device)?;
    let result = ioas.map_file(&two, 0, IOVA, 2 * PAGE);
    // One place is all that iommufd takes.
    errno("two parts", result, Errno::EOPNOTSUPP)
}

fn revoked() -> Outcome {
    let opened = open()?;
    let ioas = importer()?;
    let config = opened.device.config()?;
    let file = Export::of(&[(0, PAGE)]).call(&opened.device)?;
    for round in 0..3 {
        ioas.map_file(&file, 0, IOVA + 2 * round * PAGE, PAGE)?;
        config.update_command(COMMAND_MEMORY, 0)?;
        let again = ioas.map_file(&file, 0, IOVA + 64 * PAGE, PAGE);
        errno("with memory off", again, Errno::ENODEV)?;
        let late = Export::of(&[(0, PAGE)]).call(&opened.device)?;
        let result = ioas.map_file(&late, 0, IOVA + 64 * PAGE, PAGE);
        errno("exported with memory off", result, Errno::ENODEV)?;
        config.update_command(0, COMMAND_MEMORY)?;
        ioas.map_file(&late, 0, IOVA + 64 * PAGE, PAGE)?;
        same("unmapped", ioas.unmap(IOVA + 64 * PAGE, PAGE)?, PAGE)?;
    }
    Ok(())
}

/// Another device reaches the memory, as long as it is on.
fn reached_by_another_device() -> Outcome {
    let opened = open()?;
    let edu = node::attach(&EDU)?;
    let engine = Edu::new(&edu.device)?;
    let config = opened.device.config()?;
    let region = opened.device.region(BAR)?;
    let bar = opened.device.mmap(&region, 0, 4 * PAGE as usize)?;
    let source = edu.map_new(IOVA + 64 * PAGE, 1)?;
    let import = |iova: u64| -> Outcome {
        let file = Export::of(&[(0, 4 * PAGE)]).call(&opened.device)?;
        edu.ioas.map_file(&file, 0, iova, 4 * PAGE)?;
        Ok(())
    };
    let write = |iova: u64, byte: u8| -> Outcome {
        source.put(0, &[byte; BUFFER_SIZE]);
        engine.fetch(IOVA + 64 * PAGE, BUFFER_SIZE)?;
        engine.store(iova, BUFFER_SIZE)?;
        Ok(())
    };
    let at = PAGE as usize;
    let word = |byte: u8| u32::from_ne_bytes([byte; 4]);
    import(IOVA)?;
    write(IOVA + PAGE, 0x5a)?;
    same("written by the device", bar.read32(at), word(0x5a))?;
    // And read by it.
    engine.fetch(IOVA + PAGE, BUFFER_SIZE)?;
    engine.store(IOVA + 64 * PAGE, BUFFER_SIZE)?;
    ensure!(source.is_filled(0, BUFFER_SIZE, 0x5a), "read by the device");
    config.update_command(COMMAND_MEMORY, 0)?;
    write(IOVA + PAGE, 0x33)?;
    config.update_command(0, COMMAND_MEMORY)?;
    same("with memory off", bar.read32(at), word(0x5a))?;
    write(IOVA + PAGE, 0x44)?;
    same("what was taken away stays so", bar.read32(at), word(0x5a))?;
    import(IOVA + 16 * PAGE)?;
    write(IOVA + 17 * PAGE, 0x66)?;
    same("imported again", bar.read32(at), word(0x66))
}

fn outlives_the_device() -> Outcome {
    let opened = open()?;
    let ioas = importer()?;
    let file = Export::of(&[(0, PAGE)]).call(&opened.device)?;
    ioas.map_file(&file, 0, IOVA, PAGE)?;
    let pci = opened.bound.pci.clone();
    drop(opened);
    let result = ioas.map_file(&file, 0, IOVA + PAGE, PAGE);
    errno("closed", result, Errno::ENODEV)?;
    pci.release()?;
    // The next user's device is not in it.
    let opened = open()?;
    let result = ioas.map_file(&file, 0, IOVA + PAGE, PAGE);
    errno("opened again", result, Errno::ENODEV)?;
    same("unmapped", ioas.unmap(IOVA, PAGE)?, PAGE)?;
    drop(file);
    drop(opened);
    Ok(())
}

/// A path keeps a dma-buf whose file is gone, and in whose place may be anything.
fn kept_by_a_path() -> Outcome {
    const COUNT: usize = 400;
    let opened = open()?;
    let export = |_| Export::of(&[(0, PAGE)]).call(&opened.device);
    let files: Vec<_> = (0..COUNT).map(export).collect::<io::Result<_>>()?;
    let path = |file: &File| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH).open(path)
    };
    let paths: Vec<_> = files.iter().map(path).collect::<io::Result<_>>()?;
    drop(files);
    // Until the memory of the files is free.
    for _ in 0..2 {
        // SAFETY: takes no pointers.
        let waited = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
        same("membarrier", waited, 0)?;
    }
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    config.update_command(0, COMMAND_MEMORY)?;
    drop(opened);
    drop(paths);
    Ok(())
}

fn many() -> Outcome {
    let opened = open()?;
    let ranges: Vec<_> = (0..1000).map(|page| (page * PAGE, PAGE)).collect();
    let mut kept = Vec::new();
    for round in 0..300 {
        let file = Export::of(&ranges[..1 + round]).call(&opened.device)?;
        if round % 5 == 0 {
            kept.push(file);
        }
    }
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    config.update_command(0, COMMAND_MEMORY)?;
    drop(opened);
    drop(kept);
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    not_in_every_kernel,
    misuse,
    sizes,
    imported,
    revoked,
    reached_by_another_device,
    outlives_the_device,
    kept_by_a_path,
    many,
);
