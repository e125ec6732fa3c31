//! What somebody who writes into the database can make unreadable: it is named, and the trail goes on.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use store::{Astray, Finding, Options, Sealed, Store, Witnessed};

use crate::audit_kept::{findings, intrude, record, sealed};
use crate::place::*;

both!(
    a_log_whose_edge_is_lost_goes_on,
    a_log_that_can_not_go_on_is_begun_anew_when_somebody_accepts_it,
    harm_to_what_was_sealed_long_ago_is_met_and_mended,
    each_column_of_a_block_is_looked_at,
    forged_rows_hold_nothing_up,
    a_destination_is_not_moved_by_others,
);

pub(crate) fn number(url: &str, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let query = diesel::sql_query(format!("SELECT CAST({sql} AS BIGINT) AS number"));
    let found: Number = match url.strip_prefix("sqlite:") {
        Some(path) => query.get_result(&mut SqliteConnection::establish(path).unwrap()).unwrap(),
        None => query.get_result(&mut PgConnection::establish(url).unwrap()).unwrap(),
    };
    found.number
}

async fn a_log_whose_edge_is_lost_goes_on(store: Store, url: String) {
    for (second, edge) in [(0, "'nonsense'"), (100, "''"), (200, "substr(frontier, 1, 12)")] {
        record(&store, second, 700).await;
        sealed(&store, second).await;
        intrude(&url, &format!("UPDATE audit_head SET frontier = {edge}, recorded = 7"));
    }
    record(&store, 300, 3).await;
    sealed(&store, 300).await;
    let verified = store.verify_audit(&at(300), Witnessed::default(), |_| {}).await.unwrap();
    let named = [700, 1400, 2100].map(Finding::Head).to_vec();
    assert_eq!((verified.events, verified.waiting, verified.findings), (2103, 0, named));
}

async fn a_log_that_can_not_go_on_is_begun_anew_when_somebody_accepts_it(store: Store, url: String) {
    for harm in [
        "DELETE FROM audit_block WHERE first = (SELECT MAX(first) FROM audit_block)",
        "UPDATE audit_head SET note = 'nonsense'",
        "DELETE FROM audit_head",
        "UPDATE audit_block SET leaves = 'nonsense' WHERE first = (SELECT MAX(first) FROM audit_block)",
        // Else what is written next would seem to be in the log.
        "UPDATE audit_block SET high = high + 1000000 WHERE first = (SELECT MAX(first) FROM audit_block)",
        "UPDATE audit_block SET keys = keys || '000000' WHERE first = (SELECT MAX(first) FROM audit_block)",
    ] {
        record(&store, 0, 700).await;
        let known = sealed(&store, 0).await.head.unwrap();
        intrude(&url, harm);
        record(&store, 1, 1).await;
        // Nobody who starts only now takes it for a beginning.
        let other = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
        for store in [&store, &other] {
            let found = store.seal_audit(&at(2)).await;
            let stands = found.as_ref().map_or(true, |found| found.astray.is_some());
            assert!(stands, "{harm}: {found:?}");
        }
        assert!(!findings(&store, Witnessed::default(), 2).await.is_empty(), "{harm}");
        store.accept_audit(&at(3), "the disk broke").await.unwrap();
        sealed(&other, 4).await;
        sealed(&store, 4).await;
        let witnessed = Witnessed { heads: vec![known], missing: Vec::new() };
        assert_eq!(findings(&store, witnessed, 5).await, [], "{harm}");
    }
}

/// Looks at all of the old blocks, twice.
async fn patrolled(store: &Store) -> Option<Astray> {
    let mut harm = None;
    for _ in 0..6 {
        harm = store.patrol_audit(&now()).await.unwrap();
    }
    harm
}

