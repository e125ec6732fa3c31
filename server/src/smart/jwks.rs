//! Documents of others: key sets of clients, fetched from where they registered them (RFC 7517 section
//! 5), and what another OpenID Connect provider says.
//!
//! An address is registered by an administrator or waits for one; still it must not lead into this
//! machine or its network's own services, and never elsewhere than it says: no redirects, https alone,
//! and plain http only among programs of one machine.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Url, header, redirect};
use serde_json::Value;

const SECOND: i64 = 1_000_000;
/// How long a set is kept whose server says nothing about that, and at most.
const KEPT: i64 = 300;
const MOST_KEPT: i64 = 3600;
/// A set is not fetched again sooner, whatever key is asked for.
const PAUSE: i64 = 10 * SECOND;
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: usize = 256 << 10;
/// Sets kept at most.
const SETS: usize = 1000;

#[derive(Clone)]
struct Kept {
    keys: Arc<Vec<Value>>,
    fetched: i64,
    until: i64,
}

/// Key sets of others.
pub(crate) struct Remote {
    /// We are on a loopback address: so may they be.
    loopback: bool,
    http: OnceLock<Option<Client>>,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Remote {
    pub(crate) fn new(loopback: bool) -> Self {
        Self { loopback, http: OnceLock::new(), kept: Mutex::default() }
    }

    /// May a client register that address?
    pub(crate) fn may_fetch(&self, address: &str) -> bool {
        let Ok(url) = Url::parse(address) else { return false };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let ip: Option<IpAddr> = host.parse().ok();
        let here = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        match url.scheme() {
            "https" if here => self.loopback,
            "https" => ip.is_none_or(|ip| is_outside(ip, self.loopback)),
            "http" => here && self.loopback,
            _ => false,
        }
    }

    /// The keys at an address, as old as their server allows; fetched anew if none has that id.
    pub(crate) async fn keys(&self, address: &str, kid: &str, at: i64) -> Option<Arc<Vec<Value>>> {
        let has = |keys: &[Value]| keys.iter().any(|key| key.get("kid").and_then(Value::as_str) == Some(kid));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        if let Some(kept) = kept {
            let fresh = at < kept.until && has(&kept.keys);
            if fresh || (at < kept.until && at - kept.fetched < PAUSE) {
                return Some(kept.keys);
            }
        }
        let (set, seconds) = self.document(address).await?;
        let keys = Arc::new(set.get("keys")?.as_array()?.clone());
        let kept = Kept { keys: Arc::clone(&keys), fetched: at, until: at + seconds * SECOND };
        let mut sets = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS {
            sets.retain(|_, set| set.until > at);
        }
        sets.insert(address.to_owned(), kept);
        Some(keys)
    }

    fn http(&self, address: &str) -> Option<&Client> {
        let allowed = self.may_fetch(address);
        self.http.get_or_init(|| client(self.loopback)).as_ref().filter(|_| allowed)
    }

    /// A JSON document at an address, and for how many seconds it may be kept.
    pub(crate) async fn document(&self, address: &str) -> Option<(Value, i64)> {
        let request = self.http(address)?.get(address);
        answer(request).await
    }

    /// The answer to a form, with the caller's name and secret where it has one.
    pub(crate) async fn post(
        &self,
        address: &str,
        pairs: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Option<Value> {
        let request = self.http(address)?.post(address).form(pairs);
        let encoded = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let request = match basic {
            Some((name, secret)) => request.basic_auth(encoded(name), Some(encoded(secret))),
            None => request,
        };
        answer(request).await.map(|(answer, _)| answer)
    }
}

async fn answer(request: RequestBuilder) -> Option<(Value, i64)> {
    let answer = request.header(header::ACCEPT, "application/json").send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let control = answer.headers().get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let seconds = control.map_or(KEPT, lifetime);
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.ok()?);
        if body.len() > LONGEST {
            return None;
        }
    }
    Some((serde_json::from_slice(&body).ok()?, seconds))
}

/// Seconds that `Cache-Control` allows (RFC 9111 section 5.2.2).
fn lifetime(control: &str) -> i64 {
    let control = control.to_ascii_lowercase();
    let mut seconds = KEPT;
    for one in control.split(',').map(str::trim) {
        if matches!(one, "no-store" | "no-cache") {
            return 0;
        }
        if let Some(age) = one.strip_prefix("max-age=") {
            seconds = age.trim_matches('"').parse().unwrap_or(0);
        }
    }
    seconds.clamp(0, MOST_KEPT)
}

fn client(loopback: bool) -> Option<Client> {
    let built = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(PATIENCE)
        .no_proxy()
        .dns_resolver(Arc::new(Outside { loopback }))
        .build();
    built.inspect_err(|error| tracing::error!(%error, "key sets of clients can't be fetched")).ok()
}

/// Names are resolved to addresses outside alone, at the moment of the connection.
struct Outside {
    loopback: bool,
}

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.loopback;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let outside: Vec<SocketAddr> = found.filter(|at| is_outside(at.ip(), loopback)).collect();
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

/// Is it neither this machine nor what only its neighbours see? Private networks are outside: a
/// hospital's apps live there.
fn is_outside(ip: IpAddr, loopback: bool) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return loopback;
    }
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(local || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_outside_is_fetched() {
        let (outside, here) = (Remote::new(false), Remote::new(true));
        for (address, from_outside, from_here) in [
            ("https://app.example/jwks", true, true),
            ("https://10.1.2.3/jwks", true, true),
            ("http://app.example/jwks", false, false),
            ("http://127.0.0.1:9/jwks", false, true),
            ("http://localhost:9/jwks", false, true),
            ("https://[::1]/jwks", false, true),
            ("https://169.254.169.254/latest", false, false),
            ("https://0.0.0.0/", false, false),
            ("https://[::ffff:127.0.0.1]/", false, true),
            ("file:///etc/passwd", false, false),
            ("nonsense", false, false),
        ] {
            assert_eq!(outside.may_fetch(address), from_outside, "{address}");
            assert_eq!(here.may_fetch(address), from_here, "{address}");
        }
    }

    #[test]
    fn a_set_is_kept_as_long_as_its_server_allows() {
        assert_eq!(lifetime("max-age=60, public"), 60);
        assert_eq!(lifetime("no-store, max-age=60"), 0);
        assert_eq!(lifetime("public"), KEPT);
        assert_eq!(lifetime("max-age=999999999"), MOST_KEPT);
    }
}
