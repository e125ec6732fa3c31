//! How much is shown: `_summary` and `_elements` (search.html#summary, search.html#elements).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, list, text};

/// A search for one Patient, or a read of it, with this added: what of it is there and what is not.
#[rustfmt::skip]
const SHOWN: &[(&str, &str, &str, &str, &str)] = &[
    ("summary-true", "search.html#summary", "_summary=true", "id meta identifier active name telecom gender birthDate deceasedBoolean address managingOrganization link", "text maritalStatus photo contact communication"),
    ("summary-text", "search.html#summary", "_summary=text", "id meta text", "identifier active name gender birthDate maritalStatus contact"),
    ("summary-data", "search.html#summary", "_summary=data", "id meta identifier active name gender birthDate maritalStatus contact", "text"),
    ("summary-false", "search.html#summary", "_summary=false", "id meta text identifier active name gender birthDate maritalStatus contact", ""),
    ("elements-one", "search.html#elements", "_elements=birthDate", "id birthDate", "text identifier active name gender maritalStatus contact"),
    ("elements-several", "search.html#elements", "_elements=name,gender,maritalStatus", "id name gender maritalStatus", "text identifier active birthDate contact"),
    ("elements-mandatory-inside", "search.html#elements", "_elements=communication", "id communication", "text name gender"),
    ("elements-unknown", "search.html#elements", "_elements=shoeSize,active", "id active", "text name gender"),
];

const NEEDS: &[&str] = &["Patient.create", "Patient.search-type", "?_id"];

fn patient(server: &Server) -> Result<String, Stop> {
    let organization = server.create(&json!({"resourceType": "Organization", "name": "Views"}))?;
    let made = server.create(&json!({"resourceType": "Patient", "active": true,
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">A view</div>"},
        "identifier": [{"system": "urn:conformance:view", "value": "1"}],
        "name": [{"family": "View"}], "telecom": [{"system": "phone", "value": "1"}], "gender": "female",
        "birthDate": "1970-01-02", "deceasedBoolean": false, "address": [{"city": "Viewtown"}],
        "maritalStatus": {"text": "m"}, "contact": [{"name": {"family": "Other"}}], "photo": [{"contentType": "image/png", "url": "http://example.org/p.png"}],
        "communication": [{"language": {"text": "Dutch"}, "preferred": true}],
        "managingOrganization": {"reference": organization.reference()},
        "link": [{"other": {"display": "another"}, "type": "seealso"}]}))?;
    Ok(made.id)
}

fn shows(resource: &Value, there: &str, absent: &str) -> Outcome {
    for element in there.split_whitespace() {
        ensure(resource.get(element).is_some(), format!("{element} is missing"))?;
    }
    for element in absent.split_whitespace() {
        ensure(resource.get(element).is_none(), format!("{element} is there"))?;
    }
    Ok(())
}

fn subsetted(resource: &Value) -> bool {
    list(resource, "/meta/tag").iter().any(|tag| text(tag, "/code") == "SUBSETTED")
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, section, query, there, absent) in SHOWN {
        let title = if absent.is_empty() {
            format!("`{query}` shows everything")
        } else {
            format!("`{query}` shows {there} and leaves out {absent}")
        };
        checks.push(Check::new(format!("search/view/{name}"), section, title, NEEDS, move |server| {
            let page = server.search("/Patient", &format!("_id={}&{query}", patient(server)?))?;
            let resource = page.json.pointer("/entry/0/resource").ok_or("no match")?;
            shows(resource, there, absent)?;
            let part = *query != "_summary=false";
            ensure(
                subsetted(resource) == part,
                format!("SUBSETTED should {}be there", if part { "" } else { "not " }),
            )
        }));
    }
    checks.extend([
        Check::new("search/view/summary-count", "search.html#summary", "`_summary=count` gives the number alone", NEEDS, |server| {
            let page = server.search("/Patient", &format!("_id={}&_summary=count", patient(server)?))?;
            ensure(page.entries().is_empty() && page.total() == Some(1), format!("total {:?}", page.total()))
        }),
        Check::new("search/view/summary-bad", "search.html#summary", "a `_summary` that is none of the five is refused", NEEDS, |server| {
            server.get("/Patient?_summary=short")?.refused(&[400])
        }),
        Check::new("search/view/elements-keeps-mandatory", "search.html#elements", "`_elements` keeps what an Observation must have", &["Observation.create", "Observation.search-type"], |server| {
            let made = server.create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "v", "note": [{"text": "n"}]}))?;
            let page = server.search("/Observation", &format!("_id={}&_elements=valueString,value", made.id))?;
            shows(page.json.pointer("/entry/0/resource").ok_or("no match")?, "id status code", "note")
        }),
        Check::new("search/view/elements-of-type", "search.html#elements", "`_elements` of a choice names it without its type", &["Observation.create", "Observation.search-type"], |server| {
            let made = server.create(&json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "v", "note": [{"text": "n"}]}))?;
            let page = server.search("/Observation", &format!("_id={}&_elements=value", made.id))?;
            shows(page.json.pointer("/entry/0/resource").ok_or("no match")?, "id valueString", "note")
        }),
        Check::new("search/view/of-included", "search.html#summary", "`_summary=true` also shortens what is included, or leaves it whole, but loses nothing of it", &["Patient.create", "Patient+Patient:organization"], |server| {
            let page = server.search("/Patient", &format!("_id={}&_include=Patient:organization&_summary=true", patient(server)?))?;
            ensure(page.found("include").len() <= 1 && page.found("match").len() == 1, "another answer")
        }),
        Check::new("search/view/by-post", "http.html#search", "`_elements` works in a form", NEEDS, |server| {
            let query = format!("_id={}&_elements=gender", patient(server)?);
            let page = server.ask("POST", "/Patient/_search").form(&query).send()?;
            page.expect(200)?;
            shows(page.json.pointer("/entry/0/resource").ok_or("no match")?, "id gender", "name")
        }),
        Check::new("search/view/stored-is-whole", "search.html#summary", "what was shown in part is stored whole and without the tag", NEEDS, |server| {
            let id = patient(server)?;
            server.search("/Patient", &format!("_id={id}&_summary=true"))?;
            let read = server.get(&format!("/Patient/{id}"))?;
            shows(&read.json, "text maritalStatus contact", "")?;
            ensure(!subsetted(&read.json), "SUBSETTED is stored")
        }),
    ]);
    checks
}
