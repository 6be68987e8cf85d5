// SPDX-License-Identifier: GPL-2.0
//! Runs the command and carries its input and output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use vm_init::{Frame, Job};

use crate::agent::Agent;

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

/// Status of a command that cannot be started, as shells have it.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Makes the frame for a piece of one stream.
type ToFrame = fn(Vec<u8>) -> Frame;

/// The command with its end of the streams.
struct Running {
    child: Child,
    input: File,
    /// Streams that carry output, each with the frame that it goes into.
    outputs: Vec<(File, ToFrame)>,
    terminal: Option<File>,
}

/// Runs the command to its end and returns its exit status, 128 + N if signal N ended it.
pub(crate) fn run(job: &Job, env: Vec<(String, String)>, agent: &Agent) -> Result<i32> {
    let mut command = Command::new(&job.argv[0]);
    command
        .args(&job.argv[1..])
        .env_clear()
        .envs(env)
        .current_dir(&job.cwd);
    agent.send(&Frame::Started)?;
    let started = match job.terminal {
        Some(size) => on_terminal(&mut command, size),
        None => on_pipes(&mut command),
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => return refuse(job, &error, agent),
    };
    let pid = Pid::from_raw(running.child.id() as i32);
    let (done, all_read) = mpsc::channel();
    for (stream, frame) in running.outputs {
        let (agent, done) = (agent.clone(), done.clone());
        thread::spawn(move || {
            copy_out(stream, frame, &agent);
            drop(done);
        });
    }
    drop(done);
    let (input, queue) = mpsc::sync_channel(64);
    thread::spawn(move || copy_in(running.input, &queue));
    let listener = agent.clone();
    thread::spawn(move || listen(&listener, pid, &input, running.terminal));
    let status = wait(pid)?;
    // All output that is there; but a process left behind may hold the streams open for ever.
    let _: Result<(), _> = all_read.recv_timeout(Duration::from_millis(500));
    Ok(status)
}

fn on_pipes(command: &mut Command) -> io::Result<Running> {
    let piped = Stdio::piped;
    command.stdin(piped()).stdout(piped()).stderr(piped());
    // SAFETY: setsid() is safe between fork and exec.
    unsafe { command.pre_exec(|| setsid().map(|_| ()).map_err(io::Error::from)) };
    let mut child = command.spawn()?;
    let missing = || io::Error::other("a pipe is missing");
    let input: OwnedFd = child.stdin.take().ok_or_else(missing)?.into();
    let stdout: OwnedFd = child.stdout.take().ok_or_else(missing)?.into();
    let stderr: OwnedFd = child.stderr.take().ok_or_else(missing)?.into();
    Ok(Running {
        child,
        input: input.into(),
        outputs: vec![
            (stdout.into(), Frame::Stdout),
            (stderr.into(), Frame::Stderr),
        ],
        terminal: None,
    })
}

fn on_terminal(command: &mut Command, (rows, columns): (u16, u16)) -> io::Result<Running> {
    let size = window(rows, columns);
    let pty = openpty(&size, None)?;
    let end = || pty.slave.try_clone().map(Stdio::from);
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    // SAFETY: both calls are safe between fork and exec; standard input is the terminal by then.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let child = command.spawn()?;
    // The streams held by `command` would keep the terminal from hanging up.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let master = File::from(pty.master);
    Ok(Running {
        child,
        input: master.try_clone()?,
        outputs: vec![(master.try_clone()?, Frame::Stdout)],
        terminal: Some(master),
    })
}

/// Says why the command cannot be started.
fn refuse(job: &Job, error: &io::Error, agent: &Agent) -> Result<i32> {
    let no_folder = !fs::exists(&job.cwd).unwrap_or(false);
    let what = if no_folder { &job.cwd } else { &job.argv[0] };
    agent.send(&Frame::Stderr(
        format!("vm: {what}: {error}\n").into_bytes(),
    ))?;
    let missing = error.kind() == io::ErrorKind::NotFound;
    Ok(if missing { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Sends all that comes from `stream`; a terminal ends with an error, a pipe with nothing.
fn copy_out(mut stream: File, frame: ToFrame, agent: &Agent) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if agent.send(&frame(buffer[..len].to_vec())).is_err() {
            break;
        }
    }
}

/// Writes what the host sends to the command, until the host's input ends.
fn copy_in(mut input: File, queue: &Receiver<Vec<u8>>) {
    while let Ok(data) = queue.recv() {
        if data.is_empty() || input.write_all(&data).is_err() {
            break;
        }
    }
    drop(input);
    for _ in queue {} // nobody reads it any more, but the host must not be blocked
}

/// Does what the host asks while the command runs.
fn listen(agent: &Agent, pid: Pid, input: &SyncSender<Vec<u8>>, terminal: Option<File>) {
    while let Some(frame) = agent.receive() {
        match frame {
            Frame::Stdin(data) => {
                let _: Result<(), _> = input.send(data);
            }
            Frame::Signal(number) => {
                let _: Result<(), Errno> =
                    Signal::try_from(number).and_then(|signal| killpg(pid, signal));
            }
            Frame::Resize(rows, columns) => {
                if let Some(terminal) = &terminal {
                    let size = window(rows, columns);
                    // SAFETY: the descriptor is an open terminal and `size` lives through the call.
                    let _: Result<i32, Errno> =
                        unsafe { set_window_size(terminal.as_raw_fd(), &size) };
                }
            }
            Frame::Dump => {
                let _: io::Result<()> = fs::write("/proc/sysrq-trigger", "w");
            }
            _ => {}
        }
    }
}

/// Reaps every process until the command itself has ended: orphans are the first process's to reap.
fn wait(pid: Pid) -> Result<i32> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(ended, status)) if ended == pid => return Ok(status),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                return Ok(128 + signal as i32);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the command"),
        }
    }
}

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
