//! What a caller may do, and the one place where that becomes part of what is asked.
//!
//! A right is a search filter, and so is what a patient withholds: [`Sight::narrow`] turns a query into one
//! that finds only what the caller may find, at every hop of it, and SQL is written of nothing else.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::scope::{May, Op};
use fhir::search::{Clause, ExactTest, Index, SearchQuery, Table, Test, compartment, index, parameter};

use crate::carried::CARRIERS;
use crate::draft;
use crate::error::Error;
use crate::joined::links;
use crate::record::Stored;
use crate::withheld::{Patients, Withheld, is_open};

/// What may be done with which resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of this type; none for all but AuditEvents, which have to be named.
    pub kind: Option<ResourceType>,
    /// What may be done.
    pub may: May,
    /// Only what lies in the compartment of the patient with this id; and, to be read, what belongs
    /// to no patient.
    pub within: Option<String>,
    /// What else must hold of the resource.
    pub only: Vec<Clause>,
}

/// All that a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything: a part of the program itself, or a server that is open to its own machine.
    Whole,
    /// What any of these allows.
    Granted(Arc<[Grant]>),
}

/// Types whose resources are of no patient: who has a patient's rights may read them.
const SHARED: [&str; 29] = [
    "ActivityDefinition",
    "CapabilityStatement",
    "CodeSystem",
    "CompartmentDefinition",
    "ConceptMap",
    "DeviceDefinition",
    "Endpoint",
    "GraphDefinition",
    "HealthcareService",
    "ImplementationGuide",
    "InsurancePlan",
    "Library",
    "Location",
    "Measure",
    "Medication",
    "MedicationKnowledge",
    "MessageDefinition",
    "NamingSystem",
    "OperationDefinition",
    "Organization",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Questionnaire",
    "SearchParameter",
    "StructureDefinition",
    "StructureMap",
    "Substance",
    "ValueSet",
];

static IS_SHARED: LazyLock<Vec<bool>> =
    LazyLock::new(|| ResourceType::all().map(|kind| SHARED.contains(&kind.name())).collect());

/// What is withheld in different ways at most, in one query over many charts: of those who withhold in ways
/// that are rarer, all is left out there.
const MOST_WAYS: usize = 64;

/// What a caller sees of one snapshot: what is granted, without what is withheld.
#[derive(Debug)]
pub(crate) struct Sight {
    access: Access,
    withheld: Vec<Withheld>,
    /// May change the decisions by which something is withheld from them.
    keeps_consents: bool,
    /// Sees what is withheld, in an emergency; but not by what it is found.
    through_glass: bool,
}

/// A query that finds only what its caller may find.
#[derive(Debug)]
pub(crate) struct Narrowed<'q>(Cow<'q, SearchQuery>);

impl Narrowed<'_> {
    pub(crate) fn query(&self) -> &SearchQuery {
        &self.0
    }

    /// The chart that all matches lie in, if the query says so.
    pub(crate) fn chart(&self) -> Option<i64> {
        chart(&self.0)
    }
}

/// The same of any query. Only for types whose `patient` is their one subject; and not for a patient
/// elsewhere, whose chart we do not keep.
fn chart(query: &SearchQuery) -> Option<i64> {
    let kind = query.kind()?;
    let owned = matches!(
        kind,
        ResourceType::OBSERVATION
            | ResourceType::RISK_ASSESSMENT
            | ResourceType::CONDITION
            | ResourceType::MEDICATION_REQUEST
            | ResourceType::MEDICATION_STATEMENT
    );
    let elsewhere =
        query.used.iter().any(|(name, value)| name.starts_with("patient") && value.contains("://"));
    if !owned || elsewhere {
        return None;
    }
    let params = &parameter(kind, "patient")?.params;
    query.clauses.iter().filter(|clause| !clause.negated && clause.params == *params).find_map(|clause| {
        match &clause.test {
            Test::Exact(any) => match any.as_slice() {
                [ExactTest { value: Some(value), system: None }] => Some(*value),
                _ => None,
            },
            _ => None,
        }
    })
}

fn nothing() -> Clause {
    Clause::new(Vec::new(), Test::Either(Vec::new()))
}

impl Grant {
    fn is_about(&self, op: Op, kind: ResourceType) -> bool {
        let named = match self.kind {
            Some(named) => named == kind,
            None => kind != ResourceType::AUDIT_EVENT,
        };
        named && self.may.allows(op)
    }

    /// What must hold of a resource of the type; none if it can't hold.
    fn conditions(&self, op: Op, kind: ResourceType) -> Option<Vec<Clause>> {
        let mut all = Vec::with_capacity(1 + self.only.len());
        if let Some(patient) = &self.within {
            match belonging(op, kind, patient) {
                Belonging::By(clause) => all.push(clause),
                Belonging::Nobody => {}
                Belonging::None => return None,
            }
        }
        all.extend(self.only.iter().cloned());
        Some(all)
    }
}

