//! Functions of strings, and conversions (<http://hl7.org/fhirpath/N1/#string-manipulation>,
//! <http://hl7.org/fhirpath/N1/#conversion>).

use std::borrow::Cow;
use std::fmt::Write;

use regex::{Regex, RegexBuilder};
use rust_decimal::Decimal;

use super::Error;
use super::evaluate::{Answer, Evaluator, Frame};
use super::parser::{Call, Expr};
use super::quantity::{Quantity, Unit, decimal};
use super::temporal::{Kind, Temporal};
use super::value::Item;
use crate::primitive;

/// What a pattern may take compiled, in bytes: the largest of the specification needs half of it.
const PATTERN: usize = 1 << 20;
/// Steps that compiling one is counted as.
const COMPILING: usize = 20_000;
/// Steps that matching one byte is counted as: a large pattern can be slow.
const MATCHING: usize = 4;
/// Longer texts are not made.
const LONGEST: usize = 4 << 20;

#[expect(clippy::unnecessary_wraps, reason = "all arms of the calls read alike")]
fn boolean<'a>(truth: bool) -> Answer<'a> {
    Ok(vec![Item::Boolean(truth)])
}

#[expect(clippy::unnecessary_wraps, reason = "all arms of the calls read alike")]
fn one(text: impl Into<String>) -> Result<Vec<Item<'static>>, Error> {
    Ok(vec![Item::String(Cow::Owned(text.into()))])
}

/// Calls a function of this file.
pub(super) fn call<'a>(
    evaluator: &Evaluator<'a>,
    call: &'a Call,
    items: &[Item<'a>],
    frame: &Frame<'a>,
) -> Answer<'a> {
    let name = call.function.name;
    if name == "join" {
        return join(evaluator, call, items, frame);
    }
    let Some(item) = Evaluator::single(items)? else { return Ok(Vec::new()) };
    if let Item::String(text) = &item {
        evaluator.charge(text.len() / 16)?;
    }
    if let Some(kind) = name.strip_prefix("convertsTo") {
        return boolean(converted(kind, &item).is_some());
    }
    if let Some(kind) = name.strip_prefix("to").filter(|kind| *kind != "Chars") {
        let result = converted(kind, &item);
        return match (&item, kind, call.arguments.as_slice()) {
            (_, "Quantity", [unit]) => in_unit(result, evaluator.text(unit, frame)?),
            _ => Ok(result.into_iter().collect()),
        };
    }
    let Item::String(text) = item else { return Err(Error::Type("a String is needed")) };
    let arguments = call.arguments.as_slice();
    match (name, arguments) {
        ("length", []) => count(Some(text.chars().count())),
        ("upper", []) => one(text.to_uppercase()),
        ("lower", []) => one(text.to_lowercase()),
        ("trim", []) => one(text.trim()),
        ("toChars", []) => {
            evaluator.charge(text.len())?;
            Ok(text.chars().map(|c| Item::String(c.to_string().into())).collect())
        }
        ("substring", [start, rest @ ..]) => {
            let start = evaluator.integer(start, frame)?;
            let length = match rest {
                [length] => evaluator.integer(length, frame)?,
                _ => None,
            };
            Ok(substring(&text, start, length).map(|text| Item::String(text.into())).into_iter().collect())
        }
        (_, [argument, rest @ ..]) => {
            let Some(argument_text) = evaluator.text(argument, frame)? else { return Ok(Vec::new()) };
            let replacement = match rest {
                [replacement] => match evaluator.text(replacement, frame)? {
                    Some(replacement) => replacement,
                    None => return Ok(Vec::new()),
                },
                _ => Cow::Borrowed(""),
            };
            with_text(evaluator, call, &text, argument, &argument_text, &replacement)
        }
        (name, _) => Err(Error::Unsupported(name.to_owned())),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "all arms of the calls read alike")]
