//! What a client finds before it asks anything.

use serde_json::Value;

use super::{capable, check, configuration};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, list, text};

const AT: &str = "smart-app-launch/STU2.2/conformance.html#using-well-known";
const ORIGIN: &str = "https://app.example";

#[rustfmt::skip]
const STANDALONE: &[&str] = &[
    "launch-standalone", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect",
    "context-standalone-patient", "permission-offline", "permission-patient", "authorize-post", "permission-v1", "permission-v2",
];
#[rustfmt::skip]
const EHR: &[&str] = &[
    "launch-ehr", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect", "context-banner",
    "context-style", "context-ehr-patient", "context-ehr-encounter", "permission-offline", "permission-user", "authorize-post",
    "permission-v1", "permission-v2",
];
/// Name of the extension's part, member of the configuration.
const ENDPOINTS: [(&str, &str); 6] = [
    ("authorize", "authorization_endpoint"),
    ("token", "token_endpoint"),
    ("introspect", "introspection_endpoint"),
    ("manage", "management_endpoint"),
    ("register", "registration_endpoint"),
    ("revoke", "revocation_endpoint"),
];

/// The texts of a list.
pub(super) fn texts<'v>(value: &'v Value, at: &str) -> Vec<&'v str> {
    list(value, at).iter().filter_map(Value::as_str).collect()
}

fn all(server: &Server, wanted: &[&str]) -> Outcome {
    let there = texts(&configuration(server)?.json, "/capabilities");
    let missing: Vec<&&str> = wanted.iter().filter(|one| !there.contains(one)).collect();
    ensure(missing.is_empty(), format!("capabilities lack {missing:?}"))
}

pub(super) fn allows(answer: &Answer, origin: &str) -> Outcome {
    let allowed = answer.header("access-control-allow-origin");
    ensure(allowed == origin || allowed == "*", format!("Access-Control-Allow-Origin is `{allowed}`"))
}

fn of_any_origin(server: &Server, path: &str) -> Outcome {
    configuration(server)?;
    for origin in [ORIGIN, "http://localhost:3000"] {
        let answer = server.plain("GET", path).header("origin", origin).send()?;
        answer.expect(200)?;
        allows(&answer, origin)?;
    }
    Ok(())
}

