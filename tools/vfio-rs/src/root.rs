// SPDX-License-Identifier: GPL-2.0
//! Where files are read from: this machine's root, another folder, or a record of a machine.
//!
//! Everything that the tool learns of a machine it reads through a [`Root`], so that all of it
//! works on recorded machines too, which is how it is tested. Paths have no `/` in front.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::klog::{self, Line};
use crate::record::Record;

/// A file of at most this size is read, as none of sysfs or /proc that matters is larger.
const LARGEST: u64 = 32 << 20;

/// Who may open a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// The file tree of a machine.
#[derive(Debug)]
pub struct Root {
    source: Source,
    /// What was looked at, for a new record.
    seen: Option<RefCell<BTreeSet<String>>>,
}

#[derive(Debug)]
enum Source {
    Folder(PathBuf),
    Record(Record),
}

impl Root {
    /// The tree at `path`: a folder, or a file with a record.
    ///
    /// # Errors
    /// If the file cannot be read or is no record.
    pub fn open(path: &Path) -> Result<Self> {
        let source = if path.is_dir() {
            Source::Folder(path.to_owned())
        } else {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Source::Record(Record::parse(&text).with_context(|| path.display().to_string())?)
        };
        Ok(Self { source, seen: None })
    }

    /// The tree of this machine.
    #[must_use]
    pub fn real() -> Self {
        Self {
            source: Source::Folder("/".into()),
            seen: None,
        }
    }

    /// The same, remembering what is looked at.
    #[must_use]
    pub fn remembering(self) -> Self {
        Self {
            seen: Some(RefCell::default()),
            ..self
        }
    }

    /// What was looked at.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<String> {
        self.seen
            .as_ref()
            .map(|seen| seen.borrow().clone())
            .unwrap_or_default()
    }

    /// Whether this is the running machine, so that it can be changed.
    #[must_use]
    pub fn is_real(&self) -> bool {
        matches!(&self.source, Source::Folder(path) if path == Path::new("/"))
    }

    fn note(&self, path: &str) {
        if let Some(seen) = &self.seen {
            seen.borrow_mut().insert(path.to_owned());
        }
    }

    /// Contents of a file.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.note(path);
        match &self.source {
            Source::Folder(root) => {
                if path == klog::PATH {
                    return Some(klog::raw(&root.join(path)).into_bytes());
                }
                let mut bytes = Vec::new();
                // A file that has no end yet, as the kernel's log, ends where it would wait.
                let mut file = fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
                    .open(root.join(path))
                    .ok()?;
                match file.by_ref().take(LARGEST).read_to_end(&mut bytes) {
                    Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => None,
                    _ => Some(bytes),
                }
            }
            Source::Record(record) => record.bytes(path),
        }
    }

    /// Contents of a text file, without white space at the end.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes(path)?).into_owned();
        Some(text.trim_end_matches(['\n', ' ', '\0']).to_owned())
    }

    /// The kernel's log, as far as it can be read.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        self.note(klog::PATH);
        match &self.source {
            Source::Folder(root) => klog::read(&root.join(klog::PATH)),
            Source::Record(record) => {
                let bytes = record.bytes(klog::PATH).unwrap_or_default();
                klog::parse(&String::from_utf8_lossy(&bytes))
            }
        }
    }

    /// The number in a file: hexadecimal if it begins with 0x, else decimal.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<i64> {
        let text = self.text(path)?;
        match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// Where a link leads, as it is written.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<String> {
        self.note(path);
        match &self.source {
            Source::Folder(root) => {
                let target = fs::read_link(root.join(path)).ok()?;
                Some(String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned())
            }
            Source::Record(record) => record.link(path),
        }
    }

    /// The last part of where a link leads.
    #[must_use]
    pub fn link_name(&self, path: &str) -> Option<String> {
        Some(self.link(path)?.rsplit('/').next()?.to_owned())
    }

    /// What is in a folder, numbers in it in their order.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        self.note(path);
        let mut names = match &self.source {
            Source::Folder(root) => fs::read_dir(root.join(path))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
            Source::Record(record) => record.names(path),
        };
        names.sort_by_cached_key(|name| natural(name));
        names
    }

    /// Whether there is anything at `path`.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.note(path);
        match &self.source {
            Source::Folder(root) => root.join(path).exists(),
            Source::Record(record) => record.exists(path),
        }
    }

    /// Who may open a device node.
    #[must_use]
    pub fn owner(&self, path: &str) -> Option<Owner> {
        self.note(path);
        match &self.source {
            Source::Folder(root) => {
                let meta = fs::metadata(root.join(path)).ok()?;
                Some(Owner {
                    uid: meta.uid(),
                    gid: meta.gid(),
                    mode: meta.mode() & 0o7777,
                })
            }
            Source::Record(record) => record.owner(path),
        }
    }

    /// Whether there is a device node at `path`.
    #[must_use]
    pub fn is_node(&self, path: &str) -> bool {
        match &self.source {
            // Its contents are what is of interest.
            _ if path == klog::PATH => false,
            Source::Folder(root) => fs::symlink_metadata(root.join(path))
                .is_ok_and(|meta| meta.file_type().is_char_device()),
            Source::Record(record) => record.owner(path).is_some(),
        }
    }
}

/// A key by which `eth10` comes after `eth9`.
#[must_use]
pub fn natural(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        key.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["eth10", "eth9", "eth", "lo", "enp1s0f10", "enp1s0f9"];
        names.sort_by_key(|name| natural(name));
        let want = ["enp1s0f9", "enp1s0f10", "eth", "eth9", "eth10", "lo"];
        assert_eq!(names, want);
    }
}
