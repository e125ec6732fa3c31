//! What a write pays for Subscriptions that are not about it: one Observation against 10,000 that differ by
//! patient, by code, or share a topic: `cargo bench -p fhir --bench subscription`.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use criterion::Criterion;
use fhir::json::{Json, Limits, parse};
use fhir::resource_type::ResourceType;
use fhir::search::{Index, index};
use fhir::subscription::{Change, Interest, Matcher, State, Subscription, Topics, Unclear};

const MANY: i64 = 10_000;
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-";
const CRITICAL: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"o","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"c7"}]},"subject":{"reference":"Patient/p7"},"effectiveDateTime":"2024-05-06T07:08:09Z","interpretation":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"HH"}]}],"valueQuantity":{"value":6.9,"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}}"#;

/// Of R4's own criteria, or of the topic with a filter.
fn interest(criteria: &str, filter: Option<&str>) -> Option<Interest> {
    let beside = filter.map_or(String::new(), |filter| {
        format!(
            r#","_criteria":{{"extension":[{{"url":"{BACKPORT}filter-criteria","valueString":"{filter}"}}]}}"#
        )
    });
    let payload = filter.map_or(String::new(), |_| {
        format!(
            r#","payload":"application/fhir+json","_payload":{{"extension":[{{"url":"{BACKPORT}payload-content","valueCode":"id-only"}}]}}"#
        )
    });
    let text = format!(
        r#"{{"resourceType":"Subscription","status":"active","criteria":"{criteria}"{beside},"channel":{{"type":"rest-hook","endpoint":"https://h.example/"{payload}}}}}"#
    );
    let json = parse(text.as_bytes(), &Limits::default()).ok()?;
    Subscription::parse(&json, Topics::built_in(), "").ok().map(|one| one.interest)
}

fn matcher(many: i64, of: impl Fn(i64) -> Option<Interest>) -> Matcher {
    let matcher = Matcher::new((0..many).filter_map(|n| Some((n, of(n)?))));
    assert_eq!(matcher.is_empty(), many == 0, "all are read");
    matcher
}

/// Nanoseconds of one call.
fn nanoseconds(call: impl Fn()) -> f64 {
    const CALLS: u32 = 2_000;
    let began = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let json = parse(OBSERVATION.as_bytes(), &Limits::default()).unwrap_or(Json::Null);
    let entries: Index = index(ResourceType::OBSERVATION, &json);
    let after = State { resource: &json, index: &entries, updated: 0 };
    let unclear = Unclear::default();
    let change = Change {
        kind: ResourceType::OBSERVATION,
        id: "o",
        before: None,
        after: Some(after),
        unclear: &unclear,
    };
    let by_patient = |n| interest(&format!("Observation?patient=Patient/p{n}&status=final"), None);
    let by_code = |n| interest(&format!("Observation?code=http://loinc.org|c{n}&status=final"), None);
    let of_topic = |n| interest(CRITICAL, Some(&format!("Observation?patient=Patient/p{n}")));
    let same = |_| interest(CRITICAL, Some("Observation?patient=Patient/p7"));
    let by_status = |n| interest(&format!("Observation?status:not=final&_tag=t{n}"), None);
    let by_date = |n| interest(&format!("Observation?date=gt{}", 3000 + n % 1000), None);
    let all = [
        ("none", 0, matcher(0, by_patient)),
        ("one", 1, matcher(8, |n| by_patient(n).filter(|_| n == 7))),
        ("10,000 by patient", 1, matcher(MANY, by_patient)),
        ("10,000 by code", 1, matcher(MANY, by_code)),
        ("10,000 by tag", 0, matcher(MANY, by_status)),
        ("10,000 of a topic by patient", 1, matcher(MANY, of_topic)),
        ("10,000 of a topic, all met", 10_000, matcher(MANY, same)),
        ("10,000 by date, without an equality", 0, matcher(MANY, by_date)),
    ];
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("one Observation");
    for (name, met, matcher) in &all {
        assert_eq!(matcher.matches(&change).len(), *met, "{name}");
        group.bench_function(format!("matches {name}"), |b| b.iter(|| matcher.matches(black_box(&change))));
        group.bench_function(format!("may concern {name}"), |b| {
            b.iter(|| matcher.may_concern(change.kind, None, black_box(Some(&entries))));
        });
    }
    group.finish();
    let mut one = None;
    for (name, _, matcher) in &all {
        let matches = nanoseconds(|| drop(black_box(matcher.matches(black_box(&change)))));
        let may = nanoseconds(|| {
            black_box(matcher.may_concern(change.kind, None, black_box(Some(&entries))));
        });
        if *name == "one" {
            one = Some(matches);
        }
        let ratio = one.map_or(String::new(), |one| format!(", {:.1} times one", matches / one));
        let _ =
            writeln!(std::io::stdout(), "{name}: matches {matches:.0} ns{ratio}; may_concern {may:.0} ns");
    }
    criterion.final_summary();
}
