//! One value of a parameter as a query has it, and how it is refused.

use super::number::{self, ordered};
use super::query::{DateTest, ExactTest, NumberTest, Prefix};
use crate::outcome::Issue;
use crate::reference::{self, Reference, hash, hash_text};
use crate::resource_type::ResourceType;
use crate::time::{self, Span};

pub(super) fn bad(name: &str, why: &str) -> Issue {
    let shown: String = name.chars().take(64).collect();
    Issue::error("value", format!("search parameter {shown}: {why}"))
}

/// A modifier that is not known would change the answer: it is never left out.
pub(super) fn modifier_unknown(name: &str) -> Issue {
    let shown: String = name.chars().take(64).collect();
    Issue::error("not-supported", format!("search parameter {shown}: the modifier is not supported here"))
}

/// Splits at a separator that is not escaped; the parts keep their escapes.
pub(super) fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == at && !escaped {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        escaped = c == '\\' && !escaped;
        part.push(c);
    }
    parts.push(part);
    parts
}

pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => out.extend(letters.next()),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn token(text: &str) -> ExactTest {
    let parts = split(text, '|');
    let hashed = |part: &String| hash_text(&unescape(part));
    match parts.as_slice() {
        [system, code] => ExactTest {
            value: (!code.is_empty()).then(|| hashed(code)),
            system: Some(if system.is_empty() { 0 } else { hashed(system) }),
        },
        [code] => ExactTest { value: Some(hashed(code)), system: None },
        _ => ExactTest { value: Some(hash_text(text)), system: None },
    }
}

pub(super) fn references(
    targets: &[ResourceType],
    code: &str,
    only: Option<ResourceType>,
    value: &str,
    base: &str,
) -> Vec<ExactTest> {
    let text = unescape(value);
    let exact = |value: i64| ExactTest { value: Some(value), system: None };
    match reference::parse(&text, base) {
        Reference::Local { kind, id, .. } => vec![exact(hash(kind, id))],
        Reference::Other(id) if reference::is_id(id) => match only {
            Some(kind) => vec![exact(hash(kind, id))],
            // `patient` has one type; `subject` several: each of them may be meant.
            None if code == "patient" => vec![exact(hash(ResourceType::PATIENT, id))],
            None => targets.iter().map(|kind| exact(hash(*kind, id))).collect(),
        },
        _ => vec![exact(hash_text(&text))],
    }
}

fn prefixed(text: &str) -> (Prefix, &str) {
    let prefix = match text.get(..2) {
        Some("eq") => Prefix::Eq,
        Some("ne") => Prefix::Ne,
        Some("gt") => Prefix::Gt,
        Some("ge") => Prefix::Ge,
        Some("lt") => Prefix::Lt,
        Some("le") => Prefix::Le,
        Some("sa") => Prefix::Sa,
        Some("eb") => Prefix::Eb,
        Some("ap") => Prefix::Ap,
        _ => return (Prefix::Eq, text),
    };
    (prefix, text.get(2..).unwrap_or_default())
}

pub(super) fn date(text: &str, now: i64) -> Option<DateTest> {
    let (prefix, rest) = prefixed(text);
    // In a query `+` of an offset often arrives as a space.
    let span = time::parse(&rest.replace(' ', "+"))?;
    if prefix != Prefix::Ap {
        return Some(DateTest { prefix, span });
    }
    // A tenth of the time between now and then.
    let width = now.abs_diff(span.low).max(now.abs_diff(span.high)) / 10;
    let width = i64::try_from(width).unwrap_or(i64::MAX);
    let span = Span { low: span.low.saturating_sub(width), high: span.high.saturating_add(width) };
    Some(DateTest { prefix, span })
}

/// `[prefix]number`, and for a quantity `|system|code` behind it.
pub(super) fn quantity(name: &str, value: &str, with_unit: bool) -> Result<NumberTest, Issue> {
    let parts = split(value, '|');
    let (prefix, text) = prefixed(parts.first().map_or("", String::as_str));
    let (system, code) = match parts.as_slice() {
        [_] => (None, None),
        [_, system, code] if with_unit => (Some(unescape(system)), Some(unescape(code))),
        _ => return Err(bad(name, "number or number|system|code is needed")),
    };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (system, code) = (some(system), some(code));
    let wrong = || bad(name, "not a decimal number");
    let (unit, [value, mut low, mut high]) =
        number::asked(text, system.as_deref(), code.as_deref()).ok_or_else(wrong)?;
    if prefix == Prefix::Ap {
        let number: f64 = text.parse().map_err(|_| wrong())?;
        let width = number.abs() / 10.0;
        let end = |at: f64| {
            let asked = number::asked(&format!("{at:.12}"), system.as_deref(), code.as_deref());
            asked.map_or(ordered(at), |(_, [value, ..])| value)
        };
        (low, high) = (end(number - width), end(number + width));
    }
    Ok(NumberTest { prefix, unit, of: None, value, low, high, last: None })
}
