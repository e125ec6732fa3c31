//! Tasks: queued with their cause, done once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{About, Commit, Context, Error, NewAssessment, NewTask, Store, Task, Worked, Write};

use crate::place::*;

both!(
    a_task_comes_with_its_cause,
    a_refused_commit_queues_nothing,
    work_ends_its_tasks,
    work_that_fails_leaves_its_tasks,
    work_that_panics_is_put_off,
    one_poisoned_task_does_not_stop_the_others,
    workers_share_without_doing_anything_twice,
    an_assessment_is_recorded_once,
    an_assessment_can_become_current_again,
);

fn scoring(writes: Vec<Write<'static>>) -> Commit<'static> {
    let task = |at| NewTask { topic: 1, due: NOW, about: About::Write(at) };
    Commit { tasks: (0..writes.len()).map(task).collect(), writes, ..Commit::default() }
}

async fn take(store: &Store, context: &Context, most: usize) -> Vec<Task> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = store
        .work(context, most, move |_, tasks| {
            sender.send(tasks).unwrap();
            Ok(Commit::default())
        })
        .await
        .unwrap();
    let tasks = receiver.try_recv().unwrap_or_default();
    assert_eq!(done.done, tasks.len());
    tasks
}

fn patients(tasks: &[Task]) -> Vec<&str> {
    let mut patients: Vec<&str> = tasks.iter().map(|task| task.patient.as_str()).collect();
    patients.sort_unstable();
    patients
}

async fn a_task_comes_with_its_cause(store: Store, _: String) {
    let written = store
        .commit(
            &now(),
            scoring(vec![
                update(PATIENT, "a", patient("a"), None),
                update(OBSERVATION, "o", observation("b", "2093-3", "2024-01-01", "1"), None),
                create(observation("b", "2085-9", "2024-01-01", "1")),
            ]),
        )
        .await
        .unwrap();
    store.changed().await;
    let backlog = store.backlog(&now()).await.unwrap();
    assert_eq!((backlog.waiting, backlog.oldest, backlog.put_off), (2, Some(NOW), 0));
    let tasks = take(&store, &now(), 10).await;
    assert_eq!(patients(&tasks), ["a", "b"]);
    assert!(tasks.iter().any(|task| task.cause == written[2].stored.key));
    // Nothing changed, nothing to do.
    let same = scoring(vec![update(PATIENT, "a", patient("a"), None)]);
    store.commit(&now(), same).await.unwrap();
    assert!(take(&store, &now(), 10).await.is_empty());
    // Moved to another chart: both have to be looked at.
    let moved = scoring(vec![update(OBSERVATION, "o", observation("c", "2093-3", "2024-01-01", "1"), None)]);
    store.commit(&now(), moved).await.unwrap();
    assert_eq!(patients(&take(&store, &now(), 10).await), ["b", "c"]);
    store.commit(&now(), scoring(vec![delete(OBSERVATION, "o")])).await.unwrap();
    assert_eq!(patients(&take(&store, &now(), 10).await), ["c"]);
    let later = Commit {
        tasks: vec![NewTask { topic: 2, due: NOW + 5_000_000, about: About::Patient("z".into()) }],
        ..Commit::default()
    };
    store.commit(&now(), later).await.unwrap();
    assert!(take(&store, &now(), 10).await.is_empty());
    assert_eq!(patients(&take(&store, &at(5), 10).await), ["z"]);
}

async fn a_refused_commit_queues_nothing(store: Store, _: String) {
    let refused = scoring(vec![create(patient("a")), update(PATIENT, "p", patient("b"), Some(3))]);
    assert!(store.commit(&now(), refused).await.is_err());
    assert_eq!(store.backlog(&now()).await.unwrap().waiting, 0);
}

async fn work_ends_its_tasks(store: Store, _: String) {
    store.commit(&now(), scoring(vec![update(PATIENT, "a", patient("a"), None)])).await.unwrap();
    let worked = store
        .work(&now(), 10, |reader, tasks| {
            let found = reader.read(PATIENT, &tasks[0].patient)?;
            assert_eq!(found.version, 1);
            Ok(writes(vec![update(OBSERVATION, "result", observation("a", "x", "2024-01-01", "1"), None)]))
        })
        .await
        .unwrap();
    assert_eq!((worked.done, worked.written.len()), (1, 1));
    assert_eq!(store.read(&now(), OBSERVATION, "result").await.unwrap().version, 1);
    let nothing = store.work(&now(), 10, |_, _| Err(Error::Internal("called".into()))).await;
    assert_eq!(nothing, Ok(Worked::default()));
}

async fn work_that_fails_leaves_its_tasks(store: Store, _: String) {
    store.commit(&now(), scoring(vec![update(PATIENT, "a", patient("a"), None)])).await.unwrap();
    let failed = store.work(&now(), 10, |_, _| Err(Error::Internal("no".into()))).await;
    assert_eq!(failed, Err(Error::Internal("no".into())));
    // What it writes is refused: it is put off like one that fails by itself.
    let refused =
        store.work(&at(1), 10, |_, _| Ok(writes(vec![update(PATIENT, "a", patient("b"), Some(9))]))).await;
    assert_eq!(refused, Err(Error::Conflict { current: 1 }));
    assert!(take(&store, &at(2), 10).await.is_empty());
    let tasks = take(&store, &at(4), 10).await;
    assert_eq!((tasks.len(), tasks[0].tries), (1, 2));
    assert_eq!(store.read(&now(), PATIENT, "a").await.unwrap().version, 1);
}

