//! Pages while others write: nothing comes twice, and what matches all the time comes once, in
//! whatever order and however many a page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use store::{Context, Error, Store};

use crate::place::*;

both!(while_others_write_each_comes_once, types_with_the_same_ids_are_told_apart, what_moves_keeps_its_place);

/// Observations: of these nobody writes, these change and match all the time, these come and go.
const STILL: usize = 40;
const KEPT: usize = 40;
const LOOSE: usize = 40;
const PATIENTS: [&str; 3] = ["a", "b", "c"];

fn clock() -> Context {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Context::system("test", i64::try_from(now.as_micros()).unwrap())
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn observed(dice: &mut Dice, patient: &str, code: &str) -> fhir::json::Json<'static> {
    let date = format!("20{:02}-{:02}-01", dice.roll(25), dice.roll(12) + 1);
    let status = ["final", "amended", "corrected"][dice.roll(3)];
    let text = observation(patient, code, &date, &(dice.roll(900) + 1).to_string()).to_text();
    json(&text.replace(r#""status":"final""#, &format!(r#""status":"{status}""#)))
}

/// Changes, deletes and makes Observations until it is told to stop.
async fn disturb(store: Store, seed: u64, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) {
    let mut dice = Dice(seed);
    while !stop.load(Ordering::Relaxed) {
        let kept = dice.roll(KEPT);
        let loose = format!("loose{}", dice.roll(LOOSE));
        // Not so many new ones that there is always one page more.
        let write = match dice.roll(60) {
            0..=29 => {
                let patient = PATIENTS[kept % 3];
                update(OBSERVATION, &format!("kept{kept}"), observed(&mut dice, patient, "2093-3"), None)
            }
            30..=44 => {
                let (patient, code) = (PATIENTS[dice.roll(3)], ["2093-3", "2085-9"][dice.roll(2)]);
                update(OBSERVATION, &loose, observed(&mut dice, patient, code), None)
            }
            45..=58 => delete(OBSERVATION, &loose),
            _ => {
                let patient = PATIENTS[dice.roll(3)];
                create(observed(&mut dice, patient, "2093-3"))
            }
        };
        let written = one(&store, &clock(), write).await;
        assert!(matches!(written, Ok(_) | Err(Error::Busy)), "{written:?}");
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn while_others_write_each_comes_once(store: Store, url: String) {
    let mut dice = Dice(7);
    let mut all: Vec<_> = PATIENTS.iter().map(|id| update(PATIENT, id, patient(id), None)).collect();
    for (name, count) in [("still", STILL), ("kept", KEPT), ("loose", LOOSE)] {
        for n in 0..count {
            let resource = observed(&mut dice, PATIENTS[n % 3], "2093-3");
            all.push(update(OBSERVATION, &format!("{name}{n}"), resource, None));
        }
    }
    store.commit(&clock(), writes(all)).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let others = Store::open(&url, &store::Options::default()).unwrap();
    let writers: Vec<_> = (1..=3)
        .map(|seed| {
            let store = if seed == 1 { others.clone() } else { store.clone() };
            tokio::spawn(disturb(store, seed, Arc::clone(&stop), Arc::clone(&done)))
        })
        .collect();
    for text in [
        "code=2093-3",
        "code=2093-3&_sort=_lastUpdated",
        "code=2093-3&_sort=-_lastUpdated",
        "_sort=date&patient=a,b,c",
        "",
        "_sort=_lastUpdated",
        "_sort=-date",
        "_sort=-_id",
        "_sort=status,-value-quantity",
        "_sort=value-quantity&code=2093-3",
        "patient=a",
        "patient=a&code=2093-3&_sort=-date",
        "patient=a&_sort=_lastUpdated",
        "patient=b&code:text=x&_sort=date",
        "patient.family=muster&_sort=-_lastUpdated",
        "value-quantity=gt0&date=ge1999&_sort=_lastUpdated",
    ] {
        for count in [3, 8, 31] {
            let mut asked = query(&format!("Observation?{text}"));
            asked.count = count;
            let mut seen = BTreeSet::new();
            while {
                let page = store.search(&clock(), &asked).await.unwrap();
                for stored in page.entries {
                    assert!(!stored.deleted);
                    assert!(seen.insert(stored.id.clone()), "{text} by {count}: {} twice", stored.id);
                }
                asked.after = page.next;
                // Somebody has his turn between two pages.
                let before = done.load(Ordering::Relaxed);
                for _ in 0..10 {
                    if asked.after.is_some() && done.load(Ordering::Relaxed) == before {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                asked.after.is_some()
            } {}
            let of_patient = |n: &usize| {
                PATIENTS
                    .iter()
                    .position(|id| {
                        text.contains(&format!("patient={id}&")) || text == format!("patient={id}")
                    })
                    .is_none_or(|patient| n % 3 == patient)
            };
            for (name, number) in [("still", STILL), ("kept", KEPT)] {
                for n in (0..number).filter(of_patient).filter(|_| !text.contains(":text")) {
                    assert!(seen.contains(&format!("{name}{n}")), "{text} by {count}: {name}{n} left out");
                }
            }
        }
    }
    let written = done.load(Ordering::Relaxed);
    assert!(written > 50, "only {written} writes came between the pages");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn types_with_the_same_ids_are_told_apart(store: Store, _: String) {
    let mut dice = Dice(3);
    let mut all = Vec::new();
    for n in 0..7 {
        let id = n.to_string();
        all.push(update(PATIENT, &id, patient(&id), None));
        all.push(update(OBSERVATION, &id, observed(&mut dice, "1", "2093-3"), None));
        let encounter = r#"{"resourceType":"Encounter","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/1"}}"#;
        all.push(update(ResourceType::ENCOUNTER, &id, json(encounter), None));
    }
    store.commit(&clock(), writes(all)).await.unwrap();
    let kinds = [OBSERVATION, PATIENT, ResourceType::ENCOUNTER];
    for sort in ["", "_id", "-_id", "_lastUpdated", "-_lastUpdated", "_profile"] {
        for count in 1..6 {
            let pairs: Vec<(String, String)> = Some(("_sort".to_owned(), sort.to_owned()))
                .filter(|(_, sort)| !sort.is_empty())
                .into_iter()
                .collect();
            let (mut asked, _) = SearchQuery::parse(&kinds, &pairs, "", 0, Handling::Strict).unwrap();
            asked.count = count;
            let mut seen = BTreeSet::new();
            while {
                let page = store.search(&clock(), &asked).await.unwrap();
                for stored in page.entries {
                    assert!(seen.insert((stored.kind, stored.id.clone())), "{sort}: {} twice", stored.id);
                }
                asked.after = page.next;
                asked.after.is_some()
            } {}
            assert_eq!(seen.len(), 21, "{sort} by {count}");
        }
    }
}

async fn what_moves_keeps_its_place(store: Store, _: String) {
    let mut dice = Dice(5);
    let mut observed = |id: &str| update(OBSERVATION, id, observed(&mut dice, "a", "2093-3"), None);
    for id in ["1", "2", "3", "4", "5"] {
        one(&store, &clock(), observed(id)).await.unwrap();
    }
    for chart in ["", "patient=a&", "_sort=_lastUpdated,_id&"] {
        let mut asked = query(&format!("Observation?{chart}_sort=_lastUpdated&_count=2"));
        if chart.contains("_sort") {
            asked.sort.truncate(2);
        }
        let page = store.search(&clock(), &asked).await.unwrap();
        let first: Vec<&str> = page.entries.iter().map(|stored| stored.id.as_str()).collect();
        let left: Vec<String> = ids(&store, "Observation?_sort=_lastUpdated")
            .await
            .into_iter()
            .filter(|id| !first.contains(&id.as_str()))
            .collect();
        // One that was shown and two that were not are written again; one goes; a new one comes.
        for id in [first[0], left[2].as_str(), left[0].as_str()] {
            one(&store, &clock(), observed(id)).await.unwrap();
        }
        one(&store, &clock(), delete(OBSERVATION, &left[1])).await.unwrap();
        one(&store, &clock(), observed("new")).await.unwrap();
        let mut rest = Vec::new();
        asked.after = page.next;
        while asked.after.is_some() {
            let page = store.search(&clock(), &asked).await.unwrap();
            rest.extend(page.entries.into_iter().map(|stored| (stored.id, stored.version)));
            asked.after = page.next;
        }
        let now = |id: &str| {
            let (store, id) = (store.clone(), id.to_owned());
            async move { store.read(&clock(), OBSERVATION, &id).await.unwrap().version }
        };
        let expected = [(left[0].clone(), now(&left[0]).await), (left[2].clone(), now(&left[2]).await)];
        assert_eq!(rest, expected, "{chart}");
        one(&store, &clock(), observed(&left[1])).await.unwrap();
        one(&store, &clock(), delete(OBSERVATION, "new")).await.unwrap();
    }
}
