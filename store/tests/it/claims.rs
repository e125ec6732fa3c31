//! Who holds a Subscription, and lets go of it.

use std::sync::Arc;

use store::Store;

use crate::audit_kept::intrude;
use crate::audit_unreadable::number;
use crate::parts_of_events::subscription;
use crate::place::*;

both!(one_that_ends_lets_go_of_its_own_claims);

async fn one_that_ends_lets_go_of_its_own_claims(store: Store, url: String) {
    let process: Arc<str> = "host 127.0.0.1:80".into();
    let until = store.time(now().at) + 600_000_000;
    let claim = |holder: &'static str| {
        let (store, process, holder) = (store.clone(), Arc::clone(&process), Arc::<str>::from(holder));
        async move {
            let claimed =
                store.claim_subscriptions(&now(), &process, &holder, until, 10, false).await.unwrap();
            claimed.into_iter().map(|one| one.number).collect::<Vec<_>>()
        }
    };
    for one in [1, 2, 3] {
        subscription(&url, one, 1, 1, 0);
    }
    let due = |one: i64| format!("UPDATE subscription SET due = 0 WHERE number = {one}");
    intrude(&url, &due(1));
    assert_eq!(claim("host 127.0.0.1:80 old 1").await, [1]);
    // Another begins under its name.
    intrude(&url, &due(2));
    assert_eq!(claim("host 127.0.0.1:80 new 1").await, [2]);
    intrude(&url, &due(3));
    assert_eq!(claim("host 127.0.0.1:800 other 1").await, [3]);
    let held = || number(&url, "(SELECT SUM(number) FROM subscription WHERE until > 0 AND holder <> '')");
    store.release_subscriptions(&now(), "host 127.0.0.1:80 old ").await.unwrap();
    assert_eq!(held(), 2 + 3);
    assert_eq!(claim("host 127.0.0.1:80 new 2").await, [1]);
    // Whoever begins takes up all that was held under its name.
    store.release_subscriptions(&now(), "host 127.0.0.1:80 ").await.unwrap();
    assert_eq!(held(), 3);
}
