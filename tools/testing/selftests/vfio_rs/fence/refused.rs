// SPDX-License-Identifier: GPL-2.0

//! What the types of `vfio_kernel` have to refuse to safe code. scripts/fence compiles this as it
//! is, which must succeed, and once with each `case`, which must end in the error that is named
//! beside it.
//!
//! A case that compiles is a hole in the fence: safe code that the kernel does not survive.

#![forbid(unsafe_code)]
#![allow(dead_code, missing_docs)]

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use vfio_kernel::{
    anon_file::{
        self,
        Anon, //
    },
    chardev::{
        CharNode,
        Misc,
        MiscNode,
        Node,
        NodeClass,
        NodeRegistration, //
    },
    fops::{
        FileOps,
        FileOpsTable, //
    },
    iommu::DeviceMemory,
    mapping::Mapping,
    pci::BarWindow,
};

type Table<T, K> = &'static FileOpsTable<T, K>;

// ---- what is right

fn misc<T: FileOps<Node = ()>>(table: Table<T, Misc>) -> Result<MiscNode> {
    MiscNode::register(1, c"name", c"name", 0, table)
}

fn node<T: FileOps<Node = u8>>(
    class: &NodeClass,
    table: Table<T, Node>,
) -> Result<NodeRegistration<u8>> {
    CharNode::register(class, 1, fmt!("name"), table, 1u8)
}

fn anon<T: FileOps>(
    table: Table<T, Anon>,
    data: Arc<T>,
    mapping: fn(&T) -> &Mapping,
) -> Result<ARef<File>> {
    anon_file::create(c"name", table, data, mapping)
}

// ---- tables for one kind of files given to another, whose private data is something else

#[cfg(case = "an anonymous file's table for a miscellaneous device")] // E0308
fn case<T: FileOps<Node = ()>>(table: Table<T, Anon>) -> Result<MiscNode> {
    MiscNode::register(1, c"name", c"name", 0, table)
}

#[cfg(case = "a character node's table for a miscellaneous device")] // E0308
fn case<T: FileOps<Node = ()>>(table: Table<T, Node>) -> Result<MiscNode> {
    MiscNode::register(1, c"name", c"name", 0, table)
}

#[cfg(case = "an anonymous file's table for a character node")] // E0308
fn case<T: FileOps<Node = u8>>(
    class: &NodeClass,
    table: Table<T, Anon>,
) -> Result<NodeRegistration<u8>> {
    CharNode::register(class, 1, fmt!("name"), table, 1u8)
}

#[cfg(case = "a miscellaneous device's table for a character node")] // E0308
fn case<T: FileOps<Node = ()>>(
    class: &NodeClass,
    table: Table<T, Misc>,
) -> Result<NodeRegistration<()>> {
    CharNode::register(class, 1, fmt!("name"), table, ())
}

#[cfg(case = "the table of a node with other data")] // E0271
fn case<T: FileOps<Node = u8>>(
    class: &NodeClass,
    table: Table<T, Node>,
) -> Result<NodeRegistration<u16>> {
    CharNode::register(class, 1, fmt!("name"), table, 1u16)
}

#[cfg(case = "a character node's table for an anonymous file")] // E0308
fn case<T: FileOps>(
    table: Table<T, Node>,
    data: Arc<T>,
    mapping: fn(&T) -> &Mapping,
) -> Result<ARef<File>> {
    anon_file::create(c"name", table, data, mapping)
}

#[cfg(case = "another type's table for an anonymous file")] // E0308
fn case<T: FileOps, U: FileOps>(
    table: Table<U, Anon>,
    data: Arc<T>,
    mapping: fn(&T) -> &Mapping,
) -> Result<ARef<File>> {
    anon_file::create(c"name", table, data, mapping)
}

// ---- addresses that nobody has checked

#[cfg(case = "any physical memory as a device's")] // E0624
fn case() -> DeviceMemory {
    DeviceMemory::new(0x1000, 0x1000)
}

#[cfg(case = "any physical memory as a BAR")] // E0451
fn case() -> BarWindow {
    BarWindow {
        start: 0x1000,
        len: 0x1000,
    }
}
