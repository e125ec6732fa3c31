-- Apps that ask for tokens (OAuth 2.0 clients). `status`: 0 waits for approval, 1 approved, 2 revoked.
-- `body` is what was registered, as JSON.
CREATE TABLE smart_client (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    status BIGINT NOT NULL,
    created BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);

-- People who sign in here. Of a password only the argon2id hash is kept; a TOTP secret is sealed.
CREATE TABLE account (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    login TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    fhir_user TEXT COLLATE "C",
    password TEXT COLLATE "C" NOT NULL,
    totp TEXT COLLATE "C",
    totp_step BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    locked BOOLEAN NOT NULL,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX account_login ON account (login);

-- Browsers in which somebody is signed in, by the hash of their cookie.
CREATE TABLE browser_session (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    began BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX browser_session_account ON browser_session (account);

-- Browsers and networks that somebody signed in from (`known`) or tried to, by a keyed hash, with the wrong
-- passwords in a row.
CREATE TABLE sign_in_source (
    account TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    known BOOLEAN NOT NULL,
    failed BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (account, source)
);

-- Contexts that an EHR opened an app with, by the hash of the `launch` parameter; each good once.
CREATE TABLE launch (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT,
    body TEXT COLLATE "C" NOT NULL
);

-- What somebody allowed an app, or an app may do by itself. What follows from it ends with it.
CREATE TABLE smart_grant (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C",
    created BIGINT NOT NULL,
    revoked BIGINT,
    expires BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);
CREATE INDEX smart_grant_client ON smart_grant (client);
CREATE INDEX smart_grant_account ON smart_grant (account);
CREATE INDEX smart_grant_expires ON smart_grant (expires);

-- Authorization codes by hash; each good once.
CREATE TABLE authorization_code (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    expires BIGINT NOT NULL,
    redeemed BIGINT,
    redirect_uri TEXT COLLATE "C" NOT NULL,
    challenge TEXT COLLATE "C" NOT NULL
);

-- Access tokens by hash; `id` is what may be said of one in public.
CREATE TABLE access_token (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    -- SHA-256 of the certificate that it is bound to (RFC 8705), in base64.
    certificate TEXT COLLATE "C"
);
CREATE INDEX access_token_expires ON access_token (expires);

-- Refresh tokens by hash; one that was replaced is good for asking again for what replaced it, for a
-- moment, as long as that was not used.
CREATE TABLE refresh_token (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C",
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    -- SHA-256 of the certificate that it is bound to (RFC 8705), in base64.
    certificate TEXT COLLATE "C",
    replaced BIGINT,
    successor TEXT COLLATE "C"
);
CREATE INDEX refresh_token_expires ON refresh_token (expires);

-- Assertions of clients that were used (hash of issuer and jti), as long as they could be used again.
CREATE TABLE used_assertion (
    hash TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    expires BIGINT NOT NULL
);

-- Keys that tokens are signed with: what all may see, and the private part, sealed.
CREATE TABLE signing_key (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    algorithm TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    jwk TEXT COLLATE "C" NOT NULL,
    sealed TEXT COLLATE "C" NOT NULL
);

-- The versions of Consents in force that deny something: keys of `resource`. The generation is a new random
-- number whenever any of them came or went, so that a process knows whether it knows them.
CREATE TABLE denial (
    key BIGINT PRIMARY KEY
);
CREATE TABLE denial_state (
    generation BIGINT NOT NULL
);
INSERT INTO denial_state (generation) VALUES (0);
