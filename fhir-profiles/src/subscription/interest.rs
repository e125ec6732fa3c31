//! Which changes a Subscription is about.

use std::sync::Arc;

use super::change::{Change, Interaction};
use super::topic::Topic;
use crate::resource_type::ResourceType;
use crate::search::Clause;

/// What lets a Subscription speak, and what narrows it.
#[derive(Debug, Clone)]
pub struct Interest {
    pub(super) cause: Cause,
    /// By type: all must hold of a resource of that type.
    pub(super) filters: Vec<(ResourceType, Vec<Clause>)>,
}

/// What lets it speak.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    /// A resource of the type is there in a new version: the criteria of R4.
    Written(ResourceType),
    /// A trigger of the topic.
    Topic(Arc<Topic>),
}

impl Cause {
    pub(super) fn kinds(&self) -> Vec<ResourceType> {
        match self {
            Self::Written(kind) => vec![*kind],
            Self::Topic(topic) => topic.kinds(),
        }
    }

    /// May it speak of that interaction, whatever the resource says?
    pub(super) fn allows(&self, kind: ResourceType, what: Interaction) -> bool {
        match self {
            Self::Written(of) => *of == kind && what != Interaction::Delete,
            Self::Topic(topic) => {
                topic.triggers.iter().any(|one| one.kind == kind && one.interactions.contains(&what))
            }
        }
    }

    pub(super) fn fires(&self, change: &Change<'_>) -> bool {
        match self {
            Self::Written(kind) => {
                change.interaction().is_some_and(|what| self.allows(*kind, what)) && *kind == change.kind
            }
            Self::Topic(topic) => topic.triggers.iter().any(|trigger| trigger.fires(change)),
        }
    }

    /// Are both the same, so that they fire together?
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Written(one), Self::Written(other)) => one == other,
            (Self::Topic(one), Self::Topic(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Interest {
    /// The topic, where it is not R4's own criteria.
    pub fn topic(&self) -> Option<&Arc<Topic>> {
        match &self.cause {
            Cause::Written(_) => None,
            Cause::Topic(topic) => Some(topic),
        }
    }

    /// The types it may be about, each once.
    pub fn kinds(&self) -> Vec<ResourceType> {
        self.cause.kinds()
    }

    /// What a resource of the type must meet: all of these.
    pub fn conditions(&self, kind: ResourceType) -> impl Iterator<Item = &Clause> {
        self.filters.iter().filter(move |(of, _)| *of == kind).flat_map(|(_, clauses)| clauses)
    }

    /// Is it about the change? Filters look at the version after, of a delete at the one before.
    pub fn is_about(&self, change: &Change<'_>) -> bool {
        let Some(subject) = change.subject() else { return false };
        let mut conditions = self.conditions(change.kind);
        conditions.all(|clause| clause.matches(subject.index, change.id, subject.updated))
            && self.cause.fires(change)
    }
}