/// How resources of a type are of a patient.
enum Belonging {
    /// Those that this finds.
    By(Clause),
    /// They are nobody's, and everybody may read them.
    Nobody,
    /// None of them.
    None,
}

/// What is of a patient: less than the compartment
/// (<https://hl7.org/fhir/R4/compartmentdefinition-patient.html>), for what somebody did as a performer is
/// of the patient it was done to. Of Patients that one alone, of Devices also those that are nobody's.
fn belonging(op: Op, kind: ResourceType, patient: &str) -> Belonging {
    let reads = matches!(op, Op::Read | Op::Search);
    if kind == ResourceType::PATIENT {
        return Belonging::By(Clause::new(Vec::new(), Test::Id(vec![patient.to_owned()])));
    }
    let chart =
        ["patient", "subject"].iter().filter_map(|code| parameter(kind, code)).find(|one| one.indexed);
    let params = match chart {
        Some(parameter) => parameter.params.clone(),
        // Of a Group every other member could be read too.
        None if kind == ResourceType::GROUP => return Belonging::None,
        None => compartment(ResourceType::PATIENT, kind),
    };
    if params.is_empty() {
        let shared = IS_SHARED.get(usize::from(kind.index())).copied().unwrap_or_default();
        return if reads && shared { Belonging::Nobody } else { Belonging::None };
    }
    let value = Some(hash(ResourceType::PATIENT, patient));
    let own = Clause::new(params.clone(), Test::Exact(vec![ExactTest { value, system: None }]));
    if reads && kind == ResourceType::DEVICE {
        let nobody = !Clause::new(params, Test::Present(Table::Exact));
        return Belonging::By(Clause::new(Vec::new(), Test::Either(vec![own, nobody])));
    }
    Belonging::By(own)
}

impl Access {
    /// What must hold of a resource of the type for this to be done with it: all of these.
    ///
    /// # Errors
    /// `Denied` if it is done with none.
    fn conditions(&self, op: Op, kind: ResourceType) -> Result<Vec<Clause>, Error> {
        let Self::Granted(grants) = self else { return Ok(Vec::new()) };
        let about = grants.iter().filter(|grant| grant.is_about(op, kind));
        let mut any: Vec<Vec<Clause>> = Vec::new();
        for all in about.filter_map(|grant| grant.conditions(op, kind)) {
            if all.is_empty() {
                return Ok(all);
            }
            if !any.contains(&all) {
                any.push(all);
            }
        }
        let first = any.first().ok_or(Error::Denied(op, kind))?.clone();
        if any.len() == 1 {
            return Ok(first);
        }
        // What all of them ask first, the patient, is asked once: the database seeks by it.
        let common: Vec<Clause> =
            first.into_iter().take(1).filter(|one| any.iter().all(|all| all.first() == Some(one))).collect();
        let rest: Vec<Vec<Clause>> =
            any.into_iter().map(|all| all.into_iter().skip(common.len()).collect()).collect();
        if rest.iter().any(Vec::is_empty) {
            return Ok(common);
        }
        let either = Clause::new(Vec::new(), Test::Either(rest.into_iter().map(Clause::all).collect()));
        Ok(common.into_iter().chain([either]).collect())
    }

    /// Is this done with some resource of the type at all?
    ///
    /// # Errors
    /// `Denied` if not.
    pub fn permits(&self, op: Op, kind: ResourceType) -> Result<(), Error> {
        self.conditions(op, kind).map(drop)
    }

    /// May the version be shown to who wrote it? They know already what is in it.
    pub fn reveals(&self, stored: &Stored) -> bool {
        stored.deleted || self.covers(Op::Read, stored).unwrap_or_default()
    }

    /// Is this done with every resource of the type?
    pub fn is_whole(&self, op: Op, kind: ResourceType) -> bool {
        *self == Self::Whole || self.conditions(op, kind).is_ok_and(|all| all.is_empty())
    }

    /// May what has these index entries be written? Who has the rights of one patient writes about nobody
    /// else, and `relinks` no Patient: what is withheld of one record is withheld of those it is joined with.
    pub(crate) fn allows(&self, op: Op, id: &str, updated: i64, of: &Index, relinks: bool) -> bool {
        let Self::Granted(grants) = self else { return true };
        grants.iter().filter(|grant| grant.is_about(op, of.kind)).any(|grant| {
            let own =
                |patient: &String| !relinks && of.patients.split_ascii_whitespace().all(|one| one == patient);
            let holds = |all: Vec<Clause>| all.iter().all(|one| one.matches(of, id, updated));
            grant.within.as_ref().is_none_or(own) && grant.conditions(op, of.kind).is_some_and(holds)
        })
    }

