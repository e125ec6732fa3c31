//! What the scopes of a caller amount to.

use std::sync::Arc;

use fhir::scope::{Clinical, Level};
use store::{Access, Grant};

use super::failure::Failure;

/// What an API key may do if nothing else is said: everything.
pub(crate) const OF_A_KEY: &str = "system/*.cruds system/Consent.cruds system/AuditEvent.rs augury/models";
/// To put versions of models in use.
pub(crate) const MODELS: &str = "augury/models";
/// To see in an emergency what a patient withholds.
pub(crate) const BREAK_GLASS: &str = "augury/break-glass";
/// What a caller with a key may have beside rights to resources.
pub(crate) const OF_THIS_SERVER: [&str; 2] = [MODELS, BREAK_GLASS];

/// Beside resources: scopes of this server's own.
#[derive(Debug, Clone)]
pub(crate) enum Rights {
    /// All of them: the server is open to its own machine.
    All,
    /// Those among these scopes.
    Of(Arc<str>),
}

impl Rights {
    /// Is the caller allowed what this scope stands for?
    pub(crate) fn require(&self, scope: &str) -> Result<(), Failure> {
        match self {
            Self::Of(scopes) if scopes.split(' ').all(|one| one != scope) => {
                let details = format!("the scope {scope} is needed");
                Err(Failure::new(actix_web::http::StatusCode::FORBIDDEN, "forbidden", details))
            }
            _ => Ok(()),
        }
    }
}

/// Rights to resources, out of scopes separated by spaces. `patient`: the one in context, without whom a
/// scope of a patient is worth nothing. `own`: the patient that the user is, who sees nobody else.
/// `people`: somebody is at the keyboard, so that scopes of a user count, and those of a system do not.
pub(crate) fn access(scopes: &str, patient: Option<&str>, own: Option<&str>, people: bool) -> Access {
    let grant = |scope: Clinical| {
        let within = match scope.level {
            // Who is a patient sees nobody else, whomever the token names.
            Level::Patient => Some(patient.filter(|patient| own.is_none_or(|own| own == *patient))?),
            Level::User if people => own,
            Level::System if !people => None,
            Level::User | Level::System => return None,
        };
        Some(Grant { kind: scope.kind, may: scope.may, within: within.map(str::to_owned), only: scope.only })
    };
    let clinical = scopes.split_ascii_whitespace().filter_map(Clinical::parse);
    Access::Granted(clinical.filter_map(grant).collect())
}

#[cfg(test)]
mod tests {
    use fhir::resource_type::ResourceType;
    use fhir::scope::Op;

    use super::*;

    #[test]
    fn a_scope_counts_only_in_its_context() {
        let reads = |access: Access| access.permits(Op::Read, ResourceType::OBSERVATION).is_ok();
        assert!(reads(access("openid patient/*.rs", Some("p"), None, true)));
        assert!(!reads(access("patient/*.rs", None, None, true)));
        assert!(reads(access("user/*.rs", None, None, true)));
        assert!(!reads(access("user/*.rs", None, None, false)));
        assert!(reads(access("system/*.rs", None, None, false)));
        assert!(!reads(access("system/*.rs", None, None, true)));
        assert!(!reads(access("", Some("p"), None, true)));
        assert!(!reads(access("patient/*.rs", Some("p"), Some("q"), true)));
        let whole = access("user/*.rs", None, Some("p"), true);
        assert!(reads(whole.clone()) && !whole.is_whole(Op::Read, ResourceType::OBSERVATION));
    }
}
