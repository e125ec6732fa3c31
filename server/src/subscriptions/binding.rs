//! Who may be told over a websocket: whoever asked for the Subscription last, as what is told is what they may see.
//! A page in a browser can't say who it is where it opens one; it gets a token for that
//! (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets>).

use serde::{Deserialize, Serialize};

use super::mandate::Mandate;
use crate::http::caller::digest;
use crate::smart::secret::Secret;

/// What tokens are sealed for.
const PURPOSE: &str = "websocket";
/// How long a token is good, in microseconds: it is got to be used at once, and once.
const LIFETIME: i64 = 60_000_000;

/// Subscriptions that somebody may be told of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// Until when, microseconds since 1970 UTC.
    pub(crate) expires: i64,
    /// The mandate of whoever asked for it, who is told no longer than that is good.
    pub(super) by: String,
    /// The id of each, and the digest of in whose name it is told: in another's, it is not for them any more.
    of: Vec<(String, String)>,
}

/// May a caller of that mandate be told what this Subscription is?
pub(super) fn is_for(of: &store::Subscription, mandate: &str) -> bool {
    let read = Mandate::parse(&of.owner).zip(Mandate::parse(mandate));
    read.is_some_and(|(owner, caller)| owner.is_of(&caller))
}

impl Binding {
    /// For a caller of that mandate.
    ///
    /// # Errors
    /// The id of the first that is not for them.
    pub(crate) fn new<'s>(
        subscriptions: &'s [store::Subscription],
        mandate: &str,
        at: i64,
    ) -> Result<Self, &'s str> {
        if let Some(other) = subscriptions.iter().find(|one| !is_for(one, mandate)) {
            return Err(&other.id);
        }
        let of = subscriptions.iter().map(|one| (one.id.clone(), digest(one.owner.as_bytes()))).collect();
        Ok(Self { expires: at + LIFETIME, by: mandate.to_owned(), of })
    }

    /// As a token: nobody else can make one, or read it.
    pub(crate) fn token(&self, secret: &Secret) -> Option<String> {
        secret.seal(PURPOSE, serde_json::to_string(self).ok()?.as_bytes())
    }

    /// Reads a token that is good.
    pub(super) fn read(token: &str, secret: &Secret, at: i64) -> Option<Self> {
        let text = secret.open(PURPOSE, token)?;
        serde_json::from_slice(&text).ok().filter(|binding: &Self| binding.expires > at)
    }

    /// The ids.
    pub(super) fn ids(&self) -> Vec<String> {
        self.of.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Is it good for this one, as it is now?
    pub(super) fn holds(&self, of: &store::Subscription) -> bool {
        let owner = digest(of.owner.as_bytes());
        self.of.iter().any(|(id, digest)| *id == of.id && *digest == owner)
    }
}
