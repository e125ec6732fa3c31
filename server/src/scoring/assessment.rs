//! One model's word on one patient, as a RiskAssessment
//! (<https://hl7.org/fhir/R4/riskassessment.html>).

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, Months, Utc};
use models::Assessment;
use models::assessment::{InputIssue, InputValue, ModelIdentity, Output, Scored, UsedInput};
use models::manifest::OutputKind;
use sha2::{Digest, Sha256};

use super::resource::{
    Annotation, Coding, Concept, Extended, Extension, Identifier, Meta, Period, Prediction, Quantity,
    Reference, RiskAssessment, Value,
};
use super::terms;

/// What the caller knows beside the assessment itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Framing<'a> {
    /// Logical id, if it is to be stored.
    pub(crate) id: Option<&'a str>,
    /// It takes the place of this one (`RiskAssessment/x`), because an input was changed.
    pub(crate) supersedes: Option<&'a str>,
    /// The reference patient of the contributions, in words.
    pub(crate) reference_patient: &'a str,
    /// A moment in the past was asked for.
    pub(crate) of_past: bool,
    /// Outputs by their keys, with the bands that they were in before.
    pub(crate) before: &'a [(String, String)],
}

/// SHA-256 (hex) over model, version, patient, the sorted input versions, and what was read from them
/// or taken for granted: equal for equal questions, so that scoring twice changes nothing. `moment` is
/// part of it where one in the past was asked for.
pub(crate) fn inputs_digest(assessment: &Assessment, moment: Option<DateTime<Utc>>) -> String {
    let mut cited: Vec<&str> =
        assessment.used.iter().flat_map(|input| input.references.iter().map(AsRef::as_ref)).collect();
    cited.extend(assessment.refusals().filter_map(|issue| issue.reference.as_deref()));
    // A new address or telephone makes no other answer: what was read of the person is hashed below.
    for reference in cited.iter_mut().filter(|reference| reference.starts_with("Patient/")) {
        *reference = reference.split("/_history/").next().unwrap_or(reference);
    }
    cited.sort_unstable();
    cited.dedup();
    let mut hash = Sha256::new();
    let model = &assessment.model;
    for part in
        [model.id.as_str(), &model.version, &model.sha256, assessment.patient.as_deref().unwrap_or_default()]
    {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for reference in cited {
        hash.update(reference.as_bytes());
        hash.update([0]);
    }
    // The versions don't tell everything: age goes with the day, a setting with the operator.
    for input in &assessment.used {
        hash.update(format!("{}={}", input.name, shown(&input.value, input.unit.as_deref())).as_bytes());
        hash.update([0]);
    }
    for assumed in &assessment.assumed {
        hash.update(format!("{}~{}", assumed.input, shown(&assumed.value, None)).as_bytes());
        hash.update([0]);
    }
    if let Some(moment) = moment {
        hash.update(moment.to_rfc3339().as_bytes());
    }
    // A refusal is another answer than a number from the same versions.
    hash.update([u8::from(assessment.scored().is_some())]);
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Id of the Device that stands for a model's version.
pub(crate) fn device_id(model: &ModelIdentity) -> String {
    format!("{}-{}", model.id, model.version)
}

/// `2026-03-04T05:06:07Z`
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The RiskAssessment.
pub(crate) fn risk_assessment<'a>(assessment: &'a Assessment, framing: Framing<'a>) -> RiskAssessment<'a> {
    let model = assessment.model.as_ref();
    let (status, prediction) = match assessment.scored() {
        Some(scored) => {
            let status = match (scored.preliminary, framing.supersedes) {
                (true, _) => "preliminary",
                (false, Some(_)) => "corrected",
                (false, None) => "final",
            };
            (status, predictions(assessment, scored, framing))
        }
        None => ("final", vec![refusal(assessment)]),
    };
    RiskAssessment {
        resource_type: "RiskAssessment",
        id: framing.id.map(Cow::Borrowed),
        meta: Meta { profile: [terms::PROFILE] },
        extension: extensions(assessment, framing),
        identifier: [Identifier {
            system: terms::ASSESSMENT_SYSTEM.into(),
            value: inputs_digest(assessment, framing.of_past.then_some(assessment.as_of)).into(),
        }],
        status,
        method: Concept {
            coding: vec![Coding {
                system: terms::MODEL_SYSTEM.into(),
                version: Some(model.version.as_str().into()),
                code: model.id.as_str().into(),
                display: Some(model.title.as_str().into()),
            }],
            text: None,
        },
        subject: match assessment.patient.as_deref() {
            // Whoever is contained in one resource can't be pointed to from another.
            Some(patient) if patient.contains('#') => Reference {
                reference: None,
                display: Some(format!("the person described in {patient}").into()),
            },
            Some(patient) => Reference::to(patient),
            None => Reference { reference: None, display: Some("the person the inputs are about".into()) },
        },
        occurrence_date_time: moment(assessment.as_of),
        performer: Reference {
            reference: Some(format!("Device/{}", device_id(model)).into()),
            display: Some(format!("{} {} sha256:{}", model.id, model.version, model.sha256).into()),
        },
        basis: basis(&assessment.used),
        prediction,
        note: notes(assessment),
    }
}

fn extensions<'a>(assessment: &'a Assessment, framing: Framing<'a>) -> Vec<Extension<'a>> {
    let mut all = Vec::new();
    if let Some(at) = assessment.data_time() {
        all.push(Extension { url: terms::DATA_TIME, value: Value::DateTime(moment(at).into()) });
    }
    if let Some(old) = framing.supersedes {
        all.push(Extension { url: terms::SUPERSEDES, value: Value::Reference(Reference::to(old)) });
    }
    for assumption in &assessment.assumed {
        all.push(Extension {
            url: terms::ASSUMED_INPUT,
            value: Value::Nested(vec![
                part("input", assumption.input.as_ref()),
                part("value", shown(&assumption.value, None)),
                part("reason", assumption.reason.as_ref()),
            ]),
        });
    }
    for (input, setting) in settings(assessment) {
        all.push(Extension {
            url: terms::ASSUMED_INPUT,
            value: Value::Nested(vec![
                part("input", input.name.as_ref()),
                part("value", shown(&input.value, None)),
                part("reason", format!("the operator's setting {setting}")),
                part("setting", setting),
            ]),
        });
    }
    all.extend(assessment.issues.iter().map(input_issue));
    all
}

/// What stands on a setting of the operator alone.
fn settings(assessment: &Assessment) -> impl Iterator<Item = (&UsedInput, &str)> {
    assessment.used.iter().filter_map(|input| Some((input, input.setting.as_deref()?)))
}

fn part<'a>(url: &'static str, text: impl Into<Cow<'a, str>>) -> Extension<'a> {
    Extension { url, value: Value::String(text.into()) }
}

fn input_issue(issue: &InputIssue) -> Extension<'_> {
    let mut parts = vec![
        part("input", issue.input.as_ref()),
        Extension { url: "kind", value: Value::Code(issue.kind.code()) },
        Extension { url: "effect", value: Value::Code(if issue.refuses { "refuses" } else { "remark" }) },
        part("details", issue.details.as_str()),
    ];
    if !issue.remedy.is_empty() {
        parts.push(part("remedy", issue.remedy.as_str()));
    }
    if let Some(reference) = &issue.reference {
        let value = Value::Reference(Reference::to(reference.as_ref()));
        parts.push(Extension { url: "reference", value });
    }
    parts.extend(issue.codes.iter().map(|code| part("loinc", code.as_ref())));
    Extension { url: terms::INPUT_ISSUE, value: Value::Nested(parts) }
}

fn shown(value: &InputValue, unit: Option<&str>) -> String {
    match (value, unit) {
        (InputValue::Number(number), Some(unit)) => format!("{number} {unit}"),
        (InputValue::Number(number), None) => number.to_string(),
        (InputValue::Flag(flag), _) => if *flag { "yes" } else { "no" }.to_owned(),
        (InputValue::Code(code), _) => code.to_string(),
    }
}

/// Each resource once, with what was read from it.
fn basis(used: &[UsedInput]) -> Vec<Reference<'_>> {
    let mut cited: Vec<Reference> = Vec::with_capacity(used.len());
    for input in used {
        for reference in &input.references {
            let mut text = format!("{} = {}", input.name, shown(&input.value, input.unit.as_deref()));
            if let Some(at) = input.effective {
                let _ = write!(text, " ({})", at.format("%Y-%m-%d"));
            }
            let known = cited.iter_mut().find(|one| one.reference.as_deref() == Some(reference.as_ref()));
            match known.and_then(|one| one.display.as_mut()) {
                Some(display) => {
                    let display = display.to_mut();
                    display.push_str("; ");
                    display.push_str(&text);
                }
                // What was sent without an id or address can't be pointed to.
                None => cited.push(Reference {
                    reference: Some(reference.as_ref().into())
                        .filter(|text: &Cow<str>| text.contains(['/', ':'])),
                    display: Some(text.into()),
                }),
            }
        }
    }
    cited
}

