//! Reading: what decides when a topic speaks has to be understood, what narrows it or comes along is doubted.

use super::super::change::Interaction;
use super::super::parse::UNTOLD;
use super::super::topic::{FilterBy, Publication, Shape, Topic};
use super::super::trigger::{Criterion, Query, QueryCriteria, Trigger, Versions};
use super::{CODE, PREFIXES, TYPES};
use crate::json::Json;
use crate::outcome::{Issue, Issues};
use crate::resource_type::ResourceType;
use crate::search::{Handling, Include, SearchQuery, parameter};

const DEFINITIONS: &str = "http://hl7.org/fhir/StructureDefinition/";
const ANY_PREFIX: &str = "/StructureDefinition/extension-SubscriptionTopic.";
/// What says nothing about when it speaks.
const UNREAD: [&str; 15] = [
    "identifier",
    "versionAlgorithm",
    "date",
    "experimental",
    "publisher",
    "contact",
    "useContext",
    "jurisdiction",
    "purpose",
    "copyright",
    "copyrightLabel",
    "approvalDate",
    "lastReviewDate",
    "effectivePeriod",
    "derivedFrom",
];
/// Queries beside a notification, which a subscriber can ask without being told.
const RELATED_QUERY: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-related-query";
/// Triggers of one topic: each may be evaluated for each change.
const MOST_TRIGGERS: usize = 32;
/// Filters and shapes of one topic, includes of one shape.
const MOST: usize = 200;

impl Topic {
    /// Reads a Basic; none if it is no topic.
    ///
    /// # Errors
    /// What of it can't be kept to, each with its element.
    pub fn parse(basic: &Json) -> Result<Option<Self>, Issues> {
        let is_topic =
            |coding: &Json| coding.text("system") == Some(TYPES) && coding.text("code") == Some(CODE);
        let codings = basic.get("code").map_or(&[][..], |code| code.list("coding"));
        if basic.text("resourceType") != Some("Basic") || !codings.iter().any(is_topic) {
            return Ok(None);
        }
        let mut reader = Reader::default();
        let topic = reader.topic(basic);
        match topic {
            Some(topic) if reader.wrong.is_empty() => {
                Ok(Some(Self { doubts: Issues(reader.doubts), ..topic }))
            }
            _ => Err(Issues(reader.wrong)),
        }
    }
}

fn value<'j>(extension: &'j Json<'_>) -> Option<&'j Json<'j>> {
    let mut members = extension.as_object()?.iter();
    members.find(|(key, _)| key.starts_with("value")).map(|(_, value)| value)
}

/// Every type, as US Core's topic has it.
fn is_any(extension: &Json) -> bool {
    value(extension).and_then(Json::as_str) == Some("*")
}

fn name<'j>(extension: &'j Json<'_>) -> &'j str {
    extension.text("url").unwrap_or_default()
}

/// The extensions in one, each with its place.
fn parts<'j>(of: &'j Json<'_>, at: &str) -> impl Iterator<Item = (&'j Json<'j>, String)> {
    let place = |n: usize| format!("{at}.extension[{n}]");
    of.list("extension")
        .iter()
        .enumerate()
        .map(move |(n, part)| (part, place(n)))
        .collect::<Vec<_>>()
        .into_iter()
}

#[derive(Default)]
struct Reader {
    wrong: Vec<Issue>,
    doubts: Vec<Issue>,
}

impl Reader {
    fn refuse(&mut self, code: &'static str, why: impl Into<String>, at: &str) {
        self.wrong.push(Issue::error(code, why.into()).at(at));
    }

    fn doubt(&mut self, why: impl Into<String>, at: &str) {
        self.doubts.push(Issue::warning("not-supported", why.into()).at(at));
    }

