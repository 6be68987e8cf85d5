// SPDX-License-Identifier: GPL-2.0
//! The caller's terminal, when there is one.

use std::io::{IsTerminal, stdin, stdout};

use nix::libc::{STDOUT_FILENO, TIOCGWINSZ};
use nix::pty::Winsize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

nix::ioctl_read_bad!(window_size, TIOCGWINSZ, Winsize);

/// Rows and columns, if both input and output are a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return None;
    }
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: standard output is open and `size` is the structure that the call fills.
    unsafe { window_size(STDOUT_FILENO, &mut size) }.ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Hands every key to the machine for as long as it lives.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Switches the terminal over.
    pub(crate) fn enter() -> nix::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _: nix::Result<()> = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.0);
    }
}
