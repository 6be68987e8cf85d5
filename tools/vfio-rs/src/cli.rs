// SPDX-License-Identifier: GPL-2.0
//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const AFTER_HELP: &str = "\
DEVICES are named by address (0000:01:00.0 or 01:00.0), network interface (enp1s0),
disk (/dev/nvme0n1), display (card1), numbers (10de: or 10de:1b80), driver or group:N.

Exit status: 0 done, 1 a problem was found or something failed, 2 usage, 3 refused,
4 needs root. Messages go to standard error. NO_COLOR switches colours off.";

/// Shows which PCI devices can be assigned by VFIO, and why not; binds them and gives them back.
#[derive(Debug, Parser)]
#[command(name = "vfio-rs", version, after_help = AFTER_HELP, max_term_width = 80)]
pub struct Cli {
    /// Read the machine from this folder or record
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    pub root: Option<PathBuf>,
    /// What to do; `list` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List devices by IOMMU group, with verdict and use
    List(ListArgs),
    /// Show everything about devices
    Show(ShowArgs),
    /// Show who has which group, container and device open
    Who(JsonArg),
    /// Bind devices, with all of their groups, to vfio-pci
    Bind(BindArgs),
    /// Give devices back to the drivers that they had
    Restore(RestoreArgs),
    /// Look for what keeps devices from being assigned
    Doctor(DoctorArgs),
    /// Let a user open a device, now and after each boot
    Allow(AllowArgs),
    /// Take that back
    Deny(DenyArgs),
    /// Have a device, with its group, bound at each boot, if it is the same then
    Persist(PersistArgs),
    /// Take that back
    Forget(DevicesArgs),
    /// Set the override of a device that comes; udev runs this
    #[command(hide = true)]
    UdevApply {
        /// Its address
        address: String,
    },
    /// Show DMA that was refused and errors of PCI Express, from the kernel's log
    Faults(FaultsArgs),
    /// Show what users' devices do: interrupts, faults, memory
    Top(TopArgs),
    /// Say what an error number, a message or the number of an ioctl means
    Explain {
        /// As in: EPERM SET_CONTAINER, or 0x3b71, or a line of a log
        #[arg(required = true, value_name = "WORD")]
        words: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the arguments that give devices to QEMU
    Qemu(DevicesArgs),
    /// Print the elements that give devices to a guest of libvirt
    Libvirt(DevicesArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands to a folder
    Man {
        /// The folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print all that the other commands read, for a report of a bug
    Record {
        /// A line about the machine
        #[arg(long, value_name = "TEXT")]
        note: Vec<String>,
    },
}

/// Whether to print for programs.
#[derive(Debug, Clone, Copy, Args)]
pub struct JsonArg {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `list`.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// Only these devices
    #[arg(value_name = "DEVICE")]
    pub filters: Vec<String>,
    /// Bridges, too
    #[arg(short, long)]
    pub all: bool,
    /// A line for each group
    #[arg(short, long, conflicts_with = "output")]
    pub groups: bool,
    /// These columns: group, address, full, class, name, driver, vfio, use, id, verdict, override,
    /// numa, user
    #[arg(short, long, value_name = "COL,...")]
    pub output: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["groups", "output"])]
    pub json: bool,
}

/// Of `show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `bind`.
#[derive(Debug, Clone, Args)]
pub struct BindArgs {
    /// The devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Print what would be done, for a root shell, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Leave the other devices of the group alone
    #[arg(long)]
    pub only: bool,
    /// Take a device that the host misses, if that is not suicide; the reason is kept in
    /// /run/vfio-rs
    #[arg(long, value_name = "REASON")]
    pub force: Option<String>,
}

/// Of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The devices
    #[arg(required_unless_present = "all", value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// All that `bind` has taken
    #[arg(short, long, conflicts_with = "devices")]
    pub all: bool,
    /// Print what would be done, for a root shell, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Leave the other devices of the group alone
    #[arg(long)]
    pub only: bool,
}

/// Just devices.
#[derive(Debug, Clone, Args)]
pub struct DevicesArgs {
    /// The devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<String>,
}

/// A client, which has needs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// A guest
    Qemu,
    /// Network
    Dpdk,
    /// Storage
    Spdk,
}

/// Of `doctor`.
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// Look at these, too
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Look at what this client needs
    #[arg(long, value_enum)]
    pub client: Option<Client>,
    /// How much memory the client is to have, as 16G
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `allow`.
#[derive(Debug, Clone, Args)]
pub struct AllowArgs {
    /// The user
    pub user: String,
    /// The device
    pub device: String,
    /// Print the rule of udev, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Of `deny`.
#[derive(Debug, Clone, Args)]
pub struct DenyArgs {
    /// The device
    pub device: String,
}

/// Of `persist`.
#[derive(Debug, Clone, Args)]
pub struct PersistArgs {
    /// The device
    pub device: String,
    /// Print the files, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Also what the host uses now
    #[arg(long)]
    pub force: bool,
}

/// Of `faults`.
#[derive(Debug, Clone, Copy, Args)]
pub struct FaultsArgs {
    /// Go on, and print new ones as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON; with --follow a line for each
    #[arg(long)]
    pub json: bool,
}

/// Of `top`.
#[derive(Debug, Clone, Copy, Args)]
pub struct TopArgs {
    /// Once, and not again and again
    #[arg(short = '1', long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(short, long, default_value_t = 1)]
    pub seconds: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `lsvfio`: `vfio-rs list` under a name of its own.
#[derive(Debug, Parser)]
#[command(name = "lsvfio", version, max_term_width = 80)]
pub struct ListCli {
    /// Read the machine from this folder or record
    #[arg(long, hide = true, value_name = "PATH")]
    pub root: Option<PathBuf>,
    /// Options
    #[command(flatten)]
    pub args: ListArgs,
}
