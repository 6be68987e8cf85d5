// SPDX-License-Identifier: GPL-2.0
//! The bit of the command register that masks the interrupt pin: whatever else writes or restores
//! the register, it is as it should be in the end, and so are its neighbours. In C it is not.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use vfio_client::config::{COMMAND, COMMAND_MEMORY};
use vfio_client::irq::IrqData;
use vfio_client::uapi::VFIO_PCI_ROM_REGION_INDEX;
use vfio_client::{Edu, Event};
use vfio_rs_selftests::pin::{DISABLE, INTX, MASK, Pin, UNMASK, real_disable};
use vfio_rs_selftests::race::race_while;
use vfio_rs_selftests::reset::hot_reset;
use vfio_rs_selftests::setup::{E1000E, IGB, Opened, PATIENCE, is_rust_stack, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, skip, suite};

fn need_our_stack() -> Outcome {
    if !is_rust_stack() {
        skip!("the C stack loses bits");
    }
    Ok(())
}

/// Changes the bit behind everybody's back, as a reset by a register of the device does, or two who
/// write at once.
fn lose(opened: &Opened, bit: u16) -> Outcome {
    let path = opened.bound.pci.path().join("config");
    let config = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    let mut word = [0; 2];
    config.read_exact_at(&mut word, COMMAND)?;
    let word = u16::from_le_bytes(word) & !DISABLE | bit;
    config.write_all_at(&word.to_le_bytes(), COMMAND)?;
    Ok(())
}

/// Whether memory is on in the device.
fn real_memory(opened: &Opened) -> Result<u16> {
    let config = std::fs::File::open(opened.bound.pci.path().join("config"))?;
    let mut word = [0; 2];
    config.read_exact_at(&mut word, COMMAND)?;
    Ok(u16::from_le_bytes(word) & COMMAND_MEMORY)
}

fn act(opened: &Opened, action: u32) -> Outcome {
    opened.device.set_irqs(INTX, action, 0, 1, IrqData::None)?;
    Ok(())
}

/// An interrupt masks a pin that should be masked, before it storms whoever has the same line.
fn masked_by_the_next_interrupt() -> Outcome {
    need_our_stack()?;
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    for _ in 0..3 {
        edu.raise_irq(1)?;
        pin.heard("interrupts")?;
        lose(&pin.opened, 0)?;
        let end = Instant::now() + PATIENCE * slowness();
        while pin.real_disable()? == 0 {
            ensure!(Instant::now() < end, "it is not masked");
        }
        pin.silent("while masked")?;
        edu.ack_irq(1)?;
        pin.act(UNMASK)?;
        same("unmasked", pin.real_disable()?, 0)?;
    }
    Ok(())
}

/// Who writes or restores the command register puts right what was lost meanwhile.
fn put_right_by_who_writes() -> Outcome {
    need_our_stack()?;
    const CAP_EXPRESS: u8 = 0x10;
    const DEVCTL: u64 = 8;
    const DEVCTL_FLR: u16 = 0x8000;
    let opened = IGB.open()?;
    let device = &opened.device;
    let config = device.config()?;
    let control = config.find_cap(CAP_EXPRESS)?.context("no PCI Express")? + DEVCTL;
    let command = config.read16(COMMAND)?;
    let event = Event::new()?;
    device.enable_irqs(INTX, &[event.as_raw_fd()])?;
    let writers: [(&str, &dyn Fn() -> Outcome); 6] = [
        ("a word", &|| Ok(config.write16(COMMAND, command)?)),
        ("its low byte", &|| {
            Ok(config.write8(COMMAND, command as u8)?)
        }),
        ("its high byte", &|| Ok(config.write8(COMMAND + 1, 0)?)),
        ("a reset", &|| Ok(device.reset()?)),
        ("a hot reset", &|| {
            Ok(hot_reset(device, &[&opened.group]).map(drop)?)
        }),
        ("a reset by its register", &|| {
            let value = config.read16(control)? | DEVCTL_FLR;
            Ok(config.write16(control, value)?)
        }),
    ];
    for (what, write) in writers {
        lose(&opened, DISABLE)?;
        write()?;
        same(what, real_disable(&opened)?, 0)?;
        act(&opened, MASK)?;
        lose(&opened, 0)?;
        write()?;
        same(what, real_disable(&opened)?, DISABLE)?;
        act(&opened, UNMASK)?;
    }
    Ok(())
}

/// The kernel switches memory on to look for a ROM, and then off again, by the register as it was
/// before.
fn put_right_by_who_looks_for_a_rom() -> Outcome {
    need_our_stack()?;
    let opened = E1000E.open()?;
    let device = &opened.device;
    let look = || -> Outcome {
        let rom = device.region(VFIO_PCI_ROM_REGION_INDEX)?;
        ensure!(rom.size != 0, "no ROM");
        Ok(())
    };
    device.config()?.update_command(COMMAND_MEMORY, 0)?;
    lose(&opened, 0)?;
    look()?;
    same("nobody listens", real_disable(&opened)?, DISABLE)?;
    let event = Event::new()?;
    device.enable_irqs(INTX, &[event.as_raw_fd()])?;
    lose(&opened, DISABLE)?;
    look()?;
    same("unmasked", real_disable(&opened)?, 0)?;
    act(&opened, MASK)?;
    lose(&opened, 0)?;
    look()?;
    same("masked", real_disable(&opened)?, DISABLE)?;
    act(&opened, UNMASK)?;
    same("memory", real_memory(&opened)?, 0)
}

