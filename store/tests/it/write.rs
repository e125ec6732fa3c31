//! Versions: what a write makes, keeps and refuses.

use store::{Commit, Conditional, Effect, Error, OnlyIf, Store, Target, Write};

use crate::place::*;

both!(
    a_create_is_version_one_as_sent,
    an_update_keeps_the_old_version,
    the_same_content_is_no_new_version,
    a_delete_is_a_version_and_can_be_undone,
    a_version_that_does_not_match_is_refused,
    a_bundle_rolls_back_whole,
    a_resource_is_written_once_in_a_commit,
    a_conditional_create_finds_what_is_there,
    references_follow_a_conditional_create,
    references_by_criteria_are_resolved,
    conditional_updates_and_deletes,
    one_bad_commit_leaves_the_others_alone,
    large_bundles,
);

async fn a_create_is_version_one_as_sent(store: Store, _: String) {
    let sent = json(
        r#"{"id":"mine","meta":{"profile":["http://p"],"versionId":"9"},"resourceType":"Patient","name":[{"family":"Müller \"x\"\n"}],"extension":[{"url":"http://e","valueDecimal":1.500}]}"#,
    );
    let written = one(&store, &now(), create(sent)).await.unwrap();
    assert_eq!(written.effect, Effect::Created);
    let id = &written.stored.id;
    assert_ne!(id, "mine");
    let expected = format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"1","lastUpdated":"2024-05-06T07:08:09.000Z","profile":["http://p"]}},"name":[{{"family":"Müller \"x\"\n"}}],"extension":[{{"url":"http://e","valueDecimal":1.500}}]}}"#
    );
    assert_eq!(written.stored.body, expected);
    assert_eq!(store.read(&now(), PATIENT, id).await.unwrap(), written.stored);
    assert_eq!(store.vread(&now(), PATIENT, id, 1).await.unwrap(), written.stored);
    assert_eq!(store.vread(&now(), PATIENT, id, 2).await, Err(Error::NotFound));
    assert_eq!(store.read(&now(), OBSERVATION, id).await, Err(Error::NotFound));
    let wrong = one(&store, &now(), create(json(r#"{"resourceType":"Unicorn"}"#))).await;
    assert!(matches!(wrong, Err(Error::Invalid(_))), "{wrong:?}");
    let wrong = one(&store, &now(), create(json(r#"{"resourceType":"Patient","meta":[]}"#))).await;
    assert!(matches!(wrong, Err(Error::Invalid(_))), "{wrong:?}");
}

async fn an_update_keeps_the_old_version(store: Store, _: String) {
    let first = one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    assert_eq!((first.effect, first.stored.version), (Effect::Created, 1));
    let second = one(&store, &at(1), update(PATIENT, "p", patient("b"), None)).await.unwrap();
    assert_eq!((second.effect, second.stored.version), (Effect::Updated, 2));
    assert!(second.stored.key > first.stored.key);
    assert_eq!(store.read(&now(), PATIENT, "p").await.unwrap(), second.stored);
    assert_eq!(store.vread(&now(), PATIENT, "p", 1).await.unwrap(), first.stored);
    assert_eq!(versions_of(&store, "p", 10).await, [second.stored.clone(), first.stored.clone()]);
    assert_eq!(versions_of(&store, "p", 1).await, [second.stored.clone(), first.stored]);
    assert!(ids(&store, "Patient?identifier=urn:mrn|a").await.is_empty());
    assert_eq!(ids(&store, "Patient?identifier=urn:mrn|b").await, ["p"]);
}

async fn the_same_content_is_no_new_version(store: Store, _: String) {
    let first = one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let again = one(&store, &at(9), update(PATIENT, "p", patient("a"), Some(1))).await.unwrap();
    assert_eq!(again.effect, Effect::Unchanged);
    assert_eq!(again.stored, first.stored);
    // As a client sends it back: with the store's own meta.
    let back = json(&first.stored.body);
    let again = one(&store, &at(9), update(PATIENT, "p", back, None)).await.unwrap();
    assert_eq!((again.effect, again.stored.version), (Effect::Unchanged, 1));
}

async fn a_delete_is_a_version_and_can_be_undone(store: Store, _: String) {
    let never = one(&store, &now(), delete(PATIENT, "p")).await.unwrap();
    assert_eq!((never.effect, never.stored.version), (Effect::Absent, 0));
    one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let gone = one(&store, &at(1), delete(PATIENT, "p")).await.unwrap();
    assert_eq!((gone.effect, gone.stored.version), (Effect::Deleted, 2));
    assert_eq!(store.read(&now(), PATIENT, "p").await, Err(Error::Gone { version: 2 }));
    assert_eq!(store.vread(&now(), PATIENT, "p", 2).await, Err(Error::Gone { version: 2 }));
    assert_eq!(store.vread(&now(), PATIENT, "p", 1).await.unwrap().version, 1);
    assert!(ids(&store, "Patient?identifier=a").await.is_empty());
    assert!(ids(&store, "Patient").await.is_empty());
    let twice = one(&store, &at(2), delete(PATIENT, "p")).await.unwrap();
    assert_eq!((twice.effect, twice.stored.version), (Effect::Absent, 2));
    let back = one(&store, &at(3), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    assert_eq!((back.effect, back.stored.version), (Effect::Created, 3));
    assert_eq!(ids(&store, "Patient?identifier=a").await, ["p"]);
    let history = versions_of(&store, "p", 10).await;
    let versions: Vec<(i64, bool)> = history.iter().map(|one| (one.version, one.deleted)).collect();
    assert_eq!(versions, [(3, false), (2, true), (1, false)]);
}

async fn a_version_that_does_not_match_is_refused(store: Store, _: String) {
    let none = one(&store, &now(), update(PATIENT, "p", patient("a"), Some(1))).await;
    assert!(matches!(none, Err(Error::Precondition(_))), "{none:?}");
    one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let stale = one(&store, &now(), update(PATIENT, "p", patient("b"), Some(7))).await;
    assert_eq!(stale, Err(Error::Conflict { current: 1 }));
    let right = one(&store, &now(), update(PATIENT, "p", patient("b"), Some(1))).await.unwrap();
    assert_eq!(right.stored.version, 2);
    let wrong = Write::Delete { target: Target::Id(PATIENT, "p".into()), only_if: OnlyIf::Version(1) };
    assert_eq!(one(&store, &now(), wrong).await, Err(Error::Conflict { current: 2 }));
}

async fn a_bundle_rolls_back_whole(store: Store, _: String) {
    one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let bundle = writes(vec![
        create(observation("p", "2093-3", "2024-01-01", "200")),
        update(PATIENT, "q", patient("q"), None),
        update(PATIENT, "p", patient("b"), Some(99)),
    ]);
    assert_eq!(store.commit(&now(), bundle).await, Err(Error::Conflict { current: 1 }));
    assert_eq!(store.read(&now(), PATIENT, "q").await, Err(Error::NotFound));
    assert_eq!(store.read(&now(), PATIENT, "p").await.unwrap().version, 1);
    assert!(ids(&store, "Observation?patient=p").await.is_empty());
    assert_eq!(ids(&store, "Patient?identifier=a").await, ["p"]);
}

async fn a_resource_is_written_once_in_a_commit(store: Store, _: String) {
    let twice = writes(vec![update(PATIENT, "p", patient("a"), None), delete(PATIENT, "p")]);
    assert!(matches!(store.commit(&now(), twice).await, Err(Error::Invalid(_))));
    assert_eq!(store.read(&now(), PATIENT, "p").await, Err(Error::NotFound));
}

fn unless(identifier: &str, id: Option<&str>) -> Write<'static> {
    Write::Create {
        resource: patient(identifier),
        id: id.map(str::to_owned),
        if_none_exist: Some(query(&format!("Patient?identifier=urn:mrn|{identifier}"))),
    }
}

async fn a_conditional_create_finds_what_is_there(store: Store, _: String) {
    let first = one(&store, &now(), unless("x", None)).await.unwrap();
    let again = one(&store, &now(), unless("x", None)).await.unwrap();
    assert_eq!(again.effect, Effect::Unchanged);
    assert_eq!(again.stored, first.stored);
    // Twice in one bundle is one as well.
    let pair =
        store.commit(&now(), writes(vec![unless("y", Some("y1")), unless("y", Some("y2"))])).await.unwrap();
    assert_eq!((pair[0].effect, pair[1].effect), (Effect::Created, Effect::Unchanged));
    assert_eq!(pair[0].stored, pair[1].stored);
    one(&store, &now(), create(patient("x"))).await.unwrap();
    assert_eq!(one(&store, &now(), unless("x", None)).await, Err(Error::Ambiguous));
}

async fn references_follow_a_conditional_create(store: Store, _: String) {
    let there = one(&store, &now(), unless("x", None)).await.unwrap().stored.id;
    let bundle = writes(vec![
        unless("x", Some("promised")),
        unless("z", Some("z1")),
        unless("z", Some("z2")),
        create(observation("promised", "2093-3", "2024-01-01", "200")),
        create(observation("z2", "2093-3", "2024-01-01", "200")),
    ]);
    let written = store.commit(&now(), bundle).await.unwrap();
    assert_eq!(written[0].stored.id, there);
    assert!(written[3].stored.body.contains(&format!("\"Patient/{there}\"")), "{}", written[3].stored.body);
    assert!(written[4].stored.body.contains("\"Patient/z1\""));
    assert_eq!(ids(&store, &format!("Observation?patient={there}")).await, [written[3].stored.id.clone()]);
    assert!(ids(&store, "Observation?patient=promised").await.is_empty());
}

async fn references_by_criteria_are_resolved(store: Store, _: String) {
    one(&store, &now(), update(PATIENT, "p", patient("x"), None)).await.unwrap();
    let by = |identifier: &str, writes: Vec<Write<'static>>| Commit {
        writes,
        references: vec![Conditional {
            text: format!("Patient?identifier=urn:mrn|{identifier}"),
            query: query(&format!("Patient?identifier=urn:mrn|{identifier}")),
            at: "Observation.subject.reference".into(),
        }],
        ..Commit::default()
    };
    let about = |identifier: &str| {
        json(&format!(
            r#"{{"resourceType":"Observation","subject":{{"reference":"Patient?identifier=urn:mrn|{identifier}"}}}}"#
        ))
    };
    let written = store.commit(&now(), by("x", vec![create(about("x"))])).await.unwrap();
    assert!(written[0].stored.body.contains(r#""reference":"Patient/p""#));
    let missing = store.commit(&now(), by("y", vec![create(about("y"))])).await;
    assert!(matches!(missing, Err(Error::Invalid(_))), "{missing:?}");
    // What the same bundle brings counts.
    let both = vec![update(PATIENT, "new", patient("y"), None), create(about("y"))];
    let written = store.commit(&now(), by("y", both)).await.unwrap();
    assert!(written[1].stored.body.contains(r#""reference":"Patient/new""#));
}

async fn conditional_updates_and_deletes(store: Store, _: String) {
    let only = |identifier: &str| Target::Only(query(&format!("Patient?identifier=urn:mrn|{identifier}")));
    let put = |identifier: &str, family: &str| Write::Update {
        resource: json(&format!(
            r#"{{"resourceType":"Patient","identifier":[{{"system":"urn:mrn","value":"{identifier}"}}],"name":[{{"family":"{family}"}}]}}"#
        )),
        target: only(identifier),
        id: None,
        only_if: OnlyIf::Always,
    };
    let made = one(&store, &now(), put("x", "A")).await.unwrap();
    assert_eq!(made.effect, Effect::Created);
    let changed = one(&store, &now(), put("x", "B")).await.unwrap();
    assert_eq!((changed.effect, changed.stored.version), (Effect::Updated, 2));
    assert_eq!(changed.stored.id, made.stored.id);
    assert!(changed.stored.body.contains(&format!(r#""id":"{}""#, made.stored.id)));
    let other = |id: &str| Write::Update {
        resource: json(&format!(r#"{{"resourceType":"Patient","id":"{id}","active":true}}"#)),
        target: only("x"),
        id: None,
        only_if: OnlyIf::Always,
    };
    assert!(matches!(one(&store, &now(), other("wrong")).await, Err(Error::Invalid(_))));
    assert_eq!(one(&store, &now(), other(&made.stored.id)).await.unwrap().stored.version, 3);
    // Nothing matches now, and the id is somebody else's.
    let taken = one(&store, &now(), other(&made.stored.id)).await;
    assert_eq!(taken, Err(Error::Conflict { current: 3 }));
    assert_eq!(one(&store, &now(), other("free")).await.unwrap().stored.id, "free");
    one(&store, &now(), update(PATIENT, &made.stored.id, patient("x"), None)).await.unwrap();
    let drop = |identifier: &str| Write::Delete { target: only(identifier), only_if: OnlyIf::Always };
    assert_eq!(one(&store, &now(), drop("x")).await.unwrap().effect, Effect::Deleted);
    assert_eq!(one(&store, &now(), drop("x")).await.unwrap().effect, Effect::Absent);
}

async fn one_bad_commit_leaves_the_others_alone(store: Store, _: String) {
    let commits = vec![
        writes(vec![update(PATIENT, "a", patient("a"), None)]),
        writes(vec![update(PATIENT, "b", patient("b"), Some(5))]),
        writes(vec![create(json(r#"{"resourceType":"Nothing"}"#))]),
        writes(vec![update(PATIENT, "a", patient("aa"), Some(1))]),
    ];
    let answers = store.commit_each(&now(), commits).await;
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_err());
    assert_eq!(answers[3].as_ref().unwrap()[0].stored.version, 2);
}

async fn large_bundles(store: Store, _: String) {
    let all: Vec<Write<'static>> = (0..700)
        .map(|n| {
            update(
                OBSERVATION,
                &format!("o{n}"),
                observation("p", "2093-3", "2024-01-01", &n.to_string()),
                None,
            )
        })
        .collect();
    let written = store.commit(&now(), writes(all)).await.unwrap();
    assert_eq!(written.len(), 700);
    for (n, one) in written.iter().enumerate() {
        assert_eq!(one.stored.id, format!("o{n}"));
        assert!(one.stored.body.contains(&format!(r#""value":{n},"#)));
    }
    let mixed: Vec<Write<'static>> = (0..700)
        .map(|n| match n % 3 {
            0 => delete(OBSERVATION, &format!("o{n}")),
            1 => create(observation("p", "2093-3", "2024-01-02", "1")),
            _ => update(
                OBSERVATION,
                &format!("o{n}"),
                observation("p", "2085-9", "2024-01-03", &n.to_string()),
                Some(1),
            ),
        })
        .collect();
    let written = store.commit(&at(1), writes(mixed)).await.unwrap();
    assert_eq!(written[0].effect, Effect::Deleted);
    assert_eq!((written[1].effect, written[1].stored.version), (Effect::Created, 1));
    assert_eq!((written[2].effect, written[2].stored.version), (Effect::Updated, 2));
    assert_eq!(written[698].stored.id, "o698");
    let total = |text: &'static str| {
        let store = store.clone();
        async move { store.search(&now(), &query(text)).await.unwrap().total }
    };
    assert_eq!(total("Observation?patient=p&code=2085-9&_summary=count").await, Some(233));
    assert_eq!(total("Observation?patient=p&code=2093-3&_summary=count").await, Some(233 + 233));
    assert_eq!(total("Observation?_summary=count").await, Some(699));
}
