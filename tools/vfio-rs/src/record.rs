// SPDX-License-Identifier: GPL-2.0
//! A machine's files in one text file, as `vfio-rs record` writes it.
//!
//! ```text
//! # a comment
//! PATH = TEXT          a file of one line
//! PATH:                one of several, each behind a tab but for empty ones
//! <tab>LINE
//! PATH % HEX           bytes
//! PATH -> TARGET       a link
//! PATH @ UID GID MODE  a device node
//! PATH/                a folder with nothing in it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::root::{Owner, Root};
use crate::users::Process;

/// Of it only the users who matter are kept.
const PASSWD: &str = "etc/passwd";
/// Links that are followed on the way to a file.
const MOST_LINKS: u32 = 40;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File(Vec<u8>),
    Link(String),
    Device(Owner),
}

/// A recorded tree.
#[derive(Debug, Default)]
pub struct Record(BTreeMap<String, Node>);

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// If a line is none of the forms above.
    pub fn parse(text: &str) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((at, line)) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (path, node) = if let Some(path) = line.strip_suffix(':') {
                let mut bytes = Vec::new();
                while let Some((_, more)) =
                    lines.next_if(|(_, next)| next.starts_with('\t') || next.is_empty())
                {
                    bytes.extend_from_slice(more.as_bytes().get(1..).unwrap_or_default());
                    bytes.push(b'\n');
                }
                (path, Node::File(bytes))
            } else {
                one_line(line).with_context(|| format!("line {}: {line}", at + 1))?
            };
            nodes.insert(path.trim_matches('/').to_owned(), node);
        }
        Ok(Self(nodes))
    }

    /// The path that `path` is, with no link in it, but for its last part unless `follow`.
    fn real(&self, path: &str, follow: bool) -> Option<String> {
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let Some(Node::Link(target)) = self.0.get(&done.join("/")) else {
                continue;
            };
            if todo.is_empty() && !follow {
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            todo.extend(target.rsplit('/').map(str::to_owned));
        }
        Some(done.join("/"))
    }

    fn node(&self, path: &str) -> Option<&Node> {
        self.0.get(&self.real(path, true)?)
    }

    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        match self.node(path)? {
            Node::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    pub(crate) fn link(&self, path: &str) -> Option<String> {
        match self.0.get(&self.real(path, false)?)? {
            Node::Link(target) => Some(target.clone()),
            _ => None,
        }
    }

    pub(crate) fn owner(&self, path: &str) -> Option<Owner> {
        match self.node(path)? {
            Node::Device(owner) => Some(*owner),
            _ => None,
        }
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Some(real) = self.real(path, true) else {
            return Vec::new();
        };
        let head = if real.is_empty() { real } else { real + "/" };
        let below = self.0.range(head.clone()..).map(|(path, _)| path);
        let names: BTreeSet<_> = below
            .map_while(|path| path.strip_prefix(&head))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        names.into_iter().collect()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.node(path).is_some() || !self.names(path).is_empty()
    }
}

fn one_line(line: &str) -> Result<(&str, Node)> {
    if let Some(path) = line.strip_suffix('/') {
        return Ok((path, Node::Folder));
    }
    if let Some(path) = line.strip_suffix(" =") {
        return Ok((path, Node::File(Vec::new())));
    }
    let marks = [" = ", " -> ", " % ", " @ "];
    let found = marks
        .iter()
        .filter_map(|mark| Some((line.find(mark)?, *mark)))
        .min();
    let Some((at, mark)) = found else {
        bail!("no such form");
    };
    let (path, value) = (&line[..at], &line[at + mark.len()..]);
    let node = match mark {
        " = " => Node::File(format!("{value}\n").into_bytes()),
        " -> " => Node::Link(value.to_owned()),
        " % " => Node::File(unhex(value)?),
        _ => {
            let words: Vec<_> = value.split(' ').collect();
            let [uid, gid, mode] = words[..] else {
                bail!("a node has UID GID MODE");
            };
            Node::Device(Owner {
                uid: uid.parse()?,
                gid: gid.parse()?,
                mode: u32::from_str_radix(mode, 8)?,
            })
        }
    };
    Ok((path, node))
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| {
            Ok(u8::from_str_radix(
                text.get(at..at + 2).context("odd")?,
                16,
            )?)
        })
        .collect()
}

/// A record of what was looked at below `root`, with `notes` as comments at its head, `names` of
/// devices, and of processes only this one and `users`.
#[must_use]
pub fn write(root: &Root, notes: &[&str], names: &str, users: &[Process]) -> String {
    let mut out = String::new();
    for note in notes {
        let _ = writeln!(out, "# {note}");
    }
    let mut paths = BTreeSet::new();
    for path in root.seen() {
        collect(root, &path, &mut paths);
    }
    let this = root.link("proc/self").unwrap_or_default();
    let is_dull = |path: &str| {
        let process = path
            .strip_prefix("proc/")
            .and_then(|rest| rest.split('/').next());
        let process = process.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        process
            .is_some_and(|pid| pid != this && !users.iter().any(|user| user.pid.to_string() == pid))
    };
    for path in paths.iter().filter(|path| !is_dull(path)) {
        line(root, path, &mut out);
    }
    let passwd = root.text(PASSWD).unwrap_or_default();
    let is_user = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        name == "root" || users.iter().any(|user| user.user == name)
    };
    put_text(PASSWD, &lines(&passwd, is_user), &mut out);
    // All names of all devices would be more than a megabyte.
    if !names.is_empty() {
        put_text("usr/share/misc/pci.ids", names, &mut out);
    }
    out
}

