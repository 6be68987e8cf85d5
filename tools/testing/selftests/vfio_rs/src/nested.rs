// SPDX-License-Identifier: GPL-2.0
//! A guest without CPUs, its I/O page table, and a container that shadows it. The guest's memory is
//! this process's; what a CPU of it would write is written here.

use anyhow::{Context, Result, ensure};
use std::os::fd::AsRawFd;
use vfio_client::kvm::{FileAction, KvmVfio, Vm};
use vfio_client::nested::{Found, Table, VFIO_KVM_FMT_VTD_SS4, VFIO_KVM_IOMMU};
use vfio_client::{Container, Device, DmaBuf, Edu, Group};

use crate::machine::machine;
use crate::setup::{Bound, EDU, PAGE};
use crate::translation::{self, Pages, Target};
use crate::{Outcome, same, skip};

/// Bytes of a guest's memory, from its address 0 on. All of it can be reached by edu.
pub const MEMORY: u64 = 16 << 20;
/// Where a guest has the root of its table, and its other tables.
pub const ROOT: u64 = 0x10_0000;
const TABLES: u64 = ROOT + PAGE;
/// The first of what is free for tests.
pub const FREE: u64 = 0x40_0000;
/// Entries: for reading and writing, and of large pages.
pub const RW: u64 = 3;
/// For reading only.
pub const RO: u64 = 1;
/// Of 2 MiB or 1 GiB.
pub const LARGE: u64 = 1 << 7;
/// The last address that a table of four levels translates.
const LAST: u64 = (1 << 48) - 1;

/// Fails if the stack has no such address spaces: skips the test on another one.
///
/// # Errors
/// Skip.
pub fn required() -> Outcome {
    if Container::open()?.check_extension(VFIO_KVM_IOMMU)? == 0 {
        skip!("no VFIO_KVM_IOMMU");
    }
    Ok(())
}

/// A guest.
#[derive(Debug)]
pub struct Guest {
    /// Its machine.
    pub vm: Vm,
    /// The machine's VFIO device.
    pub kvm: KvmVfio,
    /// Its memory, slot 0.
    pub memory: DmaBuf,
    /// The last I/O address of its table's window.
    pub last: u64,
    /// Where the next table goes.
    next: u64,
}

impl Guest {
    /// A guest with memory and an empty table; skips if there is no KVM.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn new() -> Result<Self> {
        required()?;
        let (vm, kvm) = machine()?;
        let memory = DmaBuf::new(MEMORY as usize)?;
        vm.set_slot(0, 0, 0, memory.addr(), MEMORY)?;
        let next = TABLES;
        Ok(Self {
            vm,
            kvm,
            memory,
            last: LAST,
            next,
        })
    }

    /// Has the table's window end where the container's devices cannot address more.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn fit(&mut self, container: &Container) -> Outcome {
        let ranges = container.iommu_info()?.iova_ranges;
        let last = ranges.last().context("nothing is translated")?.end();
        self.last = self.last.min(*last);
        Ok(())
    }

    /// Has the machine know the group.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn take(&self, group: &Group) -> Outcome {
        Ok(self.kvm.file(FileAction::Add, group.as_raw_fd())?)
    }

    /// Has the machine forget the group.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn leave(&self, group: &Group) -> Outcome {
        Ok(self.kvm.file(FileAction::Del, group.as_raw_fd())?)
    }

    /// A word of memory.
    #[must_use]
    pub fn read(&self, gpa: u64) -> u64 {
        let bytes = self.memory.copy(gpa as usize, 8);
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }

    /// Writes a word of memory, as an entry of a table is written: at once.
    ///
    /// # Panics
    /// If it is not in memory, or not aligned.
    pub fn write(&self, gpa: u64, word: u64) {
        assert!(gpa % 8 == 0 && gpa + 8 <= MEMORY);
        let at = (self.memory.addr() + gpa) as *mut u64;
        // SAFETY: in the memory, aligned; nobody holds a reference to it.
        unsafe { at.write_volatile(word) }
    }

    /// Guest address of the entry for `iova` in the table of `level`, 1 the lowest; makes the
    /// tables above.
    ///
    /// # Panics
    /// If there is no room for these.
    pub fn entry(&mut self, iova: u64, level: u32) -> u64 {
        let mut table = ROOT;
        for upper in (level + 1..=4).rev() {
            let at = table + (iova >> (3 + 9 * upper) & 511) * 8;
            if self.read(at) & RW == 0 {
                self.write(at, self.next | RW);
                self.next += PAGE;
                assert!(self.next <= FREE, "room for tables");
            }
            table = self.read(at) & !0xfff;
        }
        table + (iova >> (3 + 9 * level) & 511) * 8
    }

    /// Writes an entry of the lowest table.
    pub fn map(&mut self, iova: u64, entry: u64) {
        let at = self.entry(iova, 1);
        self.write(at, entry);
    }

    /// Four levels, as much of it as can be bound.
    #[must_use]
    pub fn table(&self) -> Table {
        Table {
            flags: 0,
            format: VFIO_KVM_FMT_VTD_SS4,
            root: ROOT,
            window: (0, self.last),
            gpa_bits: 0,
        }
    }
}

