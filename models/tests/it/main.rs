//! The models as their callers see them.
#![cfg(test)]

mod bundles;
mod doubts;
mod explain;
mod named;
mod patient;
mod refusals;
mod robust;
mod selection;
mod together;
