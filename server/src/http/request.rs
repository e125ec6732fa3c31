//! Reading a request: its media types, its conditions and preferences.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Decompress, Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, ResponseError, web};
use fhir::json::{self, Json, Limits};
use percent_encoding::percent_decode_str;

use store::OnlyIf;

use super::failure::Failure;
use super::format::{self, Format};

/// What one request may weigh.
pub(crate) const LIMITS: Limits = Limits { bytes: 64 << 20, depth: 64, values: 2_000_000 };

/// Unpacks a body that came packed (`Content-Encoding`), as it is read.
pub(crate) async fn unpack(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse().ok()).is_some_and(|length: u64| length > LIMITS.bytes as u64) {
        return Ok(request.into_response(too_long(LIMITS.bytes).error_response()));
    }
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) {
        let known = ["gzip", "deflate", "br", "zstd", "identity"];
        if !encoding.to_str().is_ok_and(|name| known.contains(&name.to_ascii_lowercase().as_str())) {
            let details = "a body may be packed with gzip, deflate, br or zstd";
            let failure = Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details);
            return Ok(request.into_response(failure.error_response()));
        }
        let packed = request.take_payload();
        let unpacked = Decompress::from_headers(packed, request.headers());
        request.set_payload(Payload::Stream { payload: Box::pin(unpacked) });
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// The answer to a body of more bytes.
pub(super) fn too_long(most: usize) -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", format!("more than {most} bytes"))
}

/// Refuses a body that is not said to be JSON.
pub(crate) fn require_json(request: &HttpRequest) -> Result<(), Failure> {
    if format::sent(request)? == Format::Json {
        return Ok(());
    }
    let details = "this takes application/json alone";
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details))
}

/// The decoded pairs of a query string or form body, in order.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map(web::Query::into_inner);
    let mut pairs = pairs.unwrap_or_default();
    // No text of FHIR has a NUL, and no database takes one: it is as foreign as any other letter.
    for text in pairs.iter_mut().flat_map(|(name, value)| [name, value]).filter(|text| text.contains('\0')) {
        *text = text.replace('\0', "\u{fffd}");
    }
    pairs
}

/// Is what is percent-encoded UTF-8? Read as something else, it would ask something else.
pub(crate) fn is_utf8(encoded: &str) -> bool {
    percent_decode_str(encoded).decode_utf8().is_ok()
}

/// Parses a body through the lossless door.
pub(crate) fn parse(body: &[u8]) -> Result<Json<'_>, Failure> {
    if body.is_empty() {
        return Err(Failure::bad_request("the body is empty"));
    }
    json::parse(body, &LIMITS).map_err(Failure::invalid)
}

/// `If-Match` (a weak or strong `ETag` holding a version number, or `*`) and `If-None-Match: *`.
pub(crate) fn only_if(request: &HttpRequest) -> Result<OnlyIf, Failure> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(OnlyIf::Always),
        (Some(tag), None) => if_match(tag),
        (None, Some("*")) => Ok(OnlyIf::Absent),
        _ => Err(Failure::bad_request("of If-None-Match a write understands * alone, and without If-Match")),
    }
}

/// What `If-Match` asks for, in a header or in a Bundle's entry.
pub(crate) fn if_match(text: &str) -> Result<OnlyIf, Failure> {
    match text {
        "*" => Ok(OnlyIf::Present),
        tag => etag_version(tag)
            .map(OnlyIf::Version)
            .ok_or_else(|| Failure::bad_request("If-Match must be an ETag like W/\"3\"")),
    }
}

/// The version in an ETag.
fn etag_version(text: &str) -> Option<i64> {
    let text = text.trim();
    text.strip_prefix("W/")
        .unwrap_or(text)
        .strip_prefix('"')?
        .strip_suffix('"')?
        .parse()
        .ok()
        .filter(|v| *v > 0)
}

/// What the caller wants back from a write (`Prefer: return=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// Nothing but headers.
    Minimal,
    /// The resource as stored.
    Representation,
    /// An `OperationOutcome`.
    Outcome,
}

/// What the caller prefers (`Prefer`, RFC 7240; FHIR R4 http.html#ops).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// What comes back from a write.
    pub returns: Return,
    /// An unknown search parameter is an error.
    pub strict: bool,
}

/// Reads `Prefer`; without one, the representation comes back and searching is lenient.
pub(crate) fn prefer(request: &HttpRequest) -> Prefer {
    let mut prefer = Prefer { returns: Return::Representation, strict: false };
    for value in request.headers().get_all(header::HeaderName::from_static("prefer")) {
        for token in value.to_str().unwrap_or_default().split([',', ';']) {
            let Some((name, value)) = token.split_once('=') else { continue };
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            match (name.trim().to_ascii_lowercase().as_str(), value.as_str()) {
                ("return", "minimal") => prefer.returns = Return::Minimal,
                ("return", "representation") => prefer.returns = Return::Representation,
                ("return", "operationoutcome") => prefer.returns = Return::Outcome,
                ("handling", "strict") => prefer.strict = true,
                _ => {}
            }
        }
    }
    prefer
}
