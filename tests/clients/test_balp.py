"""The audit trail against IHE's Basic Audit Log Patterns (https://profiles.ihe.net/ITI/BALP/).

A story of requests is told once, each under an X-Request-Id of its own; the AuditEvents that it left are
then read as any client reads them, and held against a table of what each pattern demands."""

import base64
import json
import os
import re
import tempfile
import time
from contextlib import suppress
from copy import deepcopy
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import authorization_world as world
import pytest
import requests
from authlib.jose import JsonWebKey, jwt
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

URL = os.environ["AUGURY_BASE"]
KEY = {"Authorization": f"Bearer {os.environ['AUGURY_KEY']}"}
RUN = token_hex(4)
ANA, BEN, DOCTOR = (f"{name}-{RUN}" for name in ("ana", "ben", "doctor"))

# Of patients, nothing but ids may be in an event; these words are in resources, also in those that are refused.
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
AGENTS = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes"
BEARER, ISSUER = (AGENTS, "UserOauthAgent"), (AGENTS, "AuthzOauthService")
JTI = "urn:ietf:params:oauth:jti:"


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
    names = [name.removeprefix(f"{BALP}IHE.") for name in event["meta"].get("profile", [])]
    return [name.removeprefix("BasicAudit.") for name in names]


def against(event, name):
    """Each demand of a pattern that an event claims and does not meet."""
    if name == "IUA.71" or name.startswith("OAUTH"):
        demands = got_a_token(event) if name == "IUA.71" else used_a_token(event, name.rpartition(".")[2])
        return [f"{name}: {demand}" for demand, met in demands.items() if not met]
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
        "a user is named, and asks, from no network": all(
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
            re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]+/_history/\d+", one.get("what", {}).get("reference", ""))
            for one in objects
        )
    return [f"{name}: {demand}" for demand, met in demands.items() if not met]


def used_a_token(event, told):
    agents, iss = event["agent"], URL.removesuffix("/fhir")
    clients = [one for one in agents if APPLICATION in kinds(one)]
    users = [one for one in agents if {(PARTICIPATION, "IRCP"), BEARER} & kinds(one)]
    policies = [policy for one in users for policy in one.get("policy", [])]
    demands = {
        "one who has the token, and asks, from no network": len(users) == 1
        and all(one["requestor"] is True and not {"network", "media"} & one.keys() for one in users),
        "one policy": len(policies) == 1,
        "the token's id, or a part of it": all(
            len(one) == 32 if told == "Opaque" else one.startswith(JTI) and len(one) > len(JTI) for one in policies
        ),
    }
    if told != "Comprehensive":
        return demands | {"the type of agent": all(BEARER in kinds(one) for one in users)}
    return demands | {
        "one client, by its id": len(clients) == 1
        and all(one["who"]["identifier"].get("value") and "media" not in one for one in clients),
        "the client's network": all(one.get("network", {}).get("address") for one in clients),
        "the user of the issuer": all(
            one.get("who", {}).get("identifier", {}).get("system") == iss and one["who"]["identifier"].get("value")
            for one in users
        ),
    }


