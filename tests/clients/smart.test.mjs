// Apps that others wrote get a token: fhirclient in a page and on a server, and openid-client, which forgives
// nothing. A real browser goes through the server's pages, as a person would, and must not complain of any.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { webcrypto } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import fhirclient from 'fhirclient';
import { createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import * as openid from 'openid-client';
import puppeteer from 'puppeteer-core';

globalThis.crypto ??= webcrypto; // Node.js 18 has both under no other name
globalThis.CryptoKey ??= webcrypto.CryptoKey;

const { AUGURY_BASE: base, AUGURY_KEY: key, AUGURY_BIN: augury } = process.env;
const issuer = new URL(base).origin;
const password = 'correct horse battery';
const library = readFileSync(createRequire(import.meta.url).resolve('fhirclient/build/fhir-client.min.js'));
const folder = mkdtempSync(join(tmpdir(), 'augury-smart-'));
const file = (name, content) => (writeFileSync(join(folder, name), JSON.stringify(content)), join(folder, name));

const apps = {}; // what each app of `site` gives to fhirclient, by the app's name
const session = {}; // what the app on a server keeps
let browser, home;

// The apps' own site: /NAME/launch asks, /NAME/ is where the answer comes. On `localhost`, so that it is
// another site than the server's 127.0.0.1 for cookies and for CORS.
const script = (code) => `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>App</title>
  <script src="/fhir-client.js"></script><script>${code}</script>`;
const site = createServer(async (request, response) => {
  const [, name, page] = new URL(request.url, home).pathname.split('/');
  const html = (code) => response.setHeader('content-type', 'text/html').end(script(code));
  try {
    if (name === 'fhir-client.js') response.setHeader('content-type', 'text/javascript').end(library);
    else if (name === 'server') {
      const app = fhirclient(Object.assign(request, { session }), response);
      if (page === 'launch') await app.authorize(apps[name]);
      else response.setHeader('content-type', 'application/json').end(JSON.stringify(await told(await app.ready())));
    } else if (page === 'launch') html(`FHIR.oauth2.authorize(${JSON.stringify(apps[name])})`);
    else if (name === 'openid') html('');
    else html('FHIR.oauth2.ready().then((client) => { window.client = client }, ({ message }) => { window.failed = message })');
  } catch (error) {
    response.writeHead(500).end(error.stack);
  }
});

// What an app learns with fhirclient. Runs in a page, too.
async function told(client) {
  const { id_token: idToken, ...answer } = client.state.tokenResponse;
  return { answer, idToken, patient: await client.patient.read(), user: await client.user.read() };
}

// The command line refuses settings that it doesn't know, and what tests are told is none.
const { PATH, AUGURY_DATABASE_URL, AUGURY_DATA_DIR, AUGURY_SECRET } = process.env;
const env = { PATH, AUGURY_DATABASE_URL, AUGURY_DATA_DIR, AUGURY_SECRET };
const command = (input, ...parts) => execFileSync(augury, parts, { input, env, encoding: 'utf8' });

// Registers an app; how fhirclient is to ask is `more`.
function register(name, proof, more) {
  const redirectUri = `${home}/${name}/`;
  const said = command('', 'client', 'add', `App ${name}`, ...proof, '--redirect', redirectUri, '--launch-url', `${home}/${name}/launch`);
  const line = (label) => said.match(new RegExp(`^${label} +(\\S+)$`, 'm'))?.[1];
  apps[name] = { clientId: line('id'), clientSecret: line('secret'), redirectUri, pkceMode: 'required', ...more };
  return apps[name];
}

async function put(resource) {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/fhir+json' };
  const answer = await fetch(`${base}/${resource.resourceType}/${resource.id}`, { method: 'PUT', headers, body: JSON.stringify(resource) });
  assert.equal(answer.status, 201, await answer.text());
}

before(async () => {
  const subject = { reference: 'Patient/smart-ada' };
  const code = { text: 'x' };
  await put({ resourceType: 'Practitioner', id: 'smart-carol', name: [{ family: 'Carol' }] });
  await put({ resourceType: 'Patient', id: 'smart-ada', name: [{ family: 'Abel', given: ['Ada'] }] });
  await put({ resourceType: 'Patient', id: 'smart-ben', name: [{ family: 'Baker', given: ['Ben'] }] });
  await put({ resourceType: 'Encounter', id: 'smart-visit', status: 'in-progress', class: { code: 'AMB' }, subject: { reference: 'Patient/smart-ben' } });
  for (const n of [1, 2, 3]) await put({ resourceType: 'Observation', id: `smart-${n}`, status: 'final', code, subject });
  await put({ resourceType: 'Condition', id: 'smart-c', code, subject });
  await put({ resourceType: 'Observation', id: 'smart-bens', status: 'final', code, subject: { reference: 'Patient/smart-ben' } });
  command(password, 'user', 'add', 'carol', '--role', 'clinician', '--fhir-user', 'Practitioner/smart-carol', '--name', 'Dr Carol');

  await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
  home = `http://localhost:${site.address().port}`;
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
  browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox', '--headless=new'] });
});

after(async () => {
  await browser?.close();
  site.close();
  site.closeAllConnections();
  rmSync(folder, { recursive: true });
});

// Another person's browser, and all that it complains of: scripts that fail, answers that are none, and
// whatever a policy forbade.
async function visitor() {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => ['error', 'warn'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('requestfailed', (request) => { // unless the page was left meanwhile
    const why = request.failure()?.errorText ?? 'net::ERR_ABORTED';
    if (why !== 'net::ERR_ABORTED') complaints.push(`${request.url()} ${why}`);
  });
  page.on('response', (response) => response.status() >= 400 && complaints.push(`${response.url()} ${response.status()}`));
  const audits = await page.createCDPSession();
  await audits.send('Audits.enable');
  const harm = /^(ContentSecurityPolicy|Cors|Cookie|MixedContent|BlockedByResponse|QuirksMode)/; // others advise
  audits.on('Audits.issueAdded', ({ issue }) => harm.test(issue.code) && complaints.push(JSON.stringify(issue)));
  return { page, complaints };
}

const click = (page, selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);

// Opens an app, signs in, chooses the patient if one is to be chosen, unticks, and decides.
async function decide(page, url, { patient, untick = [], decision = 'allow' }) {
  await page.goto(url);
  await page.waitForSelector('input[name=password]');
  await page.type('input[name=login]', 'carol');
  await page.type('input[name=password]', password);
  await click(page, 'button[type=submit]');
  if (patient) {
    assert.match(await page.title(), /Choose a patient/);
    await page.type('input[name=q]', patient.name);
    await click(page, 'form[role=search] button');
    assert.equal((await page.$$('button[name=patient]')).length, 1, 'who is not sought is found');
    await click(page, `button[value=${patient.id}]`);
  }
  assert.match(await page.title(), /^Allow App/);
  for (const scope of untick) await page.click(`input[value="${scope}"]`);
  await click(page, `button[value=${decision}]`);
}

const ada = { id: 'smart-ada', name: 'Abel' };
const ready = (page) => page.waitForFunction('window.client || window.failed');
// What a page's app is answered.
const status = (page, path) => page.evaluate((path) =>
  window.client.request(path).then(() => 200, ({ statusCode }) => statusCode), path);

async function verified(idToken, audience) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
  const options = { issuer, audience, algorithms: ['RS256'], requiredClaims: ['exp', 'iat', 'sub'] };
  return (await jwtVerify(idToken, keys, options)).payload;
}

test('fhirclient in a page, launched by itself, with a scope unticked', async () => {
  const scope = 'launch/patient openid fhirUser patient/Patient.rs patient/Observation.rs patient/Condition.rs user/Practitioner.r';
  const { clientId } = register('standalone', ['--public'], { iss: base, scope });
  const { page, complaints } = await visitor();
  await decide(page, `${home}/standalone/launch`, { patient: ada, untick: ['patient/Condition.rs'] });
  await ready(page);
  const { answer, idToken, patient, user } = await page.evaluate(`(${told})(window.client)`);
  assert.equal(answer.scope, scope.replace('patient/Condition.rs ', ''));
  assert.deepEqual([patient.id, patient.name[0].family], ['smart-ada', 'Abel']);
  assert.equal(user.id, 'smart-carol');
  assert.equal((await verified(idToken, clientId)).fhirUser, `${base}/Practitioner/smart-carol`);

  // It follows the pages, and sees no other patient's.
  const found = await page.evaluate(async () => {
    const all = await window.client.request('Observation?_count=2', { pageLimit: 0, flat: true });
    return all.map(({ id }) => id).sort();
  });
  assert.deepEqual(found, ['smart-1', 'smart-2', 'smart-3']);
  assert.deepEqual(complaints, []);
  assert.equal(await status(page, 'Condition'), 403);
  assert.equal(await status(page, 'Patient/smart-ben'), 404);
});

test('fhirclient in a page refreshes until its user ends it', async () => {
  const scope = 'launch/patient offline_access patient/*.rs';
  register('lasting', ['--public'], { iss: base, scope });
  const { page, complaints } = await visitor();
  await decide(page, `${home}/lasting/launch`, { patient: ada });
  await ready(page);
  const tokens = new Set([await page.evaluate('window.client.state.tokenResponse.access_token')]);
  // By default it leaves out client_id, which for a refresh nobody demands: the token says whose it is.
  for (const named of [true, false]) {
    const renewed = await page.evaluate(async (named) => {
      window.client.environment.options.refreshTokenWithClientId = named;
      return (await window.client.refresh()).tokenResponse;
    }, named);
    tokens.add(renewed.access_token);
    assert.deepEqual([renewed.scope, renewed.patient], [scope, 'smart-ada']);
    assert.equal(await status(page, 'Observation'), 200);
  }
  // What has run out it renews by itself.
  await page.evaluate('window.client.state.expiresAt = 1');
  assert.equal(await status(page, 'Observation'), 200);
  tokens.add(await page.evaluate('window.client.state.tokenResponse.access_token'));
  assert.equal(tokens.size, 4);
  assert.deepEqual(complaints, []);

  const manage = await page.browserContext().newPage();
  await manage.goto(`${issuer}/oauth/manage`);
  const shown = () => manage.$eval('main', (main) => main.innerText);
  assert.match(await shown(), /App lasting/);
  await click(manage, 'button[name=grant]');
  assert.doesNotMatch(await shown(), /App lasting/);
  await page.bringToFront();
  assert.equal(await status(page, 'Observation'), 401);
  await assert.rejects(page.evaluate('window.client.refresh()'), /No refresh_token found|invalid_grant/);
});

test('fhirclient in a page, opened by an EHR', async () => {
  const scope = 'launch openid fhirUser patient/*.read user/Practitioner.read';
  const { clientId } = register('opened', ['--public'], { scope });
  // The EHR is a client that signs for itself; openid-client would name the issuer where SMART wants the
  // token endpoint.
  const { privateKey, publicKey } = await generateKeyPair('ES384');
  const jwks = file('ehr.json', { keys: [{ ...await exportJWK(publicKey), kid: 'ehr-1', alg: 'ES384' }] });
  const ehr = command('', 'client', 'add', 'EHR', '--jwks', jwks, '--scope', 'augury/launch system/Patient.r system/Encounter.r').match(/^id +(\S+)$/m)[1];
  const proof = openid.PrivateKeyJwt({ key: privateKey, kid: 'ehr-1' }, {
    [openid.modifyAssertion]: (_, claims) => { claims.aud = `${issuer}/oauth/token`; } });
  const config = await openid.discovery(new URL(issuer), ehr, undefined, proof, { execute: [openid.allowInsecureRequests] });
  const { access_token: token } = await openid.clientCredentialsGrant(config, { scope: 'augury/launch system/Patient.r system/Encounter.r' });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ client_id: clientId, patient: 'smart-ben', encounter: 'smart-visit', intent: 'review', user: 'carol' });
  const sent = await fetch(`${issuer}/oauth/launch`, { method: 'POST', headers, body });
  const { url, launch, iss } = await sent.json();
  assert.deepEqual([sent.status, url], [201, `${home}/opened/launch?${new URLSearchParams({ iss: base, launch })}`]);
  assert.equal(iss, base);

  const { page, complaints } = await visitor();
  await decide(page, url, {}); // and no patient is to be chosen
  await ready(page);
  const { answer, patient, user } = await page.evaluate(`(${told})(window.client)`);
  assert.deepEqual([patient.id, user.id, answer.patient, answer.encounter, answer.intent], [
    'smart-ben', 'smart-carol', 'smart-ben', 'smart-visit', 'review']);
  assert.equal(answer.need_patient_banner, false, 'the EHR shows whose record it is');
  assert.equal(await page.evaluate('window.client.encounter.id'), 'smart-visit');
  assert.equal(answer.scope, scope);
  assert.deepEqual(complaints, []);
});

