//! Which of a record's values a model gets: the latest that counts, or the reason why none.

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::{DateTime, NaiveTime, Utc};

use crate::assess::Settings;
use crate::assessment::{Assessment, InputIssue, InputValue, IssueKind};
use crate::bundle::Model;
use crate::gather::{Found, Picked, Source, excerpt, shown};
use crate::inputs::{Input, Measured, Observed};
use crate::manifest::InputKind;
use crate::record::{Died, Doubt, Fact, FactKind, PatientRecord, Reading, Status, Unit, Value};
use crate::valueset::Sets;
use crate::vocabulary::CodeId;

/// A patient's record at a moment.
pub(crate) struct Chart<'a> {
    pub(crate) record: &'a PatientRecord,
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) settings: &'a Settings,
    /// What other models said of this patient, by id.
    pub(crate) others: Vec<(&'a str, &'a Assessment)>,
}

impl Source for Chart<'_> {
    fn find(&self, input: &Input, remarks: &mut Vec<InputIssue>) -> Found {
        match input.spec.kind {
            InputKind::Age => return self.age_input(input),
            InputKind::Sex => return self.sex_input(input),
            _ => {}
        }
        let mut nothing: Option<Box<InputIssue>> = None;
        let mut weigh = |issue: Box<InputIssue>| match &nothing {
            Some(before) if before.kind != IssueKind::Missing || issue.kind == IssueKind::Missing => {}
            _ => nothing = Some(issue),
        };
        if let Some(source) = &input.spec.model
            && let Some((_, other)) = self.others.iter().find(|(id, _)| *id == source.id)
        {
            match input.derived(source, other, self.strict()) {
                Found::Nothing(issue) => weigh(issue),
                Found::Value(derived) => return self.newer(input, derived, remarks),
                refused @ Found::Refused(_) => return refused,
            }
        }
        if let Some(observed) = &input.observed {
            match self.observation(input, observed, remarks) {
                Found::Nothing(issue) => weigh(issue),
                found => return found,
            }
        }
        for (sets, kind) in [(input.condition, FactKind::Condition), (input.medication, FactKind::Medication)]
        {
            if let Some(fact) = sets.and_then(|sets| self.fact(sets, kind, false)) {
                if let Some(doubt) = fact.doubt {
                    return Found::Refused(Box::new(self.by_doubt(input, fact, doubt)));
                }
                return Found::Value(self.by_fact(input, fact));
            }
        }
        if input.medication.is_some()
            && let Some(cited) = self.record.unknown_medicine()
        {
            let details = format!(
                "{} can't be told: of an active medicine it is not known what it is",
                input.spec.title
            );
            let issue = input.issue(IssueKind::Unresolved, details);
            let remedy =
                "send the Medication, or its ATC code or name in medicationCodeableConcept".to_owned();
            return Found::Nothing(Box::new(InputIssue {
                reference: Some(Arc::clone(cited)),
                remedy,
                ..issue
            }));
        }
        if let (Some(_), Some(cited)) = (input.condition, self.record.uncoded_condition()) {
            let details = format!(
                "a condition on record has no code of SNOMED CT or ICD-10; it was not looked at for {}",
                input.spec.title
            );
            let remark = input.remark(IssueKind::Quality, details);
            remarks.push(InputIssue { reference: Some(Arc::clone(cited)), ..remark });
        }
        if let Some(found) = self.by_country(input).or_else(|| self.by_setting(input)) {
            return found;
        }
        if let Some(issue) = nothing {
            return Found::Nothing(issue);
        }
        let kind = if input.spec.setting.is_some() { IssueKind::Setting } else { IssueKind::Missing };
        Found::Nothing(Box::new(input.issue(kind, format!("no {} on record", input.spec.title))))
    }

    fn age(&self) -> Option<f64> {
        match self.ages() {
            Some((young, old)) if young == old => Some(f64::from(young)),
            _ => None,
        }
    }

    fn excluded(&self, model: &Model) -> Vec<InputIssue> {
        let issue = |details: String, reference: Option<&Arc<str>>| InputIssue {
            input: Arc::from("population"),
            kind: IssueKind::Population,
            refuses: true,
            details,
            remedy: String::new(),
            reference: reference.cloned(),
            codes: Vec::new(),
        };
        let mut issues = Vec::new();
        if let Some(stranger) = &self.record.stranger {
            issues.push(issue(format!("the data are of more than one patient, also of {stranger}"), None));
        }
        if let Some(person) = &self.record.person {
            if let Some(why) = &person.unusable {
                issues.push(issue(why.clone(), Some(&person.reference)));
            }
            if person.inactive {
                let details = "the Patient is marked as not active: there may be another of the same person";
                let remark = issue(details.into(), Some(&person.reference));
                issues.push(InputIssue { refuses: false, ..remark });
            }
            let day = self.as_of.date_naive().and_time(NaiveTime::MIN).and_utc();
            match person.died {
                Some(Died::At(when)) if when < day => issues.push(issue(
                    format!("the patient died on {}", when.date_naive()),
                    Some(&person.reference),
                )),
                Some(Died::Sometime) => {
                    issues.push(issue("the patient has died".into(), Some(&person.reference)));
                }
                _ => {}
            }
        }
        for (exclusion, excluded) in model.manifest.population.exclude.iter().zip(&model.exclusions) {
            let sets = &excluded.sets;
            if let Some(observed) = &excluded.observed
                && let (Some(Candidate { reading, .. }), ..) = self.latest(observed)
                && reading.effective.is_some_and(|when| when >= observed.lookback.oldest(self.as_of))
                && matches!(&reading.value, Value::Coded { sets: said, .. } if said & sets != 0)
            {
                let details = format!("{}: the model is not for such patients", exclusion.title);
                issues.push(issue(details, self.record.cite(reading)));
                continue;
            }
            if let Some(fact) = self.fact(*sets, FactKind::Condition, exclusion.ever) {
                let details = match fact.doubt {
                    None => format!("{}: the model is not for such patients", exclusion.title),
                    Some(doubt) => format!(
                        "it can't be told whether this patient is excluded ({}): {}",
                        exclusion.title,
                        doubt.words()
                    ),
                };
                issues.push(issue(details, self.record.cite_fact(fact)));
            }
        }
        issues
    }
}

