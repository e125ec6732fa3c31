//! The store itself: a handle that is cheap to clone, and its calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::SearchQuery;
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use crate::audit::{self, Act, Auditing, Authority, Buffer, Entry, Trail};
use crate::clock::Clock;
use crate::commit::Commit;
use crate::connection::{Link, PATIENCE, Place, Use};
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::group::Group;
use crate::history::HistoryQuery;
use crate::lane::Lane;
use crate::migration::Schema;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::reader::{self, Reader};
use crate::record::{Backlog, Client, Page, Stored, Written};
use crate::replica::{Following, Replica};
use crate::seal::Seal;
use crate::subscription::{Interest, Register};
use crate::unit::{Unit, new_id};
use crate::{consent, desk, group, migration, partition, row, seal};

/// Who is told that a number is of so many is told something of each of them.
const A_FEW: u64 = 100;

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bring the schema up to date; if not, an old schema is an error.
    pub migrate: bool,
    /// Connections that read an SQLite file.
    pub readers: u32,
    /// Connections to PostgreSQL, and as many to its replica.
    pub connections: u32,
    /// A replica of PostgreSQL's that answers what is asked on one snapshot, once [`Store::follow`] was called:
    /// its URL.
    pub replica: Option<Zeroizing<String>>,
    /// How long a search may take; then it is refused as busy.
    pub patience: Duration,
    /// How the audit trail is kept.
    pub auditing: Auditing,
    /// What the trail is signed with, at least 32 bytes that all processes on a database share and the
    /// database does not hold; without one, the store makes its own, which protects from mistakes alone.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// What this server calls itself in AuditEvents: its address.
    pub site: String,
    /// For so many days events of Subscriptions are kept that were delivered.
    pub event_days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            migrate: true,
            readers: 4,
            connections: 16,
            replica: None,
            patience: PATIENCE,
            auditing: Auditing::default(),
            secret: None,
            site: String::new(),
            event_days: 7,
        }
    }
}

/// How writes reach the database.
#[derive(Clone)]
pub(crate) enum Writer {
    /// One thread for all.
    Lane(Lane),
    /// Any connection.
    Group(Group),
}

/// What all connections of a process have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Who signs the audit trail.
    pub(crate) authority: Arc<Authority>,
    /// Who is to be told of changes.
    pub(crate) register: Arc<Register>,
    /// What time it is for all processes.
    pub(crate) clock: Arc<Clock>,
}

/// All data, in an SQLite file or a PostgreSQL database.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: Pool,
    replica: Option<Arc<Replica>>,
    pub(crate) writer: Writer,
    pub(crate) queue: Arc<Queue>,
    changed: Arc<Notify>,
    seal: Arc<Seal>,
    pub(crate) authority: Arc<Authority>,
    register: Arc<Register>,
    pub(crate) clock: Arc<Clock>,
    /// What records what was read, and other small things.
    pub(crate) recorder: Lane,
    buffer: Arc<Buffer>,
    /// The last write failed, and by no fault of its own.
    failing: Arc<AtomicBool>,
    pub(crate) place: Place,
    /// One looks at all of the trail at a time.
    pub(crate) verifying: Arc<Semaphore>,
    /// Over the old blocks of the audit log.
    pub(crate) walk: Arc<Mutex<audit::Walk>>,
    /// How far the part of the audit trail was gone through that leaves as a whole.
    pub(crate) pass: Arc<Mutex<Option<audit::Pass>>>,
    pub(crate) event_days: u32,
}

