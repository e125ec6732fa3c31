//! What of a resource is kept so that it can be found.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::number::{self, Quantity};
use super::path::Path;
use super::registry::{Component, Kind, Parameter, of_type, parameter, participants};
use crate::json::Json;
use crate::reference::{self, Reference, hash, hash_text};
use crate::resource_type::ResourceType;
use crate::time::{self, Span};

/// Of a text so much is kept, in characters.
const LONGEST: usize = 512;
/// Values of one resource to search by, at most; all others wait while it is written.
pub const MOST_ROWS: usize = 20_000;
/// Stands for a value that nothing could be made of, so that it is not missing.
const SOMETHING: i64 = 1;

/// One index entry of a resource. `param` is [`Parameter::number`], or for a composite
/// [`narrowed`] by its first part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Equality: a token, a reference, an address, a text letter for letter.
    Exact {
        /// Which parameter.
        param: i64,
        /// Hash of the code, of `Type/id`, or of the text.
        value: i64,
        /// Hash of a token's system; 0 for none.
        system: i64,
    },
    /// A span of time.
    Range {
        /// Which parameter.
        param: i64,
        /// First microsecond.
        low: i64,
        /// Last microsecond.
        high: i64,
    },
    /// Text, [`fold`]ed. [`textual`] stands for it where rows are equal or not.
    Text {
        /// Which parameter.
        param: i64,
        /// The text.
        text: String,
    },
    /// A number or quantity.
    Number {
        /// Which parameter.
        param: i64,
        /// How much.
        quantity: Quantity,
    },
}

impl Row {
    /// Which parameter it is of.
    pub fn param(&self) -> i64 {
        match self {
            Self::Exact { param, .. }
            | Self::Range { param, .. }
            | Self::Text { param, .. }
            | Self::Number { param, .. } => *param,
        }
    }
}

/// All index entries of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The resource's type.
    pub kind: ResourceType,
    /// [`hash`] of the patient whose chart it belongs to; 0 for none.
    pub patient: i64,
    /// The ids of the patients it is about, with spaces between: of the Patient itself, of its subject, or
    /// of who else takes part in it; nobody of an envelope.
    pub patients: String,
    /// Of an envelope, which is about nobody by itself, the ids of those whose records it holds or refers to.
    pub held: String,
    /// Its clinical time in microseconds since 1970 UTC (the start; of an Observation's period the
    /// end), else when it was last updated.
    pub date: i64,
    /// The entries, each once.
    pub rows: Vec<Row>,
}

/// Extracts the index entries of a resource; of more than [`MOST_ROWS`] values not all.
pub fn index(kind: ResourceType, resource: &Json) -> Index {
    let mut rows = Vec::with_capacity(32);
    for parameter in of_type(kind).iter().filter(|parameter| parameter.written()) {
        let param = i64::from(parameter.number);
        for path in &parameter.paths {
            path.visit(resource, &mut |found| {
                if rows.len() > MOST_ROWS {
                    return;
                }
                if parameter.inline {
                    inline(&mut rows, parameter, found.value);
                } else if let [first, others @ ..] = parameter.components.as_slice() {
                    composite(&mut rows, param, first, others, resource, found.value);
                } else {
                    let before = rows.len();
                    let target = path.target.as_deref();
                    add(&mut rows, parameter.kind, param, target, found.value);
                    if target.is_none() && rows.len() == before {
                        rows.push(Row::Exact { param, value: SOMETHING, system: 0 });
                    }
                    readable(&mut rows, parameter, found.value);
                }
            });
        }
    }
    // Of too many not all were made: they must go on being too many.
    if rows.len() <= MOST_ROWS {
        rows.sort_unstable();
        rows.dedup();
    }
    let (patients, held) = match (patients(kind, resource), is_envelope(kind)) {
        (held, true) => (String::new(), held),
        (patients, false) => (patients, String::new()),
    };
    Index { kind, patient: patient(kind, resource), patients, held, date: date(kind, resource, &rows), rows }
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

/// Patients of what an envelope holds, at most: whoever may write one could hold any number.
pub const MOST_HELD: usize = 1000;

/// Is it about what it holds, refers to or is secured by, and nothing by itself?
fn is_envelope(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::BUNDLE | ResourceType::BINARY | ResourceType::LINKAGE)
}

/// The ids of the patients it is about, with spaces between, as far as it says itself: [`Index::patients`], or of an
/// envelope [`Index::held`], [`MOST_HELD`] of them.
pub fn patients(kind: ResourceType, resource: &Json) -> String {
    let mut found: Vec<&str> = Vec::new();
    add_patients(kind, resource, &mut found, &mut HashSet::new());
    if is_envelope(kind) {
        found.truncate(MOST_HELD);
    }
    found.join(" ")
}

