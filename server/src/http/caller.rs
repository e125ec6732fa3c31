//! Who asks: a handler without a [`Caller`] can't reach the store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use sha2::{Digest, Sha256};
use store::{Access, Agent, Context, Trail, Who};

use super::failure::Failure;
use super::rights::{Rights, access};
use super::telemetry::RequestId;
use super::tls::Shown;
use super::{audited, break_glass, peer};
use crate::app::{self, App};
use crate::config::Auth;
use crate::smart::bearer::{self, Asker, NOBODY_TO_ASK, Unproved};
use crate::subscriptions::mandate::Mandate;

/// A caller that may go on, and its request's context.
#[derive(Clone)]
pub(crate) struct Caller {
    /// First argument of every store call.
    pub context: Context,
    /// What they may do beside that.
    pub rights: Rights,
    /// The program's parts.
    pub app: Arc<App>,
}

impl FromRequest for Caller {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Failure>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = request
                .app_data::<web::Data<App>>()
                .map(|data| Arc::clone(&data.clone().into_inner()))
                .ok_or_else(|| Failure::internal("no application state"))?;
            let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
            let context = Context {
                request: id.into(),
                at: app::now(),
                who: Who::new(Agent { address: address(&request), ..Agent::default() }),
                access: Access::Whole,
                mandate: <Mandate>::Open.text(),
                trail: Some(Trail::of(audited::asked(&request))),
            };
            if app.config.auth == Auth::Open {
                from_here(&request, &app.config.public_url)?;
            }
            let found = match (bearer::token(&request), app.config.auth) {
                (Some(token), _) => {
                    let asker = if app.limits.is_spent(&request) { Asker::Spent } else { Asker::Admitted };
                    identified(&app, context.clone(), token, Shown::by(&request), asker).await
                }
                (None, Auth::Open) => Ok((context.clone(), Rights::All)),
                (None, Auth::Required) => match Shown::by(&request).filter(|shown| shown.is_trusted) {
                    Some(shown) => keyed(&app, context.clone(), &shown.key_hash()).await,
                    None => Err(refused()),
                },
            };
            let (context, rights) = match found {
                Ok(found) => found,
                // Who guesses is counted; who said nothing was counted already.
                Err(failure) if bearer::token(&request).is_some() || Shown::by(&request).is_some() => {
                    match bearer::token(&request) {
                        // Behind one address are many whose tokens end: none of them is a guess.
                        // Nor is one that the server it is of can't be asked about.
                        Some(token)
                            if failure.status == StatusCode::SERVICE_UNAVAILABLE
                                && bearer::was_good(&app, &context, token) => {}
                        token => match ended(&app, &context, token, Shown::by(&request)).await? {
                            Some((hash, context)) => {
                                request.extensions_mut().insert(context);
                                app.limits.client(&request, &format!("ended {hash}")).await?;
                            }
                            None => app.limits.anonymous(&request).await?,
                        },
                    }
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
            };
            // Before anything is refused, so that the trail says to whom, and it is counted.
            request.extensions_mut().insert(context.clone());
            if let Some(client) = &context.who.agent.client {
                app.limits.client(&request, client).await?;
            }
            let context = break_glass::context(&request, context, &rights)?;
            Ok(Self { context, rights, app })
        })
    }
}

impl Caller {
    /// A body may have been long on its way: what is written when it is here is written now.
    pub(crate) fn now(mut self) -> Self {
        self.context.at = app::now();
        self
    }
}

/// Where a request came from.
pub(crate) fn address(request: &HttpRequest) -> Option<String> {
    peer::address(request).map(|ip| ip.to_string())
}

/// Open access is for this machine. A page of somewhere else that runs in a browser here, or that
/// has its own name point here, is told so by its `Origin` or by the `Host` it asked for.
fn from_here(request: &HttpRequest, public_url: &str) -> Result<(), Failure> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_none_or(|host| is_own(host, public_url));
    let origin = text(header::ORIGIN).is_none_or(|origin| is_here(origin, public_url));
    if host && origin {
        return Ok(());
    }
    let why = "open access is for callers of this machine; the request names another Host or Origin";
    Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", why))
}

