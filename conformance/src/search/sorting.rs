//! Order (search.html#sort).

use serde_json::json;

use super::Table;
use crate::check::{Check, ensure};
use crate::server::unique;

#[rustfmt::skip]
const PEOPLE: Table = Table {
    id: "search/sort",
    section: "search.html#sort",
    kind: "Patient",
    common: "{}",
    data: &[
        ("b", r#"{"name": [{"family": "Bravo", "given": ["Zoe"]}], "birthDate": "1970-01-02", "gender": "female", "identifier": [{"system": "urn:s", "value": "2"}]}"#),
        ("a", r#"{"name": [{"family": "alpha", "given": ["Zoe"]}], "birthDate": "1990-01-02", "gender": "male", "identifier": [{"system": "urn:s", "value": "3"}]}"#),
        ("d", r#"{"name": [{"family": "Délta", "given": ["Amy"]}], "birthDate": "1950", "gender": "other", "identifier": [{"system": "urn:s", "value": "1"}]}"#),
        ("c", r#"{"name": [{"family": "Charlie", "given": ["Amy"]}], "birthDate": "1970-06", "gender": "unknown", "identifier": [{"system": "urn:s", "value": "4"}]}"#),
    ],
    queries: &[
        ("string", "_sort=family", "> a b c d"),
        ("string-descending", "_sort=-family", "> d c b a"),
        ("date", "_sort=birthdate", "> d b c a"),
        ("date-descending", "_sort=-birthdate", "> a c b d"),
        ("token", "_sort=gender", "> b a d c"),
        ("token-descending", "_sort=-gender", "> c d a b"),
        ("two-keys", "_sort=given,family", "> c d a b"),
        ("two-keys-mixed", "_sort=given,-family", "> d c b a"),
        ("two-keys-descending-first", "_sort=-given,family", "> a b c d"),
        ("two-keys-date", "_sort=-given,-birthdate", "> a b c d"),
        ("last-updated", "_sort=_lastUpdated", "> b a d c"),
        ("last-updated-descending", "_sort=-_lastUpdated", "> c d a b"),
        ("beside-filter", "_sort=-family&birthdate=lt1980", "> d c b"),
        ("by-pages", "_sort=family&_count=1", "> a b c d"),
        ("by-pages-descending", "_sort=-birthdate&_count=3", "> a c b d"),
        ("by-pages-two-keys", "_sort=given,-family&_count=2", "> d c b a"),
        ("by-pages-last-updated", "_sort=-_lastUpdated&_count=1", "> c d a b"),
        ("unknown", "_sort=shoe-size", "!"),
    ],
};

#[rustfmt::skip]
const VALUES: Table = Table {
    id: "search/sort-values",
    section: "search.html#sort",
    kind: "Observation",
    common: r#"{"status": "final"}"#,
    data: &[
        ("ten", r#"{"code": {"coding": [{"code": "k2"}]}, "effectiveDateTime": "2020-05-01T10:00:00Z", "valueQuantity": {"value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
        ("nine", r#"{"code": {"coding": [{"code": "k1"}]}, "effectiveDateTime": "2020-05-01T09:00:00+00:30", "valueQuantity": {"value": 9, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
        ("minus", r#"{"code": {"coding": [{"code": "k3"}]}, "effectivePeriod": {"start": "2019-01-01", "end": "2019-12-31"}, "valueQuantity": {"value": -1.5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
    ],
    queries: &[
        ("quantity", "_sort=value-quantity", "> minus nine ten"),
        ("quantity-descending", "_sort=-value-quantity", "> ten nine minus"),
        ("moment", "_sort=date", "> minus nine ten"),
        ("moment-descending", "_sort=-date", "> ten nine minus"),
        ("token", "_sort=code", "> nine ten minus"),
        ("patient-code-newest-first", "code=k1,k2&_sort=-date&_count=1", "> ten nine"),
    ],
};

#[rustfmt::skip]
const GAPS: Table = Table {
    id: "search/sort-missing",
    section: "search.html#sort",
    kind: "Patient",
    common: "{}",
    data: &[
        ("one", r#"{"birthDate": "1970-01-02", "name": [{"family": "One"}]}"#),
        ("two", r#"{"birthDate": "1980-01-02", "name": [{"family": "Two"}]}"#),
        ("none", "{}"),
        ("empty", r#"{"gender": "male"}"#),
    ],
    queries: &[
        ("all-are-there", "_sort=birthdate", "one two none empty"),
        ("all-are-there-descending", "_sort=-birthdate", "one two none empty"),
        ("all-are-there-string", "_sort=family", "one two none empty"),
        ("by-pages", "_sort=birthdate&_count=1", "one two none empty"),
        ("by-pages-descending", "_sort=-birthdate&_count=1", "one two none empty"),
        ("by-pages-string", "_sort=-family&_count=1", "one two none empty"),
    ],
};

pub(crate) fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = [&PEOPLE, &VALUES, &GAPS].into_iter().flat_map(Table::checks).collect();
    for (name, sort) in
        [("missing", "birthdate"), ("missing-descending", "-birthdate"), ("missing-string", "family")]
    {
        let title = format!("`_sort={sort}` keeps those without a value together at one end");
        let needs = ["Patient.create", "Patient?family", "?_tag"];
        checks.push(Check::new(format!("search/sort-missing/{name}"), "search.html#sort", title, &needs, move |server| {
            let tag = unique("gaps");
            for n in 0..6 {
                let mut patient = json!({"resourceType": "Patient", "meta": {"tag": [{"system": "urn:conformance", "code": tag}]}});
                if let Some(object) = patient.as_object_mut().filter(|_| n % 2 == 0) {
                    object.insert("birthDate".to_owned(), json!(format!("19{n}0-01-02")));
                    object.insert("name".to_owned(), json!([{"family": format!("Name{n}")}]));
                }
                server.create(&patient)?;
            }
            let pages = server.pages("/Patient", &format!("_tag=urn:conformance|{tag}&_sort={sort}&_count=2"))?;
            let entries = pages.iter().flat_map(crate::server::Answer::entries);
            let has: Vec<bool> = entries.map(|entry| entry.pointer("/resource/birthDate").is_some()).collect();
            let changes = has.windows(2).filter(|pair| pair.first() != pair.last()).count();
            ensure(has.len() == 6 && changes == 1, format!("with a value: {has:?}"))
        }));
    }
    checks
}
