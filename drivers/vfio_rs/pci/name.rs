// SPDX-License-Identifier: GPL-2.0

//! How users name a device to `VFIO_GROUP_GET_DEVICE_FD`: its address, and options behind it.
//!
//! ```text
//! 0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3
//! ```
//!
//! Pure. Stands for vfio_pci_core_match() of drivers/vfio/pci/vfio_pci_core.c.

use kernel::prelude::*;

/// A secret that the users of a physical function and of its virtual functions share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

/// What the options behind an address say.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `vf_token=`.
    pub(crate) vf_token: Option<Uuid>,
}

/// The options in `name` if it names the device at `address`; `None` if it names another.
///
/// # Errors
///
/// `EINVAL` for an option that is unknown, there twice, or malformed.
pub(crate) fn parse(name: &[u8], address: &[u8]) -> Result<Option<Options>> {
    let mut rest = match name.strip_prefix(address) {
        Some(rest @ ([] | [b' ', ..])) => rest,
        _ => return Ok(None),
    };
    let mut options = Options::default();
    loop {
        if let [b' ', behind @ ..] = rest {
            rest = behind;
            continue;
        }
        if rest.is_empty() {
            return Ok(Some(options));
        }
        let text = rest.strip_prefix(b"vf_token=").ok_or(EINVAL)?;
        let (token, behind) = text.split_at_checked(Uuid::TEXT_LEN).ok_or(EINVAL)?;
        if options.vf_token.is_some() {
            return Err(EINVAL);
        }
        options.vf_token = Some(Uuid::parse(token).ok_or(EINVAL)?);
        rest = behind;
    }
}

impl Uuid {
    /// Bytes of a UUID in text.
    const TEXT_LEN: usize = 36;

    /// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut uuid = [0; 16];
        let mut digits = text
            .iter()
            .enumerate()
            .filter(|(at, _)| !Self::is_hyphen(*at))
            .map(|(_, c)| char::from(*c).to_digit(16));
        for byte in &mut uuid {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        let hyphens = text.iter().enumerate().filter(|(_, c)| **c == b'-');
        let placed = hyphens.filter(|(at, _)| Self::is_hyphen(*at)).count();
        (text.len() == Self::TEXT_LEN && placed == 4).then_some(Self(uuid))
    }

    /// Whether there is a hyphen at this place of the text.
    fn is_hyphen(at: usize) -> bool {
        matches!(at, 8 | 13 | 18 | 23)
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_device_name))]
mod tests {
    use super::*;

    const BDF: &[u8] = b"0000:01:10.0";
    const TOKEN: Uuid = Uuid([
        0xbd, 0x8d, 0x9d, 0x2b, 0x5a, 0x5f, 0x4f, 0x5a, 0xa2, 0x11, 0xf5, 0x91, 0x51, 0x4b, 0xa1,
        0xf3,
    ]);

    fn token(name: &[u8]) -> Option<Option<Uuid>> {
        match parse(name, BDF) {
            Ok(Some(options)) => Some(options.vf_token),
            _ => None,
        }
    }

    fn refused(name: &[u8]) -> bool {
        matches!(parse(name, BDF), Err(err) if err == EINVAL)
    }

    #[test]
    fn another_device() {
        for name in [
            &b""[..],
            b"0000:01:10.1",
            b"0000:01:10.00",
            b"0000:01:10.",
            b" 0000:01:10.0",
            b"0000:01:10.0\tvf_token=",
        ] {
            assert!(matches!(parse(name, BDF), Ok(None)));
        }
    }

    #[test]
    fn no_option() {
        assert!(token(BDF) == Some(None));
        assert!(token(b"0000:01:10.0   ") == Some(None));
    }

    #[test]
    fn a_token() {
        for name in [
            &b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"[..],
            b"0000:01:10.0   vf_token=BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3  ",
        ] {
            assert!(token(name) == Some(Some(TOKEN)));
        }
    }

    #[test]
    fn malformed() {
        for name in [
            &b"0000:01:10.0 x"[..],
            b"0000:01:10.0 vf_token",
            b"0000:01:10.0 vf_token=",
            b"0000:01:10.0 VF_TOKEN=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
            b"0000:01:10.0 vf_token= bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
            b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
            b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1fg",
            b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f34",
            b"0000:01:10.0 vf_token=bd8d9d2b5-a5f-4f5a-a211-f591514ba1f3",
            b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 x",
            b"0000:01:10.0 vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 \
              vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
        ] {
            assert!(refused(name));
        }
    }
}
