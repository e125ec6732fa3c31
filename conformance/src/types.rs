//! Every resource type that is claimed does what is claimed of it. `data/minimal.ndjson` has one
//! resource of each.

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::element::{Element, FHIR};
use crate::server::{FHIR_JSON, FHIR_XML, Made, Server, encoded, list, text, unique};

const MINIMAL: &str = include_str!("../data/minimal.ndjson");

/// Name of the group, section, what must hold, what of the type must be claimed, how it is held.
type Group =
    (&'static str, &'static str, &'static str, &'static [&'static str], fn(&Server, &Sample) -> Outcome);

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    ("create", "http.html#create", "is created, and read as it was sent", &[".create", ".read"], create),
    ("update", "http.html#update", "is updated; both versions can be read, and its history has both", &[".create", ".update", ".vread", ".history-instance"], update),
    ("delete", "http.html#delete", "is deleted, is then gone and not found, and can be brought back", &[".create", ".delete", ".updateCreate"], delete),
    ("search", "http.html#search", "is found by _id, by _tag and by _lastUpdated", &[".create", ".search-type", "?_id", "?_tag", "?_lastUpdated"], search),
    ("history", "http.html#history", "is in its type's history", &[".create", ".history-type"], history),
    ("conditional", "http.html#ccreate", "is created once with If-None-Exist, and updated by criteria", &[".create", ".conditionalCreate", ".conditionalUpdate", "?_tag"], conditional),
    ("patch", "http.html#patch", "is changed by a JSON Patch", &[".create", ".patch"], patch),
    ("xml", "xml.html#xml", "is the same resource after a way through XML", &[".create", ".read"], xml),
    ("bundle", "http.html#transaction", "is created in a transaction, and read in a batch", &[".create", ".read"], bundle),
    ("parameters", "search.html#table", "answers to each search parameter and include that is claimed", &[".search-type"], parameters),
    ("meta", "resource-operation-meta.html#meta", "gets a tag by $meta-add, shows it by $meta, and loses it by $meta-delete", &[".create", "$meta", "$meta-add", "$meta-delete"], meta),
    ("validate", "resource-operation-validate.html#validate", "is valid", &["$validate"], validate),
];

/// A list with one label.
fn labels() -> Value {
    json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"system": "urn:conformance:added", "code": "a"}]}}]})
}

/// One resource of a type.
struct Sample {
    kind: String,
    line: &'static str,
}

impl Sample {
    /// The resource, with addresses and a tag that no other has; and the tag.
    fn fresh(&self) -> Result<(Value, String), Stop> {
        let system = unique("urn:conformance:minimal");
        let resource: Value = serde_json::from_str(&self.line.replace("urn:conformance", &system))
            .map_err(|e| e.to_string())?;
        Ok((resource, format!("{system}|minimal")))
    }

    fn create(&self, server: &Server) -> Result<(Made, Value, String), Stop> {
        let (resource, tag) = self.fresh()?;
        Ok((server.create(&resource)?, resource, tag))
    }
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for line in MINIMAL.lines() {
        let Some(kind) = line.split('"').nth(3) else { continue };
        for (group, section, title, claims, hold) in GROUPS {
            let mut needs: Vec<String> = claims.iter().map(|claim| format!("{kind}{claim}")).collect();
            match *group {
                "xml" => needs.push("xml".to_owned()),
                "bundle" => needs.extend(["transaction".to_owned(), "batch".to_owned()]),
                "patch" => needs.push("patch:application/json-patch+json".to_owned()),
                _ => {}
            }
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            let sample = Sample { kind: kind.to_owned(), line };
            checks.push(Check::new(
                format!("types/{kind}/{group}"),
                section,
                format!("{kind} {title}"),
                &needs,
                move |s| hold(s, &sample),
            ));
        }
    }
    checks
}

/// Everything that was sent is there as it was sent; meta has its tag.
fn same(sent: &Value, read: &Value) -> Outcome {
    for (name, value) in
        sent.as_object().into_iter().flatten().filter(|(name, _)| *name != "meta" && *name != "id")
    {
        ensure(read.get(name) == Some(value), format!("{name} became {:?}", read.get(name)))?;
    }
    ensure(read.pointer("/meta/tag/0") == sent.pointer("/meta/tag/0"), "the tag is missing")?;
    let extra = read
        .as_object()
        .into_iter()
        .flatten()
        .find(|(name, _)| sent.get(*name).is_none() && !matches!(name.as_str(), "id" | "meta" | "text"));
    ensure(extra.is_none(), format!("{extra:?} was not sent"))
}

fn create(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, _) = sample.create(server)?;
    ensure(
        made.kind == sample.kind && !made.version.is_empty(),
        "Location names another type, or no version",
    )?;
    let read = server.get(&made.path())?;
    read.expect(200)?;
    ensure(read.at("/id") == made.id, "another id")?;
    same(&sent, &read.json)
}

