//! How endpoints of Subscriptions are reached, beside what their subscribers say.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;

use super::trail::is_under;
use super::{Auth, Config, ConfigError, Hidden, wrong};
use crate::http::peer::networks;
use crate::outside::Reach;

/// With the pauses between, that takes some minutes.
const REFUSALS: i64 = 8;

/// So long a new endpoint has to answer its handshake, in seconds.
const HANDSHAKE: u32 = 600;

/// Messages a second to one server.
const RATE: u32 = 500;
/// Who waits for a turn holds a Subscription meanwhile.
const SLOWEST: u32 = 20;

/// What the settings say of it.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Networks in private space that may be sent to.
    pub allow: Arc<[IpNet]>,
    /// Roots (PEM) of their certificates, beside those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate and key (PEM) that are shown to them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// So many messages a second at most are sent to one server, by each process.
    pub rate: u32,
    /// An event that its endpoint would not take so often in a row is put aside; 0 for none.
    pub refusals: i64,
    /// So long the handshake of a Subscription that was never active is tried, in microseconds.
    pub handshake: i64,
    /// Where access tokens come from, for those that want one.
    pub tokens: Vec<Grantor>,
    /// The key (PEM) that it is shown with who asks for them; without one, a key of this server's own.
    pub key: Option<PathBuf>,
}

/// An authorization server that gives tokens for endpoints at an address or under it.
#[derive(Debug, Clone)]
pub struct Grantor {
    /// For these.
    pub at: Url,
    /// Its token endpoint.
    pub endpoint: Url,
    /// What this server is called there.
    pub client: String,
    /// How it proves that; without one, by a signature.
    pub secret: Option<Hidden>,
    /// What is asked for.
    pub scope: Option<String>,
}

impl Webhooks {
    pub(super) fn from_values<'v>(get: impl Fn(&str) -> Option<&'v str>) -> Result<Self, ConfigError> {
        let allow = networks(get("webhook_allow").unwrap_or_default()).map_err(|one| {
            wrong("webhook_allow", format!("`{one}` is neither an address nor like 10.1.0.0/16"))
        })?;
        let file = |name| get(name).map(PathBuf::from);
        let identity = match (file("webhook_tls_cert"), file("webhook_tls_key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (None, _) => return Err(wrong("webhook_tls_cert", "is needed beside webhook_tls_key")),
            (_, None) => return Err(wrong("webhook_tls_key", "is needed beside webhook_tls_cert")),
        };
        let lines = get("webhook_tokens").unwrap_or_default().lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        // What is wrong is not shown: there is a secret in it.
        let tokens = lines.enumerate().map(|(n, line)| {
            Grantor::parse(line).map_err(|why| wrong("webhook_tokens", format!("line {}: {why}", n + 1)))
        });
        let refusals = match get("webhook_refusals").map(str::parse::<u16>) {
            None => REFUSALS,
            Some(Ok(refusals)) => i64::from(refusals),
            Some(Err(_)) => return Err(wrong("webhook_refusals", "is a whole number, 0 for never")),
        };
        let handshake = match get("webhook_handshake_seconds").map(str::parse::<u32>) {
            None => HANDSHAKE,
            Some(Ok(seconds)) => seconds,
            Some(Err(_)) => {
                return Err(wrong("webhook_handshake_seconds", "is a whole number, 0 for one try"));
            }
        };
        let rate = match get("webhook_rate").map(str::parse) {
            None => RATE,
            Some(Ok(rate @ SLOWEST..=1_000_000)) => rate,
            Some(_) => return Err(wrong("webhook_rate", format!("is a whole number, {SLOWEST} to 1000000"))),
        };
        Ok(Self {
            rate,
            refusals,
            handshake: i64::from(handshake) * 1_000_000,
            allow: allow.into(),
            ca: file("webhook_ca"),
            identity,
            tokens: tokens.collect::<Result<_, _>>()?,
            key: file("webhook_tokens_key"),
        })
    }
}

impl Config {
    /// Where Subscriptions may send to.
    pub(crate) fn reach(&self) -> Reach {
        // Where others come in too, through a proxy, what listens on this machine is not theirs to reach.
        let loopback = self.bind.ip().is_loopback() && self.auth == Auth::Open;
        Reach { loopback, private: false, allowed: Arc::clone(&self.webhooks.allow) }
    }
}

