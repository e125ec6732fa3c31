// fhir-kit-client: every interaction by its own API.
import assert from 'node:assert/strict';
import test from 'node:test';
import { CapabilityTool, Client } from 'fhir-kit-client';

const { AUGURY_BASE: baseUrl, AUGURY_KEY: bearerToken } = process.env;
const client = new Client({ baseUrl, bearerToken });
const resourceType = 'Patient';
const ids = (bundle) => (bundle.entry ?? []).map((entry) => entry.resource.id);
const headers = (answer) => Client.httpFor(answer).response.headers;
const status = (answer) => Client.httpFor(answer).response.status;
const put = (body) => client.update({ resourceType: body.resourceType, id: body.id, body });
const person = (family, more) => ({ resourceType, name: [{ family }], ...more });
const observation = (id, patient, date, more) => ({
  resourceType: 'Observation', id, status: 'final', code: { coding: [{ system: 'urn:test', code: 'weight' }] },
  subject: { reference: `Patient/${patient}` }, effectiveDateTime: date, ...more,
});

async function refused(promise, expected, code) {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert.equal(error.response?.status, expected, error.message);
  assert.equal(error.response.data.resourceType, 'OperationOutcome');
  assert.equal(error.response.data.issue[0].code, code, JSON.stringify(error.response.data));
  return error.response.data.issue[0];
}

async function pages(bundle) {
  const all = [];
  for (let page = bundle; page; page = await client.nextPage({ bundle: page })) all.push(ids(page));
  return all;
}

test('the CapabilityStatement tells what works', async () => {
  const statement = await client.capabilityStatement();
  assert.equal(statement.fhirVersion, '4.0.1');
  assert.equal(statement.implementation.url, baseUrl);
  const capabilities = new CapabilityTool(statement);
  for (const code of ['transaction', 'batch', 'search-system', 'history-system']) assert(capabilities.serverCan(code), code);
  assert.deepEqual(capabilities.interactionsFor({ resourceType }).sort(), [
    'create', 'delete', 'history-instance', 'history-type', 'patch', 'read', 'search-type', 'update', 'vread']);
  assert(capabilities.serverSearch('_lastUpdated'));
  assert(capabilities.resourceSearch('Observation', 'combo-code-value-quantity'));
  assert(!capabilities.resourceSearch('Observation', 'colour'));
  assert(capabilities.supportFor({ resourceType, capabilityType: 'conditionalCreate' }));
  const operations = capabilities.capabilityContents({ resourceType, capabilityType: 'operation' });
  assert(operations.some(({ name }) => name === 'everything'));
});

test('who has no key is not let in', async () => {
  await refused(new Client({ baseUrl }).read({ resourceType, id: 'x' }), 401, 'login');
  await refused(new Client({ baseUrl, bearerToken: 'wrong' }).search({ resourceType }), 401, 'unknown');
});

test('create, read, update, patch, delete, and each version', async () => {
  const created = await client.create({ resourceType, body: person('Kit', { gender: 'female' }) });
  const { id } = created;
  assert.equal(status(created), 201);
  assert.equal(headers(created).get('etag'), 'W/"1"');
  assert.equal(headers(created).get('location'), `${baseUrl}/Patient/${id}/_history/1`);
  assert.deepEqual(await client.read({ resourceType, id }), created);

  const updated = await client.update({ resourceType, id, body: { ...created, birthDate: '1980-02-03' } });
  assert.deepEqual([updated.birthDate, updated.meta.versionId], ['1980-02-03', '2']);
  const patched = await client.patch({ resourceType, id, jsonPatch: [
    { op: 'test', path: '/gender', value: 'female' },
    { op: 'add', path: '/name/0/given', value: ['Ada'] },
    { op: 'remove', path: '/birthDate' }] });
  assert.deepEqual(patched.name, [{ family: 'Kit', given: ['Ada'] }]);
  assert.equal(patched.birthDate, undefined);
  const failed = client.patch({ resourceType, id, jsonPatch: [{ op: 'remove', path: '/photo' }] });
  await refused(failed, 422, 'processing');
  assert.equal((await client.vread({ resourceType, id, version: 2 })).birthDate, '1980-02-03');

  assert.equal(status(await client.delete({ resourceType, id })), 204);
  await refused(client.read({ resourceType, id }), 410, 'deleted');
  assert.deepEqual(await client.vread({ resourceType, id, version: '1' }), created);

  const history = await client.history({ resourceType, id });
  assert.deepEqual(history.entry.map(({ request, response, resource }) =>
    [request.method, response.status.slice(0, 3), response.etag, resource?.meta.versionId]), [
    ['DELETE', '204', 'W/"4"', undefined], ['PUT', '200', 'W/"3"', '3'], ['PUT', '200', 'W/"2"', '2'], ['POST', '201', 'W/"1"', '1']]);
  assert.equal(history.total, 4);
  for (const wider of [await client.history({ resourceType }), await client.history()]) {
    assert.equal(wider.type, 'history');
    assert(wider.entry.filter((entry) => entry.fullUrl === `${baseUrl}/Patient/${id}`).length === 4);
  }
});

