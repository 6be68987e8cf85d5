// SPDX-License-Identifier: GPL-2.0
//! What the IOMMU must stop: DMA outside mappings, against their direction, and after they are
//! gone.
//!
//! edu shows no errors: a refused copy ends like any other, so the tests look at the data.

use vfio_client::uapi::*;
use vfio_client::{DmaBuf, Edu};
use vfio_rs_selftests::setup::{IOVA, Opened, PAGE, open_edu};
use vfio_rs_selftests::{Outcome, Result, ensure, same, suite};

const PAGE_LEN: usize = PAGE as usize;
/// An address that is never mapped here.
const NOWHERE: u64 = 0x400_0000;
/// Where `probe` puts what edu's buffer holds.
const PROBE: u64 = 0x800_0000;

/// What edu's buffer holds now.
fn buffer_of(opened: &Opened, edu: &Edu<'_>, len: usize) -> Result<Vec<u8>> {
    let probe = opened.map_new(PROBE, 1)?;
    probe.fill(0x5a);
    edu.store(PROBE, len)?;
    let data = probe.copy(0, len);
    opened.container.unmap(PROBE, PAGE)?;
    Ok(data)
}

/// Loads edu's buffer with `byte`.
fn load(opened: &Opened, edu: &Edu<'_>, byte: u8) -> Outcome {
    let source = opened.map_new(PROBE, 1)?;
    source.fill(byte);
    edu.fetch(PROBE, PAGE_LEN)?;
    opened.container.unmap(PROBE, PAGE)?;
    Ok(())
}

fn write_to_nowhere() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 3)?;
    buf.fill(0x33);
    load(&opened, &edu, 0x44)?;
    for iova in [0, NOWHERE, IOVA - PAGE, IOVA + 3 * PAGE, 0xfff_f000] {
        edu.store(iova, PAGE_LEN)?;
        ensure!(
            buf.is_filled(0, 3 * PAGE_LEN, 0x33),
            "a write to {iova:#x} changed mapped memory"
        );
    }
    // The device works on.
    load(&opened, &edu, 0x44)?;
    edu.store(IOVA + PAGE, PAGE_LEN)?;
    ensure!(
        buf.is_filled(PAGE_LEN, PAGE_LEN, 0x44),
        "a good write no longer arrives"
    );
    Ok(())
}

fn read_from_nowhere() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let secret = DmaBuf::new(PAGE_LEN)?;
    secret.fill(0x99);
    load(&opened, &edu, 0x11)?;
    // The number of a page in this process is no I/O address.
    edu.fetch(secret.addr() & vfio_client::edu::DMA_MASK, 64)?;
    let got = buffer_of(&opened, &edu, 64)?;
    ensure!(
        !got.contains(&0x99),
        "the device read memory that is not mapped"
    );
    Ok(())
}

fn read_only_mapping() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = DmaBuf::new(PAGE_LEN)?;
    buf.fill(0x21);
    opened
        .container
        .map(VFIO_DMA_MAP_FLAG_READ, buf.addr(), IOVA, PAGE)?;
    edu.fetch(IOVA, 64)?;
    same("read", buffer_of(&opened, &edu, 64)?, vec![0x21; 64])?;
    load(&opened, &edu, 0x66)?;
    edu.store(IOVA, 64)?;
    ensure!(
        buf.is_filled(0, PAGE_LEN, 0x21),
        "written in spite of a read-only mapping"
    );
    Ok(())
}

fn write_only_mapping() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = DmaBuf::new(PAGE_LEN)?;
    load(&opened, &edu, 0x12)?;
    opened
        .container
        .map(VFIO_DMA_MAP_FLAG_WRITE, buf.addr(), IOVA, PAGE)?;
    edu.store(IOVA, 64)?;
    same("written", buf.copy(0, 64), vec![0x12; 64])?;
    buf.fill(0x77);
    edu.fetch(IOVA, 64)?;
    let got = buffer_of(&opened, &edu, 64)?;
    ensure!(
        !got.contains(&0x77),
        "read in spite of a write-only mapping"
    );
    Ok(())
}

