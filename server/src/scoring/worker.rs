//! Takes queued patients, scores them, writes what follows: in one transaction with the end of
//! their tasks, so that each is done exactly once whatever dies when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use models::{Model, assess_batch};
use store::{About, Commit, Context, Error, NewTask, Reader, Task};
use tokio::task::JoinHandle;

use super::settle::{Cause, settle};
use super::{CHANGE, MEDICINE, WRITE, ask, gather};
use crate::app::{self, App};

/// Patients taken at once.
const MOST: usize = 128;
/// How often to look without being woken: for tasks of other processes, and those put off.
const LOOK: Duration = Duration::from_millis(500);
/// Where somebody else scored the same patient meanwhile.
const QUICKER: Duration = Duration::from_millis(20);
/// After a full turn writers go first, for so many times as long as the turn took: under load scoring
/// takes a quarter of a processor, and what waits is scored once for several writes. But no longer
/// than this: a slow turn must not make the next one late.
const BREATH: u32 = 3;
const LONGEST_BREATH: Duration = Duration::from_millis(100);
/// Turns under way at once, of different patients: while one waits for its commit another scores. Where
/// turns are full there is one alone, so that writers keep their share.
const TURNS: usize = 2;

/// The scoring worker of this process.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    turns: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Begins to work.
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let crowded = Arc::new(AtomicBool::new(false));
        let begin =
            |place| tokio::spawn(work(Arc::clone(app), Arc::clone(&stop), Arc::clone(&crowded), place));
        Self { turns: (0..TURNS).map(begin).collect(), stop }
    }

    /// Ends after the turns under way.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for turns in self.turns {
            let _ = turns.await;
        }
    }
}

/// Turn after turn, until it is to stop.
async fn work(app: Arc<App>, stop: Arc<AtomicBool>, crowded: Arc<AtomicBool>, place: usize) {
    while !stop.load(Ordering::Relaxed) {
        if place > 0 && crowded.load(Ordering::Relaxed) {
            tokio::time::sleep(LONGEST_BREATH).await;
            continue;
        }
        let began = Instant::now();
        let done = turn(&app).await;
        if let Ok(done) = done {
            crowded.store(done >= MOST, Ordering::Relaxed);
        }
        match done {
            Ok(0) => {
                let _ = tokio::time::timeout(LOOK, app.store.changed()).await;
            }
            Ok(done) if done >= MOST => {
                tokio::time::sleep((began.elapsed() * BREATH).min(LONGEST_BREATH)).await;
            }
            Ok(_) => {}
            Err(Error::Conflict { current: 0 }) => tokio::time::sleep(QUICKER).await,
            Err(error) => {
                metrics::counter!("augury_scoring_failures_total").increment(1);
                tracing::error!(%error, "scoring failed; it will be tried again");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// One turn: the tasks of [`MOST`] patients at most. Says how many were done.
pub(crate) async fn turn(app: &Arc<App>) -> Result<usize, Error> {
    let began = Instant::now();
    let parts = Arc::clone(app);
    let context = Context::system("scoring", app::now());
    let at = context.at;
    let worked =
        app.store.work(&context, MOST, move |reader, tasks| score(&parts, reader, &tasks, at)).await?;
    if worked.done > 0 {
        metrics::histogram!("augury_scoring_turn_seconds").record(began.elapsed().as_secs_f64());
        metrics::counter!("augury_tasks_done_total").increment(worked.done as u64);
    }
    Ok(worked.done)
}

fn score(app: &App, reader: &mut Reader<'_>, tasks: &[Task], at: i64) -> Result<Commit<'static>, Error> {
    let active = app.models();
    let mut patients: BTreeMap<&str, Cause> = BTreeMap::new();
    let mut commit = Commit::default();
    for task in tasks {
        if task.topic == MEDICINE {
            for patient in gather::takers(reader, &task.patient)? {
                commit.tasks.push(NewTask { topic: CHANGE, due: at, about: About::Patient(patient) });
            }
            continue;
        }
        let cause = patients.entry(&task.patient).or_insert(Cause::Write);
        if task.topic == CHANGE {
            *cause = Cause::Change;
        }
    }
    let as_of = gather::moment(at);
    let records = patients
        .keys()
        .map(|patient| gather::record(reader, &active, patient, as_of))
        .collect::<Result<Vec<_>, _>>()?;
    // A clock ahead of ours, or a date that has begun only elsewhere: looked at again when it counts.
    for (patient, record) in patients.keys().zip(&records) {
        if let Some(next) = record.next_after(as_of).filter(|next| *next - as_of < TimeDelta::days(2)) {
            let about = About::Patient((*patient).to_owned());
            commit.tasks.push(NewTask { topic: WRITE, due: next.timestamp_micros(), about });
        }
    }
    let models: Vec<&Model> = active.catalogue.active().map(AsRef::as_ref).collect();
    let asked: Vec<_> = records.iter().map(|record| (record, as_of)).collect();
    let scored = assess_batch(&active.catalogue, &asked, &models, &app.settings);
    for ((patient, cause), assessments) in patients.iter().zip(&scored) {
        assessments.iter().for_each(ask::count);
        settle(reader, &active, patient, assessments, *cause, &mut commit)?;
    }
    Ok(commit)
}
