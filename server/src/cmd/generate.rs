//! Plausible patients in any number, for load: the same seed gives the same bytes.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use clap::Args;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many patients.
    #[arg(long, default_value_t = 100)]
    patients: u32,
    /// Start of the random sequence.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The day the data ends, at 06:00 UTC (default: today, or now if that is earlier).
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,
    /// Where to write, one transaction Bundle a line (default: standard output); other commands read
    /// such a file if its name ends in `.ndjson`.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(std::fs::File::create(path)?),
        None => Box::new(std::io::stdout()),
    };
    let mut out = BufWriter::new(out);
    let end = end(arguments.until, Utc::now())?;
    for number in 0..arguments.patients {
        serde_json::to_writer(&mut out, &patient(arguments.seed, number, end))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// When the data ends: never in the future, which no model would read.
fn end(until: Option<NaiveDate>, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    let day = until.unwrap_or_else(|| now.date_naive());
    anyhow::ensure!(day <= now.date_naive(), "--until {day} is in the future");
    Ok(day.and_hms_opt(6, 0, 0).unwrap_or_default().and_utc().min(now))
}

/// SplitMix64: tiny, and its sequence is fixed by its definition for ever.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Roughly normal: the sum of four uniforms has the right middle and bounded ends.
    fn around(&mut self, mean: f64, spread: f64) -> f64 {
        mean + spread * (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * 1.7
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

struct Chart {
    patient: String,
    entries: Vec<Value>,
}

impl Chart {
    fn put(&mut self, kind: &str, suffix: &str, mut resource: Value) {
        let id = format!("{}-{suffix}", self.patient);
        if let Some(object) = resource.as_object_mut() {
            object.shift_insert(0, "resourceType".into(), json!(kind));
            object.shift_insert(1, "id".into(), json!(id));
            object.insert("subject".into(), json!({"reference": format!("Patient/{}", self.patient)}));
        }
        self.entries
            .push(json!({"resource": resource, "request": {"method": "PUT", "url": format!("{kind}/{id}")}}));
    }

    fn quantity(&mut self, suffix: &str, loinc: &str, at: &str, value: f64, digits: usize, unit: &str) {
        let value: serde_json::Number = format!("{value:.digits$}").parse().unwrap_or_else(|_| 0.into());
        self.put(
            "Observation",
            suffix,
            json!({
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
                "effectiveDateTime": at,
                "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
            }),
        );
    }

    fn condition(&mut self, suffix: &str, snomed: &str, display: &str) {
        self.put(
            "Condition",
            suffix,
            json!({
                "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
                "code": {"coding": [{"system": "http://snomed.info/sct", "code": snomed, "display": display}]},
            }),
        );
    }

    fn drug(&mut self, suffix: &str, rxnorm: &str, display: &str) {
        self.put(
            "MedicationRequest",
            suffix,
            json!({
                "status": "active",
                "intent": "order",
                "medicationCodeableConcept": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": rxnorm, "display": display}]},
            }),
        );
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One patient's chart: an adult with vitals, lipids, kidney and liver values, drugs and diagnoses.
fn patient(seed: u64, number: u32, now: DateTime<Utc>) -> Value {
    let mut dice = Dice(seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(number) << 20));
    let id = format!("gen-{seed}-{number:07}");
    let age = 30 + dice.below(50);
    let female = dice.chance(0.52);
    let birth = now.date_naive() - Days::new(age * 365 + age / 4 + dice.below(360));
    let mut chart = Chart { patient: id.clone(), entries: Vec::new() };
    chart.entries.push(json!({
        "resource": {
            "resourceType": "Patient",
            "id": id,
            "identifier": [{"system": "https://augury.dev/fhir/generated", "value": id}],
            "name": [{"family": format!("Generated{number}"), "given": [if female { "Ada" } else { "Ivo" }]}],
            "gender": if female { "female" } else { "male" },
            "birthDate": birth.to_string(),
            "address": [{"country": if dice.chance(0.5) { "US" } else { "DE" }}],
        },
        "request": {"method": "PUT", "url": format!("Patient/{id}")},
    }));
    vitals(&mut chart, &mut dice, now);
    laboratory(&mut chart, &mut dice, now);
    if dice.chance(0.15) {
        chart.condition("dm", "44054006", "Diabetes mellitus type 2 (disorder)");
    }
    if dice.chance(0.3) {
        chart.drug("htn", "314076", "lisinopril 10 MG Oral Tablet");
    }
    if dice.chance(0.25) {
        chart.drug("statin", "617311", "atorvastatin 40 MG Oral Tablet");
    }
    json!({"resourceType": "Bundle", "type": "transaction", "entry": chart.entries})
}

fn vitals(chart: &mut Chart, dice: &mut Dice, now: DateTime<Utc>) {
    let at = stamp(now - TimeDelta::minutes(5));
    let (systolic, diastolic) = (dice.around(128.0, 14.0), dice.around(78.0, 8.0));
    let part = |code: &str, value: f64| {
        json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value.round(), "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        })
    };
    chart.put(
        "Observation",
        "bp",
        json!({
            "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "effectiveDateTime": at,
            "component": [part("8480-6", systolic), part("8462-4", diastolic)],
        }),
    );
    for (suffix, loinc, mean, spread, digits, unit) in [
        ("bmi", "39156-5", 27.5, 4.0, 1, "kg/m2"),
        ("hr", "8867-4", 78.0, 12.0, 0, "/min"),
        ("rr", "9279-1", 16.0, 2.5, 0, "/min"),
        ("spo2", "59408-5", 96.5, 1.5, 0, "%"),
        ("temp", "8310-5", 36.9, 0.5, 1, "Cel"),
    ] {
        let value = dice.around(mean, spread);
        let value = if unit == "%" { value.min(100.0) } else { value };
        chart.quantity(suffix, loinc, &at, value, digits, unit);
    }
    let smoker = dice.chance(0.16);
    let (code, display) =
        if smoker { ("449868002", "Smokes tobacco daily") } else { ("266919005", "Never smoked tobacco") };
    chart.put(
        "Observation",
        "smoking",
        json!({
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]},
            "effectiveDateTime": at,
            "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]},
        }),
    );
    chart.put(
        "Observation",
        "avpu",
        json!({
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "67775-7"}]},
            "effectiveDateTime": at,
            "valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "LA9340-6", "display": "Alert"}]},
        }),
    );
}

