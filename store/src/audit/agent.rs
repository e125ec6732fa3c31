//! The one who did it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who acts, as far as is known; what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// A part of the program itself, named: a worker, an import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Id of the registered client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// The person, as `issuer` calls them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What people call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Who says who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `Practitioner/1`: the person as a resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fhir_user: Option<String>,
    /// `Organization/1`: whom they work for, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// As what they act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The public id of the token that was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What stands for a token that has no such id: a part of it, or of its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opaque: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What for: a code of v3 PurposeOfUse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What they gave as a reason for access in an emergency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Agent {
    /// The purpose of access in an emergency to what a patient withholds (v3 PurposeOfUse).
    pub const BREAK_GLASS: &str = "BTG";

    /// Is that what they act for?
    pub fn breaks_glass(&self) -> bool {
        self.purpose.as_deref() == Some(Self::BREAK_GLASS)
    }
}

/// An agent as the database keeps it.
#[derive(Debug, PartialEq, Eq)]
pub struct Who {
    /// Who it is.
    pub agent: Agent,
    pub(super) text: String,
}

impl Hash for Who {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.agent.token.hash(state);
    }
}

impl Who {
    /// Made once for each request, or for many of one caller. Whoever comes with another token is the same:
    /// the token is said of the event.
    pub fn new(mut agent: Agent) -> Arc<Self> {
        let (token, opaque) = (agent.token.take(), agent.opaque.take());
        let text = serde_json::to_string(&agent).unwrap_or_default();
        Arc::new(Self { agent: Agent { token, opaque, ..agent }, text })
    }

    /// A part of the program.
    pub fn system(name: &str) -> Arc<Self> {
        Self::new(Agent { system: Some(name.to_owned()), ..Agent::default() })
    }

    /// Stands for the caller, whatever they call from and with.
    pub(crate) fn name(&self) -> String {
        let Agent { system, client, user, issuer, .. } = &self.agent;
        format!("{system:?} {client:?} {user:?} {issuer:?}")
    }
}
