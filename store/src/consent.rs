//! Consents that deny: which there are, and what they withhold from whoever asks.
//!
//! Each look at the data is under the Consents that are in force in its own snapshot. They are kept in
//! memory, for they are few beside what they are about; a number in the database says whether these are
//! still the ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Text};
use fhir::consent::{Actor, Asker, Directive, Rule, is_in_force};
use fhir::json::Json;
use fhir::reference::{Reference, hash, parse};
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Handling, SearchQuery};
use fhir::time::Span;
use uuid::Uuid;

use crate::access::{Access, Patients, Sight, Withheld};
use crate::audit::{Agent, Who};
use crate::connection::Link;
use crate::context::Context;
use crate::draft;
use crate::error::{Error, Fault};
use crate::record::Stored;
use crate::sql::{Sql, chunks};
use crate::{find, row};

/// For the treatment of the patient: why somebody is at the keyboard, if nothing else is said.
const TREATMENT: &str = "TREAT";
/// To learn of it.
const RESEARCH: &str = "HRESCH";
/// Roles, teams and groups of one person that are looked at.
const MOST_ROLES: u32 = 200;

/// The Consents of one generation.
#[derive(Debug, Default)]
struct Denials {
    generation: i64,
    /// Each rule with all whose record it is about.
    all: Vec<(Rule, Patients)>,
    /// They name somebody by what they belong to, or by a number of theirs.
    of_many: bool,
}

/// What this process knows of them.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Arc<Denials>>);

/// Keeps account of versions that are written: those that were replaced, and the new ones.
pub(crate) fn keep(link: &mut Link, replaced: &[i64], written: &[&Stored]) -> Result<(), Fault> {
    let mut moved = 0;
    for replaced in chunks(replaced) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM denial WHERE key IN ");
        sql.ints(replaced.iter().copied());
        moved += sql.run(&mut link.connection)?;
    }
    for stored in written.iter().filter(|stored| !stored.deleted) {
        if Directive::parse(&draft::parse(&stored.body)?).map_err(Error::from)?.is_some() {
            let mut sql = Sql::new(link.dialect, "INSERT INTO denial (key) VALUES (");
            sql.int(stored.key).push(")");
            moved += sql.run(&mut link.connection)?;
        }
    }
    if moved > 0 {
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let mut sql = Sql::new(link.dialect, "UPDATE denial_state SET generation = ");
        sql.int(random.cast_signed());
        if sql.run(&mut link.connection)? != 1 {
            return Err(Fault::Database("denial_state has not one row".into()));
        }
    }
    Ok(())
}

/// What the one who asks sees in this snapshot; all that is granted, if they broke the glass.
pub(crate) fn sight(link: &mut Link, context: &Context) -> Result<Sight, Error> {
    if context.who.agent.breaks_glass() {
        return Ok(Sight::of(&context.access));
    }
    under(link, &context.access, &context.who, context.at)
}

/// What somebody may see, said one by one; to change what is withheld no glass can be broken.
pub(crate) fn under(link: &mut Link, access: &Access, who: &Who, at: i64) -> Result<Sight, Error> {
    if *access == Access::Whole {
        return Ok(Sight::of(access));
    }
    let denials = current(link)?;
    if denials.all.is_empty() {
        return Ok(Sight::of(access));
    }
    let caller = Caller::new(link, &who.agent, at, denials.of_many)?;
    let mut withheld = Vec::new();
    for (rule, patients) in &denials.all {
        let Some(what) = caller.is_kept_from(rule) else { continue };
        // Nobody is kept from their own record, unless they are named.
        let patients = match caller.own().filter(|own| patients.has(own) && !caller.is_named(rule)) {
            Some(own) => Patients::new(patients.iter().filter(|(id, _)| id != own).collect()),
            None => patients.clone(),
        };
        withheld.push(Withheld::new(what, patients));
    }
    Ok(Sight::under(access, withheld, who.agent.user.is_none()))
}

/// Who asks, as Consents look at it.
struct Caller<'a> {
    agent: &'a Agent,
    /// What they belong to.
    groups: HashSet<String>,
    /// Numbers by which they are known.
    identifiers: Vec<String>,
    at: i64,
}

