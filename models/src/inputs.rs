//! The inputs of a manifest, compiled: codes to ids, units to conversions, text to formulas.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::formula::{Formula, Names};
use crate::manifest::{Exclusion, InputKind, InputSpec, Manifest, ObservationSource, Range};
use crate::moment::Lookback;
use crate::units::Units;
use crate::valueset::Sets;
use crate::vocabulary::{CodeId, Vocabulary};

/// One compiled input; its place in the list is its column.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) spec: InputSpec,
    pub(crate) units: Option<Units>,
    pub(crate) observed: Option<Observed>,
    pub(crate) condition: Option<Sets>,
    pub(crate) medication: Option<Sets>,
    pub(crate) otherwise: Option<Formula>,
    pub(crate) unless: Option<usize>,
}

/// A reason not to use the model on a patient, compiled.
#[derive(Debug)]
pub(crate) struct Excluded {
    pub(crate) sets: Sets,
    pub(crate) observed: Option<Observed>,
}

/// How it is read from Observations.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// Best first, with the remark an accepted but lesser code deserves.
    pub(crate) codes: Vec<(CodeId, Option<Arc<str>>)>,
    pub(crate) lookback: Lookback,
    /// Sets that mean yes and no.
    pub(crate) coded: Option<(Sets, Sets)>,
    pub(crate) measured: Arc<[Measured]>,
}

/// A yes or no read off a number.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) code: CodeId,
    pub(crate) unit: Arc<str>,
    pub(crate) units: Units,
    pub(crate) range: Range,
    pub(crate) formula: Formula,
}

/// The names formulas of a model may use: inputs, then variables.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) names: Vec<Arc<str>>,
    codes: Vec<Vec<Arc<str>>>,
}

impl Names for Columns {
    fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n.as_ref() == name)
    }

    fn code(&self, column: usize, code: &str) -> Option<f64> {
        let at = self.codes.get(column)?.iter().position(|c| c.as_ref() == code)?;
        u32::try_from(at).ok().map(f64::from)
    }
}

impl Columns {
    pub(crate) fn push(&mut self, name: &Arc<str>, codes: &[Arc<str>]) -> Result<(), String> {
        if self.names.contains(name) {
            return Err(format!("the name {name} is used twice"));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(word) {
            return Err(format!("{name} is no name"));
        }
        self.names.push(Arc::clone(name));
        self.codes.push(codes.to_vec());
        Ok(())
    }
}

struct OnlyValue;

impl Names for OnlyValue {
    fn column(&self, name: &str) -> Option<usize> {
        (name == "value").then_some(0)
    }

