//! PostgreSQL's tables that only grow are in parts: the trail holds across them, and a part leaves as a whole.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use fhir::resource_type::ResourceType;
use store::{Error, Finding, HistoryQuery, Options, Retirement, Store, Witnessed};

use crate::audit_kept::{findings, intrude, record, sealed};
use crate::audit_retired::retired;
use crate::audit_unreadable::number;
use crate::place::*;

/// The next number that begins a part.
const STRIDE: i64 = 1 << 42;

/// New parts begin, as the time of the last ones is over.
pub(crate) async fn cut(store: &Store, url: &str) {
    intrude(
        url,
        "DO $$ DECLARE part text; BEGIN FOR part IN SELECT c.relname FROM pg_class c \
         JOIN pg_inherits ON inhrelid = c.oid JOIN pg_class p ON p.oid = inhparent \
         WHERE p.relname IN ('audit', 'history') AND pg_table_is_visible(p.oid) AND c.relname NOT LIKE '%1990' LOOP \
         EXECUTE format('ALTER TABLE %I RENAME TO %I', part, regexp_replace(part, '[0-9]+$', '1990')); \
         END LOOP; END $$",
    );
    store.keep_parts().await.unwrap();
}

fn parts(url: &str, table: &str) -> i64 {
    number(url, &format!("(SELECT COUNT(*) FROM pg_inherits WHERE inhparent = CAST('{table}' AS regclass))"))
}

