// SPDX-License-Identifier: GPL-2.0
//! Devices for tests: found by what they are, bound to vfio-pci, opened. A device that the machine
//! lacks skips the test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use vfio_client::edu;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::VFIO_TYPE1v2_IOMMU;
use vfio_client::{Container, Device, DmaBuf, Group};

use crate::skip;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// An I/O address that every device can form and no IOMMU reserves.
pub const IOVA: u64 = 0x10_0000;
/// Long enough for anything that must happen, before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long to look at something that must not happen.
pub const GLANCE: Duration = Duration::from_millis(300);

/// A kind of device that the test machine has by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// PCI vendor and device number.
    pub id: (u16, u16),
    /// The kernel's own driver, if it has one.
    pub driver: Option<&'static str>,
}

/// QEMU's teaching device.
pub const EDU: Kind = Kind {
    name: "edu",
    id: (edu::VENDOR, edu::DEVICE),
    driver: None,
};
/// Intel 82576 network adapter: MSI-X, FLR.
pub const IGB: Kind = Kind {
    name: "igb",
    id: (0x8086, 0x10c9),
    driver: Some("igb"),
};
/// Intel 82574L network adapter: INTx, MSI, MSI-X.
pub const E1000E: Kind = Kind {
    name: "e1000e",
    id: (0x8086, 0x10d3),
    driver: Some("e1000e"),
};
/// QEMU's NVMe disk.
pub const NVME: Kind = Kind {
    name: "nvme",
    id: (0x1b36, 0x0010),
    driver: Some("nvme"),
};

/// QEMU's shared memory: registers smaller than a page in BAR 0, memory in BAR 2, which is
/// prefetchable.
pub const IVSHMEM: Kind = Kind {
    name: "ivshmem",
    id: (0x1af4, 0x1110),
    driver: None,
};
/// QEMU's standard display.
pub const VGA: Kind = Kind {
    name: "VGA",
    id: (0x1234, 0x1111),
    driver: None,
};

/// Factor on every timeout: 10 on a kernel with its checkers on.
#[must_use]
pub fn slowness() -> u32 {
    if Path::new("/proc/lockdep_stats").exists() {
        10
    } else {
        1
    }
}

/// Whether the machine has page attribute tables, without which no memory is write-combining.
///
/// # Errors
/// errno of reading the kernel's command line.
pub fn has_pat() -> Result<bool> {
    let arguments = read_trimmed("/proc/cmdline")?;
    Ok(!arguments.split_whitespace().any(|word| word == "nopat"))
}

/// Whether the stack under test is the one in Rust.
#[must_use]
pub fn is_rust_stack() -> bool {
    Path::new("/sys/module/vfio_rs").exists()
}

/// Whether the machine's IOMMU is AMD's. Behind QEMU's, nvme hangs with its host driver.
#[must_use]
pub fn is_amd_iommu() -> bool {
    Path::new("/sys/class/iommu/ivhd0").exists()
}

impl Kind {
    /// The first device of this kind, alone in its group or among bridges; skips if there is none.
    ///
    /// # Errors
    /// Skip.
    pub fn find(&self) -> Result<PciDevice> {
        if is_amd_iommu() && *self == NVME {
            skip!("QEMU's nvme hangs behind AMD-Vi");
        }
        let alone =
            |d: &PciDevice| d.group_members().iter().filter(|m| !m.is_bridge()).count() == 1;
        match sysfs::find_all(self.id.0, self.id.1)?
            .into_iter()
            .find(alone)
        {
            Some(device) => Ok(device),
            None => skip!("no {} in a group of its own", self.name),
        }
    }

    /// Has the kernel load its own driver for it, if it is a module; skips if there is none.
    ///
    /// # Errors
    /// Skip.
    pub fn load_host_driver(&self) -> Result<()> {
        let Some(name) = self.driver else {
            skip!("{} has no host driver", self.name)
        };
        let path = format!("/sys/bus/pci/drivers/{name}");
        if !Path::new(&path).exists() {
            // It fails where there is no modprobe or no such module: the path tells.
            let _ = Command::new("modprobe").arg(name).status();
        }
        if !Path::new(&path).exists() {
            skip!("the kernel has no driver {name}");
        }
        Ok(())
    }

    /// Finds it and binds it to vfio-pci.
    ///
    /// # Errors
    /// Skip, or a failed bind.
    pub fn bind(&self) -> Result<Bound> {
        let pci = self.find()?;
        pci.bind_vfio()
            .with_context(|| format!("bind {} to vfio-pci", self.name))?;
        Bound::new(pci)
    }

    /// Finds, binds and opens it in a type1v2 container.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn open(&self) -> Result<Opened> {
        self.bind()?.open()
    }
}

/// A device bound to vfio-pci.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The device.
    pub pci: PciDevice,
    /// Number of its group.
    pub group: u32,
}

