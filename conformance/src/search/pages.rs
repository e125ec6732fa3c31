//! Pages: every match once, whatever is written meanwhile (http.html#paging).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, encoded, unique};

const SECTION: &str = "http.html#paging";
const NEEDS: &[&str] = &["Patient.create", "Patient.search-type", "?_tag"];

/// A tag, and how many Patients have it; all with one name, so that no sort key tells them apart.
fn crowd(server: &Server, count: usize) -> Result<String, Stop> {
    let tag = unique("crowd");
    for n in 0..count {
        server.create(&member(&tag, n))?;
    }
    Ok(tag)
}

fn member(tag: &str, n: usize) -> Value {
    json!({"resourceType": "Patient", "meta": {"tag": [{"system": "urn:conformance", "code": tag}]},
        "name": [{"family": "Same"}], "birthDate": "1970-01-02", "active": n.is_multiple_of(2)})
}

fn of(tag: &str, more: &str) -> String {
    format!("_tag=urn:conformance|{tag}{more}")
}

fn each_once(pages: &[Answer], count: usize) -> Outcome {
    let found: Vec<String> = pages.iter().flat_map(|page| page.found("match")).collect();
    let different: HashSet<&String> = found.iter().collect();
    ensure(found.len() == different.len(), "a match is on two pages")?;
    ensure(found.len() == count, format!("{} matches, not {count}", found.len()))
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, more) in [
        ("unsorted", ""),
        ("same-key", "&_sort=family"),
        ("same-key-descending", "&_sort=-family"),
        ("same-date", "&_sort=birthdate"),
        ("same-two-keys", "&_sort=family,-birthdate"),
        ("last-updated", "&_sort=-_lastUpdated"),
        ("filtered", "&active=true"),
        ("total-none", "&_total=none"),
        ("total-accurate", "&_total=accurate"),
        ("elements", "&_elements=birthDate"),
        ("summary", "&_summary=true"),
        ("include", "&_include=Patient:organization"),
    ] {
        let title =
            format!("seven matches by twos with `{}` are each on one page", more.trim_start_matches('&'));
        checks.push(Check::new(format!("search/pages/{name}"), SECTION, title, NEEDS, move |server| {
            let tag = crowd(server, 7)?;
            let wanted: usize = if name == "filtered" { 4 } else { 7 };
            let pages = server.pages("/Patient", &of(&tag, &format!("{more}&_count=2")))?;
            ensure(pages.len() == wanted.div_ceil(2), format!("{} pages", pages.len()))?;
            ensure(pages.iter().all(|page| page.found("match").len() <= 2), "a page has more than _count")?;
            each_once(&pages, wanted)
        }));
    }
    checks.extend([
        Check::new(
            "search/pages/no-next-at-the-end",
            SECTION,
            "the last page has no next link, even where the matches fill it",
            NEEDS,
            |server| {
                let tag = crowd(server, 4)?;
                let pages = server.pages("/Patient", &of(&tag, "&_count=2&_total=none"))?;
                ensure(
                    pages.iter().filter(|page| !page.found("match").is_empty()).count() == 2,
                    "not two pages",
                )?;
                let last = server.search("/Patient", &of(&tag, "&_count=4"))?;
                ensure(last.link("next").is_none(), "a next link although all matches are on the page")
            },
        ),
        Check::new(
            "search/pages/next-keeps-parameters",
            SECTION,
            "the next page has what the parameters of the first ask for",
            NEEDS,
            |server| {
                let tag = crowd(server, 5)?;
                let pages = server.pages("/Patient", &of(&tag, "&active=true&_elements=active&_count=1"))?;
                each_once(&pages, 3)?;
                let shown = pages.iter().flat_map(Answer::entries);
                ensure(
                    shown.clone().all(|entry| entry.pointer("/resource/active") == Some(&json!(true))),
                    "another match",
                )?;
                ensure(
                    shown.clone().all(|entry| entry.pointer("/resource/name").is_none()),
                    "_elements is lost",
                )
            },
        ),
        Check::new(
            "search/pages/next-of-post",
            "http.html#search",
            "the next link of a search by POST keeps the form's parameters",
            NEEDS,
            |server| {
                let tag = crowd(server, 5)?;
                let first =
                    server.ask("POST", "/Patient/_search").form(&of(&tag, "&active=true&_count=2")).send()?;
                first.expect(200)?;
                let next = first.link("next").ok_or("no next link")?.to_owned();
                let second = server.get(&next)?;
                second.expect(200)?;
                each_once(&[first, second], 3)
            },
        ),
        Check::new(
            "search/pages/next-of-compartment",
            SECTION,
            "a compartment's search has pages",
            &["Observation.create", "Observation.search-type", "?_tag"],
            |server| {
                let patient = server.create(&json!({"resourceType": "Patient"}))?;
                for _ in 0..3 {
                    server.create(
                        &json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                    "subject": {"reference": patient.reference()}}),
                    )?;
                }
                each_once(&server.pages(&format!("{}/Observation", patient.path()), "_count=2")?, 3)
            },
        ),
        Check::new(
            "search/pages/next-of-system",
            SECTION,
            "a search over types has pages",
            &["search-system", "?_tag"],
            |server| {
                let tag = crowd(server, 3)?;
                for _ in 0..2 {
                    server.create(&json!({"resourceType": "Basic", "code": {"text": "x"},
                    "meta": {"tag": [{"system": "urn:conformance", "code": tag}]}}))?;
                }
                each_once(&server.pages("", &of(&tag, "&_type=Patient,Basic&_count=2"))?, 5)
            },
        ),
        Check::new(
            "search/pages/writes-between",
            SECTION,
            "what is created between pages makes no match double and none missing",
            NEEDS,
            |server| {
                between(server, "&_sort=family", |server, tag, _| server.create(&member(tag, 0)).map(|_| ()))
            },
        ),
        Check::new(
            "search/pages/writes-between-newest-first",
            SECTION,
            "newest first, what is created between pages makes no match double and none missing",
            NEEDS,
            |server| {
                between(server, "&_sort=-_lastUpdated", |server, tag, _| {
                    server.create(&member(tag, 0)).map(|_| ())
                })
            },
        ),
        Check::new(
            "search/pages/deletes-between",
            SECTION,
            "what is deleted between pages makes no other match missing",
            &["Patient.create", "Patient.delete", "?_tag"],
            |server| {
                between(server, "&_sort=family", |server, _, seen| {
                    let path = seen.last().map(|one| format!("/{one}")).unwrap_or_default();
                    server.delete(&path)?.expect_one(&[200, 204])
                })
            },
        ),
        Check::new(
            "search/pages/self",
            "http.html#search",
            "the self link of a page says how it was asked",
            NEEDS,
            |server| {
                let tag = crowd(server, 1)?;
                let page = server.search("/Patient", &of(&tag, "&_count=2&gender:missing=true"))?;
                let own = page.link("self").ok_or("no self link")?;
                ensure(own.starts_with("http"), "the self link is not absolute")?;
                ensure(
                    ["_tag=", "_count=", "gender"].iter().all(|part| own.contains(part)),
                    format!("self is {own}"),
                )
            },
        ),
        Check::new(
            "search/pages/self-again",
            "http.html#search",
            "the self link can be asked again",
            NEEDS,
            |server| {
                let tag = crowd(server, 2)?;
                let page = server.search("/Patient", &of(&tag, ""))?;
                let again = server.get(page.link("self").ok_or("no self link")?)?;
                again.expect(200)?;
                ensure(again.found("match") == page.found("match"), "other matches")
            },
        ),
        Check::new(
            "search/pages/forged",
            SECTION,
            "a next link that was changed is refused or empty, never an error of the server",
            NEEDS,
            |server| {
                let tag = crowd(server, 3)?;
                let page = server.search("/Patient", &of(&tag, "&_count=1"))?;
                let next = page.link("next").ok_or("no next link")?;
                let answer = server.get(&format!("{next}XYZ"))?;
                ensure(answer.status < 500, format!("{}", answer.status))
            },
        ),
        Check::new(
            "search/pages/count-one",
            "search.html#count",
            "_count=1 gives one match",
            NEEDS,
            |server| {
                let tag = crowd(server, 2)?;
                let found = server.search("/Patient", &of(&tag, "&_count=1"))?.found("match").len();
                ensure(found == 1, format!("{found} matches"))
            },
        ),
        Check::new(
            "search/pages/count-zero",
            "search.html#count",
            "_count=0 is like _summary=count",
            NEEDS,
            |server| {
                let tag = crowd(server, 2)?;
                let page = server.search("/Patient", &of(&tag, "&_count=0"))?;
                ensure(
                    page.entries().is_empty() && page.total() == Some(2),
                    format!("total {:?}, {} entries", page.total(), page.entries().len()),
                )
            },
        ),
        Check::new(
            "search/pages/count-large",
            "search.html#count",
            "a huge _count is no error",
            NEEDS,
            |server| {
                let tag = crowd(server, 2)?;
                let found = server.search("/Patient", &of(&tag, "&_count=1000000"))?.found("match").len();
                ensure(found == 2, format!("{found} matches"))
            },
        ),
        Check::new(
            "search/pages/count-text",
            "search.html#count",
            "a _count that is no number is refused",
            NEEDS,
            |server| server.get("/Patient?_count=few")?.refused(&[400]),
        ),
        Check::new(
            "search/pages/count-negative",
            "search.html#count",
            "a negative _count is refused",
            NEEDS,
            |server| server.get("/Patient?_count=-1")?.refused(&[400]),
        ),
        Check::new(
            "search/pages/total-counts-all",
            "search.html#total",
            "_total=accurate counts all matches, not the page's",
            NEEDS,
            |server| {
                let tag = crowd(server, 3)?;
                let total = server.search("/Patient", &of(&tag, "&_total=accurate&_count=1"))?.total();
                ensure(total == Some(3), format!("total is {total:?}"))
            },
        ),
        Check::new(
            "search/pages/total-same-on-each",
            "search.html#total",
            "the total is the same on each page",
            NEEDS,
            |server| {
                let tag = crowd(server, 3)?;
                let pages = server.pages("/Patient", &of(&tag, "&_total=accurate&_count=1"))?;
                ensure(pages.iter().all(|page| page.total() == Some(3)), "another total")
            },
        ),
        Check::new(
            "search/pages/total-bad",
            "search.html#total",
            "a _total that is none of the three is refused",
            NEEDS,
            |server| server.get("/Patient?_total=roughly")?.refused(&[400]),
        ),
        Check::new(
            "search/pages/by-post-same",
            "http.html#search",
            "a search by POST finds what GET finds",
            NEEDS,
            |server| {
                let tag = crowd(server, 3)?;
                let query = of(&tag, "&_sort=_id");
                let by_get = server.search("/Patient", &query)?;
                let by_post = server.ask("POST", "/Patient/_search").form(&query).send()?;
                by_post.expect(200)?;
                ensure(by_get.found("match") == by_post.found("match"), "other matches")
            },
        ),
        Check::new(
            "search/pages/by-post-with-address",
            "http.html#search",
            "a search by POST counts the parameters of the address too",
            NEEDS,
            |server| {
                let tag = crowd(server, 3)?;
                let target = format!("/Patient/_search?{}", encoded("active=false"));
                let answer = server.ask("POST", &target).form(&of(&tag, "")).send()?;
                answer.expect(200)?;
                ensure(answer.found("match").len() == 1, format!("{} matches", answer.found("match").len()))
            },
        ),
        Check::new(
            "search/pages/by-post-system",
            "http.html#search",
            "a search over types can be a POST",
            &["search-system", "?_tag"],
            |server| {
                let tag = crowd(server, 2)?;
                let answer = server.ask("POST", "/_search").form(&of(&tag, "&_type=Patient")).send()?;
                answer.expect(200)?;
                ensure(answer.found("match").len() == 2, "not two matches")
            },
        ),
        Check::new(
            "search/pages/by-post-compartment",
            "http.html#search",
            "a compartment's search can be a POST",
            NEEDS,
            |server| {
                let patient = server.create(&json!({"resourceType": "Patient"}))?;
                let made = server.create(
                    &json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                "subject": {"reference": patient.reference()}}),
                )?;
                let answer = server
                    .ask("POST", &format!("{}/Observation/_search", patient.path()))
                    .form("status=final")
                    .send()?;
                answer.expect(200)?;
                ensure(answer.found("match") == [made.reference()], "not the one Observation")
            },
        ),
        Check::new(
            "search/pages/head",
            "http.html#search",
            "HEAD of a search has no body",
            NEEDS,
            |server| {
                let answer = server.ask("HEAD", "/Patient?_count=1").send()?;
                if answer.status == 405 {
                    return Err(Stop::Skip("no HEAD".to_owned()));
                }
                answer.expect(200)?;
                ensure(answer.bytes.is_empty(), "there is a body")
            },
        ),
    ]);
    checks
}

/// Goes through six matches by twos and does something after each page.
fn between(server: &Server, more: &str, act: impl Fn(&Server, &str, &[String]) -> Outcome) -> Outcome {
    let tag = crowd(server, 6)?;
    let all = server.search("/Patient", &of(&tag, "&_count=50"))?.found("match");
    let mut page = server.search("/Patient", &of(&tag, &format!("{more}&_count=2")))?;
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..20 {
        seen.extend(page.found("match"));
        act(server, &tag, &seen)?;
        let Some(next) = page.link("next").map(str::to_owned) else { break };
        page = server.get(&next)?;
        page.expect(200)?;
    }
    let different: HashSet<&String> = seen.iter().collect();
    ensure(different.len() == seen.len(), "a match came twice")?;
    ensure(all.iter().all(|one| different.contains(one)), "a match never came")
}
