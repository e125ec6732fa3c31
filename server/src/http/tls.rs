//! TLS 1.2 and 1.3, and nothing older; the certificate is read again when its files change; clients may
//! show a certificate of the authority that the operator trusts.

use std::any::Any;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::caller::digest;
use crate::config::Tls;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The certificate that is shown at the moment.
#[derive(Debug)]
struct Certificate {
    files: Tls,
    current: RwLock<(Arc<CertifiedKey>, [Option<SystemTime>; 2])>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

impl Certificate {
    fn read(files: &Tls) -> anyhow::Result<Arc<CertifiedKey>> {
        let named = |path: &Path| path.display().to_string();
        let chain = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("AUGURY_TLS_CERT (tls_cert) {}", named(&files.cert)))?;
        let of_key = || format!("AUGURY_TLS_KEY (tls_key) {}", named(&files.key));
        let key = PrivateKeyDer::from_pem_file(&files.key).with_context(of_key)?;
        let pair = CertifiedKey::new(chain, sign::any_supported_type(&key).with_context(of_key)?);
        pair.keys_match()
            .with_context(|| format!("{} is not the key of the certificate", named(&files.key)))?;
        Ok(Arc::new(pair))
    }

    fn times(files: &Tls) -> [Option<SystemTime>; 2] {
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [time(&files.cert), time(&files.key)]
    }

    /// A pair that does not fit, as it is while files are replaced one by one, is not taken.
    fn look_again(&self) {
        let times = Self::times(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == times {
            return;
        }
        match Self::read(&self.files) {
            Ok(pair) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (pair, times);
                tracing::info!("the new certificate is shown from now on");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate can't be read again; the old one is shown");
            }
        }
    }
}

/// How connections are accepted, and who says of a client's certificate that it is of the authority; begins
/// to watch the files.
pub(crate) fn accept(files: &Tls) -> anyhow::Result<(ServerConfig, Judge)> {
    let current = RwLock::new((Certificate::read(files)?, Certificate::times(files)));
    let certificate = Arc::new(Certificate { files: files.clone(), current });
    let watched = Arc::clone(&certificate);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            watched.look_again();
        }
    });
    let provider = Arc::new(default_provider());
    let judge: Judge = match &files.client_ca {
        None => None,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let named = || format!("AUGURY_TLS_CLIENT_CA (tls_client_ca) {}", path.display());
            for root in CertificateDer::pem_file_iter(path).with_context(named)? {
                roots.add(root.with_context(named)?).with_context(named)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(verifier.allow_unauthenticated().build().with_context(named)?)
        }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match &judge {
        _ if files.self_signed => builder.with_client_cert_verifier(Arc::new(Holder(provider))),
        Some(judge) => builder.with_client_cert_verifier(Arc::clone(judge)),
        None => builder.with_no_client_auth(),
    };
    Ok((builder.with_cert_resolver(certificate), judge))
}

/// Who says of a certificate that it is of the authority that the operator trusts.
pub(crate) type Judge = Option<Arc<dyn ClientCertVerifier>>;

/// Lets in whoever holds the key of the certificate they show, whoever made it. What it is worth is
/// decided where somebody looks at it.
#[derive(Debug)]
struct Holder(Arc<CryptoProvider>);

impl ClientCertVerifier for Holder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client showed, whose key it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    der: Vec<u8>,
    /// It is of the authority that the operator trusts.
    pub(crate) is_trusted: bool,
}

impl Shown {
    pub(crate) fn of(certificate: &CertificateDer<'_>, is_trusted: bool) -> Self {
        Self { der: certificate.to_vec(), is_trusted }
    }

    /// The one of this connection.
    pub(crate) fn by(request: &HttpRequest) -> Option<&Self> {
        request.conn_data::<Self>()
    }

    /// Where others have the digest of a key.
    pub(crate) fn key_hash(&self) -> String {
        format!("certificate {}", digest(&self.der))
    }

