//! What people of a role, and clients that act for themselves, may be granted at most.

use fhir::resource_type::ResourceType;
use fhir::scope::{Clinical, Level};

/// A role of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Cares for patients.
    Clinician,
    /// Connects systems.
    Integration,
    /// Looks into who did what.
    Compliance,
    /// Reads to learn, changes nothing.
    DataScientist,
    /// Keeps the server running; sees no patients.
    Operator,
    /// May all.
    Admin,
    /// Sees their own record.
    Patient,
}

/// Roles, their names, and the scopes they may have.
const TABLE: [(Role, &str, &str); 7] = [
    (Role::Clinician, "clinician", "patient/*.cruds user/*.cruds augury/launch augury/break-glass"),
    (Role::Integration, "integration", "patient/*.cruds user/*.cruds augury/launch"),
    (
        Role::Compliance,
        "compliance",
        "user/AuditEvent.rs user/Provenance.rs user/Patient.rs user/Practitioner.rs user/Device.rs",
    ),
    (Role::DataScientist, "data-scientist", "patient/*.rs user/*.rs"),
    (Role::Operator, "operator", "augury/models"),
    (
        Role::Admin,
        "admin",
        "patient/*.cruds user/*.cruds user/AuditEvent.rs augury/launch augury/models augury/break-glass",
    ),
    (Role::Patient, "patient", "patient/*.rs"),
];

impl Role {
    /// By its name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, one, _)| *one == name).map(|(role, ..)| *role)
    }

    /// All names.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(_, name, _)| *name)
    }

    fn scopes(self) -> &'static str {
        TABLE.iter().find(|(role, ..)| *role == self).map_or("", |(_, _, scopes)| scopes)
    }

    /// What of a scope the role may have. What `*` grants has no AuditEvents in it: they have to be
    /// named, on either side.
    pub(crate) fn allowed(self, scope: &Clinical) -> Vec<Clinical> {
        if scope.kind == Some(ResourceType::AUDIT_EVENT) {
            let named: Vec<&str> =
                self.scopes().split(' ').filter(|one| one.contains("/AuditEvent.")).collect();
            return common(scope, &named.join(" "));
        }
        common(scope, self.scopes())
    }

    /// May it have a scope of this server's own?
    pub(crate) fn has(self, scope: &str) -> bool {
        self.scopes().split(' ').any(|one| one == scope)
    }

    /// Does it only see its own record?
    pub(crate) fn is_patient(self) -> bool {
        self == Self::Patient
    }
}

fn clinical(scopes: &str) -> impl Iterator<Item = Clinical> {
    scopes.split_ascii_whitespace().filter_map(Clinical::parse)
}

/// What of a scope others of the same level allow; what is within another part only once.
pub(crate) fn common(scope: &Clinical, others: &str) -> Vec<Clinical> {
    let mut found: Vec<Clinical> = Vec::new();
    let same_level = |level: Level| level == scope.level;
    for part in clinical(others).filter(|one| same_level(one.level)).filter_map(|one| scope.meet(&one)) {
        if !found.iter().any(|one| one.covers(&part)) {
            found.retain(|one| !part.covers(one));
            found.push(part);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(role: &str, scope: &str) -> Vec<String> {
        let scope = Clinical::parse(scope).unwrap();
        Role::parse(role).unwrap().allowed(&scope).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_role_bounds_what_is_granted() {
        assert_eq!(allowed("clinician", "user/*.cruds"), ["user/*.cruds"]);
        assert_eq!(allowed("clinician", "patient/Observation.read"), ["patient/Observation.read"]);
        assert_eq!(allowed("data-scientist", "user/Observation.cruds"), ["user/Observation.rs"]);
        assert!(allowed("clinician", "user/AuditEvent.rs").is_empty());
        assert_eq!(allowed("compliance", "user/AuditEvent.rs"), ["user/AuditEvent.rs"]);
        assert_eq!(allowed("admin", "user/AuditEvent.cruds"), ["user/AuditEvent.rs"]);
        assert!(allowed("operator", "user/Patient.rs").is_empty());
        assert!(allowed("patient", "user/Patient.rs").is_empty());
        assert!(allowed("admin", "system/*.rs").is_empty());
        assert!(Role::names().all(|name| Role::parse(name).is_some()));
    }
}
