// SPDX-License-Identifier: GPL-2.0
//! The token by which the users of a physical function and of its virtual functions know each
//! other.

use nix::errno::Errno;
use vfio_client::Device;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::setup::{EDU, IGB, open_edu};
use vfio_rs_selftests::sriov::{Joined, Vfs};
use vfio_rs_selftests::{Outcome, errno, same, suite};

const TOKEN: &str = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const OTHER: &str = "00000000-0000-0000-0000-000000000001";
/// `OTHER` as the feature takes it.
const OTHER_BYTES: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const GET: u32 = VFIO_DEVICE_FEATURE_GET;
const SET: u32 = VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = VFIO_DEVICE_FEATURE_PROBE;

/// `VFIO_DEVICE_FEATURE_PCI_VF_TOKEN`.
fn feature(device: &Device, argsz: u32, flags: u32, data: &[u8]) -> std::io::Result<i32> {
    let mut buffer = sys::buffer(24);
    let bytes = sys::bytes_mut(&mut buffer);
    bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
    let flags = flags | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..8 + data.len()].copy_from_slice(data);
    sys::with_buffer(device, DEVICE_FEATURE, &mut buffer)
}

fn set_token(device: &Device, token: &[u8; 16]) -> std::io::Result<i32> {
    feature(device, 24, SET, token)
}

fn of_no_use_to_others() -> Outcome {
    let bound = EDU.bind()?;
    let joined = Joined::new(&bound.pci)?;
    let mut log = Kmsg::now()?;
    errno("edu with a token", joined.open_with(TOKEN), Errno::EINVAL)?;
    log.expect(&format!(
        "vfio-pci {}: VF token incorrectly provided, not a PF or VF",
        bound.pci.address
    ))
}

fn malformed_names() -> Outcome {
    let bound = IGB.bind()?;
    let joined = Joined::new(&bound.pci)?;
    for options in [
        " vf_token=",
        " vf_token",
        " token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1fx",
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f33",
        " vf_token=bd8d9d2b55a5f-4f5a-a211-f591514ba1f3",
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
        " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 x",
        " \tvf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
        " vf_token= bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
    ] {
        errno(options, joined.open(options), Errno::EINVAL)?;
    }
    for options in ["vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", "x", "\t"] {
        errno(options, joined.open(options), Errno::ENODEV)?;
    }
    // In any case, with any number of blanks.
    joined.open("   vf_token=BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3  ")?;
    joined.open("  ")?;
    Ok(())
}

fn physical_function_sets_it_by_opening() -> Outcome {
    let made = Vfs::new(1)?;
    let pf = Joined::new(&made.pf.pci)?;
    let vf = made.join(&made.vfs[0])?;
    // Nobody knows the first token, which is random.
    errno("before", vf.open_with(TOKEN), Errno::EACCES)?;
    let zero = "00000000-0000-0000-0000-000000000000";
    errno("zero", vf.open_with(zero), Errno::EACCES)?;
    let _pf_device = pf.open_with(TOKEN)?;
    errno("another", vf.open_with(OTHER), Errno::EACCES)?;
    vf.open_with(TOKEN)?;
    // While no virtual function is open it may change.
    let _second = pf.open_with(OTHER)?;
    errno("the former", vf.open_with(TOKEN), Errno::EACCES)?;
    vf.open_with(OTHER)?;
    Ok(())
}

fn virtual_function_wants_it() -> Outcome {
    let made = Vfs::new(1)?;
    let pf = Joined::new(&made.pf.pci)?;
    let _pf_device = pf.open_with(TOKEN)?;
    let vf = made.join(&made.vfs[0])?;
    let mut log = Kmsg::now()?;
    errno("without", vf.open(""), Errno::EACCES)?;
    log.expect(&format!(
        "vfio-pci {}: VF token required to access device",
        vf.pci.address
    ))?;
    errno("with another", vf.open_with(OTHER), Errno::EACCES)?;
    log.expect(&format!(
        "vfio-pci {}: Incorrect VF token provided for device",
        vf.pci.address
    ))?;
    let _first = vf.open_with(TOKEN)?;
    errno("a second without", vf.open(""), Errno::EACCES)?;
    let _second = vf.open_with(TOKEN)?;
    Ok(())
}

