-- Who did what, append-only, each row authenticated by `mac`. `entity` and `chart` are hashes of `Type/id`
-- of what it was done to and of the patient; `epoch` says on PostgreSQL which transaction wrote it.
CREATE TABLE audit (
    key INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL,
    act INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    request TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    entity INTEGER NOT NULL,
    patient TEXT NOT NULL,
    chart INTEGER NOT NULL,
    query TEXT NOT NULL,
    note TEXT NOT NULL,
    mac INTEGER NOT NULL
);

-- Rows that are in the tree by what they are about: `hash` is a chart, an entity or an agent. Written in
-- order when rows are taken into the tree, which costs less than with each row.
CREATE TABLE audit_index (
    hash INTEGER NOT NULL,
    key INTEGER NOT NULL,
    PRIMARY KEY (hash, key)
) WITHOUT ROWID;

-- The ones who did it, each once, found by a hash of the text.
CREATE TABLE audit_agent (
    key INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);

-- The leaves of the Merkle tree, 256 a row: keys of the audited, each as its distance from the one before
-- (`distance@epoch` where the epoch is another), and hashes. They are the rows up to `epoch`, `high`. `root`: of a complete block, else empty.
CREATE TABLE audit_block (
    first INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    high INTEGER NOT NULL,
    keys TEXT NOT NULL,
    leaves TEXT NOT NULL,
    root TEXT NOT NULL
);
CREATE INDEX audit_block_high ON audit_block (epoch, high);

-- Signed tree heads.
CREATE TABLE audit_head (
    size INTEGER PRIMARY KEY,
    recorded INTEGER NOT NULL,
    frontier TEXT NOT NULL,
    note TEXT NOT NULL
);

-- What is added to PostgreSQL's numbers of transactions to make epochs: another cluster, into which the database
-- was restored, numbers them from the beginning. One row; 0 on SQLite.
CREATE TABLE audit_shift (
    shift INTEGER NOT NULL
);
INSERT INTO audit_shift (shift) VALUES (0);

-- Who the events are sent to, and how many of the log it has; `holder` is the process that sends, until then.
CREATE TABLE audit_destination (
    name TEXT NOT NULL PRIMARY KEY,
    delivered INTEGER NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL
);