/// The pin is set up, masked and unmasked while its device is in D3hot; what it had configured
/// comes back when it leaves.
fn in_d3hot() -> Outcome {
    for kind in [E1000E, IGB] {
        let opened = kind.open()?;
        let config = opened.device.config()?;
        let Some(cap) = config.find_cap(1)? else {
            skip!("{} has no power management", kind.name)
        };
        let in_d3 = |f: &dyn Fn() -> Outcome| -> Result<u16> {
            config.write16(cap + 4, 3)?;
            f()?;
            config.write16(cap + 4, 0)?;
            real_disable(&opened)
        };
        let event = Event::new()?;
        let on = || {
            Ok(opened
                .device
                .enable_irqs(INTX, &[event.as_raw_fd()])
                .map(drop)?)
        };
        same("set up", in_d3(&on)?, 0)?;
        if !is_rust_stack() {
            continue;
        }
        same("masked", in_d3(&|| act(&opened, MASK))?, DISABLE)?;
        same("unmasked", in_d3(&|| act(&opened, UNMASK))?, 0)?;
        let off = || Ok(opened.device.disable_irqs(INTX)?);
        same("off", in_d3(&off)?, DISABLE)?;
    }
    Ok(())
}

/// Masking does not undo what the user writes meanwhile.
fn memory_stays_on() -> Outcome {
    need_our_stack()?;
    let pin = Pin::new(open_edu()?)?;
    let config = pin.device().config()?;
    let memory = || -> Result<u16> { Ok(config.read16(COMMAND)? & COMMAND_MEMORY) };
    let mut outcome = Ok(());
    let main = || -> Outcome {
        for _ in 0..if slowness() > 1 { 50 } else { 500 } {
            pin.command(COMMAND_MEMORY, 0)?;
            same("off", memory()?, 0)?;
            pin.command(0, COMMAND_MEMORY)?;
            same("on", memory()?, COMMAND_MEMORY)?;
        }
        same(
            "identification",
            Edu::new(pin.device())?.ident()? & 0xff,
            0xed,
        )
    };
    let good = race_while(
        || outcome = main(),
        &[&|| pin.act(MASK).is_ok() && pin.act(UNMASK).is_ok()],
    );
    ensure!(good, "the mask failed");
    same("the bit", pin.real_disable()?, 0)?;
    outcome
}

/// Resets, changes of the power state, looks at a ROM and writes of the register against a pin that
/// is masked by calls and unmasked by an eventfd: neither loses anything of the other.
fn nothing_is_lost_in_resets() -> Outcome {
    need_our_stack()?;
    const CAP_POWER: u8 = 1;
    for kind in [IGB, E1000E] {
        let opened = kind.open()?;
        let device = &opened.device;
        let config = device.config()?;
        let power = config.find_cap(CAP_POWER)?.context("no power management")? + 4;
        let (event, unmask) = (Event::new()?, Event::new()?);
        device.enable_irqs(INTX, &[event.as_raw_fd()])?;
        let fds = [unmask.as_raw_fd()];
        device.set_irqs(INTX, UNMASK, 0, 1, IrqData::Eventfd(&fds))?;
        config.update_command(0, COMMAND_MEMORY)?;
        let steps: [(&str, &dyn Fn() -> Outcome); 4] = [
            ("a reset", &|| Ok(device.reset()?)),
            ("D3hot", &|| {
                config.write16(power, 3)?;
                Ok(config.write16(power, 0)?)
            }),
            ("a ROM", &|| {
                Ok(device.region(VFIO_PCI_ROM_REGION_INDEX).map(drop)?)
            }),
            ("writes", &|| {
                config.update_command(COMMAND_MEMORY, 0)?;
                same("memory off", real_memory(&opened)?, 0)?;
                config.update_command(0, COMMAND_MEMORY)?;
                Ok(())
            }),
        ];
        let mut outcome = Ok(());
        let main = || -> Outcome {
            for round in 0..if slowness() > 1 { 3 } else { 12 } {
                for (what, step) in steps {
                    step().with_context(|| format!("{what} of {}", kind.name))?;
                    let memory = real_memory(&opened)?;
                    same(
                        &format!("memory after {what}, {round}"),
                        memory,
                        COMMAND_MEMORY,
                    )?;
                }
            }
            Ok(())
        };
        let good = race_while(
            || outcome = main(),
            &[&|| act(&opened, MASK).is_ok(), &|| {
                unmask.signal().is_ok() && act(&opened, UNMASK).is_ok()
            }],
        );
        ensure!(good, "the mask failed");
        outcome?;
        act(&opened, UNMASK)?;
        same("unmasked", real_disable(&opened)?, 0)?;
        act(&opened, MASK)?;
        same("masked", real_disable(&opened)?, DISABLE)?;
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    masked_by_the_next_interrupt,
    put_right_by_who_writes,
    put_right_by_who_looks_for_a_rom,
    in_d3hot,
    memory_stays_on,
    nothing_is_lost_in_resets,
);
