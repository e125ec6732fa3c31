//! History of a resource, a type, and everything (http.html#history).

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::http::{patient, patient_at};
use crate::server::{Answer, Made, Server, encoded, list, text};

const AT: &str = "http.html#history";
const I: &[&str] = &["Patient.create", "Patient.update", "Patient.history-instance"];
const D: &[&str] = &["Patient.create", "Patient.update", "Patient.delete", "Patient.history-instance"];

/// Created, updated twice, deleted, brought back: five versions.
fn lived(server: &Server) -> Result<Made, Stop> {
    let made = server.create(&patient("1970-01-02"))?;
    for year in [1971, 1972] {
        server.put(&made.path(), &patient_at(&made.id, &format!("{year}-01-02")))?.expect(200)?;
    }
    server.delete(&made.path())?.expect_one(&[200, 204])?;
    server.put(&made.path(), &patient_at(&made.id, "1974-01-02"))?.expect_one(&[200, 201])?;
    Ok(made)
}

fn changed(server: &Server, times: u32) -> Result<Made, Stop> {
    let made = server.create(&patient("1970-01-02"))?;
    for n in 1..times {
        server.put(&made.path(), &patient_at(&made.id, &format!("19{:02}-01-02", 70 + n)))?.expect(200)?;
    }
    Ok(made)
}

fn history(server: &Server, path: &str, query: &str) -> Result<Answer, Stop> {
    let answer = server.get(&format!("{path}/_history?{}", encoded(query)))?;
    answer.expect(200)?;
    ensure(answer.is("Bundle") && answer.at("/type") == "history", "no history Bundle")?;
    Ok(answer)
}

fn births(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| text(entry, "/resource/birthDate")).collect()
}

