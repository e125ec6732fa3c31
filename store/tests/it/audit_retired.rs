//! What is older than the policy says leaves the trail, and the log still holds.

use store::{Error, Finding, Options, Retirement, Store, Witnessed};

use crate::audit_kept::{findings, intrude, record, sealed};
use crate::place::*;

both!(
    what_is_old_leaves_and_the_log_holds,
    nothing_leaves_that_should_not,
    one_clock_that_is_ahead_makes_nothing_old,
    a_log_that_is_made_anew_begins_behind_what_left,
);

async fn found(store: &Store, text: &str) -> usize {
    let found = store.search(&now(), &query(text)).await.unwrap();
    usize::try_from(found.total.unwrap()).unwrap()
}

/// All that may leave does; how many.
pub(crate) async fn retired(store: &Store, second: i64, before: i64, delivered: u64) -> u64 {
    let mut all = 0;
    loop {
        let Retirement { events, more } =
            store.retire_audit(&at(second), at(before).at, delivered).await.unwrap();
        all += events;
        if !more {
            return all;
        }
    }
}

async fn what_is_old_leaves_and_the_log_holds(store: Store, url: String) {
    for second in [0, 100, 200, 300] {
        for _ in 0..3 {
            record(&store, second, 190).await;
        }
        sealed(&store, second).await;
    }
    let head = sealed(&store, 300).await.head;
    let of = |head: &Option<String>| Witnessed { heads: head.iter().cloned().collect(), missing: Vec::new() };
    assert_eq!(retired(&store, 400, 150, u64::MAX).await, 2 * 3 * 190);
    assert_eq!(findings(&store, of(&head), 400).await, []);
    assert_eq!(found(&store, "AuditEvent?subtype=export&_total=accurate").await, 2 * 3 * 190);
    assert_eq!(found(&store, "AuditEvent?subtype=retire&_total=accurate").await, 1);
    assert_eq!(retired(&store, 400, 150, u64::MAX).await, 0);
    // Whoever starts now goes on where the others were.
    let store = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
    record(&store, 400, 500).await;
    let head = sealed(&store, 400).await.head;
    assert_eq!(retired(&store, 500, 250, u64::MAX).await, 3 * 190);
    let verified = store.verify_audit(&at(400), of(&head), |_| {}).await.unwrap();
    assert_eq!((verified.events, verified.findings), (4 * 3 * 190 + 1 + 500, Vec::new()));
    assert_eq!(verified.retired, 3 * 3 * 190);
    // What is taken out by others is missed as before.
    intrude(&url, "DELETE FROM audit WHERE key = (SELECT MIN(key) FROM audit)");
    let missing = findings(&store, of(&head), 400).await;
    assert!(
        !missing.is_empty() && missing.iter().all(|one| matches!(one, Finding::Removed(_) | Finding::Index)),
        "{missing:?}"
    );
}

async fn nothing_leaves_that_should_not(store: Store, url: String) {
    record(&store, 0, 100).await;
    record(&store, 1, 100).await;
    record(&store, 2, 100).await;
    assert_eq!(retired(&store, 100, 50, u64::MAX).await, 0, "nothing is sealed");
    sealed(&store, 3).await;
    assert_eq!(retired(&store, 100, 50, 150).await, 100, "a receiver does not have the others");
    for claim in ["events = events + 100", "key = key + 100", "accepted = 1"] {
        intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit_retired");
        intrude(&url, &format!("UPDATE audit_retired SET {claim}"));
        assert!(!findings(&store, Witnessed::default(), 3).await.is_empty(), "{claim}");
        intrude(
            &url,
            "DELETE FROM audit_retired; INSERT INTO audit_retired SELECT * FROM kept; DROP TABLE kept",
        );
    }
    let columns = "events, epoch, key, accepted, sum, mac";
    for of in ["0, 0, 0, 0, 0, 7", "events - 100, epoch, key - 100, accepted, sum, mac", columns] {
        intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit_retired");
        intrude(&url, &format!("INSERT INTO audit_retired ({columns}) SELECT {of} FROM kept"));
        assert_eq!(findings(&store, Witnessed::default(), 3).await, [Finding::Retired], "{of}");
        intrude(
            &url,
            "DELETE FROM audit_retired; INSERT INTO audit_retired SELECT * FROM kept; DROP TABLE kept",
        );
    }
    assert_eq!(findings(&store, Witnessed::default(), 3).await, []);
    // Where the others were, nothing can be.
    intrude(
        &url,
        "INSERT INTO audit (key, epoch, events, low, high, acts, outcomes, mac, body) \
         SELECT 1, 0, events, low, high, acts, outcomes, mac, body FROM audit ORDER BY key LIMIT 1",
    );
    assert_eq!(findings(&store, Witnessed::default(), 3).await, [Finding::Inserted(1)]);
    intrude(&url, "DELETE FROM audit WHERE key = 1");
    intrude(&url, "UPDATE audit SET high = high + 1 WHERE key = (SELECT MIN(key) FROM audit)");
    let stays = store.retire_audit(&at(100), at(50).at, u64::MAX).await;
    assert!(
        matches!(stays, Err(Error::Precondition(_))),
        "what was tampered with, and all behind it: {stays:?}"
    );
}

async fn a_log_that_is_made_anew_begins_behind_what_left(store: Store, url: String) {
    for second in [0, 1, 2] {
        record(&store, second, 300).await;
    }
    sealed(&store, 3).await;
    assert_eq!(retired(&store, 100, 50, 300).await, 300);
    intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit_retired");
    intrude(&url, "DELETE FROM audit_head");
    store.accept_audit(&at(101), "the disk broke").await.unwrap();
    let found = sealed(&store, 102).await;
    assert_eq!((found.vanished, found.forged), (Vec::new(), Vec::new()));
    assert_eq!(findings(&store, Witnessed::default(), 102).await, []);
    assert_eq!(retired(&store, 200, 50, 300).await, 300);
    assert_eq!(findings(&store, Witnessed::default(), 200).await, []);
    // What the one before said of itself is not said of this one.
    intrude(&url, "DELETE FROM audit_retired; INSERT INTO audit_retired SELECT * FROM kept");
    assert!(!findings(&store, Witnessed::default(), 200).await.is_empty());
}

async fn one_clock_that_is_ahead_makes_nothing_old(store: Store, _: String) {
    const DAY: i64 = 86_400;
    let year = |now: i64| now - 365 * DAY;
    for week in 0..60 {
        record(&store, week * 7 * DAY, 10).await;
        sealed(&store, week * 7 * DAY).await;
    }
    let (today, far) = (59 * 7 * DAY, 3650 * DAY);
    // It has even sealed something.
    record(&store, far, 10).await;
    sealed(&store, far).await;
    assert_eq!(retired(&store, far, year(far), u64::MAX).await, 80, "it makes a week older");
    assert_eq!(retired(&store, far, year(far), u64::MAX).await, 0);
    // The right one goes on where it was.
    assert_eq!(retired(&store, today, year(today), u64::MAX).await, 0);
    assert_eq!(retired(&store, today + 14 * DAY, year(today + 14 * DAY), u64::MAX).await, 0);
    record(&store, today + 14 * DAY, 10).await;
    sealed(&store, today + 14 * DAY).await;
    assert_eq!(retired(&store, today + 21 * DAY, year(today + 21 * DAY), u64::MAX).await, 10);
    assert_eq!(findings(&store, Witnessed::default(), today + 21 * DAY).await, []);
}
