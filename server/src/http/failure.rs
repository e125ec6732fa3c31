//! The one place where an error becomes an HTTP status and an `OperationOutcome`.

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use fhir::outcome::{Issue, Issues};

/// FHIR's JSON media type, as answered.
pub(crate) const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

/// A request that is answered with an error.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// Why, in FHIR's words.
    pub issues: Issues,
}

impl Failure {
    /// Why somebody is refused who showed something (RFC 6750's `invalid_token`), in FHIR's words.
    pub(crate) const NOT_GOOD: &str = "unknown";

    /// A failure of one issue.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        details: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self { status, issues: Issue::error(code, details).into() }
    }

    /// 400: the request can't be understood.
    pub(crate) fn bad_request(details: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", details)
    }

    /// 422: FHIR's own rules are kept, those of a profile are not.
    pub(crate) fn nonconforming(issues: Issues) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, issues }
    }

    /// 400 with the findings of a parser or validator.
    pub(crate) fn invalid(issues: Issues) -> Self {
        let status = match issues.0.first().map(|issue| issue.code) {
            Some("too-long") => StatusCode::PAYLOAD_TOO_LARGE,
            Some("forbidden") => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, issues }
    }

    /// 404.
    pub(crate) fn not_found(details: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", details)
    }

    /// 500 that tells the caller nothing; `why` goes to the log.
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "exception",
            "internal error; the log has it under the request's id",
        )
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use store::Error;
        match error {
            Error::NotFound => Self::not_found("no such resource"),
            Error::Gone { .. } => Self::new(StatusCode::GONE, "deleted", "the resource was deleted"),
            Error::Conflict { current } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "conflict",
                format!("the resource was changed meanwhile; its version is {current}"),
            ),
            Error::Denied(op, kind) => Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("what the caller was granted does not allow this {} of {kind}", op.name()),
            ),
            Error::Precondition(why) => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", why),
            Error::Ambiguous => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "multiple-matches",
                "the criteria match several resources",
            ),
            Error::Invalid(issues) => Self::invalid(issues),
            Error::Unkept(issues) => Self::nonconforming(issues),
            Error::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "throttled", "the store is busy; try again")
            }
            Error::NoStore(why) => {
                tracing::error!(why, "nothing can be written");
                let details = "the disk of the store is full, or takes no writes";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no-store", details)
            }
            Error::Internal(why) => Self::internal(why),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.issues)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let shown = self.issues.0.first().is_some_and(|issue| issue.code == Self::NOT_GOOD);
                let asks = if shown { "Bearer error=\"invalid_token\"" } else { "Bearer" };
                response.insert_header((header::WWW_AUTHENTICATE, asks));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        response.content_type(FHIR_JSON).body(self.issues.outcome().to_string())
    }
}
