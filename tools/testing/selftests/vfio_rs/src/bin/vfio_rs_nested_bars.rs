// SPDX-License-Identifier: GPL-2.0
//! Guest memory that is a BAR of another device: mapped as what it is, as long as the device's
//! memory answers.
//!
//! edu copies to the multicast table of an igb or e1000e, which holds what is written to it.

use vfio_client::config::COMMAND_MEMORY;
use vfio_client::counters::locked_kib;
use vfio_client::nested::*;
use vfio_client::region::{Mapping, Region};
use vfio_client::uapi::VFIO_PCI_BAR0_REGION_INDEX;
use vfio_client::{Device, Edu, Group};
use vfio_rs_selftests::nested::{FREE, MEMORY, Nested, RW};
use vfio_rs_selftests::setup::{E1000E, IGB, PAGE};
use vfio_rs_selftests::{Outcome, Result, ensure, same, skip, suite, translation};

/// Where the guest maps the BAR, and memory.
const AT: u64 = 0x80_0000;
const PROBE: u64 = 0x20_0000;
/// Where plain memory is in BAR 0 of either network card.
const TABLE: u64 = 0x5200;
const LEN: usize = 64;

/// A guest whose memory ends in a BAR.
struct WithBar {
    nested: Nested,
    owner: Device,
    _group: Group,
    bar: Region,
    map: Mapping,
}

impl WithBar {
    fn new() -> Result<Self> {
        let mut nested = Nested::new()?;
        let kind = [IGB, E1000E].into_iter().find(|kind| kind.find().is_ok());
        let Some(kind) = kind else {
            skip!("no device with plain memory in a BAR")
        };
        let bound = kind.bind()?;
        let group = bound.open_group()?;
        group.set_container(&nested.container)?;
        let owner = group.device(&bound.pci.address)?;
        owner.config()?.update_command(0, COMMAND_MEMORY)?;
        let bar = owner.region(VFIO_PCI_BAR0_REGION_INDEX)?;
        ensure!(bar.can_mmap(), "BAR 0 cannot be mapped");
        let map = owner.mmap(&bar, 0, bar.size as usize)?;
        nested
            .guest
            .vm
            .set_slot(1, 0, MEMORY, map.addr(), bar.size)?;
        nested.guest.map(PROBE, FREE | RW);
        Ok(Self {
            nested,
            owner,
            _group: group,
            bar,
            map,
        })
    }

    /// Bytes of the BAR that edu reaches from `iova` on.
    fn reached(&self, what: &str, iova: u64, want: u64) -> Outcome {
        if !translation::is_shown(&self.nested.bound.pci) {
            return Ok(());
        }
        let got = translation::reachable(&self.nested.bound.pci, iova, self.bar.size)?;
        same(what, got, want)
    }

    /// Has edu write to the BAR at `iova`.
    fn copies(&self, iova: u64, byte: u8) -> Outcome {
        let edu = Edu::new(&self.nested.device)?;
        self.nested.guest.memory.put(FREE as usize, &[byte; LEN]);
        edu.fetch(PROBE, LEN)?;
        edu.store(iova + TABLE, LEN)?;
        let mut got = [0; LEN];
        self.owner.read(&self.bar, TABLE, &mut got)?;
        ensure!(got == [byte; LEN], "the BAR holds {:x?}", &got[..8]);
        Ok(())
    }

    /// The device's memory stops answering, and begins again.
    fn comes_and_goes(&self, iova: u64) -> Outcome {
        let size = self.bar.size;
        let config = self.owner.config()?;
        config.update_command(COMMAND_MEMORY, 0)?;
        self.reached("memory off", iova, 0)?;
        config.update_command(0, COMMAND_MEMORY)?;
        self.reached("memory on", iova, size)?;
        self.owner.reset()?;
        config.update_command(0, COMMAND_MEMORY)?;
        self.reached("after a reset", iova, size)?;
        self.copies(iova, 0x31)
    }
}

fn by_a_table() -> Outcome {
    let mut all = WithBar::new()?;
    let size = all.bar.size;
    for offset in (0..size).step_by(PAGE as usize) {
        all.nested.guest.map(AT + offset, (MEMORY + offset) | RW);
    }
    let id = all.nested.bind()?;
    same("locked", locked_kib()?, 4)?;
    all.reached("bound", AT, size)?;
    all.copies(AT, 0x11)?;
    all.comes_and_goes(AT)?;
    // One entry less, and the others stay.
    all.nested.guest.map(AT, 0);
    let found = all.nested.container.invalidate(id, AT, 4 * PAGE)?;
    same("mapped", found.mapped, 3 * PAGE)?;
    all.reached("one less", AT, size - PAGE)?;
    all.copies(AT, 0x12)?;
    // While it does not answer an entry is bad, and no more than that.
    let config = all.owner.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    all.nested.guest.map(AT, MEMORY | RW);
    let found = all.nested.container.invalidate(id, AT, PAGE)?;
    same("reason", u32::from(found.fault_reason), VFIO_KVM_FAULT_PIN)?;
    config.update_command(0, COMMAND_MEMORY)?;
    all.reached("the others are back", AT, size - PAGE)?;
    all.nested.container.invalidate(id, AT, PAGE)?;
    all.reached("so is it", AT, size)?;
    // The device is closed.
    let WithBar {
        nested, owner, map, ..
    } = all;
    drop((owner, map));
    if translation::is_shown(&nested.bound.pci) {
        same(
            "closed",
            translation::reachable(&nested.bound.pci, AT, size)?,
            0,
        )?;
    }
    let found = nested.container.invalidate_all(id)?;
    same("mapped then", found.mapped, PAGE)?;
    nested.reaches(PROBE, FREE, true)
}

fn by_slots() -> Outcome {
    let all = WithBar::new()?;
    let table = Table {
        flags: VFIO_KVM_BIND_IDENTITY,
        format: 0,
        root: 0,
        window: (MEMORY, MEMORY + (16 << 20) - 1),
        gpa_bits: 0,
    };
    let (id, found) = all.nested.container.bind_table(&table)?;
    same("mapped", found.mapped, all.bar.size)?;
    same("locked", locked_kib()?, 0)?;
    let window = (0, MEMORY - 1);
    let memory = Table {
        window,
        ..all.nested.guest.table()
    };
    all.nested.container.bind_table(&memory)?;
    all.copies(MEMORY, 0x21)?;
    all.comes_and_goes(MEMORY)?;
    all.nested.container.invalidate_all(id)?;
    all.nested.container.invalidate(id, MEMORY + PAGE, PAGE)?;
    all.reached("invalidated", MEMORY, all.bar.size)?;
    all.nested.container.unbind_table(id)?;
    all.reached("unbound", MEMORY, 0)
}

suite!(
    iommus: All, debug: Lifetimes;
    by_a_table,
    by_slots,
);
