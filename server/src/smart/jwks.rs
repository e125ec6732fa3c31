//! Documents of others: key sets of clients, fetched from where they registered them (RFC 7517 section
//! 5), and what another OpenID Connect provider says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Client, RequestBuilder, Url, header};
use serde_json::Value;

use crate::outside::Reach;

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
    reach: Reach,
    http: OnceLock<Option<Client>>,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Remote {
    pub(crate) fn new(loopback: bool) -> Self {
        let reach = Reach { loopback, private: true, allowed: Arc::default() };
        Self { reach, http: OnceLock::new(), kept: Mutex::default() }
    }

    /// May a client register that address?
    pub(crate) fn may_fetch(&self, address: &str) -> bool {
        Url::parse(address).is_ok_and(|url| self.reach.permits(&url).is_ok())
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
        self.http.get_or_init(|| client(&self.reach)).as_ref().filter(|_| allowed)
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

fn client(reach: &Reach) -> Option<Client> {
    let built = reach.keeps(Client::builder().timeout(PATIENCE)).build();
    built.inspect_err(|error| tracing::error!(%error, "key sets of clients can't be fetched")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_kept_as_long_as_its_server_allows() {
        assert_eq!(lifetime("max-age=60, public"), 60);
        assert_eq!(lifetime("no-store, max-age=60"), 0);
        assert_eq!(lifetime("public"), KEPT);
        assert_eq!(lifetime("max-age=999999999"), MOST_KEPT);
    }
}
