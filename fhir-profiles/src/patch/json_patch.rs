//! JSON Patch (RFC 6902).

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

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
        super::prune(&mut patched);
        Ok(patched)
    }

    /// The same, with what is left empty: JSON Patch as such knows nothing of FHIR.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_whole(&self, resource: &Json<'_>, limits: &Limits) -> Result<Json<'static>, Issues> {
        let mut value: Value = serde_json::from_str(&resource.to_text())
            .map_err(|_| Issue::error("exception", "the resource is no JSON"))?;
        // What is copied over and over grows beyond all bounds before anybody looks at it.
        let mut copied = 0_usize;
        for (number, operation) in self.0.iter().enumerate() {
            if let PatchOperation::Copy(copy) = operation
                && let Ok(source) = copy.from.resolve(&value)
            {
                copied = copied.saturating_add(source.to_string().len());
                if copied > limits.bytes {
                    return Err(Issue::error("too-costly", "the patch copies too much").into());
                }
            }
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
