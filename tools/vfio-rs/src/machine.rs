// SPDX-License-Identifier: GPL-2.0
//! The PCI devices of a machine and their groups, as sysfs has them.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::names::{self, Names};
use crate::root::Root;

/// The driver that hands devices to user space.
pub const VFIO_PCI: &str = "vfio-pci";

/// Which VFIO is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// This project's modules.
    Ours,
    /// The one that comes with Linux.
    Linux,
    /// None.
    None,
}

/// A PCI device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Where it is.
    pub address: Address,
    /// Class, subclass and interface.
    pub class: u32,
    /// Vendor and device number.
    pub id: (u16, u16),
    /// Those of the subsystem.
    pub subsystem: (u16, u16),
    /// Its driver.
    pub driver: Option<String>,
    /// The only driver that may take it.
    pub only: Option<String>,
    /// Number of its IOMMU group.
    pub group: Option<u32>,
    /// Whether it hands itself to user space: its driver is one of VFIO's.
    pub has_vfio_driver: bool,
}

/// All devices.
#[derive(Debug)]
pub struct Machine {
    /// In the order of their addresses.
    pub devices: Vec<Device>,
    /// Their names.
    pub names: Names,
    /// Which VFIO is loaded.
    pub stack: Stack,
}

/// Folder of a device in sysfs.
#[must_use]
pub fn folder(address: Address) -> String {
    format!("sys/bus/pci/devices/{address}")
}

impl Device {
    /// Reads what sysfs has of the device at `address`.
    #[must_use]
    pub fn read(root: &Root, address: Address) -> Self {
        let dir = folder(address);
        let number = |name: &str| root.number(&format!("{dir}/{name}")).unwrap_or(0);
        let small = |name: &str| u16::try_from(number(name)).unwrap_or(0);
        let driver = root.link_name(&format!("{dir}/driver"));
        let only = root.text(&format!("{dir}/driver_override"));
        let group = root.link_name(&format!("{dir}/iommu_group"));
        let has_vfio_driver = driver.as_deref().is_some_and(|name| {
            // Variant drivers make such a class device as vfio-pci does, since Linux 6.0.
            name == VFIO_PCI || root.exists(&format!("{dir}/vfio-dev"))
        });
        Self {
            address,
            class: u32::try_from(number("class")).unwrap_or(0),
            id: (small("vendor"), small("device")),
            subsystem: (small("subsystem_vendor"), small("subsystem_device")),
            driver,
            only: only.filter(|name| !name.is_empty() && name != "(null)"),
            group: group.and_then(|name| name.parse().ok()),
            has_vfio_driver,
        }
    }

    /// Its folder in sysfs.
    #[must_use]
    pub fn folder(&self) -> String {
        folder(self.address)
    }

    /// Whether it is a bridge, which stays with its driver and is no obstacle to its group.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == 0x06
    }

    /// One word for its class.
    #[must_use]
    pub fn class_name(&self) -> &'static str {
        names::class(self.class)
    }

    /// Its numbers, as `8086:10c9`.
    #[must_use]
    pub fn id_text(&self) -> String {
        format!("{:04x}:{:04x}", self.id.0, self.id.1)
    }
}

impl Machine {
    /// Reads them all.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let mut devices: Vec<_> = root
            .names("sys/bus/pci/devices")
            .iter()
            .filter_map(|name| name.parse().ok())
            .map(|address| Device::read(root, address))
            .collect();
        devices.sort_by_key(|device| device.address);
        let wanted: BTreeSet<_> = devices.iter().map(|device| device.id).collect();
        let loaded = |module: &str| root.exists(&format!("sys/module/{module}"));
        let stack = if loaded("vfio_rs") {
            Stack::Ours
        } else if loaded("vfio_pci_core") || loaded("vfio") {
            Stack::Linux
        } else {
            Stack::None
        };
        Self {
            devices,
            names: Names::read(root, &wanted),
            stack,
        }
    }

    /// The device at `address`.
    #[must_use]
    pub fn at(&self, address: Address) -> Option<&Device> {
        self.devices.iter().find(|device| device.address == address)
    }

    /// The devices of a group.
    pub fn members(&self, group: u32) -> impl Iterator<Item = &Device> + Clone {
        self.devices
            .iter()
            .filter(move |device| device.group == Some(group))
    }

    /// What has to leave the host with `device`: the devices of its group that are no bridges.
    #[must_use]
    pub fn companions<'a>(&'a self, device: &'a Device) -> Vec<&'a Device> {
        match device.group {
            Some(group) => self.members(group).filter(|d| !d.is_bridge()).collect(),
            None => vec![device],
        }
    }

    /// Groups and their devices.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<u32, Vec<&Device>> {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for device in &self.devices {
            if let Some(group) = device.group {
                groups.entry(group).or_default().push(device);
            }
        }
        groups
    }

    /// Name of a device for people.
    #[must_use]
    pub fn name(&self, device: &Device) -> String {
        self.names.short(device.id.0, device.id.1)
    }
}
