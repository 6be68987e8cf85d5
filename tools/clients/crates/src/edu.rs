// SPDX-License-Identifier: GPL-2.0
//! What edu is made to do, by registers that each crate reaches in its own way, and the memory that
//! it reaches.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Where the memory is for edu, which has 28 address bits.
pub const IOVA: u64 = 0x10_0000;
pub const PAGE: usize = 4096;
/// Edu's own memory.
const BUFFER: u64 = 0x40000;
/// Command register: memory and bus master.
pub const COMMAND: u64 = 4;
pub const COMMAND_ON: u16 = 0x6;
/// How long edu may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Edu's registers.
pub trait Registers {
    fn read(&self, at: u64) -> Result<u32>;
    fn write(&self, at: u64, value: u32) -> Result<()>;
}

/// A page that is the device's, too.
pub struct Page(*mut u8);

impl Page {
    const LAYOUT: Layout = match Layout::from_size_align(PAGE, PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a page"),
    };

    pub fn new() -> Self {
        // SAFETY: The size is not 0.
        let page = unsafe { alloc_zeroed(Self::LAYOUT) };
        if page.is_null() {
            handle_alloc_error(Self::LAYOUT);
        }
        Self(page)
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.0
    }

    fn fill(&self, mut byte: impl FnMut(usize) -> u8) {
        for at in 0..PAGE {
            // SAFETY: Inside of the page.
            unsafe { self.0.add(at).write_volatile(byte(at)) };
        }
    }

    fn holds(&self, byte: impl Fn(usize) -> u8) -> bool {
        // SAFETY: Inside of the page.
        (0..PAGE).all(|at| unsafe { self.0.add(at).read_volatile() } == byte(at))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: Allocated by `new` with this layout; the device was cut off before.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

/// An eventfd for an interrupt.
pub fn event() -> Result<EventFd> {
    Ok(EventFd::new(EFD_NONBLOCK)?)
}

fn wait(mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if done()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// The identification, and what is inverted as promised.
pub fn registers(edu: &impl Registers) -> Result<()> {
    let ident = edu.read(0)?;
    ensure!(ident & 0xff == 0xed, "identification {ident:#x}");
    edu.write(4, 0x1234_5678)?;
    let inverted = edu.read(4)?;
    ensure!(inverted == !0x1234_5678, "inverted: {inverted:#x}");
    Ok(())
}

/// A page there and back, which is at [`IOVA`] for edu.
pub fn dma(edu: &impl Registers, page: &Page) -> Result<()> {
    let copy = |from: u64, to: u64, command: u32| -> Result<()> {
        for (at, value) in [(0x80, from), (0x88, to), (0x90, PAGE as u64)] {
            edu.write(at, value as u32)?;
            edu.write(at + 4, (value >> 32) as u32)?;
        }
        edu.write(0x98, command)?;
        ensure!(wait(|| Ok(edu.read(0x98)? & 1 == 0))?, "DMA does not end");
        Ok(())
    };
    let pattern = |at: usize| (at * 7 + at / 256) as u8;
    page.fill(pattern);
    copy(IOVA, BUFFER, 0x1)?;
    page.fill(|_| 0);
    copy(BUFFER, IOVA, 0x3)?;
    ensure!(page.holds(pattern), "edu gave back something else");
    Ok(())
}

/// One interrupt for each that is raised.
pub fn interrupts(edu: &impl Registers, event: &EventFd) -> Result<()> {
    for _ in 0..3 {
        edu.write(0x60, 1)?;
        let mut count = 0;
        let heard = wait(|| {
            count = event.read().unwrap_or(0);
            Ok(count != 0)
        })?;
        ensure!(heard && count == 1, "heard {count} interrupts");
        edu.write(0x64, 1)?;
    }
    Ok(())
}