/// Adds those who are not known yet.
fn add_patients<'j>(
    kind: ResourceType,
    resource: &'j Json,
    found: &mut Vec<&'j str>,
    known: &mut HashSet<&'j str>,
) {
    let mut add = |id: &'j str| {
        if !id.is_empty() && known.insert(id) {
            found.push(id);
        }
    };
    let subject = ["subject", "patient", "for", "securityContext"].iter().find_map(|member| {
        let id = resource.get(member)?.text("reference")?.strip_prefix("Patient/")?.split('/').next()?;
        (!id.is_empty()).then_some(id)
    });
    match kind {
        ResourceType::PATIENT => resource.text("id").into_iter().for_each(add),
        ResourceType::BUNDLE => {
            for resource in resource.list("entry").iter().filter_map(|entry| entry.get("resource")) {
                if let Some(kind) = resource.text("resourceType").and_then(ResourceType::parse) {
                    add_patients(kind, resource, found, known);
                }
            }
        }
        _ => {
            // A List is about its members too.
            let more = if subject.is_none() { participants(kind) } else { &[] };
            subject.into_iter().for_each(&mut add);
            let members = parameter(kind, "item").filter(|_| kind == ResourceType::LIST);
            for parameter in more.iter().copied().chain(members) {
                references(parameter, resource, &mut |kind, id| {
                    if kind == ResourceType::PATIENT {
                        add(id);
                    }
                });
            }
        }
    }
}

/// An Observation over a period is as new as the end of it: its state is of then, and a chart must
/// not hide it behind what began later.
fn date(kind: ResourceType, resource: &Json, rows: &[Row]) -> i64 {
    if kind == ResourceType::OBSERVATION
        && let Some(end) = resource.at(&["effectivePeriod", "end"]).and_then(Json::as_str)
        && let Some(span) = time::parse(end)
    {
        return span.low;
    }
    let clinical = parameter(kind, "date").and_then(|wanted| {
        rows.iter().find_map(|row| match row {
            Row::Range { param, low, high } if wanted.params.contains(param) => {
                Some(if *low == i64::MIN { *high } else { *low })
            }
            _ => None,
        })
    });
    let updated = || resource.at(&["meta", "lastUpdated"]).and_then(Json::as_str).and_then(time::parse);
    clinical.or_else(|| updated().map(|span| span.low)).unwrap_or(0)
}

/// The parameter of a composite together with its first part: a second part found under it belongs
/// to the same element.
pub(crate) fn narrowed(param: i64, first: i64) -> i64 {
    hash_text(&format!("{param} {first}"))
}

/// The first part of a composite as a query may name it: with its system or without.
pub(crate) fn coded(system: Option<&str>, code: &str) -> i64 {
    match system {
        Some(system) => hash_text(&format!("{system}|{code}")),
        None => hash_text(code),
    }
}

fn composite(
    rows: &mut Vec<Row>,
    param: i64,
    first: &Component,
    others: &[Component],
    resource: &Json,
    value: &Json,
) {
    let Some(second) = others.first() else { return };
    let number = matches!(second.kind, Kind::Number | Kind::Quantity);
    let mut firsts = Vec::new();
    each(&first.paths, resource, value, &mut |value| match first.kind {
        Kind::Token => codes(value, &mut |code, system| {
            firsts.push((coded(None, code), system.map_or(0, hash_text)));
            if !number {
                firsts.push((coded(Some(system.unwrap_or_default()), code), 0));
            }
        }),
        Kind::Reference => {
            if let Some(Reference::Local { kind, id, .. }) =
                value.text("reference").map(|text| reference::parse(text, ""))
            {
                firsts.push((hash(kind, id), 0));
            }
        }
        _ => {}
    });
    let numbers = |of: &Component| {
        let mut found = Vec::new();
        each(&of.paths, resource, value, &mut |value| found.extend(number::recorded(value)));
        found
    };
    for (first, system) in firsts {
        let param = narrowed(param, first);
        if let Some(third) = others.get(1) {
            // One row says both numbers, so that both are of one element. Numbers have no code and no
            // system: the last one lies there once more, because these tell rows apart.
            for one in numbers(second) {
                for Quantity { extent: last, .. } in numbers(third) {
                    let (code, system_of_code) = (last.low, last.high);
                    let quantity =
                        Quantity { label: system, canonical: last, code, system: system_of_code, ..one };
                    rows.push(Row::Number { param, quantity });
                }
            }
            continue;
        }
        each(&second.paths, resource, value, &mut |value| match number::recorded(value).filter(|_| number) {
            Some(quantity) => {
                rows.push(Row::Number { param, quantity: Quantity { label: system, ..quantity } });
                // There the unit as people read it has no place of its own.
                if quantity.label != 0 {
                    let named =
                        Quantity { code: quantity.label, system: 0, unit: 0, label: system, ..quantity };
                    rows.push(Row::Number { param, quantity: named });
                }
            }
            None => add(rows, second.kind, param, None, value),
        });
    }
}

