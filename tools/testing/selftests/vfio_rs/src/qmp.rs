// SPDX-License-Identifier: GPL-2.0
//! The monitor of the QEMU that the tests run in: to plug devices in and out, and to make them
//! fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::qmp::Qmp;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use vfio_client::sysfs::{self, PciDevice};

use crate::setup::slowness;
use crate::skip;

/// How long plugging may take: the kernel waits five seconds after the button was pressed.
const PLUG: Duration = Duration::from_secs(30);

/// Opens it; skips if there is none. One at a time: the machine has one port.
///
/// # Errors
/// Skip, or errno of open(2).
pub fn open() -> Result<Qmp<File>> {
    let Some(path) = std::env::var_os("VFIO_RS_QMP").map(PathBuf::from) else {
        skip!("no monitor of QEMU")
    };
    Qmp::open(&path).with_context(|| path.display().to_string())
}

/// Functions plugged into the empty port `hot0`; dropping it takes them out again.
#[derive(Debug)]
pub struct Plugged {
    qmp: Qmp<File>,
    count: u32,
    unplugged: bool,
    /// The functions, by number.
    pub functions: Vec<PciDevice>,
}

impl Plugged {
    /// Plugs `count` functions of QEMU's model `driver` in.
    ///
    /// # Errors
    /// Skip without a monitor or a free port; or they do not show up.
    pub fn new(driver: &str, count: u32, id: (u16, u16)) -> Result<Self> {
        Self::at("hot0", driver, count, id)
    }

    /// As [`Plugged::new`], into the port `bus`.
    ///
    /// # Errors
    /// As there.
    pub fn at(bus: &str, driver: &str, count: u32, (vendor, device): (u16, u16)) -> Result<Self> {
        if Path::new("/proc/lockdep_stats").exists() {
            skip!("lockdep complains about the kernel's hot-plug, and then says no more");
        }
        let mut qmp = open()?;
        let before = sysfs::find_all(vendor, device)?;
        // Without the second, a function with ARI says that it is the only one.
        let several = count > 1;
        // Function 0 is the last, as it makes all of them appear.
        for function in (0..count).rev() {
            let arguments = json!({
                "driver": driver,
                "id": format!("plugged{function}"),
                "bus": bus,
                "addr": format!("0.{function}"),
                "multifunction": several,
                "x-pcie-ari-nextfn-1": several,
            });
            qmp.call("device_add", &arguments)?;
        }
        let mut plugged = Self {
            qmp,
            count,
            unplugged: false,
            functions: Vec::new(),
        };
        let end = Instant::now() + PLUG * slowness();
        while plugged.functions.len() < count as usize {
            ensure!(Instant::now() < end, "{count} {driver} do not show up");
            std::thread::sleep(Duration::from_millis(20));
            plugged.functions = sysfs::find_all(vendor, device)?
                .into_iter()
                .filter(|d| !before.contains(d) && d.group().is_some())
                .collect();
        }
        // They are there before drivers may have them; this waits for the lock under which they
        // come.
        for function in &plugged.functions {
            std::fs::write(function.path().join("rescan"), "1")?;
        }
        Ok(plugged)
    }

    /// Asks for them back, without waiting.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn unplug(&mut self) -> Result<()> {
        // The kernel takes all functions of the slot out.
        self.qmp.call("device_del", &json!({ "id": "plugged0" }))?;
        self.unplugged = true;
        Ok(())
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        if !self.unplugged
            && let Err(e) = self.unplug()
        {
            println!("{e:#}");
            return;
        }
        // QEMU refuses to take out what it is taking out, and then does not know it any more.
        let last = json!({ "id": format!("plugged{}", self.count - 1) });
        let end = Instant::now() + PLUG * slowness();
        while Instant::now() < end {
            match self.qmp.call("device_del", &last) {
                Err(e) if e.is_no_device() => break,
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        // The next to be plugged in must not be taken for these.
        while self.functions.iter().any(|f| f.path().exists()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
