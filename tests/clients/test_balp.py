"""The audit trail against IHE's Basic Audit Log Patterns (https://profiles.ihe.net/ITI/BALP/).

A story of requests is told once, each under an X-Request-Id of its own; the AuditEvents that it left are
then read as any client reads them, and held against a table of what each pattern demands."""

import base64
import json
import os
import re
from copy import deepcopy
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import parse_qsl

import pytest
import requests
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

URL = os.environ["AUGURY_BASE"]
KEY = {"Authorization": f"Bearer {os.environ['AUGURY_KEY']}"}
RUN = token_hex(4)
ANA, BEN, DOCTOR = (f"{name}-{RUN}" for name in ("ana", "ben", "doctor"))

# Of patients, nothing but ids may be in an event; these words are in their resources, their requests'
# bodies and what is refused of them.
FAMILY, GIVEN, PHONE, STREET, NOTE, DOCUMENT, ILL, WRONG = SECRETS = [
    f"Secret{what}{RUN}" for what in ("family", "given", "phone", "street", "note", "document", "ill", "wrong")
]
TOKEN = f"token{RUN}"

BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"
REQUEST_ID = ("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId")
REST = ("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest")
INTERACTION = "http://hl7.org/fhir/restful-interaction"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
SOURCE, DESTINATION, APPLICATION = (DICOM, "110153"), (DICOM, "110152"), (DICOM, "110150")
CUSTODIAN = ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian")
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
READER = {(PARTICIPATION, "IRCP")}
WRITER = {(PARTICIPATION, code) for code in ("AUT", "INF", "CST")}
ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
PERSON, SYSTEM = (ENTITY, "1"), (ENTITY, "2")
PATIENT, QUERY = (ROLE, "1"), (ROLE, "24")
OBJECT = {(ROLE, code) for code in ("3", "4", "20")}


class Pattern(NamedTuple):
    """What differs from one pattern to the next: data flows from a source to a destination."""

    subtypes: set
    action: str
    client: tuple
    server: tuple
    users: set


PATTERNS = {
    "Create": Pattern({"create"}, "C", SOURCE, DESTINATION, WRITER),
    "Read": Pattern({"read", "vread"}, "R", DESTINATION, SOURCE, READER),
    "Update": Pattern({"update", "patch"}, "U", SOURCE, DESTINATION, WRITER),
    "Delete": Pattern({"delete"}, "D", APPLICATION, CUSTODIAN, WRITER),
    "Query": Pattern({"search", "search-type", "search-system"}, "E", SOURCE, DESTINATION, READER),
}


def code(coding):
    return coding.get("system"), coding.get("code")


def kinds(agent):
    return {code(coding) for coding in agent.get("type", {}).get("coding", [])}


def entities(event, kind):
    return [one for one in event.get("entity", []) if code(one.get("type", {})) == kind]


def decoded(entity):
    return base64.b64decode(entity["query"], validate=True).decode()


def request_ids(event):
    return [one.get("what", {}).get("identifier", {}).get("value") for one in entities(event, REQUEST_ID)]


def patients(event):
    return [one["what"]["reference"] for one in entities(event, PERSON)]


def pattern_of(event):
    return [name.removeprefix(f"{BALP}IHE.BasicAudit.") for name in event["meta"].get("profile", [])]


