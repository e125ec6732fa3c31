//! For whom a change is: what a Subscription asks for, as far as the one may see it in whose name it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fhir::json::{self, Limits};
use fhir::search::{Index, index};
use fhir::subscription::{Change, State};
use store::{Context, Error, Match, Reader, Stored};

use super::book::{Book, Known};
use crate::app::{self, App};

type Numbers = Arc<Mutex<Vec<i64>>>;

/// Changes that are looked at together.
const MOST: usize = 512;

/// Takes what is queued; says how much that was.
pub(super) async fn turn(app: &Arc<App>) -> Result<usize, Error> {
    loop {
        app.subscriptions.sync(app).await?;
        let (parts, book) = (Arc::clone(app), app.subscriptions.book());
        let context = Context::system("subscriptions", app::now());
        let at = context.at;
        // Whom nothing is known of, and who may not see anything any more.
        let (unknown, ended) = (Numbers::default(), Numbers::default());
        let (asked, over, of) = (Arc::clone(&unknown), Arc::clone(&ended), Arc::clone(&book));
        let decide = move |reader: &mut Reader<'_>, changes: &[store::Change]| {
            if !reader.subscriptions_since(of.stamp)?.1.is_empty() {
                return Err(Error::Conflict { current: 0 });
            }
            let found = find(&of, changes)?;
            let mut seen = Vec::with_capacity(found.len());
            let mut missing = asked.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, changes_of) in found {
                match parts.subscriptions.known(number, at) {
                    None => missing.push(number),
                    Some(Known::Ended) => over.lock().unwrap_or_else(PoisonError::into_inner).push(number),
                    Some(Known::As(context)) => {
                        let versions: Vec<&Stored> =
                            changes_of.iter().filter_map(|n| changes.get(*n)).map(|one| &one.now).collect();
                        let shown = reader.shown_to(&context, &versions)?;
                        let shown = changes_of.into_iter().zip(shown).filter(|(_, shown)| *shown);
                        seen.extend(shown.map(|(change, _)| Match { subscription: number, change }));
                    }
                }
            }
            if missing.is_empty() { Ok(seen) } else { Err(Error::Conflict { current: 0 }) }
        };
        match app.store.number_changes(&context, MOST, decide).await {
            Err(Error::Conflict { current: 0 }) => {
                let unknown = std::mem::take(&mut *unknown.lock().unwrap_or_else(PoisonError::into_inner));
                for entry in unknown.iter().filter_map(|number| book.entries.get(number)) {
                    app.subscriptions.ask(app, entry, app::now()).await?;
                }
            }
            done => {
                let ended = std::mem::take(&mut *ended.lock().unwrap_or_else(PoisonError::into_inner));
                if !ended.is_empty() {
                    app.store.nudge_subscriptions(&context, ended).await?;
                }
                return done;
            }
        }
    }
}

/// The changes that each Subscription asks for.
fn find(book: &Book, changes: &[store::Change]) -> Result<BTreeMap<i64, Vec<usize>>, Error> {
    let mut found: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (n, change) in changes.iter().enumerate() {
        let after = Version::of(Some(&change.now))?;
        let before = Version::of(change.before.as_ref())?;
        let of = Change {
            kind: change.now.kind,
            id: &change.now.id,
            before: before.as_ref().map(Version::state),
            after: after.as_ref().map(Version::state),
        };
        for number in book.matcher.matches(&of) {
            if book.entries.get(&number).is_some_and(|entry| entry.subscription.since < change.place) {
                found.entry(number).or_default().push(n);
            }
        }
    }
    Ok(found)
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
