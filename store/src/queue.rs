//! Doing what is queued: claim, read, and commit the result together with the end of the tasks,
//! so that whatever dies in between leaves the tasks where they were.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::{Access, Sight};
use crate::commit::Commit;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::reader::{self, Reader};
use crate::record::{Task, Written};
use crate::sql::Sql;
use crate::store::{Store, Writer};
use crate::unit::Unit;
use crate::{desk, transaction};

/// The first pause after a failure, in microseconds; it doubles up to an hour.
const FIRST_PAUSE: i64 = 1_000_000;
const LONGEST_PAUSE: i64 = 3_600_000_000;
/// So often in a row somebody may have been quicker before it counts as a failure.
const OVERTAKEN: usize = 50;
/// So many times the tasks wanted are looked at, so that a patient's tasks are done together: the
/// longer the queue, the less each costs.
const SIGHT: usize = 64;

/// Who is at work in this process.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Patients somebody is working on. On PostgreSQL locks in the database say it.
    patients: Mutex<HashSet<String>>,
    /// After a batch failed, so many are done one by one, to find the one that fails.
    singly: AtomicUsize,
    /// Turns in a row that somebody else was quicker than.
    overtaken: AtomicUsize,
}

/// What a turn of work came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worked {
    /// Tasks that are done.
    pub done: usize,
    /// Answers to the writes of the commit.
    pub written: Vec<Written>,
}

/// Patients claimed in this process until this is dropped.
struct Claim {
    queue: Arc<Queue>,
    patients: Vec<String>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.queue.patients.lock().unwrap_or_else(PoisonError::into_inner);
        for patient in &self.patients {
            claimed.remove(patient);
        }
    }
}

impl Claim {
    /// Claims the first patients nobody works on, at most so many, with all their tasks in sight. The
    /// tasks are looked at while nobody can claim: of a patient set free since, what was done is gone.
    fn take(
        queue: &Arc<Queue>,
        most: usize,
        look: impl FnOnce() -> Result<Vec<Task>, Fault>,
    ) -> Result<(Self, Vec<Task>), Fault> {
        let mut claimed = queue.patients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = look()?;
        let mut taken: HashSet<String> = HashSet::new();
        tasks.retain(|task| {
            if taken.contains(&task.patient) {
                return true;
            }
            let free = taken.len() < most && !claimed.contains(&task.patient);
            free && taken.insert(task.patient.clone())
        });
        claimed.extend(taken.iter().cloned());
        let claim = Self { queue: Arc::clone(queue), patients: taken.into_iter().collect() };
        Ok((claim, tasks))
    }
}

/// What came of the closure.
enum Turn {
    Nothing,
    Ready(Box<Unit>, Vec<Task>),
    Failed(Error, Vec<Task>),
}

