//! The conformance runner against our own server.

use std::process::Command;

use harness::{BOTH, Server, binary};

#[test]
fn the_runner_finds_nothing() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let runner = binary().unwrap().with_file_name("conformance");
        let output = Command::new(runner).args(["--base", &server.url("/fhir")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
