//! `/openapi.json` against what is really routed and answered.

use harness::{Answer, Backend, Server};
use serde_json::{Value, json};

/// What in `value` is not as `schema` says, with its place.
fn differences(api: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = api.pointer(name.trim_start_matches('#')).unwrap();
        return differences(api, target, value, at, found);
    }
    if let Some(several) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |one: &Value| {
            let mut wrong = Vec::new();
            differences(api, one, value, at, &mut wrong);
            wrong.is_empty()
        };
        if !several.iter().any(fits) {
            found.push(format!("{at}: none of several"));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == kind || wanted == "number" && kind == "integer";
    let fits = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(is),
        one => is(one),
    };
    if !fits || schema["enum"].as_array().is_some_and(|codes| !codes.contains(value)) {
        found.push(format!("{at}: {value} is not {}", schema["type"]));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        differences(api, &schema["items"], item, &format!("{at}[{n}]"), found);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{at}.{name} is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        // A resource is described by FHIR.
        let free = schema.get("properties").is_none() && schema.get("additionalProperties").is_none();
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            _ if free => {}
            Some(one) if one.is_object() => differences(api, one, member, &format!("{at}.{name}"), found),
            _ => found.push(format!("{at}.{name} is not described")),
        }
    }
}

/// Status, media type and body of an answer are documented.
fn check(api: &Value, path: &str, method: &str, answer: &Answer) {
    let responses = &api["paths"][path][method]["responses"];
    let response = &responses[answer.status.to_string()];
    assert!(response.is_object(), "{method} {path} answers {}: {}", answer.status, answer.text);
    let content = &response["content"][answer.header("content-type")];
    assert!(content.is_object(), "{method} {path} {}: {}", answer.status, answer.header("content-type"));
    if answer.json != Value::Null {
        let mut found = Vec::new();
        differences(api, &content["schema"], &answer.json, "", &mut found);
        assert!(found.is_empty(), "{method} {path} {}: {found:#?}", answer.status);
    }
}

#[test]
fn what_is_documented_is_what_is_answered() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let api = server.get("/openapi.json").unwrap().expect(200).unwrap().json;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let real = path.replace("{name}", "nothing").replace("{id}", "nothing");
            let answer = server.send(&method.to_uppercase(), &real, "").unwrap();
            assert!(answer.status != 405, "{method} {path}");
            check(&api, path, method, &answer);
            for (status, response) in operation["responses"].as_object().unwrap() {
                let contents = response["content"].as_object().unwrap();
                assert!(contents.values().all(|one| one["schema"].is_object()), "{method} {path} {status}");
            }
        }
    }
    let patient = json!({"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1960-01-02"});
    server.put("/fhir/Patient/p", &patient).unwrap().expect(201).unwrap();
    let body = &api["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"];
    let example = &body["example"];
    let inputs = &example["inputs"];
    for question in [
        example.clone(),
        json!({"patient": "p"}),
        json!({"patient": "p", "model": ["fib-4"], "persist": true}),
        json!({"patients": [{"id": "a", "inputs": inputs}, {"inputs": {"age": {"value": 50, "unit": "a"}}}]}),
        json!({"bundle": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}]}}),
        json!({"patient": "nobody"}),
        json!({"model": "nothing", "inputs": inputs}),
        json!({"what": 1}),
    ] {
        let answer = server.post("/predict", &question).unwrap();
        check(&api, "/predict", "post", &answer);
        let mut found = Vec::new();
        differences(&api, &body["schema"], &question, "", &mut found);
        assert_eq!(found.is_empty(), question.get("what").is_none(), "{question}: {found:#?}");
    }
    let stored = server.wait_for("/predictions?patient=p", |list| list["predictions"][0]["id"].is_string());
    let id = stored.unwrap()["predictions"][0]["id"].as_str().unwrap().to_owned();
    check(&api, "/predictions", "get", &server.get("/predictions?patient=p").unwrap());
    check(&api, "/predictions", "get", &server.get("/predictions?what=p").unwrap());
    check(&api, "/predictions/{id}", "get", &server.get(&format!("/predictions/{id}")).unwrap());
    server.delete(&format!("/fhir/RiskAssessment/{id}")).unwrap();
    check(&api, "/predictions/{id}", "get", &server.get(&format!("/predictions/{id}")).unwrap());
    let activated = server.post("/models/fib-4/activate", &json!({"version": "1.0.0"})).unwrap();
    check(&api, "/models/{name}/activate", "post", &activated.expect(200).unwrap());
    check(
        &api,
        "/models/{name}/activate",
        "post",
        &server.post("/models/fib-4/activate", &json!([])).unwrap(),
    );
}
