// SPDX-License-Identifier: GPL-2.0
//! QEMU assigns devices to a nested Linux guest, whose own drivers use them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use vfio_client::sysfs::PciDevice;

use crate::Interrupts;
use crate::guest::{BOOT, Guest, HOTPLUGGED, Machine};
use crate::peer::{PORT, Peer};
use crate::report::Report;
use crate::system::{command, device};
use crate::vf;

/// PCI device numbers as sysfs prints them.
const IGB: &str = "0x10c9";
const E1000E: &str = "0x10d3";
const EDU: &str = "0x11e8";
const IGBVF: &str = "0x10ca";
/// Name of igb's virtual function among the devices.
const VF: &str = "vf0";
/// The peer's addresses, and the guest's: a network for each of its cards.
const PEER: [&str; 2] = ["10.9.1.1", "10.9.2.1"];
const OWN: [&str; 2] = ["10.9.1.2", "10.9.2.2"];
/// Bytes that the guest sends over a card at a time, and gets back.
const SENT: u64 = 1 << 20;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Linux for the guest (bzImage).
    #[arg(long)]
    kernel: PathBuf,
    /// QEMU's accelerator: kvm or tcg.
    #[arg(long, default_value = "kvm")]
    accel: String,
    /// Kinds of interrupts, one guest each: MSI-X, which leaves MSI to edu, or INTx.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "msix")]
    interrupts: Vec<Interrupts>,
    /// Devices, by QEMU id in this machine; vf0 is a virtual function of igb0, which the kernel
    /// drives then.
    #[arg(long, value_delimiter = ',', default_value = "igb0,e1000e0,nvme0,edu9")]
    devices: Vec<String>,
    /// How QEMU comes to the devices.
    #[arg(long, value_enum, default_value = "group")]
    by: By,
    /// The guest's memory.
    #[arg(long, default_value = "384M")]
    memory: String,
    /// How much is written to the disk and read back.
    #[arg(long, default_value = "64")]
    mebibytes: u32,
    /// What comes after the first use of all devices: they are used once more then.
    #[arg(long, value_enum, value_delimiter = ',')]
    then: Vec<Then>,
    /// Write the output of lspci -vvv in the guest to this file, before drivers are loaded.
    #[arg(long)]
    lspci: Option<PathBuf>,
    /// Boot the guest and use no device.
    #[arg(long)]
    boot_only: bool,
}

/// How QEMU comes to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// By its group and a container.
    Group,
    /// By its own node and `/dev/iommu`.
    Iommufd,
}

/// Something that happens to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Then {
    /// A device is unplugged and plugged in again.
    Hotplug,
    /// It reboots.
    Reboot,
}

fn pci(id: &str) -> Result<PciDevice> {
    match id {
        VF => vf::of("igb0"),
        _ => device(id),
    }
}

/// Runs all that `options` ask for.
pub(crate) fn run(options: &Options, report: &mut Report) {
    let mut peer = None;
    let prepared = report.step("devices bound, peer up", || {
        if options.accel == "kvm" {
            command(&["modprobe", "kvm-amd"])?;
        }
        for id in &options.devices {
            pci(id)?
                .bind_vfio()
                .with_context(|| format!("{id} to vfio-pci"))?;
        }
        let addresses = PEER.map(|a| format!("{a}/24"));
        peer = Some(Peer::start(
            "peer0",
            "e1000e",
            &[&addresses[0], &addresses[1]],
        )?);
        Ok(String::new())
    });
    let Some(peer) = peer.filter(|_| prepared) else {
        return;
    };
    for &interrupts in &options.interrupts {
        let mut session = Session {
            options,
            interrupts,
            peer: &peer,
            sum: None,
        };
        session.all(report);
    }
}

struct Session<'a> {
    options: &'a Options,
    interrupts: Interrupts,
    peer: &'a Peer,
    /// Checksum of what the disk was last given.
    sum: Option<String>,
}

