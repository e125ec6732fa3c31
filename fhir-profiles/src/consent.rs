//! Consent: what of a patient's record is withheld from whom
//! (<https://hl7.org/fhir/R4/consent.html>).
//!
//! A rule is a search filter, like a scope: what it denies is said in [`Clause`]s. What of a rule that
//! denies is not understood is left out, so that it denies more; a rule that permits and is not
//! understood permits nothing.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::json::Json;
use crate::outcome::Issue;
use crate::reference::{self, Reference, hash_text};
use crate::resource_type::ResourceType;
use crate::search::{Clause, DateTest, ExactTest, Index, Prefix, Table, Test, parameter};
use crate::time::Span;

const ACTIVE: &str = "active";
/// Codes of consentscope for what decides something else than who may see a record.
const OTHER_SCOPES: [&str; 3] = ["research", "treatment", "adr"];
const PRIVACY: &str = "patient-privacy";
/// HL7's codes of v3 ActCode for a record that is not shared.
const OPT_OUT: [&str; 2] = ["OPTOUT", "OPTOUTE"];
/// What is done with a record that is read, and what else is done with one.
const READS: [&str; 3] = ["access", "use", "disclose"];
const OTHERS: [&str; 2] = ["collect", "correct"];
/// Classes that are types of resources.
const TYPES: &str = "http://hl7.org/fhir/resource-types";
/// Search parameters of labels, of what a resource is about in codes, and of when it was, of all types.
static LABELS: LazyLock<Vec<i64>> = LazyLock::new(|| params(&["_security"]));
static CODES: LazyLock<Vec<i64>> = LazyLock::new(|| params(&["code", "combo-code", "vaccine-code", "type"]));
static MEDICATIONS: LazyLock<Vec<i64>> = LazyLock::new(|| params(&["medication"]));
static DATES: LazyLock<Vec<i64>> = LazyLock::new(|| {
    params(&["date", "period", "onset-date", "recorded-date", "authoredon", "effective-time"])
});
/// How deep rules lie in rules.
const DEEPEST: usize = 8;
/// What a Consent names in all: it is compared with everybody who asks.
const MOST_NAMED: usize = 500;

/// Who a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person, an organisation, a team, a device.
    Resource(ResourceType, String),
    /// Whoever has this identifier: a client by its id.
    Identifier(String),
    /// Somebody who is not known here.
    Other,
}

/// Who asks, as rules look at it.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// When, microseconds since 1970 UTC.
    pub at: i64,
    /// For what (a code of v3 PurposeOfUse), if that is known.
    pub purpose: Option<&'a str>,
    /// Is this who asks, or one whom they belong to?
    pub is: &'a dyn Fn(&Actor) -> bool,
}

/// What a patient decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Id of the patient.
    pub patient: String,
    rule: Rule,
}

/// One provision, with those in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    denies: bool,
    period: Span,
    actors: Vec<Actor>,
    purposes: Vec<String>,
    /// It is about reading, not about changing alone.
    reads: bool,
    /// All of what it says is in it.
    understood: bool,
    /// Of data of that time.
    data_period: Option<Span>,
    /// All must hold of a resource.
    only: Vec<Clause>,
    exceptions: Vec<Rule>,
}

/// Does it decide who may see the patient's record? What says so in words alone, or in a code that is not
/// known, counts as if it did.
pub fn is_in_force(consent: &Json) -> bool {
    let is = |wanted: &[&str]| {
        consent.get("scope").is_some_and(|scope| codings(scope).any(|(_, code)| wanted.contains(&code)))
    };
    (is(&[PRIVACY]) || !is(&OTHER_SCOPES)) && consent.text("status") == Some(ACTIVE)
}

/// Is it short enough to be kept to?
///
/// # Errors
/// It names too much.
pub fn is_bounded(consent: &Json) -> Result<(), Issue> {
    if consent.get("provision").is_some_and(|provision| names(provision) > MOST_NAMED) {
        let why = format!("a Consent names {MOST_NAMED} actors, conditions and provisions at most");
        return Err(Issue::error("too-costly", why).at("Consent.provision"));
    }
    Ok(())
}

