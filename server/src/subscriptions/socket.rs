//! Websockets: a subscriber connects, says what for, and is told over the connection
//! (<https://hl7.org/fhir/R4/subscription.html#websocket>,
//! <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets>).
//!
//! What was told counts as delivered when the pong comes to the ping behind it: a program that answers a ping has
//! read what was sent before it.

use std::collections::{HashMap, VecDeque};
use std::str::Utf8Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use actix_ws::{CloseCode, CloseReason, Closed, Message, MessageStream, ProtocolError, Session};
use fhir::resource_type::ResourceType;
use fhir::subscription::Occasion;
use futures_util::StreamExt as _;
use reqwest::Url;
use store::{
    Act, Agent, AuthorizationChange, Commit, Context, Entry as Note, Error, Outcome, SubscriptionStatus, Who,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{interval_at, sleep_until, timeout};

use super::GRACE;
use super::binding::{self, Binding};
use super::book::Entry;
use super::delivery::GIVE_UP;
use super::mandate::{Mandate, Standing};
use super::notification;
use super::place::{Full, Place, Places};
use super::webhook::Refusal;
use crate::app::{self, App};
use crate::config::Auth;
use crate::http::caller::{Caller, address as peer, key_hash};
use crate::http::failure::Failure;
use crate::http::peer::network;
use crate::smart::bearer;

/// Where one is opened.
pub(crate) const PATH: &str = "/websocket";
/// Subscriptions of one connection, at most.
pub(crate) const MOST_BOUND: usize = 64;
/// Bytes of what a subscriber says: a token for that many Subscriptions.
const LONGEST: usize = 16_384;
/// So much of what is too long is read, that it can be said to be: the library keeps all of a message until it ends.
const UNREAD: usize = 16 * LONGEST;
/// How often a connection is looked at.
const BEAT: Duration = Duration::from_secs(20);
/// Who was not heard of for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);
/// Who says nothing for so long what the connection is for had no reason for it.
const UNBOUND: Duration = Duration::from_secs(30);
/// So long it may take to hand on what is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a websocket is opened, in full.
pub(crate) fn address(public_url: &str) -> String {
    let rest = public_url.strip_prefix("http").unwrap_or(public_url);
    format!("ws{rest}{PATH}")
}

/// Those who are connected to this process.
#[derive(Debug)]
pub(crate) struct Lines {
    all: Mutex<HashMap<i64, Line>>,
    places: Arc<Places>,
    ending: watch::Sender<bool>,
    since: OnceLock<tokio::time::Instant>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            places: Arc::default(),
            ending: watch::Sender::new(false),
            since: OnceLock::new(),
        }
    }
}

/// The connection of one Subscription.
#[derive(Debug, Clone)]
struct Line {
    connection: Arc<str>,
    /// Where the subscriber is.
    address: Option<String>,
    frames: mpsc::Sender<Frame>,
    hang_up: Arc<Notify>,
    /// Of the Subscription since it was bound.
    stamp: i64,
}

/// What is to be sent, and who waits until it is taken.
#[derive(Debug)]
struct Frame {
    text: String,
    taken: oneshot::Sender<()>,
}

/// A connection ends, and why, if there is anybody to be told.
struct End(Option<CloseReason>);

impl End {
    const GONE: Self = Self(None);

    fn because(code: CloseCode, why: &str) -> Self {
        Self(Some(CloseReason { code, description: Some(why.to_owned()) }))
    }

    /// What came is no message.
    fn of(error: &ProtocolError) -> Self {
        let inner = match error {
            ProtocolError::Io(error) => error.get_ref(),
            _ => None,
        };
        let too_much = matches!(inner.and_then(|error| error.downcast_ref()), Some(PayloadError::Overflow));
        if matches!(error, ProtocolError::Overflow) || too_much {
            Self::because(CloseCode::Size, "too long")
        } else if inner.and_then(|error| error.downcast_ref::<Utf8Error>()).is_some() {
            Self::because(CloseCode::Invalid, "not UTF-8")
        } else {
            Self::because(CloseCode::Protocol, "not understood")
        }
    }
}

