//! What both kinds of patch have to keep, hostile ones too.

use super::{FhirPathPatch, JsonPatch};
use crate::json::{Json, Limits, parse};

fn json(text: &str) -> Json<'_> {
    parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|issues| panic!("{issues}"))
}

/// The result, or the code of the first issue.
fn fhirpath(resource: &str, operations: &[String]) -> Result<String, &'static str> {
    let patch = format!(r#"{{"resourceType":"Parameters","parameter":[{}]}}"#, operations.join(","));
    let patched = FhirPathPatch::parse(&json(&patch)).and_then(|patch| patch.apply(&json(resource)));
    patched.map(|patched| patched.to_text()).map_err(|issues| issues.0[0].code)
}

fn operation(kind: &str, path: &str, rest: &str) -> String {
    format!(
        r#"{{"name":"operation","part":[{{"name":"type","valueCode":"{kind}"}},{{"name":"path","valueString":"{path}"}}{rest}]}}"#
    )
}

fn delete(path: &str) -> String {
    operation("delete", path, "")
}

fn by_json(resource: &str, patch: &str) -> Result<String, &'static str> {
    let limits = Limits::default();
    let patched =
        JsonPatch::parse(patch.as_bytes(), &limits).and_then(|patch| patch.apply(&json(resource), &limits));
    patched.map(|patched| patched.to_text()).map_err(|issues| issues.0[0].code)
}

