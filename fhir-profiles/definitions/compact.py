"""Compacts HL7's R4 definitions (CC0) to what the validator and the search index need, without prose.

    python3 compact.py FOLDER

FOLDER holds profiles-types.json, profiles-resources.json, expansions.json and search-parameters.json of FHIR
4.0.1 (the npm package hl7.fhir.r4.examples has them as Bundle-*.json; update.sh fetches it). Writes beside itself:

elements.txt   `T name kind` a type (primitive, complex, resource, backbone), then its elements:
               `E name min max types binding targets`; `name[x]` is a choice, types are separated by `|`, a path as a
               type is a backbone element, binding is the value set of a required one (`http://hl7.org/fhir/ValueSet/`
               left out), targets are the types a Reference may point to
profiles.ndjson, valuesets.tsv   see profiles.py
search-parameters.tsv   id, code, type, base, target, expression
constraints.tsv   path, key, severity, expression, and what people read if it is short
summary.txt    a resource type and its elements that belong to its summary, by FHIRPath name
search-components.tsv   id of a composite, then type and expression of each of its components
../operations/*.json    the OperationDefinitions of HL7 that the server has
compartments.tsv        compartment, type, the codes of the parameters that put a resource into it
"""

import json
import pathlib
import re
import sys

import profiles

HERE = pathlib.Path(__file__).parent
OFFICIAL = "http://hl7.org/fhir/ValueSet/"
LONGEST_TEXT = 120
OPERATIONS = {
    "Resource-validate", "Resource-meta", "Resource-meta-add", "Resource-meta-delete", "Patient-everything",
}
# Of these the server has only the operation on one resource: it says so in a definition of its own.
ON_ONE = {"Resource-meta", "Patient-everything"}
OWN = "https://augury.dev/fhir/OperationDefinition/"
PACKAGED = {
    "profiles-types.json": "Bundle-types.json",
    "profiles-resources.json": "Bundle-resources.json",
    "search-parameters.json": "Bundle-searchParams.json",
    "expansions.json": "Bundle-valueset-expansions.json",
    "profiles-others.json": "Bundle-profiles-others.json",
    "extension-definitions.json": "Bundle-extensions.json",
}


def resources(folder, name):
    for candidate in (name, PACKAGED.get(name, name)):
        path = folder / candidate
        if path.exists():
            return [entry["resource"] for entry in json.loads(path.read_text(encoding="utf-8"))["entry"]]
    sys.exit(f"{folder} has no {name}")


def compartment(folder, name):
    for path in folder.glob("*.json"):
        if path.name.lower() == f"compartmentdefinition-{name}.json":
            return json.loads(path.read_text(encoding="utf-8"))
    sys.exit(f"{folder} has no definition of the compartment {name}")


