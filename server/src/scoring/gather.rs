//! A patient's record out of the store: the newest Observations of each code that a model in use
//! reads, and the conditions and medicines.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fhir::json::Json;
use fhir::profile::is_of_a_model;
use fhir::reference::{Reference, hash};
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{Handling, SearchQuery, parameter};
use models::{Assessment, PatientRecord, RecordBuilder};
use store::{Context, Cut, Error, Latest, Reader, Stored, Wanted};

use super::ask::{self, Question};
use super::settle::Cause;
use crate::app::{Active, App};
use crate::http::failure::Failure;
use crate::http::request::LIMITS;

/// Resources of one value that are read at once …
const FEW: usize = 8;
/// … and so many times more where the newest that counts may be older than these.
const MORE: usize = 16;
/// Conditions, and medicines, of one patient that are read at once.
const MOST: usize = 2000;

/// What of a patient's record counts at a moment, whether or not there is a Patient resource.
pub(crate) fn record(
    reader: &mut Reader<'_>,
    active: &Active,
    patient: &str,
    at: DateTime<Utc>,
) -> Result<PatientRecord, Error> {
    let mut builder = RecordBuilder::new(&active.catalogue);
    builder.patient(&format!("Patient/{patient}"));
    match reader.read(ResourceType::PATIENT, patient) {
        Ok(stored) => add(&mut builder, &parse(&stored.body)?, &stored),
        Err(Error::NotFound | Error::Gone { .. }) => {}
        Err(error) => return Err(error),
    }
    let whose = hash(ResourceType::PATIENT, patient);
    let chart = [whose];
    let params = |kind, code| parameter(kind, code).map_or(&[][..], |parameter| &parameter.params);
    let observations = params(ResourceType::OBSERVATION, "combo-code").iter().map(|param| Wanted {
        param: *param,
        values: &active.codes,
        each: FEW,
    });
    let others =
        [ResourceType::CONDITION, ResourceType::MEDICATION_REQUEST, ResourceType::MEDICATION_STATEMENT]
            .into_iter()
            .flat_map(|kind| params(kind, "patient"));
    let others = others.map(|param| Wanted { param: *param, values: &chart, each: MOST });
    let wanted: Vec<Wanted<'_>> = observations.chain(others).collect();
    let mut known = HashSet::new();
    let mut cut = take(reader, &mut builder, whose, &wanted, &mut known)?;
    let mut each = FEW;
    loop {
        // What is left behind is of the moment of the cut or older.
        let hides = |cut: &Cut| match active.code(cut.value) {
            Some(code) => builder.newest(code, at).is_none_or(|newest| newest.timestamp_micros() <= cut.date),
            None => true,
        };
        let hidden: Vec<(i64, [i64; 1])> =
            cut.iter().filter(|cut| hides(cut)).map(|cut| (cut.param, [cut.value])).collect();
        if hidden.is_empty() {
            return Ok(builder.build());
        }
        each = each.saturating_mul(MORE);
        let most = |value: i64| if value == whose { each.saturating_mul(MOST / FEW) } else { each };
        let wanted: Vec<Wanted<'_>> = hidden
            .iter()
            .map(|(param, values)| Wanted { param: *param, values, each: most(values[0]) })
            .collect();
        cut = take(reader, &mut builder, whose, &wanted, &mut known)?;
    }
}

/// Takes in what is wanted and not yet known; gives where there is more.
fn take(
    reader: &mut Reader<'_>,
    builder: &mut RecordBuilder<'_>,
    whose: i64,
    wanted: &[Wanted<'_>],
    known: &mut HashSet<i64>,
) -> Result<Vec<Cut>, Error> {
    let Latest { found, cut } = reader.latest(whose, wanted)?;
    for stored in found.iter().filter(|stored| known.insert(stored.key)) {
        let resource = parse(&stored.body)?;
        add(builder, &resource, stored);
        if let Some((kind, id)) = medicine(&resource) {
            match reader.read(kind, id) {
                Ok(medicine) => add(builder, &parse(&medicine.body)?, &medicine),
                Err(Error::NotFound | Error::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(cut)
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
    // Of inputs that the caller may not see each is in the answer with its value: who may read
    // assessments may read them. A number without them would be another, and wrong.
    context.access.permits(Op::Read, ResourceType::RISK_ASSESSMENT)?;
    app.store.read(context, ResourceType::PATIENT, patient).await?;
    let (id, reading) = (patient.to_owned(), Arc::clone(&active));
    app.store.permits_of(context, Op::Read, ResourceType::RISK_ASSESSMENT, patient).await?;
    let record =
        app.store.reading(&context.on_behalf(), move |reader| record(reader, &reading, &id, as_of)).await?;
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

/// Microseconds as a moment.
pub(crate) fn moment(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
