-- How it stands with each Subscription. `stamp` grows with each change of what it asks for; `changes` up to
-- `since` are not for it; `horizon` is the transaction that brought it (PostgreSQL). Of `events` that were
-- numbered so many are `delivered`. From `due` on there is something to do for it; `holder` does it, `until`
-- then. `owner` is in whose name it is told of anything; `headers` are sealed. What is sent is signed with the
-- secret of that `generation`, which began at `rotated`; 0 if it is the first. `line` is the process and connection
-- of a subscriber that connects to be told, '-' while it does not; empty where it is sent to. `refusals` counts how
-- often in a row the next event was taken to be wrong.
-- `again` says that dead letters are to be sent.
CREATE TABLE subscription (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    status INTEGER NOT NULL,
    started BOOLEAN NOT NULL,
    since INTEGER NOT NULL,
    horizon INTEGER NOT NULL,
    owner TEXT NOT NULL,
    headers TEXT NOT NULL,
    events INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    due INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    failing INTEGER NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL,
    error TEXT NOT NULL,
    generation INTEGER NOT NULL,
    rotated INTEGER NOT NULL,
    line TEXT NOT NULL,
    again BOOLEAN NOT NULL,
    refusals INTEGER NOT NULL
);
CREATE UNIQUE INDEX subscription_id ON subscription (id);
CREATE INDEX subscription_stamp ON subscription (stamp);
CREATE INDEX subscription_due ON subscription (due);

-- The last stamp that was given, and the last of them for a topic. One row.
CREATE TABLE subscription_state (stamp INTEGER NOT NULL, topics INTEGER NOT NULL);
INSERT INTO subscription_state (stamp, topics) VALUES (0, 0);

-- Versions that somebody may be to be told of, written with them, until that is decided.
CREATE TABLE change (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER NOT NULL
);

-- What a Subscription is told of, in order: the version, and whether it was created (0), updated (1) or
-- deleted (2).
CREATE TABLE event (
    subscription INTEGER NOT NULL,
    number INTEGER NOT NULL,
    key INTEGER NOT NULL,
    effect INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (subscription, number)
) WITHOUT ROWID;

-- Events that an endpoint would not take: why, since when, and whether they are to be sent again.
CREATE TABLE dead_letter (
    subscription INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    error TEXT NOT NULL,
    again BOOLEAN NOT NULL,
    PRIMARY KEY (subscription, number)
) WITHOUT ROWID;
