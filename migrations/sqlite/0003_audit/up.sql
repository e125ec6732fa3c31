-- Who did what, append-only. A row holds the events that one transaction recorded and whose keys follow each
-- other: `key` is that of the first, `events` how many there are, `low` and `high` when the first and the last
-- were recorded; `acts` and `outcomes` have a bit for each number that is in it. `body` has a line for each
-- event. `mac` authenticates all of it; `epoch` says on PostgreSQL which transaction wrote it.
CREATE TABLE audit (
    key INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    events INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    acts INTEGER NOT NULL,
    outcomes INTEGER NOT NULL,
    mac INTEGER NOT NULL,
    body TEXT NOT NULL
);

-- Rows that are in the tree by what their events are about. A pair is a hash, of a chart, an entity or an agent,
-- and the key of a row. Each time that rows are taken into the tree makes a run of sorted pairs, and runs of a level
-- are merged; `run` is the place in the log of the first event that it is about.
CREATE TABLE audit_run (
    run INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    pairs INTEGER NOT NULL
);

-- The pairs of a run, up to 512 a row: `first`, `key` are the first, `pairs` the others, each as its distance from
-- the one before.
CREATE TABLE audit_index (
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    key INTEGER NOT NULL,
    pairs TEXT NOT NULL,
    PRIMARY KEY (run, first, key)
);

-- The ones who did it, each once, found by a code of the text that nobody without the key can make.
CREATE TABLE audit_agent (
    key INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);

-- The leaves of the Merkle tree, 256 a row: keys of the audited, each as its distance from the one before
-- (`distance@epoch` where the epoch is another), and hashes. They are the events up to `epoch`, `high`. `root`: of a complete block, else empty.
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

-- What was taken out because it is older than the policy says: how many events, which were the first of the log,
-- where the last one stood, when one of them said that the log is accepted, a sum over what the index still says of
-- them. No row if nothing was.
CREATE TABLE audit_retired (
    events INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    key INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    mac INTEGER NOT NULL
);

-- Who the events are sent to, and how many of the log it has, which `mac` authenticates; `holder` is the process that sends, until then.
CREATE TABLE audit_destination (
    name TEXT NOT NULL PRIMARY KEY,
    delivered INTEGER NOT NULL,
    mac INTEGER NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL
);
