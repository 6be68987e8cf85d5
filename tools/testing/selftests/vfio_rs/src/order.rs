// SPDX-License-Identifier: GPL-2.0
//! Orders in which a test can do things.

/// All orders of `0..n`.
#[must_use]
pub fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let with_last = |order: Vec<usize>| {
        (0..n).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, n - 1);
            longer
        })
    };
    permutations(n - 1)
        .into_iter()
        .flat_map(with_last)
        .collect()
}
