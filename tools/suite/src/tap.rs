// SPDX-License-Identifier: GPL-2.0
//! Reads test results out of a stream of lines: TAP and KTAP (kselftests, KUnit in a kernel log),
//! and the lines of `cargo test`.
//!
//! Only results of leaves count. A line that sums up the results indented below it (a KUnit suite,
//! a TAP subtest) is dropped, unless it fails and none below it did: then the suite itself broke.

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed,
    /// Not run, for this reason.
    Skipped(String),
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    /// Name as the program printed it.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// Results seen at one depth of indentation since the last result of a lesser depth.
#[derive(Debug)]
struct Level {
    indent: usize,
    failed: bool,
}

/// A parser of TAP and KTAP, fed line by line.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    levels: Vec<Level>,
    /// Name of the suite that was announced last, and its indentation.
    suite: Option<(usize, String)>,
    /// The program gave up by itself ("Bail out!").
    pub bailed: bool,
}

impl Tap {
    /// Takes a line; gives the result that it carries, if any.
    pub(crate) fn line(&mut self, line: &str) -> Option<Test> {
        let line = without_log_prefix(line.trim_end());
        let text = line.trim_start();
        if text.starts_with("Bail out!") {
            self.bailed = true;
            return None;
        }
        let indent = line.len() - text.len();
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            self.suite = Some((indent, name.to_owned()));
        }
        let mut test = result(text)?;
        match &self.suite {
            Some((at, name)) if *at == indent => test.name = format!("{name}: {}", test.name),
            _ => self.suite = None,
        }
        let below = self.record(indent, &test.outcome);
        match below {
            None => Some(test),
            Some(failed_below) => {
                (test.outcome == Outcome::Failed && !failed_below).then_some(test)
            }
        }
    }

    /// Notes a result at `indent`. If it sums up deeper results, tells whether one of these failed.
    fn record(&mut self, indent: usize, outcome: &Outcome) -> Option<bool> {
        let failed = *outcome == Outcome::Failed;
        let deeper = self.levels.iter().position(|l| l.indent > indent);
        let below = deeper.map(|at| self.levels.drain(at..).any(|l| l.failed));
        match self.levels.last_mut() {
            Some(level) if level.indent == indent => level.failed |= failed,
            _ => self.levels.push(Level { indent, failed }),
        }
        below
    }
}

/// Cuts `<6>[   12.345678][  T123] ` off a kernel log line, and nothing of what the message
/// indents.
fn without_log_prefix(line: &str) -> &str {
    let mut rest = line;
    match rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
        Some((level, after)) if level.bytes().all(|b| b.is_ascii_digit()) => rest = after,
        _ => (),
    }
    let mut cut = false;
    while let Some((stamp, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        let plain = |b: u8| b.is_ascii_digit() || b" .TC".contains(&b);
        if !stamp.bytes().all(plain) {
            break;
        }
        rest = after;
        cut = true;
    }
    if cut {
        rest.strip_prefix(' ').unwrap_or(rest)
    } else {
        line
    }
}

/// Reads `ok 1 - name # SKIP reason` and the like.
fn result(text: &str) -> Option<Test> {
    let (passed, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    let rest = rest.strip_prefix(' ')?.trim_start();
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let outcome = match directive.split_once(' ').unwrap_or((directive, "")) {
        (word, reason) if word.eq_ignore_ascii_case("skip") => Outcome::Skipped(reason.to_owned()),
        (word, _) if word.eq_ignore_ascii_case("todo") => Outcome::Passed,
        (word, _) if word.eq_ignore_ascii_case("xfail") => Outcome::Passed,
        _ if passed => Outcome::Passed,
        _ => Outcome::Failed,
    };
    Some(Test {
        name: name.trim().to_owned(),
        outcome,
    })
}

/// Reads a result line of `cargo test`: `test some::name ... ok`.
pub(crate) fn cargo_line(line: &str) -> Option<Test> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name
        .strip_suffix(" - should panic")
        .unwrap_or(name)
        .to_owned();
    let outcome = match verdict.trim().split(", ").next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Skipped("ignored".to_owned()),
        _ => return None,
    };
    Some(Test { name, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(String, Outcome)> {
        let mut tap = Tap::default();
        text.lines()
            .filter_map(|line| tap.line(line))
            .map(|t| (t.name, t.outcome))
            .collect()
    }

    fn named(name: &str, outcome: Outcome) -> (String, Outcome) {
        (name.to_owned(), outcome)
    }

    #[test]
    fn flat() {
        let text =
            "KTAP version 1\n1..3\nok 1 open\n# why\nnot ok 2 - close\nok 3 map # SKIP no igb\n";
        let skipped = Outcome::Skipped("no igb".to_owned());
        let want = [
            named("open", Outcome::Passed),
            named("close", Outcome::Failed),
            named("map", skipped),
        ];
        assert_eq!(parse(text), want);
    }

    const KUNIT: &str = "\
[    5.1] KTAP version 1
[    5.1] 1..2
[    5.1]     KTAP version 1
[    5.1]     # Subtest: vfio_rs_iova
[    5.1]     # module: vfio_rs
[    5.1]     1..2
[    5.2]     ok 1 insert
[    5.2]     not ok 2 remove
[    5.2] # vfio_rs_iova: pass:1 fail:1 skip:0 total:2
[    5.2] not ok 1 vfio_rs_iova
[    5.3]     ok 1 walk
[    5.3] ok 2 vfio_rs_config
";

    #[test]
    fn kunit_counts_leaves() {
        let want = [
            named("vfio_rs_iova: insert", Outcome::Passed),
            named("vfio_rs_iova: remove", Outcome::Failed),
            named("walk", Outcome::Passed),
        ];
        assert_eq!(parse(KUNIT), want);
    }

    #[test]
    fn suite_that_fails_by_itself() {
        let text = "    ok 1 walk\nnot ok 1 suite\n";
        assert_eq!(
            parse(text),
            [
                named("walk", Outcome::Passed),
                named("suite", Outcome::Failed)
            ]
        );
    }

    #[test]
    fn thread_ids_in_the_log() {
        assert_eq!(
            parse("<6>[    5.2][  T112]     ok 1 a\n[    5.2][    C0] ok 1 b\n"),
            [named("a", Outcome::Passed)]
        );
    }

    #[test]
    fn other_lines() {
        assert_eq!(
            parse("okay\nnot okay\n[drm] ok\nok\n# ok 1 x\nTAP version 13\n"),
            []
        );
        let mut tap = Tap::default();
        assert_eq!(tap.line("Bail out! no VFIO"), None);
        assert!(tap.bailed);
    }

    #[test]
    fn cargo_results() {
        let outcome = |line| cargo_line(line).map(|t| t.outcome);
        assert_eq!(outcome("test a::b ... ok"), Some(Outcome::Passed));
        assert_eq!(outcome("test a::b ... FAILED"), Some(Outcome::Failed));
        assert_eq!(
            outcome("test a - should panic ... ok"),
            Some(Outcome::Passed)
        );
        let ignored = Outcome::Skipped("ignored".to_owned());
        assert_eq!(outcome("test a ... ignored, slow"), Some(ignored));
        assert_eq!(outcome("test result: ok. 3 passed; 0 failed"), None);
        assert_eq!(outcome("running 3 tests"), None);
    }
}
