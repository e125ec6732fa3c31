//! Delete, conditional read, what a write answers, and browsers (http.html#delete, #cread, #ops).

use crate::check::{Check, Stop, ensure};
use crate::http::{changed, patient, patient_at};
use crate::server::{FHIR_JSON, Made, Server, unique};

const C: &[&str] = &["Patient.create", "Patient.read"];
const U: &[&str] = &["Patient.create", "Patient.read", "Patient.update"];
const D: &[&str] = &["Patient.create", "Patient.read", "Patient.delete"];

pub(crate) fn checks() -> Vec<Check> {
    [delete(), prefer()].into_iter().flatten().collect()
}

fn delete() -> Vec<Check> {
    let at = "http.html#delete";
    let deleted = |s: &Server| -> Result<Made, Stop> {
        let made = s.create(&patient("1970-01-02"))?;
        s.delete(&made.path())?.expect_one(&[200, 202, 204])?;
        Ok(made)
    };
    vec![
        Check::new("http/delete/ok", at, "delete answers 200 or 204", D, move |s| deleted(s).map(|_| ())),
        Check::new("http/delete/gone", at, "what is deleted is 410 with an OperationOutcome", D, move |s| {
            s.get(&deleted(s)?.path())?.refused(&[410])
        }),
        Check::new(
            "http/delete/old-version",
            at,
            "the versions before can still be read",
            &["Patient.delete", "Patient.vread"],
            move |s| {
                let made = deleted(s)?;
                s.get(&format!("{}/_history/{}", made.path(), made.version))?.expect(200)
            },
        ),
        Check::new(
            "http/delete/deleted-version",
            "http.html#vread",
            "the version that is the deletion is 410",
            &["Patient.delete", "Patient.vread"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = s.delete(&made.path())?;
                let etag = answer.header("etag").trim_start_matches("W/").trim_matches('"').to_owned();
                if etag.is_empty() {
                    return Err(Stop::Skip("delete gives no ETag".to_owned()));
                }
                ensure(etag != made.version, "the ETag of delete is the old version")?;
                s.get(&format!("{}/_history/{etag}", made.path()))?.refused(&[410])
            },
        ),
        Check::new("http/delete/twice", at, "to delete again is no error", D, move |s| {
            let made = deleted(s)?;
            s.delete(&made.path())?.expect_one(&[200, 204, 404, 410])
        }),
        Check::new("http/delete/never-was", at, "to delete what never was is 200, 204 or 404", D, |s| {
            s.delete(&format!("/Patient/{}", unique("never")))?.expect_one(&[200, 204, 404])
        }),
        Check::new(
            "http/delete/undelete",
            at,
            "update brings back what is deleted, as a later version",
            &["Patient.delete", "Patient.updateCreate"],
            move |s| {
                let made = deleted(s)?;
                s.put(&made.path(), &patient_at(&made.id, "1972-01-02"))?.expect_one(&[200, 201])?;
                let read = s.get(&made.path())?;
                read.expect(200)?;
                ensure(read.at("/meta/versionId") != made.version, "the old version number")
            },
        ),
        Check::new(
            "http/delete/patch-gone",
            at,
            "what is deleted can't be patched",
            &["Patient.delete", "Patient.patch"],
            move |s| {
                let made = deleted(s)?;
                let body = r#"[{"op": "add", "path": "/active", "value": true}]"#;
                s.ask("PATCH", &made.path())
                    .body("application/json-patch+json", body)
                    .send()?
                    .refused(&[404, 410])
            },
        ),
        Check::new(
            "http/delete/if-match-stale",
            "http.html#concurrency",
            "delete with a stale If-Match is 412",
            &["Patient.delete", "Patient.update"],
            |s| {
                let (first, _) = changed(s)?;
                let answer = s
                    .ask("DELETE", &first.path())
                    .header("if-match", &format!("W/\"{}\"", first.version))
                    .send()?;
                answer.refused(&[412])?;
                s.get(&first.path())?.expect(200)
            },
        ),
        Check::new(
            "http/delete/if-match",
            "http.html#concurrency",
            "delete with the current If-Match succeeds",
            D,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = s
                    .ask("DELETE", &made.path())
                    .header("if-match", &format!("W/\"{}\"", made.version))
                    .send()?;
                answer.expect_one(&[200, 204])
            },
        ),
        Check::new(
            "http/read/if-none-match",
            "http.html#cread",
            "If-None-Match of the current version is 304 without a body",
            C,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = s
                    .ask("GET", &made.path())
                    .header("if-none-match", &format!("W/\"{}\"", made.version))
                    .send()?;
                if answer.status == 200 {
                    return Err(Stop::Skip("no conditional read".to_owned()));
                }
                answer.expect(304)?;
                ensure(answer.bytes.is_empty(), "there is a body")
            },
        ),
        Check::new(
            "http/read/if-none-match-other",
            "http.html#cread",
            "If-None-Match of another version is 200",
            U,
            |s| {
                let (first, _) = changed(s)?;
                let answer = s
                    .ask("GET", &first.path())
                    .header("if-none-match", &format!("W/\"{}\"", first.version))
                    .send()?;
                answer.expect(200)
            },
        ),
        Check::new(
            "http/read/if-modified-since",
            "http.html#cread",
            "If-Modified-Since of its Last-Modified is 304",
            C,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let since = s.get(&made.path())?.header("last-modified").to_owned();
                let answer = s.ask("GET", &made.path()).header("if-modified-since", &since).send()?;
                if answer.status == 200 {
                    Err(Stop::Skip("no conditional read".to_owned()))
                } else {
                    answer.expect(304)
                }
            },
        ),
        Check::new(
            "http/read/if-modified-since-long-ago",
            "http.html#cread",
            "If-Modified-Since of long ago is 200",
            C,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                s.ask("GET", &made.path())
                    .header("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")
                    .send()?
                    .expect(200)
            },
        ),
    ]
}

