//! Create, read, update, delete, and what their headers say (http.html).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Made, Server, text, unique};

/// A Patient with this birth date.
pub(crate) fn patient(birth: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": "Conformance"}], "birthDate": birth})
}

/// The same under an id.
pub(crate) fn patient_at(id: &str, birth: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": "Conformance"}], "birthDate": birth})
}

/// A Patient with two versions.
pub(crate) fn changed(server: &Server) -> Result<(Made, Made), Stop> {
    let first = server.create(&patient("1970-01-02"))?;
    let answer = server.put(&first.path(), &patient_at(&first.id, "1971-01-02"))?;
    answer.expect(200)?;
    let version = text(&server.get(&first.path())?.json, "/meta/versionId").to_owned();
    let second = Made { version, ..first.clone() };
    Ok((first, second))
}

fn weak(etag: &str) -> Outcome {
    ensure(etag.starts_with("W/\"") && etag.ends_with('"') && etag.len() > 4, format!("ETag is `{etag}`"))
}

fn http_date(value: &str) -> Outcome {
    let read = chrono::DateTime::parse_from_rfc2822(value);
    ensure(read.is_ok() && value.ends_with("GMT"), format!("`{value}` is no HTTP date"))
}

const C: &[&str] = &["Patient.create", "Patient.read"];
const U: &[&str] = &["Patient.create", "Patient.read", "Patient.update"];
const V: &[&str] = &["Patient.create", "Patient.update", "Patient.vread"];

pub(crate) fn checks() -> Vec<Check> {
    [create(), read(), update()].into_iter().flatten().collect()
}

