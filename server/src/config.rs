//! What the operator says: a TOML file, overridden by the environment.
//!
//! | setting (file) | environment | default |
//! |---|---|---|
//! | `bind` | `AUGURY_BIND` | `127.0.0.1:8080` |
//! | `public_url` | `AUGURY_PUBLIC_URL` | `http://`, with TLS `https://`, + bind |
//! | `database_url` | `AUGURY_DATABASE_URL` | `sqlite:` + data_dir + `/augury.db` |
//! | `database_read_url` | `AUGURY_DATABASE_READ_URL` | none: a replica of PostgreSQL's that answers searches where it is as far as the database itself |
//! | `data_dir` | `AUGURY_DATA_DIR` | `./augury-data` |
//! | `auth` | `AUGURY_AUTH` | `open` on a loopback address, else `required` |
//! | `region` | `AUGURY_REGION` | none: models that need one refuse |
//! | `packages` | `AUGURY_PACKAGES` | none: FHIR packages, `.tgz` or folders, separated by commas |
//! | `validate_claims` | `AUGURY_VALIDATE_CLAIMS` | `false`: of the profiles that `meta.profile` names, vital signs and our own count |
//! | `audit` | `AUGURY_AUDIT` | `durable`; `buffered` answers reads before their audit is on disk; `off` is accepted only with open access |
//! | `audit_witness` | `AUGURY_AUDIT_WITNESS` | data_dir + `/audit-heads`: who is shown the signed heads of the audit log, separated by commas: files, `https://…` (POST), `syslog+tls://host:port` |
//! | `audit_forward` | `AUGURY_AUDIT_FORWARD` | none: who is sent every AuditEvent, separated by commas: `https://…/fhir`, `syslog+tls://host:port` |
//! | `audit_headers` | `AUGURY_AUDIT_HEADERS` | none: headers that are sent along, `Name: value` a line, or `https://… Name: value` for one address |
//! | `audit_ca` | `AUGURY_AUDIT_CA` | the system's: roots (PEM) of the certificates of witnesses and receivers |
//! | `audit_retention_days` | `AUGURY_AUDIT_RETENTION_DAYS` | none: events are kept for ever |
//! | `audit_tls_cert`, `audit_tls_key` | `AUGURY_AUDIT_TLS_CERT`, … | none: PEM files of the certificate that is shown to them |
//! | `audit_failure` | `AUGURY_AUDIT_FAILURE` | `closed`: what can't be audited is not answered; `open` |
//! | `secret` | `AUGURY_SECRET` | a random one, kept in data_dir + `/secret`; the same for all processes on one database, 32 bytes at least |
//! | `token_issuer` | `AUGURY_TOKEN_ISSUER` | none: another authorization server whose access tokens count here |
//! | `token_audience` | `AUGURY_TOKEN_AUDIENCE` | the FHIR base: what those tokens must be for |
//! | `token_jwks_uri` | `AUGURY_TOKEN_JWKS_URI` | what its `openid-configuration` says: where its keys are |
//! | `token_introspection` | `AUGURY_TOKEN_INTROSPECTION` | none: where it is asked about tokens that are no JWT |
//! | `token_client_id`, `token_client_secret` | `AUGURY_TOKEN_CLIENT_ID`, … | none: who asks there |
//! | `token_claims` | `AUGURY_TOKEN_CLAIMS` | `scope=scope,client=client_id,patient=patient,encounter=encounter,fhirUser=fhirUser`: which claim says what |
//! | `token_scopes` | `AUGURY_TOKEN_SCOPES` | none: all that those tokens may ever allow here, whatever they say; scopes separated by spaces |
//! | `trusted_proxies` | `AUGURY_TRUSTED_PROXIES` | none: addresses and networks (`10.0.0.0/8`) of proxies, separated by commas, that say where a request comes from |
//! | `proxy_header` | `AUGURY_PROXY_HEADER` | `x-forwarded-for`: the header in which they say it; `forwarded` |
//! | `rate_anonymous` | `AUGURY_RATE_ANONYMOUS` | `100/hour` for each address, where access is not open; `…/minute`, `…/second`, `none` |
//! | `rate_sign_in` | `AUGURY_RATE_SIGN_IN` | `20/minute`: tries to sign in with one login, from each network or browser |
//! | `rate_client` | `AUGURY_RATE_CLIENT` | `none`: how often each client may ask |
//! | `client_rates` | `AUGURY_CLIENT_RATES` | none: `ID=5000/hour,…` of some clients |
//! | `redis_url` | `AUGURY_REDIS_URL` | none: each process counts by itself; `redis://…` or `rediss://…`, where all count together |
//! | `tls_cert`, `tls_key` | `AUGURY_TLS_CERT`, `AUGURY_TLS_KEY` | none: plain HTTP; PEM files, read again when they change |
//! | `tls_client_ca` | `AUGURY_TLS_CLIENT_CA` | none: roots (PEM) of the certificates that clients may show |
//! | `tls_client_self_signed` | `AUGURY_TLS_CLIENT_SELF_SIGNED` | `false`: clients may show certificates that they made themselves, and registered |
//! | `oidc_issuer` | `AUGURY_OIDC_ISSUER` | none: an OpenID Connect provider whose people may sign in |
//! | `oidc_client_id`, `oidc_client_secret` | `AUGURY_OIDC_CLIENT_ID`, … | what this server is called there; without a secret it is a public client |
//! | `oidc_scope` | `AUGURY_OIDC_SCOPE` | `openid profile` |
//! | `oidc_role_claim` | `AUGURY_OIDC_ROLE_CLAIM` | `roles`: the claim that says what somebody may be allowed |
//! | `oidc_roles` | `AUGURY_OIDC_ROLES` | the claim's values are names of roles; else `value=role`, separated by `;`, the first that fits counts |
//! | `oidc_user_claim` | `AUGURY_OIDC_USER_CLAIM` | `fhirUser`: the claim that says who somebody is in FHIR |
//! | `webhook_allow` | `AUGURY_WEBHOOK_ALLOW` | none: addresses and networks (`10.1.0.0/16`) in private space, or of this machine, that Subscriptions may send to, separated by commas |
//! | `webhook_ca` | `AUGURY_WEBHOOK_CA` | none: roots (PEM) of endpoints' certificates, beside the system's |
//! | `webhook_tls_cert`, `webhook_tls_key` | `AUGURY_WEBHOOK_TLS_CERT`, … | none: PEM files of the certificate that is shown to endpoints |
//! | `webhook_tokens` | `AUGURY_WEBHOOK_TOKENS` | none: access tokens for endpoints, `https://emr.example/hooks token=https://emr.example/token client=ID secret=… scope="…"` a line, or `key` in the place of the secret |
//! | `webhook_rate` | `AUGURY_WEBHOOK_RATE` | `500`: messages a second to one server, by each process |
//! | `webhook_refusals` | `AUGURY_WEBHOOK_REFUSALS` | `8`: an event refused so often as wrong becomes a dead letter; `0` for never |
//! | `webhook_handshake_seconds` | `AUGURY_WEBHOOK_HANDSHAKE_SECONDS` | `600`: how long the handshake of a new Subscription is tried; `0` for once |
//! | `subscription_event_days` | `AUGURY_SUBSCRIPTION_EVENT_DAYS` | `7`: how long events that were delivered can be asked for again |
//! | `log`, `log_format` | `AUGURY_LOG`, … | `info`, `text` |
//!
//! Each may be given as `…_FILE`, the value then being the file's content. A name that is not
//! in the table, or a value that can't be used, stops the start with one line that says so.

