// SPDX-License-Identifier: GPL-2.0
//! BARs mapped for another device's DMA: peer-to-peer.
//!
//! edu copies from and to the multicast table of an igb or e1000e, which holds what is written to
//! it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, setresuid};
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::{Mapping, Region};
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, Edu, Group, counters};
use vfio_rs_selftests::absent::Call;
use vfio_rs_selftests::reset::reset_by_sysfs;
use vfio_rs_selftests::setup::{Bound, E1000E, IGB, IOVA, Opened, PAGE, is_rust_stack, open_edu};
use vfio_rs_selftests::{
    Context, Outcome, Result, ensure, errno, joined, same, skip, suite, translation,
};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
/// Where 512 bytes of plain memory are in BAR 0 of either network card.
const TABLE: u64 = 0x5200;
const TABLE_LEN: usize = 512;
/// Where the memory is mapped that edu's buffer is loaded from and read back to.
const PROBE: u64 = 0x800_0000;

/// An edu, and the device whose BAR it shall reach, in one container.
struct Pair {
    edu: Opened,
    owner: Device,
    _group: Group,
    bound: Bound,
    bar: Region,
}

fn pair() -> Result<Pair> {
    let edu = open_edu()?;
    let kind = [IGB, E1000E].into_iter().find(|kind| kind.find().is_ok());
    let Some(kind) = kind else {
        skip!("no device with plain memory in a BAR")
    };
    let bound = kind.bind()?;
    let group = bound.open_group()?;
    group.set_container(&edu.container)?;
    let owner = group.device(&bound.pci.address)?;
    owner.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = owner.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    ensure!(bar.can_mmap(), "BAR 0 cannot be mapped");
    Ok(Pair {
        edu,
        owner,
        _group: group,
        bound,
        bar,
    })
}

impl Pair {
    fn mmap(&self) -> Result<Mapping> {
        Ok(self.owner.mmap(&self.bar, 0, self.bar.size as usize)?)
    }

    /// Maps all of the BAR at [`IOVA`].
    fn map(&self) -> Result<Mapping> {
        let user = self.mmap()?;
        self.map_dma(user.addr(), IOVA, self.bar.size)
            .context("MAP_DMA of the BAR")?;
        Ok(user)
    }

    fn map_dma(&self, vaddr: u64, iova: u64, size: u64) -> std::io::Result<()> {
        self.edu.container.map(RW, vaddr, iova, size)
    }

    fn memory(&self, on: bool) -> Outcome {
        let config = self.owner.config()?;
        match on {
            true => config.update_command(0, COMMAND_MEMORY)?,
            false => config.update_command(COMMAND_MEMORY, 0)?,
        }
        Ok(())
    }

    /// Has edu write `seed`'s pattern to the table at `iova`, and reads it by all ways there are.
    fn copies(&self, iova: u64, seed: u8) -> Outcome {
        let edu = Edu::new(&self.edu.device)?;
        let probe = self.edu.map_new(PROBE, 1)?;
        probe.fill_pattern(seed);
        let want = probe.copy(0, TABLE_LEN);
        edu.fetch(PROBE, TABLE_LEN)?;
        edu.store(iova, TABLE_LEN)?;
        let mut got = vec![0; TABLE_LEN];
        let read = self.owner.read(&self.bar, TABLE, &mut got)?;
        same("bytes read", read, TABLE_LEN)?;
        ensure!(got == want, "the BAR holds {:x?}", &got[..8]);
        // And back: out of the BAR into edu, into memory.
        probe.fill(0);
        edu.fetch(iova, TABLE_LEN)?;
        edu.store(PROBE, TABLE_LEN)?;
        ensure!(probe.copy(0, TABLE_LEN) == want, "edu read something else");
        self.edu.container.unmap(PROBE, PAGE)?;
        Ok(())
    }

    /// How much of the BAR edu reaches, by the IOMMU's word; all that is expected where it tells
    /// nothing.
    fn reached(&self, expected: u64) -> Result<u64> {
        if !translation::is_shown(&self.edu.bound.pci) {
            return Ok(expected);
        }
        translation::reachable(&self.edu.bound.pci, IOVA, self.bar.size)
    }

    fn is_reached(&self, what: &str, yes: bool) -> Outcome {
        let expected = if yes { self.bar.size } else { 0 };
        same(what, self.reached(expected)?, expected)
    }
}

