"""No patient data in logs, metrics or error bodies beyond ids, and no secret anywhere.

A server of its own, with its log at its most talkative, is asked for all that it can do and for much that it can't.
Every value of a patient that is sent, well or ill formed, is a word, date, number or measurement that occurs in that one
request alone, and so is every secret; then all that the server said is searched for them, however they are encoded."""

import base64
import functools
import gzip
import hashlib
import hmac
import html
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote_plus, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

CHANCE = random.Random(int(os.environ.get("NO_PHI_SEED", "11")))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
JSON, XML, FORM, PLAIN = (
    "application/fhir+json", "application/fhir+xml", "application/x-www-form-urlencoded", "application/json")
JSON_PATCH = "application/json-patch+json"
CALLBACK = "https://app.example/callback"
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}
UCUM = "http://unitsofmeasure.org"


# What is looked for, and whose request it was in.
WHOSE: dict[str, str] = {}
STEMS: dict[str, str] = {}
SECRETS: dict[str, str] = {}
# Those that were made here, by how they begin, and those that the server made.
OURS: dict[str, str] = {}
OTHERS: list[str] = []


class Phi:
    """Of patients, what one request holds: each call gives another value, which is in no other request."""

    def __init__(self, request):
        self.request = request

    def keep(self, make):
        while (made := make()) in WHOSE or made[:9] in STEMS:
            pass
        WHOSE[made] = self.request
        if made[0] == "z":
            STEMS[made[:9]] = made
        if "-" in made:
            DAYS.update({one: made for one in (made.replace("-", ""), *moments(made))})
        return made

    def word(self):
        made = self.keep(lambda: "zqxv" + "".join(CHANCE.choices(LETTERS, k=12)))
        return made.capitalize()

    def date(self):
        return self.keep(lambda: date.fromordinal(CHANCE.randint(693596 + 365, 693596 + 19 * 365)).isoformat())

    def digits(self):
        return self.keep(lambda: f"77{CHANCE.randrange(10 ** 15):015}")

    def measured(self, most=9):
        return float(self.keep(lambda: f"{CHANCE.randint(1, most)}.{CHANCE.randrange(10 ** 7):07}1"))

    def patient(self, id=None, **more):
        word = self.word
        return {
            "resourceType": "Patient", **({"id": id} if id else {}),
            "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{word()}</div>'},
            "contained": [{"resourceType": "Organization", "id": "o", "name": word()}],
            "extension": [{"url": "http://e.example/e", "valueString": word()}],
            "identifier": [{"system": "urn:no-phi", "value": self.digits()}, {"value": f"{word()} é\"\\ñ"}],
            "name": [{"family": word(), "given": [word()], "text": f"{word()} <&> \"{word()}\""}],
            "birthDate": self.date(), "gender": "female",
            "telecom": [{"system": "phone", "value": self.digits()}, {"system": "email", "value": f"{word()}@e.example"}],
            "address": [{"line": [f"{word()} 1"], "city": word(), "postalCode": self.digits()}],
            "contact": [{"name": {"family": word()}}], "managingOrganization": {"reference": "#o"}, **more,
        }

    def observation(self, of, code="2160-0", value=None, unit="mg/dL", **more):
        return {
            "resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{of}"},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": self.word()},
            "identifier": [{"system": "urn:no-phi", "value": self.digits()}], "note": [{"text": self.word()}],
            "effectiveDateTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "valueQuantity": {"value": value or self.measured(), "unit": unit, "system": UCUM, "code": unit}, **more,
        }


def secret(what, value=None):
    """What must be nowhere."""
    value = value or "Qjx0" + "".join(CHANCE.choices(LETTERS + "0123456789", k=39))
    if value not in SECRETS:
        SECRETS[value] = what
        if value.startswith("Qjx0"):
            OURS.setdefault(value[:16].lower(), value)
        else:
            OTHERS.append(value)
    return value


URL_SAFE = str.maketrans("-_", "+/")


# However it is written: all readings of a text, in which markers and secrets are looked for.
def readings(text):
    """All of them, one behind the other."""
    found = [text, re.sub(r"\\u\{?([0-9a-fA-F]{1,6})\}?", lambda it: chr(min(int(it[1], 16), 0x10FFFF)), text)]
    found += [unquote_plus(text)] * ("%" in text) + [html.unescape(text)] * ("&" in text)
    for run in set(re.findall(r"[A-Za-z0-9+/_-]{20,}", text)):
        plain = run.translate(URL_SAFE)
        for at in range(4):
            part = plain[at:] + "A" * (-(len(plain) - at) % 4)
            found.append(base64.b64decode(part).decode("latin-1"))
    found += [bytes.fromhex(run).decode("latin-1") for run in set(re.findall(r"(?:[0-9a-fA-F]{2}){8,}", text))]
    # As Rust shows bytes, if nobody told it otherwise.
    for run in set(re.findall(r"(?:\d{1,3}, ?){8,}\d{1,3}", text)):
        found.append("".join(chr(int(one) % 256) for one in run.split(",")))
    return "\n".join(dict.fromkeys(found))


def moments(day):
    """A date as a number: seconds, milliseconds, microseconds since 1970."""
    seconds = (date.fromisoformat(day) - date(1970, 1, 1)).days * 86400
    return [str(seconds * unit) for unit in (1, 1000, 1000000)]


DAYS: dict[str, str] = {}
SHAPES = re.compile(r"zqxv[a-z]*|(?<![0-9a-f])19[01]\d-?[01]\d-?[0-3]\d(?![0-9a-f])|77\d{15}|\d\.\d{7}1|-\d{8,}", re.I)


def markers(text):
    """Which values of patients a text holds. A word that was cut off is one still."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    found = set()
    for one in map(str.lower, SHAPES.findall(readings(text))):
        if one.startswith("zqxv"):
            found.update([STEMS.get(one[:9], one)] * (len(one) > 7))
        found.update({one, DAYS.get(one)} & WHOSE.keys())
    return found


def secrets(text, but=()):
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    found = set()
    low = readings(text).lower()
    # A part of one is too much, too.
    found = {OURS[one] for one in re.findall(r"qjx0[a-z0-9]{12}", low) if one in OURS}
    found |= {value for value in OTHERS if len(value) != 6 and value.lower() in low}
    found |= set(re.findall(r"(?<![\d.])\d{6}(?!\d)", low)) & set(OTHERS)
    return {(SECRETS[value], value) for value in found if value not in but}


# The server, and what is around it.
FOLDER = Path()
ADDRESS = ""


class Answer(NamedTuple):
    name: str
    request: str
    status: int
    headers: list
    body: bytes

    @property
    def text(self):
        return self.body.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def all(self):
        return "\n".join(f"{name}: {value}" for name, value in self.headers) + "\n\n" + self.text

    def header(self, wanted):
        return next((value for name, value in self.headers if name.lower() == wanted), "")


ANSWERS: list[Answer] = []
# What was printed by commands: arguments, exit code, stdout, stderr.
PRINTED: list[tuple] = []
UNREACHED: list[str] = []


def ask(name, method, path, body=None, kind=JSON, key=True, **more):
    """Path from the root; a body may be text, bytes or what is made JSON of."""
    headers = {"Host": ADDRESS, **({"Authorization": f"Bearer {KEY}"} if key else {})}
    if body is not None:
        body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers |= {"Content-Type": kind, "Content-Length": str(len(body))}
    headers |= {one.replace("_", "-"): value for one, value in more.items()}
    connection = HTTPConnection(ADDRESS, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for one, value in headers.items():
        connection.putheader(one, value.encode() if isinstance(value, str) else value)
    connection.endheaders()
    with suppress(ConnectionError):
        if body is not None:
            connection.send(body)
    answer = connection.getresponse()
    ANSWERS.append(Answer(name, f"{method} {path}"[:300], answer.status, answer.getheaders(), answer.read()))
    connection.close()
    return ANSWERS[-1]


def raw(name, sent):
    """Bytes as they are, which need be no HTTP."""
    with socket.create_connection(urlsplit(f"//{ADDRESS}").netloc.split(":"), timeout=5) as connection:
        connection.sendall(sent)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        said = b""
        with suppress(OSError):
            while got := connection.recv(65536):
                said += got
    status = re.match(rb"HTTP/1\.\d (\d+)", said)
    ANSWERS.append(Answer(name, repr(sent[:80]), int(status[1]) if status else 0, [], said))


def settings(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUGURY_")}
    return kept | {
        "AUGURY_DATABASE_URL": DATABASE, "AUGURY_DATA_DIR": str(FOLDER / "data"), "AUGURY_SECRET": SECRET,
    } | {f"AUGURY_{name}": value for name, value in more.items()}


def augury(*arguments, typed="", right=True, with_=None):
    """The command line, and what it printed by its first words. Whatever went wrong there is kept."""
    done = subprocess.run(
        [os.environ["AUGURY_BIN"], *arguments], env=settings(**(with_ or {})), input=typed, capture_output=True, text=True,
        timeout=60)
    PRINTED.append((" ".join(arguments), done.returncode, done.stdout, done.stderr))
    assert (done.returncode == 0) == right, f"{arguments}: {done.returncode} {done.stderr} {done.stdout[:300]}"
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line) if right else {}


def start(**more):
    with open(FOLDER / "log", "ab") as log:
        server = subprocess.Popen(
            [os.environ["AUGURY_BIN"], "serve"], env=settings(BIND=ADDRESS, LOG="trace", **more), stdout=log, stderr=log)
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError):
            connection = HTTPConnection(ADDRESS, timeout=5)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return server
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {(FOLDER / 'log').read_text()[-2000:]}")


def stop(server):
    server.terminate()
    server.wait(30)


class Provider(BaseHTTPRequestHandler):
    """Another server that this one asks: it says who it is, and refuses all else in the words it was asked with."""

    def do_GET(self):
        at = f"http://{self.headers['Host']}"
        self.say(200 if "configuration" in self.path else 404, {
            "issuer": at, "authorization_endpoint": f"{at}/a", "token_endpoint": f"{at}/t", "jwks_uri": f"{at}/j"})

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        known = {"id_token": f"{PROVIDED}.e30.x"} if self.path == "/t" else {"active": False}
        self.say(200, {**known, "asked": asked})

    def say(self, status, document):
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def tool(name):
    """One of PostgreSQL's own."""
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[::-1]), None)
    assert found, f"{name} is missing"
    return str(found)