fn count<'a>(number: Option<usize>) -> Answer<'a> {
    Ok(number.and_then(|number| i64::try_from(number).ok()).map(Item::Integer).into_iter().collect())
}

/// Functions whose arguments are texts.
fn with_text<'a>(
    evaluator: &Evaluator<'a>,
    call: &'a Call,
    text: &str,
    argument: &'a Expr,
    other: &str,
    replacement: &str,
) -> Answer<'a> {
    // What is looked for is prepared before, however short the text is that it is looked for in.
    evaluator.charge((other.len() + replacement.len()) / 16)?;
    if call.function.name.contains("atches") {
        evaluator.charge(text.len().saturating_mul(MATCHING))?;
    }
    match call.function.name {
        "startsWith" => boolean(text.starts_with(other)),
        "endsWith" => boolean(text.ends_with(other)),
        "contains" => boolean(text.contains(other)),
        "indexOf" | "lastIndexOf" => {
            let at = if call.function.name == "indexOf" { text.find(other) } else { text.rfind(other) };
            let characters = at.and_then(|at| text.get(..at)).map(|before| before.chars().count());
            match characters {
                None => Ok(vec![Item::Integer(-1)]),
                found => count(found),
            }
        }
        "split" => {
            evaluator.charge(text.len() / 4)?;
            let all = |text: &str| Item::String(text.to_owned().into());
            if other.is_empty() {
                return Ok(text.chars().map(|c| Item::String(c.to_string().into())).collect());
            }
            Ok(text.split(other).map(all).collect())
        }
        "replace" => {
            // At least as many places as it could be in, so that the length is known before.
            let places = text.len() / other.len().max(1) + 1;
            long_enough(evaluator, text.len().saturating_add(places.saturating_mul(replacement.len())))?;
            one(text.replace(other, replacement))
        }
        "matches" => boolean(pattern(evaluator, call, argument, other, false)?.is_match(text)),
        "matchesFull" => boolean(pattern(evaluator, call, argument, other, true)?.is_match(text)),
        "replaceMatches" => {
            if other.is_empty() {
                return one(text);
            }
            // All matches together are no longer than the text, so that no group is either.
            let groups = replacement.matches('$').count().saturating_mul(text.len());
            let literal = (text.len() + 1).saturating_mul(replacement.len());
            long_enough(evaluator, text.len().saturating_add(groups).saturating_add(literal))?;
            let pattern = pattern(evaluator, call, argument, other, false)?;
            one(pattern.replace_all(text, bracketed(replacement)))
        }
        "encode" => encode(text, other),
        "decode" => Ok(decode(text, other)?.map(|text| Item::String(text.into())).into_iter().collect()),
        "escape" => escape(text, other),
        "unescape" => unescape(text, other),
        name => Err(Error::Unsupported(name.to_owned())),
    }
}

fn long_enough(evaluator: &Evaluator<'_>, length: usize) -> Result<(), Error> {
    if length > LONGEST {
        return Err(Error::TooCostly);
    }
    evaluator.charge(length / 16)
}

/// `$1x` is the first group and an x; the library would take it for the group `1x`.
fn bracketed(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut parts = replacement.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        match part.split_at_checked(digits) {
            Some((number, rest)) if digits > 0 => {
                let _ = write!(out, "${{{number}}}{rest}");
            }
            _ => {
                out.push('$');
                out.push_str(part);
            }
        }
    }
    out
}

/// A pattern written as a literal is compiled once for all evaluations.
fn pattern<'a>(
    evaluator: &Evaluator<'a>,
    call: &'a Call,
    argument: &Expr,
    text: &str,
    whole: bool,
) -> Result<Cow<'a, Regex>, Error> {
    let compile = || {
        let text = if whole { Cow::Owned(format!("^(?:{text})$")) } else { Cow::Borrowed(text) };
        RegexBuilder::new(&text).dot_matches_new_line(true).size_limit(PATTERN).build().ok()
    };
    let compiled = if matches!(argument, Expr::Literal(_)) {
        if call.pattern.get().is_none() {
            evaluator.charge(COMPILING)?;
        }
        call.pattern.get_or_init(compile).as_ref().map(Cow::Borrowed)
    } else {
        evaluator.charge(COMPILING + text.len())?;
        compile().map(Cow::Owned)
    };
    compiled.ok_or(Error::Type("not a regular expression"))
}

