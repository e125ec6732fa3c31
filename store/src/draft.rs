//! A resource made ready to be written: serialised once, with a hole where the version goes.
//!
//! All that costs time is done here, before the transaction and outside the writer's lane.

use std::borrow::Cow;
use std::collections::HashMap;

use fhir::json::{Json, Limits, Object};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{self, Index, MOST_ROWS};
use fhir::subscription::Topics;
use fhir::time;

use crate::error::Error;
use crate::subscription::keep;

/// Text before the version, text after the time, and how the resource is found.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: ResourceType,
    pub(crate) id: String,
    pub(crate) updated: i64,
    pub(crate) index: Index,
    /// Of a Subscription: the lines that its endpoint gets, which are not part of the text.
    pub(crate) headers: Vec<String>,
    text: String,
    /// Where the version and the time are put in.
    hole: usize,
}

impl Draft {
    /// Takes the content, whatever it says of id, version and time.
    pub(crate) fn new(
        kind: ResourceType,
        id: String,
        updated: i64,
        mut resource: Json<'_>,
    ) -> Result<Self, Error> {
        let stamp = time::format_instant(updated);
        let object = resource
            .as_object_mut()
            .ok_or_else(|| Issue::error("structure", "a resource is a JSON object"))?;
        if object.get("resourceType").and_then(Json::as_str) != Some(kind.name()) {
            return Err(Issue::error("invalid", format!("resourceType is not {}", kind.name())).into());
        }
        stamp_identity(object, &id, &stamp)?;
        let headers = match kind {
            ResourceType::SUBSCRIPTION => keep::conceal(&mut resource),
            _ => Vec::new(),
        };
        let object =
            resource.as_object().ok_or_else(|| Issue::error("structure", "a resource is a JSON object"))?;
        let mut out = Vec::with_capacity(1536);
        out.extend_from_slice(br#"{"resourceType":""#);
        out.extend_from_slice(kind.name().as_bytes());
        out.extend_from_slice(br#"","id":"#);
        Json::String(Cow::Borrowed(&id)).write(&mut out);
        out.extend_from_slice(br#","meta":{"versionId":""#);
        let hole = out.len();
        out.push(b'"');
        let meta = object.get("meta").and_then(Json::as_object);
        for (key, value) in meta.into_iter().flat_map(Object::iter) {
            if !matches!(key, "versionId" | "lastUpdated") {
                member(key, value, &mut out);
            }
        }
        out.push(b'}');
        for (key, value) in object.iter() {
            if !matches!(key, "resourceType" | "id" | "meta") {
                member(key, value, &mut out);
            }
        }
        out.push(b'}');
        let text = String::from_utf8(out).map_err(Error::internal)?;
        let index = search::index(kind, &resource);
        if index.rows.len() > MOST_ROWS {
            let details = format!("more than {MOST_ROWS} values to search by in one resource");
            return Err(Issue::error("too-long", details).at(kind.name()).into());
        }
        Ok(Self { kind, id, updated, index, headers, text, hole })
    }

    /// The resource as it is stored, as this version at this time.
    pub(crate) fn body(&self, version: i64, updated: i64) -> String {
        let (head, tail) = self.text.split_at_checked(self.hole).unwrap_or((&self.text, ""));
        let stamp = time::format_instant(updated);
        let mut body = String::with_capacity(self.text.len() + 64);
        body.push_str(head);
        body.push_str(&version.to_string());
        body.push_str(r#"","lastUpdated":""#);
        body.push_str(&stamp);
        body.push_str(tail);
        body
    }

    /// The same with references replaced; `change` gives the new text of one, if it has one.
    pub(crate) fn referring(&self, change: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let body = self.body(1, self.updated);
        let mut resource = parse(&body)?;
        replace_references(&mut resource, change);
        self.made_of(self.id.clone(), self.updated, resource)
    }

    /// Does it refer to one of these? Where a reference is written with escapes it is not looked at
    /// closely, and may.
    pub(crate) fn refers<T>(&self, to: &HashMap<String, T>) -> bool {
        const BEFORE: &str = r#""reference":""#;
        self.text.match_indices(BEFORE).any(|(at, _)| {
            let rest = self.text.get(at + BEFORE.len()..).unwrap_or_default();
            let text = rest.split('"').next().unwrap_or_default();
            text.contains('\\') || to.contains_key(text)
        })
    }

    /// The same, last changed at another time.
    pub(crate) fn dated(&self, updated: i64) -> Result<Self, Error> {
        let body = self.body(1, self.updated);
        self.made_of(self.id.clone(), updated, parse(&body)?)
    }

    /// The same under another id.
    pub(crate) fn renamed(&self, id: String) -> Result<Self, Error> {
        let body = self.body(1, self.updated);
        self.made_of(id, self.updated, parse(&body)?)
    }

    /// Of its own text, which doesn't have the headers.
    fn made_of(&self, id: String, updated: i64, resource: Json<'_>) -> Result<Self, Error> {
        let headers = self.headers.clone();
        Ok(Self { headers, ..Self::new(self.kind, id, updated, resource)? })
    }
}

/// Nobody but a model may say that a model made it.
pub(crate) fn unclaimed(resource: &Json<'_>) -> Result<(), Error> {
    let why = if fhir::profile::is_of_a_model(resource) {
        "what a model of this server made is written by this server alone"
    } else if Topics::names_own(resource) {
        "a topic of this server's own is as it is"
    } else {
        return Ok(());
    };
    let kind = resource.text("resourceType").unwrap_or("Resource");
    Err(Issue::error("forbidden", why).at(kind).into())
}

/// Parses a stored body; it was accepted once, so it was within the limits of the door.
pub(crate) fn parse(body: &str) -> Result<Json<'_>, Error> {
    fhir::json::parse(body.as_bytes(), &Limits::STORED)
        .map_err(|issues| Error::Internal(format!("a stored body does not parse: {issues}")))
}

/// Puts id and time into the tree, where index extraction reads them.
fn stamp_identity(object: &mut Object<'_>, id: &str, stamp: &str) -> Result<(), Error> {
    if matches!(id, "." | "..") {
        // In an address they say something else (RFC 3986, section 5.2.4).
        return Err(Issue::error("value", "`.` and `..` are no ids").at("id").into());
    }
    object.set(1, "id", Json::String(Cow::Owned(id.to_owned())));
    if object.get("meta").is_none() {
        object.set(2, "meta", Json::Object(Object::default()));
    }
    let meta = object
        .get_mut("meta")
        .and_then(Json::as_object_mut)
        .ok_or_else(|| Issue::error("structure", "meta is a JSON object").at("meta"))?;
    meta.set(1, "lastUpdated", Json::String(Cow::Owned(stamp.to_owned())));
    Ok(())
}

fn member(key: &str, value: &Json<'_>, out: &mut Vec<u8>) {
    out.push(b',');
    Json::String(Cow::Borrowed(key)).write(out);
    out.push(b':');
    value.write(out);
}

pub(crate) fn replace_references(node: &mut Json<'_>, change: &dyn Fn(&str) -> Option<String>) {
    match node {
        Json::Array(items) => items.iter_mut().for_each(|item| replace_references(item, change)),
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Json::String(text) if key == "reference" => {
                        if let Some(new) = change(text) {
                            *text = Cow::Owned(new);
                        }
                    }
                    _ => replace_references(value, change),
                }
            }
        }
        _ => {}
    }
}
