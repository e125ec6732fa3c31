//! One message to a subscriber, wherever that is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fhir::subscription::Occasion;
use reqwest::{Method, Url};
use store::Event;
use tokio::time::timeout;

use super::Courier;
use super::drive::Drive;
use crate::subscriptions::notification;
use crate::subscriptions::signature::Seal;
use crate::subscriptions::webhook::{Parcel, Refusal};

/// What comes of a message; on the heap, as what sends it is large.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// Who answers later is waited for aside.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Courier {
    /// Sends some events.
    pub(super) async fn tell(&self, drive: &Drive, events: &[Event]) -> Result<(), Refusal> {
        let occasion = Occasion::EventNotification;
        let along = notification::along(&self.app, &drive.context, &drive.entry, events).await;
        let along = along.map_err(|_| Refusal::Unread)?;
        if let Some(text) = notification::text(&self.app, &drive.entry, occasion, events, &along) {
            let numbers = [events.first(), events.last()].map(|one| one.map_or(0, |one| one.number));
            let part = match numbers {
                [first, last] if first == last => first.to_string(),
                [first, last] => format!("{first}-{last}"),
            };
            return self.post(drive, Method::POST, Vec::new(), Some(text?), &part).await;
        }
        if drive.entry.connects() {
            let ping = format!("ping {}", drive.entry.subscription.id);
            return self.post(drive, Method::POST, Vec::new(), Some((String::new(), ping)), "").await;
        }
        for event in events {
            let Some((method, path, body)) = notification::plain(&drive.entry, event)? else { continue };
            self.post(drive, method, path, body, &event.number.to_string()).await?;
        }
        Ok(())
    }

    /// Without an event; nothing is sent where there is no topic.
    pub(super) async fn say_hello(&self, drive: &Drive, occasion: Occasion) -> Result<(), Refusal> {
        match notification::text(&self.app, &drive.entry, occasion, &[], &[]) {
            Some(text) => {
                let part = match occasion {
                    Occasion::Handshake => format!("handshake-{}", drive.entry.subscription.stamp),
                    _ => format!("heartbeat-{}", self.now()),
                };
                self.post(drive, Method::POST, Vec::new(), Some(text?), &part).await
            }
            None => Ok(()),
        }
    }

    /// Sends a message to the endpoint, or to a path behind it; `part` tells it from others of the Subscription.
    async fn post(
        &self,
        drive: &Drive,
        method: Method,
        path: Vec<String>,
        body: Option<notification::Body>,
        part: &str,
    ) -> Result<(), Refusal> {
        let patience = Duration::from_micros(drive.patience().unsigned_abs());
        let owner = drive.entry.subscription.owner.as_str();
        let Some((endpoint, headers)) = drive.entry.endpoint() else {
            let text = body.map(|(_, text)| text).unwrap_or_default();
            return self
                .waited(drive, &[owner], Box::pin(self.app.lines.send(&drive.entry, text, patience)))
                .await;
        };
        let mut url = Url::parse(endpoint).map_err(|_| Refusal::Forbidden("it is no address"))?;
        if let (false, Ok(mut segments)) = (path.is_empty(), url.path_segments_mut()) {
            segments.pop_if_empty().extend(path);
        }
        let origin = url.origin().ascii_serialization();
        let sending = async {
            self.origins.pace(&origin, self.now()).await;
            let seal = Seal::new(&self.app.smart.secret, &drive.entry.subscription, part, self.now());
            let answer = self.webhook.send(Parcel { method, url, headers, body, patience, seal });
            self.waited(drive, &[&origin, owner], Box::pin(answer)).await
        };
        let answer = tokio::select! {
            answer = sending => answer,
            () = self.app.lines.ended() => Err(Refusal::Ending),
        };
        self.app.subscriptions.endpoints.tried(&origin, &answer);
        if answer.is_ok() {
            drive.is_heard();
        }
        answer
    }

    /// Who is waited for longer leaves the places to others that wait for them: however many endpoints answer late,
    /// or never, those that answer at once are told.
    async fn waited(&self, drive: &Drive, names: &[&str], mut sending: Answer<'_>) -> Result<(), Refusal> {
        if let Ok(answer) = timeout(AT_ONCE, &mut sending).await {
            return answer;
        }
        let places = || {
            let mut places = vec![Arc::clone(&self.aside).try_acquire_owned().ok()?];
            for name in names {
                places.push(self.origins.aside(name)?);
            }
            Some(places)
        };
        if !drive.steps_aside(places) {
            return Err(Refusal::Crowded);
        }
        self.wake();
        sending.await
    }
}
