"""Search against a second opinion: random resources, random queries, and a plain reading of R4's search page.

Nothing here knows how the server parses, indexes or joins. Each query's matches are found a second time by walking
over the JSON that was sent, and both sets of ids have to be the same.
"""

import json
import os
import random
import re
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal, getcontext
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

BASE, KEY = os.environ["AUGURY_BASE"], os.environ["AUGURY_KEY"]
SEED, QUERIES = int(os.environ.get("ORACLE_SEED", "4")), int(os.environ.get("ORACLE_QUERIES", "3600"))

Resource = dict[str, Any]
Range = tuple[Any, Any]
dice = random.Random(SEED)
pick = dice.choice
# One kept connection: thousands of requests are most of what this suite does.
connection = HTTPConnection(urlsplit(BASE).netloc)


def ask(method: str, url: str, body: Resource | str | None = None) -> Any:
    kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/fhir+json"
    sent = body if body is None or isinstance(body, str) else json.dumps(body, default=float)
    connection.request(method, url[url.index("/", 8):], sent, {"Content-Type": kind, "Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    content = json.loads(answer.read() or b"null")
    assert answer.status < 300, f"{method} {url}: {answer.status} {json.dumps(content)[:500]}"
    return content


# What values mean: from the least to the greatest of them.
UCUM = "http://unitsofmeasure.org"
GRAMS = {"ug": Decimal("1e-6"), "mg": Decimal("1e-3"), "g": Decimal(1), "kg": Decimal("1e3")}
getcontext().prec = 60
TINY, HUGE, EVER = Decimal("1e-25"), Decimal("1e25"), 10**18
# A search value is from `s` to `l`, what is searched from `a` to `b`. The page's words on `ge` of what lies across the
# value's edge can be read in two ways; this is HAPI's.
PREFIXES: dict[str, Callable[[Any, Any, Any, Any], bool]] = {
    "eq": lambda s, l, a, b: s <= a and b <= l, "ne": lambda s, l, a, b: not (s <= a and b <= l),
    "gt": lambda s, l, a, b: b > l, "lt": lambda s, l, a, b: a < s, "sa": lambda s, l, a, b: a > l,
    "ge": lambda s, l, a, b: b >= s, "le": lambda s, l, a, b: a <= l, "eb": lambda s, l, a, b: b < s,
}


def interval(text: str) -> Range:
    """The first and the last microsecond of what a date says, as far as it says it; without an offset it is UTC."""
    start = datetime.fromisoformat(text + {4: "-01-01", 7: "-01"}.get(len(text), ""))
    start = start if start.tzinfo else start.replace(tzinfo=timezone.utc)
    clock = re.sub(r"(Z|[+-]\d\d:\d\d)$", "", text)[11:]
    end = start + {0: timedelta(days=1), 5: timedelta(minutes=1), 8: timedelta(seconds=1)}.get(
        len(clock), timedelta(milliseconds=1))
    if len(text) == 4:
        end = start.replace(year=start.year + 1)
    elif len(text) == 7:
        end = (start + timedelta(days=32)).replace(day=1)
    return round(start.timestamp() * 1e6), round(end.timestamp() * 1e6) - 1


def dated(element: Any) -> Range | None:
    """A date, an instant, which is as wide as it is written, a Period, or the outer limits of a Timing, if it has any."""
    if isinstance(element, str):
        return interval(element)
    if "instant" in element:
        return interval(element["instant"])
    if "event" in element or "repeat" in element:
        period = element.get("repeat", {}).get("boundsPeriod")
        limits = [*map(interval, element.get("event", [])), *([dated(period)] if period else [])]
        return (min(a for a, _ in limits), max(b for _, b in limits)) if limits else None
    start, end = element.get("start"), element.get("end")
    return interval(start)[0] if start else -EVER, interval(end)[1] if end else EVER


def measured(element: Resource) -> Range | None:
    """A Quantity or a Range. Of comparators the page says nothing, but that all values are ranges: "< 5" ends at 5."""
    if "low" in element or "high" in element:
        return element.get("low", {}).get("value", -HUGE), element.get("high", {}).get("value", HUGE)
    if (value := element.get("value")) is None:
        return None
    ranges = {"<": (-HUGE, value - TINY), "<=": (-HUGE, value), ">=": (value, HUGE), ">": (value + TINY, HUGE)}
    return ranges.get(element.get("comparator"), (value, value))


def plain(text: str) -> str:
    """Without case and combining characters."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c)).casefold()


def walk(node: Any, path: str) -> list[Any]:
    found = [node]
    for step in path.split("."):
        found = [one[step] for one in found if isinstance(one, dict) and step in one]
        found = [one for many in found for one in (many if isinstance(many, list) else [many])]
    return found


def pointed(reference: Resource) -> str:
    """Where a reference leads: `Type/id` on this server, or another's address. What is contained is nobody else's."""
    text = reference.get("reference", "")
    return "" if text.startswith("#") else text.removeprefix(f"{BASE}/").split("/_history/")[0]


class Parameter(NamedTuple):
    kind: str
    elements: Callable[[Resource], list[Any]]
    system: str | None = None
    parts: tuple["Parameter", ...] = ()
    paths: str = ""

    def is_there(self, resource: Resource) -> bool:
        """An element without anything that could be searched by is there all the same."""
        return any(walk(resource, path) for path in self.paths.split("+"))


def at(kind: str, paths: str, system: str | None = None) -> Parameter:
    """What is found at one of several paths. References of `only` one type are known by their text. No value
    is found in a Quantity without a number and in a Timing without ends."""
    def elements(resource: Resource) -> list[Any]:
        found = [{"instant": one} if path in ("effectiveInstant", "meta.lastUpdated") else one
                 for path in paths.split("+") for one in walk(resource, path)]
        if kind in ("date", "quantity"):
            return [one for one in found if (dated if kind == "date" else measured)(one)]
        if kind.startswith("only"):
            return [one for one in found if f"/{kind[4:]}/" in f"/{pointed(one)}"]
        return found
    return Parameter(re.sub("only.*", "only", kind), elements, system, (), paths)


def pairs(second: str, *under: str) -> Parameter:
    """A code and something else, of one element: of the resource itself, or of one component."""
    parts = at("concept", "code"), at("quantity" if second == "valueQuantity" else "concept", second)
    return Parameter("composite", lambda resource: [
        (a, b) for path in under for one in (walk(resource, path) if path else [resource])
        for a in parts[0].elements(one) for b in parts[1].elements(one)], None, parts)


def table(text: str) -> dict[str, Parameter]:
    """`name:kind=paths@system`; the path may be left out where it is the name."""
    rows = re.findall(r"(\S+?):(\w+)(?:=([\w.+]+))?(?:@(\S+))?", text)
    return {name: at(kind, paths or name, f"http://hl7.org/fhir/{system}" if system else None)
            for name, kind, paths, system in rows}


COMMON = """_id:id=id _lastUpdated:date=meta.lastUpdated _tag:coding=meta.tag _security:coding=meta.security
    _profile:uri=meta.profile identifier:identifier """
PERSON = COMMON + """active:boolean gender:code@administrative-gender family:string=name.family given:string=name.given
    name:string address:string address-city:string=address.city address-postalcode:string=address.postalCode
    telecom:contact """
PARAMETERS: dict[str, dict[str, Parameter]] = {
    "Patient": table(PERSON + """birthdate:date=birthDate death-date:date=deceasedDateTime
        general-practitioner:reference=generalPractitioner language:concept=communication.language""") | {
        "deceased": Parameter("boolean", lambda one: ["deceasedDateTime" in one or one.get("deceasedBoolean", False)])},
    "Practitioner": table(PERSON + "communication:concept"),
    "Encounter": table(COMMON + """class:coding status:code@encounter-status type:concept date:date=period
        subject:reference participant:reference=participant.individual length:quantity reason-code:concept=reasonCode
        part-of:reference=partOf patient:onlyPatient=subject
        practitioner:onlyPractitioner=participant.individual"""),
    "Condition": table(COMMON + """code:concept clinical-status:concept=clinicalStatus severity:concept
        category:concept subject:reference encounter:reference asserter:reference body-site:concept=bodySite
        onset-date:date=onsetDateTime+onsetPeriod onset-age:quantity=onsetAge+onsetRange onset-info:string=onsetString
        recorded-date:date=recordedDate patient:onlyPatient=subject"""),
    "Observation": table(COMMON + """code:concept category:concept status:code@observation-status subject:reference
        performer:reference encounter:reference has-member:reference=hasMember value-quantity:quantity=valueQuantity
        data-absent-reason:concept=dataAbsentReason value-concept:concept=valueCodeableConcept
        value-string:string=valueString+valueCodeableConcept.text value-date:date=valueDateTime+valuePeriod
        component-code:concept=component.code component-value-quantity:quantity=component.valueQuantity
        combo-code:concept=code+component.code combo-value-quantity:quantity=valueQuantity+component.valueQuantity
        date:date=effectiveDateTime+effectivePeriod+effectiveTiming+effectiveInstant patient:onlyPatient=subject""") | {
        "code-value-quantity": pairs("valueQuantity", ""), "code-value-concept": pairs("valueCodeableConcept", ""),
        "component-code-value-quantity": pairs("valueQuantity", "component"),
        "combo-code-value-quantity": pairs("valueQuantity", "", "component")},
    "ValueSet": table(COMMON + """url:uri name:string title:string status:code@publication-status version:caseless
        date:date publisher:string jurisdiction:concept reference:uri=compose.include.system
        code:code=compose.include.concept.code"""),
}
# by which parameter, to or from which type, and that one's parameters
CHAINS = {
    "Patient": ["general-practitioner Practitioner name gender identifier active family"],
    "Encounter": ["subject:Patient Patient family birthdate gender", "practitioner Practitioner family"],
    "Condition": ["patient Patient identifier", "encounter Encounter class", "asserter:Patient Patient given"],
    "Observation": ["subject:Patient Patient family _id birthdate", "encounter Encounter class status",
                    "performer:Practitioner Practitioner name", "has-member Observation code date value-quantity"],
}
REVERSE = {
    "Patient": ["patient Observation date code-value-quantity", "subject Condition code", "patient Encounter type"],
    "Practitioner": ["performer Observation code", "general-practitioner Patient name", "practitioner Encounter type"],
    "Encounter": ["encounter Condition code", "encounter Observation code date", "part-of Encounter status"],
    "Observation": ["has-member Observation code status"],
}
COMPARTMENTS = {("Patient", "Observation"): ["subject", "performer"], ("Patient", "Encounter"): ["patient"],
                ("Patient", "Condition"): ["patient", "asserter"], ("Encounter", "Observation"): ["encounter"],
                ("Encounter", "Condition"): ["encounter"]}

FAMILIES = ["Müller", "Muller", "MULLER-Lang", "O'Neil", "Obrist", "d'Ávila", "Núñez", "Smith, Jr.", "Smith", "Ca$h",
            "Pipe|Line", "Back\\slash", "de la Cruz", "Åberg", "Zoë", "Noe\u0308l", "MCDOUGALL", "Li", "Lind"]
GIVENS = ["Eve", "Evelyn", "Séverine", "severin", "Ana", "Änne", "Jean-Luc", "Ω", "Ivo", "X"]
CITIES = ["Köln", "Koln-Porz", "São Paulo", "Paris", "PARIS 5", "Aix, en P."]
SYSTEMS = ["http://loinc.org", "http://codes.example/a", "http://codes.example/a/b", "urn:oid:1.2.3"]
CODES = ["8480-6", "8462-4", "2160-0", "A$1", "B,2", "C|3", "D\\4", "two words", "1"]
WORDS = ["Systolic pressure", "systole", "Créatinine, serum", "Body weight", "WEIGHT", "a$b|c\\d"]
KEYS = ["1", "12", "a,b", "a|b", "a$b", "a\\b", "x y", "1$"]
SETS = "http://sets.example/fhir/ValueSet"
URLS = [f"{SETS}/1", f"{SETS}/2", f"{SETS}/2/more", "http://sets.example/fhir", "http://x.example/,$", "urn:oid:1.2"]
CLOCKS = [f"{clock}{z}" for clock in ["00:00:00", "10:30:00", "10:30:00.000", "23:59:59.500"] for z in ["Z", "+02:00"]]
DAYS = [f"{y}-{d}" for y in [2019, 2020, 2020, 2021] for d in ["01-01", "01-15", "02-28", "02-28", "12-31"]]
SECONDS = [f"{day}T{clock}" for day in DAYS for clock in CLOCKS]
MOMENTS = [day[:size] for day in DAYS for size in [4, 4, 7, 7, 10, 10, 10, 10]] + SECONDS
AMOUNTS = "5 5.0 5.4 5.40 5.44 5.35 5.45 0.0054 0.005403 0.005 5400 5000 100 99.5 100.5 -1 0 62.5".split()
AGES = [{"value": Decimal(n), "system": UCUM, "code": "a"} for n in range(1, 10)]
UNITS = [("mg", UCUM, "mg"), ("g", UCUM, "g"), ("kg", UCUM, "kg"), ("mcg", UCUM, "ug"), ("mg", None, None),
         (None, None, None), ("mmHg", UCUM, "mm[Hg]"), ("mg", "http://codes.example/a", "mg"), (None, UCUM, "mg")]
ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
SIZES = {"Patient": 85, "Practitioner": 30, "Encounter": 75, "Condition": 75, "Observation": 130, "ValueSet": 50}
IDS = {kind: [f"{kind[:3].lower()}-{n}" for n in range(size)] for kind, size in SIZES.items()}
IDS["Patient"] += ["PAT-1", "Pat-2"]


def maybe(chance: float, make: Callable[..., Any], *how: Any) -> Any:
    return make(*how) if dice.random() < chance else None


def some(most: int, make: Callable[..., Any], *how: Any) -> list[Any]:
    return [make(*how) for _ in range(dice.randint(0, most))]


def tidy(**content: Any) -> Resource:
    return {name: value for name, value in content.items() if value not in (None, {}, [])}


def period() -> Resource:
    start, end = sorted([pick(MOMENTS), pick(MOMENTS)], key=lambda text: interval(text)[0])
    end = end if interval(end)[1] > interval(start)[1] else start
    return pick([{"start": start, "end": end}, {"start": start, "end": end}, {"start": start}, {"end": end}])


def coding() -> Resource:
    words = {"system": maybe(0.8, pick, SYSTEMS), "code": maybe(0.93, pick, CODES), "display": maybe(0.4, pick, WORDS)}
    return tidy(**words) or {"code": "1"}


def concept() -> Resource:
    return tidy(coding=some(3, coding), text=maybe(0.4, pick, WORDS)) or {"text": "only text"}


def identifier() -> Resource:
    return tidy(system=maybe(0.7, pick, SYSTEMS), value=maybe(0.9, pick, KEYS)) or {"use": "old"}


def quantity() -> Resource:
    value, (unit, system, code) = maybe(0.9, lambda: Decimal(pick(AMOUNTS))), pick(UNITS)
    comparator = maybe(0.15, pick, ["<", "<=", ">=", ">"]) if value is not None else None
    return tidy(value=value, unit=unit, system=system, code=code, comparator=comparator) or {"unit": "mg"}


def refer(*kinds: str) -> Resource:
    kind = pick(kinds)
    target = f"{kind}/{pick(IDS[kind][: len(IDS[kind]) // 2])}"
    forms = [target] * 12 + [f"{BASE}/{target}"] * 2 + [f"{target}/_history/1", f"http://far.example/{target}", None]
    return tidy(reference=pick(forms), identifier=maybe(0.2, identifier)) or {"identifier": {"value": "1"}}


def person() -> Resource:
    name = lambda: tidy(family=maybe(0.85, pick, FAMILIES), given=some(2, pick, GIVENS), prefix=some(1, pick, ["Dr."]),
                        text=maybe(0.1, pick, FAMILIES)) or {"use": "old"}
    contacts = [{"system": "phone", "value": "555-1"}, {"system": "phone", "value": "555-2"},
                {"system": "email", "value": "a@x.example"}, {"system": "email", "value": "b@x.example"}]
    return tidy(name=some(2, name), gender=maybe(0.8, pick, ["male", "female", "other", "unknown"]),
                active=maybe(0.6, pick, [True, False]), telecom=some(2, pick, contacts),
                address=some(1, lambda: {"city": pick(CITIES), "postalCode": pick(["50667", "5066", "SW1"])}))


def content(kind: str) -> Resource:
    """A random resource of a type; what FHIR forbids is not among them, what is merely odd is."""
    meta = tidy(tag=some(2, coding), security=some(1, coding), profile=some(1, pick, URLS[:4]))
    one = tidy(meta=meta, identifier=some(3, identifier))
    if kind == "Practitioner":
        return one | person() | tidy(communication=some(1, concept))
    if kind == "Patient":
        born, dead = maybe(0.8, pick, DAYS), {"deceasedBoolean": pick([True, False])}
        return one | person() | pick([{}, dead, {"deceasedDateTime": pick(MOMENTS)}]) | tidy(
            birthDate=born and born[: pick([4, 7, 10])], _birthDate=None if born else ABSENT,
            communication=some(2, lambda: {"language": concept()}), generalPractitioner=some(2, refer, "Practitioner"))
    if kind == "Encounter":
        return one | {"class": coding()} | tidy(
            status=pick(["planned", "finished"]), type=some(2, concept), period=maybe(0.8, period),
            subject=maybe(0.9, refer, "Patient"), reasonCode=some(2, concept), partOf=maybe(0.3, refer, "Encounter"),
            length=maybe(0.4, pick, AGES), participant=some(2, lambda: {"individual": refer("Practitioner")}))
    if kind == "Condition":
        low, high = {"low": pick(AGES[:4])}, {"high": pick(AGES[4:])}
        onset = pick([{}, {"onsetDateTime": pick(MOMENTS)}, {"onsetPeriod": period()}, {"onsetAge": pick(AGES)},
                      {"onsetString": pick(WORDS)}, {"onsetRange": pick([low | high, low])}])
        clinical = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}
        return one | onset | tidy(
            code=maybe(0.9, concept), clinicalStatus=pick([None, {"coding": [clinical]}]), severity=maybe(0.4, concept),
            bodySite=some(2, concept), category=some(2, concept), encounter=maybe(0.5, refer, "Encounter"),
            subject=refer("Patient"), asserter=maybe(0.5, refer, "Practitioner", "Patient"),
            recordedDate=maybe(0.5, pick, MOMENTS))
    if kind == "ValueSet":
        include = tidy(system=pick(SYSTEMS), concept=some(2, lambda: {"code": pick(CODES)}))
        return one | tidy(
            url=maybe(0.9, pick, URLS), name=pick([None, "Alpha", "alphabet", "Beta"]), date=pick([None, *MOMENTS]),
            title=maybe(0.5, pick, WORDS), status=pick(["draft", "active"]), version=pick([None, "1.0", "2", "3"]),
            publisher=maybe(0.5, pick, FAMILIES), jurisdiction=some(1, concept), compose={"include": [include]})
    value = pick([{"valueQuantity": quantity()}, {"valueQuantity": quantity()}, {"valueCodeableConcept": concept()},
                  {"valueString": pick(WORDS)}, {"valueDateTime": pick(MOMENTS)}, {"valuePeriod": period()}, {}])
    events, bounds = {"event": [pick(MOMENTS), pick(DAYS)]}, {"repeat": {"boundsPeriod": period()}}
    timing = pick([events, bounds, events | bounds, {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}])
    time = pick([{"effectiveDateTime": pick(MOMENTS)}, {"effectivePeriod": period()}, {"effectiveTiming": timing},
                 {"effectiveInstant": pick(SECONDS[:16])}, {"effectiveInstant": pick(SECONDS[:16])}, {}])
    inner = {"resourceType": "Patient", "id": "in", "name": [{"family": "Li"}], "gender": "male"}
    who = pick([{"subject": refer("Patient")}] * 8 + [{}, {"subject": {"reference": "#in"}, "contained": [inner]}])
    return one | value | time | who | tidy(
        code=concept(), category=some(2, concept), performer=some(2, refer, "Practitioner", "Patient"),
        status=pick(["final", "amended"]), hasMember=some(2, refer, "Observation"),
        dataAbsentReason=None if value else maybe(0.7, concept), encounter=maybe(0.5, refer, "Encounter"),
        component=[] if value else some(4, lambda: tidy(code=concept(), valueQuantity=maybe(0.8, quantity))))


def load() -> dict[str, dict[str, Resource]]:
    """Everything is written, a third once more with other content, and a tenth is deleted: what is left."""
    every = [(kind, id) for kind, ids in IDS.items() for id in ids]
    live: dict[str, dict[str, Resource]] = {kind: {} for kind in IDS}
    for part in (dice.sample(every, len(every)), dice.sample(every, len(every) // 3)):
        for start in range(0, len(part), 60):
            entries = []
            for kind, id in part[start : start + 60]:
                live[kind][id] = {"resourceType": kind, "id": id} | content(kind)
                entries.append({"resource": live[kind][id], "request": {"method": "PUT", "url": f"{kind}/{id}"}})
            ask("POST", BASE, {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    for kind, id in dice.sample(every, len(every) // 10):
        ask("DELETE", f"{BASE}/{kind}/{id}")
        del live[kind][id]
    for kind, one in ((kind, one) for kind in live for one in live[kind].values()):
        one.setdefault("meta", {})["lastUpdated"] = ask("GET", f"{BASE}/{kind}/{one['id']}")["meta"]["lastUpdated"]
    return live


WORDED = {"concept": "text coding.display", "coding": "display", "string": "text family given prefix suffix line city "
          "district state postalCode country"}


class Asked(NamedTuple):
    """A value, or a parameter with all of its values: how it is sent, and what it holds of."""
    wire: str
    holds: Callable[[Any], bool]
    name: str = ""


def escaped(text: str | None) -> str:
    return re.sub(r"([\\$,|])", r"\\\1", text or "")


def codes(parameter: Parameter, element: Any) -> list[tuple[str | None, str | None]]:
    if parameter.kind in ("concept", "coding"):
        every = element.get("coding", []) if parameter.kind == "concept" else [element]
        return [(one.get("system"), one.get("code")) for one in every]
    if parameter.kind in ("identifier", "contact"):
        return [(element.get("system") if parameter.kind == "identifier" else None, element.get("value"))]
    return [(parameter.system, str(element).lower() if parameter.kind in ("boolean", "caseless") else element)]


def token(parameter: Parameter, modifier: str, element: Any) -> Asked:
    """`|code` is not asked of elements of type code: whether their implicit system is one can be argued."""
    if modifier == ":text":
        return string(parameter, modifier, element)
    system, code = pick(codes(parameter, element) or [(None, pick(CODES))])
    forms = ["code"] * 3 + ([] if system is None else ["both"] * 3)
    forms += ["system"] if system and parameter.kind not in ("code", "boolean", "caseless") else []
    forms += ["bare"] if parameter.kind in ("concept", "coding", "identifier") else []
    form = pick(forms) if code else "system"
    if form == "system":
        system = system or pick(SYSTEMS)
        return Asked(f"{escaped(system)}|", lambda e: any(s == system for s, _ in codes(parameter, e)))
    written = escaped(code.upper() if parameter.kind == "caseless" else code)
    if form == "code":
        return Asked(written, lambda e: any(c == code for _, c in codes(parameter, e)))
    wanted = (system if form == "both" else None, code)
    return Asked(f"{escaped(wanted[0])}|{written}", lambda e: wanted in codes(parameter, e))


def worded(parameter: Parameter, element: Any) -> list[str]:
    """The strings of an element that are searched in, be it by `:text`."""
    return [element] if isinstance(element, str) else [
        text for part in WORDED[parameter.kind].split() for text in walk(element, part)]


def string(parameter: Parameter, modifier: str, element: Any) -> Asked:
    """Some of a text, in other letters. No names differ by punctuation alone: leaving it out has a test of its own."""
    text = pick(worded(parameter, element) or WORDS)
    if modifier == ":exact":
        exact = pick([text, text, text.upper(), text[:-1] or text])
        return Asked(escaped(exact), lambda e: exact in worded(parameter, e))
    start = dice.randint(0, len(text) - 1) if modifier == ":contains" else 0
    part = text[start : start + dice.randint(1, 8)].strip(" ,.'-\\")
    part = pick([part, part.upper(), part.lower(), plain(part)]) if plain(part) else text[:1]
    test = str.__contains__ if modifier == ":contains" else str.startswith
    return Asked(escaped(part), lambda e: any(test(plain(one), plain(part)) for one in worded(parameter, e)))


def date(parameter: Parameter, modifier: str, element: Any) -> Asked:
    """Three digits are all the fraction that is asked: what more or fewer of them mean is not said."""
    said = [element] if isinstance(element, str) else [one for one in element.values() if isinstance(one, str)]
    text = pick([*said, pick(MOMENTS)])
    if text < "2022":
        text = maybe(0.3, re.sub, r"(:\d\d)([Z+])", r"\1.000\2", text) or text[: pick([4, 7, 10, 99, 99, 99])]
        text = maybe(0.2, lambda: re.sub(r":\d\d(\.\d+)?(Z|[+]\d\d:\d\d)$", r"\2", text)) or text
    prefix = pick(["", *PREFIXES])
    return Asked(prefix + text, lambda e: PREFIXES[prefix or "eq"](*interval(text), *dated(e)))


def number(parameter: Parameter, modifier: str, element: Resource) -> Asked:
    """By number alone, by the unit's code or name, or by system and code: a unit of mass is found in all of them."""
    stated = element.get("low", element)
    unit, system, code = (stated.get(name) for name in ("unit", "system", "code"))
    text = pick([str(stated.get("value", 5)), pick(AMOUNTS)])
    if system == UCUM and code in GRAMS:
        other = pick(list(GRAMS))
        converted = format(Decimal(text) * GRAMS[code] / GRAMS[other], "f")
        # Conversions are compared by twelve digits.
        if len(converted.strip("-").replace(".", "").strip("0")) < 12 and len(converted) < 12:
            text, code = converted, other
    # Of a single digit with an exponent the page's example, 1e2, and its rule disagree.
    if len(Decimal(text).as_tuple().digits) > 1 and dice.random() < 0.3:
        text = format(Decimal(text), "E")
    value, prefix, word = Decimal(text), pick(["", *PREFIXES]), pick([one for one in (unit, code) if one] or ["mg"])
    half = Decimal((0, (5,), value.as_tuple().exponent - 1)) if prefix in ("", "eq", "ne") else Decimal(0)
    form = pick(["number", "unit", "both", "both"] if system and code else ["number", "unit"])

    def holds(e: Resource) -> bool:
        its, factor, (least, most) = e.get("low", e), Decimal(1), measured(e)
        if form == "both" and system == its.get("system") == UCUM and {code, its.get("code")} <= GRAMS.keys():
            factor = GRAMS[its["code"]] / GRAMS[code]
        elif form == "both" and (its.get("system"), its.get("code")) != (system, code):
            return False
        last = value + max(half - TINY, Decimal(0))
        return (form != "unit" or word in (its.get("unit"), its.get("code"))) and PREFIXES[prefix or "eq"](
            value - half, last, least * factor, most * factor)

    return Asked(prefix + text + {"number": "", "unit": f"||{escaped(word)}", "both": f"|{system}|{code}"}[form], holds)


def reference(parameter: Parameter, modifier: str, element: Resource) -> Asked:
    if modifier == ":identifier":
        inner = token(at("identifier", ""), "", element.get("identifier", {"value": "1"}))
        return Asked(inner.wire, lambda e: any(inner.holds(one) for one in walk(e, "identifier")))
    leads = pointed(element) or f"Patient/{pick(IDS['Patient'])}"
    if "://" in leads:
        return Asked(escaped(leads), lambda e: pointed(e) == leads)
    kind, id = leads.split("/")
    if modifier:
        return Asked(id, lambda e: pointed(e) == f"{modifier[1:]}/{id}")
    if dice.random() < 0.3:
        return Asked(id, lambda e: pointed(e).count("/") == 1 and pointed(e).endswith(f"/{id}"))
    return Asked(pick([leads, f"{BASE}/{leads}"]), lambda e: pointed(e) == leads)


def uri(parameter: Parameter, modifier: str, element: str) -> Asked:
    """Only whole steps of a path are tried: for the page any start will do, for HAPI's `:above` only these."""
    if modifier == ":below" and not element.startswith("urn:"):
        start = "/".join(element.split("/")[: pick([3, 4, 5, 9])])
        return Asked(escaped(start), lambda e: f"{e}/".startswith(f"{start}/"))
    if modifier == ":above" and not element.startswith("urn:"):
        end = element + pick(["", "/_history/5"])
        return Asked(escaped(end), lambda e: f"{end}/".startswith(f"{e}/"))
    return Asked(escaped(element), lambda e: e == element)


def composite(parameter: Parameter, modifier: str, element: Any) -> Asked:
    def whole(part: Parameter, one: Any) -> Asked:
        """Of a code the system alone is no value of a composite."""
        while (asked := MAKERS[part.kind](part, "", one)).wire.endswith("|"):
            one = {"coding": [coding()]} if part.kind == "concept" else one
        return asked

    first, second = (whole(part, one) for part, one in zip(parameter.parts, element))
    return Asked(f"{first.wire}${second.wire}", lambda e: first.holds(e[0]) and second.holds(e[1]))


MAKERS = dict.fromkeys("concept coding identifier contact code boolean caseless id".split(), token) | {
    "date": date, "quantity": number, "string": string, "uri": uri, "reference": reference, "only": reference,
    "composite": composite}


def names(kind: str, *sorts: str) -> list[str]:
    return [name for name, parameter in PARAMETERS[kind].items() if parameter.kind in sorts]


class Oracle(NamedTuple):
    live: dict[str, dict[str, Resource]]

    def simple(self, kind: str, name: str) -> Asked:
        """One parameter of a type, with values of which many come from what there is."""
        parameter = PARAMETERS[kind][name]
        codes_ = ["", "", ":not", ":text"]
        modifiers = {"string": ["", ":exact", ":contains"], "uri": ["", ":below", ":above"], "code": ["", ":not"],
                     "concept": codes_, "coding": codes_, "identifier": ["", ":not"], "boolean": ["", ":not"],
                     "reference": ["", "", ":identifier", ":Patient"]}.get(parameter.kind, [""])
        if name.startswith(("_", "combo", "component")):
            modifiers = [one for one in modifiers if one in ("", ":not")]  # the others are refused, as they may be
        modifier = pick(modifiers)
        if parameter.paths and parameter.kind not in ("only", "id") and name[0] != "_" and dice.random() < 0.1:
            missing = pick([True, False])
            return Asked(str(missing).lower(), lambda one: missing != parameter.is_there(one), f"{name}:missing")
        elements = [value for one in self.live[kind].values() for value in parameter.elements(one)]
        values = [MAKERS[parameter.kind](parameter, modifier, pick(elements)) for _ in range(pick([1, 1, 1, 2, 3]))]
        wire, negated = ",".join(value.wire for value in values), modifier == ":not"
        return Asked(wire, lambda one: negated != any(
            value.holds(e) for e in parameter.elements(one) for value in values), name + modifier)

    def targets(self, parameter: Parameter, source: Resource, kind: str) -> list[Resource]:
        """As they are now: of versioned references the page says that most systems know no other."""
        leads = [pointed(one).partition("/") for one in parameter.elements(source)]
        return [self.live[kind][id] for there, _, id in leads if there == kind and id in self.live[kind]]

    def parameter(self, kind: str) -> Asked:
        """A parameter, a chain or a reverse chain."""
        chance = dice.random()
        if chance < 0.15 and kind in CHAINS:
            name, target, *inner_names = pick(CHAINS[kind]).split()
            inner, by = self.simple(target, pick(inner_names)), PARAMETERS[kind][name.split(":")[0]]
            return Asked(inner.wire, lambda one: any(map(inner.holds, self.targets(by, one, target))),
                         f"{name}.{inner.name}")
        if chance < 0.27 and kind in REVERSE:
            name, source, *inner_names = pick(REVERSE[kind]).split()
            inner, by = self.simple(source, pick(inner_names)), PARAMETERS[source][name]
            meant = {one["id"] for other in self.live[source].values() if inner.holds(other)
                     for one in self.targets(by, other, kind)}
            return Asked(inner.wire, lambda one: one["id"] in meant, f"_has:{source}:{name}:{inner.name}")
        return self.simple(kind, pick([*PARAMETERS[kind], *names(kind, "date", "quantity", "composite", "string") * 2]))

    def within(self, kind: str) -> Asked:
        """All of a type, or those in somebody's compartment."""
        owners = [owner for owner, kind_ in COMPARTMENTS if kind_ == kind]
        if not owners or dice.random() < 0.9:
            return Asked(kind, lambda one: True)
        owner = pick(owners)
        home = f"{owner}/{pick(sorted(self.live[owner]))}"
        members = [PARAMETERS[kind][name] for name in COMPARTMENTS[owner, kind]]
        return Asked(f"{home}/{kind}", lambda one: any(pointed(e) == home for by in members for e in by.elements(one)))

    def difference(self, kind: str) -> str | None:
        """Asks one query; what is wrong with the answer."""
        where, asked = self.within(kind), [self.parameter(kind) for _ in range(pick([1, 1, 1, 2, 2, 3]))]
        expected = {id for id, one in self.live[kind].items() if where.holds(one) and all(p.holds(one) for p in asked)}
        query = "&".join(f"{one.name}={quote(one.wire, safe='')}" for one in asked)
        count = pick([max(1, len(expected) // pick([1, 2, 3, 4])), 1000])
        sort = maybe(0.25, lambda: pick(["", "-"]) + pick(["_id", *names(kind, "date", "string")]))
        shown = f"{query}&_count={count}" + (f"&_sort={sort}" if sort else "") + pick(["", "&_total=accurate"])
        place, posted = f"{BASE}/{where.wire}", dice.random() < 0.1
        try:
            first = ask("POST", f"{place}/_search", shown) if posted else ask("GET", f"{place}?{shown}")
            ids = pages(first, count)
            total = first.get("total") if "_total" in shown else len(ids)
            counted = maybe(0.2, lambda: ask("GET", f"{place}?{query}&_summary=count")["total"])
            assert len(ids) == len(set(ids)), "a match twice"
            lacking, beside = sorted(expected - set(ids)), sorted(set(ids) - expected)
            assert not lacking and not beside, f"not found {lacking[:6]}, found too {beside[:6]}"
            assert total == len(ids) and counted in (None, total), f"{len(ids)}, total {total}, counted {counted}"
            found = [self.live[kind][id] for id in ids]
            assert not sort or in_order(sort, PARAMETERS[kind][sort.strip("-")], found), f"not in order: {ids[:9]}"
        except AssertionError as wrong:
            return f"{where.wire}?{shown}\n    {str(wrong).splitlines()[0]}"
        return None


def pages(bundle: Resource, count: int) -> list[str]:
    ids: list[str] = []
    while True:
        entries = bundle.get("entry", [])
        assert all(one["search"]["mode"] == "match" for one in entries), f"beside matches: {json.dumps(entries)[:300]}"
        assert len(entries) <= count, f"{len(entries)} on a page of {count}"
        ids += [one["resource"]["id"] for one in entries]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            return ids
        bundle = ask("GET", following[0])


def in_order(sort: str, parameter: Parameter, found: list[Resource]) -> bool:
    """Nothing that lies wholly before another comes after it. Where several values come, or none, is not said."""
    ranks: list[Range] = []
    for one in found[::-1] if sort[0] == "-" else found:
        match parameter.elements(one):
            case [moment_] if parameter.kind == "date":
                ranks += [key for key in [dated(moment_)] if -EVER < key[0] and key[1] < EVER]
            case [str(text)] if re.fullmatch(r"[a-z]+(-\d+)?", text if parameter.kind == "id" else plain(text)):
                ranks.append((plain(text), plain(text)))
    return all(later[1] >= earlier[0] for n, later in enumerate(ranks) for earlier in ranks[:n])


def test_random_queries() -> None:
    oracle = Oracle(load())
    kinds = [*SIZES, "Observation", "Observation"]
    differences = [one for n in range(QUERIES) if (one := oracle.difference(kinds[n % len(kinds)]))]
    assert not differences, f"{len(differences)} of {QUERIES} (seed {SEED}):\n" + "\n".join(differences[:40])
