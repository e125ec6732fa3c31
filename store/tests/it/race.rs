//! Many at once: nothing is lost, nothing is made twice.

use std::collections::HashSet;

use store::{Effect, Error, OnlyIf, Patch, Store, Target, Write};

use crate::place::*;

both!(
    everything_acknowledged_is_there,
    racing_conditional_creates_make_one,
    racing_writes_by_criteria_mean_one,
    racing_updates_have_one_winner,
    racing_updates_without_a_version_all_count,
    racing_first_versions_all_count,
    bundles_in_opposite_order_do_not_block_each_other,
);

async fn together<T: Send + 'static>(
    number: usize,
    task: impl Fn(usize) -> futures_util::future::BoxFuture<'static, T>,
) -> Vec<T> {
    futures_util::future::join_all((0..number).map(|n| tokio::spawn(task(n))).collect::<Vec<_>>())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

async fn everything_acknowledged_is_there(store: Store, url: String) {
    let writers = store.clone();
    let all = together(64, move |n| {
        let store = writers.clone();
        Box::pin(async move {
            let mut made = Vec::new();
            for m in 0..8 {
                let one_more = create(observation(&format!("p{n}"), "2093-3", "2024-01-01", &m.to_string()));
                made.push(one(&store, &now(), one_more).await.unwrap().stored);
            }
            made
        })
    })
    .await;
    let keys: HashSet<i64> = all.iter().flatten().map(|stored| stored.key).collect();
    assert_eq!(keys.len(), 64 * 8);
    // As another process sees it.
    let other = Store::open(&url, &store::Options::default()).unwrap();
    for stored in all.iter().flatten() {
        assert_eq!(&other.read(&now(), OBSERVATION, &stored.id).await.unwrap(), stored);
    }
    assert_eq!(ids(&other, "Observation?patient=p7&code=2093-3").await.len(), 8);
}

#[test]
fn lost_connections_are_replaced() {
    let place = Place::postgres();
    let store = place.open();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for round in 0..3 {
            let writer = store.clone();
            together(32, move |n| {
                let store = writer.clone();
                Box::pin(async move {
                    let id = format!("r{round}-{n}");
                    one(&store, &now(), update(PATIENT, &id, patient("x"), None)).await.unwrap();
                    store.read(&now(), PATIENT, &id).await.unwrap();
                })
            })
            .await;
            place.cut();
        }
    });
}

async fn racing_conditional_creates_make_one(store: Store, url: String) {
    let other = Store::open(&url, &store::Options::default()).unwrap();
    let effects = together(32, move |n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        Box::pin(async move {
            let unless = Write::Create {
                resource: patient("x"),
                id: None,
                if_none_exist: Some(query("Patient?identifier=urn:mrn|x")),
            };
            let written = one(&store, &now(), unless).await.unwrap();
            (written.effect, written.stored.id)
        })
    })
    .await;
    assert_eq!(effects.iter().filter(|(effect, _)| *effect == Effect::Created).count(), 1);
    assert_eq!(effects.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), 1);
}

/// Created, updated, patched and deleted by the same criteria at once: never two of them.
async fn racing_writes_by_criteria_mean_one(store: Store, url: String) {
    let other = Store::open(&url, &store::Options::default()).unwrap();
    let writer = store.clone();
    let answers = together(48, move |n| {
        let store = if n % 2 == 0 { writer.clone() } else { other.clone() };
        Box::pin(async move {
            let criteria = query("Patient?identifier=urn:mrn|x");
            let (target, only_if) = (Target::Only(criteria.clone()), OnlyIf::Always);
            let family = |n: usize| patient("x").to_text().replace("Muster", &format!("M{n}"));
            let write = match n % 4 {
                0 => Write::Create { resource: patient("x"), id: None, if_none_exist: Some(criteria) },
                1 => Write::Update { resource: json(&family(n)), target, id: None, only_if },
                2 => {
                    let patch = Patch::new(move |old| {
                        Ok(json(&old.to_text().replace("\"family\":\"M", &format!("\"family\":\"M{n}"))))
                    });
                    Write::Patch { target, only_if, patch }
                }
                _ => Write::Delete { target, only_if },
            };
            one(&store, &now(), write).await
        })
    })
    .await;
    for answer in &answers {
        assert!(matches!(answer, Ok(_) | Err(Error::NotFound)), "{answer:?}");
    }
    assert!(ids(&store, "Patient?identifier=urn:mrn|x").await.len() <= 1);
    let alive = |effect| answers.iter().flatten().filter(|written| written.effect == effect).count();
    let (made, gone) = (alive(Effect::Created), alive(Effect::Deleted));
    assert!(made == gone || made == gone + 1, "{made} made, {gone} deleted");
}

async fn racing_updates_have_one_winner(store: Store, url: String) {
    one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let other = Store::open(&url, &store::Options::default()).unwrap();
    let reader = store.clone();
    let answers = together(24, move |n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        Box::pin(
            async move { one(&store, &now(), update(PATIENT, "p", patient(&n.to_string()), Some(1))).await },
        )
    })
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers {
        assert!(matches!(answer, Ok(_) | Err(Error::Conflict { current: 2 })), "{answer:?}");
    }
    assert_eq!(reader.read(&now(), PATIENT, "p").await.unwrap().version, 2);
}

async fn racing_updates_without_a_version_all_count(store: Store, _: String) {
    one(&store, &now(), update(PATIENT, "p", patient("a"), None)).await.unwrap();
    let writer = store.clone();
    let mut versions = together(24, move |n| {
        let store = writer.clone();
        Box::pin(async move {
            one(&store, &now(), update(PATIENT, "p", patient(&n.to_string()), None))
                .await
                .unwrap()
                .stored
                .version
        })
    })
    .await;
    versions.sort_unstable();
    assert_eq!(versions, (2..26).collect::<Vec<_>>());
    assert_eq!(ids(&store, "Patient?_lastUpdated=ge2000").await, ["p"]);
    assert_eq!(versions_of(&store, "p", 100).await.len(), 25);
}

async fn racing_first_versions_all_count(store: Store, _: String) {
    let writer = store.clone();
    let mut versions = together(16, move |n| {
        let store = writer.clone();
        Box::pin(async move {
            one(&store, &now(), update(PATIENT, "p", patient(&n.to_string()), None))
                .await
                .unwrap()
                .stored
                .version
        })
    })
    .await;
    versions.sort_unstable();
    assert_eq!(versions, (1..17).collect::<Vec<_>>());
}

async fn bundles_in_opposite_order_do_not_block_each_other(store: Store, _: String) {
    let writer = store.clone();
    together(16, move |n| {
        let store = writer.clone();
        Box::pin(async move {
            let mut all: Vec<_> = (0..20)
                .map(|m| update(PATIENT, &format!("p{m}"), patient(&format!("{n}-{m}")), None))
                .collect();
            if n % 2 == 0 {
                all.reverse();
            }
            store.commit(&now(), writes(all)).await.unwrap();
        })
    })
    .await;
    for m in 0..20 {
        assert_eq!(store.read(&now(), PATIENT, &format!("p{m}")).await.unwrap().version, 16);
    }
}
