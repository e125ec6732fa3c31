//! Errors in OAuth's words (RFC 6749 section 5.2).

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;
use store::{Act, Context, Entry, Outcome};

use super::bearer::{NOBODY_TO_ASK, Unproved};
use crate::app::App;
use crate::http::{peer, refusals};

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// The code.
    pub(crate) error: &'static str,
    /// Why, for the developer of the client.
    pub(crate) description: Cow<'static, str>,
    /// Seconds until it may be tried again.
    after: Option<u64>,
}

impl Refusal {
    /// 400 with this code.
    pub(crate) fn new(error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description: description.into(), after: None }
    }

    /// Something about the request itself.
    pub(crate) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_request", description)
    }

    /// A body that could not be taken.
    pub(crate) fn unread(error: &actix_web::Error) -> Self {
        let refusal = Self::invalid_request("the body is too long, or could not be read whole");
        Self { status: error.as_response_error().status_code(), ..refusal }
    }

    /// A code or token that is not good.
    pub(crate) fn invalid_grant(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_grant", description)
    }

    /// 401: the client did not prove who it is.
    pub(crate) fn invalid_client(description: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_client", description) }
    }

    /// 401: a bearer token is needed (RFC 6750 section 3.1).
    pub(crate) fn invalid_token(description: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_token", description) }
    }

    /// 403: the token does not allow it.
    pub(crate) fn insufficient_scope(description: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::FORBIDDEN, ..Self::new("insufficient_scope", description) }
    }

    /// 429.
    pub(crate) fn too_many(after: u64) -> Self {
        let refusal = Self::new("temporarily_unavailable", "too many requests; try again later");
        Self { status: StatusCode::TOO_MANY_REQUESTS, after: Some(after.max(1)), ..refusal }
    }

    /// 503.
    pub(crate) fn unavailable(description: impl Into<Cow<'static, str>>) -> Self {
        let refusal = Self::new("temporarily_unavailable", description);
        Self { status: StatusCode::SERVICE_UNAVAILABLE, after: Some(1), ..refusal }
    }

    /// 500 that tells the caller nothing; `why` goes to the log.
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "internal error");
        let refusal = Self::new("server_error", "internal error; the log has it under the request's id");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..refusal }
    }
}

/// Why something was refused, as the trail says it. It goes with each answer that refuses, so that all of them
/// are recorded in one place: where every answer passes.
#[derive(Debug, Clone)]
pub(crate) struct Denied(String);

impl Denied {
    /// What was written for this caller may hold what they sent, which may be a secret: then the code says it.
    #[expect(clippy::ptr_arg, reason = "whether it is borrowed is what counts")]
    pub(crate) fn of(error: &str, why: &Cow<'static, str>) -> Self {
        match why {
            Cow::Borrowed(why) if error.is_empty() => Self((*why).to_owned()),
            Cow::Borrowed(why) => Self(format!("{error}: {why}")),
            Cow::Owned(_) => Self(error.to_owned()),
        }
    }

    /// Of what was refused before anybody looked at what it asks.
    pub(crate) fn by(status: StatusCode) -> Self {
        Self(status.to_string())
    }

    /// Notes it as of the one in whose context it is, unless it was noted closer by. Of whom nobody knows there
    /// are not more than the trail bears.
    pub(crate) fn note(self, app: &App, request: &HttpRequest, context: &Context, status: StatusCode) {
        let Some(act) = act(request.path()) else { return };
        let Some(trail) = context.trail.as_ref().filter(|trail| !trail.tells_refusal(act)) else { return };
        let agent = &context.who.agent;
        let why = trail.why_refused();
        let counted = match (&agent.client, &agent.user) {
            // For which app somebody signs in says nothing of who they are.
            (_, None) if act == Act::Login => Some(peer::network(request)),
            (Some(client), _) if !why.is_empty() => Some(refusals::of_client(client)),
            (None, None) => Some(peer::network(request)),
            _ => None,
        };
        let brief = usize::from(counted.is_some());
        if counted.is_none_or(|key| app.refusals.admits(&key, context.at)) {
            let outcome = if status.is_server_error() { Outcome::Serious } else { Outcome::Minor };
            let (patient, query) = (trail.patient(), trail.asked_in(brief));
            let note =
                if why.is_empty() { self.0 } else { format!("{}: {why}", self.0.trim_end_matches('.')) };
            context.note(Entry { outcome, patient, query, note, ..Entry::of(act) });
        }
    }
}

/// What is done at an address of the authorization server.
fn act(path: &str) -> Option<Act> {
    Some(match path {
        "/oauth/authorize" | "/oauth/consent" | "/oauth/patient" | "/oauth/encounter" => Act::Authorize,
        "/oauth/token" => Act::Token,
        "/oauth/introspect" => Act::Introspect,
        "/oauth/revoke" | "/oauth/manage" => Act::Revoke,
        "/oauth/register" => Act::Security,
        "/oauth/launch" => Act::Launch,
        "/oauth/sign-in" | "/oauth/upstream" | "/oauth/upstream/callback" => Act::Login,
        "/oauth/sign-out" => Act::Logout,
        _ => return None,
    })
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Busy => Self::unavailable("the store is busy; try again"),
            error => Self::internal(error),
        }
    }
}

impl From<Unproved> for Refusal {
    fn from(unproved: Unproved) -> Self {
        match unproved {
            Unproved::NotGood => Self::invalid_token("the token is not good"),
            Unproved::Unheard => Self::unavailable(NOBODY_TO_ASK),
            Unproved::Store(error) => error.into(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.error, self.description)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        response.insert_header((header::PRAGMA, "no-cache"));
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = if self.error == "invalid_client" { "Basic" } else { "Bearer" };
            response.insert_header((
                header::WWW_AUTHENTICATE,
                format!("{scheme} realm=\"augury\", error=\"{}\"", self.error),
            ));
        }
        if let Some(after) = self.after {
            response.insert_header((header::RETRY_AFTER, after.to_string()));
        }
        let mut response = response.json(json!({"error": self.error, "error_description": self.description}));
        response.extensions_mut().insert(Denied::of(self.error, &self.description));
        response
    }
}
