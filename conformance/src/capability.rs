//! What the server says of itself, and whether it is true (http.html#capabilities, capabilitystatement.html).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::check::{Check, Outcome, ensure};
use crate::server::{FHIR_JSON, Server, list, text};

const AT: &str = "http.html#capabilities";
const OF: &str = "capabilitystatement.html#resource";

/// Types of parameters as the definitions have them; a claim of another type is wrong.
#[rustfmt::skip]
const PARAMETERS: &[(&str, &str, &str)] = &[
    ("Patient", "name", "string"),
    ("Patient", "family", "string"),
    ("Patient", "birthdate", "date"),
    ("Patient", "identifier", "token"),
    ("Patient", "gender", "token"),
    ("Patient", "general-practitioner", "reference"),
    ("Observation", "code", "token"),
    ("Observation", "date", "date"),
    ("Observation", "patient", "reference"),
    ("Observation", "value-quantity", "quantity"),
    ("Observation", "code-value-quantity", "composite"),
    ("ValueSet", "url", "uri"),
    ("RiskAssessment", "probability", "number"),
    ("Encounter", "length", "quantity"),
    ("Subscription", "url", "uri"),
    ("AuditEvent", "date", "date"),
    ("Provenance", "target", "reference"),
];

const INTERACTIONS: [&str; 9] = [
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
];

fn resources(server: &Server) -> &[Value] {
    list(&server.statement, "/rest/0/resource")
}

fn each(server: &Server, holds: impl Fn(&Value) -> Outcome) -> Outcome {
    ensure(!resources(server).is_empty(), "no resource types")?;
    resources(server).iter().try_for_each(holds)
}

