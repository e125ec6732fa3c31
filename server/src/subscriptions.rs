//! Telling others of changes (<https://hl7.org/fhir/R4/subscription.html>,
//! <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/>): for whom a change is (`matching`), and sending
//! it to them (`delivery`), until they have it.

pub(crate) mod binding;
pub(crate) mod book;
mod delivery;
mod endpoint;
pub(crate) mod mandate;
mod matching;
pub(crate) mod notification;
mod origin;
mod place;
mod record;
pub(crate) mod signature;
pub(crate) mod socket;
mod tokens;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::resource_type::ResourceType;
use fhir::subscription::{Channel, Subscription, Topic, Topics};
use reqwest::Url;
use store::{Commit, Context, Error, OnlyIf, SubscriptionStatus, Target, Write};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::app::{self, App};
use crate::outside::Reach;
use delivery::Courier;

/// What is wrong with a Subscription that is to be kept to.
pub(crate) fn findings(resource: &Json<'_>, topics: &Topics, base: &str, reach: &Reach) -> Issues {
    // Nothing comes of one that is off, whatever it says.
    if resource.text("status") == Some(SubscriptionStatus::Off.code()) {
        return Issues::default();
    }
    let asked = match Subscription::parse(resource, topics, base) {
        Ok(asked) => asked,
        Err(issues) => return issues,
    };
    let refused = match &asked.channel {
        Channel::RestHook { endpoint, .. } => match Url::parse(endpoint) {
            Ok(url) => reach.permits(&url).err(),
            Err(_) => Some("it is no address"),
        },
        Channel::Websocket => None,
    };
    match refused {
        Some(why) => Issue::error("forbidden", why).at("Subscription.channel.endpoint").into(),
        None => Issues::default(),
    }
}

/// What is wrong with a topic, if it is one.
pub(crate) fn findings_of_topic(resource: &Json<'_>) -> Issues {
    match Topic::parse(resource) {
        _ if Topics::names_own(resource) => {
            Issue::error("forbidden", "a topic of this server's own is as it is").at("Basic").into()
        }
        Ok(Some(topic)) => topic.doubts,
        Ok(None) => Issues::default(),
        Err(issues) => issues,
    }
}

/// How often to look without being woken: for changes that other processes queued, and what is due later.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked at who may still be told.
const RIGHTS: Duration = Duration::from_secs(10);
/// How often events are dropped that were kept for long enough.
const SWEEP: Duration = Duration::from_mins(10);
/// After a failure of the store.
const AGAIN: Duration = Duration::from_millis(500);
/// Where another process is at it, it may be done before it sees what was queued here.
const QUICKER: Duration = Duration::from_millis(5);

/// At the end what is under way gets so long, requests of others and messages to them.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

/// What tells others, in this process.
pub(crate) struct Teller {
    app: Arc<App>,
    work: Vec<JoinHandle<()>>,
}

impl Teller {
    /// Begins, once what is there is known; until [`Lines::end`](socket::Lines::end).
    pub(crate) async fn start(app: &Arc<App>) -> anyhow::Result<Self> {
        publish(app).await?;
        app.subscriptions.sync(app).await?;
        let stopped = app.lines.ending();
        let courier = Arc::new(Courier::new(app)?);
        courier.begin_anew().await?;
        let matching = tokio::spawn(match_changes(Arc::clone(app), Arc::clone(&courier), stopped.clone()));
        let delivery = tokio::spawn(courier.work());
        let rights = tokio::spawn(look_at_rights(Arc::clone(app), stopped.clone()));
        let sweep = tokio::spawn(sweep(Arc::clone(app), stopped));
        Ok(Self { app: Arc::clone(app), work: vec![matching, delivery, rights, sweep] })
    }

    /// Ends after what is under way.
    pub(crate) async fn stop(self) {
        self.app.lines.end();
        for work in self.work {
            let _ = work.await;
        }
    }
}

/// Stores the topics of this server's own, where everybody can read them.
async fn publish(app: &App) -> Result<(), Error> {
    let mut commit = Commit { of_model: true, ..Commit::default() };
    for topic in Topics::built_in().iter() {
        let resource = topic.to_basic();
        let Some(id) = resource.text("id").map(str::to_owned) else { continue };
        let target = Target::Id(ResourceType::BASIC, id);
        commit.writes.push(Write::Update { resource, target, id: None, only_if: OnlyIf::Always });
    }
    app.store.commit(&Context::system("subscriptions", app::now()), commit).await.map(drop)
}

/// A topic that a Subscription in it names may have been written just now. To look is not for nothing where there are
/// many Subscriptions.
pub(crate) async fn know_topics(app: &App, resource: &Json<'_>) -> Result<(), Error> {
    let book = app.subscriptions.book();
    let is_unknown = |one: &Json<'_>| {
        let criteria = one.text("criteria").unwrap_or_default();
        one.text("resourceType") == Some(ResourceType::SUBSCRIPTION.name())
            && criteria.starts_with("http")
            && book.topics.find(criteria).is_none()
    };
    // What a patch makes is not known yet.
    let is_patch = |entry: &Json<'_>| {
        let said = |name| entry.get("request").and_then(|request| request.text(name)).unwrap_or_default();
        said("method") == "PATCH" && said("url").starts_with(ResourceType::SUBSCRIPTION.name())
    };
    let within = |entry: &Json<'_>| is_patch(entry) || entry.get("resource").is_some_and(is_unknown);
    if is_unknown(resource) || resource.list("entry").iter().any(within) {
        app.subscriptions.sync(app).await?;
    }
    Ok(())
}

/// Whoever may not be told any more is told nothing; that it is so is said even if nothing happens.
async fn look_at_rights(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    while timeout(RIGHTS, stopped.wait_for(|stop| *stop)).await.is_err() {
        match app.subscriptions.ended(&app).await {
            Ok(ended) if ended.is_empty() => {}
            Ok(ended) => {
                let context = Context::system("subscriptions", app::now());
                if let Err(error) = app.store.nudge_subscriptions(&context, ended).await {
                    tracing::error!(%error, "a Subscription that has ended could not be looked at");
                }
            }
            Err(error) => tracing::error!(%error, "it is not known who may be told"),
        }
    }
}

/// What was delivered can be asked for again for some time.
async fn sweep(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let kept = i64::from(app.config.event_days) * 86_400_000_000;
    while timeout(SWEEP, stopped.wait_for(|stop| *stop)).await.is_err() {
        let now = app::now();
        let context = Context::system("subscriptions", now);
        if let Err(error) = app.store.sweep_events(&context, app.store.time(now) - kept).await {
            tracing::warn!(%error, "old events could not be dropped");
        }
    }
}

async fn match_changes(app: Arc<App>, courier: Arc<Courier>, stopped: watch::Receiver<bool>) {
    let mut known = 0;
    while !*stopped.borrow() {
        match matching::turn(&app).await {
            Ok(0) => {
                let stamp = app.subscriptions.book().stamp;
                if std::mem::replace(&mut known, stamp) != stamp {
                    // One that is asked for is to begin.
                    courier.wake();
                }
                let _ = timeout(LOOK, app.store.queued()).await;
            }
            Ok(_) => courier.wake(),
            Err(Error::Conflict { .. }) => sleep(QUICKER).await,
            Err(error) => {
                tracing::error!(%error, "changes could not be looked at; it will be tried again");
                sleep(AGAIN).await;
            }
        }
    }
}