/// All pages by the next links.
fn pages(server: &Server, path: &str, query: &str) -> Result<Vec<Value>, Stop> {
    let mut page = history(server, path, query)?;
    let mut entries = page.entries().to_vec();
    for _ in 0..50 {
        let Some(next) = page.link("next").map(str::to_owned) else { return Ok(entries) };
        page = server.get(&next)?;
        page.expect(200)?;
        entries.extend(page.entries().to_vec());
    }
    Err("more than fifty pages".into())
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

pub(crate) fn checks() -> Vec<Check> {
    [of_one(), of_many(), between()].into_iter().flatten().collect()
}

fn of_one() -> Vec<Check> {
    vec![
        Check::new(
            "history/instance/all-versions",
            AT,
            "the history of a resource has every version, the newest first",
            D,
            |s| {
                let page = history(s, &lived(s)?.path(), "")?;
                ensure(
                    births(page.entries()) == ["1974-01-02", "", "1972-01-02", "1971-01-02", "1970-01-02"],
                    format!("{:?}", births(page.entries())),
                )
            },
        ),
        Check::new("history/instance/request", AT, "each entry has the request that made it", D, |s| {
            let made = lived(s)?;
            let page = history(s, &made.path(), "")?;
            let methods: Vec<&str> =
                page.entries().iter().map(|entry| text(entry, "/request/method")).collect();
            ensure(
                matches!(methods.as_slice(), ["PUT", "DELETE", "PUT", "PUT", "POST"]),
                format!("{methods:?}"),
            )?;
            let urls = page.entries().iter().all(|entry| text(entry, "/request/url").contains("Patient"));
            ensure(urls, "a request has no url")
        }),
        Check::new("history/instance/response", AT, "each entry has status, etag and lastModified", D, |s| {
            let page = history(s, &lived(s)?.path(), "")?;
            for entry in page.entries() {
                ensure(text(entry, "/response/status").starts_with('2'), "a response without a status")?;
                let version = text(entry, "/resource/meta/versionId");
                let etag = text(entry, "/response/etag");
                ensure(
                    version.is_empty() || etag.is_empty() || etag == format!("W/\"{version}\""),
                    "an etag is not the version",
                )?;
                ensure(!text(entry, "/response/lastModified").is_empty(), "a response without lastModified")?;
            }
            Ok(())
        }),
        Check::new("history/instance/deleted", AT, "a deletion is an entry without a resource", D, |s| {
            let page = history(s, &lived(s)?.path(), "")?;
            let deletion = page
                .entries()
                .iter()
                .find(|entry| text(entry, "/request/method") == "DELETE")
                .ok_or("no DELETE")?;
            ensure(deletion.get("resource").is_none(), "it has a resource")
        }),
        Check::new(
            "history/instance/full-url",
            "bundle.html#bundle-unique",
            "each entry has the resource's fullUrl",
            I,
            |s| {
                let made = changed(s, 2)?;
                let page = history(s, &made.path(), "")?;
                let fits = page.entries().iter().all(|entry| {
                    text(entry, "/fullUrl").ends_with(&made.path())
                        && text(entry, "/fullUrl").starts_with("http")
                });
                ensure(fits, "a fullUrl is another")
            },
        ),
        Check::new("history/instance/total", AT, "total, where it is given, counts all versions", I, |s| {
            let page = history(s, &changed(s, 3)?.path(), "_count=1")?;
            ensure(page.total().is_none_or(|total| total == 3), format!("total is {:?}", page.total()))
        }),
        Check::new("history/instance/of-deleted", AT, "the history of what is deleted can be read", D, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            s.delete(&made.path())?.expect_one(&[200, 204])?;
            ensure(history(s, &made.path(), "")?.entries().len() == 2, "not two versions")
        }),
        Check::new("history/instance/nobody", AT, "the history of what never was is 404", I, |s| {
            s.get("/Patient/nobody-has-this-id/_history")?.refused(&[404])
        }),
        Check::new(
            "history/instance/other-type",
            AT,
            "the history of an id of another type is 404",
            &["Observation.history-instance", "Patient.create"],
            |s| {
                s.get(&format!("/Observation/{}/_history", s.create(&patient("1970-01-02"))?.id))?
                    .refused(&[404])
            },
        ),
        Check::new(
            "history/instance/vread-same",
            "http.html#vread",
            "what a version shows in the history is what vread shows",
            &["Patient.history-instance", "Patient.vread"],
            |s| {
                let made = changed(s, 3)?;
                for entry in history(s, &made.path(), "")?.entries() {
                    let version = text(entry, "/resource/meta/versionId");
                    let read = s.get(&format!("{}/_history/{version}", made.path()))?;
                    ensure(
                        entry.get("resource") == Some(&read.json),
                        format!("version {version} is another"),
                    )?;
                }
                Ok(())
            },
        ),
        Check::new(
            "history/instance/by-pages",
            "http.html#paging",
            "by pages of two the history has each version once",
            I,
            |s| {
                let made = changed(s, 5)?;
                let all = pages(s, &made.path(), "_count=2")?;
                ensure(
                    births(&all) == ["1974-01-02", "1973-01-02", "1972-01-02", "1971-01-02", "1970-01-02"],
                    format!("{:?}", births(&all)),
                )
            },
        ),
        Check::new(
            "history/instance/count",
            "http.html#paging",
            "a page has at most _count versions",
            I,
            |s| {
                ensure(
                    history(s, &changed(s, 4)?.path(), "_count=3")?.entries().len() == 3,
                    "not three versions",
                )
            },
        ),
        Check::new(
            "history/instance/no-next",
            "http.html#paging",
            "the last page has no next link",
            I,
            |s| {
                ensure(
                    history(s, &changed(s, 2)?.path(), "_count=2")?.link("next").is_none(),
                    "there is a next link",
                )
            },
        ),
        Check::new(
            "history/instance/writes-between",
            "http.html#paging",
            "a new version between pages makes none double and none missing",
            I,
            |s| {
                let made = changed(s, 4)?;
                let first = history(s, &made.path(), "_count=2")?;
                s.put(&made.path(), &patient_at(&made.id, "1999-01-02"))?.expect(200)?;
                let next = s.get(first.link("next").ok_or("no next link")?)?;
                next.expect(200)?;
                let second: Vec<&str> = births(next.entries());
                ensure(second == ["1971-01-02", "1970-01-02"], format!("{second:?}"))
            },
        ),
        Check::new("history/instance/self", AT, "there is a self link", I, |s| {
            ensure(
                history(s, &changed(s, 1)?.path(), "_count=2")?
                    .link("self")
                    .is_some_and(|link| link.contains("_history")),
                "there is none",
            )
        }),
        Check::new("history/instance/bad-count", AT, "a _count that is no number is refused", I, |s| {
            s.get(&format!("{}/_history?_count=few", changed(s, 1)?.path()))?.refused(&[400])
        }),
        Check::new("history/instance/bad-since", AT, "a _since that is no instant is refused", I, |s| {
            s.get(&format!("{}/_history?_since=then", changed(s, 1)?.path()))?.refused(&[400])
        }),
    ]
}