def got_a_token(event):
    agents, requests_ = event["agent"], event.get("entity", [])
    query = decoded(requests_[0]) if len(requests_) == 1 else ""
    pairs = dict(parse_qsl(query.partition(" ")[2].partition(" ")[2]))
    types = [(APPLICATION, 1, 1), (ISSUER, 1, 1), ((PARTICIPATION, "IRCP"), 0, 1)]
    return {
        "type is user authentication": code(event["type"]) == (DICOM, "110114"),
        "one subtype": [code(one) for one in event["subtype"]] == [("urn:ihe:event-type-code", "ITI-71")],
        "action and outcome": (event["action"], event["outcome"]) == ("E", "0"),
        "no agents but these": 2 <= len(agents) <= 3
        and all(least <= sum(kind in kinds(one) for one in agents) <= most for kind, least, most in types)
        and all(kinds(one) & {kind for kind, *_ in types} for one in agents),
        "client and issuer are named, with a network": all(
            one.get("who") and one["network"]["address"] and "media" not in one
            for one in agents
            if kinds(one) & {APPLICATION, ISSUER}
        ),
        "a user is named, and asks, from no network": all(
            one["who"] and one["requestor"] is True and not {"network", "media", "altId"} & one.keys()
            for one in agents
            if (PARTICIPATION, "IRCP") in kinds(one)
        ),
        "one who asked": [one["requestor"] for one in agents].count(True) == 1,
        "the request, and nothing beside it": all(
            code(one["type"]) == SYSTEM and code(one["role"]) == QUERY and "what" not in one for one in requests_
        ),
        "what was asked": query.startswith("POST /oauth/token ") and bool(pairs.get("grant_type")),
        "no secret": all(
            value == "…"
            for name, value in pairs.items()
            if name in ("code", "code_verifier", "client_secret", "client_assertion", "refresh_token")
        ),
    }


def shape(event):
    """What the model of AuditEvent says: types, cardinality, formats."""
    try:
        get_fhir_model_class("AuditEvent").model_validate_json(json.dumps(event))
        return []
    except ValidationError as refused:
        return [(".".join(map(str, one["loc"])), one["msg"]) for one in refused.errors()]


def ask(name, method, path, key=True, body=None, form=None, **headers):
    sent = {"X-Request-Id": f"{name}-{RUN}", **(KEY if key else {})}
    if body is not None:
        sent["Content-Type"] = "application/fhir+json"
    sent |= {one.replace("_", "-"): value for one, value in headers.items()}
    data = form if body is None else body if isinstance(body, str) else json.dumps(body)
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