mod database;
mod servers;
mod trail;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::http::peer::networks;
use crate::smart::secret::LEAST;
use store::Auditing;
pub use trail::{Address, Trail};
use zeroize::Zeroizing;

pub use servers::{Foreign, Upstream};
pub use webhook::{Grantor, Webhooks};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Anybody; possible on a loopback address only.
    Open,
    /// Callers with an API key.
    Required,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that never gets into a log, nor stays in memory that is given back.
#[derive(Clone)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Hides it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Files for TLS, in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Clients may show certificates that they made themselves.
    pub self_signed: bool,
}

/// In which header a proxy says where a request comes from. Only one counts: a proxy hands the other on as
/// the caller wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The usual one.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Who says where a request comes from, beside the connection.
#[derive(Debug, Clone)]
pub struct Proxies {
    /// Their networks.
    pub trusted: Vec<IpNet>,
    /// Where they say it.
    pub header: ProxyHeader,
}

/// So many requests in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests.
    pub count: NonZeroU32,
    /// In this time.
    pub per: Duration,
}

impl Rate {
    /// `100/hour`, `10/minute`, `5/second`; `none` is no limit.
    fn parse(name: &str, text: &str) -> Result<Option<Self>, ConfigError> {
        if text == "none" {
            return Ok(None);
        }
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let seconds = match unit {
                "second" => 1,
                "minute" => 60,
                "hour" => 3600,
                _ => return None,
            };
            Some(Self { count: count.parse().ok()?, per: Duration::from_secs(seconds) })
        };
        read()
            .map(Some)
            .ok_or_else(|| wrong(name, format!("`{text}` is not like 100/hour, 10/minute or none")))
    }
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The names of what was said; the rest is as it is by default.
    pub said: Vec<String>,
    /// Address to listen on.
    pub bind: SocketAddr,
    /// What clients call us, without a trailing slash.
    pub public_url: String,
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// A replica that answers searches, `postgres://…`.
    pub database_read_url: Option<Hidden>,
    /// Where files of ours live.
    pub data_dir: PathBuf,
    /// Who may call.
    pub auth: Auth,
    /// Region of the population, for equations that are calibrated by region.
    pub region: Option<String>,
    /// FHIR packages whose profiles are known.
    pub packages: Vec<PathBuf>,
    /// Does a write have to conform to every profile it claims?
    pub validate_claims: bool,
    /// How accesses are audited.
    pub auditing: Auditing,
    /// Where the audit trail goes beside the database.
    pub trail: Trail,
    /// An access that can't be audited goes on.
    pub audit_fails_open: bool,
    /// What only the processes of this server know; without one, there is a file for it.
    pub secret: Option<Hidden>,
    /// Whose access tokens count, beside our own.
    pub foreign: Option<Foreign>,
    /// Who says where requests come from.
    pub proxies: Proxies,
    /// How endpoints of Subscriptions are reached.
    pub webhooks: Webhooks,
    /// For so many days events that were delivered can be asked for again.
    pub event_days: u32,
    /// How often an address may ask that says nobody's name.
    pub rate_anonymous: Option<Rate>,
    /// How often signing in with one login may be tried from one place.
    pub rate_sign_in: Option<Rate>,
    /// How often a client may ask.
    pub rate_client: Option<Rate>,
    /// The same for some, by their ids.
    pub client_rates: Vec<(String, Rate)>,
    /// Where all processes count together how often was asked.
    pub redis_url: Option<Hidden>,
    /// With what connections are encrypted.
    pub tls: Option<Tls>,
    /// Whose people may sign in, beside those with accounts here.
    pub upstream: Option<Upstream>,
    /// `tracing` filter.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
}

