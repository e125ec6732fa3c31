//! The conformance runner against our own server, with accounts and apps for all that it can ask.

use std::path::Path;
use std::process::Command;

use harness::{Answer, BOTH, Backend, Folder, binary};
use serde_json::Value;

use crate::smart::{CALLBACK, PASSWORD, Place};
use crate::smart_clients::{elliptic, register, rsa};

/// What the server does not do as the specification says, each with what it does instead.
const KNOWN: [&str; 1] = [
    // To what a reference may point is a warning: HL7's own examples break it.
    "validation/reference-wrong-type",
];

/// What is not asked: beginnings of ids, each with why.
const SKIPPED: [&str; 11] = [
    // The statement names no profiles.
    "us-core/conformance/",
    // The trail is written by the server alone.
    "types/AuditEvent/",
    // No TLS: that is a proxy's.
    "us-core/tls",
    "smart/standalone_auth_tls",
    "smart/standalone_token_tls",
    "smart/ehr_auth_tls",
    "smart/ehr_token_tls",
    "smart/smart_backend_services_token_tls_version",
    // An attestation.
    "smart/g10/attest-public-base",
    // Takes five minutes, and one: `--smart-patience`.
    "smart/spec/94",
    "smart/code-expires",
];

/// What the runner is told of a server's accounts and apps.
fn told(place: &Place, folder: &Path) -> Vec<String> {
    let app = |arguments: &[&str]| {
        let opened = ["--redirect", CALLBACK, "--launch-url", "https://app.example/launch"];
        place.app(&[arguments, &opened].concat())
    };
    let (public, (confidential, secret)) = (app(&["--public"]).0, app(&["--secret"]));
    let keys = [rsa("r1"), elliptic("e1")];
    let both: Vec<_> = keys.iter().collect();
    let own = register(place, &both, &["--redirect", CALLBACK, "--launch-url", "https://app.example/launch"]);
    let backend = register(place, &both, &["--scope", "system/*.rs augury/launch"]);
    let address = format!("127.0.0.1:{}", harness::free_port().unwrap());
    let fetched = format!("http://{address}/jwks.json");
    let fetched = place.app(&["--jwks-url", &fetched, "--scope", "system/*.rs"]).0;
    let mut told = vec![
        "--smart-user=carol".to_owned(),
        format!("--smart-password={PASSWORD}"),
        format!("--smart-redirect={CALLBACK}"),
        format!("--smart-public-client={public}"),
        format!("--smart-secret-client={confidential}"),
        format!("--smart-secret={secret}"),
        format!("--smart-key-client={own}"),
        format!("--smart-backend-client={backend}"),
        format!("--smart-launch={}", place.server.url("/oauth/launch")),
        "--smart-launch-scope=augury/launch system/Patient.r system/Encounter.r".to_owned(),
        format!("--smart-jwks={address}"),
        format!("--smart-jwks-client={fetched}"),
    ];
    for (kid, key) in ["r1", "e1"].into_iter().zip(&keys) {
        let file = folder.join(format!("{kid}.pem"));
        std::fs::write(&file, &key.pem).unwrap();
        told.push(format!("--smart-key={kid}={}", file.display()));
    }
    told
}

#[test]
fn the_runner_finds_nothing() {
    for backend in BOTH {
        // What a handshake in vain comes to is waited for.
        let place = Place::with(
            backend,
            &[("AUGURY_WEBHOOK_HANDSHAKE_SECONDS", "2"), ("AUGURY_WEBHOOK_ALLOW", "127.0.0.1")],
        );
        let name = if backend == Backend::Sqlite { "SQLite" } else { "PostgreSQL" };
        let runner = binary().unwrap().with_file_name("conformance");
        let folder = Folder::new().unwrap();
        // The report stays, for the table in conformance/README.md.
        let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{name}.json"));
        let junit = folder.path().join("junit.xml");
        let output = Command::new(runner)
            .args(["--base", &place.server.url("/fhir"), "--token", &place.key, "--name", name])
            .args([format!("--test-report={}", report.display()), format!("--junit={}", junit.display())])
            .args(told(&place, folder.path()))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let of = |result: &str| -> Vec<&str> {
            let tests = report["test"].as_array().unwrap().iter();
            let these = tests.filter(|test| test["action"][0]["assert"]["result"] == result);
            these.map(|test| test["name"].as_str().unwrap()).collect()
        };
        assert_eq!(of("fail"), KNOWN, "{text}");
        assert!(of("pass").len() >= 3000, "{text}");
        for skipped in of("skip") {
            assert!(SKIPPED.iter().any(|known| skipped.starts_with(known)), "{skipped}: {text}");
        }
        let judged = place.server.http().post(place.server.url("/fhir/TestReport/$validate"));
        let judged = judged.bearer_auth(&place.key).header("content-type", "application/fhir+json");
        let judged =
            Answer::of(judged.body(report.to_string()).send().unwrap()).unwrap().expect(200).unwrap();
        let wrong = |issue: &Value| matches!(issue["severity"].as_str(), Some("error" | "fatal"));
        assert!(!judged.json["issue"].as_array().unwrap().iter().any(wrong), "{}", judged.text);
        let cases = std::fs::read_to_string(junit).unwrap().matches("<testcase ").count();
        assert_eq!(cases, report["test"].as_array().unwrap().len());
    }
}
