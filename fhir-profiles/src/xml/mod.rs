//! FHIR's XML (<https://hl7.org/fhir/R4/xml.html>), to and from the JSON tree that everything else
//! works on. Both ways follow the element table, so what XML can't say (is it an array, a number?)
//! comes from HL7's definitions and not from the document.

mod div;
mod read;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod write;

pub use read::read;
pub use write::{Layout, write};

use crate::schema::Type;

const FHIR: &str = "http://hl7.org/fhir";
const XHTML: &str = "http://www.w3.org/1999/xhtml";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// What a primitive type's value is in JSON (<https://hl7.org/fhir/R4/json.html#primitive>).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Boolean,
    Number,
    Text,
}

impl Shape {
    fn of(primitive: &Type) -> Self {
        match primitive.name {
            "boolean" => Self::Boolean,
            "integer" | "decimal" | "positiveInt" | "unsignedInt" => Self::Number,
            _ => Self::Text,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean is needed",
            Self::Number => "a number is needed",
            Self::Text => "a string is needed",
        }
    }
}

/// JSON's grammar of numbers, which is also FHIR's for decimals: not all that XML Schema allows.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// XML 1.0, production 2: what can't stand in a document, not even by number.
pub(crate) fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}
