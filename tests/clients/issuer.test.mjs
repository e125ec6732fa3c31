// Another authorization server, oidc-provider as it is: its access tokens count here, JWTs by its keys and
// others by asking it, as far as they are good there and within the ceiling here; and its people sign in.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import { createServer } from 'node:http';
import test, { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';

// Node.js 18 has the one under no other name, and the other not at all.
globalThis.crypto ??= crypto.webcrypto;
URL.parse ??= (text, within) => { try { return new URL(text, within); } catch { return null; } };
const { default: Provider } = await import('oidc-provider');

const { AUGURY_BASE: base, AUGURY_KEY: key, AUGURY_BIN: augury, ISSUER: issuer } = process.env;
const origin = new URL(base).origin;
const other = 'https://elsewhere.example/fhir';
const scopes = ['launch/patient', 'patient/*.rs', 'patient/Patient.cruds', 'user/*.cruds', 'system/*.cruds', 'system/Patient.rs', 'system/AuditEvent.rs'];
const callback = 'http://127.0.0.1:9/callback';
const secret = 'a secret of the test';
const { PATH, AUGURY_DATABASE_URL, AUGURY_DATA_DIR, AUGURY_SECRET } = process.env;
const env = { PATH, AUGURY_DATABASE_URL, AUGURY_DATA_DIR, AUGURY_SECRET };

const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const itself = { client_secret: secret, grant_types: ['client_credentials'], response_types: [], redirect_uris: [] };
const forPeople = { grant_types: ['authorization_code'], response_types: ['code'] };
const doctor = { name: 'Dora Day', roles: ['clinician'], fhirUser: `${base}/Practitioner/issuer-dora` };
const provider = new Provider(issuer, {
  clients: [
    { client_id: 'jwt-itself', ...itself },
    { client_id: 'opaque-itself', ...itself },
    { client_id: 'brief-itself', ...itself },
    { client_id: 'jwt-app', ...forPeople, token_endpoint_auth_method: 'none', redirect_uris: [callback] },
    { client_id: 'opaque-app', ...forPeople, token_endpoint_auth_method: 'none', redirect_uris: [callback] },
    { client_id: 'augury', ...itself, grant_types: [] },
    { client_id: 'sign-in', ...forPeople, client_secret: secret, redirect_uris: [`${origin}/oauth/upstream/callback`] },
  ],
  jwks: { keys: [{ ...await exportJWK(privateKey), kid: 'issuer-1', alg: 'RS256', use: 'sig' }] },
  cookies: { keys: [secret] },
  scopes: ['openid', 'offline_access', ...scopes],
  claims: { openid: ['sub'], profile: Object.keys(doctor) },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId, ...doctor }) }),
  extraTokenClaims: (_, token) => token.accountId && { patient: 'issuer-ada', fhirUser: doctor.fhirUser },
  loadExistingGrant: async ({ oidc: { client, session } }) => {
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(['openid profile', ...scopes].join(' '));
    for (const resource of [base, other]) grant.addResourceScope(resource, scopes.join(' '));
    await grant.save();
    return grant;
  },
  interactions: { url: (_, { uid }) => `/interaction/${uid}` },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === 'augury' },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => base,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, audience, { clientId }) => ({
        audience,
        scope: scopes.join(' '),
        accessTokenFormat: clientId.startsWith('jwt') ? 'jwt' : 'opaque',
        accessTokenTTL: clientId.startsWith('brief') ? 2 : 3600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
const answer = provider.callback();
const site = createServer(async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response);
  return provider.interactionFinished(request, response, { login: { accountId: 'dora' } });
});

async function put(resource) {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/fhir+json' };
  const sent = await fetch(`${base}/${resource.resourceType}/${resource.id}`, { method: 'PUT', headers, body: JSON.stringify(resource) });
  assert.equal(sent.status, 201, await sent.text());
}

before(async () => {
  await new Promise((listening) => site.listen(new URL(issuer).port, '127.0.0.1', listening));
  await put({ resourceType: 'Patient', id: 'issuer-ada' });
  await put({ resourceType: 'Patient', id: 'issuer-ben' });
  await put({ resourceType: 'Practitioner', id: 'issuer-dora' });
});
after(() => new Promise((closed) => { site.closeAllConnections(); site.close(closed); }));

