//! The log: lines on stdout, as JSON or as text for people, that never block the loop (`docs/observing.md#logs`).
//!
//! Owns: the lines that wait to be written, and the thread that writes them. Knows: levels, and that a reader may be
//! slow or gone. Never knows: the content of the lines.
//!
//! Decisions
//! - A thread and a bounded queue, rather than a non-blocking stdout: that flag would be shared with every process that
//!   has the same terminal or pipe.
//! - The thread has a table of file descriptors of its own, rather than sharing the loop's: a broadcast is 2 to 4 %
//!   cheaper.
//! - A lock rather than a lock-free queue. It is held for the copy of a line or the swap of a buffer, never for a
//!   write. The writer takes all that waits in one piece, so a burst is one system call.
//! - Once a line is dropped, all are until the writer returns. So the gap is in one place, and the line that reports it
//!   stands there.

mod format;
mod saved;
mod throttle;

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fd_table;

pub use format::is_visible;
use format::{Style, encoded};
pub use saved::SavedLog;
pub use throttle::{Condition, OutageThrottle, SavedOutageThrottle, SavedThrottle, Throttle};

/// How much a line matters. Ordered: what is greater matters less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    /// The name in `--log-level` and in the lines.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

impl Format {
    pub const ALL: [Format; 2] = [Format::Json, Format::Text];

    /// The name in `--log-format`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Text => "text",
        }
    }
}

/// A field's value. `Shown` is written out only when the line is.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Number(u64),
    Flag(bool),
    Text(&'a str),
    Shown(&'a dyn fmt::Display),
}

/// What may wait for the writer, in bytes: about 5,000 lines, a second of a busy server. With so slow a reader, more
/// would only delay the gap.
const CAPACITY: usize = 1 << 20;

/// A handle to the log; clones write to the same one. Calls never wait for a reader.
#[derive(Clone)]
pub struct Log {
    level: Level,
    style: Style,
    at_terminal: bool,
    shared: Arc<Shared>,
}

struct Shared {
    capacity: usize,
    queue: Mutex<Queue>,
    /// Something waits for the writer.
    filled: Condvar,
    /// The writer has written all it had.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Lines dropped behind `waiting`: while there are any, further ones are dropped too.
    gap: u64,
    /// The writer is at work on what it took.
    writing: bool,
    /// How many lines that is.
    taken: u64,
    /// Lines that were dropped since the start.
    dropped: u64,
}

impl Shared {
    /// No code panics under the lock, and counters and whole lines would be sound even if one did.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// A log on stdout for lines of `level` and above. Without a `format` it is text at a terminal and JSON elsewhere.
    /// `colours`: where there is a terminal.
    ///
    /// # Errors
    /// The thread cannot be started, or there is no file descriptor left for it.
    pub fn to_stdout(level: Level, format: Option<Format>, colours: bool) -> io::Result<Log> {
        // A descriptor of its own, because `io::stdout` buffers lines and locks.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let at_terminal = stdout.is_terminal();
        let style = match (format, at_terminal) {
            (Some(Format::Json), _) | (None, false) => Style::Json,
            (Some(Format::Text), false) => Style::Plain,
            (Some(Format::Text) | None, true) if colours => Style::Coloured,
            (Some(Format::Text) | None, true) => Style::Plain,
        };
        // JSON at a terminal is meant for a program, so nothing else may stand between the lines.
        let at_terminal = at_terminal && style != Style::Json;
        let log = Log::to(level, style, CAPACITY, stdout)?;
        Ok(Log { at_terminal, ..log })
    }

    /// A log that is read with [`Log::take`]: for tests, and for programs that embed the hub.
    pub fn in_memory(level: Level) -> Log {
        Log {
            level,
            style: Style::Json,
            at_terminal: false,
            shared: Arc::new(Shared::new(CAPACITY)),
        }
    }

    fn to(
        level: Level,
        style: Style,
        capacity: usize,
        sink: impl Write + Send + 'static,
    ) -> io::Result<Log> {
        let shared = Arc::new(Shared::new(capacity));
        let writers = Arc::clone(&shared);
        fd_table::spawn_with_own_fds("log", move || write_forever(&writers, style, sink))?;
        Ok(Log {
            level,
            style,
            at_terminal: false,
            shared,
        })
    }

    /// Whether a line of `level` is written at all: for callers whose fields are costly.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.level
    }

    pub fn error(&self, message: &str, fields: &[(&str, Value)]) {
        self.line(Level::Error, message, fields);
    }

    pub fn warn(&self, message: &str, fields: &[(&str, Value)]) {
        self.line(Level::Warn, message, fields);
    }

    pub fn info(&self, message: &str, fields: &[(&str, Value)]) {
        self.line(Level::Info, message, fields);
    }

    pub fn debug(&self, message: &str, fields: &[(&str, Value)]) {
        self.line(Level::Debug, message, fields);
    }

    /// Prints a text as it stands if stdout is a terminal, and nothing otherwise.
    pub fn print(&self, text: &str) {
        if self.at_terminal {
            self.push(text.as_bytes());
        }
    }

    fn line(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        if !self.enabled(level) {
            return;
        }
        self.push(&encoded(self.style, level, message, fields));
    }

    /// Queues whole lines, or drops them where too much waits.
    fn push(&self, line: &[u8]) {
        let mut queue = self.shared.lock();
        if queue.gap > 0 || queue.waiting.len() + line.len() > self.shared.capacity {
            queue.gap += 1;
            queue.dropped += 1;
        } else {
            queue.waiting.extend_from_slice(line);
        }
        // The writer looks for more before it sleeps: one wake-up per batch is enough.
        if queue.waiting.len() <= line.len() {
            drop(queue);
            self.shared.filled.notify_one();
        }
    }

    /// Lines that were dropped since the start, because stdout was blocked or closed.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until all lines are written, for `timeout` at most; whether they were.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut queue = self.shared.lock();
        while !queue.waiting.is_empty() || queue.gap > 0 || queue.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (queue, _) = self
                .shared
                .written
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// What waits to be written, taken away: with [`Log::in_memory`] all lines since the last call.
    pub fn take(&self) -> String {
        let mut queue = self.shared.lock();
        queue.gap = 0;
        String::from_utf8_lossy(&std::mem::take(&mut queue.waiting)).into_owned()
    }
}