def story():
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
    both = [{"actor": {"reference": f"Patient/{id}"}, "status": "accepted"} for id in (ANA, BEN)]
    visit = {"resourceType": "Appointment", "status": "proposed", "comment": NOTE, "participant": both}
    tell("create-of-both", "POST", "/Appointment", body=visit)

    tell("read", "GET", f"/Patient/{ANA}")
    tell("read-head", "HEAD", f"/Patient/{ANA}")
    tell("read-unchanged", "GET", f"/Patient/{ANA}", If_None_Match='W/"1"')
    tell("read-without-id", "GET", f"/Patient/{ANA}", X_Request_Id=None)
    tell("read-doctor", "GET", f"/Practitioner/{DOCTOR}")
    tell("update", "PUT", f"/Patient/{ANA}", body=patient(ANA, gender="female"))
    tell("update-only", "PUT", f"/Patient?_id={BEN}&identifier=urn:balp%7C{DOCUMENT}", body=patient(BEN, active=True))
    tell("vread", "GET", f"/Patient/{ANA}/_history/1")
    replace = [{"op": "replace", "path": "/valueString", "value": f"{NOTE}!"}]
    tell("patch", "PATCH", pulse, body=replace, Content_Type="application/json-patch+json")

    tell("search", "GET", f"/Patient?identifier=urn:balp%7C{DOCUMENT}")
    tell("search-post", "POST", "/Patient/_search", form={"identifier": f"urn:balp|{DOCUMENT}"})
    tell("search-nobody", "GET", f"/Patient?family={FAMILY}x")
    tell("search-doctor", "GET", f"/Practitioner?_id={DOCTOR}")
    page = tell("search-page", "GET", f"/Patient?_id={ANA},{BEN}&_sort=family,_id&_count=1").json()
    after = next(link["url"] for link in page["link"] if link["relation"] == "next")
    tell("search-page-next", "GET", re.sub("^.*?/fhir", "", after))
    tell("search-include", "GET", f"{pulses}&_include=Observation:patient&_include=Observation:performer")
    tell("search-revinclude", "GET", f"/Practitioner?_id={DOCTOR}&_revinclude=Observation:performer")
    tell("search-count", "GET", f"{pulses}&_summary=count")
    tell("search-system", "GET", f"/?_type=Patient,Practitioner&_id={BEN},{DOCTOR}")
    tell("search-compartment", "GET", f"/Patient/{ANA}/Observation")
    tell("search-token", "GET", f"/Patient?_id={ANA}&access_token={TOKEN}")
    tell("search-token-post", "POST", "/Patient/_search", form={"_id": ANA, "access_token": TOKEN})
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
    tell("batch-token", "POST", "/", body=bundle(
        "batch",
        ("GET", f"Patient?_id={ANA}&access_token={TOKEN}", None),
        ("GET", f"Patient?birthdate=soon&access_token={TOKEN}", None),
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
    forged = {
        "resourceType": "AuditEvent", "type": {"code": "rest"}, "recorded": "2020-01-01T00:00:00Z",
        "agent": [{"requestor": True, "name": WRONG}], "source": {"observer": {"display": WRONG}},
    }
    tell("failed-forgery", "POST", "/AuditEvent", body=forged)
    tell("failed-read", "GET", f"/Patient/no-{RUN}")
    tell("failed-vread", "GET", f"/Patient/{ANA}/_history/99")
    tell("failed-update", "PUT", f"/Patient/{ANA}", body=patient(ANA), If_Match='W/"1"')
    tell("failed-create", "POST", "/Patient", body=patient(ANA, birthDate=WRONG))
    tell("failed-json", "POST", "/Patient", body=f'{{"{WRONG}')
    tell("failed-media", "POST", "/Patient", body=WRONG, Content_Type="text/plain")
    tell("failed-patch", "PATCH", pulse, body=[{"op": "test", "path": "/valueString", "value": WRONG}],
         Content_Type="application/json-patch+json")
    tell("failed-search", "GET", f"/Patient?family={FAMILY}&birthdate=soon")
    tell("failed-search-post", "POST", "/Patient/_search", form={"family": FAMILY, "birthdate": "soon"})
    tell("metadata", "GET", "/metadata")

    tell("delete", "DELETE", pulse)
    tell("delete-only", "DELETE", f"/Observation?identifier=urn:balp%7C{BEN}-pulse")
    tell("create-alone", "PUT", f"/Patient/{BEN}-alone", body=patient(f"{BEN}-alone"))
    tell("delete-alone", "DELETE", f"/Patient/{BEN}-alone")
    tell("failed-gone", "GET", f"/Patient/{BEN}-alone")

    login = world.person("dora", "clinician", f"Practitioner/{DOCTOR}")
    got = world.Browser(login).token(APP, "openid fhirUser offline_access user/*.cruds")
    again = world.ask("POST", "/oauth/token", None, world.urlencode(
        {"grant_type": "refresh_token", "refresh_token": got["refresh_token"], "client_id": APP}), world.FORM).json
    HELD.extend([got["access_token"], got["refresh_token"], again["access_token"], again["refresh_token"]])
    held = {"key": False, "Authorization": f"Bearer {again['access_token']}"}
    tell("used-read", "GET", f"/Patient/{ANA}", **held)
    tell("used-search", "GET", f"/Patient?_id={ANA}", **held)
    made = tell("used-create", "POST", "/Observation", body=observation(ANA), **held).json()
    path = f"/Observation/{made['id']}"
    tell("used-update", "PUT", path, body={**made, "status": "amended"}, **held)
    tell("used-delete", "DELETE", path, **held)
    tell("failed-used", "GET", f"/Patient/no-{RUN}", **held)
    own = by_itself()
    HELD.append(own)
    tell("used-by-itself", "GET", f"/Patient/{ANA}", key=False, Authorization=f"Bearer {own}")
    return answers


APP = world.app()
ITSELF = JsonWebKey.generate_key("EC", "P-384", {"kid": "itself"}, is_private=True)
# Whatever was held, and what led to it.
HELD = [world.VERIFIER]


def by_itself():
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"keys": [{**ITSELF.as_dict(), "kid": "itself", "alg": "ES384"}]}, file)
        file.flush()
        text = world.augury("client", "add", f"itself-{RUN}", "--jwks", file.name, "--scope", "system/Patient.rs")
    client, now = world.said(text, "id"), int(time.time())
    claims = {
        "iss": client, "sub": client, "aud": f"{URL.removesuffix('/fhir')}/oauth/token", "exp": now + 200,
        "jti": token_hex(8),
    }
    assertion = jwt.encode({"alg": "ES384", "kid": "itself"}, claims, ITSELF).decode()
    HELD.append(assertion)
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    got = requests.post(claims["aud"], timeout=30, data={
        "grant_type": "client_credentials", "scope": "system/Patient.rs", "client_assertion_type": kind,
        "client_assertion": assertion,
    })
    assert got.status_code == 200, got.text
    return got.json()["access_token"]


