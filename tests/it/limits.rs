//! Too much at once, and a disk that takes no more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Answer, Backend, Server};
use serde_json::json;

fn names(count: usize) -> String {
    let names = vec![r#"{"family":"a"}"#; count].join(",");
    format!(r#"{{"resourceType":"Patient","name":[{names}]}}"#)
}

#[test]
fn large_bodies_keep_nobody_waiting() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let body = names(60_000);
    let began = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.send("POST", "/fhir/Patient/$validate", &body).unwrap().status))
            .collect();
        let mut slowest = Duration::ZERO;
        while posts.iter().any(|post| !post.is_finished()) {
            let asked = Instant::now();
            server.get("/health/live").unwrap().expect(200).unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        assert!(posts.into_iter().all(|post| post.join().unwrap() == 200));
        slowest
    });
    assert!(slowest * 4 < began.elapsed(), "{slowest:?} of {:?}", began.elapsed());
}

#[test]
fn a_body_of_too_many_values_is_refused() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let body =
        format!(r#"{{"resourceType":"Patient","multipleBirthInteger":[{}1]}}"#, "1,".repeat(2_000_000));
    for path in ["/fhir/Patient", "/fhir"] {
        let answer = server.send("POST", path, &body).unwrap().expect(400).unwrap();
        assert_eq!(answer.issue(), ("too-costly", "multipleBirthInteger[1999997]"));
    }
}

#[test]
fn more_than_can_be_held_is_put_off() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let begun = |length: usize| {
        let mut stream = TcpStream::connect(server.bind()).unwrap();
        let head = "POST /fhir HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/fhir+json\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n", length + 1).unwrap();
        stream.write_all(&vec![b' '; length]).unwrap();
        stream
    };
    let held = [begun(60 << 20), begun(60 << 20)];
    let body = " ".repeat(20 << 20);
    let asked = || server.http().post(server.url("/fhir")).header("content-type", "application/fhir+json");
    let refused = Answer::of(asked().body(body.clone()).send().unwrap()).unwrap().expect(503).unwrap();
    assert_eq!((refused.issue().0, refused.header("retry-after")), ("throttled", "1"));
    server.post("/fhir/Patient", &json!({"resourceType": "Patient"})).unwrap().expect(201).unwrap();
    for mut stream in held {
        stream.write_all(b" ").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
    Answer::of(asked().body(body).send().unwrap()).unwrap().expect(400).unwrap();
}

/// Files of the process may grow to so many bytes.
fn limit(server: &Server, bytes: &str) {
    let pid = server.pid().to_string();
    let fsize = format!("--fsize={bytes}:unlimited");
    assert!(Command::new("prlimit").args(["--pid", &pid, &fsize]).status().unwrap().success());
}

#[test]
fn a_full_disk_is_told_and_got_over() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let patient = json!({"resourceType": "Patient", "name": [{"family": "x".repeat(100_000)}]});
    let (refused, stored) = (
        |answer: &Answer| (answer.status, answer.issue().0.to_owned()) == (507, "no-store".to_owned()),
        |answer: &Answer| answer.status == 201,
    );
    limit(&server, "2000000");
    let full = (0..200).map(|_| server.post("/fhir/Patient", &patient).unwrap()).find(|one| !stored(one));
    assert!(full.as_ref().is_some_and(refused), "{full:?}");
    server.get("/health/live").unwrap().expect(200).unwrap();
    limit(&server, "10000");
    assert!(refused(&server.post("/fhir/Patient", &patient).unwrap()));
    server.get("/health/ready").unwrap().expect(503).unwrap();
    server.get("/fhir/Patient?_count=1").unwrap().expect(200).unwrap();
    limit(&server, "unlimited");
    server.get("/health/ready").unwrap().expect(200).unwrap();
    server.post("/fhir/Patient", &patient).unwrap().expect(201).unwrap();
}
