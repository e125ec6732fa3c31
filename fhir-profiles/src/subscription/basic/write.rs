//! Writing.

use serde_json::{Value, json};

use super::super::topic::{Shape, Topic};
use super::super::trigger::{Trigger, Versions};
use super::{CODE, PREFIXES, TYPES};
use crate::json::Json;
use crate::reference;
use crate::resource_type::ResourceType;

impl Topic {
    /// The topic as a Basic.
    pub fn to_basic(&self) -> Json<'static> {
        let own =
            |name: &str, of: &str, value: Value| json!({"url": format!("{}{name}", PREFIXES[0]), of: value});
        let mut all = vec![own("url", "valueUri", json!(self.url))];
        let texts = [
            ("version", "valueString", &self.version),
            ("name", "valueString", &self.name),
            ("title", "valueString", &self.title),
            ("description", "valueMarkdown", &self.description),
        ];
        all.extend(
            texts.into_iter().filter_map(|(name, of, text)| Some(own(name, of, json!(text.as_ref()?)))),
        );
        all.extend(self.triggers.iter().map(|one| own("resourceTrigger", "extension", trigger(one))));
        for one in &self.filters {
            let kind = one.kind.map(|kind| part("resource", "valueUri", kind.name()));
            let parameter = part("filterParameter", "valueString", &one.parameter);
            let comparators = one.comparators.iter().map(|code| part("comparator", "valueCode", code));
            let modifiers = one.modifiers.iter().map(|code| part("modifier", "valueCode", code));
            let parts = kind.into_iter().chain([parameter]).chain(comparators).chain(modifiers);
            all.push(own("canFilterBy", "extension", parts.collect()));
        }
        all.extend(self.shapes.iter().map(|one| own("notificationShape", "extension", shape(one))));
        let status = own("status", "valueCode", json!(self.status.code()));
        let mut basic = json!({
            "resourceType": "Basic",
            "extension": all,
            "modifierExtension": [status],
            "code": {"coding": [{"system": TYPES, "code": CODE}]},
        });
        let id = self.url.rsplit('/').next().filter(|id| reference::is_id(id));
        if let (Some(id), Some(object)) = (id, basic.as_object_mut()) {
            object.shift_insert(1, "id".to_owned(), json!(id));
        }
        Json::from(&basic)
    }
}

fn part(url: &str, of: &str, value: &str) -> Value {
    json!({"url": url, of: value})
}

fn trigger(of: &Trigger) -> Value {
    let mut parts = Vec::new();
    parts.extend(of.description.as_ref().map(|text| part("description", "valueMarkdown", text)));
    parts.push(part("resource", "valueUri", of.kind.name()));
    parts.extend(of.interactions.iter().map(|one| part("supportedInteraction", "valueCode", one.code())));
    if let Some(query) = &of.query {
        let (previous, current, both) = match &query.of {
            Versions::Previous(previous) => (Some(previous), None, false),
            Versions::Current(current) => (None, Some(current), false),
            Versions::Either(previous, current) => (Some(previous), Some(current), false),
            Versions::Both(previous, current) => (Some(previous), Some(current), true),
        };
        let result = |passes: bool| if passes { "test-passes" } else { "test-fails" };
        let mut criteria = Vec::new();
        if let Some(previous) = previous {
            criteria.push(part("previous", "valueString", &previous.text));
            criteria.push(part("resultForCreate", "valueCode", result(query.for_create)));
        }
        if let Some(current) = current {
            criteria.push(part("current", "valueString", &current.text));
            criteria.push(part("resultForDelete", "valueCode", result(query.for_delete)));
        }
        criteria.push(json!({"url": "requireBoth", "valueBoolean": both}));
        parts.push(json!({"url": "queryCriteria", "extension": criteria}));
    }
    parts.extend(of.expression.as_ref().map(|one| part("fhirPathCriteria", "valueString", &one.text)));
    Value::Array(parts)
}

fn shape(of: &Shape) -> Value {
    let mut all: Vec<(bool, String)> = Vec::new();
    for include in &of.includes {
        let name = |kind: Option<ResourceType>| kind.map_or("*", ResourceType::name);
        let code = include.code.as_deref().unwrap_or("*");
        let target = include.target.map(|kind| format!(":{kind}")).unwrap_or_default();
        let said = format!("{}:{code}{target}", name(include.source));
        match all.last_mut().filter(|(reverse, _)| include.iterate && *reverse == include.reverse) {
            Some((_, before)) => before.push_str(&format!("&iterate={said}")),
            None => all.push((include.reverse, said)),
        }
    }
    let kind = part("resource", "valueUri", of.kind.name());
    let of = |reverse: bool| if reverse { "revInclude" } else { "include" };
    let all = all.into_iter().map(|(reverse, said)| part(of(reverse), "valueString", &said));
    std::iter::once(kind).chain(all).collect()
}
