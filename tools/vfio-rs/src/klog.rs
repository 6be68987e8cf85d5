// SPDX-License-Identifier: GPL-2.0
//! The kernel's log, from /dev/kmsg: each read gives one record,
//! `LEVEL,NUMBER,MICROSECONDS,...;TEXT`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where it is.
pub const PATH: &str = "dev/kmsg";
/// No record is longer.
const LONGEST: usize = 16 << 10;

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since the start of the machine.
    pub time: u64,
    /// What it says.
    pub text: String,
}

/// Parses records.
#[must_use]
pub fn parse(text: &str) -> Vec<Line> {
    text.lines().filter_map(parse_one).collect()
}

fn parse_one(line: &str) -> Option<Line> {
    // Lines with a blank in front say more of the one before.
    let (head, text) = line.split_once(';')?;
    let time = head.split(',').nth(2)?.parse().ok()?;
    Some(Line {
        time,
        text: text.to_owned(),
    })
}

/// All records that there are.
#[must_use]
pub fn read(path: &Path) -> Vec<Line> {
    parse(&raw(path))
}

/// All records that there are, as the kernel gives them; what is no such device is a file of them.
#[must_use]
pub fn raw(path: &Path) -> String {
    let mut text = String::new();
    let Ok(mut file) = open(path, true) else {
        return text;
    };
    while let Some(record) = next(&mut file) {
        text += &record;
    }
    text
}

/// Opens it.
fn open(path: &Path, now: bool) -> io::Result<File> {
    let flags = if now {
        nix::fcntl::OFlag::O_NONBLOCK.bits()
    } else {
        0
    };
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The next record; `None` at the end, where there is one.
fn next(file: &mut File) -> Option<String> {
    let mut buffer = vec![0; LONGEST];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            // Records that are gone before they were read, or a signal.
            Err(e) if e.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Calls `each` with every line that is there and every one that comes, until that says to stop.
///
/// # Errors
/// errno of opening the log.
pub fn follow(path: &Path, mut each: impl FnMut(&Line) -> bool) -> io::Result<()> {
    let mut file = open(path, false)?;
    while let Some(record) = next(&mut file) {
        for line in parse(&record) {
            if !each(&line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let lines = parse("6,339,5140900,-;NET: Registered\n SUBSYSTEM=pci\n3,340,6,c;a;b\nx\n");
        let line = |time, text: &str| Line {
            time,
            text: text.to_owned(),
        };
        assert_eq!(lines, [line(5_140_900, "NET: Registered"), line(6, "a;b")]);
    }
}
