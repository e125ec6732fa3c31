//! Functions of numbers and quantities (<http://hl7.org/fhirpath/N1/#math>).

use std::cmp::Ordering;

use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use rust_decimal::{Decimal, RoundingStrategy};

use super::Error;
use super::equality::compare;
use super::evaluate::{Answer, Evaluator, Frame};
use super::parser::Call;
use super::quantity::{self, Quantity};
use super::value::Item;

/// Digits a boundary has where none are asked for.
const DIGITS: i64 = 8;

fn wrong() -> Error {
    Error::Type("a number is needed")
}

/// `-` before an expression.
pub(super) fn negative<'a>(items: &[Item<'a>]) -> Answer<'a> {
    Ok(match Evaluator::single(items)? {
        None => Vec::new(),
        Some(Item::Integer(number)) => vec![Item::Integer(-number)],
        Some(Item::Decimal(number)) => vec![Item::Decimal(-number)],
        Some(other) => {
            let Some(quantity) = quantity(&other) else { return Err(wrong()) };
            vec![Item::Quantity(Quantity { value: -quantity.value, unit: quantity.unit })]
        }
    })
}

/// A quantity that is not merely a number.
fn quantity<'a>(item: &Item<'a>) -> Option<Quantity<'a>> {
    match item {
        Item::Quantity(_) | Item::Element(_) => item.quantity(),
        _ => None,
    }
}

fn decimal(item: &Item<'_>) -> Result<Decimal, Error> {
    match item {
        Item::Integer(number) => Ok((*number).into()),
        Item::Decimal(number) => Ok(*number),
        _ => Err(wrong()),
    }
}

fn integer<'a>(number: Decimal) -> Option<Item<'a>> {
    number.to_i32().map(|number| Item::Integer(number.into()))
}

/// A result of floating point; what is no finite number is none.
fn real<'a>(number: f64) -> Option<Item<'a>> {
    Decimal::from_f64(number).map(Item::Decimal)
}

/// Calls a function of this file.
pub(super) fn call<'a>(
    evaluator: &Evaluator<'a>,
    call: &'a Call,
    items: &[Item<'a>],
    frame: &Frame<'a>,
) -> Answer<'a> {
    let name = call.function.name;
    if matches!(name, "sum" | "min" | "max" | "avg") {
        return total(evaluator, name, items);
    }
    let Some(item) = Evaluator::single(items)? else { return Ok(Vec::new()) };
    let argument = match call.arguments.as_slice() {
        [argument] => match Evaluator::single(&evaluator.evaluate(argument, frame)?)? {
            None => return Ok(Vec::new()),
            given => given,
        },
        _ => None,
    };
    let result = match name {
        "lowBoundary" | "highBoundary" => boundary(&item, argument.as_ref(), name == "highBoundary")?,
        "precision" => match &item {
            Item::Temporal(temporal) => Some(Item::Integer(temporal.digits())),
            other => Some(Item::Integer(decimal(other)?.scale().into())),
        },
        "comparable" => {
            let pair = quantity(&item).zip(argument.as_ref().and_then(quantity));
            let (one, two) = pair.ok_or(Error::Type("quantities are needed"))?;
            Some(Item::Boolean(one.comparable(&two)))
        }
        _ => match (quantity(&item), &item) {
            (Some(quantity), _) if name == "abs" => {
                Some(Item::Quantity(Quantity { value: quantity.value.abs(), unit: quantity.unit }))
            }
            (_, Item::Integer(number)) if matches!(name, "abs") => Some(Item::Integer(number.abs())),
            _ => calculated(name, decimal(&item)?, argument.as_ref())?,
        },
    };
    Ok(result.into_iter().collect())
}

