//! What somebody who may change the database's tables can have it do: no event is kept out of the trail unseen.

use store::{Finding, Sealed, Store, Witnessed};

use crate::audit_kept::{findings, intrude, record, sealed};
use crate::place::*;

both!(
    what_is_not_recorded_is_not_done,
    what_acts_when_something_is_written_is_named,
    what_stands_in_for_a_table_is_named,
    what_vanished_is_told_once,
);

const FUNCTIONS: &str = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN IF NEW.events = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$; \
     CREATE FUNCTION remove() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN DELETE FROM audit WHERE key = NEW.key; RETURN NULL; END $$; \
     CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;";

fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

async fn what_is_not_recorded_is_not_done(store: Store, url: String) {
    let patient = one(&store, &now(), create(patient("1"))).await.unwrap().stored;
    let ways: &[(&str, &str)] = if is_sqlite(&url) {
        &[
            (
                "TRIGGER t1 AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE key = new.key; END",
                "TRIGGER t1",
            ),
            ("TRIGGER t1 BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END", "TRIGGER t1"),
        ]
    } else {
        intrude(&url, FUNCTIONS);
        &[
            (
                "TRIGGER t1 BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION swallow()",
                "TRIGGER t1 ON audit",
            ),
            (
                "TRIGGER t1 AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION remove()",
                "TRIGGER t1 ON audit",
            ),
            (
                "CONSTRAINT TRIGGER t1 AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                 EXECUTE FUNCTION remove()",
                "TRIGGER t1 ON audit",
            ),
            (
                "RULE r1 AS ON INSERT TO audit DO ALSO DELETE FROM audit WHERE key = NEW.key",
                "RULE r1 ON audit",
            ),
        ]
    };
    for (made, dropped) in ways {
        intrude(&url, &format!("CREATE {made}"));
        let done = one(&store, &now(), delete(PATIENT, &patient.id)).await;
        assert!(done.is_err(), "{made}");
        intrude(&url, &format!("DROP {dropped}"));
        store.read(&now(), PATIENT, &patient.id).await.unwrap();
    }
    // What once acted there holds nothing up.
    one(&store, &now(), delete(PATIENT, &patient.id)).await.unwrap();
}

async fn what_acts_when_something_is_written_is_named(store: Store, url: String) {
    let ways: &[(&str, &str, &str, &str)] = if is_sqlite(&url) {
        &[
            ("TRIGGER t1 AFTER INSERT ON AUDIT BEGIN SELECT 1; END", "trigger", "t1", "AUDIT"),
            ("TRIGGER t2 AFTER INSERT ON resource BEGIN SELECT 1; END", "trigger", "t2", "resource"),
        ]
    } else {
        intrude(&url, FUNCTIONS);
        &[
            (
                "TRIGGER t1 AFTER INSERT ON audit_head EXECUTE FUNCTION nothing()",
                "trigger",
                "t1",
                "audit_head",
            ),
            (
                "CONSTRAINT TRIGGER t2 AFTER INSERT ON resource DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                 EXECUTE FUNCTION nothing()",
                "trigger",
                "t2",
                "resource",
            ),
            ("RULE r1 AS ON DELETE TO audit_agent DO INSTEAD NOTHING", "rule", "r1", "audit_agent"),
            ("POLICY p1 ON audit USING (events > 1)", "policy", "p1", "audit"),
        ]
    };
    assert_eq!(store.audit_tables(&now()).await.unwrap(), []);
    for (made, what, name, table) in ways {
        intrude(&url, &format!("CREATE {made}"));
        let named = [Finding::Acting((*what).into(), (*name).into(), (*table).into())];
        assert_eq!(store.audit_tables(&now()).await.unwrap(), named);
        assert_eq!(findings(&store, Witnessed::default(), 0).await, named);
        let of = if is_sqlite(&url) { String::new() } else { format!(" ON {table}") };
        intrude(&url, &format!("DROP {what} {name}{of}"));
    }
    assert_eq!(findings(&store, Witnessed::default(), 0).await, []);
}

async fn what_stands_in_for_a_table_is_named(store: Store, url: String) {
    record(&store, 0, 3).await;
    for table in ["audit", "audit_agent", "audit_index", "audit_head"] {
        intrude(&url, &format!("ALTER TABLE {table} RENAME TO kept"));
        for (made, named) in [(false, Finding::Gone(table)), (true, Finding::Replaced(table))] {
            if made {
                intrude(&url, &format!("CREATE VIEW {table} AS SELECT * FROM kept"));
            }
            assert_eq!(store.audit_tables(&now()).await.unwrap(), std::slice::from_ref(&named));
            assert_eq!(findings(&store, Witnessed::default(), 0).await, [named]);
        }
        intrude(&url, &format!("DROP VIEW {table}; ALTER TABLE kept RENAME TO {table}"));
    }
    sealed(&store, 1).await;
    assert_eq!(findings(&store, Witnessed::default(), 1).await, []);
}

/// Whether it is missed first because it is old, or because there is a gap.
async fn what_vanished_is_told_once(store: Store, url: String) {
    let last = "(SELECT MAX(key) FROM audit)";
    for (second, old) in [(0, true), (1000, false)] {
        record(&store, second, 3).await;
        intrude(&url, &format!("DELETE FROM audit WHERE key = {last}"));
        let mut told = Vec::new();
        for later in [60 * i64::from(old), 61, 122] {
            told.extend(store.seal_audit(&at(second + later)).await.unwrap().vanished);
            record(&store, second + later, 1).await;
            told.extend(sealed(&store, second + later).await.vanished);
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(store.seal_audit(&at(second + 500)).await.unwrap(), Sealed::default());
    }
    // One that ends waits for nothing.
    record(&store, 2000, 2).await;
    intrude(&url, &format!("DELETE FROM audit WHERE key = {last}"));
    assert_eq!(store.missed_audit(&at(2000)).await.unwrap().len(), 1);
    assert_eq!(store.missed_audit(&at(2000)).await.unwrap(), []);
}
