//! Observations: status, clinical time, and the values models read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir::json::Json;

use crate::moment;
use crate::record::{Reading, RecordBuilder, Status, Unit, Value};
use crate::vocabulary::CodeId;

const UCUM: &str = "http://unitsofmeasure.org";

impl RecordBuilder<'_> {
    pub(super) fn observation(&mut self, resource: &Json, reference: &str) {
        let vocabulary = self.vocabulary;
        let status = match (Self::qualified(resource), resource.get("focus")) {
            // What these say may turn the value into its opposite, or into somebody else's.
            (Some(why), _) => Status::Excluded(why),
            (_, Some(_)) => Status::Excluded("about something else (focus)"),
            _ => status(resource),
        };
        let effective = effective(resource);
        if let (Some(at), Status::Final | Status::Preliminary) = (effective, status) {
            self.record.latest = self.record.latest.max(Some(at));
        }
        let code = resource.get("code");
        let mut reading: Option<Reading> = None;
        for id in vocabulary.codes(code) {
            let first = reading.get_or_insert_with(|| self.head(resource, reference, status, effective));
            let found = Reading { code: id, value: self.value(resource), ..first.clone() };
            self.push(found);
        }
        for component in resource.list("component") {
            for id in vocabulary.codes(component.get("code")) {
                let first = reading.get_or_insert_with(|| self.head(resource, reference, status, effective));
                let found = Reading { code: id, value: self.value(component), ..first.clone() };
                self.push(found);
            }
        }
    }

    fn head(
        &mut self,
        resource: &Json,
        reference: &str,
        status: Status,
        effective: Option<DateTime<Utc>>,
    ) -> Reading {
        Reading {
            code: CodeId::MAX,
            effective,
            issued: resource.text("issued").and_then(moment::start),
            updated: resource.at(&["meta", "lastUpdated"]).and_then(Json::as_str).and_then(moment::start),
            status,
            value: Value::Absent(None),
            reference: self.cited(reference),
        }
    }

    fn push(&mut self, reading: Reading) {
        let twin = |r: &Reading| {
            r.reference == reading.reference && r.code == reading.code && r.value == reading.value
        };
        if !self.record.readings.last().is_some_and(twin) {
            self.record.readings.push(reading);
        }
    }

    /// `value[x]` of an Observation or a component.
    fn value(&mut self, holder: &Json) -> Value {
        if let Some(quantity) = holder.get("valueQuantity") {
            return self.quantity(quantity);
        }
        if let Some(concept) = holder.get("valueCodeableConcept") {
            let shown = concept
                .text("text")
                .or_else(|| concept.list("coding").iter().find_map(|c| c.text("display").or(c.text("code"))));
            let text = shown.unwrap_or_default();
            return Value::Coded { sets: self.vocabulary.sets.of_concept(concept), text: Box::from(text) };
        }
        if let Some(flag) = holder.get("valueBoolean").and_then(Json::as_bool) {
            return Value::Flag(flag);
        }
        if let Some(number) = holder.get("valueInteger").and_then(Json::as_number) {
            return match number.parse() {
                Ok(parsed) => {
                    Value::Quantity { number: parsed, text: Box::from(number), unit: Unit::Without }
                }
                Err(_) => Value::Other("a number out of range"),
            };
        }
        let others = [
            ("valueString", "text"),
            ("valueRange", "a range"),
            ("valueRatio", "a ratio"),
            ("valueSampledData", "sampled data"),
            ("valueTime", "a time"),
            ("valueDateTime", "a date"),
            ("valuePeriod", "a period"),
        ];
        if let Some((_, what)) = others.iter().find(|(name, _)| holder.get(name).is_some()) {
            return Value::Other(what);
        }
        let reason = holder.get("dataAbsentReason").and_then(|concept| {
            let coded = concept.list("coding").iter().find_map(|c| c.text("code"));
            coded.or(concept.text("text"))
        });
        Value::Absent(reason.map(Box::from))
    }

    fn quantity(&mut self, quantity: &Json) -> Value {
        let Some(text) = quantity.get("value").and_then(Json::as_number) else { return Value::Absent(None) };
        let number = match text.parse::<f64>() {
            Ok(number) if number.is_finite() => number,
            _ => return Value::Other("a number out of range"),
        };
        if let Some(comparator) = quantity.text("comparator") {
            let unit = quantity.text("unit").or(quantity.text("code")).unwrap_or_default();
            return Value::Bound(format!("{comparator}{text} {unit}").trim_end().into());
        }
        let unit = match (quantity.text("system"), quantity.text("code"), quantity.text("unit")) {
            (Some(UCUM), Some(code), said) => {
                let said = said.filter(|said| *said != code).map(|said| self.unit(said));
                Unit::Ucum(self.unit(code), said)
            }
            (_, _, Some(unit)) => Unit::Bare(self.unit(unit)),
            (_, Some(code), None) => Unit::Bare(self.unit(code)),
            (_, None, None) => Unit::Without,
        };
        Value::Quantity { number, text: Box::from(text), unit }
    }

    /// One text for all readings of a unit.
    fn unit(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.units.iter().find(|u| u.as_ref() == text) {
            return Arc::clone(known);
        }
        let unit: Arc<str> = Arc::from(text);
        if self.units.len() < 64 {
            self.units.push(Arc::clone(&unit));
        }
        unit
    }
}

fn status(resource: &Json) -> Status {
    match resource.text("status") {
        Some("final" | "amended" | "corrected") => Status::Final,
        Some("preliminary") => Status::Preliminary,
        Some("registered") => Status::Excluded("registered"),
        Some("cancelled") => Status::Excluded("cancelled"),
        Some("entered-in-error") => Status::Excluded("entered-in-error"),
        Some(_) => Status::Excluded("unknown"),
        None => Status::Excluded("missing"),
    }
}

/// When the patient was in the state observed: the end of a period, the first of a timing.
fn effective(resource: &Json) -> Option<DateTime<Utc>> {
    let text = resource
        .text("effectiveDateTime")
        .or_else(|| resource.text("effectiveInstant"))
        .or_else(|| {
            let period = resource.get("effectivePeriod")?;
            period.text("end").or_else(|| period.text("start"))
        })
        .or_else(|| resource.at(&["effectiveTiming", "event"])?.items().first()?.as_str());
    text.and_then(moment::start)
}