def against(event, name):
    """Each demand of a pattern that an event claims and does not meet."""
    of_patient = name.startswith("Patient")
    pattern = PATTERNS.get(name.removeprefix("Patient"))
    if pattern is None:
        return [f"{name} is not in the table"]
    agents, subtypes = event["agent"], [code(one) for one in event.get("subtype", [])]
    clients = [one for one in agents if pattern.client in kinds(one)]
    servers = [one for one in agents if pattern.server in kinds(one)]
    users = [one for one in agents if kinds(one) & pattern.users]
    ends = clients + servers
    objects, people = entities(event, SYSTEM), entities(event, PERSON)
    demands = {
        "type is rest": code(event["type"]) == REST,
        "one subtype of the pattern": len(subtypes) == 1
        and subtypes[0] in {(INTERACTION, one) for one in pattern.subtypes},
        "action": event.get("action") == pattern.action,
        "of success alone": event.get("outcome") == "0",
        "one client, in its direction": len(clients) == 1,
        "one server, in its direction": len(servers) == 1,
        "client and server are named": all(one.get("who") for one in ends),
        "client and server have a network": all(
            one.get("network", {}).get("address") and one["network"].get("type") in set("12345") for one in ends
        ),
        "no agent has media": not any("media" in one for one in agents),
        "one user at most": len(users) <= 1,
        "a user is named, asks, and has no network": all(
            one.get("who") and one["requestor"] is True and "network" not in one for one in users
        ),
        "one who asked": [one["requestor"] for one in agents].count(True) == 1,
        "one request id at most": len(request_ids(event)) <= 1 and all(request_ids(event)),
        "one object": len(objects) == 1,
        "a patient where it is of one": len(people) == of_patient,
        "the patient is a Patient": all(
            code(one.get("role", {})) == PATIENT and one["what"]["reference"].startswith("Patient/") for one in people
        ),
    }
    if pattern is PATTERNS["Query"]:
        demands |= {
            "the role is query": all(code(one.get("role", {})) == QUERY for one in objects),
            "the query, and nothing beside it": all(
                one.get("query") and not {"what", "detail", "lifecycle"} & one.keys() for one in objects
            ),
            "the query is base64": all(re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", one.get("query", "")) for one in objects),
        }
    else:
        demands |= {
            "the role is of an object": all(code(one.get("role", {})) in OBJECT for one in objects),
            "the object is told": all(one.get("what", {}).get("reference") for one in objects),
        }
    if pattern in (PATTERNS["Create"], PATTERNS["Update"]):
        demands["the version is told"] = all(
            re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]+/_history/\d+", one["what"]["reference"]) for one in objects
        )
    return [f"{name}: {demand}" for demand, met in demands.items() if not met]


def shape(event):
    """What the model of AuditEvent says: types, cardinality, formats."""
    try:
        get_fhir_model_class("AuditEvent").model_validate_json(json.dumps(event))
        return []
    except ValidationError as refused:
        return [(".".join(map(str, one["loc"])), one["msg"]) for one in refused.errors()]


def ask(name, method, path, key=True, body=None, form=None, **headers):
    headers = {one.replace("_", "-"): value for one, value in headers.items()}
    if key:
        headers |= KEY
    if body is not None:
        headers.setdefault("Content-Type", "application/fhir+json")
    data = form if body is None else body if isinstance(body, str) else json.dumps(body)
    sent = {"X-Request-Id": f"{name}-{RUN}", **headers}
    return requests.request(method, f"{URL}{path}", headers=sent, data=data, timeout=30)


def patient(id, **more):
    return {
        "resourceType": "Patient", "id": id, "name": [{"family": FAMILY, "given": [GIVEN]}],
        "identifier": [{"system": "urn:balp", "value": DOCUMENT}],
        "telecom": [{"system": "phone", "value": PHONE}], "address": [{"line": [STREET]}], **more,
    }


def observation(of, **more):
    return {
        "resourceType": "Observation", "status": "final", "code": {"text": ILL}, "note": [{"text": NOTE}],
        "identifier": [{"system": "urn:balp", "value": f"{of}-pulse"}], "valueString": NOTE,
        "subject": {"reference": f"Patient/{of}"}, "performer": [{"reference": f"Practitioner/{DOCTOR}"}], **more,
    }


def bundle(kind, *entries):
    entry = [
        {"request": {"method": method, "url": url}, **({"resource": resource} if resource else {})}
        for method, url, resource in entries
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entry}


