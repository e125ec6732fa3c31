//! Profiles: what a StructureDefinition asks for is asked for, whatever way it says so.

use fhir::conformance::{Strict, claimed, findings};
use fhir::json::{Json, Limits, parse};
use fhir::outcome::Severity;
use fhir::profile::Profiles;
use proptest::prelude::*;

#[expect(clippy::expect_used, reason = "a test that cannot read its own input says which")]
fn json(text: &str) -> Json<'static> {
    parse(text.as_bytes(), &Limits::default()).expect(text).into_owned()
}

const URL: &str = "http://p.test/fhir/StructureDefinition/p";

/// Knows one profile, whose differential has those elements, and some more resources.
fn profiles(of: &str, elements: &str, more: &[&str]) -> Profiles {
    let mut profiles = Profiles::new();
    let definition = format!(
        r#"{{"resourceType":"StructureDefinition","url":"{URL}","version":"1.2","type":"{of}","derivation":"constraint",
        "baseDefinition":"http://hl7.org/fhir/StructureDefinition/{of}","differential":{{"element":[{elements}]}}}}"#
    );
    assert!(profiles.add(&json(&definition)));
    for text in more {
        profiles.add(&json(text));
    }
    profiles
}

/// Places of the errors of an Observation, `more` added to it, against the profile.
fn errors(profiles: &Profiles, more: &str) -> Vec<String> {
    let text = format!(
        r#"{{"resourceType":"Observation","meta":{{"profile":["{URL}"]}},"status":"final","code":{{"text":"x"}}{more}}}"#
    );
    let resource = json(&text);
    let structure = fhir::validate::validate(&resource);
    assert!(!structure.has_error(), "{structure}");
    let found = claimed(&resource, profiles, true);
    found.0.into_iter().filter(|one| one.severity >= Severity::Error).map(|one| one.expression).collect()
}

