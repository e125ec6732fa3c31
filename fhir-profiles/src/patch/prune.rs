//! What a change leaves empty is taken out: in FHIR nothing is, but `null` where one of a primitive's
//! array and the `_` array beside it has something at that place.

use std::collections::HashMap;

use super::places::Step;
use crate::json::{Json, Object};

/// Takes out all that is empty.
pub(super) fn all(node: &mut Json) {
    below(node, false);
}

/// Takes out what is empty on the way to a place, if nothing was before a change there.
pub(super) fn on_the_way(node: &mut Json, steps: &[Step]) {
    along(node, steps, false);
}

/// `beside`: it is the value of a `_` key.
fn below(node: &mut Json, beside: bool) {
    match node {
        Json::Array(items) => items.iter_mut().for_each(|item| below(item, false)),
        Json::Object(object) => {
            object.iter_mut().for_each(|(key, value)| below(value, key.starts_with('_')));
        }
        _ => {}
    }
    tidy(node, beside);
}

fn along(node: &mut Json, steps: &[Step], beside: bool) {
    if let Some((step, rest)) = steps.split_first() {
        match (step, &mut *node) {
            (Step::Key(key), Json::Object(object)) => {
                if let Some(value) = object.get_mut(key) {
                    along(value, rest, key.starts_with('_'));
                }
            }
            (Step::Index(n), Json::Array(items)) => {
                if let Some(item) = items.get_mut(*n) {
                    along(item, rest, false);
                }
            }
            _ => {}
        }
    }
    tidy(node, beside);
}

/// Takes out what is empty in it. In an array under a `_` key a place belongs to the value at the same
/// place of the other array, so that null stays there.
fn tidy(node: &mut Json, beside: bool) {
    let empty = |item: &Json| matches!(item, Json::Object(object) if object.is_empty());
    match node {
        Json::Array(items) if beside => {
            items.iter_mut().filter(|item| empty(item)).for_each(|item| *item = Json::Null);
        }
        Json::Array(items) => items.retain(|item| !empty(item)),
        Json::Object(object) => {
            without_both(object);
            object.retain(|_, value| match value {
                Json::Object(inner) => !inner.is_empty(),
                Json::Array(items) => items.iter().any(|item| *item != Json::Null),
                _ => true,
            });
        }
        _ => {}
    }
}

/// A primitive of an array that has neither a value nor extensions any more is taken out of both arrays.
fn without_both(object: &mut Object) {
    let null = |items: &[Json]| items.iter().map(|item| *item == Json::Null).collect::<Vec<_>>();
    let mut gone: HashMap<String, Vec<bool>> = object
        .iter()
        .filter_map(|(key, value)| match value {
            Json::Array(items) => Some((key.strip_prefix('_')?.to_owned(), null(items))),
            _ => None,
        })
        .collect();
    if gone.is_empty() {
        return;
    }
    for (key, value) in object.iter() {
        if let Some(gone) = gone.get_mut(key) {
            let there = value.items().iter().map(|item| *item != Json::Null);
            gone.iter_mut().zip(there).for_each(|(gone, there)| *gone &= !there);
        }
    }
    for (key, value) in object.iter_mut() {
        if let (Some(gone), Json::Array(items)) = (gone.get(key.strip_prefix('_').unwrap_or(key)), value) {
            let mut places = gone.iter();
            items.retain(|_| places.next() != Some(&true));
        }
    }
}
