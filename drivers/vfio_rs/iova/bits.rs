// SPDX-License-Identifier: GPL-2.0

//! Bits of a bitmap of 64-bit words, bit 0 of word 0 first. Takes no lock.

/// Bits of a word.
const BITS: u64 = u64::BITS as u64;

/// Consecutive bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitRun {
    first: u64,
    count: u64,
}

impl BitRun {
    /// `count` bits from bit `first` on; both are far below 2^64.
    pub(crate) fn new(first: u64, count: u64) -> Self {
        Self { first, count }
    }

    /// The word that has the first bit.
    pub(crate) fn first_word(&self) -> u64 {
        self.first / BITS
    }

    /// How many words have a bit of the run.
    pub(crate) fn words(&self) -> u64 {
        match self.count {
            0 => 0,
            count => self
                .first
                .wrapping_add(count)
                .div_ceil(BITS)
                .wrapping_sub(self.first_word()),
        }
    }

    /// Whether no bit of the first word comes before the run.
    pub(crate) fn begins_a_word(&self) -> bool {
        self.first % BITS == 0
    }

    /// Bits of the run in its `index`th word.
    pub(crate) fn word(&self, index: u64) -> u64 {
        let base = self.first_word().wrapping_add(index).wrapping_mul(BITS);
        let end = self.first.wrapping_add(self.count);
        below(end.saturating_sub(base)) & !below(self.first.saturating_sub(base))
    }
}

/// The lowest `count` bits of a word, at most all.
fn below(count: u64) -> u64 {
    match count {
        BITS.. => u64::MAX,
        count => 1u64.wrapping_shl(count as u32).wrapping_sub(1),
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_bits))]
mod tests {
    use super::*;

    #[test]
    fn every_run_of_three_words() {
        for first in 0..192u64 {
            for count in 0..(192 - first) {
                let run = BitRun::new(first, count);
                let has = |bit: u64| bit >= first && bit < first + count;
                let mut seen = 0;
                for index in 0..run.words() {
                    let word = run.word(index);
                    for bit in 0..64 {
                        let at = (run.first_word() + index) * 64 + bit;
                        let is_set = word >> bit & 1 != 0;
                        assert_eq!(is_set, has(at));
                    }
                    seen += u64::from(word.count_ones());
                }
                assert_eq!(seen, count);
                assert_eq!(run.begins_a_word(), first % 64 == 0);
            }
        }
    }
}
