"""Two patients with everything in their charts, and questions about them: Eva's, which may be read, and another's, of
which no byte may come out. Every id of the other's has a word in it that can't occur elsewhere.

Eva's own resources refer to some of the other's, as a mother's do to her child's: these references, marked `joint`, are
hers to read. What they lead to is not.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from authorization_world import (
    BASE,
    FORM,
    KEY,
    RUN,
    TAGS,
    WHOSE,
    Answer,
    Browser,
    Caller,
    Resource,
    address,
    app,
    ask,
    bundle,
    everything,
    lay_out,
    person,
    quoted,
    resource,
)

MARK, NAME = f"zq{RUN}qz", f"Quixel{RUN}"
EVA, OTHER = f"eva-{RUN}", f"{MARK}-pat"
DOCTOR, CLINIC = f"doc-{RUN}", f"clinic-{RUN}"
CHART = f"chart-{RUN}"
# Codes that are in one chart alone, and one that is in both.
HERS, HIDDEN, COMMON = f"hers-{RUN}", f"hidden-{RUN}", f"common-{RUN}"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
WORD = "urn:words"


def to(kind: str, id: str, joint: bool = False) -> Resource:
    return {"reference": f"{kind}/{id}"} | ({"display": "joint"} if joint else {})


def concept(code: str, system: str = WORD) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def chart(patient: str) -> list[Resource]:
    """One of each type, and what refers to what."""
    own, hidden = (HERS, False) if patient == EVA else (HIDDEN, True)
    stem = MARK if hidden else f"e{RUN}"
    me = to("Patient", patient)
    meta = {"tag": [{"system": TAGS, "code": CHART}]}

    def of(kind: str, n: int | str, **more: Any) -> Resource:
        made = resource(kind, f"{stem}-{kind.lower()}-{n}"[:64], patient, meta=meta) | more
        return {name: value for name, value in made.items() if value != []}

    def at(kind: str, n: int | str) -> Resource:
        return to(kind, f"{stem}-{kind.lower()}-{n}"[:64])

    def joint(kind: str, n: int | str) -> list[Resource]:
        return [] if hidden else [to(kind, f"{MARK}-{kind.lower()}-{n}", True)]

    kinds = [kind for kind in WHOSE if WHOSE[kind] != "all" and kind not in ("Patient", "AuditEvent", "Group")]
    found = [of(kind, 0) for kind in kinds]
    # What was done by the other patient is the one's it was done to.
    by = [to("Practitioner", DOCTOR)] + ([to("Patient", EVA)] if hidden else [])
    found += [
        {
            "resourceType": "Patient",
            "id": patient,
            "meta": meta,
            "birthDate": "1960-02-03",
            "gender": "female",
            "identifier": [{"system": "urn:number", "value": own}],
            "generalPractitioner": [to("Practitioner", DOCTOR)],
            "managingOrganization": to("Organization", CLINIC),
            "name": [{"family": NAME if hidden else f"Abel{RUN}"}],
            **({"link": [{"other": to("Patient", EVA), "type": "seealso"}]} if hidden else {}),
        },
        *[
            of(
                "Encounter",
                n,
                **{"class": {"code": "AMB"}},
                status="finished",
                subject=me,
                type=[concept(own)],
                period={"start": f"2021-0{n}-01"},
                participant=[{"individual": to("Practitioner", DOCTOR)}],
                serviceProvider=to("Organization", CLINIC),
            )
            for n in (1, 2, 3)
        ],
        *[
            of(
                "Observation",
                n,
                code=concept([own, COMMON][n % 2]),
                subject=me,
                status=["final", "amended"][n % 2],
                category=[concept(["vital-signs", "laboratory"][n % 3 == 0], CATEGORY)],
                encounter=at("Encounter", 1 + n % 3),
                effectiveDateTime=f"2021-0{n}-11",
                performer=by,
                valueQuantity={"value": n, "unit": "mg"},
                device=at("Device", 1),
                hasMember=([at("Observation", n - 1)] if n > 1 else []) + joint("Observation", n),
                focus=[at("Condition", 1), *([] if hidden else [to("Patient", OTHER, True)])],
            )
            for n in range(1, 9)
        ],
        *[
            of(
                "Condition",
                n,
                code=concept([own, COMMON][n % 2]),
                subject=me,
                encounter=at("Encounter", 1),
                asserter=by[-1],
                recordedDate=f"2021-0{n}-02",
            )
            for n in (1, 2, 3, 4)
        ],
        of("Device", 1, type=concept(own), deviceName=[{"name": own, "type": "other"}], patient=me),
        *[
            of(
                "RiskAssessment",
                n,
                subject=me,
                basis=[at("Observation", n)],
                method=concept(own),
                code=concept(own),
                prediction=[{"probabilityDecimal": 0.1 * n}],
            )
            for n in (1, 2)
        ],
        of("Provenance", 1, target=[at("Observation", 2), me], agent=[{"who": by[-1]}]),
        of("Provenance", 2, target=[me, *joint("Observation", 2)], agent=[{"who": to("Practitioner", DOCTOR)}]),
        *[
            of(
                "DiagnosticReport",
                n,
                subject=me,
                code=concept(own),
                result=[at("Observation", n), *joint("Observation", n)],
                encounter=at("Encounter", n),
            )
            for n in (1, 2)
        ],
        of(
            "List",
            1,
            subject=me,
            code=concept(own),
            entry=[
                {"item": one}
                for one in (at("Observation", 2), at("Condition", 2), *joint("Observation", 2), *joint("Condition", 2))
            ],
        ),
        of(
            "Appointment",
            1,
            status="proposed",
            participant=[{"status": "accepted", "actor": one} for one in (me, to("Practitioner", DOCTOR))],
        ),
        of(
            "DocumentReference",
            1,
            subject=me,
            author=[by[-1]],
            context={"encounter": [at("Encounter", 1)]},
            type=concept(own),
        ),
        of(
            "Composition",
            1,
            subject=me,
            author=[by[-1]],
            title=own,
            section=[{"title": "x", "entry": [at("Condition", 2), *joint("Condition", 2)]}],
        ),
        of("AllergyIntolerance", 1, patient=me, recorder=by[-1], code=concept(own)),
        of(
            "MedicationRequest",
            1,
            subject=me,
            requester=by[0],
            encounter=at("Encounter", 2),
            medicationCodeableConcept=concept(COMMON),
        ),
        of("Procedure", 1, subject=me, performer=[{"actor": by[-1]}], code=concept(COMMON)),
        of("Communication", 1, subject=me, sender=by[-1], recipient=[by[-1]]),
        of("Task", 1, **{"for": me}, focus=at("ServiceRequest", 0), requester=by[0]),
        of("RelatedPerson", 1, patient=me, name=[{"family": NAME if hidden else "Abel"}]),
        of("CareTeam", 1, subject=me, participant=[{"member": by[-1]}]),
        of("Specimen", 1, subject=me, type=concept(own)),
    ]
    if not hidden:
        # Of the one that is both's, both know that it is.
        found.append(
            of(
                "Appointment",
                "both",
                status="proposed",
                participant=[
                    {"status": "accepted", "actor": me},
                    {"status": "accepted", "actor": to("Patient", OTHER, True)},
                ],
            )
        )
        found.append(of("Group", "both", type="person", member=[{"entity": me}, {"entity": to("Patient", OTHER)}]))
    return found


def shared() -> list[Resource]:
    meta = {"tag": [{"system": TAGS, "code": CHART}]}
    return [
        {"resourceType": "Practitioner", "id": DOCTOR, "meta": meta, "name": [{"family": "Doe"}]},
        {"resourceType": "Organization", "id": CLINIC, "meta": meta, "name": "Clinic"},
    ]


# Questions whose answer would tell what is in the other's chart: `V` is a word of the one's or of the other's. By the
# first they find something, by the second nothing.
PROBES = {
    "Observation?has-member:Observation.code=C": None,
    "Observation?focus:Patient.identifier=C": "other",
    "List?item:Observation.code=C": None,
    "List?item:Condition.code=C": None,
    "Composition?entry:Condition.code=C": None,
    "DiagnosticReport?result.code=C": None,
    "Provenance?target:Observation.code=C": None,
    "Appointment?actor:Patient.identifier=C": None,
    "Appointment?patient.identifier=C": None,
    "Observation?has-member:Observation.subject:Patient.identifier=C": None,
    "Provenance?patient.identifier=C": None,
    "Practitioner?_has:Observation:performer:code=C": None,
    "Practitioner?_has:Encounter:participant:type=C": None,
    "Practitioner?_has:Patient:general-practitioner:identifier=C": None,
    "Organization?_has:Patient:organization:identifier=C": None,
    "Organization?_has:Encounter:service-provider:type=C": None,
    "Organization?_has:Encounter:service-provider:_has:Observation:encounter:code=C": None,
    "Practitioner?_has:Patient:general-practitioner:_has:Condition:subject:code=C": None,
    "Patient?_has:Observation:performer:code=C": "other",
    "Patient?_has:Composition:author:title=C": "other",
    "Patient?_has:Patient:link:identifier=C": "other",
    "Patient?_has:Condition:asserter:code=C": "other",
    "Patient?_has:Observation:subject:code=C": None,
    "Patient?_has:Group:member:_id=G": "other",
    "Observation?_list=L": None,
    "Condition?_list=L": None,
}


class Questions:
    """Random ones, of what the server says it can be asked."""

    def __init__(self, dice: random.Random, since: str) -> None:
        # Others who were here before have a long history.
        self.dice, self.pick, self.since = dice, dice.choice, since
        statement = ask("GET", "metadata").json["rest"][0]["resource"]
        self.parameters = {
            one["type"]: [(p["name"], p["type"]) for p in one.get("searchParam", [])] for one in statement
        }
        self.includes = {one["type"]: one.get("searchInclude", []) for one in statement}
        self.things = [f"{one['resourceType']}/{one['id']}" for who in (EVA, OTHER) for one in chart(who)]
        self.kinds = ["Observation"] * 8 + [
            "Patient",
            "Encounter",
            "Condition",
            "List",
            "Provenance",
            "Appointment",
        ] * 3
        self.kinds += list(WHOSE)

    def referred(self) -> str:
        return self.pick([f"Patient/{EVA}", f"Patient/{OTHER}", f"Practitioner/{DOCTOR}", self.pick(self.things)])

    def value(self, kind: str) -> str:
        dates = ["2021", "2021-03", "2020-01-01", "1960-02-03"]
        by_kind = {
            "token": lambda: self.pick(
                [HERS, HIDDEN, COMMON, f"{WORD}|{HIDDEN}", "final", "vital-signs", f"{WORD}|", "true"]
            ),
            "string": lambda: self.pick([NAME, NAME[:4], "A", "D", "x", HERS, HIDDEN]),
            "date": lambda: self.pick(["", "ge", "lt", "ne", "sa"]) + self.pick(dates),
            "quantity": lambda: self.pick(["gt", "le", ""]) + self.pick(["1", "5", "100"]),
            "number": lambda: self.pick(["0.1", "gt0", "1"]),
            "uri": lambda: "urn:x",
            "reference": lambda: self.pick([self.referred(), self.referred().split("/")[1], EVA, OTHER]),
            "special": lambda: self.pick([f"e{RUN}-list-1", f"{MARK}-list-1"]),
            "composite": lambda: f"{self.pick([HERS, HIDDEN])}${self.pick(['1', 'gt1'])}",
        }
        return quoted(by_kind[kind]())

    def simple(self, kind: str, deep: bool = True) -> str:
        name, type_ = self.pick(self.parameters[kind])
        if name == "_id":
            return f"_id={','.join(self.pick(self.things).split('/')[1] for _ in range(3))}"
        chance = self.dice.random()
        if chance < 0.1 and name != "_list":
            return f"{name}:missing={self.pick(['true', 'false'])}"
        if chance < 0.25 and type_ == "token":
            return f"{name}:{self.pick(['not', 'text', 'not'])}={self.value(type_)}"
        if chance < 0.3 and type_ == "string":
            return f"{name}:{self.pick(['exact', 'contains'])}={self.value(type_)}"
        if chance < 0.6 and type_ == "reference" and deep:
            target = self.pick(["Patient", "Observation", "Encounter", "Condition", "Practitioner"])
            return f"{name}:{target}.{self.simple(target, self.dice.random() < 0.3)}"
        return f"{name}={self.value(type_)}"

    def reverse(self) -> str:
        kind = self.pick(
            ["Observation", "Encounter", "Condition", "Provenance", "List", "Composition", "Patient", "Group"]
        )
        links = [name for name, type_ in self.parameters[kind] if type_ == "reference"]
        return f"_has:{kind}:{self.pick(links)}:{self.pick([self.simple(kind, False), self.simple(kind)])}"

    def beside(self, kind: str) -> str:
        """What does not choose, but shows."""
        near = self.pick(
            ["Observation", "Encounter", "List", "Provenance", "Composition", "Appointment", "Group", kind]
        )
        of = self.pick(self.includes.get(near) or ["Observation:subject"])
        also, names = self.pick(["", ":iterate"]), [name for name, _ in self.parameters[kind]]
        own = self.pick(self.includes.get(kind) or ["*"])
        return self.pick(
            [
                f"_include{also}={self.pick(['*', f'{kind}:*', own, own])}",
                f"_include{also}={of}",
                f"_include:iterate={near}:*",
                f"_revinclude{also}={self.pick(['*', of, of, f'{near}:*'])}",
                f"_revinclude{also}={of}",
                f"_sort={self.pick(['', '-'])}{self.pick(names)}",
                f"_count={self.pick([1, 2, 5, 50])}",
                "_total=accurate",
                f"_elements={self.pick(['id', 'subject', 'name', 'code'])}",
                f"_summary={self.pick(['true', 'text', 'data', 'false'])}",
            ]
        )

    def search(self) -> tuple[str, str]:
        """Where, and what."""
        kind = self.pick(self.kinds)
        asked = [
            self.reverse() if self.dice.random() < 0.15 else self.simple(kind)
            for _ in range(self.pick([0, 1, 1, 1, 2]))
        ]
        asked += [self.beside(kind) for _ in range(self.pick([0, 1, 1, 2, 3]))]
        owner = self.pick([EVA, EVA, OTHER])
        stem = MARK if owner == OTHER else f"e{RUN}"
        where = self.pick(
            [kind] * 6
            + [
                f"Patient/{owner}/{kind}",
                f"Patient/{owner}/*",
                f"Practitioner/{DOCTOR}/{kind}",
                f"Practitioner/{DOCTOR}/*",
                f"Encounter/{stem}-encounter-1/{kind}",
                f"Device/{stem}-device-1/{kind}",
                "",
            ]
        )
        if where == "" or where.endswith("*"):
            # Of all types there are only the parameters of all.
            common = [
                f"_id={self.pick(self.things).split('/')[1]}",
                f"_tag={CHART}",
                f"_lastUpdated=gt2020&_tag={CHART}",
                self.reverse(),
            ]
            asked = [self.pick(common), *[one for one in asked if one.startswith(("_inc", "_rev", "_count", "_total"))]]
            if self.dice.random() < 0.5:
                asked.append(f"_type={kind},{self.pick(self.kinds)}")
        return where, "&".join(asked)

    def other(self) -> str:
        """What is no search."""
        thing, owner = self.pick(self.things), self.pick([EVA, OTHER])
        kind = self.pick(self.kinds)
        return self.pick(
            [
                thing,
                f"{thing}/_history",
                f"{thing}/_history/1",
                f"{thing}/$meta",
                f"{thing}/_history?_count=1",
                f"{kind}/_history?_count={self.pick([3, 20, 200])}&_since={self.since}",
                f"_history?_count=40&_since={self.since}",
                f"{kind}/_history?_at=2100&_count=500",
                f"{thing}?_elements=id",
                f"{thing}?_summary=true",
                f"Patient/{owner}/$everything?_count={self.pick([5, 50, 500])}",
                f"Patient/{owner}/$everything?_type={kind},Observation",
                f"Patient/{owner}/$everything?start=2021-02&end=2021-05",
                f"/predictions?patient={owner}",
                "/predictions?_count=100",
                f"/predictions/{thing.split('/')[1]}",
                f"Patient/{owner}/$accounting-of-disclosures",
                f"AuditEvent?patient={owner}",
                f"Patient/{owner}/$assess-risk",
            ]
        )


# Two patients, of whom one must not learn of the other.
HIDES = re.compile(rf"[\w.-]*(?:{MARK}|{NAME}|{HIDDEN})[\w.-]*")
JOINT = re.compile(rf'"reference":"\w+/{MARK}[\w.-]*","display":"joint"')
VITAL = f"category={CATEGORY}|vital-signs"


def hidden(text: str, said: str = "") -> set[str]:
    """Words of the other's chart that are in it, beside what Eva's own resources refer to and what was said."""
    return set(HIDES.findall(JOINT.sub("", text))) - set(HIDES.findall(unquote(said)))


def resources(content: Any) -> Iterator[Resource]:
    """What a Bundle shows, and Bundles in it; not what it says about how it was asked."""
    if content.get("resourceType") == "Bundle" and content.get("type") in ("searchset", "history", "batch-response"):
        for entry in content.get("entry", []):
            if "resource" in entry:
                yield from resources(entry["resource"])
    elif content.get("resourceType") != "OperationOutcome":
        yield content


class Charts:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        lay_out([*shared(), *chart(OTHER), *chart(EVA)])
        since = ask("GET", f"Practitioner/{DOCTOR}").json["meta"]["lastUpdated"]
        client = app()
        doctor = Browser(person("caring", "clinician", f"Practitioner/{DOCTOR}"))
        eva, other = (
            Browser(person(name, role, f"Patient/{who}"))
            for name, role, who in (("eva", "patient", EVA), ("evas-doctor", "clinician", EVA))
        )

        def token(scopes: str, by: Browser = doctor, patient: str = EVA) -> Caller:
            return Caller(f"{scopes} by {by.login}", by.token(client, scopes, patient)["access_token"], scopes, patient)

        self.whole = token("patient/*.cruds")
        self.others = token("patient/*.cruds", doctor, OTHER)
        self.callers = [
            self.whole,
            self.whole,
            token("patient/*.rs"),
            token("patient/*.read"),
            token("patient/*.rs", eva),
            token("user/*.cruds", other)._replace(scopes="patient/*.cruds", patient=EVA),
            token(f"patient/Observation.rs?{VITAL} patient/Patient.rs patient/Encounter.s"),
            token(
                "patient/Observation.r patient/Condition.s patient/Provenance.rs patient/List.rs patient/Location.rs"
            ),
        ]
        self.questions = Questions(self.dice, since)
        self.known = self.all()

    def all(self) -> dict[str, Resource]:
        """As the key of everything sees them now."""
        found = [one["resource"] for one in everything(f"?_tag={CHART}&_count=1000")]
        return {address(one): one for one in found}

    def leak(self, caller: Caller, answer: Answer, said: str, op: str = "s") -> str | None:
        if answer.status >= 500:
            return f"{answer.status}"
        if found := hidden(answer.raw, said):
            return f"tells {sorted(found)[:4]}"
        if found := hidden(str(answer.headers)):
            return f"tells in a header {sorted(found)[:4]}"
        if answer.status != 200 or not answer.text.startswith("{"):
            return None
        for one in resources(answer.json):
            if found := hidden(json.dumps(one, separators=(",", ":"))):
                return f"shows {sorted(found)[:4]}"
            whole = one if "SUBSETTED" not in str(one.get("meta")) else self.known.get(address(one))
            if op == "s" and whole and whole.get("resourceType") in WHOSE and not caller.may("s", whole):
                return f"shows {address(one)}"
        return None

    def pages(self, caller: Caller, method: str, path: str, body: str | None = None) -> tuple[list[Answer], str | None]:
        """To the end, and what is wrong with one of them or with what they say together."""
        answers = [ask(method, path, caller.bearer, body, FORM)]
        said = path + (body or "")
        while True:
            if wrong := self.leak(caller, answers[-1], said, "" if "_history" in path or "$" in path else "s"):
                return answers, f"page {len(answers)}: {wrong}"
            following = answers[-1].link("next") if answers[-1].status == 200 else None
            if following is None or len(answers) == 300:
                break
            answers.append(ask("GET", following.removeprefix(BASE).lstrip("/"), caller.bearer))
        total = answers[0].json.get("total") if answers[0].status == 200 else None
        if total is not None and total != len(matches(answers)) and "_summary=count" not in said:
            return answers, f"total {total} of {len(matches(answers))}"
        return answers, None

    def search(self, caller: Caller, where: str, query: str, posted: bool, plain: bool, counts: bool) -> str | None:
        if plain:
            query += f"&_tag={CHART}"
        if posted:
            answers, wrong = self.pages(caller, "POST", f"{where}/_search".lstrip("/"), query)
        else:
            answers, wrong = self.pages(caller, "GET", f"{where}?{query}")
        if wrong or answers[0].status != 200 or answers[-1].status != 200:
            return wrong
        found = matches(answers)
        if counts and "_summary" not in query:
            counted = ask("GET", f"{where}?{query}&_summary=count", caller.bearer).json.get("total")
            if counted != len(found):
                return f"counts {counted} of {len(found)}"
        if plain:
            meant = [one["resource"] for one in everything(f"{where}?{query}&_count=1000")]
            meant = [self.known.get(address(one), one) for one in meant if one["resourceType"] != "OperationOutcome"]
            expected = {address(one) for one in meant if caller.may("s", one)}
            if expected != set(found):
                return f"lacks {sorted(expected - set(found))[:4]}, has beside {sorted(set(found) - expected)[:4]}"
        return None

    def question(self) -> Callable[[], str | None]:
        """One at random, ready to be asked by any thread."""
        dice, questions, caller = self.dice, self.questions, self.dice.choice(self.callers)
        chance = dice.random()
        if chance < 0.62:
            where, query = questions.search()
            simple = (
                not any(sign in query for sign in ("_has", "include", "_list", "_count", "_summary"))
                and "." not in query
            )
            posted, plain, counts = dice.random() < 0.15, simple and dice.random() < 0.5, dice.random() < 0.4
            return lambda: named(self.search(caller, where, query, posted, plain, counts), caller, f"{where}?{query}")
        if chance < 0.85:
            path = questions.other()
            return lambda: named(self.pages(caller, "GET", path)[1], caller, path)
        if chance < 0.93:
            urls = [dice.choice([questions.other(), "?".join(questions.search())]).lstrip("/") for _ in range(8)]
            sent = bundle("batch", [("GET", url, None) for url in urls])
            return lambda: named(
                self.leak(caller, ask("POST", "", caller.bearer, sent), " ".join(urls), ""), caller, str(urls)
            )
        return self.stolen(caller)

    def stolen(self, caller: Caller) -> Callable[[], str | None]:
        """A page of somebody who sees more, asked for with a smaller right; or its end, put to an own question."""
        dice = self.dice
        kind, sort = (
            dice.choice(["Observation", "Condition", "Encounter", "Provenance"]),
            dice.choice(["", "&_sort=-_lastUpdated", "&_sort=_id"]),
        )
        path = dice.choice(
            [
                f"{kind}?_count=3{sort}",
                f"{kind}?patient={OTHER}&_count=2{sort}",
                "Patient?_count=1&_sort=family",
                f"{kind}/_history?_count=3",
                f"Patient/{OTHER}/$everything?_count=3",
                f"{kind}?_count=2&_include=*&_revinclude=*{sort}",
            ]
        )
        whose, own = dice.choice([KEY, self.others.bearer]), dice.random() < 0.5

        def asked() -> str | None:
            following = ask("GET", path, whose).link("next")
            if not following:
                return None
            page = following.rpartition("_page=")[2]
            stolen = f"{path.replace(OTHER, EVA)}&_page={page}" if own else following.removeprefix(BASE).lstrip("/")
            return named(self.pages(caller, "GET", stolen)[1], caller, stolen)

        return asked


def matches(answers: list[Answer]) -> list[str]:
    return [
        address(one["resource"])
        for answer in answers
        for one in answer.json.get("entry", [])
        if "resource" in one and one.get("search", {}).get("mode") == "match"
    ]


def named(wrong: str | None, caller: Caller, asked: str) -> str | None:
    return wrong and f"{caller.name}\n    {asked}\n    {wrong}"