fn substring(text: &str, start: Option<i64>, length: Option<i64>) -> Option<String> {
    let start = usize::try_from(start?).ok()?;
    let mut rest = text.chars().skip(start).peekable();
    rest.peek()?;
    let length = length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(0));
    Some(rest.take(length).collect())
}

fn join<'a>(evaluator: &Evaluator<'a>, call: &'a Call, items: &[Item<'a>], frame: &Frame<'a>) -> Answer<'a> {
    let separator = match call.arguments.as_slice() {
        [separator] => evaluator.text(separator, frame)?.unwrap_or_default(),
        _ => Cow::Borrowed(""),
    };
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        let Some(text) = item.text() else { return Err(Error::Type("Strings are needed")) };
        long_enough(evaluator, out.len() + separator.len() + text.len())?;
        if n > 0 {
            out.push_str(&separator);
        }
        out.push_str(&text);
    }
    if items.is_empty() { Ok(Vec::new()) } else { one(out) }
}

/// Base64 of RFC 4648, with the characters of addresses or without.
fn encode<'a>(text: &str, format: &str) -> Answer<'a> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let address = format == "urlbase64";
    let mut out = String::with_capacity(text.len() * 2);
    match format {
        "hex" => {
            for byte in text.bytes() {
                let _ = write!(out, "{byte:02x}");
            }
        }
        "base64" | "urlbase64" => {
            for three in text.as_bytes().chunks(3) {
                let bits = (0..3)
                    .fold(0_usize, |bits, n| bits << 8 | usize::from(three.get(n).copied().unwrap_or(0)));
                for n in 0..4 {
                    let digit = DIGITS.get(bits >> (18 - 6 * n) & 63).copied().unwrap_or(b'A');
                    out.push(match digit {
                        _ if n > three.len() => '=',
                        b'+' if address => '-',
                        b'/' if address => '_',
                        digit => char::from(digit),
                    });
                }
            }
        }
        _ => return Ok(Vec::new()),
    }
    one(out)
}

fn decode(text: &str, format: &str) -> Result<Option<String>, Error> {
    let bytes = match format {
        "hex" => {
            let digits: Option<Vec<u8>> =
                text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
            let digits = digits.filter(|digits| digits.len() % 2 == 0);
            digits.map(|digits| {
                digits.chunks(2).map(|pair| pair.iter().fold(0_u8, |byte, digit| byte << 4 | digit)).collect()
            })
        }
        "base64" => base64(text),
        "urlbase64" => base64(&text.replace('-', "+").replace('_', "/")),
        _ => return Ok(None),
    };
    let bytes: Vec<u8> = bytes.ok_or(Error::Type("the text is not so encoded"))?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::Type("what is decoded is no text"))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let length = primitive::base64_length(text)?;
    let mut out = Vec::with_capacity(length);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    out.truncate(length);
    Some(out)
}

fn escape<'a>(text: &str, format: &str) -> Answer<'a> {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match (format, c) {
            ("html", '&') => out.push_str("&amp;"),
            ("html", '<') => out.push_str("&lt;"),
            ("html", '>') => out.push_str("&gt;"),
            ("html", '"') => out.push_str("&quot;"),
            ("html", '\'') => out.push_str("&#39;"),
            ("json", '"' | '\\') => out.extend(['\\', c]),
            ("json", '\n') => out.push_str("\\n"),
            ("json", '\r') => out.push_str("\\r"),
            ("json", '\t') => out.push_str("\\t"),
            ("json", c) if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            ("html" | "json", c) => out.push(c),
            _ => return Ok(Vec::new()),
        }
    }
    one(out)
}

