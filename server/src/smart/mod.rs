//! The authorization server: SMART App Launch 2.2 over OAuth 2.0 and OpenID Connect
//! (<https://hl7.org/fhir/smart-app-launch/>).
//!
//! - `discovery`, `keys`: what others must know of us.
//! - `authorize` → `sign_in` → `patient` → `consent`: from an app's question to a code, in pages
//!   (`pages`) that work without scripts. What the app asked travels with the browser, sealed
//!   (`request`); nothing is kept before somebody agrees.
//! - `token`, `introspect`, `revoke`, `register`, `launch`: what clients call; `authenticate` and
//!   `assertion` say who they are, with key sets fetched by `jwks`.
//! - `scope`, `role`: what is granted. `bearer`: what a token is worth.

pub(crate) mod assertion;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod bearer;
pub(crate) mod consent;
pub(crate) mod discovery;
pub(crate) mod form;
pub(crate) mod id_token;
pub(crate) mod introspect;
pub(crate) mod jwks;
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod manage;
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

use std::sync::atomic::{AtomicI64, Ordering};

use store::{AuthorizationChange, Context};

use crate::app;
use crate::config::Config;

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
    swept: AtomicI64,
}

impl Smart {
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            secret: secret::Secret::load(config)?,
            keys: keys::Keys::default(),
            remote: jwks::Remote::new(config.bind.ip().is_loopback()),
            throttle: throttle::Throttle::new(),
            bearers: bearer::Recent::default(),
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

/// The authorization server itself asks the store.
pub(crate) fn context() -> Context {
    Context::system("authorization server", app::now())
}
