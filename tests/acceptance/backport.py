"""What the Subscriptions R5 Backport guide demands of a Subscription, a notification and a status: read from the
differentials of its StructureDefinitions, with nothing of the server's own validator. Cardinalities, fixed values,
types, codes and slices are held; what R4 itself demands of a resource is for others."""

import json

IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
CODES = {
    "http://hl7.org/fhir/ValueSet/subscription-status": {"requested", "active", "error", "off", "entered-in-error"},
    "http://hl7.org/fhir/ValueSet/subscription-notification-type": {
        "handshake", "heartbeat", "event-notification", "query-status", "query-event"
    },
    "http://hl7.org/fhir/uv/subscriptions-backport/ValueSet/backport-content-value-set": {
        "empty", "id-only", "full-resource"
    },
}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"}


class Node:
    """An element of a differential, with the elements and slices below it."""

    def __init__(self):
        self.element, self.children, self.slices = {}, {}, {}

    def at(self, path):
        node = self
        for part in path:
            name, _, of = part.partition(":")
            node = node.children.setdefault(name, Node())
            if of:
                node = node.slices.setdefault(of, Node())
        return node

    def fixed(self):
        """What a value has to be, if only one is right."""
        return next((value for key, value in self.element.items() if key.startswith(("fixed", "pattern"))), None)

    def profiles(self):
        return [url for kind in self.element.get("type", []) for url in kind.get("profile", [])]


def items(value, beside, name):
    """The elements of that name, each with what stands beside it (extensions of a primitive)."""
    if name.endswith("[x]"):
        stem = name[:-3]
        names = [key for key in value if key.startswith(stem) and key[len(stem) :][:1].isupper()] if isinstance(value, dict) else []
    else:
        names = [name]
    found = []
    for key in names:
        own = value.get(key) if isinstance(value, dict) else None
        more = value.get("_" + key) if isinstance(value, dict) else None
        if own is None and isinstance(beside, dict):
            own = beside.get(key)
        own = own if isinstance(own, list) else [] if own is None and more is None else [own]
        more = more if isinstance(more, list) else [more] * len(own)
        found += [(key, *pair) for pair in zip(own, more)]
    return found


def is_in(slices, node, key, value):
    """Does a value belong to a slice? By its name, its url, or the type of its resource."""
    if "name" in node.children:
        return isinstance(value, dict) and value.get("name") == node.children["name"].fixed()
    if node.profiles():
        return isinstance(value, dict) and value.get("url") in node.profiles()
    kinds = [kind["code"] for kind in node.children["resource"].element["type"]]
    return value.get("resource", {}).get("resourceType") in kinds


class Guide:
    """The profiles of a folder, by address."""

    def __init__(self, folder):
        self.trees = {}
        for path in sorted(folder.glob("StructureDefinition-*.json")):
            definition = json.loads(path.read_text(encoding="utf-8-sig"))
            tree = Node()
            for element in definition["differential"]["element"]:
                tree.at(element["id"].split(".")[1:]).element = element
            self.trees[definition["url"]] = tree

    def findings(self, resource, url, at=None):
        """What is wrong with a resource, or an extension, each a text."""
        at = at or resource.get("resourceType", "?")
        found = list(self.below(self.trees[url], resource, None, at))
        rules = self.trees[url].element.get("constraint", [])
        if any(rule["key"] == "backport-notification-bundle-r4-1" for rule in rules):
            first = (resource.get("entry") or [{}])[0].get("resource", {})
            if first.get("resourceType") != "Parameters":
                found.append(f"{at}: the first entry is no Parameters")
        return found

    def below(self, node, value, beside, at):
        for name, child in node.children.items():
            all_of = items(value, beside, name)
            yield from counted(child.element, len(all_of), f"{at}.{name}")
            for place, (key, own, more) in enumerate(all_of):
                yield from self.one(child, key, own, more, f"{at}.{key}[{place}]")
            for name_of_slice, of in child.slices.items():
                among = [(place, one) for place, one in enumerate(all_of) if is_in(child.slices, of, one[0], one[1])]
                yield from counted(of.element, len(among), f"{at}.{name}:{name_of_slice}")
                for place, (key, own, more) in among:
                    yield from self.one(of, key, own, more, f"{at}.{key}[{place}]")

    def one(self, node, key, value, beside, at):
        fixed = node.fixed()
        if fixed is not None and value != fixed:
            yield f"{at} is {value!r}, not {fixed!r}"
        kinds = [kind["code"] for kind in node.element.get("type", [])]
        if node.element.get("path", "").endswith("[x]") and kinds:
            kind = next((kind for kind in kinds if key.endswith(kind[0].upper() + kind[1:])), None)
            if kind is None:
                yield f"{at} is none of {kinds}"
            elif kind in ("unsignedInt", "positiveInt") and not (type(value) is int and value >= (kind == "positiveInt")):
                yield f"{at} is {value!r}, no {kind}"
        bound = node.element.get("binding", {})
        codes = CODES.get(bound.get("valueSet", "").split("|")[0])
        if codes and bound.get("strength") == "required" and value not in codes:
            yield f"{at} is {value!r}, none of {sorted(codes)}"
        for profile in node.profiles():
            if profile in self.trees and isinstance(value, dict):
                yield from self.findings(value, profile, at)
        yield from self.below(node, value, beside, at)


def counted(element, many, at):
    least, most = element.get("min", 0), element.get("max", "*")
    if many < least or (most != "*" and many > int(most)):
        yield f"{at} is there {many} times, not {least} to {most}"


def of_subscription(guide, subscription):
    return guide.findings(subscription, IG + "backport-subscription")


def of_status(guide, parameters):
    return guide.findings(parameters, IG + "backport-subscription-status-r4")


def of_notification(guide, bundle):
    """The profile, and what the guide says of entries in words."""
    found = guide.findings(bundle, IG + "backport-subscription-notification-r4")
    entries = bundle.get("entry", [])
    for place, entry in enumerate(entries):
        request, response = entry.get("request", {}), entry.get("response", {})
        if request.get("method") not in METHODS or not request.get("url") or not response.get("status"):
            found.append(f"Bundle.entry[{place}] has no request and response")
    if found:
        return found
    said = entries[0]["resource"]["parameter"]
    subscription = next(one["valueReference"] for one in said if one["name"] == "subscription")
    url = entries[0]["request"]["url"]
    if entries[0]["request"]["method"] != "GET" or not url.endswith("/$status"):
        found.append(f"Bundle.entry[0] is not of $status but of {url}")
    # The guide's examples name the Subscription by its address, the request by its path or address.
    if url.removesuffix("/$status").rsplit("/", 1)[-1] != subscription["reference"].rsplit("/", 1)[-1]:
        found.append(f"Bundle.entry[0] is of {url}, not of {subscription['reference']}")
    return found


def of_statuses(guide, bundle):
    """What `$status` answers."""
    found = [] if bundle.get("type") == "searchset" else [f"Bundle.type is {bundle.get('type')}"]
    for entry in bundle.get("entry", []):
        found += of_status(guide, entry["resource"])
    return found
