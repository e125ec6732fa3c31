"""The sample patients, and those of a folder of transaction Bundles, asked about in every way there is: on
writing, by `$assess-risk` (stored and as a Bundle), by `/predict` (stored and as a Bundle) and by `augury
score`. One question has one answer, to the last digit. Arguments: the augury binary, the folder. Exits
non-zero at the first difference."""

import datetime
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from assessments import numbers, question, within

DEMO = pathlib.Path(__file__).parents[2] / "server/demo"


def fill(template, now):
    def stamp(mark):
        count = int(mark[2])
        if mark[3] == "y":
            at = now - datetime.timedelta(days=count * 365.2425 + 2)
        else:
            at = now - datetime.timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[mark[3]]: count})
        return at.strftime("%Y-%m-%d" if mark[1] == "date" else "%Y-%m-%dT%H:%M:%SZ")

    return re.sub(r"\{\{(now|date)-(-?\d+)([mhdy])\}\}", stamp, template)


def shifted(bundle, now):
    """The Bundle with all its dates moved by as many days as bring its newest Observation to yesterday, each
    resource under its own id, and without references that only other files could resolve."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    dates = [one["effectiveDateTime"][:10] for one in resources if "effectiveDateTime" in one]
    newest = datetime.date.fromisoformat(max(dates))
    days = (now.date() - newest).days - 1

    def move(match):
        moved = datetime.date.fromisoformat(match[1]) + datetime.timedelta(days=days)
        return f'"{moved.isoformat()}{match[2]}"'

    def local(node):
        if isinstance(node, list):
            return [local(one) for one in node]
        if isinstance(node, dict):
            if "?" in str(node.get("reference")):
                return {"display": node.get("display", "elsewhere")}
            return {key: local(value) for key, value in node.items()}
        return node

    entries = []
    for entry in bundle["entry"]:
        resource = local(entry["resource"])
        resource.setdefault("id", entry["fullUrl"].rsplit(":", 1)[-1])
        url = f"{resource['resourceType']}/{resource['id']}"
        entries.append(
            {"fullUrl": entry["fullUrl"], "resource": resource, "request": {"method": "PUT", "url": url}}
        )
    text = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return re.sub(r'"(\d{4}-\d\d-\d\d)(T[^"]{5,29})?"', lambda m: move((m[0], m[1], m[2] or "")), text)


def ask(url, body=None, content="application/fhir+json"):
    request = urllib.request.Request(url, body, {"Content-Type": content} if body else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def plain(answer):
    """(patient, model) → {output: number} of a /predict answer."""
    found = {}
    for one in answer["predictions"]:
        outputs = {o.get("name"): o.get("fraction", o.get("score")) for o in one["outputs"]}
        found[one["patient"], one["model"]] = {k: v for k, v in outputs.items() if v is not None}
    return found


def fhir(tree):
    return {question(resource): numbers(resource) for resource in within(tree)}


def differ(way, expected, got):
    for key, found in expected.items():
        if got.get(key) != found:
            sys.exit(f"{way}: {key} is {got.get(key)}, not {found}")


def main(augury, work, more):
    now = datetime.datetime.now(datetime.timezone.utc)
    folder = work / "patients"
    folder.mkdir()
    bundles = {}
    for path in sorted(DEMO.glob("*.json")):
        bundles[path.stem] = fill(path.read_text(encoding="utf-8"), now)
        (folder / path.name).write_text(bundles[path.stem], encoding="utf-8")
    for path in sorted(more.rglob("*.json")):
        bundle = json.loads(path.read_text(encoding="utf-8"))
        people = [e["resource"] for e in bundle.get("entry", []) if e["resource"]["resourceType"] == "Patient"]
        if bundle.get("type") != "transaction" or len(people) != 1:
            continue
        text = shifted(bundle, now)
        patient = next(
            e["resource"]["id"] for e in json.loads(text)["entry"] if e["resource"]["resourceType"] == "Patient"
        )
        bundles[patient] = text
        (folder / f"{patient}.json").write_text(text, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AUGURY_")}
    offline = subprocess.run(
        [augury, "score", folder], env=clean | {"AUGURY_DATA_DIR": str(work)}, stdout=subprocess.PIPE
    )
    assert offline.returncode == 0, "augury score: a file was not taken"
    expected = fhir([json.loads(line) for line in offline.stdout.splitlines()])
    models = {model for _, model in expected}
    assert len(expected) == len(bundles) * len(models), "augury score: not every model answered on every patient"
    silent = models - {model for (_, model), found in expected.items() if found}
    assert not silent, f"no sample patient has a result of {silent}"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        bind = "127.0.0.1:%d" % free.getsockname()[1]
    settings = {"AUGURY_BIND": bind, "AUGURY_DATA_DIR": str(work), "AUGURY_LOG": "warn"}
    server = subprocess.Popen([augury, "serve"], env=clean | settings)
    try:
        base = f"http://{bind}"
        for _ in range(200):
            try:
                urllib.request.urlopen(base + "/health/ready", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        for text in bundles.values():
            ask(base + "/fhir", text.encode())
        for patient, text in bundles.items():
            mine = {key: found for key, found in expected.items() if key[0] == patient}
            differ("$assess-risk, stored", mine, fhir(ask(f"{base}/fhir/Patient/{patient}/$assess-risk")))
            differ("$assess-risk, Bundle", mine, fhir(ask(f"{base}/fhir/$assess-risk", text.encode())))
            stored = json.dumps({"patient": patient}).encode()
            differ("/predict, stored", mine, plain(ask(base + "/predict", stored, "application/json")))
            differ("/predict, Bundle", mine, plain(ask(base + "/predict", text.encode(), "application/json")))
        results = {key: found for key, found in expected.items() if found}
        for _ in range(100):
            written = {}
            for patient in bundles:
                found = fhir(ask(f"{base}/fhir/RiskAssessment?patient={patient}&_count=500"))
                written |= {key: value for key, value in found.items() if value}
            if written.keys() >= results.keys():
                break
            time.sleep(0.1)
        differ("on writing", results, written)
        extra = written.keys() - results.keys()
        assert not extra, f"on writing: results for {extra} that nothing else gives"
    finally:
        server.terminate()
        server.wait(30)
    of_model = {model: sum(key[1] == model for key in results) for model in sorted(models)}
    print(
        f"{len(bundles)} patients: {len(results)} results {of_model} and {len(expected) - len(results)} refusals,"
        " the same in all six ways of asking"
    )


with tempfile.TemporaryDirectory() as made:
    main(sys.argv[1], pathlib.Path(made), pathlib.Path(sys.argv[2]))