fn physical_function_wants_it_while_another_is_open() -> Outcome {
    let made = Vfs::new(2)?;
    let pf = Joined::new(&made.pf.pci)?;
    let pf_device = pf.open_with(TOKEN)?;
    let vfs = [made.join(&made.vfs[0])?, made.join(&made.vfs[1])?];
    let first = vfs[0].open_with(TOKEN)?;
    let again = vfs[0].open_with(TOKEN)?;
    let second = vfs[1].open_with(TOKEN)?;
    drop(pf_device);
    errno("without", pf.open(""), Errno::EACCES)?;
    errno("with another", pf.open_with(OTHER), Errno::EACCES)?;
    drop(pf.open_with(TOKEN)?);
    drop(first);
    drop(second);
    // One is still open, by its second descriptor.
    errno("without, still", pf.open(""), Errno::EACCES)?;
    drop(again);
    drop(pf.open("")?);
    // Which did not change it.
    vfs[0].open_with(TOKEN)?;
    pf.open_with(OTHER)?;
    Ok(())
}

fn physical_function_sets_it_by_the_feature() -> Outcome {
    let made = Vfs::new(1)?;
    let pf = Joined::new(&made.pf.pci)?;
    let device = pf.open_with(TOKEN)?;
    let vf = made.join(&made.vfs[0])?;
    let vf_device = vf.open_with(TOKEN)?;
    // Even while it is in use: for whoever comes next.
    same("SET", set_token(&device, &OTHER_BYTES)?, 0)?;
    errno("the former", vf.open_with(TOKEN), Errno::EACCES)?;
    vf.open_with(OTHER)?;
    errno("the former", pf.open_with(TOKEN), Errno::EACCES)?;
    pf.open_with(OTHER)?;
    // It is not the virtual function's to change.
    errno("VF", set_token(&vf_device, &OTHER_BYTES), Errno::ENOTTY)
}

fn feature_checks() -> Outcome {
    let bound = IGB.bind()?;
    let device = Joined::new(&bound.pci)?.open("")?;
    same("probe", feature(&device, 8, PROBE, &[])?, 0)?;
    same("probe of SET", feature(&device, 8, PROBE | SET, &[])?, 0)?;
    let wrong = [
        ("probe of GET", 8, PROBE | GET),
        ("probe of both", 8, PROBE | GET | SET),
        ("GET", 24, GET),
        ("both", 24, GET | SET),
        ("neither", 24, 0),
        ("too little", 23, SET),
        ("no data", 8, SET),
        ("no header", 7, SET),
        ("unknown flag", 24, SET | 1 << 19),
    ];
    for (what, argsz, flags) in wrong {
        errno(what, feature(&device, argsz, flags, &[]), Errno::EINVAL)?;
    }
    same(
        "more than enough",
        feature(&device, 4096, SET, &[7; 16])?,
        0,
    )?;
    let edu = open_edu()?;
    errno(
        "edu",
        feature(&edu.device, 24, GET | PROBE, &[]),
        Errno::ENOTTY,
    )?;
    errno("edu", feature(&edu.device, 8, SET, &[]), Errno::ENOTTY)
}

fn data_out_of_reach() -> Outcome {
    let bound = IGB.bind()?;
    let device = Joined::new(&bound.pci)?.open("")?;
    let buf = vfio_client::DmaBuf::new(8192)?;
    let at = 4096 - 8;
    buf.put(at, &24u32.to_ne_bytes());
    let flags = SET | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;
    buf.put(at + 4, &flags.to_ne_bytes());
    // SAFETY: our own page, which nothing reads from here on.
    unsafe { libc::mprotect((buf.addr() + 4096) as *mut _, 4096, libc::PROT_NONE) };
    let arg = buf.addr() as usize + at;
    errno(
        "SET",
        sys::with_value(&device, DEVICE_FEATURE, arg),
        Errno::EFAULT,
    )
}

suite!(
    iommus: Vtd, debug: Answers;
    of_no_use_to_others,
    malformed_names,
    physical_function_sets_it_by_opening,
    virtual_function_wants_it,
    physical_function_wants_it_while_another_is_open,
    physical_function_sets_it_by_the_feature,
    feature_checks,
    data_out_of_reach,
);
