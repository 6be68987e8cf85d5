// SPDX-License-Identifier: GPL-2.0
//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

const AFTER_HELP: &str = "\
EXAMPLES
  scripts/vm                                a shell in the machine, our modules loaded
  scripts/vm -- ls -l /dev/vfio             one command; its exit status is scripts/vm's
  scripts/vm --stack c -- ./my-test         the same test on Linux's own C stack
  scripts/vm --iommu intel,caching-mode=off --icount -- ./benchmark
  scripts/vm --iommu amd -- dmesg
  scripts/vm --kernel debug -- ./my-test    under KASAN, lockdep, kmemleak
  scripts/vm --device pci-testdev,id=t0,bus=hot0 -- lspci -tv
  scripts/vm --share ./results -- ./writes-a-file-into-results

DEVICES, by QEMU id
  edu0            QEMU's teaching device (1234:11e8) in a slot, and a group, of its own
  edu1, edu2      two of them as functions of one slot: one group of two devices
  igb0, e1000e0   network cards, wired to each other, each behind a root port of its own
  nvme0           NVMe with a scratch disk of 1 GiB, behind a root port
  ivshmem0        memory of 64 MiB in a prefetchable BAR, and registers in one smaller than a page
  edu3, edu4      behind a conventional bridge, br0: one group of the three. With --iommu virtio they
                  are functions of one slot, as QEMU's virtio-iommu cannot cope with such a bridge
  edu5            one that has no IOMMU, with --iommu intel
  bare0, bare1    network cards (e1000) without an IOMMU in one slot, with --iommu intel
  hot0            a root port with nothing in it, for hot-plug (unplugging takes five seconds)
No driver is bound to any: modprobe igb (e1000e, nvme), or use driver_override and drivers_probe.
Addresses differ between IOMMUs: take them from $VFIO_RS_BDF_<ID>, as in VFIO_RS_BDF_EDU0, or from
/run/vfio-rs/devices, one line `id address` each.

IN THE MACHINE
The file tree is this machine's; changes stay in the machine's memory, except below --share folders.
The command runs as root, in the current folder, with the caller's environment and
  VFIO_RS_IOMMU, VFIO_RS_STACK, VFIO_RS_KERNEL   what the machine was started with
  VFIO_RS_QMP     device node of the machine's own QEMU monitor (QMP), for hot-plug. It is in command
                  mode already: no greeting comes. One opener at a time; events come in between
Input, output and errors are the caller's; a terminal if the caller has one (Ctrl-] three times
stops a machine that does not listen). What the command leaves running is killed.

EXIT STATUS
  the command's own, 128 + N if signal N ended it; but
  124             the time was up; the blocked tasks and the end of the kernel log are shown
  125             the kernel reported a bug (panic, oops, WARN, lockdep, KASAN, UBSAN, kmemleak, KUnit,
                  a hung task), whatever the command said, or the machine did not start; the log is
                  shown
  126, 127        the command cannot be run, or does not exist

FILES
Kernels come from `make kernel`, `make kernel-debug` and scripts/stock, our modules from
scripts/modules; all of it is under ${XDG_CACHE_HOME:-~/.cache}/vfio-rs. VFIO_RS_MODULES=DIR takes our modules from DIR,
but for the debug kernel, which is built with them.";

