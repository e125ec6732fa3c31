"""What the suite about authorization stands on: R4's types with a resource of each, apps and people made on the command
line, tokens got as a browser gets them, and a reading of SMART's scopes that shares nothing with the server's.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import threading
from http.client import HTTPConnection, HTTPException
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

BASE, KEY = os.environ["AUGURY_BASE"], os.environ["AUGURY_KEY"]
HOST, PATH = urlsplit(BASE).netloc, urlsplit(BASE).path
RUN = token_hex(3)
TAGS = "urn:authorization"
CALLBACK, PASSWORD = "https://app.example/callback", "correct horse battery"
VERIFIER = "a-verifier-that-is-long-enough-to-be-one-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")

Resource = dict[str, Any]

# Each type, whose its resources are, and the least of one. Whose: of the Patient that these elements refer to (R4's
# search parameter `patient`, else `subject`, else those of the compartment), of `all` (directories, definitions and
# terminology, which say nothing of any patient), or of `none` that a patient's scope could mean. ~ is a concept, ^ a
# reference without an address, @ one to the Patient. Of a Group every other member could be read: it is nobody's.
TYPES = """
Account subject {"status":"active","subject":[@]}
ActivityDefinition all {"status":"active"}
AdverseEvent subject {"actuality":"actual","subject":@}
AllergyIntolerance patient {"patient":@,\
"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",\
"code":"active"}]}}
Appointment participant.actor {"status":"proposed","participant":[{"status":"accepted","actor":@}]}
AppointmentResponse actor {"appointment":^,"participantStatus":"accepted","actor":@}
AuditEvent agent.who+entity.what {}
Basic subject {"code":~,"subject":@}
Binary none {"contentType":"x"}
BiologicallyDerivedProduct none {}
BodyStructure patient {"patient":@}
Bundle none {"type":"batch"}
CapabilityStatement all {"status":"active","date":"2020-01-01","kind":"requirements","description":"x",\
"fhirVersion":"4.0.1","format":["json"],"rest":[{"mode":"client"}]}
CarePlan subject {"status":"active","intent":"option","subject":@}
CareTeam subject {"subject":@}
CatalogEntry none {"orderable":true,"referencedItem":^}
ChargeItem subject {"status":"aborted","code":~,"subject":@}
ChargeItemDefinition none {"url":"urn:x","status":"active"}
Claim patient {"status":"active","type":~,"use":"claim","patient":@,"created":"2020-01-01","provider":^,\
"priority":~,"insurance":[{"sequence":1,"focal":true,"coverage":^}]}
ClaimResponse patient {"status":"active","type":~,"use":"claim","patient":@,"created":"2020-01-01","insurer":^,\
"outcome":"complete"}
ClinicalImpression subject {"status":"completed","subject":@}
CodeSystem all {"status":"active","content":"complete"}
Communication subject {"status":"completed","subject":@}
CommunicationRequest subject {"status":"active","subject":@}
CompartmentDefinition all {"url":"urn:x","name":"x","status":"active","code":"Device","search":true}
Composition subject {"status":"amended","type":~,"date":"2020-01-01","author":[^],"title":"x","subject":@}
ConceptMap all {"status":"active"}
Condition subject {"subject":@}
Consent patient {"status":"active","scope":~,"category":[~],"patient":@,"policyRule":~}
Contract subject {"subject":[@]}
Coverage beneficiary {"status":"active","beneficiary":@,"payor":[^]}
CoverageEligibilityRequest patient {"status":"active","purpose":["auth-requirements"],"patient":@,\
"created":"2020-01-01","insurer":^}
CoverageEligibilityResponse patient {"status":"active","purpose":["auth-requirements"],"patient":@,\
"created":"2020-01-01","request":^,"outcome":"complete","insurer":^}
DetectedIssue patient {"status":"amended","patient":@}
Device patient {"patient":@}
DeviceDefinition all {}
DeviceMetric none {"type":~,"category":"calculation"}
DeviceRequest subject {"intent":"directive","codeReference":^,"subject":@}
DeviceUseStatement subject {"status":"active","subject":@,"device":^}
DiagnosticReport subject {"status":"amended","code":~,"subject":@}
DocumentManifest subject {"status":"current","content":[^],"subject":@}
DocumentReference subject {"status":"current","content":[{"attachment":{"title":"x"}}],"subject":@}
EffectEvidenceSynthesis none {"status":"active","population":^,"exposure":^,"exposureAlternative":^,"outcome":^}
Encounter subject {"status":"arrived","class":{"code":"x"},"subject":@}
Endpoint all {"status":"active","connectionType":{"code":"x"},"payloadType":[~],"address":"urn:x"}
EnrollmentRequest candidate {"candidate":@}
EnrollmentResponse none {}
EpisodeOfCare patient {"status":"active","patient":@}
EventDefinition none {"status":"active","trigger":[{"type":"named-event","name":"x"}]}
Evidence none {"status":"active","exposureBackground":^}
EvidenceVariable none {"status":"active","characteristic":[{"definitionReference":^}]}
ExampleScenario none {"status":"active"}
ExplanationOfBenefit patient {"status":"active","type":~,"use":"claim","patient":@,"created":"2020-01-01",\
"insurer":^,"provider":^,"outcome":"complete","insurance":[{"focal":true,"coverage":^}]}
FamilyMemberHistory patient {"status":"completed","patient":@,"relationship":~}
Flag subject {"status":"active","code":~,"subject":@}
Goal subject {"lifecycleStatus":"accepted","description":~,"subject":@}
GraphDefinition all {"name":"x","status":"active","start":"Account"}
Group none {"type":"person","actual":true,"member":[{"entity":@}]}
GuidanceResponse subject {"moduleUri":"urn:x","status":"data-requested","subject":@}
HealthcareService all {}
ImagingStudy subject {"status":"available","subject":@}
Immunization patient {"status":"completed","vaccineCode":~,"patient":@,"occurrenceDateTime":"2020-01-01"}
ImmunizationEvaluation patient {"status":"completed","patient":@,"targetDisease":~,"immunizationEvent":^,\
"doseStatus":~}
ImmunizationRecommendation patient {"patient":@,"date":"2020-01-01","recommendation":[{"forecastStatus":~,\
"targetDisease":~}]}
ImplementationGuide all {"url":"urn:x","name":"x","status":"active","packageId":"x","fhirVersion":["0.0.80"]}
InsurancePlan all {"name":"x"}
Invoice subject {"status":"balanced","subject":@}
Library all {"status":"active","type":~}
Linkage none {"item":[{"type":"source","resource":^},{"type":"alternate","resource":^}]}
List subject {"status":"current","mode":"changes","subject":@}
Location all {}
Measure all {"status":"active"}
MeasureReport subject {"status":"complete","type":"data-collection","measure":"urn:x",\
"period":{"start":"2020-01-01"},"subject":@}
Media subject {"status":"completed","content":{"title":"x"},"subject":@}
Medication all {}
MedicationAdministration subject {"status":"completed","medicationCodeableConcept":~,"subject":@,\
"effectiveDateTime":"2020-01-01"}
MedicationDispense subject {"status":"cancelled","medicationCodeableConcept":~,"subject":@}
MedicationKnowledge all {}
MedicationRequest subject {"status":"active","intent":"filler-order","medicationCodeableConcept":~,"subject":@}
MedicationStatement subject {"status":"active","medicationCodeableConcept":~,"subject":@}
MedicinalProduct none {"name":[{"productName":"x"}]}
MedicinalProductAuthorization subject {}
MedicinalProductContraindication subject {}
MedicinalProductIndication subject {}
MedicinalProductIngredient none {"role":~}
MedicinalProductInteraction subject {}
MedicinalProductManufactured none {"manufacturedDoseForm":~,"quantity":{"value":1}}
MedicinalProductPackaged subject {"packageItem":[{"type":~,"quantity":{"value":1}}],"subject":[^]}
MedicinalProductPharmaceutical none {"administrableDoseForm":~,"routeOfAdministration":[{"code":~}]}
MedicinalProductUndesirableEffect subject {}
MessageDefinition all {"status":"active","date":"2020-01-01","eventCoding":{"code":"x"}}
MessageHeader none {"eventCoding":{"code":"x"},"source":{"endpoint":"urn:x"}}
MolecularSequence patient {"coordinateSystem":1,"patient":@}
NamingSystem all {"name":"x","status":"active","kind":"codesystem","date":"2020-01-01","uniqueId":[{"type":"oid",\
"value":"x"}]}
NutritionOrder patient {"status":"active","intent":"directive","patient":@,"dateTime":"2020-01-01"}
Observation subject {"status":"amended","code":~,"subject":@}
ObservationDefinition none {"code":~}
OperationDefinition all {"name":"x","status":"active","kind":"operation","code":"x","system":true,"type":true,\
"instance":true}
OperationOutcome none {"issue":[{"severity":"error","code":"business-rule"}]}
Organization all {"name":"x"}
OrganizationAffiliation none {}
Parameters none {}
Patient id {}
PaymentNotice none {"status":"active","created":"2020-01-01","payment":^,"recipient":^,"amount":{"value":1}}
PaymentReconciliation none {"status":"active","created":"2020-01-01","paymentDate":"2020-01-01",\
"paymentAmount":{"value":1}}
Person link.target {"link":[{"target":@}]}
PlanDefinition all {"status":"active"}
Practitioner all {}
PractitionerRole all {}
Procedure subject {"status":"completed","subject":@}
Provenance target {"target":[@],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":^}]}
Questionnaire all {"status":"active"}
QuestionnaireResponse subject {"status":"amended","subject":@}
RelatedPerson patient {"patient":@}
RequestGroup subject {"status":"active","intent":"directive","subject":@}
ResearchDefinition none {"status":"active","population":^}
ResearchElementDefinition none {"status":"active","type":"exposure",\
"characteristic":[{"definitionCodeableConcept":~}]}
ResearchStudy none {"status":"active"}
ResearchSubject individual {"status":"candidate","study":^,"individual":@}
RiskAssessment subject {"status":"amended","subject":@}
RiskEvidenceSynthesis none {"status":"active","population":^,"outcome":^}
Schedule actor {"actor":[@]}
SearchParameter all {"url":"urn:x","name":"X","status":"active","description":"x","code":"x","base":["Account"],\
"type":"token","expression":"Account.status"}
ServiceRequest subject {"status":"active","intent":"directive","subject":@}
Slot none {"schedule":^,"status":"busy","start":"2020-01-01T00:00:00Z","end":"2020-01-01T00:00:00Z"}
Specimen subject {"subject":@}
SpecimenDefinition none {}
StructureDefinition all {"url":"urn:x","name":"X","status":"active","kind":"logical","abstract":true,"type":"urn:x",\
"differential":{"element":[{"id":"x","path":"x"}]}}
StructureMap all {"url":"urn:x","name":"x","status":"active","group":[{"name":"x","typeMode":"none",\
"input":[{"name":"x","mode":"source"}],"rule":[{"name":"x","source":[{"context":"x"}]}]}]}
Subscription none {"status":"off","reason":"x","criteria":"Basic?code=x","channel":{"type":"rest-hook","endpoint":"https://hook.example/"}}
Substance all {"code":~}
SubstanceNucleicAcid none {}
SubstancePolymer none {}
SubstanceProtein none {}
SubstanceReferenceInformation none {}
SubstanceSourceMaterial none {}
SubstanceSpecification none {}
SupplyDelivery patient {"patient":@}
SupplyRequest deliverTo {"itemCodeableConcept":~,"quantity":{"value":1},"deliverTo":@}
Task for {"status":"accepted","intent":"filler-order","for":@}
TerminologyCapabilities none {"status":"active","date":"2020-01-01","kind":"requirements","description":"x"}
TestReport none {"status":"completed","testScript":^,"result":"fail"}
TestScript none {"url":"urn:x","name":"x","status":"active"}
ValueSet all {"status":"active"}
VerificationResult none {"status":"attested"}
VisionPrescription patient {"status":"active","created":"2020-01-01","patient":@,"dateWritten":"2020-01-01",\
"prescriber":^,"lensSpecification":[{"product":~,"eye":"left"}]}
"""
# Of those that could be somebody's, these are not in R4's compartment of a Patient; of the others a Group is, by its
# members. The subject of a MedicinalProduct… is never a Patient: all of them are outside.
NOT_IN_COMPARTMENT = {"Contract", "Device", "GuidanceResponse", "Task"}
WHOSE: dict[str, str] = {}
LEAST: dict[str, str] = {}
for _line in TYPES.strip().splitlines():
    _kind, WHOSE[_kind], LEAST[_kind] = _line.split(" ", 2)
SIGNS = {"~": '{"text":"x"}', "^": '{"display":"x"}', "@": '{"reference":"Patient/@"}'}


def resource(kind: str, id: str, patient: str, **more: Any) -> Resource:
    """The least of a type that is the patient's."""
    text = re.sub(r"[~^@]", lambda sign: SIGNS[sign.group()], LEAST[kind]).replace("Patient/@", f"Patient/{patient}")
    return {"resourceType": kind, "id": id, **more, **json.loads(text)}


def address(one: Resource) -> str:
    return f"{one['resourceType']}/{one['id']}"


def walk(node: Any, path: str) -> list[Any]:
    found = [node]
    for step in path.split("."):
        found = [one[step] for one in found if isinstance(one, dict) and step in one]
        found = [one for many in found for one in (many if isinstance(many, list) else [many])]
    return found


def is_of(one: Resource, patient: str, paths: str = "") -> bool:
    """Is the resource the patient's?"""
    kind = one["resourceType"]
    if kind == "Patient":
        return bool(one["id"] == patient)
    paths = paths or WHOSE[kind]
    return any(to.get("reference") == f"Patient/{patient}" for path in paths.split("+") for to in walk(one, path))


def has_compartment(kind: str) -> bool:
    somebodys = WHOSE[kind] not in ("all", "none") and not kind.startswith("MedicinalProduct")
    return kind == "Group" or somebodys and kind not in NOT_IN_COMPARTMENT


def in_compartment(one: Resource, patient: str) -> bool:
    kind = one["resourceType"]
    return has_compartment(kind) and is_of(one, patient, "member.entity" if kind == "Group" else "")


# SMART's scopes.
LETTERS = {"read": "rs", "write": "cud", "*": "cruds"}


class Right(NamedTuple):
    level: str
    kind: str
    letters: str
    condition: str


def rights(scopes: str) -> list[Right]:
    """<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html>, both versions."""
    parts = [re.fullmatch(r"(patient|user|system)/([A-Za-z]+|\*)\.([a-z*]+)(?:\?(.+))?", one) for one in scopes.split()]
    return [Right(one[1], one[2], LETTERS.get(one[3], one[3]), one[4] or "") for one in parts if one]


def fits(condition: str, one: Resource) -> bool:
    """Conditions of the scopes here ask for a `_tag` or a `category`, by system and code."""

    def has(pair: str) -> bool:
        name, _, token = pair.partition("=")
        codings = walk(one, "meta.tag" if name == "_tag" else "category.coding")
        return any(f"{coding.get('system')}|{coding.get('code')}" == token for coding in codings)

    return not condition or all(map(has, condition.split("&")))


class Caller(NamedTuple):
    """Who asks. `patient` is the one in context, `own` the one the user is; without rights nobody is known."""

    name: str
    bearer: str | None
    scopes: str | None = None
    patient: str = ""

    def grants(self, op: str, kind: str) -> list[Right]:
        """What there is about the type: `*` has no AuditEvents in it, and of what is nobody's a patient has nothing,
        of what is everybody's not the right to change it."""

        def about(right: Right) -> bool:
            if op not in right.letters or not (right.kind == kind or right.kind == "*" and kind != "AuditEvent"):
                return False
            whose = WHOSE[kind]
            return right.level != "patient" or whose not in ("all", "none") or whose == "all" and op in "rs"

        return [right for right in rights(self.scopes or "") if about(right)]

    def may(self, op: str, one: Resource) -> bool:
        """May this be done with this resource?"""
        kind = one["resourceType"]

        def holds(right: Right) -> bool:
            # A Device without a patient is a thing of the house.
            nobodys = WHOSE[kind] == "all" or kind == "Device" and op in "rs" and "patient" not in one
            mine = right.level != "patient" or nobodys or is_of(one, self.patient)
            return mine and fits(right.condition, one)

        return any(map(holds, self.grants(op, kind)))


# Requests, on one kept connection a thread: thousands of them are most of what the suite does.
class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text or "null")

    @property
    def raw(self) -> str:
        """All bytes of it."""
        return "\n".join(f"{name}: {value}" for name, value in self.headers.items()) + "\n\n" + self.text

    def ids(self) -> list[str]:
        """What a Bundle holds, each as `Type/id`."""
        found = [one.get("resource") or one.get("request", {}) for one in self.json.get("entry", [])]
        return [
            f"{one['resourceType']}/{one.get('id')}" if "resourceType" in one else one.get("url", "") for one in found
        ]

    def link(self, relation: str) -> str | None:
        return next((one["url"] for one in self.json.get("link", []) if one.get("relation") == relation), None)