impl Lines {
    fn all(&self) -> MutexGuard<'_, HashMap<i64, Line>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is whoever the Subscription is told by here, over the connection that it was to be told over?
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.line(entry).is_some()
    }

    /// Where they are.
    pub(super) fn address(&self, entry: &Entry) -> Option<String> {
        self.line(entry)?.address
    }

    /// What comes by another connection is not for whoever has this one.
    fn line(&self, entry: &Entry) -> Option<Line> {
        let all = self.all();
        let line = all.get(&entry.subscription.number)?;
        // One whose end could not be said has nobody who takes anything.
        let is_here = *line.connection == *entry.subscription.line && !line.frames.is_closed();
        is_here.then(|| line.clone())
    }

    /// Waits until it is taken.
    pub(super) async fn send(&self, entry: &Entry, text: String, patience: Duration) -> Result<(), Refusal> {
        let gone = || Refusal::Unreachable("nobody is connected".to_owned());
        let line = self.line(entry).ok_or_else(gone)?;
        let (taken, answer) = oneshot::channel();
        let told = async {
            line.frames.send(Frame { text, taken }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        };
        let late = |_| Refusal::Unreachable("no answer in time".to_owned());
        let told = timeout(patience, told).await.map_err(late).flatten();
        if told.is_err() {
            line.hang_up.notify_one();
        }
        told
    }

    /// Whoever is connected for one that was written anew, is told no more, or is told over another connection by now
    /// hears of it.
    pub(super) fn changed(&self, subscription: &store::Subscription) {
        let over = matches!(subscription.status, SubscriptionStatus::Off | SubscriptionStatus::Error);
        let is_other =
            |line: &Line| subscription.stamp > line.stamp && (over || *line.connection != *subscription.line);
        let mut all = self.all();
        if all.get(&subscription.number).is_some_and(is_other)
            && let Some(line) = all.remove(&subscription.number)
        {
            line.hang_up.notify_one();
        }
    }

    /// Ends all connections, and telling at all: whoever is told goes to another process.
    pub(crate) fn end(&self) {
        self.since.get_or_init(tokio::time::Instant::now);
        self.ending.send_replace(true);
    }

    /// They end, or have ended.
    pub(super) fn are_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Says so when they do.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Waits until what was under way then has had its time.
    pub(super) async fn ended(&self) {
        let _ = self.ending().wait_for(|ending| *ending).await;
        let since = self.since.get().copied().unwrap_or_else(tokio::time::Instant::now);
        sleep_until(since + GRACE).await;
    }
}

/// `GET /websocket`: anybody may open one; to be told, they have to show who they are here, or a token.
pub(crate) async fn open(
    request: HttpRequest,
    app: web::Data<App>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let app = app.into_inner();
    let by_itself = bearer::token(&request).is_none();
    let caller = match Caller::extract(&request).await {
        // A browser shows a certificate by itself, whatever page opens the connection.
        Ok(caller) => Some(caller).filter(|_| !by_itself || is_own_page(&request, &app)),
        Err(failure) if !by_itself || app.config.auth == Auth::Open => return Err(failure),
        Err(_) => None,
    };
    let full = |why| match why {
        Full::All => {
            let why = "there are too many connections, or the server is ending; try again later";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "throttled", why)
        }
        Full::Network => {
            let why = "too many connections of this address are open and were not bound; try again later";
            Failure::new(StatusCode::TOO_MANY_REQUESTS, "throttled", why)
        }
    };
    if app.lines.are_ending() {
        return Err(full(Full::All));
    }
    let network = network(&request);
    let place = app.lines.places.take(network.clone()).map_err(full)?;
    let why = "this is where a websocket is opened (RFC 6455), by GET and Upgrade: websocket";
    let unread = Arc::new(AtomicUsize::new(0));
    let payload = bounded(&request, payload, Arc::clone(&unread)).await;
    let opened = payload.and_then(|payload| actix_ws::handle(&request, payload));
    let (response, session, stream) = opened.map_err(|_| Failure::bad_request(why))?;
    let (frames, queue) = mpsc::channel(16);
    let conversation = Conversation {
        connection: format!("{} {}", app.process, uuid::Uuid::new_v4().simple()).into(),
        address: peer(&request),
        network,
        place,
        app,
        caller,
        session,
        frames,
        hang_up: Arc::default(),
        bound: Vec::new(),
        ends: Vec::new(),
        names: Vec::new(),
        sent: 0,
        waiting: VecDeque::new(),
    };
    actix_web::rt::spawn(conversation.hold(stream.max_frame_size(LONGEST), unread, queue));
    Ok(response)
}