def main():
    folder = pathlib.Path(sys.argv[1])
    definitions = resources(folder, "profiles-types.json") + resources(folder, "profiles-resources.json")
    lines, used = [], set()
    for definition in sorted(definitions, key=lambda one: one.get("name", "")):
        if definition["resourceType"] != "StructureDefinition" or definition.get("derivation") == "constraint":
            continue
        if definition["kind"] not in ("primitive-type", "complex-type", "resource"):
            continue
        # Abstract, and yet what a primitive's id and extensions belong to.
        if definition["abstract"] and definition["name"] != "Element":
            continue
        lines += structure(definition, used)
    (HERE / "elements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    base = profiles.Base(definitions)
    further = resources(folder, "profiles-others.json") + resources(folder, "extension-definitions.json")
    further += [one for one in definitions if one.get("derivation") == "constraint"]
    further = sorted((one for one in further if one["resourceType"] == "StructureDefinition"), key=lambda one: one["url"])
    lines = [profiles.profile(one, base) for one in further]
    (HERE / "profiles.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for one in further:
        for element in one["snapshot"]["element"]:
            binding = element.get("binding", {})
            if binding.get("strength") == "required" and "valueSet" in binding:
                used.add(binding["valueSet"].split("|")[0])
    files = [path for kind in ("ValueSet", "CodeSystem") for path in sorted(folder.glob(f"{kind}-*.json"))]
    terminology = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    value_sets = profiles.ValueSets(resources(folder, "expansions.json"), terminology)
    head = "# value set\tsystem\tcodes, or * where they are not told\n"
    body = "".join(row + "\n" for row in value_sets.rows(used))
    (HERE / "valuesets.tsv").write_text(head + body, encoding="utf-8")

    rows = [row for definition in definitions for row in constraints(definition)]
    head = "# path\tkey\tseverity\texpression\ttext\n"
    body = "".join("\t".join(row) + "\n" for row in sorted(set(rows)))
    (HERE / "constraints.tsv").write_text(head + body, encoding="utf-8")

    for definition in definitions:
        if definition["resourceType"] == "OperationDefinition" and definition["id"] in OPERATIONS:
            operation(definition)

    summaries = []
    for definition in sorted(definitions, key=lambda one: one.get("name", "")):
        if definition["resourceType"] != "StructureDefinition" or definition["kind"] != "resource":
            continue
        if definition.get("derivation") == "constraint" or definition["abstract"]:
            continue
        top = [e for e in definition["snapshot"]["element"] if e["path"].count(".") == 1 and e.get("isSummary")]
        names = [e["path"].split(".")[1].removesuffix("[x]") for e in top]
        summaries.append(" ".join([definition["name"], *names]) + "\n")
    (HERE / "summary.txt").write_text("".join(summaries), encoding="utf-8")

    rows, composites = [], []
    parameters = resources(folder, "search-parameters.json")
    types = {one["url"]: one["type"] for one in parameters}
    for one in parameters:
        parts = [(types[part["definition"]], part["expression"]) for part in one.get("component", [])]
        if one["id"] == "DocumentReference-relationship":
            # The published definition has the two expressions the wrong way round.
            parts = [(parts[0][0], parts[1][1]), (parts[1][0], parts[0][1])]
        if parts:
            composites.append("\t".join([one["id"], *(text for part in parts for text in part)]) + "\n")
        expression = re.sub(r"\s+", " ", one.get("expression", ""))
        base, target = " ".join(one["base"]), " ".join(one.get("target", []))
        rows.append((one["id"], one["code"], one["type"], base, target, expression))
    head = "# id\tcode\ttype\tbase\ttarget\texpression\n"
    body = "".join("\t".join(row) + "\n" for row in sorted(rows))
    (HERE / "search-parameters.tsv").write_text(head + body, encoding="utf-8")
    head = "# id, then type and expression of each component\n"
    (HERE / "search-components.tsv").write_text(head + "".join(sorted(composites)), encoding="utf-8")

    members = []
    for name in ("patient", "encounter", "practitioner", "relatedperson", "device"):
        definition = compartment(folder, name)
        for one in definition["resource"]:
            if one.get("param"):
                members.append("\t".join([definition["code"], one["code"], " ".join(one["param"])]) + "\n")
    head = "# compartment\ttype\tparameters\n"
    (HERE / "compartments.tsv").write_text(head + "".join(sorted(members)), encoding="utf-8")


def constraints(definition):
    if definition["resourceType"] != "StructureDefinition" or definition.get("derivation") == "constraint":
        return
    if definition["kind"] not in ("primitive-type", "complex-type", "resource"):
        return
    for element in definition["snapshot"]["element"]:
        for one in element.get("constraint", []):
            # Every element repeats what its type and the abstract types say.
            home = {"ele": "Element", "ext": "Extension", "dom": "DomainResource"}.get(one["key"].split("-")[0])
            if home and home != element["path"] or "expression" not in one:
                continue
            expression, text = (re.sub(r"\s+", " ", one[key]).strip() for key in ("expression", "human"))
            text = text if len(text) <= LONGEST_TEXT else ""
            yield element["path"], one["key"], one["severity"], expression, text


def structure(definition, used):
    kind = {"primitive-type": "primitive", "complex-type": "complex", "resource": "resource"}[definition["kind"]]
    elements = [e for e in definition["snapshot"]["element"] if e.get("max") != "0"]
    parents = {e["path"].rsplit(".", 1)[0] for e in elements if "." in e["path"]}
    name = definition["name"] if kind != "primitive" else definition["id"]
    if kind == "primitive":
        return [f"T {name} primitive"]
    lines = []
    for parent in [name] + sorted(path for path in parents if path != name):
        lines.append(f"T {parent} {kind if parent == name else 'backbone'}")
        for element in elements:
            path = element["path"]
            if path.rsplit(".", 1)[0] != parent or path == parent:
                continue
            if "contentReference" in element:
                types = [element["contentReference"].split("#")[-1]]
            elif path in parents:
                types = [path]
            else:
                types = [short(t["code"], element, kind) for t in element["type"]]
            targets = sorted({p.rsplit("/", 1)[1] for t in element.get("type", []) for p in t.get("targetProfile", [])})
            binding = element.get("binding", {})
            value_set = binding.get("valueSet", "").split("|")[0]
            key = "-"
            if binding.get("strength") == "required" and value_set:
                used.add(value_set)
                key = value_set.removeprefix(OFFICIAL)
            target = ",".join(targets) if targets and "Resource" not in targets else "-"
            fields = [path.rsplit(".", 1)[1], str(element["min"]), element["max"], "|".join(types), key, target]
            lines.append("E " + " ".join(fields))
    return lines


def operation(definition):
    """An operation that the server has, without prose."""
    for name in ("text", "extension", "contact", "publisher", "comment", "date", "meta"):
        definition.pop(name, None)
    definition["description"] = definition.get("description", "").split("\n")[0].split(". ")[0][:200]
    bare(definition.get("parameter", []))
    if definition["id"] in ON_ONE:
        definition |= {"base": definition["url"], "url": OWN + definition["id"], "system": False, "type": False}
    path = HERE.parent / "operations" / f"{definition['id']}.json"
    path.write_text(json.dumps(definition, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def bare(parameters):
    for one in parameters:
        one.pop("documentation", None)
        one.pop("extension", None)
        bare(one.get("part", []))


def short(code, element, kind):
    """FHIRPath system types stand for the primitives whose value they are."""
    if not code.startswith("http://hl7.org/fhirpath/"):
        return code
    path = element["path"]
    if path == "Extension.url":
        return "uri"
    return "id" if kind == "resource" and path.endswith(".id") and path.count(".") == 1 else "string"


main()
