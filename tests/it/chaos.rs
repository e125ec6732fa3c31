//! Subscriptions while processes die and freeze, and subscribers fail: nothing is lost, and the order is kept.
//! `tests/chaos.sh` is the long form, in which PostgreSQL, Redis and the network fail as well.

use std::time::Duration;

use harness::Backend;
use harness::chaos::{Plan, run};

fn kept(backend: Backend, replicas: usize) {
    let plan = Plan {
        seed: 7,
        events: 1500,
        subscriptions: 10,
        replicas,
        backend: Some(backend),
        moody: 60,
        calm: Duration::from_secs(1),
    };
    let tally = run(&plan, &|_| {}).unwrap();
    println!("{backend:?}, {replicas} processes:\n{tally}");
    assert!(tally.breaches.is_empty(), "{tally}");
}

#[test]
fn subscribers_are_told_whichever_process_dies() {
    kept(Backend::Postgres, 3);
}

#[test]
fn subscribers_are_told_whenever_the_only_process_dies() {
    kept(Backend::Sqlite, 1);
}
