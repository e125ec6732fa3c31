//! Clients and validators that others wrote, from npm and PyPI, against real servers of both databases.
//! `tests/run.sh` installs them; what they ask and expect is in `tests/clients`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Backend, Folder, Server};

use crate::tenants;

/// Runs one suite, with what it needs to know in its environment.
pub(crate) fn run(suite: &str, environment: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let python = folder.join("venv/bin/python");
    for installed in [folder.join("node_modules"), python.clone()] {
        assert!(installed.exists(), "{} is missing: tests/run.sh installs the clients", installed.display());
    }
    let (program, arguments) = match Path::new(suite).extension() {
        Some(kind) if kind == "py" => {
            (python, ["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"].as_slice())
        }
        _ => (PathBuf::from("node"), ["--test"].as_slice()),
    };
    let mut command = Command::new(program);
    // The command line takes every AUGURY_ variable for a setting.
    command.env_remove("AUGURY_TEST_POSTGRES").env_remove("AUGURY_BIN");
    command.args(arguments).arg(suite).current_dir(folder).envs(environment.iter().copied());
    let ended = command.stdin(Stdio::null()).output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{suite}: {}\n{}", ended.status, String::from_utf8_lossy(&said));
}

/// A suite, on a server of its own that lets nobody in without a key.
fn with_a_key(suite: &str, backend: Backend) {
    with_settings(suite, backend, &[], &[]);
}

/// The same with further settings of the server, and with what the suite is told beside.
fn with_settings(suite: &str, backend: Backend, settings: &[(&str, &str)], told: &[(&str, &str)]) {
    let usual = [("AUGURY_AUTH", "required"), ("AUGURY_RATE_ANONYMOUS", "none")];
    let server = Server::start_with(backend, &[&usual, settings].concat()).unwrap();
    let folder = Folder::new().unwrap();
    let key = server.key(&[suite]).unwrap();
    let binary = harness::binary().unwrap();
    let environment = [
        ("AUGURY_BASE", server.url("/fhir")),
        ("AUGURY_KEY", key),
        ("AUGURY_BIN", binary.display().to_string()),
        ("AUGURY_SECRET", harness::SECRET.to_owned()),
        ("AUGURY_DATABASE_URL", server.database_url().to_owned()),
        ("AUGURY_DATA_DIR", folder.path().display().to_string()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    run(suite, &[&environment, told].concat());
}

#[test]
fn fhir_kit_client_on_sqlite() {
    with_a_key("fhir-kit-client.test.mjs", Backend::Sqlite);
}

#[test]
fn fhir_kit_client_on_postgres() {
    with_a_key("fhir-kit-client.test.mjs", Backend::Postgres);
}

#[test]
fn medplum_on_sqlite() {
    with_a_key("medplum.test.mjs", Backend::Sqlite);
}

#[test]
fn medplum_on_postgres() {
    with_a_key("medplum.test.mjs", Backend::Postgres);
}

#[test]
fn fhirpy_on_sqlite() {
    with_a_key("test_fhirpy.py", Backend::Sqlite);
}

#[test]
fn fhirpy_on_postgres() {
    with_a_key("test_fhirpy.py", Backend::Postgres);
}

/// SMART's own client in a real browser, and a strict client of OpenID Connect.
#[test]
fn smart_on_sqlite() {
    with_a_key("smart.test.mjs", Backend::Sqlite);
}

#[test]
fn smart_on_postgres() {
    with_a_key("smart.test.mjs", Backend::Postgres);
}

/// Another authorization server, which the suite starts where this one is told that it is.
fn issuer(backend: Backend) {
    let port = harness::free_port().unwrap();
    let issuer = format!("http://127.0.0.1:{port}");
    let introspection = format!("{issuer}/token/introspection");
    let settings = [
        ("AUGURY_TOKEN_ISSUER", issuer.as_str()),
        ("AUGURY_TOKEN_INTROSPECTION", &introspection),
        ("AUGURY_TOKEN_CLIENT_ID", "augury"),
        ("AUGURY_TOKEN_CLIENT_SECRET", "a secret of the test"),
        ("AUGURY_TOKEN_SCOPES", "launch/patient patient/*.rs user/*.rs system/*.rs"),
        ("AUGURY_OIDC_ISSUER", &issuer),
        ("AUGURY_OIDC_CLIENT_ID", "sign-in"),
        ("AUGURY_OIDC_CLIENT_SECRET", "a secret of the test"),
    ];
    with_settings("issuer.test.mjs", backend, &settings, &[("ISSUER", &issuer)]);
}

#[test]
fn issuer_on_sqlite() {
    issuer(Backend::Sqlite);
}

#[test]
fn issuer_on_postgres() {
    issuer(Backend::Postgres);
}

#[test]
fn smart_clients_on_sqlite() {
    with_a_key("test_smart_clients.py", Backend::Sqlite);
}

#[test]
fn smart_clients_on_postgres() {
    with_a_key("test_smart_clients.py", Backend::Postgres);
}

/// Every interaction × every type × every kind of caller, who may be another tenant's, and questions at random
/// that must not tell of somebody else's chart.
fn authorization(backend: Backend) {
    let other = tenants::other(backend);
    let bearers = tenants::bearers(&other).to_string();
    with_settings("test_authorization.py", backend, &[], &[("OTHER_TENANT", &bearers)]);
}

#[test]
fn authorization_on_sqlite() {
    authorization(Backend::Sqlite);
}

#[test]
fn authorization_on_postgres() {
    authorization(Backend::Postgres);
}

/// Whatever is sent, well or ill formed: it is in no log, metric or error body of others, and no secret is
/// anywhere.
#[test]
fn no_phi_on_sqlite() {
    with_a_key("test_no_phi.py", Backend::Sqlite);
}

#[test]
fn no_phi_on_postgres() {
    with_a_key("test_no_phi.py", Backend::Postgres);
}

#[test]
fn balp_on_sqlite() {
    with_a_key("test_balp.py", Backend::Sqlite);
}

#[test]
fn balp_on_postgres() {
    with_a_key("test_balp.py", Backend::Postgres);
}

/// Not a client's code: a second reading of the search page, which shares nothing with the server's.
#[test]
fn search_oracle_on_sqlite() {
    with_a_key("test_search_oracle.py", Backend::Sqlite);
}

#[test]
fn search_oracle_on_postgres() {
    with_a_key("test_search_oracle.py", Backend::Postgres);
}
