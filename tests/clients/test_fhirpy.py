"""fhirpy: its search builder, its resources, and its paging; asynchronous and not."""

import os
from datetime import date, datetime, timezone
from unittest import IsolatedAsyncioTestCase, TestCase

from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import (
    AuthorizationError,
    MultipleResourcesFound,
    OperationOutcome,
    ResourceNotFound,
)
from fhirpy.base.searchset import Raw

URL = os.environ["AUGURY_BASE"]
KEY = f"Bearer {os.environ['AUGURY_KEY']}"


def client(**more):
    return AsyncFHIRClient(URL, authorization=KEY, **more)


def observation(patient, day, **more):
    return {
        "status": "final",
        "code": {"coding": [{"system": "urn:test", "code": "pulse"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": day,
        **more,
    }


def ids(resources):
    return [one.id for one in resources]


class Fhirpy(IsolatedAsyncioTestCase):
    async def put(self, kind, id, **content):
        return await client().resource(kind, id=id, **content).save()

    async def test_a_resource_from_its_making_to_its_end(self):
        patient = client().resource("Patient", name=[{"family": "Py"}], gender="male")
        await patient.save()
        self.assertEqual(patient.meta.versionId, "1")
        self.assertTrue(patient.id)
        patient["birthDate"] = "1970-01-01"
        await patient.save()
        self.assertEqual(patient.meta.versionId, "2")
        same = await client().reference("Patient", patient.id).to_resource()
        self.assertEqual(same.serialize(), patient.serialize())
        first = await client().execute(f"Patient/{patient.id}/_history/1", "get")
        self.assertNotIn("birthDate", first)

        await client().execute(f"Patient/{patient.id}", "put", data={**patient.serialize(), "active": True})
        await patient.refresh()
        self.assertIs(patient.active, True)
        history = await client().execute(f"Patient/{patient.id}/_history", "get")
        self.assertEqual([one.resource.meta.versionId for one in history.entry], ["3", "2", "1"])

        await patient.delete()
        with self.assertRaises(ResourceNotFound):
            await client().get("Patient", patient.id)

    async def test_a_patch_is_one_that_fhir_knows(self):
        patient = await self.put("Patient", "py-patch", gender="male")
        # What fhirpy sends by itself is part of a resource as application/json: no patch of FHIR's.
        with self.assertRaises(OperationOutcome) as refused:
            await patient.patch(gender="female")
        self.assertEqual(refused.exception.resource["issue"][0]["code"], "not-supported")
        await patient.refresh()
        self.assertEqual(patient.gender, "male")
        patching = client(extra_headers={"Content-Type": "application/json-patch+json"})
        operations = [{"op": "replace", "path": "/gender", "value": "female"}]
        patched = await patching.execute("Patient/py-patch", "patch", data=operations)
        self.assertEqual((patched.gender, patched.meta.versionId), ("female", "2"))

    async def test_what_is_meant_by_criteria(self):
        patients = client().resources("Patient").search(identifier="urn:test|py")
        identifier = [{"system": "urn:test", "value": "py"}]
        one = client().resource("Patient", identifier=identifier, gender="male")
        made, created = await patients.get_or_create(one)
        again, created_again = await patients.get_or_create(one)
        self.assertEqual((created, created_again, made.id), (True, False, again.id))
        one["gender"] = "female"
        changed, created = await patients.update(one)
        self.assertEqual((changed.id, changed.gender, created), (made.id, "female", False))
        await client().resource("Patient", identifier=identifier).save()
        self.assertEqual(await patients.count(), 2)
        with self.assertRaises(MultipleResourcesFound):
            await patients.update(one)
        with self.assertRaises(MultipleResourcesFound):
            await patients.get()
        await made.delete()
        self.assertEqual((await patients.delete())[1], 204)
        self.assertEqual(await patients.count(), 0)
        self.assertIsNone(await patients.first())
        with self.assertRaises(ResourceNotFound):
            await patients.get()

    async def test_the_search_builder(self):
        await self.put("Organization", "py-org", name="Pyorg")
        await self.put("Practitioner", "py-doctor", name=[{"family": "Pydoctor"}])
        await self.put(
            "Patient", "py-a", name=[{"family": "Pyone", "given": ["Ana"]}], birthDate="1990-05-06",
            active=True, generalPractitioner=[{"reference": "Practitioner/py-doctor"}],
            managingOrganization={"reference": "Organization/py-org"},
        )
        await self.put("Patient", "py-b", name=[{"family": "Pytwo"}], birthDate="2001-01-01")
        for month in range(1, 5):
            await self.put("Observation", f"py-{month}", **observation("py-a", f"2024-0{month}-15T10:00:00Z"))
        patients, observations = client().resources("Patient"), client().resources("Observation")

        async def found(searchset):
            return ids(await searchset.fetch())

        ours = patients.search(_id="py-a,py-b")
        self.assertEqual(await found(ours.sort("-birthdate")), ["py-b", "py-a"])
        self.assertEqual(await found(ours.search(birthdate__lt=date(2000, 1, 1))), ["py-a"])
        self.assertEqual(await found(ours.search(active=True)), ["py-a"])
        self.assertEqual(await found(ours.search(active__missing=True)), ["py-b"])
        self.assertEqual(await found(patients.search(name__contains="yon")), ["py-a"])
        self.assertEqual(await found(patients.search(family__exact="Pytwo")), ["py-b"])
        self.assertEqual(await found(patients.search(general_practitioner__Practitioner__family="pydoc")), ["py-a"])
        self.assertEqual(await found(ours.has("Observation", "patient", code="urn:test|pulse")), ["py-a"])
        moment = datetime(2024, 2, 15, 10, tzinfo=timezone.utc)
        mine = observations.search(patient="py-a").sort("date")
        self.assertEqual(await found(mine.search(date__ge=moment, date__lt="2024-04")), ["py-2", "py-3"])
        self.assertEqual(await found(mine.search(patient__organization__name="pyorg")), [f"py-{n}" for n in range(1, 5)])
        self.assertEqual(await found(mine.search(Raw(**{"code:not": "urn:test|pulse"}))), [])
        self.assertEqual((await mine.first()).id, "py-1")
        self.assertEqual(await mine.count(), 4)
        self.assertEqual((await patients.search(_id="py-a").get()).name[0].given, ["Ana"])

        along = await mine.limit(1).include("Observation", "patient").include(
            "Patient", "general-practitioner", iterate=True
        ).fetch_raw()
        self.assertEqual(
            [(one.search.mode, one.resource.reference) for one in along.entry],
            [("match", "Observation/py-1"), ("include", "Patient/py-a"), ("include", "Practitioner/py-doctor")],
        )
        citing = await patients.search(_id="py-a").revinclude("Observation", "patient").fetch_raw()
        self.assertEqual(citing.total, 1)
        self.assertEqual(len([one for one in citing.entry if one.search.mode == "include"]), 4)
        some = await ours.elements("birthDate").fetch()
        self.assertTrue(all("birthDate" in one and "name" not in one for one in some))
        self.assertTrue(all(one.meta.tag[0].code == "SUBSETTED" for one in some))
        with self.assertRaises(OperationOutcome) as refused:
            await patients.search(birthdate="soon").fetch()
        self.assertEqual(refused.exception.resource["issue"][0]["severity"], "error")

    async def test_all_pages_and_no_match_twice(self):
        expected = [f"py-page-{n}" for n in range(11)]
        for n, id in enumerate(expected):
            await self.put("Observation", id, **observation("py-pages", f"2020-01-{10 + n}"))
        pages = client().resources("Observation").search(patient="py-pages").sort("date").limit(2)
        self.assertEqual(ids(await pages.fetch_all()), expected)
        seen = []
        async for one in pages:
            # What is written while one reads on may come or not; it pushes nothing out of its place.
            if not seen:
                await self.put("Observation", "py-late", **observation("py-pages", "2020-01-20"))
            seen.append(one.id)
        self.assertEqual([id for id in seen if id != "py-late"], expected)

    async def test_transaction_batch_and_operations(self):
        urls = ["urn:uuid:0b5f2fb2-2a5c-4a5c-9b61-6d1a3d1c9a01", "urn:uuid:0b5f2fb2-2a5c-4a5c-9b61-6d1a3d1c9a02"]
        entries = [
            {"fullUrl": urls[0], "request": {"method": "POST", "url": "Condition"},
             "resource": {"resourceType": "Condition", "subject": {"reference": urls[1]}}},
            {"fullUrl": urls[1], "request": {"method": "PUT", "url": "Patient/py-t"},
             "resource": {"resourceType": "Patient", "id": "py-t", "gender": "other"}},
        ]
        answer = await client().resource("Bundle", type="transaction", entry=entries).save()
        self.assertEqual(answer.type, "transaction-response")
        conditions = client().resources("Condition").search(patient="py-t")
        self.assertEqual((await conditions.get()).subject.reference, "Patient/py-t")
        entries[1]["resource"]["gender"] = "wrong"
        with self.assertRaises(OperationOutcome) as refused:
            await client().execute("/", data={"resourceType": "Bundle", "type": "transaction", "entry": entries})
        self.assertEqual(refused.exception.resource["issue"][0]["expression"], ["Bundle.entry[1].resource.gender"])
        self.assertEqual(await conditions.count(), 1)
        batch = {"resourceType": "Bundle", "type": "batch", "entry": entries[1:] + [
            {"request": {"method": "GET", "url": "Condition?patient=py-t"}}]}
        answer = await client().execute("/", data=batch)
        self.assertEqual([one.response.status[:3] for one in answer.entry], ["400", "200"])

        patient = await client().resources("Patient").search(_id="py-t").get()
        chart = await patient.execute("$everything", "get")
        self.assertEqual([one.resource.resourceType for one in chart.entry], ["Patient", "Condition"])
        assessed = await patient.execute("$assess-risk", "get", params={"model": "fib-4"})
        self.assertEqual([one.resource.resourceType for one in assessed.entry], ["RiskAssessment"])
        self.assertTrue(await patient.is_valid())
        patient["gender"] = "wrong"
        self.assertFalse(await patient.is_valid())
        with self.assertRaises(OperationOutcome):
            await patient.is_valid(raise_exception=True)

    async def test_who_has_no_key_is_not_let_in(self):
        with self.assertRaises(AuthorizationError):
            await AsyncFHIRClient(URL).resources("Patient").fetch()


class Synchronous(TestCase):
    def test_the_same_without_waiting(self):
        client = SyncFHIRClient(URL, authorization=KEY)
        for n in range(5):
            client.resource("Observation", **observation("py-sync", f"2020-01-0{n + 1}")).save()
        found = client.resources("Observation").search(patient="py-sync").sort("-date").limit(2)
        self.assertEqual([one.effectiveDateTime for one in found], [f"2020-01-0{n}" for n in (5, 4, 3, 2, 1)])
        one = found.first()
        one["status"] = "amended"
        self.assertEqual(one.save().meta.versionId, "2")
        one.delete()
        self.assertEqual(found.count(), 4)