/// Runs COMMAND as root in a virtual machine with an IOMMU and devices to assign, the VFIO modules
/// loaded and this machine's files in view; without COMMAND, a shell. It is emulated: no KVM
/// needed.
#[derive(Debug, Parser)]
#[command(name = "scripts/vm", bin_name = "scripts/vm", after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Options {
    /// IOMMU: intel (VT-d), amd (AMD-Vi: good for edu devices only), virtio or none; QEMU
    /// properties may follow, as in intel,caching-mode=off
    #[arg(long, default_value = "intel", value_name = "KIND[,PROP=VALUE...]")]
    pub iommu: Iommu,

    /// VFIO modules to load: ours, Linux's in C (release kernel only), or none yet (modprobe
    /// finds ours)
    #[arg(long, value_enum, default_value = "rust")]
    pub stack: Stack,

    /// Kernel: one with all that the tests need, the same with all its checkers (ten times
    /// slower), or Debian's own, unmodified
    #[arg(long, value_enum, default_value = "release")]
    pub kernel: Kernel,

    /// Let the machine's clock count instructions (1 = 1 ns), the same in each run; implies one CPU
    #[arg(long)]
    pub icount: bool,

    /// One more device, as QEMU's -device takes it; repeatable
    #[arg(long = "device", value_name = "QEMU-SPEC")]
    pub devices: Vec<String>,

    /// Leave out the default devices (listed below)
    #[arg(long)]
    pub no_default_devices: bool,

    /// One more argument for QEMU itself, such as -netdev or its value; repeatable
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,

    /// Run the CPUs side by side, not in turns, with an x2APIC: faster, but QEMU may lose a timer
    /// interrupt and stall
    #[arg(long, conflicts_with = "icount")]
    pub parallel: bool,

    /// Number of CPUs [default: 2]
    #[arg(long, value_name = "N")]
    pub smp: Option<u32>,

    /// Memory
    #[arg(long, default_value = "3G", value_name = "SIZE")]
    pub mem: String,

    /// More arguments for the kernel command line; repeatable
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Seconds after which the machine is stopped; 0 is never [default: 1800 for a command, 0 for a
    /// shell]
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,

    /// Folder to which writes in the machine reach this machine's; repeatable
    #[arg(long = "share", value_name = "DIR")]
    pub shares: Vec<PathBuf>,

    /// Do not set vfio_iommu_type1's allow_unsafe_interrupts, which amd, virtio and
    /// intel,intremap=off need
    #[arg(long)]
    pub no_unsafe_interrupts: bool,

    /// Do not look for leaked memory after the command (debug kernel; saves half a minute)
    #[arg(long)]
    pub no_leak_scan: bool,

    /// Kernel log lines with this text are expected and no failure; repeatable
    #[arg(long = "allow-log", value_name = "TEXT")]
    pub allow_log: Vec<String>,

    /// Save the kernel log in this file, whatever happens
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Show the QEMU command line and how long each step took
    #[arg(short, long)]
    pub verbose: bool,

    /// Command and arguments to run in the machine
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Options {
    /// When to give up, counted from QEMU's start.
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        let default = if self.command.is_empty() { 0 } else { 1800 };
        match self.timeout.unwrap_or(default) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }

    /// Whether type1 must be told that interrupts are not remapped.
    pub(crate) fn unsafe_interrupts(&self) -> bool {
        !self.no_unsafe_interrupts && !self.iommu.remaps_interrupts()
    }
}

/// Which VFIO implementation is loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Stack {
    Rust,
    C,
    None,
}

/// Which build of the kernel runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kernel {
    Release,
    Debug,
    Stock,
}

impl Stack {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::None => "none",
        }
    }
}

impl Kernel {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
            Self::Stock => "stock",
        }
    }
}

/// Kind of the emulated IOMMU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IommuKind {
    /// VT-d
    Intel,
    /// AMD-Vi
    Amd,
    /// virtio-iommu
    Virtio,
    /// No IOMMU at all
    None,
}

/// The emulated IOMMU and the properties it was given on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Iommu {
    /// Which one
    pub kind: IommuKind,
    /// QEMU properties, each `name=value`; they override ours
    pub properties: Vec<String>,
}

impl Iommu {
    /// Whether a device cannot send interrupts it was not given.
    fn remaps_interrupts(&self) -> bool {
        self.kind == IommuKind::Intel && !self.properties.iter().any(|p| p == "intremap=off")
    }

    /// As on the command line, without properties.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            IommuKind::Intel => "intel",
            IommuKind::Amd => "amd",
            IommuKind::Virtio => "virtio",
            IommuKind::None => "none",
        }
    }
}

impl FromStr for Iommu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let kind = match parts.next() {
            Some("intel") => IommuKind::Intel,
            Some("amd") => IommuKind::Amd,
            Some("virtio") => IommuKind::Virtio,
            Some("none") => IommuKind::None,
            _ => return Err("want intel, amd, virtio or none, then properties".into()),
        };
        let properties: Vec<String> = parts.map(str::to_owned).collect();
        if let Some(odd) = properties.iter().find(|p| !p.contains('=')) {
            return Err(format!("property {odd:?} is not NAME=VALUE"));
        }
        Ok(Self { kind, properties })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Options as clap::CommandFactory>::command().debug_assert();
        let options = Options::parse_from([
            "vm",
            "--iommu",
            "intel,intremap=off",
            "--",
            "ls",
            "--icount",
        ]);
        assert_eq!(options.command, ["ls", "--icount"]);
        assert!(options.unsafe_interrupts());
        assert_eq!(options.time_limit(), Some(Duration::from_secs(1800)));
    }

    #[test]
    fn iommus() -> Result<(), String> {
        let iommu: Iommu = "virtio,granule=4k".parse()?;
        assert_eq!((iommu.kind, iommu.properties.len()), (IommuKind::Virtio, 1));
        assert!("vt-d".parse::<Iommu>().is_err());
        assert!("amd,xtsup".parse::<Iommu>().is_err());
        Ok(())
    }
}
