//! Refusals of callers whom nobody knows. Who only knocks could fill the disk with rows that say so: of
//! each address the first few of a minute are recorded one by one, and how many more there were as one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use store::{Act, Agent, Commit, Context, Entry, Outcome, Who};

use crate::app::{self, App};

const MINUTE: i64 = 60_000_000;
/// Recorded one by one of each address in a minute.
const EACH: u32 = 10;
/// Addresses that are counted by themselves, and clients; those beyond are counted together.
const MOST: usize = 100;
/// Before the id of a client whose token or key has ended: it is counted by itself, wherever it is.
const CLIENT: &str = "client ";
/// Stands for addresses beyond those; behind [`CLIENT`], for clients.
const OTHERS: &str = "";

#[derive(Debug)]
struct Minute {
    since: i64,
    recorded: u32,
    more: u32,
}

type Minutes = Mutex<HashMap<String, Minute>>;

/// What was refused in the last minute.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    addresses: Minutes,
    /// Apart, or who knocks from many addresses would hide who comes with what has ended.
    clients: Minutes,
    /// So many could not be recorded, and nothing says so yet.
    lost: AtomicU32,
}

/// By what a client is counted whose token or key has ended.
pub(crate) fn of_client(id: &str) -> String {
    format!("{CLIENT}{id}")
}

impl Refusals {
    /// Counts one, and says whether it is to be recorded by itself.
    pub(crate) fn admits(&self, key: &str, at: i64) -> bool {
        let is_client = key.starts_with(CLIENT);
        let (minutes, others) = if is_client { (&self.clients, CLIENT) } else { (&self.addresses, OTHERS) };
        let mut minutes = minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = minutes.contains_key(key) || minutes.len() < MOST;
        let minute = minutes.entry(if known { key } else { others }.to_owned());
        let minute = minute.or_insert(Minute { since: at, recorded: 0, more: 0 });
        let admits = minute.recorded < EACH;
        *(if admits { &mut minute.recorded } else { &mut minute.more }) += 1;
        admits
    }

    /// So many were answered and could not be recorded.
    pub(crate) fn loses(&self, many: u32) {
        self.lost.fetch_add(many, Ordering::Relaxed);
    }

    /// Addresses and clients whose minute is over, with how many of theirs were not recorded.
    fn over(&self, at: i64) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        for minutes in [&self.addresses, &self.clients] {
            let mut minutes = minutes.lock().unwrap_or_else(PoisonError::into_inner);
            let over = minutes.extract_if(|_, minute| at - minute.since >= MINUTE);
            all.extend(over.filter(|(_, one)| one.more > 0).map(|(key, one)| (key, one.more)));
        }
        all
    }
}

/// Records how many more there were where a minute is over; at the `end`, everywhere.
pub(crate) async fn sum_up(app: &App, end: bool) {
    let at = app::now();
    for (key, more) in app.refusals.over(if end { i64::MAX } else { at }) {
        let client = key.strip_prefix(CLIENT).map(str::to_owned);
        let whose = if client.is_some() { "with what has ended" } else { "of callers that nobody knows" };
        let note = format!("{more} more requests {whose} were refused within a minute");
        let notes = vec![Entry { outcome: Outcome::Minor, note, ..Entry::of(Act::Refuse) }];
        let address = (key != OTHERS && client.is_none()).then_some(key);
        let client = client.filter(|id| !id.is_empty());
        let who = Who::new(Agent { client, address, ..Agent::default() });
        let context = Context { who, ..Context::system("refusals", at) };
        if let Err(error) = app.store.commit(&context, Commit { notes, ..Commit::default() }).await {
            tracing::error!(%error, more, "how many were refused could not be recorded");
            app.refusals.loses(more);
        }
    }
    let lost = app.refusals.lost.swap(0, Ordering::Relaxed);
    if lost == 0 {
        return;
    }
    let note = format!("{lost} requests were answered and could not be recorded");
    let notes = vec![Entry { outcome: Outcome::Serious, note, ..Entry::of(Act::Refuse) }];
    let commit = Commit { notes, ..Commit::default() };
    if let Err(error) = app.store.commit(&Context::system("refusals", at), commit).await {
        tracing::error!(%error, lost, "how many could not be recorded can't be recorded yet");
        app.refusals.loses(lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_a_few_are_recorded() {
        let refusals = Refusals::default();
        let admitted = (0..100).filter(|_| refusals.admits("192.0.2.1", 0)).count();
        assert_eq!((admitted, refusals.over(MINUTE - 1)), (10, vec![]));
        assert_eq!(refusals.over(MINUTE), [("192.0.2.1".to_owned(), 90)]);
        assert!(refusals.admits("192.0.2.1", MINUTE));
        let many = (0..10_000).filter(|n| refusals.admits(&format!("at {n}"), MINUTE)).count();
        assert_eq!(many, MOST - 1 + 10);
        // Clients have places of their own.
        let ended = of_client("a");
        assert!((0..10).all(|_| refusals.admits(&ended, MINUTE)));
        assert!(!refusals.admits(&ended, MINUTE));
        assert_eq!(refusals.over(2 * MINUTE), [(OTHERS.to_owned(), 10_000 - 99 - 10), (ended, 1)]);
        let many = (0..1000).filter(|n| refusals.admits(&of_client(&n.to_string()), 2 * MINUTE)).count();
        assert_eq!(many, MOST + 10);
        assert_eq!(refusals.over(3 * MINUTE), [(CLIENT.to_owned(), 1000 - 100 - 10)]);
    }
}
