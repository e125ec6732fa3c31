//! JSON Patch (RFC 6902).

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::STEPS;
use crate::json::{Json, Limits, parse};
use crate::outcome::{Issue, Issues};

/// Operations in one patch, at most.
const MOST: usize = 1000;

/// A JSON Patch document that was understood.
#[derive(Debug, Clone)]
pub struct JsonPatch(Patch);

impl JsonPatch {
    /// Reads the document.
    ///
    /// # Errors
    /// It is no JSON, or no list of operations.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Issues> {
        // The door first: it bounds size and depth, and refuses doubled keys.
        let document = parse(bytes, limits)?;
        if document.items().len() > MOST {
            return Err(Issue::error("too-costly", format!("more than {MOST} operations")).into());
        }
        let wrong =
            |_| Issues::from(Issue::error("structure", "not a JSON Patch: a list of operations (RFC 6902)"));
        serde_json::from_slice(bytes).map(Self).map_err(wrong)
    }

    /// The resource after all operations, in order; what they leave empty is taken out.
    ///
    /// # Errors
    /// An operation points nowhere, or a `test` does not hold: `processing`, with its number.
    pub fn apply(&self, resource: &Json<'_>, limits: &Limits) -> Result<Json<'static>, Issues> {
        let mut patched = self.apply_whole(resource, limits)?;
        super::prune::all(&mut patched);
        Ok(patched)
    }

    /// The same, with what is left empty: JSON Patch as such knows nothing of FHIR.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_whole(&self, resource: &Json<'_>, limits: &Limits) -> Result<Json<'static>, Issues> {
        let mut value: Value = serde_json::from_str(&resource.to_text())
            .map_err(|_| Issue::error("exception", "the resource is no JSON"))?;
        let mut steps = STEPS;
        for (number, operation) in self.0.iter().enumerate() {
            let paid = cost(operation, &value, limits).and_then(|cost| steps.checked_sub(cost));
            steps = paid.ok_or_else(|| {
                let details =
                    format!("operation {number}: it nests too deep, or all cost more than a patch may");
                Issue::error("too-costly", details)
            })?;
            let one = std::slice::from_ref(operation);
            json_patch::patch(&mut value, one).map_err(|error| {
                let why = match error.kind {
                    PatchErrorKind::TestFailed => "the test does not hold",
                    _ => "the path is not there",
                };
                Issue::error("processing", format!("operation {number}: {why}"))
            })?;
        }
        // What came out goes through the door again: it may be too deep.
        let text =
            serde_json::to_vec(&value).map_err(|_| Issue::error("exception", "the result is no JSON"))?;
        Ok(parse(&text, limits)?.into_owned())
    }
}

/// What an operation costs in steps; none where it would nest deeper than the limits allow.
fn cost(operation: &PatchOperation, document: &Value, limits: &Limits) -> Option<u64> {
    let (path, from, given) = match operation {
        PatchOperation::Add(one) => (&one.path, None, Some(&one.value)),
        PatchOperation::Replace(one) => (&one.path, None, Some(&one.value)),
        PatchOperation::Copy(one) => (&one.path, Some(&one.from), None),
        PatchOperation::Move(one) => (&one.path, Some(&one.from), None),
        PatchOperation::Remove(one) => (&one.path, None, None),
        PatchOperation::Test(one) => (&one.path, None, None),
    };
    // A list moves up or down behind what is put in or taken out.
    let moved = |path: &PointerBuf| match path.parent().and_then(|holder| holder.resolve(document).ok()) {
        Some(Value::Array(items)) => items.len() as u64 / 16,
        Some(Value::Object(object)) => object.len() as u64 / 16,
        _ => 0,
    };
    let lists = moved(path) + from.map_or(0, moved);
    let copied = from.and_then(|from| from.resolve(document).ok());
    let Some(value) = copied.or(given) else { return Some(1 + lists) };
    let size = size(value, limits.depth.checked_sub(path.count())?)?;
    Some(1 + lists + if copied.is_some() { 2 * size } else { 0 })
}

/// How many values it is, and what their texts come to; none where it is nested deeper than that.
fn size(value: &Value, depth: usize) -> Option<u64> {
    match value {
        Value::Array(items) => {
            let depth = depth.checked_sub(1)?;
            items.iter().try_fold(1, |sum, item| Some(sum + size(item, depth)?))
        }
        Value::Object(object) => {
            let depth = depth.checked_sub(1)?;
            object.iter().try_fold(1, |sum, (key, item)| Some(sum + 1 + length(key) + size(item, depth)?))
        }
        Value::String(text) => Some(1 + length(text)),
        _ => Some(1),
    }
}

fn length(text: &str) -> u64 {
    text.len() as u64 / 64
}
