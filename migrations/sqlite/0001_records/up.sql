-- The current version of every resource, found by key or by (kind, id) in one lookup. `hash` stands
-- for it in the index rows of what points to it. `patient`: the ids of the patients it is about, with
-- spaces between; what is deleted keeps them.
CREATE TABLE resource (
    key INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    deleted BOOLEAN NOT NULL,
    hash INTEGER NOT NULL,
    patient TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX resource_identity ON resource (kind, id);
CREATE INDEX resource_updated ON resource (kind, updated);
CREATE INDEX resource_changed ON resource (key) WHERE version > 1;

-- Every version that is no longer the current one.
CREATE TABLE history (
    key INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    deleted BOOLEAN NOT NULL,
    patient TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX history_identity ON history (kind, id, version);
CREATE INDEX history_updated ON history (kind, updated);

-- Tokens, references and uris by hash, chart by chart: all rows of a resource lie together, and one
-- patient's values of one code lie in the order of their dates. Patient 0 is nobody's chart.
CREATE TABLE index_exact (
    patient INTEGER NOT NULL,
    param INTEGER NOT NULL,
    value INTEGER NOT NULL,
    date INTEGER NOT NULL,
    key INTEGER NOT NULL,
    system INTEGER NOT NULL,
    PRIMARY KEY (patient, param, value, date, key, system)
) WITHOUT ROWID;

-- Which charts have, or once had, such a value: the way into index_exact without a patient.
CREATE TABLE index_chart (
    param INTEGER NOT NULL,
    value INTEGER NOT NULL,
    patient INTEGER NOT NULL,
    PRIMARY KEY (param, value, patient)
) WITHOUT ROWID;

-- Dates as spans of microseconds, by version: keys only grow, so rows are appended at the end. And by
-- their beginning, for one day over all charts.
CREATE TABLE index_range (
    param INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    key INTEGER NOT NULL,
    patient INTEGER NOT NULL,
    PRIMARY KEY (key, param, low, high)
) WITHOUT ROWID;
CREATE INDEX index_range_low ON index_range (param, low);

-- Numbers and quantities, by version: as recorded and in UCUM base units, as whole numbers in the
-- order of the numbers they stand for.
CREATE TABLE index_number (
    key INTEGER NOT NULL,
    param INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    code INTEGER NOT NULL,
    label INTEGER NOT NULL,
    system INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    base_low INTEGER NOT NULL,
    base_high INTEGER NOT NULL,
    PRIMARY KEY (key, param, low, high, code, label, system)
) WITHOUT ROWID;

-- What people read, normalised, each text once; `value` stands for it in index_exact and index_chart,
-- under the complement of `param`. Rows stay when nothing points to them any more.
CREATE TABLE index_text (
    param INTEGER NOT NULL,
    text TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (param, text)
) WITHOUT ROWID;

-- What is still to be done, queued in the transaction of its cause.
CREATE TABLE task (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL,
    patient TEXT NOT NULL,
    due INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    tries INTEGER NOT NULL
);

-- One row per patient, model version and distinct set of inputs: what was scored is not scored again.
CREATE TABLE assessment (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    patient TEXT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    inputs TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    current BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX assessment_identity ON assessment (patient, model, version, inputs);
CREATE INDEX assessment_current ON assessment (patient) WHERE current;

-- Which version of a model is in use.
CREATE TABLE model_activation (
    model TEXT PRIMARY KEY NOT NULL,
    version TEXT NOT NULL,
    since INTEGER NOT NULL
) WITHOUT ROWID;

-- Callers with an API key; only the key's hash is kept. `scope`: what they may do.
CREATE TABLE client (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    scope TEXT NOT NULL,
    expires INTEGER,
    created INTEGER NOT NULL,
    revoked INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX client_key_hash ON client (key_hash);

-- What the processes on this database share and nobody else may know, made at the first start.
CREATE TABLE secret (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- What `augury import` has taken in: SHA-256 (hex) of each item, recorded in its own transaction.
CREATE TABLE taken (
    digest TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
