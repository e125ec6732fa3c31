//! Numbers and quantities: implied precision, prefixes, units
//! (<https://hl7.org/fhir/R4/search.html#number>, <https://hl7.org/fhir/R4/search.html#quantity>).

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use crate::json::Json;
use crate::reference::hash_text;

/// The system of UCUM codes.
const UCUM: &str = "http://unitsofmeasure.org";
const CURRENCY: &str = "urn:iso:std:iso:4217";
/// Units come from outside; no more of them are remembered than this, and none that is longer.
const REMEMBERED: usize = 4096;
const LONGEST: usize = 64;

/// A whole number in the order of the number it stands for, so that one column type serves all.
pub(crate) fn ordered(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits().cast_signed(); // -0 is 0
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// A decimal as a query has it: the number, and the half-open span its digits imply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decimal {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Decimal {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, Some(exponent.parse::<i32>().ok()?)),
            None => (text, None),
        };
        let (sign, unsigned) = digits.strip_prefix('-').map_or((1, digits), |rest| (-1, rest));
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all = [whole, fraction].concat();
        let plain = !whole.is_empty() && all.len() <= 30 && all.bytes().all(|b| b.is_ascii_digit());
        if !plain
            || (unsigned.contains('.') && fraction.is_empty())
            || exponent.is_some_and(|e| e.abs() > 400)
        {
            return None;
        }
        let mantissa: i128 = sign * all.parse::<i128>().ok()?;
        let last = exponent.unwrap_or(0) - i32::try_from(fraction.len()).ok()?;
        // FHIR's own examples: 100 is [99.5, 100.5), 5.40e-3 is [0.005395, 0.005405); but 1e2, of one
        // digit alone, is [95, 105).
        let alone = exponent.is_some() && all.trim_start_matches('0').len() < 2;
        let (scale, step) = if alone { (100, last - 2) } else { (10, last - 1) };
        let at = |shifted: i128| format!("{shifted}e{step}").parse::<f64>().ok().filter(|n| n.is_finite());
        let middle = mantissa.checked_mul(scale)?;
        Some(Self { value: at(middle)?, low: at(middle - 5)?, high: at(middle + 5)? })
    }
}

/// Where a recorded number lies; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Extent {
    /// The low end, as an ordered whole number.
    pub low: i64,
    /// The high end.
    pub high: i64,
}

/// A recorded quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity {
    /// As recorded.
    pub extent: Extent,
    /// Hash of the unit's code; 0 for none.
    pub code: i64,
    /// Hash of the unit as people read it, where it is another text than the code. In the second
    /// part of a composite: of the first part's system, so that one row serves with and without it.
    pub label: i64,
    /// Hash of the code's system.
    pub system: i64,
    /// Hash of the UCUM unit in base units; 0 for none.
    pub unit: i64,
    /// In base units; as recorded where there is no UCUM unit.
    pub canonical: Extent,
}

/// A unit in terms of base units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canonical {
    /// Hash of the base units.
    pub(crate) unit: i64,
    pub(crate) factor: f64,
    pub(crate) offset: f64,
}

static KNOWN: LazyLock<RwLock<HashMap<String, Option<Canonical>>>> = LazyLock::new(RwLock::default);

/// A UCUM unit in base units, remembered.
pub(crate) fn canonical(code: &str) -> Option<Canonical> {
    if code.len() > LONGEST {
        return None;
    }
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(code) {
        return *known;
    }
    let found = octofhir_ucum::get_canonical_units(code).ok().and_then(|canonical| {
        let factor = canonical.factor.to_f64();
        // To UCUM a mole is a number; 1 mmol/L is no count of cells all the same.
        let amount = if code.contains("mol") || code.contains("eq") { "mol " } else { "" };
        let unit = hash_text(&format!("{amount}{}", canonical.unit));
        (factor.is_finite() && factor > 0.0).then(|| Canonical {
            unit,
            factor,
            offset: canonical.offset.to_f64(),
        })
    });
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() < REMEMBERED {
        known.insert(code.to_owned(), found);
    }
    found
}

impl Canonical {
    /// Twelve digits: what a conversion does to the last ones must not decide a comparison.
    fn apply(self, value: f64) -> i64 {
        let exact = value * self.factor + self.offset;
        ordered(format!("{exact:.11e}").parse().unwrap_or(exact))
    }
}

fn number(value: &Json, member: &str) -> Option<f64> {
    value.get(member)?.as_number()?.parse().ok()
}