    /// The same of a stored version, which must not be one that is deleted.
    fn covers(&self, op: Op, stored: &Stored) -> Result<bool, Error> {
        if *self == Self::Whole {
            return Ok(true);
        }
        let Ok(all) = self.conditions(op, stored.kind) else { return Ok(false) };
        if all.is_empty() {
            return Ok(true);
        }
        let of = index(stored.kind, &draft::parse(&stored.body)?);
        if matches!(op, Op::Update | Op::Delete) {
            let relinks = op == Op::Delete && !links(&of).is_empty();
            return Ok(self.allows(op, &stored.id, stored.updated, &of, relinks));
        }
        Ok(all.iter().all(|one| one.matches(&of, &stored.id, stored.updated)))
    }
}

impl Sight {
    /// Of who is kept from nothing that is granted.
    pub(crate) fn of(access: &Access) -> Self {
        Self { access: access.clone(), withheld: Vec::new(), keeps_consents: true, through_glass: false }
    }

    /// Of one from whom this is withheld; a program that keeps Consents has a right that names them.
    pub(crate) fn under(access: &Access, mut withheld: Vec<Withheld>, is_program: bool) -> Self {
        withheld.sort_by_key(|one| std::cmp::Reverse(one.breadth()));
        let named = |grant: &Grant| grant.kind == Some(ResourceType::CONSENT);
        let named = matches!(access, Access::Granted(grants) if grants.iter().any(named));
        let keeps_consents = is_program && named;
        Self { access: access.clone(), withheld, keeps_consents, through_glass: false }
    }

    /// The same, of who broke the glass.
    pub(crate) fn in_emergency(self) -> Self {
        Self { through_glass: true, ..self }
    }

    /// Is it of who broke the glass?
    pub(crate) fn is_through_glass(&self) -> bool {
        self.through_glass
    }

