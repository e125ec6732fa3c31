//! What is done, in the codes of FHIR and DICOM.

/// What was done. The number stands for it in the database and is never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// A new resource.
    Create,
    /// The current version of one resource.
    Read,
    /// A version of one resource.
    Vread,
    /// A new version.
    Update,
    /// A new version made of the current one.
    Patch,
    /// The end of a resource.
    Delete,
    /// A search in some types.
    SearchType,
    /// A search in all.
    SearchSystem,
    /// The versions of one resource.
    HistoryInstance,
    /// The versions of the resources of a type.
    HistoryType,
    /// All versions.
    HistorySystem,
    /// An operation; the query names it.
    Operation,
    /// A Bundle of requests.
    Batch,
    /// A Bundle of requests that is done wholly or not at all.
    Transaction,
    /// The server began to serve.
    Start,
    /// The server ended.
    Stop,
    /// A person proved who they are, or could not.
    Login,
    /// A person left.
    Logout,
    /// A token was asked for.
    Token,
    /// A token or grant ended before its time.
    Revoke,
    /// An app was started from a chart.
    Launch,
    /// A person allowed an app something, or not.
    Authorize,
    /// Access in an emergency, beyond what is allowed else.
    BreakGlass,
    /// A model scored a patient.
    Score,
    /// A version of a model was put in use.
    Activate,
    /// It was asked what a token is worth.
    Introspect,
    /// Something was sent to a subscriber.
    Deliver,
    /// The same, with all that a resource says.
    Disclose,
    /// A client or account was added, changed or revoked.
    Security,
    /// A setting was changed.
    Configure,
    /// Data left in bulk.
    Export,
    /// The trail itself was found to be other than it was.
    Alarm,
    /// Somebody decided that the log is to go on from where it is.
    Accept,
    /// What is older than the policy says was taken out of the trail.
    Retire,
    /// What a patient decided was asked before an app was allowed their record.
    Decide,
    /// Requests of nobody known were refused, more than are recorded one by one.
    Refuse,
}

/// How it ended (<https://hl7.org/fhir/R4/valueset-audit-event-outcome.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused: the caller's doing.
    Minor,
    /// It failed: the server's doing.
    Serious,
    /// The server can't go on.
    Major,
}

