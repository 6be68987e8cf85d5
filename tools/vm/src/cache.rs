// SPDX-License-Identifier: GPL-2.0
//! Where the kernels and modules are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cli::Kernel;

/// Folder of everything that is built or fetched and belongs to no checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("vfio-rs"))
}

/// A kernel's build folder.
pub(crate) struct Build {
    /// The folder (O= of the kernel's make).
    pub dir: PathBuf,
    /// What `uname -r` will say.
    pub release: String,
}

impl Build {
    /// Finds the build of `kernel`.
    pub(crate) fn find(kernel: Kernel) -> Result<Self> {
        let script = match kernel {
            Kernel::Stock => "stock",
            Kernel::Release | Kernel::Debug => "kernel",
        };
        let dir = ask(script, kernel)?;
        let release = std::fs::read_to_string(dir.join("include/config/kernel.release"));
        let (Ok(release), true) = (release, image(&dir).exists()) else {
            let target = match kernel {
                Kernel::Release => "make kernel",
                Kernel::Debug => "make kernel-debug",
                Kernel::Stock => "scripts/stock",
            };
            bail!(
                "the {} kernel is not there: run `{target}` (no image in {})",
                kernel.name(),
                dir.display()
            );
        };
        let release = release.trim().to_owned();
        Ok(Self { dir, release })
    }

    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        image(&self.dir)
    }
}

/// Folder with our modules for `kernel`; it need not exist. Those of the debug kernel are where it
/// is built, as scripts/modules has it, whatever `VFIO_RS_MODULES` says.
pub(crate) fn modules(kernel: Kernel) -> Result<PathBuf> {
    match (env::var_os("VFIO_RS_MODULES"), kernel) {
        (Some(dir), Kernel::Release) => Ok(dir.into()),
        (Some(mut dir), Kernel::Stock) => {
            dir.push("-stock"); // as scripts/modules has it
            Ok(dir.into())
        }
        _ => ask("modules", kernel),
    }
}

/// Asks the script `scripts/NAME` for the folder it builds in.
fn ask(name: &str, kernel: Kernel) -> Result<PathBuf> {
    let top = env::var_os("VFIO_RS_TOP")
        .context("VFIO_RS_TOP is not set: start scripts/vm, not this program")?;
    let script = Path::new(&top).join("scripts").join(name);
    let output = Command::new(&script)
        .args((name != "stock").then_some(kernel.name()))
        .arg("--path")
        .output();
    let output = output.with_context(|| format!("running {}", script.display()))?;
    let path = String::from_utf8(output.stdout)?;
    match path.trim() {
        "" => bail!(
            "{} --path: {}",
            script.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        path => Ok(path.into()),
    }
}

fn image(dir: &Path) -> PathBuf {
    dir.join("arch/x86/boot/bzImage")
}
