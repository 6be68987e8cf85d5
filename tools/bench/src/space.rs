// SPDX-License-Identifier: GPL-2.0
//! An I/O address space with a device in it, by any of the interfaces that are compared.

use std::io;

use anyhow::{Context, Result};
use clap::ValueEnum;
use vfio_client::iommufd::{self, Ioas};
use vfio_client::pamu::VFIO_PAMU_IOMMU;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE1v2_IOMMU as TYPE1V2,
};
use vfio_client::{Container, Device, Group};

/// The interface to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interface {
    /// `/dev/vfio/vfio`, type1v2.
    Type1,
    /// `/dev/vfio/vfio`, type2: windows of [`WINDOW`] bytes from [`APERTURE`] on.
    Pamu,
    /// `/dev/iommu` through type1's ioctls.
    IommufdCompat,
    /// `/dev/iommu` through its own ioctls.
    Iommufd,
}

/// First address of type2's aperture.
pub(crate) const APERTURE: u64 = 1 << 30;
/// Bytes of one of its windows.
pub(crate) const WINDOW: u64 = 256 << 20;
/// How many there are.
const WINDOWS: u32 = 4;

/// What a space is made of.
#[derive(Debug)]
enum Kind {
    Container(Container),
    Ioas(Ioas),
}

/// An address space with a device. What is declared first is closed first.
#[derive(Debug)]
pub(crate) struct Space {
    /// The device.
    pub device: Device,
    _group: Option<Group>,
    kind: Kind,
}

impl Space {
    /// Opens all that is needed to have `pci` do DMA. It is bound to vfio-pci.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn open(interface: Interface, pci: &PciDevice) -> Result<Self> {
        let node = match interface {
            Interface::Iommufd => {
                let ioas = Ioas::new().context("make an IOAS")?;
                let device = ioas.open_device(pci).context("open the device's node")?;
                return Ok(Self {
                    device,
                    _group: None,
                    kind: Kind::Ioas(ioas),
                });
            }
            Interface::Type1 | Interface::Pamu => vfio_client::container::NODE,
            Interface::IommufdCompat => iommufd::NODE,
        };
        let container = Container::open_at(node).context("open the container")?;
        let group =
            Group::open(pci.group().context("no IOMMU group")?).context("open the group")?;
        group.set_container(&container).context("SET_CONTAINER")?;
        if interface == Interface::Pamu {
            container.set_iommu(VFIO_PAMU_IOMMU).context("SET_IOMMU")?;
            let last = APERTURE + u64::from(WINDOWS) * WINDOW - 1;
            container.set_geometry(APERTURE, last).context("geometry")?;
            container.set_windows(WINDOWS).context("windows")?;
        } else {
            container.set_iommu(TYPE1V2).context("SET_IOMMU")?;
        }
        let device = group.device(&pci.address).context("GET_DEVICE_FD")?;
        Ok(Self {
            device,
            _group: Some(group),
            kind: Kind::Container(container),
        })
    }

    /// Whether the stack has type2.
    ///
    /// # Errors
    /// If there is no container to ask.
    pub(crate) fn has_windows() -> io::Result<bool> {
        Ok(Container::open()?.check_extension(VFIO_PAMU_IOMMU)? != 0)
    }

    /// The container, if it is one.
    pub(crate) fn container(&self) -> Option<&Container> {
        match &self.kind {
            Kind::Container(container) => Some(container),
            Kind::Ioas(_) => None,
        }
    }

    /// Maps `size` bytes at `vaddr` for reading and writing.
    ///
    /// # Errors
    /// The kernel's errno.
    pub(crate) fn map(&self, vaddr: u64, iova: u64, size: u64) -> io::Result<()> {
        const BOTH: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        match &self.kind {
            Kind::Container(container) => container.map(BOTH, vaddr, iova, size),
            Kind::Ioas(ioas) => ioas.map(vaddr, iova, size),
        }
    }

    /// Unmaps exactly `size` bytes.
    ///
    /// # Errors
    /// The kernel's errno; `InvalidData` if it unmapped fewer.
    pub(crate) fn unmap(&self, iova: u64, size: u64) -> io::Result<()> {
        let done = match &self.kind {
            Kind::Container(container) => container.unmap(iova, size),
            Kind::Ioas(ioas) => ioas.unmap(iova, size),
        }?;
        if done == size {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Unmaps all that there is in a range.
    ///
    /// # Errors
    /// The kernel's errno.
    pub(crate) fn unmap_rest(&self, iova: u64, size: u64) -> io::Result<()> {
        match &self.kind {
            Kind::Container(container) => container.unmap(iova, size),
            Kind::Ioas(ioas) => ioas.unmap(iova, size),
        }
        .map(drop)
    }
}
