// MedplumClient of @medplum/core: every interaction by its own API.
import assert from 'node:assert/strict';
import test from 'node:test';
import { MedplumClient, OperationOutcomeError } from '@medplum/core';

const { AUGURY_BASE: base, AUGURY_KEY: accessToken } = process.env;
const baseUrl = new URL('/', base).href;
const medplum = new MedplumClient({ baseUrl, fhirUrlPath: 'fhir', accessToken });
const ids = (resources) => resources.map(({ id }) => id);
const observation = (id, patient, date, more) => ({
  resourceType: 'Observation', id, status: 'final', code: { coding: [{ system: 'urn:test', code: 'height' }] },
  subject: { reference: `Patient/${patient}` }, effectiveDateTime: date, ...more,
});

async function refused(promise, code) {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert(error instanceof OperationOutcomeError, error);
  assert.equal(error.outcome.issue[0].code, code, JSON.stringify(error.outcome));
  return error.outcome;
}

test('create, read, update, patch, delete, and each version', async () => {
  const created = await medplum.createResource({ resourceType: 'Patient', name: [{ family: 'Plum' }] });
  const { id } = created;
  assert.equal(created.meta.versionId, '1');
  assert.deepEqual(await medplum.readResource('Patient', id), created);
  assert.deepEqual(await medplum.readReference({ reference: `Patient/${id}` }), created);
  const updated = await medplum.updateResource({ ...created, gender: 'female' });
  assert.deepEqual([updated.gender, updated.meta.versionId], ['female', '2']);
  assert.deepEqual(await medplum.updateResource(updated), updated, 'the same content makes no new version');
  const patched = await medplum.patchResource('Patient', id, [{ op: 'replace', path: '/gender', value: 'other' }]);
  assert.deepEqual([patched.gender, patched.meta.versionId], ['other', '3']);
  const tested = medplum.patchResource('Patient', id, [{ op: 'test', path: '/gender', value: 'male' }]);
  await refused(tested, 'processing');
  assert.deepEqual(await medplum.readVersion('Patient', id, '1'), created);
  await medplum.deleteResource('Patient', id);
  await refused(medplum.readResource('Patient', id), 'deleted');
  const history = await medplum.readHistory('Patient', id);
  assert.deepEqual(history.entry.map(({ resource }) => resource?.meta.versionId), [undefined, '3', '2', '1']);
  assert.equal((await medplum.readHistory('Patient', id, { count: 2 })).entry.length, 2);
  await refused(medplum.readHistory('Patient', id, { offset: 2 }), 'value');
  await refused(medplum.readResource('Patient', 'plum-nobody'), 'not-found');
});

test('what is created or changed only if need be', async () => {
  const identifier = [{ system: 'urn:test', value: 'plum' }];
  const resource = { resourceType: 'Patient', identifier };
  const one = await medplum.createResourceIfNoneExist(resource, 'identifier=urn:test|plum');
  assert.equal((await medplum.createResourceIfNoneExist(resource, 'identifier=urn:test|plum')).id, one.id);
  const changed = await medplum.upsertResource({ ...resource, active: true }, { identifier: 'urn:test|plum' });
  assert.deepEqual([changed.id, changed.active], [one.id, true]);
  const made = await medplum.upsertResource({ resourceType: 'Patient', identifier: [{ value: 'plum-2' }] }, 'identifier=plum-2');
  assert.notEqual(made.id, one.id);
  await medplum.createResource(resource);
  await refused(medplum.upsertResource(resource, 'identifier=urn:test|plum'), 'multiple-matches');
});

test('searching, in all the ways it may be said', async () => {
  await medplum.updateResource({ resourceType: 'Patient', id: 'plum-a', name: [{ family: 'Plumb' }], birthDate: '1990-05-06' });
  await medplum.updateResource({ resourceType: 'Patient', id: 'plum-b', name: [{ family: 'Plumbing' }] });
  for (const day of [1, 2, 3]) await medplum.updateResource(observation(`plum-${day}`, 'plum-a', `2024-01-0${day}`));
  const bundle = await medplum.search('Patient', 'family=plumb&_sort=-family');
  assert.deepEqual([bundle.type, bundle.total, ids(bundle.entry.map(({ resource }) => resource))], ['searchset', 2, ['plum-b', 'plum-a']]);
  assert.equal((await medplum.searchOne('Patient', { family: 'plumb', _sort: 'family' })).id, 'plum-a');
  assert.equal(await medplum.searchOne('Patient', { family: 'nobody' }), undefined);
  const query = [['patient', 'plum-a'], ['date', 'ge2024-01-02'], ['date', 'lt2024-01-03']];
  const found = await medplum.searchResources('Observation', query);
  assert.deepEqual([ids(found), found.bundle.total], [['plum-2'], 1]);
  const along = await medplum.search('Patient', '_id=plum-a&_revinclude=Observation:patient');
  assert.deepEqual(along.entry.map(({ search }) => search.mode), ['match', 'include', 'include', 'include']);
  await refused(medplum.search('Patient', 'birthdate=soon'), 'value');
});

