//! The trail says what was done, and is not to be changed unseen.

use fhir::resource_type::ResourceType;
use store::{
    Act, Agent, Auditing, Context, Entry, Error, Options, Outcome, Sealed, Store, Trail, Who, Witnessed,
};

use crate::place::*;

both!(
    what_is_written_and_read_is_recorded,
    what_is_refused_leaves_no_success,
    events_are_searched,
    nobody_writes_an_event,
    the_log_grows_and_proves_its_events,
    two_processes_seal_one_log,
    what_was_sealed_in_many_turns_is_found,
    buffered_and_off,
);

const AUDIT: ResourceType = ResourceType::AUDIT_EVENT;

pub(crate) fn as_user(trail: &Trail) -> Context {
    let agent = Agent {
        client: Some("app".into()),
        user: Some("u1".into()),
        issuer: Some("https://idp".into()),
        fhir_user: Some("Practitioner/1".into()),
        address: Some("192.0.2.1".into()),
        token: Some("jti-1".into()),
        ..Agent::default()
    };
    Context { who: Who::new(agent), trail: Some(trail.clone()), request: "req-1".into(), ..now() }
}

async fn events(store: &Store, text: &str) -> Vec<fhir::json::Json<'static>> {
    let page = store.search(&now(), &query(text)).await.unwrap();
    page.entries.iter().map(|stored| json(&stored.body)).collect()
}

fn subtype(event: &fhir::json::Json<'static>) -> String {
    event.list("subtype")[0].text("code").unwrap().to_owned()
}

