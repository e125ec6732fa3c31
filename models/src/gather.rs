//! The inputs of one model for one patient, from whatever source, with what was used,
//! assumed and found wanting.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::assessment::{Assessment, Assumption, InputIssue, InputValue, IssueKind, UsedInput};
use crate::bundle::Model;
use crate::formula;
use crate::inputs::{Input, sexes};
use crate::manifest::{Absence, InputKind, ModelSource, Range};

/// A column that has no value.
const NOTHING: f64 = f64::NAN;

/// Where inputs come from.
pub(crate) trait Source {
    /// The value of one input, if there is one; remarks that stand in nobody's way are pushed.
    fn find(&self, input: &Input, remarks: &mut Vec<InputIssue>) -> Found;
    /// Age in years, where known.
    fn age(&self) -> Option<f64>;
    /// What keeps this patient out of the model's population, age apart.
    fn excluded(&self, model: &Model) -> Vec<InputIssue>;
    /// Are validated ranges and populations to be kept to?
    fn strict(&self) -> bool {
        true
    }
}

/// What a source has for an input.
#[derive(Debug)]
pub(crate) enum Found {
    Value(Box<Picked>),
    /// Nothing; the issue to raise if nothing else serves.
    Nothing(Box<InputIssue>),
    /// Something that must not be used, nor replaced by something else.
    Refused(Box<InputIssue>),
}

/// A value with its pedigree.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) number: f64,
    pub(crate) used: UsedInput,
}

/// A model's inputs for one patient.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// One number a column of the model; NaN where nothing is there.
    pub(crate) columns: Vec<f64>,
    pub(crate) used: Vec<UsedInput>,
    pub(crate) assumed: Vec<Assumption>,
    pub(crate) issues: Vec<InputIssue>,
    pub(crate) preliminary: bool,
    pub(crate) age: Option<f64>,
}

impl Gathered {
    pub(crate) fn refused(&self) -> bool {
        self.issues.iter().any(|issue| issue.refuses)
    }
}

impl Input {
    /// An issue about this input that stands in the way.
    pub(crate) fn issue(&self, kind: IssueKind, details: String) -> InputIssue {
        InputIssue {
            input: Arc::clone(&self.spec.name),
            kind,
            refuses: true,
            details,
            remedy: self.remedy(),
            reference: None,
            codes: self.spec.observation.as_ref().map(|o| o.codes.clone()).unwrap_or_default(),
        }
    }

    /// A remark about this input.
    pub(crate) fn remark(&self, kind: IssueKind, details: String) -> InputIssue {
        InputIssue { refuses: false, remedy: String::new(), ..self.issue(kind, details) }
    }

    fn remedy(&self) -> String {
        let title = &self.spec.title;
        let coded = self.spec.observation.as_ref().and_then(|o| o.codes.first());
        match (coded, &self.units) {
            (Some(code), Some(units)) => {
                format!("record {title} (LOINC {code}) in {}", units.accepted())
            }
            (Some(code), None) => format!("record {title} (LOINC {code})"),
            (None, _) => match (self.spec.kind, &self.spec.setting) {
                (InputKind::Age, _) => "record the date of birth".into(),
                (InputKind::Sex, _) => {
                    "record a gender of male or female, or the sex parameter for clinical use".into()
                }
                (_, Some(setting)) if self.spec.country.is_some() => {
                    format!("make the setting {setting}, or record the country of the patient's address")
                }
                (_, Some(setting)) => format!("make the setting {setting}"),
                _ => format!("give {title}"),
            },
        }
    }

    /// Bounds that belong to the equation.
    pub(crate) fn in_range(&self, number: f64) -> Result<(), Box<InputIssue>> {
        if !self.spec.points.is_empty() && !self.spec.points.contains(&number) {
            let allowed: Vec<String> = self.spec.points.iter().map(f64::to_string).collect();
            let details = format!("{} is one of {}", self.spec.title, allowed.join(", "));
            return Err(Box::new(self.issue(IssueKind::OutOfRange, details)));
        }
        let Some(range) = self.spec.range.filter(|range| !range.holds(number)) else { return Ok(()) };
        let unit = self.spec.unit.as_deref().unwrap_or_default();
        let mut issue = self.issue(
            IssueKind::OutOfRange,
            format!("{} of {} is outside {range} {unit}", self.spec.title, shown(number, unit)),
        );
        let suspected = self.units.as_ref().and_then(|u| u.plausible(number, |x| range.holds(x)));
        issue.remedy = match suspected {
            Some(other) => format!("check the unit: {} would be plausible", shown(number, other)),
            None => "the equation was not validated for this value; check it, or use another tool".into(),
        };
        Err(Box::new(issue))
    }

