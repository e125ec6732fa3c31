"""Who may do what: every interaction with every type of R4 by callers of all sorts, against a second reading of SMART's
rules; and two patients of whom one must not find a byte of the other, however the question is put.

What is expected is never read from the server: `authorization_world` says whose a resource is and what scopes mean.
"""

import base64
import hashlib
import hmac
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from authorization_charts import CHART, EVA, HERS, HIDDEN, MARK, OTHER, PROBES, Charts, hidden, matches, to
from authorization_world import (
    BASE, FORM, JSON, JSON_PATCH, KEY, RUN, TAGS, WHOSE, Answer, Browser, Caller, Resource, address, app, ask, augury,
    bundle, everything, has_compartment, in_compartment, jwt, key, lay_out, person, resource)

SEED = int(os.environ.get("AUTHORIZATION_SEED", "7"))
# Callers that are somebody that each interaction with each type is tried by; of those that are nobody one for every so
# many of them.
KNOWN, UNKNOWN = int(os.environ.get("AUTHORIZATION_KNOWN", "1")), int(os.environ.get("AUTHORIZATION_UNKNOWN", "2"))
QUESTIONS = int(os.environ.get("AUTHORIZATION_QUESTIONS", "1500"))
WRITES = int(os.environ.get("AUTHORIZATION_WRITES", "1500"))
THREADS = 6

A, B, DOCTOR = f"ann-{RUN}", f"ben-{RUN}", f"doctor-{RUN}"
# In every resource, and so in no answer that refuses one.
SECRET = f"secret{RUN}"
BLUE, RED, GREEN = (f"_tag={TAGS}|{colour}" for colour in ("blue", "red", "green"))
KINDS = [kind for kind in WHOSE if kind != "AuditEvent"]


def tagged(kind: str, id: str, patient: str) -> Resource:
    """What is A's is blue, what is B's red; of types that are nobody's there is one of each colour, too."""
    colour = "blue" if patient == A else "red"
    return resource(kind, id, patient, meta={"tag": [{"system": TAGS, "code": colour, "display": SECRET}]})


THINGS = {(kind, patient): tagged(kind, patient, patient) for kind in KINDS for patient in (A, B)}


