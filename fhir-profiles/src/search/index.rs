//! What of a resource is kept so that it can be found.

use super::registry::{Kind, Parameter, of_type, parameter};
use crate::json::Json;
use crate::reference::{self, Reference, hash, hash_text};
use crate::resource_type::ResourceType;
use crate::time::{self, Span};

/// One index entry of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Equality: a token, a reference, an address.
    Exact {
        /// [`Parameter::number`].
        param: u16,
        /// Hash of the code, of `Type/id`, or of the text.
        value: i64,
        /// Hash of a token's system; 0 for none.
        system: i64,
    },
    /// A span of time.
    Range {
        /// [`Parameter::number`].
        param: u16,
        /// First microsecond.
        low: i64,
        /// Last microsecond.
        high: i64,
    },
    /// Text, folded to lower case.
    Text {
        /// [`Parameter::number`].
        param: u16,
        /// The text.
        text: String,
    },
}

/// All index entries of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// [`hash`] of the patient whose chart it belongs to; 0 for none.
    pub patient: i64,
    /// Its clinical time in microseconds since 1970 UTC (start), else when it was last updated.
    pub date: i64,
    /// The entries, each once.
    pub rows: Vec<Row>,
}

/// Extracts the index entries of a resource.
pub fn index(kind: ResourceType, resource: &Json) -> Index {
    let mut rows = Vec::with_capacity(12);
    for parameter in of_type(kind).iter().filter(|parameter| parameter.indexed) {
        for path in &parameter.paths {
            path.visit(resource, &mut |found| {
                add(&mut rows, parameter, path.target.as_deref(), found.value);
            });
        }
    }
    rows.sort_unstable();
    rows.dedup();
    Index { patient: patient(kind, resource), date: date(kind, resource, &rows), rows }
}

fn patient(kind: ResourceType, resource: &Json) -> i64 {
    if kind == ResourceType::PATIENT {
        return resource.text("id").map_or(0, |id| hash(kind, id));
    }
    let subject = ["subject", "patient"].iter().find_map(|member| resource.get(member)?.text("reference"));
    match subject.map(|text| reference::parse(text, "")) {
        Some(Reference::Local { kind: ResourceType::PATIENT, id, .. }) => hash(ResourceType::PATIENT, id),
        _ => 0,
    }
}

fn date(kind: ResourceType, resource: &Json, rows: &[Row]) -> i64 {
    let clinical = parameter(kind, "date").and_then(|wanted| {
        rows.iter().find_map(|row| match row {
            Row::Range { param, low, high } if *param == wanted.number => {
                Some(if *low == i64::MIN { *high } else { *low })
            }
            _ => None,
        })
    });
    let updated = || resource.at(&["meta", "lastUpdated"]).and_then(Json::as_str).and_then(time::parse);
    clinical.or_else(|| updated().map(|span| span.low)).unwrap_or(0)
}

fn add(rows: &mut Vec<Row>, parameter: &Parameter, target: Option<&str>, value: &Json) {
    let param = parameter.number;
    match parameter.kind {
        Kind::Token => token(rows, param, value),
        Kind::Reference => {
            let text = value.text("reference").or_else(|| value.as_str());
            let Some(text) = text else { return };
            match reference::parse(text, "") {
                Reference::Local { kind, id, .. } => {
                    if target.is_none_or(|wanted| wanted == kind.name()) {
                        rows.push(Row::Exact { param, value: hash(kind, id), system: 0 });
                    }
                }
                Reference::Contained(_) => {}
                Reference::Conditional { .. } | Reference::Other(_) => {
                    if target.is_none_or(|wanted| text.contains(wanted)) {
                        rows.push(Row::Exact { param, value: hash_text(text), system: 0 });
                    }
                }
            }
        }
        Kind::Uri => {
            if let Some(text) = value.as_str() {
                rows.push(Row::Exact { param, value: hash_text(text), system: 0 });
            }
        }
        Kind::Date => {
            if let Some(span) = span(value) {
                rows.push(Row::Range { param, low: span.low, high: span.high });
            }
        }
        Kind::String => text(rows, param, value),
        Kind::Number | Kind::Quantity | Kind::Composite | Kind::Special => {}
    }
}

fn token(rows: &mut Vec<Row>, param: u16, value: &Json) {
    let mut push = |code: &str, system: Option<&str>| {
        rows.push(Row::Exact { param, value: hash_text(code), system: system.map_or(0, hash_text) });
    };
    match value {
        Json::String(code) => push(code, None),
        Json::Bool(flag) => push(if *flag { "true" } else { "false" }, None),
        Json::Object(_) => {
            let codings = value.list("coding");
            for coding in codings {
                if let Some(code) = coding.text("code") {
                    push(code, coding.text("system"));
                }
            }
            // A Coding has a code; an Identifier or ContactPoint has a value.
            if codings.is_empty()
                && let Some(code) = value.text("code").or_else(|| value.text("value"))
            {
                push(code, value.text("system"));
            }
        }
        _ => {}
    }
}

/// A date, a Period (an open end is for ever), or a Timing's bounds and events.
fn span(value: &Json) -> Option<Span> {
    if let Some(text) = value.as_str() {
        return time::parse(text);
    }
    let end = |member: &str| value.text(member).and_then(time::parse);
    if value.get("start").is_some() || value.get("end").is_some() {
        let (start, end) = (end("start"), end("end"));
        return Some(Span { low: start.map_or(i64::MIN, |s| s.low), high: end.map_or(i64::MAX, |e| e.high) });
    }
    let bounds = value.at(&["repeat", "boundsPeriod"]).and_then(span);
    value
        .list("event")
        .iter()
        .filter_map(span)
        .chain(bounds)
        .reduce(|a, b| Span { low: a.low.min(b.low), high: a.high.max(b.high) })
}

/// Folded so that case does not matter.
pub(crate) fn fold(text: &str) -> String {
    text.to_lowercase()
}

fn text(rows: &mut Vec<Row>, param: u16, value: &Json) {
    match value {
        Json::String(text) => rows.push(Row::Text { param, text: fold(text) }),
        Json::Object(object) => {
            // HumanName and Address: every part counts.
            for (key, part) in object.iter() {
                if !matches!(key, "use" | "type" | "period" | "extension" | "id") {
                    text(rows, param, part);
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| text(rows, param, item)),
        _ => {}
    }
}
