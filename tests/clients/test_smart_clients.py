"""SMART's clients in Python that others wrote: fhirclient goes through the pages for a person, and services act for
themselves with a key: by PyJWT, by fhirclient, and by smart-fetch, which reads a whole server."""

import json
import os
import subprocess
import sys
import time
import uuid
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhirclient.client import FHIRClient
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRPermissionDeniedException

BASE = os.environ["AUGURY_BASE"]
TOKEN_URL = urljoin(BASE, "/oauth/token")
REDIRECT = "https://app.example/callback"
PASSWORD = "correct horse battery"
KINDS = {"RS384": jwt.algorithms.RSAAlgorithm, "ES384": jwt.algorithms.ECAlgorithm}


def augury(*arguments: str, told: str = "") -> dict[str, str]:
    """The command line, and what it printed by its first words. It refuses settings that it doesn't know."""
    known = {name: os.environ[name] for name in ("AUGURY_DATABASE_URL", "AUGURY_DATA_DIR", "AUGURY_SECRET")}
    done = subprocess.run([os.environ["AUGURY_BIN"], *arguments], env=known, input=told, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line)


@pytest.fixture(scope="module", autouse=True)
def chart() -> None:
    """Two patients with observations, and the clinician who signs in."""
    key = {"Authorization": f"Bearer {os.environ['AUGURY_KEY']}"}
    resources = [{"resourceType": "Practitioner", "id": "py-doctor"}]
    for patient, count in [("py-ada", 5), ("py-ben", 1)]:
        resources.append({"resourceType": "Patient", "id": patient, "name": [{"family": "Abel", "given": [patient]}]})
        resources += [{
            "resourceType": "Observation", "id": f"{patient}-{n}", "status": "final", "code": {"text": "pulse"},
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
            "subject": {"reference": f"Patient/{patient}"}, "effectiveDateTime": f"2024-01-0{n}",
        } for n in range(1, count + 1)]
    for one in resources:
        put = requests.put(f"{BASE}/{one['resourceType']}/{one['id']}", json=one, headers=key, timeout=30)
        assert put.status_code == 201, put.text
    augury("user", "add", "dora", "--role", "clinician", "--fhir-user", "Practitioner/py-doctor", told=PASSWORD)


