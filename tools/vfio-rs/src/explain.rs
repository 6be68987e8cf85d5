// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs explain`: what an error number, a message or the number of an ioctl means. The table is
//! the one of which Documentation/troubleshooting.rst is made.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use crate::errors::Stop;
use crate::text::{BOLD, styled, wrap};

const TABLE: &str = include_str!("../../troubles.table");

/// A record of the table.
#[derive(Debug, Clone, Default)]
pub struct Trouble(BTreeMap<&'static str, &'static str>);

impl Trouble {
    fn get(&self, key: &str) -> &'static str {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// What is seen.
    fn title(&self) -> String {
        match (self.get("errno"), self.get("ioctl")) {
            ("", "") => format!("{}{}", self.get("log"), self.get("says")).replace("%lu", "N"),
            ("", number) => format!("{number} {}", self.get("name")),
            (errno, _) => format!("{errno} from {}", self.get("call")),
        }
    }

    /// How well it fits words in small letters: how many letters of it are said; 0 is not at all.
    fn fits(&self, words: &[String], whole: &str) -> usize {
        let title = self.title().to_lowercase();
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        if let (Some(want), [word]) = (number(self.get("ioctl")), words) {
            let is_it = word.starts_with("0x") && number(word) == Some(want);
            return if is_it {
                1000
            } else {
                usize::from(title.contains(word)) * word.len()
            };
        }
        // A line of a log with the message in it.
        let message = format!("{}{}", self.get("log"), self.get("says"));
        let message = message
            .replace(" N ", " %lu ")
            .replace("/N", "/%lu")
            .to_lowercase();
        let parts = message.split("%lu").map(str::trim);
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() && parts.iter().all(|part| whole.contains(part)) {
            return 500 + message.len();
        }
        let all = |word: &String| title.contains(word.as_str());
        match words.iter().all(all) {
            true => words.iter().map(String::len).sum(),
            false => 0,
        }
    }
}

/// All records.
fn table() -> Vec<Trouble> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let mut all = vec![Trouble::default()];
    for line in lines {
        match line.split_once(": ") {
            Some((key, value)) => {
                if let Some(last) = all.last_mut() {
                    last.0.insert(key, value);
                }
            }
            None => all.push(Trouble::default()),
        }
    }
    all.retain(|trouble| !trouble.0.is_empty());
    all
}

/// Names of the numbers that programs print.
const NUMBERS: [(&str, &str); 12] = [
    ("1", "EPERM"),
    ("2", "ENOENT"),
    ("12", "ENOMEM"),
    ("14", "EFAULT"),
    ("16", "EBUSY"),
    ("17", "EEXIST"),
    ("19", "ENODEV"),
    ("22", "EINVAL"),
    ("25", "ENOTTY"),
    ("28", "ENOSPC"),
    ("110", "ETIMEDOUT"),
    ("7", "E2BIG"),
];

/// What is printed about `words`.
///
/// # Errors
/// If the table has nothing of the kind.
pub fn run(words: &[String], as_json: bool, width: usize) -> Result<String> {
    let whole = words.join(" ").to_lowercase();
    let name = |word: &str| {
        let digits = word.trim_start_matches('-');
        let known = NUMBERS.iter().find(|(number, _)| *number == digits);
        known.map_or(word.to_owned(), |(_, name)| name.to_lowercase())
    };
    let words: Vec<String> = whole.split_whitespace().map(name).collect();
    let mut found: Vec<_> = table()
        .into_iter()
        .map(|trouble| (trouble.fits(&words, &whole), trouble))
        .filter(|(fit, _)| *fit > 0)
        .collect();
    // What was said in full leaves no room for what merely has the same words in it.
    let best = found.iter().map(|(fit, _)| *fit).max().unwrap_or(0);
    found.retain(|(fit, _)| best < 500 || *fit >= 500);
    if found.is_empty() {
        let text =
            format!("{whole}: not in the table; Documentation/troubleshooting.rst is all of it");
        return Err(Stop::Usage(text).into());
    }
    if as_json {
        let all: Vec<_> = found.iter().map(|(_, trouble)| json!(trouble.0)).collect();
        return crate::json::document(&json!({ "found": all }));
    }
    let texts = found.iter().map(|(_, trouble)| {
        let mut text = styled(&trouble.title(), BOLD) + "\n";
        text += &wrap(trouble.get("means"), "    ", width);
        text += &wrap(&format!("-> {}", trouble.get("do")), "    ", width);
        text
    });
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<String> {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        let out = run(&words, false, 80).unwrap_or_default();
        let out = anstream::adapter::strip_str(&out).to_string();
        let heads = out
            .lines()
            .filter(|line| !line.starts_with(' ') && !line.is_empty());
        heads.map(str::to_owned).collect()
    }

    #[test]
    fn error_numbers_with_their_calls() {
        assert_eq!(
            titles("EPERM SET_CONTAINER"),
            ["EPERM from VFIO_GROUP_SET_CONTAINER"]
        );
        assert_eq!(
            titles("-22 get_device_fd"),
            ["EINVAL from VFIO_GROUP_GET_DEVICE_FD"]
        );
    }

    #[test]
    fn lines_of_a_log() {
        let line = "vfio_pin_pages_remote: RLIMIT_MEMLOCK (8388608) exceeded";
        assert_eq!(titles(line), ["RLIMIT_MEMLOCK (N) exceeded"]);
        let line = "qemu: vfio 0000:01:00.0: group 14 is not viable";
        assert!(
            titles(line)
                .iter()
                .any(|title| title.contains("is not viable"))
        );
    }

    #[test]
    fn numbers_of_ioctls() {
        assert_eq!(
            titles("0x3b71"),
            ["0x3b71 VFIO_IOMMU_MAP_DMA, VFIO_DEVICE_PCI_HOT_RESET"]
        );
        assert_eq!(
            titles("VFIO_GROUP_GET_STATUS"),
            ["0x3b67 VFIO_GROUP_GET_STATUS"]
        );
    }

    #[test]
    fn each_record_is_found_by_its_title() {
        for trouble in table() {
            let title = trouble.title();
            assert!(titles(&title).contains(&title), "{title}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(run(&["nothing-of-the-kind".to_owned()], false, 80).is_err());
    }
}