#[expect(clippy::panic, reason = "that is the case")]
async fn work_that_panics_is_put_off(store: Store, _: String) {
    store.commit(&now(), scoring(vec![update(PATIENT, "a", patient("a"), None)])).await.unwrap();
    let failed = store.work(&now(), 10, |_, _| panic!("a fault in the worker")).await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    assert!(take(&store, &now(), 10).await.is_empty());
    assert_eq!(take(&store, &at(1), 10).await.len(), 1);
}

async fn one_poisoned_task_does_not_stop_the_others(store: Store, _: String) {
    let all = (0..6).map(|n| update(PATIENT, &format!("p{n}"), patient("x"), None)).collect();
    store.commit(&now(), scoring(all)).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..12 {
        let done = Arc::clone(&done);
        let _ = store
            .work(&now(), 10, move |_, tasks| {
                if tasks.iter().any(|task| task.patient == "p2") {
                    return Err(Error::Internal("poison".into()));
                }
                done.fetch_add(tasks.len(), Ordering::SeqCst);
                Ok(Commit::default())
            })
            .await;
    }
    assert_eq!(done.load(Ordering::SeqCst), 5);
    assert_eq!(store.backlog(&now()).await.unwrap().waiting, 1);
}

async fn workers_share_without_doing_anything_twice(store: Store, url: String) {
    for n in 0..40 {
        let both =
            (0..5).map(|m| update(PATIENT, &format!("p{n}-{m}"), patient(&n.to_string()), None)).collect();
        store.commit(&now(), scoring(both)).await.unwrap();
    }
    let other = Store::open(&url, &store::Options::default()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let workers = (0..6).map(|n| {
        let (store, done) = (if n % 2 == 0 { store.clone() } else { other.clone() }, Arc::clone(&done));
        tokio::spawn(async move {
            loop {
                let worked = store
                    .work(&now(), 7, |_, tasks| {
                        let all = tasks
                            .iter()
                            .map(|task| {
                                let id = format!("score-{}", task.patient);
                                let resource =
                                    observation(&task.patient, "s", "2024-01-01", &task.key.to_string());
                                update(OBSERVATION, &id, resource, None)
                            })
                            .collect();
                        Ok(writes(all))
                    })
                    .await;
                match worked {
                    Ok(worked) if worked.done == 0 => {
                        if store.backlog(&now()).await.unwrap().waiting == 0 {
                            return;
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                    Ok(worked) => {
                        done.fetch_add(worked.done, Ordering::SeqCst);
                    }
                    // Another process was quicker: its tasks are gone.
                    Err(Error::Conflict { .. } | Error::Busy) => {}
                    other => drop(other.unwrap()),
                }
            }
        })
    });
    for worker in futures_util::future::join_all(workers).await {
        worker.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 200);
    let scores = store.search(&now(), &query("Observation?code=s&_count=1000")).await.unwrap();
    assert_eq!(scores.total, Some(200));
    assert!(scores.entries.iter().all(|score| score.version == 1));
}

fn assessed(version: &str, inputs: &str, resource: &str) -> Commit<'static> {
    Commit {
        assessments: vec![NewAssessment {
            patient: "a".into(),
            model: "news2".into(),
            version: version.into(),
            inputs: inputs.into(),
            resource_id: resource.into(),
        }],
        ..Commit::default()
    }
}

async fn an_assessment_is_recorded_once(store: Store, _: String) {
    store.commit(&now(), assessed("1", "x", "r1")).await.unwrap();
    let twice = Commit { writes: vec![create(patient("dup"))], ..assessed("1", "x", "r2") };
    assert_eq!(store.commit(&now(), twice).await, Err(Error::Conflict { current: 0 }));
    assert!(ids(&store, "Patient?identifier=dup").await.is_empty());
    let found = store.reading(&now(), |reader| reader.assessments(Some("a"), 10)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].resource_id, "r1");
}

async fn an_assessment_can_become_current_again(store: Store, _: String) {
    store.commit(&now(), assessed("1", "x", "r1")).await.unwrap();
    store.commit(&now(), assessed("1", "y", "r2")).await.unwrap();
    store.commit(&now(), assessed("1", "x", "r3")).await.unwrap();
    let found = store.reading(&now(), |reader| reader.assessments(Some("a"), 10)).await.unwrap();
    let current: Vec<&str> =
        found.iter().filter(|one| one.current).map(|one| one.resource_id.as_str()).collect();
    assert_eq!((found.len(), current), (2, vec!["r3"]));
    assert!(store.reading(&now(), |reader| reader.assessments(Some("b"), 10)).await.unwrap().is_empty());
    assert_eq!(store.reading(&now(), |reader| reader.assessments(None, 10)).await.unwrap().len(), 2);
}
