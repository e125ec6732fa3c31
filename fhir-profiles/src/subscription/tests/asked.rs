//! What a Subscription asks for, and what of it is refused.

use proptest::prelude::*;

use super::super::{Channel, Content, Format, Payload, Subscription, Topic, Topics, Wanted};
use super::{BASE, Version, change, json};
use crate::outcome::Issues;
use crate::time;

const TOPIC: &str = "http://example.org/topics/admission";

fn topics() -> Topics {
    let mut topics = Topics::default();
    for (version, kinds, filters) in [
        ("1", &["Encounter", "Patient"][..], &["Encounter patient", "Encounter status", "Patient _id"][..]),
        ("2", &["Encounter"], &[]),
        ("3", &["Encounter", "Condition"], &[" patient", "Condition code"]),
    ] {
        let prefix = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.";
        let triggers: Vec<String> = kinds
            .iter()
            .map(|kind| format!(r#",{{"url":"{prefix}resourceTrigger","extension":[{{"url":"resource","valueUri":"{kind}"}}]}}"#))
            .collect();
        let filters: Vec<String> = filters
            .iter()
            .map(|filter| {
                let (kind, code) = filter.split_once(' ').unwrap();
                let kind = if kind.is_empty() { String::new() } else { format!(r#"{{"url":"resource","valueUri":"{kind}"}},"#) };
                format!(r#",{{"url":"{prefix}canFilterBy","extension":[{kind}{{"url":"filterParameter","valueString":"{code}"}}]}}"#)
            })
            .collect();
        let status = if version == "3" { "draft" } else { "active" };
        let basic = format!(
            r#"{{"resourceType":"Basic","extension":[{{"url":"{prefix}url","valueUri":"{TOPIC}"}},{{"url":"{prefix}version","valueString":"{version}"}}{}{}],"modifierExtension":[{{"url":"{prefix}status","valueCode":"{status}"}}],"code":{{"coding":[{{"system":"http://hl7.org/fhir/fhir-types","code":"SubscriptionTopic"}}]}}}}"#,
            triggers.concat(),
            filters.concat()
        );
        topics.add(Topic::parse(&json(&basic)).unwrap().unwrap()).unwrap();
    }
    topics
}

/// The parts of a Subscription that cases change.
#[derive(Clone)]
struct Case {
    criteria: String,
    beside_criteria: String,
    status: &'static str,
    kind: String,
    endpoint: &'static str,
    header: String,
    payload: String,
    extensions: String,
    more: &'static str,
}

fn of_topic() -> Case {
    Case {
        criteria: format!("{TOPIC}|1"),
        beside_criteria: String::new(),
        status: "requested",
        kind: r#""rest-hook""#.to_owned(),
        endpoint: r#""https://example.org/in?a=b""#,
        header: r#"["Authorization: Bearer secret-token","X-A: b"]"#.to_owned(),
        payload: content("application/fhir+json", "id-only"),
        extensions: String::new(),
        more: "",
    }
}

fn of_r4(criteria: &str) -> Case {
    Case {
        criteria: criteria.to_owned(),
        payload: r#","payload":"application/fhir+json""#.to_owned(),
        ..of_topic()
    }
}

const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-";

fn content(mime: &str, content: &str) -> String {
    format!(
        r#","payload":"{mime}","_payload":{{"extension":[{{"url":"{BACKPORT}payload-content","valueCode":"{content}"}}]}}"#
    )
}

fn filters(filters: &[&str]) -> String {
    let all: Vec<String> = filters
        .iter()
        .map(|text| format!(r#"{{"url":"{BACKPORT}filter-criteria","valueString":"{text}"}}"#))
        .collect();
    format!(r#","_criteria":{{"extension":[{}]}}"#, all.join(","))
}

fn number(name: &str, of: &str, number: &str) -> String {
    format!(r#"{{"url":"{BACKPORT}{name}","{of}":{number}}}"#)
}

impl Case {
    fn text(&self) -> String {
        let Self { criteria, beside_criteria, status, kind, endpoint, header, payload, extensions, more } =
            self;
        format!(
            r#"{{"resourceType":"Subscription","status":"{status}","reason":"test","end":"2027-01-02T03:04:05Z","criteria":"{criteria}"{beside_criteria}{more},"channel":{{"extension":[{extensions}],"type":{kind},"endpoint":{endpoint},"header":{header}{payload}}}}}"#
        )
    }

    fn parse(&self) -> Result<Subscription, Issues> {
        Subscription::parse(&json(&self.text()), &topics(), BASE)
    }

    fn read(&self) -> Subscription {
        self.parse().unwrap_or_else(|issues| panic!("{issues}: {}", self.text()))
    }

    /// The first issue: its code, and where.
    fn refused(&self) -> (&'static str, String) {
        let issues = self.parse().map(|_| ()).expect_err(&self.text());
        (issues.0[0].code, issues.0[0].expression.clone())
    }
}

#[test]
fn of_a_topic_all_of_it_is_read() {
    let extensions = [
        number("heartbeat-period", "valueUnsignedInt", "86400"),
        number("timeout", "valueUnsignedInt", "60"),
        number("max-count", "valuePositiveInt", "20"),
    ];
    let read = Case {
        extensions: extensions.join(","),
        beside_criteria: filters(&["Encounter?patient=Patient/123"]),
        more: r#","extension":[{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.identifier","valueIdentifier":{"value":"a"}}]"#,
        ..of_topic()
    }
    .read();
    assert_eq!(read.wanted, Wanted::Active);
    assert_eq!(read.end, time::parse("2027-01-02T03:04:05Z").map(|span| span.low));
    assert_eq!(read.topic, Some(format!("{TOPIC}|1")));
    assert_eq!((read.heartbeat, read.timeout, read.max_count), (Some(86_400), Some(60), Some(20)));
    let Channel::RestHook { endpoint, headers } = &read.channel else { panic!("{:?}", read.channel) };
    assert_eq!(endpoint, "https://example.org/in?a=b");
    assert_eq!(
        (headers[0].name.as_str(), headers[0].value.as_str()),
        ("Authorization", "Bearer secret-token")
    );
    assert_eq!(headers.len(), 2);
    let Payload::Notification(media, content) = &read.payload else { panic!("{:?}", read.payload) };
    assert_eq!(
        (media.format, media.text.as_str(), *content),
        (Format::Json, "application/fhir+json", Content::IdOnly)
    );
    assert!(!format!("{read:?}").contains("secret-token"));
}

#[test]
fn of_r4_all_of_it_is_read() {
    let read = Case { status: "off", ..of_r4("Observation?code=http://loinc.org|1975-2") }.read();
    assert_eq!((read.wanted, read.topic.as_deref()), (Wanted::Off, None));
    assert!(matches!(&read.payload, Payload::Resource(media) if media.format == Format::Json));
    let bare = Case { payload: String::new(), status: "error", ..of_r4("Observation") }.read();
    assert_eq!((bare.wanted, &bare.payload), (Wanted::Error, &Payload::Nothing));
    let websocket =
        Case { kind: r#""websocket""#.to_owned(), endpoint: "null", ..of_r4("Observation?") }.read();
    assert_eq!(websocket.channel, Channel::Websocket);
}

#[test]
fn what_is_refused_is_named() {
    let topic = of_topic();
    let filtered = |text: &str| Case { beside_criteria: filters(&[text]), ..of_topic() };
    let criteria = "Subscription.criteria";
    let filter = "Subscription.criteria.extension[0]";
    let payload = "Subscription.channel.payload";
    let extension = "Subscription.channel.extension";
    let kind = |kind: &str| Case { kind: kind.to_owned(), ..of_topic() };
    let header = |line: &str| Case { header: format!(r#"["X-A: b","{line}"]"#), ..of_topic() };
    let extended = |extensions: String| Case { extensions, ..of_topic() };
    let paid = |payload: String| Case { payload, ..of_topic() };
    for (case, code, at) in [
        (Case { criteria: "http://example.org/unheard".to_owned(), ..topic.clone() }, "not-found", criteria),
        (Case { criteria: format!("{TOPIC}|9"), ..topic.clone() }, "not-found", criteria),
        (Case { status: "entered-in-error", ..topic.clone() }, "value", "Subscription.status"),
        (kind(r#""email""#), "not-supported", "Subscription.channel.type"),
        (kind(r#""sms""#), "not-supported", "Subscription.channel.type"),
        (kind(r#""message""#), "not-supported", "Subscription.channel.type"),
        (kind("null"), "not-supported", "Subscription.channel.type"),
        (
            kind(&format!(r#""rest-hook","_type":{{"extension":[{{"url":"{BACKPORT}channel-type","valueCoding":{{"code":"zulip"}}}}]}}"#)),
            "not-supported",
            "Subscription.channel.type",
        ),
        (Case { endpoint: r#""mailto:a@b""#, ..topic.clone() }, "value", "Subscription.channel.endpoint"),
        (Case { endpoint: "null", ..topic.clone() }, "value", "Subscription.channel.endpoint"),
        (Case { endpoint: r#""https://u:p@h.example/""#, ..topic.clone() }, "value", "Subscription.channel.endpoint"),
        (header(r"X-B: c\r\nX-C: d"), "value", "Subscription.channel.header[1]"),
        (header("Host: h.example"), "value", "Subscription.channel.header[1]"),
        (header("Webhook-Signature: v1,a"), "value", "Subscription.channel.header[1]"),
        (paid(content("text/plain", "empty")), "not-supported", payload),
        (paid(content("application/fhir+json", "everything")), "value", payload),
        (paid(r#","payload":"application/fhir+json""#.to_owned()), "required", payload),
        (paid(content("application/fhir+json", "empty").replace(r#""payload":"application/fhir+json","#, "")), "required", payload),
        (Case { payload: content("application/fhir+json", "empty"), ..of_r4("Observation?code=a") }, "not-supported", payload),
        (Case { beside_criteria: filters(&["Observation?code=a"]), ..of_r4("Observation?code=a") }, "not-supported", filter),
        (
            Case { extensions: number("max-count", "valuePositiveInt", "2"), ..of_r4("Observation?code=a") },
            "not-supported",
            extension,
        ),
        (extended(number("timeout", "valueUnsignedInt", "0")), "value", extension),
        (extended(number("timeout", "valueUnsignedInt", "61")), "value", extension),
        (extended(number("timeout", "valueUnsignedInt", "-1")), "value", extension),
        (extended(number("timeout", "valueUnsignedInt", "1.5")), "value", extension),
        (extended(number("timeout", "valueUnsignedInt", r#""5""#)), "value", extension),
        (extended(number("heartbeat-period", "valueUnsignedInt", "0")), "value", extension),
        (extended(number("max-count", "valuePositiveInt", "0")), "value", extension),
        (
            extended([number("timeout", "valueUnsignedInt", "5"), number("timeout", "valueUnsignedInt", "6")].join(",")),
            "value",
            extension,
        ),
        (extended(number("unheard", "valueUnsignedInt", "5")), "not-supported", "Subscription.channel.extension[0]"),
        (
            Case { beside_criteria: r#","_criteria":{"extension":[{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.filterBy","valueString":"a"}]}"#.to_owned(), ..topic.clone() },
            "not-supported",
            filter,
        ),
        (Case { more: r#","modifierExtension":[{"url":"http://x","valueString":"a"}]"#, ..topic.clone() }, "extension", "Subscription.modifierExtension"),
        (filtered("Encounter?subject=Patient/123"), "not-supported", filter),
        (filtered("Encounter.subject=Patient/123"), "not-supported", filter),
        (filtered("Observation?patient=Patient/123"), "not-supported", filter),
        (filtered("patient=Patient/123"), "not-supported", filter),
        (filtered("Encounter?patient.name=a"), "not-supported", filter),
        (filtered("Encounter?patient:in=http://x"), "not-supported", filter),
        (
            Case { criteria: format!("{TOPIC}|2"), ..filtered("Patient?_id=1") },
            "not-supported",
            filter,
        ),
        (filtered("Encounter?"), "value", filter),
        (filtered("Unheard?a=b"), "value", filter),
        (of_r4("nonsense"), "value", criteria),
        (of_r4(""), "value", criteria),
        (of_r4("code=a"), "value", criteria),
        (of_r4("Observation?nonsense=a"), "not-supported", criteria),
        (of_r4("Observation?subject.name=a"), "not-supported", criteria),
        (of_r4("Observation?_has:Provenance:target:agent=a"), "not-supported", criteria),
        (of_r4("Observation?code=a&_sort=date"), "not-supported", criteria),
        (of_r4("urn:oid:1.2"), "value", criteria),
    ] {
        assert_eq!(case.refused(), (code, at.to_owned()), "{}", case.text());
    }
    let all =
        Case { status: "x", endpoint: "1", payload: String::new(), criteria: "http://x".to_owned(), ..topic };
    assert_eq!(all.parse().map(|_| ()).unwrap_err().0.len(), 4);
}

#[test]
fn a_topic_is_found_by_version() {
    for (criteria, filter, fits) in [
        (format!("{TOPIC}|2"), "Encounter?class=AMB", true),
        (format!("{TOPIC}|1"), "Encounter?class=AMB", false),
        (format!("{TOPIC}|3"), "patient=Patient/1", true),
        (format!("{TOPIC}|3"), "code=a", false),
        (TOPIC.to_owned(), "Condition?code=a", false),
        (TOPIC.to_owned(), "Encounter?class=AMB", true),
    ] {
        let case = Case { criteria, beside_criteria: filters(&[filter]), ..of_topic() };
        assert_eq!(case.parse().is_ok(), fits, "{}", case.text());
    }
}

const ENCOUNTER: &str =
    r#"{"resourceType":"Encounter","id":"e","status":"planned","subject":{"reference":"Patient/123"}}"#;
const OTHER: &str =
    r#"{"resourceType":"Encounter","id":"e","status":"planned","subject":{"reference":"Patient/4"}}"#;
const PATIENT: &str = r#"{"resourceType":"Patient","id":"123"}"#;

#[test]
fn all_filters_hold_of_their_type() {
    let (encounter, other, patient) = (Version::of(ENCOUNTER), Version::of(OTHER), Version::of(PATIENT));
    let about = |filter: &[&str], version: &Version<'_>| {
        let beside_criteria = if filter.is_empty() { String::new() } else { filters(filter) };
        Case { beside_criteria, ..of_topic() }.read().is_about(&change(None, Some(version)))
    };
    for way in [
        "Encounter?patient=Patient/123",
        "Encounter.patient=Patient/123",
        "Encounter?patient=https://h.example/fhir/Patient/123",
        "Encounter?patient=123",
        "Encounter?patient=Patient/9,Patient/123",
    ] {
        assert!(about(&[way], &encounter) && !about(&[way], &other), "{way}");
        // A filter of Encounters lets every Patient through.
        assert!(about(&[way], &patient), "{way}");
    }
    assert!(about(&[], &other));
    assert!(!about(&["Encounter?patient=Patient/123", "Encounter?status=finished"], &encounter));
    assert!(!about(&["Encounter?patient=Patient/123&status=finished"], &encounter));
    assert!(about(&["Encounter?patient=Patient/123&status:not=finished", "Patient?_id=9"], &encounter));
    assert!(!about(&["Patient?_id=9"], &patient) && about(&["Patient?_id=123"], &patient));
}

#[test]
fn criteria_of_r4_hold_of_the_new_version() {
    let (encounter, other) = (Version::of(ENCOUNTER), Version::of(OTHER));
    let read = of_r4("Encounter?patient=Patient/123&status=planned").read();
    assert!(read.is_about(&change(None, Some(&encounter))));
    assert!(read.is_about(&change(Some(&other), Some(&encounter))));
    assert!(!read.is_about(&change(Some(&encounter), Some(&other))));
    assert!(!read.is_about(&change(Some(&encounter), None)), "nothing is told of an end");
    let changed = |criteria: &str| of_r4(criteria).read().is_about(&change(None, Some(&encounter)));
    assert!(changed("Encounter") && changed("Encounter?") && !changed("Patient"));
    assert!(changed("Encounter?_lastUpdated=2026-01-02") && !changed("Encounter?_lastUpdated=gt2026-01-02"));
    assert!(changed("Encounter?_id=e") && !changed("Encounter?_id=f"));
    assert!(changed("Encounter?class:missing=true"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_part_is_read_or_refused(criteria in "(Encounter|http://x|)[?.]?[ -~]{0,24}", filter in "(Encounter|Patient)?[?.]?[!#-Z^-~]{0,24}", header in "[!#-Z^-~]{0,24}") {
        let text = criteria.replace(['"', '\\'], "");
        let _ = of_r4(&text).parse();
        let _ = Case { beside_criteria: filters(&[&filter]), header: format!("[\"{header}\"]"), ..of_topic() }.parse();
    }
}