fn create() -> Vec<Check> {
    let at = "http.html#create";
    vec![
        Check::new("http/create/201", at, "create answers 201", C, |s| {
            s.post("/Patient", &patient("1970-01-02"))?.expect(201)
        }),
        Check::new("http/create/location", at, "Location names the id and the version", C, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            ensure(!made.version.is_empty() && made.kind == "Patient", "no version in Location")
        }),
        Check::new(
            "http/create/location-absolute",
            at,
            "Location is an absolute address that can be read",
            C,
            |s| {
                let answer = s.post("/Patient", &patient("1970-01-02"))?;
                let location = answer.header("location");
                ensure(location.starts_with("http"), format!("Location is `{location}`"))?;
                s.get(location)?.expect(200)
            },
        ),
        Check::new("http/create/etag", at, "ETag is the version, weak", C, |s| {
            let answer = s.post("/Patient", &patient("1970-01-02"))?;
            weak(answer.header("etag"))?;
            ensure(
                answer.header("etag") == format!("W/\"{}\"", answer.made()?.version),
                "ETag is not Location's version",
            )
        }),
        Check::new("http/create/last-modified", at, "Last-Modified is an HTTP date", C, |s| {
            http_date(s.post("/Patient", &patient("1970-01-02"))?.header("last-modified"))
        }),
        Check::new("http/create/ignores-id", at, "an id sent on create is not used", C, |s| {
            let id = unique("mine");
            let made = s.create(&patient_at(&id, "1970-01-02"))?;
            ensure(made.id != id, "the sent id was used")?;
            s.get(&format!("/Patient/{id}"))?.expect(404)
        }),
        Check::new(
            "http/create/ignores-version",
            at,
            "versionId and lastUpdated sent on create are replaced",
            C,
            |s| {
                let mut body = patient("1970-01-02");
                if let Some(object) = body.as_object_mut() {
                    object.insert(
                        "meta".to_owned(),
                        json!({"versionId": "sent", "lastUpdated": "2001-02-03T04:05:06Z"}),
                    );
                }
                let made = s.create(&body)?;
                let read = s.get(&made.path())?;
                ensure(
                    read.at("/meta/versionId") == made.version && made.version != "sent",
                    "the sent versionId was kept",
                )?;
                ensure(!read.at("/meta/lastUpdated").starts_with("2001"), "the sent lastUpdated was kept")
            },
        ),
        Check::new(
            "http/create/keeps-meta",
            at,
            "tags, profiles and security labels sent on create are kept",
            C,
            |s| {
                let mut body = patient("1970-01-02");
                let meta = json!({"profile": ["http://example.org/p"], "security": [{"system": "urn:s", "code": "a"}], "tag": [{"system": "urn:t", "code": "b"}]});
                if let Some(object) = body.as_object_mut() {
                    object.insert("meta".to_owned(), meta.clone());
                }
                let read = s.get(&s.create(&body)?.path())?;
                for part in ["/profile", "/security", "/tag"] {
                    ensure(
                        read.json.pointer(&format!("/meta{part}")) == meta.pointer(part),
                        format!("meta{part} is another"),
                    )?;
                }
                Ok(())
            },
        ),
        Check::new("http/create/two-make-two", at, "the same sent twice makes two", C, |s| {
            let (one, two) = (s.create(&patient("1970-01-02"))?, s.create(&patient("1970-01-02"))?);
            ensure(one.id != two.id, "one id for two")
        }),
        Check::new("http/create/valid-id", "datatypes.html#id", "the id given is a FHIR id", C, |s| {
            let id = s.create(&patient("1970-01-02"))?.id;
            let fits = (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
            ensure(fits, format!("`{id}` is no id"))
        }),
        Check::new("http/create/content", at, "what is created can be read, element for element", C, |s| {
            let body = json!({"resourceType": "Patient", "active": true, "name": [{"use": "official", "family": "Ångström", "given": ["Å", "B"], "_given": [null, {"extension": [{"url": "http://example.org/e", "valueString": "x"}]}]}],
                "gender": "female", "birthDate": "1970-01-02", "_birthDate": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1970-01-02T03:04:05+01:00"}]},
                "multipleBirthInteger": 2, "contained": [{"resourceType": "Organization", "id": "o", "name": "Inside"}], "managingOrganization": {"reference": "#o"}});
            let read = s.get(&s.create(&body)?.path())?.json;
            for (name, value) in body.as_object().into_iter().flatten() {
                ensure(read.get(name) == Some(value), format!("{name} became {:?}", read.get(name)))?;
            }
            Ok(())
        }),
        Check::new("http/create/server-time", at, "meta.lastUpdated is an instant of now", C, |s| {
            let before = chrono::Utc::now() - chrono::TimeDelta::minutes(10);
            let read = s.get(&s.create(&patient("1970-01-02"))?.path())?;
            let updated = chrono::DateTime::parse_from_rfc3339(read.at("/meta/lastUpdated"))
                .map_err(|e| e.to_string())?;
            ensure(
                updated > before && updated < before + chrono::TimeDelta::minutes(20),
                format!("it is {updated}"),
            )
        }),
    ]
}