/// A code with its system and what people call it.
pub(super) type Coding = (&'static str, &'static str, &'static str);

const TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
pub(super) const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const OWN: &str = "https://augury.dev/fhir/CodeSystem/audit-act";
const REST: Coding = (TYPE, "rest", "RESTful Operation");

/// Number, type, subtype, action.
type Line = (i64, Act, Coding, Coding, &'static str);

#[rustfmt::skip]
const ALL: &[Line] = &[
    (1, Act::Create, REST, (INTERACTION, "create", "create"), "C"),
    (2, Act::Read, REST, (INTERACTION, "read", "read"), "R"),
    (3, Act::Vread, REST, (INTERACTION, "vread", "vread"), "R"),
    (4, Act::Update, REST, (INTERACTION, "update", "update"), "U"),
    (5, Act::Patch, REST, (INTERACTION, "patch", "patch"), "U"),
    (6, Act::Delete, REST, (INTERACTION, "delete", "delete"), "D"),
    (7, Act::SearchType, REST, (INTERACTION, "search-type", "search-type"), "E"),
    (8, Act::SearchSystem, REST, (INTERACTION, "search-system", "search-system"), "E"),
    (9, Act::HistoryInstance, REST, (INTERACTION, "history-instance", "history-instance"), "E"),
    (10, Act::HistoryType, REST, (INTERACTION, "history-type", "history-type"), "E"),
    (11, Act::HistorySystem, REST, (INTERACTION, "history-system", "history-system"), "E"),
    (12, Act::Operation, REST, (INTERACTION, "operation", "operation"), "E"),
    (13, Act::Batch, REST, (INTERACTION, "batch", "batch"), "E"),
    (14, Act::Transaction, REST, (INTERACTION, "transaction", "transaction"), "E"),
    (20, Act::Start, (DICOM, "110100", "Application Activity"), (DICOM, "110120", "Application Start"), "E"),
    (21, Act::Stop, (DICOM, "110100", "Application Activity"), (DICOM, "110121", "Application Stop"), "E"),
    (30, Act::Login, (DICOM, "110114", "User Authentication"), (DICOM, "110122", "Login"), "E"),
    (31, Act::Logout, (DICOM, "110114", "User Authentication"), (DICOM, "110123", "Logout"), "E"),
    (32, Act::Token, (DICOM, "110114", "User Authentication"), ("urn:ihe:event-type-code", "ITI-71", "Get Access Token"), "E"),
    (33, Act::Revoke, (DICOM, "110113", "Security Alert"), (OWN, "revoke", "Access ended"), "E"),
    (34, Act::Launch, (DICOM, "110100", "Application Activity"), (OWN, "launch", "App launched"), "E"),
    (35, Act::Authorize, (DICOM, "110113", "Security Alert"), (OWN, "authorize", "Access allowed"), "E"),
    (36, Act::BreakGlass, (DICOM, "110113", "Security Alert"), (DICOM, "110127", "Emergency Override Started"), "E"),
    (37, Act::Introspect, (DICOM, "110114", "User Authentication"), ("urn:ihe:event-type-code", "ITI-102", "Introspect Token"), "E"),
    (40, Act::Score, (OWN, "model", "Risk model"), (OWN, "score", "Patient scored"), "E"),
    (41, Act::Activate, (OWN, "model", "Risk model"), (OWN, "activate", "Model put in use"), "U"),
    (42, Act::Deliver, (DICOM, "110106", "Export"), (OWN, "deliver", "Notification sent"), "R"),
    (43, Act::Security, (DICOM, "110113", "Security Alert"), (DICOM, "110137", "User Security Attributes Changed"), "U"),
    (44, Act::Configure, (DICOM, "110113", "Security Alert"), (DICOM, "110131", "Software Configuration"), "U"),
    (45, Act::Export, (DICOM, "110106", "Export"), (OWN, "export", "Data exported"), "R"),
    (46, Act::Alarm, (DICOM, "110113", "Security Alert"), (OWN, "alarm", "Audit trail is not what it was"), "E"),
    (47, Act::Accept, (DICOM, "110113", "Security Alert"), (OWN, "accept", "Audit trail accepted as it is"), "E"),
    (48, Act::Disclose, (DICOM, "110106", "Export"), ("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose", "Disclose Record Lifecycle Event"), "R"),
    (60, Act::Refuse, (DICOM, "110113", "Security Alert"), (OWN, "refuse", "Accesses refused"), "E"),
    (61, Act::Decide, (DICOM, "110113", "Security Alert"), ("https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "AuthZ-Consent", "Authorization Decision by Consent"), "E"),
    (62, Act::Retire, (DICOM, "110101", "Audit Log Used"), (OWN, "retire", "Audit events dropped by policy"), "D"),
];

impl Act {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(|line| line.1)
    }

    fn line(self) -> Option<&'static Line> {
        ALL.iter().find(|line| line.1 == self)
    }

    pub(super) fn number(self) -> i64 {
        self.line().map_or(0, |line| line.0)
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        ALL.iter().find(|line| line.0 == number).map(|line| line.1)
    }

    /// `AuditEvent.type`, `subtype` and `action`.
    pub(super) fn codes(self) -> (Coding, Coding, &'static str) {
        self.line().map_or((REST, REST, "E"), |line| (line.2, line.3, line.4))
    }

    /// Is it an interaction of FHIR's API?
    pub fn is_rest(self) -> bool {
        self.codes().0 == REST
    }
}

impl Outcome {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::Minor, Self::Serious, Self::Major];

    /// The code, which is a number.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Success => 0,
            Self::Minor => 4,
            Self::Serious => 8,
            Self::Major => 12,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_for_one_act() {
        for (n, line) in ALL.iter().enumerate() {
            assert_eq!(Act::from_number(line.0), Some(line.1));
            assert_eq!(line.1.number(), line.0);
            assert!(ALL.iter().take(n).all(|earlier| earlier.0 < line.0));
        }
    }
}