fn copies_to_and_from_a_bar() -> Outcome {
    let pair = pair()?;
    let user = pair.map()?;
    pair.is_reached("mapped", true)?;
    pair.copies(IOVA + TABLE, 3)?;
    same("word 1", user.read32(TABLE as usize + 4), {
        let byte = |i| u32::from(vfio_client::dma::pattern(3, i)) << ((i - 4) * 8);
        byte(4) | byte(5) | byte(6) | byte(7)
    })?;
    // The user's own map is not needed for it.
    drop(user);
    pair.copies(IOVA + TABLE, 4)?;
    same(
        "unmapped",
        pair.edu.container.unmap(IOVA, pair.bar.size)?,
        pair.bar.size,
    )?;
    pair.is_reached("unmapped", false)
}

fn touched_before_and_in_pieces() -> Outcome {
    let pair = pair()?;
    let user = pair.mmap()?;
    let pages = pair.bar.size / PAGE;
    for page in 0..pages {
        let _ = user.read32((page * PAGE) as usize);
    }
    // Each page at the place of another.
    for page in 0..pages {
        let iova = IOVA + (pages - 1 - page) * PAGE;
        pair.map_dma(user.addr() + page * PAGE, iova, PAGE)?;
    }
    let table = IOVA + (pages - 1 - TABLE / PAGE) * PAGE + TABLE % PAGE;
    pair.copies(table, 5)?;
    same("all", pair.edu.container.unmap_all()?, pair.bar.size)
}

fn not_counted_as_locked() -> Outcome {
    let pair = pair()?;
    let before = counters::locked_kib()?;
    let _user = pair.map()?;
    same("locked", counters::locked_kib()?, before)?;
    same(
        "available",
        pair.edu.container.iommu_info()?.dma_avail,
        Some(65534),
    )?;
    Ok(())
}

fn beyond_the_memlock_limit() -> Outcome {
    let pair = pair()?;
    let user = pair.mmap()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0)?;
    // All that is needed is open; what goes is CAP_IPC_LOCK.
    let nobody = Uid::from_raw(65534);
    setresuid(nobody, nobody, nobody)?;
    let page = pair.map_dma(buf.addr(), PROBE, PAGE);
    errno("a page of memory", page, Errno::ENOMEM)?;
    pair.map_dma(user.addr(), IOVA, pair.bar.size)
        .context("a BAR with nothing to lock")
}

fn protection_of_the_area() -> Outcome {
    let pair = pair()?;
    let len = pair.bar.size as usize;
    let user = pair.owner.mmap_prot(
        &pair.bar,
        0,
        len,
        ProtFlags::PROT_READ,
        MapFlags::MAP_SHARED,
    )?;
    let map = |flags| pair.edu.container.map(flags, user.addr(), IOVA, PAGE);
    for flags in [RW, VFIO_DMA_MAP_FLAG_WRITE] {
        errno(&format!("flags {flags}"), map(flags), Errno::EFAULT)?;
    }
    map(VFIO_DMA_MAP_FLAG_READ).context("for reading")
}

fn area_ends_before_the_range() -> Outcome {
    let pair = pair()?;
    // A page of the BAR, and one that nobody may touch.
    let buf = DmaBuf::with_flags(
        2 * PAGE as usize,
        ProtFlags::PROT_NONE,
        MapFlags::MAP_PRIVATE,
    )?;
    pair.owner.mmap_over(&pair.bar, 0, PAGE as usize, &buf, 0)?;
    let before = pair.edu.container.iommu_info()?;
    let result = pair.map_dma(buf.addr(), IOVA, 2 * PAGE);
    errno("a range with a hole", result, Errno::EFAULT)?;
    same("info", pair.edu.container.iommu_info()?, before)?;
    pair.is_reached("after a failure", false)
}

fn memory_and_bar_in_one_mapping() -> Outcome {
    let pair = pair()?;
    let bar = pair.bar.size as usize;
    let page = PAGE as usize;
    // Two pages of memory, the BAR, a page of memory, the first pages of the BAR again.
    let buf = DmaBuf::new(3 * page + bar + 8 * page)?;
    pair.owner.mmap_over(&pair.bar, 0, bar, &buf, 2 * page)?;
    pair.owner
        .mmap_over(&pair.bar, 0, 8 * page, &buf, 3 * page + bar)?;
    let before = counters::locked_kib()?;
    pair.map_dma(buf.addr(), IOVA, buf.len() as u64)?;
    same("locked", counters::locked_kib()? - before, 3 * 4)?;
    pair.copies(IOVA + 2 * PAGE + TABLE, 7)?;
    pair.copies(IOVA + 3 * PAGE + bar as u64 + TABLE, 8)?;
    let edu = Edu::new(&pair.edu.device)?;
    for at in [page, 2 * page + bar] {
        buf.put(at, &[0x5a; 64]);
        edu.fetch(IOVA + at as u64, 64)?;
        edu.store(IOVA, 64)?;
        ensure!(buf.is_filled(0, 64, 0x5a), "memory at {at:#x} not reached");
        buf.put(0, &[0; 64]);
    }
    let end = IOVA + buf.len() as u64;
    errno(
        "a cut",
        pair.edu.container.unmap(IOVA, 2 * PAGE),
        Errno::EINVAL,
    )?;
    same(
        "unmapped",
        pair.edu.container.unmap(IOVA, end - IOVA)?,
        end - IOVA,
    )?;
    same("locked then", counters::locked_kib()?, before)
}