fn read() -> Vec<Check> {
    let at = "http.html#read";
    vec![
        Check::new("http/read/200", at, "read gives the resource with its id", C, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let answer = s.get(&made.path())?;
            answer.expect(200)?;
            ensure(answer.is("Patient") && answer.at("/id") == made.id, "another type or id")
        }),
        Check::new("http/read/headers", at, "read has ETag and Last-Modified of its meta", C, |s| {
            let answer = s.get(&s.create(&patient("1970-01-02"))?.path())?;
            ensure(
                answer.header("etag") == format!("W/\"{}\"", answer.at("/meta/versionId")),
                "ETag is not meta.versionId",
            )?;
            http_date(answer.header("last-modified"))?;
            let header = chrono::DateTime::parse_from_rfc2822(answer.header("last-modified"))
                .map_err(|e| e.to_string())?;
            let own = chrono::DateTime::parse_from_rfc3339(answer.at("/meta/lastUpdated"))
                .map_err(|e| e.to_string())?;
            ensure(header.timestamp() == own.timestamp(), "Last-Modified is not meta.lastUpdated")
        }),
        Check::new("http/read/never-was", at, "what never was is 404 with an OperationOutcome", C, |s| {
            s.get(&format!("/Patient/{}", unique("never")))?.refused(&[404])
        }),
        Check::new(
            "http/read/other-type",
            at,
            "an id of another type is 404",
            &["Patient.create", "Observation.read"],
            |s| s.get(&format!("/Observation/{}", s.create(&patient("1970-01-02"))?.id))?.refused(&[404]),
        ),
        Check::new("http/read/head", "http.html#head", "HEAD is read without the body", C, |s| {
            let answer = s.ask("HEAD", &s.create(&patient("1970-01-02"))?.path()).send()?;
            if answer.status == 405 {
                return Err(Stop::Skip("no HEAD".to_owned()));
            }
            answer.expect(200)?;
            weak(answer.header("etag"))?;
            ensure(answer.bytes.is_empty(), "there is a body")
        }),
        Check::new("http/read/head-absent", "http.html#head", "HEAD of what never was is 404", C, |s| {
            let answer = s.ask("HEAD", &format!("/Patient/{}", unique("never"))).send()?;
            if answer.status == 405 { Err(Stop::Skip("no HEAD".to_owned())) } else { answer.expect(404) }
        }),
        Check::new(
            "http/read/elements",
            "search.html#elements",
            "`_summary` and `_elements` may be used on read",
            C,
            |s| {
                let answer =
                    s.get(&format!("{}?_elements=birthDate", s.create(&patient("1970-01-02"))?.path()))?;
                answer.expect(200)?;
                if answer.json.get("name").is_some() {
                    return Err(Stop::Skip("_elements is left out on read".to_owned()));
                }
                ensure(answer.at("/birthDate") == "1970-01-02", "the element is missing")
            },
        ),
        Check::new("http/vread/old", "http.html#vread", "an older version can be read as it was", V, |s| {
            let (first, _) = changed(s)?;
            let answer = s.get(&format!("{}/_history/{}", first.path(), first.version))?;
            answer.expect(200)?;
            ensure(answer.at("/birthDate") == "1970-01-02", "not the older content")?;
            ensure(answer.at("/meta/versionId") == first.version, "another meta.versionId")?;
            ensure(answer.header("etag") == format!("W/\"{}\"", first.version), "another ETag")
        }),
        Check::new(
            "http/vread/current",
            "http.html#vread",
            "the current version can be read by its number",
            V,
            |s| {
                let (_, second) = changed(s)?;
                let answer = s.get(&format!("{}/_history/{}", second.path(), second.version))?;
                answer.expect(200)?;
                ensure(answer.at("/birthDate") == "1971-01-02", "not the current content")
            },
        ),
        Check::new("http/vread/never-was", "http.html#vread", "a version that never was is 404", V, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            s.get(&format!("{}/_history/987654", made.path()))?.refused(&[404])
        }),
        Check::new(
            "http/vread/no-version",
            "http.html#vread",
            "a version that is no version is refused",
            V,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                s.get(&format!("{}/_history/no_version", made.path()))?.refused(&[400, 404])
            },
        ),
        Check::new(
            "http/vread/of-other",
            "http.html#vread",
            "a version of a resource that never was is 404",
            V,
            |s| s.get(&format!("/Patient/{}/_history/1", unique("never")))?.refused(&[404]),
        ),
    ]
}

