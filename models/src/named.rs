//! Plain named inputs, for callers that speak no FHIR.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};

use crate::assess::{Settings, answer};
use crate::assessment::{Assessment, InputIssue, InputValue, IssueKind};
use crate::bundle::Model;
use crate::catalogue::Catalogue;
use crate::gather::{Found, Gathered, Source, excerpt, gather, shown};
use crate::inputs::Input;
use crate::manifest::InputKind;

/// Inputs by the manifest's names: a number, `{"value": …, "unit": …}`, a boolean, a code, or null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedInputs(BTreeMap<String, Named>);

#[derive(Debug, Clone, PartialEq)]
enum Named {
    Number { number: f64, text: String, unit: Option<String> },
    Flag(bool),
    Code(String),
    Nothing,
}

impl NamedInputs {
    /// Reads a JSON object; nested objects without `value` become dotted names.
    ///
    /// # Errors
    /// An issue for each member that is no input value.
    pub fn from_json(inputs: &Json) -> Result<Self, Issues> {
        let mut all = BTreeMap::new();
        let mut issues = Issues::default();
        let Some(object) = inputs.as_object() else {
            return Err(Issue::error("structure", "the inputs are no JSON object").into());
        };
        for (name, value) in object.iter() {
            member(name, value, &mut all, &mut issues);
        }
        if issues.has_error() { Err(issues) } else { Ok(Self(all)) }
    }

    /// The names given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn member(name: &str, json: &Json, all: &mut BTreeMap<String, Named>, issues: &mut Issues) {
    let mut wrong = |what: &'static str| issues.0.push(Issue::error("value", what).at(name));
    let named = match json {
        Json::Null => Named::Nothing,
        Json::Bool(flag) => Named::Flag(*flag),
        Json::String(code) => Named::Code(code.to_string()),
        Json::Number(text) => match number(text) {
            Some(number) => Named::Number { number, text: text.to_string(), unit: None },
            None => return wrong("a number out of range"),
        },
        Json::Array(_) => return wrong("an array is no input"),
        Json::Object(object) if object.get("value").is_none() => {
            for (key, value) in object.iter() {
                member(&format!("{name}.{key}"), value, all, issues);
            }
            return;
        }
        Json::Object(object) => {
            if object.iter().any(|(key, _)| key != "value" && key != "unit") {
                return wrong("a quantity has a value and a unit, nothing else");
            }
            let unit = match object.get("unit") {
                None | Some(Json::Null) => None,
                Some(Json::String(unit)) => Some(unit.to_string()),
                Some(_) => return wrong("the unit is no string"),
            };
            match object.get("value") {
                Some(Json::Number(text)) => match number(text) {
                    Some(number) => Named::Number { number, text: text.to_string(), unit },
                    None => return wrong("a number out of range"),
                },
                Some(Json::Null) => Named::Nothing,
                _ => return wrong("the value is no number"),
            }
        }
    };
    all.insert(name.to_owned(), named);
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|x| x.is_finite())
}

/// Nobody is known to have become older than 122 (J. Calment).
const OLDEST: f64 = 122.0;

/// One caller's named inputs.
struct Sheet<'a> {
    inputs: &'a NamedInputs,
    settings: &'a Settings,
    others: Vec<(&'a str, &'a Assessment)>,
    strict: bool,
}

impl Source for Sheet<'_> {
    fn find(&self, input: &Input, _: &mut Vec<InputIssue>) -> Found {
        let nothing = |kind, details: String| Found::Nothing(Box::new(input.issue(kind, details)));
        match self.inputs.0.get(input.spec.name.as_ref()) {
            Some(Named::Nothing) | None => {}
            Some(named) => {
                return match self.read(input, named) {
                    Ok(picked) => Found::Value(picked),
                    Err(issue) => Found::Refused(issue),
                };
            }
        }
        if let Some(source) = &input.spec.model
            && let Some((_, other)) = self.others.iter().find(|(id, _)| *id == source.id)
        {
            return input.derived(source, other, self.strict);
        }
        if let Some((name, value)) =
            input.spec.setting.as_ref().and_then(|s| Some((s, self.settings.0.get(s)?)))
        {
            return input.by_setting(name, value);
        }
        nothing(IssueKind::Missing, format!("{} is not given", input.spec.name))
    }

    fn age(&self) -> Option<f64> {
        match self.inputs.0.get("age") {
            Some(Named::Number { number, .. }) => Some(*number),
            _ => None,
        }
    }

    fn excluded(&self, _: &Model) -> Vec<InputIssue> {
        Vec::new()
    }

    fn strict(&self) -> bool {
        self.strict
    }
}