#[test]
fn cardinality_types_values_and_bounds() {
    let known = profiles(
        "Observation",
        r#"{"path":"Observation.subject","min":1},
        {"path":"Observation.note","max":"1"},
        {"path":"Observation.bodySite","max":"0"},
        {"path":"Observation.value[x]","type":[{"code":"Quantity"},{"code":"string"}],"maxLength":3},
        {"path":"Observation.interpretation.coding.system","min":1,"fixedUri":"http://i"},
        {"path":"Observation.method","patternCodeableConcept":{"coding":[{"system":"http://m","code":"a"}]}},
        {"path":"Observation.issued","minValueInstant":"2020-01-01T00:00:00Z"}"#,
        &[],
    );
    let subject = r#","subject":{"display":"x"}"#;
    let with = |more: &str| errors(&known, &format!("{subject}{more}"));
    assert_eq!(errors(&known, ""), ["Observation.subject"]);
    assert_eq!(with(""), Vec::<String>::new());
    for (more, at) in [
        (r#","note":[{"text":"a"},{"text":"b"}]"#, "Observation.note"),
        (r#","bodySite":{"text":"x"}"#, "Observation.bodySite"),
        (r#","valueBoolean":true"#, "Observation.value"),
        (r#","valueString":"abcd""#, "Observation.value"),
        (
            r#","interpretation":[{"coding":[{"code":"x"}]}]"#,
            "Observation.interpretation[0].coding[0].system",
        ),
        (
            r#","interpretation":[{"coding":[{"system":"http://j","code":"x"}]}]"#,
            "Observation.interpretation[0].coding[0].system",
        ),
        (r#","method":{"coding":[{"system":"http://n","code":"a"}]}"#, "Observation.method"),
        (r#","issued":"2019-12-31T23:59:59Z""#, "Observation.issued"),
    ] {
        assert_eq!(with(more), [at], "{more}");
    }
    for more in [
        r#","valueString":"abc""#,
        r#","valueQuantity":{"value":1}"#,
        r#","method":{"coding":[{"code":"b"},{"system":"http://m","code":"a","display":"A"}],"text":"t"}"#,
        r#","issued":"2020-01-01T00:00:00Z""#,
    ] {
        assert_eq!(with(more), Vec::<String>::new(), "{more}");
    }
}

#[test]
fn slices_by_value_pattern_type_exists_and_profile() {
    let component =
        |code: &str, more: &str| format!(r#"{{"code":{{"coding":[{{"code":"{code}"}}]}}{more}}}"#);
    let all = |parts: &[String]| format!(r#","component":[{}]"#, parts.join(","));
    let (a, b, c) = (component("a", r#","valueString":"x""#), component("b", ""), component("c", ""));
    let by = |discriminator: &str, rules: &str, first: &str, second: &str| {
        profiles(
            "Observation",
            &format!(
                r#"{{"id":"Observation.component","path":"Observation.component","slicing":{{"discriminator":[{discriminator}],"rules":"{rules}"}}}},
                {{"id":"Observation.component:a","path":"Observation.component","sliceName":"a","min":1,"max":"1"}},{first},
                {{"id":"Observation.component:b","path":"Observation.component","sliceName":"b","max":"1"}},{second}"#
            ),
            &[],
        )
    };
    let value = |slice: &str| {
        format!(
            r#"{{"id":"Observation.component:{slice}.code.coding.code","path":"Observation.component.code.coding.code","min":1,"fixedCode":"{slice}"}}"#
        )
    };
    let pattern = |slice: &str| {
        format!(
            r#"{{"id":"Observation.component:{slice}.code","path":"Observation.component.code","patternCodeableConcept":{{"coding":[{{"code":"{slice}"}}]}}}}"#
        )
    };
    for (discriminator, first, second) in [
        (r#"{"type":"value","path":"code.coding.code"}"#, value("a"), value("b")),
        (r#"{"type":"pattern","path":"code"}"#, pattern("a"), pattern("b")),
        // A path below what a pattern is for.
        (r#"{"type":"value","path":"code.coding.code"}"#, pattern("a"), pattern("b")),
    ] {
        let open = by(discriminator, "open", &first, &second);
        let closed = by(discriminator, "closed", &first, &second);
        let at_end = by(discriminator, "openAtEnd", &first, &second);
        let none = Vec::<String>::new();
        assert_eq!(errors(&open, &all(&[a.clone(), b.clone(), c.clone()])), none);
        assert_eq!(errors(&open, &all(std::slice::from_ref(&b))), ["Observation.component"]);
        assert_eq!(errors(&open, &all(&[a.clone(), b.clone(), b.clone()])), ["Observation.component"]);
        assert_eq!(errors(&closed, &all(&[a.clone(), c.clone()])), ["Observation.component[1]"]);
        assert_eq!(errors(&at_end, &all(&[c.clone(), a.clone()])), ["Observation.component[1]"]);
        assert_eq!(errors(&at_end, &all(&[a.clone(), c.clone()])), none);
    }
    let exists = by(
        r#"{"type":"exists","path":"value"}"#,
        "open",
        r#"{"id":"Observation.component:a.value[x]","path":"Observation.component.value[x]","min":1}"#,
        r#"{"id":"Observation.component:b.value[x]","path":"Observation.component.value[x]","max":"0"}"#,
    );
    assert_eq!(errors(&exists, &all(std::slice::from_ref(&b))), ["Observation.component"]);
    assert_eq!(errors(&exists, &all(&[a.clone(), b.clone()])), Vec::<String>::new());
    assert_eq!(errors(&exists, &all(&[a.clone(), a.clone()])), ["Observation.component"]);
    // A choice, told apart by its type; said by path alone.
    let choice = profiles(
        "Observation",
        r#"{"path":"Observation.valueQuantity","min":1},{"path":"Observation.valueQuantity.code","min":1}"#,
        &[],
    );
    assert_eq!(errors(&choice, r#","valueString":"x""#), ["Observation.value"]);
    assert_eq!(errors(&choice, r#","valueQuantity":{"value":1}"#), ["Observation.value.code"]);
    assert_eq!(
        errors(&choice, r#","valueQuantity":{"value":1,"system":"http://u","code":"mg"}"#),
        Vec::<String>::new()
    );
    let other = r#"{"resourceType":"StructureDefinition","url":"http://p.test/fhir/StructureDefinition/grown","type":"Patient","derivation":"constraint","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","differential":{"element":[{"path":"Patient.birthDate","min":1}]}}"#;
    let by_profile = profiles(
        "Observation",
        r#"{"id":"Observation.subject","path":"Observation.subject","type":[{"code":"Reference","targetProfile":["http://p.test/fhir/StructureDefinition/grown"]}]}"#,
        &[other],
    );
    let held = |patient: &str| {
        format!(
            r##","contained":[{{"resourceType":"Patient","id":"p"{patient}}}],"subject":{{"reference":"#p"}}"##
        )
    };
    assert_eq!(errors(&by_profile, &held("")), ["Observation.subject.reference"]);
    assert_eq!(errors(&by_profile, &held(r#","birthDate":"1970""#)), Vec::<String>::new());
    assert_eq!(
        errors(&by_profile, r#","subject":{"reference":"Group/1"}"#),
        ["Observation.subject.reference"]
    );
    assert_eq!(errors(&by_profile, r#","subject":{"reference":"Patient/1"}"#), Vec::<String>::new());
}

#[test]
fn bindings_invariants_and_what_can_not_be_told() {
    let values = r#"{"resourceType":"ValueSet","url":"http://p.test/v","compose":{"include":[{"system":"http://s","concept":[{"code":"a"}]}]}}"#;
    let far = r#"{"resourceType":"ValueSet","url":"http://p.test/far","compose":{"include":[{"valueSet":["http://nobody/knows"]}]}}"#;
    let known = profiles(
        "Observation",
        r#"{"path":"Observation","constraint":[{"key":"p-1","severity":"error","human":"final with a value","expression":"status = 'final' implies value.exists()"},
            {"key":"p-2","severity":"warning","human":"with a note","expression":"note.exists()"}]},
        {"path":"Observation.method","binding":{"strength":"required","valueSet":"http://p.test/v"}},
        {"path":"Observation.bodySite","binding":{"strength":"required","valueSet":"http://p.test/far"}}"#,
        &[values, far],
    );
    let value = r#","valueString":"x""#;
    assert_eq!(errors(&known, ""), ["Observation"]);
    let method = |coding: &str| format!(r#"{value},"method":{{"coding":[{coding}]}}"#);
    assert_eq!(errors(&known, &method(r#"{"system":"http://s","code":"a"}"#)), Vec::<String>::new());
    for wrong in
        [r#"{"system":"http://s","code":"b"}"#, r#"{"system":"http://t","code":"a"}"#, r#"{"code":"a"}"#]
    {
        assert_eq!(errors(&known, &method(wrong)), ["Observation.method"], "{wrong}");
    }
    let untold = format!(r#"{value},"bodySite":{{"text":"x"}},"note":[{{"text":"n"}}]"#);
    let untold = untold.replace(r#"{"text":"x"}"#, r#"{"coding":[{"system":"http://s","code":"q"}]}"#);
    assert_eq!(errors(&known, &untold), Vec::<String>::new());
    let text = format!(
        r#"{{"resourceType":"Observation","meta":{{"profile":["{URL}|1.2"]}},"status":"final","code":{{"text":"x"}}{untold}}}"#
    );
    let told = findings(&json(&text), &known, &[], Strict::default());
    assert!(!told.has_error(), "{told}");
    let site = told.0.iter().find(|one| one.expression == "Observation.bodySite").unwrap();
    assert_eq!((site.severity, site.code), (Severity::Information, "not-supported"));
    // Another version is another profile: unknown, and an error only if it is asked for.
    let other = json(&text.replace("|1.2", "|9"));
    assert!(!findings(&other, &known, &[], Strict::default()).has_error());
    assert!(findings(&other, &known, &[format!("{URL}|9")], Strict::default()).has_error());
}

#[test]
fn vital_signs_and_extensions() {
    let known = Profiles::built_in();
    let pressure = |claims: &str, systolic: &str| {
        json(&format!(
            r#"{{"resourceType":"Observation"{claims},"status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}}]}}],
            "code":{{"coding":[{{"system":"http://loinc.org","code":"85354-9"}}]}},"subject":{{"reference":"Patient/p"}},"effectiveDateTime":"2024-05-06",
            "component":[{{"code":{{"coding":[{{"system":"http://loinc.org","code":"{systolic}"}}]}},"valueQuantity":{{"value":120,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}}},
            {{"code":{{"coding":[{{"system":"http://loinc.org","code":"8462-4"}}]}},"valueQuantity":{{"value":80,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}}}]}}"#
        ))
    };
    let claim = r#","meta":{"profile":["http://hl7.org/fhir/StructureDefinition/bp"]}"#;
    let (good, bad) = (pressure(claim, "8480-6"), pressure(claim, "8459-0"));
    assert!(claimed(&good, known, false).0.is_empty());
    let found = claimed(&bad, known, false);
    assert!(
        found.has_error() && found.0.iter().all(|one| one.expression == "Observation.component"),
        "{found}"
    );
    // What claims nothing is stored, and told of where somebody asks.
    let silent = pressure("", "8459-0");
    assert!(claimed(&silent, known, false).0.is_empty());
    assert!(findings(&silent, known, &[], Strict::default()).has_error());
    let patient =
        |extension: &str| json(&format!(r#"{{"resourceType":"Patient","extension":[{extension}]}}"#));
    let place = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace";
    let wrong = patient(&format!(r#"{{"url":"{place}","valueString":"Graz"}}"#));
    let right = patient(&format!(r#"{{"url":"{place}","valueAddress":{{"city":"Graz"}}}}"#));
    assert!(findings(&wrong, known, &[], Strict::default()).has_error());
    assert!(!findings(&right, known, &[], Strict::default()).has_error());
    let elsewhere =
        patient(r#"{"url":"http://hl7.org/fhir/StructureDefinition/humanname-own-name","valueString":"x"}"#);
    assert!(findings(&elsewhere, known, &[], Strict::default()).has_error());
    let nobodys = patient(r#"{"url":"http://nobody/knows","valueString":"x"}"#);
    assert!(!findings(&nobodys, known, &[], Strict::default()).has_error());
    assert!(findings(&nobodys, known, &[], Strict::ALL).has_error());
}

#[test]
fn profiles_that_lead_to_each_other_come_to_an_end() {
    let of = |name: &str, base: &str, target: &str| {
        format!(
            r#"{{"resourceType":"StructureDefinition","url":"http://p.test/{name}","type":"Patient","derivation":"constraint","baseDefinition":"{base}",
            "differential":{{"element":[{{"path":"Patient.link.other","type":[{{"code":"Reference","targetProfile":["http://p.test/{target}"]}}]}}]}}}}"#
        )
    };
    let mut known = Profiles::new();
    known.add(&json(&of("a", "http://p.test/b", "b")));
    known.add(&json(&of("b", "http://p.test/a", "a")));
    let text = r##"{"resourceType":"Patient","meta":{"profile":["http://p.test/a"]},"contained":[{"resourceType":"Patient","id":"x","link":[{"other":{"reference":"#"},"type":"seealso"}]}],
        "link":[{"other":{"reference":"#x"},"type":"seealso"}]}"##;
    assert!(!claimed(&json(text), &known, true).has_error());
}

/// One thing a differential may say, and whether an Observation with so many notes, a value of that
/// type and that status keeps it: judged here by hand.
#[derive(Debug, Clone)]
struct Case {
    min: usize,
    max: usize,
    notes: usize,
    types: Vec<usize>,
    value: Option<usize>,
    needed: bool,
}

const VALUES: [(&str, &str); 4] = [
    ("Quantity", r#""valueQuantity":{"value":1}"#),
    ("string", r#""valueString":"x""#),
    ("boolean", r#""valueBoolean":true"#),
    ("CodeableConcept", r#""valueCodeableConcept":{"text":"x"}"#),
];

fn case() -> impl Strategy<Value = Case> {
    let types = proptest::sample::subsequence((0..4).collect::<Vec<usize>>(), 1..=4);
    (0..3_usize, 0..4_usize, 0..4_usize, types, proptest::option::of(0..4_usize), any::<bool>())
        .prop_map(|(min, max, notes, types, value, needed)| Case { min, max, notes, types, value, needed })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_asked_for_is_what_is_checked(case in case()) {
        let types: Vec<String> =
            case.types.iter().map(|n| format!(r#"{{"code":"{}"}}"#, VALUES[*n].0)).collect();
        let known = profiles(
            "Observation",
            &format!(
                r#"{{"path":"Observation.note","min":{},"max":"{}"}},{{"path":"Observation.value[x]","min":{},"type":[{}]}}"#,
                case.min, case.max, usize::from(case.needed), types.join(",")
            ),
            &[],
        );
        let mut more = String::new();
        if case.notes > 0 {
            let notes = vec![r#"{"text":"n"}"#; case.notes];
            more.push_str(&format!(r#","note":[{}]"#, notes.join(",")));
        }
        if let Some(value) = case.value {
            more.push_str(&format!(",{}", VALUES[value].1));
        }
        let mut wanted = Vec::new();
        if case.notes < case.min {
            wanted.push("Observation.note");
        }
        if case.notes > case.max {
            wanted.push("Observation.note");
        }
        match case.value {
            None if case.needed => wanted.push("Observation.value"),
            Some(value) if !case.types.contains(&value) => wanted.push("Observation.value"),
            _ => {}
        }
        prop_assert_eq!(errors(&known, &more), wanted);
    }

    /// Whatever a definition says, a check of whatever resource comes to an end, twice the same.
    #[test]
    fn no_definition_and_no_resource_makes_it_fail(
        path in "(Observation|Patient)(\\.(value\\[x\\]|valueQuantity|component|code|coding|extension|x)){0,4}",
        slice in proptest::option::of("[a-z]{1,3}(/[a-z])?"),
        kind in "(value|pattern|exists|type|profile)",
        discriminator in "(\\$this|code|value|resolve\\(\\)|extension\\('u'\\)|code\\.coding\\.code|x|value\\.ofType\\(Quantity\\))",
        min in 0..3_u8,
        expression in "(true|\\$this|code\\.coding\\.where|component\\.value > 1|repeat\\(children\\(\\)\\)\\.count\\(\\) < 5)",
    ) {
        let name = slice.map(|slice| format!(r#","sliceName":"{slice}""#)).unwrap_or_default();
        let known = profiles(
            "Observation",
            &format!(
                r#"{{"path":"{path}"{name},"min":{min},"slicing":{{"discriminator":[{{"type":"{kind}","path":"{discriminator}"}}],"rules":"closed"}},
                "constraint":[{{"key":"k","severity":"error","expression":"{expression}"}}]}}"#
            ),
            &[],
        );
        let resource = json(&format!(
            r#"{{"resourceType":"Observation","meta":{{"profile":["{URL}"]}},"status":"final","code":{{"coding":[{{"code":"a"}}]}},
            "valueQuantity":{{"value":1,"extension":[{{"url":"u","valueString":"x"}}]}},"component":[{{"code":{{"text":"x"}}}}]}}"#
        ));
        let once = claimed(&resource, &known, true);
        prop_assert_eq!(&once, &claimed(&resource, &known, true));
        let _ = findings(&resource, &known, &[], Strict::ALL);
    }
}