/// A setting that stops the start.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    name: String,
    problem: String,
}

const NAMES: [&str; 57] = [
    "bind",
    "public_url",
    "database_url",
    "database_read_url",
    "data_dir",
    "auth",
    "region",
    "packages",
    "validate_claims",
    "webhook_allow",
    "webhook_ca",
    "webhook_tls_cert",
    "webhook_tls_key",
    "webhook_tokens",
    "webhook_tokens_key",
    "subscription_event_days",
    "webhook_rate",
    "webhook_refusals",
    "webhook_handshake_seconds",
    "audit",
    "audit_failure",
    "audit_witness",
    "audit_forward",
    "audit_retention_days",
    "audit_headers",
    "audit_ca",
    "audit_tls_cert",
    "audit_tls_key",
    "secret",
    "token_issuer",
    "token_audience",
    "token_jwks_uri",
    "token_introspection",
    "token_client_id",
    "token_client_secret",
    "token_claims",
    "token_scopes",
    "trusted_proxies",
    "proxy_header",
    "rate_anonymous",
    "rate_sign_in",
    "rate_client",
    "client_rates",
    "redis_url",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "tls_client_self_signed",
    "oidc_issuer",
    "oidc_client_id",
    "oidc_client_secret",
    "oidc_scope",
    "oidc_role_claim",
    "oidc_roles",
    "oidc_user_claim",
    "log",
    "log_format",
];