test('a stale update is refused', async () => {
  const body = await put(person('Stale', { id: 'kit-stale' }));
  const write = (version) => client.update({ resourceType, id: body.id, body: { ...body, active: version === 1 },
    options: { headers: { 'If-Match': `W/"${version}"` } } });
  assert.equal((await write(1)).meta.versionId, '2');
  await refused(write(1), 412, 'conflict');
  const read = client.read({ resourceType, id: body.id, options: { headers: { 'If-None-Match': 'W/"2"' } } });
  // To fetch, 304 is no success.
  assert.equal((await read.catch((error) => error)).response.status, 304);
});

test('conditional create, update and delete', async () => {
  const identifier = [{ system: 'urn:test', value: 'kit' }];
  const criteria = { identifier: 'urn:test|kit' };
  const create = () => client.create({ resourceType, body: person('Once', { identifier }),
    options: { headers: { 'If-None-Exist': 'identifier=urn:test|kit' } } });
  const made = await Promise.all(Array.from({ length: 4 }, create));
  assert.deepEqual(made.map(status).sort(), [200, 200, 200, 201]);
  assert.equal(new Set(made.map(({ id }) => id)).size, 1);

  const updated = await client.update({ resourceType, searchParams: criteria, body: person('Changed', { identifier }) });
  assert.deepEqual([updated.id, updated.name[0].family], [made[0].id, 'Changed']);
  const other = await client.create({ resourceType, body: person('Other', { identifier }) });
  const unclear = client.update({ resourceType, searchParams: criteria, body: person('Changed', { identifier }) });
  await refused(unclear, 412, 'multiple-matches');
  await client.delete({ resourceType, id: other.id });
  assert.equal(status(await client.request('Patient?identifier=urn:test|kit', { method: 'DELETE' })), 204);
  assert.equal((await client.search({ resourceType, searchParams: criteria })).total, 0);
});

test('searching by GET and by POST finds the same', async () => {
  await put({ resourceType: 'Practitioner', id: 'kit-doctor', name: [{ family: 'Kitdoctor' }] });
  await put(person('Kitsearch', { id: 'kit-a', birthDate: '1990-05-06', generalPractitioner: [{ reference: 'Practitioner/kit-doctor' }] }));
  await put(person('Kitsearcher', { id: 'kit-b', birthDate: '2001-01-01', active: true }));
  for (const month of [1, 2, 3]) {
    await put(observation(`kit-${month}`, 'kit-a', `2024-0${month}-01`, {
      valueQuantity: { value: 60 + month, unit: 'kg', system: 'http://unitsofmeasure.org', code: 'kg' } }));
  }
  const both = async (resourceType, searchParams, expected) => {
    const found = await client.search({ resourceType, searchParams });
    const posted = await client.search({ resourceType, searchParams, options: { postSearch: true } });
    assert.deepEqual(ids(found), expected, JSON.stringify(searchParams));
    assert.deepEqual(ids(posted), expected, JSON.stringify(searchParams));
    return found;
  };
  await both('Patient', { family: 'kitsearch', _sort: '-birthdate' }, ['kit-b', 'kit-a']);
  await both('Patient', { 'family:exact': 'Kitsearch' }, ['kit-a']);
  await both('Patient', { family: 'kitsearch', 'active:missing': true }, ['kit-a']);
  await both('Observation', { patient: 'kit-a', date: ['ge2024-02-01', 'lt2024-03-01'] }, ['kit-2']);
  await both('Observation', { patient: 'kit-a', 'value-quantity': 'gt62000|http://unitsofmeasure.org|g' }, ['kit-3']);
  await both('Observation', { 'patient.general-practitioner.family': 'Kitdoctor', _sort: 'date' }, ['kit-1', 'kit-2', 'kit-3']);
  await both('Patient', { '_has:Observation:patient:code': 'urn:test|weight', family: 'Kitsearch' }, ['kit-a']);
  const along = await both('Observation', { _id: 'kit-1', _include: 'Observation:patient',
    '_include:iterate': 'Patient:general-practitioner' }, ['kit-1', 'kit-a', 'kit-doctor']);
  assert.deepEqual(along.entry.map((entry) => entry.search.mode), ['match', 'include', 'include']);
  assert.equal(along.total, 1);
  const everywhere = await client.search({ searchParams: { _type: 'Practitioner,Observation', _id: 'kit-doctor,kit-1,kit-a', _sort: '_id' } });
  assert.deepEqual(ids(everywhere), ['kit-1', 'kit-doctor']);
  for (const postSearch of [false, true]) {
    const compartment = { resourceType, id: 'kit-a' };
    const own = await client.search({ resourceType: 'Observation', compartment, searchParams: { date: '2024-02' }, options: { postSearch } });
    assert.deepEqual(ids(own), ['kit-2']);
  }
  const named = await client.search({ resourceType, searchParams: { _id: 'kit-a', colour: 'red' } });
  assert.deepEqual(named.entry.map((entry) => entry.search.mode), ['match', 'outcome']);
  assert(!named.link.find(({ relation }) => relation === 'self').url.includes('colour'));
  const strict = { headers: { Prefer: 'handling=strict' } };
  await refused(client.search({ resourceType, searchParams: { colour: 'red' }, options: strict }), 400, 'not-supported');
});

