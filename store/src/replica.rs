//! A replica of the database (streaming replication of PostgreSQL) that answers what is asked on one snapshot.
//! Nobody reads less there than was answered before they asked, whichever process wrote it.
//!
//! For each read the primary is asked how far its log goes, and the replica whether it has come so far: then it
//! answers, or else the primary does. Both show a number that is made anew whenever the primary or the replica is
//! connected to: a copy of the database that goes its own way, or a replica of one, does not know it, and a
//! place in its log would say nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use diesel::r2d2::ManageConnection as _;
use diesel::sql_types::{BigInt, Bool, Text};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::connection::{Link, Manager, Place, Use};
use crate::error::{Error, Fault};
use crate::moment::{Moment, NOW};
use crate::pool::Pool;
use crate::sql::Sql;
use crate::store::Shared;

/// How long a read waits until the replica has what was answered before.
const WAIT: Duration = Duration::from_millis(100);
/// Between two looks at the replica; what was not fit to be asked is not asked before the next.
const LOOK: Duration = Duration::from_secs(1);
/// The same while it is behind, which may soon be over.
const SOON: Duration = Duration::from_millis(100);
/// Who looks hangs itself, if it has not looked for so long.
const HANGS: Duration = Duration::from_secs(5);
/// Reads that one question to the primary is for, at most; more wait outside.
const TOGETHER: usize = 256;

/// How it stands with the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// Why it is not asked, if so.
    pub why: Option<&'static str>,
    /// Bytes of the primary's log that it did not have when it was looked at last.
    pub lag: Option<i64>,
    /// Reads that it answered, since this process began.
    pub by_replica: u64,
    /// Those that the primary answered in its place.
    pub by_primary: u64,
}

/// What a replica may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has all that is asked for.
    Ready,
    Silent,
    Behind,
    Primary,
    Foreign,
}

impl Standing {
    fn why(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Silent => Some("it does not answer"),
            Self::Behind => Some("it is behind the primary"),
            Self::Primary => Some("it is no replica: it takes writes"),
            Self::Foreign => Some("it is no replica of this database"),
        }
    }
}

/// How far the primary was in one moment.
#[derive(Debug, Clone)]
struct Position {
    /// So much of its log was on disk. All that was answered is: no connection of ours does with less
    /// (`synchronous_commit`). More may be in memory, of transactions that are still open, and stay there for long.
    end: i64,
    mark: i64,
    moment: Moment,
}

/// What is done with the mark before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// It is written as it is, so that something is committed.
    Again,
    /// It is made anew.
    New,
}

/// A question to the primary.
struct Ask {
    write: Option<Mark>,
    reply: oneshot::Sender<Position>,
}

/// What is known of the replica.
struct Line {
    standing: Standing,
    /// Connections, as long as it was not lost.
    pool: Option<Pool>,
    looked: Instant,
    lag: Option<i64>,
}

/// The way to it.
pub(crate) struct Replica {
    place: Place,
    primary: Place,
    size: u32,
    patience: Duration,
    shared: Shared,
    asks: mpsc::Sender<Ask>,
    /// Until somebody answers them.
    asked: Mutex<Option<mpsc::Receiver<Ask>>>,
    line: Mutex<Line>,
    /// Reads that it answered, and those that the primary did in its place.
    answered: AtomicU64,
    left: AtomicU64,
}

impl Replica {
    /// Nobody is connected to yet, and nothing is asked.
    pub(crate) fn new(
        url: &str,
        primary: &Place,
        size: u32,
        patience: Duration,
        shared: &Shared,
    ) -> Result<Self, Error> {
        let place = Place::parse(url)?;
        if [&place, primary].iter().any(|place| matches!(place, Place::Sqlite(_))) {
            return Err(Error::Internal("an SQLite file has no replica to read from".into()));
        }
        let (asks, asked) = mpsc::channel(TOGETHER);
        let line = Line { standing: Standing::Silent, pool: None, looked: Instant::now(), lag: None };
        Ok(Self {
            place,
            primary: primary.clone(),
            size,
            patience,
            shared: shared.clone(),
            asks,
            asked: Mutex::new(Some(asked)),
            line: Mutex::new(line),
            answered: AtomicU64::default(),
            left: AtomicU64::default(),
        })
    }

