// SPDX-License-Identifier: GPL-2.0
//! PCI devices in sysfs: find them by what they are, never by where they sit; bind and unbind
//! drivers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the driver that hands devices to user space.
pub const VFIO_PCI: &str = "vfio-pci";

/// A PCI device, by its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciDevice {
    /// Address, such as `0000:00:04.0`.
    pub address: String,
}

fn link_name(path: PathBuf) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

fn write(path: impl AsRef<Path>, text: &str) -> io::Result<()> {
    let path = path.as_ref();
    fs::write(path, text).map_err(|e| e.raw_os_error().map_or(e, io::Error::from_raw_os_error))
}

/// All PCI devices, by address.
///
/// # Errors
/// If sysfs cannot be read.
pub fn all() -> io::Result<Vec<PciDevice>> {
    let entries = fs::read_dir("/sys/bus/pci/devices")?;
    let mut devices: Vec<_> = entries
        .flatten()
        .filter_map(|e| {
            Some(PciDevice {
                address: e.file_name().to_str()?.to_owned(),
            })
        })
        .collect();
    devices.sort();
    Ok(devices)
}

/// All devices with these numbers.
///
/// # Errors
/// If sysfs cannot be read.
pub fn find_all(vendor: u16, device: u16) -> io::Result<Vec<PciDevice>> {
    Ok(all()?
        .into_iter()
        .filter(|d| d.id() == Some((vendor, device)))
        .collect())
}

impl PciDevice {
    /// The device at `address`, which need not exist.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// Its folder in sysfs.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/sys/bus/pci/devices").join(&self.address)
    }

    fn hex(&self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.path().join(name)).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    }

    /// Vendor and device number.
    #[must_use]
    pub fn id(&self) -> Option<(u16, u16)> {
        Some((self.hex("vendor")? as u16, self.hex("device")? as u16))
    }

    /// Whether it is a bridge rather than an endpoint.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.hex("class").is_some_and(|class| class >> 16 == 6)
    }

    /// Number of its IOMMU group.
    #[must_use]
    pub fn group(&self) -> Option<u32> {
        link_name(self.path().join("iommu_group"))?.parse().ok()
    }

    /// All devices of its IOMMU group, itself included.
    #[must_use]
    pub fn group_members(&self) -> Vec<PciDevice> {
        let Ok(entries) = fs::read_dir(self.path().join("iommu_group/devices")) else {
            return Vec::new();
        };
        let mut members: Vec<_> = entries
            .flatten()
            .filter_map(|e| Some(Self::at(e.file_name().to_str()?)))
            .collect();
        members.sort();
        members
    }

    /// First and last address of resource `index`: BARs 0-5, ROM 6.
    ///
    /// # Errors
    /// errno of reading it; InvalidData if there is no such line.
    pub fn resource(&self, index: usize) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(self.path().join("resource"))?;
        let line = text.lines().nth(index).unwrap_or_default();
        let mut numbers = line.split_whitespace().map(|word| {
            u64::from_str_radix(word.trim_start_matches("0x"), 16)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        });
        match (numbers.next(), numbers.next()) {
            (Some(first), Some(last)) => Ok((first?, last?)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Name of the bound driver.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        link_name(self.path().join("driver"))
    }

    /// Names of its network interfaces.
    #[must_use]
    pub fn netdevs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path().join("net")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect()
    }

    /// Its virtual functions, in order.
    #[must_use]
    pub fn virtual_functions(&self) -> Vec<Self> {
        let name = |number| link_name(self.path().join(format!("virtfn{number}")));
        (0..).map_while(name).map(|name| Self::at(&name)).collect()
    }

    /// Says which driver alone may be bound to it; `None` lifts that.
    ///
    /// # Errors
    /// errno of the write.
    pub fn set_override(&self, driver: Option<&str>) -> io::Result<()> {
        write(self.path().join("driver_override"), driver.unwrap_or("\n"))
    }

    /// Unbinds its driver, if any. Blocks while a user has the device open.
    ///
    /// # Errors
    /// errno of the write.
    pub fn unbind(&self) -> io::Result<()> {
        match self.driver() {
            Some(_) => write(self.path().join("driver/unbind"), &self.address),
            None => Ok(()),
        }
    }

    /// Has the kernel look for a driver.
    ///
    /// # Errors
    /// errno of the write: the driver's own if it refused.
    pub fn probe(&self) -> io::Result<()> {
        write("/sys/bus/pci/drivers_probe", &self.address)
    }

    /// Takes it from its driver and gives it to `driver`, and no other.
    ///
    /// # Errors
    /// errno of the step that failed; `NotFound` if the driver did not take it.
    pub fn bind_to(&self, driver: &str) -> io::Result<()> {
        self.set_override(Some(driver))?;
        if self.driver().as_deref() == Some(driver) {
            return Ok(());
        }
        self.unbind()?;
        self.probe()?;
        match self.driver() {
            Some(name) if name == driver => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{driver} did not take {}", self.address),
            )),
        }
    }

    /// [`PciDevice::bind_to`] vfio-pci.
    ///
    /// # Errors
    /// As there.
    pub fn bind_vfio(&self) -> io::Result<()> {
        self.bind_to(VFIO_PCI)
    }

    /// Unbinds it and lifts the override, so that it has no driver.
    ///
    /// # Errors
    /// errno of the step that failed.
    pub fn release(&self) -> io::Result<()> {
        self.set_override(None)?;
        self.unbind()
    }

    /// Gives it back to the driver that the kernel finds by itself, if there is one.
    ///
    /// # Errors
    /// errno of the step that failed.
    pub fn restore(&self) -> io::Result<()> {
        self.release()?;
        match self.probe() {
            // Nobody wants it: fine.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }
}
