//! PostgreSQL's writers: each commit has a connection of its own, but those that only bring what is new share a
//! transaction where they come faster than it ends. Nothing in the database can refuse them, and a transaction
//! costs as many statements for sixty as for one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::select;
use tokio::sync::{Semaphore, oneshot};

use crate::connection::Link;
use crate::error::Error;
use crate::keys::Numbers;
use crate::lane::Job;
use crate::pool::Pool;
use crate::transaction::{self, Answer};
use crate::unit::Unit;

/// Transactions of several at a time, at most: where there are more, each is of fewer.
const TURNS: usize = 4;
/// Resources in one, or those of one commit: bounds what the first waits for the last.
const MOST: usize = 256;

/// The way to the database, for all that is written.
#[derive(Clone)]
pub(crate) struct Group {
    pool: Pool,
    keys: Arc<Numbers>,
    waiting: Arc<Mutex<VecDeque<Job>>>,
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
            return self.run(vec![unit]).await?.pop().unwrap_or_else(|| Err(unanswered()));
        }
        let (reply, mut answer) = oneshot::channel();
        self.waiting().push_back(Job { unit, reply });
        loop {
            select! {
                biased;
                answered = &mut answer => return answered.map_err(|_| unanswered())?,
                turn = Arc::clone(&self.turns).acquire_owned() => {
                    let turn = turn.map_err(Error::internal)?;
                    let jobs = self.take();
                    if jobs.is_empty() {
                        break;
                    }
                    // It is of others too: it goes on if this one goes away.
                    let group = self.clone();
                    tokio::spawn(async move {
                        group.answer(jobs).await;
                        drop(turn);
                    });
                }
            }
        }
        answer.await.map_err(|_| unanswered())?
    }

    /// Several, each by itself, in this order.
    pub(crate) async fn commit_each(&self, units: Vec<Unit>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(units.len());
        for units in together(units) {
            let many = units.len();
            match self.run(units).await {
                Ok(done) => answers.extend(done),
                Err(error) => answers.extend(std::iter::repeat_n(Err(error), many)),
            }
        }
        answers
    }

    /// The first of those that wait, and of the others so many as are not too much together.
    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        let mut left = MOST;
        let many = waiting.iter().take_while(|job| {
            let fits = left == MOST || job.unit.size() <= left;
            left = left.saturating_sub(job.unit.size().max(1));
            fits
        });
        let many = many.count();
        // Who went away before anything was done for them wants nothing done.
        waiting.drain(..many).filter(|job| !job.reply.is_closed()).collect()
    }

    async fn answer(&self, jobs: Vec<Job>) {
        let (units, replies): (Vec<Unit>, Vec<_>) = jobs.into_iter().map(|job| (job.unit, job.reply)).unzip();
        let mut answers = self.commit_each(units).await.into_iter();
        for reply in replies {
            // Who asked may have gone away; the write stands.
            let _ = reply.send(answers.next().unwrap_or_else(|| Err(unanswered())));
        }
    }

    /// In one transaction.
    async fn run(&self, units: Vec<Unit>) -> Result<Vec<Answer>, Error> {
        let keys = Arc::clone(&self.keys);
        let run = move |link: &mut Link| transaction::run(link, &keys, &units.iter().collect::<Vec<_>>());
        self.pool.run(run).await
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