fn update() -> Vec<Check> {
    let at = "http.html#update";
    vec![
        Check::new("http/update/200", at, "update answers 200 with a new version", U, |s| {
            let (first, second) = changed(s)?;
            ensure(first.version != second.version, "the version is the same")
        }),
        Check::new("http/update/headers", at, "update has ETag and Last-Modified", U, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let answer = s.put(&made.path(), &patient_at(&made.id, "1971-01-02"))?;
            answer.expect(200)?;
            weak(answer.header("etag"))?;
            http_date(answer.header("last-modified"))?;
            ensure(answer.header("etag") != format!("W/\"{}\"", made.version), "the old ETag")
        }),
        Check::new(
            "http/update/replaces",
            at,
            "update replaces the whole: what is not sent is gone",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                s.put(&made.path(), &json!({"resourceType": "Patient", "id": made.id, "active": true}))?
                    .expect(200)?;
                let read = s.get(&made.path())?.json;
                ensure(read.get("birthDate").is_none() && read.get("name").is_none(), "an element stayed")
            },
        ),
        Check::new("http/update/other-id", at, "an id that is not the address's is 400", U, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            s.put(&made.path(), &patient_at("another", "1971-01-02"))?.refused(&[400])
        }),
        Check::new("http/update/no-id", at, "a body without an id is 400", U, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            s.put(&made.path(), &patient("1971-01-02"))?.refused(&[400])
        }),
        Check::new("http/update/other-type", at, "a body of another type is refused", U, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            s.put(&made.path(), &json!({"resourceType": "Basic", "id": made.id, "code": {"text": "x"}}))?
                .refused(&[400, 422])
        }),
        Check::new(
            "http/update/refused-changes-nothing",
            at,
            "an update that is refused changes nothing",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                s.put(&made.path(), &patient_at("another", "1971-01-02"))?.refused(&[400])?;
                ensure(s.get(&made.path())?.at("/meta/versionId") == made.version, "there is a new version")
            },
        ),
        Check::new(
            "http/update/creates",
            "http.html#upsert",
            "update of what never was creates it with 201 under that id",
            &["Patient.updateCreate"],
            |s| {
                let id = unique("new");
                let answer = s.put(&format!("/Patient/{id}"), &patient_at(&id, "1970-01-02"))?;
                answer.expect(201)?;
                ensure(answer.made()?.id == id, "Location has another id")?;
                s.get(&format!("/Patient/{id}"))?.expect(200)
            },
        ),
        Check::new(
            "http/update/creates-valid-ids-only",
            "datatypes.html#id",
            "update under an id that is none is refused",
            &["Patient.updateCreate"],
            |s| {
                let id = "x".repeat(65);
                s.put(&format!("/Patient/{id}"), &patient_at(&id, "1970-01-02"))?
                    .refused(&[400, 404, 405])?;
                s.put("/Patient/under_score", &patient_at("under_score", "1970-01-02"))?
                    .refused(&[400, 404, 405])
            },
        ),
        Check::new(
            "http/update/id-of-64",
            "datatypes.html#id",
            "an id of 64 letters is an id",
            &["Patient.updateCreate"],
            |s| {
                let id = format!("{:0<64}", unique("long"));
                s.put(&format!("/Patient/{id}"), &patient_at(&id, "1970-01-02"))?.expect(201)
            },
        ),
        Check::new(
            "http/update/unchanged",
            at,
            "an update without a change makes no version, or a whole one",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let answer = s.put(&made.path(), &patient_at(&made.id, "1970-01-02"))?;
                answer.expect(200)?;
                let read = s.get(&made.path())?;
                ensure(
                    answer.header("etag") == read.header("etag"),
                    "the answer's ETag is not the stored one",
                )?;
                let history = s.get(&format!("{}/_history", made.path()))?;
                let wanted = if read.at("/meta/versionId") == made.version { 1 } else { 2 };
                ensure(
                    history.status != 200 || history.entries().len() == wanted,
                    "history says another thing",
                )
            },
        ),
        Check::new(
            "http/update/version-sent-is-replaced",
            at,
            "a versionId sent on update is replaced",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let body = json!({"resourceType": "Patient", "id": made.id, "meta": {"versionId": "77", "lastUpdated": "2001-02-03T04:05:06Z"}, "active": true});
                s.put(&made.path(), &body)?.expect(200)?;
                let read = s.get(&made.path())?;
                ensure(
                    read.at("/meta/versionId") != "77" && !read.at("/meta/lastUpdated").starts_with("2001"),
                    "it was kept",
                )
            },
        ),
        Check::new("http/update/later", at, "meta.lastUpdated does not go back", U, |s| {
            let (first, second) = changed(s)?;
            let of = |made: &Made| {
                Ok::<_, Stop>(
                    s.get(&format!("{}/_history/{}", made.path(), made.version))?
                        .at("/meta/lastUpdated")
                        .to_owned(),
                )
            };
            ensure(of(&first)? <= of(&second)?, "the second version is older")
        }),
        Check::new(
            "http/update/if-match",
            "http.html#concurrency",
            "an update with the current If-Match succeeds",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let ask = s.ask("PUT", &made.path()).header("if-match", &format!("W/\"{}\"", made.version));
                ask.json(&patient_at(&made.id, "1971-01-02")).send()?.expect(200)
            },
        ),
        Check::new(
            "http/update/if-match-stale",
            "http.html#concurrency",
            "a stale If-Match is 412 and changes nothing",
            U,
            |s| {
                let (first, second) = changed(s)?;
                let ask = s.ask("PUT", &first.path()).header("if-match", &format!("W/\"{}\"", first.version));
                ask.json(&patient_at(&first.id, "1972-01-02")).send()?.refused(&[412])?;
                ensure(
                    s.get(&first.path())?.at("/meta/versionId") == second.version,
                    "there is a new version",
                )
            },
        ),
        Check::new(
            "http/update/if-match-future",
            "http.html#concurrency",
            "an If-Match of a version that is not yet is 412",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let ask = s.ask("PUT", &made.path()).header("if-match", "W/\"98765\"");
                ask.json(&patient_at(&made.id, "1971-01-02")).send()?.refused(&[409, 412])
            },
        ),
        Check::new(
            "http/update/if-match-malformed",
            "http.html#concurrency",
            "an If-Match that is no ETag is 400",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let ask = s.ask("PUT", &made.path()).header("if-match", "nonsense");
                ask.json(&patient_at(&made.id, "1971-01-02")).send()?.refused(&[400, 412])
            },
        ),
        Check::new(
            "http/update/if-match-absent",
            "http.html#concurrency",
            "an update with If-Match of what never was is refused",
            &["Patient.updateCreate"],
            |s| {
                let id = unique("never");
                let ask = s.ask("PUT", &format!("/Patient/{id}")).header("if-match", "W/\"1\"");
                ask.json(&patient_at(&id, "1970-01-02")).send()?.refused(&[404, 409, 412])?;
                s.get(&format!("/Patient/{id}"))?.expect(404)
            },
        ),
        Check::new(
            "http/update/race",
            "http.html#concurrency",
            "of eight updates with one If-Match one succeeds",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let one = || {
                    let ask =
                        s.ask("PUT", &made.path()).header("if-match", &format!("W/\"{}\"", made.version));
                    ask.json(&patient_at(&made.id, "1971-01-02")).send().map_or(0, |answer| answer.status)
                };
                let statuses = at_once(8, one);
                let good = statuses.iter().filter(|status| **status == 200).count();
                let refused = statuses.iter().filter(|status| matches!(**status, 409 | 412)).count();
                ensure(good == 1 && refused == 7, format!("{statuses:?}"))
            },
        ),
        Check::new(
            "http/update/race-without",
            "http.html#concurrency",
            "eight updates at once without If-Match all succeed, each a version",
            U,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let count = std::sync::atomic::AtomicU32::new(11);
                let one = || {
                    let year = 1960 + count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    s.put(&made.path(), &patient_at(&made.id, &format!("{year}-01-02")))
                        .map_or(0, |answer| answer.status)
                };
                let statuses = at_once(8, one);
                ensure(statuses.iter().all(|status| *status == 200), format!("{statuses:?}"))?;
                let history = s.get(&format!("{}/_history?_count=50", made.path()))?;
                ensure(
                    history.status != 200 || history.entries().len() == 9,
                    format!("{} versions", history.entries().len()),
                )
            },
        ),
    ]
}

/// The same at the same time.
pub(crate) fn at_once<T: Send>(count: usize, act: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&act)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}