# What is wrong with a resource; what is wrong in each holds a value of a patient.
def faults():
    """Each kind of fault, and what makes a text of JSON of it."""
    def one(**wrong):
        return lambda phi: phi.patient(**{name: make(phi) for name, make in wrong.items()})

    def pulse(**wrong):
        return lambda phi: {**phi.observation("nobody"), **{name: make(phi) for name, make in wrong.items()}}

    def cut(change):
        """Of the text of a good one."""
        return lambda phi: change(json.dumps(phi.patient(), ensure_ascii=False), phi)

    word, day = Phi.word, Phi.date
    yield from {
        "a word for a boolean": one(active=word), "a word for a list": one(name=word),
        "a word in a list of objects": one(name=lambda it: [it.word()]), "an object for a date": one(birthDate=lambda it: {"x": it.word()}),
        "a word for a date": one(birthDate=word), "a date with a tail": one(birthDate=lambda it: f"{it.date()}x"),
        "a date otherwise": one(birthDate=lambda it: it.date().replace("-", "/")),
        "a day that is none": one(birthDate=lambda it: f"{it.date()[:8]}39"),
        "an hour that is none": one(deceasedDateTime=lambda it: f"{it.date()}T99:00:00Z"),
        "a number for a date": one(birthDate=lambda it: int(it.digits())),
        "a word for a number": one(multipleBirthInteger=word), "a fraction": one(multipleBirthInteger=Phi.measured),
        "a number too large": one(multipleBirthInteger=lambda it: int(it.digits())),
        "a code that is none": one(gender=word), "a code with spaces": one(gender=lambda it: f" {it.word()}  {it.word()}"),
        "a list for a code": one(gender=lambda it: [it.word(), it.word()]),
        "a number for a text": one(name=lambda it: [{"family": it.measured()}]),
        "an empty text beside": one(name=lambda it: [{"family": "", "text": it.word()}]),
        "an element that is none": lambda it: it.patient(**{it.word(): it.word()}),
        "an element that is none, within": one(name=lambda it: [{it.word(): it.word()}]),
        "an element that is none, deep": one(contact=lambda it: [{"name": {"family": it.word(), "given": {it.word(): it.digits()}}}]),
        "a shadow of no element": lambda it: it.patient(**{f"_{it.word()}": {"id": it.word()}}),
        "a shadow that is a word": lambda it: it.patient(_birthDate=it.word()),
        "an id too long": one(id=lambda it: it.word() * 5), "an id with letters that none has": one(id=lambda it: f"{it.word()} ü"),
        "a text too long": one(name=lambda it: [{"text": it.word() + "x" * (1 << 20)}]),
        "a text with a control character": one(name=lambda it: [{"text": f"{it.word()}\x01{it.word()}"}]),
        "a text with NUL": one(name=lambda it: [{"text": f"{it.word()}\x00{it.word()}"}]),
        "no base64": one(photo=lambda it: [{"data": f"{it.word()}!"}]),
        "no URI": one(identifier=lambda it: [{"system": f"urn:{it.word()} {it.word()}", "value": it.digits()}]),
        "no URL": one(photo=lambda it: [{"url": f"http://{it.word()} {it.word()}"}]),
        "no positive number": one(telecom=lambda it: [{"system": "phone", "value": it.digits(), "rank": it.word()}]),
        "a system that is none": one(telecom=lambda it: [{"system": it.word(), "value": it.digits()}]),
        "a value without its system": one(telecom=lambda it: [{"value": it.digits()}]),
        "no reference": one(generalPractitioner=lambda it: [{"reference": f"{it.word()} {it.word()}"}]),
        "a reference to another type": one(managingOrganization=lambda it: {"reference": f"Patient/{it.word()}"}),
        "a reference of another type": one(managingOrganization=lambda it: {"reference": "Organization/1", "type": it.word()}),
        "a reference to what is not contained": one(managingOrganization=lambda it: {"reference": f"#{it.word()}"}),
        "a reference with a version that is none": one(managingOrganization=lambda it: {"reference": f"Organization/1/_history/{it.word()} "}),
        "a resource that is contained and not meant": one(contained=lambda it: [{"resourceType": "Organization", "id": it.word(), "name": it.word()}]),
        "a contained type that is none": one(contained=lambda it: [{"resourceType": it.word(), "id": "o"}]),
        "a contact without details": one(contact=lambda it: [{"relationship": [{"text": it.word()}]}]),
        "a period that ends before it begins": one(name=lambda it: [{"family": it.word(), "period": {"start": "1950-01-01", "end": it.date()}}]),
        "a birth in pieces": lambda it: it.patient(deceasedBoolean=True, deceasedDateTime=it.date()),
        "an extension without an address": one(extension=lambda it: [{"valueString": it.word()}]),
        "an extension with nothing": one(extension=lambda it: [{"url": f"http://e.example/{it.word()}"}]),
        "an extension with a value that is none": one(extension=lambda it: [{"url": "http://e.example/e", "valueZqx": it.word()}]),
        "a modifier that nobody knows": one(modifierExtension=lambda it: [{"url": f"http://e.example/{it.word()}", "valueString": it.word()}]),
        "a script in the narrative": one(text=lambda it: {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><script>{it.word()}</script></div>'}),
        "an event in the narrative": one(text=lambda it: {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p onclick="{it.word()}">{it.word()}</p></div>'}),
        "a narrative in pieces": one(text=lambda it: {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><b>{it.word()}</i></{it.word()}'}),
        "a narrative of nothing known": one(text=lambda it: {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><{it.word()} {it.word()}="{it.word()}">&{it.word()};</{it.word()}></div>'}),
        "a narrative's status": one(text=lambda it: {"status": it.word(), "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}),
        "a language with spaces": one(language=lambda it: f"{it.word()} {it.word()}"),
        "a profile that is none": one(meta=lambda it: {"profile": [f"http://e.example/{it.word()} x"]}),
        "an instant that is none": one(meta=lambda it: {"lastUpdated": it.date()}),
        "a type that is none": lambda it: {**it.patient(), "resourceType": it.word()},
        "another type": lambda it: {**it.patient(), "resourceType": "Basic"},
        "no type": lambda it: {name: value for name, value in it.patient().items() if name != "resourceType"},
        "a type that is no text": lambda it: {**it.patient(), "resourceType": {it.word(): it.word()}},
        "two values": pulse(valueString=word), "no status": pulse(status=word),
        "a status in a list": pulse(status=lambda it: {"coding": [{"code": it.word()}]}),
        "a value for a word": pulse(valueQuantity=lambda it: {"value": it.word(), "unit": it.word()}),
        "a unit that UCUM has not": pulse(valueQuantity=lambda it: {"value": it.measured(), "system": UCUM, "code": it.word()}),
        "a comparator that is none": pulse(valueQuantity=lambda it: {"value": it.measured(), "comparator": it.word()}),
        "a value that is no type": lambda it: {**it.observation("nobody"), f"value{it.word()}": it.word()},
        "a day with an hour alone": pulse(effectiveDateTime=lambda it: f"{it.date()}T11"),
        "a component without a code": pulse(component=lambda it: [{"valueString": it.word()}]),
        "a value and why there is none": lambda it: {**it.observation("nobody"), "dataAbsentReason": {"text": it.word()}},
        "a code beside a vital sign's": lambda it: {
            **it.observation("nobody", "8867-4", unit="mg"), "category": [VITAL], "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/heartrate"]}},
        "a vital sign without a value": lambda it: {
            "resourceType": "Observation", "status": "final", "category": [VITAL], "subject": {"display": it.word()},
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": it.word()}]},
            "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]}, "valueString": it.word()},
        "a required code of another system": lambda it: {
            "resourceType": "Condition", "subject": {"reference": f"Patient/{it.word()}"}, "code": {"text": it.word()},
            "clinicalStatus": {"coding": [{"system": f"http://e.example/{it.word()}", "code": it.word(), "display": it.word()}]}},
        "a ValueSet of a patient's words": lambda it: {"resourceType": "ValueSet", "status": it.word(), "url": it.word()},
        "an expression that is none": lambda it: {
            "resourceType": "SearchParameter", "url": "urn:x", "name": it.word(), "status": "active", "description": it.word(),
            "code": it.word(), "base": [it.word()], "type": "token", "expression": f"Patient.{it.word()}(("},
        "an AuditEvent": lambda it: {
            "resourceType": "AuditEvent", "type": {"code": "rest"}, "recorded": f"{it.date()}T00:00:00Z",
            "agent": [{"requestor": True, "name": it.word()}], "source": {"observer": {"display": it.word()}}},
        "a Bundle of what is none": lambda it: {"resourceType": "Bundle", "type": it.word(), "entry": [{"resource": {"resourceType": it.word()}}]},
        "a key twice": cut(lambda text, it: text.replace('"gender"', f'"birthDate": "{it.date()}", "gender"')),
        "a key of a patient's twice": cut(lambda text, it: text[:-1] + ', "{0}": 1, "{0}": 2}}'.format(it.word())),
        "cut in a name": cut(lambda text, it: text[: text.index('"given"') - 8]),
        "cut in an identifier": cut(lambda text, it: text[: text.index('"urn:no-phi"') + 34]),
        "a quote in a name": cut(lambda text, it: text.replace('"family": "', f'"family": "{it.word()}"{it.word()}', 1)),
        "a name without quotes": cut(lambda text, it: text.replace('"female"', it.word())),
        "a key without quotes": cut(lambda text, it: text.replace('"gender"', it.word())),
        "other quotes": cut(lambda text, it: text.replace('"female"', f"'{it.word()}'")),
        "an escape that is none": cut(lambda text, it: text.replace('"female"', f'"{it.word()}\\x{it.word()}"')),
        "half a character": cut(lambda text, it: text.replace('"female"', f'"{it.word()}\\ud83d{it.word()}"')),
        "a line in a name": cut(lambda text, it: text.replace('"female"', f'"{it.word()}\n{it.word()}"')),
        "a comment": cut(lambda text, it: f"/* {it.word()} */ {text}"), "a tail": cut(lambda text, it: f"{text} {it.word()}"),
        "no UTF-8": lambda it: json.dumps(it.patient()).encode().replace(b'"female"', f'"{it.word()}'.encode() + b"\xff\xfe" + f'{it.word()}"'.encode()),
        "a number like none": cut(lambda text, it: text.replace('"female"', f"00{it.digits()}")),
        "a number beyond all": cut(lambda text, it: text.replace('"female"', f"{it.digits()}e99999999")),
        "a list": lambda it: [it.patient()], "a text": lambda it: json.dumps(it.word()), "a number": lambda it: it.digits(),
        "too deep": lambda it: "[" * 3000 + f'"{it.word()}"' + "]" * 3000,
        "deep in objects": lambda it: '{"resourceType":"Patient","name":' + f'{{"{it.word()}":' * 80 + "1" + "}" * 81,
    }.items()


def faults_of_xml(phi):
    word, day = phi.word, phi.date

    def patient(inner, head=""):
        return f'{head}<Patient xmlns="http://hl7.org/fhir"><name><family value="{word()}"/></name>{inner}</Patient>'

    yield from {
        "cut in a name": patient("")[:70], "cut in a tag": f'<Patient xmlns="http://hl7.org/fhir"><{word()}',
        "another end": patient(f"<gender value='{word()}'></{word()}>"), "no end": f'<Patient xmlns="http://hl7.org/fhir"><{word()}>',
        "an element that is none": patient(f"<{word()} value='{word()}'/>"), "an attribute that is none": patient(f"<gender {word()}='{word()}'/>"),
        "an attribute twice": patient(f"<gender value='{word()}' value='{word()}'/>"), "no quotes": patient(f"<gender value={word()}/>"),
        "a bad date": patient(f"<birthDate value='{day()}x'/>"), "a bad code": patient(f"<gender value='{word()}'/>"),
        "a text": patient(f"<gender>{word()}</gender>"), "an element twice": patient(f"<birthDate value='{day()}'/><birthDate value='{day()}'/>"),
        "another order": patient(f"<identifier><value value='{phi.digits()}'/></identifier>"),
        "another namespace": f'<Patient xmlns="http://e.example/{word()}"><gender value="{word()}"/></Patient>',
        "a prefix that is none": patient(f"<{word()}:gender value='{word()}'/>"), "another type": f'<{word()} xmlns="http://hl7.org/fhir"/>',
        "an entity": patient(f"<gender value='&{word()};'/>", f'<!DOCTYPE x [<!ENTITY {word()} "{word()}">]>'),
        "an entity that is none": patient(f"<gender value='&{word()};'/>"), "a number that is no character": patient(f"<gender value='{word()}&#x0;'/>"),
        "an instruction": patient("", f"<?{word()} {word()}?>"), "CDATA": patient(f"<gender><![CDATA[{word()}]]></gender>"),
        "a narrative": patient(f'<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><script>{word()}</script><{word()}/></div></text>'),
        "two roots": patient("") + f"<{word()}/>", "no XML": word(), "JSON": json.dumps(phi.patient()), "nothing but a comment": f"<!-- {word()} -->",
        "another encoding": f'<?xml version="1.0" encoding="{word()}"?><Patient xmlns="http://hl7.org/fhir"/>',
    }.items()


def entry(method, url, resource=None, **more):
    return {"request": {"method": method, "url": url, **more}, **({"resource": resource} if resource else {})}


def bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def text_of(body):
    return body if isinstance(body, str | bytes) else json.dumps(body)


# The story. Each part names its requests, which hold values of their own.
def changing():
    """What goes well: two charts, changed in every way."""
    for id in ("ann", "ben"):
        phi = Phi(f"stored {id}")
        ask(phi.request, "PUT", f"/fhir/Patient/{id}", phi.patient(id))
        ask(phi.request, "PUT", f"/fhir/Observation/{id}", phi.observation(id))
        for code, unit, most in (("2160-0", "mg/dL", 2), ("1742-6", "U/L", 9), ("1920-8", "U/L", 9), ("2951-2", "mmol/L", 9),
                                 ("8867-4", "/min", 9), ("777-3", "10*9/L", 9), ("2093-3", "mg/dL", 9), ("8480-6", "mm[Hg]", 9)):
            ask(phi.request, "POST", "/fhir/Observation", phi.observation(id, code, phi.measured(most), unit))
        ask(phi.request, "POST", "/fhir/Observation", phi.observation(id, value=phi.measured(), unit=phi.word()))
    phi = Phi("changes")
    ask(phi.request, "PUT", "/fhir/Patient/ann", phi.patient("ann"), If_Match='W/"1"')
    replace = [{"op": "replace", "path": "/name/0/family", "value": phi.word()}]
    ask(phi.request, "PATCH", "/fhir/Patient/ann", replace, JSON_PATCH)
    number = phi.digits()
    ask(phi.request, "POST", "/fhir/Patient", phi.patient(), If_None_Exist=f"identifier=urn:no-phi|{number}")
    held = {**phi.patient(), "identifier": [{"system": "urn:no-phi", "value": number}]}
    for _ in range(2):
        ask(phi.request, "PUT", f"/fhir/Patient?identifier=urn:no-phi%7C{number}", held)
    ask(phi.request, "PATCH", f"/fhir/Patient?identifier=urn:no-phi%7C{number}", replace, JSON_PATCH)
    ask(phi.request, "DELETE", f"/fhir/Patient?identifier=urn:no-phi%7C{number}")
    ask(phi.request, "POST", "/fhir", bundle(
        "transaction", entry("PUT", "Patient/carl", phi.patient("carl")), entry("POST", "Observation", phi.observation("carl")),
        entry("POST", "Patient", phi.patient(), ifNoneExist=f"identifier={phi.digits()}"), entry("GET", f"Patient?name={phi.word()}")))
    ask(phi.request, "POST", "/fhir", bundle(
        "batch", entry("PUT", "Patient/dora", phi.patient("dora")), entry("DELETE", "Patient/dora"), entry("GET", "Patient/dora"),
        entry("PATCH", "Patient/carl", {"resourceType": "Binary", "contentType": JSON_PATCH, "data": base64.b64encode(json.dumps(replace).encode()).decode()})))
    xml = ask("as XML", "GET", "/fhir/Patient/ann", Accept=XML)
    ask("as XML", "PUT", "/fhir/Patient/ann", xml.body, XML, Accept=XML)
    ask(phi.request, "POST", "/fhir/Patient", gzip.compress(json.dumps(phi.patient()).encode()), Content_Encoding="gzip")
    ask("what was deleted", "DELETE", "/fhir/Patient/dora")
    for path in ("/fhir/Patient/dora", "/fhir/Patient/dora/_history/1"):
        ask("what was deleted", "GET", path)
    for path in ("/fhir/Patient/ann/_history", "/fhir/_history", "/fhir/Patient/_history?_count=2", "/fhir/Patient/ann/_history/1",
                 "/fhir/Patient/ann/$everything", "/fhir/Patient/ann/*", "/fhir/Patient/ann/$meta", "/fhir/RiskAssessment?patient=ann",
                 "/fhir/Patient/ann/$accounting-of-disclosures?_format=csv", "/fhir/AuditEvent/$verify", "/fhir/metadata",
                 "/fhir/Patient/ann/$assess-risk", "/predictions?patient=ann", "/models", "/fhir/Patient/ann/$validate", "/docs"):
        ask("reads", "GET", path)
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": phi.word(), "display": phi.word()}]}}]}
    for change in ("add", "delete"):
        ask(phi.request, "POST", f"/fhir/Patient/ann/$meta-{change}", meta)
    ask(phi.request, "POST", "/fhir/Patient/$validate", phi.patient())


def refused_resources():
    for name, make in faults():
        phi = Phi(f"POST: {name}")
        ask(phi.request, "POST", "/fhir/Patient", text_of(make(phi)))
        phi = Phi(f"$validate: {name}")
        ask(phi.request, "POST", "/fhir/Patient/$validate", text_of(make(phi)))
        phi = Phi(f"PUT: {name}")
        made = make(phi)
        kind = made.get("resourceType") if isinstance(made, dict) else None
        kind = kind if kind == "Observation" else "Patient"
        if isinstance(made, dict):
            made.setdefault("id", "ann")
        ask(phi.request, "PUT", f"/fhir/{kind}/ann", text_of(made))
        if isinstance(made, dict) and kind == "Observation":
            phi = Phi(f"POST of its type: {name}")
            ask(phi.request, "POST", "/fhir/Observation", make(phi))
        for way, path in (("predict", "/predict"), ("assess", "/fhir/$assess-risk")):
            phi = Phi(f"{way}: {name}")
            made = make(phi)
            whole = bundle("collection", {"resource": made}) if isinstance(made, dict) else text_of(made)
            ask(phi.request, "POST", path, text_of(whole), PLAIN if way == "predict" else JSON)
        phi = Phi(f"transaction: {name}")
        made = make(phi)
        if isinstance(made, dict):
            ask(phi.request, "POST", "/fhir", bundle(
                "transaction", entry("PUT", "Patient/ann", phi.patient("ann")), entry("POST", str(made.get("resourceType")), made)))
    made = [(name, make(Phi("batch"))) for name, make in faults()]
    ask("batch", "POST", "/fhir", bundle("batch", *(
        entry("POST", str(one.get("resourceType")), one) for _, one in made if isinstance(one, dict) and len(json.dumps(one)) < 99999)))
    phi = Phi("XML")
    for n, (name, text) in enumerate(faults_of_xml(phi)):
        # Each of them has words of its own, and they are of this request.
        request = f"XML: {name}"
        WHOSE.update({one: request for one in markers(text)})
        for path in ("/fhir/Patient", "/fhir/Patient/$validate", "/fhir"):
            ask(request, "POST", path, text, XML, Accept=XML if n % 2 else JSON)


def refused_changes():
    def one(name, method, path, make, kind=JSON, **headers):
        phi = Phi(name)
        made = make(phi)
        ask(name, method, path, text_of(made), kind, **{header: value(phi) for header, value in headers.items()})

    patches = {
        "a path to nowhere": lambda it: [{"op": "replace", "path": f"/name/0/{it.word()}/{it.word()}", "value": it.word()}],
        "a test that fails": lambda it: [{"op": "test", "path": "/name/0/family", "value": it.word()}],
        "an operation that is none": lambda it: [{"op": it.word(), "path": f"/{it.word()}", "value": it.word()}],
        "a value that is wrong": lambda it: [{"op": "replace", "path": "/gender", "value": it.word()}],
        "a date that is wrong": lambda it: [{"op": "replace", "path": "/birthDate", "value": f"{it.date()}x"}],
        "an element that is none": lambda it: [{"op": "add", "path": f"/{it.word()}", "value": it.word()}],
        "a place that is none": lambda it: [{"op": "add", "path": f"/name/{it.digits()}", "value": it.word()}],
        "from nowhere": lambda it: [{"op": "move", "path": "/gender", "from": f"/{it.word()}"}],
        "an id": lambda it: [{"op": "replace", "path": "/id", "value": it.word()}],
        "a member that is none": lambda it: [{"op": "add", "path": "/gender", it.word(): it.word()}],
        "no list": lambda it: {it.word(): it.word()}, "no path": lambda it: [{"op": "add", "path": it.word(), "value": 1}],
        "broken": lambda it: f'[{{"op": "add", "path": "/{it.word()}',
    }
    for name, make in patches.items():
        one(f"JSON Patch: {name}", "PATCH", "/fhir/Patient/ann", make, JSON_PATCH)

    def step(kind, path, value=None, **more):
        parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
        parts += [{"name": "value", **value}] if value else []
        parts += [{"name": name, "valueString": text} for name, text in more.items()]
        return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}

    steps = {
        "an expression that is none": lambda it: step("replace", f"Patient.name.where(family='{it.word()}'((", {"valueString": it.word()}),
        "a function that is none": lambda it: step("delete", f"Patient.{it.word()}('{it.word()}')"),
        "of many": lambda it: step("replace", f"Patient.telecom.where(value != '{it.word()}').value", {"valueString": it.word()}),
        "of none": lambda it: step("replace", f"Patient.name.where(family = '{it.word()}')", {"valueString": it.word()}),
        "a kind that is none": lambda it: step(it.word(), "Patient.gender"),
        "a value that is wrong": lambda it: step("replace", "Patient.gender", {"valueCode": it.word()}),
        "a value of another type": lambda it: step("replace", "Patient.birthDate", {"valueString": it.word()}),
        "an element that is none": lambda it: step("add", "Patient", {"valueString": it.word()}, name=it.word()),
        "a part that is none": lambda it: {"resourceType": "Parameters", "parameter": [{"name": it.word(), "part": [{"name": it.word(), "valueString": it.word()}]}]},
    }
    for name, make in steps.items():
        one(f"FHIRPath Patch: {name}", "PATCH", "/fhir/Patient/ann", make)
    one("XML Patch", "PATCH", "/fhir/Patient/ann", lambda it: f"<diff><replace sel='{it.word()}'>{it.word()}</replace></diff>", "application/xml-patch+xml")
    one("If-Match that is none", "PUT", "/fhir/Patient/ann", lambda it: it.patient("ann"), If_Match=lambda it: f'W/"{it.word()}"')
    one("If-Match of yesterday", "PUT", "/fhir/Patient/ann", lambda it: it.patient("ann"), If_Match=lambda it: 'W/"1"')
    one("If-None-Match", "PUT", "/fhir/Patient/ann", lambda it: it.patient("ann"), If_None_Match=lambda it: f'W/"{it.word()}"')
    one("If-None-Exist that is none", "POST", "/fhir/Patient", Phi.patient, If_None_Exist=lambda it: f"{it.word()}={it.word()}&birthdate={it.word()}")
    one("If-None-Exist of many", "POST", "/fhir/Patient", Phi.patient, If_None_Exist=lambda it: f"gender=female&name:not={it.word()}&family:missing=false")
    one("If-None-Exist of many, well asked", "POST", "/fhir/Patient", Phi.patient, If_None_Exist=lambda it: "gender=female")
    one("of many", "PUT", "/fhir/Patient?gender=female", Phi.patient)
    for method, body in (("PUT", Phi.patient), ("PATCH", patches["a value that is wrong"]), ("DELETE", lambda it: "")):
        for n, query in enumerate((lambda it: f"birthdate={it.word()}", lambda it: f"{it.word()}={it.digits()}", lambda it: f"name={it.word()}&_has:{it.word()}")):
            phi = Phi(f"{method} where, {n}")
            ask(phi.request, method, f"/fhir/Patient?{query(phi)}", text_of(body(phi)), JSON_PATCH if method == "PATCH" else JSON)
    one("another id", "PUT", "/fhir/Patient/ann", lambda it: it.patient(it.word()))
    one("what the server writes alone", "POST", "/fhir/RiskAssessment", lambda it: {
        "resourceType": "RiskAssessment", "status": "final", "subject": {"reference": f"Patient/{it.word()}"}, "note": [{"text": it.word()}]})
    urls = {
        "an address that is none": lambda it: entry("PUT", f"Patient/{it.word()} {it.word()}", it.patient()),
        "a type that is none": lambda it: entry("GET", f"{it.word()}/{it.word()}"), "a method that is none": lambda it: entry(it.word(), "Patient"),
        "a search that is none": lambda it: entry("GET", f"Patient?birthdate={it.word()}&{it.word()}={it.word()}"),
        "what is not there": lambda it: entry("GET", f"Patient/{it.word()}"), "a condition": lambda it: entry("POST", "Patient", it.patient(), ifNoneExist=f"birthdate={it.word()}"),
        "a condition of a version": lambda it: entry("PUT", "Patient/ann", it.patient("ann"), ifMatch=f'W/"{it.word()}"'),
        "an id that is none": lambda it: entry("PUT", f"Patient/{it.word()}%20", it.patient(it.word())),
        "a fullUrl that is none": lambda it: {**entry("POST", "Patient", it.patient()), "fullUrl": f"urn:uuid:{it.word()}"},
        "a reference to no entry": lambda it: entry("POST", "Observation", it.observation(f"?identifier={it.word()}")),
        "a reference by a search": lambda it: entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": it.word()}, "subject": {"reference": f"Patient?identifier={it.digits()}"}}),
        "a reference by a search that is none": lambda it: entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": it.word()}, "subject": {"reference": f"Patient?{it.word()}={it.digits()}&birthdate={it.word()}"}}),
        "a reference by a search of many": lambda it: entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": it.word()}, "subject": {"reference": "Patient?gender=female"}}),
        "a patch": lambda it: entry("PATCH", "Patient/ann", {"resourceType": "Binary", "contentType": JSON_PATCH, "data": base64.b64encode(f'[{{"op":"test","path":"/gender","value":"{it.word()}"}}]'.encode()).decode()}),
    }
    for kind in ("batch", "transaction"):
        for name, make in urls.items():
            one(f"{kind}: {name}", "POST", "/fhir", lambda it, make=make, kind=kind: bundle(kind, make(it)))
    one("a transaction twice of one", "POST", "/fhir", lambda it: bundle("transaction", *(entry("PUT", "Patient/ann", it.patient("ann")) for _ in "ab")))
    for operation, name in (("$meta-add", "meta"), ("$meta-delete", "meta"), ("$validate", "mode")):
        one(f"{operation} of nothing", "POST", f"/fhir/Patient/ann/{operation}", lambda it, name=name: {
            "resourceType": "Parameters", "parameter": [{"name": name, "valueString": it.word()}, {"name": it.word(), "valueString": it.word()}]})


def searches():
    good = ["name={w}", "family:exact={w}", "identifier=urn:no-phi%7C{n}", "birthdate={d}", "birthdate=ge{d}&birthdate=lt{d}", "address={w}",
            "phone={n}", "email={w}%40e.example", "name:contains={w}%20{w}", "organization.name={w}", "_has:Observation:patient:identifier={n}",
            "_has:Observation:patient:code-value-quantity=2160-0$gt{m}", "_id={w}", "_sort=family&family={w}&_count=1", "address-postalcode={n}",
            "_include=Patient:organization&given={w}", "name={w}&_summary=count", "name=%5Au%71{w}&_total=accurate", "_content={w}", "_text={w}"]
    bad = ["birthdate={w}", "birthdate=zz{d}", "birthdate={d}x", "{w}={w}", "name:{w}={w}", "name:not={w}", "_sort={w}", "_include={w}", "_include=Patient:{w}",
           "_revinclude={w}:{w}", "_elements={w}", "_count={w}", "_format={w}", "_summary={w}", "_total={w}", "_page={w}", "_since={w}", "_type={w}", "_has:{w}:{w}:{w}={w}",
           "_has:Observation:{w}:code={w}", "_has:{w}", "organization.{w}={w}", "general-practitioner:{w}.name={w}", "organization.name.{w}={w}", "identifier=a%7Cb%7C{w}",
           "_lastUpdated={w}", "_id={w}%20", "gender:{w}=x", "gender:in={w}", "gender=http://e.example/{w}%7C", "active={w}", "death-date=eq{w}", "name={w},", "name={w}\\", "_filter=name%20eq%20{w}",
           "_list={w}", "_query={w}", "_security:{w}={w}", "organization:{w}={w}", "organization={w}%20{w}", "organization:identifier={w}%7C%7C", "name=%ff{w}%fe", "name=%zz{w}",
           "_contained={w}", "_containedType={w}", "_score={w}", "_near={w}", "name:missing={w}", "_tag:below={w}", "_profile:above={w}", "_elements=name.{w}", "_cursor={w}", "_pretty={w}", "_offset={w}",
           "name={w}&" * 300, "name=" + "{w}," * 300]
    quantities = ["value-quantity={w}", "value-quantity={m}%7C{w}%7C{w}", "value-quantity=zz{m}", "code-value-quantity={w}", "code-value-quantity={w}$zz{m}", "code:in=http://e.example/{w}", "code:above={w}", "combo-code-value-quantity=x${w}$",
                  "patient.birthdate={w}", "patient.name={w}&patient:Patient.identifier={n}", "subject:{w}.name=x", "date={w}", "component-value-quantity=lt{w}", "code:text={w}", "code:not-in={w}", "value-string:exact={w}", "patient:identifier={w}%7C{n}", "_sort=-{w}"]
    for n, (kind, query) in enumerate([("Patient", one) for one in good + bad] + [("Observation", one) for one in quantities]):
        def filled(phi, query=query):
            query = re.sub(r"\{d\}", lambda _: phi.date(), query)
            query = re.sub(r"\{n\}", lambda _: phi.digits(), query)
            query = re.sub(r"\{m\}", lambda _: str(phi.measured()), query)
            return re.sub(r"\{w\}", lambda _: phi.word(), query)

        short = query[:60]
        for prefer in ("", "handling=strict"):
            phi = Phi(f"search{' strictly' * bool(prefer)}: {kind}?{short}")
            ask(phi.request, "GET", f"/fhir/{kind}?{filled(phi)}", **({"Prefer": prefer} if prefer else {}))
        phi = Phi(f"search by POST: {kind}?{short}")
        ask(phi.request, "POST", f"/fhir/{kind}/_search", filled(phi), FORM, Accept=XML if n % 3 == 0 else JSON)
        if n % 4 == 0:
            phi = Phi(f"search in a compartment: {kind}?{short}")
            ask(phi.request, "GET", f"/fhir/Patient/ann/Observation?{filled(phi)}")
            phi = Phi(f"search of all: {kind}?{short}")
            ask(phi.request, "GET", f"/fhir?_type=Patient,Observation&{filled(phi)}")
            phi = Phi(f"search without a key: {kind}?{short}")
            ask(phi.request, "GET", f"/fhir/{kind}?{filled(phi)}", key=False)
            phi = Phi(f"history: {short}")
            ask(phi.request, "GET", f"/fhir/Patient/ann/_history?{filled(phi)}")
    phi = Phi("search by POST, in JSON")
    ask(phi.request, "POST", "/fhir/Patient/_search", {"name": phi.word()})
    phi = Phi("search by POST, no UTF-8")
    ask(phi.request, "POST", "/fhir/Patient/_search", f"name={phi.word()}".encode() + b"\xff", FORM)
    phi = Phi("a page that is none")
    page = ask("pages", "GET", "/fhir/Patient?_count=1&_sort=family").json
    after = next(urlsplit(one["url"]) for one in page["link"] if one["relation"] == "next")
    ask("pages", "GET", f"{after.path}?{after.query}")
    ask(phi.request, "GET", f"{after.path}?{after.query}{phi.word()}")


def operations():
    def ways(name, path, make):
        for way, query in enumerate((lambda it: f"?{it.word()}={it.word()}", lambda it: f"?code={it.word()}&url={it.word()}&filter={it.word()}&date={it.date()}")):
            phi = Phi(f"{name}, GET {way}")
            ask(phi.request, "GET", path(phi) + query(phi))
        phi = Phi(f"{name}, POST")
        ask(phi.request, "POST", path(phi), make(phi))

    def parameters(it):
        return {"resourceType": "Parameters", "parameter": [
            {"name": "code", "valueCode": it.word()}, {"name": it.word(), "valueString": it.word()},
            {"name": "coding", "valueCoding": {"system": f"urn:{it.word()}", "code": it.digits(), "display": it.word()}}]}

    for path in ("ValueSet/$validate-code", "ValueSet/$expand", "ValueSet/administrative-gender/$expand", "CodeSystem/$validate-code", "CodeSystem/$lookup",
                 "CodeSystem/$subsumes", "ConceptMap/$translate", "Patient/$match", "Patient/ann/$everything", "Patient/ann/$assess-risk", "$assess-risk",
                 "Patient/ann/$validate", "Patient/$validate", "Patient/ann/$meta", "Patient/ann/$meta-add", "Patient/ann/$meta-delete", "AuditEvent/$verify",
                 "Patient/ann/$accounting-of-disclosures", "Observation/$lastn", "Observation/$stats", "$export", "$process-message", "Composition/ann/$document",
                 "metadata", "_history"):
        ways(path, lambda it, path=path: f"/fhir/{path}", parameters)
    for path in ("AuditEvent/{w}/$proof", "RiskAssessment/{w}/$replay", "Patient/{w}/$everything", "Patient/{w}/$assess-risk", "Patient/{w}/$validate", "Patient/{w}/$meta",
                 "Patient/{w}/$accounting-of-disclosures", "Patient/ann/${w}", "Patient/${w}", "${w}", "{w}/$validate", "ValueSet/{w}/$expand"):
        ways(path, lambda it, path=path: "/fhir/" + path.replace("{w}", it.word()), parameters)
    for value in ("asOf", "model", "patient", "persist", "date"):
        for answer in (Phi.word, Phi.date, Phi.digits):
            phi = Phi(f"$assess-risk?{value} {answer.__name__}")
            ask(phi.request, "GET", f"/fhir/Patient/ann/$assess-risk?{value}={answer(phi)}")
            phi = Phi(f"predict {value} {answer.__name__}")
            ask(phi.request, "POST", "/predict", {"patient": "ann", value: answer(phi)}, PLAIN)
    phi = Phi("$validate's resource")
    for mode in ("create", phi.word()):
        ask(phi.request, "POST", "/fhir/Patient/$validate", {"resourceType": "Parameters", "parameter": [
            {"name": "resource", "resource": phi.patient(gender=phi.word())}, {"name": "mode", "valueCode": mode}, {"name": "profile", "valueUri": f"http://e.example/{phi.word()}"}]})
    ask(phi.request, "GET", f"/fhir/Patient/ann/$validate?profile=http://e.example/{phi.word()}&mode={phi.word()}")


def scoring():
    """Inputs that are missing, strange, and out of range, stored and asked with."""
    quantities = {
        "out of range": lambda it: {"value": it.measured(), "unit": "mg/dL"},
        "of a strange unit": lambda it: {"value": it.measured(), "unit": it.word()}, "of a text": lambda it: {"value": it.word(), "unit": it.word()},
        "a word": Phi.word, "a bare number": Phi.measured, "a list": lambda it: [it.word()], "with a member that is none": lambda it: {"value": it.measured(), "unit": "a", it.word(): it.word()},
        "with a time that is none": lambda it: {"value": it.measured(), "unit": "U/L", "time": it.word(), "effective": it.word()},
    }
    for model, inputs in (("fib-4", ("age", "ast", "alt", "platelets")), ("ckd-epi-2021", ("age", "sex", "creatinine")), (None, ("age", "creatinine"))):
        for name, make in quantities.items():
            for n in range(len(inputs) + 1):
                phi = Phi(f"predict {model} {inputs[n] if n < len(inputs) else 'all'} {name}")
                values = {one: make(phi) if n in (at, len(inputs)) else {"value": 40, "unit": "a"} for at, one in enumerate(inputs)}
                ask(phi.request, "POST", "/predict", {**({"model": model} if model else {}), "inputs": values}, PLAIN)
    more = {
        "an input that is none": lambda it: {"model": "fib-4", "inputs": {it.word(): {"value": it.measured(), "unit": it.word()}}},
        "a model that is none": lambda it: {"model": it.word(), "inputs": {"age": {"value": it.measured(), "unit": "a"}}},
        "a member that is none": lambda it: {it.word(): it.word(), "inputs": {}}, "patients": lambda it: {"model": "fib-4", "patients": [{"id": it.word(), "inputs": {"age": it.word()}}, {it.word(): 1}]},
        "patients of one's own ids": lambda it: {"model": "fib-4", "patients": [{"id": it.word(), "inputs": {"age": {"value": it.measured(), "unit": "a"}}}]},
        "a patient that is none": lambda it: {"patient": it.word()}, "a patient that can't be": lambda it: {"patient": f"{it.word()} {it.word()}"}, "no JSON": lambda it: f'{{"inputs": {{"{it.word()}"',
        "a list": lambda it: [it.word()], "a key twice": lambda it: f'{{"model": "{it.word()}", "model": "{it.word()}"}}', "a moment that is none": lambda it: {"patient": "ann", "asOf": f"{it.date()}T{it.word()}"},
        "a moment long ago": lambda it: {"patient": "ann", "asOf": it.date()}, "persist": lambda it: {"patient": "ann", "persist": it.word()},
    }
    for name, make in more.items():
        phi = Phi(f"predict {name}")
        ask(phi.request, "POST", "/predict", text_of(make(phi)), PLAIN)
    phi = Phi("predict in XML")
    ask(phi.request, "POST", "/predict", f"<{phi.word()}/>", XML)
    for code, unit in (("2160-0", "mg/dL"), ("2160-0", "kg"), ("1742-6", "U/L"), ("1920-8", "U/L"), ("777-3", "10*9/L"), ("8867-4", "/min"), ("9279-1", "/min"), ("2708-6", "%"), ("8310-5", "Cel")):
        for sign in (1, -1, 1e9):
            phi = Phi(f"stored {code} {unit} {sign}")
            value = phi.measured() if sign != 1e9 else int(phi.digits())
            ask(phi.request, "POST", "/fhir/Observation", phi.observation("ann", code, value * (-1 if sign == -1 else 1), unit))
    for n in range(3):
        phi = Phi(f"a birth that is strange, {n}")
        more = [{"birthDate": phi.date()}, {"deceasedDateTime": phi.date()}, {"gender": "unknown"}][n]
        ask(phi.request, "PUT", "/fhir/Patient/ben", phi.patient("ben", **more))
        ask("asks", "GET", "/fhir/Patient/ben/$assess-risk")
    time.sleep(1)
    found = ask("asks", "GET", "/fhir/RiskAssessment?patient=ann,ben&_count=100").json
    for one in found.get("entry", [])[:3]:
        ask("asks", "POST", f"/fhir/RiskAssessment/{one['resource']['id']}/$replay", {"resourceType": "Parameters"})
        ask("asks", "GET", f"/predictions/{one['resource']['id']}")
    if not found.get("entry"):
        UNREACHED.append("no RiskAssessment to be replayed")


def addresses():
    """Wrong ones, wrong methods, wrong headers, and what is no HTTP."""
    for path in ("/{w}", "/fhir/{w}", "/fhir/{w}/{w}", "/fhir/Patient/{w}", "/fhir/Patient/{w}%20{w}", "/fhir/Patient/ann/{w}", "/fhir/Patient/ann/_history/{w}", "/fhir/Patient/{w}/_history",
                 "/fhir/Patient/{w}/_history/1", "/fhir/Patient/ann/{w}/{w}", "/predictions/{w}", "/predictions?patient={w}%20&model={w}&_count={w}", "/predictions?{w}={w}", "/models/{w}", "/models/{w}/activate",
                 "/fhir/metadata?mode={w}", "/fhir//Patient/{w}", "/fhir/Patient/..%2f{w}", "/fhir/Patient/%zz{w}", "/fhir/Patient/%ff{w}", "/oauth/{w}", "/.well-known/{w}", "/fhir/.well-known/{w}", "/docs/{w}",
                 "/health/{w}", "/metrics/{w}", "/fhir/Patient/" + "{w}" * 20, "/fhir/Patient/ann?_format={w}", "/fhir/Binary/{w}", "/fhir/Patient/{n}", "/fhir/Patient/{d}", "/fhir/Patient/ann/_history/{n}"):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "{w}"):
            phi = Phi(f"{method} {path[:60]}")

            def fill(text, phi=phi):
                return re.sub(r"\{.\}", lambda it: {"w": phi.word, "n": phi.digits, "d": phi.date}[it[0][1]](), text)

            body = {"resourceType": "Patient", "id": "x", "name": [{"family": phi.word()}]} if method in ("POST", "PUT", "PATCH") else None
            ask(phi.request, fill(method).upper(), fill(path), body)
    for name in ("Content-Type", "Accept", "Prefer", "X-Request-Id", "Host", "Origin", "User-Agent", "Referer", "Cookie", "X-Forwarded-For", "Forwarded", "Traceparent", "X-Provenance",
                 "Content-Encoding", "Accept-Encoding", "Accept-Language", "If-Match", "If-None-Match", "If-Modified-Since", "If-None-Exist", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Connection", "Range",
                 "Access-Control-Request-Method", "X-Forwarded-Host", "X-HTTP-Method-Override"):
        for text in ("{}", "application/{}", "http://{}.example", "a {}", "{}=1; browser={}"):
            # What is well formed as an id of a request is one, and is told.
            if name == "Content-Length" and text != "{}" or name == "X-Request-Id" and " " not in text:
                continue
            phi = Phi(f"{name}: {text}")
            value = re.sub(r"\{\}", lambda _, phi=phi: phi.word(), text)
            with suppress(ConnectionError, TimeoutError):
                ask(phi.request, "POST", "/fhir/Patient", phi.patient(), **{name.replace("-", "_"): value})
            if name not in ("Content-Length", "Transfer-Encoding", "Expect"):
                ask(phi.request, "GET", f"/fhir/Patient?name={phi.word()}", **{name.replace("-", "_"): value})
    head = f"Host: {ADDRESS}\r\nAuthorization: Bearer {KEY}\r\n"
    for name, make in {
        "a line that is none": lambda it: f"{it.word()} {it.word()} {it.word()}\r\n\r\n", "a version that is none": lambda it: f"GET /{it.word()} HTTP/{it.word()}\r\n\r\n",
        "a header that is none": lambda it: f"GET /fhir/Patient?name={it.word()} HTTP/1.1\r\n{head}{it.word()} {it.word()}\r\n\r\n", "spaces in an address": lambda it: f"GET /fhir/Patient?name={it.word()} {it.word()} HTTP/1.1\r\n{head}\r\n",
        "chunks that are none": lambda it: f"POST /fhir/Patient HTTP/1.1\r\n{head}Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n{it.word()}\r\n{it.word()}\r\n",
        "half a chunk": lambda it: f"POST /fhir/Patient HTTP/1.1\r\n{head}Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{{\"{it.word()}\"",
        "half a body": lambda it: f'POST /fhir/Patient HTTP/1.1\r\n{head}Content-Type: {JSON}\r\nContent-Length: 999\r\n\r\n{{"name": "{it.word()}',
        "a length that is none": lambda it: f"POST /fhir/{it.word()} HTTP/1.1\r\n{head}Content-Length: {it.word()}\r\n\r\n{it.word()}", "a header too long": lambda it: f"GET / HTTP/1.1\r\n{head}X: {it.word() * 20000}\r\n\r\n",
        "an address too long": lambda it: f"GET /fhir/Patient?name={it.word() * 20000} HTTP/1.1\r\n{head}\r\n", "HTTP/2": lambda it: f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{it.word()}", "NUL": lambda it: f"GET /fhir/{it.word()}\0 HTTP/1.1\r\n{head}\r\n",
        "no end": lambda it: f"GET /fhir/Patient?name={it.word()} HTTP/1.1\r\n{head}X: {it.word()}", "another one behind": lambda it: f"GET /fhir/Patient?name={it.word()} HTTP/1.1\r\n{head}\r\n{it.word()}",
        "TLS": lambda it: f"\x16\x03\x01\x00\xff\x01{it.word()}", "two lengths": lambda it: f"POST /fhir/Patient HTTP/1.1\r\n{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{it.word()}",
    }.items():
        raw(f"no HTTP: {name}", make(Phi(f"no HTTP: {name}")).encode("latin-1"))
    phi = Phi("a huge body")
    ask(phi.request, "POST", "/fhir/Patient", (f'{{"resourceType": "Patient", "name": [{{"family": "{phi.word()}' + "x" * (64 << 20)).encode())
    phi = Phi("a huge body of a form")
    ask(phi.request, "POST", "/fhir/Patient/_search", f"name={phi.word()}" + "x" * (2 << 20), FORM)
    phi = Phi("many values")
    ask(phi.request, "POST", "/fhir/Patient", '{"resourceType": "Patient", "name": [' + '{},' * 2_000_100 + f'"{phi.word()}"]}}')
    phi = Phi("a packed body that is none")
    ask(phi.request, "POST", "/fhir/Patient", gzip.compress(json.dumps(phi.patient()).encode())[:-20], Content_Encoding="gzip")
    ask(phi.request, "POST", "/fhir/Patient", json.dumps(phi.patient()), Content_Encoding="gzip")


def wrong_keys():
    """Tokens and keys where they belong, and where they don't: none of them is in anything."""
    good = KEY
    for name, make in {
        "unknown": lambda: secret("an unknown key"), "as a JWT": lambda: secret("an unknown JWT", jwt.encode({"iss": "x", "sub": secret("a claim")}, "k" * 64, "HS256")), "like ours": lambda: secret("a key like ours", good[:-6] + "".join(CHANCE.choices(LETTERS, k=6))),
        "of the other server": lambda: secret("another's JWT", jwt.encode({"iss": f"http://{OTHER}", "jti": secret("another's jti")}, ec.generate_private_key(ec.SECP384R1()), "ES384", {"kid": "k"})), "too long": lambda: secret("a long key", secret("part") * 60),
    }.items():
        for scheme in ("Bearer {}", "bearer {}", "Basic {}", "{}", "Token {}", "Bearer {} x", "Negotiate {}", "Bearer\t{}"):
            value = scheme.format(make())
            for method, path, body in (("GET", "/fhir/Patient/ann", None), ("POST", "/fhir", bundle("batch", entry("GET", "Patient/ann"))), ("POST", "/predict", {}), ("POST", "/oauth/introspect", None), ("POST", "/oauth/launch", {}), ("GET", "/metrics", None)):
                ask(f"key {name}, {scheme}", method, path, body, key=False, Authorization=value)
    user = secret("a name of Basic") + ":" + secret("a password of Basic")
    ask("Basic", "GET", "/fhir/Patient/ann", key=False, Authorization="Basic " + base64.b64encode(user.encode()).decode())
    for name in ("access_token", "access%5Ftoken", "%61ccess_token", "Access_Token", "client_secret", "code_verifier", "client_assertion", "refresh_token", "token", "id_token", "api_key", "apikey", "password"):
        for key in (False, True):
            value = secret(f"{name} in an address")
            ask(f"?{name}", "GET", f"/fhir/Patient?{name}={value}", key=key)
            ask(f"?{name} with others", "GET", f"/fhir/Patient/ann?_format=json&{name}={value}&_summary=text", key=key)
            ask(f"?{name} in a form", "POST", "/fhir/Patient/_search", f"_id=ann&{name}={secret(f'{name} in a form')}", FORM, key=key)
            ask(f"?{name} in a history", "GET", f"/fhir/_history?_count=1&{name}={secret(f'{name} in a history')}", key=key)
            ask(f"?{name} at an operation", "GET", f"/fhir/Patient/ann/$everything?_count=1&{name}={secret(f'{name} at an operation')}", key=key)
            ask(f"?{name} of a type that is none", "GET", f"/fhir/Nothing?{name}={secret(f'{name} at no type')}", key=key)
            ask(f"?{name} at no address", "GET", f"/nothing?{name}={secret(f'{name} at no address')}", key=key)
        ask(f"?{name} in a batch", "POST", "/fhir", bundle("batch", entry("GET", f"Patient?_id=ann&{name}={secret(f'{name} in a batch')}"), entry("GET", f"Patient/ann?{name}={secret(f'{name} in a batch, of one')}"), entry("DELETE", f"Basic?_id=x&{name}={secret(f'{name} in a batch, deleting')}")))
        ask(f"?{name} in a condition", "POST", "/fhir/Basic", {"resourceType": "Basic", "code": {"text": "x"}}, If_None_Exist=f"_id=x&{name}={secret(f'{name} in a condition')}")
        ask(f"?{name} in a transaction", "POST", "/fhir", bundle("transaction", entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": "x"}}, ifNoneExist=f"_id=x&{name}={secret(f'{name} in a transaction')}")))
    ask("the key in an address", "GET", f"/fhir/Patient?access_token={good}", key=False)
    ask("the key in a form", "POST", "/fhir/Patient/_search", urlencode({"access_token": good, "_id": "ann"}), FORM, key=False)
    ask("a key that was ended", "GET", "/fhir/Patient/ann", key=False, Authorization=f"Bearer {ENDED}")
    ask("a key that may little", "GET", "/fhir/Patient/ann", key=False, Authorization=f"Bearer {LITTLE}")
    ask("a key that may little", "POST", "/fhir", bundle("transaction", entry("PUT", "Patient/ann", Phi("a key that may little").patient("ann"))), key=False, Authorization=f"Bearer {LITTLE}")


# Signing in.
class Browser:
    def __init__(self):
        self.cookies = {}
        self.page = None

    def go(self, name, method, path, pairs=None):
        cookies = "; ".join(f"{one}={value}" for one, value in self.cookies.items())
        body = urlencode(pairs) if pairs is not None else None
        page = ask(name, method, path, body, FORM, key=False, **({"Cookie": cookies} if cookies else {}))
        for one, value in page.headers:
            if one.lower() == "set-cookie":
                title, _, rest = value.partition("=")
                self.cookies[title] = rest.split(";")[0]
                if len(self.cookies[title]) > 20:
                    secret(f"the cookie {title}", self.cookies[title])
        self.page = page
        return page

    def submit(self, name, path, *pairs):
        hidden = [(one, re.search(rf'name="{one}" value="([^"]*)"', self.page.text)) for one in ("request", "csrf")]
        return self.go(name, "POST", path, [(one, html.unescape(found[1]) if found else "") for one, found in hidden] + list(pairs))

    def follow(self, name):
        while self.page.status == 303 and self.page.header("location").startswith("/"):
            self.go(name, "GET", self.page.header("location"))
        return self.page


VERIFIER = secret("the code_verifier")
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


def totp(shared, step=0):
    mac = hmac.digest(base64.b32decode(shared + "=" * (-len(shared) % 8)), (int(time.time()) // 30 + step).to_bytes(8, "big"), "sha1")
    at = mac[19] & 15
    return f"{(int.from_bytes(mac[at: at + 4], 'big') & 0x7FFFFFFF) % 1000000:06}"


def question(client, scopes, **more):
    return "/oauth/authorize?" + urlencode({
        "response_type": "code", "client_id": client, "redirect_uri": CALLBACK, "scope": scopes, "state": secret("the state"), "aud": f"http://{ADDRESS}/fhir",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256", **more})


def token(name, pairs, **headers):
    return ask(name, "POST", "/oauth/token", urlencode(pairs), FORM, key=False, **headers)


def basic(client, password):
    return "Basic " + base64.b64encode(f"{client}:{password}".encode()).decode()


# What an answer has to hold: where it is issued.
ISSUED: dict[str, set] = {}


def given(answer):
    """The tokens of an answer, which from now on are in no other."""
    for name in ("access_token", "refresh_token", "id_token"):
        if answer.status == 200 and name in answer.json:
            ISSUED.setdefault(secret(f"an issued {name}", answer.json[name]), set()).add(answer.name)
    return answer.json


def smart(client, hidden, private):
    password, shared = PASSWORD, SHARED
    scope = "launch/patient openid fhirUser patient/*.rs offline_access"

    def allowed(name, scope=scope, of=client):
        """A code, got by all the pages."""
        browser = Browser()
        browser.go(name, "GET", question(of, scope))
        browser.follow(name)
        code = secret("a TOTP code", totp(shared, allowed.step))
        allowed.step += 1
        browser.submit(name, "/oauth/sign-in", ("login", "carol"), ("password", password), ("code", code))
        assert browser.page.status == 303, (browser.page.status, browser.page.text)
        browser.follow(name)
        phi = Phi(name)
        if 'action="/oauth/patient"' in browser.page.text:
            for sought in (phi.word(), phi.date(), phi.digits(), f"{phi.word()} {phi.word()}|$"):
                browser.submit(name, "/oauth/patient", ("q", sought))
            browser.submit(name, "/oauth/patient", ("patient", phi.word()))
            browser.go(name, "GET", question(of, scope))
            browser.follow(name)
            browser.submit(name, "/oauth/patient", ("patient", "ann"))
            browser.follow(name)
        boxes = re.findall(r'type="checkbox" name="scope" value="([^"]*)"', browser.page.text)
        browser.submit(name, "/oauth/consent", *[("scope", html.unescape(box)) for box in boxes], ("decision", "allow"))
        found = parse_qs(urlsplit(browser.page.header("location")).query).get("code")
        assert found, browser.page
        ISSUED.setdefault(secret("an issued code", found[0]), set()).add(name)
        return found[0], browser

    allowed.step = -1
    # Signing in goes wrong.
    for n, (login, tried, code) in enumerate([
        ("carol", secret("a wrong password"), ""), ("carol", password, secret("a wrong TOTP code", "730274")), ("carol", password, ""), ("nobody", secret("nobody's password"), "190382"),
        ("kq7-a-login-like-a-password", secret("a wrong password"), "x")]):
        browser = Browser()
        browser.go(f"sign-in {n}", "GET", "/oauth/manage")
        browser.submit(f"sign-in {n}", "/oauth/sign-in", ("login", login), ("password", tried), ("code", code))
        assert browser.page.status == 200, browser.page
    for n in range(25):
        browser.submit("sign-in too often", "/oauth/sign-in", ("login", "many"), ("password", secret("one of many passwords")))
        if browser.page.status == 429:
            break
        browser.go("sign-in too often", "GET", "/oauth/manage")
    else:
        UNREACHED.append("429 of sign-in")
    for name, pairs in {"no csrf": [("login", "carol"), ("password", secret("a password without csrf"))], "a wrong csrf": [("csrf", secret("a csrf")), ("request", secret("a request")), ("password", secret("a password with a csrf"))]}.items():
        Browser().go(f"sign-in {name}", "POST", "/oauth/sign-in", pairs)
    ask("sign-in in JSON", "POST", "/oauth/sign-in", {"login": "carol", "password": secret("a password in JSON")}, PLAIN, key=False)
    ask("sign-in by GET", "GET", f"/oauth/sign-in?login=carol&password={secret('a password in an address')}", key=False)
    augury("user", "unlock", "carol")

    code, browser = allowed("the flow")
    pairs = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "client_id": client, "code_verifier": VERIFIER}
    token("wrong verifier", pairs | {"code_verifier": secret("a wrong verifier")})
    token("wrong redirect", pairs | {"redirect_uri": f"https://{Phi('wrong redirect').word()}.example"})
    token("wrong code", pairs | {"code": secret("a wrong code")})
    token("wrong client", pairs | {"client_id": secret("a client that is none")})
    token("wrong grant", pairs | {"grant_type": secret("a grant type")})
    ask("a token's form in JSON", "POST", "/oauth/token", pairs, PLAIN, key=False)
    ask("a token by GET", "GET", "/oauth/token?" + urlencode(pairs | {"code": secret("a code in an address")}), key=False)
    got = given(token("redeemed", pairs))
    access, refresh = got["access_token"], got.get("refresh_token")
    for path in ("/fhir/Patient/ann", "/fhir/Patient/ben", "/fhir/Patient?name=x"):
        ask("with a token", "GET", path, key=False, Authorization=f"Bearer {access}")
    ask("with a token", "POST", "/fhir/Patient", Phi("with a token").patient(), key=False, Authorization=f"Bearer {access}")
    ask("a token in an address", "GET", f"/fhir/Patient/ann?access_token={access}", key=False)
    if refresh:
        token("wrong refresh", {"grant_type": "refresh_token", "refresh_token": secret("a wrong refresh token"), "client_id": client})
        token("refresh of more", {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": client, "scope": "system/*.cruds"})
        given(token("refreshed", {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": client}))
    else:
        UNREACHED.append("a refresh token")
    ask("introspected", "POST", "/oauth/introspect", urlencode({"token": access}), FORM)
    for what in ("", secret("an unknown token at introspection")):
        ask("introspected in vain", "POST", "/oauth/introspect", urlencode({"token": what}), FORM)
        ask("introspected by nobody", "POST", "/oauth/introspect", urlencode({"token": access, "client_id": client, "client_secret": secret("a secret at introspection")}), FORM, key=False)
    ask("revoked", "POST", "/oauth/revoke", urlencode({"token": access, "client_id": client}), FORM, key=False)
    ask("revoked by another", "POST", "/oauth/revoke", urlencode({"token": secret("an unknown token at revocation"), "client_id": "x", "client_secret": secret("a secret at revocation")}), FORM, key=False)
    ask("with an ended token", "GET", "/fhir/Patient/ann", key=False, Authorization=f"Bearer {access}")
    token("a code twice", pairs)

    # An app with a secret.
    augury("user", "totp", "carol", "--off")
    browser.go("manage", "GET", "/oauth/manage")
    code, browser = allowed("the flow with a secret", of=hidden[0])
    pairs = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    token("a wrong secret", pairs, Authorization=basic(hidden[0], secret("a wrong client secret")))
    token("a wrong secret in the form", pairs | {"client_id": hidden[0], "client_secret": secret("a wrong client secret in a form")})
    token("a secret twice", pairs | {"client_id": hidden[0], "client_secret": hidden[1]}, Authorization=basic(hidden[0], hidden[1]))
    token("a secret in an address", pairs)
    ask("a secret in an address", "POST", f"/oauth/token?client_secret={hidden[1]}", urlencode(pairs), FORM, key=False)
    given(token("redeemed with a secret", pairs, Authorization=basic(*hidden)))
    browser.go("manage", "GET", "/oauth/manage")
    browser.submit("manage", "/oauth/manage", ("grant", secret("a grant")))
    browser.submit("signed out", "/oauth/sign-out")

    # Assertions.
    def assertion(what="an assertion", key=private[1], **more):
        claims = {"iss": private[0], "sub": private[0], "aud": f"http://{ADDRESS}/oauth/token", "exp": int(time.time()) + 200, "jti": secret("a jti"), **more}
        return secret(what, jwt.encode(claims, key, "ES384", {"kid": "k1"}))

    def told(name, one):
        return token(name, {"grant_type": "client_credentials", "scope": "system/*.rs augury/launch", "client_assertion": one,
                            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"})

    good = assertion()
    told_once = given(told("asserted", good))
    told("asserted twice", good)
    for name, one in {"expired": assertion(exp=1), "for another": assertion(aud=f"http://{secret('an audience')}"), "of another": assertion(iss=secret("an issuer")), "of another key": assertion(key=ec.generate_private_key(ec.SECP384R1())), "no JWT": secret("no assertion")}.items():
        told(f"asserted, {name}", one)

    # Questions that are wrong, apps that register, EHRs that open apps.
    for name in ("client_id", "redirect_uri", "scope", "aud", "code_challenge", "code_challenge_method", "response_type", "prompt", "max_age", "id_token_hint", "login_hint", "launch", "request", "request_uri", "nonce"):
        for method in ("GET", "POST"):
            phi = Phi(f"{method} authorize with {name}")
            path, _, query = question(client, "launch openid patient/*.rs", **{name: f"{phi.word()} {phi.digits()}"}).partition("?")
            Browser().go(phi.request, method, f"{path}?{query}" if method == "GET" else path, None if method == "GET" else [(one, value[0]) for one, value in parse_qs(query).items()])
    Browser().go("consent of nothing", "GET", f"/oauth/consent?request={secret('a sealed request')}")
    phi = Phi("registered")
    for name, body in {"well": {"client_name": "App", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_basic"}, "wrongly": {"client_name": phi.word(), "redirect_uris": [f"{phi.word()} x"]}, "with keys": {"redirect_uris": [CALLBACK], "jwks": {"keys": [{"kty": phi.word(), "d": secret("a private key")}]}, "token_endpoint_auth_method": "private_key_jwt"}}.items():
        answer = ask(f"registered {name}", "POST", "/oauth/register", body, PLAIN, key=False)
        if answer.status == 201 and "client_secret" in answer.json:
            ISSUED.setdefault(secret("a registered secret", answer.json["client_secret"]), set()).add(answer.name)
    ask("registered", "POST", "/oauth/register", f'{{"client_name": "{phi.word()}', PLAIN, key=False)
    phi = Phi("launched")
    ehr = f"Bearer {told_once['access_token']}"
    opened = ask("launched", "POST", "/oauth/launch", {"client_id": client, "patient": "ann", "intent": phi.word()}, PLAIN, key=False, Authorization=ehr)
    if opened.status == 201:
        ISSUED.setdefault(secret("a launch", opened.json["launch"]), set()).add("launched")
        Browser().go("launched", "GET", question(client, "launch openid patient/*.rs", launch=opened.json["launch"]))
        Browser().go("launched wrongly", "GET", question(client, "launch openid patient/*.rs", launch=secret("a wrong launch")))
    else:
        UNREACHED.append(f"a launch: {opened.status} {opened.text}")
    for name, body in {"patient": {"client_id": client, "patient": f"{phi.word()} {phi.word()}"}, "unknown": {"client_id": client, "patient": phi.word()}, "member": {"client_id": client, phi.word(): phi.word()}, "type": {"client_id": client, "patient": {phi.word(): phi.word()}}, "user": {"client_id": client, "user": phi.word()}, "context": {"client_id": client, "patient": "ann", "fhirContext": [phi.word()]}, "boolean": {"client_id": client, "need_patient_banner": phi.word()}, "client": {"client_id": phi.word()}, "list": [phi.word()]}.items():
        ask("launched", "POST", "/oauth/launch", body, PLAIN, key=False, Authorization=ehr)
    ask("launched", "POST", "/oauth/launch", f'{{"client_id": "{phi.word()}', PLAIN, key=False, Authorization=ehr)

    # The other provider.
    browser = Browser()
    page = browser.go("upstream", "GET", "/oauth/manage")
    browser.go("upstream", "GET", "/oauth/upstream")
    state = parse_qs(urlsplit(browser.page.header("location")).query).get("state")
    if state:
        browser.go("upstream", "GET", "/oauth/upstream/callback?" + urlencode({"code": secret("an upstream code"), "state": state[0]}))
        browser.go("upstream denied", "GET", "/oauth/upstream/callback?" + urlencode({"error": secret("an upstream error"), "state": state[0]}))
        browser.go("upstream wrong", "GET", "/oauth/upstream/callback?" + urlencode({"code": secret("another upstream code"), "state": secret("a state")}))
    else:
        UNREACHED.append(f"another provider: {browser.page.status} {browser.page.text[:200]}")


def command_line():
    folder = FOLDER / "files"
    folder.mkdir()
    for command in ("validate", "import", "score"):
        here = folder / command
        here.mkdir()
        lines = []
        for n, (name, make) in enumerate(faults()):
            phi = Phi(f"{command}: {name}")
            text = text_of(make(phi))
            (here / f"{n:03}.json").write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
            phi = Phi(f"{command}, a line: {name}")
            text = text_of(make(phi))
            lines.append(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
        (here / "all.ndjson").write_bytes(b"\n".join(line.replace(b"\n", b" ") for line in lines))
        phi = Phi(f"{command}: good")
        whole = [phi.patient("fay"), phi.observation("fay"), phi.observation("fay", value=int(phi.digits())), phi.observation("fay", unit=phi.word())]
        (here / "good.json").write_text(json.dumps(bundle("collection", *({"resource": one} for one in whole))))
        augury(command, str(here), *(["--strict"] if command == "validate" else []), right=False, with_={"LOG": "trace"})
    phi = Phi("arguments")
    augury("score", "--as-of", phi.word(), str(folder / "score" / "good.json"), right=False)
    # The settings: those that are secret are nobody's business, whatever is wrong with them.
    hidden = secret("a password of the database")
    augury("migrate", right=False, with_={"DATABASE_URL": f"postgres://augury:{hidden}@127.0.0.1:1/none"})
    augury("migrate", right=False, with_={"DATABASE_URL": f"mysql://augury:{hidden}@127.0.0.1:1/none"})
    augury("migrate", right=False, with_={"DATABASE_URL": f"postgres://augury:{hidden}@[::zz/none?x={secret('a parameter of the database')}"})
    augury("client", "list", right=False, with_={"SECRET": secret("a short secret", "kzq7short")})
    augury("client", "list", right=False, with_={"SECRT": secret("a misspelled secret")})
    augury("client", "list", right=False, with_={"OIDC_CLIENT_SECRET": secret("a client secret without an issuer")})
    augury("client", "list", right=False, with_={"SECRET_FILE": f"/nowhere/{'x' * 9}"})
    for n, text in enumerate(('secret = "{}', 'secret = {}', "secret = '''{}", 'secret = ["{}"]', '[secret]\nx = "{}"', 'oidc_client_secret = "{}" x', 'secrets = "{}"', 'secret = "x{}"\nsecret = "{}"', "{}")):
        (FOLDER / "settings.toml").write_text(text.replace("{}", secret(f"a secret in settings, {n}")))
        augury("--config", str(FOLDER / "settings.toml"), "client", "list", right=False)
    augury("user", "add", "short", "--role", "admin", typed=secret("a short password", "kzq7pwd"), right=False)
    augury("user", "add", "carol", "--role", "clinician", typed=secret("a password of who is there"), right=False)
    augury("user", "password", "carol", typed=secret("another password"))
    augury("user", "password", "nobody", typed=secret("a password of nobody"), right=False)
    augury("client", "add", "x", "--jwks", str(FOLDER / "settings.toml"), right=False)
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1())))
    secret("a private key by mistake", private["d"])
    (FOLDER / "private.jwks").write_text(json.dumps({"keys": [private | {"kid": "p"}]}))
    augury("client", "add", "private", "--jwks", str(FOLDER / "private.jwks"), right=False)
    for command in (("client", "list"), ("user", "list"), ("audit", "verify"), ("audit", "key"), ("models", "list")):
        augury(*command)


def trail():
    events, path = [], "/fhir/AuditEvent?_count=500&_sort=_id"
    while path:
        answer = ask("the trail", "GET", path).json
        events += [one["resource"] for one in answer.get("entry", [])]
        after = next((urlsplit(one["url"]) for one in answer["link"] if one["relation"] == "next"), None)
        path = f"{after.path}?{after.query}" if after else None
    return events


class Told(NamedTuple):
    """All that was said."""
    log: str
    open: dict
    events: list
    files: dict


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    global FOLDER, ADDRESS, OTHER, DATABASE, SECRET, KEY, ENDED, LITTLE, PASSWORD, SHARED, PROVIDED
    FOLDER, ADDRESS, SECRET, PASSWORD = tmp_path_factory.mktemp("no-phi"), free(), secret("AUGURY_SECRET"), secret("the password")
    PROVIDED = base64.urlsafe_b64encode(json.dumps({"alg": "ES384", "kid": secret("a kid")}).encode()).decode().rstrip("=")
    given_url = os.environ.get("AUGURY_DATABASE_URL", "sqlite:")
    if given_url.startswith("postgres"):
        base, own = given_url.rsplit("/", 1)[0], f"no_phi_{os.getpid()}"
        subprocess.run([tool("psql"), given_url, "-qc", f"create database {own}"], check=True)
        DATABASE = f"{base}/{own}"
    else:
        DATABASE = f"sqlite:{FOLDER}/augury.db"
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    OTHER = f"127.0.0.1:{provider.server_port}"
    server = None
    try:
        KEY = secret("the API key", augury("client", "add", "story")["key"])
        LITTLE = secret("an API key that may little", augury("client", "add", "little", "--scope", "system/Basic.rs")["key"])
        ended = augury("client", "add", "ended")
        ENDED = secret("an API key that was ended", ended["key"])
        augury("client", "revoke", ended["id"])
        app = augury("client", "add", "app", "--public", "--redirect", CALLBACK)["id"]
        hidden = augury("client", "add", "hidden", "--secret", "--redirect", CALLBACK)
        key = ec.generate_private_key(ec.SECP384R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
        (FOLDER / "public.jwks").write_text(json.dumps({"keys": [public | {"kid": "k1", "alg": "ES384"}]}))
        service = augury("client", "add", "service", "--jwks", str(FOLDER / "public.jwks"), "--scope", "system/*.rs augury/launch")["id"]
        augury("user", "add", "carol", "--role", "clinician", "--fhir-user", "Practitioner/d", typed=PASSWORD)
        SHARED = secret("the secret of TOTP", re.search(r"secret=([A-Z2-7]+)", " ".join(augury("user", "totp", "carol"))
                                                         + PRINTED[-1][2])[1])
        issued = len(PRINTED)
        server = start(
            AUTH="required", RATE_ANONYMOUS="none", OIDC_ISSUER=f"http://{OTHER}", OIDC_CLIENT_ID="augury", OIDC_CLIENT_SECRET=secret("our secret at the provider"),
            TOKEN_ISSUER=f"http://{OTHER}", TOKEN_INTROSPECTION=f"http://{OTHER}/i", TOKEN_CLIENT_ID="augury", TOKEN_CLIENT_SECRET=secret("our secret at introspection"))
        changing()
        refused_resources()
        refused_changes()
        searches()
        operations()
        scoring()
        addresses()
        wrong_keys()
        smart(app, (hidden["id"], secret("a client secret", hidden["secret"])), (service, key))
        command_line()
        del PRINTED[:issued]
        public_pages = {path: ask("open", "GET", path).text for path in ("/metrics", "/health", "/health/ready", "/health/live")}
        stop(server)
        # Once more, as JSON, and with little patience.
        server = start(AUTH="required", RATE_ANONYMOUS="20/hour", RATE_CLIENT="200/hour", LOG_FORMAT="json")
        for n in range(30):
            phi = Phi(f"too often, {n}")
            ask(phi.request, "GET", f"/fhir/Patient?name={phi.word()}&birthdate={phi.date()}", key=False, Authorization=f"Bearer {secret('a key that comes too often')}")
        for name, make in list(faults())[::4]:
            phi = Phi(f"with another log: {name}")
            ask(phi.request, "POST", "/fhir/Patient", text_of(make(phi)))
        events = trail()
        public_pages |= {f"{path} again": ask("open", "GET", path).text for path in ("/metrics", "/health")}
        stop(server)
        server = None
        if DATABASE.startswith("sqlite:"):
            files = {one.name: one.read_bytes() for one in FOLDER.glob("augury.db*")}
        else:
            files = {"a dump": subprocess.run([tool("pg_dump"), DATABASE], check=True, capture_output=True).stdout}
        yield Told((FOLDER / "log").read_bytes().decode("latin-1"), public_pages, events, files)
    finally:
        if server and server.poll() is None:
            server.kill()
            server.wait()
        provider.shutdown()
        if DATABASE.startswith("postgres"):
            subprocess.run([tool("psql"), given_url, "-qc", f"drop database if exists {own} with (force)"], check=True)


def bare(log):
    """Without the times of lines, whose digits could be a code's, without lines that say nothing, and without what the HTTP
    library says at `debug` of two headers that frame a request."""
    log = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", log)
    log = re.sub(r'illegal (Content-Length|Transfer-Encoding): "[^"\n]*"', "", log)
    return "\n".join(dict.fromkeys(re.sub(r"\d+\.\d+ (milli|micro)?seconds", "", log).splitlines()))


lowered = functools.lru_cache(maxsize=2)(str.lower)


def where(text, value):
    at = lowered(text).find(value.lower())
    return text[max(0, at - 120): at + 60] if at >= 0 else "(encoded)"


def shown(found, text):
    return sorted((WHOSE.get(one, "?"), one, where(text, one)) for one in found)


def of_secrets(found, text):
    return sorted((what, where(text, value)) for what, value in found)


def test_what_is_hidden_is_found():
    """Whatever it is written as; else the rest says nothing."""
    phi = Phi("a test")
    word, day, digits, value, key = phi.word(), phi.date(), phi.digits(), phi.measured(), secret("a test's")
    for plain in (word, day, digits, str(value)):
        text = f"it is {plain}, they say"
        ways = [text, text.upper(), text.lower(), quote(text), text.encode().hex(), json.dumps(list(text.encode())), "".join(f"\\u{ord(one):04x}" for one in text), "".join(f"&#{ord(one)};" for one in text)]
        ways += [base64.b64encode((pad + text).encode()).decode() for pad in ("", ".", "..")] + [base64.urlsafe_b64encode((pad + text).encode()).decode().rstrip("=") for pad in ("é", "~~~")]
        for way in ways:
            assert markers(f"log: {way} end") == {plain.lower()}, way
    assert markers(day.replace("-", "")) == markers(moments(day)[2]) == {day}
    assert markers(f"…{word[:11]}…") == {word.lower()}
    assert markers("2026-11-28T02:08:00.840849Z zqxv") == set()
    for way in (key, quote(f"{key} "), base64.b64encode(f"x:{key}".encode()).decode(), key.encode().hex()):
        assert [what for what, _ in secrets(way)] == ["a test's"]
    del SECRETS[key], OURS[key[:16].lower()]


def test_all_was_reached(told):
    assert UNREACHED == []
    assert len(ANSWERS) > 2000 and len(told.events) > 1000
    assert [one for one in ANSWERS if one.status >= 500 and one.status not in (501, 503)] == []
    assert "panicked" not in told.log
    assert {200, 201, 204, 303, 400, 401, 403, 404, 405, 406, 410, 412, 413, 415, 422, 429} - {one.status for one in ANSWERS} == set()


def test_the_log_knows_nobody(told):
    assert "TRACE" in told.log and "augury::http::telemetry" in told.log
    assert shown(markers(bare(told.log)), told.log) == []


def test_the_log_holds_no_secret(told):
    assert of_secrets(secrets(bare(told.log)), told.log) == []


def test_what_operators_see_knows_nobody(told):
    for path, text in told.open.items():
        assert text, path
        assert (path, shown(markers(text), text), of_secrets(secrets(text), text)) == (path, [], [])


@functools.cache
def repeated():
    """All refusals, and what of patients they say."""
    return [(one, markers(one.all)) for one in ANSWERS if one.status >= 400 or one.status == 0]


def test_errors_are_of_their_request_alone(told):
    strange = {}
    for one, found in repeated():
        others = {value for value in found if WHOSE.get(value, one.name) != one.name}
        if others:
            strange[one.name, one.request] = shown(others, one.all)
    assert strange == {}


# Where a refusal says again what it was sent: names of elements, parameters and types, and ids; never a value.
AGAIN = [
    r'"expression":\["[^"]*$', r'<expression value="[^"]*$', r'"error":"[\w.\[\]…]*$', r'search parameter [^"]*$',
    r'(text":|text value=)"\S*$', r"there is no ValueSet \S*$", r"nothing contained has the id $", r"Content-Type [\w:/ ]*$", r"the path is no FHIRPath: $",
    r'"at":"[^"]*$', r"the body can't be read: unknown field `$", r"there is no element $",
    # A value, of who opens an app with a body of another shape.
    r"the body can't be read: invalid type: string \\\"$",
    r"(json|line \d+): [\w.\[\]…]*$", r"--as-of: `$",
]


def unlike_names(text):
    """Each place of a text that says a value again that is none of these."""
    text = re.sub(r"(?i)zqxv[a-z]+|77\d{15}|19[01]\d-?\d\d-?\d\d|\d\.\d{7}1", "…", text)
    places = [text[max(0, it.start() - 3000): it.start()] for it in re.finditer("…", text)]
    return [place for place in places if not any(re.search(known, place) for known in AGAIN)]


def test_errors_say_names_again_and_no_values(told):
    """More than is promised (SECURITY.md): a caller's own values would not be told to anybody else."""
    assert {(one.name, one.request): places for one, found in repeated() if found and (places := unlike_names(one.text))} == {}


def test_no_answer_holds_a_secret(told):
    """But that which issues it; none that is refused, and no page."""
    wrong = {}
    for one in [one for one in ANSWERS if one.status >= 400 or "/oauth" in one.request]:
        issued = {value for value, names in ISSUED.items() if one.name in names and one.status in (200, 201, 303)}
        cookies = " ".join(value for name, value in one.headers if name.lower() == "set-cookie")
        state = parse_qs(urlsplit(one.header("location")).query)
        issued |= {value for value, what in SECRETS.items() if value in cookies or what == "the state" and [value] == state.get("state")}
        found = secrets(one.all, issued)
        if found:
            wrong[one.name, one.request, one.status] = of_secrets(found, one.all)
    assert wrong == {}


def test_commands_tell_elements_and_no_values(told):
    for arguments, code, out, err in PRINTED:
        assert (arguments, unlike_names(err)) == (arguments, [])


def test_commands_print_no_secret(told):
    assert [(arguments, found) for arguments, _, out, err in PRINTED if (found := of_secrets(secrets(out + err), out + err))] == []


def decoded(event):
    return [base64.b64decode(one["query"]).decode() for one in event.get("entity", []) if "query" in one]


def test_events_tell_of_nobody_but_what_was_asked(told):
    """Values are in the queries of what was asked, and nowhere else; ids are ids."""
    asked, strange, texts = 0, {}, {}
    for event in told.events:
        plain = json.loads(json.dumps(event))
        for one in plain.get("entity", []):
            asked += "query" in one
            one.pop("query", None)
            one.get("what", {}).pop("reference", None)
        texts[event["id"]] = json.dumps(plain)
    if markers("\n".join(texts.values())):
        strange = {id: shown(found, text) for id, text in texts.items() if (found := markers(text))}
    assert strange == {} and asked > 500


def test_a_query_tells_what_was_asked(told):
    """It is what the trail is for, and seen there."""
    in_queries = markers("\n".join(query for event in told.events for query in decoded(event)))
    asked = {value for value, name in WHOSE.items() if name in ("search: Patient?name={w}", "search by POST: Patient?birthdate={d}")}
    assert asked and asked <= in_queries


def test_no_event_holds_a_secret(told):
    text = "\n".join(json.dumps(event) + " ".join(decoded(event)) for event in told.events)
    assert of_secrets(secrets(text), text) == []


def test_the_database_holds_no_secret(told):
    """Nor what it was before it was deleted."""
    assert told.files
    for name, data in told.files.items():
        # Codes of six digits are in any larger number.
        plain = data.decode("latin-1")
        ours = {OURS.get(one.lower()) for one in re.findall(r"(?i)qjx0[a-z0-9]{12}", plain)} - {None}
        ours |= {one for one in OTHERS if len(one) > 6 and any(way in plain for way in (one, one.encode().hex(), base64.b64encode(one.encode()).decode().rstrip("=")[:-1]))}
        held = {(SECRETS[value], where(plain, value)) for value in ours}
        assert (name, sorted(held)) == (name, [])
