// SPDX-License-Identifier: GPL-2.0
//! Puts kernel modules into the form of an installed system, for the machine's `/lib/modules`.
//!
//! Ours go into `updates/`, where depmod prefers them to the kernel's own. Each set of modules has
//! a folder named after its content, so that a rebuild does not disturb machines that run, and
//! nothing is copied when nothing has changed.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Build};
use crate::cli::{Kernel, Options, Stack};

/// Sets that no machine can be using any more are removed after this time.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// A file and its place below `/lib/modules/RELEASE`.
struct Item {
    from: PathBuf,
    to: PathBuf,
}

/// Stages the modules that `options` ask for and returns the folder to appear as `/lib/modules`.
pub(crate) fn modules(options: &Options, build: &Build) -> Result<PathBuf> {
    let items = items(options, build)?;
    let mut hasher = DefaultHasher::new();
    build.dir.hash(&mut hasher);
    for item in &items {
        let meta = fs::metadata(&item.from)
            .with_context(|| format!("looking at {}", item.from.display()))?;
        (&item.from, &item.to, meta.len(), meta.modified()?).hash(&mut hasher);
    }
    let staged = cache::root()?.join("staged");
    let name = format!("{}-{:016x}", options.kernel.name(), hasher.finish());
    let target = staged.join(&name);
    let modules = target.join("lib/modules");
    if target.exists() {
        return Ok(modules);
    }
    fs::create_dir_all(&staged)?;
    prune(&staged);
    let work = tempfile::Builder::new()
        .prefix("new.")
        .tempdir_in(&staged)?;
    fill(work.path(), &items, build)?;
    match fs::rename(work.path(), &target) {
        Err(error) if !target.exists() => Err(error).context("staging the modules"),
        _ => Ok(modules), // or another run was faster
    }
}

/// The kernel's modules, and ours.
fn items(options: &Options, build: &Build) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let order = fs::read_to_string(build.dir.join("modules.order")).unwrap_or_default();
    for line in order.lines() {
        let path = Path::new(line).with_extension("ko");
        let from = build.dir.join(&path);
        if from.exists() {
            items.push(Item {
                from,
                to: Path::new("kernel").join(path),
            });
        }
    }
    for name in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        let from = build.dir.join(name);
        if from.exists() {
            items.push(Item {
                from,
                to: name.into(),
            });
        }
    }
    let has = |items: &[Item], name: &str| items.iter().any(|item| item.from.ends_with(name));
    let c_vfio = options.stack == Stack::C;
    if c_vfio && !has(&items, "drivers/vfio/vfio.ko") {
        bail!(
            "the {} kernel has no C VFIO: use --kernel release with --stack c",
            options.kernel.name()
        );
    }
    let mut dir = cache::modules(options.kernel)?;
    // Ours are not wanted beside C VFIO, and in the debug kernel they are among the kernel's; but
    // those that tests need.
    if c_vfio || options.kernel == Kernel::Debug {
        dir.push("test_modules");
    }
    collect(&dir, &mut items)?;
    if options.stack == Stack::Rust && !has(&items, "vfio_rs.ko") {
        bail!(
            "our modules are not built for the {0} kernel: run `scripts/modules {0}`",
            options.kernel.name()
        );
    }
    Ok(items)
}

/// Adds all modules below `dir`, for `updates/`.
fn collect(dir: &Path, items: &mut Vec<Item>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let from = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&from, items)?;
        } else if from.extension() == Some(OsStr::new("ko")) {
            items.push(Item {
                to: Path::new("updates").join(entry.file_name()),
                from,
            });
        }
    }
    Ok(())
}

/// Copies the files and has depmod index them.
fn fill(dir: &Path, items: &[Item], build: &Build) -> Result<()> {
    let base = dir.join("lib/modules").join(&build.release);
    for item in items {
        let to = base.join(&item.to);
        fs::create_dir_all(to.parent().unwrap_or(&base))?;
        fs::copy(&item.from, &to).with_context(|| format!("copying {}", item.from.display()))?;
    }
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("depmod")
        .env("PATH", path)
        .arg("-b")
        .arg(dir)
        .arg(&build.release)
        .output();
    let output = output.context("running depmod (Debian package kmod)")?;
    if !output.status.success() {
        bail!(
            "depmod failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Removes old sets; what cannot be removed stays.
fn prune(staged: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(staged).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .map(|time| now.duration_since(time));
        if matches!(age, Ok(Ok(age)) if age > KEEP) {
            let _: std::io::Result<()> = fs::remove_dir_all(entry.path());
        }
    }
}
