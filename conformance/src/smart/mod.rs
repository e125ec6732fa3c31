//! SMART on FHIR: what the SMART App Launch and ONC (g)(10) kits ask, and what the specification says
//! beyond them (<https://hl7.org/fhir/smart-app-launch/STU2.2/>). The ids are those of the requirements.
//!
//! - `page`, `key`, `flow`: a browser, signatures, and an app that gets a token with both.
//! - `chart`: patients with what granular scopes tell apart.
//! - The others are checks.

mod backend;
mod chart;
mod discovery;
mod edge;
mod faults;
mod flow;
mod granular;
mod introspection;
mod key;
mod launch;
mod openid;
pub(crate) mod page;
mod refresh;
pub(crate) mod requirements;
mod scopes;
mod served;
mod specification;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clap::Args;

use crate::check::{Check, Stop};
use crate::server::{Answer, Server, list, text};
use chart::World;
use flow::Session;
use key::Key;
use page::Jar;

/// What has to be known of accounts and apps that a server has. What is not said is skipped.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "SMART on FHIR")]
pub(crate) struct Options {
    /// Login of somebody who may see all patients, and has a `fhirUser`.
    #[arg(long = "smart-user", value_name = "LOGIN")]
    user: Option<String>,
    /// Their password.
    #[arg(long = "smart-password", value_name = "PASSWORD")]
    password: Option<String>,
    /// Where all apps are answered; nobody need be there.
    #[arg(long = "smart-redirect", value_name = "URI")]
    redirect: Option<String>,
    /// `client_id` of a public app.
    #[arg(long = "smart-public-client", value_name = "ID")]
    public_client: Option<String>,
    /// `client_id` of an app with a secret.
    #[arg(long = "smart-secret-client", value_name = "ID")]
    secret_client: Option<String>,
    /// Its secret.
    #[arg(long = "smart-secret", value_name = "SECRET")]
    secret: Option<String>,
    /// `client_id` of an app with keys.
    #[arg(long = "smart-key-client", value_name = "ID")]
    key_client: Option<String>,
    /// `client_id` of a client with the same keys that acts for itself.
    #[arg(long = "smart-backend-client", value_name = "ID")]
    backend_client: Option<String>,
    /// A private key of theirs (PEM, PKCS #8, RSA or P-384) by its `kid`; may be given several times.
    #[arg(long = "smart-key", value_name = "KID=FILE")]
    key: Vec<String>,
    /// Where the backend client makes a launch: it gets JSON with `client_id`, `patient`, `encounter`,
    /// `intent`, `fhirContext`, and answers with JSON that has `launch`.
    #[arg(long = "smart-launch", value_name = "URL")]
    launch: Option<String>,
    /// The scope that this takes.
    #[arg(long = "smart-launch-scope", value_name = "SCOPE", default_value = "")]
    launch_scope: String,
    /// Where the runner serves keys, at `http://ADDRESS:PORT/jwks.json`.
    #[arg(long = "smart-jwks", value_name = "ADDRESS:PORT")]
    jwks: Option<String>,
    /// `client_id` of a client that acts for itself, whose keys are there.
    #[arg(long = "smart-jwks-client", value_name = "ID")]
    jwks_client: Option<String>,
    /// Seconds that a check may wait for a code or a token to expire.
    #[arg(long = "smart-patience", value_name = "SECONDS", default_value_t = 0)]
    patience: u64,
}

/// What a check shares with others, once made.
type Once<T> = Arc<OnceLock<Result<Arc<T>, Stop>>>;

/// What the checks were told, and what they share.
#[derive(Default)]
pub(crate) struct Smart {
    options: Options,
    keys: Vec<Key>,
    configuration: OnceLock<Result<Answer, Stop>>,
    world: OnceLock<Result<World, Stop>>,
    /// One browser, so that nobody signs in again and again; one flow at a time.
    browser: Mutex<Jar>,
    sessions: Mutex<HashMap<String, Once<Session>>>,
    served: served::Served,
}

