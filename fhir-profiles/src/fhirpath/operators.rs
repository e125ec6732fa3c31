//! Operators (<http://hl7.org/fhirpath/N1/#operations>).

use std::borrow::Cow;
use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::equality::{compare, equal, equivalent, unordered};
use super::evaluate::{Answer, Evaluator, Frame};
use super::parser::{Expr, Operator};
use super::value::{Item, Items, Seen};
use super::{Error, quantity};

const WRONG: Error = Error::Type("the operator does not take values of these types");

fn boolean<'a>(truth: Option<bool>) -> Items<'a> {
    truth.map(Item::Boolean).into_iter().collect()
}

/// Applies an operator; the right side is evaluated only where it can matter.
pub(super) fn apply<'a>(
    evaluator: &Evaluator<'a>,
    operator: Operator,
    left: Items<'a>,
    right: &'a Expr,
    frame: &Frame<'a>,
) -> Answer<'a> {
    let logic = match operator {
        Operator::And => Some((Evaluator::truth(&left)?, Some(false))),
        Operator::Or => Some((Evaluator::truth(&left)?, Some(true))),
        Operator::Implies => Some((Evaluator::truth(&left)?.map(|truth| !truth), Some(true))),
        Operator::Xor => Some((Evaluator::truth(&left)?, None)),
        _ => None,
    };
    if let Some((one, decides)) = logic {
        if decides.is_some() && one == decides {
            return Ok(boolean(decides));
        }
        let two = evaluator.test(right, frame)?;
        return Ok(boolean(match operator {
            Operator::Xor => one.zip(two).map(|(one, two)| one != two),
            _ if two == decides => decides,
            _ => one.zip(two).map(|_| decides != Some(true)),
        }));
    }
    let right = evaluator.evaluate(right, frame)?;
    match operator {
        Operator::Union => union(evaluator, left, right),
        Operator::Equal => Ok(boolean(equal_all(evaluator, &left, &right)?)),
        Operator::NotEqual => Ok(boolean(equal_all(evaluator, &left, &right)?.map(|same| !same))),
        Operator::Equivalent => Ok(boolean(Some(equivalent_all(evaluator, &left, &right)?))),
        Operator::NotEquivalent => Ok(boolean(Some(!equivalent_all(evaluator, &left, &right)?))),
        Operator::In => within(evaluator, &left, &right),
        Operator::Contains => within(evaluator, &right, &left),
        Operator::Concatenate => {
            let text = |items: &[Item<'a>]| match Evaluator::single(items)? {
                None => Ok(Cow::Borrowed("")),
                Some(Item::String(text)) => Ok(text),
                Some(_) => Err(Error::Type("only Strings are concatenated")),
            };
            let (one, two) = (text(&left)?, text(&right)?);
            joined(evaluator, &one, &two)
        }
        _ => {
            let (Some(one), Some(two)) = (Evaluator::single(&left)?, Evaluator::single(&right)?) else {
                return Ok(Vec::new());
            };
            match operator {
                Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                    let order = compare(&one, &two, &evaluator.meter)?;
                    Ok(boolean(order.map(|order| match operator {
                        Operator::Less => order == Ordering::Less,
                        Operator::LessOrEqual => order != Ordering::Greater,
                        Operator::Greater => order == Ordering::Greater,
                        _ => order != Ordering::Less,
                    })))
                }
                _ => arithmetic(evaluator, operator, &one, &two),
            }
        }
    }
}

fn joined<'a>(evaluator: &Evaluator<'a>, one: &str, two: &str) -> Answer<'a> {
    evaluator.charge((one.len() + two.len()) / 16)?;
    Ok(vec![Item::String([one, two].concat().into())])
}

pub(super) fn union<'a>(evaluator: &Evaluator<'a>, left: Items<'a>, right: Items<'a>) -> Answer<'a> {
    let mut seen = Seen::default();
    let mut found = Vec::with_capacity(left.len() + right.len());
    for item in left.into_iter().chain(right) {
        if seen.insert(&item, &evaluator.meter)? {
            found.push(item);
        }
    }
    Ok(found)
}

