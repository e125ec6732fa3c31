//! A patient's record out of the store: the newest Observations of each code that a model in use
//! reads, and the conditions and medicines.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fhir::json::Json;
use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::search::parameter;
use models::{Assessment, PatientRecord, RecordBuilder};
use store::{Context, Error, Reader, Stored, Wanted};

use super::ask::{self, Question};
use super::terms;
use crate::app::{Active, App};
use crate::http::failure::Failure;
use crate::http::request::LIMITS;

/// Observations of one code that are looked at for the newest usable one.
const EACH: usize = 8;
/// The same where a moment in the past is asked for, which newer ones must not hide.
const EACH_OF_PAST: usize = 1000;
/// Conditions, and medicines, of one patient.
const MOST: usize = 2000;

/// The record of a patient, whether or not there is a Patient resource.
pub(crate) fn record(
    reader: &mut Reader<'_>,
    active: &Active,
    patient: &str,
    each: usize,
) -> Result<PatientRecord, Error> {
    let mut builder = RecordBuilder::new(&active.catalogue);
    builder.patient(&format!("Patient/{patient}"));
    match reader.read(ResourceType::PATIENT, patient) {
        Ok(stored) => add(&mut builder, &stored)?,
        Err(Error::NotFound | Error::Gone { .. }) => {}
        Err(error) => return Err(error),
    }
    let whose = hash(ResourceType::PATIENT, patient);
    let number = |kind, code| parameter(kind, code).map(|parameter| parameter.number);
    let observations = number(ResourceType::OBSERVATION, "combo-code").map(|parameter| Wanted {
        parameter,
        values: &active.codes,
        each,
    });
    let others =
        [ResourceType::CONDITION, ResourceType::MEDICATION_REQUEST, ResourceType::MEDICATION_STATEMENT]
            .into_iter()
            .filter_map(|kind| number(kind, "patient"));
    let patient = [whose];
    let wanted: Vec<Wanted<'_>> = observations
        .into_iter()
        .chain(others.map(|parameter| Wanted { parameter, values: &patient, each: MOST }))
        .collect();
    for stored in reader.latest(whose, &wanted)? {
        add(&mut builder, &stored)?;
    }
    Ok(builder.build())
}

fn add(builder: &mut RecordBuilder, stored: &Stored) -> Result<(), Error> {
    let resource = parse(&stored.body)?;
    if !is_ours(&resource) {
        builder.add(&resource, &cite(stored));
    }
    Ok(())
}

/// What a model wrote must not feed a model: a withdrawn input would live on in it.
pub(crate) fn is_ours(resource: &Json) -> bool {
    resource.at(&["method", "coding", "system"]).and_then(Json::as_str) == Some(terms::MODEL_SYSTEM)
}

/// Parses what is stored; it was accepted once.
pub(crate) fn parse(body: &str) -> Result<Json<'_>, Error> {
    fhir::json::parse(body.as_bytes(), &LIMITS)
        .map_err(|issues| Error::Internal(format!("a stored resource does not parse: {issues}")))
}

fn cite(stored: &Stored) -> String {
    format!("{}/{}/_history/{}", stored.kind.name(), stored.id, stored.version)
}

/// Asks models about a stored patient.
///
/// # Errors
/// There is no such patient, or no such model.
pub(crate) async fn assess_stored(
    app: &Arc<App>,
    context: &Context,
    patient: &str,
    question: &Question,
) -> Result<Vec<Assessment>, Failure> {
    let active = app.models();
    let models = question.models(&active)?;
    let as_of = question.moment();
    let each = if as_of < Utc::now() - TimeDelta::minutes(1) { EACH_OF_PAST } else { EACH };
    app.store.read(context, ResourceType::PATIENT, patient).await?;
    let (id, reading) = (patient.to_owned(), Arc::clone(&active));
    let record = app.store.reading(context, move |reader| record(reader, &reading, &id, each)).await?;
    Ok(ask::score(app, &active, &models, &[record], as_of).pop().unwrap_or_default())
}

/// The same as RiskAssessments; kept, if that was asked for.
pub(crate) async fn answer_stored(
    app: &Arc<App>,
    context: &Context,
    patient: &str,
    question: &Question,
) -> Result<Vec<String>, Failure> {
    let assessments = assess_stored(app, context, patient, question).await?;
    let models = question.models(&app.models())?;
    if question.persist {
        return super::settle::keep(app, context, patient, assessments).await;
    }
    ask::texts(&models, &[assessments])
}

/// The record a worker scores: of now.
pub(crate) fn present(
    reader: &mut Reader<'_>,
    active: &Active,
    patient: &str,
) -> Result<PatientRecord, Error> {
    record(reader, active, patient, EACH)
}

/// Microseconds as a moment.
pub(crate) fn moment(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
