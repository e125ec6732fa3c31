//! Consents that deny: which there are, and what they withhold from whoever asks.
//!
//! Each look at the data is under the Consents that are in force in its own snapshot. They are kept in
//! memory, for they are few beside what they are about; a number in the database says whether these are
//! still the ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Text};
use fhir::consent::{Actor, Asker, Directive, is_in_force};
use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Handling, SearchQuery};
use uuid::Uuid;

use crate::access::{Access, Sight, Withheld};
use crate::audit::{Agent, Who};
use crate::connection::Link;
use crate::context::Context;
use crate::draft;
use crate::error::{Error, Fault};
use crate::find;
use crate::record::Stored;
use crate::sql::{Sql, chunks};

/// For access in an emergency, v3 PurposeOfUse.
const BREAK_THE_GLASS: &str = "BTG";
/// For the treatment of the patient: why somebody is at the keyboard, if nothing else is said.
const TREATMENT: &str = "TREAT";
/// Roles, teams and groups of one person that are looked at.
const MOST_ROLES: u32 = 200;

/// The Consents of one generation.
#[derive(Debug, Default)]
struct Denials {
    generation: i64,
    all: Vec<Denial>,
    /// They name somebody by what they belong to.
    of_many: bool,
}

#[derive(Debug)]
struct Denial {
    directive: Directive,
    /// Hash of the patient.
    chart: i64,
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
        if Directive::parse(&draft::parse(&stored.body)?).is_some() {
            let mut sql = Sql::new(link.dialect, "INSERT INTO denial (key) VALUES (");
            sql.int(stored.key).push(")");
            moved += sql.run(&mut link.connection)?;
        }
    }
    if moved > 0 {
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let mut sql = Sql::new(link.dialect, "UPDATE denial_state SET generation = ");
        sql.int(random.cast_signed());
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// What the one who asks sees in this snapshot.
pub(crate) fn sight(link: &mut Link, context: &Context) -> Result<Sight, Error> {
    under(link, &context.access, &context.who, context.at)
}

/// The same, said one by one.
pub(crate) fn under(link: &mut Link, access: &Access, who: &Who, at: i64) -> Result<Sight, Error> {
    let in_emergency = who.agent.purpose.as_deref() == Some(BREAK_THE_GLASS);
    if *access == Access::Whole || in_emergency {
        return Ok(Sight::of(access));
    }
    let denials = current(link)?;
    if denials.all.is_empty() {
        return Ok(Sight::of(access));
    }
    let groups = if denials.of_many { groups(link, &who.agent)? } else { HashSet::new() };
    let caller = Caller { agent: &who.agent, groups, at };
    // What several patients withhold alike is one condition.
    let mut withheld: BTreeMap<String, Withheld> = BTreeMap::new();
    for Denial { directive, chart } in &denials.all {
        let Some(what) = caller.is_kept_from(directive) else { continue };
        let alike = withheld.entry(format!("{what:?}")).or_insert_with(|| Withheld::new(what));
        alike.add(directive.patient.clone(), *chart);
    }
    Ok(Sight::under(access, withheld.into_values().collect()))
}

/// Who asks, as Consents look at it.
struct Caller<'a> {
    agent: &'a Agent,
    /// What they belong to.
    groups: HashSet<String>,
    at: i64,
}

impl Caller<'_> {
    fn is(&self, actor: &Actor) -> bool {
        match actor {
            Actor::Resource(kind, id) => {
                let named = format!("{kind}/{id}");
                self.agent.fhir_user.as_deref() == Some(&named) || self.groups.contains(&named)
            }
            Actor::Identifier(value) => {
                [&self.agent.client, &self.agent.user].into_iter().flatten().any(|own| own == value)
            }
            Actor::Other => false,
        }
    }

    /// What of the patient's record is withheld from them.
    fn is_kept_from(&self, directive: &Directive) -> Option<Vec<Clause>> {
        // Nobody is kept from their own record, unless they are named.
        let own = self.agent.fhir_user.as_ref().and_then(|user| user.strip_prefix("Patient/"));
        if own == Some(&directive.patient) && !directive.actors().into_iter().any(|actor| self.is(actor)) {
            return None;
        }
        let purpose = self.agent.purpose.as_deref().or_else(|| self.agent.user.as_ref().map(|_| TREATMENT));
        directive.withheld(&Asker { at: self.at, purpose, is: &|actor| self.is(actor) })
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
    let groups = if found.is_empty() { HashSet::new() } else { groups(link, &context.who.agent)? };
    let caller = Caller { agent: &context.who.agent, groups, at: context.at };
    let mut all = Vec::with_capacity(found.len());
    for stored in found {
        let json = draft::parse(&stored.body)?;
        if is_in_force(&json) {
            let directive = Directive::parse(&json);
            let withholds = directive.is_some_and(|one| caller.is_kept_from(&one).is_some());
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
    let generation = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    let known = Arc::clone(&link.denials.0.lock().unwrap_or_else(PoisonError::into_inner));
    if known.generation == generation {
        return Ok(known);
    }
    let sql = Sql::new(link.dialect, "SELECT r.body FROM denial d JOIN resource r ON r.key = d.key");
    let mut denials = Denials { generation, ..Denials::default() };
    for body in sql.rows::<Text, String>(&mut link.connection)? {
        let Some(directive) = Directive::parse(&draft::parse(&body)?) else { continue };
        let of_many = |actor: &&Actor| match actor {
            Actor::Resource(kind, _) => is_many(*kind),
            _ => false,
        };
        denials.of_many |= directive.actors().iter().any(of_many);
        let chart = hash(ResourceType::PATIENT, &directive.patient);
        denials.all.push(Denial { directive, chart });
    }
    let denials = Arc::new(denials);
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

/// What a person belongs to: their roles and these roles' organisations, their teams and groups.
fn groups(link: &mut Link, agent: &Agent) -> Result<HashSet<String>, Fault> {
    let Some(user) = &agent.fhir_user else { return Ok(HashSet::new()) };
    let mut groups = HashSet::new();
    let wanted = [
        (ResourceType::PRACTITIONER_ROLE, "practitioner"),
        (ResourceType::CARE_TEAM, "participant"),
        (ResourceType::GROUP, "member"),
    ];
    for (kind, code) in wanted {
        let pairs = [(code.to_owned(), user.clone())];
        let query = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict);
        // Who is no Practitioner has no such roles.
        let Ok((mut query, _)) = query else { continue };
        query.count = MOST_ROLES;
        for stored in find::page(link, &Sight::of(&Access::Whole), &query)?.entries {
            let json = draft::parse(&stored.body)?;
            if json.get("active").and_then(fhir::json::Json::as_bool) == Some(false) {
                continue;
            }
            let organization = json.get("organization").and_then(|one| one.text("reference"));
            groups.extend(organization.map(str::to_owned));
            groups.insert(format!("{kind}/{}", stored.id));
        }
    }
    Ok(groups)
}