impl Smart {
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let keys = options.key.iter().map(|named| Key::read(named)).collect::<Result<_, _>>()?;
        Ok(Self { options, keys, ..Self::default() })
    }

    /// An option, or why the check is skipped.
    fn told<'o>(value: Option<&'o String>, name: &str) -> Result<&'o str, Stop> {
        value.map(String::as_str).ok_or_else(|| Stop::Skip(format!("--smart-{name} is not given")))
    }

    fn user(&self) -> Result<(&str, &str), Stop> {
        let options = &self.options;
        let user = Self::told(options.user.as_ref(), "user")?;
        Ok((user, Self::told(options.password.as_ref(), "password")?))
    }

    fn redirect(&self) -> Result<&str, Stop> {
        Self::told(self.options.redirect.as_ref(), "redirect")
    }

    fn backend(&self) -> Result<&str, Stop> {
        Self::told(self.options.backend_client.as_ref(), "backend-client")
    }

    /// A key with this algorithm; any if none is named.
    fn key(&self, algorithm: &str) -> Result<&Key, Stop> {
        let fits = |key: &&Key| algorithm.is_empty() || key.algorithm() == algorithm;
        let missing = || Stop::Skip(format!("--smart-key is not given for {algorithm}"));
        self.keys.iter().find(fits).ok_or_else(missing)
    }

    /// Waits that long, if somebody has the patience.
    fn wait(&self, seconds: u64) -> Result<(), Stop> {
        if seconds > self.options.patience {
            return Err(Stop::Skip(format!("takes {seconds} s: --smart-patience {seconds}")));
        }
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        Ok(())
    }

    /// What is shared under a name, made by whoever comes first.
    fn session(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Session, Stop>,
    ) -> Result<Arc<Session>, Stop> {
        let once = {
            let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.to_owned()).or_default())
        };
        once.get_or_init(|| make().map(Arc::new)).clone()
    }
}

/// The server's `.well-known/smart-configuration`; skipped if there is no sign of SMART at all.
fn configuration(server: &Server) -> Result<&Answer, Stop> {
    let found = server.smart.configuration.get_or_init(|| {
        let address = "/.well-known/smart-configuration";
        let answer = server.plain("GET", address).header("accept", "application/json").send()?;
        let services = list(&server.statement, "/rest/0/security/service").iter();
        let mut codes = services.flat_map(|service| list(service, "/coding"));
        let claimed = codes.any(|coding| text(coding, "/code") == "SMART-on-FHIR");
        if answer.status == 404 && !claimed {
            return Err(Stop::Skip("not claimed: SMART-on-FHIR".to_owned()));
        }
        answer.expect(200)?;
        Ok(answer)
    });
    found.as_ref().map_err(Clone::clone)
}

/// An endpoint of it.
fn endpoint<'s>(server: &'s Server, name: &str) -> Result<&'s str, Stop> {
    let found = configuration(server)?.at(&format!("/{name}"));
    if found.is_empty() { Err(Stop::Skip(format!("not claimed: {name}"))) } else { Ok(found) }
}

/// Does it claim this capability?
fn capable(server: &Server, capability: &str) -> Result<(), Stop> {
    let all = list(&configuration(server)?.json, "/capabilities");
    let claimed = all.iter().any(|one| one.as_str() == Some(capability));
    if claimed { Ok(()) } else { Err(Stop::Skip(format!("not claimed: {capability}"))) }
}

/// A check of this chapter: an id, a section of SMART App Launch, a title.
fn check(
    id: &str,
    section: &'static str,
    title: &str,
    run: impl Fn(&Server) -> crate::check::Outcome + Send + Sync + 'static,
) -> Check {
    Check::new(format!("smart/{id}"), section, title, &[], run)
}

pub(crate) fn checks() -> Vec<Check> {
    let parts = [
        discovery::checks(),
        launch::checks(),
        faults::checks(),
        openid::checks(),
        refresh::checks(),
        backend::checks(),
        served::checks(),
        introspection::checks(),
        scopes::checks(),
        granular::checks(),
        specification::checks(),
        edge::checks(),
        tls::checks(),
    ];
    let mut all: Vec<Check> = parts.into_iter().flatten().collect();
    // What is of one source stands together, whichever file it is in.
    all.sort_by_key(|check| check.chapter().to_owned());
    all
}