impl Sheet<'_> {
    fn read(&self, input: &Input, named: &Named) -> Result<Box<crate::gather::Picked>, Box<InputIssue>> {
        let name = &input.spec.name;
        let no = |what: String| Err(Box::new(input.issue(IssueKind::Value, what)));
        match (input.spec.kind, named) {
            (InputKind::Boolean, Named::Flag(yes)) => Ok(input.flag(*yes)),
            (InputKind::Boolean, _) => no(format!("{name} is true or false")),
            (InputKind::Code | InputKind::Sex, Named::Code(code)) => match input.code_index(code) {
                Some((number, code)) => Ok(input.picked(number, InputValue::Code(code))),
                None => no(format!("{name} is no code the model knows: {}", excerpt(code))),
            },
            (InputKind::Code | InputKind::Sex, _) => no(format!("{name} is a code, a string")),
            (InputKind::Quantity | InputKind::Age, Named::Number { number, text, unit }) => {
                let Some(units) = &input.units else { return no(format!("{name} has no unit")) };
                let canonical = units.canonical();
                let trouble = |details, remedy| {
                    Err(Box::new(InputIssue { remedy, ..input.issue(IssueKind::Unit, details) }))
                };
                let value = match unit {
                    Some(unit) => match units.convert(*number, unit) {
                        Ok(value) => value,
                        Err(t) => {
                            let details =
                                format!("{name} of {}: {}", shown(*number, excerpt(unit)), t.details);
                            return trouble(details, t.remedy);
                        }
                    },
                    None if canonical.starts_with('{') || matches!(canonical.as_ref(), "1" | "a") => *number,
                    None => {
                        return trouble(
                            format!("{name} of {text} has no unit"),
                            format!(
                                "give {{\"value\": {text}, \"unit\": \"{canonical}\"}} or another UCUM unit"
                            ),
                        );
                    }
                };
                if input.spec.kind == InputKind::Age && !(0.0..=OLDEST).contains(&value) {
                    return no(format!("{name} of {text} is no age of a person in years"));
                }
                let mut picked = input.number(value, self.strict)?;
                let unit = unit.as_deref().unwrap_or_default();
                if picked.number.to_bits() != number.to_bits() || unit != canonical.as_ref() {
                    picked.used.original = Some((text.clone(), unit.to_owned()));
                }
                Ok(picked)
            }
            (InputKind::Quantity | InputKind::Age, _) => no(format!("{name} is a number with a unit")),
        }
    }
}

/// Named inputs of one or many patients, and how strictly they are taken.
struct Sheets<'a> {
    catalogue: Option<&'a Catalogue>,
    inputs: &'a [NamedInputs],
    as_of: DateTime<Utc>,
    settings: &'a Settings,
    strict: bool,
}

impl Sheets<'_> {
    fn run(&self, model: &Model, depth: u8) -> Vec<Assessment> {
        let mut others: Vec<(&str, Vec<Assessment>)> = Vec::new();
        if let (Some(catalogue), true) = (self.catalogue, depth < 4) {
            for source in model.inputs.iter().filter_map(|i| i.spec.model.as_ref()) {
                if let Some(other) = catalogue.get(&source.id) {
                    others.push((&source.id, self.run(other, depth + 1)));
                }
            }
        }
        let gathered: Vec<Gathered> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(row, inputs)| {
                let others = others.iter().filter_map(|(id, all)| Some((*id, all.get(row)?))).collect();
                let sheet = Sheet { inputs, settings: self.settings, others, strict: self.strict };
                let mut gathered = gather(model, &sheet);
                if depth == 0 {
                    gathered.issues.splice(0..0, self.unknown(model, inputs));
                }
                gathered
            })
            .collect();
        answer(model, gathered, self.inputs.iter().map(|_| (None, self.as_of)), self.strict)
    }

    /// A name the model does not know is more likely a typing error than superfluous.
    fn unknown(&self, model: &Model, inputs: &NamedInputs) -> Vec<InputIssue> {
        let others: Vec<&Arc<Model>> =
            self.catalogue.map(|c| model.needs().filter_map(|id| c.get(id)).collect()).unwrap_or_default();
        let knows = |model: &Model, name: &str| model.inputs.iter().any(|i| i.spec.name.as_ref() == name);
        let expected = |name: &str| {
            matches!(name, "age" | "sex") || knows(model, name) || others.iter().any(|m| knows(m, name))
        };
        let stray = inputs.names().filter(|name| !expected(name));
        let names: Vec<&str> = model.inputs.iter().map(|i| i.spec.name.as_ref()).collect();
        stray
            .map(|name| InputIssue {
                input: Arc::from(excerpt(name)),
                kind: IssueKind::UnknownInput,
                refuses: true,
                details: format!("{} is no input of the model", excerpt(name)),
                remedy: format!("the inputs are {}", names.join(", ")),
                reference: None,
                codes: Vec::new(),
            })
            .collect()
    }
}

/// The same path as from a record: ranges, population and units are checked.
pub fn assess_named(
    catalogue: &Catalogue,
    inputs: &[NamedInputs],
    model: &Model,
    as_of: DateTime<Utc>,
    settings: &Settings,
) -> Vec<Assessment> {
    Sheets { catalogue: Some(catalogue), inputs, as_of, settings, strict: true }.run(model, 0)
}

/// Outputs by key, reported or not, or what kept the model from a number.
pub type Computed = Result<BTreeMap<String, f64>, Vec<InputIssue>>;

/// Outputs by key without regard to validated ranges and populations: for verification, never for care.
pub fn compute_named(catalogue: &Catalogue, inputs: &[NamedInputs], model: &Model) -> Vec<Computed> {
    compute(Some(catalogue), inputs, model)
}

pub(crate) fn compute(catalogue: Option<&Catalogue>, inputs: &[NamedInputs], model: &Model) -> Vec<Computed> {
    let (as_of, settings) = (DateTime::UNIX_EPOCH, &Settings::default());
    let all = Sheets { catalogue, inputs, as_of, settings, strict: false }.run(model, 0);
    let one = |a: Assessment| match a.scored() {
        Some(scored) => Ok(scored.outputs.iter().map(|o| (o.spec.key.clone(), o.value)).collect()),
        None => Err(a.issues),
    };
    all.into_iter().map(one).collect()
}
