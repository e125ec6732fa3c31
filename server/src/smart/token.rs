//! `POST /oauth/token`: from a code, a refresh token or a client's own word to an access token
//! (RFC 6749 sections 4.1.3, 4.4 and 6; RFC 7636;
//! <https://hl7.org/fhir/smart-app-launch/backend-services.html>).

use actix_web::HttpResponse;
use actix_web::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    AccessToken, Act, Agent, Authentication, AuthorizationChange, Commit, Context, Entry, Granted, Outcome,
    RefreshToken, SmartClient, SmartGrant, Who,
};

use super::call::Call;
use super::form::Form;
use super::refusal::Refusal;
use super::scope::{self, For};
use super::secret::{random, same};
use super::{authenticate, bearer, id_token, of_client};
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::tls::Shown;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// How long a refresh token is good that is not used; each use begins anew. At least three months are
/// promised.
const REFRESH: i64 = 180 * DAY;
/// How long an answer that was lost can be asked for again.
const GRACE: i64 = 60 * SECOND;

/// `POST /oauth/token`.
pub(crate) async fn token(call: Call) -> Result<HttpResponse, Refusal> {
    let (app, form) = (&call.app, &call.form);
    let kind = form.need("grant_type")?;
    if !matches!(kind, "authorization_code" | "refresh_token" | "client_credentials") {
        let details = "grant_type must be authorization_code, refresh_token or client_credentials";
        return Err(Refusal::new("unsupported_grant_type", details));
    }
    let client = authenticate::client(&call).await?;
    let context = of_client(&call.context, &client);
    let shown = Shown::by(&call.http).filter(|_| client.registration.bound).map(Shown::thumbprint);
    if client.registration.bound && shown.is_none() {
        let details = "the client's tokens are bound to a certificate, and none was shown";
        return Err(Refusal::invalid_client(details));
    }
    let asking = Asking { call: &call, app, context: &context, client: &client, form, certificate: shown };
    let issued = match kind {
        "authorization_code" => redeem(&asking).await?,
        "refresh_token" => refresh(&asking).await?,
        _ => itself(&asking).await?,
    };
    let answer = issued.answer(app, &context).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::PRAGMA, "no-cache"))
        .json(answer))
}

/// A client that has proved who it is as far as it can, and what it asks.
struct Asking<'a> {
    call: &'a Call,
    app: &'a App,
    context: &'a Context,
    client: &'a SmartClient,
    form: &'a Form,
    /// What its tokens are to be bound to.
    certificate: Option<String>,
}

impl Asking<'_> {
    /// A new token of a grant, and the change that makes it good.
    fn access(&self, grant: &str, scope: &str, lasts: i64) -> Result<(String, AuthorizationChange), Refusal> {
        let token = random().map_err(Refusal::internal)?;
        let change = AuthorizationChange::Access(AccessToken {
            hash: key_hash(&token),
            id: uuid::Uuid::new_v4().to_string(),
            grant: grant.to_owned(),
            scope: scope.to_owned(),
            issued: self.context.at,
            expires: self.context.at + lasts,
            certificate: self.certificate.clone(),
        });
        Ok((token, change))
    }

    /// A token is issued: that is in the audit trail (IHE's ITI-71), and with it all that it changes.
    async fn issue(
        &self,
        grant: &SmartGrant,
        scope: &str,
        changes: Vec<AuthorizationChange>,
    ) -> Result<(), store::Error> {
        let mut agent = self.context.who.agent.clone();
        of_grant(self.app, grant, &mut agent);
        if grant.account.is_some() {
            let id = |change: &AuthorizationChange| match change {
                AuthorizationChange::Access(token) => Some(token.id.clone()),
                _ => None,
            };
            agent.token = changes.iter().find_map(id);
        }
        let query = self.form.asked("POST /oauth/token");
        // IHE's pattern has no place for a patient: the grant leads to the event that says whom it is about.
        let note = format!("{scope} (grant {})", grant.id);
        let notes = vec![Entry { query, note, ..Entry::of(Act::Token) }];
        let authorization = self.app.smart.swept(self.context.at, changes);
        let context = Context { who: Who::new(agent), ..self.context.clone() };
        self.app.store.commit(&context, Commit { authorization, notes, ..Commit::default() }).await.map(drop)
    }

    /// A code or token of the client's is good: so it is the client, even if it has no other proof.
    fn is_proved(&self) {
        self.call.is_by(|context| of_client(context, self.client));
    }

    /// What a refresh token is bound to: that of a client that proves who it is, is by that
    /// (RFC 8705 section 4).
    fn holder(&self) -> Option<String> {
        let public = self.client.registration.authentication == Authentication::Public;
        self.certificate.clone().filter(|_| public)
    }
}

