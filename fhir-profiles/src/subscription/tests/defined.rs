//! Topics: what is read of a Basic, when they speak, and those of this server.

use super::super::{Interaction, Publication, Topic, Topics, Versions};
use super::{Version, change, json};
use crate::json::Json;
use crate::outcome::Severity;
use crate::resource_type::ResourceType;
use crate::validate::validate;

const PREFIX: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.";

fn part(name: &str, of: &str, value: &str) -> String {
    format!(r#"{{"url":"{name}","{of}":"{value}"}}"#)
}

fn own(name: &str, parts: &[String]) -> String {
    format!(r#"{{"url":"{PREFIX}{name}","extension":[{}]}}"#, parts.join(","))
}

fn basic(extensions: &[String]) -> String {
    let url = format!(r#"{{"url":"{PREFIX}url","valueUri":"http://example.org/topic"}}"#);
    let all: Vec<&str> = std::iter::once(url.as_str()).chain(extensions.iter().map(String::as_str)).collect();
    format!(
        r#"{{"resourceType":"Basic","extension":[{}],"modifierExtension":[{{"url":"{PREFIX}status","valueCode":"active"}}],"code":{{"coding":[{{"system":"http://hl7.org/fhir/fhir-types","code":"SubscriptionTopic"}}]}}}}"#,
        all.join(",")
    )
}

/// A trigger on Encounters with these parts.
fn trigger(parts: &[String]) -> String {
    let kind = part("resource", "valueUri", "http://hl7.org/fhir/StructureDefinition/Encounter");
    let all: Vec<String> = std::iter::once(kind).chain(parts.iter().cloned()).collect();
    own("resourceTrigger", &all)
}

fn query(parts: &[(&str, &str)]) -> String {
    let value = |(name, value): &(&str, &str)| match *name {
        "previous" | "current" => part(name, "valueString", value),
        "requireBoth" => format!(r#"{{"url":"requireBoth","valueBoolean":{value}}}"#),
        _ => part(name, "valueCode", value),
    };
    let all: Vec<String> = parts.iter().map(value).collect();
    format!(r#"{{"url":"queryCriteria","extension":[{}]}}"#, all.join(","))
}

fn read(text: &str) -> Topic {
    Topic::parse(&json(text)).unwrap_or_else(|issues| panic!("{issues}: {text}")).unwrap()
}

/// Of these versions, which changes it speaks of: `c`reate, `u`pdate and `d`elete.
fn speaks(topic: &Topic, before: &str, after: &str) -> String {
    let (before, after) = (Version::of(before), Version::of(after));
    let fires = |before: Option<&Version<'_>>, after: Option<&Version<'_>>| {
        topic.triggers.iter().any(|trigger| trigger.fires(&change(before, after)))
    };
    let all = [
        ('c', fires(None, Some(&after))),
        ('u', fires(Some(&before), Some(&after))),
        ('d', fires(Some(&before), None)),
    ];
    all.into_iter().filter(|(_, fires)| *fires).map(|(letter, _)| letter).collect()
}

const PLANNED: &str = r#"{"resourceType":"Encounter","id":"e","status":"planned"}"#;
const FINISHED: &str = r#"{"resourceType":"Encounter","id":"e","status":"finished"}"#;

#[test]
fn all_of_a_topic_is_read_and_comes_back() {
    let interactions = ["create", "update"].map(|code| part("supportedInteraction", "valueCode", code));
    let criteria = query(&[
        ("previous", "status:not=finished"),
        ("resultForCreate", "test-passes"),
        ("current", "Encounter?status=finished"),
        ("resultForDelete", "test-fails"),
        ("requireBoth", "true"),
    ]);
    let expression =
        part("fhirPathCriteria", "valueString", "%previous.status != 'finished' or %previous.empty()");
    let text = basic(&[
        format!(r#"{{"url":"{PREFIX}version","valueString":"1.2"}}"#),
        format!(r#"{{"url":"{PREFIX}title","valueString":"Done"}}"#),
        format!(r#"{{"url":"{PREFIX}date","valueDateTime":"2024"}}"#),
        format!(r#"{{"url":"{PREFIX}description","valueMarkdown":"Encounters that are done"}}"#),
        trigger(&[interactions.concat().replace("}{", "},{"), criteria, expression]),
        own(
            "canFilterBy",
            &[part("resource", "valueUri", "Encounter"), part("filterParameter", "valueString", "subject")],
        ),
        own("canFilterBy", &[part("filterParameter", "valueString", "_tag")]),
        own(
            "notificationShape",
            &[
                part("resource", "valueUri", "Encounter"),
                part("include", "valueString", "Encounter:patient&iterate=Patient.link"),
                part("include", "valueString", "Encounter:participant:Practitioner"),
                part("revInclude", "valueString", "Provenance:target"),
            ],
        ),
    ])
    // The guide's example has them of R4B, too.
    .replacen(
        "5.0/StructureDefinition/extension-SubscriptionTopic.canFilterBy",
        "4.3/StructureDefinition/extension-SubscriptionTopic.canFilterBy",
        1,
    );
    let topic = read(&text);
    assert_eq!((topic.url.as_str(), topic.version.as_deref()), ("http://example.org/topic", Some("1.2")));
    assert_eq!((topic.title.as_deref(), topic.name.as_deref()), (Some("Done"), None));
    assert_eq!(topic.status, Publication::Active);
    let trigger = &topic.triggers[0];
    assert_eq!(trigger.interactions, [Interaction::Create, Interaction::Update]);
    let query = trigger.query.as_ref().unwrap();
    assert!(query.for_create && !query.for_delete && matches!(query.of, Versions::Both(..)));
    assert!(topic.can_filter(ResourceType::ENCOUNTER, "subject", "Patient/1"));
    assert!(topic.can_filter(ResourceType::PATIENT, "_tag", "a"));
    assert!(!topic.can_filter(ResourceType::PATIENT, "subject", "a"));
    let includes: Vec<_> = topic.includes(ResourceType::ENCOUNTER).collect();
    assert_eq!(includes.len(), 4);
    assert!(includes[1].iterate && includes[1].source == Some(ResourceType::PATIENT) && includes[3].reverse);
    assert_eq!(includes[2].target, Some(ResourceType::PRACTITIONER));
    let written = topic.to_basic();
    assert_eq!(read(&written.to_text()).to_basic(), written);
    assert_eq!(speaks(&topic, PLANNED, FINISHED), "cu");
    assert_eq!(speaks(&topic, FINISHED, FINISHED), "c");
    assert_eq!(speaks(&topic, PLANNED, PLANNED), "");
}

#[test]
fn previous_and_current_queries_and_what_stands_for_neither() {
    let (was, is) = (("previous", "status:not=finished"), ("current", "status=finished"));
    let (created, deleted) = (("resultForCreate", "test-passes"), ("resultForDelete", "test-passes"));
    let both = ("requireBoth", "true");
    for (parts, wanted) in [
        // to finished, stays planned, stays finished, from finished
        (vec![was], ["ud", "ud", "", ""]),
        (vec![was, created], ["cud", "cud", "c", "c"]),
        (vec![is], ["cu", "", "cu", ""]),
        (vec![is, deleted], ["cud", "d", "cud", "d"]),
        (vec![was, is], ["cud", "ud", "cu", ""]),
        (vec![was, is, ("requireBoth", "false")], ["cud", "ud", "cu", ""]),
        (vec![was, is, both], ["u", "", "", ""]),
        (vec![was, is, both, created], ["cu", "", "c", ""]),
        (vec![was, is, both, deleted], ["ud", "d", "", ""]),
        (vec![was, is, both, created, deleted], ["cud", "d", "c", ""]),
    ] {
        let topic = read(&basic(&[trigger(&[query(&parts)])]));
        let pairs = [(PLANNED, FINISHED), (PLANNED, PLANNED), (FINISHED, FINISHED), (FINISHED, PLANNED)];
        let found = pairs.map(|(before, after)| speaks(&topic, before, after));
        assert_eq!(found, wanted, "{parts:?}");
    }
}

#[test]
fn expressions_look_at_both_versions() {
    for (expression, wanted) in [
        ("%previous.empty()", "c"),
        ("%current.empty()", "d"),
        ("%previous.status != %current.status", "u"),
        ("%previous.id.empty() or %previous.status != 'finished'", "cud"),
        ("status = 'planned'", "d"),
        ("Encounter.id", "cud"),
        ("now() > @2026-01-02T03:04:04Z and now() < @2026-01-02T03:04:06Z", "cud"),
        ("%resource.status = 'finished'", "cu"),
        // What errs, or does not end, is not true.
        ("'a' + 1 = 2", ""),
        ("(%previous | %current).status", "cd"),
        ("repeat($this + 1).empty().not()", ""),
    ] {
        let topic = read(&basic(&[trigger(&[part("fhirPathCriteria", "valueString", expression)])]));
        assert_eq!(speaks(&topic, PLANNED, FINISHED), wanted, "{expression}");
    }
    let only = |interaction: &str| {
        let parts = [part("supportedInteraction", "valueCode", interaction)];
        speaks(&read(&basic(&[trigger(&parts)])), PLANNED, FINISHED)
    };
    assert_eq!([only("create"), only("update"), only("delete")], ["c", "u", "d"]);
    // Query and expression must both hold.
    let parts = [
        query(&[("current", "status=finished")]),
        part("fhirPathCriteria", "valueString", "%previous.exists()"),
    ];
    assert_eq!(speaks(&read(&basic(&[trigger(&parts)])), PLANNED, FINISHED), "u");
}

#[test]
fn what_is_no_topic_and_what_is_a_wrong_one() {
    for text in [
        r#"{"resourceType":"Basic"}"#,
        r#"{"resourceType":"Basic","code":{"coding":[{"system":"http://x","code":"SubscriptionTopic"}]}}"#,
        r#"{"resourceType":"Patient","code":{"coding":[{"system":"http://hl7.org/fhir/fhir-types","code":"SubscriptionTopic"}]}}"#,
    ] {
        assert!(Topic::parse(&json(text)).unwrap().is_none(), "{text}");
    }
    let whole = trigger(&[]);
    let kind = || part("resource", "valueUri", "Encounter");
    for (extensions, code, at) in [
        (vec![], "required", "Basic.extension"),
        (vec![own("resourceTrigger", &[])], "required", "Basic.extension[1]"),
        (
            vec![own("resourceTrigger", &[part("resource", "valueUri", "Unheard")])],
            "value",
            "Basic.extension[1].extension[0]",
        ),
        (
            vec![own("resourceTrigger", &[part("resource", "valueUri", "AuditEvent")])],
            "not-supported",
            "Basic.extension[1]",
        ),
        (
            vec![trigger(&[part("supportedInteraction", "valueCode", "read")])],
            "value",
            "Basic.extension[1].extension[1]",
        ),
        (
            vec![trigger(&[part("unheard", "valueCode", "read")])],
            "not-supported",
            "Basic.extension[1].extension[1]",
        ),
        (vec![trigger(&[query(&[])])], "required", "Basic.extension[1].extension[1]"),
        (
            vec![trigger(&[query(&[("previous", "nonsense=a")])])],
            "not-supported",
            "Basic.extension[1].extension[1].extension[0]",
        ),
        (
            vec![trigger(&[query(&[("current", "Patient?gender=male")])])],
            "value",
            "Basic.extension[1].extension[1].extension[0]",
        ),
        (
            vec![trigger(&[query(&[("current", "subject.name=a")])])],
            "not-supported",
            "Basic.extension[1].extension[1].extension[0]",
        ),
        (
            vec![trigger(&[query(&[("current", "status=a"), ("resultForDelete", "maybe")])])],
            "value",
            "Basic.extension[1].extension[1].extension[1]",
        ),
        (
            vec![trigger(&[part("fhirPathCriteria", "valueString", "%current.status = ")])],
            "invalid",
            "Basic.extension[1].extension[1]",
        ),
        (
            vec![trigger(&[part("fhirPathCriteria", "valueString", "%curent.status = 'a'")])],
            "not-supported",
            "Basic.extension[1].extension[1]",
        ),
        (vec![whole.clone(), own("canFilterBy", &[kind()])], "required", "Basic.extension[2]"),
        (vec![whole.clone(), own("eventTrigger", &[])], "not-supported", "Basic.extension[2]"),
        (vec![whole.clone(), own("unheard", &[])], "not-supported", "Basic.extension[2]"),
        (
            vec![whole.clone(), part(&PREFIX.replace("5.0", "6.0"), "valueString", "a")],
            "not-supported",
            "Basic.extension[2]",
        ),
        (
            vec![whole.clone(), part(&format!("{PREFIX}url"), "valueUri", "http://b")],
            "duplicate",
            "Basic.extension[2]",
        ),
        (
            vec![whole.clone(), part(&format!("{PREFIX}version"), "valueString", "a|b")],
            "value",
            "Basic.extension[2]",
        ),
    ] {
        let text = basic(&extensions);
        let issues = Topic::parse(&json(&text)).map(|_| ()).expect_err(&text);
        assert_eq!((issues.0[0].code, issues.0[0].expression.as_str()), (code, at), "{issues} {text}");
    }
    for (from, to) in [
        ("http://example.org/topic", "urn:oid:1"),
        ("http://example.org/topic", "http://x|1"),
        (r#""valueCode":"active""#, r#""valueCode":"on""#),
        ("SubscriptionTopic.status", "Unheard"),
    ] {
        assert!(Topic::parse(&json(&basic(std::slice::from_ref(&whole)).replace(from, to))).is_err(), "{to}");
    }
}

#[test]
fn what_only_narrows_or_comes_along_may_be_doubtful() {
    let kind = |kind: &str| part("resource", "valueUri", kind);
    let topic = read(&basic(&[
        trigger(&[]),
        own("canFilterBy", &[kind("Encounter"), part("filterParameter", "valueString", "_in")]),
        own("canFilterBy", &[kind("*"), part("filterParameter", "valueString", "patient")]),
        own(
            "canFilterBy",
            &[
                kind("Encounter"),
                part("filterParameter", "valueString", "date"),
                part("comparator", "valueCode", "ge"),
                part("comparator", "valueCode", "lt"),
            ],
        ),
        own(
            "canFilterBy",
            &[
                kind("Encounter"),
                part("filterParameter", "valueString", "status"),
                part("modifier", "valueCode", "not"),
            ],
        ),
        own(
            "notificationShape",
            &[
                kind("Encounter"),
                part("include", "valueString", "Encounter:nonsense"),
                part("include", "valueString", "Encounter:patient&_sort=date"),
                part("include", "valueString", "Encounter:patient"),
            ],
        ),
    ]));
    let places: Vec<&str> = topic.doubts.0.iter().map(|issue| issue.expression.as_str()).collect();
    let wanted = [
        "Basic.extension[2].extension[1]",
        "Basic.extension[6].extension[1]",
        "Basic.extension[6].extension[2]",
    ];
    assert_eq!(places, wanted);
    assert!(!topic.doubts.has_error());
    assert_eq!(topic.includes(ResourceType::ENCOUNTER).count(), 1);
    for (name, value, can) in [
        ("patient", "Patient/1", true),
        ("patient:Patient", "1", true),
        ("date", "ge2024", true),
        ("date", "ge2024,lt2020", true),
        ("date", "2024", false),
        ("date", "ge2024,gt2020", false),
        ("status", "finished", true),
        ("status:not", "finished", true),
        ("status:text", "finished", false),
        ("class", "AMB", false),
    ] {
        assert_eq!(topic.can_filter(ResourceType::ENCOUNTER, name, value), can, "{name}={value}");
    }
    let written = topic.to_basic();
    assert_eq!(read(&written.to_text()).to_basic(), written);
}

#[test]
fn topics_are_told_apart_by_version() {
    let of = |version: &str, status: &str| {
        let version = part(&format!("{PREFIX}version"), "valueString", version);
        read(
            &basic(&[version, trigger(&[])])
                .replace(r#""valueCode":"active""#, &format!(r#""valueCode":"{status}""#)),
        )
    };
    let mut topics = Topics::default();
    for (version, status) in [("1.10", "active"), ("1.9", "active"), ("2", "draft"), ("3", "retired")] {
        topics.add(of(version, status)).unwrap();
    }
    assert_eq!(topics.add(of("2", "active")).unwrap_err().code, "duplicate");
    let version =
        |topics: &Topics, canonical: &str| topics.find(canonical).map(|topic| topic.version.clone().unwrap());
    assert_eq!(version(&topics, "http://example.org/topic").as_deref(), Some("1.10"));
    assert_eq!(version(&topics, "http://example.org/topic|1.9").as_deref(), Some("1.9"));
    assert_eq!(version(&topics, "http://example.org/topic|3").as_deref(), Some("3"));
    assert_eq!(version(&topics, "http://example.org/topic|4"), None);
    for order in
        [["1", "1.0"], ["1.0", "1"], ["1.0", "1.00"], ["1.00", "1.0"], ["1.0-a", "1.0-b"], ["1.0-b", "1.0-a"]]
    {
        let mut topics = Topics::default();
        for version in order {
            topics.add(of(version, "draft")).unwrap();
        }
        let newest = version(&topics, "http://example.org/topic");
        assert_eq!(newest.as_deref(), order.iter().copied().max(), "{order:?}");
    }
    let own = read(
        &basic(&[trigger(&[])]).replace("http://example.org/", "https://augury.dev/fhir/SubscriptionTopic/"),
    );
    assert_eq!(topics.add(own).unwrap_err().code, "business-rule");
}

#[test]
fn those_of_this_server_are_sound() {
    let names: Vec<String> = Topics::built_in().iter().map(|topic| topic.name.clone().unwrap()).collect();
    let wanted =
        ["model-change", "observation-critical", "risk-assessment", "risk-band-crossed", "risk-refused"];
    assert_eq!(names, wanted);
    for topic in Topics::built_in().iter() {
        let basic = topic.to_basic();
        let issues = validate(&basic);
        assert!(issues.0.iter().all(|issue| issue.severity < Severity::Error), "{issues}");
        assert_eq!(basic.text("id"), topic.name.as_deref());
        assert_eq!(read(&basic.to_text()).to_basic(), basic, "{}", topic.url);
    }
}

fn built_in(name: &str, before: &str, after: &str) -> String {
    let topic =
        Topics::built_in().find(&format!("https://augury.dev/fhir/SubscriptionTopic/{name}")).unwrap();
    speaks(topic, before, after)
}

#[test]
fn assessments_crossings_and_refusals() {
    let of = |prediction: &str| {
        format!(
            r#"{{"resourceType":"RiskAssessment","id":"r","status":"final","subject":{{"reference":"Patient/1"}},"prediction":[{prediction}]}}"#
        )
    };
    let number = of(
        r#"{"probabilityDecimal":12.5,"_probabilityDecimal":{"extension":[{"url":"https://augury.dev/fhir/StructureDefinition/risk-fraction","valueDecimal":0.125}]}}"#,
    );
    let crossed = of(
        r#"{"extension":[{"url":"https://augury.dev/fhir/StructureDefinition/band-before","valueCode":"low"}],"probabilityDecimal":12.5}"#,
    );
    let refused = of(
        r#"{"_probabilityDecimal":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}}"#,
    );
    for (name, before, after, wanted) in [
        ("risk-assessment", &number, &refused, "cu"),
        ("risk-band-crossed", &number, &number, ""),
        ("risk-band-crossed", &number, &crossed, "cu"),
        ("risk-band-crossed", &crossed, &crossed, "c"),
        ("risk-refused", &number, &number, ""),
        ("risk-refused", &number, &refused, "cu"),
        ("risk-refused", &refused, &refused, "c"),
        ("risk-refused", &refused, &number, ""),
    ] {
        assert_eq!(built_in(name, before, after), wanted, "{name}");
    }
}

#[test]
fn critical_values_and_models() {
    const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    let of = |own: &str, component: &str| {
        let concept = |code: &str| format!(r#"[{{"coding":[{{"system":"{SYSTEM}","code":"{code}"}}]}}]"#);
        format!(
            r#"{{"resourceType":"Observation","id":"o","status":"final","code":{{"text":"a"}},"interpretation":{},"component":[{{"code":{{"text":"b"}},"interpretation":{}}}]}}"#,
            concept(own),
            concept(component)
        )
    };
    let (calm, own, component) = (of("N", "H"), of("HH", "N"), of("N", "LL"));
    let panic = of("AA", "A");
    let elsewhere = own.replace(SYSTEM, "http://example.org/codes");
    for (before, after, wanted) in [
        (&calm, &calm, ""),
        (&calm, &own, "cu"),
        (&calm, &component, "cu"),
        (&calm, &panic, "cu"),
        (&own, &component, "c"),
        (&own, &calm, ""),
        (&calm, &elsewhere, ""),
    ] {
        assert_eq!(built_in("observation-critical", before, after), wanted, "{after}");
    }
    let model = r#"{"resourceType":"Device","id":"d","meta":{"profile":["https://augury.dev/fhir/StructureDefinition/augury-device"]}}"#;
    let other = r#"{"resourceType":"Device","id":"d"}"#;
    assert_eq!(built_in("model-change", model, model), "cu");
    assert_eq!(built_in("model-change", model, other), "");
}

#[test]
fn a_wide_observation_is_no_less_critical() {
    let component = |code: &str| {
        format!(
            r#"{{"code":{{"text":"a"}},"interpretation":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"{code}"}}]}}]}}"#
        )
    };
    let of = |last: &str| {
        let calm = format!("{},", component("N")).repeat(5000);
        format!(r#"{{"resourceType":"Observation","id":"o","component":[{calm}{}]}}"#, component(last))
    };
    assert_eq!(built_in("observation-critical", &of("N"), &of("LL")), "cu");
}

#[test]
fn a_wide_resource_is_no_endless_evaluation() {
    let name = r#"{"family":"a"},"#.repeat(3000);
    let patient = format!(r#"{{"resourceType":"Patient","id":"p","name":[{}]}}"#, name.trim_end_matches(','));
    let kind = part("resource", "valueUri", "Patient");
    let expression = "name.where(family = 'b' or %resource.name.where(family = 'c').exists()).empty()";
    let topic =
        read(&basic(&[own("resourceTrigger", &[kind, part("fhirPathCriteria", "valueString", expression)])]));
    // What is not known to be false is told.
    assert_eq!(speaks(&topic, &patient, &patient), "cud");
    assert!(matches!(topic.to_basic(), Json::Object(_)));
}
