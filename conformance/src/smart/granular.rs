//! Granular scopes: `patient/Observation.rs?category=…` lets through what that search would find.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chart::{CATEGORIES, Category, categories, is_of, world};
use super::flow::{Session, shared};
use super::{capable, check};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, encoded, list, text};

const AT: &str = "smart-app-launch/STU2.2/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters";

/// Searches of a type behind `patient=ID&`; those of the (g)(10) kit, as far as the chart has values.
#[rustfmt::skip]
const SEARCHES: &[(&str, &[&str])] = &[
    ("Condition", &["", "code=http://snomed.info/sct|44054006", "clinical-status=active", "onset-date=ge2021-01-02", "_lastUpdated=gt2000-01-01"]),
    ("Observation", &["", "code=http://loinc.org|8867-4", "status=final", "date=ge2021-01-02&date=le2021-01-09", "_sort=-date&_count=100", "_lastUpdated=gt2000-01-01"]),
    ("DiagnosticReport", &["", "code=http://loinc.org|24323-8", "status=final", "date=ge2021-01-02"]),
    ("DocumentReference", &["", "type=http://loinc.org|11506-3", "status=current", "date=ge2021-01-02"]),
    ("ServiceRequest", &["", "code=http://snomed.info/sct|104177005", "status=active", "authored=ge2021-01-02"]),
];

/// The scopes that grant these categories of a type.
fn scopes(kind: &str, granted: &[Category]) -> Vec<String> {
    granted.iter().map(|(system, code)| format!("patient/{kind}.rs?category={system}|{code}")).collect()
}

fn session(server: &Server, kind: &str, granted: &[Category]) -> Result<Arc<Session>, Stop> {
    capable(server, "permission-v2")?;
    let all = scopes(kind, granted);
    let session =
        shared(server, "standalone", &format!("launch/patient patient/Patient.rs {}", all.join(" ")))?;
    let missing: Vec<&String> = all.iter().filter(|one| !session.has(one)).collect();
    ensure(
        missing.is_empty(),
        format!("not granted: {missing:?}; granted: {}", session.answer.at("/scope")),
    )?;
    Ok(session)
}

/// `Type/id` of what a token's search finds; none if it is refused.
fn found(server: &Server, token: Option<&str>, address: &str) -> Result<Option<BTreeSet<String>>, Stop> {
    let ask = token.map_or_else(|| server.ask("GET", address), |token| server.with(token, "GET", address));
    let answer = ask.send()?;
    if token.is_some() && matches!(answer.status, 400 | 401 | 403) {
        return Ok(None);
    }
    answer.expect(200)?;
    ensure(answer.link("next").is_none(), "more than one page")?;
    Ok(Some(answer.found("match").into_iter().collect()))
}

/// Every search finds what is in the scopes of what it finds without them.
fn searched(server: &Server, kind: &str, granted: &[Category]) -> Outcome {
    let session = session(server, kind, granted)?;
    let own = &world(server)?.own;
    let within: BTreeSet<String> = own
        .of(kind)
        .filter(|(_, resource)| is_of(resource, granted))
        .map(|(made, _)| made.reference())
        .collect();
    let searches = SEARCHES.iter().find(|(one, _)| *one == kind).map_or(&[][..], |(_, all)| *all);
    let mut queries: Vec<(String, bool)> = searches.iter().map(|query| ((*query).to_owned(), true)).collect();
    for (system, code) in categories(kind) {
        let inside = granted.contains(&(*system, *code));
        queries.push((format!("category={system}|{code}"), inside));
        queries.push((format!("category={code}"), inside));
    }
    for (query, inside) in queries {
        let whole = format!("patient={}&_count=200&{query}", own.patient.made.id);
        let whole = if query.contains("_count") { whole.replace("&_count=200", "") } else { whole };
        let address = format!("/{kind}?{}", encoded(&whole));
        let all = found(server, None, &address)?.unwrap_or_default();
        let expected: BTreeSet<String> = all.intersection(&within).cloned().collect();
        match found(server, Some(session.token()), &address)? {
            Some(seen) => ensure(seen == expected, format!("`{whole}` finds {seen:?}, not {expected:?}"))?,
            // What is asked outside of the scopes may be refused as a whole.
            None => ensure(!inside || query.is_empty(), format!("`{whole}` is refused"))?,
        }
    }
    let total = server
        .with(session.token(), "GET", &format!("/{kind}?patient={}&_summary=count", own.patient.made.id))
        .send()?;
    ensure(
        total.status != 200 || total.total() == u64::try_from(within.len()).ok(),
        format!("the count is {:?}", total.total()),
    )
}

/// What matches is read, what does not is not.
fn read(server: &Server, kind: &str, granted: &[Category]) -> Outcome {
    let session = session(server, kind, granted)?;
    for (made, resource) in world(server)?.own.of(kind) {
        let answer = session.get(server, &made.path())?;
        if is_of(resource, granted) {
            answer.expect(200)?;
            ensure(answer.at("/id") == made.id, "another resource")?;
            continue;
        }
        ensure(answer.status >= 400, format!("{} is read: {}", made.reference(), answer.shown()))?;
        let empty = answer.text.is_empty() || answer.is("OperationOutcome");
        ensure(empty, format!("neither empty nor an OperationOutcome: {}", answer.shown()))?;
        let history = session.get(server, &format!("{}/_history", made.path()))?;
        let shown = list(&history.json, "/entry").iter().any(|entry| text(entry, "/resource/id") == made.id);
        ensure(!shown, format!("{} is in the history", made.reference()))?;
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![check(
        "granted_granular_scopes_test",
        AT,
        "granular scopes that are asked for are granted",
        |s| {
            capable(s, "permission-v2")?;
            let all: Vec<String> =
                CATEGORIES.iter().flat_map(|(kind, categories)| scopes(kind, categories)).collect();
            let session =
                shared(s, "standalone", &format!("launch/patient patient/Patient.rs {}", all.join(" ")))?;
            let missing: Vec<&String> = all.iter().filter(|one| !session.has(one)).collect();
            ensure(missing.is_empty(), format!("not granted: {missing:?}"))
        },
    )];
    for (kind, all) in CATEGORIES {
        let mut sets: Vec<(String, Vec<Category>)> =
            all.iter().map(|one| (format!("{kind}-{}", one.1), vec![*one])).collect();
        let two: Vec<Category> = all.iter().take(2).copied().collect();
        sets.push((format!("{kind}-two"), two));
        for (name, granted) in sets {
            let codes: Vec<&str> = granted.iter().map(|(_, code)| *code).collect();
            let codes = codes.join(" or ");
            let again = granted.clone();
            checks.push(check(
                &format!("granular-search/{name}"),
                AT,
                &format!("every search of {kind} finds what has category {codes}, no more and no less"),
                move |s| searched(s, kind, &again),
            ));
            checks.push(check(
                &format!("granular-read/{name}"),
                AT,
                &format!("a {kind} of category {codes} is read, another is not"),
                move |s| read(s, kind, &granted),
            ));
        }
    }
    checks
}
