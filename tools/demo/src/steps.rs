// SPDX-License-Identifier: GPL-2.0
//! The steps of the tour, in the order in which any user of VFIO takes them.

use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vfio_client::sysfs::{self, PciDevice, VFIO_PCI};
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Edu, Event, Group, edu};
use vfio_rs_cli::cli::ListArgs;
use vfio_rs_cli::host::Host;
use vfio_rs_cli::root::Root;
use vfio_rs_cli::text::plain;
use vfio_rs_cli::{list, who};

use crate::tell::Teller;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Where the first buffer is put in the device's view of memory; any free address would do.
const OUT: u64 = 0x10_0000;
/// Where the second is put.
const IN: u64 = 0x20_0000;
/// An address that is given to nothing.
const NOWHERE: u64 = 0x30_0000;
/// Longest wait for an interrupt.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes all steps, and undoes the binding even if one fails.
pub(crate) fn tour(tell: &mut Teller) -> Result<()> {
    tell.title("VFIO: a driver that is an ordinary program");
    let pci = find(tell)?;
    let before = pci.driver();
    bind(tell, &pci, before.as_deref())?;
    let outcome = use_device(tell, &pci);
    if outcome.is_err() {
        return outcome.and(give_back(&pci, before.as_deref()));
    }
    tell.step(
        "Give the device back",
        "The override is lifted, and the kernel may use the device again.",
    );
    give_back(&pci, before.as_deref())?;
    let state = before.map_or("no driver".to_owned(), |name| format!("the driver {name}"));
    tell.good(&format!("It has {state} again, as at the start."));
    Ok(())
}

fn find(tell: &mut Teller) -> Result<PciDevice> {
    tell.step(
        "Find a device",
        "QEMU has a device made for teaching, called edu. It can compute a factorial, copy memory by itself (that is \
         DMA) and interrupt the processor. We look for it by its vendor and device number.",
    );
    let found = sysfs::find_all(edu::VENDOR, edu::DEVICE).context("list the PCI devices")?;
    let alone = |d: &&PciDevice| d.group_members().iter().filter(|m| !m.is_bridge()).count() == 1;
    let Some(pci) = found.iter().find(alone) else {
        bail!(
            "no edu device in an IOMMU group of its own: start QEMU with an IOMMU and `-device edu`"
        );
    };
    let group = pci.group().context("the device has no IOMMU group")?;
    tell.good(&format!(
        "edu is at PCI address {}, alone in IOMMU group {group}.",
        pci.address
    ));
    tell.say(
        "A group is the smallest set of devices that the IOMMU can tell apart. The IOMMU stands between devices and \
         memory, as the page tables do between programs and memory.",
    );
    Ok(pci.clone())
}

fn bind(tell: &mut Teller, pci: &PciDevice, before: Option<&str>) -> Result<()> {
    tell.step(
        "Hand it to vfio-pci",
        "A device belongs to one kernel driver at a time. The driver called vfio-pci does nothing with a device except \
         to offer it to programs. \"driver_override\" says that this device goes to no other driver.",
    );
    tell.call(&format!(
        "echo vfio-pci > /sys/bus/pci/devices/{}/driver_override",
        pci.address
    ));
    tell.call(&format!(
        "echo {} > /sys/bus/pci/drivers_probe",
        pci.address
    ));
    pci.bind_vfio()
        .context("bind edu to vfio-pci: is the module loaded?")?;
    ensure!(
        pci.driver().as_deref() == Some(VFIO_PCI),
        "another driver took it"
    );
    let node = vfio_client::group::node(pci.group().context("no group")?);
    let was = before.map_or("no driver".to_owned(), |name| format!("driver {name}"));
    tell.good(&format!(
        "It had {was}; now vfio-pci has it, and the file {node} appeared."
    ));
    Ok(())
}