/// What a client is given.
struct Issued {
    access: String,
    lasts: i64,
    refresh: Option<String>,
    scope: String,
    grant: SmartGrant,
    /// It was a code, so the nonce goes with it.
    first: bool,
}

/// When a client can no longer come back.
enum Ends {
    /// When it does not for long (`offline_access`).
    Unused,
    /// With the browser session (`online_access`).
    With(String),
}

/// How a client may come back, if it may.
fn returning(granted: &Granted, scope: &str) -> Option<Ends> {
    let has = |name: &str| scope.split(' ').any(|one| one == name);
    if has("offline_access") {
        return Some(Ends::Unused);
    }
    granted.session.clone().filter(|_| has("online_access")).map(Ends::With)
}

async fn redeem(asking: &Asking<'_>) -> Result<Issued, Refusal> {
    let Asking { app, context, client, form, .. } = *asking;
    let no = || Refusal::invalid_grant("the code is not good: not known, used, expired, or another client's");
    let hash = key_hash(form.need("code")?);
    let code = match app.store.code(context, &hash).await {
        Ok(code) => code,
        Err(store::Error::NotFound) => return Err(no()),
        Err(error) => return Err(error.into()),
    };
    let grant = match app.store.grant(context, &code.grant).await {
        Ok(grant) => grant,
        Err(store::Error::NotFound) => return Err(no()),
        Err(error) => return Err(error.into()),
    };
    if grant.client != client.id {
        return Err(no());
    }
    context.is_about(grant.granted.context.patient.as_deref());
    if code.redeemed.is_some() {
        // Two have it: whoever was first may be a thief.
        revoke(asking.call, context, &grant, Ended::CodeAgain).await?;
        return Err(no());
    }
    if code.expires <= context.at {
        return Err(no());
    }
    if form.get("redirect_uri") != Some(code.redirect_uri.as_str()) {
        return Err(Refusal::invalid_grant("redirect_uri is not the one that the code was sent to"));
    }
    let verifier = form.get("code_verifier").unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    if !(43..=128).contains(&verifier.len()) || !same(&challenge, &code.challenge) {
        return Err(Refusal::invalid_grant("code_verifier is missing, or not that of the code_challenge"));
    }
    asking.is_proved();
    let scope = grant.granted.scope.clone();
    let (access, token) = asking.access(&grant.id, &scope, bearer::LASTS)?;
    let mut changes = vec![AuthorizationChange::Redeem { hash }, token];
    let mut refresh = None;
    if let Some(ends) = returning(&grant.granted, &scope) {
        let token = random().map_err(Refusal::internal)?;
        changes.push(AuthorizationChange::Refresh(RefreshToken {
            hash: key_hash(&token),
            grant: grant.id.clone(),
            scope: scope.clone(),
            session: if let Ends::With(session) = ends { Some(session) } else { None },
            issued: context.at,
            expires: context.at + REFRESH,
            certificate: asking.holder(),
            replaced: None,
            successor: None,
        }));
        refresh = Some(token);
    }
    match asking.issue(&grant, &scope, changes).await {
        Ok(()) => Ok(Issued { access, lasts: bearer::LASTS, refresh, scope, grant, first: true }),
        Err(store::Error::Conflict { .. }) => {
            revoke(asking.call, context, &grant, Ended::CodeAgain).await?;
            Err(no())
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a grant ends before its time.
pub(crate) enum Ended<'a> {
    /// Its app gave back one of its tokens; of an access token the id is told.
    App(Option<&'a str>),
    /// Its user has enough.
    User,
    /// A code came again.
    CodeAgain,
    /// So did a refresh token that was replaced.
    RefreshAgain,
}

impl Ended<'_> {
    /// In words, and whether it is a sign of a theft.
    fn told(&self) -> (String, Outcome) {
        match self {
            Self::App(None) => ("the app asked".to_owned(), Outcome::Success),
            Self::App(Some(jti)) => (format!("the app asked, with token {jti}"), Outcome::Success),
            Self::User => ("the user ended it".to_owned(), Outcome::Success),
            Self::CodeAgain => ("a code was used twice".to_owned(), Outcome::Minor),
            Self::RefreshAgain => ("an old refresh token was used again".to_owned(), Outcome::Minor),
        }
    }
}

/// Ends a grant and all that follows from it. The trail tells whose it was, for which app, about whom, and why
/// it ended.
pub(crate) async fn revoke(
    call: &Call,
    context: &Context,
    grant: &SmartGrant,
    why: Ended<'_>,
) -> Result<(), Refusal> {
    let (app, (why, outcome)) = (&call.app, why.told());
    let mut agent = context.who.agent.clone();
    if agent.user.is_none() {
        of_grant(app, grant, &mut agent);
    }
    if agent.client.as_ref() != Some(&grant.client) {
        let client = app.store.smart_client(context, &grant.client).await;
        agent.client_name = client.ok().map(|client| client.registration.name);
        agent.client = Some(grant.client.clone());
    }
    let notes = vec![Entry {
        outcome,
        account: grant.account.clone().unwrap_or_else(|| grant.client.clone()),
        patient: grant.granted.context.patient.clone().unwrap_or_default(),
        query: call.form.asked(&format!("POST {}", call.http.path())),
        note: format!("{why}: grant {}", grant.id),
        ..Entry::of(Act::Revoke)
    }];
    let authorization = vec![AuthorizationChange::Revoke { grant: grant.id.clone() }];
    let context = Context { who: Who::new(agent), ..context.clone() };
    app.store.commit(&context, Commit { authorization, notes, ..Commit::default() }).await?;
    app.smart.bearers.forget();
    Ok(())
}

/// Whose grant it is, for the trail: theirs is what is done with it.
fn of_grant(app: &App, grant: &SmartGrant, agent: &mut Agent) {
    if let Some(account) = &grant.account {
        agent.user = Some(account.clone());
        agent.user_name.clone_from(&grant.granted.name);
        agent.issuer = Some(app.config.public_url.clone());
        agent.fhir_user.clone_from(&grant.granted.fhir_user);
        agent.role.clone_from(&grant.granted.role);
    }
}

/// A refresh token is replaced by its only possible successor, so whoever did not get the answer can ask
/// again, for a moment, and gets the same; who asks with an old one after that has stolen one of them.
async fn refresh(asking: &Asking<'_>) -> Result<Issued, Refusal> {
    let Asking { app, context, client, form, .. } = *asking;
    let no =
        || Refusal::invalid_grant("the refresh token is not good: not known, ended, or another client's");
    let old = form.need("refresh_token")?;
    let hash = key_hash(old);
    let new = app.smart.secret.code("refresh token", &[old]);
    // The second time what another request did in between is seen.
    for _ in 0..2 {
        let (token, grant) = match app.store.refresh_token(context, &hash).await {
            Ok(found) => found,
            Err(store::Error::NotFound) => return Err(no()),
            Err(error) => return Err(error.into()),
        };
        let others = |bound: &Option<String>| bound.is_some() && *bound != asking.holder();
        if grant.client != client.id || others(&token.certificate) {
            return Err(no());
        }
        context.is_about(grant.granted.context.patient.as_deref());
        if let Some(replaced) = token.replaced {
            let unused = match app.store.refresh_token(context, &key_hash(&new)).await {
                Ok((successor, _)) => successor.replaced.is_none().then_some(successor),
                Err(store::Error::NotFound) => None,
                Err(error) => return Err(error.into()),
            };
            let Some(successor) = unused.filter(|_| context.at - replaced < GRACE) else {
                revoke(asking.call, context, &grant, Ended::RefreshAgain).await?;
                return Err(no());
            };
            if others(&successor.certificate) {
                return Err(no());
            }
            asking.is_proved();
            let scope = asked(&successor.scope, form)?;
            let (access, change) = asking.access(&grant.id, &scope, bearer::LASTS)?;
            asking.issue(&grant, &scope, vec![change]).await?;
            let refresh = Some(new);
            return Ok(Issued { access, lasts: bearer::LASTS, refresh, scope, grant, first: false });
        }
        asking.is_proved();
        let scope = asked(&token.scope, form)?;
        let (access, change) = asking.access(&grant.id, &scope, bearer::LASTS)?;
        let changes = vec![
            AuthorizationChange::Replace { hash: hash.clone(), successor: key_hash(&new) },
            AuthorizationChange::Refresh(RefreshToken {
                hash: key_hash(&new),
                grant: grant.id.clone(),
                // Who asks for less once may ask for all of it the next time (RFC 6749 section 6).
                scope: token.scope,
                session: token.session,
                issued: context.at,
                expires: context.at + REFRESH,
                // The client's tokens may not have been bound yet when it got this one.
                certificate: asking.holder(),
                replaced: None,
                successor: None,
            }),
            change,
        ];
        match asking.issue(&grant, &scope, changes).await {
            Ok(()) => {
                let refresh = Some(new);
                return Ok(Issued { access, lasts: bearer::LASTS, refresh, scope, grant, first: false });
            }
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(no())
}

/// What is asked for of the scopes held: all of them where nothing is said.
fn asked(held: &str, form: &Form) -> Result<String, Refusal> {
    let Some(asked) = form.get("scope") else { return Ok(held.to_owned()) };
    let narrowed = scope::narrowed(held, asked);
    narrowed.ok_or_else(|| Refusal::new("invalid_scope", "more is asked for than was granted"))
}

/// A client acts for itself; only one with a key of its own may.
async fn itself(asking: &Asking<'_>) -> Result<Issued, Refusal> {
    let Asking { context, client, form, .. } = *asking;
    if !client.registration.authentication.is_by_key() {
        let details = "client_credentials is for clients that authenticate with a key or certificate";
        return Err(Refusal::new("unauthorized_client", details));
    }
    let allowed = scope::allowed(form.need("scope")?, &client.registration, For::Client);
    if allowed.is_empty() {
        return Err(Refusal::new("invalid_scope", "the client may have none of these scopes"));
    }
    let scope = scope::text(&allowed);
    let grant = SmartGrant {
        id: store::new_id(),
        client: client.id.clone(),
        account: None,
        created: context.at,
        revoked: None,
        expires: context.at + bearer::OWN_LASTS,
        granted: Granted { scope: scope.clone(), ..Granted::default() },
    };
    let (access, token) = asking.access(&grant.id, &scope, bearer::OWN_LASTS)?;
    let changes = vec![AuthorizationChange::Grant(grant.clone()), token];
    asking.issue(&grant, &scope, changes).await?;
    Ok(Issued { access, lasts: bearer::OWN_LASTS, refresh: None, scope, grant, first: false })
}

impl Issued {
    /// The answer with the launch context
    /// (<https://hl7.org/fhir/smart-app-launch/app-launch.html#response-5>).
    async fn answer(self, app: &App, context: &Context) -> Result<Value, Refusal> {
        let mut answer = Map::new();
        let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
        let id_token = id_token::issue(app, context, &self.grant, &self.scope, self.first).await?;
        put("access_token", json!(self.access));
        put("token_type", json!("Bearer"));
        put("expires_in", json!(self.lasts / SECOND));
        put("scope", json!(self.scope));
        if let Some(token) = self.refresh {
            put("refresh_token", json!(token));
        }
        if let Some(token) = id_token {
            put("id_token", json!(token));
        }
        if self.grant.account.is_some() {
            let launched = self.grant.granted.context;
            let pairs = [
                ("patient", launched.patient),
                ("encounter", launched.encounter),
                ("intent", launched.intent),
            ];
            for (name, value) in pairs {
                if let Some(value) = value {
                    put(name, json!(value));
                }
            }
            if let Some(further) = launched.fhir_context {
                put("fhirContext", further);
            }
            put("need_patient_banner", json!(!launched.by_ehr));
            put("smart_style_url", json!(format!("{}/oauth/smart-style.json", app.config.public_url)));
        }
        Ok(Value::Object(answer))
    }
}