impl<'a> Caller<'a> {
    fn new(link: &mut Link, agent: &'a Agent, at: i64, closely: bool) -> Result<Self, Fault> {
        let mut identifiers: Vec<String> =
            [&agent.client, &agent.user].into_iter().flatten().cloned().collect();
        let groups = if closely { groups(link, agent, at)? } else { HashSet::new() };
        let user = agent.fhir_user.as_deref().filter(|_| closely).map(|user| parse(user, ""));
        if let Some(Reference::Local { kind, id, .. }) = user
            && let Some(stored) = row::current(link, kind, id)?.filter(|stored| !stored.deleted)
        {
            let json = draft::parse(&stored.body)?;
            let values = json.list("identifier").iter().filter_map(|one| one.text("value"));
            identifiers.extend(values.map(str::to_owned));
        }
        Ok(Self { agent, groups, identifiers, at })
    }

    fn is(&self, actor: &Actor) -> bool {
        match actor {
            Actor::Resource(kind, id) => {
                let named = format!("{kind}/{id}");
                self.agent.fhir_user.as_deref() == Some(&named) || self.groups.contains(&named)
            }
            Actor::Identifier(value) => self.identifiers.contains(value),
            Actor::Other => false,
        }
    }

    fn is_named(&self, rule: &Rule) -> bool {
        rule.actors().into_iter().any(|actor| self.is(actor))
    }

    /// The patient that they are.
    fn own(&self) -> Option<&str> {
        self.agent.fhir_user.as_deref()?.strip_prefix("Patient/")
    }

    /// For what they ask, as far as their role says it.
    fn purpose(&self) -> Option<&str> {
        let by_role = match (&self.agent.user, self.agent.role.as_deref()) {
            (Some(_), None | Some("clinician")) => Some(TREATMENT),
            (Some(_), Some("data-scientist")) => Some(RESEARCH),
            _ => None,
        };
        self.agent.purpose.as_deref().or(by_role)
    }

    /// What of a patient's record the rule withholds from them.
    fn is_kept_from(&self, rule: &Rule) -> Option<Vec<Clause>> {
        rule.withheld(&Asker { at: self.at, purpose: self.purpose(), is: &|actor| self.is(actor) })
    }
}

/// What a patient decided about somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Id and version of the Consent.
    pub consent: (String, i64),
    /// Something is withheld from them.
    pub withholds: bool,
}

/// What a patient decided about who asks, by each Consent in force; and the organisation they work for, if
/// one is known.
pub(crate) fn decisions(
    link: &mut Link,
    context: &Context,
    patient: &str,
) -> Result<(Vec<Decision>, Option<String>), Error> {
    let pairs = [("patient", format!("Patient/{patient}")), ("status", "active".to_owned())];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    let (mut query, _) = SearchQuery::parse(&[ResourceType::CONSENT], &pairs, "", 0, Handling::Strict)?;
    query.count = MOST_ROLES;
    let found = find::page(link, &Sight::of(&Access::Whole), &query)?.entries;
    let caller = Caller::new(link, &context.who.agent, context.at, !found.is_empty())?;
    let mut all = Vec::with_capacity(found.len());
    for stored in found {
        let json = draft::parse(&stored.body)?;
        if is_in_force(&json) {
            let directive = Directive::parse(&json).unwrap_or_default();
            let withholds = directive.is_some_and(|one| {
                let own = caller.own() == Some(&one.patient) && !caller.is_named(one.rule());
                !own && caller.is_kept_from(one.rule()).is_some()
            });
            all.push(Decision { consent: (stored.id, stored.version), withholds });
        }
    }
    let mut works_for: Vec<String> =
        caller.groups.into_iter().filter(|group| group.starts_with("Organization/")).collect();
    works_for.sort_unstable();
    Ok((all, works_for.into_iter().next()))
}

