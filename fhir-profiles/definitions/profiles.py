"""The parts of compact.py that are about profiles and value sets (CC0 definitions of HL7, without prose).

profiles.ndjson   one StructureDefinition a line, that constrains a type or defines an extension: of its snapshot
                  what goes beyond the type itself
valuesets.tsv     value set, system, its codes; a value set whose codes can't all be told has `*` for them
"""

import json
import re

# What of an element says what an instance has to be.
VALUES = ("fixed", "pattern", "minValue", "maxValue")
OFFICIAL = ("http://hl7.org/fhir/ValueSet/", "http://terminology.hl7.org/ValueSet/")
MOST_CODES = 3000
FEW_CODES = 400
# Bound to the units of vital signs, which lack the oxygen flow (L/min) that belongs to an oxygen saturation. What
# is a vital sign in a component has a binding of its own.
FLOW = "Observation.component.value[x]"


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


class Base:
    """The elements of the types themselves."""

    def __init__(self, definitions):
        self.types = {}
        self.constraints = set()
        for one in definitions:
            if one["resourceType"] != "StructureDefinition" or one.get("derivation") == "constraint":
                continue
            self.types[one["type"]] = {e["path"]: e for e in one["snapshot"]["element"]}
            for element in one["snapshot"]["element"]:
                for rule in element.get("constraint", []):
                    self.constraints.add((rule["key"], squeezed(rule.get("expression", ""))))

    def element(self, path):
        name, *steps = path.split(".")
        own, prefix = self.types.get(name), name
        found = own and own.get(name)
        for step in steps:
            while found and "contentReference" in found:
                prefix = found["contentReference"].split("#")[-1]
                found = own.get(prefix)
            if found is None:
                return None
            below = own.get(f"{prefix}.{step}") or own.get(f"{prefix}.{step}[x]")
            if below is None:
                kinds = found.get("type", [])
                name = kinds[0]["code"] if len(kinds) == 1 else ""
                own, prefix = self.types.get(name), name
                below = own and (own.get(f"{name}.{step}") or own.get(f"{name}.{step}[x]"))
            else:
                prefix = f"{prefix}.{step}"
            found = below
        return found


def types(element):
    return [
        {key: one[key] for key in ("code", "profile", "targetProfile") if key in one}
        for one in element.get("type", [])
    ]


def beyond(element, base):
    """What an element of a snapshot says that its type does not."""
    official = base.element(element["path"])
    out = {"id": element["id"], "path": element["path"]}
    for key in ("sliceName", "maxLength"):
        if key in element:
            out[key] = element[key]
    slicing = {key: value for key, value in element.get("slicing", {}).items() if key != "description"}
    # Extensions are told apart by their url anyway.
    if slicing and (slicing["rules"] != "open" or not element["path"].endswith("xtension")):
        out["slicing"] = slicing
    is_slice = ":" in element["id"].rsplit(".", 1)[-1]
    root = "." not in element["path"]
    if not root and (element["min"] != (0 if is_slice else official["min"] if official else 0)):
        out["min"] = element["min"]
    if not root and (element["max"] != ("*" if is_slice else official["max"] if official else "*")):
        out["max"] = element["max"]
    kinds = types(element)
    if not root and kinds and (official is None or kinds != types(official)):
        if not any(kind["code"].startswith("http://hl7.org/fhirpath/") for kind in kinds):
            out["type"] = kinds
    for key, value in element.items():
        if key.startswith(VALUES):
            out[key] = value
    rules = []
    for rule in element.get("constraint", []):
        if "expression" in rule and (rule["key"], squeezed(rule["expression"])) not in base.constraints:
            human = squeezed(rule["human"])
            short = {"key": rule["key"], "severity": rule["severity"], "expression": squeezed(rule["expression"])}
            rules.append(short | ({"human": human} if len(human) <= 160 else {}))
    if rules:
        out["constraint"] = rules
    binding = element.get("binding", {})
    if binding.get("strength") == "required" and "valueSet" in binding and element["id"] != FLOW:
        own = official.get("binding", {}) if official else {}
        if own.get("strength") != "required" or own.get("valueSet") != binding["valueSet"]:
            out["binding"] = {"strength": "required", "valueSet": binding["valueSet"]}
    return out if len(out) > 2 else None


def profile(definition, base):
    element = [found for e in definition["snapshot"]["element"] if (found := beyond(e, base))]
    out = {key: definition[key] for key in ("url", "version", "type", "baseDefinition", "derivation") if key in definition}
    if definition["type"] == "Extension":
        out["context"] = definition.get("context", [])
        if definition.get("contextInvariant"):
            out["contextInvariant"] = definition["contextInvariant"]
    return json.dumps(out | {"snapshot": {"element": element}}, ensure_ascii=False, separators=(",", ":"))


def codes(contains):
    for one in contains:
        if "code" in one and not one.get("abstract"):
            yield one.get("system", ""), one["code"]
        yield from codes(one.get("contains", []))


class ValueSets:
    """What is in a value set: from HL7's expansion, else from its own composition where that is plain."""

    def __init__(self, expansions, definitions):
        self.expansions = {one["url"]: one["expansion"] for one in expansions if one["resourceType"] == "ValueSet"}
        self.sets = {one["url"]: one for one in definitions if one["resourceType"] == "ValueSet"}
        self.systems = {one["url"]: one for one in definitions if one["resourceType"] == "CodeSystem"}

    def of(self, url):
        """Pairs of system and code, or None."""
        expansion = self.expansions.get(url)
        if expansion is not None:
            found = set(codes(expansion.get("contains", [])))
            open_ended = any(e["url"].endswith(("-toocostly", "-unclosed")) for e in expansion.get("extension", []))
            return None if open_ended or not found else found
        return self.composed(url)

    def composed(self, url):
        compose = self.sets.get(url, {}).get("compose")
        if not compose or compose.get("exclude"):
            return None
        found = set()
        for include in compose["include"]:
            if include.get("filter") or include.get("valueSet"):
                return None
            system = include["system"]
            if "concept" in include:
                found |= {(system, one["code"]) for one in include["concept"]}
            elif system in self.systems and self.systems[system].get("content") == "complete":
                found |= {(system, code) for code in self.all(self.systems[system].get("concept", []))}
            else:
                return None
        return found or None

    def all(self, concepts):
        for one in concepts:
            yield one["code"]
            yield from self.all(one.get("concept", []))

    def rows(self, used):
        """Those that are used here, and those that a profile from elsewhere may well be bound to."""
        official = {url for url in {*self.sets, *self.expansions} if url.startswith(OFFICIAL)}
        for url in sorted({*used, *official}):
            found = self.of(url)
            if url not in used and (found is None or len(found) > FEW_CODES):
                continue
            if found is None or len(found) > MOST_CODES:
                yield f"{url}\t*"
                continue
            for system in sorted({system for system, _ in found}):
                yield "\t".join([url, system, *sorted(code for own, code in found if own == system)])