test('an app is told of a refusal', async () => {
  register('denied', ['--public'], { iss: base, scope: 'launch/patient patient/*.rs' });
  const { page, complaints } = await visitor();
  await decide(page, `${home}/denied/launch`, { patient: ada, decision: 'deny' });
  await ready(page);
  assert.match(await page.evaluate('window.failed'), /^access_denied/);
  assert.deepEqual(complaints, []);
});

test('fhirclient on a server, with a secret and with a key', async () => {
  const { privateKey, publicKey } = await generateKeyPair('RS384', { extractable: true });
  const named = { kid: 'app-1', alg: 'RS384' };
  const jwks = file('app.json', { keys: [{ ...await exportJWK(publicKey), ...named }] });
  const clientPrivateJwk = { ...await exportJWK(privateKey), ...named, key_ops: ['sign'] };
  for (const [proof, more] of [[['--secret'], {}], [['--jwks', jwks], { clientPrivateJwk }]]) {
    const { clientId } = register('server', proof, { ...more, iss: base, scope: 'launch/patient openid fhirUser patient/*.rs user/*.rs' });
    const { page, complaints } = await visitor();
    await decide(page, `${home}/server/launch`, { patient: ada });
    const { idToken, patient, user } = JSON.parse(await page.$eval('body', (shown) => shown.innerText));
    assert.deepEqual([patient.id, user.id], ['smart-ada', 'smart-carol'], proof[0]);
    await verified(idToken, clientId);
    assert.deepEqual(complaints, []);
  }
});

