//! The trail says what was done, and is not to be changed unseen.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use fhir::resource_type::ResourceType;
use store::{
    Act, Agent, Auditing, Context, Entry, Error, Finding, Options, Outcome, Sealed, Store, Trail, Who,
    Witnessed,
};

use crate::place::*;

both!(
    what_is_written_and_read_is_recorded,
    what_is_refused_leaves_no_success,
    events_are_searched,
    nobody_writes_an_event,
    the_log_grows_and_proves_its_events,
    tampering_is_found_and_named,
    two_processes_seal_one_log,
    buffered_and_off,
);

const AUDIT: ResourceType = ResourceType::AUDIT_EVENT;

fn as_user(trail: &Trail) -> Context {
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

/// On PostgreSQL a row waits for every transaction of the cluster that began before it, those of other
/// tests too.
async fn all_sealed(store: &Store, second: i64) {
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

async fn verified(store: &Store) -> store::Verified {
    store.verify_audit(&now(), Witnessed::default(), |_| {}).await.unwrap()
}

fn known(head: &str) -> Witnessed {
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

/// A direct way into the database, as somebody has who may do everything there.
enum Intruder {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = BigInt)]
    key: i64,
}

#[derive(QueryableByName)]
struct Size {
    #[diesel(sql_type = BigInt)]
    size: i64,
    #[diesel(sql_type = Text)]
    note: String,
}

impl Intruder {
    fn at(url: &str) -> Self {
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let mut connection = SqliteConnection::establish(path).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                Self::Sqlite(connection)
            }
            None => Self::Postgres(PgConnection::establish(url).unwrap()),
        }
    }

    fn run(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    fn keys(&mut self) -> Vec<i64> {
        let query = diesel::sql_query("SELECT key FROM audit ORDER BY key");
        let found: Vec<Key> = match self {
            Self::Sqlite(connection) => query.load(connection).unwrap(),
            Self::Postgres(connection) => query.load(connection).unwrap(),
        };
        found.into_iter().map(|one| one.key).collect()
    }

    fn heads(&mut self) -> Vec<(i64, String)> {
        let query = diesel::sql_query("SELECT size, note FROM audit_head ORDER BY size");
        let found: Vec<Size> = match self {
            Self::Sqlite(connection) => query.load(connection).unwrap(),
            Self::Postgres(connection) => query.load(connection).unwrap(),
        };
        found.into_iter().map(|one| (one.size, one.note)).collect()
    }
}

const NUMBERS: [&str; 10] =
    ["epoch", "at", "act", "outcome", "agent", "kind", "version", "entity", "chart", "mac"];
const TEXTS: [&str; 5] = ["request", "id", "patient", "query", "note"];
const REST: &str =
    "epoch, at, act, outcome, agent, request, kind, id, version, entity, patient, chart, query, note, mac";

