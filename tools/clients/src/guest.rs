// SPDX-License-Identifier: GPL-2.0
//! One nested QEMU with its guest: start, shell, monitor, and what they said when something went
//! wrong.

use std::fs::{self, File};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use qmp::Qmp;
use serde_json::json;
use vfio_client::sysfs::PciDevice;

use crate::channel::Channel;
use crate::initrd;
use crate::qemu::By;
use crate::system::limit;

/// Seconds that a guest may take to boot; ten will do if nobody else wants the computer.
pub(crate) const BOOT: u64 = 240;
/// How often a boot is tried: KVM in an emulated machine now and then makes a guest hang, on any
/// stack.
const TRIES: u32 = 3;
/// QEMU's name of its `/dev/iommu`.
const IOMMUFD: &str = "iommufd0";
/// The device that has a port of its own, to be unplugged.
pub(crate) const HOTPLUGGED: &str = "igb0";
/// Lines of each log that a failure shows.
const SHOWN: usize = 25;

/// How to start it.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    /// Linux to boot.
    pub kernel: &'a Path,
    /// `kvm` or `tcg`.
    pub accel: &'a str,
    /// How QEMU comes to the devices.
    pub by: By,
    /// Memory, as QEMU's -m takes it.
    pub memory: &'a str,
    /// More for the kernel's command line.
    pub append: &'a str,
    /// Devices to assign, with the id that each gets.
    pub devices: &'a [(&'a str, PciDevice)],
}

/// A guest that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    qemu: Child,
    by: By,
    /// Factor on the limits.
    patience: u32,
    folder: PathBuf,
    /// Its shell.
    pub shell: Channel,
    /// Its QEMU's monitor.
    pub monitor: Qmp<UnixStream>,
}

impl Guest {
    /// Starts it and waits for its shell, more than once if need be.
    pub(crate) fn start(machine: &Machine<'_>) -> Result<Self> {
        for number in 1..TRIES {
            match Self::start_once(machine) {
                Ok(guest) => return Ok(guest),
                Err(e) => println!("# try {number}: {}", format!("{e:#}").replace('\n', "\n# ")),
            }
        }
        Self::start_once(machine)
    }

