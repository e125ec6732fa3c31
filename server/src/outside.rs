//! Addresses that somebody else names and this server connects to: they must not lead into this machine or
//! its network's own services, and never elsewhere than they say. No redirects, https alone, and plain http
//! only among programs of one machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url, redirect};

/// Where connections may go.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// They may be on a loopback address.
    pub(crate) loopback: bool,
    /// Into private networks, where a hospital's apps live.
    pub(crate) private: bool,
    /// Wherever else they may not, these they may.
    pub(crate) allowed: Arc<[IpNet]>,
}

impl Reach {
    /// May it be connected to, as far as the address says?
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn permits(&self, url: &Url) -> Result<(), &'static str> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let ip: Option<IpAddr> = host.parse().ok();
        let here = host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback());
        match url.scheme() {
            "https" | "http" if here && self.is_reached(ip.unwrap_or(IpAddr::from([127, 0, 0, 1]))) => Ok(()),
            "https" if ip.is_none_or(|ip| self.is_reached(ip)) && !here => Ok(()),
            "http" if !here => Err("http is for this machine alone; elsewhere https is needed"),
            "https" | "http" => Err("it leads into this machine or its network"),
            _ => Err("only https is spoken"),
        }
    }

    /// Is it neither this machine nor what only its neighbours see?
    pub(crate) fn is_reached(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if self.allowed.iter().any(|net| net.contains(&ip)) {
            return true;
        }
        if ip.is_loopback() {
            return self.loopback;
        }
        let (local, private) = match ip {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                // RFC 6598: shared by the customers of a provider; clouds have services there.
                let shared = a == 100 && (64..128).contains(&b);
                // RFC 6890 and RFC 2544: of protocols and benchmarks; clouds have services there too.
                let special = matches!(ip.octets(), [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..]);
                // Azure's own services answer each of its machines there.
                let platform = ip.octets() == [168, 63, 129, 16];
                let local = ip.is_link_local() || ip.is_broadcast() || a == 0 || a >= 240 || platform;
                (local, ip.is_private() || shared || special)
            }
            IpAddr::V6(ip) => {
                // What was site-local before RFC 3879.
                let site = ip.octets().starts_with(&[0xfe])
                    && ip.octets().get(1).is_some_and(|next| next & 0xc0 == 0xc0);
                (ip.is_unicast_link_local(), ip.is_unique_local() || site || is_translated(ip))
            }
        };
        !(local || ip.is_unspecified() || ip.is_multicast()) && (self.private || !private)
    }

    /// A client that goes nowhere else: names are resolved at the moment of the connection, to addresses that
    /// may be reached alone.
    pub(crate) fn keeps(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.redirect(redirect::Policy::none()).no_proxy().dns_resolver(Arc::new(Outside(self.clone())))
    }
}

/// Addresses of version 4 behind one of version 6 (RFC 6052, RFC 3056, RFC 4380, RFC 4291 section 2.5.5.1,
/// RFC 7915), and what is discarded (RFC 6666).
fn is_translated(ip: std::net::Ipv6Addr) -> bool {
    matches!(
        ip.segments(),
        [0x64, 0xff9b, ..]
            | [0x2002, ..]
            | [0x2001, 0, ..]
            | [0, 0, 0, 0, 0 | 0xffff, 0, ..]
            | [0x100, 0, 0, 0, ..]
    )
}

struct Outside(Reach);

/// A name that leads nowhere, or nowhere that may be reached.
#[derive(Debug, thiserror::Error)]
#[error("the name leads nowhere")]
pub(crate) struct Unresolved;

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| Unresolved)?;
            let outside: Vec<SocketAddr> = found.filter(|at| reach.is_reached(at.ip())).collect();
            if outside.is_empty() {
                return Err(Unresolved.into());
            }
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(loopback: bool, private: bool, allowed: &[&str]) -> Reach {
        Reach { loopback, private, allowed: allowed.iter().map(|net| net.parse().unwrap()).collect() }
    }

    #[test]
    fn only_what_is_outside_is_reached() {
        let (outside, here) = (reach(false, true, &[]), reach(true, true, &[]));
        let (public, listed) = (reach(false, false, &[]), reach(false, false, &["10.1.0.0/16", "::1/128"]));
        for (address, expected) in [
            ("https://app.example/hook", [true, true, true, true]),
            ("https://10.1.2.3/hook", [true, true, false, true]),
            ("https://192.168.7.7/hook", [true, true, false, false]),
            ("https://100.64.0.1/hook", [true, true, false, false]),
            ("https://[fd00::1]/hook", [true, true, false, false]),
            ("https://[64:ff9b::a9fe:a9fe]/hook", [true, true, false, false]),
            ("https://[::ffff:0:169.254.169.254]/hook", [true, true, false, false]),
            ("https://[100::1]/hook", [true, true, false, false]),
            ("https://168.63.129.16/hook", [false, false, false, false]),
            ("http://app.example/hook", [false, false, false, false]),
            ("http://127.0.0.1:9/hook", [false, true, false, false]),
            ("http://localhost:9/hook", [false, true, false, false]),
            ("https://[::1]/hook", [false, true, false, true]),
            ("https://169.254.169.254/latest", [false, false, false, false]),
            ("https://0.0.0.0/", [false, false, false, false]),
            ("https://0x7f000001/", [false, true, false, false]),
            ("https://2130706433/", [false, true, false, false]),
            ("https://[::ffff:127.0.0.1]/", [false, true, false, false]),
            ("https://255.255.255.255/", [false, false, false, false]),
            ("file:///etc/passwd", [false, false, false, false]),
        ] {
            let url = Url::parse(address).unwrap();
            let found = [&outside, &here, &public, &listed].map(|reach| reach.permits(&url).is_ok());
            assert_eq!(found, expected, "{address}");
        }
    }
    #[tokio::test]
    async fn a_name_is_looked_at_when_it_is_connected_to() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        here.set_nonblocking(true).unwrap();
        let address = format!("http://localhost:{}/", here.local_addr().unwrap().port());
        for (reach, arrives) in [
            (reach(false, true, &[]), false),
            (reach(true, true, &[]), true),
            (reach(false, false, &["127.0.0.1/32"]), true),
        ] {
            let http = reach.keeps(reqwest::Client::builder()).build().unwrap();
            let asked = http.get(&address).timeout(std::time::Duration::from_millis(300)).send();
            assert!(asked.await.is_err());
            assert_eq!(here.accept().is_ok(), arrives, "{reach:?}");
        }
    }
}
