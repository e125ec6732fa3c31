//! What PostgreSQL's numbers of transactions do to the trail: another cluster, into which a database was
//! restored, begins with its own; and a transaction that stays open holds sealing back.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use store::{Finding, Options, Store, Witnessed};

use crate::audit_kept::{intrude, record, sealed};
use crate::place::*;

#[test]
fn the_log_goes_on_in_another_cluster() {
    Place::postgres().run(|store, url| async move {
        // As it is where so many transactions have been already.
        let number = "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)";
        let shifted =
            |shift: i64| format!("ALTER TABLE audit ALTER COLUMN epoch SET DEFAULT {number} + {shift}");
        intrude(&url, &shifted(1_000_000_000_000));
        record(&store, 0, 300).await;
        sealed(&store, 0).await;
        record(&store, 1, 7).await;
        drop(store);
        intrude(&url, &shifted(0));
        for second in [10, 20] {
            let store = Store::open(&url, &Options { connections: 4, ..Options::default() }).unwrap();
            record(&store, second, 50).await;
            sealed(&store, second).await;
            let verified = store.verify_audit(&at(second), Witnessed::default(), |_| {}).await.unwrap();
            let events = 307 + 5 * u64::try_from(second).unwrap();
            assert_eq!((verified.events, verified.waiting), (events, 0));
            assert_eq!(verified.findings, []);
        }
    });
}

#[test]
fn an_open_transaction_is_told_with_its_age() {
    Place::postgres().run(|store, url| async move {
        let mut other = PgConnection::establish(&url).unwrap();
        other.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
        record(&store, 0, 3).await;
        assert_eq!(store.seal_audit(&at(1)).await.unwrap().head, None, "it may still write before them");
        let lag = store.audit_lag(&at(1)).await.unwrap();
        assert_eq!(lag.oldest, Some(NOW));
        assert!(lag.held.is_some());
        let found = store.verify_audit(&at(100), Witnessed::default(), |_| {}).await.unwrap().findings;
        assert!(matches!(found.as_slice(), [Finding::Late(100, Some(_))]), "{found:?}");
        other.batch_execute("ROLLBACK").unwrap();
        sealed(&store, 2).await;
    });
}

#[test]
fn a_row_that_is_put_where_the_log_has_been_is_missed() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 3).await;
        sealed(&store, 0).await;
        record(&store, 1, 1).await;
        intrude(&url, "UPDATE audit SET epoch = 0 WHERE key = (SELECT MAX(key) FROM audit)");
        let mut vanished = Vec::new();
        for second in [60, 61] {
            vanished.extend(store.seal_audit(&at(second)).await.unwrap().vanished);
        }
        assert_eq!(vanished.len(), 1);
        let (first, last) = vanished[0];
        intrude(&url, "DELETE FROM audit WHERE epoch = 0");
        let found = store.verify_audit(&at(62), Witnessed::default(), |_| {}).await.unwrap().findings;
        assert_eq!(found, [Finding::Vanished(first, last)]);
    });
}