    /// From now on the replica is looked at, and asked where it can be. Both threads end with the last of these.
    pub(crate) fn follow(self: &Arc<Self>) -> Result<(), Error> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(asked) = asked else { return Ok(()) };
        let primary = self.primary.clone();
        let spawn = |name: &str| thread::Builder::new().name(name.into());
        spawn("store-position").spawn(move || answer(&primary, asked)).map_err(Error::internal)?;
        let replica = Arc::downgrade(self);
        spawn("store-replica").spawn(move || watch(&replica)).map_err(Error::internal)?;
        Ok(())
    }

    pub(crate) fn following(&self) -> Following {
        let line = self.line();
        let standing = if line.looked.elapsed() > HANGS { Standing::Silent } else { line.standing };
        Following {
            why: standing.why(),
            lag: line.lag,
            by_replica: self.answered.load(Ordering::Relaxed),
            by_primary: self.left.load(Ordering::Relaxed),
        }
    }

    /// What `work` finds there; none where the primary has to be asked.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Option<Result<T, Error>> {
        let answer = self.ask(work).await;
        let by = if answer.is_some() { &self.answered } else { &self.left };
        by.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Option<Result<T, Error>> {
        let pool = self.pool()?;
        let (reply, position) = oneshot::channel();
        let asked = async {
            self.asks.send(Ask { write: None, reply }).await.ok()?;
            position.await.ok()
        };
        let position = timeout(WAIT, asked).await.ok()??;
        let (tell, told) = oneshot::channel();
        let task = pool
            .begin(WAIT, move |link| {
                let standing = match has(link, &position, Instant::now() + WAIT) {
                    Ok((standing, _)) => standing,
                    Err(fault) => {
                        tracing::debug!(?fault, "the replica does not say how far it is");
                        link.broken |= matches!(fault, Fault::Lost(_));
                        if link.broken { Standing::Silent } else { Standing::Foreign }
                    }
                };
                // Who asked may have gone to the primary meanwhile.
                if tell.send(standing).is_err() || standing != Standing::Ready {
                    return None;
                }
                link.began = Some(position.moment);
                let began = Instant::now();
                let answer = work(link);
                link.began = None;
                link.broken |= matches!(answer, Err(Fault::Lost(_)));
                Some((answer, link.broken, began.elapsed() >= link.patience))
            })
            .await?;
        // A replica that is there and says nothing keeps the thread, and nobody else.
        match timeout(WAIT * 3, told).await {
            Ok(Ok(Standing::Ready)) => {}
            // Another process may just have renewed the mark; if it is not that, who looks finds out.
            Ok(Err(_) | Ok(Standing::Foreign)) => return None,
            Ok(Ok(standing)) => {
                self.lose(standing);
                return None;
            }
            Err(_) => {
                self.lose(Standing::Silent);
                return None;
            }
        }
        let (answer, lost, late) = task.await.ok()???;
        if lost {
            self.lose(Standing::Silent);
            return None;
        }
        match answer {
            Ok(found) => Some(Ok(found)),
            // The primary would not be quicker.
            Err(Fault::Refused(Error::Busy)) if late => Some(Err(Error::Busy)),
            Err(Fault::Refused(Error::Busy | Error::Internal(_) | Error::NoStore(_))) => None,
            Err(Fault::Refused(error)) => Some(Err(error)),
            // What the replica has to replay may be in the way.
            Err(fault) => {
                tracing::debug!(?fault, "the replica did not answer: the primary is asked");
                None
            }
        }
    }

    fn pool(&self) -> Option<Pool> {
        let line = self.line();
        line.pool.clone().filter(|_| line.standing == Standing::Ready)
    }

    /// Until somebody has looked again.
    fn lose(&self, standing: Standing) {
        let mut line = self.line();
        line.standing = standing;
        if standing != Standing::Behind {
            line.pool = None;
        }
    }

    /// Is it time for the next look?
    fn is_due(&self) -> bool {
        let line = self.line();
        line.standing == Standing::Behind || line.looked.elapsed() >= LOOK
    }

    /// Looks how it stands with the replica; none where the primary does not say what that is to be compared with.
    fn look(&self, link: &mut Option<Link>, commit: bool) -> Result<Option<(Standing, i64)>, Fault> {
        let manager = || Manager::new(&self.place, Use::Read, self.patience, &self.shared);
        let mut write = if link.is_none() { Some(Mark::New) } else { commit.then_some(Mark::Again) };
        let mut known = match link.take() {
            Some(known) => known,
            None => manager().connect().map_err(|error| Fault::Lost(error.to_string()))?,
        };
        // Another process may renew the mark between the two questions.
        for last in [false, true] {
            let (reply, position) = oneshot::channel();
            let sent = self.asks.blocking_send(Ask { write, reply });
            let Ok(position) = sent.map_err(drop).and_then(|()| position.blocking_recv().map_err(drop))
            else {
                return Ok(None);
            };
            write = None;
            let found = has(&mut known, &position, Instant::now() + WAIT);
            if last || !matches!(found, Ok((Standing::Foreign, _))) {
                *link = (!matches!(found, Err(Fault::Lost(_)))).then_some(known);
                return found.map(Some);
            }
        }
        Ok(None)
    }

    /// Keeps what was found, and connects where that was good.
    fn note(&self, found: Result<Option<(Standing, i64)>, Fault>) -> (Standing, String) {
        let (standing, lag, why) = match found {
            Ok(None) => (None, None, String::new()),
            Ok(Some((standing, lag))) => (Some(standing), Some(lag), String::new()),
            Err(Fault::Lost(why)) => (Some(Standing::Silent), None, why),
            Err(fault) => (Some(Standing::Foreign), None, format!("{fault:?}")),
        };
        let connects = standing == Some(Standing::Ready) && self.line().pool.is_none();
        let open = || Pool::open(&self.place, Use::Read, self.size, self.patience, &self.shared);
        let opened = connects.then(open).transpose();
        let mut line = self.line();
        line.looked = Instant::now();
        match (standing, opened) {
            (Some(_), Err(error)) => {
                line.standing = Standing::Silent;
                return (line.standing, error.to_string());
            }
            (Some(standing), Ok(opened)) => {
                line.lag = lag;
                line.pool = opened.or(line.pool.take());
                line.standing = standing;
            }
            (None, _) => {}
        }
        let standing = line.standing;
        drop(line);
        if !matches!(standing, Standing::Ready | Standing::Behind) {
            self.lose(standing);
        }
        (standing, why)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the replica as long as somebody may ask it.
fn watch(replica: &Weak<Replica>) {
    let (mut link, mut told, mut behind) = (None, None, None);
    let mut committed = Instant::now();
    while let Some(replica) = replica.upgrade() {
        if replica.is_due() || told.is_none() {
            // What is on the primary's disk may end within a record, which no replica can replay before something
            // is committed: where nobody else does, the mark is.
            let commit = behind.is_some() && committed.elapsed() >= LOOK;
            if commit {
                committed = Instant::now();
            }
            let found = replica.look(&mut link, commit);
            let (standing, error) = replica.note(found);
            behind = (standing == Standing::Behind).then(|| behind.unwrap_or_else(Instant::now));
            // Nothing is said of what is over at once.
            let lasts = behind.is_none_or(|since: Instant| since.elapsed() >= LOOK);
            if lasts && told.replace(standing) != Some(standing) {
                match standing.why() {
                    None => tracing::info!("the replica answers searches"),
                    Some(why) => {
                        tracing::warn!(why, error, "the primary answers searches, and the replica none");
                    }
                }
            }
        }
        drop(replica);
        thread::sleep(SOON);
    }
}

/// Asks the primary once for all who wait: that is after each of them came.
fn answer(primary: &Place, mut asked: mpsc::Receiver<Ask>) {
    let (mut link, mut waiting) = (None, Vec::with_capacity(TOGETHER));
    while asked.blocking_recv_many(&mut waiting, TOGETHER) > 0 {
        let write = waiting.iter().filter_map(|ask: &Ask| ask.write).max();
        match position(primary, &mut link, write) {
            Ok(position) => {
                for ask in waiting.drain(..) {
                    // Who asked may have gone to the primary.
                    let _ = ask.reply.send(position.clone());
                }
            }
            Err(fault) => {
                tracing::debug!(?fault, "the primary does not say how far it is");
                waiting.clear();
            }
        }
    }
}

/// Where the primary is now. One that is connected to anew may be another: it gets a new mark.
fn position(primary: &Place, link: &mut Option<Link>, write: Option<Mark>) -> Result<Position, Fault> {
    let write = if link.is_none() { Some(Mark::New) } else { write };
    let mut known = match link.take() {
        Some(known) => known,
        None => Link::open(primary, Use::Write)?,
    };
    if let Some(write) = write {
        let mut sql = Sql::new(known.dialect, "UPDATE replica_mark SET mark = ");
        match write {
            Mark::Again => sql.push("mark"),
            Mark::New => sql.int(Uuid::new_v4().as_u64_pair().1.cast_signed()),
        };
        sql.run(&mut known.connection)?;
    }
    // The statement's snapshot is made before the log is looked at: what it holds is in there.
    let mut sql =
        Sql::new(known.dialect, "SELECT CAST(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0') AS ");
    sql.push("BIGINT), COALESCE((SELECT MAX(mark) FROM replica_mark), 0), ").push(NOW);
    let found = sql.rows::<(BigInt, BigInt, BigInt, Text), (i64, i64, i64, String)>(&mut known.connection)?;
    let (end, mark, at, snapshot) = found.into_iter().next().unwrap_or_default();
    let moment = Moment::of(at, &snapshot)?;
    *link = Some(known);
    Ok(Position { end, mark, moment })
}

/// Does the replica have all of that, or will it before `end`? And how much was missing at first.
fn has(link: &mut Link, position: &Position, end: Instant) -> Result<(Standing, i64), Fault> {
    let sql = Sql::new(
        link.dialect,
        "SELECT pg_is_in_recovery(), CAST(COALESCE(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0) AS BIGINT), \
         COALESCE((SELECT MAX(mark) FROM replica_mark), 0)",
    );
    let (mut missing, mut arrived, mut pause) = (None, false, Duration::from_micros(500));
    loop {
        let found = sql.rows::<(Bool, BigInt, BigInt), (bool, i64, i64)>(&mut link.connection)?.pop();
        let (follows, at, mark) = found.unwrap_or_default();
        let missing = *missing.get_or_insert(position.end.saturating_sub(at).max(0));
        if !follows {
            return Ok((Standing::Primary, missing));
        }
        if at >= position.end {
            if mark == position.mark {
                return Ok((Standing::Ready, missing));
            }
            // What a statement sees is older than the place it names: the next one sees what is there.
            if std::mem::replace(&mut arrived, true) {
                return Ok((Standing::Foreign, missing));
            }
            continue;
        }
        if Instant::now() >= end {
            return Ok((Standing::Behind, missing));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(8));
    }
}