/// What the part of the oldest events is called.
fn oldest(url: &str) -> String {
    #[derive(QueryableByName)]
    struct Named {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let name = "SELECT CAST(CAST(tableoid AS regclass) AS TEXT) AS name FROM audit ORDER BY key LIMIT 1";
    let found: Named =
        diesel::sql_query(name).get_result(&mut PgConnection::establish(url).unwrap()).unwrap();
    found.name
}

fn open(url: &str) -> Store {
    Store::open(url, &Options { connections: 4, ..Options::default() }).unwrap()
}

#[test]
fn a_part_leaves_when_all_of_it_may() {
    Place::postgres().run(|store, url| async move {
        let other = open(&url);
        for second in [0, 10] {
            record(&store, second, 700).await;
            record(&other, second, 5).await;
        }
        cut(&store, &url).await;
        cut(&store, &url).await;
        assert_eq!((parts(&url, "audit"), parts(&url, "history")), (3, 3));
        // Whoever has numbers of the part before uses them up; what is new lies behind.
        record(&store, 100, 8).await;
        record(&other, 200, 3).await;
        record(&store, 300, 100).await;
        record(&store, 400, 100).await;
        sealed(&store, 400).await;
        let (of_first, of_last) = (
            number(&url, &format!("(SELECT SUM(events) FROM audit WHERE key < {STRIDE})")),
            number(&url, &format!("(SELECT SUM(events) FROM audit WHERE key >= {})", 2 * STRIDE)),
        );
        assert_eq!((of_first, of_last), (1410 + 8 + 3, 200));
        assert_eq!(findings(&store, Witnessed::default(), 400).await, []);

        assert_eq!(retired(&store, 500, 150, u64::MAX).await, 0, "one of the part is not so old");
        assert_eq!(retired(&store, 500, 250, 700).await, 0, "a receiver does not have all of it");
        assert_eq!(parts(&url, "audit"), 3);
        // Somebody reads, and is not waited for.
        let mut reading = PgConnection::establish(&url).unwrap();
        reading.batch_execute("BEGIN; SELECT COUNT(*) FROM audit").unwrap();
        assert_eq!(store.retire_audit(&at(500), at(250).at, u64::MAX).await, Err(Error::Busy));
        assert_eq!(findings(&store, Witnessed::default(), 400).await, []);
        reading.batch_execute("ROLLBACK").unwrap();
        assert_eq!(retired(&other, 500, 250, u64::MAX).await, 1421);
        assert_eq!(parts(&url, "audit"), 2, "it was dropped");
        assert_eq!(number(&url, "(SELECT MIN(key) FROM audit)"), 2 * STRIDE);
        assert_eq!(retired(&store, 500, 250, u64::MAX).await, 0);
        sealed(&store, 500).await;
        assert_eq!(findings(&store, Witnessed::default(), 500).await, []);
        // Of the part that is written, rows leave; and what is empty is no part for long.
        assert_eq!(retired(&store, 600, 350, u64::MAX).await, 100);
        cut(&store, &url).await;
        assert_eq!(parts(&url, "audit"), 2, "the one that nothing was ever in is gone");
        sealed(&store, 600).await;
        assert_eq!(findings(&store, Witnessed::default(), 600).await, []);
    });
}

#[test]
fn what_is_of_the_next_part_and_comes_before_leaves_with_it() {
    Place::postgres().run(|store, url| async move {
        let other = open(&url);
        record(&store, 0, 1).await;
        record(&other, 0, 1).await;
        cut(&store, &url).await;
        // It has used up its numbers, and so has others.
        record(&store, 1, 64).await;
        record(&other, 2, 1).await;
        record(&store, 300, 10).await;
        sealed(&store, 300).await;
        let first = format!("(SELECT COUNT(*) FROM audit WHERE key < {STRIDE})");
        assert!(number(&url, &first) >= 4);
        assert_eq!(number(&url, "(SELECT MAX(low) FROM audit WHERE key < 4398046511104)"), at(2).at);
        assert_eq!(retired(&store, 500, 100, u64::MAX).await, 67);
        assert_eq!((parts(&url, "audit"), number(&url, &first)), (1, 0));
        assert_eq!(number(&url, "(SELECT SUM(events) FROM audit)"), 11);
        sealed(&store, 500).await;
        assert_eq!(findings(&store, Witnessed::default(), 500).await, []);
    });
}

#[test]
fn what_is_done_to_a_part_is_named() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 320).await;
        cut(&store, &url).await;
        record(&store, 100, 30).await;
        sealed(&store, 100).await;
        let part = oldest(&url);
        let key = number(&url, "(SELECT MIN(key) FROM audit)");
        let all = |missing: &[Finding]| {
            !missing.is_empty() && missing.iter().all(|one| matches!(one, Finding::Removed(_) | Finding::Index))
        };

        intrude(&url, &format!("UPDATE {part} SET low = low - 1 WHERE key = {key}"));
        let found = findings(&store, Witnessed::default(), 100).await;
        assert!(found.contains(&Finding::Changed(key)), "{found:?}");
        let stays = store.retire_audit(&at(500), at(50).at, u64::MAX).await;
        assert!(matches!(stays, Err(Error::Precondition(_))), "{stays:?}");
        intrude(&url, &format!("UPDATE {part} SET low = low + 1 WHERE key = {key}"));
        // Nothing is put in to leave with it.
        let columns = "epoch, events, low, high, acts, outcomes, mac, body";
        let copy = format!("INSERT INTO audit (key, {columns}) SELECT 1000, {columns} FROM audit WHERE key = {key}");
        intrude(&url, &copy);
        assert_eq!(retired(&store, 500, 50, u64::MAX).await, 0);
        intrude(&url, "DELETE FROM audit WHERE key = 1000");

        intrude(&url, "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$");
        for (on, named) in [(part.as_str(), part.as_str()), ("audit", "audit")] {
            intrude(&url, &format!("CREATE TRIGGER t1 BEFORE INSERT ON {on} FOR EACH ROW EXECUTE FUNCTION nothing()"));
            let acting = [Finding::Acting("trigger".into(), "t1".into(), named.into())];
            assert_eq!(store.audit_tables(&at(100)).await.unwrap(), acting);
            intrude(&url, &format!("DROP TRIGGER t1 ON {on}"));
        }
        intrude(&url, &format!("ALTER TABLE {part} SET UNLOGGED"));
        assert_eq!(store.audit_tables(&at(100)).await.unwrap(), [Finding::Replaced("audit")]);
        intrude(&url, &format!("ALTER TABLE {part} SET LOGGED"));
        assert_eq!(findings(&store, Witnessed::default(), 100).await, []);

        let bounds = format!("FROM (MINVALUE) TO ({STRIDE})");
        intrude(&url, &format!("ALTER TABLE audit DETACH PARTITION {part}"));
        let missing = findings(&store, Witnessed::default(), 100).await;
        assert!(all(&missing), "{missing:?}");
        // Nor is it taken for what left by policy.
        assert!(store.retire_audit(&at(500), at(200).at, u64::MAX).await.is_err());
        intrude(
            &url,
            &format!(
                "ALTER TABLE audit DROP CONSTRAINT audit_pkey; DROP FOREIGN DATA WRAPPER IF EXISTS far CASCADE; \
                 CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far; \
                 CREATE FOREIGN TABLE elsewhere PARTITION OF audit FOR VALUES {bounds} SERVER far"
            ),
        );
        assert_eq!(store.audit_tables(&at(100)).await.unwrap(), [Finding::Replaced("audit")]);
        let found = findings(&store, Witnessed::default(), 100).await;
        assert_eq!(found, [Finding::Replaced("audit")]);
        intrude(&url, "DROP FOREIGN DATA WRAPPER far CASCADE; ALTER TABLE audit ADD PRIMARY KEY (key)");
        intrude(&url, &format!("ALTER TABLE audit ATTACH PARTITION {part} FOR VALUES {bounds}"));
        assert_eq!(findings(&store, Witnessed::default(), 100).await, []);
        assert_eq!(retired(&store, 500, 50, u64::MAX).await, 320);
        assert_eq!(parts(&url, "audit"), 1);
    });
}

