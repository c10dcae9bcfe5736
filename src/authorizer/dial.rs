//! How a connection to the authorizer is made: its name looked up, TCP, TLS.
//!
//! Owns: the TLS sessions that may be resumed, the lookup under way.
//! Knows: ureq's connector interface, rustls. Never knows: a question, or what HTTP is spoken.
//!
//! Decisions
//! - **Names are looked up when a connection is made**, by one thread for all workers. ureq would do it for every
//!   question, on a thread of its own each: slow, and a name server's hiccup would reach questions that need no new
//!   connection. Reconsider when ureq resolves lazily.
//! - **TLS is set up here instead of by ureq**, because all workers then share one configuration (roots read once,
//!   sessions resumed), and because of self-signed certificates (see [`crate::tls`]).
//! - Both need ureq's `unversioned` interface, which may change in a minor version: `Cargo.lock` pins it.

use std::fmt;
use std::io::{self, Read, Write};
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
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

use super::url::Url;
use super::{STACK, lock};
use crate::tls::client_config;

/// ureq has no room for more addresses of one name.
const ADDRESSES: usize = 16;

/// Makes connections, for all workers.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    names: Arc<Names>,
    /// For an `https` URL.
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// `cert_file`: a PEM file of certificates that are trusted besides the system's roots.
    ///
    /// # Errors
    /// For an `https` URL: there is no certificate in that file, or none at all.
    pub(super) fn new(url: &Url, cert_file: Option<&Path>) -> io::Result<Dialer> {
        let tls = match url.is_https() {
            true => Some(Arc::new(client_config(cert_file, "an https authorizer")?)),
            false => None,
        };
        Ok(Dialer {
            names: Arc::new(Names::new(url)),
            tls,
        })
    }
}

impl Connector for Dialer {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let late = || ureq::Error::Timeout(details.timeout.reason);
        let started = Instant::now();
        let left = || {
            let left = details.timeout.after.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(late());
            }
            Ok(NextTimeout {
                after: left.into(),
                ..details.timeout
            })
        };
        let found = self.names.look_up(*left()?.after).ok_or_else(late)?;
        let mut addrs = details.resolver.empty();
        for addr in found.map_err(|why| ureq::Error::Other(why.into()))? {
            addrs.push(addr);
        }
        let details = ConnectionDetails {
            uri: details.uri,
            addrs,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: (details.current_time)(),
            timeout: left()?,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let Some(tcp) = TcpConnector::default().connect(&details, chained)? else {
            return Ok(None);
        };
        let Some(tls) = &self.tls else {
            return Ok(Some(Box::new(tcp)));
        };
        let name = ServerName::try_from(self.names.host.clone())
            .map_err(|_| ureq::Error::Tls("the host is no name that a certificate can bear"))?;
        let mut session = ClientConnection::new(Arc::clone(tls), name)
            .map_err(|error| ureq::Error::Other(error.into()))?;
        let mut socket = TransportAdapter::new(
            Box::new(tcp) as Box<dyn Transport>,
            details.current_time.clone(),
        );
        socket.set_timeout(left()?);
        session.complete_io(&mut socket)?;
        let config = details.config;
        Ok(Some(Box::new(Tls {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned::new(session, socket),
        })))
    }
}

struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Whether the connection may be used again: nothing has come that nobody asked for, at any of the layers, and
    /// no end.
    fn is_open(&mut self) -> bool {
        let session = self.stream.conn.process_new_packets();
        let quiet =
            session.is_ok_and(|it| !it.peer_has_closed() && it.plaintext_bytes_to_read() == 0);
        let tcp = self.stream.sock.get_mut();
        quiet && tcp.buffers().input().is_empty() && tcp.is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls")
            .field(&self.stream.sock.inner())
            .finish()
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

/// The addresses behind the URL's host. One lookup at a time: `getaddrinfo` cannot be stopped, so a name server that
/// hangs holds one thread, however many workers ask.
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

    /// `None`: not within `patience`.
    fn look_up(self: &Arc<Self>, patience: Duration) -> Option<Result<Vec<SocketAddr>, String>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Some(Ok(vec![SocketAddr::new(address, self.port)]));
        }
        let mut lookup = lock(&self.lookup);
        if !lookup.under_way {
            let names = Arc::clone(self);
            let started = thread::Builder::new()
                .name("authorizer-dns".into())
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
            .wait_timeout_while(lookup, patience, |lookup| lookup.round == round)
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
mod tests {
    use super::*;
    use crate::authorizer::Settings;
    use crate::authorizer::tests::*;
    use crate::effect::Verdict;
    use std::net::TcpStream;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    #[test]
    fn one_lookup_for_all_who_ask() {
        let url: Url = "http://localhost:81/".parse().unwrap();
        let names = Arc::new(Names::new(&url));
        // Somebody's lookup is under way: it is waited for, but no longer than patience lasts.
        lock(&names.lookup).under_way = true;
        assert_eq!(names.look_up(Duration::from_millis(10)), None);
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let names = Arc::clone(&names);
                thread::spawn(move || names.look_up(PATIENCE))
            })
            .collect();
        until(|| Arc::strong_count(&names) == 5);
        names.run();
        for waiter in waiting {
            let found = waiter.join().unwrap().unwrap().unwrap();
            assert!(
                found
                    .iter()
                    .all(|addr| addr.ip().is_loopback() && addr.port() == 81)
            );
        }
    }

    type TlsPeer = Peer<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>;

    /// Certificates for a server on loopback, and a file that holds the one to be trusted.
    struct Pki {
        config: Arc<rustls::ServerConfig>,
        trusted: PathBuf,
    }

    impl Pki {
        /// `own`: the server's certificate is a CA's, and the one to be trusted (`openssl req -x509`).
        fn new(own: bool) -> Pki {
            Pki::until(own, 4000)
        }

        fn until(own: bool, year: i32) -> Pki {
            use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let ca_key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
            let mut ca = CertificateParams::new(names.clone()).unwrap();
            ca.not_after = rcgen::date_time_ymd(year, 1, 1);
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca_cert = ca.self_signed(&ca_key).unwrap();
            let number = NUMBER.fetch_add(1, SeqCst);
            let name = format!("wsify-authorizer-{}-{number}.pem", std::process::id());
            let trusted = std::env::temp_dir().join(name);
            std::fs::write(&trusted, ca_cert.pem()).unwrap();
            let (cert, key) = if own {
                (ca_cert.der().clone(), ca_key)
            } else {
                let key = KeyPair::generate().unwrap();
                let issuer = Issuer::new(ca, ca_key);
                let cert = CertificateParams::new(names).unwrap();
                (cert.signed_by(&key, &issuer).unwrap().der().clone(), key)
            };
            let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert], key)
                .unwrap();
            Pki {
                config: Arc::new(config),
                trusted,
            }
        }

        fn server(&self, script: impl Fn(&mut TlsPeer) + Send + Sync + 'static) -> Server {
            let config = Arc::clone(&self.config);
            Server::on("0.0.0.0:0", move |peer| {
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = peer.stream.try_clone().unwrap();
                script(&mut Peer {
                    stream: rustls::StreamOwned::new(tls, stream),
                    number: peer.number,
                    seen: Arc::clone(&peer.seen),
                    inbox: Vec::new(),
                });
            })
        }

        fn desk(&self, server: &Server, host: &str) -> Desk {
            Desk::with(Settings {
                cert_file: Some(self.trusted.clone()),
                ..settings(&format!("https://{host}:{}/", server.addr.port()))
            })
        }
    }

    impl Drop for Pki {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.trusted);
        }
    }

    #[test]
    fn https() {
        for own in [false, true] {
            let pki = Pki::new(own);
            let server = pki.server(|peer| {
                while peer.request().is_some() {
                    peer.say(NO);
                }
            });
            for (round, host) in ["localhost", "127.0.0.1"].into_iter().enumerate() {
                let mut desk = pki.desk(&server, host);
                for _ in 0..5 {
                    let answer = desk.ask();
                    assert_eq!(answer.verdict, Verdict::Deny, "{:?} {own}", answer.trouble);
                }
                assert_eq!(desk.connect().verdict, Verdict::Deny);
                assert_eq!(server.connections(), round + 1, "kept alive");
            }
            // Another CA, the system's only, another name.
            let mut strangers = [
                Pki::new(false).desk(&server, "localhost"),
                Pki::new(true).desk(&server, "localhost"),
                Desk::new(&format!("https://localhost:{}/", server.addr.port())),
                pki.desk(&server, "127.0.0.2"),
            ];
            for desk in &mut strangers {
                let answer = desk.ask();
                assert_eq!(answer.verdict, Verdict::Unavailable);
                let trouble = answer.trouble.unwrap();
                assert!(trouble.contains("certificate"), "{trouble}");
            }
            assert_eq!(server.requests(), 12);
        }
    }

    #[test]
    fn an_expired_certificate_is_refused_even_if_it_is_named() {
        let pki = Pki::until(true, 2001);
        let server = pki.server(|peer| peer.stay());
        let trouble = pki.desk(&server, "localhost").ask().trouble.unwrap();
        assert!(trouble.contains("expired"), "{trouble}");
        assert_eq!(server.requests(), 0);
    }

    #[test]
    fn a_tls_connection_that_was_closed_meanwhile_is_not_used() {
        let pki = Pki::new(false);
        let server = pki.server(|peer| {
            peer.request();
            peer.say(OK);
            if peer.number % 2 == 0 {
                peer.stream.conn.send_close_notify();
                let _ = peer.stream.flush();
            }
        });
        let mut desk = pki.desk(&server, "localhost");
        for round in 1..=6 {
            assert_eq!(desk.ask().verdict, Verdict::Allow);
            until(|| server.closed() == round);
        }
        assert_eq!((server.connections(), server.requests()), (6, 6));
    }

    #[test]
    fn no_tls_where_tls_is_expected() {
        let server = Server::new(|peer| {
            peer.say("HTTP/1.1 400 This is plain HTTP\r\n\r\n");
            peer.stay();
        });
        let pki = Pki::new(false);
        assert_eq!(
            pki.desk(&server, "localhost").ask().verdict,
            Verdict::Unavailable
        );
        let server = Server::new(|peer| peer.stay());
        let mut desk = Desk::with(Settings {
            timeout: Duration::from_millis(200),
            ..settings(&format!("https://{}/", server.addr))
        });
        assert_eq!(desk.ask().trouble.as_deref(), Some("timed out after 200ms"));
        let server = pki.server(|peer| peer.stay());
        assert_eq!(Desk::new(&server.url()).ask().verdict, Verdict::Unavailable);
    }

    #[test]
    fn a_certificate_file_without_certificates() {
        for (file, why) in [
            ("/nowhere/ca.pem", "No such file"),
            ("Cargo.toml", "not PEM"),
        ] {
            let refused = client_config(Some(Path::new(file)), "x")
                .unwrap_err()
                .to_string();
            assert!(refused.contains(file) && refused.contains(why), "{refused}");
        }
    }
}
