//! What all routes share: who asks, what may be sent, how failure is said, what is measured.

pub(crate) mod audited;
pub(crate) mod body;
pub(crate) mod break_glass;
pub(crate) mod buckets;
pub(crate) mod caller;
pub(crate) mod failure;
pub(crate) mod format;
pub(crate) mod limits;
pub(crate) mod peer;
pub(crate) mod redis;
pub(crate) mod refusals;
pub(crate) mod request;
pub(crate) mod rights;
pub(crate) mod telemetry;
pub(crate) mod tls;
