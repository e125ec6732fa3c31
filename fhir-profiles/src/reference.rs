//! References between resources (<https://hl7.org/fhir/R4/references.html#literal>).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::json::Json;
use crate::outcome::Issue;
use crate::resource_type::ResourceType;

/// What a reference text points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `Patient/1`, `Patient/1/_history/2`: on this server.
    Local {
        /// Type.
        kind: ResourceType,
        /// Logical id.
        id: &'a str,
        /// Version, where one is named.
        version: Option<&'a str>,
    },
    /// `#p1`: contained in the same resource.
    Contained(&'a str),
    /// `Patient?identifier=…`: to be resolved in a transaction.
    Conditional {
        /// Type.
        kind: ResourceType,
        /// The criteria behind the question mark.
        criteria: &'a str,
    },
    /// Anything else: another server, a URN.
    Other(&'a str),
}

/// Reads a reference; `base` is this server's address, e.g. `https://h.example/fhir`.
pub fn parse<'a>(text: &'a str, base: &str) -> Reference<'a> {
    if let Some(id) = text.strip_prefix('#') {
        return Reference::Contained(id);
    }
    let relative = match text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) {
        Some(relative) if !base.is_empty() => relative,
        _ => text,
    };
    if let Some((kind, criteria)) = relative.split_once('?') {
        return ResourceType::parse(kind)
            .map_or(Reference::Other(text), |kind| Reference::Conditional { kind, criteria });
    }
    let mut parts = relative.split('/');
    let (kind, id) = (parts.next().and_then(ResourceType::parse), parts.next().filter(|id| is_id(id)));
    let (history, version, more) = (parts.next(), parts.next().filter(|id| is_id(id)), parts.next());
    match (kind, id, history, version, more) {
        (Some(kind), Some(id), None, None, None) => Reference::Local { kind, id, version: None },
        (Some(kind), Some(id), Some("_history"), Some(version), None) => {
            Reference::Local { kind, id, version: Some(version) }
        }
        _ => Reference::Other(text),
    }
}

/// What this server's own address stands before becomes relative: `https://h/fhir/Patient/1` is
/// `Patient/1` here.
pub fn make_relative(text: &mut Cow<'_, str>, base: &str) {
    let relative =
        text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')).filter(|_| !base.is_empty());
    if let Some(relative) = relative
        && matches!(parse(relative, ""), Reference::Local { .. })
    {
        *text = Cow::Owned(relative.to_owned());
    }
}

/// The same for every reference in a resource.
///
/// # Errors
/// One is made by criteria: only a transaction says what these find.
pub fn make_all_relative(node: &mut Json, base: &str) -> Result<(), Issue> {
    let Some(below) = conditional(node, base) else { return Ok(()) };
    let at = format!("{}{below}", node.text("resourceType").unwrap_or_default());
    let details = "a reference by criteria is resolved in a transaction only";
    Err(Issue::error("not-supported", details).at(at))
}

/// Where the first reference by criteria is, below the node; until then references are made relative.
fn conditional(node: &mut Json, base: &str) -> Option<String> {
    match node {
        Json::Array(items) => items
            .iter_mut()
            .enumerate()
            .find_map(|(n, item)| Some(format!("[{n}]{}", conditional(item, base)?))),
        Json::Object(object) => object.iter_mut().find_map(|(key, value)| match value {
            Json::String(text) if key == "reference" => {
                make_relative(text, base);
                let by_criteria =
                    text.contains('?') && matches!(parse(text, base), Reference::Conditional { .. });
                by_criteria.then(|| ".reference".to_owned())
            }
            Json::Array(_) | Json::Object(_) => Some(format!(".{key}{}", conditional(value, base)?)),
            _ => None,
        }),
        _ => None,
    }
}

/// Is it a FHIR id: 1 to 64 of `A-Za-z0-9-.`?
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

/// The number that stands for a text in index rows: the first 8 bytes of its SHA-256, big endian,
/// never 0, which stands for "none".
pub fn hash_text(text: &str) -> i64 {
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    let number = i64::from_be_bytes(first);
    if number == 0 { 1 } else { number }
}

/// The number that stands for a resource in index rows: [`hash_text`] of `Type/id`.
pub fn hash(kind: ResourceType, id: &str) -> i64 {
    hash_text(&format!("{}/{id}", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        let base = "http://h/fhir";
        let local = Reference::Local { kind: ResourceType::PATIENT, id: "1", version: None };
        assert_eq!(parse("Patient/1", base), local);
        assert_eq!(parse("http://h/fhir/Patient/1", base), local);
        assert_eq!(
            parse("Patient/1/_history/2", base),
            Reference::Local { kind: ResourceType::PATIENT, id: "1", version: Some("2") }
        );
        assert_eq!(parse("#a", base), Reference::Contained("a"));
        assert_eq!(
            parse("Patient?identifier=x", base),
            Reference::Conditional { kind: ResourceType::PATIENT, criteria: "identifier=x" }
        );
        for text in [
            "http://other/fhir/Patient/1",
            "urn:uuid:x",
            "patient/1",
            "Patient/",
            "Patient/a_b",
            "Patient/1/2",
        ] {
            assert_eq!(parse(text, base), Reference::Other(text));
        }
        assert_ne!(hash_text("a"), hash_text("b"));
    }
}