fn extension(name: &str) -> String {
    format!(r#"{{"extension":[{{"url":"http://{name}","valueCode":"{name}"}}]}}"#)
}

#[test]
fn what_stands_beside_a_value_stays_beside_it() {
    let (x, y) = (extension("x"), extension("y"));
    let named = |given: &str, beside: &str| {
        let beside = if beside.is_empty() { String::new() } else { format!(r#","_given":[{beside}]"#) };
        format!(r#"{{"resourceType":"Patient","name":[{{"given":[{given}]{beside}}}]}}"#)
    };
    let both = named(r#""A","B""#, &format!("{x},{y}"));
    for (resource, path, pointer, wanted) in [
        (
            &both,
            "given[0].extension",
            "/name/0/_given/0/extension",
            named(r#""A","B""#, &format!("null,{y}")),
        ),
        (
            &both,
            "given[1].extension",
            "/name/0/_given/1/extension",
            named(r#""A","B""#, &format!("{x},null")),
        ),
        (
            &named(r#""A","B""#, &format!("null,{y}")),
            "given[1].extension",
            "/name/0/_given/1/extension",
            named(r#""A","B""#, ""),
        ),
        // Neither a value nor an extension is left of the first.
        (
            &named(r#"null,"B""#, &format!("{x},{y}")),
            "given[0].extension",
            "/name/0/_given/0/extension",
            named(r#""B""#, &y),
        ),
    ] {
        let patched = fhirpath(resource, &[delete(&format!("Patient.name.{path}"))]);
        assert_eq!(patched.as_deref(), Ok(wanted.as_str()), "{resource} {path}");
        let patch = format!(r#"[{{"op":"remove","path":"{pointer}"}}]"#);
        assert_eq!(by_json(resource, &patch).as_deref(), Ok(wanted.as_str()), "{resource} {pointer}");
    }
    let first = fhirpath(&both, &[delete("Patient.name.given[0]")]);
    assert_eq!(first.as_deref(), Ok(named(r#""B""#, &y).as_str()));
    let patch = r#"[{"op":"remove","path":"/name/0/given/0"},{"op":"remove","path":"/name/0/_given/0"}]"#;
    assert_eq!(by_json(&both, patch), first);
    let only = named("null", &x);
    assert_eq!(
        fhirpath(&only, &[delete("Patient.name.given.extension")]).as_deref(),
        Ok(r#"{"resourceType":"Patient"}"#)
    );
}

#[test]
fn an_emptied_element_is_gone_for_what_follows() {
    let resource =
        r#"{"resourceType":"Patient","name":[{"family":"a"},{"family":"b"}],"_birthDate":{"id":"x"}}"#;
    let operations =
        [delete("Patient.name[0].family"), delete("Patient.name[0]"), delete("Patient.birthDate.id")];
    assert_eq!(fhirpath(resource, &operations).as_deref(), Ok(r#"{"resourceType":"Patient"}"#));
}

fn questionnaire(items: usize) -> String {
    let items: Vec<_> = (0..items)
        .map(|n| format!(r#"{{"linkId":"{n}","prefix":"{n}.","text":"How often did you feel so in the last two weeks, on most days or on nearly every day?","type":"choice"}}"#))
        .collect();
    format!(r#"{{"resourceType":"Questionnaire","item":[{}]}}"#, items.join(","))
}

const VALUE: &str = r#",{"name":"value","valueString":"changed"}"#;

#[test]
fn a_large_change_of_a_large_resource_is_done() {
    let resource = questionnaire(2100);
    assert!(resource.len() > 300_000, "{}", resource.len());
    let operations: Vec<_> = (0..50)
        .map(|n| operation("replace", &format!("Questionnaire.item.where(linkId='{}').text", n * 40), VALUE))
        .collect();
    let patched = fhirpath(&resource, &operations).unwrap();
    assert_eq!(patched.matches("changed").count(), 50);
    let operations: Vec<_> = (0..50)
        .map(|n| format!(r#"{{"op":"replace","path":"/item/{n}/text","value":"changed"}},{{"op":"move","from":"/item/{n}","path":"/item/-"}}"#))
        .collect();
    assert!(by_json(&resource, &format!("[{}]", operations.join(","))).is_ok());
}

#[test]
fn all_operations_are_paid_from_one_budget() {
    let resource = questionnaire(2100);
    for path in [
        "Questionnaire.item.select(%resource.item.linkId).first()",
        "Questionnaire.descendants().where($this is string and matches('[a-z]+')).first()",
        "Questionnaire.item[0].text",
    ] {
        let operations = vec![operation("replace", path, VALUE); 1000];
        assert_eq!(fhirpath(&resource, &operations), Err("too-costly"), "{path}");
    }
}

#[test]
fn what_a_patch_copies_is_bounded() {
    let double = r#"{"op":"copy","from":"/extension","path":"/extension/-"}"#;
    let resource = r#"{"resourceType":"Patient","extension":[{"url":"http://x","valueString":"abc"}]}"#;
    let patch = format!("[{}]", [double; 40].join(","));
    assert_eq!(by_json(resource, &patch), Err("too-costly"));
    let long = format!(r#"{{"resourceType":"Patient","id":"{}"}}"#, "x".repeat(1 << 20));
    let copies = (0..60).map(|n| format!(r#"{{"op":"copy","from":"/id","path":"/k{n}"}}"#));
    let patch = format!("[{}]", copies.collect::<Vec<_>>().join(","));
    assert_eq!(by_json(&long, &patch), Err("too-costly"));
    let wide = format!(r#"{{"resourceType":"Patient","contact":[{}{{}}]}}"#, "{},".repeat(30_000));
    let copies = (0..1000).map(|n| format!(r#"{{"op":"copy","from":"/contact","path":"/k{n}"}}"#));
    let patch = format!("[{}]", copies.collect::<Vec<_>>().join(","));
    assert_eq!(by_json(&wide, &patch), Err("too-costly"));
}

#[test]
fn a_patch_nests_no_deeper_than_what_comes_in() {
    let test = || {
        let nested = format!("{}1{}", r#"{"extension":["#.repeat(20), "]}".repeat(20)).replace('1', "{}");
        let add = |n: usize| {
            let path = "/extension/0".repeat(n * 20);
            format!(r#"{{"op":"add","path":"{path}/extension","value":[{nested}]}}"#)
        };
        let patch = format!("[{}]", (0..200).map(add).collect::<Vec<_>>().join(","));
        assert_eq!(by_json("{}", &patch), Err("too-costly"));
        let double = r#"{"op":"copy","from":"","path":"/a"}"#;
        let patch = format!("[{}]", [double; 1000].join(","));
        assert_eq!(by_json("{}", &patch), Err("too-costly"));

        let part = |inner: &str| {
            format!(r#"{{"name":"extension","part":[{{"name":"url","valueUri":"http://x"}}{inner}]}}"#)
        };
        let inner = (0..12).fold(String::new(), |inner, _| format!(",{}", part(&inner)));
        let value = format!(
            r#",{{"name":"name","valueString":"extension"}},{{"name":"value","part":[{{"name":"url","valueUri":"http://x"}}{inner}]}}"#
        );
        let deepest = "(Patient | Patient.repeat(extension)).last()";
        let operations = vec![operation("add", deepest, &value); 1000];
        let refused = fhirpath(r#"{"resourceType":"Patient","id":"p"}"#, &operations);
        assert_eq!(refused, Err("too-costly"));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

/// A square of these would take minutes.
#[test]
fn much_that_is_empty_is_taken_out_at_once() {
    let keys: Vec<_> = (0..200_000).map(|n| format!(r#""k{n}":{{}},"_k{n}":[{{}}]"#)).collect();
    let patch = format!(r#"[{{"op":"add","path":"/name","value":{{{}}}}}]"#, keys.join(","));
    assert_eq!(
        by_json(r#"{"resourceType":"Patient"}"#, &patch).as_deref(),
        Ok(r#"{"resourceType":"Patient"}"#)
    );
}
