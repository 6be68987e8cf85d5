// SPDX-License-Identifier: GPL-2.0
//! One life of the machine: starts QEMU, carries input, output and signals, sees it end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;
use vm_init::Frame;

use crate::machine::Files;
use crate::terminal;

/// Program that emulates the machine.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// How long the machine may take to switch itself off.
const POWER_OFF: Duration = Duration::from_secs(60);
/// How long blocked tasks may take to show themselves.
const DUMP: Duration = Duration::from_secs(3);
/// How long the machine's last words may be on their way after QEMU has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// This key, three times in a row, ends a machine that does not listen (Ctrl-]).
const ESCAPE: u8 = 0x1d;

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The command ran to its end, with this status.
    Exit(i32),
    /// The machine could not be set up, and says why.
    Failed(String),
    /// The machine was gone before the command ended.
    Died(ExitStatus),
    /// The time limit was reached.
    TimedOut,
    /// The command was not even started in time.
    NotUp,
    /// The caller interrupted, by this signal.
    Interrupted(i32),
}

/// What is known after the machine has ended.
pub(crate) struct Outcome {
    /// How it ended.
    pub end: End,
    /// What was found wrong, beside the kernel log.
    pub reports: Vec<String>,
}

/// What a run asks for.
pub(crate) struct Limits {
    /// Time to the start of the command.
    pub boot: Duration,
    /// Time in all.
    pub total: Option<Duration>,
    /// Tell how long things took.
    pub verbose: bool,
}

enum Event {
    Connected(UnixStream),
    Frame(Frame),
    Disconnected,
    Ended(ExitStatus),
    Signal(i32),
}

type Writer = Arc<Mutex<UnixStream>>;

/// Runs the machine to its end.
pub(crate) fn run(arguments: &[String], files: &Files, limits: &Limits) -> Result<Outcome> {
    let listener = UnixListener::bind(files.agent()).context("making the agent's socket")?;
    let (events, receiver) = mpsc::channel();
    let signals = catch_signals(&events)?;
    let child = start(arguments, files, &signals)?;
    let pid = Pid::from_raw(child.id() as i32);
    reap(child, events.clone());
    serve(listener, events.clone());
    let session = Session {
        pid,
        events,
        receiver,
        writer: None,
        raw: None,
        start: Instant::now(),
        end: None,
        reports: Vec::new(),
        deadline: None,
        verbose: limits.verbose,
    };
    Ok(session.live(limits))
}

fn start(arguments: &[String], files: &Files, signals: &SigSet) -> Result<Child> {
    let complaints = File::create(files.complaints())?;
    let mut command = Command::new(QEMU);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(complaints.try_clone()?)
        .stderr(complaints);
    command.process_group(0); // the terminal's signals are for us
    let signals = *signals;
    // SAFETY: both calls are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // Nothing of the machine is to outlive this program.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&signals), None)?)
        });
    }
    command
        .spawn()
        .with_context(|| format!("starting {QEMU}: run scripts/setup to install it"))
}

/// Turns signals into events; they stay blocked in all threads.
fn catch_signals(events: &Sender<Event>) -> Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGWINCH,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    let events = events.clone();
    thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            if events.send(Event::Signal(signal as i32)).is_err() {
                break;
            }
        }
    });
    Ok(set)
}

fn reap(mut child: Child, events: Sender<Event>) {
    thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _: Result<(), _> = events.send(Event::Ended(status));
        }
    });
}

/// Takes QEMU's connection and passes on what comes.
fn serve(listener: UnixListener, events: Sender<Event>) {
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        if let Ok(writer) = stream.try_clone() {
            let _: Result<(), _> = events.send(Event::Connected(writer));
        }
        while let Ok(Some(frame)) = Frame::read(&mut stream) {
            if events.send(Event::Frame(frame)).is_err() {
                return;
            }
        }
        let _: Result<(), _> = events.send(Event::Disconnected);
    });
}

/// Sends the caller's input to the command.
fn feed(writer: Writer, events: Sender<Event>, raw: bool) {
    thread::spawn(move || {
        let mut buffer = vec![0; 32 << 10];
        let mut escapes = 0;
        loop {
            let len = io::stdin().lock().read(&mut buffer).unwrap_or(0);
            let data = buffer[..len].to_vec();
            escapes = if data.iter().all(|&byte| byte == ESCAPE) {
                escapes + len
            } else {
                0
            };
            if raw && escapes >= 3 {
                let _: Result<(), _> = events.send(Event::Signal(libc::SIGTERM));
            }
            if send(&writer, &Frame::Stdin(data)).is_err() || len == 0 {
                return;
            }
        }
    });
}

