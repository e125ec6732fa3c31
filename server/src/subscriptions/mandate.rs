//! In whose name a Subscription is told, when whoever asked for it has long gone: with the rights they have
//! by then, and no longer than they have any.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::{Access, Agent, Context, Error, Status, Who};

use crate::app::App;
use crate::config::Auth;
use crate::http::rights::access;
use crate::smart::bearer::Bearer;

/// What is kept of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mandate<B = Box<Bearer>> {
    /// Anybody of this machine, where access is open.
    Open,
    /// A caller with an API key or a certificate, by its id.
    Key(String),
    /// Who came with a token.
    Token(B),
}

/// What is left of it.
pub(crate) enum Standing {
    /// It is good, for this.
    Good(Box<Context>),
    /// It has ended, and why.
    Ended(&'static str),
}

impl<B: Serialize> Mandate<B> {
    pub(crate) fn text(&self) -> Arc<str> {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

impl Mandate {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Is it the same caller's, whose tokens come and go?
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => {
                (&one.issuer, &one.client, &one.subject) == (&other.issuer, &other.client, &other.subject)
            }
            (one, other) => one == other,
        }
    }

    /// Whether it is good now, and what for.
    ///
    /// # Errors
    /// Those of the store: then nobody knows.
    pub(crate) async fn standing(&self, app: &App, at: i64) -> Result<Standing, Error> {
        let asker = Context::system("subscriptions", at);
        let good = |agent, access| {
            Standing::Good(Box::new(Context { who: Who::new(agent), access, ..asker.clone() }))
        };
        Ok(match self {
            Self::Open if app.config.auth == Auth::Open => good(Agent::default(), Access::Whole),
            Self::Open => Standing::Ended("access is not open any more"),
            Self::Key(id) => {
                let client = app.store.clients(&asker).await?.into_iter().find(|client| client.id == *id);
                let lives =
                    client.filter(|one| one.revoked.is_none() && one.expires.is_none_or(|end| end > at));
                match lives {
                    Some(client) => {
                        let rights = access(&client.scope, None, None, false);
                        let (id, name) = (Some(client.id), Some(client.name));
                        good(Agent { client: id, client_name: name, ..Agent::default() }, rights)
                    }
                    None => Standing::Ended("the key of who asked for it is not good any more"),
                }
            }
            Self::Token(bearer) => match ended(app, &asker, bearer).await? {
                Some(why) => Standing::Ended(why),
                None => good(bearer.agent(None), bearer.access()),
            },
        })
    }
}

/// What a program was given lasts as long as the program may ask for it; what a person allowed, as long as
/// that person lets it, or is signed in.
async fn ended(app: &App, asker: &Context, bearer: &Bearer) -> Result<Option<&'static str>, Error> {
    if bearer.issuer != app.config.public_url {
        let known = app.config.foreign.is_some();
        return Ok(match &bearer.subject {
            _ if !known => Some("the server that issued the token is not trusted any more"),
            Some(_) if bearer.expires <= asker.at => Some("the token of who asked for it has ended"),
            _ => None,
        });
    }
    if bearer.subject.is_none() {
        return match app.store.smart_client(asker, &bearer.client).await {
            Ok(client) if client.status == Status::Approved => Ok(None),
            Ok(_) | Err(Error::NotFound) => Ok(Some("the app that asked for it may not any more")),
            Err(error) => Err(error),
        };
    }
    match app.store.grant(asker, &bearer.grant).await {
        Ok(grant) if grant.expires > asker.at => Ok(None),
        Ok(_) | Err(Error::NotFound) => Ok(Some("what was allowed to the app has ended")),
        Err(error) => Err(error),
    }
}
