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
use super::telemetry::RequestId;
use crate::app::{self, App};
use crate::config::Auth;
use crate::smart::bearer;

/// A caller that may go on, and its request's context.
#[derive(Clone)]
pub(crate) struct Caller {
    /// First argument of every store call.
    pub context: Context,
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
            let (agent, access) = match app.config.auth {
                Auth::Open => {
                    from_here(&request, &app.config.public_url)?;
                    (Agent { address: address(&request), ..Agent::default() }, Access::Whole)
                }
                Auth::Required => caller(&app, &request).await?,
            };
            let who = Who::new(agent);
            let trail = Some(Trail::default());
            let context = Context { request: id.into(), at: app::now(), who, access, trail };
            request.extensions_mut().insert(context.clone());
            Ok(Self { context, app })
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
    request.peer_addr().map(|peer| peer.ip().to_string())
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

/// Who shows an API key or an access token, and what they may do.
async fn caller(app: &App, request: &HttpRequest) -> Result<(Agent, Access), Failure> {
    let refused = || {
        Failure::new(
            StatusCode::UNAUTHORIZED,
            "login",
            "a valid access token or API key is needed: Authorization: Bearer …",
        )
    };
    let shown = bearer::token(request).ok_or_else(refused)?;
    let (context, address) = (Context::system("login", app::now()), address(request));
    let found = if shown.starts_with(API_KEY) {
        app.store.client(&context, &key_hash(shown)).await.map(|client| {
            let (id, name) = (Some(client.id), Some(client.name));
            (Agent { client: id, client_name: name, address, ..Agent::default() }, Access::Whole)
        })
    } else {
        let bearer = bearer::verify(app, &context, shown).await;
        bearer.map(|bearer| (bearer.agent(address), bearer.access()))
    };
    match found {
        Ok(found) => Ok(found),
        Err(store::Error::NotFound) => Err(refused()),
        Err(error) => Err(error.into()),
    }
}

/// How an API key begins; an access token does not.
pub(crate) const API_KEY: &str = "augury_";

/// What is kept of a key: its SHA-256 (hex). The key has 256 random bits, so nothing slower is needed.
pub(crate) fn key_hash(key: &str) -> String {
    use std::fmt::Write;
    Sha256::digest(key.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
