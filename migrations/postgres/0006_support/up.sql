-- Programs whose schema has a smaller number than that may no longer work on this database: who takes away what
-- they need raises it. One row.
CREATE TABLE schema_support (oldest BIGINT NOT NULL);
INSERT INTO schema_support (oldest) VALUES (0);

-- A random number that is another from time to time: what shows the newest one follows this database, and no
-- copy of it that went its own way. One row.
CREATE TABLE replica_mark (mark BIGINT NOT NULL);
INSERT INTO replica_mark (mark) VALUES (0);