/// Adds `path`, as it is with no links in it, and the links on the way to it.
fn collect(root: &Root, path: &str, into: &mut BTreeSet<String>) {
    if path.ends_with("/pci.ids") || path == PASSWD {
        return;
    }
    let mut done = String::new();
    let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
    for _ in 0..1000 {
        let Some(part) = todo.pop() else {
            break;
        };
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.truncate(done.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = if done.is_empty() {
            part
        } else {
            format!("{done}/{part}")
        };
        match root.link(&next) {
            // The files of a process are not looked into.
            Some(target) if next.starts_with("proc/") && next.contains("/fd/") => {
                into.insert(next);
                let _ = target;
                return;
            }
            Some(target) => {
                into.insert(next);
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.rsplit('/').map(str::to_owned));
            }
            None => done = next,
        }
    }
    into.insert(done.clone());
    // What is in a folder that was looked through is known even if nothing of it is read.
    for name in root.names(&done) {
        let below = format!("{done}/{name}");
        let is_named = ["driver", "iommu_group", "subsystem", "device"].contains(&name.as_str());
        if root.link(&below).is_some() && !is_named {
            into.insert(below);
        }
    }
}

fn line(root: &Root, path: &str, out: &mut String) {
    if let Some(target) = root.link(path) {
        let is_file = path.starts_with("proc/") && path.contains("/fd/");
        if is_file && !target.contains("vfio") && !target.contains("iommu") {
            return;
        }
        let _ = writeln!(out, "{path} -> {target}");
    } else if root.is_node(path) {
        if let Some(owner) = root.owner(path) {
            let Owner { uid, gid, mode } = owner;
            let _ = writeln!(out, "{path} @ {uid} {gid} {mode:o}");
        }
    } else if let Some(bytes) = root.bytes(path) {
        match String::from_utf8(bytes) {
            Ok(text) if path == crate::klog::PATH => {
                put_text(path, &lines(&text, is_of_interest), out);
            }
            Ok(text) if path.ends_with("/mountinfo") => {
                put_text(
                    path,
                    &lines(&text, |line| {
                        line.contains(" - ") && line.contains(" /dev/")
                    }),
                    out,
                );
            }
            Ok(text) if path.ends_with("/environ") => put_text(path, &environment(&text), out),
            Ok(text) if !text.contains('\0') => put_text(path, &text, out),
            Ok(text) => put_hex(path, text.as_bytes(), out),
            Err(e) => put_hex(path, e.as_bytes(), out),
        }
    } else if root.exists(path) {
        let _ = writeln!(out, "{path}/");
    }
}

/// Some lines of a text.
fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().filter(|line| wanted(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// What of the kernel's log is of interest.
fn is_of_interest(line: &str) -> bool {
    [
        "vfio",
        "DMAR: [",
        "IO_PAGE_FAULT",
        "fault from EP",
        "PCIe Bus Error",
    ]
    .iter()
    .any(|word| line.contains(word))
}

/// Of an environment only what the tool looks for: the rest is nobody's business.
fn environment(text: &str) -> String {
    text.split('\0')
        .filter(|word| word.starts_with("SSH_CONNECTION="))
        .map(|word| format!("{word}\n"))
        .collect()
}

fn put_hex(path: &str, bytes: &[u8], out: &mut String) {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let digits: String = bytes[..end].iter().map(|b| format!("{b:02x}")).collect();
    let _ = writeln!(out, "{path} % {digits}");
}

fn put_text(path: &str, text: &str, out: &mut String) {
    let text = text.trim_end();
    if text.is_empty() {
        let _ = writeln!(out, "{path} =");
    } else if !text.contains('\n') {
        let _ = writeln!(out, "{path} = {text}");
    } else {
        let _ = writeln!(out, "{path}:");
        for line in text.lines() {
            match line.trim_end() {
                "" => out.push('\n'),
                line => drop(writeln!(out, "\t{line}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A machine
sys/bus/pci/devices/0000:00:01.0 -> ../../../devices/pci0000:00/0000:00:01.0
sys/devices/pci0000:00/0000:00:01.0/vendor = 0x8086
sys/devices/pci0000:00/0000:00:01.0/driver -> ../../../bus/pci/drivers/igb
sys/devices/pci0000:00/0000:00:01.0/resource:
\tone
\ttwo
sys/devices/pci0000:00/0000:00:01.0/config % 86800110
sys/loop -> loop
sys/empty/
dev/vfio/8 @ 1000 0 600
";

    fn root() -> Result<Record> {
        Record::parse(TEXT)
    }

    #[test]
    fn files_are_found_through_links() -> Result<()> {
        let record = root()?;
        let device = "sys/bus/pci/devices/0000:00:01.0";
        let file = |name: &str| record.bytes(&format!("{device}/{name}"));
        assert_eq!(file("vendor"), Some(b"0x8086\n".to_vec()));
        assert_eq!(file("resource"), Some(b"one\ntwo\n".to_vec()));
        assert_eq!(file("config"), Some(vec![0x86, 0x80, 0x01, 0x10]));
        assert_eq!(file("device"), None);
        assert_eq!(record.bytes("sys/loop"), None);
        let driver = record.link(&format!("{device}/driver"));
        assert_eq!(driver.as_deref(), Some("../../../bus/pci/drivers/igb"));
        Ok(())
    }

    #[test]
    fn folders_and_nodes() -> Result<()> {
        let record = root()?;
        assert_eq!(record.names("sys/bus/pci/devices"), ["0000:00:01.0"]);
        assert_eq!(record.names("sys"), ["bus", "devices", "empty", "loop"]);
        assert!(record.exists("sys/empty") && !record.exists("sys/none"));
        let owner = record.owner("dev/vfio/8").context("no node")?;
        assert_eq!((owner.uid, owner.gid, owner.mode), (1000, 0, 0o600));
        Ok(())
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for text in ["sys/x", "sys/x % 1", "sys/x % zz", "dev/x @ 1 2"] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}
