//! Breaking the glass: access in an emergency to what a patient withholds
//! (v3 PurposeOfUse `BTG`). The caller needs the right to it and gives a reason, each time.

use std::collections::BTreeMap;

use actix_web::{HttpMessage, HttpRequest};
use store::{Act, Agent, Context, Entry, Outcome, Who, kept};

use super::failure::Failure;
use super::rights::{BREAK_GLASS, Rights};

/// Names the reason, in words.
const HEADER: &str = "x-break-glass";
/// Bytes of a reason.
const LONGEST: usize = 500;

/// The request's context, changed if it asks for this. What it does is recorded as done for this purpose, and
/// that it is refused, too.
///
/// # Errors
/// 400 without a reason that can be read, 403 without the right.
pub(crate) fn context(request: &HttpRequest, context: Context, rights: &Rights) -> Result<Context, Failure> {
    let Some(value) = request.headers().get(HEADER) else { return Ok(context) };
    let said = String::from_utf8_lossy(value.as_bytes());
    let context = meant(context, said.trim());
    request.extensions_mut().insert(context.clone());
    let reason = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    if reason.is_empty() || reason.len() > LONGEST || reason.contains(char::is_control) {
        let details = format!("X-Break-Glass is the reason, in 1 to {LONGEST} bytes of UTF-8");
        return Err(Failure::bad_request(details));
    }
    rights.require(BREAK_GLASS)?;
    Ok(context)
}

/// The same call for this purpose, with as much of the reason as may be given.
fn meant(context: Context, reason: &str) -> Context {
    let reason = kept(reason.get(..reason.floor_char_boundary(LONGEST)).unwrap_or_default());
    let (purpose, reason) =
        (Some(Agent::BREAK_GLASS.to_owned()), Some(reason).filter(|text| !text.is_empty()));
    let who = Who::new(Agent { purpose, reason, ..context.who.agent.clone() });
    Context { who, ..context }
}

/// Notes of each patient that was seen so that the glass was broken, or that it was tried in vain; where none
/// can be named, why.
pub(crate) fn note(context: &Context) {
    let Some(trail) = context.trail.as_ref().filter(|_| context.who.agent.breaks_glass()) else {
        return;
    };
    let notes = trail.take();
    let why = |note: &Entry| if note.patient.is_empty() { note.note.clone() } else { String::new() };
    // What was shown counts, whatever else was not.
    let mut seen = BTreeMap::new();
    for note in &notes {
        let ended = seen.entry((&note.patient, why(note))).or_insert((note.outcome, &note.note));
        if note.outcome == Outcome::Success {
            ended.0 = note.outcome;
        }
    }
    let mut told = Vec::with_capacity(seen.len());
    for (n, ((patient, why), (outcome, refused))) in seen.into_iter().enumerate() {
        let note = if outcome == Outcome::Success { why } else { refused.clone() };
        let (patient, query) = (patient.clone(), trail.asked_in(n));
        told.push(Entry { outcome, patient, query, note, ..Entry::of(Act::BreakGlass) });
    }
    for one in notes.into_iter().chain(told) {
        trail.note(one);
    }
}