    fn keep<T>(&mut self, read: Result<T, impl Into<Issues>>, at: &str) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(issues) => {
                self.wrong.extend(issues.into().0.into_iter().map(|issue| issue.at(at)));
                None
            }
        }
    }

    fn text<'j>(&mut self, extension: &'j Json<'_>, at: &str) -> Option<&'j str> {
        let text = value(extension).and_then(Json::as_str).filter(|text| !text.is_empty());
        if text.is_none() {
            self.refuse("value", format!("{} needs a text", shown(name(extension))), at);
        }
        text
    }

    /// What may be said once.
    fn once<T>(&mut self, known: &mut Option<T>, new: Option<T>, at: &str) {
        if known.is_some() {
            self.refuse("duplicate", "it is said twice", at);
        } else {
            *known = new;
        }
    }

    fn topic(&mut self, basic: &Json) -> Option<Topic> {
        let (mut url, mut status) = (None, None);
        let (mut version, mut name, mut title, mut description) = (None, None, None, None);
        let (mut triggers, mut filters, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        let modifiers = basic.list("modifierExtension").iter().enumerate();
        let modifiers = modifiers.map(|(n, one)| (one, format!("Basic.modifierExtension[{n}]"), true));
        let all = parts(basic, "Basic").map(|(one, at)| (one, at, false)).chain(modifiers);
        for (one, at, modifies) in all {
            let of = one.text("url").unwrap_or_default();
            let Some(element) = PREFIXES.iter().find_map(|prefix| of.strip_prefix(prefix)) else {
                if modifies || of.contains(ANY_PREFIX) {
                    self.refuse("not-supported", format!("extension {} is not known", shown(of)), &at);
                }
                continue;
            };
            let text = |reader: &mut Self| reader.text(one, &at).map(str::to_owned);
            match element {
                "url" => {
                    let read = text(self);
                    let read = read.and_then(|url| self.keep(canonical(url), &at));
                    self.once(&mut url, read, &at);
                }
                "status" => {
                    let read = text(self).and_then(|code| Publication::parse(&code));
                    if read.is_none() {
                        self.refuse("value", "draft, active, retired or unknown is needed", &at);
                    }
                    self.once(&mut status, read, &at);
                }
                "version" => {
                    let read = text(self);
                    if read.as_ref().is_some_and(|version| version.contains('|')) {
                        self.refuse("value", "a version has no |", &at);
                    }
                    self.once(&mut version, read, &at);
                }
                "name" => name = text(self),
                "title" => title = text(self),
                "description" => description = text(self),
                "resourceTrigger" => triggers.extend(self.trigger(one, &at)),
                "canFilterBy" => filters.extend(self.filter(one, &at)),
                "notificationShape" => shapes.extend(self.shape(one, &at)),
                "eventTrigger" => {
                    self.refuse("not-supported", "only changes of resources are events here", &at);
                }
                _ if UNREAD.contains(&element) => {}
                _ => self.refuse("not-supported", format!("element {} is not known", shown(element)), &at),
            }
        }
        if triggers.len() > MOST_TRIGGERS || filters.len() + shapes.len() > MOST {
            let why = format!("more than {MOST_TRIGGERS} triggers, or than {MOST} filters and shapes");
            self.refuse("too-costly", why, "Basic.extension");
        }
        if url.is_none() && self.wrong.is_empty() {
            self.refuse("required", "a topic needs its url", "Basic.extension");
        }
        if triggers.is_empty() && self.wrong.is_empty() {
            self.refuse("required", "a topic needs a resourceTrigger", "Basic.extension");
        }
        if status.is_none() && self.wrong.is_empty() {
            self.refuse("required", "a topic needs its status", "Basic.modifierExtension");
        }
        let status = status.unwrap_or(Publication::Unknown);
        let doubts = Issues::default();
        Some(Topic {
            url: url?,
            version,
            name,
            title,
            description,
            status,
            triggers,
            filters,
            shapes,
            doubts,
        })
    }

    /// The type that `resource` names, if it is there.
    fn kind(&mut self, of: &Json, at: &str) -> Option<ResourceType> {
        let (part, at) = parts(of, at).find(|(part, _)| name(part) == "resource")?;
        let text = self.text(part, &at)?;
        let kind = ResourceType::parse(text.strip_prefix(DEFINITIONS).unwrap_or(text));
        if kind.is_none() {
            self.refuse("value", format!("{} is no resource type of R4", shown(text)), &at);
        }
        kind
    }

    fn needed_kind(&mut self, of: &Json, at: &str) -> Option<ResourceType> {
        let before = self.wrong.len();
        let kind = self.kind(of, at);
        if kind.is_none() && self.wrong.len() == before {
            self.refuse("required", "a resource is needed", at);
        }
        kind
    }

    fn trigger(&mut self, of: &Json, at: &str) -> Option<Trigger> {
        let kind = self.needed_kind(of, at)?;
        if kind == ResourceType::AUDIT_EVENT {
            self.refuse("not-supported", UNTOLD, at);
        }
        let (mut description, mut query, mut expression) = (None, None, None);
        let mut interactions = Vec::new();
        for (part, at) in parts(of, at) {
            match name(part) {
                "description" => description = self.text(part, &at).map(str::to_owned),
                "resource" => {}
                "supportedInteraction" => match self.text(part, &at).and_then(Interaction::parse) {
                    Some(interaction) => interactions.push(interaction),
                    None => self.refuse("value", "create, update or delete is needed", &at),
                },
                "queryCriteria" => {
                    let read = self.query(kind, part, &at);
                    self.once(&mut query, read, &at);
                }
                "fhirPathCriteria" => {
                    let read = self.text(part, &at).map(Criterion::parse);
                    let read = read.and_then(|read| self.keep(read, &at));
                    self.once(&mut expression, read, &at);
                }
                other => self.refuse("not-supported", format!("{} is not known", shown(other)), &at),
            }
        }
        // Where none is named any is meant.
        if interactions.is_empty() {
            interactions = Interaction::ALL.to_vec();
        }
        interactions.sort_unstable();
        interactions.dedup();
        Some(Trigger { description, kind, interactions, query, expression })
    }

    fn query(&mut self, kind: ResourceType, of: &Json, at: &str) -> Option<QueryCriteria> {
        let (mut previous, mut current, mut both) = (None, None, false);
        let (mut for_create, mut for_delete) = (false, false);
        let before = self.wrong.len();
        for (part, at) in parts(of, at) {
            match name(part) {
                which @ ("previous" | "current") => {
                    let read = self.text(part, &at).map(|text| Query::parse(kind, text));
                    let read = read.and_then(|read| self.keep(read, &at));
                    self.once(if which == "previous" { &mut previous } else { &mut current }, read, &at);
                }
                which @ ("resultForCreate" | "resultForDelete") => {
                    let passes = match self.text(part, &at) {
                        Some("test-passes") => true,
                        Some("test-fails") => false,
                        _ => {
                            self.refuse("value", "test-passes or test-fails is needed", &at);
                            continue;
                        }
                    };
                    *(if which == "resultForCreate" { &mut for_create } else { &mut for_delete }) = passes;
                }
                "requireBoth" => match value(part).and_then(Json::as_bool) {
                    Some(truth) => both = truth,
                    None => self.refuse("value", "true or false is needed", &at),
                },
                other => self.refuse("not-supported", format!("{} is not known", shown(other)), &at),
            }
        }
        if self.wrong.len() > before {
            return None;
        }
        let of = match (previous, current) {
            (Some(previous), Some(current)) if both => Versions::Both(previous, current),
            (Some(previous), Some(current)) => Versions::Either(previous, current),
            (Some(previous), None) => Versions::Previous(previous),
            (None, Some(current)) => Versions::Current(current),
            (None, None) => {
                self.refuse("required", "previous or current is needed", at);
                return None;
            }
        };
        Some(QueryCriteria { of, for_create, for_delete })
    }

    /// What is not known is a filter that nobody can ask for: it must not turn into all of them.
    fn filter(&mut self, of: &Json, at: &str) -> Option<FilterBy> {
        let any = parts(of, at).any(|(part, _)| name(part) == "resource" && is_any(part));
        let kind = if any { None } else { self.kind(of, at) };
        let (mut found, mut comparators, mut modifiers) = (None, Vec::new(), Vec::new());
        for (part, at) in parts(of, at) {
            match name(part) {
                "filterParameter" => {
                    let code = self.text(part, &at).unwrap_or_default();
                    let known = |kind| parameter(kind, code).is_some_and(|one| one.indexed);
                    let own = matches!(code, "_id" | "_lastUpdated");
                    if !own && !kind.map_or_else(|| ResourceType::all().any(known), known) {
                        let of = kind.map_or("any type", ResourceType::name);
                        self.doubt(format!("{} is no search parameter of {of} here", shown(code)), &at);
                    }
                    self.once(&mut found, Some(code.to_owned()), &at);
                }
                "comparator" => comparators.extend(self.text(part, &at).map(str::to_owned)),
                "modifier" => modifiers.extend(self.text(part, &at).map(str::to_owned)),
                "description" | "resource" | "filterDefinition" => {}
                other => self.refuse("not-supported", format!("{} is not known", shown(other)), &at),
            }
        }
        let Some(parameter) = found else {
            self.refuse("required", "a filterParameter is needed", at);
            return None;
        };
        Some(FilterBy { kind, parameter, comparators, modifiers })
    }

    fn shape(&mut self, of: &Json, at: &str) -> Option<Shape> {
        let kind = self.needed_kind(of, at)?;
        let mut includes = Vec::new();
        for (part, at) in parts(of, at) {
            match name(part) {
                which @ ("include" | "revInclude") => {
                    let text = self.text(part, &at).unwrap_or_default();
                    match include(kind, which == "revInclude", text) {
                        Ok(read) => includes.extend(read),
                        Err(issues) => self.doubt(format!("it does not come along: {issues}"), &at),
                    }
                }
                "resource" | "description" | RELATED_QUERY => {}
                other => self.refuse("not-supported", format!("{} is not known", shown(other)), &at),
            }
        }
        if includes.len() > MOST {
            self.refuse("too-costly", format!("more than {MOST} includes"), at);
        }
        Some(Shape { kind, includes })
    }
}

/// `Encounter:patient`, `Encounter:patient&iterate=Patient.link`
fn include(kind: ResourceType, reverse: bool, text: &str) -> Result<Vec<Include>, Issues> {
    let name = if reverse { "_revinclude" } else { "_include" };
    let pair = |(n, one): (usize, &str)| match (n, one.strip_prefix("iterate=")) {
        (0, _) => (name.to_owned(), one.to_owned()),
        // There a dot stands where a search has a colon.
        (_, Some(iterate)) => (format!("{name}:iterate"), iterate.replacen('.', ":", 1)),
        (_, None) => (one.to_owned(), String::new()),
    };
    let pairs: Vec<(String, String)> = text.split('&').enumerate().map(pair).collect();
    let (query, _) = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict)?;
    Ok(query.includes)
}

fn canonical(url: String) -> Result<String, Issue> {
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    if !is_web || url.contains(['|', '#']) || url.contains(char::is_whitespace) || url.len() > 1024 {
        return Err(Issue::error("value", "an http or https address without version is needed"));
    }
    Ok(url)
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