impl Bound {
    /// For a device that is bound already.
    ///
    /// # Errors
    /// If it has no IOMMU group.
    pub fn new(pci: PciDevice) -> Result<Self> {
        let group = pci.group().context("the device has no IOMMU group")?;
        Ok(Self { pci, group })
    }

    /// Opens its group.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn open_group(&self) -> Result<Group> {
        Group::open(self.group).with_context(|| format!("open /dev/vfio/{}", self.group))
    }

    /// Opens a container and its group in it, without SET_IOMMU.
    ///
    /// # Errors
    /// The step that failed.
    pub fn join(&self) -> Result<(Container, Group)> {
        let container = Container::open().context("open the container")?;
        let group = self.open_group()?;
        group.set_container(&container).context("SET_CONTAINER")?;
        Ok((container, group))
    }

    /// As [`Bound::join`], with SET_IOMMU of `kind`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn attach(&self, kind: u32) -> Result<(Container, Group)> {
        let (container, group) = self.join()?;
        container.set_iommu(kind).context("SET_IOMMU")?;
        Ok((container, group))
    }

    /// Opens the device in a type1v2 container.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open(self) -> Result<Opened> {
        let (container, group) = self.attach(VFIO_TYPE1v2_IOMMU)?;
        let device = group.device(&self.pci.address).context("GET_DEVICE_FD")?;
        Ok(Opened {
            container,
            group,
            device,
            bound: self,
        })
    }
}

/// An open device with its container and group.
#[derive(Debug)]
pub struct Opened {
    /// Its container, type1v2.
    pub container: Container,
    /// Its group.
    pub group: Group,
    /// The device.
    pub device: Device,
    /// What it is.
    pub bound: Bound,
}

impl Opened {
    /// New memory of `pages` pages, mapped at `iova`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_new(&self, iova: u64, pages: usize) -> Result<DmaBuf> {
        let buf = DmaBuf::new(pages * PAGE as usize)?;
        self.container
            .map_buf(&buf, iova)
            .with_context(|| format!("MAP_DMA at {iova:#x}"))?;
        Ok(buf)
    }
}

/// An edu device in a type1v2 container: what most tests start from.
///
/// # Errors
/// Skip, or the step that failed.
pub fn open_edu() -> Result<Opened> {
    EDU.open()
}

/// All edu devices whose DMA can be translated. QEMU's AMD-Vi takes the bus of those behind a
/// bridge for bus 0.
///
/// # Errors
/// If sysfs cannot be read.
pub fn all_edus() -> Result<Vec<PciDevice>> {
    let mut edus = sysfs::find_all(EDU.id.0, EDU.id.1)?;
    edus.retain(|d| !is_amd_iommu() || d.address.starts_with("0000:00:"));
    Ok(edus)
}

/// The kinds that this machine has.
#[must_use]
pub fn present_kinds() -> Vec<Kind> {
    [EDU, IGB, E1000E, NVME]
        .into_iter()
        .filter(|kind| kind.find().is_ok())
        .collect()
}

/// Endpoints of a group that has several, such as those behind a conventional bridge; one with a
/// device that has a host driver, if there is a choice; skips if there is none.
///
/// # Errors
/// Skip.
pub fn shared_group() -> Result<Vec<PciDevice>> {
    let endpoints = |d: PciDevice| {
        d.group_members()
            .into_iter()
            .filter(|m| !m.is_bridge())
            .collect::<Vec<_>>()
    };
    // The chipset's own functions share a group as well, and must be left alone.
    let ours = |ends: &Vec<PciDevice>| {
        ends.len() > 1 && ends.iter().all(|d| !d.address.starts_with("0000:00:1f"))
    };
    let mut groups: Vec<_> = sysfs::all()?
        .into_iter()
        .map(endpoints)
        .filter(ours)
        .collect();
    groups.sort_by_key(|ends| ends.iter().all(|d| d.id() != Some(E1000E.id)));
    match groups.into_iter().next() {
        Some(ends) => Ok(ends),
        None => skip!("no group of several endpoints"),
    }
}

/// Devices of a group that were taken from the host's drivers, to which dropping this gives them
/// back.
#[derive(Debug)]
pub struct Freed(Vec<PciDevice>);

impl Freed {
    /// Takes all that share a group with `device` and have another driver.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn around(device: &PciDevice) -> Result<Self> {
        let mut others = device.group_members();
        others.retain(|d| !d.is_bridge() && d.driver().is_some_and(|name| name != sysfs::VFIO_PCI));
        for other in &others {
            other.unbind()?;
        }
        Ok(Self(others))
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        for device in &self.0 {
            let _ = device.restore();
        }
    }
}

/// Contents of a small file, trimmed.
///
/// # Errors
/// If it cannot be read.
pub fn read_trimmed(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path)
        .with_context(|| path.to_owned())?
        .trim()
        .to_owned())
}

/// The number in environment variable `variable`, by which a longer run is asked for, or `default`.
///
/// # Errors
/// If it is no number.
pub fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| variable.to_owned()),
        Err(_) => Ok(default),
    }
}