impl Shared {
    fn new(capacity: usize) -> Shared {
        Shared {
            capacity,
            queue: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        }
    }
}

/// The writer thread. It ends with the process.
fn write_forever(shared: &Shared, style: Style, mut sink: impl Write) {
    let mut batch = Vec::new();
    // Dropped lines that no line has reported yet.
    let mut unreported = 0;
    let mut torn = false;
    loop {
        let mut queue = shared.lock();
        queue.writing = false;
        while queue.waiting.is_empty() && queue.gap == 0 {
            shared.written.notify_all();
            queue = shared
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.writing = true;
        std::mem::swap(&mut batch, &mut queue.waiting);
        queue.taken = count_lines(&batch);
        unreported += std::mem::take(&mut queue.gap);
        drop(queue);

        if torn {
            torn = write_what_can(&mut sink, b"\n") == 0;
        }
        let lines = batch.len();
        if unreported > 0 {
            batch.extend(encoded(
                style,
                Level::Warn,
                "log lines were dropped: stdout was blocked or closed",
                &[("dropped", Value::Number(unreported))],
            ));
        }
        let written = write_what_can(&mut sink, &batch);
        if written == batch.len() {
            unreported = 0;
        } else {
            // A closed stdout stays closed, but a full disk may get room again, so writing is tried again.
            let lost = count_lines(&batch[written.min(lines)..lines]);
            unreported += lost;
            shared.lock().dropped += lost;
            torn |= batch[..written].last().is_some_and(|&last| last != b'\n');
        }
        batch.clear();
        // The memory of a burst is not kept forever.
        batch.shrink_to(64 * 1024);
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// How many of `bytes` could be written.
fn write_what_can(sink: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process made the pipe non-blocking. This thread may wait for it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => break,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

    /// What a write shall do.
    enum Step {
        Take(usize),
        Fail(ErrorKind),
    }

    /// A sink whose every write waits for a step, and then reports what it took. Once the steps are over it takes all.
    struct Scripted {
        steps: Receiver<Step>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let size = match self.steps.recv() {
                Ok(Step::Take(most)) => most.min(bytes.len()),
                Ok(Step::Fail(kind)) => return Err(kind.into()),
                Err(_) => bytes.len(),
            };
            let _ = self.taken.send(bytes[..size].to_vec());
            Ok(size)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted(capacity: usize) -> (Log, Sender<Step>, Receiver<Vec<u8>>) {
        let ((tell, steps), (taken, took)) = (channel(), channel());
        let sink = Scripted { steps, taken };
        let log = Log::to(Level::Info, Style::Json, capacity, sink).unwrap();
        (log, tell, took)
    }

    fn parsed(text: &str) -> Vec<Json> {
        let line = |line| serde_json::from_str(line).expect(line);
        text.lines().map(line).collect()
    }

    fn text(took: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(took.try_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_with_typed_fields() {
        let log = Log::in_memory(Level::Info);
        let hostile = "a\"}\n{\"level\":\"error\u{2028}\u{0}";
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
        log.warn(
            hostile,
            &[
                ("number", Value::Number(u64::MAX)),
                ("flag", Value::Flag(true)),
                ("text", Value::Text(hostile)),
                ("shown", Value::Shown(&address)),
                ("shown too", Value::Shown(&hostile)),
            ],
        );
        let text = log.take();
        assert_eq!(text.matches('\n').count(), 1);
        let line = &parsed(&text)[0];
        assert_eq!(line["level"], "warn");
        assert_eq!(line["message"], hostile);
        assert_eq!(line["number"], u64::MAX);
        assert_eq!(line["flag"], true);
        assert_eq!(line["text"], hostile);
        assert_eq!(line["shown"], "127.0.0.1:80");
        assert_eq!(line["shown too"], hostile);
        let time = line["time"].as_str().unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len());
        let age = humantime::parse_rfc3339(time).unwrap().elapsed();
        assert!(age.is_ok_and(|age| age < FLUSH_TIMEOUT), "{time}");
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        for (threshold, expected) in [
            (Level::Error, "error"),
            (Level::Warn, "error warn"),
            (Level::Info, "error warn info"),
            (Level::Debug, "error warn info debug"),
        ] {
            let log = Log::in_memory(threshold);
            log.error("", &[]);
            log.warn("", &[]);
            log.info("", &[]);
            log.debug("", &[]);
            let lines = parsed(&log.take());
            let levels: Vec<_> = lines.iter().filter_map(|l| l["level"].as_str()).collect();
            assert_eq!(levels.join(" "), expected);
            assert_eq!(log.dropped(), 0);
        }
    }

    #[test]
    fn waiting_log_lines_go_out_in_one_write() {
        let (log, tell, took) = scripted(CAPACITY);
        log.info("first", &[]);
        // The writer is held inside its first write.
        while !log.shared.lock().writing {
            thread::yield_now();
        }
        for _ in 0..100 {
            log.info("more", &[]);
        }
        assert!(!log.flush(Duration::ZERO));
        tell.send(Step::Take(usize::MAX)).unwrap();
        tell.send(Step::Take(usize::MAX)).unwrap();
        assert!(log.flush(FLUSH_TIMEOUT));
        let writes: Vec<_> = took.try_iter().collect();
        assert_eq!(writes.len(), 2);
        assert_eq!(writes[1].iter().filter(|&&b| b == b'\n').count(), 100);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn lines_dropped_while_stdout_blocks_are_counted_and_reported() {
        let (log, tell, took) = scripted(1_000);
        log.info("first", &[]);
        while !log.shared.lock().writing {
            thread::yield_now();
        }
        for n in 0..49 {
            let wide = Value::Text(
                "a field that leaves room for a shorter line behind the last that fits",
            );
            log.info("more", &[("n", Value::Number(n)), ("wide", wide)]);
        }
        let room = 1_000 - log.shared.lock().waiting.len();
        assert!(room > encoded(Style::Json, Level::Info, "short", &[]).len());
        log.info("short", &[]);
        let dropped = log.dropped();
        assert!(1 < dropped && dropped < 50);
        assert!(log.shared.lock().waiting.len() <= 1_000);
        drop(tell);
        assert!(log.flush(FLUSH_TIMEOUT));
        log.info("last", &[]);
        assert!(log.flush(FLUSH_TIMEOUT));
        let lines = parsed(&text(&took));
        let kept = 50 - dropped as usize;
        assert_eq!(lines.len(), 1 + kept + 2);
        assert_eq!(lines[0]["message"], "first");
        for (n, line) in lines[1..=kept].iter().enumerate() {
            assert_eq!(line["n"], n);
        }
        assert_eq!(lines[kept + 1]["dropped"], dropped);
        assert_eq!(lines[kept + 2]["message"], "last");
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn a_line_too_long_for_the_queue_is_dropped_and_reported() {
        let (log, tell, took) = scripted(1_000);
        drop(tell);
        log.info(&"x".repeat(1_000), &[]);
        assert!(log.flush(FLUSH_TIMEOUT));
        assert_eq!(parsed(&text(&took))[0]["dropped"], 1);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn lines_dropped_while_stdout_is_closed_are_counted_and_reported() {
        let (log, tell, took) = scripted(CAPACITY);
        for _ in 0..3 {
            tell.send(Step::Fail(ErrorKind::BrokenPipe)).unwrap();
            log.info("lost", &[]);
            assert!(log.flush(FLUSH_TIMEOUT));
        }
        assert_eq!(log.dropped(), 3);
        // A disk that has room for a part of a line: the next ones begin on a line of their own.
        tell.send(Step::Take(10)).unwrap();
        tell.send(Step::Fail(ErrorKind::StorageFull)).unwrap();
        log.info("torn", &[]);
        assert!(log.flush(FLUSH_TIMEOUT));
        assert_eq!(log.dropped(), 4);
        drop(tell);
        log.info("back", &[]);
        assert!(log.flush(FLUSH_TIMEOUT));
        let text = text(&took);
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn.len(), 10);
        let lines = parsed(whole);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "back");
        assert_eq!(lines[1]["dropped"], 4);
        assert_eq!(log.dropped(), 4);
    }

    #[test]
    fn an_interrupted_or_non_blocking_stdout_loses_nothing() {
        let (log, tell, took) = scripted(CAPACITY);
        tell.send(Step::Fail(ErrorKind::Interrupted)).unwrap();
        tell.send(Step::Take(5)).unwrap();
        tell.send(Step::Fail(ErrorKind::WouldBlock)).unwrap();
        drop(tell);
        log.info("whole", &[]);
        assert!(log.flush(FLUSH_TIMEOUT));
        assert_eq!(parsed(&text(&took))[0]["message"], "whole");
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn flush_gives_up_on_a_stdout_that_blocks() {
        let (log, _tell, _took) = scripted(CAPACITY);
        assert!(log.flush(Duration::ZERO), "nothing was logged");
        log.info("stuck", &[]);
        assert!(!log.flush(Duration::from_millis(1)));
    }
}