async fn harm_to_what_was_sealed_long_ago_is_met_and_mended(store: Store, url: String) {
    // A row of it is in two blocks.
    for _ in 0..50 {
        record(&store, 0, 100).await;
    }
    sealed(&store, 0).await;
    assert_eq!(patrolled(&store).await, None);
    intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit_block");
    let why = "its blocks are not what was signed";
    let (first, second) = ("WHERE first = 4352", "(SELECT root FROM kept WHERE first = 256)");
    for (harm, found, at_least) in [
        (format!("UPDATE audit_block SET leaves = 'nonsense' {first}"), 4352, 4352),
        (format!("UPDATE audit_block SET leaves = substr(leaves, 5) {first}"), 4352, 4352),
        (format!("UPDATE audit_block SET root = {second} {first}"), 4352, 4352),
        (format!("DELETE FROM audit_block {first}"), 4352, 4352),
        // Each is right by itself.
        (
            "DELETE FROM audit_block WHERE first IN (0, 256); INSERT INTO audit_block (first, epoch, high, keys, \
             leaves, root) SELECT 256 - first, epoch, high, keys, leaves, root FROM kept WHERE first IN (0, 256)"
                .to_owned(),
            0,
            0,
        ),
    ] {
        intrude(&url, &harm);
        let astray = Some(Astray { known: 5000, found, why });
        assert_eq!(patrolled(&store).await, astray, "{harm}");
        assert_eq!(store.seal_audit(&at(1)).await.unwrap().astray, None, "what is new is sealed all the same");
        let verified = store.verify_audit(&at(1), Witnessed::default(), |_| {}).await.unwrap();
        assert!(verified.events >= at_least && verified.signed == 5000, "{harm}: {verified:?}");
        assert!(verified.wrong > 0, "{harm}");
        if found > 0 {
            let named = |one: &Finding| matches!(one, Finding::Tree(4352) | Finding::Index);
            assert!(verified.findings.iter().all(named), "{harm}: {:?}", verified.findings);
        }
        intrude(&url, "DELETE FROM audit_block; INSERT INTO audit_block SELECT * FROM kept");
        assert_eq!(patrolled(&store).await, None, "{harm}");
    }
    intrude(&url, &format!("DELETE FROM audit_block {first}"));
    assert_eq!(store.accept_audit(&at(2), "a bad disk").await.unwrap(), None);
    sealed(&store, 3).await;
    assert_eq!(patrolled(&store).await, None);
    assert_eq!(findings(&store, Witnessed::default(), 3).await, []);
}

/// An event whose block is looked for in vain can't be proved: whoever verifies is told.
async fn each_column_of_a_block_is_looked_at(store: Store, url: String) {
    for second in 0..4 {
        record(&store, second, 200).await;
    }
    sealed(&store, 4).await;
    let start = number(&url, "(SELECT MIN(key) FROM audit)");
    let block = |first: i64| Finding::Place(start + first, start + first + 255);
    intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit_block");
    for (harm, named) in [
        ("epoch = 999999999999 WHERE first = 256", vec![256]),
        ("epoch = -1 WHERE first = 256", vec![256]),
        ("epoch = epoch + 1 WHERE first = 0", vec![0]),
        ("epoch = epoch + 1 WHERE root <> ''", vec![0, 256, 512]),
        ("high = high + 1 WHERE first = 256", vec![256]),
        ("high = high - 1 WHERE first = 256", vec![256]),
        ("high = -1 WHERE first = 0", vec![0]),
        ("first = 7 WHERE first = 256", vec![]),
        ("keys = keys || '@1' WHERE first = 256", vec![256]),
        ("leaves = (SELECT leaves FROM kept WHERE first = 512) WHERE first = 256", vec![]),
        ("root = (SELECT root FROM kept WHERE first = 512) WHERE first = 256", vec![]),
        ("root = '' WHERE first = 256", vec![]),
    ] {
        intrude(&url, &format!("UPDATE audit_block SET {harm}"));
        let found = findings(&store, Witnessed::default(), 5).await;
        assert!(!found.is_empty(), "{harm}");
        for first in named {
            assert!(found.contains(&block(first)), "{harm}: {found:?}");
        }
        intrude(&url, "DELETE FROM audit_block; INSERT INTO audit_block SELECT * FROM kept");
    }
    assert_eq!(findings(&store, Witnessed::default(), 5).await, []);
    // The same of what has left, of which there are no rows to compare with.
    store.retire_audit(&at(100), at(3).at, u64::MAX).await.unwrap();
    sealed(&store, 100).await;
    assert_eq!(findings(&store, Witnessed::default(), 100).await, []);
    intrude(&url, "DROP TABLE kept; CREATE TABLE kept AS SELECT * FROM audit_block");
    for (keys, high) in [("keys || '0'", "high"), ("keys", "high + 40"), ("'0,' || keys", "high")] {
        intrude(&url, &format!("UPDATE audit_block SET keys = {keys}, high = {high} WHERE first = 0"));
        assert!(!findings(&store, Witnessed::default(), 100).await.is_empty(), "{keys} {high}");
        intrude(&url, "DELETE FROM audit_block; INSERT INTO audit_block SELECT * FROM kept");
    }
    assert_eq!(findings(&store, Witnessed::default(), 100).await, []);
}

