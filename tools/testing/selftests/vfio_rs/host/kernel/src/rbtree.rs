// SPDX-License-Identifier: GPL-2.0

//! An ordered map whose nodes are allocated by the caller, as rust/kernel/rbtree.rs.

use crate::{
    alloc::{
        Flags,
        KBox, //
    },
    error::Result,
};
use std::{
    collections::{
        btree_map,
        BTreeMap, //
    },
    ops::Bound,
};

/// An ordered map.
#[derive(Debug)]
pub struct RBTree<K, V>(BTreeMap<K, V>);

/// Memory for one node.
#[derive(Debug)]
pub struct RBTreeNodeReservation<K, V>(std::marker::PhantomData<(K, V)>);

/// A node that is in no tree.
#[derive(Debug)]
pub struct RBTreeNode<K, V>(K, V);

/// A place in a tree.
#[derive(Debug)]
pub struct Cursor<'a, K, V> {
    current: (&'a K, &'a V),
    rest: btree_map::Range<'a, K, V>,
}

/// A node of a tree.
#[derive(Debug)]
pub struct OccupiedEntry<'a, K: Ord, V>(btree_map::OccupiedEntry<'a, K, V>);

/// A place in a tree whose values may be changed and that nodes may be taken out of.
#[derive(Debug)]
pub struct CursorMut<'a, K, V> {
    key: K,
    tree: &'a mut RBTree<K, V>,
}

impl<K, V> RBTreeNodeReservation<K, V> {
    /// Allocates.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(flags: Flags) -> Result<Self> {
        // Counts as an allocation; the map below makes its own.
        KBox::new((), flags)?;
        Ok(Self(std::marker::PhantomData))
    }

    /// Fills the node.
    pub fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode(key, value)
    }
}

impl<K, V> RBTreeNode<K, V> {
    /// Allocates and fills a node.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(key: K, value: V, flags: Flags) -> Result<Self> {
        Ok(RBTreeNodeReservation::new(flags)?.into_node(key, value))
    }

    /// What is in it.
    pub fn to_key_value(self) -> (K, V) {
        (self.0, self.1)
    }

    /// Its memory, for another one.
    pub fn into_reservation(self) -> RBTreeNodeReservation<K, V> {
        RBTreeNodeReservation(std::marker::PhantomData)
    }
}

impl<K, V> RBTree<K, V> {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All in order.
    pub fn iter(&self) -> btree_map::Iter<'_, K, V> {
        self.0.iter()
    }

    /// All in order, values writable.
    pub fn iter_mut(&mut self) -> btree_map::IterMut<'_, K, V> {
        self.0.iter_mut()
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &'_ V> {
        self.0.values()
    }
}

impl<K: Ord, V> RBTree<K, V> {
    /// Adds a node; returns the one that had this key.
    pub fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>> {
        let old = self.remove_node(&node.0);
        self.0.insert(node.0, node.1);
        old
    }

    /// Allocates and adds a node; returns the one that had this key.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn try_create_and_insert(
        &mut self,
        key: K,
        value: V,
        flags: Flags,
    ) -> Result<Option<RBTreeNode<K, V>>> {
        Ok(self.insert(RBTreeNode::new(key, value, flags)?))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// The value of a key, writable.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Takes a node out.
    pub fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        let (key, value) = self.0.remove_entry(key)?;
        Some(RBTreeNode(key, value))
    }

    /// Takes a node out and drops its key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// The first node whose key is not below `key`.
    pub fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        let mut rest = self.0.range(key..);
        let current = rest.next()?;
        Some(Cursor { current, rest })
    }

    /// The first node.
    #[must_use]
    pub fn cursor_front(&self) -> Option<Cursor<'_, K, V>> {
        let mut rest = self.0.range(..);
        let current = rest.next()?;
        Some(Cursor { current, rest })
    }
}

impl<K: Copy + Ord, V> RBTree<K, V> {
    /// The first node whose key is not below `key`, to be changed.
    pub fn cursor_lower_bound_mut(&mut self, key: &K) -> Option<CursorMut<'_, K, V>> {
        let key = *self.0.range(key..).next()?.0;
        Some(CursorMut { key, tree: self })
    }
}

impl<K: Copy + Ord, V> RBTree<K, V> {
    /// The node that has the key.
    pub fn find_mut(&mut self, key: &K) -> Option<OccupiedEntry<'_, K, V>> {
        match self.0.entry(*key) {
            btree_map::Entry::Occupied(entry) => Some(OccupiedEntry(entry)),
            btree_map::Entry::Vacant(_) => None,
        }
    }
}

impl<K: Copy + Ord, V> OccupiedEntry<'_, K, V> {
    /// Its value.
    #[must_use]
    pub fn get(&self) -> &V {
        self.0.get()
    }

    /// Its value, to be changed.
    pub fn get_mut(&mut self) -> &mut V {
        self.0.get_mut()
    }

    /// Takes it out.
    #[must_use]
    pub fn remove_node(self) -> RBTreeNode<K, V> {
        let (key, value) = self.0.remove_entry();
        RBTreeNode(key, value)
    }
}

// PANIC: A cursor is at a node.
#[expect(clippy::missing_panics_doc, clippy::unwrap_used)]
impl<K: Copy + Ord, V> CursorMut<'_, K, V> {
    /// The node.
    #[must_use]
    pub fn current(&self) -> (&K, &V) {
        (&self.key, self.tree.0.get(&self.key).unwrap())
    }

    /// Goes to the node after it.
    #[must_use]
    pub fn move_next(self) -> Option<Self> {
        let Self { key, tree } = self;
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        let key = tree.0.range(behind).next().map(|(key, _)| *key)?;
        Some(Self { key, tree })
    }

    /// The node.
    pub fn current_mut(&mut self) -> (&K, &mut V) {
        (&self.key, self.tree.0.get_mut(&self.key).unwrap())
    }

    /// Takes the node out, and goes to the next one, or the one before if there is none.
    pub fn remove_current(self) -> (Option<Self>, RBTreeNode<K, V>) {
        let Self { key, tree } = self;
        let node = tree.remove_node(&key).unwrap();
        let next = tree.0.range(key..).next();
        let key = next.or_else(|| tree.0.range(..key).next_back());
        let key = key.map(|(key, _)| *key);
        (key.map(|key| Self { key, tree }), node)
    }
}

impl<K, V> Default for RBTree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, K: Ord, V> Cursor<'a, K, V> {
    /// The node.
    #[must_use]
    pub fn current(&self) -> (&'a K, &'a V) {
        self.current
    }

    /// The node after it.
    #[must_use]
    pub fn peek_next(&self) -> Option<(&'a K, &'a V)> {
        self.rest.clone().next()
    }
}
