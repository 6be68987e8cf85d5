// SPDX-License-Identifier: GPL-2.0
//! The kernel's counts of locked and pinned memory, to see that everything is given back.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Value of `name` in a text of lines `name value` or `name: value unit`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let key = words.next()?;
        if key.trim_end_matches(':') == name {
            words.next()?.parse().ok()
        } else {
            None
        }
    })
}

fn read_field(path: &str, name: &str) -> io::Result<u64> {
    field(&fs::read_to_string(path)?, name)
        .ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}

/// Locked memory of this process in KiB (`VmLck`), which pages mapped for a device count towards.
///
/// # Errors
/// If /proc cannot be read.
pub fn locked_kib() -> io::Result<u64> {
    read_field("/proc/self/status", "VmLck")
}

/// As [`locked_kib`], of another process.
///
/// # Errors
/// If /proc cannot be read.
pub fn locked_kib_of(pid: i32) -> io::Result<u64> {
    read_field(&format!("/proc/{pid}/status"), "VmLck")
}

/// Pages pinned in the whole system: `nr_foll_pin_acquired - nr_foll_pin_released`.
///
/// The counters are kept per CPU and folded about once a second; as root, they are folded at once.
///
/// # Errors
/// If /proc cannot be read or the kernel does not count.
pub fn pinned_pages() -> io::Result<i64> {
    // Reading this file folds the counters of every CPU.
    let _ = fs::read("/proc/sys/vm/stat_refresh");
    let text = fs::read_to_string("/proc/vmstat")?;
    let get =
        |name| field(&text, name).ok_or_else(|| io::Error::other(format!("vmstat has no {name}")));
    Ok(get("nr_foll_pin_acquired")? as i64 - get("nr_foll_pin_released")? as i64)
}

/// Waits until [`pinned_pages`] is `want`, for at most `timeout`; returns the last value seen.
///
/// # Errors
/// As [`pinned_pages`].
pub fn wait_pinned_pages(want: i64, timeout: Duration) -> io::Result<i64> {
    let end = Instant::now() + timeout;
    loop {
        let now = pinned_pages()?;
        if now == want || Instant::now() >= end {
            return Ok(now);
        }
        sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn both_forms() {
        assert_eq!(field("a 1\nnr_b 22\n", "nr_b"), Some(22));
        assert_eq!(field("Name: x\nVmLck:\t  8 kB\n", "VmLck"), Some(8));
        assert_eq!(field("a 1\n", "b"), None);
    }
}