fn equal_all<'a>(
    evaluator: &Evaluator<'a>,
    left: &[Item<'a>],
    right: &[Item<'a>],
) -> Result<Option<bool>, Error> {
    if left.is_empty() || right.is_empty() {
        return Ok(None);
    }
    if left.len() != right.len() {
        return Ok(Some(false));
    }
    let mut known = Some(true);
    for (one, two) in left.iter().zip(right) {
        match equal(one, two, &evaluator.meter)? {
            Some(true) => {}
            Some(false) => return Ok(Some(false)),
            None => known = None,
        }
    }
    Ok(known)
}

fn equivalent_all<'a>(
    evaluator: &Evaluator<'a>,
    left: &[Item<'a>],
    right: &[Item<'a>],
) -> Result<bool, Error> {
    unordered(left, right, &mut |one, two| equivalent(one, two, &evaluator.meter))
}

fn within<'a>(evaluator: &Evaluator<'a>, item: &[Item<'a>], items: &[Item<'a>]) -> Answer<'a> {
    let Some(item) = Evaluator::single(item)? else { return Ok(Vec::new()) };
    for other in items {
        if equal(&item, other, &evaluator.meter)? == Some(true) {
            return Ok(boolean(Some(true)));
        }
    }
    Ok(boolean(Some(false)))
}

/// What does not fit is empty, as the language wants.
fn arithmetic<'a>(
    evaluator: &Evaluator<'a>,
    operator: Operator,
    one: &Item<'a>,
    two: &Item<'a>,
) -> Answer<'a> {
    let result = match (one, two) {
        (Item::Integer(one), Item::Integer(two)) if operator != Operator::Divide => match operator {
            Operator::Plus => one.checked_add(*two),
            Operator::Minus => one.checked_sub(*two),
            Operator::Multiply => one.checked_mul(*two),
            Operator::Div => one.checked_div(*two),
            Operator::Mod => one.checked_rem(*two),
            _ => return Err(WRONG),
        }
        .filter(|number| i32::try_from(*number).is_ok())
        .map(Item::Integer),
        (Item::String(one), Item::String(two)) if operator == Operator::Plus => {
            return joined(evaluator, one, two);
        }
        (Item::Temporal(temporal), _) if matches!(operator, Operator::Plus | Operator::Minus) => {
            let (Item::Quantity(_) | Item::Element(_)) = two else { return Err(WRONG) };
            let quantity = two.quantity().ok_or(WRONG)?;
            temporal.add(&quantity, operator == Operator::Minus)?.map(Item::Temporal)
        }
        _ => {
            if let (Some(one), Some(two)) = (decimal(one), decimal(two)) {
                return Ok(decimals(operator, one, two)?.into_iter().collect());
            }
            let (Some(one), Some(two)) = (one.quantity(), two.quantity()) else { return Err(WRONG) };
            match operator {
                Operator::Plus | Operator::Minus => one.add(&two, operator == Operator::Minus),
                Operator::Multiply | Operator::Divide => one.multiply(&two, operator == Operator::Divide),
                _ => return Err(WRONG),
            }
            .map(Item::Quantity)
        }
    };
    Ok(result.into_iter().collect())
}

fn decimal(item: &Item<'_>) -> Option<Decimal> {
    match item {
        Item::Integer(number) => Some((*number).into()),
        Item::Decimal(number) => Some(*number),
        _ => None,
    }
}

fn decimals<'a>(operator: Operator, one: Decimal, two: Decimal) -> Result<Option<Item<'a>>, Error> {
    let integer = |number: Decimal| i32::try_from(number.trunc()).ok().map(|n| Item::Integer(n.into()));
    Ok(match operator {
        Operator::Plus => one.checked_add(two).map(Item::Decimal),
        Operator::Minus => one.checked_sub(two).map(Item::Decimal),
        Operator::Multiply => one.checked_mul(two).map(Item::Decimal),
        Operator::Divide => quantity::quotient(one, two).map(Item::Decimal),
        Operator::Div => one.checked_div(two).and_then(integer),
        Operator::Mod => one.checked_rem(two).map(Item::Decimal),
        _ => return Err(WRONG),
    })
}