kept = threading.local()
FORM, JSON, JSON_PATCH = "application/x-www-form-urlencoded", "application/fhir+json", "application/json-patch+json"


def send(method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
    """At an address of the server's, from its root."""
    for again in (True, False):
        connection = getattr(kept, "connection", None) or HTTPConnection(HOST, timeout=60)
        kept.connection = connection
        try:
            connection.request(method, path, body.encode() if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)
        except (HTTPException, ConnectionError):
            # The server may end a connection that it kept; then the request was not begun.
            connection.close()
            kept.connection = None
            if not again:
                raise
    raise AssertionError("unreachable")


def ask(method: str, path: str, bearer: str | None = KEY, body: Any = None, kind: str = JSON, **more: str) -> Answer:
    """At a FHIR address below the base, or at another of the server's if it begins with `/`."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    if body is not None:
        headers["Content-Type"] = kind
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    return send(method, path if path.startswith("/") else f"{PATH}/{path}".rstrip("/"), text, headers)


def bundle(kind: str, entries: list[tuple[str, str, Resource | None]]) -> Resource:
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {**({"resource": one} if one else {}), "request": {"method": method, "url": url}}
            for method, url, one in entries
        ],
    }


def lay_out(resources: list[Resource]) -> None:
    """Stores resources, in transactions."""
    for n in range(0, len(resources), 400):
        entries = [("PUT", f"{one['resourceType']}/{one['id']}", one) for one in resources[n : n + 400]]
        answer = ask("POST", "", body=bundle("transaction", entries))
        assert answer.status == 200, answer.text[:2000]


def everything(path: str, bearer: str | None = KEY) -> list[Resource]:
    """All entries of a Bundle, of all of its pages."""
    found: list[Resource] = []
    url: str | None = f"{BASE}/{path}"
    while url:
        answer = ask("GET", url[url.index("/", 8) :], bearer)
        assert answer.status == 200, f"{url}: {answer.status} {answer.text[:500]}"
        found += answer.json.get("entry", [])
        url = answer.link("next")
    return found


# The command line.
def augury(*arguments: str, typed: str = "") -> str:
    # The suite's own variables are no settings of the server.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("AUGURY_BASE", "AUGURY_KEY", "AUGURY_BIN")
    }
    done = subprocess.run(
        [os.environ["AUGURY_BIN"], *arguments], input=typed, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"augury {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def said(text: str, name: str) -> str:
    return next(line.split(None, 1)[1].strip() for line in text.splitlines() if line.split(" ", 1)[0] == name)


def key(name: str, scope: str, *more: str) -> tuple[str, str]:
    """A caller with a key: its id, and the key."""
    text = augury("client", "add", f"{name}-{RUN}", "--scope", scope, *more)
    return said(text, "id"), said(text, "key")


def app(*more: str) -> str:
    return said(augury("client", "add", f"app-{RUN}", "--public", "--redirect", CALLBACK, *more), "id")


def person(name: str, role: str, who: str) -> str:
    login = f"{name}-{RUN}"
    augury("user", "add", login, "--role", role, "--fhir-user", who, typed=PASSWORD)
    return login


class Browser:
    """Without scripts: keeps cookies, fills in forms, and allows what an app asks for."""

    def __init__(self, login: str) -> None:
        self.login, self.cookies = login, dict[str, str]()

    def go(self, method: str, path: str, pairs: list[tuple[str, str]] | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = urlencode(pairs) if pairs is not None else None
        # Cookies are needed one by one, and `send` folds what comes several times.
        connection = HTTPConnection(HOST, timeout=60)
        connection.request(method, path, body, headers | ({"Content-Type": FORM} if body else {}))
        answer = connection.getresponse()
        for cookie in answer.headers.get_all("set-cookie", []):
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.split(";")[0]
        found = Answer(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        )
        connection.close()
        return found

    def submit(self, page: Answer, path: str, pairs: list[tuple[str, str]]) -> Answer:
        hidden = [(name, re.search(rf'name="{name}" value="([^"]*)"', page.text)) for name in ("request", "csrf")]
        return self.go("POST", path, [(name, found[1] if found else "") for name, found in hidden] + pairs)

    def consent(self, client: str, scopes: str, patient: str) -> Answer:
        """The page that asks for consent, or where the way ended before. The patient is chosen if that is asked."""
        asked = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": CALLBACK,
            "scope": scopes,
            "state": "s",
            "aud": BASE,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        page = self.go("GET", "/oauth/authorize?" + urlencode(asked))
        steps = {
            "/oauth/sign-in": [("login", self.login), ("password", PASSWORD)],
            "/oauth/patient": [("patient", patient)],
        }
        for _ in range(6):
            if page.status in (302, 303) and page.headers["location"].startswith("/"):
                page = self.go("GET", page.headers["location"])
                continue
            form = next((path for path in steps if f'action="{path}"' in page.text and steps[path][0][1]), None)
            if form is None:
                break
            page = self.submit(page, form, steps[form])
        return page

    def code(self, client: str, scopes: str, patient: str) -> str:
        page = self.consent(client, scopes, patient)
        boxes = re.findall(r'type="checkbox" name="scope" value="([^"]*)"[^>]*checked', page.text)
        ticked = [("scope", re.sub(r"&(amp|#38);", "&", box)) for box in boxes]
        done = self.submit(page, "/oauth/consent", [*ticked, ("decision", "allow")])
        found = parse_qs(urlsplit(done.headers.get("location", "")).query).get("code")
        assert found, f"no code: {done.status} {done.headers} {done.text[:500]}"
        return found[0]

    def token(self, client: str, scopes: str, patient: str = "") -> Resource:
        """What an app is answered: the token, and what it is worth."""
        got = redeem(client, self.code(client, scopes, patient))
        granted, asked = set(got["scope"].split()), set(scopes.split())
        assert granted == asked, f"granted {got['scope']} of {scopes}"
        return got


def redeem(client: str, code: str) -> Resource:
    pairs = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "client_id": client,
        "code_verifier": VERIFIER,
    }
    answer = ask("POST", "/oauth/token", None, urlencode(pairs), FORM)
    assert answer.status == 200, answer.text
    return dict(answer.json)


def jwt(header: Resource, claims: Resource, sign: Any = None) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in (header, claims)]
    signature = sign(".".join(parts).encode()) if sign else b""
    return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def quoted(text: str) -> str:
    return quote(text, safe="")
