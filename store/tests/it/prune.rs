//! Old versions go when an operator says so, and none that somebody goes by.

use store::{Context, Error, Options, Pruned, Store};

use crate::audit_kept::intrude;
use crate::audit_unreadable::number;
use crate::parts::cut;
use crate::parts_of_events::{clock, subscription};
use crate::place::*;

both!(
    old_versions_go_and_those_that_are_needed_stay,
    what_subscriptions_are_still_told_of_stays,
    searches_that_began_before_go_on
);

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

/// What stays is as it was, so that it is known which version gave a resource its place when they began.
async fn searches_that_began_before_go_on(store: Store, _: String) {
    patients(&store, 0..3).await;
    one(&store, &at(1), update(PATIENT, "a", patient("a"), None)).await.unwrap();
    let assessed = r#"{"resourceType":"RiskAssessment","status":"final","subject":{"reference":"Patient/p"},
        "basis":[{"reference":"Patient/p/_history/1"}]}"#;
    one(&store, &at(5), create(json(assessed))).await.unwrap();
    let mut asked = query("Patient?_count=1&_sort=_lastUpdated");
    asked.count = 1;
    let first = store.search(&now(), &asked).await.unwrap();
    assert_eq!(first.entries.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a"]);
    asked.after = first.next;
    assert!(asked.after.is_some());
    let today = Context::system("test", clock());
    one(&store, &today, update(PATIENT, "p", patient("9"), None)).await.unwrap();
    assert_eq!(many(&store.prune_versions(&today, at(100).at).await.unwrap()), 1);
    assert_eq!(versions(&store, "p").await, [4, 3, 1]);
    let then = store.search(&now(), &asked).await.unwrap().entries;
    assert_eq!(then.iter().map(|one| (one.id.as_str(), one.version)).collect::<Vec<_>>(), [("p", 4)]);
}

/// It is told by what was there before, which is older than the deletion.
#[test]
fn what_a_deletion_is_told_by_stays() {
    Place::sqlite().run(|store, url| async move {
        one(&store, &at(0), update(PATIENT, "p", patient("0"), None)).await.unwrap();
        one(&store, &at(500), delete(PATIENT, "p")).await.unwrap();
        one(&store, &at(501), update(PATIENT, "p", patient("1"), None)).await.unwrap();
        let key = number(&url, "(SELECT MAX(key) FROM history)");
        subscription(&url, 1, 1, 1, 0);
        intrude(
            &url,
            &format!(
                "INSERT INTO event (subscription, number, key, effect, at) VALUES (1, 1, {key}, 2, {})",
                at(500).at
            ),
        );
        let refused = store.prune_versions(&at(1000), at(100).at).await;
        assert!(matches!(refused, Err(Error::Precondition(_))), "{refused:?}");
        intrude(&url, "UPDATE subscription SET delivered = 1");
        assert_eq!(many(&store.prune_versions(&at(1000), at(100).at).await.unwrap()), 1);
        assert_eq!(versions(&store, "p").await, [3, 2]);
    });
}

/// A part goes bit by bit, and then itself, where nothing can come into it any more.
#[test]
fn a_part_in_which_nothing_is_left_is_dropped() {
    Place::postgres().run(|store, url| async move {
        let parts = "(SELECT COUNT(*) FROM pg_inherits WHERE inhparent = CAST('history' AS regclass))";
        let all = "(SELECT COUNT(*) FROM history)";
        patients(&store, 0..3).await;
        intrude(
            &url,
            "INSERT INTO history SELECT -n, kind, 'many', n, updated, deleted, patient, body \
             FROM history, generate_series(1, 12000) n WHERE version = 1",
        );
        cut(&store, &url).await;
        let (later, before) = (at(1000), at(100).at);
        let there = number(&url, all);
        let went = store.prune_versions(&later, before).await.unwrap();
        assert_eq!((many(&went), went.gone.len()), (u64::try_from(there).unwrap(), 1), "{went:?}");
        assert_eq!((number(&url, all), number(&url, parts)), (0, 2), "what is current has its place there");
        let told = store.search(&later, &query_of_the_trail()).await.unwrap();
        let told = |text: &str| told.entries.iter().filter(|event| event.body.contains(text)).count();
        assert_eq!(
            (told("5000 old versions of"), told(" old versions of")),
            (2, 3),
            "all that went is on record"
        );
        // All that it was the place of is replaced, by one who has no number of it.
        let store = Store::open(&url, &Options::default()).unwrap();
        one(&store, &at(602), update(PATIENT, "p", patient("5"), None)).await.unwrap();
        store.prune_versions(&later, at(700).at).await.unwrap();
        assert_eq!(number(&url, parts), 2, "somebody may still have a number of it");
        cut(&store, &url).await;
        store.prune_versions(&later, at(700).at).await.unwrap();
        assert_eq!(number(&url, parts), 2, "the first of three is gone");
        one(&store, &at(800), update(PATIENT, "p", patient("6"), None)).await.unwrap();
        assert_eq!(versions(&store, "p").await, [5, 4]);
    });
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
        assert_eq!(ids(&store, "Patient?identifier=urn:mrn|6").await, ["p"]);
    });
}