fn memory_disabled_at_map() -> Outcome {
    let pair = pair()?;
    let user = pair.mmap()?;
    pair.memory(false)?;
    let result = pair.map_dma(user.addr(), IOVA, pair.bar.size);
    errno("of disabled memory", result, Errno::EFAULT)?;
    pair.memory(true)?;
    pair.map_dma(user.addr(), IOVA, pair.bar.size)?;
    pair.copies(IOVA + TABLE, 9)
}

fn comes_and_goes_with_memory() -> Outcome {
    let pair = pair()?;
    let _user = pair.map()?;
    let edu = Edu::new(&pair.edu.device)?;
    for round in 0..2 {
        pair.copies(IOVA + TABLE, 10 + round)?;
        pair.memory(false)?;
        if is_rust_stack() {
            // Linux's own stack leaves it mapped.
            pair.is_reached("disabled", false)?;
        }
        // The mapping keeps its place, and its DMA harms nobody.
        let result = pair.map_dma(_user.addr(), IOVA, PAGE);
        errno("another there", result, Errno::EEXIST)?;
        edu.store(IOVA + TABLE, 64)?;
        pair.memory(true)?;
        pair.is_reached("enabled", true)?;
        let kept = vfio_client::dma::pattern(10 + round, 0);
        let word = pair.owner.read32(&pair.bar, TABLE)?;
        same("kept", word.to_le_bytes()[0], kept)?;
    }
    Ok(())
}

fn switched_while_mapped_and_unmapped() -> Outcome {
    let pair = pair()?;
    let user = pair.mmap()?;
    let rounds = 100;
    std::thread::scope(|scope| -> Outcome {
        let switch = scope.spawn(|| -> Outcome {
            for _ in 0..rounds {
                pair.memory(false)?;
                pair.memory(true)?;
            }
            Ok(())
        });
        let mut mapped = 0;
        for _ in 0..rounds {
            match pair.map_dma(user.addr(), IOVA, pair.bar.size) {
                Ok(()) => mapped += 1,
                Err(err) if err.raw_os_error() == Some(Errno::EFAULT as i32) => continue,
                Err(err) => return Err(err.into()),
            }
            same("unmapped", pair.edu.container.unmap_all()?, pair.bar.size)?;
        }
        joined(switch)??;
        println!("# mapped {mapped} of {rounds} times");
        Ok(())
    })?;
    pair.is_reached("unmapped", false)?;
    pair.map_dma(user.addr(), IOVA, pair.bar.size)?;
    pair.copies(IOVA + TABLE, 15)
}

fn comes_back_after_reset() -> Outcome {
    let pair = pair()?;
    if !pair.owner.can_reset()? {
        skip!("the device has no reset");
    }
    let _user = pair.map()?;
    pair.copies(IOVA + TABLE, 20)?;
    pair.owner.reset()?;
    pair.memory(true)?;
    pair.is_reached("after the reset", true)?;
    pair.copies(IOVA + TABLE, 21)
}

/// A map that comes while the device is being reset waits for the end of that.
fn mapped_during_resets() -> Outcome {
    let pair = pair()?;
    if !pair.owner.can_reset()? {
        skip!("the device has no reset");
    }
    let user = pair.mmap()?;
    let done = AtomicBool::new(false);
    let mapped = std::thread::scope(|scope| -> Result<u32> {
        let resetter = scope.spawn(|| {
            let resets = (0..4).try_for_each(|_| pair.owner.reset());
            done.store(true, Relaxed);
            resets
        });
        let mut mapped = 0;
        while !done.load(Relaxed) {
            pair.map_dma(user.addr(), IOVA, pair.bar.size)
                .context("a map during a reset")?;
            same("unmapped", pair.edu.container.unmap_all()?, pair.bar.size)?;
            mapped += 1;
        }
        joined(resetter)??;
        Ok(mapped)
    })?;
    ensure!(mapped != 0, "no map was made");
    println!("# mapped {mapped} times");
    Ok(())
}