test('openid-client: discovery, code, id_token, introspection, refresh, revocation', async () => {
  const { clientId, clientSecret, redirectUri } = register('openid', ['--secret'], {});
  const discover = (proof) => openid.discovery(new URL(issuer), clientId, undefined, proof, {
    execute: [openid.allowInsecureRequests, openid.enableNonRepudiationChecks] });
  const config = await discover(openid.ClientSecretBasic(clientSecret));
  const other = await discover(openid.ClientSecretPost(clientSecret));
  const [pkceCodeVerifier, expectedState, expectedNonce] = [openid.randomPKCECodeVerifier(), openid.randomState(), openid.randomNonce()];
  const scope = 'launch/patient openid profile offline_access patient/Patient.rs';
  const asked = openid.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri, scope, aud: base, state: expectedState, nonce: expectedNonce, max_age: '600',
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256' });
  const { page, complaints } = await visitor();
  await decide(page, asked.href, { patient: ada });
  assert.deepEqual(complaints, []);
  const got = await openid.authorizationCodeGrant(config, new URL(page.url()), {
    pkceCodeVerifier, expectedState, expectedNonce, maxAge: 600, idTokenExpected: true });
  assert.deepEqual([got.scope, got.patient, got.token_type, got.expires_in], [scope, 'smart-ada', 'bearer', 3600]);
  const { sub, name } = got.claims();
  assert.equal(name, 'Dr Carol');

  const read = async (token) => (await openid.fetchProtectedResource(config, token, new URL(`${base}/Patient/smart-ada`), 'GET')).json();
  assert.equal((await read(got.access_token)).id, 'smart-ada');
  const worth = await openid.tokenIntrospection(config, got.access_token);
  assert.deepEqual([worth.active, worth.client_id, worth.scope, worth.sub, worth.patient], [true, clientId, scope, sub, 'smart-ada']);

  const renewed = await openid.refreshTokenGrant(other, got.refresh_token, { scope: 'openid patient/Patient.r' });
  assert.deepEqual([renewed.scope, renewed.claims().sub], ['openid patient/Patient.r', sub]);
  assert.equal((await read(renewed.access_token)).id, 'smart-ada');
  await openid.tokenRevocation(other, renewed.refresh_token);
  for (const token of [got.access_token, renewed.access_token, renewed.refresh_token]) {
    assert.deepEqual(await openid.tokenIntrospection(other, token), { active: false });
  }
  await assert.rejects(openid.refreshTokenGrant(config, renewed.refresh_token), { error: 'invalid_grant' });
  await assert.rejects(read(got.access_token), { code: 'OAUTH_WWW_AUTHENTICATE_CHALLENGE', status: 401 });
});