async fn forged_rows_hold_nothing_up(store: Store, url: String) {
    record(&store, 0, 300).await;
    sealed(&store, 0).await;
    let columns = "events, low, high, acts, outcomes, mac, body";
    let epoch = if url.starts_with("postgres") { "epoch + 1" } else { "0" };
    let first = number(&url, "(SELECT MAX(key) FROM audit)") + 10_000;
    // More than are taken in at a time, and one behind which there is no number.
    intrude(
        &url,
        &format!(
            "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 17000) \
             INSERT INTO audit (key, epoch, {columns}) SELECT {first} + n.n, (SELECT {epoch} FROM audit \
             ORDER BY key LIMIT 1), 1, low, high, acts, outcomes, mac, '' FROM n, \
             (SELECT * FROM audit ORDER BY key LIMIT 1) a"
        ),
    );
    let last = i64::MAX;
    if url.starts_with("postgres") {
        intrude(
            &url,
            "CREATE TABLE far PARTITION OF audit FOR VALUES FROM (9000000000000000000) TO (MAXVALUE)",
        );
    }
    intrude(
        &url,
        &format!(
            "INSERT INTO audit (key, epoch, {columns}) SELECT {last}, epoch, {columns} FROM audit \
             ORDER BY key LIMIT 1"
        ),
    );
    let store = if url.starts_with("sqlite") {
        drop(store);
        Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap()
    } else {
        store
    };
    record(&store, 1, 5).await;
    let mut told = Sealed::default();
    for _ in 0..200 {
        let now = store.seal_audit(&at(2)).await.unwrap();
        told.forged.extend(now.forged);
        if now.head.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!told.forged.is_empty());
    let again = store.seal_audit(&at(3)).await.unwrap();
    assert_eq!((again.forged, again.more), (Vec::new(), false), "it is told once");
    let verified = store.verify_audit(&at(3), Witnessed::default(), |_| {}).await.unwrap();
    assert_eq!((verified.events, verified.waiting), (305, 0));
    assert!(verified.wrong >= 17_002, "{}", verified.wrong);
}

async fn a_destination_is_not_moved_by_others(store: Store, url: String) {
    record(&store, 0, 300).await;
    sealed(&store, 0).await;
    let context = now();
    let claim = |until| store.claim_destination(&context, "them", "us", until);
    assert_eq!(claim(NOW + 1).await.unwrap(), 0);
    store.delivered(&now(), "them", "us", 0, 100).await.unwrap();
    assert_eq!(claim(NOW + 2).await.unwrap(), 100);
    intrude(&url, "UPDATE audit_destination SET delivered = 300");
    assert_eq!(claim(NOW + 3).await.unwrap(), 0, "what nobody is known to have is sent again");
    store.delivered(&now(), "them", "us", 0, 200).await.unwrap();
    assert_eq!(store.destinations(&now()).await.unwrap()[0].delivered, 200);
}

