//! An AuditEvent as an audit message of DICOM (PS3.15, A.5.1), by the mapping of ITI-20.

use std::io::Error;

use fhir::json::Json;
use quick_xml::Writer;
use quick_xml::events::BytesText;
use quick_xml::writer::ElementWriter;

type Xml<'w> = Writer<&'w mut Vec<u8>>;

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const IHE: &str = "urn:ihe:event-type-code";
/// Codes that say what identifies an object (RFC 3881, section 5.5.4).
const RFC_3881: &str = "RFC-3881";

/// The MSGID: is it an event of DICOM's, or one of IHE's and ours?
pub(super) fn kind(event: &Json<'_>) -> &'static str {
    let system =
        |coding: Option<&Json<'_>>| coding.and_then(|coding| coding.text("system")).map(str::to_owned);
    let of_dicom = system(event.get("type")).as_deref() == Some(DICOM);
    let of_ihe = system(event.list("subtype").first()).as_deref() == Some(IHE);
    if of_dicom && !of_ihe { "DICOM+RFC3881" } else { "IHE+RFC-3881" }
}

/// The XML.
pub(super) fn message(event: &Json<'_>) -> anyhow::Result<String> {
    let mut bytes = br#"<?xml version="1.0" encoding="UTF-8"?>"#.to_vec();
    Writer::new(&mut bytes).create_element("AuditMessage").write_inner_content(|xml| {
        identification(xml, event)?;
        event.list("agent").iter().try_for_each(|agent| participant(xml, agent))?;
        source(xml, event)?;
        let site = event.at(&["source", "site"]).and_then(Json::as_str).unwrap_or_default();
        event.list("entity").iter().try_for_each(|entity| object(xml, entity, site))
    })?;
    Ok(String::from_utf8(bytes)?)
}

fn identification(xml: &mut Xml<'_>, event: &Json<'_>) -> Result<(), Error> {
    let mut element = xml.create_element("EventIdentification");
    for (name, of) in
        [("EventActionCode", "action"), ("EventDateTime", "recorded"), ("EventOutcomeIndicator", "outcome")]
    {
        element = with(element, name, event.text(of));
    }
    element.write_inner_content(|xml| {
        coded(xml, "EventID", event.get("type"))?;
        event.list("subtype").iter().try_for_each(|subtype| coded(xml, "EventTypeCode", Some(subtype)))?;
        if let Some(text) = event.text("outcomeDesc") {
            xml.create_element("EventOutcomeDescription").write_text_content(BytesText::new(&clean(text)))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Who is nobody but by a token is called by that.
fn participant(xml: &mut Xml<'_>, agent: &Json<'_>) -> Result<(), Error> {
    let who = agent.get("who");
    let said = |name: &str| who.and_then(|who| who.text(name));
    let id = who.and_then(|who| who.at(&["identifier", "value"])).and_then(Json::as_str);
    let policy = agent.list("policy").first().and_then(Json::as_str);
    let id = id.or(said("reference")).or(said("display")).or(policy).unwrap_or("-");
    let requestor = agent.get("requestor").and_then(Json::as_bool).unwrap_or_default();
    let network = |name: &str| agent.at(&["network", name]).and_then(Json::as_str);
    let mut element = with(xml.create_element("ActiveParticipant"), "UserID", Some(id));
    element = with(element, "AlternativeUserID", said("reference").or(policy).filter(|other| *other != id));
    element = with(element, "UserName", agent.text("name").or(said("display")));
    element = with(element, "UserIsRequestor", Some(if requestor { "true" } else { "false" }));
    element = with(element, "NetworkAccessPointID", network("address"));
    element = with(element, "NetworkAccessPointTypeCode", network("type"));
    element.write_inner_content(|xml| {
        let kind = agent.get("type").and_then(|kind| kind.list("coding").first());
        coded(xml, "RoleIDCode", kind)?;
        let mut roles = agent.list("role").iter().filter_map(|role| role.text("text"));
        roles.try_for_each(|role| code(xml, "RoleIDCode", role, "urn:augury:role", role))
    })?;
    Ok(())
}

fn source(xml: &mut Xml<'_>, event: &Json<'_>) -> Result<(), Error> {
    let source =
        |path: &[&str]| event.get("source").and_then(|source| source.at(path)).and_then(Json::as_str);
    let id = source(&["observer", "identifier", "value"]).filter(|id| !id.is_empty()).unwrap_or("augury");
    let mut element = xml.create_element("AuditSourceIdentification");
    element = with(element, "AuditEnterpriseSiteID", source(&["site"]).filter(|site| !site.is_empty()));
    with(element, "AuditSourceID", Some(id)).write_inner_content(|xml| {
        let kind = event.get("source").and_then(|source| source.list("type").first());
        with(xml.create_element("AuditSourceTypeCode"), "csd-code", kind.and_then(|kind| kind.text("code")))
            .write_empty()?;
        Ok(())
    })?;
    Ok(())
}

fn object(xml: &mut Xml<'_>, entity: &Json<'_>, site: &str) -> Result<(), Error> {
    let what = |path: &[&str]| entity.get("what").and_then(|what| what.at(path)).and_then(Json::as_str);
    let (query, reference) = (entity.text("query"), what(&["reference"]));
    // A search has no name of its own: it was asked of this server.
    let id = reference.or(what(&["identifier", "value"])).unwrap_or(site);
    let of = |name: &str| entity.get(name).and_then(|coding| coding.text("code"));
    let kind = of("type").filter(|kind| matches!(*kind, "1" | "2" | "3" | "4"));
    let mut element =
        with(xml.create_element("ParticipantObjectIdentification"), "ParticipantObjectID", Some(id));
    element =
        with(element, "ParticipantObjectTypeCode", kind.or(Some(if query.is_some() { "2" } else { "4" })));
    element = with(element, "ParticipantObjectTypeCodeRole", of("role"));
    element.write_inner_content(|xml| {
        let name = "ParticipantObjectIDTypeCode";
        match (query, reference) {
            (Some(_), _) => code(xml, name, "10", RFC_3881, "Search Criteria")?,
            (None, Some(_)) if of("role") == Some("1") => code(xml, name, "2", RFC_3881, "Patient Number")?,
            (None, Some(_)) => code(xml, name, "12", RFC_3881, "URI")?,
            (None, None) => coded(xml, name, entity.get("type"))?,
        }
        let (name, text) = match query {
            Some(query) => ("ParticipantObjectQuery", query),
            None => ("ParticipantObjectName", id),
        };
        xml.create_element(name).write_text_content(BytesText::new(&clean(text)))?;
        Ok(())
    })?;
    Ok(())
}

fn coded(xml: &mut Xml<'_>, name: &str, coding: Option<&Json<'_>>) -> Result<(), Error> {
    let Some(coding) = coding else { return Ok(()) };
    let of = |name: &str| coding.text(name).unwrap_or_default();
    let system = if of("system") == DICOM { "DCM" } else { of("system") };
    code(xml, name, of("code"), system, coding.text("display").unwrap_or(of("code")))
}

fn code(xml: &mut Xml<'_>, name: &str, code: &str, system: &str, text: &str) -> Result<(), Error> {
    let element = with(xml.create_element(name), "csd-code", Some(code));
    let element = with(element, "codeSystemName", Some(system));
    with(element, "originalText", Some(text)).write_empty()?;
    Ok(())
}

fn with<'x, 'w>(
    element: ElementWriter<'x, &'w mut Vec<u8>>,
    name: &'static str,
    value: Option<&str>,
) -> ElementWriter<'x, &'w mut Vec<u8>> {
    match value {
        Some(value) => element.with_attribute((name, clean(value).as_str())),
        None => element,
    }
}

/// Without what XML has no place for.
fn clean(text: &str) -> String {
    let fits =
        |c: &char| !matches!(c, '\0'..'\t' | '\u{b}' | '\u{c}' | '\u{e}'..' ' | '\u{fffe}' | '\u{ffff}');
    text.chars().filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request;

    #[test]
    fn an_event_is_a_message_of_dicom() {
        let event = r#"{"resourceType":"AuditEvent","id":"7","action":"R","recorded":"2024-05-06T07:08:09.000Z","outcome":"4",
            "outcomeDesc":"404 <&>","type":{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"RESTful Operation"},
            "subtype":[{"system":"http://hl7.org/fhir/restful-interaction","code":"read","display":"read"}],
            "agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},
              "who":{"identifier":{"value":"app"},"display":"An app"},"requestor":true,"network":{"address":"192.0.2.1","type":"2"}}],
            "source":{"site":"https://a","observer":{"identifier":{"value":"https://a"}},"type":[{"code":"4"}]},
            "entity":[{"what":{"reference":"Patient/1"},"type":{"code":"1"},"role":{"code":"1"}},
              {"query":"R0VU","type":{"code":"2"},"role":{"code":"24"}}]}"#;
        let event = request::parse(event.as_bytes()).unwrap();
        assert_eq!(kind(&event), "IHE+RFC-3881");
        let expected = concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?><AuditMessage>"#,
            r#"<EventIdentification EventActionCode="R" EventDateTime="2024-05-06T07:08:09.000Z" EventOutcomeIndicator="4">"#,
            r#"<EventID csd-code="rest" codeSystemName="http://terminology.hl7.org/CodeSystem/audit-event-type" originalText="RESTful Operation"/>"#,
            r#"<EventTypeCode csd-code="read" codeSystemName="http://hl7.org/fhir/restful-interaction" originalText="read"/>"#,
            "<EventOutcomeDescription>404 &lt;&amp;&gt;</EventOutcomeDescription></EventIdentification>",
            r#"<ActiveParticipant UserID="app" UserName="An app" UserIsRequestor="true" NetworkAccessPointID="192.0.2.1" NetworkAccessPointTypeCode="2">"#,
            r#"<RoleIDCode csd-code="110152" codeSystemName="DCM" originalText="Destination Role ID"/></ActiveParticipant>"#,
            r#"<AuditSourceIdentification AuditEnterpriseSiteID="https://a" AuditSourceID="https://a"><AuditSourceTypeCode csd-code="4"/></AuditSourceIdentification>"#,
            r#"<ParticipantObjectIdentification ParticipantObjectID="Patient/1" ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">"#,
            r#"<ParticipantObjectIDTypeCode csd-code="2" codeSystemName="RFC-3881" originalText="Patient Number"/>"#,
            "<ParticipantObjectName>Patient/1</ParticipantObjectName></ParticipantObjectIdentification>",
            r#"<ParticipantObjectIdentification ParticipantObjectID="https://a" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="24">"#,
            r#"<ParticipantObjectIDTypeCode csd-code="10" codeSystemName="RFC-3881" originalText="Search Criteria"/>"#,
            "<ParticipantObjectQuery>R0VU</ParticipantObjectQuery></ParticipantObjectIdentification></AuditMessage>",
        );
        assert_eq!(message(&event).unwrap(), expected);
    }
}
