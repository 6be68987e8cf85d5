// SPDX-License-Identifier: GPL-2.0
//! Runs stages: builds their needs once, starts their programs, turns what these print into results.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};

use crate::process;
use crate::report::Report;
use crate::stages::{Job, Kernel, Need, Stage};
use crate::tap::{Outcome, Tap, Test, cargo_line};

/// The other drivers of the devices, for tests of who may have a device. Behind AMD-Vi their
/// interrupts do not arrive, and nvme would wait for them.
const HOST_DRIVERS: &str = "modprobe -a igb e1000e nvme; ";

/// No suites but the project's.
const OWN_KUNIT: [&str; 2] = ["--append", "kunit.filter_glob=vfio_rs*"];

/// Beside the default devices: one with a driver of its own in a group with others.
const MORE_DEVICES: [&str; 2] = ["--device", "e1000e,id=e1000e1,addr=0x11.2"];

/// Runs kselftests one after another inside the virtual machine. What they leave in the file system is
/// gone with the machine.
const LOOP: &str =
    r##"for t in "$@"; do echo "# program $t"; "$dir/$t" $filter; echo "# exit $?"; done"##;

/// A way to read results.
type Reader = dyn FnMut(&str) -> Option<Test>;

/// Runs stages and reports.
#[derive(Debug)]
pub struct Runner<'a> {
    top: &'a Path,
    logs: &'a Path,
    filter: Option<&'a str>,
    built: Vec<(Need, bool)>,
    /// Where results go.
    pub report: Report,
}

/// What is known of a stage's output while it comes in.
#[derive(Debug, Default)]
struct Progress {
    /// Lines since the last result.
    recent: Vec<String>,
    /// The kselftest program that runs.
    program: Option<String>,
    /// Kselftest programs that have ended, one way or the other.
    ended: usize,
    failed: u32,
}

impl<'a> Runner<'a> {
    /// For the project in `top`; complete output goes to files in `logs`.
    pub fn new(top: &'a Path, logs: &'a Path, filter: Option<&'a str>, report: Report) -> Self {
        Self {
            top,
            logs,
            filter,
            built: Vec::new(),
            report,
        }
    }

    /// Runs a stage.
    pub fn run(&mut self, stage: &Stage) {
        self.report.begin(stage.name, stage.what);
        if self.prepare(&stage.needs()) {
            self.report.show_progress(true);
            if let Err(e) = self.execute(stage) {
                self.report.failure("the test runner", &[format!("{e:#}")]);
            }
            self.report.show_progress(false);
        }
        self.report.end();
    }

    /// Builds `needs`; a failure is reported and tells the stage to stop.
    fn prepare(&mut self, needs: &[Need]) -> bool {
        for need in needs {
            let (script, argument) = need.command();
            let known = self
                .built
                .iter()
                .find(|(n, _)| n == need)
                .map(|(_, good)| *good);
            let good = known.unwrap_or_else(|| process::build(self.top, script, argument).is_ok());
            if known.is_none() {
                self.built.push((*need, good));
            }
            if !good {
                self.report.failure(&format!("{script} {argument}"), &[]);
                return false;
            }
        }
        true
    }

    fn execute(&mut self, stage: &Stage) -> Result<()> {
        fs::create_dir_all(self.logs)?;
        let path = self.logs.join(format!("test-{}.log", stage.name));
        let mut log = File::create(&path).with_context(|| path.display().to_string())?;
        let mut tap = Tap::default();
        let mut read_tap = move |line: &str| tap.line(line);
        match stage.job {
            Job::Check => self.simple(&["scripts/check"], &mut log, &mut read_tap),
            Job::Host => {
                let words = ["cargo", "test", "--manifest-path", "tools/Cargo.toml"];
                let options = ["--workspace", "--locked", "--no-fail-fast", "--color=never"];
                self.simple(&[words, options].concat(), &mut log, &mut cargo_line)
            }
            Job::KUnit => {
                let vm = vm_command(Kernel::Debug, "intel", &OWN_KUNIT);
                let command: Vec<_> = vm.iter().map(String::as_str).chain(["dmesg"]).collect();
                self.simple(&command, &mut log, &mut read_tap)
            }
            Job::Selftests(kernel, iommu) => self.selftests(kernel, iommu, &mut log, &mut read_tap),
        }
    }

