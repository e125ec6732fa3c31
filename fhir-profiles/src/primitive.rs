//! FHIR's primitive types as JSON has them (<https://hl7.org/fhir/R4/datatypes.html#primitive>).

use crate::json::Json;
use crate::reference::is_id;
use crate::time;
use crate::xml::is_forbidden;

/// Why a value is not of a primitive type: wrong JSON type, or wrong content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Another JSON type is needed; its name.
    Shape(&'static str),
    /// The text is not of the type; what would be.
    Content(&'static str),
}

/// Checks one value of the primitive type of that name.
pub(crate) fn check(kind: &str, value: &Json) -> Result<(), Fault> {
    match kind {
        "boolean" => value.as_bool().map(|_| ()).ok_or(Fault::Shape("a boolean")),
        "integer" | "unsignedInt" | "positiveInt" => integer(kind, number(value)?),
        "decimal" => decimal(number(value)?),
        _ => {
            let text = value.as_str().ok_or(Fault::Shape("a string"))?;
            if text.is_empty() {
                return Err(Fault::Content("not empty"));
            }
            if is_text(kind, text) { Ok(()) } else { Err(Fault::Content(form(kind))) }
        }
    }
}

fn number<'a>(value: &'a Json) -> Result<&'a str, Fault> {
    value.as_number().ok_or(Fault::Shape("a number"))
}

fn integer(kind: &str, text: &str) -> Result<(), Fault> {
    let least = match kind {
        "unsignedInt" => 0,
        "positiveInt" => 1,
        _ => i32::MIN,
    };
    match text.parse::<i32>() {
        Ok(number) if number >= least && (kind == "integer" || !text.starts_with('-')) => Ok(()),
        _ => Err(Fault::Content(form(kind))),
    }
}

/// JSON's own grammar is the type's; only its length is bounded, so that nobody has to
/// calculate with a million digits.
fn decimal(text: &str) -> Result<(), Fault> {
    if text.len() <= 128 { Ok(()) } else { Err(Fault::Content("a decimal of at most 128 characters")) }
}

fn is_text(kind: &str, text: &str) -> bool {
    let plain = || !text.contains(is_forbidden);
    let no_space = || !text.contains(is_space) && plain();
    match kind {
        "string" | "markdown" => plain(),
        "code" => code(text) && plain(),
        "id" => is_id(text),
        "uri" | "url" => no_space() && urn(text),
        // HL7's own examples have a canonical urn:oid:X.Y.Z: only the official form is asked for.
        "canonical" => no_space(),
        "oid" => text.strip_prefix("urn:oid:").is_some_and(oid),
        "uuid" => {
            text.strip_prefix("urn:uuid:").is_some_and(uuid)
                && !text.contains(|c: char| c.is_ascii_uppercase())
        }
        "date" => !text.contains('T') && time::parse(text).is_some(),
        "dateTime" => time::parse(text).is_some() && zoned(text) && seconds(text),
        "instant" => text.contains('T') && time::parse(text).is_some() && zoned(text) && seconds(text),
        "time" => clock(text),
        "base64Binary" => base64(text),
        _ => true,
    }
}

/// A URN that says it is a UUID or OID is one.
fn urn(text: &str) -> bool {
    match (text.strip_prefix("urn:uuid:"), text.strip_prefix("urn:oid:")) {
        (Some(rest), _) => uuid(rest.split(['#', '|']).next().unwrap_or_default()),
        (_, Some(rest)) => oid(rest.split(['#', '|']).next().unwrap_or_default()),
        _ => true,
    }
}

fn code(text: &str) -> bool {
    let mut before = true;
    for c in text.chars() {
        let space = is_space(c);
        if space && before {
            return false;
        }
        before = space;
    }
    !before
}

/// White space as the official patterns mean it (`\s`): a no-break space is none.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn oid(text: &str) -> bool {
    let mut arcs = text.split('.');
    let first = arcs.next().is_some_and(|arc| matches!(arc, "0" | "1" | "2"));
    let arc = |arc: &str| {
        !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    };
    first && text.contains('.') && arcs.all(arc)
}

