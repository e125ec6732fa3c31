//! What the store offers of its trail.

use std::sync::{Arc, PoisonError};

use super::forward::{self, Batch, Destination, Forwarding};
use super::lag::{self, Lag};
use super::memory::{self, Astray};
use super::retire::Old;
use super::verify::{Finding, Proof, Verified, Witnessed, prove, spans, verify};
use super::walk::Walk;
use super::{Act, Auditing, Entry, log, retire, scheme};
use crate::commit::Commit;
use crate::connection::{Link, Use};
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::store::Store;
use crate::transaction;
use crate::unit::Unit;
use crate::{audit, reader};

/// So much of a part is gone through at a time.
const PIECES: usize = 8;

/// What came of sealing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The new head, as a signed note; none if there was nothing to take in.
    pub head: Option<String>,
    /// There is more to take in.
    pub more: bool,
    /// The log is not the one that was sealed last: nothing was taken in.
    pub astray: Option<Astray>,
    /// Numbers, from and to, whose events were removed before they were in the log.
    pub vanished: Vec<(i64, i64)>,
    /// Rows that nobody with the key wrote, as far as they were not met before.
    pub forged: Vec<i64>,
}

/// What came of taking out what is old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retirement {
    /// So many events left.
    pub events: u64,
    /// There may be more.
    pub more: bool,
}

