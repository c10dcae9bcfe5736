//! Notifications to the service manager: ready, status, watchdog, stopping (sd_notify(3)).
//!
//! Owns: the socket to the manager, and when it is written to. Knows: the protocol of NOTIFY_SOCKET. Never knows: the
//! environment, the clock, connections. What is sent and when: docs/operating.md#notifications-to-systemd.
//!
//! Decisions
//! - The loop itself pings the watchdog, at half its interval: if the loop hangs, the server hangs.
//! - A client of our own rather than a crate: the crates block when the manager does not read, and the loop never
//!   waits.
//! - An idle server stays asleep: its status is written only when it has changed, and at most every five seconds.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::clock::Millis;

/// Between two status messages.
const STATUS_INTERVAL: Millis = 5_000;
/// Delay before a message is sent again because the manager had no room for it.
const RETRY: Millis = 100;
/// How long the start waits until the manager takes `READY=1`.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// Between two watchdog pings. `None`: no watchdog.
    interval: Option<Millis>,
    ping_at: Millis,
    connections: usize,
    /// Connections in the last status message.
    reported: usize,
    status_at: Millis,
    /// When to notify that a handover is over, until the manager takes that.
    ready_at: Option<Millis>,
    stopping: bool,
}

impl Manager {
    /// A manager that listens on `address`, the value of NOTIFY_SOCKET: a path, or an abstract name after an `@`.
    ///
    /// After `watchdog` without a ping the manager considers the server hung.
    ///
    /// # Errors
    /// The address is of another kind, or nothing listens there.
    pub fn new(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Manager> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
        socket.set_nonblocking(true)?;
        let half = |time: Duration| Millis::try_from(time.as_millis() / 2).unwrap_or(Millis::MAX);
        Ok(Manager {
            socket: Some(socket),
            interval: watchdog.map(|time| half(time).max(1)),
            ..Manager::default()
        })
    }

    /// Notifies the manager that the server serves. This is the only message that waits for the manager.
    ///
    /// # Errors
    /// The manager did not take the message.
    pub fn ready(&mut self, connections: usize) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        self.reported = connections;
        socket.set_nonblocking(false)?;
        let message = format!("READY=1\nSTATUS={connections} connections");
        let sent = socket.send(message.as_bytes());
        socket.set_nonblocking(true)?;
        sent.map(|_| ())
    }

    /// Notifies the manager that a handover begins, at a time of the kernel's monotonic clock. It ends with
    /// [`Manager::reloaded`].
    pub fn reloading(&self, monotonic: Duration) {
        let micros = monotonic.as_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Notifies the manager that a handover is over, whatever came of it.
    pub fn reloaded(&mut self, now: Millis, connections: usize) {
        self.ready_at = self.socket.as_ref().map(|_| now);
        self.turn(now, connections);
    }

    /// Pings the watchdog now, because what follows may take a while.
    pub fn ping(&self) {
        if self.interval.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// Notifies the manager that a graceful stop begins, which may take `time`.
    pub fn stopping(&mut self, time: Millis) {
        self.stopping = true;
        // Overrides TimeoutStopSec=. 5 s more, because a busy machine needs time after the drain time is over.
        let micros = time.saturating_add(5_000).saturating_mul(1_000);
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    /// Notes the end of a turn: sends what is due.
    pub fn turn(&mut self, now: Millis, connections: usize) {
        if self.socket.is_none() {
            return;
        }
        self.connections = connections;
        if let Some(interval) = self.interval
            && now >= self.ping_at
        {
            let sent = self.send("WATCHDOG=1");
            self.ping_at = now.saturating_add(if sent { interval } else { RETRY.min(interval) });
        }
        if self.ready_at.is_some_and(|at| now >= at) {
            let sent = self.send(&format!("READY=1\nSTATUS={connections} connections"));
            self.ready_at = (!sent).then_some(now.saturating_add(RETRY));
            if sent {
                self.reported = connections;
            }
        }
        if self.connections != self.reported && now >= self.status_at {
            let prefix = if self.stopping { "stopping: " } else { "" };
            if self.send(&format!("STATUS={prefix}{connections} connections")) {
                self.reported = connections;
            }
            self.status_at = now.saturating_add(STATUS_INTERVAL);
        }
    }

    /// When the next message is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.socket.as_ref()?;
        let ping = self.interval.map(|_| self.ping_at);
        let status = (self.connections != self.reported).then_some(self.status_at);
        [ping, status, self.ready_at].into_iter().flatten().min()
    }

    /// Sends a message without waiting. Returns whether the manager took it.
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

    /// The manager's socket, and a client that is connected to it.
    fn manager(name: &str, watchdog: Option<Duration>) -> (UnixDatagram, Manager) {
        let name = format!("wsify-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::new(OsStr::new(&format!("@{name}")), watchdog).unwrap();
        (socket, manager)
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        let mut all = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn the_watchdog_is_pinged_at_half_its_interval_and_only_by_turns() {
        let (socket, mut manager) = manager("fed", Some(Duration::from_secs(2)));
        manager.ready(0).unwrap();
        assert_eq!(received(&socket), ["READY=1\nSTATUS=0 connections"]);
        manager.turn(10, 0);
        assert_eq!(received(&socket), ["WATCHDOG=1"]);
        assert_eq!(manager.next_deadline(), Some(1_010));
        manager.turn(1_009, 0);
        assert_eq!(received(&socket), [""; 0]);
        manager.turn(1_010, 0);
        assert_eq!(received(&socket), ["WATCHDOG=1"]);
    }

    #[test]
    fn status_is_sent_when_it_changes_and_at_most_every_five_seconds() {
        let (socket, mut manager) = manager("status", None);
        manager.ready(0).unwrap();
        received(&socket);
        manager.turn(10, 0);
        assert_eq!((received(&socket), manager.next_deadline()), (vec![], None));
        manager.turn(20, 3);
        assert_eq!(received(&socket), ["STATUS=3 connections"]);
        assert_eq!(manager.next_deadline(), None);
        manager.turn(30, 2);
        assert_eq!(
            (received(&socket), manager.next_deadline()),
            (vec![], Some(5_020))
        );
        manager.stopping(10_000);
        manager.turn(5_020, 1);
        assert_eq!(
            received(&socket),
            [
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000",
                "STATUS=stopping: 1 connections"
            ]
        );
    }

    #[test]
    fn the_loop_does_not_wait_for_a_manager_that_does_not_read() {
        let (socket, mut manager) = manager("silent", Some(Duration::from_millis(2)));
        manager.ready(0).unwrap();
        for now in 0..10_000 {
            manager.turn(now, 0);
        }
        assert!(manager.next_deadline() >= Some(10_000));
        assert!(received(&socket).len() < 10_000);
        manager.turn(20_000, 0);
        assert_eq!(received(&socket), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_handover_is_over_when_the_manager_has_taken_that() {
        let (socket, mut manager) = manager("reload", None);
        manager.ready(0).unwrap();
        received(&socket);
        manager.reloading(Duration::from_micros(77));
        assert_eq!(received(&socket), ["RELOADING=1\nMONOTONIC_USEC=77"]);
        while manager.send("x") {}
        manager.reloaded(1_000, 4);
        assert_eq!(manager.next_deadline(), Some(1_000 + RETRY));
        received(&socket);
        manager.turn(1_000 + RETRY, 4);
        assert_eq!(received(&socket), ["READY=1\nSTATUS=4 connections"]);
        assert_eq!(manager.next_deadline(), None);
    }

    #[test]
    fn without_a_service_manager_nothing_is_due() {
        let mut manager = Manager::default();
        manager.ready(0).unwrap();
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