fn uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    lengths && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// A time of day needs a zone, and a dateTime without one has no time of day.
fn zoned(text: &str) -> bool {
    match text.split_once('T') {
        None => true,
        Some((_, clock)) => match clock.rsplit_once(['+', '-']) {
            Some((_, zone)) => zone <= "14:00",
            None => clock.ends_with('Z'),
        },
    }
}

fn seconds(text: &str) -> bool {
    text.split_once('T').is_none_or(|(_, clock)| clock.len() >= 8 && clock.as_bytes().get(5) == Some(&b':'))
}

fn clock(text: &str) -> bool {
    text.len() >= 8
        && !text.contains(['Z', '+', '-'])
        && time::parse(&format!("2000-01-01T{text}Z")).is_some()
}

fn base64(text: &str) -> bool {
    base64_length(text).is_some()
}

/// How many bytes base64 text stands for; none if it is not base64.
pub(crate) fn base64_length(text: &str) -> Option<usize> {
    let mut count = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return None,
        }
        count += 1;
    }
    let whole = count > 0 && count.is_multiple_of(4) && padding <= 2;
    whole.then(|| count / 4 * 3 - padding)
}

fn form(kind: &str) -> &'static str {
    match kind {
        "integer" => "a whole number of 32 bits",
        "unsignedInt" => "a whole number from 0 to 2147483647",
        "positiveInt" => "a whole number from 1 to 2147483647",
        "string" | "markdown" => "text without control characters",
        "code" => "a code without leading, trailing or double spaces",
        "id" => "an id of 1 to 64 letters, digits, - and .",
        "uri" | "url" | "canonical" => "an address without spaces",
        "oid" => "an OID like urn:oid:1.2.3",
        "uuid" => "a UUID like urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "date" => "a date like 2024, 2024-02 or 2024-02-29",
        "dateTime" => "a date, or a date and time with seconds and zone like 2024-02-29T10:00:00Z",
        "instant" => "a date and time with seconds and zone like 2024-02-29T10:00:00Z",
        "time" => "a time of day like 10:00:00",
        "base64Binary" => "base64",
        _ => "a value of the type",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(kind: &str, text: &str) -> bool {
        check(kind, &Json::String(text.into())).is_ok()
    }

    #[test]
    fn texts_are_told_apart() {
        for (kind, good, bad) in [
            ("date", "1973-02-28", "1973-02-30"),
            ("date", "1973", "1973-1"),
            ("dateTime", "2024-01-01T10:00:00+01:00", "2024-01-01T10:00:00"),
            ("dateTime", "2024-01", "2024-01-01T10:00Z"),
            ("instant", "2024-01-01T10:00:00.123Z", "2024-01-01"),
            ("time", "10:00:00", "25:00:00"),
            ("code", "a b", " a"),
            ("code", "CHEST\u{a0}", "a  b"),
            ("code", "a", "a\n"),
            ("canonical", "urn:oid:X.Y.Z", "http://x y"),
            ("uri", "urn:oid:1.2", "urn:oid:X.Y.Z"),
            ("id", "A-1.b", "a_b"),
            ("oid", "urn:oid:1.2.840", "urn:oid:3.2"),
            ("uuid", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:1"),
            ("uri", "http://x/y", "http://x y"),
            ("base64Binary", "QUJD", "QUJ"),
            ("string", "a\tb", "a\u{1}b"),
            ("markdown", "a\u{fffd}b", "a\u{fffe}b"),
            ("code", "a", "a\u{1}b"),
            ("uri", "a", "a\u{ffff}b"),
        ] {
            assert!(is(kind, good), "{kind} {good}");
            assert!(!is(kind, bad), "{kind} {bad}");
        }
    }

    #[test]
    fn numbers_have_their_ranges() {
        let is = |kind: &str, text: &'static str| check(kind, &Json::Number(text.into())).is_ok();
        assert!(is("integer", "-2147483648") && !is("integer", "2147483648") && !is("integer", "1.0"));
        assert!(is("unsignedInt", "0") && !is("unsignedInt", "-1"));
        assert!(is("positiveInt", "1") && !is("positiveInt", "0"));
        assert!(is("decimal", "1E-22"));
        assert_eq!(check("decimal", &Json::String("1".into())), Err(Fault::Shape("a number")));
        assert_eq!(check("boolean", &Json::String("true".into())), Err(Fault::Shape("a boolean")));
    }
    /// The official patterns of 4.0.1 (StructureDefinition regex), with `\s` and `\S` spelt out.
    const YEAR: &str = "([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)";
    const MONTH_DAY: &str = "(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])";
    const CLOCK: &str = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?";
    const ZONE: &str = r"(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))";

    fn official(kind: &str) -> &'static regex::Regex {
        static KNOWN: std::sync::Mutex<Vec<(String, &regex::Regex)>> = std::sync::Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap();
        if let Some((_, regex)) = known.iter().find(|(of, _)| of == kind) {
            return regex;
        }
        let pattern = match kind {
            "date" => format!("{YEAR}(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1]))?)?"),
            "dateTime" => {
                format!("{YEAR}(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])(T{CLOCK}{ZONE})?)?)?")
            }
            "instant" => format!("{YEAR}-{MONTH_DAY}T{CLOCK}{ZONE}"),
            "time" => CLOCK.to_owned(),
            "code" => r"[^ \t\n\r\x0B\x0C]+([ \t\n\r\x0B\x0C][^ \t\n\r\x0B\x0C]+)*".to_owned(),
            "id" => r"[A-Za-z0-9\-\.]{1,64}".to_owned(),
            "oid" => r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+".to_owned(),
            "uuid" => "urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(),
            _ => r"[^ \t\n\r\x0B\x0C]*".to_owned(),
        };
        let regex = Box::leak(Box::new(regex::Regex::new(&format!("^({pattern})$")).unwrap()));
        known.push((kind.to_owned(), regex));
        regex
    }

    /// A day that the calendar has; the patterns know no calendar.
    fn exists(text: &str) -> bool {
        let Some(day) = text.get(..10) else { return true };
        day.parse::<chrono::NaiveDate>().is_ok()
    }

    /// Texts near the types: whole ones of each, and ones with a character changed.
    fn near() -> impl Strategy<Value = String> {
        let date = "(0|1|2)[0-9]{3}(-[0-3][0-9](-[0-4][0-9])?)?";
        let clock = "[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{0,12})?)?";
        let zone = "(Z|[+-][01][0-9]:[0-6][0-9]|)";
        let moment = format!("[12][0-9]{{3}}-[01][0-9]-[0-3][0-9]T{clock}{zone}");
        let uuid = "urn:uuid:[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{11,12}";
        let whole = prop_oneof![
            date,
            proptest::string::string_regex(&moment).unwrap(),
            proptest::string::string_regex(clock).unwrap(),
            proptest::string::string_regex(uuid).unwrap(),
            "urn:oid:[0-3](\\.[0-9]{0,3}){0,4}",
            "[ -~\u{a0}\t\n]{1,12}",
            "[A-Za-z0-9.-]{1,66}",
        ];
        (
            whole,
            any::<proptest::sample::Index>(),
            prop_oneof![3 => Just(None), 1 => any::<char>().prop_map(Some)],
        )
            .prop_map(|(text, at, other)| match other {
                None => text,
                Some(other) => {
                    let at = if text.is_empty() { 0 } else { at.index(text.chars().count()) };
                    text.chars().enumerate().map(|(n, c)| if n == at { other } else { c }).collect()
                }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn the_official_patterns_agree(text in near()) {
            for kind in ["date", "dateTime", "instant", "time", "code", "id", "oid", "uuid", "canonical"] {
                let dated = matches!(kind, "date" | "dateTime" | "instant");
                // The patterns let pass what no XML document can have.
                let plain = !text.is_empty() && !text.contains(is_forbidden);
                let wanted = plain && official(kind).is_match(&text) && (!dated || exists(&text));
                prop_assert_eq!(is(kind, &text), wanted, "{} {:?}", kind, text);
            }
        }

        #[test]
        fn whole_numbers_agree(text in "-?(0|[1-9][0-9]{0,11})") {
            let number: i64 = text.parse().unwrap();
            let is = |kind: &str| check(kind, &Json::Number(text.as_str().into())).is_ok();
            prop_assert_eq!(is("integer"), i32::try_from(number).is_ok());
            prop_assert_eq!(is("unsignedInt"), i32::try_from(number).is_ok() && !text.starts_with('-'));
            prop_assert_eq!(is("positiveInt"), i32::try_from(number).is_ok_and(|number| number > 0));
        }
    }
}