def callers() -> tuple[list[Caller], list[Caller]]:
    """Those that are somebody, and those that are not, or no longer."""
    def keyed(name: str, scopes: str) -> Caller:
        return Caller(f"key {name}", key(name.replace(" ", "-"), scopes)[1], scopes)

    client = app()
    carol = Browser(person("carol", "clinician", f"Practitioner/{DOCTOR}"))
    ann = Browser(person("ann", "patient", f"Patient/{A}"))
    # A doctor by role who is a patient here: sees no more than their own record.
    both = Browser(person("both", "clinician", f"Patient/{A}"))

    def token(name: str, scopes: str, patient: str = A, by: Browser = carol) -> Caller:
        return Caller(f"token {name}", by.token(client, scopes, patient)["access_token"], scopes, patient)

    known = [
        Caller("key of everything", KEY, "system/*.cruds system/AuditEvent.rs augury/models"),
        keyed("reads and finds", "system/*.rs"), keyed("reads", "system/*.r"), keyed("finds", "system/*.s"),
        keyed("writes", "system/*.cud"), keyed("creates", "system/*.c"), keyed("updates", "system/*.u"),
        keyed("deletes", "system/*.d"), keyed("another type", "system/Basic.cruds system/Observation.rs"),
        keyed("blue", f"system/*.cruds?{BLUE}"), keyed("green", f"system/*.cruds?{GREEN}"),
        keyed("models", "augury/models"), keyed("audit", "system/AuditEvent.rs"),
        token("of A", "launch/patient patient/*.cruds"), token("of B", "patient/*.cruds", B),
        token("reads A", "patient/*.read"), token("writes A", "patient/*.write"), token("finds A", "patient/*.s"),
        token("blue of A", f"patient/*.cruds?{BLUE}"), token("green of A", f"patient/*.cruds?{GREEN}"),
        token("one type of A", "patient/Basic.cruds"), token("of a user", "user/*.cruds"),
        token("one type of a user", "user/Basic.read"), token("without a right", "openid fhirUser"),
        token("of A, by A", "patient/*.rs", A, ann),
        # In the model what a user who is a patient may do is what their patient's scopes would say.
        token("of a user who is A", "user/*.cruds", A, both)._replace(scopes="patient/*.cruds"),
    ]
    _, expired = key("expired", "system/*.cruds", "--expires", "1s")
    expiry = time.monotonic() + 1
    revoked_id, revoked = key("revoked", "system/*.cruds")
    augury("client", "revoke", revoked_id)
    lasting = carol.token(client, "openid patient/*.rs offline_access", A)
    ended = carol.token(client, "user/*.cruds")["access_token"]
    assert ask("GET", f"Patient/{A}", ended).status == 200
    assert ask("POST", "/oauth/revoke", None, urlencode({"token": ended, "client_id": client}), FORM).status == 200
    locked = person("locked", "clinician", f"Practitioner/{DOCTOR}")
    of_locked = Browser(locked).token(client, "user/*.cruds")["access_token"]
    augury("user", "lock", locked)
    gone = app()
    of_gone = carol.token(gone, "user/*.cruds")["access_token"]
    augury("client", "revoke", gone)
    time.sleep(max(0, expiry - time.monotonic()))
    keys = ask("GET", "/.well-known/jwks.json", None).json["keys"]
    claims = {"iss": BASE.removesuffix("/fhir"), "aud": BASE, "sub": "admin", "client_id": client, "patient": A,
              "scope": "system/*.cruds user/*.cruds patient/*.cruds", "iat": 1, "exp": round(time.time()) + 3600}

    def confused(text: bytes) -> bytes:
        """The public key as if it were the secret of HS256."""
        return hmac.digest(keys[0]["n"].encode(), text, hashlib.sha256)

    unknown = {
        "nobody": None, "garbage": "garbage", "an expired key": expired, "a revoked key": revoked,
        "a key with another end": KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), "a revoked token": ended,
        "a token of a locked account": of_locked, "a token of a revoked app": of_gone,
        "a JWT of nobody's": jwt({"alg": "none", "typ": "JWT"}, claims),
        "a JWT signed with the public key": jwt({"alg": "HS256", "kid": keys[0]["kid"]}, claims, confused),
        "a JWT with a wrong signature": jwt({"alg": "RS256", "kid": keys[0]["kid"]}, claims, lambda _: bytes(256)),
        "an id_token": lasting["id_token"], "a refresh token": lasting["refresh_token"],
        "a code": carol.code(client, "user/*.cruds", A),
    } | {f"another tenant's {name}": bearer for name, bearer in json.loads(os.environ["OTHER_TENANT"]).items()}
    return known, [Caller(name, bearer) for name, bearer in unknown.items()]


class Case(NamedTuple):
    """A request, the statuses that may answer it, and what a Bundle may show of A's and B's thing: just that."""
    name: str
    caller: Caller
    method: str
    path: str
    statuses: set[int]
    shows: set[str] | None = None
    body: Any = None
    kind: str = "application/fhir+json"
    headers: dict[str, str] = {}
    # In a Bundle, the answer is that of its entry.
    of_entry: bool = False

    def wrong(self) -> str | None:
        answer = ask(self.method, self.path, self.caller.bearer, self.body, self.kind, **self.headers)
        if answer.status == 503 and 503 not in self.statuses:
            # One looks at all of the trail at a time.
            time.sleep(2)
            answer = ask(self.method, self.path, self.caller.bearer, self.body, self.kind, **self.headers)
        found = self.against(answer)
        if found is None:
            return None
        said = {self.caller.bearer and f"Bearer {self.caller.bearer[:14]}…": self.caller.scopes}
        asked = f"{self.name}, by {self.caller.name} {said}\n    {self.method} {self.path} {str(self.body or '')[:300]}"
        return (f"{asked} {self.headers or ''}\n    {found}: {answer.status} {answer.text[:400]}")

    def against(self, answer: Answer) -> str | None:
        status = answer.status
        if self.of_entry and status == 200:
            status = int(answer.json["entry"][0]["response"]["status"][:3])
        if status not in self.statuses:
            return f"expected {sorted(self.statuses)}"
        if status == 401 and "bearer" not in answer.headers.get("www-authenticate", "").lower():
            return "no WWW-Authenticate"
        if status >= 400 and SECRET in answer.raw:
            return "a refusal that tells what it refuses"
        if self.shows is not None and status == 200:
            mine = {f"{kind}/{patient}" for kind, patient in THINGS}
            shown = {one for one in answer.ids() if one in mine}
            if shown != self.shows:
                return f"expected to show {sorted(self.shows)}, not {sorted(shown)}"
        return None


