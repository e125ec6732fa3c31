//! Sending the audit trail to others.

pub(crate) mod outbound;
pub(crate) mod syslog;