    fn code(&self, _: usize, _: &str) -> Option<f64> {
        None
    }
}

/// The codes of a sex input, in the order of their numbers in formulas.
pub(crate) fn sexes() -> [Arc<str>; 2] {
    [Arc::from("male"), Arc::from("female")]
}

pub(crate) fn compile(
    manifest: &Manifest,
    vocabulary: &mut Vocabulary,
) -> Result<(Vec<Input>, Columns), String> {
    let mut columns = Columns::default();
    for spec in &manifest.inputs {
        match spec.kind {
            InputKind::Sex => columns.push(&spec.name, &sexes())?,
            _ => columns.push(&spec.name, &spec.values)?,
        }
    }
    let mut inputs = Vec::with_capacity(manifest.inputs.len());
    for spec in &manifest.inputs {
        let input = one(spec, &columns, vocabulary).map_err(|e| format!("input {}: {e}", spec.name))?;
        inputs.push(input);
    }
    Ok((inputs, columns))
}

fn one(spec: &InputSpec, columns: &Columns, vocabulary: &mut Vocabulary) -> Result<Input, String> {
    let numeric = matches!(spec.kind, InputKind::Quantity | InputKind::Age);
    let units = match (&spec.unit, numeric) {
        (Some(unit), true) => {
            let none = ObservationSource::default();
            let source = spec.observation.as_ref().unwrap_or(&none);
            let units = Units::new(unit, &source.aliases, &source.conversions)?;
            units.check_aliases()?;
            Some(units)
        }
        (None, false) => None,
        (None, true) => return Err("a quantity needs a unit".into()),
        (Some(_), false) => return Err("only a quantity has a unit".into()),
    };
    if (spec.kind == InputKind::Code) == spec.values.is_empty() {
        return Err("a code input, and no other, lists its values".into());
    }
    let set = |name: &Option<String>| -> Result<Option<Sets>, String> {
        let Some(name) = name else { return Ok(None) };
        vocabulary.sets.bit(name).map(Some).ok_or_else(|| format!("no value set {name}"))
    };
    let (condition, medication) = (set(&spec.condition)?, set(&spec.medication)?);
    let observed = match &spec.observation {
        Some(source) => Some(observed(source, spec.kind, vocabulary)?),
        None => None,
    };
    Ok(Input {
        units,
        observed,
        condition,
        medication,
        otherwise: spec.otherwise.as_ref().map(|f| Formula::parse(f, columns)).transpose()?,
        unless: match &spec.unless {
            Some(other) => Some(columns.column(other).ok_or_else(|| format!("no input {other}"))?),
            None => None,
        },
        spec: spec.clone(),
    })
}

fn observed(
    source: &ObservationSource,
    kind: InputKind,
    vocabulary: &mut Vocabulary,
) -> Result<Observed, String> {
    let distinct: BTreeSet<_> = source.codes.iter().collect();
    if source.codes.is_empty() || distinct.len() != source.codes.len() {
        return Err("the codes are empty or repeat".into());
    }
    if let Some(stray) =
        source.remarked.keys().chain(source.measured.keys()).find(|c| !source.codes.contains(c))
    {
        return Err(format!("{stray} is not among the codes"));
    }
    let codes = source
        .codes
        .iter()
        .map(|code| Ok((vocabulary.intern(code)?, source.remarked.get(code).cloned())))
        .collect::<Result<Vec<_>, String>>()?;
    let answers = match &source.coded {
        Some(flag) => {
            let bit = |name: &String| vocabulary.sets.bit(name).ok_or_else(|| format!("no value set {name}"));
            Some((bit(&flag.yes)?, bit(&flag.no)?))
        }
        None => None,
    };
    let mut measured = Vec::new();
    for (code, flag) in &source.measured {
        let units = Units::new(&flag.unit, &source.aliases, &[])?;
        measured.push(Measured {
            code: vocabulary.intern(code)?,
            unit: Arc::clone(&flag.unit),
            units,
            range: flag.range,
            formula: Formula::parse(&flag.when, &OnlyValue)?,
        });
    }
    if kind == InputKind::Boolean && answers.is_none() && measured.is_empty() {
        return Err("a boolean needs `coded` or `measured` to be read from Observations".into());
    }
    Ok(Observed {
        codes,
        lookback: Lookback::parse(&source.lookback)
            .ok_or_else(|| format!("lookback {} is no duration", source.lookback))?,
        coded: answers,
        measured: measured.into(),
    })
}

/// Compiles an exclusion.
pub(crate) fn excluded(exclusion: &Exclusion, vocabulary: &mut Vocabulary) -> Result<Excluded, String> {
    let sets = vocabulary
        .sets
        .bit(&exclusion.valueset)
        .ok_or_else(|| format!("no value set {}", exclusion.valueset))?;
    let observed = match &exclusion.observation {
        None => None,
        Some(source) => Some(Observed {
            codes: source
                .codes
                .iter()
                .map(|code| Ok((vocabulary.intern(code)?, None)))
                .collect::<Result<Vec<_>, String>>()?,
            lookback: Lookback::parse(&source.lookback)
                .ok_or_else(|| format!("lookback {} is no duration", source.lookback))?,
            coded: None,
            measured: Arc::from([]),
        }),
    };
    Ok(Excluded { sets, observed })
}
