//! Names and certificates, with the authorizer as the one that calls.

use super::*;
use crate::authorizer::AuthorizerSettings;
use crate::authorizer::tests::*;
use crate::effect::Verdict;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[test]
fn one_lookup_for_all_callers() {
    let url: Url = "http://localhost:81/".parse().unwrap();
    let names = Arc::new(Names::new(&url));
    // Another caller's lookup is under way: it is waited for, but no longer than the timeout.
    lock(&names.lookup).under_way = true;
    assert_eq!(names.look_up(Duration::from_millis(10)), None);
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let names = Arc::clone(&names);
            thread::spawn(move || names.look_up(TEST_TIMEOUT))
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
        let name = format!("wsify-webhook-{}-{number}.pem", std::process::id());
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
        Desk::with(AuthorizerSettings {
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
fn https_certificates_are_checked() {
    for own in [false, true] {
        let pki = Pki::new(own);
        let server = pki.server(|peer| {
            while peer.request().is_some() {
                peer.say(FORBIDDEN);
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
fn a_tls_connection_with_plaintext_left_in_its_session_is_not_used_again() {
    let pki = Pki::new(false);
    let server = pki.server(|peer| {
        peer.say("more than was asked for");
        peer.stay();
    });
    let url = format!("https://localhost:{}/", server.addr.port());
    let dialer = Dialer::new(&url.parse().unwrap(), Some(&pki.trusted), "a test").unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut link = dialer.dial(deadline).unwrap();
    assert_eq!(link.read(&mut [0; 4], deadline).unwrap(), 4);
    assert!(!link.is_quiet());
    let mut rest = [0; 100];
    assert_eq!(link.read(&mut rest, deadline).unwrap(), 19);
    assert!(link.is_quiet());
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
    let mut desk = Desk::with(AuthorizerSettings {
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
