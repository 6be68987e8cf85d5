// SPDX-License-Identifier: GPL-2.0

//! Makes the n-th allocation of this thread fail, as the kernel's `/proc/self/fail-nth`.

use std::cell::Cell;

thread_local! {
    /// Allocations until the one that fails; 0 for none.
    static COUNTDOWN: Cell<u32> = const { Cell::new(0) };
}

/// Called for each allocation. Returns whether it fails.
pub(crate) fn next_allocation_fails() -> bool {
    COUNTDOWN.with(|countdown| {
        let left = countdown.get();
        countdown.set(left.saturating_sub(1));
        left == 1
    })
}

/// Runs `operation` with its `nth` allocation failing, counted from 1. Returns its result and
/// whether it came to that allocation at all.
pub fn nth<T>(nth: u32, operation: impl FnOnce() -> T) -> (T, bool) {
    COUNTDOWN.with(|countdown| countdown.set(nth));
    let result = operation();
    let left = COUNTDOWN.with(|countdown| countdown.replace(0));
    (result, left == 0)
}

/// Runs `operation` again and again, with each of its allocations failing once, and passes each
/// result to `check`. Returns the number of allocations.
pub fn sweep<T>(mut operation: impl FnMut() -> T, mut check: impl FnMut(T)) -> u32 {
    for count in 0.. {
        let (result, failed) = nth(count + 1, &mut operation);
        if !failed {
            return count;
        }
        check(result);
    }
    u32::MAX
}