/// Reads a number, a Quantity (Money, Age …) or a Range.
pub(crate) fn recorded(value: &Json) -> Option<Quantity> {
    if let Some(text) = value.as_number() {
        let extent = point(text.parse().ok()?);
        return Some(Quantity { extent, canonical: extent, ..Quantity::default() });
    }
    let (low, high, of) = match (value.get("low"), value.get("high")) {
        (None, None) => {
            let number = number(value, "value")?;
            // `<5` says no more than that it is below; 5 itself it is not.
            match value.text("comparator") {
                Some("<" | "<=") => (None, Some(number), value),
                Some(">" | ">=") => (Some(number), None, value),
                _ => (Some(number), Some(number), value),
            }
        }
        (low, high) => {
            let end = |end: Option<&Json>| end.and_then(|end| number(end, "value"));
            (end(low), end(high), low.or(high)?)
        }
    };
    let inner = |mut extent: Extent| {
        match value.text("comparator") {
            Some("<") => extent.high = extent.high.saturating_sub(1),
            Some(">") => extent.low = extent.low.saturating_add(1),
            _ => {}
        }
        extent
    };
    let extent = inner(Extent { low: low.map_or(i64::MIN, ordered), high: high.map_or(i64::MAX, ordered) });
    let (code, system) = match of.text("currency") {
        Some(currency) => (Some(currency), Some(CURRENCY)),
        None => (of.text("code"), of.text("system")),
    };
    let label = of.text("unit").filter(|label| Some(*label) != code);
    let ucum = code.filter(|_| system == Some(UCUM)).and_then(canonical);
    let end = |end: Option<f64>, open: i64, unit: Canonical| end.map_or(open, |end| unit.apply(end));
    Some(Quantity {
        extent,
        code: code.map_or(0, hash_text),
        label: label.map_or(0, hash_text),
        system: system.map_or(0, hash_text),
        unit: ucum.map_or(0, |unit| unit.unit),
        canonical: ucum.map_or(extent, |unit| {
            inner(Extent { low: end(low, i64::MIN, unit), high: end(high, i64::MAX, unit) })
        }),
    })
}

fn point(value: f64) -> Extent {
    Extent { low: ordered(value), high: ordered(value) }
}

/// Which unit a number must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Whatever it is.
    Any,
    /// A code or a text, of any system.
    Named(i64),
    /// A code of a system.
    Coded {
        /// Hash of the system.
        system: i64,
        /// Hash of the code.
        code: i64,
    },
    /// What converts to these base units; the numbers are in them.
    Canonical(i64),
}

/// The numbers of a query, in the unit they are compared in.
pub(crate) fn asked(text: &str, system: Option<&str>, code: Option<&str>) -> Option<(Unit, [i64; 3])> {
    let decimal = Decimal::parse(text)?;
    let plain = [decimal.value, decimal.low, decimal.high];
    let (unit, convert) = match (system, code) {
        (_, None) => (Unit::Any, None),
        (Some(UCUM), Some(code)) => match canonical(code) {
            Some(found) => (Unit::Canonical(found.unit), Some(found)),
            None => (Unit::Coded { system: hash_text(UCUM), code: hash_text(code) }, None),
        },
        (Some(system), Some(code)) => {
            (Unit::Coded { system: hash_text(system), code: hash_text(code) }, None)
        }
        (None, Some(code)) => (Unit::Named(hash_text(code)), None),
    };
    Some((unit, plain.map(|number| convert.map_or_else(|| ordered(number), |unit| unit.apply(number)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, parse};

    fn span(text: &str) -> Option<(f64, f64)> {
        Decimal::parse(text).map(|decimal| (decimal.low, decimal.high))
    }

    #[test]
    fn digits_imply_a_span() {
        assert_eq!(span("100"), Some((99.5, 100.5)));
        assert_eq!(span("100.00"), Some((99.995, 100.005)));
        assert_eq!(span("1e2"), Some((95.0, 105.0)));
        assert_eq!(span("5.4"), Some((5.35, 5.45)));
        assert_eq!(span("-2.0"), Some((-2.05, -1.95)));
        assert_eq!(span("0"), Some((-0.5, 0.5)));
        for wrong in ["", ".5", "5.", "1e", "1e999", "NaN", "inf", "+1", "1,5", "--1"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_order_is_kept() {
        let all = [f64::MIN, -2.5, -1e-300, 0.0, 1e-300, 1.0, 5.4, 1e300];
        assert!(all.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }

    #[test]
    fn units_meet_in_base_units() {
        let read = |text: &str| recorded(&parse(text.as_bytes(), &Limits::default()).unwrap()).unwrap();
        let grams = read(r#"{"value":5.4,"code":"g","system":"http://unitsofmeasure.org"}"#);
        let milli = read(r#"{"value":5400,"unit":"mg","code":"mg","system":"http://unitsofmeasure.org"}"#);
        assert_eq!((grams.unit, grams.canonical), (milli.unit, milli.canonical));
        assert_ne!(grams.extent, milli.extent);
        let (unit, [value, ..]) = asked("0.0054", Some(UCUM), Some("kg")).unwrap();
        assert_eq!(unit, Unit::Canonical(grams.unit));
        assert_eq!(value, grams.canonical.low);
        let cells = read(r#"{"value":1,"code":"10*3/L","system":"http://unitsofmeasure.org"}"#);
        let amount = read(r#"{"value":1,"code":"mmol/L","system":"http://unitsofmeasure.org"}"#);
        assert_ne!(cells.unit, amount.unit);
        assert_eq!(read(r#"{"value":5,"comparator":"<"}"#).extent.low, i64::MIN);
        assert_eq!(read(r#"{"low":{"value":1},"high":{"value":2}}"#).extent.high, ordered(2.0));
    }
}
