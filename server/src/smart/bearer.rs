//! What a token is worth, for the resource server (RFC 6750).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix_web::HttpRequest;
use actix_web::http::header;
use serde::{Deserialize, Serialize};
use store::{Access, AccessToken, Agent, Context, SmartClient, SmartGrant, Status};

use super::foreign;
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::rights::access;
use crate::http::tls::Shown;
use crate::subscriptions::mandate::Mandate;

const SECOND: i64 = 1_000_000;
/// How long an access token is good.
pub(crate) const LASTS: i64 = 3600 * SECOND;
/// How long a client's own is.
pub(crate) const OWN_LASTS: i64 = 300 * SECOND;
/// How long what was looked up may be taken for granted. A revocation by this process counts at once.
const RECENT: i64 = SECOND;
/// How long another server's word that a token is not good is taken for granted.
const NOT_GOOD: i64 = 5 * SECOND;
/// After it could not be asked about a token, it is asked again so soon.
const UNHEARD: i64 = SECOND;
const MOST: usize = 10_000;
/// Characters of a token: 256 bits in base64.
const LENGTH: usize = 43;

/// Who stands behind a token, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bearer {
    /// `client_id`.
    pub(crate) client: String,
    /// What people call the client.
    pub(crate) client_name: String,
    /// The account (`sub`), where there is a user.
    pub(crate) subject: Option<String>,
    /// Who issued it: this server.
    pub(crate) issuer: String,
    /// The user in FHIR, relative.
    pub(crate) fhir_user: Option<String>,
    /// The user's name.
    pub(crate) name: Option<String>,
    /// The user's role.
    pub(crate) role: Option<String>,
    /// All that was granted, separated by spaces.
    pub(crate) scopes: String,
    /// The patient in context.
    pub(crate) patient: Option<String>,
    /// The encounter in context.
    pub(crate) encounter: Option<String>,
    /// What the user came for.
    pub(crate) intent: Option<String>,
    /// What may be said of the token in public.
    pub(crate) jti: String,
    /// It has no id of its own: `jti` only stands for it.
    pub(crate) opaque: bool,
    /// What ends all that follows from the same grant.
    pub(crate) grant: String,
    /// Since when it is good, microseconds since 1970 UTC.
    pub(crate) issued: i64,
    /// Until when.
    pub(crate) expires: i64,
    /// The certificate with which alone it is good (`x5t#S256`).
    pub(crate) certificate: Option<String>,
    /// What [`Bearer::mandate`] made: the same for all requests with the token.
    #[serde(skip)]
    pub(crate) mandate: OnceLock<Arc<str>>,
}

/// Why nobody stands behind a token.
#[derive(Debug)]
pub(crate) enum Unproved {
    /// It is not good, or no longer.
    NotGood,
    /// Only the server that issued it knows, and it can't be asked now.
    Unheard,
    /// The store failed.
    Store(store::Error),
}

impl From<store::Error> for Unproved {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::NotGood,
            error => Self::Store(error),
        }
    }
}

/// What is said of a token that nobody can be asked about.
pub(crate) const NOBODY_TO_ASK: &str = "the server that issued the token can't be asked now; try again";

/// Tokens that were looked up a moment ago.
#[derive(Default)]
pub(crate) struct Recent {
    good: Mutex<HashMap<String, (Arc<Bearer>, i64)>>,
    /// Those that another server did not know, or could not be asked about, by their hash, and until when that
    /// counts.
    unknown: Mutex<HashMap<String, (bool, i64)>>,
}

impl Recent {
    fn get(&self, hash: &str, at: i64) -> Option<Arc<Bearer>> {
        let kept = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let (bearer, looked) = kept.get(hash)?;
        (at - looked < RECENT && bearer.expires > at).then(|| Arc::clone(bearer))
    }

    fn put(&self, hash: String, bearer: Arc<Bearer>, at: i64) {
        let mut kept = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(hash, (bearer, at));
    }

    /// Was it good before, and has not expired?
    fn was_good(&self, hash: &str, at: i64) -> bool {
        let kept = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(hash).is_some_and(|(bearer, _)| bearer.expires > at)
    }

    fn why_unknown(&self, hash: &str, at: i64) -> Option<Unproved> {
        let kept = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let (heard, _) = kept.get(hash).filter(|(_, until)| at < *until)?;
        Some(if *heard { Unproved::NotGood } else { Unproved::Unheard })
    }

    fn put_unknown(&self, hash: String, heard: bool, at: i64) {
        if heard {
            // It may have been good until now.
            self.good.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
        }
        let until = at + if heard { NOT_GOOD } else { UNHEARD };
        let mut kept = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(hash, (heard, until));
    }

