//! Parameters that are not known, values that can't be read, and searches that are too much
//! (search.html#errors).

use serde_json::json;

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, encoded, list, text, unique};

const SECTION: &str = "search.html#errors";
const STRICT: &str = "search.html#errors";
const NEEDS: &[&str] = &["Patient.create", "Patient.search-type", "Patient?family"];

/// What the raw text behind `/Patient?` finds of a family name with odd letters.
#[rustfmt::skip]
const ENCODINGS: &[(&str, &str, &str)] = &[
    ("plus-is-a-space", "Le+Roux", "Le Roux"),
    ("percent-20-is-a-space", "Le%20Roux", "Le Roux"),
    ("percent-2b-is-a-plus", "Le%2BRoux", "Le+Roux"),
    ("encoded-letters", "%4Ce%20R%6Fux", "Le Roux"),
    ("lower-case-hex", "M%c3%bcller", "Müller"),
    ("encoded-ampersand", "Fish%26Chips", "Fish&Chips"),
    ("encoded-equals", "A%3DB", "A=B"),
    ("encoded-twice-is-no-letter", "%254Ce", "%4Ce"),
    ("encoded-hash", "A%23B", "A#B"),
    ("encoded-question-mark", "A%3FB", "A?B"),
    ("encoded-quote", "O%27Neill", "O'Neill"),
    ("emoji", "%F0%9F%98%80", "😀"),
];

fn named(server: &Server, family: &str) -> Result<(String, String), Stop> {
    let tag = unique("named");
    let made = server.create(&json!({"resourceType": "Patient", "name": [{"family": family}],
        "meta": {"tag": [{"system": "urn:conformance", "code": tag}]}}))?;
    Ok((tag, made.reference()))
}

fn strict(server: &Server, target: &str) -> Outcome {
    server.ask("GET", target).header("prefer", "handling=strict").send()?.refused(&[400])
}

