"""Subscriptions with topics, against the examples and the profiles of the Subscriptions R5 Backport guide.

The guide's examples, those of its test kit and those of another server are held against the profiles, and the
Subscriptions and topics among them are sent to a server of ours, with endpoints here. What that server then tells,
in all three contents, is held against the same profiles, by the server's own validator too, and by fhir.resources
where that is installed. Arguments: the augury binary, the folder of the examples. Exits non-zero if anything is
other than expected."""

import copy
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import backport

try:
    from fhir.resources.R4B import get_fhir_model_class
except ImportError:
    get_fhir_model_class = None

IG = backport.IG
FHIR = "application/fhir+json"
TOPIC = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
DEFINITION = "http://hl7.org/fhir/StructureDefinition/"

# Examples that are not as the guide wants, and what of them.
WRONG = {
    "empty_notification_bundle_non_conformant_example.json": "no request and response",
    "Bundle-notification-handshake.json": "valueString",
    "Bundle-notification-id.json": "valueString",
    "Subscription-encounter-complete.json": "valueInteger",
}
# Subscriptions that are refused, and where.
REFUSED = {
    "Subscription-subscription-zulip.json": "Subscription.channel.type",
    "subscription_resource_example.json": "Subscription.channel.type",
    "Subscription-encounter-complete.json": "Subscription.channel.extension",
}
# Topics that the Subscriptions are about and nobody defines.
UNDEFINED = [
    "http://hl7.org/SubscriptionTopic/admission",
    "http://fhirserver.org/topics/patient-admission",
    "http://inferno.healthit.gov/suites/custom/subscriptions_r5_backport_r4_client/topics/patient-admission",
]
# What is done to a good notification, and has to be found.
MUTANTS = [
    ("a Bundle of another type", lambda b: b.update(type="collection")),
    ("no status", lambda b: b["entry"].pop(0)),
    ("two of them", lambda b: b["entry"].append(b["entry"][0])),
    ("no request", lambda b: b["entry"][1].pop("request")),
    ("no response", lambda b: b["entry"][0].pop("response")),
    ("not of $status", lambda b: b["entry"][0]["request"].update(url="Subscription/admission")),
    ("of another Subscription", lambda b: b["entry"][0]["request"].update(url="Subscription/other/$status")),
    ("no subscription", lambda b: said(b).pop(0)),
    ("subscription as a string", lambda b: said(b).__setitem__(0, {"name": "subscription", "valueString": "a"})),
    ("topic as an uri", lambda b: said(b)[1].update(valueUri=said(b)[1].pop("valueCanonical"))),
    ("topic twice", lambda b: said(b).append(said(b)[1])),
    ("status twice", lambda b: said(b).append(said(b)[2])),
    ("status of no code", lambda b: said(b)[2].update(valueCode="asleep")),
    ("no type", lambda b: said(b).pop(3)),
    ("type of no code", lambda b: said(b)[3].update(valueCode="event")),
    ("count as an integer", lambda b: said(b)[4].update(valueInteger=int(said(b)[4].pop("valueString")))),
    ("no parts", lambda b: said(b)[5].pop("part")),
    ("no event-number", lambda b: said(b)[5]["part"].pop(0)),
    ("event-number as an integer", lambda b: said(b)[5]["part"][0].update(valueInteger=int(said(b)[5]["part"][0].pop("valueString")))),
    ("timestamp as a dateTime", lambda b: said(b)[5]["part"][1].update(valueDateTime=said(b)[5]["part"][1].pop("valueInstant"))),
    ("two foci", lambda b: said(b)[5]["part"].append(said(b)[5]["part"][2])),
    ("focus as an uri", lambda b: said(b)[5]["part"][2].update(valueUri=said(b)[5]["part"][2].pop("valueReference")["reference"])),
]


def said(bundle):
    return bundle["entry"][0]["resource"]["parameter"]


def judge(guide, resource):
    """What the guide has against a resource of one of its kinds."""
    match resource["resourceType"], resource.get("type"):
        case "Subscription", _:
            return backport.of_subscription(guide, resource)
        case "Parameters", _:
            return backport.of_status(guide, resource)
        case "Bundle", "searchset":
            return backport.of_statuses(guide, resource)
        case "Bundle", _:
            return backport.of_notification(guide, resource)


def shape(text):
    """What fhir.resources has against it."""
    if get_fhir_model_class is None:
        return []
    try:
        get_fhir_model_class(json.loads(text)["resourceType"]).model_validate_json(text)
        return []
    except ValueError as wrong:
        return [str(wrong)]


class Hook(http.server.BaseHTTPRequestHandler):
    """The endpoints: all that comes is kept, by path."""

    calls, came = [], threading.Condition()
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        with self.came:
            self.calls.append((self.path, body))
            self.came.notify_all()
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

    @classmethod
    def wait(cls, path, kinds):
        """The first of each of these types that comes there."""
        def found():
            first = {}
            for at, body in cls.calls:
                if at == path:
                    kind = next(one["valueCode"] for one in said(json.loads(body)) if one["name"] == "type")
                    first.setdefault(kind, body)
            return first if all(kind in first for kind in kinds) else None

        with cls.came:
            got = cls.came.wait_for(found, 30)
        assert got, f"{path}: not all of {kinds} came"
        return got


