//! Every test that speaks to a real server, one binary: each extra one is another link step.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on says where")]

mod charts;
mod conformance;
mod crash;
mod formats;
mod offline;
mod operations;
mod rest;
mod scoring;
mod search;
mod versions;
