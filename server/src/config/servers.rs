//! Other servers that the operator trusts: whose tokens count, and whose people may sign in.

use super::{ConfigError, Hidden, NAMES, wrong};
use crate::smart::role::Role;
use crate::smart::scope;

/// Another authorization server.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// What it calls itself, exactly.
    pub issuer: String,
    /// For whom its tokens must be.
    pub audience: String,
    /// Where its keys are; else its configuration says it.
    pub jwks_uri: Option<String>,
    /// Where it tells what a token is worth.
    pub introspection: Option<String>,
    /// What this server is called there.
    pub client_id: Option<String>,
    /// How it proves that.
    pub client_secret: Option<Hidden>,
    /// What is wanted, and the claim that says it.
    pub claims: Vec<(String, String)>,
    /// All that its tokens may allow.
    pub scopes: Option<String>,
}

impl Foreign {
    /// The claim that says this.
    pub fn claim<'c>(&'c self, of: &'c str) -> &'c str {
        let said = self.claims.iter().find(|(wanted, _)| wanted == of).map(|(_, claim)| claim.as_str());
        said.unwrap_or(if of == "client" { "client_id" } else { of })
    }

    pub(super) fn from_values<'v>(
        get: impl Fn(&str) -> Option<&'v str>,
        base: &str,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(issuer) = get("token_issuer") else {
            let given = NAMES.iter().find(|name| name.starts_with("token_") && get(name).is_some());
            return given.map_or(Ok(None), |name| Err(wrong(name, "needs token_issuer")));
        };
        let mut claims = Vec::new();
        for pair in get("token_claims").unwrap_or_default().split(',').filter(|pair| !pair.is_empty()) {
            let known =
                pair.split_once('=').map(|(of, claim)| (of.trim().to_owned(), claim.trim().to_owned()));
            let wanted = ["scope", "client", "patient", "encounter", "fhirUser", "name"];
            let known = known.filter(|(of, claim)| wanted.contains(&of.as_str()) && !claim.is_empty());
            claims
                .push(known.ok_or_else(|| wrong("token_claims", format!("`{pair}` is not like scope=scp")))?);
        }
        let owned = |name| get(name).map(str::to_owned);
        let scopes = owned("token_scopes");
        if let Some(unknown) = scopes.as_deref().and_then(scope::unknown) {
            return Err(wrong("token_scopes", format!("`{unknown}` is no scope that this server knows")));
        }
        Ok(Some(Self {
            scopes,
            issuer: issuer.to_owned(),
            audience: owned("token_audience").unwrap_or_else(|| base.to_owned()),
            jwks_uri: owned("token_jwks_uri"),
            introspection: owned("token_introspection"),
            client_id: owned("token_client_id"),
            client_secret: owned("token_client_secret").map(Hidden::new),
            claims,
        }))
    }
}

/// Another OpenID Connect provider, whose people may sign in here.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name, and where its configuration is.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// How it proves that, if it has to.
    pub client_secret: Option<Hidden>,
    /// What is asked for.
    pub scope: String,
    /// The claim that says what somebody may be allowed.
    pub role_claim: String,
    /// Values of that claim, and the roles they stand for.
    pub roles: Vec<(String, String)>,
    /// The claim that says who somebody is in FHIR.
    pub user_claim: String,
}

impl Upstream {
    pub(super) fn from_values<'v>(
        get: impl Fn(&str) -> Option<&'v str>,
        loopback: bool,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(issuer) = get("oidc_issuer") else {
            let given = NAMES.iter().find(|name| name.starts_with("oidc_") && get(name).is_some());
            return given.map_or(Ok(None), |name| Err(wrong(name, "needs oidc_issuer")));
        };
        if !(issuer.starts_with("https://") || loopback && issuer.starts_with("http://127.0.0.1")) {
            return Err(wrong("oidc_issuer", "must begin with https://"));
        }
        let mut roles = Vec::new();
        for pair in
            get("oidc_roles").unwrap_or_default().split(';').map(str::trim).filter(|pair| !pair.is_empty())
        {
            let known = pair.rsplit_once('=').filter(|(_, role)| Role::parse(role.trim()).is_some());
            let (value, role) = known.ok_or_else(|| {
                let names = Role::names().collect::<Vec<_>>().join(", ");
                wrong("oidc_roles", format!("`{pair}` must be VALUE=ROLE with one of {names}"))
            })?;
            roles.push((value.trim().to_owned(), role.trim().to_owned()));
        }
        let or = |name, other: &str| get(name).unwrap_or(other).to_owned();
        Ok(Some(Self {
            issuer: issuer.to_owned(),
            client_id: get("oidc_client_id").ok_or_else(|| wrong("oidc_client_id", "is missing"))?.to_owned(),
            client_secret: get("oidc_client_secret").map(|secret| Hidden::new(secret.to_owned())),
            scope: or("oidc_scope", "openid profile"),
            role_claim: or("oidc_role_claim", "roles"),
            roles,
            user_claim: or("oidc_user_claim", "fhirUser"),
        }))
    }
}
