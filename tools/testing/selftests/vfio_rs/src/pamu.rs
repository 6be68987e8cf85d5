// SPDX-License-Identifier: GPL-2.0
//! Helpers of the tests of type2: edu in a container of apertures and windows.

use std::fs::File;

use qmp::Qmp;
use serde_json::json;
use vfio_client::pamu::VFIO_PAMU_IOMMU;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::VFIO_DMA_MAP_FLAG_READ as READ;
use vfio_client::uapi::VFIO_DMA_MAP_FLAG_WRITE as WRITE;
use vfio_client::{Container, DmaBuf, Edu};

use crate::modules::{Set, parameter};
use crate::qmp as monitor;
use crate::setup::{Bound, EDU, Opened, PAGE};
use crate::{Context, Result, bail, ensure, skip};

/// 1 MiB.
pub const MIB: u64 = 1 << 20;

/// Skips on a stack without type2.
///
/// # Errors
/// Skip.
pub fn needed() -> Result<()> {
    if Container::open()?.check_extension(VFIO_PAMU_IOMMU)? == 0 {
        skip!("no type2 here");
    }
    Ok(())
}

/// An edu in another group than the first one; all of its group is bound.
///
/// # Errors
/// Skip, or a failed bind.
pub fn second_edu() -> Result<Bound> {
    let first = EDU.find()?.group();
    let other = |d: &PciDevice| d.group().is_some() && d.group() != first;
    let Some(edu) = sysfs::find_all(EDU.id.0, EDU.id.1)?.into_iter().find(other) else {
        skip!("no second edu");
    };
    for member in edu.group_members() {
        if !member.is_bridge() {
            member.bind_vfio()?;
        }
    }
    Bound::new(edu)
}

/// Puts an edu that is bound into a container of type2, and opens it.
///
/// # Errors
/// The step that failed.
pub fn open_bound(bound: Bound) -> Result<Opened> {
    let (container, group) = bound.attach(VFIO_PAMU_IOMMU)?;
    let device = group.device(&bound.pci.address).context("GET_DEVICE_FD")?;
    Ok(Opened {
        container,
        group,
        device,
        bound,
    })
}

/// edu in a container of type2, without an aperture.
///
/// # Errors
/// Skip, or the step that failed.
pub fn open() -> Result<Opened> {
    needed()?;
    open_bound(EDU.bind()?)
}

/// As [`open`], with an aperture of `size` bytes from 0 on, cut into windows.
///
/// # Errors
/// Skip, or the step that failed.
pub fn open_with(size: u64, windows: u32) -> Result<Opened> {
    let opened = open()?;
    cut(&opened.container, size, windows)?;
    Ok(opened)
}

/// Gives a container an aperture of `size` bytes from 0 on, cut into windows.
///
/// # Errors
/// The kernel's errno.
pub fn cut(container: &Container, size: u64, windows: u32) -> Result<()> {
    container
        .set_geometry(0, size - 1)
        .context("set the geometry")?;
    container.set_windows(windows).context("set the windows")
}

/// edu with eight windows of 1 MiB, and 4 MiB of memory.
///
/// # Errors
/// Skip, or the step that failed.
pub fn eight() -> Result<(Opened, DmaBuf)> {
    Ok((open_with(8 * MIB, 8)?, DmaBuf::new(4 * MIB as usize)?))
}

/// What a thread returned.
///
/// # Errors
/// That, or that it panicked.
pub fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread panicked"),
    }
}

/// Maps all of `buf`.
///
/// # Errors
/// The kernel's errno.
pub fn map(container: &Container, buf: &DmaBuf, iova: u64) -> std::io::Result<()> {
    container.map(READ | WRITE, buf.addr(), iova, buf.len() as u64)
}

/// Has containers made from now on have banks; dropping this ends it.
///
/// # Errors
/// Skip.
pub fn banks(count: u32) -> Result<Set> {
    needed()?;
    Set::new("vfio_rs", "msi_test_banks", &count.to_string())
}

/// Has containers made from now on take contiguous memory only; dropping this ends it.
///
/// # Errors
/// Skip.
pub fn strict() -> Result<Set> {
    parameter("vfio_rs", "pamu_strict")?;
    Set::new("vfio_rs", "pamu_strict", "1")
}

/// Has edu write `word` to `iova`, which leads to where `word` was before.
///
/// `source` is an address from which edu may read: a page of `page` that is mapped.
///
/// # Errors
/// The kernel's errno.
pub fn write_word(edu: &Edu<'_>, page: &DmaBuf, source: u64, iova: u64, word: u32) -> Result<()> {
    page.put(0, &word.to_ne_bytes());
    edu.fetch(source, 4)?;
    edu.store(iova, 4)?;
    Ok(())
}

/// Whether edu can write to `iova`, which leads to `at` of `buf` if anywhere. As [`write_word`].
///
/// # Errors
/// The kernel's errno.
pub fn reaches(
    edu: &Edu<'_>,
    source: (&DmaBuf, u64),
    iova: u64,
    (buf, at): (&DmaBuf, u64),
) -> Result<bool> {
    let at = at as usize;
    buf.put(at, &[0x55; 4]);
    write_word(edu, source.0, source.1, iova, 0xabcd_ef01)?;
    let got = buf.copy(at, 4);
    ensure!(
        got == [0x55; 4] || got == 0xabcd_ef01_u32.to_ne_bytes(),
        "half a word: {got:x?}"
    );
    Ok(got != [0x55; 4])
}

/// New memory of `pages` pages.
///
/// # Errors
/// errno of mmap(2).
pub fn memory(pages: u64) -> Result<DmaBuf> {
    Ok(DmaBuf::new((pages * PAGE) as usize)?)
}

/// An edu that can form every address, until this is dropped.
#[derive(Debug)]
pub struct Wide(Qmp<File>);

impl Wide {
    /// The first edu of the machine.
    ///
    /// # Errors
    /// Skip without a monitor.
    pub fn new() -> Result<Self> {
        let mut wide = Self(monitor::open()?);
        wide.set(u64::from(u32::MAX))?;
        Ok(wide)
    }

    fn set(&mut self, mask: u64) -> Result<()> {
        let path = "/machine/peripheral/edu0";
        let arguments = json!({ "path": path, "property": "dma_mask", "value": mask });
        self.0.call("qom-set", &arguments)?;
        Ok(())
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        let _ = self.set(vfio_client::edu::DMA_MASK);
    }
}