impl Store {
    /// Opens `sqlite:PATH` (made if it is not there) or `postgres://…`.
    ///
    /// # Errors
    /// `Internal` with the reason, for the operator.
    pub fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let place = Place::parse(url)?;
        let mut link = Link::open(&place, Use::Write)?;
        if options.migrate {
            migration::up(&mut link)?;
            if let Err(fault) = partition::keep(&mut link, options.event_days) {
                // Nothing needs them yet; it is tried again.
                tracing::warn!(?fault, "parts of tables that are to come could not be made");
            }
        } else {
            migration::is_fit(&mut link)?;
        }
        audit::epoch::go_on(&mut link)?;
        consent::reread(&mut link)?;
        let seal = Arc::new(Seal::of(&mut link)?);
        let secret = match &options.secret {
            Some(secret) => secret.clone(),
            None => Zeroizing::new(seal::secret(&mut link, "audit")?.into_bytes()),
        };
        let authority = Arc::new(Authority::new(&secret, options.auditing, &options.site)?);
        seal::known(&mut link, &authority.public_key())?;
        drop(link);
        let register = Arc::new(Register::new(&secret)?);
        let shared = Shared { authority, register, clock: Arc::default() };
        let recorder = Lane::open(&place, &shared)?;
        let (readers, patience) = (options.readers, options.patience);
        let (pool, writer) = match &place {
            Place::Sqlite(_) => {
                let writer = Writer::Lane(recorder.clone());
                (Pool::open(&place, Use::Read, readers, patience, &shared)?, writer)
            }
            Place::Postgres(_) => {
                let pool = Pool::open(&place, Use::Write, options.connections, patience, &shared)?;
                let writer = Writer::Group(Group::new(&pool));
                (pool, writer)
            }
        };
        let follow = |url: &Zeroizing<String>| {
            Replica::new(url, &place, options.connections, patience, &shared).map(Arc::new)
        };
        let replica = options.replica.as_ref().map(follow).transpose()?;
        Ok(Self {
            pool,
            replica,
            writer,
            queue: Arc::default(),
            changed: Arc::default(),
            seal,
            authority: shared.authority,
            register: shared.register,
            clock: shared.clock,
            recorder,
            buffer: Arc::default(),
            failing: Arc::default(),
            place,
            verifying: Arc::new(Semaphore::new(1)),
            walk: Arc::default(),
            pass: Arc::default(),
            event_days: options.event_days,
        })
    }

    /// From now on this decides which versions may be for a Subscription, of those up to that stamp. What
    /// somebody may be to be told of is queued; of it [`Self::number_changes`] decides.
    pub fn watch(&self, stamp: i64, interest: Arc<Interest>) {
        self.register.watch(stamp, interest);
    }

    /// Wakes up after commits of this process that queued changes. Others queue too: look from time to time
    /// as well.
    pub async fn queued(&self) {
        self.register.queued.notified().await;
    }

    /// Brings a database to this program's schema; how many steps that took.
    pub fn migrate(url: &str) -> Result<usize, Error> {
        migration::up(&mut Link::open(&Place::parse(url)?, Use::Write)?)
    }

    /// Removes schema and data. For tests of the way down.
    pub fn demolish(url: &str) -> Result<usize, Error> {
        migration::down(&mut Link::open(&Place::parse(url)?, Use::Write)?)
    }

    /// From now on the replica is asked too, if there is one.
    pub fn follow(&self) -> Result<(), Error> {
        self.replica.as_ref().map_or(Ok(()), Replica::follow)
    }

    /// How it stands with the replica, if there is one.
    pub fn following(&self) -> Option<Following> {
        self.replica.as_ref().map(|replica| replica.following())
    }

    /// What the database says of its schema.
    pub async fn schema(&self) -> Result<Schema, Error> {
        self.pool.run(migration::schema).await
    }

    /// Answers if the database answers, takes writes, and still serves this program. After a write that failed it tries one, for
    /// nobody sends others to who is not ready.
    pub async fn ping(&self, context: &Context) -> Result<(), Error> {
        if self.failing.load(Ordering::Relaxed) {
            let taken = Some(format!("probe {}", new_id()));
            self.write(Unit::new(context, Commit { taken, ..Commit::default() })?).await?;
        }
        self.schema().await?.serves()
    }

    /// The current version; `NotFound`, or `Gone` if that says it is deleted.
    pub async fn read(&self, context: &Context, kind: ResourceType, id: &str) -> Result<Stored, Error> {
        let (id, asker) = (id.to_owned(), context.clone());
        let read = move |link: &mut Link| {
            asker.access.permits(Op::Read, kind)?;
            // First what is read: by then the Consents are as new as it is.
            let stored = reader::current(link, kind, &id)?;
            let sight = consent::sight(link, &asker)?;
            Ok(link.ask(link.patience, |link| Reader::new(link, &sight).alive(stored))?)
        };
        let stored = self.pool.run(read).await?;
        context.saw(Act::Read, &stored);
        Ok(stored)
    }

    /// That version; `NotFound`, or `Gone` if it says the resource was deleted.
    pub async fn vread(
        &self,
        context: &Context,
        kind: ResourceType,
        id: &str,
        version: i64,
    ) -> Result<Stored, Error> {
        let (id, asker) = (id.to_owned(), context.clone());
        let read =
            move |link: &mut Link| reader::asked(link, &asker, |reader| reader.vread(kind, &id, version));
        let stored = self.pool.run(read).await?;
        context.saw(Act::Vread, &stored);
        Ok(stored)
    }

    /// One page of matches; `query.after` is [`Page::next`] of the page before.
    pub async fn search(&self, context: &Context, query: &SearchQuery) -> Result<Page, Error> {
        let mut query = query.clone();
        let of = format!("{} {}", context.who.name(), query.scope);
        query.after = query.after.map(|page| self.seal.open(&of, &query.used, &page)).transpose()?;
        let asker = context.clone();
        let seal = Arc::clone(&self.seal);
        let act = if query.kind().is_some() { Act::SearchType } else { Act::SearchSystem };
        let (page, counted, meant) = self
            .look(move |link| {
                let (mut page, counted, meant) = reader::asked(link, &asker, |reader| {
                    let page = reader.search(&query)?;
                    let shown = page.entries.len() as u64;
                    let untold = page.total.filter(|total| *total > shown);
                    // A number of a few says something of each of them, and in an emergency all is told.
                    let counted = if untold
                        .is_some_and(|total| total <= A_FEW || asker.who.agent.breaks_glass())
                        && asker.trail.is_some()
                    {
                        reader.counted(&query)?
                    } else {
                        Some(Vec::new())
                    };
                    // That there is nothing of somebody is told of them.
                    let is_empty = page.entries.is_empty() && asker.trail.is_some();
                    // Who was answered in time is answered, whatever can be found out then.
                    let meant = if is_empty { reader.meant(&query).ok() } else { Some(Vec::new()) };
                    Ok((page, counted, meant))
                })?;
                page.next = page.next.map(|end| seal.close(&of, &query.used, &end)).transpose()?;
                Ok((page, counted, meant))
            })
            .await?;
        let whole = counted.is_some() && meant.is_some();
        let (counted, meant) = (counted.unwrap_or_default(), meant.unwrap_or_default());
        if !whole {
            let query = context.trail.as_ref().map(Trail::asked).unwrap_or_default();
            let note =
                "whose charts a number was told of, or who was asked about, could not be told".to_owned();
            context.note(Entry { query, note, ..Entry::of(act) });
        }
        let shown = page.entries.iter().chain(&page.included).map(|one| one.patient.as_str());
        context.saw_list(act, None, shown.chain(counted.iter().chain(&meant).map(String::as_str)));
        Ok(page)
    }

    /// One page of versions; `query.after` is [`Page::next`] of the page before.
    pub async fn history(&self, context: &Context, query: &HistoryQuery) -> Result<Page, Error> {
        let mut query = query.clone();
        let of = format!("{} {:?} {:?}", context.who.name(), query.kinds, query.id);
        let asker = context.clone();
        query.after = query.after.map(|page| self.seal.open(&of, &query.used, &page)).transpose()?;
        let seal = Arc::clone(&self.seal);
        let (act, one) = match (query.kinds.as_slice(), &query.id) {
            ([kind], Some(id)) => (Act::HistoryInstance, Some((*kind, id.clone()))),
            ([_], None) => (Act::HistoryType, None),
            _ => (Act::HistorySystem, None),
        };
        let page = self
            .look(move |link| {
                let mut page = reader::asked(link, &asker, |reader| reader.history(&query))?;
                page.next = page.next.map(|end| seal.close(&of, &query.used, &end)).transpose()?;
                Ok(page)
            })
            .await?;
        context.saw_list(
            act,
            one.as_ref().map(|(kind, id)| (*kind, id.as_str())),
            page.entries.iter().map(|one| one.patient.as_str()),
        );
        Ok(page)
    }

    /// Several reads on one snapshot, of the replica's or the primary's. `read` may be called again if the
    /// connection was lost.
    pub async fn reading<T: Send + 'static>(
        &self,
        context: &Context,
        mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let asker = context.clone();
        self.look(move |link| reader::asked(link, &asker, &mut read)).await
    }

    /// A look at what was answered until now, and writes nothing: at the replica if that has it, else at the
    /// primary. One that reads a row or two is not worth the questions before.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(replica) = &self.replica else { return self.pool.run(work).await };
        let work = Arc::new(Mutex::new(work));
        let again = Arc::clone(&work);
        let first = move |link: &mut Link| work.lock().unwrap_or_else(PoisonError::into_inner)(link);
        if let Some(answer) = replica.read(first).await {
            return answer;
        }
        self.pool.run(move |link| again.lock().unwrap_or_else(PoisonError::into_inner)(link)).await
    }

    /// May who asks do this with a resource of the type whose subject is that patient, of which nothing else
    /// is known but that it is final?
    ///
    /// # Errors
    /// `Denied` if no right allows it; `NotFound` if the patient withholds it.
    pub async fn permits_of(
        &self,
        context: &Context,
        op: Op,
        kind: ResourceType,
        patient: &str,
    ) -> Result<(), Error> {
        let (patient, asker) = (patient.to_owned(), context.clone());
        let ask = move |reader: &mut Reader<'_>| reader.permits_of(op, kind, &patient);
        self.pool.run(move |link| reader::asked(link, &asker, ask.clone())).await
    }

    /// Does all of it durably, or nothing; answers the writes in their order.
    ///
    /// # Errors
    /// `Conflict` and `Precondition` (a version does not match), `Ambiguous` (a criterion finds
    /// several), `Invalid` (content, or a conditional reference that finds nothing), `Busy`, `Internal`.
    pub async fn commit(&self, context: &Context, commit: Commit<'_>) -> Result<Vec<Written>, Error> {
        let wakes = !commit.tasks.is_empty();
        let written = self.write(Unit::new(context, commit)?).await?;
        if wakes {
            self.changed.notify_one();
        }
        Ok(written)
    }

    /// Several commits, each by itself, in this order.
    pub async fn commit_each(
        &self,
        context: &Context,
        commits: Vec<Commit<'_>>,
    ) -> Vec<Result<Vec<Written>, Error>> {
        let wakes = commits.iter().any(|commit| !commit.tasks.is_empty());
        let units: Vec<_> = commits.into_iter().map(|commit| Unit::new(context, commit)).collect();
        let mut answers = Vec::with_capacity(units.len());
        match &self.writer {
            Writer::Lane(lane) => {
                let mut waiting = Vec::with_capacity(units.len());
                for unit in units {
                    waiting.push(match unit {
                        Ok(unit) => lane.send(unit).await,
                        Err(error) => Err(error),
                    });
                }
                for answer in waiting {
                    answers.push(match answer {
                        Ok(answer) => self.noted(Lane::answered(answer).await),
                        Err(error) => Err(error),
                    });
                }
            }
            Writer::Group(group) => {
                let (mut good, mut places) =
                    (Vec::with_capacity(units.len()), Vec::with_capacity(units.len()));
                for unit in units {
                    places.push(unit.map(|unit| good.push(unit)));
                }
                let mut done = group.commit_each(good).await.into_iter();
                for place in places {
                    answers.push(
                        place.and_then(|()| {
                            self.noted(done.next().unwrap_or_else(|| Err(group::unanswered())))
                        }),
                    );
                }
            }
        }
        if wakes {
            self.changed.notify_one();
        }
        answers
    }

    /// Records what the request has seen so far, durably where that is asked of this store.
    ///
    /// # Errors
    /// Those of [`Store::commit`]: then what was seen must not be shown.
    pub async fn record(&self, context: &Context) -> Result<(), Error> {
        let notes = context.trail.as_ref().map(Trail::take).unwrap_or_default();
        if notes.is_empty() || self.authority.auditing == Auditing::Off {
            return Ok(());
        }
        if self.authority.auditing == Auditing::Buffered {
            self.buffer.add(context, &notes, &self.recorder).await;
            return Ok(());
        }
        let unit = Unit::new(context, Commit { notes, ..Commit::default() })?;
        self.noted(self.recorder.commit(unit).await.map(drop))
    }

    /// Records what was buffered, now.
    pub async fn flush(&self) -> Result<(), Error> {
        self.buffer.flush(&self.recorder).await
    }

    /// The ids of the patients that a resource is about, with spaces between, whoever asks: for the audit
    /// trail of those who may not see it.
    pub async fn patients(&self, kind: ResourceType, id: &str) -> Result<String, Error> {
        let id = id.to_owned();
        let stored = self.pool.run(move |link| row::current(link, kind, &id)).await?;
        Ok(stored.map(|stored| stored.patient).unwrap_or_default())
    }

    /// Wakes up after commits that queued tasks. A task may also come from another process, or
    /// become due later: look from time to time as well.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many tasks wait, and the time the oldest is due.
    pub async fn backlog(&self, _: &Context) -> Result<Backlog, Error> {
        self.pool.run(desk::backlog).await
    }

    /// All clients, revoked ones too.
    pub async fn clients(&self, _: &Context) -> Result<Vec<Client>, Error> {
        self.pool.run(|link| desk::known(link, None)).await
    }

    /// The client whose key has that digest, is not revoked and has not ended.
    pub async fn client(&self, context: &Context, key_hash: &str) -> Result<Client, Error> {
        let (at, client) = (context.at, self.any_client(key_hash).await?);
        let good = client.revoked.is_none() && client.expires.is_none_or(|end| at < end);
        if good { Ok(client) } else { Err(Error::NotFound) }
    }

    /// The same, though its key may have ended.
    pub async fn any_client(&self, key_hash: &str) -> Result<Client, Error> {
        let key_hash = key_hash.to_owned();
        let known = self.pool.run(move |link| desk::known(link, Some(&key_hash))).await?;
        known.into_iter().next().ok_or(Error::NotFound)
    }

    pub(crate) async fn write(&self, unit: Unit) -> Result<Vec<Written>, Error> {
        let answer = match &self.writer {
            Writer::Lane(lane) => lane.commit(unit).await,
            Writer::Group(group) => group.commit(unit).await,
        };
        self.noted(answer)
    }

    /// Remembers whether writes fail.
    fn noted<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        match &answer {
            Ok(_) => self.failing.store(false, Ordering::Relaxed),
            Err(Error::NoStore(_) | Error::Internal(_)) => self.failing.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        answer
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }
}
