//! `Patient/{id}/$everything`: a patient's whole chart, page by page
//! (<https://hl7.org/fhir/R4/patient-operation-everything.html>).

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, DateTest, Handling, Include, Prefix, Test, parameter};
use store::Context;

use super::search::{Scope, Wider, find_wider};
use super::{id, parameters};
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};

/// When care was given, by the first of these that a type has.
const CARE: [&str; 7] =
    ["date", "onset-date", "authoredon", "effective", "effective-time", "period", "created"];

pub(crate) async fn everything(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let patient = id(&path)?;
    let asked = parameters(&request, payload).await?;
    let text = find(&caller.app, &caller.context, patient, asked).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// The searchset Bundle.
pub(crate) async fn find(
    app: &Arc<App>,
    context: &Context,
    patient: &str,
    asked: Vec<(String, String)>,
) -> Result<String, Failure> {
    let stored = app.store.read(context, ResourceType::PATIENT, patient).await?;
    let (mut pairs, mut own, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    let mut since = i64::MIN;
    for (name, value) in asked {
        let moment = || {
            // In a query `+` of an offset often arrives as a space.
            fhir::time::parse(&value.replace(' ', "+"))
                .ok_or_else(|| Failure::bad_request(format!("{name} is neither a FHIR date nor a dateTime")))
        };
        match name.as_str() {
            "_count" | "_page" => pairs.push((name, value)),
            "_type" => own.push((name, value)),
            "_since" => {
                since = moment()?.low;
                pairs.push(("_lastUpdated".to_owned(), format!("ge{value}")));
            }
            // From the links of the page before, which the Patient was on.
            "_lastUpdated" if value.starts_with("ge") => pairs.push((name, value)),
            "start" | "end" => {
                let prefix = if name == "start" { Prefix::Eb } else { Prefix::Sa };
                spans.push(DateTest { prefix, span: moment()? });
                own.push((name, value));
            }
            "_format" | "_pretty" => {}
            _ => {
                let known = "there are _type, _since, _count, start, end";
                return Err(Failure::bad_request(format!("no such parameter; {known}")));
            }
        }
    }
    let scope = Scope::everything(patient, &own)?;
    // What has no date of care belongs to all times.
    let care = |kind: &ResourceType| CARE.iter().find_map(|code| parameter(*kind, code));
    let mut params: Vec<i64> =
        scope.kinds().iter().filter_map(care).flat_map(|one| one.params.clone()).collect();
    params.sort_unstable();
    params.dedup();
    let outside = |span| Clause { params: params.clone(), negated: true, test: Test::Range(vec![span]) };
    let typed = own.iter().any(|(name, _)| name == "_type");
    let along = Include { reverse: false, iterate: true, source: None, code: None, target: None };
    let wider = Wider {
        own,
        clauses: spans.into_iter().map(outside).collect(),
        // With types asked for, nothing of other types comes along.
        includes: if typed { Vec::new() } else { vec![along] },
        first: Some(&stored)
            .filter(|one| one.updated >= since && scope.kinds().contains(&ResourceType::PATIENT)),
    };
    find_wider(app, context, &scope, &pairs, Handling::Strict, wider).await
}
