// SPDX-License-Identifier: GPL-2.0
//! What the administrator sets and sees of type1: parameters, and lines in the log.

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, setresuid};
use vfio_client::DmaBuf;
use vfio_client::dma::PageSize;
use vfio_client::uapi::*;
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, is_rust_stack};
use vfio_rs_selftests::{Outcome, ensure, errno, process, same, skip, suite, translation};

const TYPE1: &str = "vfio_iommu_type1";
const HUGE: u64 = 2 << 20;

fn no_huge_iommu_pages() -> Outcome {
    let bound = EDU.bind()?;
    if !translation::is_shown(&bound.pci) {
        skip!("this IOMMU does not show its page tables");
    }
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(3 * HUGE as usize)?;
    buf.advise(PageSize::Huge)?;
    buf.fill(1);
    let vaddr = buf.addr().next_multiple_of(HUGE);
    let iova = HUGE;
    let largest = || -> vfio_rs_selftests::Result<u64> {
        container.map(VFIO_DMA_MAP_FLAG_READ, vaddr, iova, HUGE)?;
        let entries = translation::entries(&bound.pci)?;
        let mine = entries
            .iter()
            .filter(|e| e.iova >= iova && e.iova < iova + HUGE);
        let sizes: Vec<_> = mine.map(|e| e.size).collect();
        same("bytes", sizes.iter().sum::<u64>(), HUGE)?;
        same("unmapped", container.unmap(iova, HUGE)?, HUGE)?;
        Ok(sizes.into_iter().max().unwrap_or(0))
    };
    if largest()? != HUGE {
        skip!("no huge page to be had");
    }
    let off = Set::new(TYPE1, "disable_hugepages", "1")?;
    same("largest entry without huge pages", largest()?, PAGE)?;
    drop(off);
    same("largest entry again", largest()?, HUGE)
}

fn line_about_the_memlock_limit() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(16 * PAGE as usize)?;
    let mut log = Kmsg::now()?;
    let mut child = process::spawn(|| {
        let become_nobody = || -> Outcome {
            setrlimit(Resource::RLIMIT_MEMLOCK, 3 * PAGE, 3 * PAGE)?;
            let nobody = Uid::from_raw(65534);
            Ok(setresuid(nobody, nobody, nobody)?)
        };
        let map = |pages| container.map(VFIO_DMA_MAP_FLAG_READ, buf.addr(), IOVA, pages * PAGE);
        let body = || -> Outcome {
            become_nobody()?;
            map(1)?;
            container.unmap(IOVA, PAGE)?;
            for _ in 0..100 {
                errno("16 pages", map(16), Errno::ENOMEM)?;
            }
            Ok(())
        };
        match body() {
            Ok(()) => 0,
            Err(err) => {
                println!("# child: {err:#}");
                1
            }
        }
    })?;
    child.ended_well("status")?;
    let lines = log.lines()?;
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("RLIMIT_MEMLOCK (12288) exceeded"))
        .collect();
    ensure!(!about.is_empty(), "no line about the limit: {lines:?}");
    if is_rust_stack() {
        let more = format!(
            "[{}]: RLIMIT_MEMLOCK (12288) exceeded: 0 bytes locked, 65536 more",
            child.pid
        );
        ensure!(about[0].contains(&more), "no {more:?} in {:?}", about[0]);
        ensure!(about.len() < 50, "{} lines for 100 failures", about.len());
    }
    Ok(())
}

fn unsafe_interrupts_need_a_word() -> Outcome {
    let bound = EDU.bind()?;
    let _off = Set::new(TYPE1, "allow_unsafe_interrupts", "0")?;
    let mut log = Kmsg::now()?;
    let (container, _group) = bound.join()?;
    match container.set_iommu(VFIO_TYPE1v2_IOMMU) {
        Ok(()) => skip!("this machine remaps interrupts"),
        result => errno("SET_IOMMU", result, Errno::EPERM)?,
    }
    let line = "No interrupt remapping support.  Use the module param \"allow_unsafe_interrupts\"";
    log.expect(line)?;
    if is_rust_stack() {
        for _ in 0..100 {
            let result = container.set_iommu(VFIO_TYPE1v2_IOMMU);
            errno("SET_IOMMU", result, Errno::EPERM)?;
        }
        let lines = log.lines()?;
        let count = lines.iter().filter(|l| l.contains(line)).count();
        ensure!(count < 50, "{count} lines for 100 failures");
    }
    let _on = Set::new(TYPE1, "allow_unsafe_interrupts", "1")?;
    Ok(container.set_iommu(VFIO_TYPE1v2_IOMMU)?)
}

suite!(
    iommus: All, debug: Answers;
    no_huge_iommu_pages,
    line_about_the_memlock_limit,
    unsafe_interrupts_need_a_word,
);