test('pages come to an end, and each has its own', async () => {
  const expected = Array.from({ length: 10 }, (_, n) => `kit-page-${n}`);
  for (const [n, id] of expected.entries()) await put(observation(id, 'kit-pages', `2020-01-${10 + n}`));
  const searchParams = { patient: 'kit-pages', _sort: 'date', _count: 3, _total: 'accurate' };
  const first = await client.search({ resourceType: 'Observation', searchParams });
  assert.equal(first.total, 10);
  const found = await pages(first);
  assert.deepEqual(found.flat(), expected);
  assert.deepEqual(found.map((page) => page.length), [3, 3, 3, 1]);
  const posted = await client.search({ resourceType: 'Observation', searchParams, options: { postSearch: true } });
  assert.deepEqual((await pages(posted)).flat(), expected);
});

test('a transaction is one', async () => {
  const [patientUrl, encounterUrl] = ['urn:uuid:6b8c8f3e-8f5e-4d0e-9a53-0d1f5d1c9a01', 'urn:uuid:6b8c8f3e-8f5e-4d0e-9a53-0d1f5d1c9a02'];
  const entry = [
    { fullUrl: encounterUrl, request: { method: 'POST', url: 'Encounter' }, resource: {
      resourceType: 'Encounter', status: 'finished', class: { code: 'AMB' }, subject: { reference: patientUrl } } },
    { fullUrl: patientUrl, request: { method: 'POST', url: 'Patient', ifNoneExist: 'identifier=urn:test|kit-t' },
      resource: person('Transaction', { identifier: [{ system: 'urn:test', value: 'kit-t' }] }) },
    { request: { method: 'GET', url: 'Patient?identifier=urn:test|kit-t' } }];
  const answer = await client.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry } });
  assert.equal(answer.type, 'transaction-response');
  assert.deepEqual(answer.entry.map(({ response }) => response.status.slice(0, 3)), ['201', '201', '200']);
  const patient = ids(answer.entry[2].resource)[0];
  const encounter = await client.resolve({ reference: answer.entry[0].response.location });
  assert.equal(encounter.subject.reference, `Patient/${patient}`);
  assert.equal((await client.resolve({ reference: encounter.subject.reference })).name[0].family, 'Transaction');
  const found = await client.search({ resourceType: 'Encounter', searchParams: { _id: encounter.id, _include: 'Encounter:patient' } });
  const within = await client.resolve({ reference: encounter.subject.reference, context: found });
  assert.equal(within, found.entry[1].resource);

  entry[2] = { request: { method: 'DELETE', url: 'Patient/kit-t', ifMatch: 'W/"9"' } };
  const failed = client.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry } });
  await refused(failed, 412, 'conflict');
  assert.equal((await client.search({ resourceType: 'Encounter', searchParams: { patient } })).total, 1);
});

