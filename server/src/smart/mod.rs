//! The authorization server: SMART App Launch 2.2 over OAuth 2.0 and OpenID Connect
//! (<https://hl7.org/fhir/smart-app-launch/>).
//!
//! - `discovery`, `keys`: what others must know of us.
//! - `authorize` → `sign_in` → `patient` → `encounter` → `consent`: from an app's question to a code, in pages
//!   (`pages`) that work without scripts. What the app asked travels with the browser, sealed
//!   (`request`); nothing is kept before somebody agrees.
//! - `upstream`: signing in with another provider's accounts.
//! - `call`: what each of them begins with.
//! - `token`, `introspect`, `revoke`, `register`, `launch`: what clients call; `authenticate` and
//!   `assertion` say who they are, with key sets fetched by `jwks`, and signatures checked by `jws`.
//! - `scope`, `role`: what is granted. `bearer`: what a token is worth; `foreign`: one of another server.

pub(crate) mod assertion;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod bearer;
pub(crate) mod call;
pub(crate) mod consent;
pub(crate) mod discovery;
pub(crate) mod encounter;
pub(crate) mod foreign;
pub(crate) mod form;
pub(crate) mod id_token;
pub(crate) mod introspect;
pub(crate) mod jwks;
pub(crate) mod jws;
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod manage;
pub(crate) mod name;
pub(crate) mod pages;
pub(crate) mod password;
pub(crate) mod patient;
pub(crate) mod refusal;
pub(crate) mod register;
pub(crate) mod request;
pub(crate) mod revoke;
pub(crate) mod role;
pub(crate) mod scope;
pub(crate) mod secret;
pub(crate) mod sign_in;
pub(crate) mod throttle;
pub(crate) mod token;
pub(crate) mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use actix_web::{HttpMessage, HttpRequest};
use anyhow::Context as _;
use store::{Account, Act, Agent, AuthorizationChange, Context, Entry, Outcome, SmartClient, Trail, Who};

use self::bearer::Unproved;
use self::refusal::Refusal;
use crate::app::{self, App};
use crate::config::Config;
use crate::http::caller::{address, ended};
use crate::http::redis::Redis;
use crate::http::telemetry::RequestId;

const SECOND: i64 = 1_000_000;
/// How often what has ended is removed.
const SWEEP: i64 = 600 * SECOND;

/// What the authorization server has at hand.
pub(crate) struct Smart {
    /// Seals what leaves us for a while.
    pub(crate) secret: secret::Secret,
    /// What it signs with.
    pub(crate) keys: keys::Keys,
    /// Key sets of clients.
    pub(crate) remote: jwks::Remote,
    /// How often may be tried.
    pub(crate) throttle: throttle::Throttle,
    /// Tokens that were looked at a moment ago.
    pub(crate) bearers: bearer::Recent,
    /// Where another issuer's keys are.
    pub(crate) keyed: foreign::Keyed,
    swept: AtomicI64,
}

impl Smart {
    pub(crate) fn open(config: &Config, redis: Option<&Arc<Redis>>) -> anyhow::Result<Self> {
        Ok(Self {
            secret: secret::Secret::load(config).context("AUGURY_SECRET (secret)")?,
            keys: keys::Keys::open(config.webhooks.key.as_deref())?,
            remote: jwks::Remote::new(config.bind.ip().is_loopback()),
            throttle: throttle::Throttle::new(config, redis),
            bearers: bearer::Recent::default(),
            keyed: foreign::Keyed::default(),
            swept: AtomicI64::new(app::now()),
        })
    }

    /// Adds, from time to time, that what has ended is removed.
    pub(crate) fn swept(&self, at: i64, mut changes: Vec<AuthorizationChange>) -> Vec<AuthorizationChange> {
        let last = self.swept.load(Ordering::Relaxed);
        if at - last > SWEEP
            && self.swept.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            changes.push(AuthorizationChange::Sweep);
        }
        changes
    }
}

/// Somebody calls the authorization server; who, it has yet to find out. What it notes is recorded with the
/// answer, as of whoever [`is_by`] said last.
pub(crate) fn context(request: &HttpRequest) -> Context {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.as_str().into());
    let who = Who::new(Agent { address: address(request), ..Agent::default() });
    let trail = Some(Trail::of(format!("{} {}", request.method(), request.path())));
    let context = Context::system("authorization server", app::now());
    let context = Context { request: id.unwrap_or_default(), who, trail, ..context };
    is_by(request, context.clone());
    context
}

/// The trail is to say that it was they.
pub(crate) fn is_by(request: &HttpRequest, context: Context) {
    request.extensions_mut().insert(context);
}

/// A token that was shown is not good; whose it was is told, if it has only ended.
pub(crate) async fn not_good(app: &App, request: &HttpRequest, context: &Context, token: &str) -> Refusal {
    match ended(app, context, Some(token), None).await {
        Ok(found) => {
            if let Some((_, context)) = found {
                is_by(request, context);
            }
            Unproved::NotGood.into()
        }
        Err(error) => error.into(),
    }
}

/// The same call, of which it is known now which client makes it.
pub(crate) fn of_client(context: &Context, client: &SmartClient) -> Context {
    let (id, name) = (Some(client.id.clone()), Some(client.registration.name.clone()));
    let who = Who::new(Agent { client: id, client_name: name, ..context.who.agent.clone() });
    Context { who, ..context.clone() }
}

/// The same call, of which it is known now who makes it.
pub(crate) fn of_account(app: &App, context: &Context, account: &Account) -> Context {
    let who = Who::new(Agent {
        user: Some(account.id.clone()),
        user_name: Some(account.name.clone()),
        issuer: Some(app.config.public_url.clone()),
        fhir_user: account.fhir_user.clone(),
        role: Some(account.role.clone()),
        ..context.who.agent.clone()
    });
    Context { who, ..context.clone() }
}

/// For the audit trail: something was refused.
pub(crate) fn refused(act: Act, why: &str) -> Entry {
    Entry { outcome: Outcome::Minor, note: why.to_owned(), ..Entry::of(act) }
}
