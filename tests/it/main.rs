//! Every test that speaks to a real server, one binary: each extra one is another link step.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on says where")]

mod audit;
mod callers;
mod chaos;
mod charts;
mod clients;
mod clock;
mod conformance;
mod consent;
mod consent_members;
mod crash;
mod dead_letters;
mod demo;
mod foreign;
mod formats;
mod forward;
mod limits;
mod newest;
mod offline;
mod openapi;
mod operations;
mod outage;
mod parts;
mod receivers;
mod redis;
mod replica;
mod rest;
mod scoring;
mod search;
mod settings;
mod shapes;
mod smart;
mod smart_clients;
mod smart_roles;
mod smart_trail;
mod smart_upstream;
mod subscription_security;
mod subscriptions;
mod tenants;
mod tls;
mod upgrade;
mod validation;
mod versions;
mod webhook;
mod websocket;