    /// Runs `command`, whose exit status says no more than its results do.
    fn simple(&mut self, command: &[&str], log: &mut File, read: &mut Reader) -> Result<()> {
        let mut progress = Progress::default();
        let status = self.stream(command, log, read, &mut progress)?;
        if !status.success() && progress.failed == 0 {
            self.report
                .failure(&format!("{} ({status})", command[0]), &progress.recent);
        }
        Ok(())
    }

    /// Runs the kselftests in a virtual machine; when that dies, the rest of them in a new one.
    fn selftests(
        &mut self,
        kernel: Kernel,
        iommu: &str,
        log: &mut File,
        read: &mut Reader,
    ) -> Result<()> {
        let folder = self.programs_folder()?;
        let mut left = self.programs()?;
        // The filter names programs, or else tests of any of them.
        let mut filter = self.filter.unwrap_or_default();
        if left.iter().any(|name| name.contains(filter)) {
            left.retain(|name| name.contains(filter));
            filter = "";
        }
        while !left.is_empty() {
            let mut command = vm_command(kernel, iommu, &MORE_DEVICES);
            let drivers = if iommu == "amd" { "" } else { HOST_DRIVERS };
            let script = format!("{drivers}dir='{folder}'; filter='{filter}'; {LOOP}");
            command.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
            command.extend(left.iter().cloned());
            let command: Vec<_> = command.iter().map(String::as_str).collect();
            let mut progress = Progress::default();
            let status = self.stream(&command, log, read, &mut progress)?;
            if !status.success() {
                let during = progress.program.as_deref().unwrap_or("start or end");
                let name = format!("virtual machine, {during} ({status})");
                self.report.failure(&name, &progress.recent);
                progress.ended += usize::from(progress.program.is_some());
            }
            if progress.ended == 0 {
                break;
            }
            left.drain(..progress.ended.min(left.len()));
        }
        Ok(())
    }

    /// Names of the kselftest programs, from their sources.
    fn programs(&self) -> Result<Vec<String>> {
        let folder = self.top.join("tools/testing/selftests/vfio_rs/src/bin");
        let mut names: Vec<_> = fs::read_dir(&folder)
            .with_context(|| folder.display().to_string())?
            .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    fn programs_folder(&self) -> Result<String> {
        let output = std::process::Command::new(self.top.join("scripts/programs"))
            .arg("--path")
            .output()
            .context("scripts/programs")?;
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim())
            .display()
            .to_string())
    }

    /// Runs `command` and reports the results in its output.
    fn stream(
        &mut self,
        command: &[&str],
        log: &mut File,
        read: &mut Reader,
        progress: &mut Progress,
    ) -> Result<ExitStatus> {
        let top = self.top;
        process::lines(top, command, log, |line| {
            self.take_line(line, read, progress)
        })
    }

    fn take_line(&mut self, line: &str, read: &mut Reader, progress: &mut Progress) {
        self.report.progress(line);
        if let Some(name) = line.strip_prefix("# program ") {
            *progress = Progress {
                ended: progress.ended,
                ..Progress::default()
            };
            progress.program = Some(name.to_owned());
        } else if let Some(code) = line.strip_prefix("# exit ") {
            // 4 is kselftest's "all skipped".
            let named = progress.program.take().unwrap_or_default();
            if !matches!(code, "0" | "4") && progress.failed == 0 {
                self.report
                    .failure(&format!("{named}: exit status {code}"), &progress.recent);
            }
            progress.ended += 1;
            progress.recent.clear();
        } else if let Some(mut test) = read(line) {
            if let Some(program) = &progress.program {
                test.name = format!("{program}: {}", test.name);
            }
            progress.failed += u32::from(test.outcome == Outcome::Failed);
            self.report.result(&test, &progress.recent);
            progress.recent.clear();
        } else {
            progress.recent.push(line.to_owned());
        }
    }
}

fn vm_command(kernel: Kernel, iommu: &str, options: &[&str]) -> Vec<String> {
    let (name, timeout) = (kernel.name(), kernel.timeout().to_string());
    let first = [
        "scripts/vm",
        "--iommu",
        iommu,
        "--kernel",
        name,
        "--stack",
        "rust",
    ];
    let last = ["--timeout", &timeout, "--"];
    let words = first.iter().chain(options).chain(&last);
    words.map(|&word| word.to_owned()).collect()
}
