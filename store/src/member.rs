//! Who asks, as Consents look at it: what they are, what they belong to, and the numbers they are known by.

use std::collections::{BTreeSet, HashSet};

use fhir::consent::{Actor, Asker, Rule};
use fhir::json::Json;
use fhir::reference::{Reference, parse};
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Handling, SearchQuery, Test};
use fhir::time::Span;

use crate::access::{Access, Sight};
use crate::audit::Agent;
use crate::connection::Link;
use crate::draft;
use crate::error::Fault;
use crate::record::Stored;
use crate::{find, row};

/// For the treatment of the patient: why somebody is at the keyboard, if nothing else is said.
const TREATMENT: &str = "TREAT";
/// To learn of it.
const RESEARCH: &str = "HRESCH";
/// Roles of one person that are looked at.
pub(crate) const MOST_ROLES: u32 = 200;
/// Teams that are asked about by one statement, no more than are looked at.
const TOGETHER: usize = MOST_ROLES as usize;
/// Organisations of one person, with those they are part of.
const MOST_ORGANIZATIONS: usize = 200;

/// Who asks.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    agent: &'a Agent,
    /// What they are, and what they belong to: `Type/id`.
    groups: HashSet<String>,
    /// The organisation of a role of theirs.
    pub(crate) works_for: Option<String>,
    /// Numbers by which they are known.
    identifiers: Vec<String>,
    /// When they ask.
    pub(crate) at: i64,
    /// When else they may be somebody else: where what they belong to begins, or has ended.
    pub(crate) turns: BTreeSet<i64>,
}

/// Can somebody belong to it?
pub(crate) fn is_many(kind: ResourceType) -> bool {
    matches!(
        kind,
        ResourceType::PRACTITIONER_ROLE
            | ResourceType::ORGANIZATION
            | ResourceType::CARE_TEAM
            | ResourceType::GROUP
    )
}

/// Can the resource decide what somebody belongs to, or what they are known by?
pub(crate) fn places(agent: &Agent, kind: ResourceType, id: &str) -> bool {
    let own = || agent.fhir_user.as_deref() == Some(&format!("{kind}/{id}"));
    is_many(kind) || kind == ResourceType::PRACTITIONER || own()
}

impl<'a> Caller<'a> {
    /// Who they are at that time; with what they belong to if somebody is named by that, or they by a role. Of
    /// teams and groups those that are named.
    pub(crate) fn new(
        link: &mut Link,
        agent: &'a Agent,
        at: i64,
        named: Option<&[Actor]>,
    ) -> Result<Self, Fault> {
        let identifiers = [&agent.client, &agent.user].into_iter().flatten().cloned().collect();
        let groups = agent.fhir_user.iter().cloned().collect();
        let mut caller = Self { agent, groups, works_for: None, identifiers, at, turns: BTreeSet::new() };
        if let Some(user) = &agent.fhir_user
            && (named.is_some() || is_role(user))
        {
            caller.belong(link, user, named.unwrap_or_default())?;
        }
        Ok(caller)
    }

    /// Adds what they are and belong to: their roles and these roles' organisations with those above them,
    /// and the teams and groups of which they or one of their roles is.
    fn belong(&mut self, link: &mut Link, user: &str, named: &[Actor]) -> Result<(), Fault> {
        let mut them = vec![user.to_owned()];
        let mut roles = Vec::new();
        if let Some(stored) = self.known(link, user)?.filter(|_| is_role(user)) {
            let person = target(draft::parse(&stored.body)?.get("practitioner"));
            roles.push(stored);
            if let Some(person) = person {
                self.known(link, &person)?;
                them.push(person);
            }
        }
        for person in them.iter().filter(|one| !is_role(one)) {
            roles.extend(of(link, ResourceType::PRACTITIONER_ROLE, ("practitioner", person), None)?);
        }
        let mut organizations = Vec::new();
        for stored in roles {
            let json = draft::parse(&stored.body)?;
            if json.get("active").and_then(Json::as_bool) != Some(false) && self.is_now(&json) {
                organizations.extend(target(json.get("organization")));
                them.push(format!("{}/{}", stored.kind, stored.id));
            }
        }
        self.works_for = organizations.iter().min().cloned();
        self.groups.extend(them.iter().cloned());
        let most = self.groups.len().saturating_add(MOST_ORGANIZATIONS);
        while let Some(organization) = organizations.pop().filter(|_| self.groups.len() < most) {
            if self.groups.insert(organization.clone())
                && let Some(stored) = alive(link, &organization)?
            {
                organizations.extend(target(draft::parse(&stored.body)?.get("partOf")));
            }
        }
        for (kind, code) in [(ResourceType::CARE_TEAM, "participant"), (ResourceType::GROUP, "member")] {
            let is_it = |actor: &Actor| match actor {
                Actor::Resource(of, id) if *of == kind => Some(id.clone()),
                _ => None,
            };
            let ids: BTreeSet<String> = named.iter().filter_map(is_it).collect();
            for ids in Vec::from_iter(ids).chunks(TOGETHER) {
                for stored in of(link, kind, (code, &them.join(",")), Some(ids))? {
                    if self.is_in(&draft::parse(&stored.body)?, &them) {
                        self.groups.insert(format!("{kind}/{}", stored.id));
                    }
                }
            }
        }
        Ok(())
    }