fn unescape<'a>(text: &str, format: &str) -> Answer<'a> {
    match format {
        "html" => {
            let plain = text.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<");
            one(plain.replace("&gt;", ">").replace("&amp;", "&"))
        }
        "json" => {
            let mut out = String::with_capacity(text.len());
            let mut characters = text.chars();
            while let Some(c) = characters.next() {
                match if c == '\\' { characters.next() } else { None } {
                    None => out.push(c),
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('u') => {
                        let digits: String = characters.by_ref().take(4).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    Some(c) => out.push(c),
                }
            }
            one(out)
        }
        _ => Ok(Vec::new()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "all arms of the calls read alike")]
fn in_unit<'a>(item: Option<Item<'a>>, unit: Option<Cow<'a, str>>) -> Answer<'a> {
    let (Some(Item::Quantity(quantity)), Some(unit)) = (item, unit) else { return Ok(Vec::new()) };
    Ok(quantity.to_unit(Unit::named(unit)).map(Item::Quantity).into_iter().collect())
}

/// The same value as another type; none where it has no such form.
fn converted<'a>(kind: &str, item: &Item<'a>) -> Option<Item<'a>> {
    match kind {
        "String" => item.display().map(Item::String),
        "Boolean" => truth(item).map(Item::Boolean),
        "Integer" => match item {
            Item::Integer(number) => Some(Item::Integer(*number)),
            Item::Boolean(truth) => Some(Item::Integer((*truth).into())),
            Item::String(text) => text.parse::<i32>().ok().map(|number| Item::Integer(number.into())),
            _ => None,
        },
        "Decimal" => match item {
            Item::Integer(number) => Some(Item::Decimal((*number).into())),
            Item::Decimal(number) => Some(Item::Decimal(*number)),
            Item::Boolean(truth) => Some(Item::Decimal(u8::from(*truth).into())),
            Item::String(text) if !text.contains(['e', 'E']) => decimal(text).map(Item::Decimal),
            _ => None,
        },
        "Date" => temporal(item, Kind::Date),
        "DateTime" => temporal(item, Kind::DateTime),
        "Time" => temporal(item, Kind::Time),
        "Quantity" => match item {
            Item::Boolean(truth) => {
                let value = Decimal::from(u8::from(*truth));
                Some(Item::Quantity(Quantity { value, unit: Unit::Ucum("1".into()) }))
            }
            Item::String(text) => Quantity::read(text).map(|quantity| Item::Quantity(quantity.into_owned())),
            other => other.quantity().map(Item::Quantity),
        },
        _ => None,
    }
}

fn truth(item: &Item<'_>) -> Option<bool> {
    match item {
        Item::Boolean(truth) => Some(*truth),
        Item::Integer(number @ 0..=1) => Some(*number == 1),
        Item::Decimal(number) if number.is_zero() => Some(false),
        Item::Decimal(number) => (*number == Decimal::ONE).then_some(true),
        Item::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
            "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn temporal<'a>(item: &Item<'a>, wanted: Kind) -> Option<Item<'a>> {
    let found = match item {
        Item::String(text) => match (wanted, Temporal::read(Kind::DateTime, text)) {
            (Kind::Date, moment) => moment.map(Temporal::date),
            (Kind::DateTime, moment) => moment,
            (Kind::Time, _) => Temporal::read(Kind::Time, text),
        },
        Item::Temporal(temporal) => match (temporal.kind(), wanted) {
            (kind, wanted) if kind == wanted => Some(*temporal),
            (Kind::DateTime, Kind::Date) => Some(temporal.date()),
            (Kind::Date, Kind::DateTime) => Some(temporal.date_time()),
            _ => None,
        },
        _ => None,
    };
    found.map(Item::Temporal)
}
