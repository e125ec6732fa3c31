//! JSON or XML, as it comes and as it is wanted (<https://hl7.org/fhir/R4/http.html#mime-type>).
//!
//! Inside there is JSON alone: [`read`] makes it of what comes, [`negotiate`] makes of an answer
//! what the caller accepts.

use std::cmp::Reverse;

use actix_web::body::{BoxBody, MessageBody, to_bytes};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError};
use fhir::json::Json;
use fhir::xml::{self, Layout};

use super::failure::{FHIR_JSON, Failure};
use super::request::{self, LIMITS};

const FHIR_XML: &str = "application/fhir+xml; charset=utf-8";

/// How a resource is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/fhir+json`
    Json,
    /// `application/fhir+xml`
    Xml,
    /// `text/csv`, of what is a table too
    Csv,
}

const OF_RESOURCES: &[Format] = &[Format::Json, Format::Xml];
const OF_TABLES: &[Format] = &[Format::Json, Format::Xml, Format::Csv];

/// What can be answered there, the best first.
fn offered(path: &str) -> &'static [Format] {
    if path.ends_with("/$accounting-of-disclosures") { OF_TABLES } else { OF_RESOURCES }
}

impl Format {
    /// By a media type without its parameters, or FHIR's short name.
    fn of(essence: &str) -> Option<Self> {
        match essence {
            "application/fhir+json" | "application/fhir json" | "application/json" | "text/json" | "json" => {
                Some(Self::Json)
            }
            "application/fhir+xml" | "application/fhir xml" | "application/xml" | "text/xml" | "xml" => {
                Some(Self::Xml)
            }
            "text/csv" | "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// What the body of a request is said to be.
pub(crate) fn sent(request: &HttpRequest) -> Result<Format, Failure> {
    let unsupported = |found: &str| {
        Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            format!(
                "Content-Type {found} is not supported; send application/fhir+json or application/fhir+xml"
            ),
        )
    };
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else {
        return Err(unsupported("(none)"));
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let Some(format) = Format::of(essence).filter(|one| essence.contains('/') && OF_RESOURCES.contains(one))
    else {
        return Err(unsupported(
            &essence.chars().filter(char::is_ascii_graphic).take(80).collect::<String>(),
        ));
    };
    for part in parts {
        match part.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"'))) {
            Some(("charset", name)) if name != "utf-8" => {
                return Err(unsupported("of another charset than utf-8"));
            }
            Some(("fhirversion", version)) if !is_r4(version) => {
                return Err(unsupported("of another FHIR version than 4.0"));
            }
            _ => {}
        }
    }
    Ok(format)
}

/// The body of a request, through the lossless door.
pub(crate) fn read(body: &[u8], format: Format) -> Result<Json<'_>, Failure> {
    match format {
        Format::Json | Format::Csv => request::parse(body),
        Format::Xml if body.is_empty() => Err(Failure::bad_request("the body is empty")),
        Format::Xml => xml::read(body, &LIMITS).map_err(Failure::invalid),
    }
}

fn is_r4(version: &str) -> bool {
    matches!(version, "4.0" | "4.0.1" | "4")
}

/// How the caller wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    format: Format,
    pretty: bool,
}

impl Wanted {
    /// The same with what pairs say of it.
    fn with(mut self, pairs: &[(String, String)], offered: &[Format]) -> Option<Self> {
        for (name, value) in pairs {
            match name.as_str() {
                "_format" => {
                    self.format = Format::of(&essence(value)).filter(|one| offered.contains(one))?;
                }
                "_pretty" => self.pretty = value == "true",
                _ => {}
            }
        }
        Some(self)
    }

    /// `_format` before `Accept`; none if nothing of ours is accepted.
    fn of(request: &ServiceRequest) -> Option<Self> {
        let query = request.query_string();
        let pairs = if query.contains("_format") || query.contains("_pretty") {
            request::pairs(query)
        } else {
            Vec::new()
        };
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let charset = text(header::ACCEPT_CHARSET).is_none_or(|all| {
            all.split(',').any(|one| matches!(essence(one).as_str(), "utf-8" | "*") && quality(one) > 0)
        });
        let said = pairs.iter().any(|(name, _)| name == "_format");
        let offered = offered(request.path());
        let format = match text(header::ACCEPT).filter(|_| !said) {
            Some(accept) => accepted(accept, offered)?,
            None => Format::Json,
        };
        let wanted = Self { format, pretty: false }.with(&pairs, offered)?;
        charset.then_some(wanted)
    }
}