fn use_device(tell: &mut Teller, pci: &PciDevice) -> Result<()> {
    let container = open_container(tell)?;
    let group = open_group(tell, pci, &container)?;
    choose_iommu(tell, &container)?;
    let (out, back) = map_memory(tell, &container)?;
    let device = open_device(tell, pci, &group)?;
    let edu = registers(tell, &device)?;
    copy(tell, &edu, &out, &back)?;
    interrupt(tell, &device, &edu)?;
    refused(tell, &container, &edu, &back)?;
    see_who(tell, pci)?;
    tell.step(
        "Close everything",
        "The program closes its files (or crashes, or is killed: it makes no difference). The kernel unmaps the memory, \
         turns the interrupt off and stops the device.",
    );
    drop((device, group, container));
    let locked = vfio_client::counters::locked_kib()?;
    ensure!(locked == 0, "{locked} KiB stay locked");
    tell.good("No memory is locked for the device any more.");
    Ok(())
}

fn open_container(tell: &mut Teller) -> Result<Container> {
    tell.step(
        "Open a container",
        "A container is a view of memory for devices, empty at first. Everybody may open one: without a group in it, it \
         can do nothing.",
    );
    tell.call("open(\"/dev/vfio/vfio\"), VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION");
    let container = Container::open().context("open /dev/vfio/vfio")?;
    let version = container.api_version().context("VFIO_GET_API_VERSION")?;
    ensure!(version == 0, "unknown API version {version}");
    ensure!(
        container.check_extension(VFIO_TYPE1v2_IOMMU)? == 1,
        "no IOMMU of type 1, version 2"
    );
    tell.good("API version 0, and it offers the IOMMU interface \"type 1, version 2\".");
    Ok(container)
}

fn open_group(tell: &mut Teller, pci: &PciDevice, container: &Container) -> Result<Group> {
    let number = pci.group().context("no group")?;
    tell.step(
        "Open the group and put it into the container",
        "The file of the group is the permission: who may open it may use its devices. The kernel first looks whether the \
         group is viable, which means that no driver of its own uses any device in it.",
    );
    tell.call(&format!(
        "open(\"/dev/vfio/{number}\"), VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER"
    ));
    let group = Group::open(number).with_context(|| format!("open /dev/vfio/{number}"))?;
    let status = group.status().context("VFIO_GROUP_GET_STATUS")?;
    ensure!(
        status & VFIO_GROUP_FLAGS_VIABLE != 0,
        "the group is not viable"
    );
    group
        .set_container(container)
        .context("VFIO_GROUP_SET_CONTAINER")?;
    tell.good("The group is viable. From now on, the device reaches no memory at all.");
    Ok(group)
}

fn choose_iommu(tell: &mut Teller, container: &Container) -> Result<()> {
    tell.step(
        "Switch the IOMMU on for it",
        "The container gets page tables of its own in the IOMMU. We ask which addresses we may use.",
    );
    tell.call("VFIO_SET_IOMMU, VFIO_IOMMU_GET_INFO");
    container.set_iommu(VFIO_TYPE1v2_IOMMU).context(
        "VFIO_SET_IOMMU (EPERM: without interrupt remapping, allow_unsafe_interrupts must be set)",
    )?;
    let info = container.iommu_info().context("VFIO_IOMMU_GET_INFO")?;
    let ranges: Vec<_> = info
        .iova_ranges
        .iter()
        .map(|r| format!("{:#x} to {:#x}", r.start(), r.end()))
        .collect();
    tell.good(&format!(
        "Addresses for the device: {}.",
        ranges.join(", and ")
    ));
    if info.iova_ranges.len() > 1 {
        tell.say("The gap belongs to interrupts, which are writes to special addresses.");
    }
    Ok(())
}