fn over_the_end_of_a_mapping() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    // Two pages of memory, the first of which is mapped.
    let buf = DmaBuf::new(2 * PAGE_LEN)?;
    buf.fill(0x31);
    load(&opened, &edu, 0x42)?;
    opened.container.map(
        VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        buf.addr(),
        IOVA,
        PAGE,
    )?;
    edu.store(IOVA + PAGE - 64, 128)?;
    ensure!(
        buf.is_filled(PAGE_LEN, PAGE_LEN, 0x31),
        "written behind the mapping"
    );
    ensure!(
        buf.is_filled(0, PAGE_LEN - 64, 0x31),
        "written before the range"
    );
    Ok(())
}

fn after_unmap() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 1)?;
    load(&opened, &edu, 0x51)?;
    edu.store(IOVA, 64)?;
    same("while mapped", buf.copy(0, 64), vec![0x51; 64])?;
    same("unmapped", opened.container.unmap(IOVA, PAGE)?, PAGE)?;
    buf.fill(0x61);
    edu.store(IOVA, 64)?;
    ensure!(buf.is_filled(0, PAGE_LEN, 0x61), "written after UNMAP_DMA");
    edu.fetch(IOVA, 64)?;
    ensure!(
        !buffer_of(&opened, &edu, 64)?.contains(&0x61),
        "read after UNMAP_DMA"
    );
    Ok(())
}

fn remapped_elsewhere() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let old = opened.map_new(IOVA, 1)?;
    load(&opened, &edu, 0x71)?;
    // Have the translation cached before it changes.
    edu.store(IOVA, 64)?;
    opened.container.unmap(IOVA, PAGE)?;
    old.fill(0);
    let new = opened.map_new(IOVA, 1)?;
    edu.store(IOVA, 64)?;
    ensure!(
        old.is_filled(0, PAGE_LEN, 0),
        "written to where the address used to lead"
    );
    same("the new page", new.copy(0, 64), vec![0x71; 64])
}

fn after_unmap_of_many() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let big = opened.map_new(IOVA, 1024)?;
    load(&opened, &edu, 0x81)?;
    for page in [0, 511, 512, 1023] {
        edu.store(IOVA + page * PAGE, 64)?;
        ensure!(
            big.is_filled((page * PAGE) as usize, 64, 0x81),
            "page {page} not reached"
        );
    }
    same("unmapped", opened.container.unmap_all()?, 1024 * PAGE)?;
    big.fill(0);
    for page in [0, 511, 512, 1023] {
        edu.store(IOVA + page * PAGE, 64)?;
    }
    ensure!(big.is_filled(0, big.len(), 0), "written after UNMAP_DMA");
    Ok(())
}

fn memory_given_up_while_mapped() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 1)?;
    buf.fill(0x91);
    let addr = buf.addr();
    drop(buf);
    // The page is gone for the process; the device still has it, and nobody else may.
    edu.fetch(IOVA, 64)?;
    same("read", buffer_of(&opened, &edu, 64)?, vec![0x91; 64])?;
    let other = DmaBuf::new(PAGE_LEN)?;
    other.fill(0xa1);
    edu.store(IOVA, 64)?;
    ensure!(
        other.is_filled(0, PAGE_LEN, 0xa1),
        "new memory at {:#x} (old {addr:#x}) was hit",
        other.addr()
    );
    same("unmapped", opened.container.unmap(IOVA, PAGE)?, PAGE)
}

fn copy_under_way_at_unmap() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 1)?;
    load(&opened, &edu, 0xb1)?;
    buf.fill(0xc1);
    // The copy happens 100 ms after its start: by then the mapping is gone.
    edu.start_store(IOVA, 64)?;
    same("unmapped", opened.container.unmap(IOVA, PAGE)?, PAGE)?;
    let before = buf.get(0);
    edu.wait_dma()?;
    same("byte when it ended", buf.get(0), before)
}

suite!(
    iommus: All, debug: Answers;
    write_to_nowhere,
    read_from_nowhere,
    read_only_mapping,
    write_only_mapping,
    over_the_end_of_a_mapping,
    after_unmap,
    remapped_elsewhere,
    after_unmap_of_many,
    memory_given_up_while_mapped,
    copy_under_way_at_unmap,
);