fn predictions<'a>(
    assessment: &'a Assessment,
    scored: &'a Scored,
    framing: Framing<'a>,
) -> Vec<Prediction<'a>> {
    let reported = scored
        .outputs
        .iter()
        .filter(|output| output.spec.reported && !matches!(output.spec.kind, OutputKind::Flag));
    reported.map(|output| prediction(assessment, output, framing)).collect()
}

fn outcome(spec: &models::manifest::OutputSpec) -> Concept<'_> {
    let mut coding: Vec<Coding> = spec
        .coding
        .iter()
        .map(|one| Coding {
            system: one.system.as_str().into(),
            version: None,
            code: one.code.as_str().into(),
            display: Some(one.display.as_str().into()),
        })
        .collect();
    coding.push(Coding {
        system: terms::OUTPUT_SYSTEM.into(),
        version: None,
        code: spec.key.as_str().into(),
        display: None,
    });
    Concept { coding, text: Some(spec.title.as_str().into()) }
}

fn prediction<'a>(assessment: &'a Assessment, output: &'a Output, framing: Framing<'a>) -> Prediction<'a> {
    let spec = output.spec.as_ref();
    let mut extension = Vec::with_capacity(output.contributions.len() + 3);
    let mut probability_decimal = None;
    let mut probability_extended = None;
    let mut when_period = None;
    if spec.kind == OutputKind::Probability {
        probability_decimal = Some(percent(output.value));
        let value = Value::Decimal(output.value);
        probability_extended = Some(Extended { extension: [Extension { url: terms::RISK_FRACTION, value }] });
        when_period = spec.horizon_years.and_then(|years| {
            let end = assessment.as_of.checked_add_months(Months::new(years.checked_mul(12)?))?;
            Some(Period { start: moment(assessment.as_of), end: moment(end) })
        });
    } else {
        let unit = spec.unit.as_deref().unwrap_or("1");
        extension.push(Extension {
            url: terms::SCORE,
            value: Value::Quantity(Quantity::ucum(output.value, unit)),
        });
    }
    if !output.contributions.is_empty() {
        let predictor = Value::Decimal(output.linear_predictor);
        extension.push(Extension { url: terms::LINEAR_PREDICTOR, value: predictor });
        extension.push(Extension { url: terms::BASELINE, value: Value::Decimal(output.baseline) });
        extension.extend(output.contributions.iter().map(|one| Extension {
            url: terms::CONTRIBUTION,
            value: Value::Nested(vec![
                part("inputs", one.label.as_ref()),
                Extension { url: "value", value: Value::Decimal(one.value) },
            ]),
        }));
    }
    let before = framing.before.iter().find(|(key, _)| *key == spec.key).map(|(_, band)| band.as_str());
    if let (Some(before), Some(band)) = (before, output.band.as_deref())
        && before != band.label
    {
        extension.push(Extension { url: terms::BAND_BEFORE, value: Value::String(before.into()) });
    }
    Prediction {
        extension,
        outcome: outcome(spec),
        probability_decimal,
        probability_extended,
        qualitative_risk: output.band.as_deref().map(|band| Concept {
            coding: band
                .risk
                .iter()
                .map(|code| Coding {
                    system: terms::RISK_PROBABILITY.into(),
                    version: None,
                    code: code.as_str().into(),
                    display: None,
                })
                .collect(),
            text: Some(band.label.as_str().into()),
        }),
        when_period,
        rationale: rationale(output, framing.reference_patient),
    }
}

