//! Where the audit trail goes beside the database: witnesses of its heads, and those its events are sent to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::{ConfigError, Hidden, wrong};
use crate::http::caller::digest;

/// Letters of a digest that tell addresses of one server apart.
const APART: usize = 8;

/// Nobody keeps events longer who doesn't keep them for ever.
const MOST_DAYS: u32 = 100_000;

/// What the settings say of it.
#[derive(Debug, Clone)]
pub struct Trail {
    /// Who is shown the heads of the log.
    pub witnesses: Vec<Address>,
    /// Who gets the events.
    pub forward: Vec<Address>,
    /// What is sent beside, as headers: all of it, or to one server, at a path or under it.
    headers: Vec<(Option<Url>, HeaderName, Hidden)>,
    /// Roots (PEM) of their certificates, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate and key (PEM) that are shown to them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// For so many days events are kept; all of them for ever if none is given.
    pub retention: Option<u32>,
}

/// Where something is written or sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file that is added to.
    File(PathBuf),
    /// Who is sent it by HTTP.
    Web(Url),
    /// A syslog server.
    Syslog {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// By TLS.
        tls: bool,
    },
}

impl Address {
    /// What it is called in logs, metrics and the database: without what may be a secret, which path and
    /// query are for many web hooks, and never the same as another.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Web(url) => {
                let mut apart = digest(url.as_str().as_bytes());
                apart.truncate(APART);
                format!("{} {apart}", url.origin().ascii_serialization())
            }
            Self::Syslog { host, port, tls } => {
                format!("syslog+{}://{host}:{port}", if *tls { "tls" } else { "tcp" })
            }
        }
    }

    /// Unencrypted to this machine alone.
    fn parse(setting: &str, text: &str) -> Result<Self, ConfigError> {
        if !text.contains("://") {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| wrong(setting, format!("`{text}`: {error}")))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(setting, "an address holds no password; there is audit_headers for it"));
        }
        match (url.scheme(), url.port()) {
            ("https", _) => Ok(Self::Web(url)),
            ("http", _) if here => Ok(Self::Web(url)),
            ("syslog+tls", port) if !host.is_empty() => {
                Ok(Self::Syslog { host, port: port.unwrap_or(6514), tls: true })
            }
            ("syslog+tcp", Some(port)) if here => Ok(Self::Syslog { host, port, tls: false }),
            ("http" | "syslog+tcp", _) => {
                Err(wrong(setting, format!("`{text}`: unencrypted to a loopback address alone")))
            }
            _ => Err(wrong(setting, format!("`{text}` is no file, https:// or syslog+tls://host:port"))),
        }
    }

    fn list(setting: &str, text: &str) -> Result<Vec<Self>, ConfigError> {
        let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let mut found = Vec::new();
        for one in all {
            let address = Self::parse(setting, one)?;
            if found.contains(&address) {
                return Err(wrong(setting, format!("{} is there twice", address.name())));
            }
            found.push(address);
        }
        Ok(found)
    }
}

