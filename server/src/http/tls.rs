//! TLS 1.2 and 1.3, and nothing older; the certificate is read again when its files change; clients may
//! show a certificate of the authority that the operator trusts.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

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

/// How connections are accepted; begins to watch the files.
pub(crate) fn accept(files: &Tls) -> anyhow::Result<ServerConfig> {
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
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let named = || format!("AUGURY_TLS_CLIENT_CA (tls_client_ca) {}", path.display());
            for root in CertificateDer::pem_file_iter(path).with_context(named)? {
                roots.add(root.with_context(named)?).with_context(named)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().with_context(named)?)
        }
    };
    Ok(builder.with_cert_resolver(certificate))
}

/// What the client's certificate is known by: the SHA-256 of it (hex).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thumbprint(pub(crate) String);

impl Thumbprint {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(digest(certificate))
    }

    /// Where others have the digest of a key.
    pub(crate) fn key_hash(&self) -> String {
        format!("certificate {}", self.0)
    }
}

/// Keeps what the client showed beside the connection.
pub(crate) fn remember(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let (_, session) = stream.get_ref();
    if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
        data.insert(Thumbprint::of(certificate));
    }
}
