//! What comes along with the matches (search.html#include, search.html#revinclude).

use super::{Loaded, Table};
use crate::check::{Check, ensure};
use crate::server::{Server, list, text, unique};
use serde_json::json;

#[rustfmt::skip]
const CHART: Table = Table {
    id: "search/include",
    section: "search.html#include",
    kind: "Observation",
    common: r#"{"status": "final", "code": {"text": "include"}}"#,
    data: &[
        (".parent", r#"{"resourceType": "Organization", "name": "Parent"}"#),
        (".org", r#"{"resourceType": "Organization", "name": "Child", "partOf": {"reference": "<parent>"}}"#),
        (".doctor", r#"{"resourceType": "Practitioner"}"#),
        (".anna", r#"{"resourceType": "Patient", "generalPractitioner": [{"reference": "<doctor>"}, {"reference": "<org>"}], "managingOrganization": {"reference": "<org>"}}"#),
        (".visit", r#"{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "<anna>"}}"#),
        ("one", r#"{"subject": {"reference": "<anna>"}, "encounter": {"reference": "<visit>"}}"#),
        ("two", r#"{"subject": {"reference": "<anna>"}, "derivedFrom": [{"reference": "<one>"}]}"#),
        ("three", r#"{"subject": {"display": "nobody"}, "performer": [{"reference": "<doctor>"}, {"reference": "Practitioner/nobody-has-this-id"}]}"#),
        (".provenance", r#"{"resourceType": "Provenance", "target": [{"reference": "<one>"}], "recorded": "2020-01-02T03:04:05Z", "agent": [{"who": {"reference": "<doctor>"}}]}"#),
        (".report", r#"{"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "r"}, "result": [{"reference": "<two>"}]}"#),
    ],
    queries: &[
        ("one", "_id=<one.id>&_include=Observation:subject", "one +anna"),
        ("of-two-once", "_include=Observation:subject", "one two three +anna"),
        ("several", "_id=<one.id>&_include=Observation:subject&_include=Observation:encounter", "one +anna +visit"),
        ("target-type", "_id=<one.id>&_include=Observation:subject:Patient", "one +anna"),
        ("target-type-other", "_id=<one.id>&_include=Observation:subject:Group", "one"),
        ("nothing-to-include", "_id=<three.id>&_include=Observation:encounter", "three"),
        ("absent-target", "_id=<three.id>&_include=Observation:performer", "three +doctor"),
        ("no-iterate-no-second-step", "_id=<one.id>&_include=Observation:subject&_include=Patient:organization", "one +anna"),
        ("iterate", "_id=<one.id>&_include=Observation:subject&_include:iterate=Patient:organization", "one +anna +org"),
        ("iterate-twice", "_id=<one.id>&_include=Observation:subject&_include:iterate=Patient:organization&_include:iterate=Organization:partof", "one +anna +org +parent"),
        ("iterate-several-types", "_id=<one.id>&_include=Observation:subject&_include:iterate=Patient:general-practitioner", "one +anna +doctor +org"),
        ("iterate-by-way", "_id=<one.id>&_include=Observation:encounter&_include:iterate=Encounter:patient", "one +visit +anna"),
        ("wildcard", "_id=<one.id>&_include=Observation:*", "one +anna +visit"),
        ("wildcard-all", "_id=<one.id>&_include=*", "one +anna +visit"),
        ("a-match-is-not-included-again", "_id=<one.id>,<two.id>&_include=Observation:derived-from", "one two"),
        ("same-type", "_id=<two.id>&_include=Observation:derived-from", "two +one"),
        ("unknown-type", "_include=Nothing:subject", "!"),
        ("unknown-parameter", "_include=Observation:nothing", "!"),
    ],
};

#[rustfmt::skip]
const AGAINST: Table = Table {
    id: "search/revinclude",
    section: "search.html#revinclude",
    kind: "Patient",
    common: "{}",
    data: &[
        ("anna", "{}"),
        ("bert", "{}"),
        (".visit", r#"{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "<anna>"}}"#),
        (".one", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "<anna>"}, "encounter": {"reference": "<visit>"}}"#),
        (".two", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "<bert>"}}"#),
        (".provenance", r#"{"resourceType": "Provenance", "target": [{"reference": "<one>"}], "recorded": "2020-01-02T03:04:05Z", "agent": [{"who": {"display": "x"}}]}"#),
    ],
    queries: &[
        ("one", "_id=<anna.id>&_revinclude=Observation:subject", "anna +one"),
        ("by-patient", "_id=<anna.id>&_revinclude=Observation:patient", "anna +one"),
        ("of-two", "_revinclude=Observation:subject", "anna bert +one +two"),
        ("several", "_id=<anna.id>&_revinclude=Observation:subject&_revinclude=Encounter:patient", "anna +one +visit"),
        ("nothing", "_id=<bert.id>&_revinclude=Encounter:patient", "bert"),
        ("provenance", "/Observation?_id=<one.id>&_revinclude=Provenance:target", "one +provenance"),
        ("provenance-of-another", "/Observation?_id=<two.id>&_revinclude=Provenance:target", "two"),
        ("iterate", "_id=<anna.id>&_revinclude=Observation:subject&_revinclude:iterate=Provenance:target", "anna +one +provenance"),
        ("both-ways", "/Encounter?_id=<visit.id>&_include=Encounter:patient&_revinclude=Observation:encounter", "visit +anna +one"),
        ("unknown-parameter", "_revinclude=Observation:nothing", "!"),
    ],
};

const NEEDS: &[&str] = &["Observation.create", "Observation.search-type", "Patient.create", "?_tag"];

pub(crate) fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = [&CHART, &AGAINST].into_iter().flat_map(Table::checks).collect();
    checks.extend([
        Check::new(
            "search/include/total-counts-matches",
            "search.html#total",
            "the total counts the matches, not what is included",
            NEEDS,
            |server| {
                let loaded = Loaded::new(server, &CHART)?;
                let (path, query) =
                    loaded.address(server, &CHART, "_include=Observation:subject&_total=accurate");
                let total = server.search(&path, &query)?.total();
                ensure(total.is_none_or(|total| total == 3), format!("total is {total:?}, not 3"))
            },
        ),
        Check::new(
            "search/include/of-each-page",
            "search.html#include",
            "each page has what its own matches refer to, beyond _count",
            NEEDS,
            |server| {
                let loaded = Loaded::new(server, &CHART)?;
                let query = "_include=Observation:subject&_count=1&_sort=_id";
                let pages = loaded.ask(server, &CHART, query)?;
                ensure(pages.len() >= 3, format!("{} pages of three matches", pages.len()))?;
                for page in &pages {
                    ensure(page.found("match").len() <= 1, "more than one match a page")?;
                    let refers = page.entries().iter().any(|one| {
                        text(one, "/search/mode") != "include"
                            && !text(one, "/resource/subject/reference").is_empty()
                    });
                    ensure(
                        page.found("include").len() == usize::from(refers),
                        "not the Patient of the page's match",
                    )?;
                }
                Ok(())
            },
        ),
        Check::new(
            "search/include/deleted",
            "search.html#include",
            "what is deleted is not included",
            &["Observation.create", "Patient.delete", "?_tag"],
            deleted,
        ),
        Check::new(
            "search/include/cycle",
            "search.html#include",
            "an iterated include of a circle ends",
            &["Organization.create", "Organization.update", "Organization+Organization:partof"],
            cycle,
        ),
        Check::new(
            "search/include/full-url",
            "bundle.html#searchset",
            "an included entry has its fullUrl",
            NEEDS,
            |server| {
                let loaded = Loaded::new(server, &CHART)?;
                let pages = loaded.ask(server, &CHART, "_include=Observation:subject")?;
                let mut entries = pages.iter().flat_map(|page| list(&page.json, "/entry"));
                ensure(
                    entries.all(|entry| text(entry, "/fullUrl").starts_with("http")),
                    "an entry without a fullUrl",
                )
            },
        ),
    ]);
    checks
}

fn deleted(server: &Server) -> crate::check::Outcome {
    let patient = server.create(&json!({"resourceType": "Patient"}))?;
    let observation = server
        .create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": patient.reference()}}))?;
    let answer = server.delete(&patient.path())?;
    if answer.status == 409 {
        return Err(crate::check::Stop::Skip("what is referred to can't be deleted".to_owned()));
    }
    answer.expect_one(&[200, 204])?;
    let page =
        server.search("/Observation", &format!("_id={}&_include=Observation:subject", observation.id))?;
    ensure(
        page.found("include").is_empty() && page.found("match").len() == 1,
        "a deleted resource came along",
    )
}

fn cycle(server: &Server) -> crate::check::Outcome {
    let name = unique("cycle");
    let first = server.create(&json!({"resourceType": "Organization", "name": name}))?;
    let part_of =
        |of: &str| json!({"resourceType": "Organization", "name": name, "partOf": {"reference": of}});
    let second = server.create(&part_of(&first.reference()))?;
    let mut body = part_of(&second.reference());
    if let Some(object) = body.as_object_mut() {
        object.insert("id".to_owned(), json!(first.id));
    }
    server.put(&first.path(), &body)?.expect(200)?;
    let query = format!("_id={}&_include=Organization:partof&_include:iterate=Organization:partof", first.id);
    let page = server.search("/Organization", &query)?;
    ensure(page.found("match") == [first.reference()], "the match is missing")?;
    ensure(page.found("include") == [second.reference()], format!("included: {:?}", page.found("include")))
}
