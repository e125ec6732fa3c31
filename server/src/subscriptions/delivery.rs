//! Sending: each Subscription gets its events one after the other, by one process at a time, again and again
//! until its endpoint has taken them. One that fails waits, longer each time, and no other waits for it.

mod dead_letter;
mod drive;
mod message;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fhir::json::{self, Json, Limits};
use fhir::outcome::Issues;
use fhir::resource_type::ResourceType;
use fhir::subscription::Occasion;
use fhir::time;
use store::{
    Commit, Context, Entry as Note, Error, Next, OnlyIf, Patch, Progress, SubscriptionStatus, Target,
    UNCONNECTED, Write,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::drive::Drive;
use super::book::Entry;
use super::mandate::Standing;
use super::origin::{Origins, uneven};
use super::record;
use super::webhook::{Refusal, Webhook};
use super::{GRACE, LOOK};
use crate::app::{self, App};

const SECOND: i64 = 1_000_000;
/// Subscriptions that are sent to at once.
const AT_ONCE: usize = 512;
/// Those among them that failed the last time.
const FAILING: usize = 128;
/// Those that are waited for beside these, because they do not answer at once.
const ASIDE: usize = 1024;
/// An answer is waited for so long, if the subscriber says nothing else, in seconds.
const PATIENCE: u32 = 10;
/// Who holds a Subscription holds it for so much longer than an answer may take; then another may.
const SPARE: i64 = 5 * SECOND;
/// At the end what came of the last messages may take so long to be kept.
const SETTLE: Duration = Duration::from_secs(2);
/// Events that are read at once, and of these so many are sent together if the subscriber allows it.
const TOGETHER: usize = 64;
/// Then others that wait for the same server have their turn.
const TURN: i64 = 2 * SECOND;
/// After a failure it is tried again so soon, and each time later, up to this.
const AGAIN: i64 = SECOND;
const LATEST: i64 = 3600 * SECOND;
/// A handshake that may not be sent is tried so often.
const HANDSHAKES: i64 = 3;
/// Whose endpoint takes nothing for so long, or who is not connected, is told nothing more until that is asked for.
pub(super) const GIVE_UP: i64 = 3 * 86_400 * SECOND;
/// What was written before a Subscription was known has ended soon.
const SOON: Duration = Duration::from_millis(20);
const BEGUN: i64 = 10 * SECOND;

/// Who sends, in this process.
pub(super) struct Courier {
    app: Arc<App>,
    webhook: Webhook,
    /// What this process is called beside others.
    process: Arc<str>,
    /// How its claims begin: one that begins under its name while it ends has others.
    claims: String,
    places: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    due: Notify,
    origins: Origins,
}

/// What was delivered and is not kept yet.
#[derive(Default)]
struct Receipts {
    notes: Vec<Note>,
    under_way: Option<JoinHandle<Result<(), Error>>>,
}

/// Why a Subscription is not sent to any more.
enum Stop {
    /// There is nothing left; look again then.
    Rest(Option<i64>),
    /// It failed.
    Failed(Refusal),
    /// It is active from now on.
    Begun,
    /// It is not its turn before then.
    Later(i64),
    /// Nobody may be told any more, and why.
    Ended(&'static str),
    /// Whoever is to be connected was not, for long.
    Abandoned,
    /// Somebody else has it, or it was changed.
    Lost,
    /// The store failed.
    Unknown,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        if !matches!(error, Error::Conflict { .. }) {
            tracing::error!(%error, "the store failed while a Subscription was sent to");
        }
        Self::Lost
    }
}

impl Stop {
    /// The store failed, and nothing that was to be kept depends on it.
    fn unless_lost(error: Error) -> Self {
        let is_lost = matches!(error, Error::Conflict { .. });
        let stop = Self::from(error);
        if is_lost { stop } else { Self::Unknown }
    }
}

impl Courier {
    pub(super) fn new(app: &Arc<App>) -> anyhow::Result<Self> {
        Ok(Self {
            app: Arc::clone(app),
            webhook: Webhook::new(app)?,
            process: Arc::clone(&app.process),
            claims: format!("{} {} ", app.process, uuid::Uuid::new_v4().simple()),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            failing: Arc::new(Semaphore::new(FAILING)),
            aside: Arc::new(Semaphore::new(ASIDE)),
            due: Notify::new(),
            origins: Origins::new(app.config.webhooks.rate),
        })
    }

    /// What time it is for all processes.
    fn now(&self) -> i64 {
        self.app.store.time(app::now())
    }

    /// How long events are kept.
    fn kept(&self) -> i64 {
        i64::from(self.app.config.event_days) * 86_400 * SECOND
    }

    /// Something is due.
    pub(super) fn wake(&self) {
        self.due.notify_one();
    }

    /// What a process of this name held, which is dead, is to be taken up at once.
    pub(super) async fn begin_anew(&self) -> Result<(), Error> {
        let (context, until) = (context(), self.now() + GIVE_UP);
        let book = self.app.subscriptions.book();
        let ends =
            book.entries.values().filter(|entry| entry.connects()).filter_map(|entry| entry.ends()).collect();
        self.app.store.disconnect_subscribers(&context, &self.process, until, ends).await?;
        self.app.store.release_subscriptions(&context, &format!("{} ", self.process)).await
    }

    /// Sends, until it is to stop; then waits for what is under way, for as long as that may take.
    pub(super) async fn work(self: Arc<Self>) {
        while !self.app.lines.are_ending() {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => {
                    let _ = timeout(LOOK, self.due.notified()).await;
                }
                Err(error) => {
                    tracing::error!(%error, "it is not known what is due; it will be looked at again");
                    tokio::time::sleep(super::AGAIN).await;
                }
            }
        }
        let under_way = async {
            let all = [(&self.places, AT_ONCE), (&self.failing, FAILING), (&self.aside, ASIDE)];
            for (places, all) in all {
                let _ = places.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await;
            }
        };
        if timeout(GRACE + SETTLE, under_way).await.is_err() {
            tracing::warn!("what is told has not ended in time: others may tell it too");
        }
        if let Err(error) = self.app.store.release_subscriptions(&context(), &self.claims).await {
            tracing::warn!(%error, "others wait until they may go on");
        }
    }

    /// Takes what is due; says whether there may be more.
    async fn turn(self: &Arc<Self>) -> Result<bool, Error> {
        let mut more = false;
        for (failing, places) in [(false, &self.places), (true, &self.failing)] {
            let most = places.available_permits().min(TOGETHER);
            let now = self.now();
            let until = now + i64::from(PATIENCE) * SECOND + SPARE;
            let context = context();
            // Another name each time: what this process still does by an earlier claim is another's too.
            let holder: Arc<str> = format!("{}{}", self.claims, uuid::Uuid::new_v4().simple()).into();
            let (store, process) = (&self.app.store, &self.process);
            let claimed = store.claim_subscriptions(&context, process, &holder, until, most, failing).await?;
            more |= most > 0 && claimed.len() == most;
            for subscription in claimed {
                let Ok(place) = Arc::clone(places).acquire_owned().await else { continue };
                let (courier, holder) = (Arc::clone(self), Arc::clone(&holder));
                tokio::spawn(async move {
                    courier.drive(subscription, &holder, until, place).await;
                    courier.wake();
                });
            }
        }
        Ok(more)
    }

    async fn drive(
        &self,
        subscription: store::Subscription,
        holder: &Arc<str>,
        until: i64,
        place: OwnedSemaphorePermit,
    ) {
        let (number, id, tries) = (subscription.number, subscription.id.clone(), subscription.tries);
        let (delivered, failing, status) =
            (subscription.delivered, subscription.failing, subscription.status);
        // Nobody has put it right, and what it was to be told is kept for no longer.
        let off =
            status == SubscriptionStatus::Error && written(&subscription.body) + self.kept() <= self.now();
        if off {
            let why = "it was in error for as long as events are kept";
            return self.end(number, &id, holder, delivered, SubscriptionStatus::Off, why).await;
        }
        let begins = status == SubscriptionStatus::Requested;
        // Whoever was told before is waited for as long as anybody is.
        let patience =
            if begins && !subscription.started { self.app.config.webhooks.handshake } else { GIVE_UP };
        let entry = match self.entry(subscription).await {
            Ok(entry) => entry,
            Err(why) => {
                return self.end(number, &id, holder, delivered, SubscriptionStatus::Error, &why).await;
            }
        };
        let context = match entry.mandate.standing(&self.app, app::now()).await {
            Ok(Standing::Good(context)) => *context,
            Ok(Standing::Ended(why)) => {
                return self.end(number, &id, holder, delivered, SubscriptionStatus::Off, why).await;
            }
            Err(error) => {
                tracing::error!(%error, "the store failed while a Subscription was sent to");
                return;
            }
        };
        if entry.asked.end.is_some_and(|end| end <= self.now()) {
            return self
                .end(number, &id, holder, delivered, SubscriptionStatus::Off, "its end has come")
                .await;
        }
        let who = record::addressee(&self.app, &entry, &context);
        let (holder_of, places) = (Arc::clone(holder), Mutex::new(place.into()));
        let mut drive = Drive { entry, context, holder: holder_of, who, delivered, until, places };
        let mut receipts = Receipts::default();
        // Those who connect are one for each in whose name they do: none takes all places.
        let to =
            drive.entry.origin().unwrap_or_else(|| format!("websocket {}", drive.entry.subscription.owner));
        let stop = match self.origins.enter(&to, tries > 0, self.now()).await {
            Err(again) => Stop::Later(again),
            Ok(mut pass) => {
                drive.takes(std::mem::take(&mut pass.places));
                let stop = self.send(&mut drive, &mut receipts).await;
                match &stop {
                    Stop::Failed(refusal) => {
                        if let Some(well) = refusal.says_of_server() {
                            pass.said(well, self.now());
                        }
                    }
                    Stop::Rest(_) | Stop::Begun if drive.was_heard() => pass.said(true, self.now()),
                    _ => {}
                }
                stop
            }
        };
        let mut notes = match receipts.settled().await {
            Ok(notes) => notes,
            Err(error) => {
                drop(Stop::from(error));
                return record::keep(&self.app, &drive.context(), receipts.notes).await;
            }
        };
        match stop {
            Stop::Lost | Stop::Begun => record::keep(&self.app, &drive.context(), notes).await,
            Stop::Later(again) => self.say(&drive, Next::Later(again), notes).await,
            Stop::Unknown => self.say(&drive, Next::Later(self.now() + AGAIN), notes).await,
            Stop::Rest(due) => self.say(&drive, Next::Rest(due), notes).await,
            Stop::Ended(why) => {
                self.end(number, &id, holder, drive.delivered, SubscriptionStatus::Off, why).await;
            }
            Stop::Abandoned => {
                let why = "nobody was connected to be told";
                self.end(number, &id, holder, drive.delivered, SubscriptionStatus::Error, why).await;
            }
            Stop::Failed(refusal @ Refusal::Ending) => {
                if notes.is_empty() {
                    notes.push(record::failed(&drive.entry, refusal.to_string()));
                }
                self.say(&drive, Next::Later(self.now()), notes).await;
            }
            Stop::Failed(refusal) => {
                let now = self.now();
                let (error, wrong) = (refusal.to_string(), refusal.is_of_message());
                let barred = begins && tries + 1 >= HANDSHAKES && matches!(refusal, Refusal::Forbidden(_));
                // What was taken meanwhile ends a failure that was before it.
                let (tries, since) = if drive.delivered > delivered { (0, None) } else { (tries, failing) };
                let last = since.unwrap_or(now) + patience;
                let gone = refusal.status() == Some(reqwest::StatusCode::GONE);
                metrics::counter!("augury_subscription_failures_total").increment(1);
                tracing::warn!(subscription = id, tries, error, "a notification did not arrive");
                if notes.is_empty() {
                    notes.push(record::failed(&drive.entry, error.clone()));
                }
                if now >= last || barred || gone {
                    // What was tried is recorded by itself: the end is this server's doing, in nobody's name.
                    let next = Next::Fail { again: now + SPARE, error: error.clone(), wrong };
                    self.say(&drive, next, notes).await;
                    return self
                        .end(number, &id, holder, drive.delivered, SubscriptionStatus::Error, &error)
                        .await;
                }
                // However long the pause is, there is a try when its time is over.
                let wants = refusal.wants().min(LATEST);
                let again = (now + pause(tries).max(wants + uneven(wants / 8))).min(last);
                self.say(&drive, Next::Fail { again, error, wrong }, notes).await;
            }
        }
    }

    /// Reads it. A topic that is not known may have been written by another process just now.
    async fn entry(&self, subscription: store::Subscription) -> Result<Entry, String> {
        let of = |subscription| Entry::of(&self.app, &self.app.subscriptions.book().topics, subscription);
        match of(subscription.clone()) {
            // Somebody else may have read it meanwhile.
            Err(why) => match self.app.subscriptions.sync(&self.app).await {
                Ok(_) => of(subscription),
                Err(_) => Err(why),
            },
            found => found,
        }
    }

    async fn send(&self, drive: &mut Drive, receipts: &mut Receipts) -> Stop {
        if self.app.lines.are_ending() {
            return Stop::Later(self.now());
        }
        // Who waits longer for an answer holds it for longer from the beginning.
        if drive.patience() > i64::from(PATIENCE) * SECOND
            && let Err(stop) = self.go_on(drive, receipts).await
        {
            return stop;
        }
        match drive.entry.subscription.status {
            SubscriptionStatus::Requested => self.begin(drive).await,
            SubscriptionStatus::Active if drive.entry.subscription.line == UNCONNECTED => Stop::Abandoned,
            SubscriptionStatus::Active if drive.entry.connects() && !self.app.lines.has(&drive.entry) => {
                self.hang_up(drive).await
            }
            SubscriptionStatus::Active => self.send_all(drive, receipts).await,
            SubscriptionStatus::Error => Stop::Later(written(&drive.entry.subscription.body) + self.kept()),
            SubscriptionStatus::Off => Stop::Rest(None),
        }
    }

    /// Whoever was connected is not any more, and nobody said so: their process may have died.
    async fn hang_up(&self, drive: &Drive) -> Stop {
        let context = context();
        let (connection, until) = (drive.entry.subscription.line.as_str().into(), self.now() + GIVE_UP);
        let ends = drive.entry.ends().into_iter().collect();
        match self.app.store.disconnect_subscriber(&context, &connection, until, ends).await {
            Ok(()) => Stop::Lost,
            Err(error) => error.into(),
        }
    }

    /// Makes it active, once its endpoint has answered where it is asked. Who connects is asked then.
    async fn begin(&self, drive: &Drive) -> Stop {
        if !drive.entry.connects()
            && let Err(refusal) = self.say_hello(drive, Occasion::Handshake).await
        {
            return Stop::Failed(refusal);
        }
        let over = self.now() + BEGUN;
        while self.now() < over {
            let then = match drive.entry.subscription.line.as_str() {
                UNCONNECTED => {
                    let until = self.now() + GIVE_UP;
                    Next::Later(drive.entry.asked.end.map_or(until, |end| end.min(until)))
                }
                _ => Next::Rest(drive.heartbeat(self.now())),
            };
            let progress = drive.progress(then);
            match self.change(&drive.entry.subscription.id, progress, SubscriptionStatus::Active, "").await {
                // Somebody who began to write before it was known is not done yet.
                Err(Error::Busy) => tokio::time::sleep(SOON).await,
                Err(error) => return Stop::unless_lost(error),
                Ok(()) => {
                    tracing::info!(subscription = drive.entry.subscription.id, "a Subscription is active");
                    return Stop::Begun;
                }
            }
        }
        Stop::Failed(Refusal::Unreachable("the database was busy".to_owned()))
    }

    /// Sends what there is, in order.
    async fn send_all(&self, drive: &mut Drive, receipts: &mut Receipts) -> Stop {
        if drive.entry.subscription.again
            && let Err(stop) = self.send_again(drive, receipts).await
        {
            return stop;
        }
        let number = drive.entry.subscription.number;
        // What was sent again meanwhile was taken.
        let again = drive.entry.subscription.again;
        let (tries, refusals) =
            if again { (0, 0) } else { (drive.entry.subscription.tries, drive.entry.subscription.refusals) };
        let most = drive.entry.asked.max_count.map_or(1, |most| usize::try_from(most).unwrap_or(TOGETHER));
        // Which of several is not taken is found out one by one.
        let together = if tries > 0 { 1 } else { most };
        let (mut sent, turn) = (false, self.now() + TURN);
        while self.now() < turn {
            let events = match self.app.store.events(&drive.context, number, drive.delivered, TOGETHER).await
            {
                Ok(events) => events,
                Err(error) => return Stop::unless_lost(error),
            };
            if events.is_empty() {
                if !sent
                    && drive.entry.asked.heartbeat.is_some()
                    && let Err(refusal) = self.say_hello(drive, Occasion::Heartbeat).await
                {
                    return Stop::Failed(refusal);
                }
                return Stop::Rest(drive.heartbeat(self.now()));
            }
            for events in events.chunks(together.clamp(1, TOGETHER)) {
                if self.app.lines.are_ending() {
                    let now = self.now();
                    return if sent { Stop::Rest(Some(now)) } else { Stop::Later(now) };
                }
                if self.now() >= drive.until - drive.patience() - SPARE / 2
                    && let Err(stop) = self.go_on(drive, receipts).await
                {
                    return stop;
                }
                if let Err(refusal) = self.tell(drive, events).await {
                    let why = refusal.to_string();
                    receipts
                        .notes
                        .extend(events.iter().flat_map(|event| record::told(&drive.entry, event, Err(&why))));
                    let often = self.app.config.webhooks.refusals;
                    let first = drive.delivered == drive.entry.subscription.delivered;
                    if let ([event], true) = (events, often > 0 && first && refusals + 1 >= often)
                        && refusal.is_of_message()
                    {
                        // The next has as many tries of its own.
                        return match self.bury(drive, receipts, event.number, why).await {
                            Ok(()) => Stop::Later(self.now()),
                            Err(stop) => stop,
                        };
                    }
                    return Stop::Failed(refusal);
                }
                sent = true;
                if let Some(last) = events.last() {
                    drive.delivered = last.number;
                }
                metrics::counter!("augury_subscription_events_total").increment(events.len() as u64);
                receipts
                    .notes
                    .extend(events.iter().flat_map(|event| record::told(&drive.entry, event, Ok(()))));
                if let Err(error) = receipts.hand_in(self, drive).await {
                    return error.into();
                }
            }
        }
        Stop::Rest(Some(self.now()))
    }

    /// Holds it for longer, if it may be told still.
    async fn go_on(&self, drive: &mut Drive, receipts: &mut Receipts) -> Result<(), Stop> {
        match drive.entry.mandate.standing(&self.app, app::now()).await? {
            Standing::Good(context) => drive.context = *context,
            Standing::Ended(why) => return Err(Stop::Ended(why)),
        }
        let notes = receipts.settled().await?;
        drive.until = self.now() + drive.patience() + SPARE;
        let progress = drive.progress(Next::Hold(drive.until));
        Ok(record::proceed(&self.app, &drive.context(), progress, notes).await?)
    }

    /// Says how far it is.
    async fn say(&self, drive: &Drive, next: Next, notes: Vec<Note>) {
        let progress = drive.progress(next);
        if let Err(error) = record::proceed(&self.app, &drive.context(), progress, notes).await
            && !matches!(error, Error::Conflict { .. })
        {
            tracing::error!(%error, "it was not kept how far a Subscription is");
        }
    }

    async fn end(
        &self,
        number: i64,
        id: &str,
        holder: &Arc<str>,
        delivered: i64,
        status: SubscriptionStatus,
        why: &str,
    ) {
        tracing::warn!(subscription = id, why, status = status.code(), "a Subscription is not told any more");
        let holder = Arc::clone(holder);
        let again = (status == SubscriptionStatus::Error).then(|| self.now() + self.kept());
        let then = Next::End { error: why.to_owned(), again };
        let progress = Progress { subscription: number, holder, delivered, then };
        if let Err(error) = self.change(id, progress, status, why).await
            && !matches!(error, Error::Conflict { .. } | Error::Gone { .. } | Error::NotFound)
        {
            tracing::error!(%error, "the status of a Subscription could not be changed");
        }
    }

    /// Another status, in the resource too.
    async fn change(
        &self,
        id: &str,
        progress: Progress,
        status: SubscriptionStatus,
        error: &str,
    ) -> Result<(), Error> {
        let context = context();
        let error = error.to_owned();
        let patch = Patch::new(move |current| Ok::<_, Issues>(said(current, status, &error)));
        let target = Target::Id(ResourceType::SUBSCRIPTION, id.to_owned());
        let writes = vec![Write::Patch { target, only_if: OnlyIf::Always, patch }];
        let commit = Commit { writes, progress: Some(progress), ..Commit::default() };
        self.app.store.commit(&context, commit).await.map(drop)
    }
}