fn names(provision: &Json) -> usize {
    let lists = ["actor", "action", "securityLabel", "purpose", "class", "code", "data"];
    let said = lists.iter().flat_map(|list| provision.list(list));
    let said: usize = said.map(|one| one.list("coding").len().max(1)).sum();
    said + provision.list("provision").iter().map(|one| 1 + names(one)).sum::<usize>()
}

impl Directive {
    /// What a Consent says, if it is in force and denies anything to anybody. A rule without a type is the
    /// outermost: there HL7's opt-out denies, and everything else permits, as a policy that is in words alone is
    /// no denial by itself.
    ///
    /// # Errors
    /// It denies something, and does not say of whom in a way that is known here.
    pub fn parse(consent: &Json) -> Result<Option<Self>, Issue> {
        if !is_in_force(consent) {
            return Ok(None);
        }
        let out = consent
            .get("policyRule")
            .is_some_and(|rule| codings(rule).any(|(_, code)| OPT_OUT.contains(&code)));
        let rule = match consent.get("provision") {
            // What can't be followed denies all.
            Some(provision) => Rule::parse(provision, out, DEEPEST)
                .unwrap_or_else(|| Rule { denies: true, ..Rule::of_all() }),
            None => Rule { denies: out, ..Rule::of_all() },
        };
        if !rule.denies_anything() {
            return Ok(None);
        }
        let patient = consent.at(&["patient", "reference"]).and_then(Json::as_str).unwrap_or_default();
        let Reference::Local { kind: ResourceType::PATIENT, id, .. } = reference::parse(patient, "") else {
            let why = "a Consent in force that denies something is of a Patient of this server";
            return Err(Issue::error("business-rule", why).at("Consent.patient"));
        };
        Ok(Some(Self { patient: id.to_owned(), rule }))
    }

    /// What it says beside whose record it is about: of several patients it may be the same.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl Rule {
    /// All whom it names.
    pub fn actors(&self) -> Vec<&Actor> {
        let mut all = Vec::new();
        self.name_actors(&mut all);
        all
    }

    /// When it says something else than before.
    pub fn turns(&self) -> BTreeSet<i64> {
        let mut all = BTreeSet::new();
        self.turn(&mut all);
        all
    }

    fn turn(&self, all: &mut BTreeSet<i64>) {
        all.extend([self.period.low, self.period.high.saturating_add(1)]);
        self.exceptions.iter().for_each(|rule| rule.turn(all));
    }

    fn of_all() -> Self {
        Self {
            denies: false,
            period: Span::ALWAYS,
            actors: Vec::new(),
            purposes: Vec::new(),
            reads: true,
            understood: true,
            data_period: None,
            only: Vec::new(),
            exceptions: Vec::new(),
        }
    }

    /// None if rules lie too deep in each other.
    fn parse(provision: &Json, denies: bool, deepest: usize) -> Option<Self> {
        let denies = match provision.text("type") {
            Some("deny") => true,
            Some("permit") => false,
            _ => denies,
        };
        let mut rule = Self { denies, ..Self::of_all() };
        if let Some(period) = provision.get("period") {
            rule.period = Span::of_period(period);
        }
        rule.actors = provision.list("actor").iter().map(actor).collect();
        let purposes = provision.list("purpose");
        rule.purposes = codes(purposes);
        rule.understood = rule.purposes.len() == purposes.len();
        let actions: Vec<&str> =
            provision.list("action").iter().flat_map(codings).map(|(_, code)| code).collect();
        let told = !provision.list("action").iter().any(is_untold);
        let other = told && !actions.is_empty() && actions.iter().all(|action| OTHERS.contains(action));
        let named = actions.iter().any(|action| READS.contains(action));
        rule.reads = provision.list("action").is_empty() || named || denies && !other;
        rule.read_labels(provision.list("securityLabel"));
        rule.read_classes(provision.list("class"));
        rule.read_codes(provision.list("code"));
        rule.read_data(provision.list("data"));
        rule.data_period = provision.get("dataPeriod").map(Span::of_period);
        let deepest = deepest.checked_sub(1)?;
        for nested in provision.list("provision") {
            // What has no type is read as what takes away.
            rule.exceptions.push(Self::parse(nested, true, deepest)?);
        }
        Some(rule)
    }

