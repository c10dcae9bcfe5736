//! The exact number of system calls (M0): `strace` traces the program's loop, and the calls between two requests that mark
//! the trace are counted.
//!
//! A figure holds on a busy machine, too. If a turn has to handle one message, the client waits for all its effects before
//! it goes on. If a turn has to handle many, they are one write of the client.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// How long to wait for anything before the test fails.
const TIMEOUT: Duration = Duration::from_secs(60);
const MEMBERS: usize = 150;

const JOIN: &str = r#"{"id":1,"command":"join","args":{"channel":"a"}}"#;
const OK: &str = r#"{"id":1,"ok":true}"#;

// -- the program under strace

/// One system call of the loop.
#[derive(Debug)]
struct Call {
    name: String,
    fd: i32,
    /// What it returned, and why if that was an error: `-1 EAGAIN (…)`.
    result: String,
}

impl Call {
    fn parse(line: &str) -> Option<Call> {
        let (name, rest) = line.split_once('(')?;
        let (_, result) = rest.rsplit_once(" = ")?;
        let fd = rest.split([',', ')']).next()?;
        Some(Call {
            name: name.to_owned(),
            fd: fd.parse().unwrap_or(-1),
            result: result.to_owned(),
        })
    }

    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    fn would_block(&self) -> bool {
        self.result.contains("EAGAIN")
    }
}

const READS: [&str; 4] = ["recvfrom", "recvmsg", "read", "readv"];
const SENDS: [&str; 4] = ["sendto", "sendmsg", "write", "writev"];

/// Calls between two marks.
#[derive(Debug)]
struct Calls(Vec<Call>);

impl Calls {
    /// How often each was called, in the order of their first call. The poll is left out, unless it is the only call.
    /// `fcntl` is left out, too: a debug build checks with it whether the descriptor that it closes is open.
    fn tally(&self) -> Vec<(&str, usize)> {
        let mut tally: Vec<(&str, usize)> = Vec::new();
        let silent: &[&str] = if cfg!(debug_assertions) {
            &["epoll_wait", "fcntl"]
        } else {
            &["epoll_wait"]
        };
        for call in self.0.iter().filter(|call| !call.is(silent)) {
            let name = match call {
                call if call.is(&READS) => "read",
                call if call.is(&SENDS) => "send",
                call => &call.name,
            };
            match tally.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => tally.push((name, 1)),
            }
        }
        tally
    }

    fn in_vain(&self) -> Vec<&Call> {
        self.0.iter().filter(|call| call.would_block()).collect()
    }

    fn to(&self, fd: i32) -> Vec<&Call> {
        self.0.iter().filter(|call| call.fd == fd).collect()
    }
}

struct Watched {
    strace: Child,
    /// The program's own process.
    program: Option<Pid>,
    port: u16,
    folder: PathBuf,
    /// The calls of its main thread, which is the loop.
    trace: PathBuf,
    marker: Option<Client>,
    marks: usize,
}