def tell():
    """All requests, each under its name, and their answers."""
    answers = {}

    def tell(name, method, path, **more):
        answers[name] = ask(name, method, path, **more)
        return answers[name]

    pulses = f"/Observation?identifier=urn:balp%7C{ANA}-pulse,urn:balp%7C{BEN}-pulse"
    tell("create-ana", "PUT", f"/Patient/{ANA}", body=patient(ANA))
    tell("create-ben", "PUT", f"/Patient/{BEN}", body=patient(BEN))
    tell("create-doctor", "PUT", f"/Practitioner/{DOCTOR}", body={"resourceType": "Practitioner", "id": DOCTOR})
    made = tell("create", "POST", "/Observation", body=observation(ANA))
    pulse = f"/Observation/{made.json()['id']}"
    criteria = {"If_None_Exist": f"identifier=urn:balp|{BEN}-pulse"}
    tell("create-if-none", "POST", "/Observation", body=observation(BEN), **criteria)
    tell("create-but-one", "POST", "/Observation", body=observation(BEN), **criteria)
    visit = {
        "resourceType": "Appointment", "status": "proposed", "comment": NOTE,
        "participant": [
            {"actor": {"reference": f"Patient/{id}"}, "status": "accepted"} for id in (ANA, BEN)
        ],
    }
    tell("create-of-both", "POST", "/Appointment", body=visit)

    tell("read", "GET", f"/Patient/{ANA}")
    tell("read-head", "HEAD", f"/Patient/{ANA}")
    tell("read-unchanged", "GET", f"/Patient/{ANA}", If_None_Match='W/"1"')
    tell("read-doctor", "GET", f"/Practitioner/{DOCTOR}")
    tell("update", "PUT", f"/Patient/{ANA}", body=patient(ANA, gender="female"))
    tell("vread", "GET", f"/Patient/{ANA}/_history/1")
    replace = [{"op": "replace", "path": "/valueString", "value": f"{NOTE}!"}]
    tell("patch", "PATCH", pulse, body=replace, Content_Type="application/json-patch+json")

    tell("search", "GET", f"/Patient?identifier=urn:balp%7C{DOCUMENT}")
    tell("search-post", "POST", "/Patient/_search", form={"identifier": f"urn:balp|{DOCUMENT}"})
    tell("search-nobody", "GET", f"/Patient?family={FAMILY}x")
    tell("search-doctor", "GET", f"/Practitioner?_id={DOCTOR}")
    tell("search-page", "GET", f"/Patient?identifier=urn:balp%7C{DOCUMENT}&_sort=_id&_count=1")
    tell("search-include", "GET", f"{pulses}&_include=Observation:patient&_include=Observation:performer")
    tell("search-revinclude", "GET", f"/Practitioner?_id={DOCTOR}&_revinclude=Observation:performer")
    tell("search-count", "GET", f"{pulses}&_summary=count")
    tell("search-system", "GET", f"/?_type=Patient,Practitioner&_id={BEN},{DOCTOR}")
    tell("search-compartment", "GET", f"/Patient/{ANA}/Observation")
    tell("search-token", "GET", f"/Patient?_id={ANA}&access_token={TOKEN}")
    tell("search-trail", "GET", f"/AuditEvent?patient=Patient/{BEN}&subtype=create&_count=5")
    tell("history", "GET", f"/Patient/{ANA}/_history")
    tell("history-type", "GET", "/Patient/_history?_count=2")
    tell("history-system", "GET", "/_history?_count=2")
    tell("everything", "GET", f"/Patient/{ANA}/$everything")

    tell("batch", "POST", "/", body=bundle(
        "batch",
        ("PUT", f"Patient/{BEN}", patient(BEN, gender="male")),
        ("PUT", f"Patient/{BEN}-x", patient(f"{BEN}-x", gender=WRONG)),
        ("GET", f"Patient/{ANA}", None),
        ("GET", f"Patient/no-{RUN}", None),
        ("GET", f"Practitioner?_id={DOCTOR}", None),
    ))
    tell("transaction", "POST", "/", body=bundle(
        "transaction",
        ("PUT", f"Patient/{ANA}", patient(ANA, gender="other")),
        ("GET", f"Patient/{BEN}", None),
    ))
    tell("transaction-back", "POST", "/", body=bundle(
        "transaction",
        ("PUT", f"Patient/{ANA}", patient(ANA, active=False)),
        ("DELETE", f"Observation?identifier=urn:balp|{BEN}-pulse", None),
        ("GET", f"Patient/no-{RUN}", None),
    ))
    tell("transaction-wrong", "POST", "/", body=bundle("transaction", ("POST", "Patient", patient(ANA, gender=WRONG))))

    tell("denied-read", "GET", f"/Patient/{ANA}", key=False)
    tell("denied-search", "GET", f"/Patient?family={FAMILY}&access_token={TOKEN}", key=False)
    tell("denied-create", "POST", "/Patient", key=False, body=patient(ANA))
    tell("denied-transaction", "POST", "/", key=False, body=bundle("transaction", ("POST", "Patient", patient(ANA))))
    tell("denied-audit", "POST", "/AuditEvent", body={"resourceType": "AuditEvent"})
    tell("failed-read", "GET", f"/Patient/no-{RUN}")
    tell("failed-vread", "GET", f"/Patient/{ANA}/_history/99")
    tell("failed-update", "PUT", f"/Patient/{ANA}", body=patient(ANA), If_Match='W/"1"')
    tell("failed-create", "POST", "/Patient", body=patient(ANA, birthDate=WRONG))
    tell("failed-json", "POST", "/Patient", body=f'{{"{WRONG}')
    tell("failed-patch", "PATCH", pulse, body=[{"op": "test", "path": "/valueString", "value": WRONG}],
         Content_Type="application/json-patch+json")
    tell("failed-search", "GET", f"/Patient?family={FAMILY}&birthdate=soon")
    tell("failed-search-post", "POST", "/Patient/_search", form={"family": FAMILY, "birthdate": "soon"})
    tell("metadata", "GET", "/metadata")

    tell("delete", "DELETE", pulse)
    tell("delete-patient", "DELETE", f"/Patient/{BEN}-alone")
    tell("create-alone", "PUT", f"/Patient/{BEN}-alone", body=patient(f"{BEN}-alone"))
    tell("delete-alone", "DELETE", f"/Patient/{BEN}-alone")
    tell("failed-gone", "GET", f"/Patient/{BEN}-alone")
    return answers


