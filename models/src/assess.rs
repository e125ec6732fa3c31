//! Record → assessment.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::assessment::{Assessment, InputIssue, IssueKind, Outcome, Scored};
use crate::bundle::Model;
use crate::catalogue::Catalogue;
use crate::gather::{Gathered, gather};
use crate::record::PatientRecord;
use crate::score::{Row, score};
use crate::select::Chart;

/// What the operator decides for the models, by the names in the manifests, e.g. `kfre-region` = `NA`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

/// One patient, several models: one assessment each, in the order of `models`.
pub fn assess(
    catalogue: &Catalogue,
    record: &PatientRecord,
    models: &[&Model],
    as_of: DateTime<Utc>,
    settings: &Settings,
) -> Vec<Assessment> {
    assess_batch(catalogue, &[(record, as_of)], models, settings).pop().unwrap_or_default()
}

/// Many patients, each with the moment asked for: for each patient one assessment per model, in the
/// order of `models` (a model named twice counts once).
/// The numbers are bit-identical to asking for each patient alone.
pub fn assess_batch(
    catalogue: &Catalogue,
    patients: &[(&PatientRecord, DateTime<Utc>)],
    models: &[&Model],
    settings: &Settings,
) -> Vec<Vec<Assessment>> {
    let mut batch = Batch { catalogue, patients, settings, done: Vec::new() };
    let mut order = Vec::with_capacity(models.len());
    for model in models {
        let at = batch.run(model, 0);
        if !order.contains(&at) {
            order.push(at);
        }
    }
    let mut done: Vec<_> = batch.done.into_iter().map(|(_, found)| found.into_iter()).collect();
    let mut all = Vec::with_capacity(patients.len());
    for _ in patients {
        let next = |at: &usize| done.get_mut(*at).and_then(Iterator::next);
        all.push(order.iter().filter_map(next).collect());
    }
    all
}

struct Batch<'a> {
    catalogue: &'a Catalogue,
    patients: &'a [(&'a PatientRecord, DateTime<Utc>)],
    settings: &'a Settings,
    done: Vec<(&'a Model, Vec<Assessment>)>,
}

impl<'a> Batch<'a> {
    /// Where among `done` the model's assessments are.
    fn run<'m: 'a>(&mut self, model: &'m Model, depth: u8) -> usize {
        if let Some(at) = self.done.iter().position(|(m, _)| Arc::ptr_eq(&m.identity, &model.identity)) {
            return at;
        }
        let mut others = Vec::new();
        // The catalogue refuses circles; the bound is for one made by switching versions.
        if depth < 4 {
            for id in model.needs() {
                if let Some(other) = self.catalogue.get(id) {
                    others.push((id, self.run(other, depth + 1)));
                }
            }
        }
        let gathered: Vec<Gathered> = self
            .patients
            .iter()
            .enumerate()
            .map(|(row, (record, as_of))| {
                let of = |(id, at): &(&'m str, usize)| {
                    let (_, found) = self.done.get(*at)?;
                    Some((*id, found.get(row)?))
                };
                let others = others.iter().filter_map(of).collect();
                gather(model, &Chart { record, as_of: *as_of, settings: self.settings, others })
            })
            .collect();
        let subjects = self.patients.iter().map(|(record, as_of)| (record.patient.clone(), *as_of));
        let found = answer(model, gathered, subjects, true);
        self.done.push((model, found));
        self.done.len() - 1
    }
}

/// Scores those who can be scored, and words the answer for all.
pub(crate) fn answer(
    model: &Model,
    gathered: Vec<Gathered>,
    subjects: impl Iterator<Item = (Option<Arc<str>>, DateTime<Utc>)>,
    strict: bool,
) -> Vec<Assessment> {
    let ready: Vec<&[f64]> = gathered.iter().filter(|g| !g.refused()).map(|g| g.columns.as_slice()).collect();
    let mut rows = score(model, &ready).into_iter();
    gathered
        .into_iter()
        .zip(subjects)
        .map(|(gathered, (patient, as_of))| {
            let row = if gathered.refused() { None } else { rows.next() };
            one(model, gathered, row, patient, as_of, strict)
        })
        .collect()
}

fn one(
    model: &Model,
    gathered: Gathered,
    row: Option<Row>,
    patient: Option<Arc<str>>,
    as_of: DateTime<Utc>,
    strict: bool,
) -> Assessment {
    let Gathered { used, assumed, mut issues, preliminary, age, .. } = gathered;
    let mut outcome = Outcome::Refused;
    match row {
        None => {}
        Some(Err(trouble)) => issues.insert(0, whole(IssueKind::NotFinite, trouble)),
        Some(Ok(mut outputs)) => {
            outputs.retain(|output| {
                let spec = &output.spec;
                let outside = spec.age.zip(age).filter(|(range, age)| !range.holds(age.floor()));
                if let Some((range, age)) = outside.filter(|_| strict && spec.reported) {
                    let details = format!("{} is for ages {range} years, not {}", spec.title, age.floor());
                    let input = Arc::from(spec.key.as_str());
                    issues.push(InputIssue {
                        input,
                        refuses: false,
                        ..whole(IssueKind::Population, details)
                    });
                    return false;
                }
                spec.reported || !strict
            });
            if outputs.is_empty() {
                issues
                    .insert(0, whole(IssueKind::Population, "no output of the model is for this age".into()));
            } else {
                outcome = Outcome::Scored(Scored { outputs, preliminary });
            }
        }
    }
    Assessment { model: Arc::clone(&model.identity), patient, as_of, outcome, used, assumed, issues }
}

/// An issue about the model as a whole.
fn whole(kind: IssueKind, details: String) -> InputIssue {
    InputIssue {
        input: Arc::from("population"),
        kind,
        refuses: true,
        details,
        remedy: String::new(),
        reference: None,
        codes: Vec::new(),
    }
}
