# What one does here; `just` lists it.

default:
    @just --list

# The server with the sample patients
demo:
    cargo run --release -- demo

# All tests, with their set-up
test:
    bash tests/run.sh

# What needs the reference data (AUGURY_SHARED)
acceptance:
    bash tests/acceptance.sh

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, bans, advisories (cargo install cargo-deny)
deny:
    cargo deny check

# Augury beside a bare program
bench *folder:
    bash tests/bench.sh {{folder}}

# A running server against the specification
conformance base="http://127.0.0.1:8080/fhir":
    cargo run -p conformance -- --base {{base}}

# conformance/README.md of what the tests found on SQLite and on PostgreSQL
conformance-table:
    cargo run -p conformance -- --table target/tmp/conformance-SQLite.json target/tmp/conformance-PostgreSQL.json > conformance/README.md

# Every fuzz target for so many seconds (nightly, cargo install cargo-fuzz)
fuzz seconds="60" *targets:
    bash tests/fuzz.sh {{seconds}} {{targets}}
