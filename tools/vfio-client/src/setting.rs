// SPDX-License-Identifier: GPL-2.0
//! Settings of the kernel's that a program needs for a while: module parameters, sysctls.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A file with a value of ours. Dropping this restores the one before.
#[derive(Debug)]
pub struct Setting {
    path: PathBuf,
    before: String,
}

impl Setting {
    /// Writes `value` to the file.
    ///
    /// # Errors
    /// errno of open(2), read(2) or write(2).
    pub fn new(path: impl Into<PathBuf>, value: &str) -> io::Result<Self> {
        let path = path.into();
        let before = fs::read_to_string(&path)?.trim().to_owned();
        fs::write(&path, value)?;
        Ok(Self { path, before })
    }

    /// A parameter of a module.
    ///
    /// # Errors
    /// As [`Setting::new`].
    pub fn parameter(module: &str, name: &str, value: &str) -> io::Result<Self> {
        Self::new(format!("/sys/module/{module}/parameters/{name}"), value)
    }

    /// Room for `bytes` more of huge pages of 2 MiB.
    ///
    /// # Errors
    /// As [`Setting::new`]; `ENOMEM` if there are not so many.
    pub fn huge_pages(bytes: u64) -> io::Result<Self> {
        const COUNT: &str = "/proc/sys/vm/nr_hugepages";
        let number = || {
            fs::read_to_string(COUNT)?
                .trim()
                .parse()
                .map_err(io::Error::other)
        };
        let before: u64 = number()?;
        let wanted = before + bytes.div_ceil(2 << 20);
        let setting = Self::new(COUNT, &wanted.to_string())?;
        if number()? < wanted {
            return Err(nix::errno::Errno::ENOMEM.into());
        }
        Ok(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
    }
}