impl Store {
    /// Takes what was recorded into the log and signs its new head. Of several processes one does it, the
    /// others find nothing or `Conflict`.
    pub async fn seal_audit(&self, context: &Context) -> Result<Sealed, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(Sealed::default());
        }
        let (authority, at) = (Arc::clone(&self.authority), context.at);
        let made = self
            .pool
            .run(move |link: &mut Link| {
                let ended = transaction::ended_before(link)?;
                reader::snapshot(link, None, |link| {
                    let state = match log::genuine(link, &authority)? {
                        Ok(state) => state,
                        Err(astray) => return Ok(Err(astray)),
                    };
                    if let Some(astray) = memory::agrees(link, &authority, state.as_ref())? {
                        return Ok(Err(astray));
                    }
                    let mut forged = Vec::new();
                    Ok(Ok((log::prepare(link, &authority, state, at, ended, &mut forged)?, forged)))
                })
            })
            .await?;
        let mut sealed = Sealed::default();
        match made {
            Err(astray) => sealed.astray = Some(astray),
            Ok((None, forged)) => sealed.forged = self.authority.meets(forged),
            Ok((Some(sealing), forged)) => {
                let (note, head, rows) = (sealing.note().to_owned(), sealing.head(), sealing.rows.clone());
                let gaps = sealing.gaps.clone();
                sealed.more = sealing.more;
                self.write(Unit::sealing(context, sealing)).await?;
                sealed.vanished = self.authority.misses(gaps);
                sealed.forged = self.authority.meets(forged);
                self.authority.sealed(rows.into_iter());
                self.authority.replace(head);
                sealed.head = Some(note);
            }
        }
        for span in self.missing(at).await? {
            if !sealed.vanished.contains(&span) {
                sealed.vanished.push(span);
            }
        }
        Ok(sealed)
    }

    /// Of what this process wrote up to now, the events that were removed before they were in the log, from and to: for
    /// one that ends, as nobody knows of them later.
    pub async fn missed_audit(&self, _: &Context) -> Result<Vec<(i64, i64)>, Error> {
        self.missing(i64::MAX).await
    }

    async fn missing(&self, at: i64) -> Result<Vec<(i64, i64)>, Error> {
        let aged = self.authority.aged(at);
        if aged.is_empty() {
            return Ok(Vec::new());
        }
        let authority = Arc::clone(&self.authority);
        let gone = self.on_snapshot(move |link| Ok(lag::vanished(link, &authority, &aged)?)).await?;
        Ok(spans(&gone))
    }

    /// Looks at a few more of the old blocks of the log, and begins anew after the last; what is wrong with them, as far
    /// as it is known, and from which place in the log on.
    pub async fn patrol_audit(&self, _: &Context) -> Result<Option<Astray>, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(None);
        }
        let (authority, walk) = (Arc::clone(&self.authority), Arc::clone(&self.walk));
        self.on_snapshot(move |link| {
            let mut walk = walk.lock().unwrap_or_else(PoisonError::into_inner);
            walk.on(link, &authority)?;
            Ok(walk.harm())
        })
        .await
    }

    /// What is wrong with the tables of the trail themselves, whatever is in them.
    pub async fn audit_tables(&self, _: &Context) -> Result<Vec<Finding>, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(Vec::new());
        }
        self.pool.run(scheme::harm).await
    }

    /// Remembers a head that was kept outside the database, if it is this log's and newer than what is
    /// remembered: a log that did not grow out of it is then not sealed.
    pub fn remember_audit(&self, note: &str) {
        let Ok(head) = self.authority.signer.verifier().open(note) else { return };
        if self.authority.remembered().is_none_or(|known| known.recorded < head.recorded) {
            self.authority.replace(head);
        }
    }

    /// Records that the log is to go on from where it is, and why; how many events it has. One that can't go on
    /// is made anew of the events that there are: then none.
    ///
    /// # Errors
    /// `Precondition` if the clock is behind the newest head: nobody would go by what is said before it.
    pub async fn accept_audit(&self, context: &Context, reason: &str) -> Result<Option<u64>, Error> {
        let (authority, reason, at) = (Arc::clone(&self.authority), reason.to_owned(), context.at);
        let (size, note, anew) = self
            .on_snapshot(move |link| {
                let behind =
                    memory::recorded(link, &authority)?.map_or(0, |newest| newest.saturating_sub(at));
                if behind > 0 {
                    let seconds = behind.div_euclid(1_000_000) + 1;
                    let why =
                        format!("the clock is {seconds} s behind the newest head of the log: set it first");
                    return Err(Error::Precondition(why));
                }
                let state = log::genuine(link, &authority)?;
                let anew = state.is_err() || Walk::finds_harm(link, &authority)?;
                let (size, note) = memory::note(state.ok().flatten().filter(|_| !anew).as_ref(), &reason);
                Ok((size, note, anew))
            })
            .await?;
        let notes = vec![Entry { note, ..Entry::of(Act::Accept) }];
        // Whoever was sent the other log has not seen this one.
        let unit =
            Unit::new(context, Commit { notes, ..Commit::default() })?.forwarding(Forwarding::Again { anew });
        self.write(unit).await?;
        Ok((!anew).then_some(size))
    }

    /// Takes the oldest events out of the trail, some thousand or a part of the table, if they were recorded before that
    /// time and every receiver of `delivered` events has them. What is newer stays, and what is so old by the clock
    /// alone and not by the heads of the log.
    ///
    /// # Errors
    /// `Precondition` if the oldest one is not what was sealed: it stays, and all that is behind it. `Conflict` while
    /// another process does; `Busy` while somebody reads for so long that a part can't be dropped.
    pub async fn retire_audit(
        &self,
        context: &Context,
        before: i64,
        delivered: u64,
    ) -> Result<Retirement, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(Retirement::default());
        }
        let at = context.at;
        for _ in 0..PIECES {
            let (authority, pass) = (Arc::clone(&self.authority), Arc::clone(&self.pass));
            let prepare = move |link: &mut Link| {
                log::hold(link)?;
                let mut pass = pass.lock().unwrap_or_else(PoisonError::into_inner);
                let mut going = pass.clone();
                let old = retire::prepare(link, &authority, at, before, delivered, &mut going)?;
                *pass = going;
                Ok(old)
            };
            let retiring = match self.on_snapshot(prepare).await? {
                Old::Nothing => return Ok(Retirement::default()),
                Old::More => continue,
                Old::Doubted(key) => {
                    return Err(Error::Precondition(format!("AuditEvent/{key} is not what was sealed")));
                }
                Old::Leaves(retiring) => retiring,
            };
            let (events, last) = (retiring.events, retiring.last());
            let note = format!("{events} events up to AuditEvent/{last}");
            let notes = vec![Entry { note, ..Entry::of(Act::Retire) }];
            let commit = Commit { notes, ..Commit::default() };
            self.write(Unit::new(context, commit)?.retiring(retiring)).await?;
            return Ok(Retirement { events, more: true });
        }
        Ok(Retirement { events: 0, more: true })
    }

    /// Lets this process, which calls itself `holder`, be the one that sends to a receiver, until then; how
    /// many events of the log that has.
    ///
    /// # Errors
    /// `Conflict` while another process sends.
    pub async fn claim_destination(
        &self,
        context: &Context,
        name: &str,
        holder: &str,
        until: i64,
    ) -> Result<u64, Error> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let claim = Forwarding::Claim { name: name.clone(), holder, until };
        self.write(Unit::empty(context).forwarding(claim)).await?;
        self.pool.run(move |link| forward::delivered(link, &name)).await
    }

    /// The receiver has the events from one place to another.
    ///
    /// # Errors
    /// `Conflict` if another process sends by now.
    pub async fn delivered(
        &self,
        context: &Context,
        name: &str,
        holder: &str,
        from: u64,
        to: u64,
    ) -> Result<(), Error> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(Unit::empty(context).forwarding(Forwarding::Move { name, holder, from, to }))
            .await
            .map(drop)
    }

    /// Another process may send to the receiver now.
    pub async fn release_destination(
        &self,
        context: &Context,
        name: &str,
        holder: &str,
    ) -> Result<(), Error> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(Unit::empty(context).forwarding(Forwarding::Release { name, holder })).await.map(drop)
    }

    /// All receivers that events were ever sent to.
    pub async fn destinations(&self, _: &Context) -> Result<Vec<Destination>, Error> {
        self.on_snapshot(|link| Ok(forward::destinations(link)?)).await
    }

    /// At most so many events, from a place in the log on.
    pub async fn leaving(&self, _: &Context, from: u64, most: usize) -> Result<Batch, Error> {
        self.on_snapshot(move |link| Ok(forward::batch(link, from, most)?)).await
    }

    /// What was recorded and is not in the log yet.
    pub async fn audit_lag(&self, _: &Context) -> Result<Lag, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(Lag::default());
        }
        self.pool.run(lag::lag).await
    }

    /// The public key of the log's heads, as C2SP's signed notes write it.
    pub fn audit_key(&self) -> String {
        self.authority.public_key()
    }

    /// Looks at all of the trail, on a connection of its own; `seen` is told how many events were looked at.
    ///
    /// # Errors
    /// `Busy` while somebody else does.
    pub async fn verify_audit(
        &self,
        context: &Context,
        witnessed: Witnessed,
        mut seen: impl FnMut(u64) + Send + 'static,
    ) -> Result<Verified, Error> {
        let turn = Arc::clone(&self.verifying).try_acquire_owned().map_err(|_| Error::Busy)?;
        let (authority, place, at) = (Arc::clone(&self.authority), self.place.clone(), context.at);
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut link = Link::open(&place, Use::Read)?;
            let verified = reader::snapshot(&mut link, None, |link| {
                log::hold(link)?;
                Ok(verify(link, &authority, &witnessed, at, &mut seen)?)
            });
            Ok(verified?)
        });
        looking.await.map_err(Error::internal)?
    }

    /// The proof that an event is in the log, and that a log of `older` entries was its beginning.
    ///
    /// # Errors
    /// `NotFound` while it is not; `Precondition` if the log was never of that size.
    pub async fn prove_audit(
        &self,
        _: &Context,
        id: &str,
        older: Option<u64>,
    ) -> Result<audit::Proof, Error> {
        let key: i64 = id.parse().map_err(|_| Error::NotFound)?;
        self.on_snapshot(move |link| Ok::<Proof, Error>(prove(link, key, older)?)).await
    }

    /// Reads that belong together, however long they take.
    async fn on_snapshot<T: Send + 'static>(
        &self,
        mut read: impl FnMut(&mut Link) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.pool
            .run(move |link: &mut Link| -> Result<T, Fault> { reader::snapshot(link, None, &mut read) })
            .await
    }
}
