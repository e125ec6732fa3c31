//! `sort()` (<https://hl7.org/fhirpath/#sort>).

use std::cmp::Ordering;

use super::Error;
use super::equality::compare;
use super::evaluate::{Answer, Evaluator, Frame};
use super::parser::Expr;
use super::value::{Item, Items};

/// The items in the order of the keys, or of themselves.
pub(super) fn sorted<'a>(
    evaluator: &Evaluator<'a>,
    items: Items<'a>,
    keys: &'a [Expr],
    frame: &Frame<'a>,
) -> Answer<'a> {
    let mut rows = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate() {
        let mut values = Vec::new();
        for key in keys {
            // `-name` sorts from the end, whatever the type.
            let key = if let Expr::Negative(key) = key { key } else { key };
            values.push(Evaluator::single(&evaluator.evaluate(key, &evaluator.each(frame, &item, n)?)?)?);
        }
        if keys.is_empty() {
            values.push(Some(item.system()));
        }
        rows.push((values, item));
    }
    let rows = merged(rows, &mut |(one, _), (two, _)| precedes(evaluator, one, two, keys))?;
    Ok(rows.into_iter().map(|(_, item)| item).collect())
}

/// Does what has the first keys come before what has the second?
fn precedes<'a>(
    evaluator: &Evaluator<'a>,
    one: &[Option<Item<'a>>],
    two: &[Option<Item<'a>>],
    keys: &[Expr],
) -> Result<bool, Error> {
    evaluator.charge(1)?;
    for (n, pair) in one.iter().zip(two).enumerate() {
        let order = match pair {
            (Some(one), Some(two)) => compare(one, two, &evaluator.meter)?
                .ok_or(Error::Type("values without a common order are sorted"))?,
            // What has no key comes after what has one.
            (one, two) => one.is_none().cmp(&two.is_none()),
        };
        if order != Ordering::Equal {
            let down = matches!(keys.get(n), Some(Expr::Negative(_)));
            return Ok((order == Ordering::Less) != down);
        }
    }
    Ok(false)
}

/// Sorts, and stops where a pair has no order. The library's sort can't be told to, and may panic at
/// what is no total order: quantities of several units are compared by rounded numbers.
fn merged<T>(
    mut left: Vec<T>,
    precedes: &mut dyn FnMut(&T, &T) -> Result<bool, Error>,
) -> Result<Vec<T>, Error> {
    if left.len() < 2 {
        return Ok(left);
    }
    let right = left.split_off(left.len() / 2);
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    let mut left = merged(left, precedes)?.into_iter().peekable();
    let mut right = merged(right, precedes)?.into_iter().peekable();
    while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
        let next = if precedes(two, one)? { &mut right } else { &mut left };
        sorted.extend(next.next());
    }
    sorted.extend(left.chain(right));
    Ok(sorted)
}
