//! The matcher against a plain loop.

use proptest::prelude::*;

use super::super::{Interest, Matcher, Subscription, Topic, Topics};
use super::{BASE, Version, change, json};
use crate::resource_type::ResourceType;

const TOPIC: &str = "http://example.org/observations";
const OWN: &str = "https://augury.dev/fhir/SubscriptionTopic/";

/// Speaks of Observations that change their status, of all that becomes of Encounters, and of Patients
/// that are deleted.
fn topics() -> Topics {
    let prefix = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.";
    let part = |name: &str, value: &str| format!(r#"{{"url":"{name}","valueString":"{value}"}}"#);
    let trigger = |parts: &[String]| {
        format!(r#"{{"url":"{prefix}resourceTrigger","extension":[{}]}}"#, parts.join(","))
    };
    let query = format!(
        r#"{{"url":"queryCriteria","extension":[{},{}]}}"#,
        part("previous", "status:not=final"),
        part("resultForCreate", "test-passes")
    );
    let triggers = [
        trigger(&[
            part("resource", "Observation"),
            query,
            part("fhirPathCriteria", "%previous.status != %current.status or %previous.empty()"),
        ]),
        trigger(&[part("resource", "Observation"), part("supportedInteraction", "delete")]),
        trigger(&[part("resource", "Encounter")]),
        trigger(&[part("resource", "Patient"), part("supportedInteraction", "delete")]),
        trigger(&[part("resource", "Condition"), part("supportedInteraction", "update")]),
    ];
    let basic = format!(
        r#"{{"resourceType":"Basic","extension":[{{"url":"{prefix}url","valueUri":"{TOPIC}"}},{}],"modifierExtension":[{{"url":"{prefix}status","valueCode":"active"}}],"code":{{"coding":[{{"system":"http://hl7.org/fhir/fhir-types","code":"SubscriptionTopic"}}]}}}}"#,
        triggers.join(",")
    );
    let mut topics = Topics::default();
    topics.add(Topic::parse(&json(&basic)).unwrap().unwrap()).unwrap();
    topics
}

/// Of R4's own criteria, or of a topic with filters behind spaces.
fn interest(text: &str, topics: &Topics) -> Interest {
    let mut words = text.split(' ');
    let criteria = words.next().unwrap_or_default();
    let backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-";
    let filters: Vec<String> = words
        .map(|filter| format!(r#"{{"url":"{backport}filter-criteria","valueString":"{filter}"}}"#))
        .collect();
    let payload = if criteria.starts_with("http") {
        format!(
            r#""payload":"application/fhir+json","_payload":{{"extension":[{{"url":"{backport}payload-content","valueCode":"empty"}}]}},"#
        )
    } else {
        String::new()
    };
    let text = format!(
        r#"{{"resourceType":"Subscription","status":"requested","criteria":"{criteria}","_criteria":{{"extension":[{}]}},"channel":{{{payload}"type":"rest-hook","endpoint":"https://h.example/"}}}}"#,
        filters.join(",")
    );
    let read = Subscription::parse(&json(&text), topics, BASE);
    read.unwrap_or_else(|issues| panic!("{issues}: {text}")).interest
}

fn observation() -> impl Strategy<Value = String> {
    let code = "[a-c]";
    (1..5_u8, code, "final|amended", "N|HH|x", prop::option::of(code), prop::option::of("vital-signs|laboratory"))
        .prop_map(|(patient, code, status, interpretation, component, category)| {
            let component = component
                .map(|code| format!(r#","component":[{{"code":{{"coding":[{{"code":"{code}"}}]}}}}]"#))
                .unwrap_or_default();
            let category = category
                .map(|code| format!(r#","category":[{{"coding":[{{"code":"{code}"}}]}}]"#))
                .unwrap_or_default();
            format!(
                r#"{{"resourceType":"Observation","id":"o{patient}","status":"{status}","subject":{{"reference":"Patient/{patient}"}},"code":{{"coding":[{{"system":"http://s","code":"{code}"}},{{"system":"http://t","code":"{code}"}}]}},"interpretation":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"{interpretation}"}}]}}]{component}{category}}}"#
            )
        })
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => observation(),
        1 => (1..4_u8, "planned|finished").prop_map(|(patient, status)| format!(
            r#"{{"resourceType":"Encounter","id":"e","status":"{status}","subject":{{"reference":"Patient/{patient}"}}}}"#
        )),
        1 => "[ab]".prop_map(|code| format!(
            r#"{{"resourceType":"Condition","id":"c","code":{{"coding":[{{"code":"{code}"}}]}},"subject":{{"reference":"Patient/1"}}}}"#
        )),
        1 => (1..4_u8).prop_map(|id| format!(r#"{{"resourceType":"Patient","id":"{id}","identifier":[{{"value":"{id}"}}]}}"#)),
    ]
}

fn asked() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        "patient=(Patient/)?[1-5]",
        "subject=Patient/[1-5](,Patient/[1-5])?",
        "code=(http://s[|])?[a-d](,[a-d])?",
        "code=http://[s-u][|]",
        "code:not=[a-c]",
        "combo-code=[a-c]",
        "status(:not)?=(final|amended)",
        "category:missing=(true|false)",
        "category=laboratory",
        "_id(:not)?=o[1-4](,o[1-4])?",
        "_lastUpdated=(ge|lt)2026-01-02",
        "component-code=[a-c]",
        "code-value-string=a[$]b",
    ];
    let conditions = prop::collection::vec(condition, 0..4).prop_map(|all| all.join("&"));
    let filters = prop::collection::vec(
        prop_oneof![
            "Observation[?.]patient=[1-5]",
            "Observation[?]code=[a-c]&status=final",
            "Encounter[?]patient=[1-3]",
            "Encounter[?]status:not=finished",
            "Condition[?]code=[ab]",
            "Patient[?](_id|identifier)=[1-3]",
            "_id=(o1|e|1)",
        ],
        0..3,
    );
    prop_oneof![
        4 => conditions.prop_map(|all| format!("Observation?{all}")),
        1 => Just("Encounter".to_owned()),
        1 => "Patient[?](_id|identifier)=[1-3]",
        3 => filters.prop_map(|all| [vec![TOPIC.to_owned()], all].concat().join(" ")),
        1 => "(observation-critical|risk-assessment)".prop_map(|name| format!("{OWN}{name}")),
        1 => "[1-4]".prop_map(|patient| format!("{OWN}observation-critical patient={patient}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_finds_what_a_loop_finds(
        asked in prop::collection::vec(asked(), 0..40),
        versions in prop::collection::vec(version(), 2..8),
        least in -3_i64..3,
    ) {
        let topics = topics();
        let all: Vec<(i64, Interest)> =
            asked.iter().zip(least..).map(|(text, number)| (number, interest(text, &topics))).collect();
        let matcher = Matcher::new(all.iter().rev().cloned());
        let versions: Vec<Version<'_>> = versions.iter().map(|text| Version::of(text)).collect();
        let mut changes = Vec::new();
        for one in &versions {
            changes.push(change(None, Some(one)));
            changes.push(change(Some(one), None));
            let same = versions.iter().filter(|other| other.index.kind == one.index.kind);
            changes.extend(same.map(|other| change(Some(one), Some(other))));
        }
        for change in changes {
            let looped: Vec<i64> =
                all.iter().filter(|(_, interest)| interest.is_about(&change)).map(|(number, _)| *number).collect();
            prop_assert_eq!(matcher.matches(&change), looped.clone());
            let index = |state: Option<super::super::State<'_>>| state.map(|state| state.index.clone());
            let (before, after) = (index(change.before), index(change.after));
            if !looped.is_empty() {
                prop_assert!(matcher.may_concern(change.kind, before.as_ref(), after.as_ref()));
                prop_assert!(matcher.may_concern(change.kind, None, after.as_ref()), "the version before is not known");
            }
        }
    }
}

#[test]
fn what_nothing_leads_to_is_not_asked() {
    let topics = topics();
    let all =
        ["Observation?patient=1&status=final", "Observation?patient=2", "Observation?code=c,d", "Encounter"];
    let of = all.iter().zip(1..).map(|(text, number)| (number, interest(text, &topics)));
    let matcher = Matcher::new(of);
    assert!(!matcher.is_empty() && Matcher::default().is_empty());
    let one = |patient: u8, code: char, status: &str| {
        format!(
            r#"{{"resourceType":"Observation","id":"o","status":"{status}","subject":{{"reference":"Patient/{patient}"}},"code":{{"coding":[{{"code":"{code}"}}]}}}}"#
        )
    };
    for (text, numbers, may) in [
        (one(1, 'a', "final"), vec![1], true),
        (one(1, 'a', "amended"), vec![], false),
        (one(3, 'a', "final"), vec![], false),
        (one(2, 'd', "final"), vec![2, 3], true),
    ] {
        let version = Version::of(&text);
        assert_eq!(matcher.matches(&change(None, Some(&version))), numbers, "{text}");
        assert_eq!(matcher.may_concern(version.index.kind, None, Some(&version.index)), may, "{text}");
        assert!(!matcher.may_concern(version.index.kind, Some(&version.index), None), "R4 tells of no end");
    }
    assert!(!matcher.may_concern(ResourceType::PATIENT, None, None));
    assert!(!matcher.may_concern(ResourceType::ENCOUNTER, None, None));
}

#[test]
fn a_cheap_look_is_short_and_never_wrong() {
    let topics = topics();
    let version =
        Version::of(r#"{"resourceType":"Observation","id":"o","status":"final","effectiveDateTime":"2024"}"#);
    let of_year = |year: i64| interest(&format!("Observation?date={year}"), &topics);
    let may = |years: std::ops::Range<i64>| {
        let matcher = Matcher::new(years.map(|year| (year, of_year(year))));
        let found = matcher.matches(&change(None, Some(&version)));
        (found, matcher.may_concern(version.index.kind, None, Some(&version.index)))
    };
    assert_eq!(may(2000..2020), (vec![], false));
    assert_eq!(may(1900..2020), (vec![], true), "of many it doesn't ask all");
    assert_eq!(may(1900..2030), (vec![2024], true));
}

#[test]
fn of_an_end_the_version_before_is_filtered() {
    let matcher = Matcher::new([(7, interest(&format!("{TOPIC} Patient?identifier=1"), &topics()))]);
    let of =
        |id: u8| format!(r#"{{"resourceType":"Patient","id":"{id}","identifier":[{{"value":"{id}"}}]}}"#);
    let (one, two) = (of(1), of(2));
    let (one, two) = (Version::of(&one), Version::of(&two));
    assert_eq!(matcher.matches(&change(Some(&one), None)), [7]);
    assert!(matcher.matches(&change(Some(&two), None)).is_empty());
    assert!(matcher.matches(&change(None, Some(&one))).is_empty());
    assert!(matcher.may_concern(ResourceType::PATIENT, None, None), "nothing is known of it");
    assert!(!matcher.may_concern(ResourceType::PATIENT, Some(&two.index), None));
}
