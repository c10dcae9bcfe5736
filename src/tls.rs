//! TLS as a client of the authorizer, the receiver of events and redis: which certificates are trusted
//! (docs/authorizer.md#connections, docs/scaling.md#the-dsn).
//!
//! Owns: the roots, and the one exception to webpki's verdict. Knows: rustls. Never knows: what the connection is for.
//!
//! Decision: a verifier of our own, because of self-signed certificates. `openssl req -x509` makes a certificate that
//! is a CA and the server's own at once. webpki refuses it even if `SSL_CERT_FILE` names that very certificate.
//! OpenSSL, Go and curl accept it. Reconsider when webpki accepts it.

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

/// The TLS configuration shared by all connections to one server.
///
/// The certificates in the PEM file `cert_file` are trusted in addition to the system's roots. `party` names the server
/// in an error.
///
/// # Errors
/// The file contains no certificate, or there is no root at all.
pub fn client_config(cert_file: Option<&Path>, party: &str) -> io::Result<ClientConfig> {
    let named = match cert_file.filter(|file| !file.as_os_str().is_empty()) {
        Some(file) => read_certs(file)?,
        None => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(named.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if cert_file.is_some() || roots.is_empty() {
        // If `SSL_CERT_FILE` is set, the call above has read that file only, and the system's roots are trusted too.
        for dir in openssl_probe::candidate_cert_dirs() {
            let system = rustls_native_certs::load_certs_from_paths(None, Some(dir));
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "no root certificate to verify {party} with: install the system's (package \
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

/// The certificates in the file that `SSL_CERT_FILE` names. A file without any is an error, not an empty list.
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

/// webpki's verdict, except for a server whose own certificate is in `SSL_CERT_FILE`.
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
            // webpki checks the dates before it returns this error.
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
