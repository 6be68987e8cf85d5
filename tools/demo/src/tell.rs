// SPDX-License-Identifier: GPL-2.0
//! Printing: numbered steps, results, and pictures. In colour on a terminal, plain otherwise.

use std::io::{self, BufRead};

use console::style;

/// Width of the text, in columns.
const WIDTH: usize = 92;

/// Prints the tour and counts its steps.
#[derive(Debug)]
pub(crate) struct Teller {
    step: u32,
    pause: bool,
}

impl Teller {
    /// A new one; `pause` waits for Enter after each step.
    pub(crate) fn new(pause: bool) -> Self {
        Self { step: 0, pause }
    }

    /// The title.
    pub(crate) fn title(&self, text: &str) {
        println!(
            "\n{}\n{}",
            style(text).bold(),
            "=".repeat(text.chars().count())
        );
    }

    /// Begins a step: its name and what it is about.
    pub(crate) fn step(&mut self, name: &str, about: &str) {
        if self.pause && self.step > 0 {
            println!("  {}", style("[Enter]").dim());
            let _ = io::stdin().lock().read_line(&mut String::new());
        }
        self.step += 1;
        println!(
            "\n{} {}",
            style(format!("{:>2}.", self.step)).cyan().bold(),
            style(name).bold()
        );
        self.say(about);
    }

    /// A paragraph.
    pub(crate) fn say(&self, text: &str) {
        for line in wrap(text, WIDTH - 4) {
            println!("    {line}");
        }
    }

    /// The call that is made, for those who will write it themselves.
    pub(crate) fn call(&self, text: &str) {
        println!("    {} {}", style("$").dim(), style(text).dim());
    }

    /// Something that worked, or was refused as it should be.
    pub(crate) fn good(&self, text: &str) {
        let mut lines = wrap(text, WIDTH - 6).into_iter();
        println!(
            "    {} {}",
            style("ok").green().bold(),
            lines.next().unwrap_or_default()
        );
        lines.for_each(|line| println!("       {line}"));
    }

    /// Bytes in hexadecimal, with a name.
    pub(crate) fn bytes(&self, name: &str, bytes: &[u8]) {
        let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        println!("       {name:<22} {}", style(hex.join(" ")).yellow());
    }

    /// A drawing, line by line.
    pub(crate) fn picture(&self, lines: &[&str]) {
        lines
            .iter()
            .for_each(|line| println!("       {}", style(line).dim()));
    }

    /// The end: what happened and what to try next.
    pub(crate) fn closing(&self) {
        self.title("That was a device driver in user space, kept in bounds by the IOMMU");
        println!("What to try next:");
        let next = [
            (
                "tools/demo/src/steps.rs",
                "the code of each step: about as long as this text",
            ),
            (
                "scripts/vm",
                "a shell in this virtual machine, with the project's modules loaded",
            ),
            (
                "scripts/vm --stack c",
                "the same with Linux's own VFIO, to compare",
            ),
            ("make test", "all tests of the project"),
            ("Documentation/", "how it is built, layer by layer"),
        ];
        for (what, why) in next {
            println!("    {:<26} {why}", style(format!("{what:<26}")).cyan());
        }
        println!();
    }

    /// The step that failed, and where to look.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!(
            "\n{} step {}: {error:#}",
            style("FAILED").red().bold(),
            self.step
        );
        eprintln!("The kernel's log may say more: dmesg | tail");
    }
}

/// Breaks `text` into lines of at most `width` columns.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn breaks_between_words() {
        assert_eq!(wrap("aa bb  cc\n d", 5), ["aa bb", "cc d"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("abcdefgh i", 5), ["abcdefgh", "i"]);
    }
}
