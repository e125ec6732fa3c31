//! Parameters of every type, and searches over several types (search.html#all).

use serde_json::json;

use super::Table;
use crate::check::{Check, Outcome, ensure};
use crate::server::{Server, text, unique};

#[rustfmt::skip]
const ALL: Table = Table {
    id: "search/all-types",
    section: "search.html#all",
    kind: "Patient",
    common: "{}",
    data: &[
        ("tagged", r#"{"meta": {"tag": [{"system": "urn:conformance:t", "code": "a"}, {"system": "urn:conformance:t", "code": "b"}]}}"#),
        ("other-tag", r#"{"meta": {"tag": [{"system": "urn:conformance:t", "code": "b"}]}}"#),
        ("secured", r#"{"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}}"#),
        ("profiled", r#"{"meta": {"profile": ["http://example.org/<run>/profile"]}}"#),
        ("sourced", r#"{"meta": {"source": "http://example.org/<run>/source"}}"#),
        ("plain", "{}"),
        ("observation", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}}"#),
        ("basic", r#"{"resourceType": "Basic", "code": {"text": "x"}}"#),
        (".list", r#"{"resourceType": "List", "status": "current", "mode": "working", "entry": [{"item": {"reference": "<plain>"}}, {"item": {"reference": "<tagged>"}}, {"item": {"reference": "<observation>"}}]}"#),
    ],
    queries: &[
        ("tag", "_tag=urn:conformance:t|a", "tagged"),
        ("tag-code", "_tag=b", "tagged other-tag"),
        ("tag-system", "_tag=urn:conformance:t|", "tagged other-tag"),
        ("tag-or", "_tag=urn:conformance:t|a,urn:conformance:t|b", "tagged other-tag"),
        ("tag-and", "_tag=urn:conformance:t|a&_tag=urn:conformance:t|b", "tagged"),
        ("tag-not", "_tag:not=urn:conformance:t|b", "secured profiled sourced plain"),
        ("security", "_security=R", "secured"),
        ("security-system", "_security=http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R", "secured"),
        ("security-other", "_security=urn:nobody|R", ""),
        ("profile", "_profile=http://example.org/<run>/profile", "profiled"),
        ("profile-other", "_profile=http://example.org/<run>", ""),
        ("source", "_source=http://example.org/<run>/source", "sourced"),
        ("list", "_list=<list.id>", "tagged plain"),
        ("list-of-other-type", "/Observation?_list=<list.id>", "observation"),
        ("list-nobody", "_list=nobody-has-this-id", ""),
        ("last-updated-long-ago", "_lastUpdated=lt2000-01-01", ""),
        ("last-updated-since", "_lastUpdated=gt2000-01-01&_id=<plain.id>", "plain"),
        ("last-updated-future", "_lastUpdated=gt2100", ""),
        ("last-updated-range", "_lastUpdated=ge2000&_lastUpdated=lt2100&_id=<tagged.id>", "tagged"),
        ("last-updated-bad", "_lastUpdated=now", "!"),
        ("system", "/?_type=Patient,Observation,Basic&_tag:not=urn:conformance:t|b", "secured profiled sourced plain observation basic"),
        ("system-one-type", "/?_type=Basic", "basic"),
        ("system-two-types", "/?_type=Basic,Observation", "basic observation"),
        ("system-id", "/?_type=Patient,Observation&_id=<observation.id>", "observation"),
        ("system-unknown-type", "/?_type=Nothing", "!"),
    ],
};

const NEEDS: &[&str] = &["Patient.create", "Patient.search-type", "?_lastUpdated"];

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = ALL.checks();
    for (name, prefix, before, itself, after) in [
        ("eq", "", false, true, false),
        ("ne", "ne", true, false, true),
        ("gt", "gt", true, false, false),
        ("ge", "ge", true, true, false),
        ("lt", "lt", false, false, true),
        ("le", "le", false, true, true),
    ] {
        let title = format!("_lastUpdated with {name} looks at meta.lastUpdated to its last digit");
        checks.push(Check::new(
            format!("search/last-updated/{name}"),
            "search.html#lastUpdated",
            title,
            NEEDS,
            move |server| last_updated(server, prefix, [before, itself, after]),
        ));
    }
    checks.push(Check::new(
        "search/read-your-writes/create",
        "search.html#lastUpdated",
        "what is created is found at once",
        NEEDS,
        |server| {
            (0..10).try_for_each(|_| {
                let made = server.create(&json!({"resourceType": "Patient"}))?;
                let found = server.search("/Patient", &format!("_id={}", made.id))?.found("match");
                ensure(found == [made.reference()], "not found after its 201")
            })
        },
    ));
    checks.push(Check::new(
        "search/read-your-writes/update",
        "http.html#update",
        "what is updated is found by what it says now, and no longer by what it said",
        &["Patient.create", "Patient.update", "Patient?family"],
        |server| {
            let (before, after) = (unique("before"), unique("after"));
            let made = server.create(&json!({"resourceType": "Patient", "name": [{"family": before}]}))?;
            let body = json!({"resourceType": "Patient", "id": made.id, "name": [{"family": after}]});
            server.put(&made.path(), &body)?.expect(200)?;
            let found = |family: &str| {
                Ok::<_, crate::check::Stop>(
                    server.search("/Patient", &format!("family={family}"))?.found("match"),
                )
            };
            ensure(found(&before)?.is_empty(), "found by the old name")?;
            ensure(found(&after)? == [made.reference()], "not found by the new name")
        },
    ));
    checks.push(Check::new(
        "search/read-your-writes/delete",
        "http.html#delete",
        "what is deleted is no longer found",
        &["Patient.create", "Patient.delete", "Patient?family"],
        |server| {
            let family = unique("gone");
            let made = server.create(&json!({"resourceType": "Patient", "name": [{"family": family}]}))?;
            server.delete(&made.path())?.expect_one(&[200, 204])?;
            for query in [
                format!("family={family}"),
                format!("_id={}", made.id),
                format!("family={family}&gender:not=male"),
            ] {
                ensure(
                    server.search("/Patient", &query)?.found("match").is_empty(),
                    format!("found by {query}"),
                )?;
            }
            Ok(())
        },
    ));
    checks
}

/// Compares with a moment a little before, at, and after the update of one resource.
fn last_updated(server: &Server, prefix: &str, wanted: [bool; 3]) -> Outcome {
    let made = server.create(&json!({"resourceType": "Patient"}))?;
    let read = server.get(&made.path())?;
    let updated = text(&read.json, "/meta/lastUpdated");
    let moment = chrono::DateTime::parse_from_rfc3339(updated).map_err(|e| format!("`{updated}`: {e}"))?;
    let form = |moment: chrono::DateTime<chrono::FixedOffset>| {
        moment.to_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    };
    let day = chrono::TimeDelta::days(1);
    for (at, wanted) in [form(moment - day), updated.to_owned(), form(moment + day)].into_iter().zip(wanted) {
        let query = format!("_id={}&_lastUpdated={prefix}{at}", made.id);
        let found = server.search("/Patient", &query)?.found("match");
        ensure(
            found.is_empty() != wanted,
            format!("`_lastUpdated={prefix}{at}` of {updated} finds {found:?}"),
        )?;
    }
    Ok(())
}