def trail():
    events, page = [], f"{URL}/AuditEvent?_count=500&_sort=_id"
    while page:
        answer = requests.get(page, headers=KEY, timeout=30).json()
        events += [one["resource"] for one in answer.get("entry", [])]
        page = next((one["url"] for one in answer["link"] if one["relation"] == "next"), None)
    return events


ANSWERS = story()
EVENTS = trail()


def left(name):
    """The events that a request left."""
    return [one for one in EVENTS if ANSWERS[name].headers["X-Request-Id"] in request_ids(one)]


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
    "read-without-id": [("PatientRead", ANA)],
    "read-doctor": [("Read", "")],
    "vread": [("PatientRead", ANA)],
    "update": [("PatientUpdate", ANA)],
    "update-only": [("PatientUpdate", BEN)],
    "patch": [("PatientUpdate", ANA)],
    "search": [("PatientQuery", id) for id in BOTH],
    "search-post": [("PatientQuery", id) for id in BOTH],
    "search-nobody": [("Query", "")],
    "search-doctor": [("Query", "")],
    "search-page": [("PatientQuery", id) for id in BOTH],
    "search-page-next": [("PatientQuery", id) for id in BOTH],
    "search-include": [("PatientQuery", id) for id in BOTH],
    "search-revinclude": [("PatientQuery", id) for id in BOTH],
    "search-count": [("PatientQuery", id) for id in BOTH],
    "search-system": [("PatientQuery", BEN)],
    "search-compartment": [("PatientQuery", ANA)],
    "search-trail": [("PatientQuery", BEN)],
    "history": [("history-instance", ANA)],
    "batch": [("PatientUpdate", BEN), ("PatientRead", ANA), ("Query", ""), ("read", "", "4"), ("update", f"{BEN}-x", "4")],
    "transaction": [("PatientUpdate", ANA), ("PatientRead", BEN)],
    "denied-read": [("read", "", "4")],
    "denied-search": [("search-type", "", "4")],
    "denied-create": [("create", "", "4")],
    "failed-forgery": [("create", "", "4")],
    "failed-read": [("read", "", "4")],
    "failed-vread": [("vread", ANA, "4")],
    "failed-update": [("update", ANA, "4")],
    "failed-create": [("create", "", "4")],
    "failed-json": [("create", "", "4")],
    "failed-media": [("create", "", "4")],
    "failed-patch": [("patch", ANA, "4")],
    "failed-search": [("search-type", "", "4")],
    "failed-search-post": [("search-type", "", "4")],
    "failed-gone": [("read", f"{BEN}-alone", "4")],
    "metadata": [],
    "delete": [("PatientDelete", ANA)],
    "delete-only": [("PatientDelete", BEN)],
    "delete-alone": [("PatientDelete", f"{BEN}-alone")],
    "used-read": [("PatientRead", ANA)],
    "used-search": [("PatientQuery", ANA)],
    "used-create": [("PatientCreate", ANA)],
    "used-update": [("PatientUpdate", ANA)],
    "used-delete": [("PatientDelete", ANA)],
    "used-by-itself": [("PatientRead", ANA)],
    "failed-used": [("read", "", "4")],
}
REFUSED = [name for name in ANSWERS if name.startswith(("denied", "failed", "transaction-"))]
ASKED = [name for name in ANSWERS if "search" in name and "token" not in name]


