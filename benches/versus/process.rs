//! Child processes: started on a core of their own, measured, and always ended.
//!
//! Owns: which core is whose, the guard that ends a child, what `/proc` says of it.
//!
//! A child is started through this very executable, which pins itself, asks the kernel to be killed when its parent dies,
//! raises its fd limit, and then becomes the program: all of that in safe code, and true of any program.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CpuSet;
use serde_json::Value;

/// The first argument that makes this executable pin itself and become another program.
pub const PINNED: &str = "pinned";

const START: Duration = Duration::from_secs(10);

/// Where the servers and where the clients run. The same, on a machine with one core.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub client: usize,
}

/// A running child; dropping it ends it.
pub struct Process {
    child: Child,
}

/// A server that listens on a port of the loopback.
pub struct Server {
    pub process: Process,
    pub port: u16,
}

/// A load client and the pipes to it.
pub struct Client {
    pub process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Cores {
    /// The first two allowed cores that do not share one core's hardware, where there are such.
    pub fn choose() -> io::Result<Self> {
        let set = rustix::thread::sched_getaffinity(None)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect();
        let client = allowed.first().copied().unwrap_or(0);
        let siblings = siblings(client);
        let others = allowed.iter().copied().filter(|&cpu| cpu != client);
        let server = others
            .clone()
            .find(|cpu| !siblings.contains(cpu))
            .or_else(|| others.clone().next());
        Ok(Self {
            server: server.unwrap_or(client),
            client,
        })
    }
}

/// How long the cores are watched for pauses.
const WATCH: Duration = Duration::from_secs(5);
/// The moments of that at which the length of the pause is noted.
const MOMENTS: u32 = 5_000;

impl Cores {
    /// How long both cores, while they compute, stand still at a moment, as a percentile in ms. A virtual machine may stand
    /// still for tens of ms, as its host gives its cores to others.
    pub fn pause(self, percentile: f64) -> io::Result<f64> {
        let begun = Instant::now();
        let watch = |core| thread::spawn(move || pauses(core, begun));
        let watched = [self.server, self.client].map(watch);
        let mut found = Vec::new();
        for thread in watched {
            found.extend(thread.join().map_err(|_| io::Error::other("panicked"))??);
        }
        let left = |moment: Instant| {
            let now = found.iter().filter(|(from, _)| *from <= moment);
            now.map(|(_, to)| to.saturating_duration_since(moment))
                .max()
                .unwrap_or_default()
        };
        let moments = (0..MOMENTS).map(|nth| begun + WATCH / MOMENTS * nth);
        let mut pauses: Vec<Duration> = moments.map(left).collect();
        pauses.sort_unstable();
        let at = (percentile * f64::from(MOMENTS)) as usize;
        let pause = pauses.get(at).copied().unwrap_or_default();
        Ok(pause.as_secs_f64() * 1000.0)
    }
}

/// When this core has stood still, in the time to watch from `begun` on.
fn pauses(core: usize, begun: Instant) -> io::Result<Vec<(Instant, Instant)>> {
    const SHORTEST: Duration = Duration::from_micros(50);
    pin(core)?;
    let mut pauses = Vec::new();
    let mut last = begun;
    while last < begun + WATCH {
        let now = Instant::now();
        if now - last >= SHORTEST {
            pauses.push((last, now));
        }
        last = now;
    }
    Ok(pauses)
}

/// Has this thread run on one core only.
fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The logical cores on the same physical one: `0,4` or `0-1`.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

/// `pinned CORE PARENT PROGRAM ARGS…`: becomes the program; returns only on failure.
pub fn become_pinned(args: &[String]) -> io::Error {
    let [core, parent, program, rest @ ..] = args else {
        return io::Error::other("pinned: too few arguments");
    };
    match prepare(core, parent) {
        Ok(()) => Command::new(program).args(rest).exec(),
        Err(error) => error,
    }
}

fn prepare(core: &str, parent: &str) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() != Some(parent) {
        return Err(io::Error::other("the parent is gone already"));
    }
    pin(core.parse().map_err(io::Error::other)?)?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(())
}

/// How many fds a child may have.
pub fn fd_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX)
}

/// A command that runs a program on this core.
fn pinned(core: usize, program: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(PINNED)
        .arg(core.to_string())
        .arg(std::process::id().to_string())
        .arg(program);
    Ok(command)
}

impl Process {
    /// CPU time of all its threads so far, in nanoseconds.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may have ended meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let first = text.split_whitespace().next().unwrap_or_default();
            sum += first.parse::<u64>().map_err(io::Error::other)?;
        }
        Ok(sum)
    }

    /// Resident memory in bytes. Exact: the kernel's short figure in `statm` lags by some hundred kilobytes.
    pub fn rss(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path)?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or_else(|| io::Error::other("smaps_rollup names no Rss"))?;
        Ok(kib.parse::<u64>().map_err(io::Error::other)? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server with these arguments, in which `PORT` stands for a free port, and waits until it listens. What
    /// it says goes to `log`.
    pub fn start(core: usize, program: &Path, args: &[String], log: &Path) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log_file = fs::File::create(log)?;
        let child = pinned(core, program)?
            .args(
                args.iter()
                    .map(|arg| arg.replace("PORT", &port.to_string())),
            )
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()?;
        let mut server = Self {
            process: Process { child },
            port,
        };
        let begun = Instant::now();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(addr).is_err() {
            let ended = server.process.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > START {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing").to_owned();
                return Err(io::Error::other(match ended {
                    Some(status) => format!("the server ended ({status}); it said: {last}"),
                    None => format!(
                        "the server does not listen after {} s; it said: {last}",
                        START.as_secs()
                    ),
                }));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Client {
    /// Starts this executable as a load client and waits until it has opened what it needs.
    pub fn start(core: usize, args: &[String]) -> io::Result<Self> {
        let mut child = pinned(core, &std::env::current_exe()?)?
            .arg("client")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the client has no pipes"));
        };
        let mut client = Self {
            process: Process { child },
            stdin,
            stdout: BufReader::new(stdout),
        };
        client.answer()?;
        Ok(client)
    }

    /// Runs one sample.
    pub fn sample(&mut self, number: u64) -> io::Result<Value> {
        writeln!(self.stdin, "{number}")?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let value: Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("the client ended; it said {line:?}")))?;
        match value["error"].as_str() {
            Some(error) => Err(io::Error::other(error.to_owned())),
            None => Ok(value),
        }
    }
}