/// Flips, deletes, inserts and swaps rows, so many times at random: each is found and names the record.
async fn tampering_is_found_and_named(store: Store, url: String) {
    trail_of(&store, 600).await;
    assert_eq!(verified(&store).await.wrong, 0);
    let mut intruder = Intruder::at(&url);
    let keys = intruder.keys();
    intruder.run("CREATE TABLE kept AS SELECT * FROM audit");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for round in 0..1000 {
        let key = keys[random(keys.len())];
        let back = format!(
            "DELETE FROM audit WHERE key = {key}; INSERT INTO audit SELECT * FROM kept WHERE key = {key}"
        );
        let (harm, cure, named) = match round % 4 {
            0 if random(2) == 0 => {
                let column = NUMBERS[random(NUMBERS.len())];
                (
                    format!("UPDATE audit SET {column} = {column} + {} WHERE key = {key}", 1 + random(9)),
                    back,
                    Finding::Changed(key),
                )
            }
            0 => {
                let column = TEXTS[random(TEXTS.len())];
                (
                    format!("UPDATE audit SET {column} = {column} || 'x' WHERE key = {key}"),
                    back,
                    Finding::Changed(key),
                )
            }
            1 => (format!("DELETE FROM audit WHERE key = {key}"), back, Finding::Removed(key)),
            2 => {
                let new = if random(2) == 0 {
                    keys[keys.len() - 1] + 1
                } else {
                    keys[0] - 1 - i64::try_from(random(50)).unwrap()
                };
                (
                    format!(
                        "INSERT INTO audit (key, {REST}) SELECT {new}, {REST} FROM kept WHERE key = {key}"
                    ),
                    format!("DELETE FROM audit WHERE key = {new}"),
                    Finding::Inserted(new),
                )
            }
            _ => {
                let other =
                    keys[(keys.iter().position(|one| *one == key).unwrap() + 1 + random(keys.len() - 1))
                        % keys.len()];
                (
                    format!(
                        "DELETE FROM audit WHERE key IN ({key}, {other}); \
                         INSERT INTO audit (key, {REST}) SELECT {key}, {REST} FROM kept WHERE key = {other}; \
                         INSERT INTO audit (key, {REST}) SELECT {other}, {REST} FROM kept WHERE key = {key}"
                    ),
                    format!(
                        "DELETE FROM audit WHERE key IN ({key}, {other}); \
                         INSERT INTO audit SELECT * FROM kept WHERE key IN ({key}, {other})"
                    ),
                    Finding::Changed(key),
                )
            }
        };
        intruder.run(&harm);
        let found = verified(&store).await;
        assert!(found.findings.contains(&named), "{round} {harm}: {:?}", found.findings);
        intruder.run(&cure);
    }
    assert_eq!(verified(&store).await.wrong, 0);
    // What is put in and then sealed with the rest is not taken in.
    let new = keys[keys.len() - 1] + 1000;
    intruder.run(&format!(
        "INSERT INTO audit (key, {REST}) SELECT {new}, {REST} FROM kept WHERE key = {}",
        keys[5]
    ));
    if url.starts_with("postgres") {
        intruder.run(&format!("UPDATE audit SET epoch = epoch + 1000000 WHERE key = {new}"));
    }
    trail_of(&store, 10).await;
    assert_eq!(verified(&store).await.findings, [Finding::Inserted(new)]);
    intruder.run(&format!("DELETE FROM audit WHERE key = {new}"));
    // The index, the agents, the blocks and the heads.
    for (harm, cure) in [
        (
            "UPDATE audit_index SET hash = hash + 1 WHERE key = (SELECT MAX(key) FROM audit_index)",
            "UPDATE audit_index SET hash = hash - 1 WHERE key = (SELECT MAX(key) FROM audit_index)",
        ),
        (
            "UPDATE audit_agent SET text = text || ' '",
            "UPDATE audit_agent SET text = substr(text, 1, length(text) - 1)",
        ),
        (
            "UPDATE audit_block SET keys = '1' || keys WHERE first = 256",
            "UPDATE audit_block SET keys = substr(keys, 2) WHERE first = 256",
        ),
        (
            "UPDATE audit_block SET leaves = substr(leaves, 1, 42) || 'A' || substr(leaves, 44) WHERE first = 256",
            "",
        ),
    ] {
        intruder.run(harm);
        assert!(verified(&store).await.wrong > 0, "{harm}");
        if cure.is_empty() {
            return;
        }
        intruder.run(cure);
        assert_eq!(verified(&store).await.wrong, 0, "{cure}");
    }
    let heads = intruder.heads();
    let (size, note) = heads.last().unwrap();
    intruder
        .run(&format!("UPDATE audit_head SET note = replace(note, '{size}', '1{size}') WHERE size = {size}"));
    assert!(verified(&store).await.findings.contains(&Finding::Head(u64::try_from(*size).unwrap())));
    // The end cut off, with all that knows of it: only who kept a head elsewhere sees it.
    let (shorter, _) = &heads[heads.len() - 2];
    intruder.run(&format!("DELETE FROM audit_head WHERE size > {shorter}"));
    let found = store.verify_audit(&now(), known(note), |_| {}).await.unwrap();
    assert!(found.findings.contains(&Finding::Shortened(u64::try_from(*size).unwrap())));
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
    futures_util::future::join(work(&store), work(&other)).await;
    all_sealed(&store, 100).await;
    let found = verified(&store).await;
    assert_eq!((found.events, found.waiting, found.wrong), (80, 0, 0), "{:?}", found.findings);
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
