//! Equality, equivalence and order (<http://hl7.org/fhirpath/N1/#equality>).

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::quantity::{self, decimal};
use super::value::{Item, Meter, is_subtype};
use super::{Error, Node};
use crate::json::Json;

/// JSON from outside is never deeper (`json::Limits`).
const DEEPEST: usize = 80;

fn number(item: &Item<'_>) -> Option<Decimal> {
    match item {
        Item::Integer(number) => Some((*number).into()),
        Item::Decimal(number) => Some(*number),
        _ => None,
    }
}

/// `=` of two items; none where it cannot be told.
pub(super) fn equal(one: &Item<'_>, two: &Item<'_>, meter: &Meter) -> Result<Option<bool>, Error> {
    meter.charge(1 + one.weight() + two.weight())?;
    let (one, two) = (one.system(), two.system());
    if let (Some(one), Some(two)) = (number(&one), number(&two)) {
        return Ok(Some(one == two));
    }
    Ok(match (&one, &two) {
        (Item::Boolean(one), Item::Boolean(two)) => Some(one == two),
        (Item::String(one), Item::String(two)) => {
            meter.charge(one.len() / 64)?;
            Some(one == two)
        }
        (Item::Type(one, a), Item::Type(two, b)) => Some(one == two && a == b),
        (Item::Temporal(one), Item::Temporal(two)) if one.differs_in_kind(two) => Some(false),
        (Item::Temporal(one), Item::Temporal(two)) => one.compare(two).map(Ordering::is_eq),
        (Item::Element(one), Item::Element(two)) => Some(same_node(one, two, meter)?),
        _ => match (one.quantity(), two.quantity()) {
            (Some(a), Some(b)) => match a.compare(&b) {
                Some(order) => Some(order.is_eq()),
                // A month is neither equal to `mo` nor not; another dimension is another quantity.
                None if a.is_calendar() || b.is_calendar() => None,
                None => Some(false),
            },
            _ => Some(false),
        },
    })
}

fn same_node(one: &Node<'_>, two: &Node<'_>, meter: &Meter) -> Result<bool, Error> {
    let same = |one: Option<&Json>, two: Option<&Json>| match (one, two) {
        (Some(one), Some(two)) => Ok(std::ptr::eq(one, two) || same_json(one, two, meter)?),
        (None, None) => Ok(true),
        _ => Ok(false),
    };
    Ok(same(one.value, two.value)? && same(one.sibling, two.sibling)?)
}