/// What acts in a part keeps nothing out of it unseen.
#[test]
fn what_a_part_does_not_keep_is_not_done() {
    Place::postgres().run(|store, url| async move {
        intrude(
            &url,
            "CREATE FUNCTION remove() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN DELETE FROM audit WHERE key = NEW.key; RETURN NULL; END $$",
        );
        cut(&store, &url).await;
        record(&store, 0, 1).await;
        let acts = format!(
            "CREATE CONSTRAINT TRIGGER t1 AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             EXECUTE FUNCTION remove()",
            oldest(&url)
        );
        intrude(&url, &acts);
        assert!(one(&store, &now(), create(patient("1"))).await.is_err());
    });
}

#[test]
fn numbers_of_a_part_that_is_gone_are_not_used() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 3).await;
        cut(&store, &url).await;
        let part = oldest(&url);
        intrude(&url, &format!("DROP TABLE {part}"));
        // It still has some.
        one(&store, &now(), create(patient("1"))).await.unwrap();
        assert!(number(&url, "(SELECT MIN(key) FROM audit)") >= STRIDE);
        // A number that was moved on is never moved back.
        let given = number(&url, "(SELECT last_value FROM audit_key)");
        store.keep_parts().await.unwrap();
        assert_eq!(number(&url, "(SELECT last_value FROM audit_key)"), given);
    });
}

/// An acceptance is found although numbers were passed over since.
#[test]
fn the_log_is_accepted_across_parts() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 300).await;
        sealed(&store, 0).await;
        let tables = ["audit_run", "audit_index", "audit_block", "audit_head"];
        for table in tables {
            intrude(&url, &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
        }
        let late = open(&url);
        record(&late, 1, 300).await;
        sealed(&late, 1).await;
        sealed(&store, 1).await;
        for table in tables {
            intrude(&url, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
        }
        assert!(store.seal_audit(&at(2)).await.unwrap().astray.is_some());
        let other = open(&url);
        other.accept_audit(&at(2), "it was put back").await.unwrap();
        for second in [3, 4] {
            cut(&store, &url).await;
            record(&store, second, 100).await;
        }
        // It looks for it the first time now, from the end.
        assert_eq!(sealed(&late, 4).await.astray, None);
        assert_eq!(sealed(&store, 4).await.astray, None);
        assert_eq!(findings(&store, Witnessed::default(), 4).await, []);
    });
}