fn map_memory(tell: &mut Teller, container: &Container) -> Result<(DmaBuf, DmaBuf)> {
    tell.step(
        "Map memory for the device",
        "Two pages of this program's memory become visible to the device, at addresses that we choose. The kernel pins \
         them: they stay where they are in RAM until they are unmapped.",
    );
    tell.call("VFIO_IOMMU_MAP_DMA, twice");
    let (out, back) = (DmaBuf::new(PAGE)?, DmaBuf::new(PAGE)?);
    container.map_buf(&out, OUT).context("VFIO_IOMMU_MAP_DMA")?;
    container.map_buf(&back, IN).context("VFIO_IOMMU_MAP_DMA")?;
    tell.picture(&[
        "this program                     the device sees it at",
        &format!("{:#018x}  page 1   -->   {OUT:#010x}", out.addr()),
        &format!("{:#018x}  page 2   -->   {IN:#010x}", back.addr()),
        &format!(
            "everything else              {NOWHERE:#010x} and all other addresses: nothing there"
        ),
    ]);
    let locked = vfio_client::counters::locked_kib()?;
    tell.good(&format!(
        "{locked} KiB are locked in memory on this program's account."
    ));
    Ok((out, back))
}

fn open_device(tell: &mut Teller, pci: &PciDevice, group: &Group) -> Result<Device> {
    tell.step(
        "Open the device",
        "Now that it can do no harm, the kernel hands it out as a file of its own.",
    );
    tell.call("VFIO_GROUP_GET_DEVICE_FD, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO");
    let device = group
        .device(&pci.address)
        .context("VFIO_GROUP_GET_DEVICE_FD")?;
    let info = device.info().context("VFIO_DEVICE_GET_INFO")?;
    let bar = device
        .region(VFIO_PCI_BAR0_REGION_INDEX)
        .context("VFIO_DEVICE_GET_REGION_INFO")?;
    tell.good(&format!(
        "{} regions and {} kinds of interrupt. Region 0 holds the registers: {} KiB.",
        info.num_regions,
        info.num_irqs,
        bar.size >> 10
    ));
    Ok(device)
}

fn registers<'a>(tell: &mut Teller, device: &'a Device) -> Result<Edu<'a>> {
    tell.step(
        "Talk to its registers",
        "Reading and writing the file at the region's offset reaches the registers; mapped into memory, they are reached \
         without any system call.",
    );
    let edu = Edu::new(device).context("set edu up")?;
    let map = device.mmap(edu.bar(), 0, PAGE).context("map region 0")?;
    tell.good(&format!(
        "Identification register: {:#010x}, read() and mmap() agree.",
        edu.ident()?
    ));
    ensure!(map.read32(0) == edu.ident()?, "read and mmap disagree");
    let (asked, answer) = (0x1234_5678, edu.liveness(0x1234_5678)?);
    ensure!(answer == !asked, "the device does not answer");
    tell.good(&format!(
        "We write {asked:#x}, it answers with every bit flipped: {answer:#x}."
    ));
    tell.good(&format!(
        "We ask for 10!, it computes {}.",
        edu.factorial(10)?
    ));
    Ok(edu)
}

fn copy(tell: &mut Teller, edu: &Edu<'_>, out: &DmaBuf, back: &DmaBuf) -> Result<()> {
    tell.step(
        "Let it move data",
        "The device copies page 1 into its own buffer, and from there into page 2. The processor takes no part: that is \
         DMA.",
    );
    out.fill_pattern(b'V');
    back.fill(0);
    let text = b"Hello from page one, through the device!";
    out.put(0, text);
    tell.bytes("page 2 before", &back.copy(0, 16));
    edu.fetch(OUT, PAGE).context("DMA out of page 1")?;
    edu.store(IN, PAGE).context("DMA into page 2")?;
    tell.bytes("page 1", &out.copy(0, 16));
    tell.bytes("page 2 after", &back.copy(0, 16));
    ensure!(
        back.copy(0, PAGE) == out.copy(0, PAGE),
        "page 2 is not what page 1 was"
    );
    let arrived = String::from_utf8_lossy(&back.copy(0, text.len())).into_owned();
    tell.good(&format!(
        "All {PAGE} bytes arrived. Page 2 now begins: \"{arrived}\""
    ));
    Ok(())
}

