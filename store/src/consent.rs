//! Consents that deny: which there are, and what they withhold from whoever asks.
//!
//! Each look at the data is under the Consents that are in force in its own snapshot. They are kept in
//! memory, for they are few beside what they are about; a number in the database says whether these are
//! still the ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Text};
use fhir::consent::{Actor, Directive, Rule, is_bounded, is_in_force};
use fhir::outcome::Issue;
use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Handling, SearchQuery};
use uuid::Uuid;

use crate::access::{Access, Sight};
use crate::audit::Who;
use crate::connection::Link;
use crate::context::Context;
use crate::draft;
use crate::error::{Error, Fault};
use crate::find;
use crate::joined::Joined;
use crate::member::{Caller, MOST_ROLES, is_many};
use crate::record::Stored;
use crate::row;
use crate::sql::{Sql, chunks};
use crate::transaction;
use crate::withheld::{Patients, Withheld};

/// Moments at which what somebody belongs to begins or ends, where they write what decides that; and those of one rule.
const MOST_TURNS: usize = 100;

/// The rules that Consents are read by: a greater number where they say something else than before.
const RULES: i64 = 1;
/// Consents that are read again by one statement.
const TOGETHER: usize = 500;

/// The Consents of one generation.
#[derive(Debug, Default)]
struct Denials {
    generation: i64,
    /// Each rule with those who made it, and with all whose record it is about.
    all: Vec<(Rule, Vec<String>, Patients)>,
    /// Whom they name by what somebody belongs to, or by a number.
    named: Vec<Actor>,
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
        let json = draft::parse(&stored.body)?;
        if Directive::parse(&json).map_err(Error::from)?.is_some() {
            is_bounded(&json).map_err(|issue| Error::Unkept(issue.into()))?;
            moved += denies(link, stored.key)?;
        }
    }
    if moved > 0 {
        renew(link)?;
    }
    Ok(())
}

/// Reads stored Consents again, where that was done by earlier rules. What a newer program than this one read
/// stays as it is: it goes on by its own.
pub(crate) fn reread(link: &mut Link) -> Result<(), Fault> {
    let known = Sql::new(link.dialect, "SELECT rules FROM denial_state");
    if known.rows::<BigInt, i64>(&mut link.connection)?.iter().any(|rules| *rules >= RULES) {
        return Ok(());
    }
    transaction::within(link, |link| {
        // First: who writes Consents meanwhile waits for this row.
        renew(link)?;
        let mut sql = Sql::new(link.dialect, "UPDATE denial_state SET rules = ");
        sql.int(RULES).run(&mut link.connection)?;
        Sql::new(link.dialect, "DELETE FROM denial").run(&mut link.connection)?;
        let mut after = String::new();
        loop {
            let mut sql = Sql::new(link.dialect, "SELECT ");
            sql.push(row::COLUMNS).push(" FROM resource r WHERE r.kind = ");
            sql.int(i64::from(ResourceType::CONSENT.index())).push(" AND r.id > ").text(after.as_str());
            sql.push(" ORDER BY r.id").limit(TOGETHER);
            let found = row::load(link, &sql)?;
            let Some(last) = found.last() else { return Ok(()) };
            for stored in found.iter().filter(|stored| !stored.deleted) {
                match Directive::parse(&draft::parse(&stored.body)?) {
                    Ok(None) => {}
                    Ok(Some(_)) => denies(link, stored.key).map(drop)?,
                    Err(issue) => tracing::warn!(id = stored.id, ?issue, "a Consent that can't be kept to"),
                }
            }
            after.clone_from(&last.id);
        }
    })
}

fn denies(link: &mut Link, key: i64) -> Result<usize, Fault> {
    let mut sql = Sql::new(link.dialect, "INSERT INTO denial (key) VALUES (");
    sql.int(key).push(")");
    Ok(sql.run(&mut link.connection)?)
}