    fn read_labels(&mut self, labels: &[Json]) {
        let any: Vec<ExactTest> = labels.iter().filter_map(coding).map(token).collect();
        self.must(labels.len() == any.len(), Clause::new(LABELS.clone(), Test::Exact(any)), labels);
    }

    fn read_classes(&mut self, classes: &[Json]) {
        let of_type = |class: &Json| {
            let (system, code) = coding(class)?;
            ResourceType::parse(code).filter(|_| system == Some(TYPES))
        };
        let kinds: Vec<ResourceType> = classes.iter().filter_map(of_type).collect();
        self.must(classes.len() == kinds.len(), Clause::new(Vec::new(), Test::Kind(kinds)), classes);
    }

    fn read_codes(&mut self, concepts: &[Json]) {
        let any: Vec<ExactTest> = concepts.iter().flat_map(codings).map(token).collect();
        self.must(!concepts.iter().any(is_untold), Clause::new(CODES.clone(), Test::Exact(any)), concepts);
    }

    fn read_data(&mut self, data: &[Json]) {
        let instance = |data: &Json| {
            let text = data.at(&["reference", "reference"]).and_then(Json::as_str)?;
            match reference::parse(text, "") {
                Reference::Local { kind, id, .. } if data.text("meaning") == Some("instance") => {
                    Some(Clause::all(vec![
                        Clause::new(Vec::new(), Test::Kind(vec![kind])),
                        Clause::new(Vec::new(), Test::Id(vec![id.to_owned()])),
                    ]))
                }
                _ => None,
            }
        };
        let any: Vec<Clause> = data.iter().filter_map(instance).collect();
        self.must(data.len() == any.len(), Clause::new(Vec::new(), Test::Either(any)), data);
    }

    /// Adds a condition that was read of `said`.
    fn must(&mut self, understood: bool, condition: Clause, said: &[Json]) {
        match (said.is_empty(), understood) {
            (true, _) => {}
            (false, true) => self.only.push(condition),
            (false, false) => self.understood = false,
        }
    }

    fn denies_anything(&self) -> bool {
        self.denies || self.exceptions.iter().any(Self::denies_anything)
    }

    fn name_actors<'r>(&'r self, all: &mut Vec<&'r Actor>) {
        all.extend(&self.actors);
        self.exceptions.iter().for_each(|rule| rule.name_actors(all));
    }

    /// Is it about who asks, now? What is not known counts as if it were, or as if it were not.
    fn is_about(&self, asker: &Asker<'_>, unknown: bool) -> bool {
        let is = |actor: &Actor| match actor {
            Actor::Other => unknown,
            actor => (asker.is)(actor),
        };
        let now = self.period.contains(asker.at);
        let who = self.actors.is_empty() || self.actors.iter().any(is);
        let purpose = self.purposes.is_empty()
            || asker.purpose.map_or(unknown, |purpose| self.purposes.iter().any(|one| one == purpose));
        if !self.understood {
            return unknown && now && who;
        }
        now && who && purpose
    }

    fn conditions(&self, timeless: bool) -> Vec<Clause> {
        let of_time = self.data_period.map(|span| about(span, timeless));
        self.only.iter().cloned().chain(of_time).collect()
    }

    /// What of the patient's record is withheld from who asks: what meets all of these, where none means
    /// all of it; none if nothing is.
    pub fn withheld(&self, asker: &Asker<'_>) -> Option<Vec<Clause>> {
        // A rule that permits only bounds those in it that deny: it must not lose them.
        if !self.is_about(asker, true) || self.denies && !self.reads {
            return None;
        }
        let mut all = self.conditions(true);
        if self.denies {
            let permitted = self.exceptions.iter().filter(|rule| !rule.denies);
            for permitted in permitted.filter_map(|rule| rule.permitted(asker)) {
                all.push(!Clause::all(permitted));
            }
            return Some(all);
        }
        let denied: Vec<Vec<Clause>> =
            self.exceptions.iter().filter_map(|rule| rule.withheld(asker)).collect();
        match denied.as_slice() {
            [] => return None,
            [one] => all.extend(one.iter().cloned()),
            _ => {
                let any = Test::Either(denied.into_iter().map(Clause::all).collect());
                all.push(Clause::new(Vec::new(), any));
            }
        }
        Some(all)
    }

    /// What a resource must meet so that this, which permits, lets it through.
    fn permitted(&self, asker: &Asker<'_>) -> Option<Vec<Clause>> {
        if !self.is_about(asker, false) || !self.reads {
            return None;
        }
        let mut all = self.conditions(false);
        for denied in self.exceptions.iter().filter_map(|rule| rule.withheld(asker)) {
            all.push(!Clause::all(denied));
        }
        Some(all)
    }
}

