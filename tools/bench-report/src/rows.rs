// SPDX-License-Identifier: GPL-2.0
//! The rows of the table: what each is called, and what is wanted of it.

/// What is wanted of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// At most this.
    Max(f64),
    /// At least this.
    Min(f64),
    /// At most this part of what C needs.
    OfC(f64),
    /// At most what ours needs for another row.
    OfRow(&'static str),
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Its name in the JSON.
    pub name: &'static str,
    /// What the user reads.
    pub title: &'static str,
    /// What is wanted.
    pub target: Target,
}

const fn row(name: &'static str, title: &'static str, target: Target) -> Row {
    Row {
        name,
        title,
        target,
    }
}

/// The row that is measured by time and not by instructions.
pub(crate) const THREADS: &str = "two_threads";

/// Rows that say what memory bookkeeping takes, which depends on what else the machine does.
pub(crate) const MEMORY: [&str; 2] = ["bytes_per_run", "bytes_per_mapping"];

/// Rows that come with the scaling curve.
pub(crate) const OF_SCALING: [&str; 2] = ["unmap_many", MEMORY[1]];

/// All rows, in order.
pub(crate) const ROWS: &[Row] = &[
    row(
        "map_small",
        "map 256 MiB, small pages, per page",
        Target::Max(205.0),
    ),
    row("unmap_small", "unmap it, per page", Target::Max(85.0)),
    row(
        "map_scattered",
        "map 256 MiB, scattered pages, per page",
        Target::Max(905.0),
    ),
    row("unmap_scattered", "unmap it, per page", Target::Max(130.0)),
    row(
        "map_huge",
        "map 256 MiB, transparent huge pages, per 4 KiB",
        Target::Max(6.0),
    ),
    row("unmap_huge", "unmap it, per 4 KiB", Target::Max(1.0)),
    row("map_page", "map one page", Target::Max(2250.0)),
    row("unmap_page", "unmap one page", Target::Max(2450.0)),
    row(
        "type2_map_small",
        "type2: map 256 MiB, small pages, per page",
        Target::OfRow("map_small"),
    ),
    row(
        "type2_unmap_small",
        "unmap it, per page",
        Target::OfRow("unmap_small"),
    ),
    row(
        "type2_map_huge",
        "type2: map 256 MiB, huge pages, per 4 KiB",
        Target::OfRow("map_huge"),
    ),
    row(
        "type2_unmap_huge",
        "unmap it, per 4 KiB",
        Target::OfRow("unmap_huge"),
    ),
    row("type2_map_page", "type2: map one page", Target::Max(2900.0)),
    row(
        "type2_unmap_page",
        "type2: unmap one page",
        Target::Max(2900.0),
    ),
    row("map_bar", "map an own BAR of 16 MiB", Target::OfC(1.0)),
    row("unmap_bar", "unmap it", Target::OfC(1.0)),
    row(
        "map_bar_touched",
        "the same, accessed before",
        Target::OfC(1.0),
    ),
    row("unmap_bar_touched", "unmap it", Target::OfC(1.0)),
    row(
        "map_bar_small",
        "map an own BAR of 1 MiB, accessed before",
        Target::OfC(1.0),
    ),
    row("unmap_bar_small", "unmap it", Target::OfC(1.0)),
    row(
        "map_page_many",
        "map one page beside 16384",
        Target::Max(2750.0),
    ),
    row("unmap_page_many", "unmap it", Target::Max(2700.0)),
    row(
        "unmap_adjacent",
        "unmap 16384 adjacent one-page mappings, each",
        Target::Max(650.0),
    ),
    row(
        "close_many",
        "close a container with 16384 mappings, each",
        Target::Max(450.0),
    ),
    row(
        "dirty_large",
        "dirty bitmap of a mapping of 256 MiB",
        Target::Max(9766.0),
    ),
    row(
        "dirty_small",
        "dirty bitmap, per one-page mapping",
        Target::Max(120.0),
    ),
    row("join", "a group joins a container", Target::Max(13000.0)),
    row(
        "join_many",
        "the same, with 16384 mappings",
        Target::Max(13000.0),
    ),
    row(
        "config_read",
        "read 4 bytes of configuration space",
        Target::OfC(1.0),
    ),
    row(
        "config_write",
        "write 1 byte of it, the user's own",
        Target::OfC(1.0),
    ),
    row(
        "config_command",
        "write the command register",
        Target::OfC(1.0),
    ),
    row(
        "config_bar",
        "size a BAR: write, read, write",
        Target::OfC(1.0),
    ),
    row(
        "memory_off_on",
        "switch memory off and on, a BAR mapped",
        Target::OfC(1.02),
    ),
    row("info_device", "GET_INFO of the device", Target::OfC(1.02)),
    row("info_region", "GET_REGION_INFO", Target::OfC(1.02)),
    row("info_irq", "GET_IRQ_INFO", Target::OfC(1.02)),
    row("info_iommu", "IOMMU_GET_INFO", Target::OfC(1.02)),
    row(
        "reset_none",
        "RESET of a device that has none",
        Target::OfC(1.02),
    ),
    row("bar_read", "read 4 bytes of a BAR", Target::OfC(1.0)),
    row("bar_read_page", "read 4 KiB of a BAR", Target::OfC(1.02)),
    row(
        "msi_trigger",
        "trigger an MSI's eventfd, read it",
        Target::OfC(1.0),
    ),
    row(
        "intx",
        "interrupt by the pin, read, acknowledge, unmask",
        Target::OfC(1.02),
    ),
    row(
        "bar_mmap",
        "mmap a BAR of 1 MiB, touch, munmap",
        Target::OfC(1.02),
    ),
    row(
        "open",
        "open container, group and device to ready",
        Target::OfC(1.0),
    ),
    row("close", "close them", Target::OfC(1.0)),
    row("msi_on_off", "MSI on and off", Target::OfC(1.0)),
    row(THREADS, "two threads, speed over one", Target::Min(1.75)),
    row(
        OF_SCALING[0],
        "unmap a million one-page mappings by one call, each",
        Target::OfC(1.0),
    ),
    row(
        MEMORY[0],
        "bytes of bookkeeping per scattered page",
        Target::Max(16.0),
    ),
    row(
        MEMORY[1],
        "bytes of bookkeeping per one-page mapping",
        Target::OfC(1.0),
    ),
];
