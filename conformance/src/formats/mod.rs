//! JSON and XML, in and out, as it is wanted (http.html#mime-type, json.html, xml.html).

mod xml;

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::element::{Element, FHIR};
use crate::http::patient;
use crate::server::{Answer, FHIR_JSON, FHIR_XML, Server};

const READ: &[&str] = &["Patient.create", "Patient.read"];
const XML: &[&str] = &["Patient.create", "Patient.read", "xml"];

/// Accept header or `_format`, and what is answered: a media type, or a status.
#[rustfmt::skip]
const WANTED: &[(&str, &str, &str)] = &[
    ("fhir-json", "application/fhir+json", FHIR_JSON),
    ("any", "*/*", FHIR_JSON),
    ("any-application", "application/*", FHIR_JSON),
    ("json-by-quality", "application/fhir+xml;q=0.1, application/fhir+json;q=0.9", FHIR_JSON),
    ("json-before-unknown", "text/turtle, application/fhir+json;q=0.5", FHIR_JSON),
    ("version", "application/fhir+json; fhirVersion=4.0", FHIR_JSON),
    ("charset", "application/fhir+json; charset=utf-8", FHIR_JSON),
    ("upper-case", "Application/FHIR+JSON", FHIR_JSON),
    ("browser", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", ""),
    ("fhir-xml", "application/fhir+xml", FHIR_XML),
    ("xml-by-quality", "application/fhir+json;q=0.1, application/fhir+xml", FHIR_XML),
    ("xml-before-any", "application/fhir+xml, */*;q=0.1", FHIR_XML),
    ("xml-version", "application/fhir+xml; fhirVersion=4.0", FHIR_XML),
    ("only-turtle", "text/turtle", "406"),
    ("only-image", "image/png", "406"),
    ("other-version", "application/fhir+json; fhirVersion=3.0", "406"),
    ("json-refused", "application/fhir+json;q=0, text/turtle", "406"),
];

#[rustfmt::skip]
const ASKED: &[(&str, &str, &str)] = &[
    ("json", "json", FHIR_JSON),
    ("fhir-json", "application/fhir%2Bjson", FHIR_JSON),
    ("application-json", "application/json", FHIR_JSON),
    ("plus-not-encoded", "application/fhir+json", FHIR_JSON),
    ("xml", "xml", FHIR_XML),
    ("fhir-xml", "application/fhir%2Bxml", FHIR_XML),
    ("application-xml", "application/xml", FHIR_XML),
    ("text-xml", "text/xml", FHIR_XML),
    ("unknown", "ttl-no-such", "406"),
];

/// Decimals that must come back digit for digit.
#[rustfmt::skip]
const DECIMALS: &[(&str, &str)] = &[
    ("plain", "1"),
    ("trailing-zero", "1.00"),
    ("zero", "0.0"),
    ("negative-zero", "-0.0"),
    ("negative", "-12.50"),
    ("small", "0.0000000001"),
    ("eighteen-digits", "123456789.123456789"),
    ("many-digits", "0.12345678901234567"),
    ("large", "100000000000000000"),
    ("exponent", "1e-3"),
    ("exponent-upper", "1.0E+5"),
    ("exponent-zero", "1.50e0"),
];

fn answered(answer: &Answer, wanted: &str) -> Outcome {
    match wanted.parse::<u16>() {
        Ok(status) => answer.expect(status),
        Err(_) if wanted.is_empty() => answer.expect(200),
        Err(_) => {
            answer.expect(200)?;
            let found = answer.media();
            let plain = wanted.replace("fhir+", "");
            ensure(found == wanted || found == plain, format!("it is {found}"))
        }
    }
}

pub(crate) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, accept, wanted) in WANTED {
        let needs = if *wanted == FHIR_XML { XML } else { READ };
        let title =
            format!("`Accept: {accept}` is answered {}", if wanted.is_empty() { "somehow" } else { wanted });
        checks.push(Check::new(
            format!("formats/accept/{name}"),
            "http.html#mime-type",
            title,
            needs,
            move |s| {
                let made = s.create(&patient("1970-01-02"))?;
                answered(&s.ask("GET", &made.path()).header("accept", accept).send()?, wanted)
            },
        ));
    }
    for (name, format, wanted) in ASKED {
        let needs = if *wanted == FHIR_XML { XML } else { READ };
        checks.push(Check::new(
            format!("formats/format/{name}"),
            "http.html#parameters",
            format!("`_format={format}` is answered {wanted}"),
            needs,
            move |s| {
                let made = s.create(&patient("1970-01-02"))?;
                answered(&s.get(&format!("{}?_format={format}", made.path()))?, wanted)
            },
        ));
    }
    for (name, digits) in DECIMALS {
        for (format, media) in [("json", FHIR_JSON), ("xml", FHIR_XML)] {
            let needs = if format == "xml" {
                ["Observation.create", "xml"]
            } else {
                ["Observation.create", "Observation.read"]
            };
            checks.push(Check::new(
                format!("formats/decimal/{name}-{format}"),
                "datatypes.html#decimal",
                format!("the decimal {digits} comes back in {format} as it came"),
                &needs,
                move |s| decimal(s, digits, media),
            ));
        }
    }
    checks.extend(json_checks());
    checks.extend(xml::checks());
    checks.extend(packed());
    checks
}

