//! XML (xml.html).

use serde_json::{Value, json};

use super::{READ, XML};
use crate::check::{Check, Stop, ensure};
use crate::element::{Element, FHIR};
use crate::http::patient;
use crate::server::{Answer, FHIR_JSON, FHIR_XML, Server};

const SENT: &str = r##"<?xml version="1.0" encoding="UTF-8"?><Patient xmlns="http://hl7.org/fhir"><text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><p>A &amp; B</p></div></text><contained><Organization><id value="o"/><name value="Inside"/></Organization></contained><extension url="http://example.org/e"><valueDecimal value="1.50"/></extension><active value="true"/><name id="n1"><use value="official"/><family value="Ångström &lt;x&gt;"><extension url="http://example.org/f"><valueCode value="own"/></extension></family><given value="A"/><given value="B"/></name><birthDate value="1970-01-02"/><multipleBirthInteger value="2"/><managingOrganization><reference value="#o"/></managingOrganization></Patient>"##;

fn sent(server: &Server) -> Result<Answer, Stop> {
    let answer = server.ask("POST", "/Patient").body(FHIR_XML, SENT).send()?;
    answer.expect(201)?;
    Ok(answer)
}

fn xml_of(server: &Server, path: &str) -> Result<Element, Stop> {
    let answer = server.ask("GET", path).header("accept", FHIR_XML).send()?;
    ensure(answer.status < 500, format!("{}", answer.status))?;
    Ok(Element::parse(&answer.text)?)
}