impl Receipts {
    /// Has it kept how far the Subscription is, beside what is sent meanwhile.
    async fn hand_in(&mut self, courier: &Courier, drive: &Drive) -> Result<(), Error> {
        if self.under_way.as_ref().is_some_and(|under_way| !under_way.is_finished()) {
            return Ok(());
        }
        let notes = self.settled().await?;
        let app = Arc::clone(&courier.app);
        let progress = drive.progress(Next::GoOn(drive.until));
        let context = drive.context();
        self.under_way =
            Some(tokio::spawn(async move { record::proceed(&app, &context, progress, notes).await }));
        Ok(())
    }

    /// Waits for what is under way; gives what is not.
    async fn settled(&mut self) -> Result<Vec<Note>, Error> {
        if let Some(under_way) = self.under_way.take() {
            under_way.await.map_err(|_| Error::Busy)??;
        }
        Ok(std::mem::take(&mut self.notes))
    }
}

fn context() -> Context {
    Context::system("subscriptions", app::now())
}

/// When that version was written.
fn written(body: &str) -> i64 {
    let read = json::parse(body.as_bytes(), &Limits::STORED).ok();
    let at = read.as_ref().and_then(|resource| resource.get("meta")?.text("lastUpdated"));
    at.and_then(time::parse).map_or(i64::MAX / 2, |span| span.low)
}

/// The same with another status.
fn said(current: &Json<'_>, status: SubscriptionStatus, error: &str) -> Json<'static> {
    let mut next = current.clone().into_owned();
    if let Some(object) = next.as_object_mut() {
        object.set(3, "status", Json::String(status.code().into()));
        match error {
            "" => drop(object.remove("error")),
            error => object.set(6, "error", Json::String(error.to_owned().into())),
        }
    }
    next
}

/// Doubled each time, and between half and all of it, so that those who failed together do not come back
/// together.
fn pause(tries: i64) -> i64 {
    let most = AGAIN.saturating_mul(1 << tries.clamp(0, 20)).min(LATEST);
    most / 2 + uneven(most / 2)
}