fn laboratory(chart: &mut Chart, dice: &mut Dice, now: DateTime<Utc>) {
    let at = stamp(now - TimeDelta::days(i64::try_from(1 + dice.below(120)).unwrap_or(1)));
    for (suffix, loinc, mean, spread, digits, unit, share) in [
        ("tc", "2093-3", 195.0, 28.0, 0, "mg/dL", 0.9),
        ("hdl", "2085-9", 52.0, 11.0, 0, "mg/dL", 0.9),
        ("creatinine", "2160-0", 1.0, 0.25, 2, "mg/dL", 0.95),
        ("uacr", "9318-7", 40.0, 20.0, 1, "mg/g", 0.4),
        ("ast", "1920-8", 28.0, 9.0, 0, "U/L", 0.7),
        ("alt", "1742-6", 30.0, 11.0, 0, "U/L", 0.7),
        ("platelets", "777-3", 245.0, 45.0, 0, "10*3/uL", 0.7),
        ("bilirubin", "1975-2", 0.9, 0.35, 1, "mg/dL", 0.6),
        ("inr", "6301-6", 1.1, 0.12, 2, "{INR}", 0.5),
        ("sodium", "2951-2", 139.0, 2.6, 0, "mmol/L", 0.7),
        ("albumin", "1751-7", 4.1, 0.35, 1, "g/dL", 0.6),
    ] {
        let value = dice.around(mean, spread);
        if dice.chance(share) {
            chart.quantity(suffix, loinc, &at, value.max(mean / 5.0), digits, unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_never_ends_in_the_future() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (early, late) = (at("2026-03-10T02:27:00Z"), at("2026-03-10T14:00:00Z"));
        let day = |text: &str| Some(text.parse::<NaiveDate>().unwrap());
        assert_eq!(end(None, early).unwrap(), early);
        assert_eq!(end(None, late).unwrap(), at("2026-03-10T06:00:00Z"));
        assert_eq!(end(day("2026-03-09"), early).unwrap(), at("2026-03-09T06:00:00Z"));
        assert_eq!(end(day("2026-03-10"), early).unwrap(), early);
        assert!(end(day("2026-03-11"), late).is_err());
    }
}