Expect = Callable[[Caller, Resource], tuple[set[int], set[str] | None]]


def of_instance(op: str, absent: int = 404, done: int = 200) -> Expect:
    """What is outside is not there; who knows nothing of the type is told so."""
    def expect(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
        if not caller.grants(op, one["resourceType"]):
            return {403}, None
        return ({done} if caller.may(op, one) else {absent}), None
    return expect


def of_history(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    return of_instance("r")(caller, one)[0], {address(one)}


def of_search(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    """Of both things of the type, those that may be found."""
    kind = one["resourceType"]
    if not caller.grants("s", kind):
        return {403}, None
    return {200}, {address(THINGS[kind, who]) for who in (A, B) if caller.may("s", THINGS[kind, who])}


def of_compartment(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    """Of the patient with the thing's id."""
    kind = one["resourceType"]
    if not has_compartment(kind):
        return {403, 404}, None
    statuses, shows = of_search(caller, one)
    if shows is None:
        return statuses, None
    return statuses, {address(THINGS[kind, who]) for who in (A, B)
                      if f"{kind}/{who}" in shows and in_compartment(THINGS[kind, who], one["id"])}


def of_everything(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    """First the Patient has to be seen, then it is a search in the compartment."""
    statuses, _ = of_instance("r")(caller, THINGS["Patient", one["id"]])
    if statuses != {200} or not has_compartment(one["resourceType"]):
        return statuses if statuses != {200} else {200, 400, 403, 404}, None
    return of_compartment(caller, one)


def of_create(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    return {201 if caller.may("c", {**one, "id": ""}) else 403}, None


def of_create_unless(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    """Criteria are a search: who may not search may not ask by them."""
    kind = one["resourceType"]
    if not caller.grants("c", kind) or not caller.grants("s", kind):
        return {403}, None
    return ({200}, None) if caller.may("s", one) else of_create(caller, one)


def of_update(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    return {200 if caller.may("u", one) else 403}, None


def of_update_new(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
    """The right to update is that to create by it, too."""
    new = {**one, "id": ""}
    return {201 if caller.may("u", new) or caller.may("c", new) else 403}, None


def by_criteria(op: str, absent: int, done: int) -> Expect:
    def expect(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
        kind = one["resourceType"]
        if not caller.grants("s", kind) or not caller.grants(op, kind):
            return {403}, None
        return {done if caller.may("s", one) and caller.may(op, one) else absent}, None
    return expect


def of_patch(update: Expect) -> Expect:
    """How a patch ends tells what is there: who may not read it may not patch it."""
    def expect(caller: Caller, one: Resource) -> tuple[set[int], set[str] | None]:
        statuses, shows = update(caller, one)
        return ({403} if statuses == {200} and not caller.may("r", one) else statuses), shows
    return expect


class Deed(NamedTuple):
    """An interaction: how it is asked for, `T` and `I` being type and id, and what comes of it."""
    name: str
    method: str
    path: str
    expect: Expect
    body: str = ""
    kind: str = "application/fhir+json"
    headers: dict[str, str] = {}
    entry: str = ""


BOTH = f"_id={A},{B}"
SAME = '[{"op": "test", "path": "/id", "value": "I"}]'
LABEL = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": []}}]}
DEEDS = [
    Deed("read", "GET", "T/I", of_instance("r")),
    Deed("head", "HEAD", "T/I", of_instance("r")),
    Deed("vread", "GET", "T/I/_history/1", of_instance("r")),
    Deed("history-instance", "GET", "T/I/_history", of_history),
    Deed("history-type", "GET", "T/_history?_count=1000", of_search),
    Deed("search", "GET", f"T?{BOTH}", of_search),
    Deed("search by POST", "POST", "T/_search", of_search, BOTH, FORM),
    Deed("system search", "GET", f"?_type=T&{BOTH}", of_search),
    Deed("system search by POST", "POST", "_search", of_search, f"_type=T&{BOTH}", FORM),
    Deed("compartment search", "GET", f"Patient/I/T?{BOTH}", of_compartment),
    Deed("compartment search by POST", "POST", "Patient/I/T/_search", of_compartment, BOTH, FORM),
    Deed("$everything", "GET", "Patient/I/$everything?_type=T&_count=1000", of_everything),
    Deed("$meta", "GET", "T/I/$meta", of_instance("r")),
    Deed("$validate", "GET", "T/I/$validate", of_instance("r")),
    Deed("$validate to delete", "POST", "T/I/$validate?mode=delete", of_instance("r"), ""),
    Deed("create", "POST", "T", of_create, "new"),
    Deed("conditional create", "POST", "T", of_create_unless, "new", headers={"If_None_Exist": "_id=I"}),
    Deed("update", "PUT", "T/I", of_update, "same"),
    Deed("update to create", "PUT", "T/N", of_update_new, "new"),
    Deed("conditional update", "PUT", "T?_id=I", by_criteria("u", 403, 200), "same"),
    Deed("patch", "PATCH", "T/I", of_patch(of_instance("u")), SAME, JSON_PATCH),
    Deed("conditional patch", "PATCH", "T?_id=I", of_patch(by_criteria("u", 404, 200)), SAME, JSON_PATCH),
    Deed("$meta-add", "POST", "T/I/$meta-add", of_patch(of_instance("u")), "label"),
    Deed("delete", "DELETE", "T/I", of_instance("d", 204, 204)),
    Deed("conditional delete", "DELETE", "T?_id=I", by_criteria("d", 204, 204)),
    Deed("batch: read", "POST", "", of_instance("r"), entry="GET T/I"),
    Deed("batch: search", "POST", "", lambda caller, one: (of_search(caller, one)[0], None), entry=f"GET T?{BOTH}"),
    Deed("batch: create", "POST", "", of_create, "new", entry="POST T"),
    Deed("batch: update", "POST", "", of_update, "same", entry="PUT T/I"),
    Deed("batch: delete", "POST", "", of_instance("d", 204, 204), entry="DELETE T/I"),
    Deed("transaction: read", "POST", "", of_instance("r"), entry="transaction GET T/I"),
    Deed("transaction: create", "POST", "", of_create, "new", entry="transaction POST T"),
    Deed("transaction: update", "POST", "", of_update, "same", entry="transaction PUT T/I"),
]


class Matrix:
    def __init__(self) -> None:
        self.dice = random.Random(SEED)
        self.known, self.unknown = callers()
        self.spent: list[Resource] = []

    def case(self, deed: Deed, caller: Caller, kind: str, patient: str) -> Case:
        one = THINGS[kind, patient]
        statuses, shows = ({401}, None) if caller.scopes is None else deed.expect(caller, one)
        deletes = "DELETE" in (deed.method, deed.entry.partition(" ")[0])
        if deletes and caller.scopes and caller.may("d", one) and statuses == {204}:
            # What is deleted rightly was laid out for just that.
            one = tagged(kind, f"spent-{len(self.spent)}-{RUN}", patient)
            self.spent.append(one)
        new = f"new-{self.dice.getrandbits(40)}-{RUN}"
        def filled(text: str) -> str:
            return "".join({"T": kind, "I": one["id"], "N": new}.get(part, part) for part in _split(text))
        bodies: dict[str, Any] = {
            "new": {**one, "id": new} if "N" in _split(deed.path) else {k: v for k, v in one.items() if k != "id"},
            "same": one, "label": LABEL | {"parameter": [{"name": "meta", "valueMeta": one["meta"]}]}, "": None}
        body = bodies[deed.body] if deed.body in bodies else filled(deed.body)
        if deed.entry:
            _, mode, request = deed.entry.rpartition("transaction ")
            method, url = filled(request).split(" ", 1)
            body = bundle("transaction" if mode else "batch", [(method, url, body)])
        headers = {name: filled(value) for name, value in deed.headers.items()}
        return Case(f"{deed.name} of {kind}", caller, deed.method, filled(deed.path), statuses, shows, body, deed.kind,
                    headers, bool(deed.entry))

    def cases(self) -> Iterator[Case]:
        """Each interaction with each type by some of each sort, so that all meet all many times."""
        for deed in DEEDS:
            for kind in KINDS:
                unknown = self.dice.sample(self.unknown, not self.dice.randrange(UNKNOWN))
                for caller in self.dice.sample(self.known, KNOWN) + unknown:
                    patient = self.dice.choice([A, B])
                    # A patient's own Patient is there once.
                    if kind == "Patient" and "delete" in deed.name and caller.patient == patient:
                        continue
                    yield self.case(deed, caller, kind, patient)

    def beside(self) -> Iterator[Case]:
        """What is not of each type alike: operations, the trail, models, the system's own interactions."""
        for caller in [*self.known, *self.unknown]:
            def case(name: str, method: str, path: str, statuses: set[int], shows: set[str] | None = None,
                     body: Any = None, *, caller: Caller = caller) -> Case:
                known = caller.scopes is not None
                return Case(name, caller, method, path, statuses if known else {401}, shows if known else None, body)

            def if_any(right: Any, done: set[int]) -> set[int]:
                return done if right else {403}

            trail = if_any(caller.grants("s", "AuditEvent"), {200})
            some = any(caller.grants("s", kind) for kind in WHOSE)
            found = {address(one) for one in THINGS.values() if caller.may("s", one)} if some else None
            yield case("search of all types", "GET", f"?{BOTH}&_count=1000", if_any(some, {200}), found)
            # Who sees little is looked for through all that is older: here not far.
            recent = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            yield case("history of all types", "GET", f"_history?_count=1&_since={recent}", if_any(some, {200}))
            yield case("$assess-risk of what is sent", "POST", "$assess-risk", {200, 400, 422}, None, EMPTY)
            yield case("/predict", "POST", "/predict", {200, 400, 422}, None, {})
            yield case("/models", "GET", "/models", {200})
            yield case("/models/…/activate", "POST", "/models/news2/activate", if_any("augury/models" in (
                caller.scopes or "").split(), {200}))
            yield case("search of AuditEvents", "GET", "AuditEvent?_count=1", trail)
            yield case("$verify", "GET", "AuditEvent/$verify", trail)
            yield case("an AuditEvent", "GET", f"AuditEvent/{A}", if_any(caller.grants("r", "AuditEvent"), {404}))
            yield case("AuditEvents are not created", "POST", "AuditEvent", {403, 405}, None, EVENT)
            yield case("AuditEvents are not updated", "PUT", f"AuditEvent/{A}", {403, 405}, None, EVENT | {"id": A})
            yield case("AuditEvents are not deleted", "DELETE", f"AuditEvent/{A}", {403, 405})
            yield case("/predictions", "GET", "/predictions", if_any(caller.grants("s", "RiskAssessment"), {200}))
            for who in (A, B):
                patient, _ = of_instance("r")(caller, THINGS["Patient", who])
                risk, _ = of_instance("r")(caller, THINGS["RiskAssessment", who])
                # What comes of an operation that may be done is not asked here.
                done = {200, 400, 409, 422}
                # Who may not read what a model says of a patient may not ask it either.
                made = {"resourceType": "RiskAssessment", "id": "made", "status": "final", "subject": {"reference": f"Patient/{who}"}}
                assessed = patient if patient != {200} else done if caller.may("r", made) else {403}
                yield case("$assess-risk", "GET", f"Patient/{who}/$assess-risk", assessed)
                yield case("$accounting", "GET", f"Patient/{who}/$accounting-of-disclosures?_count=1", trail)
                yield case("$replay", "POST", f"RiskAssessment/{who}/$replay", done if risk == {200} else risk)
                yield case("/predictions/…", "GET", f"/predictions/{who}", risk)


EMPTY = {"resourceType": "Bundle", "type": "collection"}
EVENT = {"resourceType": "AuditEvent", "type": {"code": "x"}, "recorded": "2020-01-01T00:00:00Z",
         "agent": [{"requestor": True}], "source": {"observer": {"display": "x"}}}


def _split(text: str) -> list[str]:
    """At what separates the parts of an address, so that a part that is only a letter stands for something."""
    parts, word = [], ""
    for letter in text:
        if letter.isalnum():
            word += letter
        else:
            parts += [word, letter]
            word = ""
    return [*parts, word]


def run(cases: list[Case]) -> list[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [wrong for wrong in pool.map(Case.wrong, cases) if wrong]


def told(wrong: list[str], of: int) -> str:
    """One of each fault, and how often there is the like."""
    like = Counter(one.split(" of ")[0] + one.rsplit("\n    ", 1)[-1][:60] for one in wrong)
    first = {one.split(" of ")[0] + one.rsplit("\n    ", 1)[-1][:60]: one for one in reversed(wrong)}
    return f"{len(wrong)} of {of} (seed {SEED}):\n" + "\n".join(f"{like[name]} × {first[name]}" for name in like)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    lay_out([resource("Practitioner", DOCTOR, A), *THINGS.values()])
    return Matrix()


def test_no_scope_of_a_patient_without_one(matrix: Matrix) -> None:
    """Nobody is granted a patient's scopes without it being said which patient's."""
    with pytest.raises(AssertionError, match="no scope of a caller with a key"):
        key("of-a-patient", "patient/*.cruds")
    client, carol = app(), Browser(person("dora", "clinician", f"Practitioner/{DOCTOR}"))
    page = carol.consent(client, "patient/*.cruds openid", "")
    assert 'action="/oauth/patient"' in page.text
    done = carol.submit(page, "/oauth/consent", [("scope", "patient/*.cruds"), ("decision", "allow")])
    assert "code=" not in done.headers.get("location", ""), done
    nobody = carol.submit(page, "/oauth/patient", [("patient", f"nobody-{RUN}")])
    assert nobody.status == 400


def test_every_interaction_with_every_type(matrix: Matrix, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [*matrix.cases(), *matrix.beside()]
    lay_out(matrix.spent)
    began = time.monotonic()
    wrong = run(cases)
    refused, empty = sum(min(case.statuses) >= 400 for case in cases), sum(case.shows == set() for case in cases)
    with capsys.disabled():
        print(f"\n{len(cases)} cases in {time.monotonic() - began:.0f} s: {refused} refused, {empty} with nothing to "
              f"show, {len(cases) - refused - empty} allowed, or of what is not there to be deleted")
    assert not wrong, told(wrong, len(cases))
    # Whatever was answered, nothing changed but what was to.
    left = [one["resource"] for one in everything(f"?{BOTH}&_count=1000")]
    assert {address(one): one["meta"]["versionId"] for one in left} == {address(one): "1" for one in THINGS.values()}
    for n in range(0, len(matrix.spent), 100):
        ids = ",".join(one["id"] for one in matrix.spent[n:n + 100])
        assert ask("GET", f"?_id={ids}&_summary=count").json["total"] == 0, ids


@pytest.fixture(scope="module")
def charts() -> Charts:
    return Charts(SEED)


def test_not_a_byte_of_another_patient(charts: Charts, capsys: pytest.CaptureFixture[str]) -> None:
    began, questions = time.monotonic(), [charts.question() for _ in range(QUESTIONS)]
    with ThreadPoolExecutor(THREADS) as pool:
        wrong = [one for one in pool.map(lambda question: question(), questions) if one]
    with capsys.disabled():
        print(f"\n{QUESTIONS} questions in {time.monotonic() - began:.0f} s")
    assert not wrong, f"{len(wrong)} of {QUESTIONS} (seed {SEED}):\n" + "\n".join(wrong[:40])


def test_what_is_asked_of_others_by_the_way(charts: Charts) -> None:
    """A chain, a reverse chain or a list leads through what may not be seen: then it leads nowhere, or what it finds
    would tell what is there. The key of everything finds something, so that nothing is no wonder."""
    wrong = []
    for probe, of_other in PROBES.items():
        for mine, code, stem in ((True, HERS, f"e{RUN}"), (False, HIDDEN, MARK)):
            where, query = probe.split("?")
            for sign, value in {"C": code, "G": f"e{RUN}-group-both", "L": f"{stem}-list-1"}.items():
                query = re.sub(f"={sign}$", f"={value}", query)
            answers = [ask("GET", f"{where}?{query}&_total=accurate", bearer) for bearer in (KEY, charts.whole.bearer)]
            answers.append(ask("GET", f"{where}?{query}&_summary=count", charts.whole.bearer))
            answers.append(ask("POST", f"{where}/_search", charts.whole.bearer, f"{query}&_total=accurate", FORM))
            answers.append(ask("GET", f"?_type={where}&{query}&_total=accurate", charts.whole.bearer))
            whole, *totals = [answer.json.get("total") for answer in answers]
            fine = set(totals) <= {0, None} if not mine or of_other else all(totals)
            if not fine or not mine and not whole:
                wrong.append(f"{where}?{query}: the key of everything finds {whole}, Eva {totals}")
    assert not wrong, "\n".join(wrong)


def test_what_moves_from_chart_to_chart(charts: Charts) -> None:
    """Each version is whose it was; who pages while it moves away does not get it any more."""
    def observation(n: int, whose: str) -> Resource:
        word = HIDDEN if whose == OTHER else HERS
        return resource("Observation", f"moves-{n}-{RUN}", whose) | {
            "code": {"text": word}, "identifier": [{"value": f"moves-{RUN}"}]}

    eva, other = charts.whole.bearer, charts.others.bearer
    lay_out([observation(n, EVA) for n in range(6)])
    path = f"Observation?identifier=moves-{RUN}&_count=2"
    first = ask("GET", path, eva)
    shown = set(matches([first]))
    gone = next(n for n in range(6) if f"Observation/moves-{n}-{RUN}" not in shown)
    lay_out([observation(gone, OTHER)])
    answers, wrong = charts.pages(charts.whole, "GET", first.link("next").removeprefix(BASE).lstrip("/"))
    assert wrong is None and f"Observation/moves-{gone}-{RUN}" not in matches(answers), (wrong, matches(answers))
    moved = f"Observation/moves-{gone}-{RUN}"
    # Of Eva's time there is a version that is hers, of now none.
    expected = {(eva, ""): 404, (eva, "/_history/1"): 200, (eva, "/_history/2"): 404, (other, ""): 200,
                (other, "/_history/1"): 404, (other, "/_history/2"): 200}
    assert {one: ask("GET", moved + one[1], one[0]).status for one in expected} == expected
    for bearer, sees in ((eva, "1"), (other, "2")):
        for path in (f"{moved}/_history", f"Observation/_history?_count=1000&_since={charts.questions.since}"):
            versions = [one["resource"]["meta"]["versionId"] for one in everything(path, bearer)
                        if one.get("resource", {}).get("id") == moved.partition("/")[2]]
            assert versions == [sees], (path, sees, versions)
    # That it is deleted is known to whom it was shown.
    assert ask("DELETE", moved, eva).status == 204 and ask("GET", moved, other).status == 200
    assert ask("DELETE", moved, other).status == 204
    assert (ask("GET", moved, eva).status, ask("GET", moved, other).status) == (404, 410)
    assert MARK not in ask("GET", f"{moved}/_history", eva).raw
    # An id that was another's is not Eva's to take.
    assert ask("PUT", moved, eva, observation(gone, EVA)).status == 403


class Try(NamedTuple):
    """A write that must not be done. What is outside is not there, so that its deletion is no failure."""
    method: str
    path: str
    body: Any = None
    kind: str = JSON
    absent: bool = False

    def wrong(self, bearer: str | None) -> str | None:
        answer = ask(self.method, self.path, bearer, self.body, self.kind)
        statuses = [answer.status]
        if answer.status == 200 and "batch-response" in answer.text:
            statuses = [int(entry["response"]["status"][:3]) for entry in answer.json["entry"]]
        leaks = hidden(answer.raw, self.path + json.dumps(self.body))
        if all(400 <= one < 500 or self.absent and one in (200, 204) for one in statuses) and not leaks:
            return None
        asked = f"{self.method} {self.path} {str(self.body)[:300]}"
        return f"{asked}\n    {answer.status} {answer.text[:300]} {leaks or ''}"


def tries_at(one: Resource) -> Iterator[Try]:
    """To change, label, take or delete a resource of another."""
    kind, id, path = one["resourceType"], one["id"], address(one)
    changed = {name: value for name, value in one.items() if name != "meta"} | {"language": "de"}
    taken = json.loads(json.dumps(changed).replace(f"Patient/{OTHER}", f"Patient/{EVA}"))
    patch = json.dumps([{"op": "add", "path": "/language", "value": "de"}])
    label = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    for content in (changed, taken):
        yield from (Try("PUT", path, content), Try("PUT", f"{kind}?_id={id}", content))
        for mode in ("batch", "transaction"):
            yield Try("POST", "", bundle(mode, [("PUT", path, content)]))
    yield from (Try("PATCH", path, patch, JSON_PATCH), Try("PATCH", f"{kind}?_id={id}", patch, JSON_PATCH))
    yield from (Try("POST", f"{path}/$meta-add", label), Try("POST", f"{path}/$meta-delete", label))
    yield from (Try("DELETE", path, absent=True), Try("DELETE", f"{kind}?_id={id}", absent=True))
    for mode in ("batch", "transaction"):
        yield Try("POST", "", bundle(mode, [("DELETE", path, None)]), absent=True)
        yield Try("POST", "", bundle(mode, [("PATCH", path, {
            "resourceType": "Binary", "contentType": JSON_PATCH, "data": base64.b64encode(patch.encode()).decode()})]))
    half = resource("Basic", "x", EVA) | {"identifier": [{"value": f"half-{RUN}"}]}
    for method, content in (("PUT", changed), ("GET", None)):
        yield Try("POST", "", bundle("transaction", [("POST", "Basic", half), (method, path, content)]))


def test_nothing_of_another_patient_changes(charts: Charts, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever Eva's app tries to write over, move, take or delete."""
    def whole() -> dict[str, str]:
        found = [one["resource"] for path in (f"Patient/{OTHER}/*?_count=1000", f"?_tag={TAGS}|{CHART}&_count=1000")
                 for one in everything(path)]
        return {address(one): json.dumps(one) for one in found if hidden(json.dumps(one))}

    before, known = whole(), charts.all()
    tries = [one for id in before if id in known and MARK in id for one in tries_at(known[id])]
    tries = random.Random(SEED).sample(tries, min(WRITES, len(tries)))
    mine = known[f"Observation/e{RUN}-observation-2"]
    theirs = mine | {"subject": to("Patient", OTHER)}
    move = json.dumps([{"op": "replace", "path": "/subject/reference", "value": f"Patient/{OTHER}"}])
    cites = resource("Observation", "x", EVA) | {"hasMember": [{"reference": f"Observation?code={HIDDEN}"}]}
    tries += [
        Try("PUT", address(mine), theirs), Try("POST", "Observation", theirs),
        Try("PATCH", address(mine), move, JSON_PATCH),
        Try("PUT", f"Observation/new-{MARK}", theirs | {"id": f"new-{MARK}"}),
        Try("POST", "", bundle("transaction", [("POST", "Observation", cites)])),
        Try("DELETE", f"Observation?patient={OTHER}&code={HIDDEN}", absent=True),
        Try("POST", f"Patient/{OTHER}/$assess-risk?persist=true"),
        Try("POST", f"RiskAssessment/{MARK}-riskassessment-1/$replay")]
    with ThreadPoolExecutor(THREADS) as pool:
        wrong = [one for one in pool.map(lambda one: one.wrong(charts.whole.bearer), tries) if one]
    with capsys.disabled():
        print(f"\n{len(tries)} writes")
    assert not wrong, f"{len(wrong)} of {len(tries)}\n" + "\n".join(wrong[:20])
    assert whole() == before
    assert ask("GET", f"Basic?identifier=half-{RUN}&_summary=count").json["total"] == 0, "half a transaction was done"
