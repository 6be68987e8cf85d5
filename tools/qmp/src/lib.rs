// SPDX-License-Identifier: GPL-2.0
//! A client of QEMU's monitor: commands are sent as JSON, one a line, and so are the answers.
//!
//! Commands and arguments are those of QEMU's QMP reference. A [`Qmp`] over a socket has the
//! monitor to itself; the virtual machine's serial port is opened by one program after another, and
//! what QEMU still has to say to the one before is left aside.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// The connection failed, or QEMU took too long.
    Io(io::Error),
    /// QEMU closed the connection.
    Closed,
    /// It said this, which is no answer.
    Nonsense(String),
    /// It refused the command.
    Refused {
        /// The command.
        command: String,
        /// Kind of error: `GenericError`, `DeviceNotFound`, `CommandNotFound` and a few more.
        class: String,
        /// The reason, for humans.
        reason: String,
    },
}

impl Error {
    /// Whether QEMU knows no such device.
    #[must_use]
    pub fn is_no_device(&self) -> bool {
        matches!(self, Self::Refused { class, .. } if class == "DeviceNotFound")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "QEMU's monitor: {e}"),
            Self::Closed => f.write_str("QEMU closed its monitor"),
            Self::Nonsense(text) => write!(f, "QEMU's monitor says {text:?}"),
            Self::Refused {
                command, reason, ..
            } => write!(f, "QEMU refuses {command}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// What a call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An open monitor.
#[derive(Debug)]
pub struct Qmp<S: Read> {
    stream: BufReader<S>,
    /// Commands sent so far.
    sent: u64,
    /// Events that came while something else was waited for.
    events: VecDeque<Value>,
}

impl Qmp<File> {
    /// Opens the serial port `device` behind which a monitor is that was greeted before.
    ///
    /// # Errors
    /// errno of open(2): EBUSY if another program has it open.
    pub fn open(device: &Path) -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).open(device)?;
        Ok(Self::new(port))
    }

    /// Opens it as the first, and greets the monitor.
    ///
    /// # Errors
    /// As [`Qmp::open`], and if no monitor answers.
    pub fn open_first(device: &Path) -> Result<Self> {
        let mut qmp = Self::open(device)?;
        qmp.greet()?;
        Ok(qmp)
    }
}