fn between() -> Vec<Check> {
    vec![
        Check::new("history/since/before", AT, "_since of long ago gives all", I, |s| {
            ensure(
                history(s, &changed(s, 3)?.path(), "_since=2000-01-01T00:00:00Z")?.entries().len() == 3,
                "not all",
            )
        }),
        Check::new("history/since/future", AT, "_since in the future gives none", I, |s| {
            ensure(
                history(s, &changed(s, 3)?.path(), "_since=2100-01-01T00:00:00Z")?.entries().is_empty(),
                "some",
            )
        }),
        Check::new("history/since/now", AT, "_since gives what was made since then", I, |s| {
            let made = changed(s, 2)?;
            std::thread::sleep(std::time::Duration::from_millis(20));
            let since = text(&s.get(&made.path())?.json, "/meta/lastUpdated").to_owned();
            let moment = chrono::DateTime::parse_from_rfc3339(&since).map_err(|e| e.to_string())?
                + chrono::TimeDelta::milliseconds(2);
            s.put(&made.path(), &patient_at(&made.id, "1999-01-02"))?.expect(200)?;
            let moment = moment.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            let page = history(s, &made.path(), &format!("_since={moment}"))?;
            ensure(births(page.entries()) == ["1999-01-02"], format!("{:?}", births(page.entries())))
        }),
        Check::new("history/since/offset", AT, "_since may have an offset", I, |s| {
            ensure(
                history(s, &changed(s, 2)?.path(), "_since=2000-01-01T00:00:00+05:30")?.entries().len() == 2,
                "not all",
            )
        }),
        Check::new("history/at/now", AT, "_at gives what was current then", I, |s| {
            let made = changed(s, 2)?;
            std::thread::sleep(std::time::Duration::from_millis(20));
            let moment = now();
            std::thread::sleep(std::time::Duration::from_millis(20));
            s.put(&made.path(), &patient_at(&made.id, "1999-01-02"))?.expect(200)?;
            let page = history(s, &made.path(), &format!("_at={moment}"))?;
            if page.entries().len() == 3 {
                return Err(Stop::Skip("_at is left out".to_owned()));
            }
            ensure(
                births(page.entries()) == ["1971-01-02"],
                format!("{:?}; is the server's clock this machine's?", births(page.entries())),
            )
        }),
        Check::new("history/at/before", AT, "_at of before it was gives none", I, |s| {
            let made = changed(s, 2)?;
            let answer = s.get(&format!("{}/_history?_at=2000-01-01", made.path()))?;
            if answer.status == 200 && answer.entries().len() == 2 {
                return Err(Stop::Skip("_at is left out".to_owned()));
            }
            answer.expect_one(&[200, 404])?;
            ensure(answer.entries().is_empty(), "some")
        }),
    ]
}

fn holds_latest(server: &Server, path: &str) -> Outcome {
    let made = lived(server)?;
    let all = pages_until(server, path, &made)?;
    ensure(all.len() >= 5, format!("{} of its five versions", all.len()))
}

/// The versions of one resource in a longer history, which it is near the beginning of.
fn pages_until(server: &Server, path: &str, made: &Made) -> Result<Vec<Value>, Stop> {
    let mut page = history(server, path, "_count=200")?;
    let mut found: Vec<Value> = Vec::new();
    for _ in 0..20 {
        let own = |entry: &&Value| text(entry, "/fullUrl").ends_with(&made.path());
        found.extend(list(&page.json, "/entry").iter().filter(own).cloned());
        let Some(next) = page.link("next").filter(|_| found.len() < 5).map(str::to_owned) else { break };
        page = server.get(&next)?;
        page.expect(200)?;
    }
    Ok(found)
}