async function form(path, pairs, client) {
  const headers = client ? { authorization: `Basic ${btoa(`${client}:${encodeURIComponent(secret)}`)}` } : {};
  const sent = await fetch(`${issuer}${path}`, { method: 'POST', headers, body: new URLSearchParams(pairs) });
  const text = await sent.text();
  assert.equal(sent.status, 200, text);
  return text && JSON.parse(text);
}

const token = async (client, scope, resource = base) => (await form('/token', { grant_type: 'client_credentials', scope, resource }, client)).access_token;

// A browser without scripts: goes from place to place until one leads to `end`, or none leads on.
async function visit(address, end) {
  const cookies = {};
  for (let steps = 0; steps < 12; steps += 1) {
    const jar = cookies[new URL(address).origin] ??= {};
    const cookie = Object.entries(jar).map((pair) => pair.join('=')).join('; ');
    const page = await fetch(address, { headers: cookie ? { cookie } : {}, redirect: 'manual' });
    for (const one of page.headers.getSetCookie()) {
      const [, name, value] = one.match(/^([^=]+)=([^;]*)/);
      jar[name] = value;
    }
    if (!page.headers.has('location')) {
      const text = await page.text();
      const link = text.match(/href="(\/oauth\/upstream\?[^"]*)"/)?.[1];
      if (!link) return { status: page.status, text };
      address = new URL(link.replaceAll('&#38;', '&').replaceAll('&amp;', '&'), address).href;
      continue;
    }
    address = new URL(page.headers.get('location'), address).href;
    if (end && address.startsWith(end)) return new URL(address);
  }
  assert.fail(`leads nowhere: ${address}`);
}

async function byCode(client, scope, resource = base) {
  const verifier = crypto.randomBytes(32).toString('base64url');
  const question = new URLSearchParams({
    client_id: client, response_type: 'code', redirect_uri: callback, scope, resource, state: 's',
    code_challenge: crypto.createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
  });
  const code = (await visit(`${issuer}/auth?${question}`, callback)).searchParams.get('code');
  return (await form('/token', { grant_type: 'authorization_code', client_id: client, code, redirect_uri: callback, resource, code_verifier: verifier })).access_token;
}

const headers = (bearer) => ({ authorization: `Bearer ${bearer}`, 'content-type': 'application/fhir+json' });
const read = async (bearer, path) => (await fetch(`${base}/${path}`, { headers: headers(bearer) })).status;
const write = async (bearer, resource) => (await fetch(`${base}/${resource.resourceType}/${resource.id}`, {
  method: 'PUT', headers: headers(bearer), body: JSON.stringify(resource) })).status;

