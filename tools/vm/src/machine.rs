// SPDX-License-Identifier: GPL-2.0
//! The QEMU command line.
//!
//! Everything has a fixed slot, so that what is added does not move what is there.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use vm_init::{AGENT_PORT, QMP_PORT, ROOT_TAG, Share};

use crate::cli::{IommuKind, Kernel, Options};

/// Size of the NVMe scratch disk; sparse.
pub(crate) const DISK_BYTES: u64 = 1 << 30;

/// Files of one run, in a folder of its own.
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Names files in `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The kernel's console.
    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// The NVMe disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// The initramfs.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// UNIX socket of the connection with the machine's first process.
    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// UNIX socket of QEMU's monitor, to which QEMU connects the machine's port.
    fn monitor(&self) -> PathBuf {
        self.dir.join("monitor")
    }

    /// What QEMU says on its standard error.
    pub(crate) fn complaints(&self) -> PathBuf {
        self.dir.join("qemu")
    }
}

/// The arguments of QEMU.
pub(crate) fn arguments(
    options: &Options,
    image: &Path,
    files: &Files,
    shares: &[Share],
) -> Result<Vec<String>> {
    let mut args = Args::default();
    let mut cpu = String::from(match options.kernel {
        Kernel::Release | Kernel::Stock => "max",
        // With LA57 KASAN sees a wild access early at boot, and then nothing.
        Kernel::Debug => "max,la57=off",
    });
    if options.parallel {
        cpu += ",+x2apic";
    }
    let smp = options.smp.unwrap_or(if options.icount { 1 } else { 2 });
    args.add("-nodefaults -no-user-config -no-reboot -display none");
    args.add("-machine q35,kernel-irqchip=split");
    // Hot-plug as real machines have it, by the root port and not by ACPI.
    args.add("-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
    args.add(&format!("-cpu {cpu} -smp {smp} -m {}", options.mem));
    if options.icount {
        if smp != 1 {
            bail!("--icount works with one CPU only: leave --smp out");
        }
        args.add("-accel tcg,thread=single -icount shift=0,sleep=off");
    } else {
        // With a host thread for each CPU, QEMU 10.0 now and then loses the end of a timer
        // interrupt: the vector stays in service and that CPU's timers stand still. Taking turns
        // avoids it, and an x2APIC, whose registers are no memory, at least makes it rare.
        let thread = if options.parallel { "multi" } else { "single" };
        args.add(&format!("-accel tcg,thread={thread}"));
    }
    args.option("-kernel", &image.display().to_string());
    args.option("-initrd", &files.initrd().display().to_string());
    args.option("-append", &kernel_command_line(options));
    iommu(&mut args, options);
    channels(&mut args, files);
    folder(&mut args, ROOT_TAG, "/", "on", 0x1c);
    for (share, slot) in shares.iter().zip(0x14..) {
        if slot > 0x1b {
            bail!("at most eight --share folders");
        }
        folder(&mut args, &share.tag, &share.path, "off", slot);
    }
    if !options.no_default_devices {
        default_devices(&mut args, files, options.iommu.kind);
    }
    for device in &options.devices {
        args.option("-device", device);
    }
    args.0.extend(options.qemu_args.iter().cloned());
    // Last, as devices that name no bus get the newest one.
    if !options.no_default_devices && options.iommu.kind == IommuKind::Intel {
        unfenced_devices(&mut args);
    }
    Ok(args.0)
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    /// Adds arguments that have no blank in them.
    fn add(&mut self, arguments: &str) {
        self.0
            .extend(arguments.split_whitespace().map(str::to_owned));
    }

    /// Adds an option with any value.
    fn option(&mut self, name: &str, value: &str) {
        self.0.extend([name.to_owned(), value.to_owned()]);
    }
}

fn kernel_command_line(options: &Options) -> String {
    let mut line =
        "console=ttyS0 8250.nr_uarts=1 rdinit=/init panic=-1 random.trust_cpu=on".to_owned();
    line += " no_timer_check"; // on a busy host the timer's ticks come too late for the check
    line += " pcie_ports=native"; // hot-plug and AER without the firmware's leave

    match options.iommu.kind {
        IommuKind::Intel => line += " intel_iommu=on",
        // The firmware's table names no IOAPIC, so Linux leaves the IOAPIC's interrupts dead.
        IommuKind::Amd => line += " noapic",
        IommuKind::Virtio | IommuKind::None => {}
    }
    if options.icount {
        line += " tsc=reliable nokaslr";
    } else {
        line += " memmap=64K$0xe000000"; // as if firmware kept it, for vfio_rs_igd
    }
    if options.kernel == Kernel::Debug {
        line += " kasan_multi_shot";
    }
    for more in &options.append {
        line += " ";
        line += more;
    }
    line
}

/// The IOMMU, with our defaults where the options say nothing.
fn iommu(args: &mut Args, options: &Options) {
    let iommu = &options.iommu;
    let (device, defaults): (_, &[&str]) = match iommu.kind {
        // The CPUs have 32 bits of APIC id then.
        IommuKind::Intel if options.parallel => {
            ("intel-iommu", &["intremap=on", "caching-mode=on", "eim=on"])
        }
        IommuKind::Intel => ("intel-iommu", &["intremap=on", "caching-mode=on"]),
        // With pt=on, its default, QEMU's AMD-Vi lets DMA through untranslated.
        IommuKind::Amd => ("amd-iommu", &["intremap=off", "pt=off"]),
        IommuKind::Virtio => ("virtio-iommu-pci", &["addr=0x1"]),
        IommuKind::None => return,
    };
    let mut spec = device.to_owned();
    let name = |property: &str| property.split('=').next().unwrap_or_default().to_owned();
    let overridden = |default: &str| {
        iommu
            .properties
            .iter()
            .any(|given| name(given) == name(default))
    };
    let kept = defaults
        .iter()
        .filter(|default| !overridden(default))
        .copied();
    for property in kept.chain(iommu.properties.iter().map(String::as_str)) {
        spec += ",";
        spec += property;
    }
    args.option("-device", &spec);
}

/// The kernel's console, the connection with the first process, and QEMU's monitor as seen from
/// inside.
///
/// A character device serves one side only, so QEMU connects to itself to join its monitor and the
/// port.
fn channels(args: &mut Args, files: &Files) {
    let socket = |path: PathBuf| path.display().to_string();
    args.option(
        "-chardev",
        &format!("file,id=console,path={}", files.console().display()),
    );
    args.add("-serial chardev:console");
    args.option(
        "-chardev",
        &format!("socket,id=agent,path={}", socket(files.agent())),
    );
    let monitor = socket(files.monitor());
    args.option(
        "-chardev",
        &format!("socket,id=monitor,path={monitor},server=on,wait=off"),
    );
    args.add("-mon chardev=monitor,mode=control");
    args.option("-chardev", &format!("socket,id=qmp,path={monitor}"));
    args.add("-device virtio-serial-pci,id=ports,addr=0x1d");
    args.add(&format!(
        "-device virtserialport,bus=ports.0,chardev=agent,name={AGENT_PORT}"
    ));
    args.add(&format!(
        "-device virtserialport,bus=ports.0,chardev=qmp,name={QMP_PORT}"
    ));
}

/// A folder of the host, over 9p: QEMU serves it itself, no daemon needed.
fn folder(args: &mut Args, tag: &str, path: &str, read_only: &str, slot: u32) {
    let path = path.replace(',', ",,");
    let options = format!("security_model=none,multidevs=remap,readonly={read_only}");
    args.option("-fsdev", &format!("local,id={tag},path={path},{options}"));
    args.add(&format!(
        "-device virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot:#x}"
    ));
}

/// Devices that the IOMMU leaves alone, which it can do for a whole bus only.
fn unfenced_devices(args: &mut Args) {
    args.add("-device pxb-pcie,id=px0,bus_nr=0x40,bypass_iommu=on,addr=0x7");
    args.add("-device pcie-root-port,id=rp-edu5,bus=px0,chassis=6,slot=6,x-speed=5");
    args.add("-device edu,id=edu5,bus=rp-edu5,dma_mask=0xffffffffffffffff");
    args.add("-device pcie-root-port,id=rp-bare,bus=px0,chassis=7,slot=7,addr=0x1,x-speed=5");
    for function in 0..2 {
        args.add("-device");
        args.add(&format!(
            "e1000,id=bare{function},bus=rp-bare,addr=0.{function},multifunction=on,romfile="
        ));
    }
}

/// See the help text for what they are for. The last two are behind a conventional bridge, but not
/// with QEMU's virtio-iommu, which does not know the alias that such a bridge gives its devices;
/// Linux then drops the whole IOMMU.
fn default_devices(args: &mut Args, files: &Files, iommu: IommuKind) {
    const PORTS: [&str; 5] = ["rp-igb", "rp-e1000e", "rp-nvme", "rp-br", "hot0"];
    for (number, port) in (1..).zip(PORTS) {
        let slot = number + 7;
        // At QEMU's default speed a root port claims to report an active link, and then never does
        // after a hot reset.
        args.add("-device");
        args.add(&format!(
            "pcie-root-port,id={port},chassis={number},slot={number},addr={slot:#x},x-speed=5"
        ));
    }
    args.add("-object memory-backend-ram,id=shm0,size=64M,share=on");
    args.add("-device ivshmem-plain,id=ivshmem0,addr=0x13,memdev=shm0");
    // Where Intel graphics is, as which vfio_rs_igd has it go.
    args.add("-device edu,id=edu0,addr=0x2");
    args.add("-device edu,id=edu1,addr=0x11.0,multifunction=on");
    args.add("-device edu,id=edu2,addr=0x11.1");
    args.add("-netdev hubport,id=net0,hubid=1 -netdev hubport,id=net1,hubid=1");
    args.add("-device igb,id=igb0,bus=rp-igb,netdev=net0,mac=52:54:00:00:01:00");
    args.add("-device e1000e,id=e1000e0,bus=rp-e1000e,netdev=net1,mac=52:54:00:00:02:00");
    let disk = files.disk().display().to_string().replace(',', ",,");
    let drive = format!("if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file={disk}");
    args.option("-drive", &drive);
    args.add("-device nvme,id=nvme0,bus=rp-nvme,drive=disk,serial=vfio-rs");
    if iommu != IommuKind::Virtio {
        args.add("-device pcie-pci-bridge,id=br0,bus=rp-br");
        args.add("-device edu,id=edu3,bus=br0,addr=0x1");
        args.add("-device edu,id=edu4,bus=br0,addr=0x2");
    } else {
        args.add("-device edu,id=edu3,addr=0x12.0,multifunction=on");
        args.add("-device edu,id=edu4,addr=0x12.1");
    }
}