pub(super) fn checks() -> Vec<Check> {
    let refused = |s: &Server, body: &str| {
        s.ask("POST", "/Patient").body(FHIR_XML, body).send()?.refused(&[400, 415, 422])
    };
    vec![
        Check::new(
            "formats/xml/to-json",
            "xml.html#xml",
            "what came as XML is answered as JSON, element for element",
            XML,
            |s| {
                let read = s.ask("GET", &sent(s)?.made()?.path()).header("accept", FHIR_JSON).send()?.json;
                for (pointer, wanted) in [
                    ("/active", json!(true)),
                    ("/name/0/family", json!("Ångström <x>")),
                    ("/name/0/id", json!("n1")),
                    ("/name/0/given", json!(["A", "B"])),
                    ("/name/0/_family/extension/0/valueCode", json!("own")),
                    ("/multipleBirthInteger", json!(2)),
                    ("/contained/0/resourceType", json!("Organization")),
                    ("/contained/0/name", json!("Inside")),
                    ("/extension/0/url", json!("http://example.org/e")),
                    ("/birthDate", json!("1970-01-02")),
                ] {
                    ensure(
                        read.pointer(pointer) == Some(&wanted),
                        format!("{pointer} is {:?}", read.pointer(pointer)),
                    )?;
                }
                ensure(
                    read.pointer("/text/div")
                        .and_then(Value::as_str)
                        .is_some_and(|div| div.contains("A &amp; B")),
                    "the narrative is another",
                )
            },
        ),
        Check::new(
            "formats/xml/to-xml",
            "xml.html#xml",
            "what came as XML is answered as XML, element for element",
            XML,
            |s| {
                let mut found = xml_of(s, &sent(s)?.made()?.path())?;
                found.children.retain(|child| !matches!(child.name.as_str(), "id" | "meta"));
                let wanted = Element::parse(SENT)?;
                ensure(found == wanted, format!("{found:?}"))
            },
        ),
        Check::new(
            "formats/xml/root",
            "xml.html#xml",
            "the root is the type in FHIR's namespace",
            XML,
            |s| {
                let root = xml_of(s, &s.create(&patient("1970-01-02"))?.path())?;
                ensure(
                    root.name == "Patient" && root.namespace == FHIR,
                    format!("{{{}}}{}", root.namespace, root.name),
                )
            },
        ),
        Check::new(
            "formats/xml/order",
            "xml.html#xml",
            "elements are in the order of the definition, however they came in JSON",
            XML,
            |s| {
                let body = r#"{"birthDate": "1970-01-02", "gender": "male", "name": [{"given": ["A"], "family": "x"}], "active": true, "resourceType": "Patient"}"#;
                let made = s.ask("POST", "/Patient").body(FHIR_JSON, body).send()?.made()?;
                let root = xml_of(s, &made.path())?;
                let names: Vec<&str> = root
                    .children
                    .iter()
                    .map(|child| child.name.as_str())
                    .filter(|name| !matches!(*name, "id" | "meta" | "text"))
                    .collect();
                ensure(names == ["active", "name", "gender", "birthDate"], format!("{names:?}"))?;
                let of_name = root.children.iter().find(|child| child.name == "name").ok_or("no name")?;
                ensure(
                    of_name.children.first().is_some_and(|child| child.name == "family"),
                    "family is not before given",
                )
            },
        ),
        Check::new(
            "formats/xml/narrative",
            "narrative.html#xhtml",
            "the narrative is XHTML in its namespace",
            XML,
            |s| {
                let root = xml_of(s, &sent(s)?.made()?.path())?;
                let text = root.children.iter().find(|child| child.name == "text").ok_or("no text")?;
                let div = text.children.iter().find(|child| child.name == "div").ok_or("no div")?;
                ensure(
                    div.namespace == "http://www.w3.org/1999/xhtml",
                    format!("it is in `{}`", div.namespace),
                )
            },
        ),
        Check::new(
            "formats/xml/error",
            "http.html#mime-type",
            "an error is XML where XML is wanted",
            XML,
            |s| {
                let root = xml_of(s, "/Patient/nobody-has-this-id")?;
                ensure(root.name == "OperationOutcome" && root.namespace == FHIR, root.name)
            },
        ),
        Check::new("formats/xml/search", "http.html#mime-type", "a search is answered in XML", XML, |s| {
            let root = xml_of(s, "/Patient?_count=1")?;
            ensure(root.name == "Bundle" && root.values(&["type"]) == ["searchset"], root.name)
        }),
        Check::new(
            "formats/xml/metadata",
            "http.html#capabilities",
            "the CapabilityStatement is answered in XML",
            &["xml"],
            |s| {
                let root = xml_of(s, "/metadata")?;
                ensure(
                    root.name == "CapabilityStatement" && root.values(&["fhirVersion"]) == ["4.0.1"],
                    root.name,
                )
            },
        ),
        Check::new(
            "formats/xml/history",
            "http.html#mime-type",
            "a history is answered in XML",
            &["Patient.history-instance", "xml"],
            |s| {
                let root = xml_of(s, &format!("{}/_history", s.create(&patient("1970-01-02"))?.path()))?;
                ensure(root.name == "Bundle" && root.values(&["type"]) == ["history"], root.name)
            },
        ),
        Check::new(
            "formats/xml/update",
            "http.html#mime-type",
            "update takes XML",
            &["Patient.update", "xml"],
            |s| {
                let made = s.create(&patient("1970-01-02"))?;
                let body = format!(
                    r#"<Patient xmlns="{FHIR}"><id value="{}"/><birthDate value="1971-01-02"/></Patient>"#,
                    made.id
                );
                s.ask("PUT", &made.path()).body(FHIR_XML, body).send()?.expect(200)?;
                ensure(s.get(&made.path())?.at("/birthDate") == "1971-01-02", "it was not updated")
            },
        ),
        Check::new(
            "formats/xml/transaction",
            "http.html#transaction",
            "a transaction may be XML, in and out",
            &["transaction", "xml"],
            |s| {
                let body = format!(
                    r#"<Bundle xmlns="{FHIR}"><type value="transaction"/><entry><resource><Patient><active value="true"/></Patient></resource><request><method value="POST"/><url value="Patient"/></request></entry></Bundle>"#
                );
                let answer = s.ask("POST", "").header("accept", FHIR_XML).body(FHIR_XML, body).send()?;
                answer.expect(200)?;
                let status = Element::parse(&answer.text)?.values(&["entry", "response", "status"]).join(" ");
                ensure(status.starts_with("201"), format!("status is `{status}`"))
            },
        ),
        Check::new(
            "formats/xml/sent-as-xml",
            "http.html#mime-type",
            "application/xml and text/xml are taken for FHIR's XML",
            XML,
            |s| {
                for media in ["application/xml", "text/xml"] {
                    s.ask("POST", "/Patient").body(media, SENT).send()?.expect(201)?;
                }
                Ok(())
            },
        ),
        Check::new(
            "formats/xml/comments",
            "xml.html#xml",
            "comments and white space between the parts do not matter",
            XML,
            |s| {
                let body = format!(
                    "<!-- a -->\n<Patient xmlns=\"{FHIR}\">\n  <!-- b -->\n  <active value=\"true\"/>\n</Patient>\n"
                );
                s.ask("POST", "/Patient").body(FHIR_XML, body).send()?.expect(201)
            },
        ),
        Check::new("formats/xml/prefix", "xml.html#xml", "FHIR's namespace may have a prefix", XML, |s| {
            let body = format!(r#"<f:Patient xmlns:f="{FHIR}"><f:active value="true"/></f:Patient>"#);
            let answer = s.ask("POST", "/Patient").body(FHIR_XML, body).send()?;
            answer.expect(201)?;
            ensure(s.get(&answer.made()?.path())?.json.get("active") == Some(&json!(true)), "active is lost")
        }),
        Check::new(
            "formats/xml/doctype",
            "security.html#narrative",
            "a DOCTYPE with entities is refused",
            XML,
            move |s| {
                refused(
                    s,
                    r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><Patient xmlns="http://hl7.org/fhir"><name><family value="&a;"/></name></Patient>"#,
                )
            },
        ),
        Check::new(
            "formats/xml/external-entity",
            "security.html#narrative",
            "an external entity is refused, not read",
            XML,
            move |s| {
                refused(
                    s,
                    r#"<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><Patient xmlns="http://hl7.org/fhir"><name><family value="&a;"/></name></Patient>"#,
                )
            },
        ),
        Check::new(
            "formats/xml/no-namespace",
            "xml.html#xml",
            "XML without FHIR's namespace is refused",
            XML,
            move |s| refused(s, "<Patient><active value=\"true\"/></Patient>"),
        ),
        Check::new(
            "formats/xml/other-namespace",
            "xml.html#xml",
            "XML of another namespace is refused",
            XML,
            move |s| refused(s, "<Patient xmlns=\"urn:x\"><active value=\"true\"/></Patient>"),
        ),
        Check::new(
            "formats/xml/unknown-element",
            "xml.html#xml",
            "an unknown element is refused",
            XML,
            move |s| refused(s, &format!("<Patient xmlns=\"{FHIR}\"><colour value=\"red\"/></Patient>")),
        ),
        Check::new(
            "formats/xml/text-for-value",
            "xml.html#xml",
            "text in the place of a value attribute is refused",
            XML,
            move |s| refused(s, &format!("<Patient xmlns=\"{FHIR}\"><active>true</active></Patient>")),
        ),
        Check::new("formats/xml/half", "xml.html#xml", "half a document is refused", XML, move |s| {
            refused(s, &format!("<Patient xmlns=\"{FHIR}\"><active value=\"true\"/>"))
        }),
        Check::new("formats/xml/empty", "xml.html#xml", "an empty document is refused", XML, move |s| {
            refused(s, "")
        }),
        Check::new(
            "formats/xml/json-inside",
            "http.html#mime-type",
            "JSON that is said to be XML is refused",
            XML,
            move |s| refused(s, r#"{"resourceType": "Patient"}"#),
        ),
        Check::new(
            "formats/json/xml-inside",
            "http.html#mime-type",
            "XML that is said to be JSON is refused",
            READ,
            |s| s.ask("POST", "/Patient").body(FHIR_JSON, SENT).send()?.refused(&[400]),
        ),
        Check::new(
            "formats/xml/deep",
            "xml.html#xml",
            "ten thousand elements in each other are refused",
            XML,
            move |s| {
                refused(
                    s,
                    &format!(
                        "<Patient xmlns=\"{FHIR}\">{}{}</Patient>",
                        "<contact>".repeat(10_000),
                        "</contact>".repeat(10_000)
                    ),
                )
            },
        ),
    ]
}
