ALTER TABLE denial_state DROP COLUMN rules;
