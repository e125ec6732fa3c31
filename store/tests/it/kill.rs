//! A process killed in the middle of writing: what it acknowledged is there, whole, and what it
//! did not acknowledge is there whole or not at all.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::{About, Commit, NewTask, Options, Store};

use crate::place::*;

const URL: &str = "AUGURY_STORE_KILL_URL";

/// What the process to be killed does.
#[expect(clippy::print_stdout, reason = "the killer reads there what is done")]
fn write_on(url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(url, &Options::default()).unwrap();
        let tasks = (0..16).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                for m in 0.. {
                    let (a, b) = (format!("a{n}-{m}"), format!("b{n}-{m}"));
                    let pair = Commit {
                        writes: vec![
                            update(OBSERVATION, &a, observation("p", "2093-3", "2024-01-01", "1"), None),
                            update(OBSERVATION, &b, observation("p", "2085-9", "2024-01-01", "1"), None),
                        ],
                        tasks: vec![NewTask { topic: 1, due: NOW, about: About::Patient(a.clone()) }],
                        ..Commit::default()
                    };
                    store.commit(&now(), pair).await.unwrap();
                    println!("done {n}-{m}");
                }
            })
        });
        futures_util::future::join_all(tasks).await;
    });
}

/// The test of that name starts itself again as the process that writes, and kills it.
fn survives(test: &str, place: impl FnOnce() -> Place) {
    if let Ok(url) = std::env::var(URL) {
        return write_on(&url);
    }
    let place = &place();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(URL, &place.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut done: Vec<String> = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400 + 150 * round) || done.is_empty() {
            let line = lines.next().unwrap().unwrap();
            done.extend(line.rsplit_once("done ").map(|(_, name)| name.to_owned()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // PostgreSQL may still be ending what was under way.
        std::thread::sleep(Duration::from_millis(300));
        done.extend(
            lines.map_while(Result::ok).filter_map(|line| Some(line.rsplit_once("done ")?.1.to_owned())),
        );
        let store = place.open();
        runtime.block_on(async {
            for name in &done {
                for half in ["a", "b"] {
                    store.read(&now(), OBSERVATION, &format!("{half}{name}")).await.unwrap();
                }
            }
            let count = |text: &'static str| {
                let store = store.clone();
                async move { store.search(&now(), &query(text)).await.unwrap().total.unwrap() }
            };
            let first = count("Observation?patient=p&code=2093-3&_summary=count").await;
            let second = count("Observation?patient=p&code=2085-9&_summary=count").await;
            let tasks = store.backlog(&now()).await.unwrap().waiting;
            assert_eq!(first, second);
            assert_eq!(u64::try_from(tasks).unwrap(), first);
        });
        drop(store);
        if round < 3 {
            wipe(&runtime, place);
        }
    }
}

/// Empties the chart, so that each round begins alike.
fn wipe(runtime: &tokio::runtime::Runtime, place: &Place) {
    let store = place.open();
    runtime.block_on(async {
        loop {
            let page = store.search(&now(), &query("Observation?patient=p&_count=1000")).await.unwrap();
            if page.entries.is_empty() {
                break;
            }
            let all = page.entries.iter().map(|one| delete(OBSERVATION, &one.id)).collect();
            store.commit(&now(), writes(all)).await.unwrap();
        }
        while store.work(&now(), 1000, |_, _| Ok(Commit::default())).await.unwrap().done > 0 {}
    });
}

#[test]
fn sqlite() {
    survives("kill::sqlite", Place::sqlite);
}

#[test]
fn postgres() {
    survives("kill::postgres", Place::postgres);
}