impl Trail {
    pub(super) fn from_values<'v>(
        get: impl Fn(&str) -> Option<&'v str>,
        data_dir: &Path,
    ) -> Result<Self, ConfigError> {
        let witnesses = match get("audit_witness") {
            Some(text) => Address::list("audit_witness", text)?,
            None => vec![Address::File(data_dir.join("audit-heads"))],
        };
        let forward = Address::list("audit_forward", get("audit_forward").unwrap_or_default())?;
        if forward.iter().any(|to| matches!(to, Address::File(_))) {
            return Err(wrong("audit_forward", "events are sent to https:// or syslog+tls://host:port"));
        }
        let mut headers = Vec::new();
        let lines = get("audit_headers").unwrap_or_default().lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            // Neither is shown: there is a secret in it.
            let bad = || wrong("audit_headers", "each line is like `Name: value` or `https://… Name: value`");
            let (of, rest) = match line.split_once(' ') {
                Some((of, rest)) if of.contains("://") => {
                    (Some(Url::parse(of).map_err(|_| bad())?), rest.trim())
                }
                _ => (None, line),
            };
            let (name, value) = rest.split_once(':').ok_or_else(bad)?;
            let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
            HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
            headers.push((of, name, Hidden::new(value.trim().to_owned())));
        }
        let file = |name| get(name).map(PathBuf::from);
        let identity = match (file("audit_tls_cert"), file("audit_tls_key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (None, _) => return Err(wrong("audit_tls_cert", "is needed beside audit_tls_key")),
            (_, None) => return Err(wrong("audit_tls_key", "is needed beside audit_tls_cert")),
        };
        let retention = match get("audit_retention_days").map(|days| days.trim().parse::<u32>()) {
            None => None,
            Some(Ok(days)) if (1..=MOST_DAYS).contains(&days) => Some(days),
            Some(_) => return Err(wrong("audit_retention_days", "is a whole number of days, 1 to 100000")),
        };
        Ok(Self { witnesses, forward, headers, ca: file("audit_ca"), identity, retention })
    }

    /// The headers that are sent to an address.
    pub(crate) fn headers<'t>(
        &'t self,
        to: &'t Url,
    ) -> impl Iterator<Item = (&'t HeaderName, HeaderValue)> + 't {
        let of = move |of: &Option<Url>| of.as_ref().is_none_or(|of| is_under(to, of));
        self.headers.iter().filter(move |(address, ..)| of(address)).filter_map(|(_, name, value)| {
            let mut value = HeaderValue::from_str(value.as_str()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
    }
}

/// Is an address another one, or under it on the same server? A name that only begins so is somebody else's.
pub(super) fn is_under(url: &Url, of: &Url) -> bool {
    if url.origin() != of.origin() || of.query().is_some_and(|query| url.query() != Some(query)) {
        return false;
    }
    let mut segments = url.path().split('/');
    of.path().trim_end_matches('/').split('/').all(|one| segments.next() == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(pairs: &[(&str, &'static str)]) -> Result<Trail, ConfigError> {
        let get = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Trail::from_values(get, Path::new("data"))
    }

    #[test]
    fn addresses_are_encrypted_or_here() {
        assert_eq!(trail(&[]).unwrap().witnesses, [Address::File("data/audit-heads".into())]);
        let all = "heads, https://w.example/x?key=1,syslog+tls://log.example,syslog+tcp://127.0.0.1:5";
        let names: Vec<String> =
            trail(&[("audit_witness", all)]).unwrap().witnesses.iter().map(Address::name).collect();
        let expected =
            ["heads", "https://w.example ", "syslog+tls://log.example:6514", "syslog+tcp://127.0.0.1:5"];
        assert!(names.iter().zip(expected).all(|(name, begins)| name.starts_with(begins)), "{names:?}");
        assert!(!names[1].contains("key") && !names[1].contains("/x"), "{names:?}");
        let two =
            trail(&[("audit_forward", "https://w.example/x?key=1,https://w.example:443/x?key=2")]).unwrap();
        assert_ne!(two.forward[0].name(), two.forward[1].name());
        assert!(trail(&[("audit_forward", "https://w.example/x,https://w.example:443/x")]).is_err());
        for wrong in [
            "http://w.example/",
            "https://me:secret@w.example/",
            "syslog+tcp://10.0.0.1:514",
            "syslog+tcp://127.0.0.1",
            "ftp://x",
        ] {
            assert!(trail(&[("audit_witness", wrong)]).is_err(), "{wrong}");
        }
        assert!(trail(&[("audit_forward", "/a/file")]).is_err());
        assert_eq!(trail(&[]).unwrap().retention, None);
        assert_eq!(trail(&[("audit_retention_days", "2190")]).unwrap().retention, Some(2190));
        for wrong in ["0", "-1", "6y", "", "100001"] {
            assert!(trail(&[("audit_retention_days", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_goes_where_it_belongs() {
        let lines = "X-A: 1\nhttps://one.example/fhir Authorization: Bearer t";
        let trail = trail(&[("audit_headers", lines)]).unwrap();
        let of = |url: &str| trail.headers(&Url::parse(url).unwrap()).count();
        assert_eq!((of("https://one.example/fhir"), of("https://two.example/fhir")), (2, 1));
        assert_eq!((of("https://one.example:443/fhir/x?y"), of("https://one.example:444/fhir")), (2, 1));
        assert_eq!((of("https://one.example.org/fhir"), of("https://one.example/fhir2")), (1, 1));
        assert!(!format!("{trail:?}").contains("Bearer"));
    }
}