fn decimal(server: &Server, digits: &str, media: &str) -> Outcome {
    let body = if media == FHIR_JSON {
        format!(
            r#"{{"resourceType": "Observation", "status": "final", "code": {{"text": "decimal"}}, "valueQuantity": {{"value": {digits}, "unit": "x"}}}}"#
        )
    } else {
        format!(
            r#"<Observation xmlns="{FHIR}"><status value="final"/><code><text value="decimal"/></code><valueQuantity><value value="{digits}"/><unit value="x"/></valueQuantity></Observation>"#
        )
    };
    let answer = server.ask("POST", "/Observation").body(media, body).send()?;
    answer.expect(201)?;
    let read = server.ask("GET", &answer.made()?.path()).header("accept", media).send()?;
    read.expect(200)?;
    // A JSON parser may write a number in another way than it read it: the text itself counts.
    let found = if media == FHIR_JSON {
        let (_, rest) = read.text.split_once("\"value\"").ok_or("there is no value")?;
        let rest = rest.trim_start().trim_start_matches(':').trim_start();
        rest.split([',', '}', ' ', '\n', '\r']).next().unwrap_or_default().to_owned()
    } else {
        Element::parse(&read.text)?.values(&["valueQuantity", "value"]).join(" ")
    };
    ensure(found == digits, format!("it came back as {found}"))
}

