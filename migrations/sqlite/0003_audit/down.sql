DROP TABLE audit_destination;
DROP TABLE audit_retired;
DROP TABLE audit_head;
DROP TABLE audit_block;
DROP TABLE audit_agent;
DROP TABLE audit_index;
DROP TABLE audit_run;
DROP TABLE audit;
