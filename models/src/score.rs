//! Gathered inputs → outputs with their contributions, many patients in one tensor pass.

use std::sync::Arc;

use crate::assessment::{Contribution, Output};
use crate::bundle::Model;
use crate::formula::{Table, round};
use crate::graph::Scores;
use crate::manifest::{OutputKind, OutputSpec};

/// The values of formulas' columns, a row a patient.
struct Columns {
    rows: usize,
    columns: Vec<Vec<f64>>,
}

impl Table for Columns {
    fn rows(&self) -> usize {
        self.rows
    }

    fn column(&self, at: usize) -> Option<&[f64]> {
        self.columns.get(at).map(Vec::as_slice)
    }
}

/// One patient's numbers in the manifest's order, or why there are none.
pub(crate) type Row = Result<Vec<Output>, String>;

/// `inputs` are one slice of input columns a patient.
pub(crate) fn score(model: &Model, inputs: &[&[f64]]) -> Vec<Row> {
    inputs.chunks(model.graph.chunk()).flat_map(|rows| chunk(model, rows)).collect()
}

fn chunk(model: &Model, rows: &[&[f64]]) -> Vec<Row> {
    let mut table = Columns { rows: rows.len(), columns: Vec::with_capacity(model.columns.names.len()) };
    for at in 0..model.inputs.len() {
        table.columns.push(rows.iter().map(|row| row.get(at).copied().unwrap_or(f64::NAN)).collect());
    }
    for variable in &model.variables {
        let values = variable.values(&table);
        table.columns.push(values);
    }
    let mut troubles: Vec<Option<String>> = vec![None; rows.len()];
    let strata = strata(model, &table, &mut troubles);
    let features = features(model, &table, &mut troubles);
    let scores = match model.graph.run(&features, &strata) {
        Ok(scores) => scores,
        Err(error) => return rows.iter().map(|_| Err(error.clone())).collect(),
    };
    troubles
        .into_iter()
        .enumerate()
        .map(|(row, trouble)| match trouble {
            Some(trouble) => Err(trouble),
            None => outputs(model, &scores, row, strata.get(row).copied().unwrap_or_default()),
        })
        .collect()
}

/// The first stratum that holds for each row.
fn strata(model: &Model, table: &Columns, troubles: &mut [Option<String>]) -> Vec<u32> {
    let mut chosen: Vec<Option<u32>> = vec![None; table.rows];
    for (number, when) in model.strata.iter().enumerate() {
        let number = u32::try_from(number).ok();
        let holds = when.as_ref().map(|when| when.values(table));
        for (row, chosen) in chosen.iter_mut().enumerate() {
            let here = holds.as_ref().is_none_or(|h| h.get(row).is_some_and(|x| x.is_finite() && *x != 0.0));
            if chosen.is_none() && here {
                *chosen = number;
            }
        }
    }
    for (chosen, trouble) in chosen.iter().zip(troubles) {
        if chosen.is_none() {
            *trouble = Some("no set of weights is for this patient".into());
        }
    }
    chosen.into_iter().map(Option::unwrap_or_default).collect()
}

/// Row-major features. A row with one that is no finite number is put to 0 and marked, so that it
/// can't disturb its neighbours.
fn features(model: &Model, table: &Columns, troubles: &mut [Option<String>]) -> Vec<f64> {
    let width = model.features.len();
    let mut all = vec![0.0; table.rows * width];
    for (at, feature) in model.features.iter().enumerate() {
        let values = feature.values(table);
        for ((value, row), trouble) in values.iter().zip(all.chunks_mut(width)).zip(troubles.iter_mut()) {
            if value.is_finite() {
                if let Some(cell) = row.get_mut(at) {
                    *cell = *value;
                }
            } else {
                let name = model.manifest.features.get(at).map_or("", |f| f.name.as_ref());
                *trouble = Some(format!("{name} gives no finite number"));
            }
        }
    }
    all
}

fn outputs(model: &Model, scores: &Scores, row: usize, stratum: u32) -> Row {
    let specs = &model.manifest.outputs;
    let stratum = usize::try_from(stratum).unwrap_or(usize::MAX);
    let mut found = Vec::with_capacity(specs.len());
    for (at, spec) in specs.iter().enumerate() {
        let cell = row * specs.len() + at;
        let (Some(predictor), Some(value)) = (scores.predictors.get(cell), scores.values.get(cell)) else {
            return Err("a number is missing".into());
        };
        if !predictor.is_finite() || !value.is_finite() {
            return Err(format!("{} gives no finite number", spec.key));
        }
        let (baseline, contributions) = if wants_reasons(spec) {
            contributions(model, scores, cell, stratum, at)
        } else {
            (*predictor, Vec::new())
        };
        found.push(Output {
            spec: Arc::clone(spec),
            value: defined(spec, *value),
            linear_predictor: *predictor,
            baseline,
            contributions,
            band: None,
        });
    }
    let mut values = vec![0.0];
    values.extend(found.iter().map(|o| o.value));
    for ((output, formulas), spec) in found.iter_mut().zip(&model.bands).zip(specs) {
        if let Some(value) = values.first_mut() {
            *value = spec.displayed(output.value);
        }
        let band = formulas.iter().position(|when| when.holds(&values));
        output.band = band.and_then(|at| spec.bands.get(at)).cloned();
    }
    Ok(found)
}

fn wants_reasons(spec: &OutputSpec) -> bool {
    spec.reported && matches!(spec.kind, OutputKind::Probability | OutputKind::Score)
}

/// Rounding and bounds that belong to the score.
fn defined(spec: &OutputSpec, value: f64) -> f64 {
    let value = spec.round.map_or(value, |decimals| round(value, decimals));
    spec.clamp.map_or(value, |[low, high]| value.max(low).min(high))
}

impl OutputSpec {
    /// As shown to people and compared with bands: rounded, a probability in percent.
    pub fn displayed(&self, value: f64) -> f64 {
        let value = if self.kind == OutputKind::Probability { value * 100.0 } else { value };
        round(value, self.decimals)
    }
}

/// β(x − ref) by group of inputs; with the reference's linear predictor they sum to the patient's.
fn contributions(
    model: &Model,
    scores: &Scores,
    cell: usize,
    stratum: usize,
    output: usize,
) -> (f64, Vec<Contribution>) {
    let width = model.features.len();
    let terms = scores.terms.get(cell * width..(cell + 1) * width).unwrap_or_default();
    let Some((reference, baseline)) = model.graph.baseline(stratum, output, &model.reference) else {
        return (scores.predictors.get(cell).copied().unwrap_or_default(), Vec::new());
    };
    let mut sums: Vec<Option<f64>> = vec![None; model.groups.len()];
    for (feature, ((term, reference), group)) in terms.iter().zip(reference).zip(&model.group_of).enumerate()
    {
        if let Some(sum) = sums.get_mut(*group).filter(|_| model.graph.weighs(stratum, output, feature)) {
            *sum = Some(sum.unwrap_or_default() + (term - reference));
        }
    }
    let named = model.groups.iter().zip(sums);
    let found = named.filter_map(|(label, sum)| Some(Contribution { label: Arc::clone(label), value: sum? }));
    (baseline, found.collect())
}