def test_the_requests_went_as_meant():
    """What a request left says nothing if it was not the request that was meant."""
    for name, answer in ANSWERS.items():
        assert (answer.status_code >= 400) == (name in REFUSED), (name, answer.status_code, answer.text)
        if name != "read-without-id":
            assert answer.headers["X-Request-Id"] == f"{name}-{RUN}"


@pytest.mark.parametrize("name", SAID)
def test_what_is_left_of(name):
    """An event for each patient that is written, shown, named or counted, included ones too, and one where there is none.
    What was refused is of no pattern; what was rolled back is nowhere said to be done."""
    assert sorted(map(brief, left(name))) == sorted(SAID[name])


@pytest.mark.parametrize("name", ["transaction-back", "transaction-wrong"])
def test_a_transaction_that_was_rolled_back_is_told_as_one(name):
    """Whether or not its entries are told one by one, none of them was done."""
    assert {one["outcome"] for one in left(name)} == {"4"}
    assert "transaction" in [what for what, *_ in map(brief, left(name))]


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - set(SAID)))
def test_something_is_left_of(name):
    """Where more than one way to tell it is right, it is told all the same."""
    outcomes = {one["outcome"] for one in left(name)}
    assert outcomes == {"4"} if name in REFUSED else "0" in outcomes


def test_every_event_has_the_shape_of_one():
    assert len(EVENTS) > len(ANSWERS)
    assert {one["id"]: shape(one) for one in EVENTS if shape(one)} == {}


def test_every_pattern_that_is_claimed_is_kept():
    wrong = {one["id"]: [lack for name in pattern_of(one) for lack in against(one, name)] for one in EVENTS}
    assert {id: lacks for id, lacks in wrong.items() if lacks} == {}


@pytest.mark.parametrize("name", [name for name in SAID if name.startswith("used")])
def test_how_much_is_told_of_a_token(name):
    told = "Minimal" if name == "used-by-itself" else "Comprehensive"
    for event in left(name):
        assert pattern_of(event)[1:] == [f"OAUTHaccessTokenUse.{told}"]
        users = [one for one in event["agent"] if one["requestor"]]
        assert len(users) == 1 and ("who" in users[0]) == (told == "Comprehensive")
        if told == "Comprehensive":
            clients = [one for one in event["agent"] if APPLICATION in kinds(one)]
            assert [one["who"]["identifier"]["value"] for one in clients] == [APP]
            assert users[0]["who"]["reference"] == f"Practitioner/{DOCTOR}"


def test_getting_a_token_is_told():
    """A code, a refresh token, and a client's own word; the last without a user."""
    events = [one for one in EVENTS if pattern_of(one) == ["IUA.71"]]
    kinds_ = [dict(parse_qsl(decoded(one["entity"][0]).split(" ", 2)[2]))["grant_type"] for one in events]
    assert sorted(kinds_) == ["authorization_code", "client_credentials", "refresh_token"]
    assert sorted(len(one["agent"]) for one in events) == [2, 3, 3]
    for event in events:
        assert not words(json.dumps(event) + decoded(event["entity"][0]), HELD)


def test_no_event_holds_a_token():
    for event in EVENTS:
        told = json.dumps(event) + "".join(decoded(one) for one in event.get("entity", []) if "query" in one)
        assert not words(told, HELD), event


@pytest.mark.parametrize("demand, spoil", [
    ("OAUTHaccessTokenUse.Comprehensive: one policy", lambda it: it["agent"][-1].pop("policy")),
    ("OAUTHaccessTokenUse.Comprehensive: the token's id, or a part of it",
     lambda it: it["agent"][-1].update(policy=["x"])),
    ("OAUTHaccessTokenUse.Comprehensive: one client, by its id", lambda it: it["agent"].pop(2)),
    ("OAUTHaccessTokenUse.Comprehensive: the user of the issuer",
     lambda it: it["agent"][-1]["who"]["identifier"].update(system="x")),
])
def test_a_use_that_does_not_keep_its_pattern_is_seen(demand, spoil):
    event = deepcopy(left("used-create")[0])
    assert [lack for name in pattern_of(event) for lack in against(event, name)] == []
    spoil(event)
    assert demand in [lack for name in pattern_of(event) for lack in against(event, name)]


