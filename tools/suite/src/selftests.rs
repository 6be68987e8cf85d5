// SPDX-License-Identifier: GPL-2.0
//! The kselftests in virtual machines: several of these share the programs, each machine taking the
//! next that no other has taken. When a machine dies, a new one takes what is left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};

use crate::process;
use crate::programs::{Place, Programs};

/// The other drivers of the devices, for tests of who may have a device. Behind AMD-Vi their
/// interrupts do not arrive, and nvme would wait for them.
const HOST_DRIVERS: &str = "modprobe -a igb e1000e nvme; ";

/// Beside the default devices: one with a driver of its own in a group with others, a display,
/// another one behind a bridge, two in a group with the ports that they are behind, one with a BAR
/// of 1 GiB, of which tests touch little, and one with a BAR of 2 TiB, for which there must be
/// addresses.
const MORE_DEVICES: [&str; 28] = [
    "--device",
    "e1000e,id=e1000e1,addr=0x11.2",
    "--device",
    "VGA,id=vga0,addr=0x6",
    "--device",
    "pcie-root-port,id=rp-vga,chassis=9,slot=9,addr=0xe",
    "--device",
    "VGA,id=vga1,bus=rp-vga",
    "--device",
    "pcie-root-port,id=noacs0,chassis=90,slot=90,disable-acs=on,addr=0x18,multifunction=on",
    "--device",
    "pcie-root-port,id=noacs1,chassis=91,slot=91,disable-acs=on,addr=0x18.1",
    "--device",
    "pcie-root-port,id=noacs2,chassis=92,slot=92,disable-acs=on,addr=0x18.2",
    "--device",
    "edu,id=edu6,bus=noacs0",
    "--device",
    "edu,id=edu7,bus=noacs1",
    "--qemu-arg=-object",
    "--qemu-arg=memory-backend-ram,id=shm1,size=1G,share=on",
    "--device",
    "ivshmem-plain,id=ivshmem1,addr=0x19,memdev=shm1",
    "--device",
    "pci-testdev,id=large0,addr=0xf,membar=2T",
    "--qemu-arg=-global",
    "--qemu-arg=max-x86_64-cpu.phys-bits=46",
    "--qemu-arg=-global",
    "--qemu-arg=q35-pcihost.pci-hole64-size=8T",
];

/// Runs inside: a folder made in `$queue`, which all machines share, takes a program. What programs
/// leave in other folders is gone with the machine.
const LOOP: &str = r##"
for t in "$@"; do
    mkdir "$queue/$t" 2>/dev/null || continue
    echo "# program $t"
    "$dir/$t" $filter
    echo "# exit $?"
done"##;

/// Begins what `scripts/vm` says of a failure of the machine; the log comes first.
const CAUSE: &str = "vm: ";
const LOG: &str = "vm: kernel log:";

/// How many machines share the programs of a stage, since each keeps hardly more than one processor
/// busy.
pub(crate) const MACHINES: usize = 2;

/// What comes from a machine.
#[derive(Debug)]
pub(crate) enum Event {
    /// A line of output.
    Line(String),
    /// It ended as it should not, for this reason.
    Failed(String),
}

/// What is to be run, for all machines of a stage.
#[derive(Debug)]
pub(crate) struct Plan {
    top: PathBuf,
    /// Folder of the stage's logs and of the queue.
    logs: PathBuf,
    queue: String,
    programs: Vec<String>,
    folder: String,
    filter: String,
    /// Whether memory can be write-combining. One kind of IOMMU does without, for the tests of
    /// that.
    pat: bool,
    /// What else the machine is booted with.
    parameter: Option<&'static str>,
}