for (const kind of ['jwt', 'opaque']) {
  test(`a client that acts for itself, ${kind}`, async () => {
    const bearer = await token(`${kind}-itself`, 'system/*.cruds system/AuditEvent.rs');
    assert.equal(bearer.split('.').length === 3, kind === 'jwt');
    assert.equal(await read(bearer, 'Patient/issuer-ada'), 200);
    // What its server allows is more than the ceiling here.
    assert.equal(await write(bearer, { resourceType: 'Patient', id: 'issuer-ada', active: true }), 403);
    assert.equal(await read(bearer, 'AuditEvent?_count=1'), 403);
    const less = await token(`${kind}-itself`, 'system/Patient.rs');
    assert.equal(await read(less, 'Patient/issuer-ben'), 200);
    assert.equal(await read(less, 'Practitioner/issuer-dora'), 403);
    // Without a person, a person's scopes are worth nothing.
    assert.equal(await read(await token(`${kind}-itself`, 'user/*.cruds'), 'Patient/issuer-ada'), 403);
  });

  test(`an app that somebody uses, ${kind}`, async () => {
    const bearer = await byCode(`${kind}-app`, 'openid launch/patient patient/*.rs patient/Patient.cruds system/*.cruds');
    assert.equal(await read(bearer, 'Patient/issuer-ada'), 200);
    assert.ok([403, 404].includes(await read(bearer, 'Patient/issuer-ben')));
    assert.equal(await write(bearer, { resourceType: 'Patient', id: 'issuer-ada', active: true }), 403);
    const trail = await (await fetch(`${base}/AuditEvent?patient=Patient/issuer-ada&subtype=read&_sort=-_id&_count=5`, { headers: headers(key) })).json();
    const event = trail.entry.map(({ resource }) => resource).find(({ agent }) => agent[0].who.identifier.value === `${kind}-app`);
    const user = event.agent.find(({ requestor }) => requestor);
    assert.deepEqual(user.who.identifier, { system: issuer, value: 'dora' });
    assert.equal(user.who.reference, 'Practitioner/issuer-dora');
    assert.match(user.policy[0], kind === 'jwt' ? /^urn:ietf:params:oauth:jti:./ : /^.{32}$/);
    // Its own characters are in the trail only where enough of them are not.
    if (kind === 'opaque') assert.equal(bearer.includes(user.policy[0]), bearer.length >= 64);
    const used = `https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.OAUTHaccessTokenUse.${kind === 'jwt' ? 'Comprehensive' : 'Opaque'}`;
    assert.ok(event.meta.profile.includes(used), event.meta.profile);
    const kinds = ({ type }) => type.coding.map(({ code }) => code);
    assert.deepEqual(kinds(user), kind === 'jwt' ? ['IRCP'] : ['IRCP', 'UserOauthAgent']);
    const [application, ...more] = event.agent.filter((agent) => kinds(agent).includes('110150'));
    assert.equal(application.who.identifier.value, `${kind}-app`);
    assert.ok(application.network.address && more.length === 0);
  });

  test(`for another server, ${kind}`, async () => {
    assert.equal(await read(await token(`${kind}-itself`, 'system/Patient.rs', other), 'Patient/issuer-ada'), 401);
    assert.equal(await read(await byCode(`${kind}-app`, 'patient/*.rs', other), 'Patient/issuer-ada'), 401);
  });
}

test('what has ended', async () => {
  const brief = await token('brief-itself', 'system/Patient.rs');
  assert.equal(await read(brief, 'Patient/issuer-ada'), 200);
  await sleep(3500);
  assert.equal(await read(brief, 'Patient/issuer-ada'), 401);

  const bearer = await token('opaque-itself', 'system/Patient.rs');
  assert.equal(await read(bearer, 'Patient/issuer-ada'), 200);
  await form('/token/revocation', { token: bearer }, 'opaque-itself');
  await sleep(1200);
  assert.equal(await read(bearer, 'Patient/issuer-ada'), 401);
});

test('what only looks like it', async () => {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, aud: base, sub: 'jwt-itself', client_id: 'jwt-itself', scope: 'system/Patient.rs', iat: now - 400, exp: now + 300, jti: 'one' };
  const signed = (changed, by = privateKey, kid = 'issuer-1') => new SignJWT({ ...claims, ...changed }).setProtectedHeader({ alg: 'RS256', kid, typ: 'at+jwt' }).sign(by);
  const status = async (...how) => read(await signed(...how), 'Patient/issuer-ada');
  assert.equal(await status({}), 200);
  assert.equal(await status({ exp: now - 60 }), 401);
  assert.equal(await status({ nbf: now + 200 }), 401);
  assert.equal(await status({ iss: `${issuer}/other` }), 401);
  assert.equal(await status({ client_id: undefined }), 401, 'whoever it was issued to must be told');
  assert.equal(await status({ sub: undefined }), 401);
  assert.equal(await status({ cnf: { 'x5t#S256': 'AAAA' } }), 401, 'bound to a certificate that is not shown');
  assert.equal(await status({ cnf: { jkt: 'AAAA' } }), 401);
  assert.equal(await status({}, (await generateKeyPair('RS256')).privateKey), 401);
  assert.equal(await status({}, privateKey, 'issuer-2'), 401);
  assert.equal(await read('nonsense', 'Patient/issuer-ada'), 401);
});

test('its people sign in', async () => {
  const page = await visit(`${origin}/oauth/manage`);
  assert.equal(page.status, 200);
  assert.match(page.text, /Dora Day/);
  const accounts = execFileSync(augury, ['user', 'list'], { env, encoding: 'utf8' });
  assert.match(accounts, new RegExp(`^${issuer}#dora +[0-9a-f-]{36} +active +clinician +Dora Day +Practitioner/issuer-dora$`, 'm'));
});