/// What a form says of the answer's format counts like what the address says.
pub(crate) fn by_form(request: &HttpRequest, pairs: &[(String, String)]) -> Result<(), Failure> {
    let before = request.extensions().get::<Wanted>().copied();
    if let Some(before) = before {
        let wanted = before.with(pairs, OF_RESOURCES).ok_or_else(unacceptable)?;
        request.extensions_mut().insert(wanted);
    }
    Ok(())
}

/// Is a table wanted?
pub(crate) fn is_table(request: &HttpRequest) -> bool {
    request.extensions().get::<Wanted>().is_some_and(|wanted| wanted.format == Format::Csv)
}

fn unacceptable() -> Failure {
    let details = "only application/fhir+json and application/fhir+xml in UTF-8 can be answered, of FHIR 4.0";
    Failure::new(StatusCode::NOT_ACCEPTABLE, "not-supported", details)
}

/// The best of those; the first where several are as good.
fn accepted(accept: &str, offered: &[Format]) -> Option<Format> {
    // What is said of a type itself counts before what is said of all.
    let rank = |one: &str, format: Format| match essence(one).as_str() {
        essence if Format::of(essence) == Some(format) => Some((2, quality(one))),
        "" | "*/*" | "application/*" | "text/*" => Some((1, quality(one))),
        _ => None,
    };
    let wanted = |format: Format| {
        let said = accept.split(',').filter(|one| !is_foreign(one)).filter_map(|one| rank(one, format));
        said.max().map_or(0, |(_, quality)| quality)
    };
    let possible = offered.iter().copied().filter(|format| wanted(*format) > 0);
    possible.min_by_key(|format| Reverse(wanted(*format)))
}

/// Of another FHIR version?
fn is_foreign(one: &str) -> bool {
    one.to_ascii_lowercase().split(';').map(str::trim).any(|part| {
        part.strip_prefix("fhirversion=").is_some_and(|version| !is_r4(version.trim_matches('"')))
    })
}

fn essence(one: &str) -> String {
    one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// In thousandths.
fn quality(one: &str) -> u16 {
    let given = one.split(';').find_map(|part| part.trim().strip_prefix("q="));
    let value: f32 = given.map_or(1.0, |text| text.parse().unwrap_or(1.0));
    [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 1]
        .into_iter()
        .find(|step| value * 1000.0 >= f32::from(*step))
        .unwrap_or(0)
}

/// Answers in the format that is wanted, or not at all.
pub(crate) async fn negotiate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // What discovery says is JSON, whatever is accepted.
    if !request.path().starts_with("/fhir") || request.path().starts_with("/fhir/.well-known/") {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    if !request::is_utf8(request.query_string()) {
        let failure = Failure::bad_request("what is percent-encoded in the address is not UTF-8");
        return Ok(request.into_response(failure.error_response()));
    }
    let Some(wanted) = Wanted::of(&request) else {
        return Ok(request.into_response(unacceptable().error_response()));
    };
    request.extensions_mut().insert(wanted);
    let response = next.call(request).await?.map_into_boxed_body();
    let wanted = response.request().extensions().get::<Wanted>().copied().unwrap_or(wanted);
    let is_resource = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == FHIR_JSON.as_bytes());
    if !is_resource
        || wanted.format == Format::Csv
        || wanted == (Wanted { format: Format::Json, pretty: false })
    {
        return Ok(response);
    }
    let (request, response) = response.into_parts();
    let (mut response, body) = response.into_parts();
    let bytes = to_bytes(body).await.map_err(|_| Failure::internal("an answer without its body"))?;
    let text = written(&bytes, wanted)?;
    if wanted.format == Format::Xml {
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(FHIR_XML));
    }
    Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(text))))
}

fn written(bytes: &[u8], wanted: Wanted) -> Result<String, Failure> {
    if wanted.format == Format::Json {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(Failure::internal)?;
        return serde_json::to_string_pretty(&value).map_err(Failure::internal);
    }
    let resource = fhir::json::parse(bytes, &fhir::json::Limits::STORED).map_err(Failure::internal)?;
    let layout = if wanted.pretty { Layout::Pretty } else { Layout::Compact };
    xml::write(&resource, layout).map_err(Failure::internal)
}
