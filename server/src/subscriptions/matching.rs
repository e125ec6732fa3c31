//! For whom a change is: what a Subscription asks for, as far as the one may see it in whose name it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fhir::json::{self, Limits};
use fhir::search::{Index, index};
use fhir::subscription::{Change, State, Unclear};
use futures_util::future::try_join_all;
use metrics::counter;
use store::{Context, Error, Match, Reader, Stored};

use super::book::{Book, Entry, Known, Later};
use crate::app::{self, App};

/// Changes that are looked at together.
const MOST: usize = 512;

/// What has no result is said no more often, in microseconds.
const WARNED: i64 = 60_000_000;

/// In whose name others are told is found out of so many at once.
const AT_ONCE: usize = 16;

/// What comes to light while it is decided.
#[derive(Default)]
struct Findings {
    /// In whose name others are told of whom nothing is known, each by one of theirs.
    unknown: HashMap<String, Arc<Entry>>,
    /// Who may not see anything any more.
    ended: Vec<i64>,
}

/// Takes what is queued; says how much that was.
pub(super) async fn turn(app: &Arc<App>) -> Result<usize, Error> {
    app.subscriptions.forget(app::now());
    // What was found out for this turn is good for it, however many there are to be asked of.
    let mut asked: HashMap<String, Known> = HashMap::new();
    loop {
        app.subscriptions.sync(app).await?;
        let (parts, book) = (Arc::clone(app), app.subscriptions.book());
        let context = Context::system("subscriptions", app::now());
        let at = context.at;
        let findings = Arc::new(Mutex::new(Findings::default()));
        let (told, known) = (Arc::clone(&findings), asked.clone());
        let decide = move |reader: &mut Reader<'_>, changes: &[store::Change]| {
            // Where many are asked for at the same time there are always some that the book does not have yet.
            let changed = reader.subscriptions_since(book.stamp)?;
            let later = Later::of(&parts, &book, changed).ok_or(Error::Conflict { current: 0 })?;
            let mut seen = Vec::with_capacity(changes.len());
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, (entry, changes_of)) in find(&book, &later, changes)? {
                let owner = entry.subscription.owner.as_str();
                match known.get(owner).cloned().or_else(|| parts.subscriptions.known(owner, at)) {
                    None => drop(told.unknown.entry(owner.to_owned()).or_insert(entry)),
                    Some(Known::Ended) => told.ended.push(number),
                    Some(Known::As(context)) => {
                        let versions: Vec<&Stored> =
                            changes_of.iter().filter_map(|n| changes.get(*n)).map(|one| &one.now).collect();
                        let shown = reader.shown_to(&context, &versions)?;
                        let shown = changes_of.into_iter().zip(shown).filter(|(_, shown)| *shown);
                        let stamp = entry.subscription.stamp;
                        seen.extend(shown.map(|(change, _)| Match { subscription: number, stamp, change }));
                    }
                }
            }
            if told.unknown.is_empty() { Ok(seen) } else { Err(Error::Conflict { current: 0 }) }
        };
        let done = app.store.number_changes(&context, MOST, decide).await;
        let Findings { unknown, ended } =
            std::mem::take(&mut *findings.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(Error::Conflict { current: 0 }) = done {
            let unknown: Vec<_> = unknown.into_iter().collect();
            for some in unknown.chunks(AT_ONCE) {
                let found = some.iter().map(|(owner, entry)| async move {
                    Ok::<_, Error>((owner.clone(), app.subscriptions.ask(app, entry, app::now()).await?))
                });
                asked.extend(try_join_all(found).await?);
            }
            continue;
        }
        if !ended.is_empty() {
            app.store.nudge_subscriptions(&context, ended).await?;
        }
        return done;
    }
}

/// The Subscriptions that changes are for, and which changes.
type Found = BTreeMap<i64, (Arc<Entry>, Vec<usize>)>;

fn find(book: &Book, later: &Later, changes: &[store::Change]) -> Result<Found, Error> {
    let mut found = Found::new();
    let unclear = Unclear::default();
    for (n, change) in changes.iter().enumerate() {
        let after = Version::of(Some(&change.now))?;
        let before = Version::of(change.before.as_ref())?;
        let of = Change {
            kind: change.now.kind,
            id: &change.now.id,
            before: before.as_ref().map(Version::state),
            after: after.as_ref().map(Version::state),
            unclear: &unclear,
        };
        for entry in book.matches(later, &of) {
            if entry.subscription.since < change.place {
                let number = entry.subscription.number;
                found.entry(number).or_insert_with(|| (Arc::clone(entry), Vec::new())).1.push(n);
            }
        }
    }
    warn(&unclear.into_inner());
    Ok(found)
}

/// Whoever keeps topics is to know which of them do not say what they were meant to.
fn warn(unclear: &BTreeMap<String, (fhir::fhirpath::Error, u64)>) {
    static LAST: AtomicI64 = AtomicI64::new(0);
    if unclear.is_empty() {
        return;
    }
    let times = unclear.values().map(|(_, times)| times).sum();
    counter!("augury_topic_expressions_failed_total").increment(times);
    let now = app::now();
    if now - LAST.load(Ordering::Relaxed) >= WARNED {
        LAST.store(now, Ordering::Relaxed);
        for (expression, (error, times)) in unclear {
            tracing::warn!(expression, %error, times, "an expression of a topic has no result");
        }
    }
}

/// A version that is not deleted.
struct Version<'v> {
    resource: fhir::json::Json<'v>,
    index: Index,
    updated: i64,
}

impl<'v> Version<'v> {
    fn of(stored: Option<&'v Stored>) -> Result<Option<Self>, Error> {
        let Some(stored) = stored.filter(|stored| !stored.deleted) else { return Ok(None) };
        let resource = json::parse(stored.body.as_bytes(), &Limits::STORED)
            .map_err(|issues| Error::Internal(format!("a stored body does not parse: {issues}")))?;
        let index = index(stored.kind, &resource);
        Ok(Some(Self { resource, index, updated: stored.updated }))
    }

    fn state(&self) -> State<'_> {
        State { resource: &self.resource, index: &self.index, updated: self.updated }
    }
}
