"""Charts to search in, and searches of them: KIND OBSERVATIONS on the command line.

bundles: transactions of 20 patients with 50 Observations each; chart, chain, has: addresses.
"""

import datetime
import json
import random
import sys

kind, size = sys.argv[1], int(sys.argv[2])
EACH, TOGETHER, CODES = 50, 20, 10
patients = size // EACH
day = datetime.date(2023, 1, 1)


def code(n):
    return {"coding": [{"system": "https://codes.example", "code": f"c{n}", "display": f"Measurement {n}"}]}


def entry(resource):
    return {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}


def bundle(first):
    entries = []
    for p in range(first, min(first + TOGETHER, patients)):
        patient = {"resourceType": "Patient", "id": f"s{p}", "gender": "female", "birthDate": "1961-04-05",
                   "identifier": [{"system": "https://mrn.example", "value": f"{p:08d}"}],
                   "name": [{"family": f"Family{p % 5000}", "given": [f"Given{p % 300}"]}]}
        entries.append(entry(patient))
        for n in range(EACH):
            on = day + datetime.timedelta(days=(n * 21 + p) % 1095)
            entries.append(entry({
                "resourceType": "Observation", "id": f"s{p}-{n}", "status": "final",
                "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
                "code": code(n % CODES), "subject": {"reference": f"Patient/s{p}"},
                "effectiveDateTime": f"{on}T08:{n:02d}:00Z",
                "valueQuantity": {"value": (n * 37 + p) % 200, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}}))
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


if kind == "bundles":
    for first in range(0, patients, TOGETHER):
        print(json.dumps(bundle(first), separators=(",", ":")))
else:
    dice = random.Random(7)
    for _ in range(20000):
        p, n = dice.randrange(patients), dice.randrange(CODES)
        token = f"https://codes.example%7Cc{n}"
        match kind:
            case "chart":
                print(f"/fhir/Observation?patient=s{p}&code={token}&_sort=-date&_count=20")
            case "chain":
                print(f"/fhir/Observation?patient.identifier=https://mrn.example%7C{p:08d}&code={token}&_count=20")
            case "has":
                family = f"Family{p % 5000}"
                print(f"/fhir/Patient?family={family}&_has:Observation:patient:code={token}&_count=20")
