DROP TABLE dead_letter;
DROP TABLE event;
DROP TABLE change;
DROP TABLE subscription_state;
DROP TABLE subscription;
