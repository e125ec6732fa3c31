-- One number for every event. A process takes a block of numbers at a time.
CREATE SEQUENCE audit_key INCREMENT BY 64;

-- Who did what, append-only. A row holds the events that one transaction recorded and whose keys follow each
-- other: `key` is that of the first, `events` how many there are, `low` and `high` when the first and the last
-- were recorded; `acts` and `outcomes` have a bit for each number that is in it. `body` has a line for each
-- event. `mac` authenticates all of it; `epoch` says on PostgreSQL which transaction wrote it:
-- another cluster, into which the database was restored, numbers them from the beginning, so the default adds to it.
-- In parts by key: one begins each month, when the server moves `audit_key` on to a number that begins it.
CREATE TABLE audit (
    key BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL DEFAULT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT),
    events BIGINT NOT NULL,
    low BIGINT NOT NULL,
    high BIGINT NOT NULL,
    acts BIGINT NOT NULL,
    outcomes BIGINT NOT NULL,
    mac BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
) PARTITION BY RANGE (key);
CREATE INDEX audit_epoch ON audit (epoch, key);
DO $$ BEGIN
    EXECUTE format(
        'CREATE TABLE audit_0_%s PARTITION OF audit FOR VALUES FROM (MINVALUE) TO (4398046511104)',
        to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')
    );
END $$;

-- Rows that are in the tree by what their events are about. A pair is a hash, of a chart, an entity or an agent,
-- and the key of a row. Each time that rows are taken into the tree makes a run of sorted pairs, and runs of a level
-- are merged; `run` is the place in the log of the first event that it is about.
CREATE TABLE audit_run (
    run BIGINT PRIMARY KEY,
    level BIGINT NOT NULL,
    pairs BIGINT NOT NULL
);

-- The pairs of a run, up to 512 a row: `first`, `key` are the first, `pairs` the others, each as its distance from
-- the one before.
CREATE TABLE audit_index (
    run BIGINT NOT NULL,
    first BIGINT NOT NULL,
    key BIGINT NOT NULL,
    pairs TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, first, key)
);

-- The ones who did it, each once, found by a code of the text that nobody without the key can make.
CREATE TABLE audit_agent (
    key BIGINT PRIMARY KEY,
    text TEXT COLLATE "C" NOT NULL
);

-- The leaves of the Merkle tree, 256 a row: keys of the audited, each as its distance from the one before
-- (`distance@epoch` where the epoch is another), and hashes. They are the events up to `epoch`, `high`. `root`: of a complete block, else empty.
CREATE TABLE audit_block (
    first BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    high BIGINT NOT NULL,
    keys TEXT COLLATE "C" NOT NULL,
    leaves TEXT COLLATE "C" NOT NULL,
    root TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_block_high ON audit_block (epoch, high);

-- Signed tree heads.
CREATE TABLE audit_head (
    size BIGINT PRIMARY KEY,
    recorded BIGINT NOT NULL,
    frontier TEXT COLLATE "C" NOT NULL,
    note TEXT COLLATE "C" NOT NULL
);

-- What was taken out because it is older than the policy says: how many events, which were the first of the log,
-- where the last one stood, when one of them said that the log is accepted, a sum over what the index still says of
-- them. No row if nothing was.
CREATE TABLE audit_retired (
    events BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    key BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    sum BIGINT NOT NULL,
    mac BIGINT NOT NULL
);

-- Who the events are sent to, and how many of the log it has, which `mac` authenticates; `holder` is the process that sends, until then.
CREATE TABLE audit_destination (
    name TEXT COLLATE "C" PRIMARY KEY,
    delivered BIGINT NOT NULL,
    mac BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    until BIGINT NOT NULL
);