    pub(crate) fn code_index(&self, code: &str) -> Option<(f64, Arc<str>)> {
        let index = |codes: &[Arc<str>]| {
            let at = codes.iter().position(|c| c.as_ref() == code)?;
            Some((f64::from(u32::try_from(at).ok()?), Arc::clone(codes.get(at)?)))
        };
        if self.spec.kind == InputKind::Sex { index(&sexes()) } else { index(&self.spec.values) }
    }

    /// What the operator decided for all patients.
    pub(crate) fn by_setting(&self, setting: &str, value: &str) -> Found {
        match self.code_index(value) {
            Some((number, code)) => {
                let mut picked = self.picked(number, InputValue::Code(code));
                picked.used.setting = Some(Arc::from(setting));
                Found::Value(picked)
            }
            None => Found::Refused(Box::new(self.issue(
                IssueKind::Setting,
                format!("the setting {setting} is {value}, which the model does not know"),
            ))),
        }
    }

    /// A value without a pedigree yet.
    pub(crate) fn picked(&self, number: f64, value: InputValue) -> Box<Picked> {
        Box::new(Picked {
            number,
            used: UsedInput {
                name: Arc::clone(&self.spec.name),
                value,
                unit: self.units.as_ref().map(|u| Arc::clone(u.canonical())),
                original: None,
                references: Vec::new(),
                effective: None,
                derived_by: None,
                setting: None,
                preliminary: false,
            },
        })
    }

    pub(crate) fn flag(&self, yes: bool) -> Box<Picked> {
        self.picked(if yes { 1.0 } else { 0.0 }, InputValue::Flag(yes))
    }

    /// Range, declared rounding.
    pub(crate) fn number(&self, number: f64, strict: bool) -> Result<Box<Picked>, Box<InputIssue>> {
        if !number.is_finite() {
            return Err(Box::new(
                self.issue(IssueKind::Value, format!("{} is no finite number", self.spec.title)),
            ));
        }
        if strict {
            self.in_range(number)?;
        }
        let number = self.spec.decimals.map_or(number, |decimals| formula::round(number, decimals));
        Ok(self.picked(number, InputValue::Number(number)))
    }

    /// An output of another model, as this input.
    pub(crate) fn derived(&self, source: &ModelSource, other: &Assessment, strict: bool) -> Found {
        if let Some(output) =
            other.scored().and_then(|s| s.outputs.iter().find(|o| o.spec.key == source.output))
        {
            return match self.number(output.value, strict) {
                Ok(mut picked) => {
                    for used in &other.used {
                        let fresh = used.references.iter().filter(|r| !picked.used.references.contains(r));
                        let fresh: Vec<_> = fresh.cloned().collect();
                        picked.used.references.extend(fresh);
                    }
                    picked.used.effective = other.data_time();
                    picked.used.preliminary = other.scored().is_some_and(|s| s.preliminary);
                    picked.used.derived_by = Some(Arc::clone(&other.model));
                    Found::Value(picked)
                }
                Err(issue) => Found::Refused(issue),
            };
        }
        // Age, sex and population are the asking model's own affair; it says so itself.
        let own = |i: &&InputIssue| !matches!(i.input.as_ref(), "age" | "sex" | "population");
        let absent = |i: &InputIssue| {
            matches!(
                i.kind,
                IssueKind::Missing | IssueKind::Stale | IssueKind::AbsentReason | IssueKind::Undated
            )
        };
        let about = |i: &InputIssue| InputIssue {
            details: format!("no {} by {}: {}", self.spec.title, other.model.title, i.details),
            ..self.issue(i.kind, String::new())
        };
        let mut refusals = other.refusals().filter(own);
        if let Some(bad) = other.refusals().filter(own).find(|i| !absent(i)) {
            let mut issue = InputIssue { remedy: bad.remedy.clone(), ..about(bad) };
            issue.reference.clone_from(&bad.reference);
            issue.codes.clone_from(&bad.codes);
            return Found::Refused(Box::new(issue));
        }
        if let Some(missing) = refusals.next() {
            let mut issue = about(missing);
            issue.remedy = format!("{}; or {}", missing.remedy, issue.remedy);
            issue.codes = missing.codes.iter().chain(&issue.codes).cloned().collect();
            issue.reference.clone_from(&missing.reference);
            return Found::Nothing(Box::new(issue));
        }
        let why = other.refusals().next().map_or("none was reported", |i| i.details.as_str());
        let details = format!("no {} by {}: {why}", self.spec.title, other.model.title);
        Found::Nothing(Box::new(self.issue(IssueKind::Missing, details)))
    }
}

