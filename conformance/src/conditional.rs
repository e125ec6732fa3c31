//! Conditional create, read, update, patch and delete (http.html#cond-update and beside it).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::http::at_once;
use crate::server::{Answer, Server, encoded, unique};

const CREATE: &[&str] = &["Patient.create", "Patient.conditionalCreate", "Patient?identifier"];
const UPDATE: &[&str] = &["Patient.create", "Patient.conditionalUpdate", "Patient?identifier"];
const DELETE: &[&str] = &["Patient.create", "Patient.conditionalDelete", "Patient?identifier"];
const PATCH: &[&str] = &[
    "Patient.create",
    "Patient.patch",
    "Patient.conditionalUpdate",
    "Patient?identifier",
    "patch:application/json-patch+json",
];

fn identified(value: &str, more: &Value) -> Value {
    let mut body =
        json!({"resourceType": "Patient", "identifier": [{"system": "urn:conformance", "value": value}]});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

fn criteria(value: &str) -> String {
    format!("identifier=urn:conformance|{value}")
}

fn create(server: &Server, value: &str, condition: &str) -> Result<Answer, Stop> {
    server
        .ask("POST", "/Patient")
        .header("if-none-exist", condition)
        .json(&identified(value, &json!({})))
        .send()
}

fn update(server: &Server, value: &str, body: &Value) -> Result<Answer, Stop> {
    server.put(&format!("/Patient?{}", encoded(&criteria(value))), body)
}

fn count(server: &Server, value: &str) -> Result<usize, Stop> {
    Ok(server.search("/Patient", &format!("{}&_count=50", criteria(value)))?.found("match").len())
}

fn one(server: &Server, value: &str) -> Outcome {
    let count = count(server, value)?;
    ensure(count == 1, format!("{count} resources"))
}

pub(crate) fn checks() -> Vec<Check> {
    [of_create(), of_update(), of_others()].into_iter().flatten().collect()
}

fn of_create() -> Vec<Check> {
    let at = "http.html#ccreate";
    vec![
        Check::new("conditional/create/none", at, "If-None-Exist without a match creates", CREATE, |s| {
            let value = unique("once");
            create(s, &value, &criteria(&value))?.expect(201)?;
            one(s, &value)
        }),
        Check::new(
            "conditional/create/one",
            at,
            "If-None-Exist with a match is 200 and creates nothing",
            CREATE,
            |s| {
                let value = unique("once");
                let made = s.create(&identified(&value, &json!({})))?;
                let answer = create(s, &value, &criteria(&value))?;
                answer.expect(200)?;
                if !answer.header("location").is_empty() {
                    ensure(answer.made()?.id == made.id, "Location is another")?;
                }
                one(s, &value)
            },
        ),
        Check::new("conditional/create/many", at, "If-None-Exist with two matches is 412", CREATE, |s| {
            let value = unique("twice");
            s.create(&identified(&value, &json!({})))?;
            s.create(&identified(&value, &json!({})))?;
            create(s, &value, &criteria(&value))?.refused(&[412])
        }),
        Check::new(
            "conditional/create/question-mark",
            at,
            "If-None-Exist may begin with a question mark",
            CREATE,
            |s| {
                let value = unique("once");
                create(s, &value, &format!("?{}", criteria(&value)))?.expect(201)?;
                create(s, &value, &format!("?{}", criteria(&value)))?.expect(200)
            },
        ),
        Check::new("conditional/create/encoded", at, "If-None-Exist may be percent-encoded", CREATE, |s| {
            let value = unique("once");
            create(s, &value, &encoded(&criteria(&value)))?.expect(201)?;
            create(s, &value, &criteria(&value))?.expect(200)
        }),
        Check::new("conditional/create/deleted", at, "what was deleted is no match", CREATE, |s| {
            let value = unique("gone");
            let made = s.create(&identified(&value, &json!({})))?;
            s.delete(&made.path())?.expect_one(&[200, 204])?;
            create(s, &value, &criteria(&value))?.expect(201)
        }),
        Check::new(
            "conditional/create/unknown-parameter",
            at,
            "If-None-Exist with an unknown parameter is refused: it would match anything",
            CREATE,
            |s| {
                let value = unique("odd");
                create(s, &value, "shoe-size=44")?.refused(&[400, 412])
            },
        ),
        Check::new(
            "conditional/create/empty",
            at,
            "an empty If-None-Exist is refused, or no condition",
            CREATE,
            |s| {
                let answer = create(s, &unique("empty"), "")?;
                if answer.status == 201 { Ok(()) } else { answer.refused(&[400, 412]) }
            },
        ),
        Check::new(
            "conditional/create/race",
            at,
            "of ten conditional creates at once one makes the resource, the others find it",
            CREATE,
            |s| {
                let value = unique("race");
                let statuses =
                    at_once(10, || create(s, &value, &criteria(&value)).map_or(0, |answer| answer.status));
                let made = statuses.iter().filter(|status| **status == 201).count();
                let found = statuses.iter().filter(|status| **status == 200).count();
                ensure(made == 1 && found == 9, format!("{statuses:?}"))?;
                one(s, &value)
            },
        ),
        Check::new(
            "conditional/create/race-two-criteria",
            at,
            "a race is decided for criteria of two parameters, too",
            &["Patient.conditionalCreate", "Patient?identifier", "Patient?birthdate"],
            |s| {
                let value = unique("race");
                let body = identified(&value, &json!({"birthDate": "1970-01-02"}));
                let condition = format!("{}&birthdate=1970-01-02", criteria(&value));
                let statuses = at_once(8, || {
                    s.ask("POST", "/Patient")
                        .header("if-none-exist", &condition)
                        .json(&body)
                        .send()
                        .map_or(0, |answer| answer.status)
                });
                ensure(
                    statuses.iter().filter(|status| **status == 201).count() == 1,
                    format!("{statuses:?}"),
                )?;
                one(s, &value)
            },
        ),
        Check::new(
            "conditional/create/race-of-transactions",
            at,
            "of six transactions with one ifNoneExist at once one makes the resource",
            &["transaction", "Patient.conditionalCreate", "Patient?identifier"],
            |s| {
                let value = unique("race");
                let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": identified(&value, &json!({})),
                "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria(&value)}}]});
                let statuses = at_once(6, || s.post("", &bundle).map_or(0, |answer| answer.entry_status(0)));
                let made = statuses.iter().filter(|status| **status == 201).count();
                ensure(
                    made == 1 && statuses.iter().all(|status| matches!(status, 200 | 201)),
                    format!("{statuses:?}"),
                )?;
                one(s, &value)
            },
        ),
    ]
}

fn of_update() -> Vec<Check> {
    let at = "http.html#cond-update";
    vec![
        Check::new(
            "conditional/update/none",
            at,
            "update by criteria without a match creates",
            UPDATE,
            |s| {
                let value = unique("new");
                update(s, &value, &identified(&value, &json!({})))?.expect(201)?;
                one(s, &value)
            },
        ),
        Check::new(
            "conditional/update/one",
            at,
            "update by criteria with one match updates it",
            UPDATE,
            |s| {
                let value = unique("known");
                let made = s.create(&identified(&value, &json!({})))?;
                update(s, &value, &identified(&value, &json!({"active": true})))?.expect(200)?;
                let read = s.get(&made.path())?;
                ensure(
                    read.json.get("active") == Some(&json!(true))
                        && read.at("/meta/versionId") != made.version,
                    "it was not updated",
                )?;
                one(s, &value)
            },
        ),
        Check::new("conditional/update/one-same-id", at, "the body may have the match's id", UPDATE, |s| {
            let value = unique("known");
            let made = s.create(&identified(&value, &json!({})))?;
            update(s, &value, &identified(&value, &json!({"id": made.id, "active": true})))?.expect(200)
        }),
        Check::new(
            "conditional/update/one-other-id",
            at,
            "a body with another id than the match's is refused",
            UPDATE,
            |s| {
                let value = unique("known");
                s.create(&identified(&value, &json!({})))?;
                update(s, &value, &identified(&value, &json!({"id": unique("other"), "active": true})))?
                    .refused(&[400, 409, 412, 422])
            },
        ),
        Check::new(
            "conditional/update/many",
            at,
            "update by criteria with two matches is 412",
            UPDATE,
            |s| {
                let value = unique("twice");
                s.create(&identified(&value, &json!({})))?;
                s.create(&identified(&value, &json!({})))?;
                update(s, &value, &identified(&value, &json!({"active": true})))?.refused(&[412])
            },
        ),
        Check::new("conditional/update/if-match", at, "If-Match holds for the match, too", UPDATE, |s| {
            let value = unique("known");
            s.create(&identified(&value, &json!({})))?;
            let ask = s
                .ask("PUT", &format!("/Patient?{}", encoded(&criteria(&value))))
                .header("if-match", "W/\"9876\"");
            ask.json(&identified(&value, &json!({"active": true}))).send()?.refused(&[409, 412])
        }),
        Check::new(
            "conditional/update/unknown-parameter",
            at,
            "criteria with an unknown parameter are refused",
            UPDATE,
            |s| s.put("/Patient?shoe-size=44", &identified(&unique("odd"), &json!({})))?.refused(&[400, 412]),
        ),
        Check::new(
            "conditional/update/no-criteria",
            at,
            "an update of a type without criteria is refused",
            UPDATE,
            |s| s.put("/Patient", &identified(&unique("odd"), &json!({})))?.refused(&[400, 404, 405, 412]),
        ),
        Check::new(
            "conditional/update/race",
            at,
            "of eight updates by criteria at once one creates, the others update it",
            UPDATE,
            |s| {
                let value = unique("race");
                let statuses = at_once(8, || {
                    update(s, &value, &identified(&value, &json!({}))).map_or(0, |answer| answer.status)
                });
                let made = statuses.iter().filter(|status| **status == 201).count();
                ensure(
                    made == 1 && statuses.iter().all(|status| matches!(status, 200 | 201)),
                    format!("{statuses:?}"),
                )?;
                one(s, &value)
            },
        ),
        Check::new(
            "conditional/update/sent-id-creates",
            at,
            "without a match, an id in the body is where it is created, or is refused",
            &["Patient.conditionalUpdate", "Patient.updateCreate", "Patient?identifier"],
            |s| {
                let (value, id) = (unique("new"), unique("id"));
                let answer = update(s, &value, &identified(&value, &json!({"id": id})))?;
                if answer.status == 201 {
                    s.get(&format!("/Patient/{id}"))?.expect(200)
                } else {
                    answer.refused(&[400, 409, 412, 422])
                }
            },
        ),
    ]
}

fn of_others() -> Vec<Check> {
    let patch = |s: &Server, value: &str| {
        let ask = s.ask("PATCH", &format!("/Patient?{}", encoded(&criteria(value))));
        ask.body("application/json-patch+json", r#"[{"op": "add", "path": "/active", "value": true}]"#).send()
    };
    let delete = |s: &Server, value: &str| s.delete(&format!("/Patient?{}", encoded(&criteria(value))));
    vec![
        Check::new(
            "conditional/patch/one",
            "http.html#patch",
            "patch by criteria with one match patches it",
            PATCH,
            move |s| {
                let value = unique("known");
                let made = s.create(&identified(&value, &json!({})))?;
                patch(s, &value)?.expect(200)?;
                ensure(s.get(&made.path())?.json.get("active") == Some(&json!(true)), "it was not patched")
            },
        ),
        Check::new(
            "conditional/patch/none",
            "http.html#patch",
            "patch by criteria without a match is 404",
            PATCH,
            move |s| patch(s, &unique("nobody"))?.refused(&[404]),
        ),
        Check::new(
            "conditional/patch/many",
            "http.html#patch",
            "patch by criteria with two matches is 412",
            PATCH,
            move |s| {
                let value = unique("twice");
                s.create(&identified(&value, &json!({})))?;
                s.create(&identified(&value, &json!({})))?;
                patch(s, &value)?.refused(&[412])
            },
        ),
        Check::new(
            "conditional/delete/one",
            "http.html#cdelete",
            "delete by criteria with one match deletes it",
            DELETE,
            move |s| {
                let value = unique("known");
                let made = s.create(&identified(&value, &json!({})))?;
                delete(s, &value)?.expect_one(&[200, 204])?;
                s.get(&made.path())?.expect(410)
            },
        ),
        Check::new(
            "conditional/delete/none",
            "http.html#cdelete",
            "delete by criteria without a match is 200, 204 or 404",
            DELETE,
            move |s| delete(s, &unique("nobody"))?.expect_one(&[200, 204, 404]),
        ),
        Check::new(
            "conditional/delete/many",
            "http.html#cdelete",
            "delete by criteria with two matches is 412, or deletes both",
            DELETE,
            move |s| {
                let value = unique("twice");
                let made = s.create(&identified(&value, &json!({})))?;
                s.create(&identified(&value, &json!({})))?;
                let answer = delete(s, &value)?;
                if answer.status == 412 {
                    answer.refused(&[412])?;
                    return s.get(&made.path())?.expect(200);
                }
                answer.expect_one(&[200, 204])?;
                ensure(count(s, &value)? == 0, "not all are deleted")
            },
        ),
        Check::new(
            "conditional/delete/unknown-parameter",
            "http.html#cdelete",
            "delete by an unknown parameter is refused and deletes nothing",
            DELETE,
            |s| {
                let made = s.create(&identified(&unique("safe"), &json!({})))?;
                s.delete("/Patient?shoe-size=44")?.refused(&[400, 404, 412])?;
                s.get(&made.path())?.expect(200)
            },
        ),
        Check::new(
            "conditional/delete/no-criteria",
            "http.html#cdelete",
            "delete of a type without criteria is refused",
            DELETE,
            |s| s.delete("/Patient")?.refused(&[400, 403, 404, 405, 412]),
        ),
        Check::new(
            "conditional/delete/recreate",
            "http.html#cdelete",
            "what was deleted by criteria can be made again by them",
            DELETE,
            move |s| {
                let value = unique("again");
                s.create(&identified(&value, &json!({})))?;
                delete(s, &value)?.expect_one(&[200, 204])?;
                create(s, &value, &criteria(&value))?.expect(201)?;
                one(s, &value)
            },
        ),
    ]
}