/// A resource in the place of a reference to it.
fn inline(rows: &mut Vec<Row>, parameter: &Parameter, value: &Json) {
    let kind = value.text("resourceType").and_then(ResourceType::parse);
    if let Some(kind) = kind.filter(|kind| parameter.targets.contains(kind)) {
        let value = value.text("id").map_or(SOMETHING, |id| hash(kind, id));
        rows.push(Row::Exact { param: i64::from(parameter.number), value, system: 0 });
    }
}

fn each<'a, 'j>(
    paths: &[Path],
    resource: &'a Json<'j>,
    value: &'a Json<'j>,
    act: &mut dyn FnMut(&'a Json<'j>),
) {
    for path in paths {
        path.visit(if path.of_resource { resource } else { value }, &mut |found| act(found.value));
    }
}

fn add(rows: &mut Vec<Row>, kind: Kind, param: i64, target: Option<&str>, value: &Json) {
    match kind {
        Kind::Token => token(rows, param, value),
        Kind::Reference => {
            if let Some(identifier) = value.get("identifier") {
                codes(identifier, &mut |code, system| {
                    let value = identified(code);
                    rows.push(Row::Exact { param, value, system: system.map_or(0, hash_text) });
                });
                if let (None, Some(system)) = (identifier.text("value"), identifier.text("system")) {
                    rows.push(Row::Exact { param, value: SOMETHING, system: hash_text(system) });
                }
            }
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
                        // A canonical may name a version; without it, it is found too.
                        if let Some((bare, _)) = text.split_once('|') {
                            rows.push(Row::Exact { param, value: hash_text(bare), system: 0 });
                        }
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
        Kind::Number | Kind::Quantity => {
            if let Some(quantity) = number::recorded(value) {
                rows.push(Row::Number { param, quantity });
            }
        }
        Kind::Composite | Kind::Special => {}
    }
}

/// What is compared with `:identifier`.
pub fn identified(value: &str) -> i64 {
    hash_text(&format!("identifier {value}"))
}

/// What stands for a [`fold`]ed text.
pub fn textual(text: &str) -> i64 {
    hash_text(&format!("text {text}"))
}

/// What is compared with `:of-type`.
pub(crate) fn of_a_type(system: &str, code: &str, value: &str) -> i64 {
    hash_text(&format!("of-type {system}|{code}|{value}"))
}

/// The codes of a code, Coding, CodeableConcept, Identifier or ContactPoint, with their systems.
fn codes<'a>(value: &'a Json, each: &mut dyn FnMut(&'a str, Option<&'a str>)) {
    match value {
        Json::String(code) => each(code, None),
        Json::Bool(flag) => each(if *flag { "true" } else { "false" }, None),
        Json::Object(_) => {
            let codings = value.list("coding");
            for coding in codings {
                if let Some(code) = coding.text("code") {
                    each(code, coding.text("system"));
                }
            }
            // A Coding has a code; an Identifier or ContactPoint has a value.
            if codings.is_empty()
                && let Some(code) = value.text("code").or_else(|| value.text("value"))
            {
                each(code, value.text("system"));
            }
        }
        _ => {}
    }
}

fn token(rows: &mut Vec<Row>, param: i64, value: &Json) {
    codes(value, &mut |code, system| {
        rows.push(Row::Exact { param, value: hash_text(code), system: system.map_or(0, hash_text) });
    });
    // `system|` asks for the system, whatever the code: also where there is none.
    let bare = value
        .list("coding")
        .iter()
        .chain([value])
        .filter(|one| one.text("code").or(one.text("value")).is_none());
    for system in bare.filter_map(|one| one.text("system")) {
        rows.push(Row::Exact { param, value: SOMETHING, system: hash_text(system) });
    }
    if let (Some(text), Some(of)) = (value.text("value"), value.get("type")) {
        codes(of, &mut |code, system| {
            let value = of_a_type(system.unwrap_or_default(), code, text);
            rows.push(Row::Exact { param, value, system: 0 });
        });
    }
}

