//! Breaking the glass: access in an emergency to what a patient withholds
//! (v3 PurposeOfUse `BTG`). The caller needs the right to it and gives a reason, each time.

use std::collections::BTreeSet;

use actix_web::HttpRequest;
use store::{Act, Agent, Context, Entry, Who};

use super::failure::Failure;
use super::rights::{BREAK_GLASS, Rights};

/// Names the reason, in words.
const HEADER: &str = "x-break-glass";
/// Bytes of a reason.
const LONGEST: usize = 500;

/// The request's context, changed if it asks for this. What it does is recorded as done for this purpose.
///
/// # Errors
/// 400 without a reason that can be read, 403 without the right.
pub(crate) fn context(request: &HttpRequest, context: Context, rights: &Rights) -> Result<Context, Failure> {
    let Some(value) = request.headers().get(HEADER) else { return Ok(context) };
    let reason = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    if reason.is_empty() || reason.len() > LONGEST || reason.contains(char::is_control) {
        let details = format!("X-Break-Glass is the reason, in 1 to {LONGEST} bytes of UTF-8");
        return Err(Failure::bad_request(details));
    }
    rights.require(BREAK_GLASS)?;
    let purpose = Some(Agent::BREAK_GLASS.to_owned());
    let who = Who::new(Agent { purpose, reason: Some(reason.to_owned()), ..context.who.agent.clone() });
    Ok(Context { who, ..context })
}

/// Notes of each patient that was seen so that the glass was broken; where none can be named, why.
pub(crate) fn note(context: &Context) {
    let Some(trail) = context.trail.as_ref().filter(|_| context.who.agent.breaks_glass()) else {
        return;
    };
    let notes = trail.take();
    let why = |note: &Entry| if note.patient.is_empty() { note.note.clone() } else { String::new() };
    let seen: BTreeSet<(String, String)> =
        notes.iter().map(|note| (note.patient.clone(), why(note))).collect();
    for one in notes {
        trail.note(one);
    }
    for (n, (patient, note)) in seen.into_iter().enumerate() {
        trail.note(Entry { patient, query: trail.asked_in(n), note, ..Entry::of(Act::BreakGlass) });
    }
}
