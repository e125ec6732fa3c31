//! Parameters of a request: `application/x-www-form-urlencoded`, in an address or a body.

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use percent_encoding::utf8_percent_encode;

use super::pages::UNRESERVED;
use super::refusal::Refusal;
use crate::http::request;

/// No form of ours is longer.
const LONGEST: usize = 256 << 10;

/// Parameters that say nothing secret.
const TOLD: [&str; 11] = [
    "grant_type",
    "client_id",
    "client_assertion_type",
    "redirect_uri",
    "scope",
    "resource",
    "aud",
    "response_type",
    "code_challenge_method",
    "prompt",
    "decision",
];

/// The pairs, as they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Of an address.
    pub(crate) fn of_query(request: &HttpRequest) -> Self {
        Self(request::pairs(request.query_string()))
    }

    /// Of a body.
    pub(crate) fn of_body(request: &HttpRequest, body: &web::Bytes) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        if body.len() > LONGEST {
            return Err(Refusal::invalid_request("the body is too long"));
        }
        let text =
            std::str::from_utf8(body).map_err(|_| Refusal::invalid_request("the body is not UTF-8"))?;
        Ok(Self(request::pairs(text)))
    }

    /// The same with further pairs behind.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// A value; an empty one is none (RFC 6749 section 3.1).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A value that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid_request(format!("{name} is missing")))
    }

    /// What is asked, for the audit trail: nothing that could be a secret has its value in it.
    pub(crate) fn asked(&self, of: &str) -> String {
        let told = |name: &str, value: &str| {
            let encoded = utf8_percent_encode(value, UNRESERVED).to_string();
            if TOLD.contains(&name) { encoded } else { "…".to_owned() }
        };
        // What is in the place of a name may be one, too.
        let is_name =
            |name: &str| name.len() <= 30 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let pair = |(name, value): &(String, String)| {
            format!("{}={}", if is_name(name) { name } else { "…" }, told(name, value))
        };
        let pairs: Vec<String> = self.0.iter().map(pair).collect();
        store::kept(&format!("{of} {}", pairs.join("&")))
    }

    /// All values of a name.
    pub(crate) fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f str> {
        self.0
            .iter()
            .filter(move |(one, value)| one == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The name of a parameter that came more than once, which none may (RFC 6749 section 3.1).
    pub(crate) fn repeated(&self) -> Option<&str> {
        let times = |name: &str| self.0.iter().filter(|(one, _)| one == name).count();
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| *name != "resource" && times(name) > 1)
    }
}