impl Session<'_> {
    fn name(&self, what: &str) -> String {
        format!("{} {}: {what}", self.options.accel, self.interrupts.name())
    }

    fn has(&self, id: &str) -> bool {
        self.options.devices.iter().any(|d| d == id)
    }

    fn all(&mut self, report: &mut Report) {
        let mut guest = None;
        let started = report.step(&self.name("guest boots"), || {
            guest = Some(self.start()?);
            Ok(String::new())
        });
        let Some(mut guest) = guest.filter(|_| started) else {
            return;
        };
        if let (Some(path), Interrupts::Msix) = (&self.options.lspci, self.interrupts) {
            report.step(&self.name("lspci -vvv"), || {
                let text = guest.run("lspci -nn -vvv", 300)?;
                ensure!(text.lines().count() > 50, "hardly any output:\n{text}");
                fs::write(path, text + "\n")?;
                Ok(String::new())
            });
        }
        let used = !self.options.boot_only && self.boot(report, &mut guest, "");
        if used {
            self.then(report, &mut guest);
        }
        report.step(&self.name("QEMU ends"), || guest.quit());
    }

    fn then(&mut self, report: &mut Report, guest: &mut Guest) {
        for &event in &self.options.then {
            let passed = match event {
                Then::Hotplug => self.hotplug(report, guest),
                Then::Reboot => {
                    let rebooted = report.step(&self.name("reboot"), || {
                        guest.reboot()?;
                        Ok(String::new())
                    });
                    rebooted && self.boot(report, guest, " after reboot")
                }
            };
            if !passed {
                return;
            }
        }
    }

    fn start(&self) -> Result<Guest> {
        let devices = self
            .options
            .devices
            .iter()
            .map(|id| Ok((id.as_str(), pci(id)?)))
            .collect::<Result<Vec<(&str, PciDevice)>>>()?;
        Guest::start(&Machine {
            kernel: &self.options.kernel,
            accel: &self.options.accel,
            by: self.options.by,
            memory: &self.options.memory,
            append: match self.interrupts {
                Interrupts::Intx => "pci=nomsi",
                _ => "",
            },
            devices: &devices,
        })
    }

    /// What is done after each boot; tells whether all of it passed.
    fn boot(&mut self, report: &mut Report, guest: &mut Guest, when: &str) -> bool {
        let mut good = report.step(&self.name(&format!("drivers load{when}")), || {
            let size = self.options.mebibytes;
            guest.run(&format!("load {size}"), BOOT)
        });
        if self.has("edu9") {
            good &= report.step(&self.name(&format!("edu{when}")), || {
                guest.run(
                    &format!("vfio-rs-clients guest-edu \"$(address {EDU})\""),
                    60,
                )
            });
        }
        if self.has("nvme0") {
            good &= report.step(&self.name(&format!("nvme{when}")), || self.disk(guest));
        }
        for (id, number, net) in [("igb0", IGB, 0), (VF, IGBVF, 0), ("e1000e0", E1000E, 1)] {
            if self.has(id) {
                let name = self.name(&format!("{id}{when}"));
                good &= report.step(&name, || self.network(guest, number, net));
            }
        }
        good
    }

    fn disk(&mut self, guest: &mut Guest) -> Result<String> {
        if let Some(sum) = &self.sum {
            guest.run(&format!("disk_still {sum} 100"), 600)?;
        }
        let said = guest.run("disk 100", 600)?;
        let sum = said.lines().find_map(|l| l.strip_prefix("sum "));
        self.sum = Some(sum.context("no checksum")?.to_owned());
        let kind = self.kind();
        Ok(said + "\n" + &guest.run(&format!("interrupts nvme {kind}"), 120)?)
    }

    /// How the guest's kernel calls such interrupts.
    fn kind(&self) -> &'static str {
        match self.interrupts {
            Interrupts::Intx => "IO-APIC",
            _ => "PCI-MSIX",
        }
    }

    fn network(&self, guest: &mut Guest, number: &str, net: usize) -> Result<String> {
        let before = self.peer.counters()?;
        let (own, peer) = (OWN[net], PEER[net]);
        let said = guest.run(&format!("network {number} {own} {peer} {PORT}"), 600)?;
        self.peer.moved(before, SENT)?;
        let kind = self.kind();
        let interrupts = format!("interrupts \"$(interface {number})\" {kind}");
        Ok(said + "\n" + &guest.run(&interrupts, 120)?)
    }

    fn hotplug(&self, report: &mut Report, guest: &mut Guest) -> bool {
        let id = HOTPLUGGED;
        if !self.has(id) {
            return true;
        }
        report.step(&self.name("igb0 unplugged"), || {
            guest.unplug(id)?;
            guest.run(&format!("until_true '[ -z \"$(address {IGB})\" ]'"), 30)
        }) && report.step(&self.name("igb0 plugged in again"), || {
            guest.plug(id, &device(id)?)?;
            self.network(guest, IGB, 0)
        })
    }
}