fn calculated<'a>(
    name: &str,
    number: Decimal,
    argument: Option<&Item<'a>>,
) -> Result<Option<Item<'a>>, Error> {
    let float = || number.to_f64().unwrap_or(f64::NAN);
    Ok(match name {
        "abs" => Some(Item::Decimal(number.abs())),
        "ceiling" => integer(number.ceil()),
        "floor" => integer(number.floor()),
        "truncate" => integer(number.trunc()),
        "round" => {
            let digits = match argument {
                None => 0,
                Some(Item::Integer(digits)) => u32::try_from(*digits).map_err(|_| wrong())?,
                Some(_) => return Err(wrong()),
            };
            let strategy = RoundingStrategy::MidpointAwayFromZero;
            Some(Item::Decimal(number.round_dp_with_strategy(digits.min(28), strategy)))
        }
        "exp" => real(float().exp()),
        "ln" => real(float().ln()),
        "sqrt" => real(float().sqrt()),
        "log" | "power" => {
            let Some(argument) = argument.map(decimal).transpose()? else { return Ok(None) };
            let other = argument.to_f64().unwrap_or(f64::NAN);
            match argument.to_i64().filter(|_| argument.fract().is_zero()) {
                _ if name == "log" => real(float().ln() / other.ln()),
                Some(exponent @ 0..=1000) => power(number, exponent),
                _ => real(float().powf(other)),
            }
        }
        _ => return Err(Error::Unsupported(name.to_owned())),
    })
}

/// Whole exponents keep whole numbers whole.
fn power<'a>(base: Decimal, exponent: i64) -> Option<Item<'a>> {
    let mut result = Decimal::ONE;
    for _ in 0..exponent {
        result = result.checked_mul(base)?;
    }
    let whole = base.scale() == 0;
    if whole { integer(result).or(Some(Item::Decimal(result))) } else { Some(Item::Decimal(result)) }
}

fn boundary<'a>(item: &Item<'a>, digits: Option<&Item<'a>>, high: bool) -> Result<Option<Item<'a>>, Error> {
    let digits = match digits {
        None => None,
        Some(Item::Integer(digits)) => Some(*digits),
        Some(_) => return Err(wrong()),
    };
    if let Item::Temporal(temporal) = item {
        return Ok(temporal.boundary(digits, high).map(Item::Temporal));
    }
    let digits = digits.unwrap_or(DIGITS);
    if let Some(Quantity { value, unit }) = quantity(item) {
        let value = quantity::boundary(value, digits, high);
        return Ok(value.map(|value| Item::Quantity(Quantity { value, unit })));
    }
    Ok(quantity::boundary(decimal(item)?, digits, high).map(Item::Decimal))
}

fn total<'a>(evaluator: &Evaluator<'a>, name: &str, items: &[Item<'a>]) -> Answer<'a> {
    let mut items = items.iter().map(Item::system);
    let Some(mut result) = items.next() else { return Ok(Vec::new()) };
    let mut count = 1_u32;
    for item in items {
        evaluator.charge(1)?;
        count += 1;
        match name {
            "min" | "max" => {
                let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                match compare(&item, &result, &evaluator.meter)? {
                    Some(order) if order == wanted => result = item,
                    Some(_) => {}
                    None => return Ok(Vec::new()),
                }
            }
            _ => {
                let sum = match (&result, &item) {
                    (Item::Quantity(_) | Item::Element(_), Item::Quantity(_) | Item::Element(_)) => {
                        let pair = result.quantity().zip(item.quantity());
                        pair.and_then(|(one, two)| one.add(&two, false)).map(Item::Quantity)
                    }
                    (Item::Integer(one), Item::Integer(two)) => one.checked_add(*two).map(Item::Integer),
                    (one, two) => decimal(one)?.checked_add(decimal(two)?).map(Item::Decimal),
                };
                match sum {
                    Some(sum) => result = sum,
                    None => return Ok(Vec::new()),
                }
            }
        }
    }
    if name != "avg" {
        // An Integer has 32 bits; what is more has no sum, as it has none by `+`.
        let fits = !matches!(result, Item::Integer(number) if i32::try_from(number).is_err());
        return Ok(Some(result).filter(|_| fits).into_iter().collect());
    }
    let average = match quantity(&result) {
        Some(Quantity { value, unit }) => {
            quantity::quotient(value, count.into()).map(|value| Item::Quantity(Quantity { value, unit }))
        }
        None => quantity::quotient(decimal(&result)?, count.into()).map(Item::Decimal),
    };
    Ok(average.into_iter().collect())
}