    /// Something was revoked.
    pub(crate) fn forget(&self) {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// For whom a token is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who may have another server asked about it.
    Admitted,
    /// Somebody from where too many tokens came that were not good: another server is asked about those
    /// alone that it knew before, as neighbours behind the same address may have them.
    Spent,
}

/// Who stands behind a token that this server issued, or the other one.
pub(crate) async fn verify(
    app: &App,
    context: &Context,
    token: &str,
    asker: Asker,
) -> Result<Arc<Bearer>, Unproved> {
    // An API key comes the same way: it need not be looked for among tokens.
    let own = token.len() == LENGTH;
    let foreign = app.config.foreign.as_ref().filter(|_| !token.starts_with("augury_"));
    if !own && foreign.is_none() {
        return Err(Unproved::NotGood);
    }
    let hash = key_hash(token);
    if let Some(bearer) = app.smart.bearers.get(&hash, context.at) {
        return Ok(bearer);
    }
    let found = if own { app.store.access_token(context, &hash).await } else { Err(store::Error::NotFound) };
    let (token, grant, client) = match (found, foreign) {
        (Err(store::Error::NotFound), Some(foreign)) => {
            let bearers = &app.smart.bearers;
            let refused = asker == Asker::Spent && !bearers.was_good(&hash, context.at);
            if refused {
                return Err(Unproved::NotGood);
            }
            if let Some(why) = bearers.why_unknown(&hash, context.at) {
                return Err(why);
            }
            let why = match foreign::verify(app, context, foreign, token).await {
                Ok(Some(bearer)) => {
                    bearers.put(hash, Arc::clone(&bearer), context.at);
                    return Ok(bearer);
                }
                Ok(None) => Unproved::NotGood,
                Err(foreign::Unheard) => Unproved::Unheard,
            };
            bearers.put_unknown(hash, matches!(why, Unproved::NotGood), context.at);
            return Err(why);
        }
        (found, _) => found?,
    };
    let bearer = Arc::new(Bearer::of(app, token, grant, client));
    app.smart.bearers.put(hash, Arc::clone(&bearer), context.at);
    Ok(bearer)
}

/// The same of a token that somebody uses: one that is bound to a certificate is good with that alone
/// (RFC 8705 section 3).
pub(crate) async fn shown(
    app: &App,
    context: &Context,
    token: &str,
    shown: Option<&Shown>,
    asker: Asker,
) -> Result<Arc<Bearer>, Unproved> {
    let bearer = verify(app, context, token, asker).await?;
    match &bearer.certificate {
        Some(bound) if shown.is_none_or(|shown| shown.thumbprint() != *bound) => Err(Unproved::NotGood),
        _ => Ok(bearer),
    }
}

/// Was a token good a moment ago, of which that can't be asked now?
pub(crate) fn was_good(app: &App, context: &Context, token: &str) -> bool {
    app.smart.bearers.was_good(&key_hash(token), context.at)
}

/// Whose token it was that this server issued, and why it is not good any more.
pub(crate) async fn ended(
    app: &App,
    context: &Context,
    token: &str,
) -> Result<Option<(Agent, &'static str)>, store::Error> {
    if token.len() != LENGTH {
        return Ok(None);
    }
    let (token, grant, client) = match app.store.issued(context, &key_hash(token)).await {
        Ok(found) => found,
        Err(store::Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let why = if grant.revoked.is_some() {
        "what the token was issued for was revoked"
    } else if client.status != Status::Approved {
        "its client was revoked"
    } else if token.expires <= context.at {
        "the token has expired"
    } else if token.certificate.is_some() {
        "the token is bound to another certificate"
    } else {
        "its user may no longer act so"
    };
    let address = context.who.agent.address.clone();
    Ok(Some((Bearer::of(app, token, grant, client).agent(address), why)))
}

impl Bearer {
    /// Of a token that this server issued.
    fn of(app: &App, token: AccessToken, grant: SmartGrant, client: SmartClient) -> Self {
        Self {
            client: client.id,
            client_name: client.registration.name,
            subject: grant.account,
            issuer: app.config.public_url.clone(),
            fhir_user: grant.granted.fhir_user,
            name: grant.granted.name,
            role: grant.granted.role,
            scopes: token.scope,
            patient: grant.granted.context.patient,
            encounter: grant.granted.context.encounter,
            intent: grant.granted.context.intent,
            jti: token.id,
            opaque: false,
            grant: grant.id,
            issued: token.issued,
            expires: token.expires,
            certificate: token.certificate,
            mandate: OnceLock::new(),
        }
    }

    /// The scopes, and what follows from them: who may know who the user is may read what there is of them
    /// (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data>).
    fn rights(&self) -> Cow<'_, str> {
        let user = self.fhir_user.as_ref().and_then(|user| user.split_once('/'));
        match user.filter(|_| self.has("fhirUser") || self.has("profile")) {
            Some((kind, id)) => Cow::Owned(format!("{} user/{kind}.r?_id={id}", self.scopes)),
            None => Cow::Borrowed(&self.scopes),
        }
    }

    /// What may be done with it.
    pub(crate) fn access(&self) -> Access {
        let own = self.fhir_user.as_deref().and_then(|user| user.strip_prefix("Patient/"));
        access(&self.rights(), self.patient.as_deref(), own, self.subject.is_some())
    }

    /// In whose name things go on after a request with it.
    pub(crate) fn mandate(&self) -> Arc<str> {
        Arc::clone(self.mandate.get_or_init(|| Mandate::Token(self).text()))
    }

    /// Who it is, for the audit trail.
    pub(crate) fn agent(&self, address: Option<String>) -> Agent {
        Agent {
            client: Some(self.client.clone()),
            client_name: Some(self.client_name.clone()),
            user: self.subject.clone(),
            user_name: self.name.clone(),
            issuer: self.subject.is_some().then(|| self.issuer.clone()),
            fhir_user: self.fhir_user.clone(),
            role: self.role.clone(),
            token: (!self.opaque).then(|| self.jti.clone()),
            opaque: self.opaque.then(|| self.jti.clone()),
            address,
            ..Agent::default()
        }
    }

    /// Has it exactly this scope?
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.split(' ').any(|one| one == scope)
    }
}

/// What stands behind `Authorization: Bearer`.
pub(crate) fn token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