impl Range {
    /// Is the number inside?
    pub fn holds(&self, number: f64) -> bool {
        self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.below.is_none_or(|below| number < below)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max, self.below) {
            (Some(min), Some(max), _) => write!(f, "{min} to {max}"),
            (Some(min), None, Some(below)) => write!(f, "{min} to below {below}"),
            (Some(min), None, None) => write!(f, "at least {min}"),
            (None, Some(max), _) => write!(f, "at most {max}"),
            (None, None, Some(below)) => write!(f, "below {below}"),
            (None, None, None) => f.write_str("any"),
        }
    }
}

/// For people: no more decimals than anybody would read.
pub(crate) fn shown(number: f64, unit: &str) -> String {
    let short = formula::round(number, if number.abs() < 1.0 { 6 } else { 3 });
    format!("{short} {unit}").trim_end().to_owned()
}

/// Text from outside, short enough for a sentence.
pub(crate) fn excerpt(text: &str) -> &str {
    text.char_indices().nth(64).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// Everything a model needs of one patient.
pub(crate) fn gather(model: &Model, source: &impl Source) -> Gathered {
    let mut it = Gathered { columns: vec![NOTHING; model.inputs.len()], ..Gathered::default() };
    let mut findings: Vec<Option<Found>> = Vec::with_capacity(model.inputs.len());
    findings.resize_with(model.inputs.len(), || None);
    // Inputs that only stand in for others are looked at when they have to.
    for (at, input) in model.inputs.iter().enumerate().filter(|(at, _)| model.feeds(*at)) {
        let found = match source.find(input, &mut it.issues) {
            Found::Nothing(issue) => match &input.otherwise {
                Some(_) => otherwise(model, at, issue, source, &mut it.issues).0,
                None => Found::Nothing(issue),
            },
            Found::Value(direct) if input.otherwise.is_some() && direct.used.effective.is_some() => {
                newer(model, at, direct, source, &mut it.issues)
            }
            found => found,
        };
        if let (Some(slot), Some(column)) = (findings.get_mut(at), it.columns.get_mut(at)) {
            if let Found::Value(picked) = &found {
                *column = picked.number;
            }
            *slot = Some(found);
        }
    }
    for (at, found) in findings.into_iter().enumerate() {
        let (Some(found), Some(input)) = (found, model.inputs.get(at)) else { continue };
        match found {
            Found::Value(_) if source.strict() && replaced(input, &it.columns) => {
                let other = input.spec.unless.as_deref().unwrap_or_default();
                let details = format!("{} is given, and {other} as well: one of them", input.spec.name);
                it.issues.push(input.issue(IssueKind::Conflict, details));
            }
            Found::Value(picked) => {
                it.preliminary |= picked.used.preliminary;
                it.used.push(picked.used);
            }
            Found::Refused(issue) => it.issues.push(*issue),
            Found::Nothing(issue) => it.absent(at, input, *issue),
        }
    }
    it.age = source.age();
    if source.strict() {
        it.issues.extend(population(model, source));
    }
    // A refusal says first what stands in the way.
    it.issues.sort_by_key(|issue| !issue.refuses);
    it
}

impl Gathered {
    fn absent(&mut self, at: usize, input: &Input, issue: InputIssue) {
        match input.spec.absent {
            _ if replaced(input, &self.columns) => {}
            Absence::Refuse => self.issues.push(issue),
            // Silence is the rule for most of these; what was stale or withheld is worth a word.
            Absence::Missing if issue.kind == IssueKind::Missing => {}
            Absence::Missing => self.issues.push(InputIssue { refuses: false, ..issue }),
            // To take it as no would be a guess.
            Absence::AssumeFalse if issue.kind == IssueKind::Unresolved => self.issues.push(issue),
            // It was measured, and what came of it is not known any more.
            Absence::AssumeFalse
                if input.observed.is_some()
                    && !matches!(issue.kind, IssueKind::Missing | IssueKind::Future) =>
            {
                self.issues.push(issue);
            }
            Absence::AssumeFalse => {
                if let Some(column) = self.columns.get_mut(at) {
                    *column = 0.0;
                }
                if issue.kind != IssueKind::Missing {
                    self.issues.push(InputIssue { refuses: false, ..issue });
                }
                let reason = input.spec.assumption.clone();
                self.assumed.push(Assumption {
                    input: Arc::clone(&input.spec.name),
                    value: InputValue::Flag(false),
                    reason: reason.unwrap_or_else(|| {
                        Arc::from(format!("nothing recorded about {}; taken as no", input.spec.title))
                    }),
                });
            }
        }
    }
}

/// Is another input given that makes this one needless?
fn replaced(input: &Input, columns: &[f64]) -> bool {
    input.unless.and_then(|other| columns.get(other)).is_some_and(|other| !other.is_nan())
}

/// What is recorded, or what its formula makes of newer parts.
fn newer(
    model: &Model,
    at: usize,
    direct: Box<Picked>,
    source: &impl Source,
    remarks: &mut Vec<InputIssue>,
) -> Found {
    let Some(input) = model.inputs.get(at) else { return Found::Value(direct) };
    let mut said = Vec::new();
    let unused = Box::new(input.issue(IssueKind::Missing, String::new()));
    match otherwise(model, at, unused, source, &mut said) {
        (Found::Value(computed), newest) if newest > direct.used.effective => {
            remarks.append(&mut said);
            Found::Value(computed)
        }
        _ => Found::Value(direct),
    }
}

/// An input by its formula over other inputs, and when the newest of these was taken.
fn otherwise(
    model: &Model,
    at: usize,
    issue: Box<InputIssue>,
    source: &impl Source,
    remarks: &mut Vec<InputIssue>,
) -> (Found, Option<DateTime<Utc>>) {
    let Some((input, formula)) = model.inputs.get(at).and_then(|i| Some((i, i.otherwise.as_ref()?))) else {
        return (Found::Nothing(issue), None);
    };
    let mut columns = vec![NOTHING; model.inputs.len()];
    let mut parts = Vec::new();
    for needed in formula.columns() {
        let (Some(part), Some(column)) = (model.inputs.get(needed), columns.get_mut(needed)) else {
            return (Found::Nothing(issue), None);
        };
        match source.find(part, remarks) {
            Found::Value(picked) => {
                *column = picked.number;
                parts.push(picked.used);
            }
            // Nothing at all of the input itself, and only stale parts: the parts' trouble says more.
            Found::Nothing(part) if issue.kind == IssueKind::Missing && part.kind != IssueKind::Missing => {
                let details = format!("{}; {}", issue.details, part.details);
                let part = InputIssue { kind: part.kind, details, ..*issue };
                return (Found::Nothing(Box::new(part)), None);
            }
            Found::Nothing(_) => return (Found::Nothing(issue), None),
            Found::Refused(part) => {
                let input = Arc::clone(&issue.input);
                return (Found::Refused(Box::new(InputIssue { input, ..*part })), None);
            }
        }
    }
    let newest = parts.iter().filter_map(|p| p.effective).max();
    let found = match input.number(formula.value(&columns), source.strict()) {
        Ok(mut picked) => {
            picked.used.effective = parts.iter().filter_map(|p| p.effective).min();
            picked.used.preliminary = parts.iter().any(|p| p.preliminary);
            picked.used.references = parts.into_iter().flat_map(|p| p.references).collect();
            picked.used.references.dedup();
            Found::Value(picked)
        }
        Err(issue) => Found::Refused(issue),
    };
    (found, newest)
}

fn population(model: &Model, source: &impl Source) -> Vec<InputIssue> {
    let mut issues = source.excluded(model);
    let Some(range) = model.manifest.population.age else { return issues };
    let about = |refuses, details: String, remedy: &str| InputIssue {
        input: Arc::from("population"),
        kind: IssueKind::Population,
        refuses,
        details,
        remedy: remedy.to_owned(),
        reference: None,
        codes: Vec::new(),
    };
    match source.age() {
        Some(age) if range.holds(age.floor()) => {}
        Some(age) => issues.push(about(
            true,
            format!("age {}: the model is for ages of {range} years", age.floor()),
            "",
        )),
        // Where age is an input its absence has been told already.
        None if model.inputs.iter().any(|i| i.spec.kind == InputKind::Age) => {}
        None => issues.push(about(
            false,
            format!("age unknown; the model is for ages of {range} years"),
            "record the date of birth",
        )),
    }
    issues
}