impl Plan {
    /// For the project in `top`, with `logs` as a folder of the stage's own. `filter` names
    /// programs by a part of their name, or else tests of any of them; `iommu` is the kind of it,
    /// `choice` what is run of all.
    ///
    /// # Errors
    /// If the programs cannot be listed or the folder not be made.
    pub(crate) fn new(
        top: &Path,
        logs: &Path,
        iommu: &str,
        choice: Programs,
        filter: Option<&str>,
    ) -> Result<Self> {
        let queue = logs.join("queue");
        if queue.exists() {
            fs::remove_dir_all(&queue)?;
        }
        fs::create_dir_all(&queue)?;
        for number in 0..MACHINES {
            File::create(log(logs, number))?; // a machine appends to it
        }
        let mut programs = programs(top, choice)?;
        let mut filter = filter.unwrap_or_default();
        if programs.iter().any(|name| name.contains(filter)) {
            programs.retain(|name| name.contains(filter));
            filter = "";
        }
        Ok(Self {
            top: top.to_owned(),
            logs: logs.to_owned(),
            queue: queue.display().to_string(),
            programs,
            folder: folder(top)?,
            pat: !iommu.starts_with("amd"),
            parameter: choice.boot_parameter(),
            filter: filter.to_owned(),
        })
    }

    /// Options for `scripts/vm`.
    pub(crate) fn options(&self) -> Vec<&str> {
        let mut options = MORE_DEVICES.to_vec();
        options.extend(["--share", &self.queue]);
        if !self.pat {
            options.extend(["--append", "nopat"]);
        }
        if let Some(parameter) = self.parameter {
            options.extend(["--append", parameter]);
        }
        options
    }

    /// The whole command, from its part `vm` that starts a machine behind `iommu`.
    pub(crate) fn command(&self, mut vm: Vec<String>, iommu: &str) -> Vec<String> {
        let drivers = if iommu.starts_with("amd") {
            ""
        } else {
            HOST_DRIVERS
        };
        let (queue, dir, filter) = (&self.queue, &self.folder, &self.filter);
        let script = format!("{drivers}queue='{queue}'; dir='{dir}'; filter='{filter}'; {LOOP}");
        vm.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
        vm.extend(self.programs.iter().cloned());
        vm
    }

    /// Runs machines, one after another until nothing is left, and sends what they print.
    pub(crate) fn machine(
        &self,
        number: usize,
        command: &[String],
        sender: &Sender<(usize, Event)>,
    ) {
        loop {
            let mut ran = false;
            let mut cause = None;
            let status = self.one(number, command, |line| {
                ran |= line.starts_with("# program ");
                if cause.is_none() && line != LOG {
                    cause = line.strip_prefix(CAUSE).map(str::to_owned);
                }
                let _ = sender.send((number, Event::Line(line.to_owned())));
            });
            let why = match status {
                Ok(status) if status.success() => return,
                Ok(status) => status.to_string(),
                Err(e) => format!("{e:#}"),
            };
            let _ = sender.send((number, Event::Failed(cause.unwrap_or(why))));
            let taken = fs::read_dir(&self.queue).map_or(0, Iterator::count);
            if !ran || taken >= self.programs.len() {
                return;
            }
        }
    }

    fn one(
        &self,
        number: usize,
        command: &[String],
        each: impl FnMut(&str),
    ) -> Result<std::process::ExitStatus> {
        let mut log = File::options().append(true).open(log(&self.logs, number))?;
        process::lines(&self.top, command, &mut log, each)
    }
}

/// Where all that machine `number` prints is kept.
fn log(logs: &Path, number: usize) -> PathBuf {
    logs.join(format!("machine-{number}.log"))
}

/// Names of the built programs that are `choice`, in order.
///
/// # Errors
/// If they cannot be listed, or one does not say where it belongs.
pub(crate) fn programs(top: &Path, choice: Programs) -> Result<Vec<String>> {
    let folder = PathBuf::from(folder(top)?);
    let mut programs = names(&top.join("tools/testing/selftests/vfio_rs/src/bin"))?;
    let mut failed = Ok(());
    programs.retain(|name| match Place::of(&folder.join(name)) {
        Ok(place) => choice.contain(place),
        Err(e) => {
            failed = Err(e);
            false
        }
    });
    failed.map(|()| programs)
}

/// Names of the kselftest programs, from the folder of their sources.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Folder of the built programs.
fn folder(top: &Path) -> Result<String> {
    let script = top.join("scripts/programs");
    let output = Command::new(script).arg("--path").output();
    let output = output.context("scripts/programs")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