/// The order of keys says nothing, the order of items does; `1.0` is `1.00`.
fn same_json(one: &Json, two: &Json, meter: &Meter) -> Result<bool, Error> {
    let mut pairs = vec![(one, two)];
    while let Some((one, two)) = pairs.pop() {
        meter.charge(1)?;
        match (one, two) {
            (Json::Array(one), Json::Array(two)) if one.len() == two.len() => {
                pairs.extend(one.iter().zip(two));
            }
            (Json::Object(one), Json::Object(two)) if one.len() == two.len() => {
                meter.charge(one.len() * one.len() / 16)?;
                for (key, value) in one.iter() {
                    match two.get(key) {
                        Some(other) => pairs.push((value, other)),
                        None => return Ok(false),
                    }
                }
            }
            (Json::Number(one), Json::Number(two)) => {
                if one != two && decimal(one).is_none_or(|one| decimal(two) != Some(one)) {
                    return Ok(false);
                }
            }
            (Json::String(one), Json::String(two)) => {
                meter.charge(one.len() / 64)?;
                if one != two {
                    return Ok(false);
                }
            }
            (Json::Bool(one), Json::Bool(two)) if one == two => {}
            (Json::Null, Json::Null) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Case and kinds of white space are passed over.
fn same_text(one: &str, two: &str, meter: &Meter) -> Result<bool, Error> {
    meter.charge((one.len() + two.len()) / 16)?;
    let folded = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
    Ok(one == two || folded(one) == folded(two))
}

/// `~` of two items.
pub(super) fn equivalent(one: &Item<'_>, two: &Item<'_>, meter: &Meter) -> Result<bool, Error> {
    meter.charge(1 + one.weight() + two.weight())?;
    let (one, two) = (one.system(), two.system());
    if let (Some(one), Some(two)) = (number(&one), number(&two)) {
        return Ok(quantity::equivalent(one, two));
    }
    match (&one, &two) {
        (Item::String(one), Item::String(two)) => same_text(one, two, meter),
        (Item::Element(one), Item::Element(two)) => {
            for pair in [(one.value, two.value), (one.sibling, two.sibling)] {
                let same = match pair {
                    (Some(one), Some(two)) => equivalent_json(one, two, 0, meter)?,
                    (one, two) => one.is_none() && two.is_none(),
                };
                if !same {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => match (one.quantity(), two.quantity()) {
            (Some(one), Some(two)) => Ok(one.equivalent(&two)),
            _ => Ok(equal(&one, &two, meter)?.unwrap_or(false)),
        },
    }
}

fn equivalent_json(one: &Json, two: &Json, depth: usize, meter: &Meter) -> Result<bool, Error> {
    if depth > DEEPEST {
        return Err(Error::TooCostly);
    }
    meter.charge(1)?;
    match (one, two) {
        (Json::Array(one), Json::Array(two)) => {
            unordered(one, two, &mut |one, two| equivalent_json(one, two, depth + 1, meter))
        }
        (Json::Object(one), Json::Object(two)) => {
            if one.len() != two.len() {
                return Ok(false);
            }
            meter.charge(one.len() * one.len() / 16)?;
            for (key, value) in one.iter() {
                let Some(other) = two.get(key) else { return Ok(false) };
                if !equivalent_json(value, other, depth + 1, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Json::String(one), Json::String(two)) => same_text(one, two, meter),
        (Json::Number(a), Json::Number(b)) => Ok(match (decimal(a), decimal(b)) {
            (Some(a), Some(b)) => quantity::equivalent(a, b),
            _ => a == b,
        }),
        (Json::Bool(one), Json::Bool(two)) => Ok(one == two),
        (Json::Null, Json::Null) => Ok(true),
        _ => Ok(false),
    }
}

/// Has each item its own counterpart?
pub(super) fn unordered<T>(
    one: &[T],
    two: &[T],
    same: &mut dyn FnMut(&T, &T) -> Result<bool, Error>,
) -> Result<bool, Error> {
    if one.len() != two.len() {
        return Ok(false);
    }
    let mut left: Vec<&T> = two.iter().collect();
    'items: for item in one {
        for (at, other) in left.iter().enumerate() {
            if same(item, other)? {
                left.swap_remove(at);
                continue 'items;
            }
        }
        return Ok(false);
    }
    Ok(true)
}

/// `<` and its like; none where it cannot be told.
///
/// # Errors
/// Where the types have no order, or not one in common.
pub(super) fn compare(one: &Item<'_>, two: &Item<'_>, meter: &Meter) -> Result<Option<Ordering>, Error> {
    meter.charge(1 + one.weight() + two.weight())?;
    let (one, two) = (one.system(), two.system());
    if let (Some(one), Some(two)) = (number(&one), number(&two)) {
        return Ok(Some(one.cmp(&two)));
    }
    match (&one, &two) {
        (Item::String(one), Item::String(two)) => {
            meter.charge(one.len() / 64)?;
            Ok(Some(one.cmp(two)))
        }
        (Item::Temporal(one), Item::Temporal(two)) if !one.differs_in_kind(two) => Ok(one.compare(two)),
        _ => match (one.quantity(), two.quantity()) {
            (Some(one), Some(two)) => Ok(one.compare(&two)),
            // A Quantity without a number, or with a comparator, is before and after no other.
            _ if is_quantity(&one) && is_quantity(&two) => Ok(None),
            _ => Err(Error::Type("values without a common order are compared")),
        },
    }
}

fn is_quantity(item: &Item<'_>) -> bool {
    match item {
        Item::Element(node) => is_subtype(node.type_name(), "Quantity"),
        Item::Quantity(_) => true,
        _ => false,
    }
}
