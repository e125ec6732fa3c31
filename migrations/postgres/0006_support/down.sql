DROP TABLE replica_mark;
DROP TABLE schema_support;
