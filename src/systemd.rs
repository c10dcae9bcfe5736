//! What the service manager is told: that the server is ready, how it does, that it stops (sd_notify(3)).
//!
//! Owns: the socket to the manager, and when it is written to. Knows: the protocol of NOTIFY_SOCKET. Never knows: the
//! environment, the clock, what a connection is.
//!
//! Decisions
//! - The loop itself feeds the watchdog, at half its time: a loop that hangs is a server that hangs.
//! - Its own few lines, over the crates that do this: those block when the manager does not read, and the loop never
//!   waits.
//! - An idle server stays asleep: its status is written only when it has changed, and not more often than every five
//!   seconds.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::clock::Millis;

/// Between two lines of status.
const STATUS_REST: Millis = 5_000;
/// After a message that the manager had no room for.
const RETRY: Millis = 100;
/// How long the start waits for the manager to take its word.
const PATIENCE: Duration = Duration::from_secs(1);

/// The manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// Between two signs of life.
    interval: Option<Millis>,
    sign_at: Millis,
    /// Connections, as they are and as the manager was last told.
    connections: usize,
    told: usize,
    status_at: Millis,
    stopping: bool,
}

impl Manager {
    /// `address` is NOTIFY_SOCKET's: a path, or an abstract name behind an `@`. `watchdog` is the silence after which
    /// the manager takes the server for dead.
    ///
    /// Errors: the address is of another kind, or nobody is there.
    pub fn new(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Manager> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let half = |time: Duration| Millis::try_from(time.as_millis() / 2).unwrap_or(Millis::MAX);
        Ok(Manager {
            socket: Some(socket),
            interval: watchdog.map(|time| half(time).max(1)),
            ..Manager::default()
        })
    }

    /// The server listens. The last message that is waited for.
    ///
    /// Errors: the manager did not take it.
    pub fn ready(&self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let sent = socket.send(b"READY=1\nSTATUS=0 connections");
        socket.set_nonblocking(true)?;
        sent.map(|_| ())
    }

    /// The server begins to stop, which may take `time`.
    pub fn stopping(&mut self, time: Millis) {
        self.stopping = true;
        // Whatever TimeoutStopSec= says: and some seconds more, as everything takes time on a busy machine.
        let micros = time.saturating_add(5_000).saturating_mul(1_000);
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    /// A turn of the loop is over.
    pub fn turn(&mut self, now: Millis, connections: usize) {
        if self.socket.is_none() {
            return;
        }
        self.connections = connections;
        if let Some(interval) = self.interval
            && now >= self.sign_at
        {
            let sent = self.send("WATCHDOG=1");
            self.sign_at = now.saturating_add(if sent { interval } else { RETRY.min(interval) });
        }
        if self.connections != self.told && now >= self.status_at {
            let doing = if self.stopping { "stopping: " } else { "" };
            if self.send(&format!("STATUS={doing}{connections} connections")) {
                self.told = connections;
            }
            self.status_at = now.saturating_add(STATUS_REST);
        }
    }

    /// When there is something to say again.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.socket.as_ref()?;
        let sign = self.interval.map(|_| self.sign_at);
        let status = (self.connections != self.told).then_some(self.status_at);
        [sign, status].into_iter().flatten().min()
    }

    /// Whether the manager took it.
    fn send(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else {
            return true;
        };
        socket.send(message.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager of that name, and what it was told.
    fn listening(name: &str, watchdog: Option<Duration>) -> (UnixDatagram, Manager) {
        let name = format!("wsify-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let ear = UnixDatagram::bind_addr(&address).unwrap();
        ear.set_nonblocking(true).unwrap();
        let manager = Manager::new(OsStr::new(&format!("@{name}")), watchdog).unwrap();
        (ear, manager)
    }

    fn heard(ear: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        let mut all = Vec::new();
        while let Ok(length) = ear.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_and_only_by_turns() {
        let (ear, mut manager) = listening("fed", Some(Duration::from_secs(2)));
        manager.ready().unwrap();
        assert_eq!(heard(&ear), ["READY=1\nSTATUS=0 connections"]);
        manager.turn(10, 0);
        assert_eq!(heard(&ear), ["WATCHDOG=1"]);
        assert_eq!(manager.next_deadline(), Some(1_010));
        manager.turn(1_009, 0);
        assert_eq!(heard(&ear), [""; 0]);
        manager.turn(1_010, 0);
        assert_eq!(heard(&ear), ["WATCHDOG=1"]);
    }

    #[test]
    fn status_is_written_when_it_changes_and_not_too_often() {
        let (ear, mut manager) = listening("status", None);
        manager.ready().unwrap();
        heard(&ear);
        manager.turn(10, 0);
        assert_eq!((heard(&ear), manager.next_deadline()), (vec![], None));
        manager.turn(20, 3);
        assert_eq!(heard(&ear), ["STATUS=3 connections"]);
        assert_eq!(manager.next_deadline(), None);
        manager.turn(30, 2);
        assert_eq!(
            (heard(&ear), manager.next_deadline()),
            (vec![], Some(5_020))
        );
        manager.stopping(10_000);
        manager.turn(5_020, 1);
        assert_eq!(
            heard(&ear),
            [
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000",
                "STATUS=stopping: 1 connections"
            ]
        );
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let (ear, mut manager) = listening("deaf", Some(Duration::from_millis(2)));
        manager.ready().unwrap();
        for now in 0..10_000 {
            manager.turn(now, 0);
        }
        assert!(manager.next_deadline() >= Some(10_000));
        assert!(heard(&ear).len() < 10_000);
        manager.turn(20_000, 0);
        assert_eq!(heard(&ear), ["WATCHDOG=1"]);
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let mut manager = Manager::default();
        manager.ready().unwrap();
        manager.turn(1_000_000, 7);
        assert_eq!(manager.next_deadline(), None);
        for address in ["", "vsock:2:1", "run/notify", "/no/such/socket"] {
            assert!(
                Manager::new(OsStr::new(address), None).is_err(),
                "{address}"
            );
        }
    }
}
