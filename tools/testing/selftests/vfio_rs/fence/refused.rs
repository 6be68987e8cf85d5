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
    iommu::{
        Content,
        DeviceMapping,
        DeviceMemory,
        IoMapping,
        IoSpace,
        MixedMapping,
        Pieces,
        Prot,
        RangeEntry,
        RangePart,
        RangeSlot,
        Ranges,
        Unmapped, //
    },
    locked_vm::LockedVm,
    mapping::Mapping,
    pci::{
        BarRegion,
        BarWindow,
        BoundPci,
        PciDevice, //
    },
    pin::PinnedPages,
    ranges::{
        IovaClaim,
        IovaRange,
        Left, //
    },
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
    CharNode::register(class, Some((1, table.node_ops())), None, fmt!("name"), 1u8)
}

fn anon<T: FileOps>(
    table: Table<T, Anon>,
    data: Arc<T>,
    mapping: fn(&T) -> &Mapping,
) -> Result<ARef<File>> {
    anon_file::create(c"name", table, data, mapping)
}

fn claim<M>(ranges: &mut Ranges<M>, range: IovaRange) -> Result<IovaClaim> {
    let slot = RangeSlot::new()?;
    let free = ranges.free(range).ok_or(EEXIST)?;
    Ok(free.claim(slot))
}

fn map<M>(
    ranges: &mut Ranges<M>,
    claim: IovaClaim,
    (locked, pages, prot): (LockedVm, PinnedPages, Prot),
) {
    match IoMapping::new(claim, locked, pages, prot) {
        Ok(io) => ranges.put(Content::Pages(io)),
        Err((_, claim)) => ranges.end(claim),
    }
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

#[cfg(case = "an anonymous file's table for a character node")] // E0599
fn case<T: FileOps<Node = u8>>(
    class: &NodeClass,
    table: Table<T, Anon>,
) -> Result<NodeRegistration<u8>> {
    CharNode::register(class, Some((1, table.node_ops())), None, fmt!("name"), 1u8)
}

#[cfg(case = "a miscellaneous device's table for a character node")] // E0599
fn case<T: FileOps<Node = ()>>(
    class: &NodeClass,
    table: Table<T, Misc>,
) -> Result<NodeRegistration<()>> {
    CharNode::register(class, Some((1, table.node_ops())), None, fmt!("name"), ())
}

#[cfg(case = "the table of a node with other data")] // E0308
fn case<T: FileOps<Node = u8>>(
    class: &NodeClass,
    table: Table<T, Node>,
) -> Result<NodeRegistration<u16>> {
    CharNode::register(class, Some((1, table.node_ops())), None, fmt!("name"), 1u16)
}

#[cfg(case = "a character node's table for an anonymous file")] // E0277
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

// ---- I/O page tables that are changed by somebody who is not alone in the range

#[cfg(case = "a claim to another range")] // E0451
fn case(claim: IovaClaim, range: IovaRange) -> IovaClaim {
    IovaClaim { range, ..claim }
}

#[cfg(case = "a claim made again")] // E0624
fn case(claim: &IovaClaim) -> IovaClaim {
    IovaClaim::again(claim.space(), claim.range())
}

#[cfg(case = "a claim copied")] // E0277
fn case(claim: &IovaClaim) -> IovaClaim {
    IovaClaim::clone(claim)
}

#[cfg(case = "a claim used twice")] // E0382
fn case<M>(ranges: &mut Ranges<M>, claim: IovaClaim, pages: (LockedVm, PinnedPages, Prot)) {
    let (locked, pages, prot) = pages;
    let _mapping = IoMapping::new(claim, locked, pages, prot);
    ranges.end(claim);
}

#[cfg(case = "a mapping without a claim")] // E0308
fn case(range: IovaRange, locked: LockedVm, pages: PinnedPages) -> Result<IoMapping, Unmapped> {
    IoMapping::new(range, locked, pages, Prot::new(true, true))
}

#[cfg(case = "a second map of ranges for a space")] // E0624
fn case<M>(space: &Arc<IoSpace>) -> Ranges<M> {
    Ranges::new(space.id())
}

#[cfg(case = "a mapping taken out of its range, which stays")] // E0308
fn case<M>(ranges: &mut Ranges<M>, range: IovaRange, other: &mut IoMapping) {
    if let Some(RangeEntry::Pages(io)) = ranges.get(range) {
        core::mem::swap(io, other);
    }
}

#[cfg(case = "proof that something is gone from nowhere")] // E0624
fn case<M>(ranges: &mut Ranges<M>, claim: &IovaClaim) {
    ranges.left(Left::new(claim.space(), claim.range()));
}

#[cfg(case = "a part of a range from nowhere")] // E0451
fn case(range: IovaRange) -> RangePart {
    RangePart { owner: 1, range }
}

#[cfg(case = "memory of devices without the mapping that has the claim")] // E0624
fn case(space: &Arc<IoSpace>, pieces: Pieces) -> Result<Arc<DeviceMapping>> {
    DeviceMapping::new(space, pieces, None, Prot::new(true, true))
}

#[cfg(case = "a mixed mapping ended that is still used")] // E0382
fn case<M>(mixed: KBox<MixedMapping<M>>) -> Result {
    let _claim = MixedMapping::end(mixed);
    mixed.refill()
}

// ---- a device that may not be bound any more

#[cfg(case = "a device enabled by whoever knows it")] // E0599
fn case(dev: &PciDevice) -> Result {
    dev.enable()
}

#[cfg(case = "a BAR reserved by whoever knows the device")] // E0308
fn case(dev: &PciDevice) -> Result<BarRegion> {
    BarRegion::new(dev, 0)
}

#[cfg(case = "a device said to be bound")] // E0624
fn case(dev: &PciDevice) -> Result<BoundPci> {
    BoundPci::new(dev).map(|(bound, _)| bound)
}