impl Grantor {
    /// `https://emr.example/hooks token=https://emr.example/token client=ID secret=… scope="a b"`, or `key`
    /// in the place of the secret.
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = words(line)?.into_iter();
        let at = address(&words.next().unwrap_or_default())?;
        if at.query().is_some() {
            return Err("the first address has no query");
        }
        let (mut endpoint, mut client, mut secret, mut scope, mut key) = (None, None, None, None, false);
        for word in words {
            match word.split_once('=') {
                Some(("token", text)) => endpoint = Some(address(text)?),
                Some(("client", text)) => client = Some(text.to_owned()),
                Some(("secret", text)) => secret = Some(Hidden::new(text)),
                Some(("scope", text)) => scope = Some(text.to_owned()),
                None if word == "key" => key = true,
                _ => return Err("behind the address there are token=, client=, scope=, and secret= or key"),
            }
        }
        if secret.is_some() == key {
            return Err("either secret= or key is needed");
        }
        let endpoint = endpoint.ok_or("token= is missing")?;
        let client = client.filter(|client| !client.is_empty()).ok_or("client= is missing")?;
        Ok(Self { at, endpoint, client, secret, scope })
    }

    /// Is a token of it for that endpoint? Not where programs read the path differently: it might lead out.
    pub(crate) fn is_for(&self, url: &Url) -> bool {
        let path = url.path().to_ascii_lowercase();
        is_under(url, &self.at) && !["%2f", "%5c", "%2e", "//", ";"].iter().any(|odd| path.contains(odd))
    }
}

fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "an address is not like https://emr.example/hooks")?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none();
    if !plain || !url.username().is_empty() || url.password().is_some() {
        return Err("an address is not like https://emr.example/hooks");
    }
    Ok(url)
}

/// The words of a line; spaces within quotation marks divide nothing.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    if quoted { Err("a quotation mark is missing") } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhooks(pairs: &[(&str, &'static str)]) -> Result<Webhooks, ConfigError> {
        Webhooks::from_values(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn lines_say_where_tokens_are_from() {
        let lines = "https://emr.example/hooks token=https://emr.example/token client=us secret=\"sword fish\" scope=\"a b\"\n\
                     # another\n\nhttps://two.example token=https://two.example/token client=us key";
        let all = webhooks(&[("webhook_tokens", lines)]).unwrap();
        assert!(!format!("{all:?}").contains("fish"));
        let [one, two] = all.tokens.as_slice() else { panic!("{all:?}") };
        assert_eq!(one.secret.as_ref().unwrap().as_str(), "sword fish");
        assert_eq!((one.scope.as_deref(), two.scope.as_deref()), (Some("a b"), None));
        assert!(two.secret.is_none());
        let is_for = |text: &str| one.is_for(&Url::parse(text).unwrap());
        for good in ["https://emr.example/hooks", "https://emr.example:443/hooks/a?b=c"] {
            assert!(is_for(good), "{good}");
        }
        for bad in [
            "https://emr.example/hooks2",
            "https://emr.example/hooks/../fhir/Patient",
            "https://emr.example/hooks/%2e%2e/fhir",
            "https://emr.example/hooks/..%2ffhir",
            "https://emr.example/hooks/..;/fhir",
            "https://emr.example:444/hooks",
            "https://emr.example.evil.example/hooks",
            "http://emr.example/hooks",
        ] {
            assert!(!is_for(bad), "{bad}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused_without_its_secret() {
        for wrong in [
            "emr.example token=https://emr.example/token client=us secret=swordfish",
            "https://emr.example client=us secret=swordfish",
            "https://emr.example token=https://emr.example/token secret=swordfish",
            "https://emr.example token=https://emr.example/token client=us",
            "https://emr.example token=https://emr.example/token client=us key secret=swordfish",
            "https://emr.example token=https://emr.example/token client=us swordfish",
            "https://me:swordfish@emr.example token=https://emr.example/token client=us key",
            "https://emr.example token=https://emr.example/token client=us secret=\"swordfish",
        ] {
            let error = webhooks(&[("webhook_tokens", wrong)]).unwrap_err().to_string();
            assert!(!error.contains("swordfish"), "{error}");
        }
        assert!(webhooks(&[("webhook_tls_cert", "x.pem")]).is_err());
        assert!(webhooks(&[("webhook_handshake_seconds", "soon")]).is_err());
    }
}