fn wrong(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError { name: name.to_owned(), problem: problem.into() }
}

impl Config {
    /// Settings from `file` (if any), overridden by `environment`.
    ///
    /// # Errors
    /// The first unknown name or unusable value.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        if let Some(path) = file {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| wrong(&shown, e.to_string()))?;
            let table: toml::Table =
                text.parse().map_err(|e: toml::de::Error| wrong(&shown, e.message().to_owned()))?;
            for (name, value) in table {
                let value = match value {
                    toml::Value::String(value) => value,
                    toml::Value::Boolean(value)
                        if matches!(&*name, "validate_claims" | "tls_client_self_signed") =>
                    {
                        value.to_string()
                    }
                    toml::Value::Array(paths) if name == "packages" => {
                        let paths: Option<Vec<&str>> = paths.iter().map(toml::Value::as_str).collect();
                        paths.ok_or_else(|| wrong(&name, "must be a list of strings"))?.join(",")
                    }
                    _ => return Err(wrong(&name, "must be a string")),
                };
                put(&mut values, &name, &name, value)?;
            }
        }
        for (name, value) in environment {
            if let Some(short) = name.strip_prefix("AUGURY_") {
                put(&mut values, &name, &short.to_lowercase(), value)?;
            }
        }
        Self::from_values(&values)
    }

    fn from_values(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let get = |name: &str| values.get(name).map(String::as_str);
        let bind: SocketAddr = get("bind")
            .unwrap_or("127.0.0.1:8080")
            .parse()
            .map_err(|_| wrong("bind", "must be an address and a port, like 127.0.0.1:8080"))?;
        let loopback = bind.ip().is_loopback();
        let auth = match get("auth") {
            None | Some("open") if loopback => Auth::Open,
            None | Some("required") => Auth::Required,
            Some("open") => {
                return Err(wrong("auth", "`open` is accepted only when bound to a loopback address"));
            }
            Some(other) => return Err(wrong("auth", format!("`{other}` is neither `required` nor `open`"))),
        };
        let data_dir = PathBuf::from(get("data_dir").unwrap_or("./augury-data"));
        let database_url = get("database_url")
            .map_or_else(|| format!("sqlite:{}", data_dir.join("augury.db").display()), str::to_owned);
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|s| database_url.starts_with(s)) {
            return Err(wrong("database_url", "must begin with sqlite: or postgres://"));
        }
        let file = |name| get(name).map(PathBuf::from);
        let truth = |name: &str| match get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, format!("`{other}` is neither `true` nor `false`"))),
        };
        let tls = match (file("tls_cert"), file("tls_key")) {
            (Some(cert), Some(key)) => {
                let self_signed = truth("tls_client_self_signed")?;
                Some(Tls { cert, key, client_ca: file("tls_client_ca"), self_signed })
            }
            (None, None) if get("tls_client_ca").or(get("tls_client_self_signed")).is_none() => None,
            (None, _) => return Err(wrong("tls_cert", "is needed beside the others of tls_…")),
            (_, None) => return Err(wrong("tls_key", "is needed beside tls_cert")),
        };
        let mut client_rates = Vec::new();
        for one in get("client_rates").unwrap_or_default().split(',').filter(|one| !one.is_empty()) {
            let (id, rate) =
                one.split_once('=').ok_or_else(|| wrong("client_rates", "is not like ID=100/hour,…"))?;
            client_rates.extend(Rate::parse("client_rates", rate)?.map(|rate| (id.trim().to_owned(), rate)));
        }
        let redis_url = get("redis_url").map(Hidden::new);
        let schemes = ["redis://", "rediss://"];
        let is_good = |url: &str| {
            schemes.iter().any(|scheme| url.starts_with(scheme)) && redis::Client::open(url).is_ok()
        };
        if redis_url.as_ref().is_some_and(|url| !is_good(url.as_str())) {
            return Err(wrong("redis_url", "must be like redis://redis.example:6379 or rediss://…"));
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let public_url = get("public_url")
            .map_or_else(|| format!("{scheme}://{bind}"), |url| url.trim_end_matches('/').to_owned());
        if !public_url.starts_with("http://") && !public_url.starts_with("https://") {
            return Err(wrong("public_url", "must begin with http:// or https://"));
        }
        let trusted = networks(get("trusted_proxies").unwrap_or_default());
        let trusted = trusted.map_err(|one| {
            wrong("trusted_proxies", format!("`{one}` is neither an address nor like 10.0.0.0/8"))
        })?;
        let event_days = match get("subscription_event_days").map(str::parse) {
            None => 7,
            Some(Ok(days)) if (1..=3650).contains(&days) => days,
            Some(_) => return Err(wrong("subscription_event_days", "is a whole number of days, 1 to 3650")),
        };
        let header = match get("proxy_header") {
            None | Some("x-forwarded-for") => ProxyHeader::XForwardedFor,
            Some("forwarded") => ProxyHeader::Forwarded,
            Some(other) => {
                let why = format!("`{other}` is neither `x-forwarded-for` nor `forwarded`");
                return Err(wrong("proxy_header", why));
            }
        };
        let foreign = Foreign::from_values(get, &format!("{public_url}/fhir"))?;
        let log_format = match get("log_format") {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                return Err(wrong("log_format", format!("`{other}` is neither `text` nor `json`")));
            }
        };
        let log = get("log").unwrap_or("info").to_owned();
        tracing_subscriber::EnvFilter::try_new(&log).map_err(|e| wrong("log", e.to_string()))?;
        let auditing = match get("audit") {
            None | Some("durable") => Auditing::Durable,
            Some("buffered") => Auditing::Buffered,
            Some("off") if auth == Auth::Open => Auditing::Off,
            Some("off") => return Err(wrong("audit", "`off` is accepted only with open access")),
            Some(other) => {
                return Err(wrong("audit", format!("`{other}` is neither `durable`, `buffered` nor `off`")));
            }
        };
        let audit_fails_open = match get("audit_failure") {
            None | Some("closed") => false,
            Some("open") => true,
            Some(other) => {
                return Err(wrong("audit_failure", format!("`{other}` is neither `closed` nor `open`")));
            }
        };
        let region = get("region").map(str::to_owned);
        if region.as_deref().is_some_and(|region| !matches!(region, "north-america" | "other")) {
            return Err(wrong("region", "must be `north-america` or `other`"));
        }
        let packages = get("packages").unwrap_or_default();
        let packages = packages.split(',').map(str::trim).filter(|path| !path.is_empty());
        let packages = packages.map(PathBuf::from).collect();
        let validate_claims = truth("validate_claims")?;
        let secret = get("secret").map(str::to_owned);
        if secret.as_ref().is_some_and(|secret| secret.len() < LEAST) {
            return Err(wrong("secret", format!("must have at least {LEAST} bytes")));
        }
        Ok(Self {
            trail: Trail::from_values(get, &data_dir)?,
            said: values.keys().cloned().collect(),
            bind,
            public_url,
            database_read_url: database::read_url(get, &database_url)?,
            database_url,
            data_dir,
            auth,
            region,
            packages,
            validate_claims,
            auditing,
            audit_fails_open,
            secret: secret.map(Hidden::new),
            foreign,
            proxies: Proxies { trusted, header },
            webhooks: Webhooks::from_values(get)?,
            event_days,
            rate_anonymous: Rate::parse("rate_anonymous", get("rate_anonymous").unwrap_or("100/hour"))?,
            rate_sign_in: Rate::parse("rate_sign_in", get("rate_sign_in").unwrap_or("20/minute"))?,
            rate_client: Rate::parse("rate_client", get("rate_client").unwrap_or("none"))?,
            client_rates,
            redis_url,
            tls,
            upstream: Upstream::from_values(get, loopback)?,
            log,
            log_format,
        })
    }

    /// The host that clients know.
    pub fn host(&self) -> &str {
        let rest = self.public_url.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or_default();
        host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(host, _)| host)
    }

    /// The base of all FHIR addresses, e.g. `http://127.0.0.1:8080/fhir`.
    pub fn fhir_base(&self) -> String {
        format!("{}/fhir", self.public_url)
    }
}