fn interrupt(tell: &mut Teller, device: &Device, edu: &Edu<'_>) -> Result<()> {
    tell.step(
        "Receive an interrupt",
        "The device says that a copy is done by an interrupt, a message (MSI) written to the processor. The kernel turns \
         it into a count in an eventfd, a file that a program can wait for.",
    );
    tell.call("eventfd(), VFIO_DEVICE_SET_IRQS");
    let event = Event::new()?;
    device
        .enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])
        .context("VFIO_DEVICE_SET_IRQS")?;
    edu.start_store_irq(IN, 64)?;
    tell.say("The copy is started. We do not look, we wait ...");
    let count = event.wait(PATIENCE)?.context("no interrupt arrived")?;
    ensure!(
        edu.irq_status()? == edu::IRQ_DMA,
        "an interrupt for another reason"
    );
    edu.ack_irq(edu::IRQ_DMA)?;
    device
        .disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)
        .context("VFIO_DEVICE_SET_IRQS")?;
    tell.good(&format!(
        "Interrupt received (count {count}); the device's status register says: DMA done."
    ));
    Ok(())
}

fn refused(tell: &mut Teller, container: &Container, edu: &Edu<'_>, back: &DmaBuf) -> Result<()> {
    tell.step(
        "See the IOMMU say no",
        "A wrong or evil driver could program the device to write anywhere. We try it: first at an address where nothing \
         is mapped, then in page 2 after taking it away from the device.",
    );
    let same = |want: u8| back.is_filled(0, PAGE, want);
    back.fill(0xaa);
    tell.bytes("page 2 before", &back.copy(0, 8));
    edu.store(NOWHERE, PAGE)?;
    ensure!(same(0xaa), "memory changed");
    tell.good(&format!(
        "The device wrote to {NOWHERE:#x}: the IOMMU refused, nothing changed."
    ));
    tell.call("VFIO_IOMMU_UNMAP_DMA");
    ensure!(
        container.unmap(IN, PAGE as u64)? == PAGE as u64,
        "not unmapped"
    );
    edu.store(IN, PAGE)?;
    tell.bytes("page 2 after", &back.copy(0, 8));
    ensure!(
        same(0xaa),
        "the device wrote to memory that it no longer has"
    );
    tell.good(&format!(
        "It wrote to {IN:#x}, which was page 2 a moment ago: refused as well."
    ));
    tell.say("The kernel's log has a line for each such fault (dmesg | grep -i fault).");
    Ok(())
}

/// What the administrator's tool shows meanwhile.
fn see_who(tell: &mut Teller, pci: &PciDevice) -> Result<()> {
    tell.step(
        "See who has it",
        "The tool vfio-rs shows devices, what the host uses them for, and which programs have them. lsvfio is its list.",
    );
    let host = Host::read(Root::real());
    let show = |command: &str, text: &str| {
        tell.call(command);
        let text = plain(text);
        tell.picture(&text.lines().collect::<Vec<_>>());
    };
    let all = ListArgs {
        filters: vec![format!("group:{}", pci.group().context("no group")?)],
        ..ListArgs::default()
    };
    show(
        &format!("lsvfio {}", pci.address),
        &list::run(&host, &all, 76)?,
    );
    let who = who::run(&host, false, 76)?;
    ensure!(
        who.contains(&std::process::id().to_string()),
        "vfio-rs who does not name this program: {who}"
    );
    show("vfio-rs who", &who);
    tell.good("It names this program, and what it has mapped.");
    Ok(())
}

fn give_back(pci: &PciDevice, before: Option<&str>) -> Result<()> {
    pci.release().context("unbind edu from vfio-pci")?;
    if before.is_some() {
        pci.probe().context("give edu back to its driver")?;
    }
    ensure!(
        pci.driver().as_deref() == before,
        "it has driver {:?} now",
        pci.driver()
    );
    Ok(())
}