#[test]
fn versions_are_found_across_parts() {
    Place::postgres().run(|store, url| async move {
        one(&store, &at(0), update(PATIENT, "p", patient("0"), None)).await.unwrap();
        one(&store, &at(0), update(PATIENT, "still", patient("0"), None)).await.unwrap();
        for version in 1..9 {
            if version % 3 == 0 {
                cut(&store, &url).await;
            }
            one(&store, &at(version), update(PATIENT, "p", patient(&version.to_string()), None))
                .await
                .unwrap();
        }
        // A version that was written parts ago is replaced.
        one(&store, &at(9), update(PATIENT, "still", patient("1"), None)).await.unwrap();
        assert_eq!(parts(&url, "history"), 3);
        let of = |id: &str, count| {
            let (store, id) = (store.clone(), id.to_owned());
            async move {
                versions_of(&store, &id, count).await.into_iter().map(|one| one.version).collect::<Vec<_>>()
            }
        };
        for count in [1, 2, 50] {
            assert_eq!(of("p", count).await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!(of("still", count).await, [2, 1]);
        }
        for version in 1..=9 {
            let read = store.vread(&now(), PATIENT, "p", version).await.unwrap();
            assert!(read.body.contains(&format!(r#""value":"{}""#, version - 1)), "{}", read.body);
        }
        let all = HistoryQuery {
            kinds: vec![ResourceType::PATIENT],
            id: None,
            since: Some(at(2).at),
            at: None,
            count: 3,
            after: None,
            used: Vec::new(),
        };
        let mut query = all.clone();
        let mut found = Vec::new();
        loop {
            let page = store.history(&now(), &query).await.unwrap();
            found.extend(page.entries.into_iter().map(|one| (one.id, one.version)));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let newest = std::iter::once(("still".to_owned(), 2));
        let expected: Vec<_> = newest.chain((3..=9).rev().map(|version| ("p".to_owned(), version))).collect();
        assert_eq!(found, expected);
        let span = fhir::time::Span { low: at(4).at, high: at(4).at };
        let then = HistoryQuery { since: None, at: Some(span), count: 50, ..all };
        let page = store.history(&now(), &then).await.unwrap();
        let found: Vec<_> = page.entries.into_iter().map(|one| (one.id, one.version)).collect();
        assert_eq!(found, [("p".to_owned(), 5), ("still".to_owned(), 1)]);
    });
}

#[test]
fn nothing_leaves_twice() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 320).await;
        cut(&store, &url).await;
        record(&store, 100, 30).await;
        sealed(&store, 100).await;
        let other = open(&url);
        let turn = |store: Store| async move { store.retire_audit(&at(500), at(50).at, u64::MAX).await };
        let both = tokio::join!(turn(store.clone()), turn(other));
        let left = |done: Result<Retirement, Error>| match done {
            Ok(Retirement { events, .. }) => events,
            Err(Error::Conflict { .. } | Error::Busy) => 0,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(left(both.0) + left(both.1), 320);
        sealed(&store, 500).await;
        assert_eq!(findings(&store, Witnessed::default(), 500).await, []);
    });
}

/// How far a part was gone through is of the log that it was gone through by.
#[test]
fn a_log_that_is_made_anew_is_gone_through_anew() {
    Place::postgres().run(|store, url| async move {
        for _ in 0..10 {
            record(&store, 0, 32).await;
        }
        cut(&store, &url).await;
        record(&store, 100, 30).await;
        sealed(&store, 100).await;
        assert_eq!(retired(&store, 500, 50, 100).await, 0, "a receiver does not have all of it");
        intrude(&url, "DELETE FROM audit WHERE key = (SELECT key FROM audit ORDER BY key OFFSET 1 LIMIT 1)");
        intrude(&url, "DELETE FROM audit_block");
        assert_eq!(store.accept_audit(&at(200), "that one is gone").await.unwrap(), None, "it is made anew");
        sealed(&store, 200).await;
        assert_eq!(retired(&store, 500, 50, u64::MAX).await, 288);
        assert_eq!(parts(&url, "audit"), 1);
        sealed(&store, 500).await;
        assert_eq!(findings(&store, Witnessed::default(), 500).await, []);
    });
}