fn of_many() -> Vec<Check> {
    let t: &[&str] = &["Patient.create", "Patient.history-type", "Patient.delete"];
    let y: &[&str] = &["Patient.create", "history-system", "Patient.delete"];
    vec![
        Check::new(
            "history/type/all-versions",
            AT,
            "the history of a type has every version of its resources",
            t,
            |s| holds_latest(s, "/Patient"),
        ),
        Check::new(
            "history/system/all-versions",
            AT,
            "the history of everything has every version of a resource",
            y,
            |s| holds_latest(s, ""),
        ),
        Check::new("history/type/only-its-type", AT, "the history of a type has no other types", t, |s| {
            s.create(&patient("1970-01-02"))?;
            s.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}))?;
            let page = history(s, "/Patient", "_count=100")?;
            let other = page
                .entries()
                .iter()
                .any(|entry| !matches!(text(entry, "/resource/resourceType"), "Patient" | ""));
            ensure(!other && !page.entries().is_empty(), "another type is there")
        }),
        Check::new(
            "history/system/several-types",
            AT,
            "the history of everything has several types",
            y,
            |s| {
                s.create(&patient("1970-01-02"))?;
                s.create(&json!({"resourceType": "Basic", "code": {"text": "x"}}))?;
                let page = history(s, "", "_count=100")?;
                for kind in ["Patient", "Basic"] {
                    let there =
                        page.entries().iter().any(|entry| text(entry, "/resource/resourceType") == kind);
                    ensure(there, format!("no {kind} on the first page"))?;
                }
                Ok(())
            },
        ),
        Check::new(
            "history/type/newest-first",
            AT,
            "the history of a type is in the order of time, the newest first",
            t,
            |s| {
                s.create(&patient("1970-01-02"))?;
                s.create(&patient("1970-01-02"))?;
                let page = history(s, "/Patient", "_count=100")?;
                let times: Vec<&str> = page
                    .entries()
                    .iter()
                    .map(|entry| text(entry, "/response/lastModified"))
                    .filter(|time| !time.is_empty())
                    .collect();
                ensure(times.windows(2).all(|pair| pair.first() >= pair.last()), "not in order")
            },
        ),
        Check::new("history/type/since", AT, "_since works on a type", t, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let updated = text(&s.get(&made.path())?.json, "/meta/lastUpdated").to_owned();
            let page = history(s, "/Patient", &format!("_since={updated}&_count=1000"))?;
            ensure(
                page.entries().iter().any(|entry| text(entry, "/fullUrl").ends_with(&made.path())),
                "the new one is missing",
            )?;
            let older = page.entries().iter().any(|entry| {
                let time = text(entry, "/response/lastModified");
                chrono::DateTime::parse_from_rfc3339(time).ok()
                    < chrono::DateTime::parse_from_rfc3339(&updated)
                        .ok()
                        .map(|at| at - chrono::TimeDelta::seconds(1))
            });
            ensure(!older, "an older one is there")
        }),
        Check::new("history/type/unknown", AT, "the history of a type that is none is 404", t, |s| {
            s.get("/Nothing/_history")?.refused(&[400, 404])
        }),
        Check::new("history/type/future", AT, "_since in the future gives none, of a type", t, |s| {
            ensure(history(s, "/Patient", "_since=2100-01-01T00:00:00Z")?.entries().is_empty(), "some")
        }),
        Check::new(
            "history/system/by-pages",
            "http.html#paging",
            "pages of everything's history do not repeat",
            y,
            |s| {
                for _ in 0..4 {
                    s.create(&patient("1970-01-02"))?;
                }
                let first = history(s, "", "_count=2")?;
                let second = s.get(first.link("next").ok_or("no next link")?)?;
                second.expect(200)?;
                let of = |page: &Answer| -> Vec<String> {
                    page.entries()
                        .iter()
                        .map(|entry| format!("{} {}", text(entry, "/fullUrl"), text(entry, "/response/etag")))
                        .collect()
                };
                let repeated = of(&second).iter().any(|one| of(&first).contains(one));
                ensure(!repeated && second.entries().len() == 2, "an entry is on both")
            },
        ),
    ]
}
