//! PostgreSQL's writers: each commit has a connection of its own, but those that only bring what is new share a
//! transaction where they come faster than it ends: hardly anything in the database can refuse them, and a transaction
//! costs as many statements for sixty as for one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::select;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::lane::Job;
use crate::pool::{Pool, WAIT, panicked};
use crate::transaction::{self, Answer};
use crate::unit::Unit;

/// Transactions of several at a time, at most: where there are more, each is of fewer.
const TURNS: usize = 4;
/// Resources in one, or those of one commit: bounds what the first waits for the last.
const MOST: usize = 256;

/// Those that wait for a turn, by the numbers that they came with.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(u64, Job)>,
    last: u64,
}

/// The way to the database, for all that is written.
#[derive(Clone)]
pub(crate) struct Group {
    pool: Pool,
    keys: Arc<Numbers>,
    waiting: Arc<Mutex<Waiting>>,
    turns: Arc<Semaphore>,
}

impl Group {
    pub(crate) fn new(pool: &Pool) -> Self {
        Self {
            pool: pool.clone(),
            keys: Arc::new(Numbers::of_versions()),
            waiting: Arc::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }

    /// Where versions get their numbers from.
    pub(crate) fn keys(&self) -> Arc<Numbers> {
        Arc::clone(&self.keys)
    }

    /// Waits until the unit is durable, or refused.
    pub(crate) async fn commit(&self, unit: Unit) -> Answer {
        if !unit.only_creates() {
            return self.commit_each(vec![unit]).await.pop().unwrap_or_else(|| Err(unanswered()));
        }
        let (reply, mut answer) = oneshot::channel();
        let number = self.waiting().add(Job { unit, reply });
        loop {
            let turn = select! {
                biased;
                answered = &mut answer => return answered.map_err(|_| unanswered())?,
                turn = timeout(WAIT, Arc::clone(&self.turns).acquire_owned()) => turn,
            };
            let group = self.clone();
            let work = async {
                let turn = turn.map_err(|_| Error::Busy)?.map_err(Error::internal)?;
                let work = move || {
                    group.answer_those_that_wait();
                    drop(turn);
                };
                self.pool.start(work).await
            };
            // What is done is of others too: once it has begun, it goes on if this one goes away.
            let begun = if self.waiting().holds(number) { Some(work.await) } else { None };
            match begun {
                Some(Ok(work)) => select! {
                    biased;
                    answered = &mut answer => return answered.map_err(|_| unanswered())?,
                    _ = work => {}
                },
                Some(Err(error)) if self.waiting().remove(number) => return Err(error),
                // Somebody else has taken it along, and answers it.
                Some(Err(_)) | None => return answer.await.map_err(|_| unanswered())?,
            }
        }
    }

    /// Several, each by itself, in this order.
    pub(crate) async fn commit_each(&self, units: Vec<Unit>) -> Vec<Answer> {
        let (many, group) = (units.len(), self.clone());
        let work =
            self.pool.start(move || together(units).iter().flat_map(|units| group.done(units)).collect());
        let answers = async { work.await?.await.map_err(panicked) };
        answers.await.unwrap_or_else(|error| std::iter::repeat_n(Err(error), many).collect())
    }

    fn answer_those_that_wait(&self) {
        let jobs = self.waiting().take();
        let (units, replies): (Vec<Unit>, Vec<_>) = jobs.into_iter().map(|job| (job.unit, job.reply)).unzip();
        let mut answers = self.done(&units).into_iter();
        for reply in replies {
            // Who asked may have gone away; the write stands.
            let _ = reply.send(answers.next().unwrap_or_else(|| Err(unanswered())));
        }
    }

    /// In one transaction; where the database would not have all of them, in one for each.
    fn done(&self, units: &[Unit]) -> Vec<Answer> {
        let all: Vec<&Unit> = units.iter().collect();
        let run = |link: &mut Link| match transaction::run(link, &self.keys, &all) {
            Err(Fault::Database(text)) if all.len() > 1 => {
                tracing::warn!(text, "of several commits one failed: each is tried by itself");
                Ok(None)
            }
            done => done.map(Some),
        };
        match self.pool.done(run) {
            Ok(Some(answers)) => answers,
            Ok(None) => units.iter().flat_map(|unit| self.done(std::slice::from_ref(unit))).collect(),
            Err(error) => std::iter::repeat_n(Err(error), units.len()).collect(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, job: Job) -> u64 {
        self.last += 1;
        self.jobs.push_back((self.last, job));
        self.last
    }

    fn holds(&self, number: u64) -> bool {
        self.place(number).is_some()
    }

    /// Takes it out, if it is there.
    fn remove(&mut self, number: u64) -> bool {
        self.place(number).and_then(|place| self.jobs.remove(place)).is_some()
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.jobs.binary_search_by_key(&number, |(number, _)| *number).ok()
    }

    /// Takes the first, and of the others so many as are not too much together.
    fn take(&mut self) -> Vec<Job> {
        // Who went away before anything was done for them wants nothing done.
        self.jobs.retain(|(_, job)| !job.reply.is_closed());
        let mut size = 0;
        let many = self.jobs.iter().take_while(|(_, job)| {
            size += job.unit.size();
            size <= MOST || size == job.unit.size()
        });
        let many = many.count();
        self.jobs.drain(..many).map(|(_, job)| job).collect()
    }
}

/// Neighbours that only create, as far as they are not too much together; each other one by itself.
fn together(units: Vec<Unit>) -> Vec<Vec<Unit>> {
    let mut all: Vec<Vec<Unit>> = Vec::with_capacity(units.len());
    let mut size = 0;
    for unit in units {
        let fits = unit.only_creates() && size + unit.size() <= MOST;
        match all.last_mut() {
            Some(last) if fits && last.first().is_some_and(Unit::only_creates) => {
                size += unit.size();
                last.push(unit);
            }
            _ => {
                size = unit.size();
                all.push(vec![unit]);
            }
        }
    }
    all
}

/// What stands for an answer that was lost.
pub(crate) fn unanswered() -> Error {
    Error::Internal("a commit was left without an answer".into())
}