/// What is withheld of whom is no longer what it was.
pub(crate) fn renew(link: &mut Link) -> Result<(), Fault> {
    let (_, random) = Uuid::new_v4().as_u64_pair();
    let mut sql = Sql::new(link.dialect, "UPDATE denial_state SET generation = ");
    sql.int(random.cast_signed());
    if sql.run(&mut link.connection)? != 1 {
        return Err(Fault::Database("denial_state has not one row".into()));
    }
    Ok(())
}

/// What the one who asks sees in this snapshot.
pub(crate) fn sight(link: &mut Link, context: &Context) -> Result<Sight, Error> {
    let sight = under(link, &context.access, &context.who, context.at)?;
    Ok(if context.who.agent.breaks_glass() { sight.in_emergency() } else { sight })
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
    let named = Some(denials.named.as_slice()).filter(|named| !named.is_empty());
    let caller = Caller::new(link, &who.agent, at, named)?;
    let mut withheld = Vec::new();
    for (rule, _, patients) in &denials.all {
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
    let mut in_force = Vec::with_capacity(found.len());
    for stored in found {
        let json = draft::parse(&stored.body)?;
        if is_in_force(&json) {
            let directive = Directive::parse(&json).unwrap_or_default();
            in_force.push(((stored.id, stored.version), directive));
        }
    }
    let rules = in_force.iter().filter_map(|(_, directive)| directive.as_ref()).map(Directive::rule);
    let named: Vec<Actor> = rules.flat_map(Rule::actors).cloned().collect();
    let looked = (!in_force.is_empty()).then_some(named.as_slice());
    let caller = Caller::new(link, &context.who.agent, context.at, looked)?;
    let withholds = |one: &Directive| {
        let own = caller.own() == Some(&one.patient) && !caller.is_named(one.rule());
        !own && caller.is_kept_from(one.rule()).is_some()
    };
    let decision = |(consent, directive): ((String, i64), Option<Directive>)| Decision {
        consent,
        withholds: directive.as_ref().is_some_and(withholds),
    };
    let all = in_force.into_iter().map(decision).collect();
    Ok((all, caller.works_for))
}

/// What is withheld from somebody by what they belong to, and of whom by how records are joined, before they
/// write what decides that: of no rule may it become less by their own hand.
pub(crate) struct Standing {
    denials: Arc<Denials>,
    kept: Kept,
}

/// What each rule withholds from somebody, from each moment on at which they may be somebody else; and of each rule, at
/// each moment from which it says something else.
type Kept = BTreeMap<i64, Vec<Vec<Option<Vec<Clause>>>>>;

impl Standing {
    /// None of one from whom nothing is withheld.
    pub(crate) fn of(link: &mut Link, access: &Access, who: &Who, at: i64) -> Result<Option<Self>, Fault> {
        if *access == Access::Whole {
            return Ok(None);
        }
        let denials = current(link)?;
        let kept = kept(link, who, at, &denials)?;
        Ok(kept.values().flatten().flatten().any(Option::is_some).then_some(Self { denials, kept }))
    }

    /// # Errors
    /// Less would be withheld.
    pub(crate) fn must_hold(&self, link: &mut Link, who: &Who, at: i64, relinked: bool) -> Result<(), Fault> {
        let now = kept(link, who, at, &self.denials)?;
        let no_less = |(before, now): (&Option<Vec<Clause>>, &Option<Vec<Clause>>)| match (before, now) {
            (None, _) => true,
            (Some(_), None) => false,
            // The fewer conditions, the more is withheld.
            (Some(before), Some(now)) => now.iter().all(|one| before.contains(one)),
        };
        let stays = self.kept.keys().chain(now.keys()).all(|then| {
            let [before, now] = [&self.kept, &now].map(|all| all.range(..=then).next_back());
            before.zip(now).is_some_and(|((_, before), (_, now))| {
                before.iter().flatten().zip(now.iter().flatten()).all(no_less)
            })
        });
        if stays && (!relinked || self.are_joined(link, at)?) {
            return Ok(());
        }
        let why = "who is kept from a record can't change what they belong to, or what it is joined with, so \
                   that they are not";
        Err(Error::from(Issue::error("forbidden", why)).into())
    }

    /// Is what is withheld still withheld of all whose record it was?
    fn are_joined(&self, link: &mut Link, at: i64) -> Result<bool, Fault> {
        let now = self.kept.get(&at);
        let withheld = || {
            let kept = self.denials.all.iter().zip(now.into_iter().flatten());
            let kept = kept.filter(|(_, kept)| kept.iter().any(Option::is_some));
            kept.map(|((_, makers, patients), _)| (makers, patients))
        };
        let joined = Joined::of(link, withheld().flat_map(|(makers, _)| makers).cloned().collect())?;
        Ok(withheld().all(|(makers, patients)| {
            let now = joined.all(makers.clone());
            patients.iter().all(|(id, _)| now.contains(&id))
        }))
    }
}

/// What each rule withholds from somebody, now and from then on.
fn kept(link: &mut Link, who: &Who, at: i64, denials: &Denials) -> Result<Kept, Fault> {
    let (mut all, mut times) = (Kept::new(), BTreeSet::from([at]));
    let moments = |(rule, ..): &(Rule, Vec<String>, Patients)| -> Vec<i64> {
        let turns = rule.turns();
        let later = turns.range(at.saturating_add(1)..i64::MAX).take(MOST_TURNS);
        std::iter::once(at).chain(later.copied()).collect()
    };
    let moments: Vec<Vec<i64>> = denials.all.iter().map(moments).collect();
    while let Some(then) = times.pop_first() {
        if all.len() >= MOST_TURNS {
            let why = format!(
                "who belongs to what begins or ends at more than {MOST_TURNS} moments can't change it"
            );
            return Err(Error::from(Issue::error("forbidden", why)).into());
        }
        let mut caller = Caller::new(link, &who.agent, then, Some(&denials.named))?;
        times.extend(caller.turns.range(then.saturating_add(1)..i64::MAX));
        let mut withheld = |(rule, moments): (&Rule, &Vec<i64>)| -> Vec<Option<Vec<Clause>>> {
            let mut at = |moment: &i64| {
                caller.at = *moment;
                caller.is_kept_from(rule)
            };
            moments.iter().map(&mut at).collect()
        };
        let rules = denials.all.iter().map(|(rule, ..)| rule);
        all.insert(then, rules.zip(&moments).map(&mut withheld).collect());
    }
    Ok(all)
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
    let mut rules: BTreeMap<String, (Rule, Vec<String>)> = BTreeMap::new();
    for body in sql.rows::<Text, String>(&mut link.connection)? {
        let Some(directive) = Directive::parse(&draft::parse(&body)?).map_err(Error::from)? else { continue };
        let alike = rules.entry(format!("{:?}", directive.rule()));
        let (_, patients) = alike.or_insert_with(|| (directive.rule().clone(), Vec::new()));
        patients.push(directive.patient);
    }
    let joined = Joined::of(link, rules.values().flat_map(|(_, patients)| patients).cloned().collect())?;
    let with_joined = |patients: Vec<String>| {
        let all = joined.all(patients).into_iter();
        Patients::new(all.map(|id| (id.clone(), hash(ResourceType::PATIENT, &id))).collect())
    };
    let with_patients = |(rule, makers): (Rule, Vec<String>)| {
        let patients = with_joined(makers.clone());
        (rule, makers, patients)
    };
    let closely = |actor: &&Actor| match actor {
        Actor::Resource(kind, _) => is_many(*kind),
        Actor::Identifier(_) => true,
        Actor::Other => false,
    };
    let denials = Arc::new(Denials {
        generation,
        named: rules.values().flat_map(|(rule, _)| rule.actors()).filter(closely).cloned().collect(),
        all: rules.into_values().map(with_patients).collect(),
    });
    link.denials.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&denials);
    Ok(denials)
}