/// An address in the `oauth-uris` extension.
fn uri<'s>(server: &'s Server, name: &str) -> &'s str {
    let extensions = list(&server.statement, "/rest/0/security/extension").iter();
    let mut ours = extensions.filter(|one| text(one, "/url").ends_with("/oauth-uris"));
    let parts = ours.next().map_or(&[][..], |one| list(one, "/extension"));
    parts.iter().find(|one| text(one, "/url") == name).map_or("", |one| text(one, "/valueUri"))
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "well_known_endpoint",
            AT,
            "smart-configuration is application/json, whatever Accept says, without a token",
            |s| {
                configuration(s)?;
                for accept in ["application/json", "application/fhir+json", "text/html", "*/*"] {
                    let answer =
                        s.plain("GET", "/.well-known/smart-configuration").header("accept", accept).send()?;
                    answer.expect(200)?;
                    let media = answer.header("content-type");
                    ensure(
                        media.starts_with("application/json"),
                        format!("{accept}: Content-Type is `{media}`"),
                    )?;
                    ensure(answer.json.is_object(), "no JSON object")?;
                }
                Ok(())
            },
        ),
        check("well_known_capabilities_stu2", AT, "both endpoints and the three lists are there", |s| {
            let found = configuration(s)?;
            for name in ["authorization_endpoint", "token_endpoint"] {
                ensure(!found.at(&format!("/{name}")).trim().is_empty(), format!("no {name}"))?;
            }
            for name in ["capabilities", "grant_types_supported", "code_challenge_methods_supported"] {
                let list = list(&found.json, &format!("/{name}"));
                ensure(
                    !list.is_empty() && list.iter().all(Value::is_string),
                    format!("{name} is no list of texts"),
                )?;
            }
            Ok(())
        }),
        check(
            "well_known_capabilities_stu2-methods",
            AT,
            "authorization_code is among the grants, S256 among the challenges, plain is not",
            |s| {
                let found = configuration(s)?;
                ensure(
                    texts(&found.json, "/grant_types_supported").contains(&"authorization_code"),
                    "no authorization_code",
                )?;
                let methods = texts(&found.json, "/code_challenge_methods_supported");
                ensure(methods.contains(&"S256") && !methods.contains(&"plain"), format!("{methods:?}"))
            },
        ),
        check(
            "well_known_capabilities_stu2-openid",
            AT,
            "issuer and jwks_uri are there if there is sso-openid-connect; else no issuer",
            |s| {
                let found = configuration(s)?;
                if capable(s, "sso-openid-connect").is_ok() {
                    return ensure(
                        !found.at("/issuer").is_empty() && !found.at("/jwks_uri").is_empty(),
                        "no issuer or no jwks_uri",
                    );
                }
                ensure(found.json.get("issuer").is_none(), "issuer without sso-openid-connect")
            },
        ),
        check("spec/378", AT, "every endpoint is an absolute address", |s| {
            let members = configuration(s)?.json.as_object().ok_or("no JSON object")?;
            for (name, value) in
                members.iter().filter(|(name, _)| name.ends_with("_endpoint") || *name == "jwks_uri")
            {
                let absolute = value
                    .as_str()
                    .is_some_and(|value| value.starts_with("https://") || value.starts_with("http://"));
                ensure(absolute, format!("{name} is {value}"))?;
            }
            Ok(())
        }),
        check(
            "spec/286-289",
            "smart-app-launch/STU2.2/client-confidential-asymmetric.html#discovery-requirements",
            "client-confidential-asymmetric goes with scopes_supported, private_key_jwt, and RS384 or ES384",
            |s| {
                capable(s, "client-confidential-asymmetric")?;
                let found = &configuration(s)?.json;
                ensure(!list(found, "/scopes_supported").is_empty(), "no scopes_supported")?;
                ensure(
                    texts(found, "/token_endpoint_auth_methods_supported").contains(&"private_key_jwt"),
                    "no private_key_jwt",
                )?;
                let algorithms = texts(found, "/token_endpoint_auth_signing_alg_values_supported");
                ensure(
                    algorithms.contains(&"RS384") || algorithms.contains(&"ES384"),
                    format!("{algorithms:?}"),
                )
            },
        ),
        check(
            "spec/384",
            "smart-app-launch/STU2.2/conformance.html#metadata",
            "client_credentials is among the grants where there are system scopes",
            |s| {
                let found = &configuration(s)?.json;
                if !texts(found, "/scopes_supported").iter().any(|scope| scope.starts_with("system/"))
                    && s.smart.backend().is_err()
                {
                    return Err(Stop::Skip("no sign of backend services".to_owned()));
                }
                ensure(
                    texts(found, "/grant_types_supported").contains(&"client_credentials"),
                    "no client_credentials",
                )
            },
        ),
        check("smart_cors_well_known_endpoint", AT, "any origin may read smart-configuration", |s| {
            of_any_origin(s, "/.well-known/smart-configuration")
        }),
        check("smart_cors_metadata_request", AT, "any origin may read /metadata", |s| {
            of_any_origin(s, "/metadata")
        }),
        check(
            "stu1/capability-oauth-endpoints",
            "smart-app-launch/STU2.2/conformance.html#capability-sets",
            "CapabilityStatement has SMART-on-FHIR, and oauth-uris with authorize and token",
            |s| {
                configuration(s)?;
                let services = list(&s.statement, "/rest/0/security/service").iter();
                let mut codes = services.flat_map(|service| list(service, "/coding"));
                ensure(codes.any(|coding| text(coding, "/code") == "SMART-on-FHIR"), "no SMART-on-FHIR")?;
                ensure(
                    !uri(s, "authorize").is_empty() && !uri(s, "token").is_empty(),
                    "no authorize or no token",
                )
            },
        ),
        check(
            "stu1/endpoints-match",
            "smart-app-launch/STU2.2/conformance.html#capability-sets",
            "the six addresses are the same in CapabilityStatement and smart-configuration",
            |s| {
                let found = configuration(s)?;
                for (name, member) in ENDPOINTS {
                    let (one, two) = (uri(s, name), found.at(&format!("/{member}")));
                    ensure(one == two, format!("{name} is `{one}`, {member} is `{two}`"))?;
                }
                Ok(())
            },
        ),
        check(
            "g10/well_known_capabilities-standalone",
            "smart-app-launch/STU2.2/conformance.html#capabilities",
            "all capabilities of a standalone launch",
            |s| all(s, STANDALONE),
        ),
        check(
            "g10/well_known_capabilities-ehr",
            "smart-app-launch/STU2.2/conformance.html#capabilities",
            "all capabilities of a launch from an EHR",
            |s| all(s, EHR),
        ),
    ]
}