class Page(HTMLParser):
    """A page's last form: where it goes, and what it sends if nothing is touched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action, self.fields = "", []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if tag == "form":
            self.action, self.fields = has["action"], []
        if tag == "input" and (has.get("type") == "hidden" or "checked" in has):
            self.fields.append((has["name"], has["value"]))


def allow(url: str, patient: str | None = None) -> str:
    """Signs in, chooses a patient, and allows all that is ticked; the address that the app is answered at."""
    browser = requests.Session()
    answer = browser.get(url, timeout=30)
    steps = {"/oauth/sign-in": {"login": "dora", "password": PASSWORD}, "/oauth/patient": {"patient": patient},
             "/oauth/consent": {"decision": "allow"}}
    for _ in steps:
        assert answer.status_code == 200, answer.text
        page = Page(answer.text)
        filled = [*page.fields, *steps[page.action].items()]
        answer = browser.post(urljoin(url, page.action), filled, allow_redirects=False, timeout=30)
        assert answer.status_code == 303, answer.text
        to = urljoin(url, answer.headers["Location"])
        if to.startswith(REDIRECT):
            return to
        answer = browser.get(to, timeout=30)
    raise AssertionError(f"not answered: {to}")


def app(*proof: str, scope: str | None = None, **more: str) -> FHIRClient:
    known = augury("client", "add", "Python app", *proof, "--redirect", REDIRECT)
    asked = {"scope": scope} if scope else {}
    return FHIRClient({"app_id": known["id"], "app_secret": known.get("secret"), "api_base": BASE,
                       "redirect_uri": REDIRECT, **asked, **more})


def ids(client: FHIRClient, kind: type, **search: str) -> list[str]:
    """All that is found, on however many pages."""
    return sorted(one.id for one in kind.where(search).perform_resources_iter(client.server))


@pytest.mark.parametrize("proof", ["--public", "--secret"])
def test_fhirclient_reads_the_chosen_patient(proof: str) -> None:
    # What it asks for if it isn't told otherwise is in the words of SMART 1.
    client = app(proof)
    assert not client.prepare()
    asked = parse_qs(urlsplit(client.authorize_url).query)
    assert asked["scope"] == ["launch/patient user/*.* patient/*.read openid profile"]
    client.handle_callback(allow(client.authorize_url, "py-ada"))
    assert client.ready
    assert client.launch_context["scope"] == asked["scope"][0]
    assert client.human_name(client.patient.name[0]) == "py-ada Abel"
    assert ids(client, Observation, patient="py-ada", _count="2") == [f"py-ada-{n}" for n in range(1, 6)]
    # user/*.* reaches further than the patient.
    assert ids(client, Observation, patient="py-ben") == ["py-ben-1"]
    made = Patient({"name": [{"family": "Made"}]}).create(client.server)
    assert Patient.read(made["id"], client.server).name[0].family == "Made"


def test_fhirclient_keeps_its_state_and_refreshes() -> None:
    client = app("--public", scope="patient/Observation.rs patient/Patient.r offline_access")
    client.handle_callback(allow(client.authorize_url, "py-ada"))
    first = client.server.auth.access_token
    again = FHIRClient(state=json.loads(json.dumps(client.state)))
    assert again.patient.id == "py-ada"
    assert again.reauthorize() and again.server.auth.access_token != first
    assert len(ids(again, Observation)) == 5
    with pytest.raises(FHIRPermissionDeniedException):
        Patient({"name": [{"family": "Made"}]}).create(again.server)


class Service:
    """A client with a key of its own."""

    def __init__(self, folder: Path, algorithm: str, scope: str) -> None:
        curve = algorithm == "ES384"
        self.key = ec.generate_private_key(ec.SECP384R1()) if curve else rsa.generate_private_key(65537, 2048)
        self.algorithm = algorithm
        public, private = self.jwk(self.key.public_key(), "verify"), self.jwk(self.key, "sign")
        registered, self.own = folder / "public.jwks", folder / "own.jwks"
        registered.write_text(json.dumps({"keys": [public]}))
        self.own.write_text(json.dumps({"keys": [private]}))
        self.id = augury("client", "add", "Service", "--jwks", str(registered), "--scope", scope)["id"]

    def jwk(self, key: object, use: str) -> dict[str, object]:
        plain = KINDS[self.algorithm].to_jwk(key, as_dict=True)
        return plain | {"kid": "k1", "alg": self.algorithm, "key_ops": [use]}

    def assertion(self) -> str:
        claims = {"iss": self.id, "sub": self.id, "aud": TOKEN_URL, "exp": int(time.time()) + 240,
                  "jti": str(uuid.uuid4())}
        return jwt.encode(claims, self.key, self.algorithm, {"kid": "k1"})


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_service_signs_for_itself(tmp_path: Path, algorithm: str) -> None:
    service = Service(tmp_path, algorithm, "system/Observation.rs")
    form = {
        "grant_type": "client_credentials", "scope": "system/Observation.rs system/Patient.rs",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": service.assertion(),
    }
    got = requests.post(TOKEN_URL, form, timeout=30)
    assert got.status_code == 200, got.text
    assert (got.json()["scope"], got.json()["expires_in"]) == ("system/Observation.rs", 300)
    token = {"Authorization": f"Bearer {got.json()['access_token']}"}
    found = requests.get(f"{BASE}/Observation?patient=py-ada", headers=token, timeout=30).json()
    assert found["total"] == 5
    assert requests.get(f"{BASE}/Patient", headers=token, timeout=30).status_code == 403
    again = requests.post(TOKEN_URL, form, timeout=30)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


def test_fhirclient_as_a_service(tmp_path: Path) -> None:
    service = Service(tmp_path, "ES384", "system/*.rs")
    client = FHIRClient({"app_id": service.id, "api_base": BASE, "jwt_token": service.assertion(),
                         "scope": "system/Observation.read", "patient_id": "py-ada"})
    assert not client.prepare()
    client.authorize()
    assert len(ids(client, Observation, patient=client.patient_id, _count="3")) == 5


@pytest.mark.parametrize("algorithm", KINDS)
def test_smart_fetch_reads_and_crawls(tmp_path: Path, algorithm: str) -> None:
    service = Service(tmp_path, algorithm, "system/*.rs")
    out = tmp_path / "out"

    def fetch(mode: str, *arguments: str) -> str:
        program = Path(sys.executable).with_name("smart-fetch")
        told = ["--fhir-url", BASE, "--smart-client-id", service.id, "--smart-key", str(service.own), "--verbose"]
        done = subprocess.run([program, mode, *told, *arguments], text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    one = json.loads(fetch("single", "--compact", "Patient/py-ada"))
    assert (one["resourceType"], one["id"]) == ("Patient", "py-ada")
    fetch("crawl", "--no-compression", "--type", "Patient,Observation", "--id-list", "py-ada,py-ben", str(out))

    def crawled(kind: str) -> list[str]:
        return sorted(json.loads(line)["id"] for line in (out / f"{kind}.ndjson").read_text().splitlines())

    assert crawled("Patient") == ["py-ada", "py-ben"]
    assert crawled("Observation") == [*(f"py-ada-{n}" for n in range(1, 6)), "py-ben-1"]
