//! `augury client …`: callers with an API key, and apps that ask for tokens. A key or secret is shown
//! once and kept only as a digest.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use fhir::scope::{Clinical, Level};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use store::{
    Act, Authentication, AuthorizationChange, ClientChange, Commit, Entry, Registration, SmartClient, Status,
};
use uuid::Uuid;

use crate::app;
use crate::config::Config;
use crate::http::caller::key_hash;
use crate::http::rights;
use crate::http::tls::Shown;
use crate::scoring::gather::moment;
use crate::smart::jwks::Remote;
use crate::smart::name;
use crate::smart::register::{USUAL, USUAL_ITSELF, checked_keys};
use crate::smart::request::is_redirect_uri;
use crate::smart::scope;
use crate::smart::secret::random;

/// A lifetime in microseconds.
fn lifetime(said: &str) -> Result<i64, String> {
    let (count, unit) = said.split_at(said.find(|c: char| !c.is_ascii_digit()).unwrap_or(said.len()));
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "" | "d" => 86_400,
        _ => return Err("say it as 90d, 12h, 30m or 10s".to_owned()),
    };
    let count =
        count.parse::<u32>().ok().filter(|count| *count > 0).ok_or("a key lasts a second at least")?;
    Ok(i64::from(count) * seconds * 1_000_000)
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Register a caller. Without options it gets an API key, printed once; with one of --public,
    /// --secret, --jwks, --jwks-url, --tls-subject, --self-signed it is an app that asks for tokens.
    Add(Box<New>),
    /// All registered callers, with their scopes.
    List,
    /// Let an app that registered itself ask for tokens.
    Approve {
        /// The app's id, as `list` shows it.
        id: String,
    },
    /// Make a caller's key, or all that an app was granted, worthless.
    Revoke {
        /// The caller's id, as `list` shows it.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// For people to recognise it by.
    name: String,
    /// An app on a device or in a browser, which can keep no secret.
    #[arg(long, group = "proof")]
    public: bool,
    /// An app on a server, with a secret that is printed once.
    #[arg(long, group = "proof")]
    secret: bool,
    /// An app with keys of its own: a file with its public key set (JSON).
    #[arg(long, value_name = "FILE", group = "proof")]
    jwks: Option<PathBuf>,
    /// An app with keys of its own: where its public key set is. May go with --jwks.
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// An app with a certificate of the trusted authority (PEM): known by the subject of this one.
    #[arg(long, value_name = "FILE", group = "proof")]
    tls_subject: Option<PathBuf>,
    /// An app with a certificate that it made itself (PEM), and registers so.
    #[arg(long, value_name = "FILE", group = "proof")]
    self_signed: Option<PathBuf>,
    /// The app's tokens are good only with the certificate that they were got with.
    #[arg(long)]
    bound: bool,
    /// Where the app is answered; may be given several times.
    #[arg(long, value_name = "URI")]
    redirect: Vec<String>,
    /// All scopes that an app may ever be granted, or that a caller with a key has, separated by spaces; a
    /// key has all if none are said.
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// Where an EHR opens the app.
    #[arg(long, value_name = "URL")]
    launch_url: Option<String>,
    /// A caller that shows this certificate (PEM) instead of a key.
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    certificate: Option<PathBuf>,
    /// How long the key is worth something: `90d`, `12h`, `30m`, `10s`; a bare number is days.
    #[arg(long, value_name = "HOW LONG", conflicts_with = "proof", value_parser = lifetime)]
    expires: Option<i64>,
}

