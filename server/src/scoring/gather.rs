//! A patient's record out of the store: the newest Observations of each code that a model in use
//! reads, and the conditions and medicines.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fhir::json::Json;
use fhir::profile::is_of_a_model;
use fhir::reference::{Reference, hash};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery, parameter};
use models::{Assessment, PatientRecord, RecordBuilder};
use store::{Context, Error, Reader, Stored, Wanted};

use super::ask::{self, Question};
use super::settle::Cause;
use crate::app::{Active, App};
use crate::http::failure::Failure;
use crate::http::request::LIMITS;

/// Observations of one code that are looked at for the newest usable one.
const FEW: usize = 8;
/// The same where newer ones may hide it: some of the few are withdrawn, empty or of another time.
const MANY: usize = 10_000;
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
        Ok(stored) => add(&mut builder, &parse(&stored.body)?, &stored),
        Err(Error::NotFound | Error::Gone { .. }) => {}
        Err(error) => return Err(error),
    }
    let (whose, patient_id) = (hash(ResourceType::PATIENT, patient), patient);
    let now = Utc::now().timestamp_micros();
    let params = |kind, code| parameter(kind, code).map_or(&[][..], |parameter| &parameter.params);
    let observations = params(ResourceType::OBSERVATION, "combo-code").iter().map(|param| Wanted {
        param: *param,
        values: &active.codes,
        each,
    });
    let others =
        [ResourceType::CONDITION, ResourceType::MEDICATION_REQUEST, ResourceType::MEDICATION_STATEMENT]
            .into_iter()
            .flat_map(|kind| params(kind, "patient"));
    let patient = [whose];
    let wanted: Vec<Wanted<'_>> = observations
        .chain(others.map(|param| Wanted { param: *param, values: &patient, each: MOST }))
        .collect();
    let mut hidden = false;
    for stored in reader.latest(whose, &wanted)? {
        let resource = parse(&stored.body)?;
        hidden |= stored.kind == ResourceType::OBSERVATION && !plain(&resource, now);
        add(&mut builder, &resource, &stored);
        if let Some((kind, id)) = medicine(&resource) {
            match reader.read(kind, id) {
                Ok(medicine) => add(&mut builder, &parse(&medicine.body)?, &medicine),
                Err(Error::NotFound | Error::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    if hidden && each < MANY {
        return self::record(reader, active, patient_id, MANY);
    }
    Ok(builder.build())
}

/// Is it an Observation of before now with a value, and final? Only then it hides older ones.
fn plain(resource: &Json, now: i64) -> bool {
    let clinical = ["effectiveDateTime", "effectiveInstant"].iter().find_map(|one| resource.text(one));
    let known = matches!(resource.text("status"), Some("final" | "amended" | "corrected"))
        && resource.get("modifierExtension").is_none()
        && resource.get("implicitRules").is_none()
        && resource.get("focus").is_none();
    let valued = ["valueQuantity", "valueCodeableConcept", "valueInteger", "valueBoolean", "component"]
        .iter()
        .any(|one| resource.get(one).is_some());
    known
        && valued
        && clinical.and_then(fhir::time::parse).is_some_and(|span| span.low <= now)
        && !is_of_a_model(resource)
}

/// The ids of the patients of whom a request or statement names the Medication (`Medication/id`).
pub(crate) fn takers(reader: &mut Reader<'_>, medication: &str) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    for kind in [ResourceType::MEDICATION_REQUEST, ResourceType::MEDICATION_STATEMENT] {
        let pairs =
            [("medication".to_owned(), medication.to_owned()), ("_count".to_owned(), "500".to_owned())];
        let (mut query, _) = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict)?;
        loop {
            let page = reader.search(&query)?;
            for stored in &page.entries {
                let resource = parse(&stored.body)?;
                let subject = resource.at(&["subject", "reference"]).and_then(Json::as_str);
                if let Some(Reference::Local { kind: ResourceType::PATIENT, id, .. }) =
                    subject.map(|text| fhir::reference::parse(text, ""))
                {
                    found.insert(id.to_owned());
                }
            }
            if page.next.is_none() {
                break;
            }
            query.after = page.next;
        }
    }
    Ok(found)
}

/// The Medication that a request or statement names.
fn medicine<'a>(resource: &'a Json) -> Option<(ResourceType, &'a str)> {
    let text = resource.at(&["medicationReference", "reference"])?.as_str()?;
    match fhir::reference::parse(text, "") {
        Reference::Local { kind: kind @ ResourceType::MEDICATION, id, .. } => Some((kind, id)),
        _ => None,
    }
}

/// A minute is left for clocks that differ.
fn is_past(moment: DateTime<Utc>) -> bool {
    moment < Utc::now() - TimeDelta::minutes(1)
}

fn add(builder: &mut RecordBuilder, resource: &Json, stored: &Stored) {
    // What a model wrote must not feed a model: a withdrawn input would live on in it.
    if !is_of_a_model(resource) {
        builder.add(resource, &cite(stored));
    }
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
    let each = if is_past(as_of) { MANY } else { FEW };
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
        let past = question.as_of.is_some_and(is_past);
        let cause = if past { Cause::AskedOfPast } else { Cause::Asked };
        return super::settle::keep(app, context, patient, assessments, cause).await;
    }
    ask::texts(&models, &[assessments])
}

/// The record a worker scores: of now.
pub(crate) fn present(
    reader: &mut Reader<'_>,
    active: &Active,
    patient: &str,
) -> Result<PatientRecord, Error> {
    record(reader, active, patient, FEW)
}

/// Microseconds as a moment.
pub(crate) fn moment(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
