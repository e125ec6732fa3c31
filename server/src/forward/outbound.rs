//! Connections to those that the audit trail goes to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, redirect};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::config::{Address, Trail};
use crate::encryption::{self, Roots};

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
        let roots = trail.ca.as_deref().map_or(Roots::System, Roots::Only);
        let tls = encryption::towards("audit", &roots, trail.identity.as_ref())?;
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