impl New {
    fn is_app(&self) -> bool {
        let certificate = self.tls_subject.is_some() || self.self_signed.is_some();
        self.public || self.secret || self.jwks.is_some() || self.jwks_url.is_some() || certificate
    }
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let store = app::open_store(config).await?;
        let context = super::context();
        let mut out = std::io::stdout();
        let mut commit = Commit::default();
        let (mut meant, mut approved) = (None, None);
        match action {
            Action::List => {
                for client in store.clients(&context).await? {
                    let state = match (client.revoked, client.expires) {
                        (Some(_), _) => "revoked",
                        (None, Some(end)) if end <= context.at => "expired",
                        (None, _) => "active",
                    };
                    let end = client.expires.map(|end| format!("  until {}", moment(end).format("%FT%TZ")));
                    let end = end.unwrap_or_default();
                    writeln!(out, "{}  {state:8}  {}  {}{end}", client.id, client.name, client.scope)?;
                }
                for client in store.smart_clients(&context).await? {
                    let state = match client.status {
                        Status::Pending => "pending",
                        Status::Approved => "approved",
                        Status::Revoked => "revoked",
                    };
                    let Registration { name, scope, .. } = &client.registration;
                    writeln!(out, "{}  {state:8}  {name}  [{}]  {scope}", client.id, kind(&client))?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            Action::Add(new) => {
                if let Some(fault) = name::fault(&new.name) {
                    bail!("the name {fault}");
                }
                if new.is_app() {
                    let (client, secret) = app_of(config, *new, context.at)?;
                    writeln!(out, "id      {}", client.id)?;
                    if let Some(secret) = secret {
                        writeln!(out, "secret  {secret}\nKeep the secret; it can't be shown again.")?;
                    }
                    let (id, scope) = (&client.id, &client.registration.scope);
                    commit.notes.push(said(id, format!("{} {id} added, for {scope}", kind(&client))));
                    commit.authorization.push(AuthorizationChange::Register(client));
                } else {
                    ensure!(
                        new.redirect.is_empty() && new.launch_url.is_none() && !new.bound,
                        "an app needs one of --public, --secret, --jwks, --jwks-url, --tls-subject, --self-signed"
                    );
                    let scope = new.scope.unwrap_or_else(|| rights::OF_A_KEY.to_owned());
                    let own = rights::OF_THIS_SERVER;
                    if let Some(wrong) = scope.split(' ').find(|one| !own.contains(one) && !of_system(one)) {
                        bail!(
                            "`{wrong}` is no scope of a caller with a key: these are system/… and {}",
                            own.join(", ")
                        );
                    }
                    let id = Uuid::now_v7().to_string();
                    let key_hash = if let Some(path) = &new.certificate {
                        let certificate = certificate(path)?;
                        writeln!(out, "id   {id}")?;
                        Shown::of(&certificate, true).key_hash()
                    } else {
                        // Two random UUIDs: 244 bits from the system's generator.
                        let key = format!("augury_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
                        writeln!(out, "id   {id}\nkey  {key}\nKeep the key; it can't be shown again.")?;
                        key_hash(&key)
                    };
                    let expires = new.expires.map(|lifetime| context.at + lifetime);
                    commit.clients.push(ClientChange::Add { id, name: new.name, key_hash, scope, expires });
                }
            }
            Action::Approve { id } => {
                meant = Some(format!("there is no app with the id {id}; `augury client list` shows all"));
                approved = found(store.smart_client(&context, &id).await)?;
                commit.notes.push(said(&id, format!("app {id} approved")));
                commit.authorization.push(AuthorizationChange::Decide { id, status: Status::Approved });
            }
            Action::Revoke { id } => {
                meant = Some(format!("there is no client with the id {id}; `augury client list` shows all"));
                if found(store.smart_client(&context, &id).await)?.is_some() {
                    commit.notes.push(said(&id, format!("app {id} revoked")));
                    commit.authorization.push(AuthorizationChange::Decide { id, status: Status::Revoked });
                } else {
                    commit.clients.push(ClientChange::Revoke { id });
                }
            }
        }
        super::there(store.commit(&context, commit).await, || meant.unwrap_or_default())?;
        if let Some(client) = approved {
            let Registration { name, scope, .. } = &client.registration;
            writeln!(out, "approved {}  {name}  [{}]  {scope}", client.id, kind(&client))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A client, if there is one of that id.
fn found(client: Result<SmartClient, store::Error>) -> Result<Option<SmartClient>, store::Error> {
    match client {
        Err(store::Error::NotFound) => Ok(None),
        client => client.map(Some),
    }
}

fn of_system(scope: &str) -> bool {
    Clinical::parse(scope).is_some_and(|scope| scope.level == Level::System)
}

/// For the audit trail; of callers with a key the store says it itself.
fn said(id: &str, note: String) -> Entry {
    Entry { account: id.to_owned(), note, ..Entry::of(Act::Security) }
}

fn kind(client: &SmartClient) -> &'static str {
    match client.registration.authentication {
        Authentication::Public => "app, public",
        Authentication::Secret(_) => "app, with a secret",
        Authentication::Keys { .. } => "app, with keys",
        Authentication::Certificate { .. } => "app, with a certificate",
        Authentication::SelfSigned { .. } => "app, with a certificate of its own",
    }
}

fn app_of(config: &Config, new: New, at: i64) -> anyhow::Result<(SmartClient, Option<String>)> {
    let mut secret = None;
    let authentication = if new.public {
        Authentication::Public
    } else if new.secret {
        let made = random()?;
        let hash = key_hash(&made);
        secret = Some(made);
        Authentication::Secret(hash)
    } else if let Some(path) = &new.tls_subject {
        let (name, value) = Shown::of(&certificate(path)?, true).subject().context("it has no subject")?;
        Authentication::Certificate { name, value }
    } else if let Some(path) = &new.self_signed {
        let key = Shown::of(&certificate(path)?, false).jwk().context("it can't be read")?;
        Authentication::SelfSigned { jwks: Some(serde_json::json!({"keys": [key]})), jwks_uri: None }
    } else {
        let remote = Remote::new(config.bind.ip().is_loopback());
        let jwks = new.jwks.as_deref().map(key_set).transpose()?;
        checked_keys(&|address| remote.may_fetch(address), jwks, new.jwks_url.clone())
            .map_err(anyhow::Error::msg)?
    };
    if new.jwks_url.is_some() && !matches!(authentication, Authentication::Keys { .. }) {
        bail!("--jwks-url goes with --jwks alone");
    }
    ensure!(
        authentication.is_by_key() || !new.redirect.is_empty(),
        "an app that people use needs --redirect"
    );
    for uri in new.redirect.iter().chain(&new.launch_url) {
        ensure!(
            is_redirect_uri(uri),
            "{uri}: must be https, http on the user's own machine, or of a scheme of the app's own"
        );
    }
    let usual = if new.redirect.is_empty() { USUAL_ITSELF } else { USUAL };
    let asked = new.scope.as_deref().unwrap_or(usual);
    if let Some(unknown) = scope::unknown(asked) {
        bail!("{unknown} is no scope that this server knows");
    }
    ensure!(
        authentication.is_by_key() || !asked.split_ascii_whitespace().any(of_system),
        "system/… scopes are for apps that act for themselves: with --jwks, --jwks-url, --tls-subject or --self-signed"
    );
    let registration = Registration {
        name: new.name,
        authentication,
        redirect_uris: new.redirect,
        launch_url: new.launch_url,
        scope: scope::text(&scope::parse(asked)),
        bound: new.bound,
    };
    let id = Uuid::now_v7().to_string();
    Ok((SmartClient { id, status: Status::Approved, created: at, registration }, secret))
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())
}

fn key_set(path: &Path) -> anyhow::Result<serde_json::Value> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(shown)?;
    let set: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    set.filter(|set| set.get("keys").is_some_and(serde_json::Value::is_array)).with_context(|| {
        format!("{} is no public key set: a file of JSON like {{\"keys\": [{{}}]}}", path.display())
    })
}