fn prefer() -> Vec<Check> {
    let at = "http.html#ops";
    let written = |s: &Server, value: &str, method: &str| {
        if method == "POST" {
            return s.ask("POST", "/Patient").header("prefer", value).json(&patient("1970-01-02")).send();
        }
        let made = s.create(&patient("1970-01-02"))?;
        s.ask("PUT", &made.path()).header("prefer", value).json(&patient_at(&made.id, "1971-01-02")).send()
    };
    let mut checks = Vec::new();
    for (method, status, needs) in [("POST", 201, C), ("PUT", 200, U)] {
        let name = if method == "POST" { "create" } else { "update" };
        checks.extend([
            Check::new(
                format!("http/prefer/{name}-minimal"),
                at,
                format!("Prefer: return=minimal of {name} has no body"),
                needs,
                move |s| {
                    let answer = written(s, "return=minimal", method)?;
                    answer.expect(status)?;
                    ensure(answer.bytes.is_empty(), "there is a body")
                },
            ),
            Check::new(
                format!("http/prefer/{name}-representation"),
                at,
                format!("Prefer: return=representation of {name} has the resource as stored"),
                needs,
                move |s| {
                    let answer = written(s, "return=representation", method)?;
                    answer.expect(status)?;
                    ensure(
                        answer.is("Patient") && !answer.at("/meta/versionId").is_empty(),
                        "not the stored resource",
                    )?;
                    let read = s.get(&format!("/Patient/{}", answer.at("/id")))?;
                    ensure(read.json == answer.json, "a read gives another")
                },
            ),
            Check::new(
                format!("http/prefer/{name}-outcome"),
                at,
                format!("Prefer: return=OperationOutcome of {name} has one"),
                needs,
                move |s| {
                    let answer = written(s, "return=OperationOutcome", method)?;
                    answer.expect(status)?;
                    ensure(answer.is("OperationOutcome"), format!("it is a {}", answer.at("/resourceType")))
                },
            ),
        ]);
    }
    checks.push(Check::new(
        "http/prefer/unknown",
        at,
        "a preference that is not known is left out",
        C,
        |s| {
            let ask =
                s.ask("POST", "/Patient").header("prefer", "respond-async=never; wait=10, return=everything");
            ask.json(&patient("1970-01-02")).send()?.expect_one(&[201, 202])
        },
    ));
    checks.push(Check::new(
        "http/cors/preflight",
        "security.html#cors",
        "a browser's preflight from this machine is answered with what it may do",
        C,
        |s| {
            let ask = s.ask("OPTIONS", "/Patient").header("origin", "http://localhost:3000");
            let ask = ask
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "content-type");
            let answer = ask.send()?;
            if answer.header("access-control-allow-origin").is_empty() {
                return Err(Stop::Skip("no CORS for http://localhost".to_owned()));
            }
            answer.expect_one(&[200, 204])?;
            ensure(answer.header("access-control-allow-methods").contains("POST"), "POST is not allowed")
        },
    ));
    checks.push(Check::new(
        "http/cors/exposed",
        "security.html#cors",
        "a browser may read ETag and Location",
        C,
        |s| {
            let ask = s.ask("POST", "/Patient").header("origin", "http://localhost:3000");
            let answer = ask.json(&patient("1970-01-02")).send()?;
            if answer.header("access-control-allow-origin").is_empty() {
                return Err(Stop::Skip("no CORS for http://localhost".to_owned()));
            }
            let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
            ensure(
                exposed == "*" || (exposed.contains("location") && exposed.contains("etag")),
                format!("exposed: {exposed}"),
            )
        },
    ));
    checks.push(Check::new(
        "http/method/put-base",
        "http.html#root",
        "a method that an address does not have is 405 with an OperationOutcome",
        C,
        |s| s.ask("PUT", "/metadata").body(FHIR_JSON, "{}").send()?.refused(&[404, 405]),
    ));
    checks
}
