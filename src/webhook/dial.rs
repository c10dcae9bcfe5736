//! How a connection to a webhook is made: its name looked up, TCP, TLS.
//!
//! Owns: the TLS sessions that may be resumed, the lookup under way. Knows: rustls, and ureq's connector interface.
//! Never knows: what HTTP is spoken.
//!
//! Decisions
//! - **Names are looked up when a connection is made**, by one thread for all callers. Chosen over ureq's lookup before
//!   each call, on a thread of its own. `getaddrinfo` cannot be stopped: a name server that hangs then holds one
//!   thread, and only calls that need a new connection wait for it.
//! - **All callers share one TLS configuration**: roots are read once, sessions resumed. [`crate::tls`] says why
//!   certificates are judged there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, LazyBuffers, NextTimeout};

use super::link::{Link, Socket, left};
use super::threads::{STACK, lock};
use super::traffic::Traffic;
use super::transport::Carrier;
use super::url::Url;
use crate::tls::client_config;

/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;

/// Makes connections, for all callers.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    names: Arc<Names>,
    /// For an `https` URL.
    tls: Option<Arc<ClientConfig>>,
    /// Of the caller that it dials for.
    traffic: Arc<Traffic>,
}

impl Connector for Dialer {
    type Out = Carrier;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Carrier>, ureq::Error> {
        self.traffic.count();
        let deadline = Instant::now() + *details.timeout.after;
        let link = self.dial(deadline).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => ureq::Error::Timeout(details.timeout.reason),
            _ => error.into(),
        })?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Carrier::new(link, buffers, Arc::clone(&self.traffic))))
    }
}

/// ureq resolves before it knows whether it needs a connection; the [`Dialer`] does it then.
#[derive(Debug)]
pub(super) struct Later;

impl Resolver for Later {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }

    fn empty(&self) -> ResolvedSocketAddrs {
        ResolvedSocketAddrs::from_fn(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }
}

impl Dialer {
    /// `cert_file`: a PEM file of certificates that are trusted besides the system's roots. `called_for`: what is called, as an
    /// error names it.
    ///
    /// # Errors
    /// For an `https` URL: there is no certificate in that file, or none at all.
    pub(super) fn new(url: &Url, cert_file: Option<&Path>, called_for: &str) -> io::Result<Dialer> {
        let tls = if url.is_https() {
            Some(Arc::new(client_config(cert_file, called_for)?))
        } else {
            None
        };
        Ok(Dialer {
            names: Arc::new(Names::new(url)),
            tls,
            traffic: Arc::default(),
        })
    }

    /// The dialer of a caller that counts its connections.
    pub(super) fn counting(&self, traffic: Arc<Traffic>) -> Dialer {
        Dialer {
            traffic,
            ..self.clone()
        }
    }

    /// A new connection, its TLS handshake done.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; the name, the host or its certificate is not as it should be.
    fn dial(&self, deadline: Instant) -> io::Result<Link> {
        let found = self.names.look_up(left(deadline)?);
        let addrs = found.ok_or(io::ErrorKind::TimedOut)?;
        let addrs = addrs.map_err(io::Error::other)?;
        let mut socket = Socket::connect(&addrs, deadline)?;
        let Some(tls) = &self.tls else {
            return Ok(Link::Plain(socket));
        };
        let name = ServerName::try_from(self.names.host.clone())
            .map_err(|_| io::Error::other("the host is not a name that a certificate can have"))?;
        let mut session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        session.complete_io(&mut socket)?;
        Ok(Link::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

/// The addresses behind the URL's host, looked up by one thread at a time.
#[derive(Debug)]
struct Names {
    host: String,
    port: u16,
    lookup: Mutex<Lookup>,
    done: Condvar,
}

#[derive(Debug)]
struct Lookup {
    under_way: bool,
    /// Lookups that have ended.
    round: u64,
    found: Result<Vec<SocketAddr>, String>,
}

impl Names {
    fn new(url: &Url) -> Names {
        Names {
            host: url.host().into(),
            port: url.port(),
            lookup: Mutex::new(Lookup {
                under_way: false,
                round: 0,
                found: Ok(Vec::new()),
            }),
            done: Condvar::new(),
        }
    }

    /// `None`: not within `timeout`.
    fn look_up(self: &Arc<Self>, timeout: Duration) -> Option<Result<Vec<SocketAddr>, String>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Some(Ok(vec![SocketAddr::new(address, self.port)]));
        }
        let mut lookup = lock(&self.lookup);
        if !lookup.under_way {
            let names = Arc::clone(self);
            let started = thread::Builder::new()
                .name("webhook-dns".into())
                .stack_size(STACK)
                .spawn(move || names.run());
            if let Err(error) = started {
                return Some(Err(format!("no thread to look up {}: {error}", self.host)));
            }
            lookup.under_way = true;
        }
        let round = lookup.round;
        let (lookup, waited) = self
            .done
            .wait_timeout_while(lookup, timeout, |lookup| lookup.round == round)
            .unwrap_or_else(PoisonError::into_inner);
        (!waited.timed_out()).then(|| lookup.found.clone())
    }

    fn run(&self) {
        let found = match (self.host.as_str(), self.port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.take(ADDRESSES).collect()),
            Err(error) => Err(format!("{}: {error}", self.host)),
        };
        let mut lookup = lock(&self.lookup);
        lookup.under_way = false;
        lookup.round += 1;
        lookup.found = found;
        self.done.notify_all();
    }
}

#[cfg(test)]
mod tests;
