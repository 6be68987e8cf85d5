// SPDX-License-Identifier: GPL-2.0
//! Messages between the host and the virtual machine's first process.
//!
//! On the wire: one byte for the kind, four for the length (little endian), then the payload.

use std::io::{self, Read, Write};

/// Longest payload, in bytes; longer output is cut into several frames.
const MAX_PAYLOAD: usize = 1 << 20;

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// To the machine: bytes for the command's standard input; empty at its end.
    Stdin(Vec<u8>),
    /// To the machine: new size of the terminal, rows and columns.
    Resize(u16, u16),
    /// To the machine: send the command this signal.
    Signal(i32),
    /// To the machine: write the blocked tasks and their stacks to the kernel log.
    Dump,
    /// To the host: the command has been started.
    Started,
    /// To the host: standard output of the command.
    Stdout(Vec<u8>),
    /// To the host: standard error of the command.
    Stderr(Vec<u8>),
    /// To the host: something is wrong with the kernel, in words; the run has failed.
    Report(String),
    /// To the host: the machine could not be set up, and why.
    Failed(String),
    /// To the host: the command has ended with this status, and the machine is about to power off.
    Exit(i32),
}

impl Frame {
    /// Writes the frame in one call, so that frames of several threads do not mix as long as the
    /// writer is locked.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = self.encode();
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(kind);
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads one frame; none at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream; InvalidData if it is no frame.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 5];
        match from.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > MAX_PAYLOAD {
            return Err(invalid(format!("a frame of {len} bytes")));
        }
        let mut payload = vec![0; len];
        from.read_exact(&mut payload)?;
        Self::decode(head[0], payload).map(Some)
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Stdin(data) => (b'i', data.clone()),
            Self::Resize(rows, columns) => {
                let (rows, columns) = (rows.to_le_bytes(), columns.to_le_bytes());
                (b'w', [rows, columns].concat())
            }
            Self::Signal(number) => (b's', number.to_le_bytes().to_vec()),
            Self::Dump => (b'd', Vec::new()),
            Self::Started => (b'r', Vec::new()),
            Self::Stdout(data) => (b'o', data.clone()),
            Self::Stderr(data) => (b'e', data.clone()),
            Self::Report(text) => (b'k', text.clone().into_bytes()),
            Self::Failed(text) => (b'f', text.clone().into_bytes()),
            Self::Exit(status) => (b'x', status.to_le_bytes().to_vec()),
        }
    }

    fn decode(kind: u8, data: Vec<u8>) -> io::Result<Self> {
        let number = |data: Vec<u8>| {
            data.try_into()
                .map(i32::from_le_bytes)
                .map_err(|_| invalid("a number of the wrong size"))
        };
        let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
        Ok(match kind {
            b'i' => Self::Stdin(data),
            b'w' => match data[..] {
                [a, b, c, d] => {
                    Self::Resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
                }
                _ => return Err(invalid("a terminal size of the wrong size")),
            },
            b's' => Self::Signal(number(data)?),
            b'd' => Self::Dump,
            b'r' => Self::Started,
            b'o' => Self::Stdout(data),
            b'e' => Self::Stderr(data),
            b'k' => Self::Report(text(data)),
            b'f' => Self::Failed(text(data)),
            b'x' => Self::Exit(number(data)?),
            other => return Err(invalid(format!("a frame of unknown kind {other:#x}"))),
        })
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() -> io::Result<()> {
        let frames = [
            Frame::Stdin(b"in".to_vec()),
            Frame::Stdin(Vec::new()),
            Frame::Resize(24, 300),
            Frame::Signal(2),
            Frame::Dump,
            Frame::Started,
            Frame::Stdout(vec![0; 70_000]),
            Frame::Stderr(b"err".to_vec()),
            Frame::Report("a leak".into()),
            Frame::Failed("no disk".into()),
            Frame::Exit(-1),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(&mut wire)?;
        }
        let mut from = &wire[..];
        for frame in frames {
            assert_eq!(Frame::read(&mut from)?, Some(frame));
        }
        assert_eq!(Frame::read(&mut from)?, None);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &b"?\0\0\0\0"[..],
            b"i\xff\xff\xff\xff",
            b"s\x01\0\0\0a",
            b"w\0\0\0\0",
        ] {
            assert!(Frame::read(&mut &bytes[..]).is_err());
        }
    }
}