def user(**more):
    return {"type": {"coding": [{"system": PARTICIPATION, "code": "IRCP"}]}, "who": {}, "requestor": True, **more}


def thing(event):
    return entities(event, SYSTEM)[0]


def person(event):
    return entities(event, PERSON)[0]


@pytest.mark.parametrize("name, demand, spoil", [
    ("read", "type is rest", lambda it: it["type"].update(code="x")),
    ("read", "one subtype of the pattern", lambda it: it["subtype"][0].update(code="search")),
    ("read", "action", lambda it: it.update(action="E")),
    ("read", "of success alone", lambda it: it.update(outcome="4")),
    ("read", "one client, in its direction", lambda it: it["agent"][0]["type"]["coding"][0].update(code="110153")),
    ("read", "one server, in its direction", lambda it: it["agent"].pop()),
    ("delete", "one server, in its direction", lambda it: it["agent"][1]["type"]["coding"][0].update(code="110152")),
    ("read", "client and server are named", lambda it: it["agent"][0].pop("who")),
    ("read", "client and server have a network", lambda it: it["agent"][1].pop("network")),
    ("read", "no agent has media", lambda it: it["agent"][0].update(media={"code": "110030"})),
    ("read", "one user at most", lambda it: it["agent"].extend([user(), user()])),
    ("read", "a user is named, and asks, from no network", lambda it: it["agent"].append(user(network={}))),
    ("read", "one who asked", lambda it: it["agent"][1].update(requestor=True)),
    ("read", "one request id at most", lambda it: it["entity"].append(entities(it, REQUEST_ID)[0])),
    ("delete", "one object", lambda it: it["entity"].append(thing(it))),
    ("read", "a patient where it is of one", lambda it: it["entity"].remove(person(it))),
    ("read-doctor", "a patient where it is of one", lambda it: it["entity"].append({**thing(it), "type": {
        "system": ENTITY, "code": "1"}})),
    ("read", "the patient is a Patient", lambda it: person(it)["what"].update(reference="Group/1")),
    ("search", "the role is query", lambda it: thing(it)["role"].update(code="4")),
    ("search", "the query, and nothing beside it", lambda it: thing(it).update(what={"reference": "Patient/1"})),
    ("search", "the query, and nothing beside it", lambda it: thing(it).update(detail=[{"type": "x"}])),
    ("search", "the query is base64", lambda it: thing(it).update(query="GET /Patient?x")),
    ("create", "the role is of an object", lambda it: thing(it)["role"].update(code="24")),
    ("read", "the object is told", lambda it: thing(it).pop("what")),
    ("create", "the version is told", lambda it: thing(it)["what"].update(reference="Observation/1")),
    ("patch", "the version is told", lambda it: thing(it)["what"].update(reference="Observation/1")),
])
def test_what_does_not_keep_a_pattern_is_seen(name, demand, spoil):
    event = deepcopy(left(name)[0])
    (claimed,) = pattern_of(event)
    assert against(event, claimed) == []
    spoil(event)
    assert f"{claimed}: {demand}" in against(event, claimed)


@pytest.mark.parametrize("name", ["create-ana", "create", "create-if-none", "create-of-both", "update", "patch"])
def test_the_version_that_was_written_is_told(name):
    """The version of the answer, not just any."""
    answer = ANSWERS[name]
    resource, version = answer.json(), answer.headers["ETag"].removeprefix('W/"').removesuffix('"')
    told = f"{resource['resourceType']}/{resource['id']}/_history/{version}"
    assert {thing(event)["what"]["reference"] for event in left(name)} == {told}


