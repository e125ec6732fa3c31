//! The conformance runner against our own server.

use std::process::Command;

use harness::{BOTH, Folder, Server, binary};
use serde_json::Value;

/// What the server does not do as the specification says, each with what it does instead.
const KNOWN: [&str; 1] = [
    // To what a reference may point is a warning: HL7's own examples break it.
    "validation/reference-wrong-type",
];

#[test]
fn the_runner_finds_nothing() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let runner = binary().unwrap().with_file_name("conformance");
        let folder = Folder::new().unwrap();
        let (report, junit) = (folder.path().join("report.json"), folder.path().join("junit.xml"));
        let output = Command::new(runner)
            .args(["--base", &server.url("/fhir")])
            .args([format!("--test-report={}", report.display()), format!("--junit={}", junit.display())])
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
        assert!(of("pass").len() >= 600, "{text}");
        // What is skipped is little, and known: see conformance/README.md.
        assert!(of("skip").len() <= 20, "{text}");
        let judged = server.post("/fhir/TestReport/$validate", &report).unwrap().expect(200).unwrap();
        let wrong = |issue: &Value| matches!(issue["severity"].as_str(), Some("error" | "fatal"));
        assert!(!judged.json["issue"].as_array().unwrap().iter().any(wrong), "{}", judged.text);
        let cases = std::fs::read_to_string(junit).unwrap().matches("<testcase ").count();
        assert_eq!(cases, report["test"].as_array().unwrap().len());
    }
}
