//! Topics: what can be subscribed to (<https://hl7.org/fhir/R5/subscriptiontopic.html>).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::built_in;
use super::trigger::Trigger;
use crate::json::Json;
use crate::outcome::{Issue, Issues};
use crate::resource_type::ResourceType;
use crate::search::{Include, Kind, parameter};

/// How far a topic has come (`SubscriptionTopic.status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// Being worked on.
    Draft,
    /// In use.
    Active,
    /// In use no longer.
    Retired,
    /// Nobody says.
    Unknown,
}

impl Publication {
    const ALL: [Self; 4] = [Self::Draft, Self::Active, Self::Retired, Self::Unknown];

    /// The code of publication-status.
    pub fn code(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Unknown => "unknown",
        }
    }

    fn weight(self) -> u8 {
        match self {
            Self::Active => 2,
            Self::Draft | Self::Unknown => 1,
            Self::Retired => 0,
        }
    }

    /// The one of that code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Canonical, without its version.
    pub url: String,
    /// Which version.
    pub version: Option<String>,
    /// For a machine.
    pub name: Option<String>,
    /// For a person.
    pub title: Option<String>,
    /// In words, markdown.
    pub description: Option<String>,
    /// How far it has come.
    pub status: Publication,
    /// Any of them; at least one.
    pub triggers: Vec<Trigger>,
    /// What may be filtered by; where it names nothing at all, everything.
    pub filters: Vec<FilterBy>,
    /// What comes along with the resources that it is about.
    pub shapes: Vec<Shape>,
    /// What of it can't be done here, as warnings: a filter that a Subscription is refused for, a resource
    /// that does not come along. When it speaks is never among it.
    pub doubts: Issues,
}

/// One `canFilterBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterBy {
    /// Of which type; none for each.
    pub kind: Option<ResourceType>,
    /// Code of a search parameter.
    pub parameter: String,
    /// Prefixes of dates and numbers; empty for any.
    pub comparators: Vec<String>,
    /// Modifiers; empty for any.
    pub modifiers: Vec<String>,
}

impl FilterBy {
    /// Does it allow resources of the type to be filtered so? `name` has its modifier with it.
    fn allows(&self, kind: ResourceType, name: &str, value: &str) -> bool {
        let (code, modifier) =
            name.split_once(':').map_or((name, None), |(code, modifier)| (code, Some(modifier)));
        let modifier = modifier.map(|one| if ResourceType::parse(one).is_some() { "type" } else { one });
        let among = |all: &[String], one: &str| all.is_empty() || all.iter().any(|known| known == one);
        let compared = parameter(kind, code)
            .is_some_and(|one| matches!(one.kind, Kind::Date | Kind::Number | Kind::Quantity));
        self.kind.is_none_or(|of| of == kind)
            && self.parameter == code
            && modifier.is_none_or(|modifier| among(&self.modifiers, modifier))
            && (!compared || value.split(',').all(|one| among(&self.comparators, comparator(one))))
    }
}

/// The prefix of a value, `eq` where there is none.
fn comparator(value: &str) -> &str {
    value.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_lowercase())).unwrap_or("eq")
}

/// One `notificationShape`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// With which type.
    pub kind: ResourceType,
    /// What comes along.
    pub includes: Vec<Include>,
}

