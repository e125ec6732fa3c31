//! What a process remembers of the trail, and what it does when the database says something else.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use store::{Act, Astray, Commit, Entry, Error, Finding, Options, Sealed, Store, Witnessed};

use crate::place::*;

both!(
    what_vanishes_before_it_is_sealed_is_told,
    what_another_process_sealed_is_forgotten,
    a_log_that_was_put_back_is_not_sealed_until_somebody_accepts_it,
    what_waits_too_long_is_told,
    a_witness_that_is_missing_is_told,
    one_looks_at_all_of_the_trail_at_a_time,
);

pub(crate) fn intrude(url: &str, sql: &str) {
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut connection = SqliteConnection::establish(path).unwrap();
            connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
            connection.batch_execute(sql).unwrap();
        }
        None => PgConnection::establish(url).unwrap().batch_execute(sql).unwrap(),
    }
}

/// So many events that say nothing, at that second.
pub(crate) async fn record(store: &Store, second: i64, many: usize) {
    let notes = vec![Entry::of(Act::Export); many];
    store.commit(&at(second), Commit { notes, ..Commit::default() }).await.unwrap();
}

/// Seals until nothing waits; what came of the last that found something.
pub(crate) async fn sealed(store: &Store, second: i64) -> Sealed {
    let mut last = Sealed::default();
    for turn in 0.. {
        assert!(turn < 500, "waited in vain");
        match store.seal_audit(&at(second)).await {
            Ok(sealed) if sealed == Sealed::default() => {}
            Ok(sealed) => last = sealed,
            Err(Error::Conflict { .. }) => {}
            Err(error) => assert_eq!(error, Error::Busy),
        }
        if last.astray.is_some() || store.audit_lag(&at(second)).await.unwrap().oldest.is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    last
}

pub(crate) async fn findings(store: &Store, witnessed: Witnessed, second: i64) -> Vec<Finding> {
    store.verify_audit(&at(second), witnessed, |_| {}).await.unwrap().findings
}

async fn what_vanishes_before_it_is_sealed_is_told(store: Store, url: String) {
    record(&store, 0, 3).await;
    let key = "(SELECT MAX(key) FROM audit)";
    intrude(&url, &format!("DELETE FROM audit WHERE key = {key}"));
    sealed(&store, 1).await;
    let found = store.seal_audit(&at(60)).await.unwrap();
    assert_eq!(found.vanished.len(), 1);
    let (first, last) = found.vanished[0];
    assert_eq!(last - first, 2, "a row is all that a transaction recorded");
    assert_eq!(findings(&store, Witnessed::default(), 60).await, [Finding::Vanished(first, last)]);
    assert_eq!(store.seal_audit(&at(120)).await.unwrap(), Sealed::default(), "it is told once");
}

async fn what_another_process_sealed_is_forgotten(store: Store, url: String) {
    let other = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
    record(&store, 0, 300).await;
    sealed(&other, 1).await;
    assert_eq!(store.seal_audit(&at(60)).await.unwrap(), Sealed::default());
    // Were they remembered still, they would seem to have vanished now.
    intrude(&url, "DELETE FROM audit");
    assert_eq!(store.seal_audit(&at(120)).await.unwrap(), Sealed::default());
    let found = findings(&store, Witnessed::default(), 120).await;
    let removed = found.iter().filter(|one| matches!(one, Finding::Removed(_)));
    assert_eq!(removed.count(), 300, "each was in the log");
}

async fn a_log_that_was_put_back_is_not_sealed_until_somebody_accepts_it(store: Store, url: String) {
    record(&store, 0, 300).await;
    sealed(&store, 0).await;
    for table in ["audit", "audit_run", "audit_index", "audit_block", "audit_head"] {
        intrude(&url, &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
    }
    record(&store, 100, 400).await;
    let head = sealed(&store, 100).await.head.unwrap();
    let witnessed = || Witnessed { heads: vec![head.clone()], missing: Vec::new() };
    for table in ["audit", "audit_run", "audit_index", "audit_block", "audit_head"] {
        intrude(&url, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
    }
    assert_eq!(findings(&store, Witnessed::default(), 100).await, [], "an older head is genuine");
    record(&store, 101, 5).await;
    let why = "it did not grow out of the one that was sealed last";
    let astray = Some(Astray { known: 700, found: 300, why });
    assert_eq!(store.seal_audit(&at(102)).await.unwrap().astray, astray);
    // A process that starts now knows it by what it is told.
    let other = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
    other.remember_audit(&head);
    other.remember_audit("nonsense");
    assert_eq!(other.seal_audit(&at(102)).await.unwrap().astray, astray);
    let mut found = findings(&store, witnessed(), 102).await;
    // On SQLite no number is given twice.
    found.retain(|one| *one != Finding::Vanished(301, 700));
    assert_eq!(found, [Finding::Shortened(700)]);
    // Built anew from there, by somebody who remembers nothing, it is as long again and another.
    let forgetful = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
    record(&forgetful, 103, 600).await;
    sealed(&forgetful, 103).await;
    assert_eq!(store.seal_audit(&at(104)).await.unwrap().astray.unwrap().found, 905);
    assert!(!findings(&store, witnessed(), 104).await.is_empty());
    let early = store.accept_audit(&at(90), "the disk broke").await.unwrap_err().to_string();
    assert!(early.contains("the clock is 14 s behind"), "{early}");
    assert_eq!(store.accept_audit(&at(105), "the disk broke").await.unwrap(), Some(905));
    for one in [&store, &other] {
        assert_eq!(sealed(one, 106).await.astray, None);
    }
    assert_eq!(findings(&store, witnessed(), 106).await, []);
    let page = store.search(&now(), &query("AuditEvent?subtype=accept")).await.unwrap();
    assert!(page.entries[0].body.contains("the disk broke"));
    // What was accepted once is not accepted again.
    for table in ["audit", "audit_run", "audit_index", "audit_block", "audit_head"] {
        intrude(&url, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
    }
    assert!(store.seal_audit(&at(200)).await.unwrap().astray.is_some());
}

async fn what_waits_too_long_is_told(store: Store, _: String) {
    record(&store, 0, 1).await;
    assert_eq!(store.audit_lag(&at(5)).await.unwrap().oldest, Some(NOW));
    assert_eq!(findings(&store, Witnessed::default(), 5).await, []);
    let found = findings(&store, Witnessed::default(), 90).await;
    assert!(matches!(found.as_slice(), [Finding::Late(90, _)]), "{found:?}");
    sealed(&store, 90).await;
    assert_eq!(findings(&store, Witnessed::default(), 900).await, []);
}

async fn a_witness_that_is_missing_is_told(store: Store, _: String) {
    let witnessed = || Witnessed { heads: Vec::new(), missing: vec!["heads".to_owned()] };
    record(&store, 0, 1).await;
    assert_eq!(findings(&store, witnessed(), 1).await, []);
    sealed(&store, 1).await;
    assert_eq!(findings(&store, witnessed(), 2).await, []);
    assert_eq!(findings(&store, witnessed(), 120).await, [Finding::Witness("heads".to_owned())]);
}

async fn one_looks_at_all_of_the_trail_at_a_time(store: Store, _: String) {
    record(&store, 0, 300).await;
    sealed(&store, 0).await;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let mut begun = Some(begun);
    let first = store.clone();
    let first = tokio::spawn(async move {
        let seen = move |_| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
                let _ = waits.recv();
            }
        };
        first.verify_audit(&now(), Witnessed::default(), seen).await
    });
    begins.await.unwrap();
    assert_eq!(store.verify_audit(&now(), Witnessed::default(), |_| {}).await, Err(Error::Busy));
    go_on.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap().events, 300);
    assert_eq!(findings(&store, Witnessed::default(), 0).await, []);
}
