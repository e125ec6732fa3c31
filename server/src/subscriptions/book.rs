//! The Subscriptions there are, read once and not for each change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fhir::json::{self, Limits};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use fhir::subscription::{Change, Channel, Matcher, Subscription, Topic, Topics};
use reqwest::Url;
use store::{Changed, Context, Error, SubscriptionStatus};

use super::endpoint::Endpoints;
use super::mandate::{Mandate, Standing};
use crate::app::{self, App};

/// How long it is taken for granted what somebody may see, where it is decided what is for them. What is sent
/// is looked at anew.
const RECENT: i64 = 5_000_000;
/// Topics that are read at once.
const PAGE: u32 = 200;

/// A Subscription and what it asks for.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As it was when it was read.
    pub(crate) subscription: store::Subscription,
    /// What it asks for.
    pub(crate) asked: Subscription,
    /// In whose name.
    pub(crate) mandate: Mandate,
}

/// All of one moment, without those that are off.
pub(crate) struct Book {
    /// The last of the stamps that are in it.
    pub(crate) stamp: i64,
    /// The last that a topic was changed with.
    renewed: i64,
    pub(crate) entries: HashMap<i64, Arc<Entry>>,
    pub(crate) matcher: Arc<Matcher>,
    /// What there is to be told of, and by which versions of which resources.
    pub(crate) topics: Arc<Topics>,
}

impl Default for Book {
    fn default() -> Self {
        let (matcher, topics) = (Arc::new(Matcher::new([])), Arc::new(Topics::default()));
        Self { stamp: 0, renewed: -1, entries: HashMap::new(), matcher, topics }
    }
}

/// What is known of who is told.
#[derive(Clone)]
pub(crate) enum Known {
    /// As whom it is decided what they may see.
    As(Arc<Context>),
    /// They may see nothing any more.
    Ended,
}

/// What this process knows of them.
#[derive(Default)]
pub(crate) struct Shelf {
    book: RwLock<Arc<Book>>,
    turning: tokio::sync::Mutex<()>,
    /// What is known of those in whose name others are told, and when that was looked at.
    known: Mutex<HashMap<String, (Known, i64)>>,
    pub(super) endpoints: Endpoints,
}

impl Entry {
    /// Reads it.
    ///
    /// # Errors
    /// Why it can't be kept to.
    pub(crate) fn of(app: &App, topics: &Topics, subscription: store::Subscription) -> Result<Self, String> {
        let resource = json::parse(subscription.body.as_bytes(), &Limits::STORED)
            .map_err(|issues| issues.to_string())?;
        let asked = Subscription::parse(&resource, topics, &app.config.fhir_base());
        let asked = asked.map_err(|issues| issues.to_string())?;
        let mandate = Mandate::parse(&subscription.owner).ok_or("it is in nobody's name")?;
        Ok(Self { subscription, asked, mandate })
    }

    /// Where it is sent to, and the header lines that are sent along; none where its subscriber connects.
    pub(crate) fn endpoint(&self) -> Option<(&str, &[String])> {
        match &self.asked.channel {
            Channel::RestHook { endpoint, .. } => Some((endpoint, &self.subscription.headers)),
            Channel::Websocket => None,
        }
    }

    /// Does its subscriber connect?
    pub(crate) fn connects(&self) -> bool {
        self.asked.channel == Channel::Websocket
    }

    /// Its number, and until when it is told, if it says so.
    pub(crate) fn ends(&self) -> Option<(i64, i64)> {
        self.asked.end.map(|end| (self.subscription.number, end))
    }

    /// The server that it is sent to.
    pub(crate) fn origin(&self) -> Option<String> {
        let (endpoint, _) = self.endpoint()?;
        Url::parse(endpoint).ok().map(|url| url.origin().ascii_serialization())
    }
}

