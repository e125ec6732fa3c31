"""Reading RiskAssessments as the server writes them."""

BASE = "https://augury.dev/fhir/"


def numbers(resource):
    """{output: number} of a RiskAssessment; empty for a refusal."""
    found = {}
    for prediction in resource["prediction"]:
        keys = [c["code"] for c in prediction["outcome"].get("coding", []) if c["system"] == BASE + "CodeSystem/output"]
        extensions = prediction.get("_probabilityDecimal", {}).get("extension", []) + prediction.get("extension", [])
        for extension in extensions:
            if extension["url"].endswith("/risk-fraction"):
                found[keys[0]] = extension["valueDecimal"]
            if extension["url"].endswith("/score"):
                found[keys[0]] = extension["valueQuantity"]["value"]
    return found


def reasons(resource):
    """The input issues of a RiskAssessment."""
    return [e for e in resource.get("extension", []) if e["url"].endswith("/input-issue")]


def question(resource):
    """(patient, model)"""
    return resource["subject"]["reference"].removeprefix("Patient/"), resource["method"]["coding"][0]["code"]


def within(tree):
    """Every RiskAssessment somewhere in a JSON tree."""
    if isinstance(tree, dict):
        if tree.get("resourceType") == "RiskAssessment":
            yield tree
        else:
            for value in tree.values():
                yield from within(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from within(value)