/// Ignored, and the rest of the query answered; named as ignored, and not in the self link.
fn lenient(server: &Server, unknown: &str) -> Outcome {
    let (tag, reference) = named(server, "Lenient")?;
    let query = encoded(&format!("_tag=urn:conformance|{tag}&{unknown}"));
    let page = server.ask("GET", &format!("/Patient?{query}")).header("prefer", "handling=lenient").send()?;
    page.expect(200)?;
    ensure(page.found("match") == [reference], "the rest of the query is not answered")?;
    let own = page.link("self").ok_or("no self link")?;
    let name = unknown.split('=').next().unwrap_or_default();
    ensure(own.contains("_tag=") && !own.contains(name), format!("self is {own}"))
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, raw, family) in ENCODINGS {
        let title = format!("`family:exact={raw}` means `{family}`");
        let needs = ["Patient.create", "Patient?family", "?_tag"];
        checks.push(Check::new(
            format!("search/encoding/{name}"),
            "search.html#escaping",
            title,
            &needs,
            move |server| {
                let (tag, reference) = named(server, family)?;
                let page =
                    server.get(&format!("/Patient?family:exact={raw}&_tag=urn:conformance%7C{tag}"))?;
                page.expect(200)?;
                ensure(page.found("match") == [reference], format!("found {:?}", page.found("match")))
            },
        ));
    }
    for (name, query) in [
        ("parameter", "shoe-size=44"),
        ("chain", "shoe-size.name=x"),
        ("of-another-type", "value-quantity=5"),
        ("misspelled-case", "Family=x"),
    ] {
        checks.push(Check::new(
            format!("search/strict/{name}"),
            STRICT,
            format!("`{query}` is refused with Prefer: handling=strict"),
            NEEDS,
            move |server| strict(server, &format!("/Patient?{query}")),
        ));
        checks.push(Check::new(
            format!("search/lenient/{name}"),
            STRICT,
            format!("`{query}` is left out with Prefer: handling=lenient, and not in the self link"),
            NEEDS,
            move |server| lenient(server, query),
        ));
    }
    for (name, query) in [
        ("modifier", "family:loudly=x"),
        ("modifier-of-another-type", "birthdate:exact=1970"),
        ("modifier-on-id", "_id:contains=x"),
        ("missing-value", "family:missing=maybe"),
        ("include", "_include=Patient"),
        ("contained-value", "_contained=perhaps"),
        ("sort", "_sort=shoe-size"),
        ("has", "_has:Observation=x"),
        ("date", "birthdate=1973-02-30"),
    ] {
        checks.push(Check::new(
            format!("search/refused/{name}"),
            SECTION,
            format!("`{query}` is refused: leaving it out would change the answer"),
            NEEDS,
            move |server| server.get(&format!("/Patient?{}", encoded(query)))?.refused(&[400, 422, 501]),
        ));
    }
    checks.extend([
        Check::new(
            "search/lenient/default",
            STRICT,
            "an unknown parameter does not stop a search without Prefer, or is refused",
            NEEDS,
            |server| {
                let answer = server.get("/Patient?shoe-size=44&_count=1")?;
                if answer.status == 200 { Ok(()) } else { answer.refused(&[400]) }
            },
        ),
        Check::new(
            "search/lenient/is-named",
            "search.html#errors",
            "what is left out is named in an OperationOutcome with mode outcome",
            NEEDS,
            |server| {
                let (tag, _) = named(server, "Named")?;
                let page = server.search("/Patient", &format!("_tag=urn:conformance|{tag}&shoe-size=44"))?;
                let outcome = page.entries().iter().find(|entry| text(entry, "/search/mode") == "outcome");
                let outcome = outcome.ok_or("no entry with mode outcome")?;
                ensure(outcome.to_string().contains("shoe-size"), "the parameter is not named")?;
                let severe =
                    list(outcome, "/resource/issue").iter().any(|issue| text(issue, "/severity") == "error");
                ensure(!severe, "it is an error although the search succeeded")
            },
        ),
        Check::new("search/lenient/total", STRICT, "the outcome entry does not count", NEEDS, |server| {
            let (tag, _) = named(server, "Total")?;
            let page = server
                .search("/Patient", &format!("_tag=urn:conformance|{tag}&shoe-size=44&_total=accurate"))?;
            ensure(page.total() == Some(1), format!("total is {:?}", page.total()))
        }),
        Check::new(
            "search/strict/known",
            STRICT,
            "known parameters are no error with Prefer: handling=strict",
            NEEDS,
            |server| {
                let query = "/Patient?family=x&_sort=family&_count=1&_summary=true";
                server.ask("GET", query).header("prefer", "handling=strict").send()?.expect(200)
            },
        ),
        Check::new(
            "search/strict/with-return",
            STRICT,
            "handling=strict is read beside return=minimal",
            NEEDS,
            |server| {
                let ask = server.ask("GET", "/Patient?shoe-size=44");
                ask.header("prefer", "return=minimal, handling=strict").send()?.refused(&[400])
            },
        ),
        Check::new(
            "search/strict/by-post",
            STRICT,
            "handling=strict holds for a search by POST",
            NEEDS,
            |server| {
                let ask = server.ask("POST", "/Patient/_search").header("prefer", "handling=strict");
                ask.form("shoe-size=44").send()?.refused(&[400])
            },
        ),
        Check::new(
            "search/strict/empty-value",
            SECTION,
            "a parameter without a value finds no more than without it, or is refused",
            NEEDS,
            |server| {
                let (tag, reference) = named(server, "Empty")?;
                let answer = server.get(&format!("/Patient?family=&_tag=urn:conformance%7C{tag}"))?;
                if answer.status == 200 {
                    ensure(answer.found("match") == [reference], "other matches")
                } else {
                    answer.refused(&[400])
                }
            },
        ),
        Check::new(
            "search/limits/thousands-of-parameters",
            SECTION,
            "thousands of parameters in a form are refused or answered, no crash",
            NEEDS,
            |server| {
                let form = "family=a&".repeat(5000);
                let answer = server.ask("POST", "/Patient/_search").form(&form).send()?;
                if answer.status == 200 { Ok(()) } else { answer.refused(&[400, 413, 422]) }
            },
        ),
        Check::new(
            "search/limits/thousands-of-alternatives",
            SECTION,
            "thousands of alternatives are refused or answered, no crash",
            NEEDS,
            |server| {
                let form = format!("family={}z", "a,".repeat(5000));
                let answer = server.ask("POST", "/Patient/_search").form(&form).send()?;
                if answer.status == 200 { Ok(()) } else { answer.refused(&[400, 413, 422]) }
            },
        ),
        Check::new(
            "search/limits/long-value",
            SECTION,
            "a value of a hundred thousand letters is refused or answered, no crash",
            NEEDS,
            |server| {
                let answer = server
                    .ask("POST", "/Patient/_search")
                    .form(&format!("family={}", "a".repeat(100_000)))
                    .send()?;
                if answer.status == 200 {
                    ensure(answer.found("match").is_empty(), "found something")
                } else {
                    answer.refused(&[400, 413, 414, 422])
                }
            },
        ),
        Check::new(
            "search/limits/long-chain",
            SECTION,
            "a chain of forty steps is refused or answered, no crash",
            NEEDS,
            |server| {
                let name = format!("organization.{}name", "partof.".repeat(40));
                let answer = server.get(&format!("/Patient?{name}=x"))?;
                if answer.status == 200 { Ok(()) } else { answer.refused(&[400, 422]) }
            },
        ),
        Check::new(
            "search/limits/nul",
            SECTION,
            "a NUL in a value is refused or finds nothing",
            NEEDS,
            |server| {
                let answer = server.get("/Patient?family=a%00b")?;
                if answer.status == 200 {
                    ensure(answer.found("match").is_empty(), "found something")
                } else {
                    answer.refused(&[400])
                }
            },
        ),
        Check::new(
            "search/limits/not-utf-8",
            SECTION,
            "bytes that are no UTF-8 are refused or find nothing",
            NEEDS,
            |server| {
                let answer = server.get("/Patient?family=%FF%FE")?;
                if answer.status == 200 {
                    ensure(answer.found("match").is_empty(), "found something")
                } else {
                    answer.refused(&[400])
                }
            },
        ),
        Check::new(
            "search/post/media-type",
            "http.html#search",
            "a search by POST in another media type is 415",
            NEEDS,
            |server| {
                let answer = server.ask("POST", "/Patient/_search").body("text/plain", "family=x").send()?;
                answer.refused(&[400, 415])
            },
        ),
        Check::new(
            "search/empty/type",
            "http.html#search",
            "a search that finds nothing is a searchset of none",
            NEEDS,
            |server| {
                let page = server.search("/Patient", "family=nobody-is-called-so&_total=accurate")?;
                ensure(
                    page.entries().is_empty() && page.total() == Some(0),
                    "there are entries or no total",
                )?;
                ensure(page.json.get("entry").is_none(), "an empty array, which FHIR JSON does not allow")
            },
        ),
        Check::new(
            "search/unknown-type",
            "http.html#Status-Codes",
            "a search of a type that is none is 404",
            NEEDS,
            |server| server.get("/Nothing?_id=1")?.refused(&[404, 400]),
        ),
        Check::new(
            "search/entry/full-url",
            "bundle.html#bundle-unique",
            "a match has fullUrl, resource and search.mode",
            NEEDS,
            |server| {
                let (tag, reference) = named(server, "Entry")?;
                let page = server.search("/Patient", &format!("_tag=urn:conformance|{tag}"))?;
                let entry = page.entries().first().ok_or("no match")?;
                ensure(text(entry, "/fullUrl").ends_with(&format!("/{reference}")), "fullUrl is another")?;
                ensure(text(entry, "/fullUrl").starts_with("http"), "fullUrl is not absolute")?;
                ensure(text(entry, "/search/mode") == "match", "no search.mode")?;
                ensure(!text(entry, "/resource/meta/versionId").is_empty(), "no meta.versionId")
            },
        ),
    ]);
    checks
}
