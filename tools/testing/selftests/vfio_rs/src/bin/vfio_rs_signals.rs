// SPDX-License-Identifier: GPL-2.0
//! Eventfds that the kernel signals and also listens to: what goes round in circles there, and what
//! many listeners cost, is bounded, and takes neither a CPU nor the kernel's threads from others.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_client::uapi::VFIO_PCI_MSI_IRQ_INDEX as MSI;
use vfio_client::{Edu, Event};
use vfio_rs_selftests::irq::Line;
use vfio_rs_selftests::kworkers;
use vfio_rs_selftests::pin::{Pin, UNMASK};
use vfio_rs_selftests::process::{Latch, spawn};
use vfio_rs_selftests::race::race_while;
use vfio_rs_selftests::setup::{
    Bound, EDU, GLANCE, IGB, Opened, PATIENCE, is_rust_stack, open_edu, slowness,
};
use vfio_rs_selftests::{Outcome, Result, ensure, skip, suite, until};

/// Register of edu that raises the interrupt.
const RAISE: u64 = 0x60;
/// How many writes to BARs by eventfds a device may have.
const MAX: u64 = 1000;
/// More turns in a second than the kernel gives to what nobody pays for.
const MANY: f64 = 8000.0;

/// Has the calling thread run on this CPU only.
fn run_on(cpu: usize) -> Outcome {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// An edu whose interrupt signals an eventfd that has the kernel raise the interrupt, as soon as it
/// is signalled once.
struct Circle {
    opened: Opened,
    bar: Region,
    event: Event,
    line: Line,
}

impl Circle {
    fn new(bound: Bound) -> Result<Self> {
        let opened = bound.open()?;
        Edu::new(&opened.device)?;
        let bar = opened.device.region(0)?;
        let event = Event::new()?;
        opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
        let line = Line::find(&format!("vfio-msi[0]({})", opened.bound.pci.address))?;
        let circle = Self {
            opened,
            bar,
            event,
            line,
        };
        circle.ring_by(circle.event.as_raw_fd())?;
        Ok(circle)
    }

    fn ring_by(&self, fd: i32) -> std::io::Result<()> {
        self.opened.device.ioeventfd(&self.bar, RAISE, 4, 1, fd)
    }
}

/// The interrupts go on, but not without limit, and their CPU does other things: who signalled the
/// eventfd there goes on.
fn interrupt_rings_its_own_doorbell() -> Outcome {
    if !is_rust_stack() {
        skip!("C writes in the interrupt handler: its CPU does nothing else any more");
    }
    if std::thread::available_parallelism()?.get() < 2 {
        skip!("one CPU only, which would be lost if this fails");
    }
    let circle = Circle::new(EDU.bind()?)?;
    circle.line.route_to(0)?;
    // Where the other thread's CPU is lost this one can still stop it.
    run_on(1)?;
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|threads| -> Outcome {
        threads.spawn(|| {
            let lost = run_on(0).is_err() || circle.event.signal().is_err();
            while !lost && !stop.load(Ordering::Relaxed) {
                steps.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let measure = || -> Outcome {
            let moving = || Ok(steps.load(Ordering::Relaxed) > 0);
            until("write(2) returns", PATIENCE / 4 * slowness(), moving)?;
            let (began, before) = (Instant::now(), circle.line.count()?);
            let walked = steps.load(Ordering::Relaxed);
            sleep(Duration::from_secs(1));
            let count = circle.line.count()?.saturating_sub(before);
            let walked = steps.load(Ordering::Relaxed) - walked;
            let rate = count as f64 / began.elapsed().as_secs_f64();
            println!("{rate:.0} interrupts a second, {walked} steps beside them");
            ensure!(count > 0, "the interrupts do not go on");
            ensure!(rate < MANY, "{rate:.0} interrupts a second");
            ensure!(walked > 0, "nothing else runs on their CPU");
            Ok(())
        };
        let outcome = measure();
        let removed = circle.ring_by(-1);
        stop.store(true, Ordering::Relaxed);
        outcome?;
        Ok(removed?)
    })?;
    // It has ended.
    let last = AtomicU64::new(u64::MAX);
    until("the last interrupt", PATIENCE * slowness(), || {
        let count = circle.line.count()?;
        sleep(GLANCE);
        Ok(last.swap(count, Ordering::Relaxed) == count)
    })
}

/// A kill ends it, and the device is good for the next user.
fn killed_in_circles() -> Outcome {
    if !is_rust_stack() {
        skip!("C writes in the interrupt handler: its CPU does nothing else any more");
    }
    let bound = EDU.bind()?;
    for _ in 0..3 {
        let ready = Latch::new()?;
        let mut child = spawn(|| {
            let walk = || -> Outcome {
                let circle = Circle::new(bound.clone())?;
                circle.event.signal()?;
                until("interrupts", PATIENCE * slowness(), || {
                    Ok(circle.line.count()? > 10)
                })?;
                ready.open()?;
                loop {
                    sleep(PATIENCE);
                }
            };
            i32::from(walk().is_err())
        })?;
        ready.wait(PATIENCE * slowness())?;
        child.kill()?;
        let opened = bound.clone().open()?;
        let edu = Edu::new(&opened.device)?;
        ensure!(edu.liveness(7)? == !7, "edu does not answer");
        edu.ack_irq(!0)?;
    }
    Ok(())
}

/// A pin that is unmasked by what it signals, while the device asks on and on: the kernel's threads
/// do little for that.
fn pin_unmasks_itself() -> Outcome {
    if !is_rust_stack() {
        skip!("C has a thread of the kernel do nothing else");
    }
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    pin.unmask_by(pin.trigger.as_raw_fd())?;
    let (began, before) = (Instant::now(), kworkers::time()?);
    edu.raise_irq(1)?;
    sleep(Duration::from_secs(2));
    let used = kworkers::time()?.saturating_sub(before);
    let elapsed = began.elapsed();
    println!("threads of the kernel ran {used:?} of {elapsed:?}");
    edu.ack_irq(1)?;
    pin.unmask_by(-1)?;
    ensure!(used < elapsed / 2, "{used:?} of {elapsed:?}");
    pin.trigger.take()?;
    pin.act(UNMASK)?;
    edu.raise_irq(1)?;
    pin.heard("interrupts after")?;
    Ok(edu.ack_irq(1)?)
}

/// A thousand writes to a BAR by one eventfd, and resets, which they wait for: by few threads of
/// the kernel.
fn many_doorbells_and_resets() -> Outcome {
    /// Multicast table of igb: any value.
    const TABLE: u64 = 0x5200;
    if !is_rust_stack() {
        skip!("C has a thread of the kernel wait for each");
    }
    let opened = IGB.open()?;
    let device = &opened.device;
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = device.region(0)?;
    let event = Event::new()?;
    for data in 0..MAX {
        device.ioeventfd(&bar, TABLE, 4, data, event.as_raw_fd())?;
    }
    let longest = AtomicU64::new(0);
    let signal = || {
        let began = Instant::now();
        let good = event.signal().is_ok();
        longest.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        good
    };
    let reset = || device.reset().is_ok();
    let before = kworkers::count()?;
    let mut most = before;
    let mut counted = Ok(());
    let good = race_while(
        || {
            for _ in 0..30 {
                sleep(Duration::from_millis(50));
                match kworkers::count() {
                    Ok(count) => most = most.max(count),
                    Err(e) => counted = Err(e),
                }
            }
        },
        &[&signal, &reset],
    );
    counted?;
    println!(
        "{before} threads of the kernel became {most}; the longest write(2) took {} us",
        longest.into_inner()
    );
    ensure!(good, "a call failed");
    ensure!(
        most < before + 64,
        "{before} threads of the kernel became {most}"
    );
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    interrupt_rings_its_own_doorbell,
    killed_in_circles,
    pin_unmasks_itself,
    many_doorbells_and_resets,
);