/// The topics that there are now.
async fn topics(app: &App) -> Result<Arc<Topics>, Error> {
    let context = Context::system("subscriptions", app::now());
    let code = vec![("code".to_owned(), Topics::CODE.to_owned())];
    let (mut query, _) = SearchQuery::parse(&[ResourceType::BASIC], &code, "", context.at, Handling::Strict)?;
    query.count = PAGE;
    let mut found = Vec::new();
    loop {
        let page = app.store.search(&context, &query).await?;
        found.extend(page.entries);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let mut topics = Topics::default();
    for stored in &found {
        let read =
            json::parse(stored.body.as_bytes(), &Limits::STORED).and_then(|basic| Topic::parse(&basic));
        let added = read.and_then(|topic| match topic {
            Some(topic) if Topics::built_in().find(&topic.url).is_none() => Ok(topics.add(topic)?),
            _ => Ok(()),
        });
        if let Err(issues) = added {
            tracing::warn!(basic = stored.id, %issues, "a topic can't be kept to");
        }
    }
    Ok(Arc::new(topics))
}

/// What was written after a book was read.
#[derive(Default)]
pub(super) struct Later {
    /// Instead of what the book has; none where that is not told of anything any more.
    entries: HashMap<i64, Option<Arc<Entry>>>,
    matcher: Matcher,
}

impl Later {
    /// Reads it, by the topics of the book; none if it takes others.
    pub(super) fn of(app: &App, book: &Book, changed: Changed) -> Option<Self> {
        if changed.topics != book.renewed {
            return None;
        }
        let mut entries = HashMap::with_capacity(changed.subscriptions.len());
        for subscription in changed.subscriptions {
            let number = subscription.number;
            let entry = match subscription.status {
                SubscriptionStatus::Off => None,
                _ => Some(Arc::new(Entry::of(app, &book.topics, subscription).ok()?)),
            };
            entries.insert(number, entry);
        }
        let told = entries.values().flatten();
        let matcher =
            Matcher::new(told.map(|entry| (entry.subscription.number, entry.asked.interest.clone())));
        Some(Self { entries, matcher })
    }
}

impl Book {
    /// Those that a change is for, with what was written later.
    pub(super) fn matches<'b>(&'b self, later: &'b Later, change: &Change<'_>) -> Vec<&'b Arc<Entry>> {
        let as_before = self.matcher.matches(change).into_iter();
        let as_before = as_before.filter(|number| !later.entries.contains_key(number));
        let found = as_before.filter_map(|number| self.entries.get(&number));
        let written = later.matcher.matches(change).into_iter();
        found.chain(written.filter_map(|number| later.entries.get(&number)?.as_ref())).collect()
    }
}

impl Shelf {
    pub(crate) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what has changed; says whether anything had.
    pub(crate) async fn sync(&self, app: &App) -> Result<bool, Error> {
        let _turn = self.turning.lock().await;
        let book = self.book();
        let mut changed = app.store.subscriptions_since(book.stamp).await?;
        if changed.stamp == book.stamp && changed.subscriptions.is_empty() {
            return Ok(false);
        }
        let (stamp, renewed) = (changed.stamp, changed.topics);
        let topics = if book.renewed == renewed {
            Arc::clone(&book.topics)
        } else {
            // What was about another version of a topic is read again.
            changed = app.store.subscriptions_since(0).await?;
            topics(app).await?
        };
        let mut entries = book.entries.clone();
        let mut lost = Vec::new();
        for subscription in changed.subscriptions {
            let (number, id, status) = (subscription.number, subscription.id.clone(), subscription.status);
            app.lines.changed(&subscription);
            entries.remove(&number);
            if subscription.status == SubscriptionStatus::Off {
                continue;
            }
            match Entry::of(app, &topics, subscription) {
                Ok(entry) => drop(entries.insert(number, Arc::new(entry))),
                Err(why) => {
                    if status != SubscriptionStatus::Error {
                        tracing::error!(subscription = id, why, "a Subscription can't be kept to");
                        lost.push(number);
                    }
                }
            }
        }
        let interests = entries.iter().map(|(number, entry)| (*number, entry.asked.interest.clone()));
        let matcher = Arc::new(Matcher::new(interests));
        let asked = Arc::clone(&matcher);
        app.store.watch(stamp, Arc::new(move |kind, before, after| asked.may_concern(kind, before, after)));
        app.claims.know(&topics);
        // Whoever sends says so of it, where its subscriber sees that: its topic may be gone.
        if !lost.is_empty() {
            app.store.nudge_subscriptions(&Context::system("subscriptions", app::now()), lost).await?;
        }
        let book = Arc::new(Book { stamp, renewed, entries, matcher, topics });
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        Ok(true)
    }

    /// What is known of the one in whose name a Subscription is told.
    pub(crate) fn known(&self, owner: &str, at: i64) -> Option<Known> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, looked) = all.get(owner)?;
        (at - looked < RECENT).then(|| known.clone())
    }

    /// Those in whose name nobody may be told any more.
    pub(crate) async fn ended(&self, app: &App) -> Result<Vec<i64>, Error> {
        let (book, at) = (self.book(), app::now());
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut ended = Vec::new();
        for (number, entry) in &book.entries {
            let owner = entry.subscription.owner.as_str();
            if !known.contains_key(owner) {
                let over = matches!(entry.mandate.standing(app, at).await?, Standing::Ended(_));
                known.insert(owner, over);
            }
            if known.get(owner) == Some(&true) {
                ended.push(*number);
            }
        }
        Ok(ended)
    }

    /// Finds it out.
    pub(crate) async fn ask(&self, app: &App, entry: &Entry, at: i64) -> Result<Known, Error> {
        let known = match entry.mandate.standing(app, at).await? {
            Standing::Good(context) => Known::As(Arc::from(context)),
            Standing::Ended(_) => Known::Ended,
        };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(entry.subscription.owner.clone(), (known.clone(), at));
        Ok(known)
    }

    /// What was found out longer ago is nothing any more.
    pub(crate) fn forget(&self, at: i64) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, looked)| at - *looked < RECENT);
    }
}
