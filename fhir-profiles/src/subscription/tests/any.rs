//! Whatever is sent, it is read or refused.

use proptest::prelude::*;

use super::super::{Subscription, Topic, Topics};
use super::{BASE, json};
use crate::json::Json;
use crate::outcome::Issues;

const TOPIC: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";

const SUBSCRIPTION: &str = r#"{"resourceType":"Subscription","status":"active","end":"2027-01-02T03:04:05Z","criteria":"https://augury.dev/fhir/SubscriptionTopic/observation-critical|1.0.0","_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation?patient=Patient/1&date=ge2024"}]},"channel":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout","valueUnsignedInt":5}],"type":"rest-hook","endpoint":"https://h.example/","header":["X-A: b"],"payload":"application/fhir+json","_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"empty"}]}}}"#;

const OF_R4: &str = r#"{"resourceType":"Subscription","status":"requested","reason":"a test","criteria":"Observation?code=http://loinc.org|1-8,2-7&status:not=final&date=ge2024&value-quantity=gt5|http://unitsofmeasure.org|mg","channel":{"type":"rest-hook","endpoint":"https://h.example:8443/in?a=b%20c","header":["Authorization: Bearer a","X-A: b"],"payload":"application/fhir+json; charset=utf-8"}}"#;

const BASIC: &str = r#"{"resourceType":"Basic","extension":[{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.url","valueUri":"http://example.org/t"},{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.resourceTrigger","extension":[{"url":"resource","valueUri":"Encounter"},{"url":"supportedInteraction","valueCode":"create"},{"url":"queryCriteria","extension":[{"url":"previous","valueString":"status:not=finished"},{"url":"current","valueString":"status=finished"},{"url":"requireBoth","valueBoolean":true}]},{"url":"fhirPathCriteria","valueString":"%current.status = 'finished'"}]},{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.canFilterBy","extension":[{"url":"resource","valueUri":"*"},{"url":"filterParameter","valueString":"patient"}]},{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.notificationShape","extension":[{"url":"resource","valueUri":"Encounter"},{"url":"include","valueString":"Encounter:patient&iterate=Patient.link"}]}],"modifierExtension":[{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.status","valueCode":"active"}],"code":{"coding":[{"system":"http://hl7.org/fhir/fhir-types","code":"SubscriptionTopic"}]}}"#;

fn any_json() -> impl Strategy<Value = Json<'static>> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        Just("rest-hook".to_owned()),
        Just(TOPIC.to_owned()),
        Just("Encounter?patient=Patient/1".to_owned()),
        Just("https://[".to_owned()),
        Just("%é=\u{7f}".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|number| Json::Number(number.to_string().into())),
        text.prop_map(|text| Json::String(text.into())),
    ];
    let key = prop::sample::select(vec![
        "resourceType",
        "status",
        "end",
        "criteria",
        "_criteria",
        "channel",
        "type",
        "_type",
        "endpoint",
        "header",
        "payload",
        "_payload",
        "extension",
        "modifierExtension",
        "url",
        "valueString",
        "valueCode",
        "valueUri",
        "valueUnsignedInt",
        "code",
        "coding",
        "system",
    ]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Json::Object(
                pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
            )),
        ]
    })
}

/// Puts something else in the place of the value that `left` comes to.
fn put(node: &mut Json<'static>, left: &mut usize, new: &Json<'static>) {
    if *left == 0 {
        *node = new.clone();
    }
    *left = left.wrapping_sub(1);
    match node {
        Json::Array(items) => items.iter_mut().for_each(|item| put(item, left, new)),
        Json::Object(object) => object.iter_mut().for_each(|(_, value)| put(value, left, new)),
        _ => {}
    }
}

/// Changes a text: takes out `length` letters at a place, and puts others there.
fn edit(node: &mut Json<'static>, left: &mut usize, (at, length, new): (usize, usize, &str)) {
    match node {
        Json::String(text) => {
            if *left == 0 {
                let letters: Vec<char> = text.chars().collect();
                let at = at % (letters.len() + 1);
                let (head, tail) = letters.split_at(at);
                let rest = tail.iter().skip(length);
                *text =
                    head.iter().copied().chain(new.chars()).chain(rest.copied()).collect::<String>().into();
            }
            *left = left.wrapping_sub(1);
        }
        Json::Array(items) => items.iter_mut().for_each(|item| edit(item, left, (at, length, new))),
        Json::Object(object) => {
            object.iter_mut().for_each(|(_, value)| edit(value, left, (at, length, new)));
        }
        _ => {}
    }
}

/// What is refused of a Subscription or a topic names its element; what is doubted too.
fn named(read: Result<Issues, Issues>) -> bool {
    match read {
        Ok(doubts) => doubts.0.iter().all(|issue| !issue.expression.is_empty()),
        Err(issues) => !issues.0.is_empty() && issues.0.iter().all(|issue| !issue.expression.is_empty()),
    }
}

fn subscription_is_named(json: &Json<'_>) -> bool {
    named(Subscription::parse(json, Topics::built_in(), BASE).map(|_| Issues::default()))
}

fn topic_is_named(json: &Json<'_>) -> bool {
    named(Topic::parse(json).map(|topic| topic.map(|topic| topic.doubts).unwrap_or_default()))
}

#[test]
fn what_is_changed_below_is_whole() {
    for whole in [SUBSCRIPTION, OF_R4] {
        assert!(Subscription::parse(&json(whole), Topics::built_in(), BASE).is_ok());
    }
    assert!(matches!(Topic::parse(&json(BASIC)), Ok(Some(topic)) if topic.doubts.0.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_json_is_read_or_refused(json in any_json()) {
        prop_assert!(subscription_is_named(&json));
        prop_assert!(topic_is_named(&json));
    }

    #[test]
    fn any_text_is_read_or_refused(
        which in 0..3_usize,
        left in 0..40_usize,
        at in any::<usize>(),
        length in 0..40_usize,
        new in prop_oneof![
            "[ -~]{0,6}",
            "[?&=.|,:%$\\\\/\"'()-]{1,8}",
            Just("%ff".to_owned()),
            Just("\r\n".to_owned()),
            Just("\0".to_owned()),
            any::<String>()
        ],
    ) {
        let mut changed = json([SUBSCRIPTION, OF_R4, BASIC][which]).into_owned();
        edit(&mut changed, &mut left.clone(), (at, length, &new));
        prop_assert!(subscription_is_named(&changed), "{}", changed.to_text());
        prop_assert!(topic_is_named(&changed), "{}", changed.to_text());
    }

    #[test]
    fn any_change_is_read_or_refused(at in 0..60_usize, new in any_json()) {
        let mut subscription = json(SUBSCRIPTION).into_owned();
        put(&mut subscription, &mut at.clone(), &new);
        match Subscription::parse(&subscription, Topics::built_in(), BASE) {
            Ok(read) => prop_assert!(!read.interest.kinds().is_empty()),
            Err(issues) => prop_assert!(issues.0.iter().all(|issue| !issue.expression.is_empty())),
        }
        let mut basic = json(BASIC).into_owned();
        put(&mut basic, &mut at.clone(), &new);
        prop_assert!(topic_is_named(&basic), "{}", basic.to_text());
        if let Ok(Some(topic)) = Topic::parse(&basic) {
            let written = topic.to_basic();
            let read = Topic::parse(&written).ok().flatten().map(|topic| topic.to_basic());
            prop_assert_eq!(read, Some(written));
        }
    }
}