async fn what_is_written_and_read_is_recorded(store: Store, _: String) {
    let trail = Trail::default();
    let user = as_user(&trail);
    one(&store, &user, update(PATIENT, "p", patient("1"), None)).await.unwrap();
    let of = observation("p", "2093-3", "2020-01-01", "1");
    let written = one(&store, &user, create(of)).await.unwrap().stored;
    store.read(&user, OBSERVATION, &written.id).await.unwrap();
    store.search(&user, &query("Observation?patient=p")).await.unwrap();
    one(&store, &user, delete(OBSERVATION, &written.id)).await.unwrap();
    assert_eq!(trail.take().len(), 2);
    store.read(&user, PATIENT, "p").await.unwrap();
    store.record(&user).await.unwrap();
    let found = events(&store, "AuditEvent?patient=p&_sort=_id").await;
    let acts: Vec<String> = found.iter().map(subtype).collect();
    assert_eq!(acts, ["create", "create", "delete", "read"]);
    let mut text = Vec::new();
    found[1].write(&mut text);
    let text = String::from_utf8(text).unwrap();
    for part in [
        r#""action":"C""#,
        r#""recorded":"2024-05-06T07:08:09.000Z""#,
        r#""outcome":"0""#,
        &format!(r#""reference":"Observation/{}/_history/1""#, written.id),
        r#""reference":"Patient/p""#,
        r#""reference":"Practitioner/1""#,
        "urn:ietf:params:oauth:jti:jti-1",
        r#""address":"192.0.2.1""#,
        r#""value":"req-1""#,
        "IHE.BasicAudit.PatientCreate",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let stored = store.read(&now(), AUDIT, found[1].text("id").unwrap()).await.unwrap();
    assert_eq!(json(&stored.body), found[1]);
    assert_eq!(store.read(&now(), AUDIT, "0").await, Err(Error::NotFound));
    assert_eq!(store.read(&now(), AUDIT, "x").await, Err(Error::NotFound));
}

async fn what_is_refused_leaves_no_success(store: Store, _: String) {
    let written = one(&store, &now(), create(patient("1"))).await.unwrap().stored;
    let wrong = update(PATIENT, &written.id, json(&written.body), Some(7));
    let commit = writes(vec![create(patient("2")), wrong]);
    assert!(store.commit(&now(), commit).await.is_err());
    assert_eq!(events(&store, "AuditEvent").await.len(), 1);
}

async fn events_are_searched(store: Store, _: String) {
    let trail = Trail::default();
    let user = as_user(&trail);
    for (n, (act, outcome, id)) in [
        (Act::Read, Outcome::Success, "a"),
        (Act::Read, Outcome::Minor, "b"),
        (Act::SearchType, Outcome::Success, "a"),
        (Act::Login, Outcome::Minor, ""),
        (Act::Update, Outcome::Success, "a"),
    ]
    .into_iter()
    .enumerate()
    {
        let entity = (!id.is_empty()).then(|| (OBSERVATION, format!("o-{id}"), 1));
        let query = if act == Act::SearchType { "/Observation?code=x".to_owned() } else { String::new() };
        trail.note(Entry { outcome, entity, patient: id.to_owned(), query, ..Entry::of(act) });
        let at = NOW + i64::try_from(n).unwrap() * 86_400_000_000;
        store.record(&Context { at, ..user.clone() }).await.unwrap();
    }
    let found = async |text: &str| -> Vec<String> {
        let mut acts: Vec<String> = events(&store, text).await.iter().map(subtype).collect();
        acts.reverse();
        acts
    };
    assert_eq!(found("AuditEvent").await, ["read", "read", "search-type", "110122", "update"]);
    assert_eq!(found("AuditEvent?patient=a").await, ["read", "search-type", "update"]);
    assert_eq!(found("AuditEvent?patient=Patient/b").await, ["read"]);
    assert_eq!(found("AuditEvent?entity=Observation/o-a").await, ["read", "search-type", "update"]);
    assert_eq!(found("AuditEvent?entity=Patient/b").await, ["read"]);
    assert_eq!(found("AuditEvent?action=R").await, ["read", "read"]);
    assert_eq!(found("AuditEvent?action=R&outcome=0").await, ["read"]);
    assert_eq!(found("AuditEvent?outcome=4").await, ["read", "110122"]);
    assert_eq!(found("AuditEvent?type=rest").await, ["read", "read", "search-type", "update"]);
    assert_eq!(found("AuditEvent?subtype=http://hl7.org/fhir/restful-interaction|update").await, ["update"]);
    assert_eq!(found("AuditEvent?date=2024-05-07").await, ["read"]);
    assert_eq!(found("AuditEvent?date=ge2024-05-09").await, ["110122", "update"]);
    assert_eq!(found("AuditEvent?agent=Practitioner/1&patient=b").await, ["read"]);
    assert_eq!(found("AuditEvent?agent:identifier=https://idp|u1").await.len(), 5);
    assert_eq!(found("AuditEvent?agent=Practitioner/2").await.len(), 0);
    assert_eq!(found("AuditEvent?address=192.0.2.1").await.len(), 5);
    assert_eq!(found("AuditEvent?policy=urn:ietf:params:oauth:jti:jti-1").await.len(), 5);
    assert_eq!(found("AuditEvent?entity-role=24").await, ["search-type"]);
    assert_eq!(found("AuditEvent?action:not=R").await, ["search-type", "110122", "update"]);
    assert_eq!(
        store.search(&now(), &query("AuditEvent?_total=accurate&_count=2")).await.unwrap().total,
        Some(5)
    );
    let mut paged = Vec::new();
    let mut asked = query("AuditEvent?_count=2&_sort=date");
    loop {
        let page = store.search(&now(), &asked).await.unwrap();
        paged.extend(page.entries.iter().map(|one| subtype(&json(&one.body))));
        asked.after = page.next;
        if asked.after.is_none() {
            break;
        }
    }
    assert_eq!(paged, ["read", "read", "search-type", "110122", "update"]);
    let chained = store.search(&now(), &query("AuditEvent?patient:Patient.name=x")).await;
    assert!(matches!(chained, Err(Error::Invalid(_))));
}

async fn nobody_writes_an_event(store: Store, _: String) {
    one(&store, &now(), create(patient("1"))).await.unwrap();
    let found = events(&store, "AuditEvent").await.pop().unwrap();
    let id = found.text("id").unwrap().to_owned();
    for write in [create(found.clone()), update(AUDIT, &id, found, None), delete(AUDIT, &id)] {
        assert!(matches!(one(&store, &now(), write).await, Err(Error::Invalid(_))));
    }
}

/// So many events, sealed in parts.
async fn trail_of(store: &Store, many: usize) {
    let trail = Trail::default();
    let user = as_user(&trail);
    for n in 0..many {
        let entity = Some((OBSERVATION, format!("o{n}"), 1));
        trail.note(Entry { entity, patient: format!("p{}", n % 7), ..Entry::of(Act::Read) });
        if n % 97 == 0 {
            store.record(&user).await.unwrap();
            store.seal_audit(&at(i64::try_from(n).unwrap())).await.unwrap();
        }
    }
    store.record(&user).await.unwrap();
    all_sealed(store, i64::try_from(many).unwrap()).await;
}

/// On PostgreSQL a row waits for every transaction of this database that began before it.
pub(crate) async fn all_sealed(store: &Store, second: i64) {
    for _ in 0..500 {
        match store.seal_audit(&at(second)).await {
            Ok(_) | Err(Error::Conflict { .. }) => {}
            Err(error) => assert_eq!(error, Error::Busy),
        }
        if verified(store).await.waiting == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

pub(crate) async fn verified(store: &Store) -> store::Verified {
    store.verify_audit(&now(), Witnessed::default(), |_| {}).await.unwrap()
}

pub(crate) fn known(head: &str) -> Witnessed {
    Witnessed { heads: vec![head.to_owned()], missing: Vec::new() }
}

async fn the_log_grows_and_proves_its_events(store: Store, _: String) {
    trail_of(&store, 300).await;
    let before = verified(&store).await;
    assert_eq!((before.events, before.waiting, before.wrong), (300, 0, 0), "{:?}", before.findings);
    let older = before.head.unwrap();
    assert_eq!(store.seal_audit(&now()).await.unwrap(), Sealed::default());
    trail_of(&store, 700).await;
    let after = store.verify_audit(&now(), known(&older), |_| {}).await.unwrap();
    assert_eq!((after.events, after.wrong), (1000, 0), "{:?}", after.findings);
    for id in store.search(&now(), &query("AuditEvent?_count=1000")).await.unwrap().entries {
        let proof = store.prove_audit(&now(), &id.id, Some(300)).await.unwrap();
        assert!(proof.holds(&store.audit_key(), Some(&older)));
        assert!(String::from_utf8(proof.leaf.clone()).unwrap().contains(r#""o"#));
        let other = store::Proof { index: proof.index ^ 1, ..proof.clone() };
        assert!(!other.holds(&store.audit_key(), None));
    }
    // It was longer once.
    let end = store.seal_audit(&now()).await.unwrap();
    assert_eq!(end, Sealed::default());
}

async fn two_processes_seal_one_log(store: Store, url: String) {
    let other = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
    let work = async |store: &Store| {
        for n in 0..40 {
            one(store, &at(n), create(patient("1"))).await.unwrap();
            match store.seal_audit(&at(n)).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => assert_eq!(error, Error::Busy),
            }
        }
    };
    futures_util::future::join(Box::pin(work(&store)), Box::pin(work(&other))).await;
    all_sealed(&store, 100).await;
    let found = verified(&store).await;
    assert_eq!((found.events, found.waiting, found.wrong), (80, 0, 0), "{:?}", found.findings);
}

async fn what_was_sealed_in_many_turns_is_found(store: Store, _: String) {
    let trail = Trail::default();
    let user = as_user(&trail);
    for n in 0..280 {
        let entity = Some((OBSERVATION, format!("o{n}"), 1));
        trail.note(Entry { entity, patient: format!("p{}", n % 7), ..Entry::of(Act::Read) });
        store.record(&user).await.unwrap();
        if n % 9 == 0 {
            all_sealed(&store, n).await;
        }
    }
    assert_eq!(verified(&store).await.findings, []);
    for n in 0..280 {
        let found = events(&store, &format!("AuditEvent?entity=Observation/o{n}&_count=5")).await;
        assert_eq!(found.len(), 1, "{n}");
    }
    let all = query("AuditEvent?patient=p3&_count=1000&_sort=_id");
    let all: Vec<String> =
        store.search(&now(), &all).await.unwrap().entries.into_iter().map(|one| one.id).collect();
    assert_eq!(all.len(), 40);
    for sort in ["_id", "-_id"] {
        let (mut paged, mut asked) =
            (Vec::new(), query(&format!("AuditEvent?patient=p3&_count=7&_sort={sort}")));
        loop {
            let page = store.search(&now(), &asked).await.unwrap();
            paged.extend(page.entries.into_iter().map(|one| one.id));
            asked.after = page.next;
            if asked.after.is_none() {
                break;
            }
        }
        if sort == "-_id" {
            paged.reverse();
        }
        assert_eq!(paged, all, "{sort}");
    }
    assert_eq!(events(&store, "AuditEvent?agent=Practitioner/1&_count=1000").await.len(), 280);
    assert_eq!(events(&store, "AuditEvent?policy=urn:ietf:params:oauth:jti:jti-1&_count=3").await.len(), 3);
}

async fn buffered_and_off(store: Store, url: String) {
    drop(store);
    for (auditing, events_after) in [(Auditing::Off, 0), (Auditing::Buffered, 2)] {
        let store = Store::open(&url, &Options { auditing, ..Options::default() }).unwrap();
        let trail = Trail::default();
        let user = as_user(&trail);
        let written = one(&store, &user, create(patient("1"))).await.unwrap().stored;
        store.read(&user, PATIENT, &written.id).await.unwrap();
        store.record(&user).await.unwrap();
        for _ in 0..100 {
            if events(&store, "AuditEvent").await.len() == events_after {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(events(&store, "AuditEvent").await.len(), events_after);
    }
}
