//! A PostgreSQL database that was restored in another cluster, which numbers its transactions anew: the
//! trail goes on where it was.

use store::{Options, Store, Witnessed};

use crate::audit_kept::{intrude, record, sealed};
use crate::place::*;

#[test]
fn the_log_goes_on_in_another_cluster() {
    Place::postgres().run(|store, url| async move {
        record(&store, 0, 300).await;
        sealed(&store, 0).await;
        record(&store, 1, 7).await;
        drop(store);
        // As it is where so many transactions are still to come.
        let far = 1_000_000_000_i64;
        intrude(
            &url,
            &format!(
                "UPDATE audit SET epoch = epoch + {far}; UPDATE audit_block SET epoch = epoch + {far}; \
                 UPDATE audit_block SET keys = regexp_replace(keys, '@([0-9]+)', \
                 '@' || (CAST(substring(keys FROM '@([0-9]+)') AS BIGINT) + {far}))"
            ),
        );
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
