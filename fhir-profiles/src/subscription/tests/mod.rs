//! Subscriptions by hand-made cases.

mod any;
mod asked;
mod defined;
mod matched;
mod told;

use super::{Change, State};
use crate::json::{Json, Limits, parse};
use crate::resource_type::ResourceType;
use crate::search::{Index, index};
use crate::time;

const BASE: &str = "https://h.example/fhir";

fn json(text: &str) -> Json<'_> {
    parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|issues| panic!("{issues} {text}"))
}

/// A version of a resource, which lives as long as its text.
struct Version<'a> {
    json: Json<'a>,
    index: Index,
}

impl<'a> Version<'a> {
    fn of(text: &'a str) -> Self {
        let json = json(text);
        let kind = json.text("resourceType").and_then(ResourceType::parse).unwrap();
        let index = index(kind, &json);
        Self { json, index }
    }

    fn state(&self) -> State<'_> {
        let updated = time::parse("2026-01-02T03:04:05Z").unwrap().low;
        State { resource: &self.json, index: &self.index, updated }
    }
}

fn change<'v>(before: Option<&'v Version<'_>>, after: Option<&'v Version<'_>>) -> Change<'v> {
    let either = after.or(before).unwrap();
    Change {
        kind: either.index.kind,
        id: either.json.text("id").unwrap(),
        before: before.map(Version::state),
        after: after.map(Version::state),
        unclear: Box::leak(Box::default()),
    }
}