fn json_checks() -> Vec<Check> {
    vec![
        Check::new(
            "formats/json/content-type",
            "http.html#mime-type",
            "JSON is application/fhir+json",
            READ,
            |s| {
                let answer = s.get(&s.create(&patient("1970-01-02"))?.path())?;
                ensure(answer.media() == FHIR_JSON, format!("it is {}", answer.media()))
            },
        ),
        Check::new(
            "formats/json/charset",
            "http.html#mime-type",
            "the charset, where it is named, is UTF-8",
            READ,
            |s| {
                let answer = s.get(&s.create(&patient("1970-01-02"))?.path())?;
                let media = answer.header("content-type").to_ascii_lowercase();
                ensure(!media.contains("charset") || media.contains("utf-8"), format!("it is {media}"))
            },
        ),
        Check::new(
            "formats/json/sent-as-json",
            "http.html#mime-type",
            "application/json is taken for FHIR's JSON",
            READ,
            |s| {
                s.ask("POST", "/Patient")
                    .body("application/json", r#"{"resourceType": "Patient"}"#)
                    .send()?
                    .expect(201)
            },
        ),
        Check::new(
            "formats/json/sent-with-charset",
            "http.html#mime-type",
            "a charset of utf-8 in Content-Type is taken",
            READ,
            |s| {
                s.ask("POST", "/Patient")
                    .body("application/fhir+json; charset=UTF-8", r#"{"resourceType": "Patient"}"#)
                    .send()?
                    .expect(201)
            },
        ),
        Check::new(
            "formats/json/sent-with-version",
            "versioning.html#mt-version",
            "fhirVersion=4.0 in Content-Type is taken",
            READ,
            |s| {
                s.ask("POST", "/Patient")
                    .body("application/fhir+json; fhirVersion=4.0", r#"{"resourceType": "Patient"}"#)
                    .send()?
                    .expect(201)
            },
        ),
        Check::new(
            "formats/json/white-space",
            "json.html#resources",
            "white space between the parts does not matter",
            READ,
            |s| {
                s.ask("POST", "/Patient")
                    .body(FHIR_JSON, "\r\n\t {\r\n\"resourceType\" :\t\"Patient\" \n}\n\n")
                    .send()?
                    .expect(201)
            },
        ),
        Check::new(
            "formats/json/type-last",
            "json.html#resources",
            "resourceType may come last",
            READ,
            |s| {
                s.ask("POST", "/Patient")
                    .body(
                        FHIR_JSON,
                        r#"{"active": true, "name": [{"family": "x"}], "resourceType": "Patient"}"#,
                    )
                    .send()?
                    .expect(201)
            },
        ),
        Check::new(
            "formats/json/escapes",
            "json.html#resources",
            "escaped letters are those letters",
            READ,
            |s| {
                let body =
                    r#"{"resourceType": "Patient", "name": [{"family": "\u00c5 \ud83d\ude00 \"\\\/ \t"}]}"#;
                let answer = s.ask("POST", "/Patient").body(FHIR_JSON, body).send()?;
                answer.expect(201)?;
                let read = s.get(&answer.made()?.path())?;
                ensure(
                    read.at("/name/0/family") == "Å 😀 \"\\/ \t",
                    format!("it is {}", read.at("/name/0/family")),
                )
            },
        ),
        Check::new(
            "formats/json/no-empty",
            "json.html#resources",
            "no array or object of what is answered is empty",
            READ,
            |s| {
                let read = s.get(&s.create(&json!({"resourceType": "Patient"}))?.path())?;
                ensure(!empty(&read.json), "something is empty")
            },
        ),
        Check::new(
            "formats/json/nulls-of-primitives",
            "json.html#primitive",
            "nulls that hold the place of an extension are kept",
            READ,
            |s| {
                let given = json!({"given": ["a", null, "c"], "_given": [null, {"extension": [{"url": "http://example.org/e", "valueCode": "x"}]}, null]});
                let read = s.get(&s.create(&json!({"resourceType": "Patient", "name": [given]}))?.path())?;
                ensure(
                    read.json.pointer("/name/0") == Some(&given),
                    format!("it is {:?}", read.json.pointer("/name/0")),
                )
            },
        ),
        Check::new("formats/json/pretty", "http.html#parameters", "`_pretty=true` may be asked", READ, |s| {
            let made = s.create(&patient("1970-01-02"))?;
            let (plain, pretty) = (s.get(&made.path())?, s.get(&format!("{}?_pretty=true", made.path()))?);
            pretty.expect(200)?;
            ensure(plain.json == pretty.json, "it is another resource")
        }),
        Check::new(
            "formats/accept-charset",
            "http.html#mime-type",
            "`Accept-Charset: utf-8` is answered",
            READ,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                s.ask("GET", &made.path()).header("accept-charset", "utf-8").send()?.expect(200)
            },
        ),
        Check::new(
            "formats/format-wins",
            "http.html#parameters",
            "`_format` counts before Accept",
            XML,
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                answered(
                    &s.ask("GET", &format!("{}?_format=xml", made.path()))
                        .header("accept", FHIR_JSON)
                        .send()?,
                    FHIR_XML,
                )
            },
        ),
    ]
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(empty),
        Value::Object(members) => members.is_empty() || members.values().any(empty),
        _ => false,
    }
}

fn packed() -> Vec<Check> {
    let all = [("gzip", [0x1f, 0x8b].as_slice()), ("br", &[]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd])];
    let mut checks: Vec<Check> = all
        .into_iter()
        .map(|(coding, magic)| {
            Check::new(
                format!("formats/encoding/{coding}"),
                "http.html#root",
                format!("`Accept-Encoding: {coding}` is answered so, or plainly"),
                &[],
                move |s: &Server| {
                    let answer = s.ask("GET", "/metadata").header("accept-encoding", coding).send()?;
                    answer.expect(200)?;
                    if answer.header("content-encoding").is_empty() {
                        return Err(Stop::Skip(format!("no {coding}")));
                    }
                    ensure(answer.header("content-encoding") == coding, "another coding")?;
                    ensure(answer.bytes.starts_with(magic), "the body is not so coded")
                },
            )
        })
        .collect();
    checks.push(Check::new(
        "formats/encoding/none",
        "http.html#root",
        "without Accept-Encoding nothing is packed",
        &[],
        |s| {
            let answer = s.get("/metadata")?;
            ensure(
                answer.header("content-encoding").is_empty() && answer.is("CapabilityStatement"),
                "it is packed",
            )
        },
    ));
    checks.push(Check::new(
        "formats/encoding/unknown",
        "http.html#root",
        "an unknown coding is no reason not to answer",
        &[],
        |s| {
            s.ask("GET", "/metadata")
                .header("accept-encoding", "no-such-coding")
                .send()?
                .expect_one(&[200, 406])
        },
    ));
    checks
}
