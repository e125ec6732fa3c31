//! One message to a subscriber, wherever that is.

use std::time::Duration;

use fhir::subscription::Occasion;
use reqwest::{Method, Url};
use store::Event;

use super::{Courier, Drive};
use crate::subscriptions::notification;
use crate::subscriptions::signature::Seal;
use crate::subscriptions::webhook::{Parcel, Refusal};

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
        let Some((endpoint, headers)) = drive.entry.endpoint() else {
            let text = body.map(|(_, text)| text).unwrap_or_default();
            return self.app.lines.send(&drive.entry, text, patience).await;
        };
        let mut url = Url::parse(endpoint).map_err(|_| Refusal::Forbidden("it is no address"))?;
        if let (false, Ok(mut segments)) = (path.is_empty(), url.path_segments_mut()) {
            segments.pop_if_empty().extend(path);
        }
        let origin = url.origin().ascii_serialization();
        let sending = async {
            self.origins.pace(&origin, self.now()).await;
            let seal = Seal::new(&self.app.smart.secret, &drive.entry.subscription, part, self.now());
            self.webhook.send(Parcel { method, url, headers, body, patience, seal }).await
        };
        let answer = tokio::select! {
            answer = sending => answer,
            () = self.app.lines.ended() => Err(Refusal::Ending),
        };
        self.app.subscriptions.endpoints.tried(&origin, &answer);
        answer
    }
}
