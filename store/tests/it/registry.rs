//! Models in use and clients.

use store::{Activate, ClientChange, Commit, Error, Options, Store};

use crate::place::*;

both!(an_activation_survives, clients_come_and_go);

async fn an_activation_survives(store: Store, url: String) {
    let use_version = |version: &str| Commit {
        activate: vec![Activate { model: "news2".into(), version: version.into() }],
        ..Commit::default()
    };
    store.commit(&now(), use_version("1.0.0")).await.unwrap();
    store.commit(&at(1), use_version("1.1.0")).await.unwrap();
    let again = Store::open(&url, &Options::default()).unwrap();
    let active = again.reading(&now(), |reader: &mut store::Reader<'_>| reader.activations()).await.unwrap();
    assert_eq!(active.len(), 1);
    assert_eq!((active[0].version.as_str(), active[0].since), ("1.1.0", NOW + 1_000_000));
}

async fn clients_come_and_go(store: Store, _: String) {
    let change = |change: ClientChange| Commit { clients: vec![change], ..Commit::default() };
    let add = || ClientChange::Add {
        id: "lab".into(),
        name: "Laboratory".into(),
        key_hash: "abc".into(),
        scope: String::new(),
        expires: None,
    };
    store.commit(&now(), change(add())).await.unwrap();
    assert_eq!(store.commit(&now(), change(add())).await, Err(Error::Conflict { current: 0 }));
    assert_eq!(store.client(&now(), "abc").await.unwrap().name, "Laboratory");
    assert_eq!(store.client(&now(), "abd").await, Err(Error::NotFound));
    store.commit(&at(1), change(ClientChange::Revoke { id: "lab".into() })).await.unwrap();
    assert_eq!(store.client(&now(), "abc").await, Err(Error::NotFound));
    assert_eq!(store.clients(&now()).await.unwrap()[0].revoked, Some(NOW + 1_000_000));
    let unknown = store.commit(&now(), change(ClientChange::Revoke { id: "x".into() })).await;
    assert_eq!(unknown, Err(Error::NotFound));
}
