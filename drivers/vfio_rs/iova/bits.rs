// SPDX-License-Identifier: GPL-2.0

//! Bits of a bitmap of 64-bit words, bit 0 of word 0 first. Takes no lock.

use kernel::prelude::*;

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

/// Some words of a bitmap that are next to each other, with the bits of runs that came in order.
pub(crate) struct BitChunk {
    /// Which word of the bitmap is the first.
    first: u64,
    /// How many are in use.
    used: usize,
    words: [u64; BitChunk::WORDS],
}

impl BitChunk {
    /// How many words there can be.
    pub(crate) const WORDS: usize = 64;

    /// No bits.
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            used: 0,
            words: [0; Self::WORDS],
        }
    }

    /// Adds a run that begins where no other has a bit, nor behind that. Returns `false` if there
    /// is no room for it.
    #[inline]
    pub(crate) fn add(&mut self, run: &BitRun) -> bool {
        if self.used == 0 {
            self.first = run.first_word();
        }
        let Some(at) = run.first_word().checked_sub(self.first) else {
            return false;
        };
        let (Ok(at), Ok(count)) = (usize::try_from(at), usize::try_from(run.words())) else {
            return false;
        };
        let end = at.saturating_add(count);
        let Some(words) = self.words.get_mut(at..end) else {
            return false;
        };
        for (index, word) in (0..).zip(words) {
            *word |= run.word(index);
        }
        self.used = self.used.max(end);
        true
    }

    /// Hands out the words that have a bit, those that are next to each other together, with the
    /// number of the first of them; and forgets all.
    ///
    /// # Errors
    ///
    /// What `f` says; then it is not called any more.
    pub(crate) fn take(&mut self, mut f: impl FnMut(u64, &mut [u64]) -> Result) -> Result {
        let used = core::mem::take(&mut self.used);
        let mut result = Ok(());
        if let Some(words) = self.words.get_mut(..used) {
            let mut at = self.first;
            for part in words.split_mut(|word| *word == 0) {
                let len = part.len();
                if len != 0 && result.is_ok() {
                    result = f(at, part);
                }
                // With the one that is 0 behind it.
                at = at.wrapping_add(len as u64).wrapping_add(1);
            }
            words.fill(0);
        }
        result
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

    #[test]
    fn chunks_hold_what_was_added() -> Result {
        let mut chunk = BitChunk::new();
        // Twice, as nothing of the first time may be left.
        for base in [0, 640] {
            let runs = [(3, 2), (5, 1), (63, 2), (300, 200), (4090, 6)];
            for (first, count) in runs {
                assert!(chunk.add(&BitRun::new(base + first, count)));
            }
            assert!(!chunk.add(&BitRun::new(base + 4096, 1)));
            assert!(!chunk.add(&BitRun::new(base + 4095, 2)));
            if base != 0 {
                assert!(!chunk.add(&BitRun::new(base - 1, 1)));
            }
            let mut seen = 0u64;
            let mut parts = 0;
            chunk.take(|at, words| {
                parts += 1;
                for (index, word) in (at..).zip(words) {
                    assert!(*word != 0);
                    for bit in 0..64 {
                        let at = index * 64 + bit - base;
                        let is_set = runs
                            .iter()
                            .any(|(first, count)| (*first..first + count).contains(&at));
                        let was_set = *word >> bit & 1 != 0;
                        assert_eq!(was_set, is_set);
                        seen += u64::from(is_set);
                    }
                }
                Ok(())
            })?;
            assert_eq!((seen, parts), (211, 3));
            chunk.take(|_, _| Err(EINVAL))?;
        }
        Ok(())
    }

    #[test]
    fn chunks_are_empty_after_an_error() -> Result {
        let mut chunk = BitChunk::new();
        assert!(chunk.add(&BitRun::new(0, 1)) && chunk.add(&BitRun::new(200, 1)));
        let mut calls = 0;
        let failed = chunk.take(|_, _| {
            calls += 1;
            Err(EFAULT)
        });
        assert_eq!((failed, calls), (Err(EFAULT), 1));
        chunk.take(|_, _| Err(EINVAL))
    }

    #[test]
    fn chunks_refuse_what_is_too_long() {
        let mut chunk = BitChunk::new();
        assert!(!chunk.add(&BitRun::new(7, 64 * 64)));
        assert!(chunk.add(&BitRun::new(64, 64 * 64)));
    }
}
