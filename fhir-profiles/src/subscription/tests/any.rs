//! Whatever is sent, it is read or refused.

use proptest::prelude::*;

use super::super::{Subscription, Topic, Topics};
use super::{BASE, json};
use crate::json::Json;

const TOPIC: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";

const SUBSCRIPTION: &str = r#"{"resourceType":"Subscription","status":"active","end":"2027-01-02T03:04:05Z","criteria":"https://augury.dev/fhir/SubscriptionTopic/observation-critical|1.0.0","_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation?patient=Patient/1&date=ge2024"}]},"channel":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout","valueUnsignedInt":5}],"type":"rest-hook","endpoint":"https://h.example/","header":["X-A: b"],"payload":"application/fhir+json","_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"empty"}]}}}"#;

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

#[test]
fn what_is_changed_below_is_whole() {
    assert!(Subscription::parse(&json(SUBSCRIPTION), Topics::built_in(), BASE).is_ok());
    assert!(matches!(Topic::parse(&json(BASIC)), Ok(Some(topic)) if topic.doubts.0.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_json_is_read_or_refused(json in any_json()) {
        let _ = Subscription::parse(&json, Topics::built_in(), BASE);
        let _ = Topic::parse(&json);
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
        if let Ok(Some(topic)) = Topic::parse(&basic) {
            let written = topic.to_basic();
            let read = Topic::parse(&written).ok().flatten().map(|topic| topic.to_basic());
            prop_assert_eq!(read, Some(written));
        }
    }
}