/// The resource under its id, with a language that it did not have.
fn altered(made: &Made, resource: &Value) -> Value {
    let mut resource = resource.clone();
    if let Some(object) = resource.as_object_mut() {
        object.insert("id".to_owned(), json!(made.id));
        object.insert("language".to_owned(), json!("nl"));
    }
    resource
}

fn update(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, _) = sample.create(server)?;
    server.put(&made.path(), &altered(&made, &sent))?.expect(200)?;
    let read = server.get(&made.path())?;
    let version = read.at("/meta/versionId").to_owned();
    ensure(read.at("/language") == "nl" && version != made.version, "it was not updated")?;
    let old = server.get(&format!("{}/_history/{}", made.path(), made.version))?;
    old.expect(200)?;
    ensure(old.json.get("language").is_none(), "the old version was changed")?;
    server.get(&format!("{}/_history/{version}", made.path()))?.expect(200)?;
    let history = server.get(&format!("{}/_history", made.path()))?;
    history.expect(200)?;
    ensure(history.entries().len() == 2, format!("{} versions in the history", history.entries().len()))
}

fn delete(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, tag) = sample.create(server)?;
    server.delete(&made.path())?.expect_one(&[200, 204])?;
    server.get(&made.path())?.refused(&[410])?;
    let found = server.search(&format!("/{}", sample.kind), &format!("_tag={tag}"))?;
    ensure(found.entries().is_empty(), "it is found")?;
    server.put(&made.path(), &altered(&made, &sent))?.expect_one(&[200, 201])?;
    server.get(&made.path())?.expect(200)
}

fn search(server: &Server, sample: &Sample) -> Outcome {
    let (made, _, tag) = sample.create(server)?;
    let path = format!("/{}", sample.kind);
    for query in
        [format!("_id={}", made.id), format!("_tag={tag}"), format!("_tag={tag}&_lastUpdated=gt2000-01-01")]
    {
        let found = server.search(&path, &query)?.found("match");
        ensure(found == [made.reference()], format!("`{query}` finds {found:?}"))?;
    }
    ensure(
        server.search(&path, &format!("_tag={tag}&_lastUpdated=lt2000-01-01"))?.entries().is_empty(),
        "found as older than it is",
    )
}

fn history(server: &Server, sample: &Sample) -> Outcome {
    let (made, _, _) = sample.create(server)?;
    let answer = server.get(&format!("/{}/_history?_count=100", sample.kind))?;
    answer.expect(200)?;
    ensure(answer.at("/type") == "history", "no history")?;
    let there = answer.entries().iter().any(|entry| text(entry, "/resource/id") == made.id);
    ensure(there, "it is not on the first page")
}

fn conditional(server: &Server, sample: &Sample) -> Outcome {
    let (resource, tag) = sample.fresh()?;
    let path = format!("/{}", sample.kind);
    let criteria = format!("_tag={tag}");
    let ask = || server.ask("POST", &path).header("if-none-exist", &criteria).json(&resource).send();
    ask()?.expect(201)?;
    ask()?.expect(200)?;
    let found = server.search(&path, &criteria)?.found("match");
    ensure(found.len() == 1, format!("{} resources", found.len()))?;
    let mut changed = resource;
    if let Some(object) = changed.as_object_mut() {
        object.insert("language".to_owned(), json!("nl"));
    }
    server.put(&format!("{path}?{}", encoded(&criteria)), &changed)?.expect(200)?;
    let read = server.get(&format!("/{}", found.first().cloned().unwrap_or_default()))?;
    ensure(read.at("/language") == "nl", "it was not updated")
}

fn patch(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, _) = sample.create(server)?;
    let body = r#"[{"op": "add", "path": "/language", "value": "nl"}]"#;
    server.ask("PATCH", &made.path()).body("application/json-patch+json", body).send()?.expect(200)?;
    let mut read = server.get(&made.path())?;
    ensure(read.at("/language") == "nl", "it was not patched")?;
    if let Some(object) = read.json.as_object_mut() {
        object.remove("language");
    }
    same(&sent, &read.json)
}

fn xml(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, _) = sample.create(server)?;
    let as_xml = server.ask("GET", &made.path()).header("accept", FHIR_XML).send()?;
    as_xml.expect(200)?;
    ensure(as_xml.media() == FHIR_XML, as_xml.media())?;
    let root = Element::parse(&as_xml.text)?;
    ensure(root.name == sample.kind && root.namespace == FHIR, format!("the root is {}", root.name))?;
    let answer = server.ask("POST", &format!("/{}", sample.kind)).body(FHIR_XML, as_xml.text).send()?;
    answer.expect(201)?;
    let read = server.ask("GET", &answer.made()?.path()).header("accept", FHIR_JSON).send()?;
    read.expect(200)?;
    same(&sent, &read.json)
}