impl Watched {
    /// `None` if strace does not work here, and tests may be skipped.
    fn start(flags: &[&str]) -> Option<Watched> {
        let works = Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status();
        if !works.is_ok_and(|status| status.success()) {
            let all = ["CI", "WSIFY_TEST_ALL"].map(std::env::var_os);
            assert!(
                all == [None, None],
                "strace is not installed, or may not trace here, and everything is to be tested"
            );
            eprintln!("skipped: strace is not installed, or may not trace here");
            return None;
        }
        let folder = tempfolder();
        let mut strace = Command::new("strace")
            .args([
                "-ff",
                "-s",
                "64",
                "-e",
                "trace=network,desc",
                "-e",
                "signal=none",
                "-o",
            ])
            .arg(folder.join("trace"))
            .arg(env!("CARGO_BIN_EXE_wsify"))
            .args(["--listen-addr", "127.0.0.1:0"])
            .args(flags)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = strace.stdout.take().unwrap();
        let mut watched = Watched {
            strace,
            program: None,
            port: 0,
            trace: PathBuf::new(),
            folder,
            marker: None,
            marks: 0,
        };
        let line = BufReader::new(stdout).lines().next().unwrap().unwrap();
        let (_, address) = line.split_once("127.0.0.1:").expect(&line);
        watched.port = address.split(['"', ',']).next().unwrap().parse().unwrap();
        let polls = |path: &Path| fs::read_to_string(path).unwrap().contains("epoll_wait(");
        watched.trace = patiently("a trace of the loop", || {
            let mut files = fs::read_dir(&watched.folder)
                .unwrap()
                .map(|file| file.unwrap().path());
            files.find(|path| polls(path))
        });
        let pid = watched.trace.extension().unwrap().to_str().unwrap();
        watched.program = Pid::from_raw(pid.parse().unwrap());
        watched.marker = Some(watched.connect());
        Some(watched)
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn connect(&self) -> Client {
        Client::on(TcpStream::connect(self.address()).unwrap())
    }

    fn websocket(&self) -> Client {
        let mut client = self.connect();
        client.upgrade();
        client
    }

    fn member(&self) -> Client {
        let mut client = self.websocket();
        client.say(JOIN);
        client.hears(OK);
        client
    }

    /// Stops the program's process until it is continued.
    fn stop(&self) {
        let program = self.program.unwrap();
        kill_process(program, Signal::STOP).unwrap();
        let stat = format!("/proc/{}/stat", program.as_raw_nonzero());
        patiently("its stop", || {
            let stat = fs::read_to_string(&stat).unwrap();
            let (_, state) = stat.rsplit_once(") ").unwrap();
            state.starts_with(['T', 't']).then_some(())
        });
    }

    fn resume(&self) {
        kill_process(self.program.unwrap(), Signal::CONT).unwrap();
    }

    /// The calls of the loop while `run` runs. `run` has to wait for all effects of what it does.
    fn during(&mut self, run: impl FnOnce(&mut Self)) -> Calls {
        let from = self.mark();
        run(self);
        let to = self.mark();
        let trace = fs::read_to_string(&self.trace).unwrap();
        let lines: Vec<&str> = trace.lines().collect();
        // From the answer to the first mark to the read of the second.
        let begin = from
            + lines[from..]
                .iter()
                .position(|line| line.contains("404 "))
                .unwrap();
        Calls(
            lines[begin + 1..to]
                .iter()
                .filter_map(|line| Call::parse(line))
                .collect(),
        )
    }

    /// Marks the trace. Returns the number of the line in which the mark is read. Its answer is in the trace, too.
    fn mark(&mut self) -> usize {
        self.marks += 1;
        let path = format!("/mark-{}-", self.marks);
        let marker = self.marker.as_mut().unwrap();
        marker.asks(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), "404");
        patiently("the mark", || {
            let trace = fs::read_to_string(&self.trace).unwrap();
            let mark = trace.lines().position(|line| line.contains(&path))?;
            let answered = |line: &str| line.contains(" 404 ") && line.contains(" = ");
            trace.lines().skip(mark).any(answered).then_some(mark)
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        match self.program {
            Some(program) => drop(kill_process(program, Signal::KILL)),
            None => drop(self.strace.kill()),
        }
        let _ = self.strace.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder of this test's own.
fn tempfolder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("counts-{}-{count}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let from = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(from.elapsed() < TIMEOUT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// -- its clients

struct Client(BufReader<TcpStream>);

impl Client {
    fn on(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn upgrade(&mut self) {
        let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.asks(request, "101");
    }

    /// A response's head; its body is read, too.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        self.0.read_exact(&mut vec![0; length]).unwrap();
        head
    }

    fn asks(&mut self, request: &str, status: &str) {
        self.send(request.as_bytes());
        let head = self.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }

    fn say(&mut self, message: &str) {
        self.send(&frame(1, message));
    }

    /// The next frame's first byte and payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).unwrap();
        let mut length = [0; 8];
        match header[1] {
            127 => self.0.read_exact(&mut length).unwrap(),
            126 => self.0.read_exact(&mut length[6..]).unwrap(),
            short => length[7] = short,
        }
        let mut payload = vec![0; u64::from_be_bytes(length) as usize];
        self.0.read_exact(&mut payload).unwrap();
        (header[0], payload)
    }

    fn hears(&mut self, message: &str) {
        let (first, payload) = self.frame();
        assert_eq!((first, str::from_utf8(&payload).unwrap()), (0x81, message));
    }
}

/// A client's frame.
fn frame(opcode: u8, payload: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .bytes()
            .zip(MASK.into_iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

fn broadcast(content: &str) -> String {
    format!(r#"{{"command":"broadcast","args":{{"channel":"a","content":{content}}}}}"#)
}

// -- the counts

#[test]
fn a_broadcast_to_n_is_one_read_and_n_sends() {
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    let mut members: Vec<Client> = (0..MEMBERS).map(|_| wsify.member()).collect();
    let mut publisher = wsify.websocket();
    let calls = wsify.during(|_| {
        publisher.say(&broadcast("1"));
        members.iter_mut().for_each(|member| member.hears("1"));
    });
    assert_eq!(calls.tally(), [("read", 1), ("send", MEMBERS)], "{calls:?}");
    assert!(calls.in_vain().is_empty(), "{calls:?}");
}

#[test]
fn broadcasts_of_one_turn_are_one_send_to_each() {
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    let mut members: Vec<Client> = (0..MEMBERS).map(|_| wsify.member()).collect();
    let mut publisher = wsify.websocket();
    let contents: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    let frames: Vec<u8> = contents
        .iter()
        .flat_map(|content| frame(1, &broadcast(content)))
        .collect();
    let calls = wsify.during(|_| {
        publisher.send(&frames);
        for content in &contents {
            members.iter_mut().for_each(|member| member.hears(content));
        }
    });
    assert_eq!(calls.tally(), [("read", 1), ("send", MEMBERS)], "{calls:?}");
}

#[test]
fn a_command_with_an_id_is_one_read_and_one_send() {
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    let mut ann = wsify.member();
    for _ in 0..3 {
        let calls = wsify.during(|_| {
            ann.say(JOIN);
            ann.hears(OK);
        });
        assert_eq!(calls.tally(), [("read", 1), ("send", 1)], "{calls:?}");
        assert!(calls.in_vain().is_empty(), "{calls:?}");
    }
}

#[test]
fn a_post_is_one_read_and_a_send_to_each_member_and_one() {
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    let mut ann = wsify.member();
    let mut backend = wsify.connect();
    let body = r#"{"channel":"a","content":1}"#;
    let request = format!(
        "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The first one is taken in, too.
    backend.asks(&request, "201");
    ann.hears("1");
    for _ in 0..3 {
        let calls = wsify.during(|_| {
            backend.asks(&request, "201");
            ann.hears("1");
        });
        assert_eq!(calls.tally(), [("read", 1), ("send", 2)], "{calls:?}");
        assert!(calls.in_vain().is_empty(), "{calls:?}");
    }
}

#[test]
fn a_connections_life_is_eight_calls() {
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    for _ in 0..3 {
        let calls = wsify.during(|wsify| {
            let mut ann = wsify.member();
            ann.send(&frame(8, ""));
            assert_eq!(ann.frame().0, 0x88);
            assert_eq!(ann.0.read(&mut [0]).unwrap(), 0, "nothing but the end");
        });
        let life = [
            // And one that finds no other connection.
            ("accept4", 2),
            ("epoll_ctl", 1),
            ("read", 3),
            ("send", 3),
            ("close", 1),
        ];
        assert_eq!(calls.tally(), life, "{calls:?}");
        let in_vain = calls.in_vain();
        assert!(
            in_vain.len() == 1 && in_vain[0].is(&["accept4"]),
            "{calls:?}"
        );
    }
}

#[test]
fn a_batch_of_accepts_ends_with_one_that_finds_none() {
    const NEWCOMERS: usize = 20;
    let Some(mut wsify) = Watched::start(&[]) else {
        return;
    };
    let calls = wsify.during(|wsify| {
        // They connect while the program is stopped, so that one turn accepts them all.
        wsify.stop();
        let mut crowd: Vec<Client> = (0..NEWCOMERS).map(|_| wsify.connect()).collect();
        wsify.resume();
        crowd.iter_mut().for_each(Client::upgrade);
    });
    let accepts: Vec<&Call> = calls
        .0
        .iter()
        .filter(|call| call.is(&["accept4"]))
        .collect();
    assert_eq!(accepts.len(), NEWCOMERS + 1, "{calls:?}");
    assert!(accepts[NEWCOMERS].would_block(), "{calls:?}");
    assert_eq!(calls.in_vain().len(), 1, "{calls:?}");
}

#[test]
fn a_full_socket_is_not_written_to_until_the_kernel_reports_room() {
    let Some(mut wsify) = Watched::start(&["--max-queue-size", "256MiB"]) else {
        return;
    };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    let mut slow = None;
    let calls = wsify.during(|wsify| {
        socket.connect(&wsify.address().into()).unwrap();
        let mut client = Client::on(socket.into());
        client.upgrade();
        client.say(JOIN);
        client.hears(OK);
        slow = Some(client);
    });
    let mut slow = slow.unwrap();
    let accepted = calls.0.iter().find(|call| call.is(&["accept4"])).unwrap();
    let fd: i32 = accepted.result.parse().unwrap();

    let mut publisher = wsify.websocket();
    let content = format!("\"{}\"", "x".repeat(200_000));
    let message = broadcast(&content).replacen('{', r#"{"id":1,"#, 1);
    let mut said = 0;
    let mut publish = |wsify: &mut Watched| {
        said += 1;
        wsify.during(|_| {
            publisher.say(&message);
            publisher.hears(OK);
        })
    };
    // As much as the kernels at both ends take.
    patiently("a full kernel", || {
        publish(&mut wsify).to(fd).is_empty().then_some(())
    });
    for _ in 0..5 {
        let calls = publish(&mut wsify);
        assert!(calls.to(fd).is_empty(), "{calls:?}");
        assert!(
            calls
                .tally()
                .iter()
                .all(|(name, _)| ["read", "send"].contains(name)),
            "{calls:?}"
        );
    }
    let calls = wsify.during(|_| (0..said).for_each(|_| slow.hears(&content)));
    assert!(!calls.to(fd).is_empty(), "{calls:?}");
    assert!(
        calls
            .0
            .iter()
            .all(|call| call.is(&SENDS) || call.is(&["epoll_wait"])),
        "{calls:?}"
    );
}

#[test]
fn an_idle_server_sleeps() {
    let patient = ["--ping-interval", "60m", "--handshake-timeout", "60m"];
    let Some(mut wsify) = Watched::start(&patient) else {
        return;
    };
    let members: Vec<Client> = (0..20).map(|_| wsify.member()).collect();
    let calls = wsify.during(|_| std::thread::sleep(Duration::from_millis(1500)));
    // The one poll that the second mark ends.
    assert_eq!(calls.0.len(), 1, "{calls:?}");
    drop(members);
}