test('pages come to an end, and each has its own', async () => {
  const expected = Array.from({ length: 7 }, (_, n) => `plum-page-${n}`);
  for (const [n, id] of expected.entries()) await medplum.updateResource(observation(id, 'plum-pages', `2020-01-1${n}`));
  const found = [];
  for await (const page of medplum.searchResourcePages('Observation', 'patient=plum-pages&_sort=date&_count=3')) found.push(ids(page));
  assert.deepEqual(found.map(({ length }) => length), [3, 3, 1]);
  assert.deepEqual(found.flat(), expected);
});

test('bundles, and what the client bundles by itself', async () => {
  const url = 'urn:uuid:4a1f5d1e-11c0-4b56-9c5b-0d1f5d1c9a01';
  const transaction = { resourceType: 'Bundle', type: 'transaction', entry: [
    { request: { method: 'POST', url: 'Condition' }, resource: { resourceType: 'Condition', subject: { reference: url } } },
    { fullUrl: url, request: { method: 'PUT', url: 'Patient/plum-t' }, resource: { resourceType: 'Patient', id: 'plum-t' } }] };
  const answer = await medplum.executeBatch(transaction);
  assert.deepEqual(answer.entry.map(({ response }) => response.status.slice(0, 3)), ['201', '201']);
  assert.equal((await medplum.searchOne('Condition', 'patient=plum-t')).subject.reference, 'Patient/plum-t');
  transaction.entry.push({ request: { method: 'PUT', url: 'Patient/plum-u' }, resource: { resourceType: 'Patient', id: 'plum-u', gender: 1 } });
  const outcome = await refused(medplum.executeBatch(transaction), 'structure');
  assert.deepEqual(outcome.issue[0].expression, ['Bundle.entry[2].resource.gender']);
  assert.equal((await medplum.search('Condition', 'patient=plum-t')).total, 1);

  const bundling = new MedplumClient({ baseUrl, fhirUrlPath: 'fhir', accessToken, autoBatchTime: 20 });
  const [read, nobody, found] = await Promise.allSettled([
    bundling.readResource('Patient', 'plum-t'), bundling.readResource('Patient', 'plum-nobody'),
    bundling.searchResources('Condition', { patient: 'plum-t' })]);
  assert.equal(read.value.id, 'plum-t');
  assert.equal(nobody.reason.outcome.issue[0].code, 'not-found');
  assert.equal(found.value.length, 1);
});

test('operations', async () => {
  await medplum.updateResource({ resourceType: 'Patient', id: 'plum-o', gender: 'male', birthDate: '1955-01-01' });
  await medplum.updateResource(observation('plum-o-1', 'plum-o', '2024-01-01'));
  const chart = await medplum.readPatientEverything('plum-o');
  assert.deepEqual(ids(chart.entry.map(({ resource }) => resource)), ['plum-o', 'plum-o-1']);
  const fine = await medplum.validateResource({ resourceType: 'Patient' });
  assert.equal(fine.issue[0].severity, 'information');
  const wrong = await medplum.validateResource(observation(undefined, 'plum-o', '2024-13-01'));
  assert.deepEqual(wrong.issue.map(({ severity, expression }) => [severity, expression]), [['error', ['Observation.effective']]]);
  const assessed = await medplum.get(medplum.fhirUrl('Patient', 'plum-o', '$assess-risk'));
  assert(assessed.entry.length >= 6);
  assert(assessed.entry.every(({ resource }) => resource.resourceType === 'RiskAssessment' && resource.subject.reference === 'Patient/plum-o'));
  const tag = [{ system: 'urn:test', code: 'plum' }];
  const labels = { resourceType: 'Parameters', parameter: [{ name: 'meta', valueMeta: { tag } }] };
  const labelled = await medplum.post(medplum.fhirUrl('Patient', 'plum-o', '$meta-add'), labels);
  assert.deepEqual(labelled.parameter[0].valueMeta.tag, tag);
});
