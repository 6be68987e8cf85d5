// SPDX-License-Identifier: GPL-2.0
//! Finds what the kernel's own checkers report in its log.

/// What a report begins with, or has in it: each alone makes a run a failure.
const REPORTS: &[&str] = &[
    "Kernel panic",
    "Oops",
    "BUG:",
    "kernel BUG at",
    "WARNING:",
    "Call Trace:",
    "KASAN:",
    "KFENCE:",
    "UBSAN:",
    "general protection fault",
    "refcount_t:",
    "ODEBUG:",
    "INFO: task ",
    "INFO: trying to register non-static key",
    "INFO: possible recursive locking",
    "detected stall",
    "self-detected stall",
    "soft lockup",
    "hard LOCKUP",
    "rcu_preempt kthread starved",
    "possible circular locking",
    "inconsistent lock state",
    "bad unlock balance",
    "held lock freed",
    "sleeping function called from invalid context",
    "scheduling while atomic",
    "turning off the locking correctness validator",
    "unreferenced object",
    "new suspected memory leaks",
    "Slab corruption",
    "Redzone overwritten",
    "list_add corruption",
    "list_del corruption",
    "rust_kernel: panicked",
];

/// Injected faults print a stack as information: traces this close after one are no reports.
const INJECTED: &str = "FAULT_INJECTION: forcing a failure";
const INJECTED_LINES: usize = 12;

/// Indexes of the lines of `log` that report something wrong; lines with one of the `allowed` texts
/// do not.
pub(crate) fn reports(log: &str, allowed: &[String]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut injected = None;
    for (number, line) in log.lines().enumerate() {
        if line.contains(INJECTED) {
            injected = Some(number);
        }
        let expected =
            injected.is_some_and(|at| number - at < INJECTED_LINES) && line.contains("Call Trace:");
        let text = line.split_once("] ").map_or(line, |(_, text)| text);
        let failed_test = text.trim_start().starts_with("not ok "); // of KUnit
        let report = failed_test || REPORTS.iter().any(|text| line.contains(text));
        if report && !expected && !allowed.iter().any(|text| line.contains(text.as_str())) {
            found.push(number);
        }
    }
    found
}

/// The part of `log` worth showing: from a little before the first report on, or else its end; at
/// most `limit` lines.
pub(crate) fn excerpt(log: &str, reports: &[usize], limit: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = match reports.first() {
        Some(first) => first.saturating_sub(20),
        None => lines.len().saturating_sub(limit),
    };
    let shown = &lines[start..];
    let mut text = String::new();
    if start > 0 {
        text += &format!("[... {start} lines before ...]\n");
    }
    for line in shown.iter().take(limit) {
        text += line;
        text += "\n";
    }
    if shown.len() > limit {
        text += &format!("[... {} lines after ...]\n", shown.len() - limit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    0.0] Linux version 7.3.4
[    1.0] WARNING: CPU: 0 PID: 1 at drivers/x.c:3 f+0x1/0x2
[    1.0] Call Trace:
[    2.0] FAULT_INJECTION: forcing a failure.
[    2.0] Call Trace:
[    3.0] WARNING: nothing to worry about";

    #[test]
    fn reports_are_found() {
        assert_eq!(reports(LOG, &[]), [1, 2, 5]);
        assert_eq!(reports(LOG, &["nothing to worry".into()]), [1, 2]);
        assert_eq!(reports("all is well", &[]), [0; 0]);
        assert_eq!(
            reports("[ 1.0]     ok 1 a\n[ 1.0]     not ok 2 b", &[]),
            [1]
        );
    }

    #[test]
    fn excerpts_are_bounded() {
        assert!(excerpt(LOG, &[1], 2).ends_with("[... 4 lines after ...]\n"));
        assert!(excerpt(LOG, &[], 1).contains("nothing to worry"));
        assert_eq!(excerpt("", &[], 9), "");
    }
}