/// Percent, to four decimals: more would pretend to a precision that nobody reads; the fraction
/// beside it has it all.
pub(crate) fn percent(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e4
}

/// The three inputs that weigh most, in words.
fn rationale<'a>(output: &'a Output, reference: &'a str) -> Option<Cow<'a, str>> {
    let mut weighty: Vec<_> = output.contributions.iter().filter(|one| one.value != 0.0).collect();
    if weighty.is_empty() {
        return None;
    }
    weighty.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let mut text = String::from("Weighs most: ");
    for (n, one) in weighty.iter().take(3).enumerate() {
        if n > 0 {
            text.push_str(", ");
        }
        let _ = write!(text, "{} ({:+.3})", one.label, one.value);
    }
    if !reference.is_empty() {
        let _ = write!(text, "; compared with {reference}");
    }
    Some(text.into())
}

/// No number: what it would have been about, and why there is none.
fn refusal(assessment: &Assessment) -> Prediction<'_> {
    let mut reasons = String::from("Not computed: ");
    for (n, issue) in assessment.refusals().enumerate() {
        if n > 0 {
            reasons.push_str("; ");
        }
        reasons.push_str(&issue.details);
    }
    let reason = Extension { url: terms::DATA_ABSENT_REASON, value: Value::Code("unknown") };
    Prediction {
        extension: Vec::new(),
        outcome: Concept { coding: Vec::new(), text: Some(assessment.model.title.as_str().into()) },
        probability_decimal: None,
        probability_extended: Some(Extended { extension: [reason] }),
        qualitative_risk: None,
        when_period: None,
        rationale: Some(reasons.into()),
    }
}

/// With a full stop behind it.
fn sentence(text: &str) -> String {
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{text}{stop}")
}

fn notes(assessment: &Assessment) -> Vec<Annotation<'_>> {
    let issues = assessment.issues.iter().map(|issue| {
        let mut text = sentence(&issue.details);
        if !issue.remedy.is_empty() {
            let _ = write!(text, " To compute it: {}", sentence(&issue.remedy));
        }
        Annotation { text: text.into() }
    });
    let assumed = assessment.assumed.iter().map(|one| Annotation {
        text: format!("Taken for granted: {} = {} ({}).", one.input, shown(&one.value, None), one.reason)
            .into(),
    });
    let settings = settings(assessment).map(|(input, setting)| Annotation {
        text: format!(
            "Taken for granted: {} = {} (the operator's setting {setting}).",
            input.name,
            shown(&input.value, None)
        )
        .into(),
    });
    issues.chain(assumed).chain(settings).collect()
}
