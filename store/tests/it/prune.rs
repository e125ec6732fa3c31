//! Old versions go when an operator says so, and none that somebody goes by.

use store::{Error, Pruned, Store};

use crate::audit_kept::intrude;
use crate::audit_unreadable::number;
use crate::parts::cut;
use crate::parts_of_events::subscription;
use crate::place::*;

both!(old_versions_go_and_those_that_are_needed_stay, what_subscriptions_are_still_told_of_stays);

async fn patients(store: &Store, versions: std::ops::Range<i64>) {
    for version in versions {
        one(store, &at(version), update(PATIENT, "p", patient(&version.to_string()), None)).await.unwrap();
    }
}

async fn versions(store: &Store, id: &str) -> Vec<i64> {
    versions_of(store, id, 2).await.into_iter().map(|one| one.version).collect()
}

fn many(pruned: &Pruned) -> u64 {
    pruned.gone.iter().map(|(_, many)| many).sum()
}

async fn old_versions_go_and_those_that_are_needed_stay(store: Store, _: String) {
    patients(&store, 0..3).await;
    one(&store, &at(3), update(PATIENT, "gone", patient("x"), None)).await.unwrap();
    one(&store, &at(4), delete(PATIENT, "gone")).await.unwrap();
    let assessed = r#"{"resourceType":"RiskAssessment","status":"final","subject":{"reference":"Patient/p"},
        "basis":[{"reference":"Patient/p/_history/2"}]}"#;
    one(&store, &at(5), create(json(assessed))).await.unwrap();
    one(&store, &at(500), update(PATIENT, "p", patient("4"), None)).await.unwrap();
    let later = at(1000);
    let before = at(100).at;
    let nothing = store.old_versions(&later, at(0).at).await.unwrap();
    assert_eq!((many(&nothing), nothing.awaited), (0, 0));
    let would = store.old_versions(&later, before).await.unwrap();
    assert_eq!((many(&would), would.needed, would.awaited, would.mixed.len()), (2, 2, 0, 0), "{would:?}");
    assert_eq!(versions(&store, "p").await, [4, 3, 2, 1]);
    assert_eq!(store.prune_versions(&later, before).await.unwrap(), would);
    assert_eq!(versions(&store, "p").await, [4, 2]);
    for (version, there) in [(1, false), (2, true), (3, false), (4, true)] {
        let read = store.vread(&later, PATIENT, "p", version).await;
        assert_eq!(read.is_ok(), there, "{version}");
        assert!(there || read == Err(Error::NotFound));
    }
    assert_eq!(store.read(&later, PATIENT, "gone").await, Err(Error::Gone { version: 2 }));
    assert_eq!(versions(&store, "gone").await, [2, 1], "it says whose it was");
    // What came next is gone, and what was before is not what is now.
    let query = store::HistoryQuery {
        kinds: vec![PATIENT],
        id: Some("p".to_owned()),
        since: None,
        at: Some(fhir::time::Span { low: at(900).at, high: at(900).at }),
        count: 10,
        after: None,
        used: Vec::new(),
    };
    let then = store.history(&later, &query).await.unwrap();
    assert_eq!(then.entries.iter().map(|one| one.version).collect::<Vec<_>>(), [4]);
    let again = store.prune_versions(&later, before).await.unwrap();
    assert_eq!((many(&again), again.needed), (0, 2));
    let told = store.search(&later, &query_of_the_trail()).await.unwrap();
    let told = told.entries.iter().filter(|event| event.body.contains("2 old versions of before"));
    assert_eq!(told.count(), 1, "it is on record");
}

fn query_of_the_trail() -> fhir::search::SearchQuery {
    query("AuditEvent?_count=100")
}

async fn what_subscriptions_are_still_told_of_stays(store: Store, url: String) {
    patients(&store, 0..3).await;
    let key = number(&url, "(SELECT MIN(key) FROM history)");
    let (later, before) = (at(1000), at(100).at);
    subscription(&url, 1, 1, 1, 0);
    intrude(
        &url,
        &format!(
            "INSERT INTO event (subscription, number, key, effect, at) VALUES (1, 1, {key}, 0, {})",
            at(0).at
        ),
    );
    for sql in [
        "UPDATE subscription SET delivered = 0",
        // Put aside, it may still be asked for.
        "UPDATE subscription SET delivered = 1; \
         INSERT INTO dead_letter (subscription, number, at, error, again) VALUES (1, 1, 0, '', FALSE)",
        // Of a change it is not known yet who is told.
        "DELETE FROM dead_letter; INSERT INTO change (key) SELECT MAX(key) FROM history",
    ] {
        intrude(&url, sql);
        let would = store.old_versions(&later, before).await.unwrap();
        assert!(would.awaited >= 1, "{sql}: {would:?}");
        let refused = store.prune_versions(&later, before).await;
        assert!(matches!(refused, Err(Error::Precondition(_))), "{sql}: {refused:?}");
        assert_eq!(versions(&store, "p").await, [3, 2, 1]);
    }
    intrude(&url, "DELETE FROM change");
    assert_eq!(many(&store.prune_versions(&later, before).await.unwrap()), 2);
    assert_eq!(versions(&store, "p").await, [3]);
}

#[test]
fn a_part_is_dropped_only_as_a_whole() {
    Place::postgres().run(|store, url| async move {
        one(&store, &at(0), update(PATIENT, "still", patient("0"), None)).await.unwrap();
        patients(&store, 0..3).await;
        one(&store, &at(500), update(PATIENT, "p", patient("4"), None)).await.unwrap();
        cut(&store, &url).await;
        // Numbers of the part before are used up.
        for n in 0..64 {
            one(&store, &at(600), update(PATIENT, &format!("n{n}"), patient("0"), None)).await.unwrap();
        }
        one(&store, &at(601), update(PATIENT, "p", patient("5"), None)).await.unwrap();
        one(&store, &at(602), update(PATIENT, "p", patient("6"), None)).await.unwrap();
        let later = at(1000);
        // Of the first part one version is of 500, of the second one of 601.
        let would = store.prune_versions(&later, at(100).at).await.unwrap();
        assert_eq!((many(&would), would.mixed.len(), would.mixed[0].1), (0, 1, 3), "{would:?}");
        assert_eq!(versions(&store, "p").await, [6, 5, 4, 3, 2, 1]);
        let went = store.prune_versions(&later, at(550).at).await.unwrap();
        assert_eq!((many(&went), went.mixed.len()), (4, 0), "{went:?}");
        assert_eq!(versions(&store, "p").await, [6, 5]);
        // What was written then and is replaced now has its place there.
        one(&store, &at(700), update(PATIENT, "still", patient("1"), None)).await.unwrap();
        assert_eq!(versions(&store, "still").await, [2, 1]);
        // Searches that began before go on.
        assert_eq!(ids(&store, "Patient?identifier=urn:mrn|6").await, ["p"]);
    });
}