impl Topic {
    /// The types that it may be about, each once.
    pub fn kinds(&self) -> Vec<ResourceType> {
        let mut kinds: Vec<ResourceType> = self.triggers.iter().map(|trigger| trigger.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// What comes along with a resource of that type.
    pub fn includes(&self, kind: ResourceType) -> impl Iterator<Item = &Include> {
        self.shapes.iter().filter(move |shape| shape.kind == kind).flat_map(|shape| &shape.includes)
    }

    /// May resources of the type be filtered so? `name` is a search parameter, perhaps with a modifier.
    pub fn can_filter(&self, kind: ResourceType, name: &str, value: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|one| one.allows(kind, name, value))
    }
}

/// None is before any, and `1.9` before `1.10`.
fn by_version(one: Option<&str>, other: Option<&str>) -> Ordering {
    let (Some(one), Some(other)) = (one, other) else { return one.is_some().cmp(&other.is_some()) };
    let part = |one: &str, other: &str| match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    };
    let (mut parts, mut others) = (one.split(['.', '-']), other.split(['.', '-']));
    loop {
        match (parts.next(), others.next()) {
            (Some(one), Some(other)) if part(one, other).is_eq() => {}
            (Some(one), Some(other)) => return part(one, other),
            // What is equal in numbers is told apart by its letters: `1.0` and `1.00`.
            (None, None) => return one.cmp(other),
            (rest, _) => return if rest.is_some() { Ordering::Greater } else { Ordering::Less },
        }
    }
}

/// The topics there are, by canonical.
#[derive(Debug, Clone)]
pub struct Topics {
    by_url: HashMap<String, Vec<Arc<Topic>>>,
}

static BUILT_IN: LazyLock<Topics> = LazyLock::new(|| {
    let mut topics = Topics { by_url: HashMap::new() };
    for topic in built_in::topics() {
        topics.by_url.entry(topic.url.clone()).or_default().push(Arc::new(topic));
    }
    topics
});

/// The built-in ones.
impl Default for Topics {
    fn default() -> Self {
        Self::built_in().clone()
    }
}

impl Topics {
    /// What `Basic.code` says where one is a topic, as a search asks for it.
    pub const CODE: &str = "http://hl7.org/fhir/fhir-types|SubscriptionTopic";

    /// Does the address begin as only this server's own do?
    pub fn is_own(url: &str) -> bool {
        url.starts_with(built_in::BASE)
    }

    /// Does it say of itself that it is a topic of this server?
    pub fn names_own(resource: &Json) -> bool {
        let says = |one: &Json| {
            one.text("url").is_some_and(|url| url.ends_with("SubscriptionTopic.url"))
                && ["valueUri", "valueUrl", "valueCanonical"]
                    .iter()
                    .any(|value| one.text(value).is_some_and(Self::is_own))
        };
        resource.text("resourceType") == Some("Basic") && resource.list("extension").iter().any(says)
    }

    /// Those of this server.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Adds one.
    ///
    /// # Errors
    /// One of the same address and version is there (`duplicate`), or the address is this server's own
    /// (`business-rule`).
    pub fn add(&mut self, topic: Topic) -> Result<(), Issue> {
        let shown = || topic.url.chars().take(200).collect::<String>();
        if Self::is_own(&topic.url) {
            let why = format!("addresses below {} are this server's own", built_in::BASE);
            return Err(Issue::error("business-rule", why).at("Basic"));
        }
        let all = self.by_url.entry(topic.url.clone()).or_default();
        if all.iter().any(|known| known.version == topic.version) {
            let why = format!("there is a topic {} of this version already", shown());
            return Err(Issue::error("duplicate", why).at("Basic"));
        }
        all.push(Arc::new(topic));
        Ok(())
    }

    /// The topic of a canonical, with `|version` or without. Without, it is one in use rather than a draft,
    /// and of these the one of the greatest version, in whatever order they were added.
    pub fn find(&self, canonical: &str) -> Option<&Arc<Topic>> {
        let (url, version) =
            canonical.split_once('|').map_or((canonical, None), |(url, version)| (url, Some(version)));
        let all = self.by_url.get(url)?;
        match version {
            Some(version) => all.iter().find(|topic| topic.version.as_deref() == Some(version)),
            None => all.iter().max_by(|one, other| {
                let newer = || by_version(one.version.as_deref(), other.version.as_deref());
                one.status.weight().cmp(&other.status.weight()).then_with(newer)
            }),
        }
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let mut all: Vec<&Arc<Topic>> = self.by_url.values().flatten().collect();
        all.sort_by_key(|topic| &topic.url);
        all.into_iter()
    }
}
