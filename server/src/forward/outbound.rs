//! Connections to those that the audit trail goes to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, redirect};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::config::{Address, Trail};

/// Who does not answer in this time has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What may be on its way and lost with a connection is no more than this, beside what the other end holds.
const UNDER_WAY: u32 = 64 << 10;

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Outbound {
    pub(crate) http: Client,
    tls: Arc<ClientConfig>,
}

impl Outbound {
    /// As the settings say; none where nobody is connected to.
    pub(crate) fn new(trail: &Trail) -> anyhow::Result<Option<Self>> {
        if trail.witnesses.iter().chain(&trail.forward).all(|one| matches!(one, Address::File(_))) {
            return Ok(None);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let builder = match &trail.ca {
            None => builder.with_platform_verifier().context("the system's certificates")?,
            Some(path) => {
                let named = || format!("AUGURY_AUDIT_CA (audit_ca) {}", path.display());
                let mut roots = RootCertStore::empty();
                for root in CertificateDer::pem_file_iter(path).with_context(named)? {
                    roots.add(root.with_context(named)?).with_context(named)?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let tls = match &trail.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let named = || format!("AUGURY_AUDIT_TLS_CERT (audit_tls_cert) {}", cert.display());
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .with_context(named)?;
                let of_key = || format!("AUGURY_AUDIT_TLS_KEY (audit_tls_key) {}", key.display());
                let key = PrivateKeyDer::from_pem_file(key).with_context(of_key)?;
                builder.with_client_auth_cert(chain, key).with_context(named)?
            }
        };
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .no_proxy()
            .tls_backend_preconfigured(tls.clone())
            .build()?;
        Ok(Some(Self { http, tls: Arc::new(tls) }))
    }

    /// A connection to a syslog server.
    pub(crate) async fn connect(&self, host: &str, port: u16, tls: bool) -> anyhow::Result<Box<dyn Stream>> {
        let made = async {
            let stream = tcp(host, port).await?;
            if !tls {
                return Ok(Box::new(stream) as Box<dyn Stream>);
            }
            let name = ServerName::try_from(host.to_owned())?;
            let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        tokio::time::timeout(PATIENCE, made).await.context("no connection in time")?
    }
}

async fn tcp(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let mut failed = None;
    for address in tokio::net::lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_send_buffer_size(UNDER_WAY)?;
        socket.set_nodelay(true)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or_else(|| anyhow::anyhow!("the name has no address"), Into::into))
}
