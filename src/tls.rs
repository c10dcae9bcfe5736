//! TLS towards others: which certificates are trusted (CONTRACT §6, §7).
//!
//! Owns: the roots, and the one exception to webpki's judgement. Knows: rustls. Never knows: who is talked to.
//!
//! Decision: a verifier of our own because of self-signed certificates: what `openssl req -x509` makes is a CA and the
//! server's certificate at once, which webpki refuses even where `SSL_CERT_FILE` names that very certificate. OpenSSL, Go
//! and curl accept it. Reconsider when webpki does.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// What every connection to one party shares. `cert_file`: a PEM file of certificates that are trusted besides the
/// system's roots. `party` is who shows a certificate, for an error.
///
/// # Errors
/// There is no certificate in that file, or none at all.
pub fn client_config(cert_file: Option<&Path>, party: &str) -> io::Result<ClientConfig> {
    let named = match cert_file.filter(|file| !file.as_os_str().is_empty()) {
        Some(file) => read_certs(file)?,
        None => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(named.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if cert_file.is_some() || roots.is_empty() {
        // The line above has read only what `SSL_CERT_FILE` names; CONTRACT §6 trusts the system's roots, too.
        for dir in openssl_probe::candidate_cert_dirs() {
            let system = rustls_native_certs::load_certs_from_paths(None, Some(dir));
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "no root certificate to check {party} with: install the system's (package \
                 ca-certificates) or name a PEM file in SSL_CERT_FILE"
            ),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let webpki =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(io::Error::other)?;
    let verifier = Verifier { webpki, named };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// What `SSL_CERT_FILE` names: somebody counts on it, so it must hold something.
fn read_certs(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = rustls_native_certs::load_certs_from_paths(Some(file), None);
    if read.certs.is_empty() {
        let why = read.errors.first().map(ToString::to_string);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "SSL_CERT_FILE: no certificate in \"{}\" ({}): name a PEM file with at least one",
                file.display(),
                why.as_deref().unwrap_or("it is not PEM"),
            ),
        ));
    }
    Ok(read.certs)
}

/// webpki's judgement, but for one case: a server that shows a certificate which `SSL_CERT_FILE` names itself.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match judged {
            // webpki has checked the dates before it finds this.
            Err(error) if is_ca_used_as_end_entity(&error) && self.named.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn is_ca_used_as_end_entity(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(error)) = error else {
        return false;
    };
    error.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