fn send(writer: &Writer, frame: &Frame) -> io::Result<()> {
    frame.write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Session {
    pid: Pid,
    events: Sender<Event>,
    receiver: Receiver<Event>,
    /// Set while the machine is connected.
    writer: Option<Writer>,
    raw: Option<terminal::Raw>,
    start: Instant,
    /// Set as soon as the end is decided; QEMU may still be there.
    end: Option<End>,
    reports: Vec<String>,
    /// When the present step has taken too long.
    deadline: Option<Instant>,
    verbose: bool,
}

impl Session {
    fn live(mut self, limits: &Limits) -> Outcome {
        self.deadline = Some(self.start + limits.boot);
        let mut started = false;
        let ended = loop {
            match self.next() {
                Some(Event::Frame(Frame::Started)) => {
                    started = true;
                    self.deadline = limits.total.map(|total| self.start + total);
                    self.connect_input();
                }
                Some(Event::Ended(status)) => break status,
                Some(event) => self.handle(event),
                None => self.overdue(started),
            }
        };
        self.say("QEMU has ended");
        self.deadline = Some(Instant::now() + LAST_WORDS);
        while self.writer.is_some() {
            match self.next() {
                Some(event) => self.handle(event), // what was still on its way
                None => break,
            }
        }
        drop(self.raw.take());
        Outcome {
            end: self.end.unwrap_or(End::Died(ended)),
            reports: self.reports,
        }
    }

    /// The next event; none when the deadline has passed.
    fn next(&self) -> Option<Event> {
        let Some(deadline) = self.deadline else {
            return self.receiver.recv().ok();
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.receiver.recv_timeout(left).ok()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(stream) => self.writer = Some(Arc::new(Mutex::new(stream))),
            Event::Frame(Frame::Stdout(data)) => self.print(&mut io::stdout().lock(), &data),
            Event::Frame(Frame::Stderr(data)) => self.print(&mut io::stderr().lock(), &data),
            Event::Frame(Frame::Report(text)) => self.reports.push(text),
            Event::Frame(Frame::Exit(status)) => self.finish(End::Exit(status)),
            Event::Frame(Frame::Failed(why)) => self.finish(End::Failed(why)),
            Event::Signal(libc::SIGWINCH) => {
                if let Some((rows, columns)) = terminal::size() {
                    self.tell(&Frame::Resize(rows, columns));
                }
            }
            Event::Signal(number) => {
                self.finish(End::Interrupted(number));
                self.stop();
            }
            Event::Disconnected => self.writer = None,
            Event::Frame(_) | Event::Ended(_) => {}
        }
    }

    /// The command has started: from now on it gets the caller's input.
    fn connect_input(&mut self) {
        self.say("the command starts");
        if terminal::size().is_some() {
            self.raw = terminal::Raw::enter().ok();
        }
        if let Some(writer) = &self.writer {
            feed(writer.clone(), self.events.clone(), self.raw.is_some());
        }
    }

    /// The present step has taken too long.
    fn overdue(&mut self, started: bool) {
        match self.end {
            None if started => {
                self.tell(&Frame::Dump);
                self.end = Some(End::TimedOut);
                self.deadline = Some(Instant::now() + DUMP);
            }
            None => {
                self.end = Some(End::NotUp);
                self.stop();
            }
            Some(End::Exit(_)) => {
                let wait = POWER_OFF.as_secs();
                self.reports.push(format!(
                    "the machine did not switch itself off within {wait} s"
                ));
                self.stop();
            }
            Some(_) => self.stop(),
        }
    }

    fn finish(&mut self, end: End) {
        self.say("the command has ended");
        self.end.get_or_insert(end);
        self.deadline = Some(Instant::now() + POWER_OFF);
    }

    /// Ends QEMU at once.
    fn stop(&mut self) {
        let _: nix::Result<()> = kill(self.pid, Signal::SIGKILL);
        self.deadline = None;
    }

    fn tell(&self, frame: &Frame) {
        if let Some(writer) = &self.writer {
            let _: io::Result<()> = send(writer, frame);
        }
    }

    /// Prints output of the command; when nobody reads it any more, the machine is not needed
    /// either.
    fn print(&mut self, to: &mut impl Write, data: &[u8]) {
        if to.write_all(data).and_then(|()| to.flush()).is_err() && self.end.is_none() {
            self.end = Some(End::Interrupted(libc::SIGPIPE));
            self.stop();
        }
    }

    fn say(&self, what: &str) {
        if self.verbose {
            eprint!(
                "vm: {:6.2} s: {what}\r\n",
                self.start.elapsed().as_secs_f32()
            );
        }
    }
}