    fn start_once(machine: &Machine<'_>) -> Result<Self> {
        let folder = std::env::temp_dir().join("vfio-rs-guest");
        fs::create_dir_all(&folder)?;
        let file = |name: &str| folder.join(name);
        for name in ["shell", "monitor", "console"] {
            let _ = fs::remove_file(file(name));
        }
        initrd::write(&file("initrd"))?;
        let listener = UnixListener::bind(file("shell"))?;
        let text = |name: &str| file(name).display().to_string();
        // One byte of zero: the firmware runs no ROM of an assigned card, which takes it an access
        // for each word.
        fs::write(file("no-roms"), [0])?;
        let (accel, cpu, board) = match machine.accel {
            // A guest in an emulated machine pays for leaving it: no timer chips, an APIC without
            // memory.
            "kvm" => ("kvm", "qemu64,+x2apic,+tsc-deadline", ",pit=off,hpet=off"),
            // With a thread for each CPU, QEMU 10.0 now and then loses the end of a timer
            // interrupt.
            _ => ("tcg,thread=single", "qemu64", ""),
        };
        let mut arguments: Vec<String> = [
            &format!("-nodefaults -no-user-config -display none -smp 1 -cpu {cpu}"),
            &format!("-m {}", machine.memory),
            &format!("-machine q35,kernel-irqchip=split,smm=off,vmport=off,i8042=off{board}"),
            &format!("-accel {accel}"),
            &format!("-kernel {}", machine.kernel.display()),
            &format!("-initrd {}", text("initrd")),
            &format!(
                "-fw_cfg name=etc/pci-optionrom-exec,file={}",
                text("no-roms")
            ),
            &format!("-chardev file,id=console,path={}", text("console")),
            "-serial chardev:console",
            &format!("-qmp unix:{},server=on,wait=off", text("monitor")),
            &format!("-chardev socket,id=shell,path={}", text("shell")),
            "-device virtio-serial-pci,id=ports",
            &format!(
                "-device virtserialport,bus=ports.0,chardev=shell,name={}",
                initrd::PORT
            ),
        ]
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(str::to_owned)
        .collect();
        // Each letter on the console is an exit: only what is wrong is printed.
        let line =
            "console=ttyS0 quiet 8250.nr_uarts=1 panic=-1 no_timer_check random.trust_cpu=on";
        arguments.extend(["-append".to_owned(), format!("{line} {}", machine.append)]);
        if machine.by == By::Iommufd {
            arguments.extend(["-object".to_owned(), format!("iommufd,id={IOMMUFD}")]);
        }
        for (number, (id, device)) in (1..).zip(machine.devices) {
            let mut spec = format!("vfio-pci,id={id},host={}", device.address);
            if machine.by == By::Iommufd {
                spec += &format!(",iommufd={IOMMUFD}");
            }
            if *id == HOTPLUGGED {
                spec += &format!(",bus=port-{id}");
                arguments.extend([
                    "-device".to_owned(),
                    format!("pcie-root-port,id=port-{id},chassis={number},slot={number}"),
                ]);
            }
            arguments.extend(["-device".to_owned(), spec]);
        }
        let complaints = File::create(file("qemu"))?;
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(complaints.try_clone()?)
            .stderr(complaints)
            .spawn()
            .context("qemu-system-x86_64")?;
        // Emulation in an emulated machine takes its time.
        let patience = if machine.accel == "tcg" { 5 } else { 1 };
        match Self::connect(&mut qemu, &listener, &file("monitor"), patience) {
            Ok((shell, monitor)) => Ok(Self {
                qemu,
                by: machine.by,
                patience,
                folder,
                shell,
                monitor,
            }),
            Err(e) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                Err(e.context(logs(&folder)))
            }
        }
    }

    fn connect(
        qemu: &mut Child,
        listener: &UnixListener,
        monitor: &Path,
        patience: u32,
    ) -> Result<(Channel, Qmp<UnixStream>)> {
        let mut shell = Channel::accept(listener, limit(BOOT) * patience, || {
            match qemu.try_wait()? {
                Some(status) => bail!("QEMU ended: {status}"),
                None => Ok(()),
            }
        })?;
        shell.ready(limit(BOOT) * patience)?;
        shell.run(". /guest.sh", limit(20) * patience)?;
        Ok((shell, Qmp::connect(monitor, limit(60))?))
    }

    /// Runs a shell command in it within `seconds`; a failure shows the logs.
    pub(crate) fn run(&mut self, command: &str, seconds: u64) -> Result<String> {
        self.shell
            .run(command, limit(seconds) * self.patience)
            .with_context(|| logs(&self.folder))
    }

    /// Reboots it and waits for its shell.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.shell.send("sync; reboot -f\n")?;
        self.shell
            .ready(limit(BOOT) * self.patience)
            .with_context(|| logs(&self.folder))?;
        self.shell
            .run(". /guest.sh", limit(20) * self.patience)
            .map(drop)
    }

    /// Takes a device away.
    pub(crate) fn unplug(&mut self, id: &str) -> Result<()> {
        self.monitor.call("device_del", &json!({ "id": id }))?;
        self.monitor
            .deleted(id, limit(60) * self.patience)
            .with_context(|| logs(&self.folder))
    }

    /// Brings it back.
    pub(crate) fn plug(&mut self, id: &str, device: &PciDevice) -> Result<()> {
        let mut arguments = json!({
            "driver": "vfio-pci", "id": id, "bus": format!("port-{id}"), "host": device.address,
        });
        if self.by == By::Iommufd {
            arguments["iommufd"] = json!(IOMMUFD);
        }
        self.monitor
            .call("device_add", &arguments)
            .map(drop)
            .with_context(|| logs(&self.folder))
    }

    /// Ends it; gives what QEMU complained about.
    ///
    /// # Errors
    /// If QEMU does not end well.
    pub(crate) fn quit(mut self) -> Result<String> {
        self.monitor.call("quit", &json!({}))?;
        let status = self.qemu.wait()?;
        if !status.success() {
            bail!("QEMU: {status}\n{}", logs(&self.folder));
        }
        Ok(fs::read_to_string(self.folder.join("qemu"))?)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The ends of what QEMU and the guest's kernel said.
fn logs(folder: &Path) -> String {
    let mut text = String::new();
    for name in ["qemu", "console"] {
        let log = fs::read(folder.join(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        text += &format!("--- {name}:\n");
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            text += line.trim_end();
            text += "\n";
        }
    }
    text
}