/// Is it an origin of this machine?
pub(crate) fn is_here(origin: &str, public_url: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| is_own(authority, public_url))
}

fn is_own(authority: &str, public_url: &str) -> bool {
    let name = authority.rsplit_once(':').map_or(authority, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { name } else { authority }
    });
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        || public_url.split("//").nth(1).and_then(|rest| rest.split('/').next()) == Some(authority)
}

fn refused() -> Failure {
    let why = "a valid access token or API key is needed: Authorization: Bearer …";
    Failure::new(StatusCode::UNAUTHORIZED, "login", why)
}

fn not_good() -> Failure {
    let why = "the access token or API key is not good: not known, ended, or bound to another certificate";
    Failure::new(StatusCode::UNAUTHORIZED, Failure::NOT_GOOD, why)
}

/// The one behind a token or key, and what they may do.
async fn identified(
    app: &App,
    context: Context,
    token: &str,
    shown: Option<&Shown>,
    asker: Asker,
) -> Result<(Context, Rights), Failure> {
    match bearer::shown(app, &context, token, shown, asker).await {
        Ok(bearer) => {
            let who = Who::new(bearer.agent(context.who.agent.address.clone()));
            let rights = Rights::Of(bearer.scopes.as_str().into());
            let (access, mandate) = (bearer.access(), bearer.mandate());
            Ok((Context { who, access, mandate, ..context }, rights))
        }
        Err(Unproved::NotGood) => {
            let found = keyed(app, context, &key_hash(token)).await;
            found.map_err(
                |failure| if failure.status == StatusCode::UNAUTHORIZED { not_good() } else { failure },
            )
        }
        Err(Unproved::Unheard) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "transient", NOBODY_TO_ASK))
        }
        Err(Unproved::Store(error)) => Err(error.into()),
    }
}

/// The one with that key, or that certificate.
async fn keyed(app: &App, context: Context, key_hash: &str) -> Result<(Context, Rights), Failure> {
    let client = match app.store.client(&context, key_hash).await {
        Ok(client) => client,
        Err(store::Error::NotFound) => return Err(refused()),
        Err(error) => return Err(error.into()),
    };
    let (address, access) = (context.who.agent.address.clone(), access(&client.scope, None, None, false));
    let mandate = <Mandate>::Key(client.id.clone()).text();
    let (id, name) = (Some(client.id), Some(client.name));
    let who = Who::new(Agent { client: id, client_name: name, address, ..Agent::default() });
    Ok((Context { who, access, mandate, ..context }, Rights::Of(client.scope.into())))
}

/// Whose token, key or certificate it was that is not good any more, by its hash, and the request as theirs: the
/// trail says who was refused, and why.
pub(crate) async fn ended(
    app: &App,
    context: &Context,
    token: Option<&str>,
    shown: Option<&Shown>,
) -> Result<Option<(String, Context)>, store::Error> {
    let hash = match (token, shown.filter(|shown| shown.is_trusted)) {
        (Some(token), _) => key_hash(token),
        (None, Some(shown)) => shown.key_hash(),
        (None, None) => return Ok(None),
    };
    let of_token = match token {
        Some(token) => bearer::ended(app, context, token).await?,
        None => None,
    };
    let (agent, why) = match (of_token, app.store.any_client(&hash).await) {
        (Some(found), _) => found,
        (None, Ok(client)) => {
            let why = match client.expires {
                _ if client.revoked.is_some() => "its key was revoked",
                Some(end) if end <= context.at => "its key has expired",
                _ => "a token is needed here, and it came with its key",
            };
            let (id, name) = (Some(client.id), Some(client.name));
            (Agent { client: id, client_name: name, ..context.who.agent.clone() }, why)
        }
        (None, Err(store::Error::NotFound)) => return Ok(None),
        (None, Err(error)) => return Err(error),
    };
    if let Some(trail) = &context.trail {
        trail.is_refused(why);
    }
    Ok(Some((hash, Context { who: Who::new(agent), ..context.clone() })))
}

/// What is kept of a key: its SHA-256 (hex). The key has 256 random bits, so nothing slower is needed.
pub(crate) fn key_hash(key: &str) -> String {
    digest(key.as_bytes())
}

/// SHA-256 (hex).
pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