impl Qmp<UnixStream> {
    /// Connects to the socket of a QEMU that runs, and greets it. No answer may take longer than
    /// `patience`.
    ///
    /// # Errors
    /// errno of connect(2), or no monitor answers.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        let mut qmp = Self::new(stream);
        qmp.greet()?;
        Ok(qmp)
    }

    /// Waits at most `time` until the device `id` is gone.
    ///
    /// # Errors
    /// TimedOut if it stays.
    pub fn deleted(&mut self, id: &str, time: Duration) -> Result<()> {
        let patience = self.stream.get_ref().read_timeout()?;
        let gone = self.await_deleted(id, Instant::now() + time);
        self.stream.get_ref().set_read_timeout(patience)?;
        gone
    }

    fn await_deleted(&mut self, id: &str, end: Instant) -> Result<()> {
        let wanted = |e: &Value| e["event"] == "DEVICE_DELETED" && e["data"]["device"] == id;
        loop {
            if let Some(at) = self.events.iter().position(wanted) {
                self.events.remove(at);
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("no DEVICE_DELETED for {id}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why).into());
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            match self.read() {
                Ok(said) => self.keep(said),
                // The loop says what did not come.
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl<S: Read + Write> Qmp<S> {
    /// Over any stream to a monitor that was greeted before.
    pub fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
            sent: 0,
            events: VecDeque::new(),
        }
    }

    /// Reads what a monitor says to the first that opens it, and asks it to take commands.
    fn greet(&mut self) -> Result<()> {
        let greeting = self.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Nonsense(greeting.to_string()));
        }
        self.call("qmp_capabilities", &json!({})).map(drop)
    }

    /// Runs a command and returns its result.
    ///
    /// # Errors
    /// [`Error::Refused`] if QEMU does not want to.
    pub fn call(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.sent += 1;
        // Of this program: nobody else's command has the same.
        let id = format!("{}-{}", std::process::id(), self.sent);
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())?;
        loop {
            let mut said = self.read()?;
            if said["id"] != id.as_str() {
                self.keep(said);
            } else if let Some(error) = said.get("error") {
                let text = |key: &str| error[key].as_str().unwrap_or("?").to_owned();
                return Err(Error::Refused {
                    command: command.to_owned(),
                    class: text("class"),
                    reason: text("desc"),
                });
            } else {
                return Ok(said["return"].take());
            }
        }
    }

    /// Runs a command of the monitor for humans and returns what it prints.
    ///
    /// # Errors
    /// As [`Qmp::call`].
    pub fn human(&mut self, command: &str) -> Result<String> {
        let arguments = json!({ "command-line": command });
        let said = self.call("human-monitor-command", &arguments)?;
        match said {
            Value::String(text) => Ok(text),
            other => Err(Error::Nonsense(other.to_string())),
        }
    }

    /// Keeps an event for who asks for it; answers to others are of no use.
    fn keep(&mut self, said: Value) {
        if said.get("event").is_some() {
            self.events.push_back(said);
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(Error::Closed);
        }
        serde_json::from_str(&line).map_err(|_| Error::Nonsense(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{self, JoinHandle};

    /// A monitor that reads a line for each of `answers` and answers with it, `ID` replaced.
    fn monitor(answers: &'static [&'static str]) -> io::Result<(Qmp<UnixStream>, JoinHandle<()>)> {
        let (ours, theirs) = UnixStream::pair()?;
        let qemu = thread::spawn(move || {
            let mut stream = BufReader::new(&theirs);
            for answer in answers {
                let mut line = String::new();
                assert!(stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0));
                let command: Value = serde_json::from_str(&line).unwrap_or_default();
                let answer = answer.replace("ID", &command["id"].to_string());
                assert!((&theirs).write_all(answer.as_bytes()).is_ok());
            }
        });
        Ok((Qmp::new(ours), qemu))
    }

    #[test]
    fn answers_are_found_among_others() -> Result<()> {
        let (mut qmp, _qemu) = monitor(&[concat!(
            "{\"return\": {\"left by\": \"another\"}}\n",
            "{\"event\": \"RESET\"}\n",
            "{\"error\": {\"desc\": \"of another\"}, \"id\": \"1-1\"}\n",
            "{\"return\": {\"a \\\"return\\\"\": [1]}, \"id\": ID}\n",
        )])?;
        let said = qmp.call("query-pci", &json!({ "a": 1 }))?;
        assert_eq!(said, json!({ "a \"return\"": [1] }));
        assert_eq!(qmp.events.len(), 1);
        Ok(())
    }

    #[test]
    fn refusals_have_a_class() -> Result<()> {
        let (mut qmp, _qemu) = monitor(&[
            "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no x\"}, \"id\": ID}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": ID}\n",
        ])?;
        let gone = qmp.call("device_del", &json!({ "id": "x" }));
        assert!(gone.is_err_and(|e| e.is_no_device()));
        let busy = qmp.call("device_del", &json!({ "id": "y" }));
        assert!(busy.is_err_and(
            |e| !e.is_no_device() && e.to_string() == "QEMU refuses device_del: not now"
        ));
        Ok(())
    }

    #[test]
    fn what_humans_read_is_text() -> Result<()> {
        let (mut qmp, _qemu) = monitor(&["{\"return\": \"OK \\\"id\\\"\\r\\n\", \"id\": ID}\n"])?;
        assert_eq!(qmp.human("pcie_aer_inject_error")?, "OK \"id\"\r\n");
        Ok(())
    }

    #[test]
    fn deleted_devices_are_waited_for() -> Result<()> {
        let (mut qmp, _qemu) = monitor(&[concat!(
            "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"a\"}}\n",
            "{\"return\": {}, \"id\": ID}\n",
            "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"b\"}}\n",
        )])?;
        qmp.call("device_del", &json!({}))?;
        let long = Duration::from_secs(60);
        qmp.deleted("b", long)?;
        qmp.deleted("a", long)?;
        let again = qmp.deleted("a", Duration::from_millis(1));
        assert!(again.is_err());
        Ok(())
    }

    #[test]
    fn a_closed_monitor_is_an_error() -> Result<()> {
        let (mut qmp, qemu) = monitor(&["no JSON\n"])?;
        let call = qmp.call("stop", &json!({}));
        assert!(matches!(call, Err(Error::Nonsense(text)) if text == "no JSON\n"));
        assert!(qemu.join().is_ok());
        assert!(matches!(
            qmp.call("stop", &json!({})),
            Err(Error::Closed | Error::Io(_))
        ));
        Ok(())
    }
}