    /// Is something withheld, were it not for an emergency?
    pub(crate) fn is_bound(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// What is not seen.
    fn unseen(&self) -> &[Withheld] {
        if self.through_glass { &[] } else { &self.withheld }
    }

    /// What is granted.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// May they change the decisions by which something is withheld from them?
    pub(crate) fn keeps_consents(&self) -> bool {
        self.keeps_consents
    }

    /// Is there nothing that is not seen?
    pub(crate) fn is_unbound(&self) -> bool {
        self.access == Access::Whole && self.withheld.is_empty()
    }

    /// Is this done with every resource of the type?
    pub(crate) fn is_whole(&self, op: Op, kind: ResourceType) -> bool {
        self.access.is_whole(op, kind) && (self.unseen().is_empty() || is_open(kind))
    }

    /// May this be done with the stored version, which must not be one that is deleted?
    pub(crate) fn shows(&self, op: Op, stored: &Stored) -> Result<bool, Error> {
        Ok(self.access.covers(op, stored)? && !self.withholds(op, stored)?)
    }

    /// Could something be withheld of the type?
    pub(crate) fn is_partial(&self, kind: ResourceType) -> bool {
        !is_open(kind) && !self.unseen().is_empty()
    }

    /// Does one of these patients withhold anything?
    pub(crate) fn concerns(&self, patients: &str) -> bool {
        self.unseen().iter().any(|one| one.is_about(patients))
    }

    /// Does a patient withhold it?
    pub(crate) fn withholds(&self, op: Op, stored: &Stored) -> Result<bool, Error> {
        if !self.concerns(&stored.patient) {
            return Ok(false);
        }
        if is_open(stored.kind) {
            // Who is kept from a record does not end by what.
            return Ok(matches!(op, Op::Update | Op::Delete) && !self.keeps_consents);
        }
        let of = index(stored.kind, &draft::parse(&stored.body)?);
        Ok(self.withholds_of(&of, &stored.id, stored.updated))
    }

    /// The same of what has these index entries, to be read.
    pub(crate) fn withholds_of(&self, of: &Index, id: &str, updated: i64) -> bool {
        !is_open(of.kind) && self.unseen().iter().any(|one| one.is(of, id, updated))
    }

    /// [`Withheld::tells_apart`], by something that they can't change.
    pub(crate) fn tells_apart(&self, one: &Index, other: &Index) -> bool {
        !self.keeps_consents && self.withheld.iter().any(|withheld| withheld.tells_apart(one, other))
    }

    /// Must what is found of these types be looked into, one by one?
    pub(crate) fn screens(&self, kinds: &[ResourceType]) -> bool {
        !self.unseen().is_empty() && kinds.iter().any(|kind| CARRIERS.contains(kind))
    }

    /// What the query must leave out.
    fn left(of: &[Withheld], chart: Option<i64>, kinds: &[ResourceType]) -> Vec<Clause> {
        let mut left: Vec<Clause> = Vec::new();
        let mut rest: Vec<(String, i64)> = Vec::new();
        for withheld in of {
            let Some(one) = withheld.rest(chart, kinds) else { continue };
            if left.len() < MOST_WAYS {
                left.push(one);
            } else {
                rest.extend(withheld.patients().iter());
            }
        }
        if !rest.is_empty() {
            left.extend(Withheld::new(Vec::new(), Patients::new(rest)).rest(chart, kinds));
        }
        left
    }

    /// May this be done with a resource of the type whose subject is that patient, of which nothing else is
    /// known but that it is final? `Denied` where no right allows it; what is withheld is not there.
    pub(crate) fn permits_of(&self, op: Op, kind: ResourceType, patient: &str) -> Result<(), Error> {
        let body = format!(
            r#"{{"resourceType":"{kind}","status":"final","subject":{{"reference":"Patient/{patient}"}}}}"#
        );
        let stored = Stored {
            key: 0,
            kind,
            id: String::new(),
            version: 0,
            updated: 0,
            deleted: false,
            patient: patient.to_owned(),
            body,
        };
        let of = index(kind, &draft::parse(&stored.body)?);
        let allowed = self.access.allows(op, "", 0, &of, false);
        if !allowed || op != Op::Create && !self.access.covers(op, &stored)? {
            return Err(Error::Denied(op, kind));
        }
        if op != Op::Create && self.withholds(op, &stored)? {
            return Err(Error::NotFound);
        }
        Ok(())
    }

    /// The query that finds of what `query` finds only what may be found, by nothing but what may be
    /// found.
    ///
    /// # Errors
    /// `Denied` if that is nothing of any of its types.
    pub(crate) fn narrow<'q>(&self, query: &'q SearchQuery) -> Result<Narrowed<'q>, Error> {
        if self.is_unbound() {
            return Ok(Narrowed(Cow::Borrowed(query)));
        }
        let mut query = query.clone();
        self.narrow_hops(&mut query.clauses);
        let several = query.kinds.len() > 1;
        let (mut kinds, mut whole, mut any, mut denied) = (Vec::new(), Vec::new(), Vec::new(), None);
        for kind in query.kinds.drain(..) {
            match self.access.conditions(Op::Search, kind) {
                Err(error) => denied = denied.or(Some(error)),
                Ok(all) => {
                    kinds.push(kind);
                    if !several {
                        query.clauses.extend(all);
                    } else if all.is_empty() {
                        whole.push(kind);
                    } else {
                        let of = Clause::new(Vec::new(), Test::Kind(vec![kind]));
                        any.push(Clause::all([of].into_iter().chain(all).collect()));
                    }
                }
            }
        }
        if let Some(denied) = denied {
            if kinds.is_empty() {
                return Err(denied);
            }
            // What is asked may be of parameters of types that are no longer asked for.
            query.clauses.push(Clause::new(Vec::new(), Test::Kind(kinds.clone())));
        }
        if !any.is_empty() {
            if !whole.is_empty() {
                any.push(Clause::new(Vec::new(), Test::Kind(whole)));
            }
            query.clauses.push(Clause::new(Vec::new(), Test::Either(any)));
        }
        query.kinds = kinds;
        let chart = chart(&query);
        query.clauses.extend(Self::left(self.unseen(), chart, &query.kinds));
        Ok(Narrowed(Cow::Owned(query)))
    }

    /// What conditions say of other resources holds only of those that may be found, in an emergency too: nobody
    /// would be named of whom it was told.
    fn narrow_hops(&self, clauses: &mut [Clause]) {
        for of in clauses {
            let reached = match &mut of.test {
                Test::Chain(targets) => {
                    targets.retain_mut(|(kind, clauses)| self.reaches(*kind, clauses));
                    !targets.is_empty()
                }
                Test::Has(kind, clauses) => self.reaches(*kind, clauses),
                Test::Either(clauses) | Test::All(clauses) => {
                    self.narrow_hops(clauses);
                    true
                }
                _ => true,
            };
            if !reached {
                *of = nothing();
            }
        }
    }

    /// Narrows what is asked of resources of the type; not so if none of them may be found.
    fn reaches(&self, kind: ResourceType, clauses: &mut Vec<Clause>) -> bool {
        let Ok(all) = self.access.conditions(Op::Search, kind) else { return false };
        if self.is_bound() && CARRIERS.contains(&kind) {
            return false;
        }
        self.narrow_hops(clauses);
        clauses.extend(all);
        clauses.extend(Self::left(&self.withheld, None, &[kind]));
        true
    }
}