/// What was seen on the way and not taken.
#[derive(Default)]
struct PassedOver<'r> {
    future: Option<&'r Reading>,
    excluded: Option<(&'r Reading, &'static str)>,
    undated: Option<&'r Reading>,
    absent: Option<(&'r Reading, Option<&'r str>)>,
}

/// A candidate: its reading, the place of its code in the list.
struct Candidate<'r> {
    reading: &'r Reading,
    priority: usize,
    /// Another of its code and moment has another value …
    tied: bool,
    /// … and stands in the very same Observation.
    torn: bool,
}

/// Nobody is known to have become older than 122 (J. Calment): more is a slip in the date.
const OLDEST: u32 = 122;

impl Chart<'_> {
    fn ages(&self) -> Option<(u32, u32)> {
        self.record.person.as_ref()?.birth?.age(self.as_of.date_naive())
    }

    fn age_input(&self, input: &Input) -> Found {
        let nothing = |kind, details: &str| Found::Refused(Box::new(input.issue(kind, details.into())));
        match (self.ages(), &self.record.person) {
            (Some((young, _)), _) if young > OLDEST => nothing(
                IssueKind::Value,
                &format!("the date of birth gives an age of {young}, which nobody reached"),
            ),
            (Some((young, old)), Some(person)) if young == old => {
                let mut picked = input.picked(f64::from(young), InputValue::Number(f64::from(young)));
                picked.used.references.push(Arc::clone(&person.reference));
                Found::Value(picked)
            }
            (Some((young, old)), _) => {
                nothing(IssueKind::Value, &format!("the date of birth leaves the age open: {young} or {old}"))
            }
            (None, Some(person)) if person.birth.is_some() => {
                nothing(IssueKind::Value, "the date of birth lies after the moment asked for")
            }
            _ => nothing(IssueKind::Missing, "no date of birth on record"),
        }
    }

    fn sex_input(&self, input: &Input) -> Found {
        let Some((person, sex)) = self.record.person.as_ref().and_then(|p| Some((p, p.sex.as_ref()?))) else {
            return Found::Refused(Box::new(input.issue(IssueKind::Missing, "no gender on record".into())));
        };
        match input.code_index(sex) {
            Some((number, code)) => {
                let mut picked = input.picked(number, InputValue::Code(code));
                picked.used.references.push(Arc::clone(&person.reference));
                Found::Value(picked)
            }
            None => Found::Refused(Box::new(input.issue(
                IssueKind::Value,
                format!("sex is recorded as {}; the equation knows male and female only", excerpt(sex)),
            ))),
        }
    }

    fn by_setting(&self, input: &Input) -> Option<Found> {
        let setting = input.spec.setting.as_ref()?;
        let value = self.settings.0.get(setting)?;
        Some(input.by_setting(setting, value))
    }

    /// A fact that holds at the moment asked for: one that is understood, and of these the oldest, so
    /// that the answer is stable.
    fn fact(&self, sets: Sets, kind: FactKind, ever: bool) -> Option<&Fact> {
        let holds = |fact: &&Fact| {
            let begun = fact.from.is_none_or(|from| from <= self.as_of);
            // An end on record says more than a status, which is of today.
            let over = match fact.until {
                Some(until) => until <= self.as_of,
                None => !fact.active,
            };
            fact.kind == kind && fact.sets & sets != 0 && begun && (ever || !over)
        };
        self.record.facts.iter().filter(holds).min_by_key(|fact| fact.doubt.is_some())
    }

    fn by_doubt(&self, input: &Input, fact: &Fact, doubt: Doubt) -> InputIssue {
        let details = format!("{} can't be told: {}", input.spec.title, doubt.words());
        let issue = input.issue(IssueKind::Unresolved, details);
        InputIssue { reference: self.record.cite_fact(fact).cloned(), ..issue }
    }

    fn by_fact(&self, input: &Input, fact: &Fact) -> Box<Picked> {
        let mut picked = input.flag(true);
        picked.used.references.extend(self.record.cite_fact(fact).cloned());
        picked.used.preliminary = fact.preliminary;
        picked
    }

    /// What another model makes of its inputs, or what is recorded under the best code if that is newer.
    fn newer(&self, input: &Input, derived: Box<Picked>, remarks: &mut Vec<InputIssue>) -> Found {
        let recorded = |observed: &&Observed| {
            let mut best = observed.codes.iter().filter(|(_, remark)| remark.is_none());
            best.any(|(code, _)| !self.record.of(*code).is_empty())
        };
        let Some(observed) = input.observed.as_ref().filter(recorded) else {
            return Found::Value(derived);
        };
        let mut said = Vec::new();
        let best = Observed {
            codes: observed.codes.iter().filter(|(_, remark)| remark.is_none()).cloned().collect(),
            ..observed.clone()
        };
        match self.observation(input, &best, &mut said) {
            Found::Value(recorded) if recorded.used.effective > derived.used.effective => {
                remarks.append(&mut said);
                Found::Value(recorded)
            }
            _ => Found::Value(derived),
        }
    }

    fn observation(&self, input: &Input, observed: &Observed, remarks: &mut Vec<InputIssue>) -> Found {
        let (best, rivals, passed) = self.latest(observed);
        let cite = |issue: InputIssue, reading: &Reading| InputIssue {
            reference: self.record.cite(reading).cloned(),
            ..issue
        };
        let title = &input.spec.title;
        if let Some(future) = passed.future {
            let details = format!("{title} dated after the moment asked for was not used");
            remarks.push(cite(input.remark(IssueKind::Future, details), future));
        }
        let Some(best) = best else {
            return Found::Nothing(Box::new(self.nothing(input, &passed)));
        };
        let reading = best.reading;
        let Some(when) = reading.effective else {
            return Found::Nothing(Box::new(self.nothing(input, &passed)));
        };
        if when < observed.lookback.oldest(self.as_of) {
            let mut issue = input.issue(
                IssueKind::Stale,
                format!(
                    "the latest record of {title} is of {}, older than {}",
                    on(when),
                    observed.lookback.words
                ),
            );
            issue.reference = self.record.cite(reading).cloned();
            return Found::Nothing(Box::new(issue));
        }
        if let Some((absent, reason)) = passed.absent
            && absent.effective > reading.effective
        {
            let details =
                format!("a later {title} has no value ({}); the one before was used", words(reason));
            remarks.push(cite(input.remark(IssueKind::AbsentReason, details), absent));
        }
        if best.torn {
            let details = format!("{title} is recorded twice in one Observation, with different values");
            return Found::Refused(Box::new(cite(input.issue(IssueKind::Conflict, details), reading)));
        }
        if best.tied {
            let details = format!(
                "{title} is recorded more than once for {} with different values; the last of them, by time of issue, of update and id, was used",
                on(when)
            );
            remarks.push(cite(input.remark(IssueKind::Conflict, details), reading));
        }
        if let Some((_, Some(remark))) = observed.codes.get(best.priority) {
            remarks.push(cite(input.remark(IssueKind::Quality, remark.to_string()), reading));
        }
        match self.read(input, observed, reading) {
            Ok(mut picked) => {
                for rival in rivals {
                    let differs = self
                        .read(input, observed, rival)
                        .is_ok_and(|r| r.number.to_bits() != picked.number.to_bits());
                    if differs {
                        let details = format!(
                            "{title} is also recorded under another code for {}, with another value",
                            on(when)
                        );
                        // Of two measurements the better code is taken; of yes and no, neither, unless
                        // one is known to say less.
                        let lesser = |code: CodeId| {
                            observed.codes.iter().any(|(one, remark)| *one == code && remark.is_some())
                        };
                        if input.spec.kind == InputKind::Boolean && !lesser(rival.code) {
                            let issue = input.issue(IssueKind::Conflict, details);
                            return Found::Refused(Box::new(cite(issue, rival)));
                        }
                        remarks.push(cite(input.remark(IssueKind::Conflict, details), rival));
                    }
                }
                picked.used.references.extend(self.record.cite(reading).cloned());
                picked.used.effective = Some(when);
                picked.used.preliminary = reading.status == Status::Preliminary;
                Found::Value(picked)
            }
            Err(issue) => Found::Refused(Box::new(cite(*issue, reading))),
        }
    }

    /// The latest reading that counts, over all codes: by clinical time, then by the place of the
    /// code, then by issue, then by update, then by name, so that the choice never depends on order.
    /// With it, what other codes have of the same moment.
    fn latest<'r>(
        &'r self,
        observed: &Observed,
    ) -> (Option<Candidate<'r>>, Vec<&'r Reading>, PassedOver<'r>) {
        let mut passed = PassedOver::default();
        let mut all: Vec<Candidate<'r>> = Vec::new();
        let rank = |c: &Candidate<'r>| {
            (
                c.reading.effective,
                Reverse(c.priority),
                c.reading.issued,
                c.reading.updated,
                self.record.source(c.reading),
            )
        };
        for (priority, (code, _)) in observed.codes.iter().enumerate() {
            let mut chosen: Option<Candidate<'r>> = None;
            for reading in self.record.of(*code).iter().rev() {
                if let Some(before) = &mut chosen {
                    // Sorted by time: the neighbour is the only one that can tie.
                    before.tied = reading.effective == before.reading.effective
                        && reading.counts()
                        && reading.value != before.reading.value;
                    let same = self.record.source(reading) == self.record.source(before.reading);
                    before.torn = before.tied && same;
                    break;
                }
                match (reading.status, reading.effective, &reading.value) {
                    (Status::Excluded(status), ..) => {
                        passed.excluded.get_or_insert((reading, status));
                    }
                    (_, None, _) => {
                        passed.undated.get_or_insert(reading);
                    }
                    (_, Some(when), _) if when > self.as_of => {
                        passed.future.get_or_insert(reading);
                    }
                    (_, _, Value::Absent(reason)) => {
                        if passed.absent.is_none_or(|(before, _)| before.effective < reading.effective) {
                            passed.absent = Some((reading, reason.as_deref()));
                        }
                    }
                    _ => chosen = Some(Candidate { reading, priority, tied: false, torn: false }),
                }
            }
            all.extend(chosen);
        }
        let Some(best) = (0..all.len()).max_by(|a, b| all.get(*a).map(rank).cmp(&all.get(*b).map(rank)))
        else {
            return (None, Vec::new(), passed);
        };
        let best = all.swap_remove(best);
        all.retain(|one| one.reading.effective == best.reading.effective);
        (Some(best), all.into_iter().map(|one| one.reading).collect(), passed)
    }

    /// Nothing usable: the most telling reason.
    fn nothing(&self, input: &Input, passed: &PassedOver<'_>) -> InputIssue {
        let title = &input.spec.title;
        let (kind, details, reading) = if let Some((reading, reason)) = passed.absent {
            (
                IssueKind::AbsentReason,
                format!("{title} is recorded without a value ({})", words(reason)),
                reading,
            )
        } else if let Some(reading) = passed.undated {
            (IssueKind::Undated, format!("{title} is recorded without a clinical time"), reading)
        } else if let Some((reading, status)) = passed.excluded {
            let details = format!("the only {title} on record has the status {status}");
            (IssueKind::Missing, details, reading)
        } else if let Some(reading) = passed.future {
            let details = format!("the only {title} on record is dated after the moment asked for");
            (IssueKind::Future, details, reading)
        } else {
            return input.issue(IssueKind::Missing, format!("no {title} on record"));
        };
        InputIssue { reference: self.record.cite(reading).cloned(), ..input.issue(kind, details) }
    }

    /// A reading in the input's own terms.
    fn read(
        &self,
        input: &Input,
        observed: &Observed,
        reading: &Reading,
    ) -> Result<Box<Picked>, Box<InputIssue>> {
        let title = &input.spec.title;
        let no = |kind, details: String| Err(Box::new(input.issue(kind, details)));
        match &reading.value {
            Value::Bound(text) => no(
                IssueKind::Comparator,
                format!("{title} is only known to be {text}: no number to calculate with"),
            ),
            Value::Other(what) => no(IssueKind::Value, format!("{title} is recorded as {what}")),
            Value::Absent(reason) => {
                no(IssueKind::AbsentReason, format!("{title} has no value ({})", words(reason.as_deref())))
            }
            Value::Flag(yes) if input.spec.kind == InputKind::Boolean => Ok(input.flag(*yes)),
            Value::Coded { sets, text } => match observed.coded {
                Some((yes, none)) if sets & yes != 0 && sets & none != 0 => no(
                    IssueKind::Conflict,
                    format!(
                        "{title} is recorded with codes that contradict each other (`{}`)",
                        excerpt(text)
                    ),
                ),
                Some((yes, _)) if sets & yes != 0 => Ok(input.flag(true)),
                Some((_, none)) if sets & none != 0 => Ok(input.flag(false)),
                _ => no(
                    IssueKind::Value,
                    format!("{title} is recorded as `{}`, which does not tell", excerpt(text)),
                ),
            },
            Value::Quantity { number, text, unit } => {
                self.quantity(input, observed, reading.code, *number, text, unit)
            }
            Value::Flag(_) => no(IssueKind::Value, format!("{title} is recorded as yes or no")),
        }
    }

    fn quantity(
        &self,
        input: &Input,
        observed: &Observed,
        code: CodeId,
        number: f64,
        text: &str,
        unit: &Unit,
    ) -> Result<Box<Picked>, Box<InputIssue>> {
        let flag = observed.measured.iter().find(|measured| measured.code == code);
        let Some(units) = flag.map(|measured| &measured.units).or(input.units.as_ref()) else {
            let details = format!("{} is recorded as a number", input.spec.title);
            return Err(Box::new(input.issue(IssueKind::Value, details)));
        };
        let trouble = |details: String, remedy: String| {
            Box::new(InputIssue { remedy, ..input.issue(IssueKind::Unit, details) })
        };
        let canonical = units.canonical();
        let value = match unit {
            Unit::Ucum(code, said) => {
                let value = units.convert(number, code).map_err(|t| {
                    trouble(
                        format!("{} of {}: {}", input.spec.title, shown(number, excerpt(code)), t.details),
                        t.remedy,
                    )
                })?;
                let read = said.as_ref().and_then(|said| Some((said, units.convert(number, said).ok()?)));
                if let Some((said, other)) = read
                    && (other - value).abs() > 1e-6 * value.abs()
                {
                    return Err(trouble(
                        format!(
                            "{} of {text}: the unit for people ({}) contradicts the code ({})",
                            input.spec.title,
                            excerpt(said),
                            excerpt(code)
                        ),
                        "record one unit, as code and as text".to_owned(),
                    ));
                }
                value
            }
            // A count or score may come without a unit; a measurement may not.
            Unit::Without if canonical.starts_with('{') || canonical.as_ref() == "1" => number,
            Unit::Without => {
                return Err(trouble(
                    format!("{} of {text} has no unit", input.spec.title),
                    format!("record it with a UCUM unit such as {}", units.accepted()),
                ));
            }
            Unit::Bare(words) => {
                let suggestion =
                    if units.convert(number, words).is_ok() { excerpt(words) } else { canonical };
                return Err(trouble(
                    format!("{} of {text} {}: the unit has no UCUM code", input.spec.title, excerpt(words)),
                    format!(
                        "record it with system http://unitsofmeasure.org and a code such as {suggestion}"
                    ),
                ));
            }
        };
        if let Some(Measured { formula, range, unit: measured, .. }) = flag {
            if !range.holds(value) {
                let details = format!(
                    "{} by a value of {} is outside {range} {measured}",
                    input.spec.title,
                    shown(value, measured)
                );
                return Err(Box::new(input.issue(IssueKind::OutOfRange, details)));
            }
            let mut picked = input.flag(formula.holds(&[value]));
            picked.used.original = Some((text.to_owned(), unit.text().to_owned()));
            return Ok(picked);
        }
        let mut picked = input.number(value, self.strict())?;
        if picked.number.to_bits() != number.to_bits() || unit.text() != canonical.as_ref() {
            picked.used.original = Some((text.to_owned(), unit.text().to_owned()));
        }
        Ok(picked)
    }
}

impl Doubt {
    fn words(self) -> &'static str {
        match self {
            Self::Qualified => {
                "what is on record has a modifierExtension or implicitRules that are not understood"
            }
            Self::Uncoded => "a condition on record sounds like it and has no code of SNOMED CT or ICD-10",
        }
    }
}

fn words(reason: Option<&str>) -> &str {
    reason.unwrap_or("no reason given")
}

fn on(when: DateTime<Utc>) -> String {
    when.format("%Y-%m-%d %H:%M UTC").to_string()
}
