//! References in all their forms, chains along them, chains against them, and compartments
//! (search.html#reference, #chaining, #has, http.html#vsearch).

use super::Table;
use crate::check::Check;

#[rustfmt::skip]
const FORMS: Table = Table {
    id: "search/reference",
    section: "search.html#reference",
    kind: "Observation",
    common: r#"{"status": "final", "code": {"text": "reference"}}"#,
    data: &[
        (".anna", r#"{"resourceType": "Patient"}"#),
        (".bert", r#"{"resourceType": "Patient"}"#),
        (".group", r#"{"resourceType": "Group", "type": "person", "actual": true}"#),
        (".doctor", r#"{"resourceType": "Practitioner"}"#),
        ("relative", r#"{"subject": {"reference": "<anna>"}}"#),
        ("absolute", r#"{"subject": {"reference": "<base>/<anna>"}}"#),
        ("of-bert", r#"{"subject": {"reference": "<bert>"}, "performer": [{"reference": "<doctor>"}, {"reference": "<bert>"}]}"#),
        ("of-group", r#"{"subject": {"reference": "<group>"}}"#),
        ("foreign", r#"{"subject": {"reference": "http://elsewhere.example/<run>/Patient/7"}}"#),
        ("foreign-same-id", r#"{"subject": {"reference": "http://elsewhere.example/fhir/<anna>"}}"#),
        ("logical", r#"{"subject": {"identifier": {"system": "urn:conformance:mrn", "value": "L1"}}}"#),
        ("versioned", r#"{"subject": {"reference": "<bert>/_history/1"}}"#),
        ("display", r#"{"subject": {"display": "somebody"}}"#),
        ("none", "{}"),
    ],
    queries: &[
        ("id", "subject:Patient=<anna.id>", "relative absolute"),
        ("type-and-id", "subject=<anna>", "relative absolute"),
        ("absolute", "subject=<base>/<anna>", "relative absolute"),
        ("bare-id", "patient=<anna.id>", "relative absolute"),
        ("patient-type-and-id", "patient=<anna>", "relative absolute"),
        ("patient-absolute", "patient=<base>/<anna>", "relative absolute"),
        ("subject-bare-id", "subject=<anna.id>", "relative absolute"),
        ("group", "subject=<group>", "of-group"),
        ("group-is-no-patient", "patient=<group.id>", ""),
        ("modifier-type", "subject:Group=<group.id>", "of-group"),
        ("modifier-other-type", "subject:Group=<anna.id>", ""),
        ("or", "subject=<anna>,<group>", "relative absolute of-group"),
        ("performer", "performer=<doctor>", "of-bert"),
        ("performer-second", "performer=<bert>", "of-bert"),
        ("and-of-repeated", "performer=<doctor>&performer=<bert>", "of-bert"),
        ("foreign", "subject=http://elsewhere.example/<run>/Patient/7", "foreign"),
        ("foreign-is-not-local", "subject=Patient/7", ""),
        ("foreign-same-id", "subject=http://elsewhere.example/fhir/<anna>", "foreign-same-id"),
        ("versioned-is-found", "subject=<bert>", "of-bert versioned"),
        ("identifier", "subject:identifier=urn:conformance:mrn|L1", "logical"),
        ("identifier-value", "subject:identifier=L1", "logical"),
        ("identifier-other", "subject:identifier=urn:nobody|L1", ""),
        ("identifier-is-no-reference", "subject=L1", ""),
        ("nobody", "subject=Patient/nobody-has-this-id", ""),
        ("missing-false", "performer:missing=false", "of-bert"),
        ("missing-true", "performer:missing=true&subject=<group>", "of-group"),
        ("unknown-modifier", "subject:Nothing=1", "!"),
    ],
};

#[rustfmt::skip]
const CANONICALS: Table = Table {
    id: "search/canonical",
    section: "search.html#versions",
    kind: "QuestionnaireResponse",
    common: r#"{"status": "completed"}"#,
    data: &[
        ("plain", r#"{"questionnaire": "http://example.org/<run>/q"}"#),
        ("versioned", r#"{"questionnaire": "http://example.org/<run>/q|2"}"#),
        ("other", r#"{"questionnaire": "http://example.org/<run>/r"}"#),
    ],
    queries: &[
        ("other", "questionnaire=http://example.org/<run>/r", "other"),
        ("version", "questionnaire=http://example.org/<run>/q|2", "versioned"),
        ("no-version-finds-all", "questionnaire=http://example.org/<run>/q", "plain versioned"),
    ],
};

#[rustfmt::skip]
const CHAINS: Table = Table {
    id: "search/chain",
    section: "search.html#chaining",
    kind: "Observation",
    common: r#"{"status": "final"}"#,
    data: &[
        (".org", r#"{"resourceType": "Organization", "name": "Chain Clinic", "identifier": [{"system": "urn:conformance:org", "value": "<run>"}]}"#),
        (".doctor", r#"{"resourceType": "Practitioner", "name": [{"family": "Chaindoctor"}]}"#),
        (".anna", r#"{"resourceType": "Patient", "name": [{"family": "Chainanna"}], "birthDate": "1970-01-02", "gender": "female", "managingOrganization": {"reference": "<org>"}, "generalPractitioner": [{"reference": "<doctor>"}]}"#),
        (".bert", r#"{"resourceType": "Patient", "name": [{"family": "Chainbert"}], "birthDate": "1980-01-02"}"#),
        (".visit", r#"{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "<anna>"}, "serviceProvider": {"reference": "<org>"}}"#),
        ("first", r#"{"code": {"coding": [{"code": "c1"}]}, "subject": {"reference": "<anna>"}, "encounter": {"reference": "<visit>"}}"#),
        ("second", r#"{"code": {"coding": [{"code": "c2"}]}, "subject": {"reference": "<bert>"}, "performer": [{"reference": "<doctor>"}]}"#),
        ("third", r#"{"code": {"coding": [{"code": "c3"}]}, "subject": {"display": "nobody"}, "derivedFrom": [{"reference": "<first>"}]}"#),
        (".report", r#"{"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "r"}, "result": [{"reference": "<first>"}, {"reference": "<second>"}]}"#),
    ],
    queries: &[
        ("string", "patient.family=chainan", "first"),
        ("string-or", "patient.family=chainanna,chainbert", "first second"),
        ("string-exact", "patient.family:exact=Chainbert", "second"),
        ("token", "patient.gender=female", "first"),
        ("date", "patient.birthdate=ge1975", "second"),
        ("typed", "subject:Patient.family=chainanna", "first"),
        ("typed-other", "subject:Group.identifier=nobody", ""),
        ("id", "patient._id=<bert.id>", "second"),
        ("two-steps", "patient.organization.name=chain clinic", "first"),
        ("two-steps-token", "patient.organization.identifier=urn:conformance:org|<run>", "first"),
        ("two-steps-typed", "patient.general-practitioner:Practitioner.family=chaindoctor", "first"),
        ("another-way", "encounter.service-provider.name=chain", "first"),
        ("three-steps", "encounter.patient.organization.name=chain", "first"),
        ("repeated-reference", "performer:Practitioner.family=chaindoctor", "second"),
        ("to-the-same-type", "derived-from:Observation.code=c1", "third"),
        ("to-the-same-type-twice", "derived-from:Observation.patient.family=chainanna", "third"),
        ("two-chains", "patient.family=chainanna&encounter.service-provider.name=chain", "first"),
        ("two-chains-nothing", "patient.family=chainbert&encounter.service-provider.name=chain", ""),
        ("beside-plain", "patient.family=chainanna,chainbert&code=c2", "second"),
        ("from-a-report", "/DiagnosticReport?result.code=c2", "report"),
        ("from-a-report-nothing", "/DiagnosticReport?result.code=c3", ""),
        ("nothing", "patient.family=nobody-called-so", ""),
        ("not-a-reference", "code.family=x", "!"),
        ("unknown-type", "subject:Nothing.name=x", "!"),
    ],
};

#[rustfmt::skip]
const REVERSE: Table = Table {
    id: "search/has",
    section: "search.html#has",
    kind: "Patient",
    common: "{}",
    data: &[
        (".org", r#"{"resourceType": "Organization", "name": "Has Clinic"}"#),
        ("anna", r#"{"gender": "female", "managingOrganization": {"reference": "<org>"}}"#),
        ("bert", r#"{"gender": "male"}"#),
        ("cora", r#"{"gender": "female"}"#),
        (".visit", r#"{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "<bert>"}}"#),
        (".first", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "h1"}]}, "subject": {"reference": "<anna>"}, "effectiveDateTime": "2020-01-02", "valueQuantity": {"value": 5, "unit": "mg"}}"#),
        (".second", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "h2"}]}, "subject": {"reference": "<bert>"}, "encounter": {"reference": "<visit>"}}"#),
        (".third", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "h2"}]}, "subject": {"reference": "<anna>"}}"#),
    ],
    queries: &[
        ("token", "_has:Observation:patient:code=h1", "anna"),
        ("token-two", "_has:Observation:patient:code=h2", "anna bert"),
        ("token-or", "_has:Observation:patient:code=h1,h2", "anna bert"),
        ("and", "_has:Observation:patient:code=h1&_has:Observation:patient:code=h2", "anna"),
        ("date", "_has:Observation:patient:date=2020-01", "anna"),
        ("quantity", "_has:Observation:patient:value-quantity=5", "anna"),
        ("by-subject", "_has:Observation:subject:code=h2", "anna bert"),
        ("nobody", "_has:Observation:patient:code=nobody-has-this", ""),
        ("beside-plain", "_has:Observation:patient:code=h2&gender=male", "bert"),
        ("id", "_has:Observation:patient:_id=<first.id>", "anna"),
        ("nested", "_has:Encounter:patient:_has:Observation:encounter:code=h2", "bert"),
        ("nested-other-type", "/Organization?_has:Patient:organization:_has:Observation:patient:code=h1", "org"),
        ("nested-other-type-nothing", "/Organization?_has:Patient:organization:_has:Encounter:patient:class=AMB", ""),
        ("chain-then-has", "/Observation?patient._has:Encounter:patient:class=AMB", "second"),
        ("unknown-type", "_has:Nothing:patient:code=x", "!"),
        ("unknown-reference", "_has:Observation:nothing:code=x", "!"),
        ("incomplete", "_has:Observation:patient=x", "!"),
    ],
};

#[rustfmt::skip]
const COMPARTMENTS: Table = Table {
    id: "search/compartment",
    section: "compartmentdefinition-patient.html#patient",
    kind: "Patient",
    common: "{}",
    data: &[
        (".anna", "{}"),
        (".bert", "{}"),
        (".doctor", r#"{"resourceType": "Practitioner"}"#),
        (".device", r#"{"resourceType": "Device", "patient": {"reference": "<anna>"}}"#),
        ("subject", r#"{"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": "k"}]}, "subject": {"reference": "<anna>"}}"#),
        ("performer", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "<bert>"}, "performer": [{"reference": "<anna>"}]}"#),
        ("of-bert", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "<bert>"}}"#),
        ("of-device", r#"{"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "device": {"reference": "<device>"}}"#),
        ("condition", r#"{"resourceType": "Condition", "subject": {"reference": "<anna>"}, "asserter": {"reference": "<doctor>"}}"#),
        ("visit", r#"{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "<anna>"}}"#),
        ("group", r#"{"resourceType": "Group", "type": "person", "actual": true, "member": [{"entity": {"reference": "<anna>"}}]}"#),
        ("provenance", r#"{"resourceType": "Provenance", "target": [{"reference": "<anna>"}], "recorded": "2020-01-02T03:04:05Z", "agent": [{"who": {"reference": "<doctor>"}}]}"#),
        ("risk", r#"{"resourceType": "RiskAssessment", "status": "final", "subject": {"reference": "<anna>"}}"#),
        ("subscription", r#"{"resourceType": "Subscription", "status": "off", "reason": "x", "criteria": "Observation?subject=<anna>", "channel": {"type": "rest-hook"}}"#),
    ],
    queries: &[
        ("observation", "/<anna>/Observation", "subject performer"),
        ("observation-of-other", "/<bert>/Observation", "performer of-bert"),
        ("with-parameter", "/<anna>/Observation?code=k", "subject"),
        ("condition", "/<anna>/Condition", "condition"),
        ("encounter", "/<anna>/Encounter", "visit"),
        ("group-member", "/<anna>/Group", "group"),
        ("provenance", "/<anna>/Provenance", "provenance"),
        ("risk-assessment", "/<anna>/RiskAssessment", "risk"),
        ("subscription-is-in-none", "/<anna>/Subscription", ""),
        ("device-is-in-none", "/<anna>/Device", ""),
        ("all-types", "/<anna>/*?_type=Observation,Condition,Encounter", "subject performer condition visit"),
        ("practitioner", "/<doctor>/Condition", "condition"),
        ("encounter-compartment", "/<visit>/Observation", ""),
        ("device", "/<device>/Observation", "of-device"),
        ("no-such-compartment", "/<subject>/Condition", "!"),
    ],
};

pub(crate) fn checks() -> Vec<Check> {
    let tables = [&FORMS, &CANONICALS, &CHAINS, &REVERSE, &COMPARTMENTS];
    tables.into_iter().flat_map(Table::checks).collect()
}