fn put(
    values: &mut BTreeMap<String, String>,
    shown: &str,
    name: &str,
    value: String,
) -> Result<(), ConfigError> {
    let (name, value) = match name.strip_suffix("_file") {
        Some(bare) if NAMES.contains(&bare) => {
            let text = std::fs::read_to_string(&value).map_err(|e| wrong(shown, format!("{value}: {e}")))?;
            (bare, text.trim_end().to_owned())
        }
        _ => (name, value),
    };
    if !NAMES.contains(&name) {
        return Err(wrong(shown, format!("no such setting; there are {}", NAMES.join(", "))));
    }
    if value.is_empty() {
        return Err(wrong(shown, "is empty"));
    }
    values.insert(name.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(None, pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn nothing_said_is_loopback_sqlite_and_open() {
        let config = env(&[("PATH", "/bin")]).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.auth, Auth::Open);
        assert_eq!(config.database_url, "sqlite:./augury-data/augury.db");
        assert_eq!(config.fhir_base(), "http://127.0.0.1:8080/fhir");
    }

    #[test]
    fn what_can_not_be_used_stops_the_start() {
        for pairs in [
            [("AUGURY_BIND", "8080")],
            [("AUGURY_BNID", "127.0.0.1:80")],
            [("AUGURY_AUTH", "maybe")],
            [("AUGURY_DATABASE_URL", "mysql://x")],
            [("AUGURY_TLS_CERT", "cert.pem")],
            [("AUGURY_LOG_FORMAT", "xml")],
            [("AUGURY_VALIDATE_CLAIMS", "maybe")],
            [("AUGURY_DATA_DIR", "")],
            [("AUGURY_SECRET", "too short")],
            [("AUGURY_OIDC_ISSUER", "https://id.example")],
            [("AUGURY_OIDC_ISSUER", "http://id.example")],
            [("AUGURY_OIDC_CLIENT_ID", "x")],
            [("AUGURY_TRUSTED_PROXIES", "proxy.example")],
            [("AUGURY_PROXY_HEADER", "x-real-ip")],
            [("AUGURY_TOKEN_SCOPES", "patient/*.rs")],
            [("AUGURY_REDIS_URL", "unix:///run/redis.sock")],
            [("AUGURY_REDIS_URL", "redis://me:secret@/a/b")],
        ] {
            assert!(env(&pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn the_password_of_redis_is_hidden() {
        let config = env(&[("AUGURY_REDIS_URL", "rediss://me:swordfish@redis.example:6379/1")]).unwrap();
        assert!(!format!("{config:?}").contains("swordfish"));
    }

    #[test]
    fn open_access_needs_a_loopback_address() {
        let error = env(&[("AUGURY_BIND", "0.0.0.0:8080"), ("AUGURY_AUTH", "open")]).unwrap_err();
        assert!(error.to_string().contains("loopback"));
        assert_eq!(env(&[("AUGURY_BIND", "0.0.0.0:8080")]).unwrap().auth, Auth::Required);
    }
}
