// SPDX-License-Identifier: GPL-2.0
//! A driver of QEMU's edu device in the guest, where Linux has none: its registers by sysfs, DMA
//! from and to memory of this process; then its interrupts, by the guest's own VFIO, without an
//! IOMMU.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vfio_client::irq::IrqData;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Event, Group};

use crate::system::until;

const PAGE: usize = 4096;
const BAR_BYTES: usize = 1 << 20;
/// Registers, in bytes from the BAR's start.
const IDENTITY: usize = 0x0;
const LIVENESS: usize = 0x4;
const FACTORIAL: usize = 0x8;
const STATUS: usize = 0x20;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;
/// Where the device's own buffer is, for its DMA engine.
const BUFFER: u64 = 0x40000;
/// Memory enable and bus master.
const COMMAND: u16 = 0x6;

struct Bar(*mut u8);

impl Bar {
    fn map(path: &str) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.with_context(|| path.to_owned())?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BAR_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        ensure!(at != libc::MAP_FAILED, "mmap of {path}");
        Ok(Self(at.cast()))
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: registers are inside the mapping, which lasts as long as the process.
        unsafe { self.0.add(register).cast::<u32>().read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as in read().
        unsafe { self.0.add(register).cast::<u32>().write_volatile(value) }
    }

    fn write_u64(&self, register: usize, value: u64) {
        // SAFETY: as in read().
        unsafe { self.0.add(register).cast::<u64>().write_volatile(value) }
    }

    /// Lets the device copy a page; `command` is its direction.
    fn dma(&self, source: u64, destination: u64, command: u64) -> Result<()> {
        self.write_u64(DMA_SOURCE, source);
        self.write_u64(DMA_DESTINATION, destination);
        self.write_u64(DMA_COUNT, PAGE as u64);
        self.write_u64(DMA_COMMAND, command | 1);
        until("the end of a DMA", Duration::from_secs(10), || {
            Ok(self.read(DMA_COMMAND) & 1 == 0)
        })
    }
}

/// Physical address of a page of this process.
fn physical(page: u64) -> Result<u64> {
    let mut entry = [0; 8];
    let index = page / PAGE as u64;
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, index * 8)?;
    let frame = u64::from_le_bytes(entry) & ((1 << 55) - 1);
    ensure!(frame != 0, "no frame number in pagemap");
    Ok(frame * PAGE as u64)
}

/// Checks that it interrupts: by MSI, or by INTx where the guest allows no MSI.
///
/// The guest's kernel has to allow VFIO without an IOMMU.
pub(crate) fn interrupts(address: &str) -> Result<String> {
    let pci = PciDevice::at(address);
    pci.bind_vfio().context("edu to the guest's vfio-pci")?;
    let number = pci.group().context("no group in the guest")?;
    let container = Container::open()?;
    let group = Group::open_bare(number).context("the guest's group")?;
    group.set_container(&container).context("SET_CONTAINER")?;
    container.set_iommu(VFIO_NOIOMMU_IOMMU)?;
    let device = group.device(address).context("GET_DEVICE_FD")?;
    let (edu, event) = (Edu::new(&device)?, Event::new()?);
    let (kind, index) = if fs::read_to_string("/proc/cmdline")?.contains("pci=nomsi") {
        ("IO-APIC", VFIO_PCI_INTX_IRQ_INDEX)
    } else {
        ("PCI-MSI", VFIO_PCI_MSI_IRQ_INDEX)
    };
    device
        .enable_irqs(index, &[event.as_raw_fd()])
        .context(kind)?;
    let table = fs::read_to_string("/proc/interrupts")?;
    let line = table.lines().find(|line| line.contains("vfio"));
    let line = line.context("no interrupt in the guest")?.to_owned();
    ensure!(line.contains(kind), "not {kind}: {line}");
    for count in 1..=3 {
        edu.raise_irq(count)?;
        let told = event.wait(Duration::from_secs(20))?;
        ensure!(told == Some(1), "{kind} {count}: {told:?} instead of one");
        edu.ack_irq(count)?;
        if index == VFIO_PCI_INTX_IRQ_INDEX {
            device.set_irqs(index, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, IrqData::None)?;
        }
    }
    device.disable_irqs(index)?;
    Ok(format!("edu: three interrupts, {}", line.trim()))
}

/// Checks identity, arithmetic, and a page sent to the device and back.
pub(crate) fn drive(address: &str) -> Result<String> {
    let folder = format!("/sys/bus/pci/devices/{address}");
    fs::write(format!("{folder}/enable"), "1").context("enable")?;
    let config = OpenOptions::new()
        .write(true)
        .open(format!("{folder}/config"))?;
    config.write_all_at(&COMMAND.to_le_bytes(), 4)?;
    let bar = Bar::map(&format!("{folder}/resource0"))?;
    let identity = bar.read(IDENTITY);
    ensure!(identity & 0xff == 0xed, "identity {identity:#x}");
    bar.write(LIVENESS, 0x1234_5678);
    let live = bar.read(LIVENESS);
    ensure!(live == !0x1234_5678, "liveness gave {live:#x}");
    bar.write(FACTORIAL, 10);
    until("the factorial", Duration::from_secs(10), || {
        Ok(bar.read(STATUS) & 1 == 0)
    })?;
    let factorial = bar.read(FACTORIAL);
    ensure!(factorial == 3_628_800, "10! gave {factorial}");

    let buffer = DmaBuf::new(2 * PAGE)?;
    buffer.fill_pattern(7);
    let sent = buffer.copy(0, PAGE);
    (PAGE..2 * PAGE).for_each(|at| buffer.set(at, 0));
    let (source, destination) = (
        physical(buffer.addr())?,
        physical(buffer.addr() + PAGE as u64)?,
    );
    bar.dma(source, BUFFER, 0)?;
    bar.dma(BUFFER, destination, 2)?;
    ensure!(
        buffer.copy(PAGE, PAGE) == sent,
        "DMA brought back other data"
    );
    Ok(format!(
        "edu: 10! = {factorial}, a page went there and back"
    ))
}