def test_what_was_there_is_not_said_to_be_created():
    """A conditional create that finds one creates nothing; that somebody asked, and of whom, is told still."""
    assert ANSWERS["create-but-one"].status_code == 200
    assert {who for _, who, *_ in map(brief, left("create-but-one"))} == {BEN}
    assert "PatientCreate" not in [what for what, *_ in map(brief, left("create-but-one"))]


def test_only_what_went_well_is_of_a_pattern():
    for event in EVENTS:
        assert event["outcome"] in {"0", "4", "8", "12"}
        assert event["outcome"] == "0" or not pattern_of(event), event
        assert re.fullmatch(r".*T.*\.\d{3}(Z|[+-]\d\d:\d\d)", event["recorded"])


@pytest.mark.parametrize("name", REFUSED)
def test_who_was_refused(name):
    """Who is known is named, and where they asked from is told of all."""
    known = left("read")[0]["agent"][0]["who"]
    for event in left(name):
        (who,) = [one for one in event["agent"] if one["requestor"]]
        if name == "failed-used":
            assert who["who"]["identifier"]["value"] and event["agent"][0]["network"]["address"]
            continue
        assert who["network"]["address"]
        assert (who["who"] == known) == (not name.startswith("denied"))


@pytest.mark.parametrize("name", ["denied-read", "failed-vread", "failed-update", "failed-gone", "failed-patch"])
def test_what_was_refused(name):
    at = urlsplit(ANSWERS[name].url).path.split("/_history")[0]
    for event in left(name):
        assert any(at.endswith(f"/{one['what']['reference']}") for one in entities(event, SYSTEM) if "what" in one)


def sent(name):
    """The pairs of a search, in its address or its form, but for secrets."""
    request = ANSWERS[name].request
    form = request.body if "x-www-form" in request.headers.get("Content-Type", "") else ""
    pairs = parse_qsl("&".join([urlsplit(request.url).query, form or ""]))
    return [pair for pair in pairs if pair[0] != "access_token"]


def queries(name):
    return [decoded(one) for event in left(name) for one in entities(event, SYSTEM) if "query" in one]


@pytest.mark.parametrize("name", ASKED)
def test_a_query_tells_all_that_was_asked(name):
    """Of a form too, and where it could not be understood."""
    assert queries(name)
    for query in map(unquote_plus, queries(name)):
        assert [pair for pair in sent(name) if "=".join(pair) not in query] == []


@pytest.mark.parametrize("name", ASKED)
def test_a_query_is_the_request(name):
    """Its method and its whole address: a search by GET is not one by POST."""
    request = ANSWERS[name].request
    for query in queries(name):
        method, _, rest = query.partition(" ")
        assert method == request.method, query
        assert urlsplit(request.url).path in rest, query


def readable(text):
    """With what the tokens of pages hold, if they hold it openly."""
    for page in re.findall(r"_page=([A-Za-z0-9_-]+)", text):
        with suppress(ValueError):
            text += base64.urlsafe_b64decode(f"{page}==").decode(errors="replace")
    return text


def words(text, of):
    return {word for word in of if word.lower() in text.lower()}


def test_of_patients_only_ids_are_told():
    """Words of a resource are in no event; what the caller wrote into a search is in its query, and there alone."""
    for event in EVENTS:
        bare = deepcopy(event)
        for one in bare.get("entity", []):
            one.pop("query", None)
        assert not words(json.dumps(bare), SECRETS), event


@pytest.mark.parametrize("name", ANSWERS)
def test_a_query_tells_of_patients_what_was_asked_alone(name):
    asked = json.dumps(sent(name))
    for query in queries(name):
        assert words(readable(query), SECRETS) <= words(asked, SECRETS), query


@pytest.mark.parametrize("name", ANSWERS)
def test_no_event_holds_a_key(name):
    """Who may read the trail may not become who is in it."""
    key = KEY["Authorization"].removeprefix("Bearer ")
    assert not words(json.dumps(left(name)) + "".join(queries(name)), [TOKEN, key])
