// SPDX-License-Identifier: GPL-2.0
//! Has the kernel fail one allocation, or one copy from or to the user, after the other: the debug
//! kernel's fault injection.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use vfio_client::sysfs::PciDevice;
use vfio_client::{Container, Group};

use crate::setup::Bound;
use crate::{skip, translation};

const SWITCH: &str = "/proc/thread-self/fail-nth";
const DEBUGFS: &str = "/sys/kernel/debug";
/// What can be made to fail.
const KINDS: [&str; 3] = ["failslab", "fail_page_alloc", "fail_usercopy"];
/// Has the name of the function within which nothing fails.
const SET_FOR: &str = "/run/vfio_rs_faults";
/// Firmware looks up where a pin leads by thousands of allocations that are not ours to test.
const FIRMWARE: &str = "acpi_pci_irq_enable";
/// Makes the files of an interrupt in /proc: the kernel goes on without those that it cannot make,
/// and warns that they are missing when it removes them. For [`Faults::besides`].
pub const IRQ_FILES: &str = "register_irq_proc";
/// More than any call needs; a sweep that gets here does not end.
const MOST: u32 = 3000;

/// The switch of this thread: "fail the Nth from now on".
#[derive(Debug)]
pub struct Faults {
    switch: File,
    /// Up to which one a sweep leaves none out.
    dense: u32,
}

/// First address of the kernel's function `name`, and of the next one.
fn function(name: &str) -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/kallsyms")?;
    let mut all: Vec<(u64, bool)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next().unwrap_or_default(), 16)?;
        all.push((address, words.nth(1) == Some(name)));
    }
    let found = all.iter().find(|(_, found)| *found);
    let start = found.with_context(|| format!("no {name} in the kernel"))?.0;
    let above = all.iter().map(|(at, _)| *at).filter(|at| *at > start);
    Ok((start, above.min().context("nothing above")?))
}

impl Faults {
    /// Has every allocation of the kernel take part; skips where the kernel injects none.
    ///
    /// # Errors
    /// Skip, or a file that cannot be written.
    pub fn new() -> Result<Self> {
        Self::besides(FIRMWARE)
    }

    /// As [`Faults::new`]; but nothing fails within the kernel's function `name`.
    ///
    /// # Errors
    /// As there.
    pub fn besides(name: &str) -> Result<Self> {
        let set = |name: &str, value: String| {
            fs::write(Path::new(DEBUGFS).join(name), value).with_context(|| name.to_owned())
        };
        if !Path::new(SWITCH).exists() || !Path::new(DEBUGFS).join("failslab").exists() {
            skip!("the kernel injects no faults");
        }
        let switch = OpenOptions::new().read(true).write(true).open(SWITCH)?;
        let dense = 100;
        let faults = Self { switch, dense };
        // To look a function up takes seconds: the tests before may have done it, since the machine
        // was booted.
        let last = format!("{}/reject-end", KINDS[KINDS.len() - 1]);
        let end = fs::read_to_string(Path::new(DEBUGFS).join(last))?;
        let is_set = end.contains(|digit: char| digit.is_ascii_hexdigit() && digit != '0');
        if is_set && fs::read_to_string(SET_FOR).is_ok_and(|set| set == name) {
            return Ok(faults);
        }
        for (name, value) in [
            ("failslab/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-highmem", "N"),
            ("fail_page_alloc/min-order", "0"),
        ] {
            set(name, value.to_owned())?;
        }
        let (start, end) = function(name)?;
        for kind in KINDS {
            set(&format!("{kind}/verbose"), "0".to_owned())?;
            set(&format!("{kind}/stacktrace-depth"), "32".to_owned())?;
            set(&format!("{kind}/reject-start"), format!("{start:#x}"))?;
            set(&format!("{kind}/reject-end"), format!("{end:#x}"))?;
        }
        fs::write(SET_FOR, name).context(SET_FOR)?;
        Ok(faults)
    }

    /// Has sweeps leave some out from the `dense`th on, for calls most of which is not ours.
    #[must_use]
    pub fn sparse(self, dense: u32) -> Self {
        Self { dense, ..self }
    }

    /// Runs `call` with its `n`th allocation or copy failing. Tells what it returned, and whether
    /// it got that far.
    fn nth<T>(&self, n: u32, call: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.switch.write_at(n.to_string().as_bytes(), 0)?;
        let result = call();
        // These copy as well, and may be what fails: then it has happened.
        let mut left = [0; 16];
        let read = self.switch.read_at(&mut left, 0);
        if self.switch.write_at(b"0", 0).is_err() {
            self.switch.write_at(b"0", 0)?;
        }
        Ok((result, read.is_ok() && left[0] == b'0'))
    }

    /// Runs `call` again and again, with its first, second, third allocation failing, until none is
    /// left to fail. Each error must be one of `allowed`. Beyond the first hundred, or as
    /// [`sparse`](Self::sparse) says, it is only some of them, fewer and fewer. `before` prepares,
    /// `after` looks at what the call left behind and undoes it; it is told whether the call
    /// failed.
    ///
    /// # Errors
    /// What `before` or `after` say; a wrong errno; a call that fails by itself, or never.
    pub fn sweep<T, C>(
        &self,
        what: &str,
        allowed: &[Errno],
        mut before: impl FnMut(u32) -> Result<C>,
        mut call: impl FnMut(&mut C) -> io::Result<T>,
        mut after: impl FnMut(C, Option<T>) -> Result<()>,
    ) -> Result<()> {
        let (mut n, mut failed) = (0, 0);
        while n < MOST {
            n += 1 + n / self.dense;
            let mut context = before(n).with_context(|| format!("{what}, before {n}"))?;
            let (result, injected) = self.nth(n, || call(&mut context))?;
            let value = match result {
                Ok(value) => Some(value),
                Err(e) => {
                    ensure!(injected, "{what}: fails by itself: {e}");
                    let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
                    ensure!(allowed.contains(&errno), "{what}, failure {n}: {errno:?}");
                    failed += 1;
                    None
                }
            };
            after(context, value).with_context(|| format!("{what}, after failure {n}"))?;
            if !injected {
                println!("# {what}: {} faults, {failed} failed the call", n - 1);
                ensure!(failed > 0, "{what}: no fault has any effect");
                return Ok(());
            }
        }
        bail!("{what}: no end after {MOST} faults")
    }

    /// Opens the group of `bound` and puts it into `container` as a second domain: its IOMMU is
    /// made to fail the attach to that of `first`, a device that is in it already. Skips where page
    /// tables are not shown.
    ///
    /// # Errors
    /// Skip, or if no fault has that effect.
    pub fn attach_apart(
        &self,
        bound: &Bound,
        container: &Container,
        first: &PciDevice,
    ) -> Result<Group> {
        if !translation::is_shown(first) {
            skip!("the IOMMU does not show its page tables");
        }
        // What a call allocates differs a little from time to time, so that a sweep can miss the
        // one.
        for _ in 0..5 {
            for n in 1..MOST {
                let group = bound.open_group()?;
                let (result, injected) = self.nth(n, || group.set_container(container))?;
                if result.is_ok() {
                    if translation::root(&bound.pci)? != translation::root(first)? {
                        return Ok(group);
                    }
                    group.unset_container()?;
                }
                if !injected {
                    break;
                }
            }
        }
        bail!("no fault leads to a second domain")
    }
}
