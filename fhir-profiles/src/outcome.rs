//! What is wrong with an input, in FHIR's words: an [`Issue`] becomes one
//! `OperationOutcome.issue` (<https://hl7.org/fhir/R4/operationoutcome.html>).

use std::borrow::Cow;

use serde_json::{Value, json};

/// How grave an issue is (`OperationOutcome.issue.severity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, nothing is wrong.
    Information,
    /// Accepted, but probably not what was meant.
    Warning,
    /// The content is refused.
    Error,
    /// Reading stopped here.
    Fatal,
}

impl Severity {
    /// The code as FHIR writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// One finding. `code` is from the FHIR issue-type value set, `expression` is a
/// FHIRPath naming the element (empty where no element can be named).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// How grave.
    pub severity: Severity,
    /// FHIR issue-type code, e.g. `structure`, `required`, `value`, `not-found`.
    pub code: &'static str,
    /// For a person to read; never holds patient data beyond ids.
    pub details: Cow<'static, str>,
    /// FHIRPath of the element, e.g. `Observation.component[1].code`.
    pub expression: String,
}

impl Issue {
    /// An error-level issue.
    pub fn error(code: &'static str, details: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Error, code, details: details.into(), expression: String::new() }
    }

    /// A warning-level issue.
    pub fn warning(code: &'static str, details: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, details) }
    }

    /// An information-level issue.
    pub fn information(details: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Information, ..Self::error("informational", details) }
    }

    /// The same issue, located.
    #[must_use]
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression = expression.into();
        self
    }
}

/// A list of findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issues(pub Vec<Issue>);

impl Issues {
    /// Is there any finding that refuses the content?
    pub fn has_error(&self) -> bool {
        self.0.iter().any(|issue| issue.severity >= Severity::Error)
    }

    /// The `OperationOutcome` resource. Without findings it says "All OK".
    pub fn outcome(&self) -> Value {
        let issue: Vec<Value> = if self.0.is_empty() {
            vec![json!({"severity": "information", "code": "informational", "details": {"text": "All OK"}})]
        } else {
            self.0
                .iter()
                .map(|issue| {
                    let mut value = json!({
                        "severity": issue.severity.code(),
                        "code": issue.code,
                        "details": {"text": issue.details},
                    });
                    if let (false, Some(object)) = (issue.expression.is_empty(), value.as_object_mut()) {
                        object.insert("expression".into(), json!([issue.expression]));
                    }
                    value
                })
                .collect()
        };
        json!({"resourceType": "OperationOutcome", "issue": issue})
    }
}

impl From<Issue> for Issues {
    fn from(issue: Issue) -> Self {
        Self(vec![issue])
    }
}

impl std::fmt::Display for Issues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, issue) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            if !issue.expression.is_empty() {
                write!(f, "{}: ", issue.expression)?;
            }
            f.write_str(&issue.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
