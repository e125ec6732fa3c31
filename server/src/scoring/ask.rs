//! Being asked: which models, for which moment, on which records; the answer as FHIR text.

use std::sync::Arc;

use actix_web::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use models::{Assessment, Model, PatientRecord, assess_batch};

use super::assessment::{Framing, risk_assessment};
use crate::app::{Active, App};
use crate::http::failure::Failure;

/// What a caller asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// Model ids; none means all in use.
    pub(crate) models: Vec<String>,
    /// The moment asked for; none means now.
    pub(crate) as_of: Option<DateTime<Utc>>,
    /// Keep the answer.
    pub(crate) persist: bool,
}

impl Question {
    /// The moment, decided.
    pub(crate) fn moment(&self) -> DateTime<Utc> {
        self.as_of.unwrap_or_else(Utc::now)
    }

    /// Is it to be kept? Not what would be of tomorrow: until then it would stand before what is true.
    pub(crate) fn kept(&self) -> Result<bool, Failure> {
        let ahead = self.as_of.is_some_and(|at| at > Utc::now() + TimeDelta::minutes(1));
        if self.persist && ahead {
            return Err(Failure::bad_request("asOf lies in the future: such an answer is not kept"));
        }
        Ok(self.persist)
    }

    /// The models, found, each once.
    pub(crate) fn models(&self, active: &Active) -> Result<Vec<Arc<Model>>, Failure> {
        if self.models.is_empty() {
            return Ok(active.catalogue.active().map(Arc::clone).collect());
        }
        let find = |id: &String| {
            active.catalogue.get(id).map(Arc::clone).ok_or_else(|| {
                Failure::new(
                    StatusCode::NOT_FOUND,
                    "not-found",
                    "no model of that id is in use; GET /models lists them",
                )
            })
        };
        let mut models: Vec<Arc<Model>> = Vec::new();
        for id in &self.models {
            let model = find(id)?;
            if !models.iter().any(|known| Arc::ptr_eq(known, &model)) {
                models.push(model);
            }
        }
        Ok(models)
    }
}

/// Reads a moment a caller wrote.
pub(crate) fn parse_moment(text: &str) -> Result<DateTime<Utc>, Failure> {
    super::moment_asked(text).ok_or_else(|| {
        Failure::new(StatusCode::BAD_REQUEST, "value", "asOf is neither a FHIR date nor a dateTime")
    })
}

/// Scores records for all models asked; one list a record.
pub(crate) fn score(
    app: &App,
    active: &Active,
    models: &[Arc<Model>],
    records: &[PatientRecord],
    as_of: DateTime<Utc>,
) -> Vec<Vec<Assessment>> {
    let asked: Vec<_> = records.iter().map(|record| (record, as_of)).collect();
    let models: Vec<&Model> = models.iter().map(AsRef::as_ref).collect();
    let scored = assess_batch(&active.catalogue, &asked, &models, &app.settings);
    for assessment in scored.iter().flatten() {
        count(assessment);
    }
    scored
}

/// Counts one assessment by model and result.
pub(crate) fn count(assessment: &Assessment) {
    let result = if assessment.scored().is_some() { "scored" } else { "refused" };
    metrics::counter!("augury_assessments_total", "model" => assessment.model.id.clone(), "result" => result)
        .increment(1);
}

/// The RiskAssessments as JSON texts, in the order of the assessments.
pub(crate) fn texts(models: &[Arc<Model>], scored: &[Vec<Assessment>]) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for assessments in scored {
        for (assessment, model) in assessments.iter().zip(models) {
            let framing =
                Framing { reference_patient: &model.manifest.reference.description, ..Framing::default() };
            let text =
                serde_json::to_string(&risk_assessment(assessment, framing)).map_err(Failure::internal)?;
            texts.push(text);
        }
    }
    Ok(texts)
}
