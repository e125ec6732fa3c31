//! Transactions that fail, and leave nothing (http.html#trules).

use serde_json::{Value, json};

use super::{AT, RULES, T, all_or_nothing, bundle, identified, post, urn};
use crate::check::{Check, Stop, ensure};
use crate::http::{patient, patient_at};
use crate::server::{Made, Server, unique};

pub(super) fn checks() -> Vec<Check> {
    let nothing = |name: &str, title: &str, section: &'static str, bad: Value| {
        Check::new(
            format!("bundle/rollback/{name}"),
            section,
            format!("{title} ends the transaction, and nothing of it is stored"),
            T,
            move |s: &Server| all_or_nothing(s, &bad),
        )
    };
    let id = "no-such-patient-at-all";
    vec![
        nothing("invalid", "an invalid resource", AT, post(&json!({"resourceType": "Observation"}))),
        nothing(
            "wrong-type",
            "a resource of another type than its url",
            AT,
            json!({"resource": {"resourceType": "Basic", "code": {"text": "x"}}, "request": {"method": "POST", "url": "Patient"}}),
        ),
        nothing(
            "unknown-type",
            "a type that is none",
            AT,
            json!({"resource": {"resourceType": "Nothing"}, "request": {"method": "POST", "url": "Nothing"}}),
        ),
        nothing(
            "no-request",
            "an entry without a request",
            AT,
            json!({"resource": {"resourceType": "Patient"}}),
        ),
        nothing(
            "no-resource",
            "a POST without a resource",
            AT,
            json!({"request": {"method": "POST", "url": "Patient"}}),
        ),
        nothing(
            "bad-method",
            "a method that is none",
            AT,
            json!({"resource": {"resourceType": "Patient"}, "request": {"method": "FETCH", "url": "Patient"}}),
        ),
        nothing(
            "other-id",
            "a PUT whose body has another id",
            AT,
            json!({"resource": {"resourceType": "Patient", "id": "a"}, "request": {"method": "PUT", "url": "Patient/b"}}),
        ),
        nothing(
            "stale-if-match",
            "a stale ifMatch",
            "http.html#concurrency",
            json!({"resource": {"resourceType": "Patient", "id": id}, "request": {"method": "PUT", "url": format!("Patient/{id}"), "ifMatch": "W/\"7\""}}),
        ),
        nothing(
            "patch-nobody",
            "a PATCH of what never was",
            "http.html#patch",
            json!({"resource": {"resourceType": "Parameters", "parameter": []}, "request": {"method": "PATCH", "url": format!("Patient/{id}")}}),
        ),
        nothing(
            "bad-criteria",
            "an ifNoneExist that can't be read",
            "http.html#ccreate",
            json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient", "ifNoneExist": "shoe-size=44"}}),
        ),
        Check::new(
            "bundle/rollback/many-matches",
            "http.html#ccreate",
            "an ifNoneExist with two matches ends the transaction, and nothing of it is stored",
            T,
            |s| {
                let value = unique("twice");
                s.create(&identified(&value))?;
                s.create(&identified(&value))?;
                all_or_nothing(
                    s,
                    &json!({"resource": identified(&value), "request": {"method": "POST", "url": "Patient", "ifNoneExist": format!("identifier=urn:conformance|{value}")}}),
                )
            },
        ),
        Check::new(
            "bundle/rollback/same-twice",
            RULES,
            "the same resource in two entries ends the transaction",
            &["transaction", "Patient.updateCreate"],
            |s| {
                let id = unique("twice");
                let put = |birth: &str| json!({"resource": patient_at(&id, birth), "request": {"method": "PUT", "url": format!("Patient/{id}")}});
                s.post("", &bundle("transaction", &json!([put("1970-01-02"), put("1971-01-02")])))?
                    .refused(&[400, 409, 412, 422])?;
                s.get(&format!("/Patient/{id}"))?.expect(404)
            },
        ),
        Check::new(
            "bundle/rollback/update-and-delete",
            RULES,
            "an update and a delete of one resource end the transaction",
            &["transaction", "Patient.update", "Patient.delete"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let entries = json!([
                {"resource": patient_at(&made.id, "1971-01-02"), "request": {"method": "PUT", "url": made.reference()}},
                {"request": {"method": "DELETE", "url": made.reference()}}]);
                s.post("", &bundle("transaction", &entries))?.refused(&[400, 409, 412, 422])?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1970-01-02", "it was changed")
            },
        ),
        Check::new(
            "bundle/rollback/same-full-url",
            "bundle.html#bundle-unique",
            "two entries of one fullUrl are refused",
            T,
            |s| {
                let one = || json!({"fullUrl": urn(1), "resource": patient("1970-01-02"), "request": {"method": "POST", "url": "Patient"}});
                s.post("", &bundle("transaction", &json!([one(), one()])))?.refused(&[400, 422])
            },
        ),
        Check::new(
            "bundle/rollback/deleted-stays",
            RULES,
            "a delete in a transaction that fails is undone",
            &["transaction", "Patient.delete"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let entries = json!([{"request": {"method": "DELETE", "url": made.reference()}}, post(&json!({"resourceType": "Observation"}))]);
                s.post("", &bundle("transaction", &entries))?.refused(&[400, 422])?;
                s.get(&made.path())?.expect(200)
            },
        ),
        Check::new(
            "bundle/rollback/place",
            "operationoutcome.html#OperationOutcome.issue.expression",
            "the error says in which entry it is",
            T,
            |s| {
                let entries = json!([
                    post(&patient("1970-01-02")),
                    post(&json!({"resourceType": "Patient", "gender": "m"}))
                ]);
                let answer = s.post("", &bundle("transaction", &entries))?;
                answer.refused(&[400, 422])?;
                answer.names("Bundle.entry[1].resource.gender")
            },
        ),
        Check::new(
            "bundle/type/other",
            AT,
            "a Bundle that is neither transaction nor batch is refused at the base",
            T,
            |s| {
                s.post("", &bundle("searchset", &json!([])))?.refused(&[400, 422])?;
                s.post("", &json!({"resourceType": "Bundle", "type": "collection"}))?.refused(&[400, 422])
            },
        ),
        Check::new(
            "bundle/type/no-bundle",
            AT,
            "a resource that is no Bundle is refused at the base",
            T,
            |s| s.post("", &patient("1970-01-02"))?.refused(&[400, 404, 405, 422]),
        ),
        Check::new(
            "bundle/race",
            AT,
            "four transactions at once on the same two Patients in other orders all end well or in 409 or 412",
            &["transaction", "Patient.update"],
            |s| {
                let (one, two) = (s.create(&patient("1970-01-02"))?, s.create(&patient("1970-01-02"))?);
                let put = |made: &Made, birth: &str| json!({"resource": patient_at(&made.id, birth), "request": {"method": "PUT", "url": made.reference()}});
                let turn = std::sync::atomic::AtomicUsize::new(0);
                let all = crate::http::at_once(8, || {
                    let n = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let birth = format!("19{}0-01-02", n + 1);
                    let entries = if n.is_multiple_of(2) {
                        json!([put(&one, &birth), put(&two, &birth)])
                    } else {
                        json!([put(&two, &birth), put(&one, &birth)])
                    };
                    s.post("", &bundle("transaction", &entries)).map_or(0, |answer| answer.status)
                });
                ensure(all.iter().all(|status| matches!(status, 200 | 409 | 412 | 503)), format!("{all:?}"))?;
                let birth = |made: &Made| Ok::<_, Stop>(s.get(&made.path())?.at("/birthDate").to_owned());
                ensure(
                    birth(&one)? == birth(&two)?,
                    "one has what one transaction wrote, the other what another wrote",
                )
            },
        ),
    ]
}
