//! References between the entries of a transaction (http.html#trules).

use serde_json::json;

use super::{T, all_or_nothing, bundle, identified, made, observation, post, transacted, urn};
use crate::check::{Check, Stop, ensure};
use crate::http::{patient, patient_at};
use crate::server::{Answer, Server, unique};

pub(super) fn checks() -> Vec<Check> {
    let at = "http.html#trules";
    let subject = |s: &Server, answer: &Answer, place: usize| -> Result<String, Stop> {
        Ok(s.get(&made(answer, place)?.path())?.at("/subject/reference").to_owned())
    };
    vec![
        Check::new(
            "bundle/reference/urn-uuid",
            at,
            "a reference to an entry's urn:uuid becomes the address it got",
            T,
            move |s| {
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}},
                {"fullUrl": urn(2), "resource": observation(&urn(1)), "request": {"method": "POST", "url": "Observation"}}]),
                )?;
                ensure(
                    subject(s, &answer, 1)? == made(&answer, 0)?.reference(),
                    "the reference was not resolved",
                )
            },
        ),
        Check::new(
            "bundle/reference/forward",
            at,
            "a reference to a later entry is resolved, too",
            T,
            move |s| {
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(2), "resource": observation(&urn(1)), "request": {"method": "POST", "url": "Observation"}},
                {"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}}]),
                )?;
                ensure(
                    subject(s, &answer, 0)? == made(&answer, 1)?.reference(),
                    "the reference was not resolved",
                )
            },
        ),
        Check::new(
            "bundle/reference/circle",
            at,
            "two entries that refer to each other are both resolved",
            T,
            move |s| {
                let linked = |to: &str| json!({"resourceType": "Patient", "link": [{"other": {"reference": to}, "type": "seealso"}]});
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(1), "resource": linked(&urn(2)), "request": {"method": "POST", "url": "Patient"}},
                {"fullUrl": urn(2), "resource": linked(&urn(1)), "request": {"method": "POST", "url": "Patient"}}]),
                )?;
                let (one, two) = (made(&answer, 0)?, made(&answer, 1)?);
                ensure(
                    s.get(&one.path())?.at("/link/0/other/reference") == two.reference(),
                    "the first is not resolved",
                )?;
                ensure(
                    s.get(&two.path())?.at("/link/0/other/reference") == one.reference(),
                    "the second is not resolved",
                )
            },
        ),
        Check::new(
            "bundle/reference/absolute-full-url",
            at,
            "a reference relative to an entry's absolute fullUrl is resolved",
            T,
            move |s| {
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": "http://elsewhere.example/fhir/Patient/1", "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}},
                {"fullUrl": "http://elsewhere.example/fhir/Observation/2", "resource": observation("Patient/1"), "request": {"method": "POST", "url": "Observation"}}]),
                )?;
                ensure(
                    subject(s, &answer, 1)? == made(&answer, 0)?.reference(),
                    "the reference was not resolved",
                )
            },
        ),
        Check::new(
            "bundle/reference/contained",
            at,
            "a reference inside a contained resource is resolved",
            T,
            |s| {
                let outer = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "specimen": {"reference": "#s"},
                "contained": [{"resourceType": "Specimen", "id": "s", "subject": {"reference": urn(1)}}]});
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}},
                {"fullUrl": urn(2), "resource": outer, "request": {"method": "POST", "url": "Observation"}}]),
                )?;
                let read = s.get(&made(&answer, 1)?.path())?;
                ensure(
                    read.at("/contained/0/subject/reference") == made(&answer, 0)?.reference(),
                    "it was not resolved",
                )?;
                ensure(
                    read.at("/specimen/reference") == "#s",
                    "the reference to the contained resource changed",
                )
            },
        ),
        Check::new("bundle/reference/extension", at, "a reference inside an extension is resolved", T, |s| {
            let outer = json!({"resourceType": "Basic", "code": {"text": "x"}, "extension": [{"url": "http://example.org/e", "valueReference": {"reference": urn(1)}}]});
            let answer = transacted(
                s,
                &json!([
                {"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}},
                {"resource": outer, "request": {"method": "POST", "url": "Basic"}}]),
            )?;
            let read = s.get(&made(&answer, 1)?.path())?;
            ensure(
                read.at("/extension/0/valueReference/reference") == made(&answer, 0)?.reference(),
                "it was not resolved",
            )
        }),
        Check::new(
            "bundle/reference/to-update",
            at,
            "a reference to an entry that is updated by its id is resolved",
            &["transaction", "Patient.updateCreate"],
            move |s| {
                let id = unique("known");
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(1), "resource": patient_at(&id, "1970-01-02"), "request": {"method": "PUT", "url": format!("Patient/{id}")}},
                {"resource": observation(&urn(1)), "request": {"method": "POST", "url": "Observation"}}]),
                )?;
                ensure(subject(s, &answer, 1)? == format!("Patient/{id}"), "the reference was not resolved")
            },
        ),
        Check::new(
            "bundle/reference/to-found",
            at,
            "a reference to an entry whose ifNoneExist found one becomes that one's address",
            &["transaction", "Patient.conditionalCreate"],
            move |s| {
                let value = unique("known");
                let known = s.create(&identified(&value))?;
                let answer = transacted(
                    s,
                    &json!([
                {"fullUrl": urn(1), "resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}},
                {"resource": observation(&urn(1)), "request": {"method": "POST", "url": "Observation"}}]),
                )?;
                ensure(subject(s, &answer, 1)? == known.reference(), "the reference is another")
            },
        ),
        Check::new(
            "bundle/reference/same-if-none-exist",
            "http.html#ccreate",
            "two entries with one ifNoneExist become one resource, and references to both become its address",
            &["transaction", "Patient.conditionalCreate"],
            move |s| {
                let value = unique("same");
                let one = |n: u32| json!({"fullUrl": urn(n), "resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}});
                let answer = transacted(
                    s,
                    &json!([one(1), one(2), post(&observation(&urn(1))), post(&observation(&urn(2)))]),
                )?;
                let found =
                    s.search("/Patient", &format!("identifier=urn:conformance|{value}"))?.found("match");
                ensure(found.len() == 1, format!("{} resources", found.len()))?;
                let wanted = found.first().cloned().unwrap_or_default();
                ensure(
                    subject(s, &answer, 2)? == wanted && subject(s, &answer, 3)? == wanted,
                    "a reference is another",
                )
            },
        ),
        Check::new(
            "bundle/reference/conditional",
            "http.html#trules",
            "a reference by criteria becomes the address of the match",
            &["transaction", "Patient?identifier"],
            move |s| {
                let value = unique("known");
                let known = s.create(&identified(&value))?;
                let answer = transacted(
                    s,
                    &json!([post(&observation(&format!("Patient?identifier=urn:conformance|{value}")))]),
                )?;
                ensure(subject(s, &answer, 0)? == known.reference(), "the reference was not resolved")
            },
        ),
        Check::new(
            "bundle/reference/conditional-own",
            "http.html#trules",
            "a reference by criteria may find what the same transaction creates, or is refused",
            &["transaction", "Patient?identifier"],
            move |s| {
                let value = unique("own");
                let entries = json!([
                    post(&identified(&value)),
                    post(&observation(&format!("Patient?identifier=urn:conformance|{value}")))
                ]);
                let answer = s.post("", &bundle("transaction", &entries))?;
                if answer.status == 200 {
                    return ensure(
                        subject(s, &answer, 1)? == made(&answer, 0)?.reference(),
                        "the reference is another",
                    );
                }
                answer.refused(&[400, 404, 412, 422])
            },
        ),
        Check::new(
            "bundle/reference/conditional-nobody",
            "http.html#trules",
            "a reference by criteria that match nothing ends the transaction",
            T,
            |s| {
                all_or_nothing(
                    s,
                    &post(&observation(&format!("Patient?identifier=urn:conformance|{}", unique("nobody")))),
                )
            },
        ),
        Check::new(
            "bundle/reference/conditional-many",
            "http.html#trules",
            "a reference by criteria that match two ends the transaction",
            T,
            |s| {
                let value = unique("twice");
                s.create(&identified(&value))?;
                s.create(&identified(&value))?;
                all_or_nothing(s, &post(&observation(&format!("Patient?identifier=urn:conformance|{value}"))))
            },
        ),
        Check::new(
            "bundle/reference/urn-nobody",
            "http.html#trules",
            "a urn:uuid that no entry has ends the transaction, or is kept as it is",
            T,
            move |s| {
                let entries = json!([post(&observation("urn:uuid:0a0a0a0a-0000-4000-8000-00000000dead"))]);
                let answer = s.post("", &bundle("transaction", &entries))?;
                if answer.status == 200 {
                    return ensure(
                        subject(s, &answer, 0)? == "urn:uuid:0a0a0a0a-0000-4000-8000-00000000dead",
                        "it became another",
                    );
                }
                answer.refused(&[400, 404, 422])
            },
        ),
        Check::new(
            "bundle/reference/foreign",
            "http.html#trules",
            "an absolute reference to another server is left as it is",
            T,
            move |s| {
                let answer = transacted(
                    s,
                    &json!([
                        post(&patient("1970-01-02")),
                        post(&observation("http://elsewhere.example/fhir/Patient/9"))
                    ]),
                )?;
                ensure(subject(s, &answer, 1)? == "http://elsewhere.example/fhir/Patient/9", "it was changed")
            },
        ),
        Check::new(
            "bundle/reference/fragment",
            "http.html#trules",
            "a fragment behind a urn:uuid or a version behind a reference does no harm",
            T,
            |s| {
                let mut one = observation(&urn(1));
                if let Some(object) = one.as_object_mut() {
                    object.insert("hasMember".to_owned(), json!([{"display": "no reference"}]));
                }
                let answer = transacted(
                    s,
                    &json!([{"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}}, post(&one)]),
                )?;
                ensure(
                    s.get(&made(&answer, 1)?.path())?.at("/hasMember/0/display") == "no reference",
                    "a display is lost",
                )
            },
        ),
        Check::new(
            "bundle/reference/text-is-no-reference",
            "http.html#trules",
            "a urn:uuid that is an identifier's value is left as it is",
            T,
            |s| {
                let body = json!({"resourceType": "Patient", "identifier": [{"system": "urn:ietf:rfc:3986", "value": urn(1)}]});
                let answer = transacted(
                    s,
                    &json!([{"fullUrl": urn(1), "resource": body, "request": {"method": "POST", "url": "Patient"}}]),
                )?;
                ensure(
                    s.get(&made(&answer, 0)?.path())?.at("/identifier/0/value") == urn(1),
                    "it was rewritten",
                )
            },
        ),
    ]
}
