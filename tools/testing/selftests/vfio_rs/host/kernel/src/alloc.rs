// SPDX-License-Identifier: GPL-2.0

//! Allocations that can fail, as rust/kernel/alloc.

use crate::fail;
use std::{
    fmt,
    ops::{
        BitOr,
        Deref,
        DerefMut, //
    },
};

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// How to allocate. Of no meaning here.
#[derive(Clone, Copy, Debug)]
pub struct Flags;

/// May sleep.
pub const GFP_KERNEL: Flags = Flags;

/// May sleep, and counts for the memory cgroup.
pub const GFP_KERNEL_ACCOUNT: Flags = Flags;

/// A failure is no news for the log.
pub const __GFP_NOWARN: Flags = Flags;

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}

fn allocate() -> Result<(), AllocError> {
    if fail::next_allocation_fails() {
        return Err(AllocError);
    }
    Ok(())
}

/// A value on the heap.
#[derive(Debug, PartialEq, Eq)]
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// Moves `value` to the heap.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(value: T, _flags: Flags) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(Box::new(value)))
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A vector that says so when it cannot grow.
#[derive(PartialEq, Eq)]
pub struct KVec<T>(Vec<T>);

/// A vector that may also be in virtually contiguous memory.
pub type KVVec<T> = KVec<T>;

/// What there was no room for.
#[derive(Debug)]
pub struct PushError<T>(pub T);

impl<T> KVec<T> {
    /// An empty vector.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty vector with room for `capacity` elements.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::new();
        vec.reserve(capacity, flags)?;
        Ok(vec)
    }

    /// Number of elements there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for `additional` more elements.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() < additional {
            allocate()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    /// Appends an element.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    /// Appends an element if there is room.
    ///
    /// # Errors
    /// If there is no room.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.0.len() == self.0.capacity() {
            return Err(PushError(value));
        }
        self.0.push(value);
        Ok(())
    }

    /// All elements.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes all elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Removes the elements that `keep` returns `false` for.
    pub fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(keep);
    }
}

impl<T: Clone> KVec<T> {
    /// A vector of `n` times `value`.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn from_elem(value: T, n: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::with_capacity(n, flags)?;
        vec.0.resize(n, value);
        Ok(vec)
    }

    /// Appends all of `other`.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError> {
        self.reserve(other.len(), flags)?;
        self.0.extend_from_slice(other);
        Ok(())
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for KVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut KVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}
