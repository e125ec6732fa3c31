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

# conformance/README.md of servers on SQLite and on PostgreSQL that are running
conformance-table sqlite postgres:
    -cargo run -p conformance -- --base {{sqlite}} --name SQLite --test-report target/conformance-sqlite.json
    -cargo run -p conformance -- --base {{postgres}} --name PostgreSQL --test-report target/conformance-postgres.json
    cargo run -p conformance -- --table target/conformance-sqlite.json target/conformance-postgres.json > conformance/README.md

# Every fuzz target for so many seconds (nightly, cargo install cargo-fuzz)
fuzz seconds="60" *targets:
    bash tests/fuzz.sh {{seconds}} {{targets}}
