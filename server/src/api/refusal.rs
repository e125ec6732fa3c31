//! The same failures as under `/fhir`, in plain JSON.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use fhir::outcome::Issues;
use serde_json::json;

use crate::http::failure::Failure;

/// A failed call of the plain-JSON API.
#[derive(Debug)]
pub(crate) struct Refusal(Failure);

impl<T: Into<Failure>> From<T> for Refusal {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl From<Issues> for Refusal {
    fn from(issues: Issues) -> Self {
        Self(Failure::invalid(issues))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let issues: Vec<_> = self
            .0
            .issues
            .0
            .iter()
            .map(|issue| json!({"severity": issue.severity.code(), "code": issue.code, "details": issue.details, "at": issue.expression}))
            .collect();
        let mut response = HttpResponse::build(self.0.status);
        match self.0.status {
            StatusCode::UNAUTHORIZED => {
                response.insert_header(("WWW-Authenticate", "Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header(("Retry-After", "1"));
            }
            _ => {}
        }
        response.json(json!({"error": self.0.issues.to_string(), "issues": issues}))
    }
}