fn distinct(of: &Value, at: &str, key: &str) -> Outcome {
    let names: Vec<&str> = list(of, at).iter().map(|one| text(one, key)).collect();
    let different: HashSet<&&str> = names.iter().collect();
    ensure(
        different.len() == names.len() && !names.contains(&""),
        format!("{}{at}: a name twice, or none", text(of, "/type")),
    )
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check::new("capability/200", AT, "/metadata is a CapabilityStatement", &[], |s| {
            let answer = s.get("/metadata")?;
            answer.expect(200)?;
            ensure(answer.is("CapabilityStatement"), "it is another resource")
        }),
        Check::new("capability/no-token", AT, "/metadata needs no token", &[], |s| {
            let answer = reqwest::blocking::get(format!("{}/metadata", s.base)).map_err(|e| e.to_string())?;
            ensure(answer.status().as_u16() == 200, format!("{}", answer.status()))
        }),
        Check::new(
            "capability/version",
            "capabilitystatement.html#fhirVersion",
            "fhirVersion is 4.0.x",
            &[],
            |s| {
                ensure(
                    text(&s.statement, "/fhirVersion").starts_with("4.0."),
                    text(&s.statement, "/fhirVersion"),
                )
            },
        ),
        Check::new(
            "capability/json",
            "capabilitystatement.html#format",
            "JSON is among the formats",
            &["json"],
            |_| Ok(()),
        ),
        Check::new(
            "capability/formats",
            "capabilitystatement.html#format",
            "the formats are the media types or their short names",
            &[],
            |s| {
                let known = [
                    "json",
                    "xml",
                    "ttl",
                    "application/fhir+json",
                    "application/fhir+xml",
                    "application/json",
                    "application/xml",
                    "text/json",
                    "text/xml",
                    "html/json",
                    "html/xml",
                    "text/turtle",
                    "application/x-turtle",
                    "text/html",
                ];
                let odd = list(&s.statement, "/format")
                    .iter()
                    .filter_map(Value::as_str)
                    .find(|one| !known.contains(&one.split(';').next().unwrap_or_default()));
                ensure(odd.is_none(), format!("{odd:?}"))
            },
        ),
        Check::new(
            "capability/mandatory",
            "capabilitystatement.html#resource",
            "status, date, kind, fhirVersion and format are there",
            &[],
            |s| {
                for name in ["status", "date", "kind", "fhirVersion", "format"] {
                    ensure(s.statement.get(name).is_some(), format!("{name} is missing"))?;
                }
                Ok(())
            },
        ),
        Check::new(
            "capability/kind",
            "capabilitystatement.html#kind",
            "it is of an instance, with software and implementation",
            &[],
            |s| {
                ensure(text(&s.statement, "/kind") == "instance", text(&s.statement, "/kind"))?;
                ensure(!s.software().is_empty(), "no software.name")?;
                ensure(
                    !text(&s.statement, "/implementation/description").is_empty(),
                    "no implementation.description",
                )
            },
        ),
        Check::new(
            "capability/url",
            "capabilitystatement.html#resource",
            "implementation.url, where it is given, is this server",
            &[],
            |s| {
                let url = text(&s.statement, "/implementation/url");
                ensure(url.is_empty() || url.starts_with("http"), format!("it is `{url}`"))
            },
        ),
        Check::new("capability/mode", "capabilitystatement.html#rest", "rest[0] is of a server", &[], |s| {
            ensure(text(&s.statement, "/rest/0/mode") == "server", "it is not")
        }),
        Check::new(
            "capability/valid",
            "capabilitystatement.html#invs",
            "the statement is valid to the server itself",
            &["CapabilityStatement$validate"],
            |s| {
                let answer = s.post("/CapabilityStatement/$validate", &s.statement)?;
                answer.expect(200)?;
                let error = list(&answer.json, "/issue")
                    .iter()
                    .find(|issue| matches!(text(issue, "/severity"), "error" | "fatal"));
                ensure(error.is_none(), format!("{error:?}"))
            },
        ),
        Check::new(
            "capability/types-once",
            "capabilitystatement.html#invs",
            "each type is there once",
            &[],
            |s| distinct(s.statement.pointer("/rest/0").unwrap_or(&Value::Null), "/resource", "/type"),
        ),
        Check::new(
            "capability/parameters-once",
            "capabilitystatement.html#invs",
            "each type's search parameters have distinct names",
            &[],
            |s| each(s, |one| distinct(one, "/searchParam", "/name")),
        ),
        Check::new(
            "capability/parameter-types",
            "capabilitystatement.html#invs",
            "each search parameter has one of the nine types",
            &[],
            |s| {
                let known = [
                    "number",
                    "date",
                    "string",
                    "token",
                    "reference",
                    "composite",
                    "quantity",
                    "uri",
                    "special",
                ];
                each(s, |one| {
                    let odd =
                        list(one, "/searchParam").iter().find(|one| !known.contains(&text(one, "/type")));
                    ensure(odd.is_none(), format!("{odd:?}"))
                })
            },
        ),
        Check::new(
            "capability/interactions",
            "capabilitystatement.html#invs",
            "each interaction is one of FHIR's",
            &[],
            |s| {
                each(s, |one| {
                    let odd = list(one, "/interaction")
                        .iter()
                        .find(|one| !INTERACTIONS.contains(&text(one, "/code")));
                    ensure(odd.is_none(), format!("{odd:?}"))
                })
            },
        ),
        Check::new("capability/read", OF, "each type that can be created or updated can be read", &[], |s| {
            each(s, |one| {
                let has = |code: &str| list(one, "/interaction").iter().any(|one| text(one, "/code") == code);
                ensure(has("read") || !(has("create") || has("update")), text(one, "/type"))
            })
        }),
        Check::new(
            "capability/operations",
            "capabilitystatement.html#operation",
            "each operation has a name without $ and a definition",
            &[],
            |s| {
                let of_rest = s.statement.pointer("/rest/0").unwrap_or(&Value::Null);
                for of in resources(s).iter().chain([of_rest]) {
                    for one in list(of, "/operation") {
                        ensure(
                            !text(one, "/name").starts_with('$') && text(one, "/definition").contains("://"),
                            one.to_string(),
                        )?;
                    }
                }
                Ok(())
            },
        ),
        Check::new(
            "capability/definitions",
            "operationdefinition.html#resource",
            "the definition of each operation can be found on the server",
            &["OperationDefinition?url"],
            |s| {
                let of_rest = s.statement.pointer("/rest/0").unwrap_or(&Value::Null);
                let all: HashSet<&str> = resources(s)
                    .iter()
                    .chain([of_rest])
                    .flat_map(|of| list(of, "/operation"))
                    .map(|one| text(one, "/definition"))
                    .collect();
                for url in all {
                    let found = s.search("/OperationDefinition", &format!("url={url}"))?.found("match");
                    ensure(!found.is_empty(), format!("{url} is not there"))?;
                }
                Ok(())
            },
        ),
        Check::new(
            "capability/includes",
            OF,
            "each include that is claimed begins with its type or is *",
            &[],
            |s| {
                each(s, |one| {
                    let kind = text(one, "/type");
                    let odd = list(one, "/searchInclude").iter().filter_map(Value::as_str).find(|link| {
                        *link != "*" && !link.starts_with(&format!("{kind}:")) && !link.contains(':')
                    });
                    ensure(odd.is_none(), format!("{odd:?}"))
                })
            },
        ),
        Check::new("capability/head", "http.html#head", "/metadata can be asked by HEAD", &[], |s| {
            let answer = s.ask("HEAD", "/metadata").send()?;
            if answer.status == 405 {
                return Err(crate::check::Stop::Skip("no HEAD".to_owned()));
            }
            answer.expect(200)?;
            ensure(answer.bytes.is_empty(), "there is a body")
        }),
        Check::new("capability/mode-full", AT, "`mode=full` gives the same", &[], |s| {
            let answer = s.get("/metadata?mode=full")?;
            answer.expect(200)?;
            ensure(answer.is("CapabilityStatement"), "it is another resource")
        }),
        Check::new("capability/media-type", AT, "it is FHIR's JSON", &[], |s| {
            let answer = s.ask("GET", "/metadata").header("accept", FHIR_JSON).send()?;
            ensure(answer.media() == FHIR_JSON, answer.media())
        }),
        Check::new("capability/stable", AT, "asked twice it is the same", &[], |s| {
            let (one, two) = (s.get("/metadata")?.json, s.get("/metadata")?.json);
            ensure(one.get("rest") == two.get("rest"), "another rest")
        }),
        Check::new(
            "capability/system/transaction",
            "http.html#transaction",
            "the transaction that is claimed is there",
            &["transaction"],
            |s| s.post("", &json!({"resourceType": "Bundle", "type": "transaction"}))?.expect(200),
        ),
        Check::new(
            "capability/system/batch",
            "http.html#transaction",
            "the batch that is claimed is there",
            &["batch"],
            |s| s.post("", &json!({"resourceType": "Bundle", "type": "batch"}))?.expect(200),
        ),
        Check::new(
            "capability/system/search",
            "http.html#search",
            "the search of all types that is claimed is there",
            &["search-system"],
            |s| s.search("", "_count=1&_type=Patient").map(|_| ()),
        ),
        Check::new(
            "capability/system/history",
            "http.html#history",
            "the history of everything that is claimed is there",
            &["history-system"],
            |s| s.get("/_history?_count=1")?.expect(200),
        ),
        Check::new(
            "capability/compartments",
            "capabilitystatement.html#resource",
            "each compartment that is claimed is one of FHIR's five",
            &[],
            |s| {
                let known =
                    ["patient", "encounter", "relatedPerson", "relatedperson", "practitioner", "device"];
                let all = list(&s.statement, "/rest/0/compartment").iter().filter_map(Value::as_str);
                let mut odd = all.filter(|url| !known.contains(&url.rsplit('/').next().unwrap_or_default()));
                ensure(odd.next().is_none(), "another")
            },
        ),
        Check::new(
            "capability/not-claimed",
            OF,
            "an interaction that is not claimed of a type is refused",
            &[],
            |s| {
                for one in resources(s) {
                    let has =
                        |code: &str| list(one, "/interaction").iter().any(|one| text(one, "/code") == code);
                    let kind = text(one, "/type");
                    if !has("history-type") {
                        s.get(&format!("/{kind}/_history"))?.refused(&[400, 403, 404, 405, 501])?;
                    }
                    if !has("search-type") {
                        s.get(&format!("/{kind}?_count=1"))?.refused(&[400, 403, 404, 405, 501])?;
                    }
                }
                Ok(())
            },
        ),
    ];
    for (kind, name, wanted) in PARAMETERS {
        let need = format!("{kind}?{name}");
        checks.push(Check::new(
            format!("capability/parameter/{kind}-{name}"),
            "searchparameter-registry.html#registry",
            format!("{kind}'s search parameter {name} is of type {wanted}"),
            &[need.as_str()],
            move |s| {
                let of = resources(s).iter().find(|one| text(one, "/type") == *kind).ok_or("no such type")?;
                let one = list(of, "/searchParam")
                    .iter()
                    .find(|one| text(one, "/name") == *name)
                    .ok_or("no such parameter")?;
                ensure(text(one, "/type") == *wanted, text(one, "/type"))
            },
        ));
    }
    checks
}
