"""Makes minimal.ndjson: of each R4 resource type one resource with what is mandatory, and a tag.

    python3 minimal.py
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
VALUES = {
    "boolean": True,
    "integer": 1,
    "positiveInt": 1,
    "unsignedInt": 1,
    "decimal": 1.5,
    "string": "conformance",
    "markdown": "conformance",
    "code": "conformance",
    "id": "conformance",
    "uri": "urn:conformance",
    "url": "http://example.org/conformance",
    "canonical": "http://example.org/conformance",
    "oid": "urn:oid:1.2.3",
    "uuid": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
    "base64Binary": "Y29uZm9ybWFuY2U=",
    "date": "2020-01-02",
    "dateTime": "2020-01-02T03:04:05Z",
    "instant": "2020-01-02T03:04:05Z",
    "time": "03:04:05",
    "CodeableConcept": {"text": "conformance"},
    "Coding": {"system": "urn:conformance", "code": "conformance"},
    "Identifier": {"system": "urn:conformance", "value": "conformance"},
    "Quantity": {"value": 1.5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"},
    "SimpleQuantity": {"value": 1.5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"},
    "Money": {"value": 1.5, "currency": "EUR"},
    "Period": {"start": "2020-01-02"},
    "Attachment": {"contentType": "text/plain", "data": "Y29uZm9ybWFuY2U="},
    "HumanName": {"family": "Conformance"},
    "Reference": {"display": "conformance"},
    "Timing": {"event": ["2020-01-02"]},
    "Annotation": {"text": "conformance"},
    "Expression": {"language": "text/fhirpath", "expression": "true"},
    "Range": {"low": {"value": 1}},
    "SampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": "1"},
    "ParameterDefinition": {"use": "in", "type": "string"},
}
# What the invariants want beyond the cardinalities.
MORE = {
    "ActivityDefinition": {"name": "Conformance"},
    "AllergyIntolerance": {"clinicalStatus": {"coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}},
    "Appointment": {"status": "proposed", "participant": [{"type": [{"text": "conformance"}], "status": "accepted"}]},
    "AppointmentResponse": {"participantType": [{"text": "conformance"}]},
    "Binary": {"contentType": "text/plain", "data": "Y29uZm9ybWFuY2U="},
    "Bundle": {"type": "collection"},
    "CapabilityStatement": {"fhirVersion": "4.0.1", "format": ["json"], "rest": [{"mode": "server"}], "kind": "requirements", "description": "conformance"},
    "Consent": {"policyRule": {"text": "conformance"}},
    "EventDefinition": {"trigger": [{"type": "named-event", "name": "conformance"}]},
    "ImmunizationRecommendation": {"recommendation": [
        {"vaccineCode": [{"text": "conformance"}], "forecastStatus": {"text": "conformance"}}]},
    "ImplementationGuide": {"fhirVersion": ["4.0.1"], "definition": {"resource": [{"reference": {"reference": "Patient/conformance"}}]}},
    "InsurancePlan": {"name": "conformance"},
    "Linkage": {"item": [{"type": "source", "resource": {"display": "one"}},
                         {"type": "alternate", "resource": {"display": "another"}}]},
    "OperationDefinition": {"code": "conformance"},
    "Organization": {"name": "conformance"},
    "Questionnaire": {"name": "Conformance"},
    "SearchParameter": {"status": "draft", "type": "string", "expression": "Account.id"},
    "StructureDefinition": {"name": "Conformance", "status": "draft", "abstract": False, "differential": {"element": [{"id": "Patient", "path": "Patient"}]},
                            "type": "Patient", "kind": "resource", "derivation": "constraint",
                            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient"},
    "Subscription": {"status": "off", "criteria": "Basic?code=conformance", "channel": {"type": "rest-hook"}},
    "TerminologyCapabilities": {"kind": "requirements", "description": "conformance"},
}


def main():
    types, order, codes, name = {}, [], {}, None
    for line in (HERE / "../../fhir-profiles/definitions/elements.txt").read_text(encoding="utf-8").splitlines():
        mark, *rest = line.split(" ")
        if mark == "T":
            name = rest[0]
            types[name] = []
            if rest[1] == "resource":
                order.append(name)
        elif mark == "E":
            types[name].append(rest)
        elif mark == "B":
            codes[rest[0]] = rest[1:]

    def value(kind, binding):
        if kind == "code" and binding != "-":
            return sorted(codes[binding])[0]
        if kind in VALUES:
            return VALUES[kind]
        return mandatory(kind)

    def mandatory(kind):
        out = {}
        for element, low, high, kinds, binding, _ in types[kind]:
            if int(low) == 0:
                continue
            first = kinds.split("|")[0]
            key = element
            if element.endswith("[x]"):
                key = element[:-3] + first[0].upper() + first[1:]
            one = value(first, binding)
            out[key] = one if high == "1" else [one]
        return out

    lines = []
    for kind in sorted(order):
        resource = {"resourceType": kind, "meta": {"tag": [{"system": "urn:conformance", "code": "minimal"}]}}
        resource.update(mandatory(kind))
        resource.update(MORE.get(kind, {}))
        lines.append(json.dumps(resource, ensure_ascii=False))
    (HERE / "minimal.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