impl Store {
    /// Takes the due tasks of at most `most` patients, oldest first, no two workers on one patient,
    /// of each patient as many as are in sight; lets `work` read
    /// and say what follows; commits that, and the tasks' end with it. Without due tasks `work` is
    /// not called and nothing is done.
    ///
    /// If `work` fails the tasks stay: of several, each is then tried alone; one alone is put off,
    /// longer each time.
    ///
    /// # Errors
    /// Those of `work` and of [`Store::commit`].
    pub async fn work<F>(&self, context: &Context, most: usize, work: F) -> Result<Worked, Error>
    where
        F: FnOnce(&mut Reader<'_>, Vec<Task>) -> Result<Commit<'static>, Error> + Send + 'static,
    {
        let by = context.clone();
        let singly = self.queue.singly.load(Ordering::Relaxed);
        let most = if singly > 0 { 1 } else { most };
        let (result, tasks) = match &self.writer {
            Writer::Lane(_) => {
                let queue = Arc::clone(&self.queue);
                let mut work = Some(work);
                let (turn, claim) =
                    self.pool.run(move |link| prepare(link, &queue, &by, most, &mut work)).await?;
                let answer = match turn {
                    Turn::Nothing => return Ok(Worked::default()),
                    Turn::Ready(unit, tasks) => (self.write(*unit).await, tasks),
                    Turn::Failed(error, tasks) => (Err(error), tasks),
                };
                drop(claim);
                answer
            }
            Writer::Group(group) => {
                let keys = group.keys();
                let mut work = Some(work);
                let run = move |link: &mut Link| {
                    let mut claimed = Vec::new();
                    let result = transaction::within(link, |link| {
                        let mut tasks = desk::due(link, by.at, most)?;
                        hold(link, &mut tasks)?;
                        claimed.clone_from(&tasks);
                        let Some(work) = work.take().filter(|_| !tasks.is_empty()) else {
                            return Ok(Vec::new());
                        };
                        let finish = tasks.iter().map(|task| task.key).collect();
                        let commit =
                            guarded(work, &mut Reader::new(link, &Sight::of(&Access::Whole)), tasks)?;
                        unit(&by, commit, finish)?.run(link, &keys)
                    });
                    // The closure is spent: what failed is left for the next turn.
                    Ok((result.map_err(Error::from), claimed))
                };
                self.pool.run(run).await?
            }
        };
        self.settle(context, result, tasks, singly).await
    }

    /// Counts what is done, and deals with what failed.
    async fn settle(
        &self,
        context: &Context,
        result: Result<Vec<Written>, Error>,
        tasks: Vec<Task>,
        singly: usize,
    ) -> Result<Worked, Error> {
        if singly > 0 && !tasks.is_empty() {
            self.queue.singly.fetch_sub(1, Ordering::Relaxed);
        }
        match result {
            Ok(written) => {
                self.queue.overtaken.store(0, Ordering::Relaxed);
                if !tasks.is_empty() {
                    // There may be more than fitted into this turn.
                    self.wake();
                }
                Ok(Worked { done: tasks.len(), written })
            }
            Err(error) => {
                // Somebody wrote the same patient meanwhile: on what is there now it may well go.
                let overtaken = matches!(error, Error::Conflict { current: 0 })
                    && self.queue.overtaken.fetch_add(1, Ordering::Relaxed) < OVERTAKEN;
                match tasks.as_slice() {
                    _ if overtaken => {}
                    [] => {}
                    [task] if !matches!(error, Error::Busy) => self.put_off(context, task).await?,
                    several => self.queue.singly.store(several.len(), Ordering::Relaxed),
                }
                Err(error)
            }
        }
    }

    async fn put_off(&self, context: &Context, task: &Task) -> Result<(), Error> {
        let doubled = FIRST_PAUSE.saturating_mul(1 << task.tries.clamp(0, 20));
        let until = self.time(context.at).saturating_add(doubled.min(LONGEST_PAUSE));
        tracing::warn!(task = task.key, tries = task.tries, "a task failed and is put off");
        self.write(Unit::postponing(context, vec![task.key], until)).await.map(drop)
    }
}

/// A panic of the worker is a failure like another: the task must not come back at once for ever.
fn guarded<F>(work: F, reader: &mut Reader<'_>, tasks: Vec<Task>) -> Result<Commit<'static>, Error>
where
    F: FnOnce(&mut Reader<'_>, Vec<Task>) -> Result<Commit<'static>, Error>,
{
    catch_unwind(AssertUnwindSafe(|| work(reader, tasks)))
        .unwrap_or_else(|_| Err(Error::Internal("the worker panicked".into())))
}

fn unit(context: &Context, commit: Commit<'static>, finish: Vec<i64>) -> Result<Unit, Error> {
    Unit::new(context, Commit { finish, of_model: true, ..commit })
}

/// SQLite: claims in this process, reads on one snapshot, and leaves the writing to the lane.
fn prepare<F>(
    link: &mut Link,
    queue: &Arc<Queue>,
    context: &Context,
    most: usize,
    work: &mut Option<F>,
) -> Result<(Turn, Option<Claim>), Fault>
where
    F: FnOnce(&mut Reader<'_>, Vec<Task>) -> Result<Commit<'static>, Error>,
{
    let sight = most.saturating_mul(SIGHT);
    let (claim, mut tasks) = Claim::take(queue, most, || desk::due(link, context.at, sight))?;
    if most == 1 {
        tasks.truncate(1); // one that fails is found alone
    }
    let Some(work) = work.take().filter(|_| !tasks.is_empty()) else { return Ok((Turn::Nothing, None)) };
    let finish = tasks.iter().map(|task| task.key).collect();
    let ready = reader::asked(link, context, |reader| guarded(work, reader, tasks.clone()))
        .map_err(Error::from)
        .and_then(|commit| unit(context, commit, finish));
    let turn = match ready {
        Ok(unit) => Turn::Ready(Box::new(unit), tasks),
        Err(error) => Turn::Failed(error, tasks),
    };
    Ok((turn, Some(claim)))
}

/// PostgreSQL: keeps the tasks of patients whose lock is free, and holds these to the end.
fn hold(link: &mut Link, tasks: &mut Vec<Task>) -> Result<(), Fault> {
    let mut patients: Vec<String> = tasks.iter().map(|task| task.patient.clone()).collect();
    patients.sort_unstable();
    patients.dedup();
    let mut held: HashSet<String> = HashSet::new();
    for patients in crate::sql::chunks(&patients) {
        let mut sql = Sql::new(
            link.dialect,
            "SELECT v.column1, pg_try_advisory_xact_lock(hashtextextended(v.column1, 7)) FROM (VALUES ",
        );
        for (n, patient) in patients.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).text(patient.as_str()).push(")");
        }
        sql.push(") v");
        let locks: Vec<(String, bool)> =
            sql.rows::<(diesel::sql_types::Text, diesel::sql_types::Bool), _>(&mut link.connection)?;
        held.extend(locks.into_iter().filter(|(_, free)| *free).map(|(patient, _)| patient));
    }
    tasks.retain(|task| held.contains(&task.patient));
    Ok(())
}