    /// What a token is bound to (`x5t#S256`, RFC 8705 section 3.1).
    pub(crate) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.der))
    }

    /// Is it that one, as a key set has it (`x5c`, RFC 7517 section 4.7)?
    pub(crate) fn is(&self, encoded: &str) -> bool {
        STANDARD.decode(encoded).is_ok_and(|der| der == self.der)
    }

    /// Its subject, with what RFC 8705 calls that.
    pub(crate) fn subject(&self) -> Option<(String, String)> {
        let certificate = x509_cert::Certificate::from_der(&self.der).ok()?;
        let subject = certificate.tbs_certificate().subject();
        (!subject.is_empty()).then(|| (SUBJECT.to_owned(), subject.to_string()))
    }

    /// As a key of a set, of which nothing but the certificate counts.
    pub(crate) fn jwk(&self) -> Option<Value> {
        let certificate = x509_cert::Certificate::from_der(&self.der).ok()?;
        let kind = certificate.tbs_certificate().subject_public_key_info().algorithm.oid;
        let kty = if kind.to_string() == RSA { "RSA" } else { "EC" };
        Some(json!({"kty": kty, "kid": self.thumbprint(), "x5c": [STANDARD.encode(&self.der)]}))
    }

    /// Does it say this of its owner? `name` is what RFC 8705 section 2.1.2 calls it.
    pub(crate) fn says(&self, name: &str, value: &str) -> bool {
        let Ok(certificate) = x509_cert::Certificate::from_der(&self.der) else { return false };
        let certificate = certificate.tbs_certificate();
        if name == SUBJECT {
            let wanted = Name::from_str(value).map(|name| name.to_string());
            return wanted.is_ok_and(|wanted| wanted == certificate.subject().to_string());
        }
        let Ok(Some((_, alternatives))) = certificate.get_extension::<SubjectAltName>() else { return false };
        alternatives.0.iter().any(|one| match (name, one) {
            ("tls_client_auth_san_dns", GeneralName::DnsName(dns)) => {
                dns.as_str().eq_ignore_ascii_case(value)
            }
            ("tls_client_auth_san_uri", GeneralName::UniformResourceIdentifier(uri)) => uri.as_str() == value,
            ("tls_client_auth_san_email", GeneralName::Rfc822Name(mail)) => mail.as_str() == value,
            ("tls_client_auth_san_ip", GeneralName::IpAddress(ip)) => {
                value.parse::<IpAddr>().is_ok_and(|wanted| match wanted {
                    IpAddr::V4(wanted) => ip.as_bytes() == wanted.octets(),
                    IpAddr::V6(wanted) => ip.as_bytes() == wanted.octets(),
                })
            }
            _ => false,
        })
    }
}

/// `rsaEncryption` (RFC 8017 appendix C).
const RSA: &str = "1.2.840.113549.1.1.1";
const SUBJECT: &str = "tls_client_auth_subject_dn";
/// The names by which a certificate may be known (RFC 8705 section 2.1.2).
pub(crate) const NAMES: [&str; 5] = [
    SUBJECT,
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
];

/// Can a certificate say that of its owner?
pub(crate) fn is_name(name: &str, value: &str) -> bool {
    match name {
        SUBJECT => Name::from_str(value).is_ok_and(|name| !name.is_empty()),
        "tls_client_auth_san_ip" => value.parse::<IpAddr>().is_ok(),
        _ => NAMES.contains(&name) && !value.is_empty(),
    }
}

/// Keeps what the client showed beside the connection.
pub(crate) fn remember(judge: &Judge, connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let (_, session) = stream.get_ref();
    let Some((certificate, others)) = session.peer_certificates().and_then(<[_]>::split_first) else {
        return;
    };
    let trusted = |judge: &Arc<dyn ClientCertVerifier>| {
        judge.verify_client_cert(certificate, others, UnixTime::now()).is_ok()
    };
    data.insert(Shown::of(certificate, judge.as_ref().is_some_and(trusted)));
}
