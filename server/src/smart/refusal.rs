//! Errors in OAuth's words (RFC 6749 section 5.2).

use std::borrow::Cow;

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use super::bearer::{NOBODY_TO_ASK, Unproved};

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

    /// Was something denied, rather than not understood or not possible now?
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self.error, "invalid_client" | "invalid_grant" | "invalid_scope" | "unauthorized_client")
    }

    /// 500 that tells the caller nothing; `why` goes to the log.
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "internal error");
        let refusal = Self::new("server_error", "internal error; the log has it under the request's id");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..refusal }
    }
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
        response.json(json!({"error": self.error, "error_description": self.description}))
    }
}