/// What people read of a code, for `:text`, and an address for `:below`. Components, the combined
/// parameters and what nearly every resource has go without: their rows would be the most by far.
fn readable(rows: &mut Vec<Row>, parameter: &Parameter, value: &Json) {
    let param = i64::from(parameter.number);
    let mut push = |text: String| rows.push(Row::Text { param, text });
    match parameter.kind {
        Kind::Token if reads(parameter) => {
            value.text("text").map(fold).into_iter().for_each(&mut push);
            let codings = value.list("coding").iter().chain(std::iter::once(value));
            codings.filter_map(|coding| coding.text("display")).map(fold).for_each(&mut push);
            // Of an identifier its type.
            let of = value.get("type").and_then(|of| of.text("text"));
            of.map(fold).into_iter().for_each(&mut push);
        }
        Kind::Uri if reads(parameter) => value.as_str().map(address).into_iter().for_each(&mut push),
        _ => {}
    }
}

/// An address as `:below` compares it: there, case counts (<https://hl7.org/fhir/R4/search.html#uri>).
pub(crate) fn address(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// Are there texts for `:text` and `:below`?
pub(crate) fn reads(parameter: &Parameter) -> bool {
    !["combo-", "component-", "_"].iter().any(|start| parameter.code.starts_with(start))
}

/// A date, a Period (an open end is for ever), or a Timing's bounds and events.
fn span(value: &Json) -> Option<Span> {
    if let Some(text) = value.as_str() {
        return time::parse(text);
    }
    if value.get("start").is_some() || value.get("end").is_some() {
        return Some(Span::of_period(value));
    }
    let bounds = value.at(&["repeat", "boundsPeriod"]).and_then(span);
    value
        .list("event")
        .iter()
        .filter_map(span)
        .chain(bounds)
        .reduce(|a, b| Span { low: a.low.min(b.low), high: a.high.max(b.high) })
}

/// Without case and accents, and no longer than is kept.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.chars().take(LONGEST).map(|c| c.to_ascii_lowercase()).collect();
    }
    // By way of capitals: ß is written SS in them.
    let folded = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_uppercase);
    let plain = folded.flat_map(char::to_lowercase);
    plain.filter(|c| *c != '\0').take(LONGEST).collect()
}

fn text(rows: &mut Vec<Row>, param: i64, value: &Json) {
    match value {
        Json::String(text) => {
            rows.push(Row::Text { param, text: fold(text) });
            rows.push(Row::Exact { param, value: hash_text(text), system: 0 });
        }
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

/// What a resource is ordered by.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Order {
    /// A moment or an ordered number.
    Number(i64),
    /// A text.
    Text(String),
}

/// The value of a parameter that a resource is ordered by: the least, or the greatest if the order
/// descends; none if it has none.
pub fn order(parameter: &Parameter, resource: &Json, descending: bool) -> Option<Order> {
    let mut best: Option<Order> = None;
    let mut take = |order: Order| {
        let better = best.as_ref().is_none_or(|best| if descending { order > *best } else { order < *best });
        if better {
            best = Some(order);
        }
    };
    each(&parameter.paths, resource, resource, &mut |value| match parameter.kind {
        Kind::Token => codes(value, &mut |code, _| take(Order::Text(code.to_owned()))),
        Kind::Reference | Kind::Uri => {
            let text = value.text("reference").or_else(|| value.as_str());
            if let Some(text) = text {
                take(Order::Text(text.to_owned()));
            }
        }
        Kind::Date => {
            if let Some(span) = span(value) {
                take(Order::Number(if descending { span.high } else { span.low }));
            }
        }
        Kind::String => {
            let mut rows = Vec::new();
            text(&mut rows, 0, value);
            for row in rows {
                if let Row::Text { text, .. } = row {
                    take(Order::Text(text));
                }
            }
        }
        Kind::Number | Kind::Quantity => {
            if let Some(Quantity { canonical, .. }) = number::recorded(value) {
                take(Order::Number(if descending { canonical.high } else { canonical.low }));
            }
        }
        Kind::Composite | Kind::Special => {}
    });
    best
}

/// Calls `each` with every reference on this server that the parameter finds in a resource.
pub fn references<'j>(
    parameter: &Parameter,
    resource: &'j Json,
    each_one: &mut dyn FnMut(ResourceType, &'j str),
) {
    for path in &parameter.paths {
        path.visit(resource, &mut |found| {
            let text = found.value.text("reference").or_else(|| found.value.as_str());
            if let Some(Reference::Local { kind, id, .. }) = text.map(|text| reference::parse(text, ""))
                && path.target.as_deref().is_none_or(|wanted| wanted == kind.name())
            {
                each_one(kind, id);
            }
        });
    }
}
