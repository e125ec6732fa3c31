//! What the project was asked to hold of SMART on FHIR.

use crate::requirements::{Requirement, asked};

/// All of it.
pub(crate) const ALL: &[Requirement] = &[
    asked(
        "smart/discovery",
        "smart-configuration without a token, application/json whatever Accept says",
        &["smart/well_known_endpoint"],
    ),
    asked(
        "smart/well-known-capabilities",
        "endpoints, capabilities, grants, challenges; S256 and never plain; issuer and jwks_uri",
        &["smart/well_known_capabilities_stu2"],
    ),
    asked(
        "smart/endpoint-urls",
        "every endpoint absolute; what client-confidential-asymmetric and backend services bring along",
        &["smart/spec/378", "smart/spec/286-289", "smart/spec/384"],
    ),
    asked(
        "smart/cors",
        "any origin on smart-configuration, /metadata, the token answer and fhirUser",
        &["smart/smart_cors_"],
    ),
    asked(
        "smart/stu1",
        "CapabilityStatement has SMART-on-FHIR and oauth-uris; the six addresses are the same",
        &["smart/stu1/"],
    ),
    asked(
        "smart/g10-capabilities",
        "the capabilities of (g)(10), standalone and EHR",
        &["smart/g10/well_known_capabilities-standalone", "smart/g10/well_known_capabilities-ehr"],
    ),
    asked(
        "smart/tls",
        "TLS 1.2 and nothing older at the authorization and token endpoints",
        &[
            "smart/standalone_auth_tls",
            "smart/standalone_token_tls",
            "smart/ehr_auth_tls",
            "smart/ehr_token_tls",
            "smart/smart_backend_services_token_tls_version",
        ],
    ),
    asked(
        "smart/ehr-launch",
        "the app is opened with iss, the base to the letter, and launch",
        &[
            "smart/smart_app_launch",
            "smart/smart_launch_received",
            "smart/launch-once",
            "smart/launch-needs-scope",
        ],
    ),
    asked(
        "smart/authorize",
        "authorize by GET and by form; state and queries survive",
        &[
            "smart/smart_app_redirect_stu2-",
            "smart/smart_code_received",
            "smart/state-characters",
            "smart/redirect-registered-",
        ],
    ),
    asked(
        "smart/token-exchange",
        "a code is exchanged by public, symmetric and asymmetric (RS384, ES384) clients",
        &["smart/smart_token_exchange_stu2_2-"],
    ),
    asked(
        "smart/token-response",
        "access_token, token_type, expires_in, scope; fhirContext; Cache-Control and Pragma",
        &["smart/smart_token_response_body_stu2_2-", "smart/smart_token_response_headers-"],
    ),
    asked(
        "smart/context",
        "patient and encounter can be read; style and banner",
        &[
            "smart/g10/patient_context-",
            "smart/g10/encounter_context",
            "smart/g10/smart_style_url",
            "smart/g10/need_patient_banner",
        ],
    ),
    asked(
        "smart/g10-scopes",
        "patient scope, all scopes of (g)(10)",
        &["smart/g10/patient_scope-", "smart/g10/smart_scopes-"],
    ),
    asked(
        "smart/g10-access",
        "401 without a token; granted types are found, others are 401 or 403",
        &["smart/g10/unauthorized_access", "smart/g10/resource_access", "smart/g10/restricted_access"],
    ),
    asked(
        "smart/g10-selection",
        "types can be unticked, categories be granted instead",
        &["smart/g10/limited_scope_grant", "smart/g10/smart_granular_scope_selection"],
    ),
    asked("smart/g10-invalid", "wrong aud, code, client_id, refresh token", &["smart/g10/invalid_"]),
    asked(
        "smart/g10-pkce",
        "no, blank, wrong and plain code_verifier; a challenge is required",
        &["smart/g10/pkce-", "smart/pkce-required"],
    ),
    asked("smart/g10-revocation", "by the client and by the user", &["smart/g10/token-revocation"]),
    asked(
        "smart/g10-attestations",
        "offline_access is told, refresh tokens last and come to native apps, key sets age, the base is public",
        &["smart/g10/attest-"],
    ),
    asked(
        "smart/resource-server",
        "expired tokens, scope, aud (94-96)",
        &["smart/spec/94", "smart/spec/95", "smart/spec/96"],
    ),
    asked(
        "smart/refresh-bounds",
        "bound to the client, never more than before (103-104)",
        &["smart/spec/103", "smart/spec/104"],
    ),
    asked(
        "smart/denial",
        "an OAuth error leads back to the app (54)",
        &["smart/spec/54", "smart/authorize-errors"],
    ),
    asked(
        "smart/patient-scopes-need-patient",
        "patient/… gets a patient or is not granted (164)",
        &["smart/spec/164"],
    ),
    asked("smart/bundles", "batch and transaction entry by entry (130)", &["smart/spec/130-"]),
    asked("smart/create-by-update", "u also lets create by update (123)", &["smart/spec/123"]),
    asked(
        "smart/openid",
        "id_token, openid-configuration, keys, header, payload",
        &[
            "smart/smart_openid_decode",
            "smart/smart_openid_retrieve_",
            "smart/smart_openid_required_",
            "smart/smart_openid_token_",
        ],
    ),
    asked("smart/fhir-user", "fhirUser is a person who can be read", &["smart/smart_openid_fhir_user_claim"]),
    asked(
        "smart/refresh",
        "with and without scopes, three authentications, standalone and EHR",
        &["smart/smart_token_refresh_stu2-"],
    ),
    asked(
        "smart/refresh-body",
        "what the answer has, and its headers",
        &["smart/smart_token_refresh_body-", "smart/smart_token_response_headers-refresh-"],
    ),
    asked(
        "smart/backend",
        "grant type, assertion type, success, body",
        &[
            "smart/smart_backend_services_invalid_grant_type",
            "smart/smart_backend_services_invalid_client_assertion",
            "smart/smart_backend_services_auth_",
        ],
    ),
    asked("smart/backend-jwt", "every fault of an assertion", &["smart/smart_backend_services_invalid_jwt-"]),
    asked(
        "smart/backend-spec",
        "jti once, iss, jku, registration, RS384 and ES384, invalid_client, lifetime, no refresh token, key sets",
        &[
            "smart/spec/336",
            "smart/spec/337",
            "smart/spec/326-338",
            "smart/spec/296-297",
            "smart/spec/310-",
            "smart/spec/262",
            "smart/spec/248",
            "smart/spec/341",
        ],
    ),
    asked("smart/introspection", "good and unknown tokens, required fields", &["smart/introspection/"]),
    asked(
        "smart/introspection-spec",
        "who may ask, about whose tokens; the whole context (277, 282, 283)",
        &["smart/spec/277", "smart/spec/282", "smart/spec/283"],
    ),
    asked(
        "smart/v1-scopes",
        "scopes of version 1 are granted as they are and mean what they mean",
        &["smart/smart_v1_scopes_group", "smart/scopes/v1-"],
    ),
    asked(
        "smart/granular-scopes",
        "granted, searched, read; for all categories",
        &["smart/granted_granular_scopes_test", "smart/granular-search/", "smart/granular-read/"],
    ),
    asked(
        "edge/smart-01",
        "PKCE four ways wrong, and without a challenge",
        &["smart/g10/pkce-", "smart/pkce-required"],
    ),
    asked(
        "edge/smart-02",
        "a code is good once, for a minute, for its client and redirect_uri; used again it ends all",
        &["smart/code-"],
    ),
    asked(
        "edge/smart-03",
        "aud exact, with or without a slash; else no code",
        &["smart/g10/invalid_aud", "smart/aud-slash"],
    ),
    asked(
        "edge/smart-04",
        "expires_in a number, Pragma, scope as granted",
        &["smart/smart_token_response_", "smart/g10/limited_scope_grant"],
    ),
    asked(
        "edge/smart-05",
        "authorize by POST; state with + / =",
        &["smart/smart_app_redirect_stu2-", "smart/state-characters"],
    ),
    asked(
        "edge/smart-06",
        "issuer, iss and openid-configuration are one; kid among several keys",
        &["smart/smart_openid_token_", "smart/smart_openid_retrieve_"],
    ),
    asked(
        "edge/smart-07",
        "private_key_jwt: replay, exp, aud, kid, alg, jku, kept key sets",
        &[
            "smart/smart_backend_services_invalid_jwt-",
            "smart/spec/336",
            "smart/spec/326-338",
            "smart/spec/341",
        ],
    ),
    asked(
        "edge/smart-08",
        "order of letters, both versions together, wildcards, modifiers and chains",
        &["smart/scopes/"],
    ),
    asked("edge/smart-09", "ways round the compartment", &["smart/leak/"]),
    asked(
        "edge/smart-10",
        "rotation and grace, no widening, bound to the client, introspection of unknown tokens",
        &["smart/refresh-", "smart/spec/103", "smart/spec/104", "smart/introspection/invalid-"],
    ),
];
