-- By which rules Consents were read when `denial` was written.
ALTER TABLE denial_state ADD COLUMN rules BIGINT NOT NULL DEFAULT 0;
