// SPDX-License-Identifier: GPL-2.0
//! Runs stages: builds their needs once, starts their programs, turns what these print into
//! results.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};

use crate::process;
use crate::programs::Programs;
use crate::report::Report;
use crate::selftests::{Event, MACHINES, Plan};
use crate::stages::{Job, Kernel, Need, Stage};
use crate::tap::{Outcome, Tap, Test, cargo_line};

/// No suites but the project's.
const OWN_KUNIT: [&str; 2] = ["--append", "kunit.filter_glob=vfio_rs*"];

/// A way to read results.
type Reader<'r> = dyn FnMut(&str) -> Option<Test> + 'r;

/// Runs stages and reports.
#[derive(Debug)]
pub(crate) struct Runner<'a> {
    top: &'a Path,
    logs: &'a Path,
    filter: Option<&'a str>,
    built: Vec<(Need, bool)>,
    /// A build that has been begun before a stage needs it.
    early: Option<(Need, Child)>,
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
    failed: u32,
}

impl<'a> Runner<'a> {
    /// For the project in `top`; complete output goes to files in `logs`.
    pub(crate) fn new(
        top: &'a Path,
        logs: &'a Path,
        filter: Option<&'a str>,
        report: Report,
    ) -> Self {
        Self {
            top,
            logs,
            filter,
            built: Vec::new(),
            early: None,
            report,
        }
    }

    /// Runs a stage, and beside it begins to build modules that one of the `later` ones needs, and
    /// their kernel.
    pub(crate) fn run(&mut self, stage: &Stage, later: &[&Stage]) {
        self.report.begin(stage.name, stage.what);
        if self.prepare(&stage.needs()) {
            self.build_early(later);
            self.report.show_progress();
            if let Err(e) = self.execute(stage) {
                self.report.failure("the test runner", &[format!("{e:#}")]);
            }
            self.report.hide_progress();
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
            if let Some((_, mut child)) = self.early.take_if(|(early, _)| early == need) {
                let _ = child.wait();
            }
            if !good {
                self.report.failure(&format!("{script} {argument}"), &[]);
                return false;
            }
        }
        true
    }

    /// Most stages leave a processor idle for half of the time, and a kernel takes long. One is
    /// built at a time.
    fn build_early(&mut self, later: &[&Stage]) {
        if self.early.is_some() {
            return;
        }
        let mut needs = later.iter().flat_map(|stage| stage.needs());
        let modules = needs.find(|need| {
            matches!(need, Need::Modules(_)) && self.built.iter().all(|(built, _)| built != need)
        });
        if let Some(need) = modules {
            let (script, argument) = need.command();
            let child = process::build_idly(self.top, script, argument).ok();
            self.early = child.map(|child| (need, child));
        }
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
            Job::Client(command) | Job::Alone(command) => {
                self.simple(command, &mut log, &mut read_tap)
            }
            Job::Bench => self.simple(&["scripts/bench", "--check"], &mut log, &mut read_tap),
            Job::KUnit => {
                let vm = vm_command(Kernel::Debug, "intel", &OWN_KUNIT);
                let command: Vec<_> = vm.iter().map(String::as_str).chain(["dmesg"]).collect();
                self.simple(&command, &mut log, &mut read_tap)
            }
            Job::Selftests(kernel, iommu, choice) => self.selftests(stage, kernel, iommu, choice),
        }
    }

    /// Runs `command`, whose exit status says no more than its results do.
    fn simple(&mut self, command: &[&str], log: &mut File, read: &mut Reader<'_>) -> Result<()> {
        let mut progress = Progress::default();
        let status = self.stream(command, log, read, &mut progress)?;
        if !status.success() && progress.failed == 0 {
            self.report
                .failure(&format!("{} ({status})", command[0]), &progress.recent);
        }
        Ok(())
    }

    /// Runs the kselftests in several virtual machines at a time.
    fn selftests(
        &mut self,
        stage: &Stage,
        kernel: Kernel,
        iommu: &str,
        choice: Programs,
    ) -> Result<()> {
        let plan = Plan::new(
            self.top,
            &self.logs.join(stage.name),
            iommu,
            choice,
            self.filter,
        )?;
        let mut machines: [(Tap, Progress); MACHINES] = Default::default();
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..machines.len() {
                let (plan, sender) = (&plan, sender.clone());
                let command = plan.command(vm_command(kernel, iommu, &plan.options()), iommu);
                scope.spawn(move || plan.machine(number, &command, &sender));
            }
            drop(sender);
            for (number, event) in receiver {
                let Some((tap, progress)) = machines.get_mut(number) else {
                    continue;
                };
                match event {
                    Event::Line(line) => self.take_line(&line, &mut |l| tap.line(l), progress),
                    Event::Failed(why) => {
                        let during = progress.program.take().unwrap_or("start or end".to_owned());
                        let name = format!("virtual machine, {during} ({why})");
                        self.report.failure(&name, &progress.recent);
                        *tap = Tap::default();
                    }
                }
            }
        });
        Ok(())
    }

    /// Runs `command` and reports the results in its output.
    fn stream(
        &mut self,
        command: &[&str],
        log: &mut File,
        read: &mut Reader<'_>,
        progress: &mut Progress,
    ) -> Result<ExitStatus> {
        let top = self.top;
        process::lines(top, command, log, |line| {
            self.take_line(line, read, progress);
        })
    }

    fn take_line(&mut self, line: &str, read: &mut Reader<'_>, progress: &mut Progress) {
        self.report.progress(line);
        if let Some(name) = line.strip_prefix("# program ") {
            *progress = Progress::default();
            progress.program = Some(name.to_owned());
        } else if let Some(code) = line.strip_prefix("# exit ") {
            // 4 is kselftest's "all skipped".
            let named = progress.program.take().unwrap_or_default();
            if !matches!(code, "0" | "4") && progress.failed == 0 {
                self.report
                    .failure(&format!("{named}: exit status {code}"), &progress.recent);
            }
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