class Server:
    def __init__(self, augury, data):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            bind = "127.0.0.1:%d" % free.getsockname()[1]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AUGURY_")}
        settings = {"AUGURY_BIND": bind, "AUGURY_DATA_DIR": str(data), "AUGURY_LOG": "warn"}
        self.process = subprocess.Popen([augury, "serve"], env=clean | settings)
        self.base = f"http://{bind}/fhir"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{bind}/health/ready", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server is not ready")

    def ask(self, method, path, resource=None):
        """Status and text of an answer."""
        body = json.dumps(resource).encode() if resource is not None else None
        request = urllib.request.Request(self.base + path, body, {"Content-Type": FHIR}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def must(self, method, path, resource=None):
        status, text = self.ask(method, path, resource)
        assert 200 <= status < 300, f"{method} {path}: {status} {text}"
        return text

    def wait(self, what, path, fits):
        for _ in range(300):
            text = self.must("GET", path)
            if fits(text):
                return text
            time.sleep(0.1)
        raise AssertionError(f"{what}: {text}")


def topic(url):
    """A topic about what happens to Encounters, Observations and Patients, as a Basic."""
    def part(name, of, value):
        return {"url": name, of: value}

    kinds = ["Encounter", "Observation", "Patient"]
    triggers = [
        {
            "url": TOPIC + "resourceTrigger",
            "extension": [part("resource", "valueUri", DEFINITION + kind), part("supportedInteraction", "valueCode", "create")],
        }
        for kind in kinds
    ]
    shapes = [
        {"url": TOPIC + "notificationShape", "extension": [part("resource", "valueUri", kind), part("include", "valueString", kind + ":subject")]}
        for kind in kinds[:2]
    ]
    return {
        "resourceType": "Basic",
        "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
        "modifierExtension": [part(TOPIC + "status", "valueCode", "active")],
        "extension": [part(TOPIC + "url", "valueUri", url), *triggers, *shapes],
    }


def expect(found, name, why):
    """A finding where one is expected, none elsewhere."""
    expected = WRONG.get(name)
    if expected is None:
        assert not found, f"{why} {name}: {found}"
    else:
        assert any(expected in one for one in found), f"{why} {name} is said to be good, or for another reason: {found}"


def read_examples(guide, folder):
    examples = {}
    for path in sorted(folder.glob("*/*.json")):
        resource = json.loads(path.read_text(encoding="utf-8-sig"))
        if path.parent.name != "definitions" and resource["resourceType"] in ("Subscription", "Parameters", "Bundle", "Basic"):
            examples[path.name] = resource
    judged = [name for name, one in examples.items() if one["resourceType"] != "Basic"]
    for name in judged:
        expect(judge(guide, examples[name]), name, "the example")
    good = examples["Bundle-r4-notification-full-resource.json"]
    for what, change in MUTANTS:
        mutant = copy.deepcopy(good)
        change(mutant)
        assert judge(guide, mutant), f"{what}: nothing is found in it"
    print(f"{len(judged)} examples: {len(judged) - len(WRONG)} conform, {len(WRONG)} do not, as expected; {len(MUTANTS)} of {len(MUTANTS)} mutants found")
    return examples


def send_examples(guide, server, examples, hook):
    """Topics and Subscriptions among the examples are taken, or refused at the element that can't be kept to."""
    topics = {name: one for name, one in examples.items() if one["resourceType"] == "Basic"}
    taken = {}
    for name, one in topics.items():
        status, text = server.ask("POST", "/Basic", one)
        address = tuple(part.get("valueUri") or part.get("valueString") for part in one["extension"][:2])
        if address in taken:
            # Of one address and version there is one topic: this is another form of it, which can take its place.
            assert status == 422 and '"duplicate"' in text, f"{name}: {status} {text}"
            server.must("PUT", f"/Basic/{taken[address]}", one | {"id": taken[address]})
            continue
        assert status == 201, f"{name}: {status} {text}"
        taken[address] = json.loads(text)["id"]
    for url in UNDEFINED:
        server.must("POST", "/Basic", topic(url))
    server.wait("topics", "/metadata", lambda text: all(url in text for url in UNDEFINED))
    subscriptions = {name: one for name, one in examples.items() if one["resourceType"] == "Subscription"}
    for name, one in subscriptions.items():
        one = copy.deepcopy(one)
        one.pop("id", None)
        one["channel"]["endpoint"] = f"{hook}/{name}"
        status, text = server.ask("POST", "/Subscription", one)
        if name in REFUSED:
            assert status == 422 and REFUSED[name] in text, f"{name}: {status} {text}"
            continue
        assert status == 201, f"{name}: {status} {text}"
        kept = json.loads(text)
        assert not backport.of_subscription(guide, kept), f"{name} is kept otherwise: {text}"
        assert kept["status"] == "requested", f"{name}: {text}"
        # All of them ended long ago.
        path = f"/Subscription/{kept['id']}"
        server.wait(name, path, lambda text: json.loads(text)["status"] == "off")
        one.pop("end")
        server.must("PUT", path, one | {"id": kept["id"]})
        server.wait(name, path, lambda text: json.loads(text)["status"] == "active")
        hello = Hook.wait(f"/{name}", ["handshake"])["handshake"]
        assert not judge(guide, json.loads(hello)) + shape(hello), f"{name}: {hello}"
        server.must("DELETE", path)
    taken = len(subscriptions) - len(REFUSED)
    print(f"{len(topics)} topics taken; {len(subscriptions)} Subscriptions: {taken} taken and greeted, {len(REFUSED)} refused for what they ask")


def tell(guide, server, hook, augury, folder, definitions):
    """What the server tells, of each content and on each occasion."""
    told = {}
    server.must("PUT", "/Patient/told", {"resourceType": "Patient", "id": "told", "gender": "female"})
    made = {}
    for content in ("empty", "id-only", "full-resource"):
        subscription = {
            "resourceType": "Subscription", "status": "requested", "reason": "acceptance", "criteria": UNDEFINED[0],
            "meta": {"profile": [IG + "backport-subscription"]},
            "channel": {
                "type": "rest-hook", "endpoint": f"{hook}/{content}", "payload": FHIR,
                "_payload": {"extension": [{"url": IG + "backport-payload-content", "valueCode": content}]},
                "extension": [{"url": IG + "backport-heartbeat-period", "valueUnsignedInt": 1}],
            },
        }
        made[content] = json.loads(server.must("POST", "/Subscription", subscription))["id"]
    for one in made.values():
        server.wait("a Subscription", f"/Subscription/{one}", lambda text: json.loads(text)["status"] == "active")
    encounter = {
        "resourceType": "Encounter", "status": "in-progress", "subject": {"reference": "Patient/told"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
    }
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/told"}}
    server.must("POST", "/Encounter", encounter)
    server.must("POST", "/Observation", observation)
    for content, one in made.items():
        for kind, body in Hook.wait(f"/{content}", ["handshake", "heartbeat", "event-notification"]).items():
            told[f"{content} {kind}"] = body
        server.wait("events", f"/Subscription/{one}/$status", lambda text: '"valueString":"2"' in text)
        told[f"{content} $status"] = server.must("GET", f"/Subscription/{one}/$status")
        told[f"{content} $events"] = server.must("GET", f"/Subscription/{one}/$events")
        told[f"{content} kept"] = server.must("GET", f"/Subscription/{one}")
        for asked in made:
            told[f"{content} $events of {asked}"] = server.must("GET", f"/Subscription/{one}/$events?content={asked}")
    told["all $status"] = server.must("GET", "/Subscription/$status")
    for name, text in told.items():
        assert not (found := judge(guide, json.loads(text)) + shape(text)), f"{name}: {found}: {text}"
        (folder / f"{name.replace(' ', '-').replace('$', '')}.json").write_text(text, encoding="utf-8")
    for content, entries in (("empty", 1), ("id-only", 3), ("full-resource", 3)):
        # Two events of one patient, who comes along where the event is told.
        event = json.loads(told[f"{content} event-notification"])
        assert min(entries, 2) <= len(event["entry"]) <= entries, f"{content}: {len(event['entry'])} entries"
        whole = [("resource" in entry) for entry in event["entry"][1:]]
        assert all(one == (content == "full-resource") for one in whole), f"{content}: {whole}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AUGURY_")}
    own = subprocess.run([augury, "validate", folder, "--package", definitions], env=clean, stdout=subprocess.PIPE, text=True)
    assert '"severity":"error"' not in own.stdout, own.stdout
    assert own.returncode == 0 and own.stdout, f"augury validate: {own.returncode}"
    by = "the guide's profiles, augury validate and fhir.resources" if get_fhir_model_class else "the guide's profiles and augury validate (fhir.resources is not there: tests/run.sh installs it)"
    print(f"{len(told)} notifications, answers and Subscriptions of ours: all good to {by}")


def main(augury, folder, work):
    guide = backport.Guide(folder / "definitions")
    examples = read_examples(guide, folder)
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    hook = "http://127.0.0.1:%d" % listener.server_port
    (work / "data").mkdir()
    (work / "told").mkdir()
    server = Server(augury, work / "data")
    try:
        send_examples(guide, server, examples, hook)
        tell(guide, server, hook, augury, work / "told", folder / "definitions")
    finally:
        server.process.terminate()
        server.process.wait(30)


with tempfile.TemporaryDirectory() as made:
    main(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(made))
