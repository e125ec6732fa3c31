//! `_summary` and `_elements`: parts of a resource, marked as such
//! (<https://hl7.org/fhir/R4/search.html#summary>).

use std::borrow::Cow;

use crate::json::{Json, Limits, Object, parse};
use crate::resource_type::ResourceType;
use crate::schema::Schema;
use crate::search::View;

const SUMMARY: &str = include_str!("../definitions/summary.txt");
const TAG: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED","display":"Resource encoded in summary mode"}"#;

/// The part of a stored resource that is asked for; the text itself if that is all of it.
pub fn subset<'a>(view: &View, kind: ResourceType, body: &'a str) -> Cow<'a, str> {
    let whole = Cow::Borrowed(body);
    if *view == View::Whole {
        return whole;
    }
    let Ok(mut json) = parse(body.as_bytes(), &Limits::default()) else { return whole };
    let Some(object) = json.as_object_mut() else { return whole };
    let mandatory = mandatory(kind);
    let summary: Vec<&str> = SUMMARY
        .lines()
        .find_map(|line| line.strip_prefix(kind.name())?.strip_prefix(' '))
        .map_or_else(Vec::new, |names| names.split(' ').collect());
    let names: Vec<String> = object.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let element = name.strip_prefix('_').unwrap_or(&name);
        let any = |wanted: &[&str]| wanted.iter().any(|one| *one == element || is_choice(one, element));
        let kept = matches!(element, "resourceType" | "id" | "meta")
            || match view {
                View::Whole => true,
                View::Data => element != "text",
                View::Summary => any(&summary) || any(&mandatory),
                View::Text => element == "text" || any(&mandatory),
                View::Elements(wanted) => {
                    any(&wanted.iter().map(String::as_str).collect::<Vec<_>>()) || any(&mandatory)
                }
            };
        if !kept {
            object.remove(&name);
        }
    }
    mark(object);
    Cow::Owned(json.to_text())
}

fn mandatory(kind: ResourceType) -> Vec<&'static str> {
    let Some(of) = Schema::r4().resource(kind.name()) else { return Vec::new() };
    of.required
        .iter()
        .filter_map(|at| of.names.get(usize::from(*at)))
        .map(|name| name.trim_end_matches("[x]"))
        .collect()
}

/// `value` asks for `valueQuantity`.
fn is_choice(asked: &str, element: &str) -> bool {
    element.strip_prefix(asked).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

fn mark(object: &mut Object<'_>) {
    let Ok(tag) = parse(TAG.as_bytes(), &Limits::default()) else { return };
    let Some(meta) = object.get_mut("meta").and_then(Json::as_object_mut) else {
        let mut meta = Object::default();
        meta.set(0, "tag", Json::Array(vec![tag]));
        object.set(1, "meta", Json::Object(meta));
        return;
    };
    match meta.get_mut("tag") {
        Some(Json::Array(tags)) if tags.iter().any(|one| one.text("code") == Some("SUBSETTED")) => {}
        Some(Json::Array(tags)) => tags.push(tag),
        _ => meta.set(meta.len(), "tag", Json::Array(vec![tag])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"resourceType":"Observation","id":"o","meta":{"versionId":"1"},"text":{"status":"empty"},"status":"final","code":{"text":"x"},"valueQuantity":{"value":1.50},"note":[{"text":"n"}]}"#;

    fn names(view: &View) -> Vec<String> {
        let text = subset(view, ResourceType::OBSERVATION, BODY).into_owned();
        let json = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(json.at(&["meta"]).unwrap().list("tag")[0].text("code"), Some("SUBSETTED"));
        json.as_object().unwrap().iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn parts_are_marked_and_keep_what_must_be_there() {
        assert_eq!(subset(&View::Whole, ResourceType::OBSERVATION, BODY), BODY);
        assert_eq!(names(&View::Summary), ["resourceType", "id", "meta", "status", "code", "valueQuantity"]);
        assert_eq!(names(&View::Text), ["resourceType", "id", "meta", "text", "status", "code"]);
        assert_eq!(
            names(&View::Data),
            ["resourceType", "id", "meta", "status", "code", "valueQuantity", "note"]
        );
        assert_eq!(
            names(&View::Elements(vec!["value".into()])),
            ["resourceType", "id", "meta", "status", "code", "valueQuantity"]
        );
    }
}