/// An administrator resets the owner. Its user, who wants to, waits for the end of that, and brings
/// nothing back before.
fn stays_away_during_a_reset() -> Outcome {
    // The kernel sleeps so long when a function resets itself.
    const RESET: Duration = Duration::from_millis(100);

    let pair = pair()?;
    let pci = &pair.bound.pci;
    if !is_rust_stack() {
        skip!("C leaves it mapped during a reset");
    }
    let methods = std::fs::read_to_string(pci.path().join("reset_method"))?;
    if !methods.starts_with("flr") || !translation::is_shown(&pair.edu.bound.pci) {
        skip!("no reset that takes its time, or no look at the page table");
    }
    let _user = pair.map()?;
    for _ in 0..20 {
        let (left, in_time) = std::thread::scope(|threads| -> Result<_> {
            let begun = Instant::now();
            let reset = threads.spawn(|| reset_by_sysfs(pci));
            while pair.reached(0)? != 0 && begun.elapsed() < RESET {}
            let another = Call::begin(threads, || Ok(pair.owner.reset()))?;
            while !another.sleeps().unwrap_or(true) && begun.elapsed() < RESET {}
            let left = pair.reached(0)?;
            let in_time = begun.elapsed() < RESET;
            joined(reset)??;
            // It may find the device locked still.
            if let Err(err) = another.end()? {
                errno("the user's reset", Err::<(), _>(err), Errno::EAGAIN)?;
            }
            Ok((left, in_time))
        })?;
        if in_time {
            same("reached during the reset", left, 0)?;
            return pair.is_reached("after the reset", true);
        }
    }
    skip!("too slow for a look in time");
}

fn cut_off_when_the_owner_closes() -> Outcome {
    let pair = pair()?;
    drop(pair.map()?);
    pair.copies(IOVA + TABLE, 30)?;
    let Pair {
        edu,
        owner,
        _group: group,
        bound,
        bar,
    } = pair;
    drop(owner);
    if is_rust_stack() && translation::is_shown(&edu.bound.pci) {
        let left = translation::reachable(&edu.bound.pci, IOVA, bar.size)?;
        same("reachable after the close", left, 0)?;
        // Whoever opens it next has nothing to do with the old map.
        let again = group.device(&bound.pci.address)?;
        again.config()?.update_command(0, COMMAND_MEMORY)?;
        let left = translation::reachable(&edu.bound.pci, IOVA, bar.size)?;
        same("reachable after the next open", left, 0)?;
    }
    Edu::new(&edu.device)?.store(IOVA + TABLE, 64)?;
    drop(group);
    same("unmapped", edu.container.unmap(IOVA, bar.size)?, bar.size)
}

fn joined_later() -> Outcome {
    // The BAR is mapped while its owner's group is alone; then edu joins.
    let owner = match [IGB, E1000E].into_iter().find(|kind| kind.find().is_ok()) {
        Some(kind) => kind.open()?,
        None => skip!("no device with plain memory in a BAR"),
    };
    owner.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = owner.device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let user = owner.device.mmap(&bar, 0, bar.size as usize)?;
    owner.container.map(RW, user.addr(), IOVA, bar.size)?;
    let probe = owner.map_new(PROBE, 1)?;
    probe.fill_pattern(40);
    let bound = vfio_rs_selftests::setup::EDU.bind()?;
    let group = bound.open_group()?;
    group.set_container(&owner.container)?;
    let device = group.device(&bound.pci.address)?;
    let edu = Edu::new(&device)?;
    edu.fetch(PROBE, TABLE_LEN)?;
    edu.store(IOVA + TABLE, TABLE_LEN)?;
    let mut got = vec![0; TABLE_LEN];
    owner.device.read(&bar, TABLE, &mut got)?;
    ensure!(
        got == probe.copy(0, TABLE_LEN),
        "the BAR holds {:x?}",
        &got[..8]
    );
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    copies_to_and_from_a_bar,
    touched_before_and_in_pieces,
    not_counted_as_locked,
    beyond_the_memlock_limit,
    protection_of_the_area,
    area_ends_before_the_range,
    memory_and_bar_in_one_mapping,
    memory_disabled_at_map,
    comes_and_goes_with_memory,
    switched_while_mapped_and_unmapped,
    comes_back_after_reset,
    mapped_during_resets,
    stays_away_during_a_reset,
    cut_off_when_the_owner_closes,
    joined_later,
);
