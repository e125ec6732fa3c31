//! Every test that speaks to a real server, one binary: each extra one is another link step.

mod crash;
mod rest;
mod scoring;