#[test]
fn cells_of_other_kinds_are_named() {
    Place::sqlite().run(|store, url| async move {
        record(&store, 0, 3).await;
        record(&store, 1, 3).await;
        sealed(&store, 1).await;
        let key = number(&url, "(SELECT MIN(key) FROM audit)");
        intrude(&url, "CREATE TABLE kept AS SELECT * FROM audit");
        for (column, value) in [
            ("body", "x'ff00'"),
            ("body", "CAST(x'ff' AS TEXT)"),
            ("body", "CAST(body AS BLOB)"),
            ("body", "7"),
            ("low", "CAST(CAST(low AS TEXT) AS BLOB)"),
            ("low", "'nonsense'"),
            ("high", "x''"),
            ("acts", "acts + 0.25"),
            ("mac", "'x'"),
            ("events", "CAST('3' AS BLOB)"),
            ("epoch", "CAST('0' AS BLOB)"),
        ] {
            intrude(&url, &format!("UPDATE audit SET {column} = {value} WHERE key = {key}"));
            let found = findings(&store, Witnessed::default(), 2).await;
            assert!(found.contains(&Finding::Changed(key)), "{column} {value}: {found:?}");
            intrude(&url, "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
        }
        assert_eq!(findings(&store, Witnessed::default(), 2).await, []);
        for (table, changed) in [
            ("audit_agent", "text = CAST(text AS BLOB)"),
            ("audit_block", "keys = CAST(keys AS BLOB)"),
            ("audit_block", "leaves = CAST(leaves AS BLOB)"),
            ("audit_block", "high = CAST(high AS REAL) + 0.5"),
            ("audit_head", "note = CAST(note AS BLOB)"),
            ("audit_head", "frontier = CAST(frontier AS BLOB)"),
            ("audit_head", "recorded = recorded + 1"),
            ("audit_run", "level = -1"),
            ("audit_run", "level = 1000000"),
            ("audit_run", "level = 'x'"),
        ] {
            intrude(&url, &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
            intrude(&url, &format!("UPDATE {table} SET {changed}"));
            assert!(!findings(&store, Witnessed::default(), 2).await.is_empty(), "{table} {changed}");
            intrude(&url, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}; DROP TABLE kept_{table}"));
        }
        intrude(&url, "INSERT INTO audit_agent VALUES (7, '{}')");
        assert_eq!(findings(&store, Witnessed::default(), 2).await, [Finding::Agent(7)]);
        intrude(&url, "DELETE FROM audit_agent WHERE key = 7");
        for (table, column) in [
            ("audit_agent", "text"),
            ("audit_block", "leaves"),
            ("audit_block", "keys"),
            ("audit_head", "note"),
            ("audit_index", "pairs"),
        ] {
            intrude(&url, &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
            intrude(&url, &format!("UPDATE {table} SET {column} = x'ff'"));
            assert!(!findings(&store, Witnessed::default(), 2).await.is_empty(), "{table} {column}");
            intrude(&url, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}; DROP TABLE kept_{table}"));
        }
        assert_eq!(findings(&store, Witnessed::default(), 2).await, []);
    });
}

/// What was answered and not sealed when the process was killed can't be taken out unseen: the numbers have
/// no gaps.
#[test]
fn a_gap_is_found_by_whoever_starts_next() {
    Place::sqlite().run(|store, url| async move {
        record(&store, 0, 3).await;
        sealed(&store, 0).await;
        record(&store, 1, 2).await;
        record(&store, 2, 4).await;
        drop(store);
        let second = number(&url, "(SELECT MAX(key) FROM audit)") - 2;
        intrude(&url, &format!("DELETE FROM audit WHERE key = {second}"));
        let store = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
        let gap = [Finding::Vanished(second, second + 1)];
        assert_eq!(findings(&store, Witnessed::default(), 3).await, gap);
        assert_eq!(sealed(&store, 3).await.vanished, [(second, second + 1)]);
        assert_eq!(findings(&store, Witnessed::default(), 4).await, gap);
        store.accept_audit(&at(5), "looked into").await.unwrap();
        assert_eq!(findings(&store, Witnessed::default(), 6).await, []);
        // The number of one that was taken out from the end is not given again.
        sealed(&store, 6).await;
        record(&store, 7, 1).await;
        let last = number(&url, "(SELECT MAX(key) FROM audit)");
        intrude(&url, &format!("DELETE FROM audit WHERE key = {last}"));
        record(&store, 8, 1).await;
        sealed(&store, 9).await;
        assert_eq!(findings(&store, Witnessed::default(), 9).await, [Finding::Vanished(last, last)]);
    });
}

#[test]
fn numbers_go_on_after_a_time_without_a_trail() {
    Place::sqlite().run(|store, url| async move {
        record(&store, 0, 300).await;
        sealed(&store, 0).await;
        store.retire_audit(&at(100), at(50).at, u64::MAX).await.unwrap();
        sealed(&store, 100).await;
        store.retire_audit(&at(300), at(200).at, u64::MAX).await.unwrap();
        drop(store);
        // The last event leaves with those of a policy that was changed meanwhile.
        let key = number(&url, "(SELECT MAX(key) FROM audit_retired)");
        let store = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
        record(&store, 400, 1).await;
        sealed(&store, 400).await;
        assert!(number(&url, "(SELECT MIN(key) FROM audit)") > key);
        assert_eq!(findings(&store, Witnessed::default(), 400).await, []);
    });
}
