//! Where a request comes from. Behind a proxy it is the proxy that says so, in one header, and nobody else
//! is believed: what a caller writes into that header stands further left than what the proxy adds.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, web};
use ipnet::{IpNet, Ipv6Net};

use crate::app::App;
use crate::config::{Proxies, ProxyHeader};

/// The address of whoever asks.
pub(crate) fn address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    match request.app_data::<web::Data<App>>() {
        Some(app) => Some(behind(&app.config.proxies, peer, request.headers())),
        None => Some(peer),
    }
}

/// What is counted together: of IPv6 all that one customer of a provider has at least.
pub(crate) fn network(request: &HttpRequest) -> String {
    match address(request) {
        Some(IpAddr::V6(ip)) => {
            Ipv6Net::new(ip, 64).map_or_else(|_| ip.to_string(), |net| net.trunc().to_string())
        }
        Some(ip) => ip.to_string(),
        None => String::new(),
    }
}

/// The first address from the right that is not a proxy's; where a proxy does not say it, the proxy's.
fn behind(proxies: &Proxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let trusted = |ip: IpAddr| proxies.trusted.iter().any(|net| net.contains(&ip));
    if !trusted(peer) {
        return peer;
    }
    let name = match proxies.header {
        ProxyHeader::XForwardedFor => "x-forwarded-for",
        ProxyHeader::Forwarded => "forwarded",
    };
    let lines: Vec<&str> = headers.get_all(name).map(|value| value.to_str().unwrap_or_default()).collect();
    let mut at = peer;
    for element in lines.iter().flat_map(|line| line.split(',')).rev() {
        let said = match proxies.header {
            ProxyHeader::XForwardedFor => Some(element),
            ProxyHeader::Forwarded => element.split(';').find_map(for_of),
        };
        let Some(ip) = said.and_then(parse) else { break };
        at = ip;
        if !trusted(ip) {
            break;
        }
    }
    at
}

/// The value of `for` (RFC 7239 section 5.2).
fn for_of(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
}

/// An address, with a port or without.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()));
    let ip = ip.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// Addresses and networks, separated by commas; the first that is neither is the error.
pub(crate) fn networks(text: &str) -> Result<Vec<IpNet>, &str> {
    let one = |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| one(part).ok_or(part)).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn seen(header: ProxyHeader, peer: &str, lines: &[&str]) -> String {
        let proxies = Proxies { trusted: networks("10.0.0.0/8, 127.0.0.1,2001:db8::/32").unwrap(), header };
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        behind(&proxies, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_proxies_are_believed_and_from_the_right() {
        let list = |peer, lines: &[&str]| seen(ProxyHeader::XForwardedFor, peer, lines);
        assert_eq!(list("192.0.2.1", &["x-forwarded-for: 198.51.100.7"]), "192.0.2.1");
        assert_eq!(list("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(list("127.0.0.1", &["x-forwarded-for: 1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(list("127.0.0.1", &["x-forwarded-for: 198.51.100.7, 10.1.2.3"]), "198.51.100.7");
        assert_eq!(
            list("127.0.0.1", &["x-forwarded-for: 1.1.1.1", "x-forwarded-for: 192.0.2.9:80"]),
            "192.0.2.9"
        );
        assert_eq!(list("127.0.0.1", &["x-forwarded-for: 1.1.1.1, nonsense, 10.1.2.3"]), "10.1.2.3");
        assert_eq!(list("127.0.0.1", &["forwarded: for=1.1.1.1"]), "127.0.0.1");
        let said = |peer, lines: &[&str]| seen(ProxyHeader::Forwarded, peer, lines);
        assert_eq!(
            said("10.0.0.1", &["forwarded: for=1.1.1.1, proto=https;For=\"[2001:db9::7]:4711\";by=10.0.0.1"]),
            "2001:db9::7"
        );
        assert_eq!(said("2001:db8::1", &["forwarded: for=_hidden"]), "2001:db8::1");
        assert_eq!(said("10.0.0.1", &["x-forwarded-for: 1.1.1.1"]), "10.0.0.1");
        assert_eq!(networks("10.0.0.0/8,proxy.example").unwrap_err(), "proxy.example");
    }
}