/// The same, which fails when too much has come since `unread` was none.
async fn bounded(
    request: &HttpRequest,
    payload: web::Payload,
    unread: Arc<AtomicUsize>,
) -> Result<web::Payload, actix_web::Error> {
    let bytes = payload.map(move |bytes| match bytes {
        Ok(bytes) if unread.fetch_add(bytes.len(), Ordering::Relaxed) > UNREAD => Err(PayloadError::Overflow),
        bytes => bytes,
    });
    web::Payload::from_request(request, &mut dev::Payload::Stream { payload: Box::pin(bytes) }).await
}

fn is_own_page(request: &HttpRequest, app: &App) -> bool {
    let own = Url::parse(&app.config.public_url).map(|url| url.origin().ascii_serialization());
    let origin = request.headers().get(header::ORIGIN);
    origin.is_none_or(|origin| own.is_ok_and(|own| origin.as_bytes() == own.as_bytes()))
}

/// One connection.
struct Conversation {
    app: Arc<App>,
    /// What it is called: the process, and what no other connection is called.
    connection: Arc<str>,
    address: Option<String>,
    network: String,
    place: Place,
    caller: Option<Caller>,
    session: Session,
    frames: mpsc::Sender<Frame>,
    hang_up: Arc<Notify>,
    bound: Vec<i64>,
    /// Until when they are told, those of them that say so.
    ends: Vec<(i64, i64)>,
    /// The mandates by which it was bound, and in which it is told.
    names: Vec<String>,
    sent: u64,
    /// Who waits for which pong.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Conversation {
    async fn hold(
        mut self,
        mut stream: MessageStream,
        unread: Arc<AtomicUsize>,
        mut queue: mpsc::Receiver<Frame>,
    ) {
        let mut ending = self.app.lines.ending();
        let (opened, mut heard) = (Instant::now(), Instant::now());
        let (mut beat, hang_up) =
            (interval_at(tokio::time::Instant::now() + BEAT, BEAT), Arc::clone(&self.hang_up));
        let why = loop {
            let step = tokio::select! {
                message = stream.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => {
                            unread.store(0, Ordering::Relaxed);
                            self.hear(message).await
                        }
                        Some(Err(error)) => Err(End::of(&error)),
                        None => Err(End::GONE),
                    }
                }
                Some(frame) = queue.recv() => self.tell(frame).await,
                _ = beat.tick() => {
                    if heard.elapsed() > SILENCE {
                        Err(End::GONE)
                    } else if self.bound.is_empty() && opened.elapsed() > UNBOUND {
                        Err(End::because(CloseCode::Policy, "nothing was bound"))
                    } else {
                        self.look().await
                    }
                }
                () = hang_up.notified() => Err(match self.ended().await {
                    Some(why) => End::because(CloseCode::Policy, why),
                    None => End::because(CloseCode::Again, "bind again"),
                }),
                () = async { drop(ending.wait_for(|ending| *ending).await) } => {
                    Err(End::because(CloseCode::Away, "the server ends; connect again"))
                }
            };
            if let Err(why) = step {
                break why;
            }
        };
        self.leave(why).await;
    }

    /// Is whoever it was bound by still there, and still somebody?
    async fn look(&mut self) -> Result<(), End> {
        if let Some(why) = self.ended().await {
            return Err(End::because(CloseCode::Policy, why));
        }
        patiently(self.session.ping(b"")).await
    }

    /// Why nobody may be told here any more.
    async fn ended(&self) -> Option<&'static str> {
        for mandate in self.names.iter().filter_map(|name| Mandate::parse(name)) {
            if let Ok(Standing::Ended(why)) = mandate.standing(&self.app, app::now()).await {
                return Some(why);
            }
        }
        None
    }

    async fn leave(mut self, why: End) {
        self.app.lines.all().retain(|_, line| line.connection != self.connection);
        let context = Context::system("subscriptions", app::now());
        if !self.bound.is_empty() {
            let (store, ends) = (&self.app.store, std::mem::take(&mut self.ends));
            let until = store.time(context.at) + GIVE_UP;
            if let Err(error) = store.disconnect_subscriber(&context, &self.connection, until, ends).await {
                tracing::error!(%error, "it was not kept that a subscriber is not connected any more");
            }
        }
        // Who only knocks writes little.
        let known = self.caller.is_some() || !self.bound.is_empty();
        let admitted = || known || self.app.refusals.admits(&self.network, context.at);
        if let Some(CloseReason { code: CloseCode::Policy, description }) = &why.0
            && admitted()
        {
            let agent = Agent { address: self.address.clone(), ..Agent::default() };
            let known = self.caller.as_ref().map(|caller| Arc::clone(&caller.context.who));
            let context = Context { who: known.unwrap_or_else(|| Who::new(agent)), ..context };
            let note = format!("a websocket was refused: {}", description.as_deref().unwrap_or_default());
            let note = Note { outcome: Outcome::Minor, note, ..Note::of(Act::Deliver) };
            let commit = Commit { notes: vec![note], ..Commit::default() };
            if let Err(error) = self.app.store.commit(&context, commit).await {
                tracing::error!(%error, "it could not be recorded that a websocket was refused");
            }
        }
        let _ = timeout(PATIENCE, self.session.close(why.0)).await;
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => self.asked(&text).await,
            Message::Ping(bytes) => patiently(self.session.pong(&bytes)).await,
            Message::Pong(bytes) => {
                if let Ok(last) = <[u8; 8]>::try_from(&*bytes).map(u64::from_be_bytes) {
                    while let Some((_, taken)) = self.waiting.pop_front_if(|(number, _)| *number <= last) {
                        let _ = taken.send(());
                    }
                }
                Ok(())
            }
            Message::Close(_) => Err(End::GONE),
            Message::Binary(_) | Message::Continuation(_) => {
                Err(End::because(CloseCode::Unsupported, "only whole texts are understood"))
            }
            Message::Nop => Ok(()),
        }
    }

    async fn tell(&mut self, frame: Frame) -> Result<(), End> {
        self.say(frame.text).await?;
        self.sent += 1;
        patiently(self.session.ping(&self.sent.to_be_bytes())).await?;
        self.waiting.push_back((self.sent, frame.taken));
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<(), End> {
        patiently(self.session.text(text)).await
    }

    async fn asked(&mut self, text: &str) -> Result<(), End> {
        let refused = || End::because(CloseCode::Policy, "this may not be bound");
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("bind"), Some(id), None) => {
                let context = self.caller.clone().ok_or_else(refused)?.now().context;
                let kind = ResourceType::SUBSCRIPTION;
                self.app.store.read(&context, kind, id).await.map_err(|_| refused())?;
                let found = self.found(vec![id.to_owned()]).await?;
                let is_for = |one: &store::Subscription| binding::is_for(one, &context.mandate);
                let found = found.into_iter().find(is_for).ok_or_else(refused)?;
                self.bind(found, &context.mandate).await
            }
            (Some("bind-with-token"), Some(token), None) => {
                let at = self.app.store.time(app::now());
                let binding = Binding::read(token, &self.app.smart.secret, at).ok_or_else(refused)?;
                let found = self.found(binding.ids()).await?;
                if found.is_empty() || !found.iter().all(|one| binding.holds(one)) {
                    return Err(refused());
                }
                // Whoever gets hold of it later, in a log perhaps, has nothing.
                let hash = key_hash(&format!("{PATH}\n{token}"));
                let used = vec![AuthorizationChange::UseOnce { hash, expires: binding.expires }];
                let context = Context::system("subscriptions", app::now());
                let authorization = self.app.smart.swept(context.at, used);
                let commit = Commit { authorization, ..Commit::default() };
                match self.app.store.commit(&context, commit).await {
                    Ok(_) => {}
                    Err(Error::Conflict { .. }) => return Err(refused()),
                    Err(_) => return Err(End::because(CloseCode::Again, "try again")),
                }
                for one in found {
                    self.bind(one, &binding.by).await?;
                }
                Ok(())
            }
            _ => Err(End::because(CloseCode::Policy, "what is understood: bind ID, bind-with-token TOKEN")),
        }
    }

    async fn found(&self, ids: Vec<String>) -> Result<Vec<store::Subscription>, End> {
        let busy = |_| End::because(CloseCode::Again, "try again");
        self.app.store.subscriptions(ids).await.map_err(busy)
    }

    /// From now on what it has not heard of is told here, to whoever has that mandate.
    async fn bind(&mut self, subscription: store::Subscription, by: &str) -> Result<(), End> {
        let refused =
            || End::because(CloseCode::Policy, "this is not told over a websocket, or not any more");
        let busy = |_| End::because(CloseCode::Again, "try again");
        if self.bound.len() >= MOST_BOUND {
            return Err(End::because(CloseCode::Policy, "too many Subscriptions for one connection"));
        }
        let app = Arc::clone(&self.app);
        let topics = &app.subscriptions.book().topics;
        let entry = Entry::of(&app, topics, subscription).map_err(|_| refused())?;
        let at = app::now();
        let owner = entry.mandate.standing(&app, at).await.map_err(busy)?;
        let caller = Mandate::parse(by).ok_or_else(refused)?.standing(&app, at).await.map_err(busy)?;
        let (true, Standing::Good(_), Standing::Good(caller)) = (entry.connects(), owner, caller) else {
            return Err(refused());
        };
        let (number, id) = (entry.subscription.number, &entry.subscription.id);
        let hello = match notification::text(&app, &entry, Occasion::Handshake, &[], &[]) {
            Some(text) => text.map_err(|_| refused())?.1,
            None => format!("bound {id}"),
        };
        self.place.bind();
        self.bound.push(number);
        self.ends.extend(entry.ends());
        for name in [by, &entry.subscription.owner] {
            if !self.names.iter().any(|known| known == name) {
                self.names.push(name.to_owned());
            }
        }
        let connection = Arc::clone(&self.connection);
        // Until it is known what it is bound to, nothing that was before is a change.
        let (frames, hang_up, stamp) = (self.frames.clone(), Arc::clone(&self.hang_up), i64::MAX);
        let address = self.address.clone();
        let line = Line { connection: Arc::clone(&connection), address, frames, hang_up, stamp };
        let before = app.lines.all().insert(number, line);
        if let Some(before) = before.filter(|before| before.connection != connection) {
            before.hang_up.notify_one();
        }
        let agent = Agent { address: self.address.clone(), ..caller.who.agent.clone() };
        let context = Context { who: Who::new(agent), ..Context::system("subscriptions", at) };
        let note = Note {
            entity: Some((ResourceType::SUBSCRIPTION, id.clone(), 0)),
            note: format!("Subscription/{id} is told over a websocket"),
            ..Note::of(Act::Deliver)
        };
        match app.store.connect_subscriber(&context, &entry.subscription, &connection, vec![note]).await {
            Ok(()) => {}
            Err(Error::Conflict { .. }) => return Err(refused()),
            Err(error) => return Err(busy(error)),
        }
        let now = self.found(vec![id.clone()]).await?;
        let now = now.first().filter(|now| *now.line == *connection).ok_or_else(refused)?;
        if let Some(line) = app.lines.all().get_mut(&number).filter(|line| line.connection == connection) {
            line.stamp = now.stamp;
        }
        // Events wait in line until this is said.
        self.say(hello).await
    }
}

/// Whoever takes nothing for long is not there.
async fn patiently(what: impl Future<Output = Result<(), Closed>>) -> Result<(), End> {
    timeout(PATIENCE, what).await.map_err(|_| End::GONE)?.map_err(|_| End::GONE)
}
