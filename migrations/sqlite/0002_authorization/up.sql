-- Apps that ask for tokens (OAuth 2.0 clients). `status`: 0 waits for approval, 1 approved, 2 revoked.
-- `body` is what was registered, as JSON.
CREATE TABLE smart_client (
    id TEXT PRIMARY KEY NOT NULL,
    status INTEGER NOT NULL,
    created INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- People who sign in here. Of a password only the argon2id hash is kept; a TOTP secret is sealed.
CREATE TABLE account (
    id TEXT PRIMARY KEY NOT NULL,
    login TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    fhir_user TEXT,
    password TEXT NOT NULL,
    totp TEXT,
    totp_step INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    locked BOOLEAN NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX account_login ON account (login);

-- Browsers in which somebody is signed in, by the hash of their cookie.
CREATE TABLE browser_session (
    hash TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    began INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX browser_session_account ON browser_session (account);

-- Browsers and networks that somebody signed in from (`known`) or tried to, by a keyed hash, with the wrong
-- passwords in a row.
CREATE TABLE sign_in_source (
    account TEXT NOT NULL,
    source TEXT NOT NULL,
    known BOOLEAN NOT NULL,
    failed INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (account, source)
) WITHOUT ROWID;

-- Contexts that an EHR opened an app with, by the hash of the `launch` parameter; each good once.
CREATE TABLE launch (
    hash TEXT PRIMARY KEY NOT NULL,
    client TEXT NOT NULL,
    expires INTEGER NOT NULL,
    used INTEGER,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- What somebody allowed an app, or an app may do by itself. What follows from it ends with it.
CREATE TABLE smart_grant (
    id TEXT PRIMARY KEY NOT NULL,
    client TEXT NOT NULL,
    account TEXT,
    created INTEGER NOT NULL,
    revoked INTEGER,
    expires INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX smart_grant_client ON smart_grant (client);
CREATE INDEX smart_grant_account ON smart_grant (account);
CREATE INDEX smart_grant_expires ON smart_grant (expires);

-- Authorization codes by hash; each good once.
CREATE TABLE authorization_code (
    hash TEXT PRIMARY KEY NOT NULL,
    grant_id TEXT NOT NULL,
    expires INTEGER NOT NULL,
    redeemed INTEGER,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL
) WITHOUT ROWID;

-- Access tokens by hash; `id` is what may be said of one in public.
CREATE TABLE access_token (
    hash TEXT PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    -- SHA-256 of the certificate that it is bound to (RFC 8705), in base64.
    certificate TEXT
) WITHOUT ROWID;
CREATE INDEX access_token_expires ON access_token (expires);

-- Refresh tokens by hash; one that was replaced is good for asking again for what replaced it, for a
-- moment, as long as that was not used.
CREATE TABLE refresh_token (
    hash TEXT PRIMARY KEY NOT NULL,
    grant_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    session TEXT,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    -- SHA-256 of the certificate that it is bound to (RFC 8705), in base64.
    certificate TEXT,
    replaced INTEGER,
    successor TEXT
) WITHOUT ROWID;
CREATE INDEX refresh_token_expires ON refresh_token (expires);

-- Assertions of clients that were used (hash of issuer and jti), as long as they could be used again.
CREATE TABLE used_assertion (
    hash TEXT PRIMARY KEY NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;

-- Keys that tokens are signed with: what all may see, and the private part, sealed.
CREATE TABLE signing_key (
    id TEXT PRIMARY KEY NOT NULL,
    algorithm TEXT NOT NULL,
    created INTEGER NOT NULL,
    jwk TEXT NOT NULL,
    sealed TEXT NOT NULL
) WITHOUT ROWID;

-- The versions of Consents in force that deny something: keys of `resource`. The generation is a new random
-- number whenever any of them came or went, so that a process knows whether it knows them.
CREATE TABLE denial (
    key INTEGER PRIMARY KEY
);
CREATE TABLE denial_state (
    generation INTEGER NOT NULL
);
INSERT INTO denial_state (generation) VALUES (0);