fn bundle(server: &Server, sample: &Sample) -> Outcome {
    let (resource, _) = sample.fresh()?;
    let post = json!([{"resource": resource, "request": {"method": "POST", "url": sample.kind}}]);
    let answer = server.post("", &crate::bundles::bundle("transaction", &post))?;
    answer.expect(200)?;
    let made = Made::at(answer.at("/entry/0/response/location"))?;
    let get = json!([{"request": {"method": "GET", "url": made.reference()}}]);
    let answer = server.post("", &crate::bundles::bundle("batch", &get))?;
    answer.expect(200)?;
    same(&resource, answer.json.pointer("/entry/0/resource").unwrap_or(&Value::Null))
}

fn meta(server: &Server, sample: &Sample) -> Outcome {
    let (made, sent, _) = sample.create(server)?;
    let tags = |answer: &crate::server::Answer| list(&answer.json, "/parameter/0/valueMeta/tag").len();
    server.post(&format!("{}/$meta-add", made.path()), &labels())?.expect(200)?;
    let shown = server.get(&format!("{}/$meta", made.path()))?;
    shown.expect(200)?;
    ensure(tags(&shown) == 2, format!("{} tags after $meta-add", tags(&shown)))?;
    server.post(&format!("{}/$meta-delete", made.path()), &labels())?.expect(200)?;
    let shown = server.get(&format!("{}/$meta", made.path()))?;
    ensure(tags(&shown) == 1, format!("{} tags after $meta-delete", tags(&shown)))?;
    same(&sent, &server.get(&made.path())?.json)
}

/// Values, one of which a parameter of this type can read.
fn values(kind: &str, name: &str, parameter: &str) -> &'static [&'static str] {
    match parameter {
        "token" if name == "_id" => &["nobody-has-this-id"],
        "token" => &["urn:conformance|nobody"],
        "date" => &["1900-01-01"],
        "string" => &["nobody-is-called-so"],
        "uri" => &["urn:conformance:nobody"],
        "number" => &["123456789.5"],
        "quantity" => &["123456789.5|http://unitsofmeasure.org|kg"],
        // Whoever was asked for before may be in the trail for that.
        "reference" if kind == "AuditEvent" => &["nobody-was-asked-for-as-this"],
        "reference" => &["nobody-refers-to-this"],
        // What its parts are the statement does not say.
        "composite" => {
            &["nobody$nobody", "nobody$1$2", "nobody$1", "nobody$1900-01-01", "Patient/nobody$nobody"]
        }
        _ => &[],
    }
}

fn parameters(server: &Server, sample: &Sample) -> Outcome {
    let resources = list(&server.statement, "/rest/0/resource").iter();
    let own = resources
        .into_iter()
        .find(|one| text(one, "/type") == sample.kind)
        .ok_or("the type is not claimed")?;
    let path = format!("/{}", sample.kind);
    for one in list(own, "/searchParam") {
        let (name, kind) = (text(one, "/name"), text(one, "/type"));
        let mut refused = None;
        for value in values(&sample.kind, name, kind) {
            let query = format!("{name}={value}");
            let ask = server.ask("GET", &format!("{path}?{}&_summary=count", encoded(&query)));
            let answer = ask.header("prefer", "handling=strict").send()?;
            if answer.status == 200 {
                let total = answer.total().unwrap_or(0);
                ensure(total == 0, format!("`{query}` finds {total}"))?;
                refused = None;
                break;
            }
            refused = Some(format!("`{query}` is answered {}: {}", answer.status, answer.text));
        }
        ensure(refused.is_none(), refused.unwrap_or_default())?;
    }
    let includes = list(own, "/searchInclude").iter().filter_map(Value::as_str);
    let all: Vec<String> = includes.map(|link| format!("_include={link}")).collect();
    for some in all.chunks(10) {
        let query = format!("_id=nobody-has-this-id&{}", some.join("&"));
        let answer = server.get(&format!("{path}?{}", encoded(&query)))?;
        ensure(answer.status == 200, format!("`{query}` is answered {}", answer.status))?;
    }
    Ok(())
}

fn validate(server: &Server, sample: &Sample) -> Outcome {
    let (resource, _) = sample.fresh()?;
    let answer = server.post(&format!("/{}/$validate", sample.kind), &resource)?;
    answer.expect(200)?;
    let error = list(&answer.json, "/issue")
        .iter()
        .find(|issue| matches!(text(issue, "/severity"), "error" | "fatal"));
    ensure(error.is_none(), format!("{error:?}"))
}