def trail():
    events, page = [], f"{URL}/AuditEvent?_count=500&_sort=_id"
    while page:
        answer = requests.get(page, headers=KEY, timeout=30).json()
        events += [one["resource"] for one in answer.get("entry", [])]
        page = next((one["url"] for one in answer["link"] if one["relation"] == "next"), None)
    return events


ANSWERS = tell()
EVENTS = trail()


def left(name):
    """The events that a request left, in their order."""
    return [one for one in EVENTS if f"{name}-{RUN}" in request_ids(one)]


def brief(event):
    """(pattern or interaction, patient's id), and the outcome if it was none of success."""
    what = (pattern_of(event) or [event["subtype"][0]["code"]])[0]
    who = " ".join(one.removeprefix("Patient/") for one in patients(event))
    return (what, who) if event["outcome"] == "0" else (what, who, event["outcome"])


BOTH = [ANA, BEN]
SAID = {
    "create-ana": [("PatientCreate", ANA)],
    "create-ben": [("PatientCreate", BEN)],
    "create-doctor": [("Create", "")],
    "create": [("PatientCreate", ANA)],
    "create-if-none": [("PatientCreate", BEN)],
    "create-of-both": [("PatientCreate", id) for id in BOTH],
    "read": [("PatientRead", ANA)],
    "read-head": [("PatientRead", ANA)],
    "read-doctor": [("Read", "")],
    "vread": [("PatientRead", ANA)],
    "update": [("PatientUpdate", ANA)],
    "patch": [("PatientUpdate", ANA)],
    "search": [("PatientQuery", id) for id in BOTH],
    "search-post": [("PatientQuery", id) for id in BOTH],
    "search-nobody": [("Query", "")],
    "search-doctor": [("Query", "")],
    "search-page": [("PatientQuery", ANA)],
    "search-include": [("PatientQuery", id) for id in BOTH],
    "search-revinclude": [("PatientQuery", id) for id in BOTH],
    "search-count": [("Query", "")],
    "search-system": [("PatientQuery", BEN)],
    "search-compartment": [("PatientQuery", ANA)],
    "search-token": [("PatientQuery", ANA)],
    "search-trail": [("PatientQuery", BEN)],
    "history": [("history-instance", ANA)],
    "batch": [
        ("PatientUpdate", BEN), ("PatientRead", ANA), ("Query", ""), ("read", "", "4"), ("update", "", "4"),
    ],
    "transaction": [("PatientUpdate", ANA), ("PatientRead", BEN)],
    "transaction-back": [("transaction", "", "4")],
    "transaction-wrong": [("transaction", "", "4")],
    "denied-read": [("read", "", "4")],
    "denied-search": [("search-type", "", "4")],
    "denied-create": [("create", "", "4")],
    "denied-audit": [("create", "", "4")],
    "failed-read": [("read", "", "4")],
    "failed-vread": [("vread", "", "4")],
    "failed-update": [("update", "", "4")],
    "failed-create": [("create", "", "4")],
    "failed-json": [("create", "", "4")],
    "failed-patch": [("patch", "", "4")],
    "failed-search": [("search-type", "", "4")],
    "failed-search-post": [("search-type", "", "4")],
    "failed-gone": [("read", "", "4")],
    "metadata": [],
    "delete": [("PatientDelete", ANA)],
    "delete-alone": [("PatientDelete", f"{BEN}-alone")],
}


def test_the_requests_went_as_meant():
    """An event that is not there says nothing if its request was not what it should be."""
    for name, answer in ANSWERS.items():
        refused = name.startswith(("denied", "failed", "transaction-")) 
        assert (answer.status_code >= 400) == refused, (name, answer.status_code, answer.text)
        assert answer.headers["X-Request-Id"] == f"{name}-{RUN}"


@pytest.mark.parametrize("name", SAID)
def test_what_is_left_of(name):
    """One event for each patient that is written or shown, and one where there is none. What was refused is of
    no pattern; what was rolled back is nowhere said to be done."""
    assert sorted(map(brief, left(name))) == sorted(SAID[name])