/// A guest whose table a container shadows, with a device.
#[derive(Debug)]
pub struct Nested {
    /// The container; closed before the guest goes.
    pub container: Container,
    /// The device's group.
    pub group: Group,
    /// The device, edu.
    pub device: Device,
    /// What it is.
    pub bound: Bound,
    /// The guest.
    pub guest: Guest,
}

impl Nested {
    /// Nothing bound yet; skips if there is no KVM or no edu.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn new() -> Result<Self> {
        let mut guest = Guest::new()?;
        let bound = EDU.bind()?;
        let (container, group) = bound.attach(VFIO_KVM_IOMMU)?;
        guest.fit(&container)?;
        guest.take(&group)?;
        let device = group.device(&bound.pci.address).context("GET_DEVICE_FD")?;
        Ok(Self {
            container,
            group,
            device,
            bound,
            guest,
        })
    }

    /// The guest's table, bound: its number.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn bind(&self) -> Result<u32> {
        let (id, found) = self.container.bind_table(&self.guest.table())?;
        same("bad entries", found.fault_count, 0)?;
        Ok(id)
    }

    /// That the device reads the guest's memory at `gpa` at `iova`, and writes it too if it
    /// `writes`; another page keeps what it has.
    ///
    /// # Errors
    /// If it does not.
    pub fn reaches(&self, iova: u64, gpa: u64, writes: bool) -> Outcome {
        let edu = Edu::new(&self.device)?;
        let at = gpa as usize;
        let seed = (iova >> 12) as u8 ^ (gpa >> 12) as u8;
        let pattern: Vec<u8> = (0..64)
            .map(|i| vfio_client::dma::pattern(seed, i))
            .collect();
        // The device's buffer has something else first.
        self.guest.memory.put(at, &pattern);
        edu.fetch(iova, 64)?;
        self.guest.memory.put(at, &[0; 64]);
        edu.store(iova, 64)?;
        let got = self.guest.memory.copy(at, 64);
        if writes {
            ensure!(
                got == pattern,
                "{iova:#x}: the device does not copy {gpa:#x}"
            );
        } else {
            ensure!(got == [0; 64], "{iova:#x}: the device writes {gpa:#x}");
        }
        Ok(())
    }

    /// That the device writes nothing to `gpa` by `iova`.
    ///
    /// # Errors
    /// If it does.
    pub fn is_kept_from(&self, iova: u64, gpa: u64) -> Outcome {
        self.guest.memory.put(gpa as usize, &[0x5a; 64]);
        Edu::new(&self.device)?.store(iova, 64)?;
        let same = self.guest.memory.is_filled(gpa as usize, 64, 0x5a);
        ensure!(same, "{iova:#x}: the device writes {gpa:#x}");
        Ok(())
    }

    /// What devices reach by what there should be: pairs of I/O address, guest address, bytes and
    /// whether they may write. Behind VT-d it is compared with all that the IOMMU translates;
    /// elsewhere with nothing.
    ///
    /// # Errors
    /// If they differ.
    pub fn translates(&self, expected: &[(u64, u64, u64, bool)]) -> Outcome {
        if !translation::is_shown(&self.bound.pci) {
            return Ok(());
        }
        let mut pages = Pages::new();
        for (iova, gpa, size, write) in expected {
            let vaddr = self.guest.memory.addr() + gpa;
            let pfns = translation::physical_pages(vaddr, size / PAGE)?;
            for (number, pfn) in (0..).zip(pfns) {
                let (read, write) = (true, *write);
                pages.insert(iova / PAGE + number, Target { pfn, read, write });
            }
        }
        let got = translation::pages(&self.bound.pci)?;
        ensure!(got == pages, "expected {pages:x?}, got {got:x?}");
        Ok(())
    }
}

/// The first bad entry of a walk must be this one.
///
/// # Errors
/// If it is not.
pub fn fault(what: &str, found: Found, reason: u32, level: u16, iova: u64) -> Outcome {
    let got = (
        u32::from(found.fault_reason),
        found.fault_level,
        found.fault_iova,
    );
    same(what, got, (reason, level, iova))
}