test('in a batch each entry has its own answer', async () => {
  const entry = [
    { request: { method: 'PUT', url: 'Patient/kit-batch' }, resource: person('Batch', { id: 'kit-batch' }) },
    { request: { method: 'POST', url: 'Patient' }, resource: person('Batch', { gender: 'none' }) },
    { request: { method: 'GET', url: 'Patient/kit-nobody' } },
    { request: { method: 'GET', url: 'metadata' } },
    { request: { method: 'DELETE', url: 'Patient/kit-nobody' } }];
  const answer = await client.batch({ body: { resourceType: 'Bundle', type: 'batch', entry } });
  assert.equal(answer.type, 'batch-response');
  assert.deepEqual(answer.entry.map(({ response }) => response.status.slice(0, 3)), ['201', '400', '404', '200', '204']);
  assert.deepEqual(answer.entry[1].response.outcome.issue[0].expression, ['Bundle.entry[1].resource.gender']);
  assert.equal(answer.entry[3].resource.resourceType, 'CapabilityStatement');
});

test('operations on types and on instances', async () => {
  await put(person('Operation', { id: 'kit-o', gender: 'female', birthDate: '1960-01-02' }));
  const fine = await client.operation({ name: 'validate', resourceType, input: person('X') });
  assert.deepEqual(fine.issue.map(({ severity }) => severity), ['information']);
  const wrong = await client.operation({ name: '$validate', resourceType, id: 'kit-o', input: person('X', { id: 'kit-o', gender: 'x' }) });
  assert.deepEqual(wrong.issue.map(({ severity, expression }) => [severity, expression]), [['error', ['Patient.gender']]]);

  const tag = { system: 'urn:test', code: 'kit' };
  const input = { resourceType: 'Parameters', parameter: [{ name: 'meta', valueMeta: { tag: [tag] } }] };
  const meta = async (name, method) => (await client.operation({ name, resourceType, id: 'kit-o', method, input })).parameter[0].valueMeta;
  assert.deepEqual((await meta('meta-add')).tag, [tag]);
  assert.equal((await meta('meta-delete')).tag, undefined);

  const creatinine = observation('kit-creatinine', 'kit-o', new Date().toISOString(), {
    code: { coding: [{ system: 'http://loinc.org', code: '2160-0' }] },
    valueQuantity: { value: 0.8, unit: 'mg/dL', system: 'http://unitsofmeasure.org', code: 'mg/dL' } });
  await put(creatinine);
  const ask = (method, input) => client.operation({ name: 'assess-risk', resourceType, id: 'kit-o', method, input });
  const asked = await ask('GET', { model: 'ckd-epi-2021' });
  const posted = await ask('POST', { resourceType: 'Parameters', parameter: [{ name: 'model', valueString: 'ckd-epi-2021' }] });
  for (const { entry: [{ resource }], type } of [asked, posted]) {
    assert.deepEqual([type, resource.resourceType, resource.status], ['collection', 'RiskAssessment', 'final']);
    assert(resource.basis.some(({ reference }) => reference === 'Observation/kit-creatinine/_history/1'));
  }
  const body = { resourceType: 'Bundle', type: 'collection', entry: [
    { resource: { ...person('Operation'), gender: 'female', birthDate: '1960-01-02', id: 'kit-o' } }, { resource: creatinine }] };
  const sent = await client.operation({ name: 'assess-risk', input: body });
  const score = ({ entry }) => entry.map(({ resource }) => resource).find(({ method }) => method.coding[0].code === 'ckd-epi-2021')
    .prediction[0].extension.find(({ url }) => url.endsWith('/score')).valueQuantity.value;
  assert.equal(score(sent), score(asked));

  const everything = await client.operation({ name: 'everything', resourceType, id: 'kit-o', method: 'GET', input: { _count: 1, _type: 'Patient,Observation' } });
  const chart = (await pages(everything)).flat();
  assert.equal(chart[0], 'kit-o');
  assert(chart.includes('kit-creatinine'), chart);
  await refused(client.operation({ name: 'nonsense', resourceType, id: 'kit-o' }), 404, 'not-found');
});

test('a refusal names what was wrong', async () => {
  await refused(client.read({ resourceType: 'Nothing', id: '1' }), 404, 'not-found');
  await refused(client.read({ resourceType, id: 'kit-nobody' }), 404, 'not-found');
  const wrong = await refused(client.create({ resourceType, body: person('X', { birthDate: '2024-02-30' }) }), 400, 'value');
  assert.deepEqual(wrong.expression, ['Patient.birthDate']);
  await refused(client.update({ resourceType, id: 'kit-a', body: person('X', { id: 'kit-b' }) }), 400, 'invalid');
  await refused(client.create({ resourceType, body: '<Patient/>', options: { headers: { 'Content-Type': 'text/plain' } } }), 415, 'not-supported');
});