/// The same condition, of which a code may also be that of the Medication that a resource refers to.
pub fn by_medication(clause: &Clause) -> Clause {
    let each = |all: &[Clause]| all.iter().map(by_medication).collect();
    let test = match &clause.test {
        Test::Exact(_) if clause.params == *CODES => {
            let own = Clause::new(clause.params.clone(), clause.test.clone());
            let named = Test::Chain(vec![(ResourceType::MEDICATION, vec![own.clone()])]);
            Test::Either(vec![own, Clause::new(MEDICATIONS.clone(), named)])
        }
        Test::Either(all) => Test::Either(each(all)),
        Test::All(all) => Test::All(each(all)),
        _ => return clause.clone(),
    };
    Clause { negated: clause.negated, ..Clause::new(Vec::new(), test) }
}

/// Does the condition look for a code that one of these Medications has and the other has not?
pub fn tells_apart(clause: &Clause, one: &Index, other: &Index) -> bool {
    match &clause.test {
        Test::Exact(_) if clause.params == *CODES => {
            clause.matches(one, "", 0) != clause.matches(other, "", 0)
        }
        Test::Either(all) | Test::All(all) => all.iter().any(|clause| tells_apart(clause, one, other)),
        _ => false,
    }
}

/// What the parameters of these codes are in all types.
fn params(codes: &[&str]) -> Vec<i64> {
    let of = |kind: ResourceType| codes.iter().filter_map(move |code| parameter(kind, code));
    let mut all: Vec<i64> =
        ResourceType::all().flat_map(of).flat_map(|one| one.params.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Of data that lies in a time; or that meets it, or has no time at all.
fn about(span: Span, timeless: bool) -> Clause {
    let prefix = if timeless { Prefix::Ap } else { Prefix::Eq };
    let then = Clause::new(DATES.clone(), Test::Range(vec![DateTest { prefix, span }]));
    if !timeless {
        return then;
    }
    let timeless = !Clause::new(DATES.clone(), Test::Present(Table::Range));
    Clause::new(Vec::new(), Test::Either(vec![then, timeless]))
}

fn actor(actor: &Json) -> Actor {
    let Some(who) = actor.get("reference") else { return Actor::Other };
    match who.text("reference").map(|text| reference::parse(text, "")) {
        Some(Reference::Local { kind, id, .. }) => Actor::Resource(kind, id.to_owned()),
        Some(_) => Actor::Other,
        None => match who.at(&["identifier", "value"]).and_then(Json::as_str) {
            Some(value) => Actor::Identifier(value.to_owned()),
            None => Actor::Other,
        },
    }
}

fn coding<'j>(coding: &'j Json<'_>) -> Option<(Option<&'j str>, &'j str)> {
    Some((coding.text("system"), coding.text("code")?))
}

fn codings<'j>(concept: &'j Json<'_>) -> impl Iterator<Item = (Option<&'j str>, &'j str)> {
    concept.list("coding").iter().filter_map(coding)
}

/// Is it said in words alone?
fn is_untold(concept: &Json) -> bool {
    codings(concept).next().is_none()
}

fn codes(codings: &[Json]) -> Vec<String> {
    codings.iter().filter_map(coding).map(|(_, code)| code.to_owned()).collect()
}

fn token((system, code): (Option<&str>, &str)) -> ExactTest {
    ExactTest { value: Some(hash_text(code)), system: system.map(hash_text) }
}