/// All Consents that deny, in this snapshot.
fn current(link: &mut Link) -> Result<Arc<Denials>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT generation FROM denial_state");
    let generation = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    let generation = generation.ok_or_else(|| Fault::Database("denial_state has no row".into()))?;
    let known = Arc::clone(&link.denials.0.lock().unwrap_or_else(PoisonError::into_inner));
    if known.generation == generation {
        return Ok(known);
    }
    let sql = Sql::new(link.dialect, "SELECT r.body FROM denial d JOIN resource r ON r.key = d.key");
    let mut rules: BTreeMap<String, (Rule, Vec<(String, i64)>)> = BTreeMap::new();
    for body in sql.rows::<Text, String>(&mut link.connection)? {
        let Some(directive) = Directive::parse(&draft::parse(&body)?).map_err(Error::from)? else { continue };
        let alike = rules.entry(format!("{:?}", directive.rule()));
        let (_, patients) = alike.or_insert_with(|| (directive.rule().clone(), Vec::new()));
        patients.push((directive.patient.clone(), hash(ResourceType::PATIENT, &directive.patient)));
    }
    let of_many = |actor: &Actor| match actor {
        Actor::Resource(kind, _) => is_many(*kind),
        Actor::Identifier(_) => true,
        Actor::Other => false,
    };
    let denials = Arc::new(Denials {
        generation,
        of_many: rules.values().any(|(rule, _)| rule.actors().into_iter().any(of_many)),
        all: rules.into_values().map(|(rule, patients)| (rule, Patients::new(patients))).collect(),
    });
    link.denials.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&denials);
    Ok(denials)
}

fn is_many(kind: ResourceType) -> bool {
    matches!(
        kind,
        ResourceType::PRACTITIONER_ROLE
            | ResourceType::ORGANIZATION
            | ResourceType::CARE_TEAM
            | ResourceType::GROUP
    )
}

/// What a person belongs to now: their roles and these roles' organisations, and the teams and groups of
/// which they or one of their roles is.
fn groups(link: &mut Link, agent: &Agent, at: i64) -> Result<HashSet<String>, Fault> {
    let Some(user) = &agent.fhir_user else { return Ok(HashSet::new()) };
    let mut groups = HashSet::new();
    for stored in of(link, ResourceType::PRACTITIONER_ROLE, "practitioner", user)? {
        let json = draft::parse(&stored.body)?;
        if json.get("active").and_then(Json::as_bool) != Some(false) && is_now(json.get("period"), at) {
            let organization = json.get("organization").and_then(|one| one.text("reference"));
            groups.extend(organization.map(str::to_owned));
            groups.insert(format!("{}/{}", stored.kind, stored.id));
        }
    }
    let is_role = |group: &&String| group.starts_with("PractitionerRole/");
    let them: Vec<String> = [user].into_iter().chain(groups.iter().filter(is_role)).cloned().collect();
    for (kind, code) in [(ResourceType::CARE_TEAM, "participant"), (ResourceType::GROUP, "member")] {
        for stored in of(link, kind, code, &them.join(","))? {
            let json = draft::parse(&stored.body)?;
            let is_them = |one: Option<&str>| one.is_some_and(|one| them.iter().any(|them| them == one));
            let takes_part = |one: &Json| {
                is_them(one.at(&["member", "reference"]).and_then(Json::as_str))
                    && is_now(one.get("period"), at)
            };
            let belongs = |one: &Json| {
                let gone = one.get("inactive").and_then(Json::as_bool) == Some(true);
                is_them(one.at(&["entity", "reference"]).and_then(Json::as_str))
                    && !gone
                    && is_now(one.get("period"), at)
            };
            let is_active = matches!(json.text("status"), None | Some("active"))
                && json.get("active").and_then(Json::as_bool) != Some(false)
                && is_now(json.get("period"), at);
            let in_it =
                json.list("participant").iter().any(takes_part) || json.list("member").iter().any(belongs);
            if is_active && in_it {
                groups.insert(format!("{kind}/{}", stored.id));
            }
        }
    }
    Ok(groups)
}

/// The resources of a type that name somebody by the parameter.
fn of(link: &mut Link, kind: ResourceType, code: &str, who: &str) -> Result<Vec<Stored>, Fault> {
    let pairs = [(code.to_owned(), who.to_owned())];
    // Who is no Practitioner has no such roles.
    let Ok((mut query, _)) = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict) else {
        return Ok(Vec::new());
    };
    query.count = MOST_ROLES;
    Ok(find::page(link, &Sight::of(&Access::Whole), &query)?.entries)
}

fn is_now(period: Option<&Json>, at: i64) -> bool {
    period.is_none_or(|period| Span::of_period(period).contains(at))
}