    /// What they are, which says their numbers.
    fn known(&mut self, link: &mut Link, who: &str) -> Result<Option<Stored>, Fault> {
        let stored = alive(link, who)?;
        if let Some(stored) = &stored {
            let json = draft::parse(&stored.body)?;
            let values = json.list("identifier").iter().filter_map(|one| one.text("value"));
            self.identifiers.extend(values.map(str::to_owned));
        }
        Ok(stored)
    }

    /// Is one of them in the team or group?
    fn is_in(&mut self, json: &Json, them: &[String]) -> bool {
        let holds = matches!(json.text("status"), None | Some("active"))
            && json.get("active").and_then(Json::as_bool) != Some(false)
            && self.is_now(json);
        let mut takes_part = |one: &Json, who: &str| {
            let gone = one.get("inactive").and_then(Json::as_bool) == Some(true);
            target(one.get(who)).is_some_and(|one| them.contains(&one)) && !gone && self.is_now(one)
        };
        holds
            && (json.list("participant").iter().any(|one| takes_part(one, "member"))
                || json.list("member").iter().any(|one| takes_part(one, "entity")))
    }

    fn is_now(&mut self, what: &Json) -> bool {
        let span = what.get("period").map_or(Span::ALWAYS, Span::of_period);
        self.turns.extend([span.low, span.high.saturating_add(1)]);
        span.contains(self.at)
    }

    fn is(&self, actor: &Actor) -> bool {
        match actor {
            Actor::Resource(kind, id) => self.groups.contains(&format!("{kind}/{id}")),
            Actor::Identifier(value) => self.identifiers.contains(value),
            Actor::Other => false,
        }
    }

    pub(crate) fn is_named(&self, rule: &Rule) -> bool {
        rule.actors().into_iter().any(|actor| self.is(actor))
    }

    /// The patient that they are.
    pub(crate) fn own(&self) -> Option<&str> {
        self.agent.fhir_user.as_deref()?.strip_prefix("Patient/")
    }

    /// For what they ask, as far as their role says it.
    fn purpose(&self) -> Option<&str> {
        let by_role = match (&self.agent.user, self.agent.role.as_deref()) {
            (Some(_), None | Some("clinician")) => Some(TREATMENT),
            (Some(_), Some("data-scientist")) => Some(RESEARCH),
            _ => None,
        };
        // An emergency lets nobody change more than they could without it.
        self.agent.purpose.as_deref().filter(|_| !self.agent.breaks_glass()).or(by_role)
    }

    /// What of a patient's record the rule withholds from them.
    pub(crate) fn is_kept_from(&self, rule: &Rule) -> Option<Vec<Clause>> {
        rule.withheld(&Asker { at: self.at, purpose: self.purpose(), is: &|actor| self.is(actor) })
    }
}

fn is_role(who: &str) -> bool {
    who.starts_with("PractitionerRole/")
}

/// `Type/id` of what a reference leads to here, whatever version it names.
fn target(reference: Option<&Json>) -> Option<String> {
    match parse(reference?.text("reference")?, "") {
        Reference::Local { kind, id, .. } => Some(format!("{kind}/{id}")),
        _ => None,
    }
}

/// The current version of `Type/id`, if there is one.
fn alive(link: &mut Link, who: &str) -> Result<Option<Stored>, Fault> {
    let Reference::Local { kind, id, .. } = parse(who, "") else { return Ok(None) };
    Ok(row::current(link, kind, id)?.filter(|stored| !stored.deleted))
}

/// The resources of a type that name somebody by the parameter; of those with these ids, where some are given.
fn of(
    link: &mut Link,
    kind: ResourceType,
    (code, who): (&str, &str),
    ids: Option<&[String]>,
) -> Result<Vec<Stored>, Fault> {
    let pairs = [(code.to_owned(), who.to_owned())];
    // Who is no Practitioner has no such roles.
    let Ok((mut query, _)) = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict) else {
        return Ok(Vec::new());
    };
    query.clauses.extend(ids.map(|ids| Clause::new(Vec::new(), Test::Id(ids.to_vec()))));
    query.count = MOST_ROLES;
    Ok(find::page(link, &Sight::of(&Access::Whole), &query)?.entries)
}
