//! Fixed values, patterns and bounds
//! (<https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_>).

use std::cmp::Ordering;

use rust_decimal::Decimal;

use crate::json::Json;
use crate::time;

/// Is it the same value? Numbers count by what they are, keys in any order.
pub(super) fn is_fixed(value: &Json, fixed: &Json) -> bool {
    match (value, fixed) {
        (Json::Object(own), Json::Object(wanted)) => {
            own.len() == wanted.len()
                && wanted.iter().all(|(key, one)| own.get(key).is_some_and(|value| is_fixed(value, one)))
        }
        (Json::Array(own), Json::Array(wanted)) => {
            own.len() == wanted.len() && own.iter().zip(wanted).all(|(value, one)| is_fixed(value, one))
        }
        (Json::Number(own), Json::Number(wanted)) => own == wanted || number(own) == number(wanted),
        _ => value == fixed,
    }
}

/// Does it have all that the pattern has?
pub(super) fn fits(value: &Json, pattern: &Json) -> bool {
    match (value, pattern) {
        (Json::Object(own), Json::Object(wanted)) => {
            wanted.iter().all(|(key, one)| own.get(key).is_some_and(|value| fits(value, one)))
        }
        (Json::Array(own), Json::Array(wanted)) => {
            wanted.iter().all(|one| own.iter().any(|value| fits(value, one)))
        }
        _ => is_fixed(value, pattern),
    }
}

/// How a value compares to a bound; none where they have no order.
pub(super) fn order(value: &Json, bound: &Json) -> Option<Ordering> {
    match (value, bound) {
        (Json::Number(own), Json::Number(bound)) => number(own)?.partial_cmp(&number(bound)?),
        (Json::String(own), Json::String(bound)) => {
            let (own, bound) = (time::parse(own)?, time::parse(bound)?);
            match (own.high < bound.low, own.low > bound.high) {
                (true, _) => Some(Ordering::Less),
                (_, true) => Some(Ordering::Greater),
                _ => Some(Ordering::Equal),
            }
        }
        (Json::Object(own), Json::Object(wanted)) => {
            let same = own.get("system") == wanted.get("system") && own.get("code") == wanted.get("code");
            order(own.get("value").filter(|_| same)?, wanted.get("value")?)
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<Decimal> {
    text.parse().ok().or_else(|| Decimal::from_scientific(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, parse};

    fn json(text: &'static str) -> Json<'static> {
        parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn values_are_compared_by_what_they_are() {
        assert!(is_fixed(&json("1.0"), &json("1")) && is_fixed(&json("1e2"), &json("100.00")));
        assert!(is_fixed(&json(r#"{"a":1,"b":"x"}"#), &json(r#"{"b":"x","a":1}"#)));
        assert!(!is_fixed(&json(r#"{"a":1,"b":"x"}"#), &json(r#"{"b":"x"}"#)));
        let value = json(r#"{"coding":[{"code":"a"},{"system":"s","code":"b"}],"text":"t"}"#);
        assert!(fits(&value, &json(r#"{"coding":[{"code":"b"}]}"#)));
        assert!(!fits(&value, &json(r#"{"coding":[{"system":"s","code":"a"}]}"#)));
    }

    #[test]
    fn bounds_have_an_order_where_units_and_kinds_agree() {
        assert_eq!(order(&json("2"), &json("10")), Some(Ordering::Less));
        assert_eq!(order(&json(r#""2020-01""#), &json(r#""2019-12-31""#)), Some(Ordering::Greater));
        let (one, other) = (json(r#"{"value":1,"code":"mg"}"#), json(r#"{"value":2,"code":"g"}"#));
        assert_eq!(order(&one, &other), None);
        assert_eq!(order(&json("1"), &json(r#""a""#)), None);
    }
}
