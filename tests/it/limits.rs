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
    // What can't be recorded as read is not shown.
    assert!(refused(&server.get("/fhir/Patient?_count=1").unwrap()));
    limit(&server, "unlimited");
    server.get("/health/ready").unwrap().expect(200).unwrap();
    server.post("/fhir/Patient", &patient).unwrap().expect(201).unwrap();
}

#[test]
fn questions_that_would_cost_too_much_are_refused_at_once() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let form = |path: &str, body: String| {
        let request = server.http().post(server.url(path));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Answer::of(request.body(body).send().unwrap()).unwrap()
    };
    let began = Instant::now();
    // Each link may lead to any type.
    let chain = format!("/fhir/Library?{}_id=x", "derived-from.".repeat(6));
    assert_eq!(server.get(&chain).unwrap().expect(400).unwrap().issue().0, "too-costly");
    let targets: Vec<String> = (0..226).map(|n| n.to_string()).collect();
    let many = server.get(&format!("/fhir/Provenance?target={}", targets.join(","))).unwrap();
    assert_eq!(many.expect(400).unwrap().issue().0, "too-costly");
    for (name, value) in [
        ("url:above", "/".repeat(1000)),
        ("url:above", "/".repeat(500_000)),
        ("_sort", "_id,".repeat(100_000) + "_id"),
        ("_sort", "_id,".repeat(100) + "_id"),
        ("_elements", "id,".repeat(300) + "id"),
        ("url", "x".repeat(500_000)),
    ] {
        let answer = form("/fhir/ValueSet/_search", format!("{name}={value}")).expect(400).unwrap();
        assert_eq!(answer.issue().0, "value", "{name}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // What people ask goes on being answered.
    for asked in [
        "Provenance?target.identifier=a",
        "Library?derived-from.derived-from._id=x",
        "ValueSet?url:above=http://a.example/b/c",
        "Observation?_sort=-date,status,_id",
    ] {
        server.get(&format!("/fhir/{asked}")).unwrap().expect(200).unwrap();
    }
}

#[test]
fn value_sets_within_value_sets_are_read_once() {
    let server = Server::start(Backend::Sqlite).unwrap();
    for n in 0..8 {
        let within = vec![json!(format!("ValueSet/vs{}", n + 1)); 300];
        let set = json!({"resourceType": "ValueSet", "id": format!("vs{n}"), "status": "active",
            "compose": {"include": within.iter().map(|one| json!({"valueSet": [one]})).collect::<Vec<_>>()}});
        server.put(&format!("/fhir/ValueSet/vs{n}"), &set).unwrap().expect(201).unwrap();
    }
    let last = json!({"resourceType": "ValueSet", "id": "vs8", "status": "active",
        "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}]}]}});
    server.put("/fhir/ValueSet/vs8", &last).unwrap().expect(201).unwrap();
    let began = Instant::now();
    server.get("/fhir/Observation?code:in=ValueSet/vs0").unwrap().expect(200).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_reads_of_a_bundle_have_one_budget() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let patients: Vec<_> = (0..1000)
        .map(|n| {
            json!({"resource": {"resourceType": "Patient", "name": [{"family": "x".repeat(200)}]},
                "request": {"method": "POST", "url": "Patient"}, "fullUrl": format!("urn:uuid:{n:08}-0000-4000-8000-000000000000")})
        })
        .collect();
    let bundle = |kind: &str, entries: Vec<serde_json::Value>| json!({"resourceType": "Bundle", "type": kind, "entry": entries});
    server.post("/fhir", &bundle("transaction", patients)).unwrap().expect(200).unwrap();
    let ask = json!({"request": {"method": "GET", "url": "Patient?_count=1000"}});
    let answer = server.post("/fhir", &bundle("batch", vec![ask; 400])).unwrap().expect(200).unwrap();
    let status = |n: usize| answer.json["entry"][n]["response"]["status"].as_str().unwrap().to_owned();
    assert!(status(0).starts_with("200"), "{}", status(0));
    assert!(status(399).starts_with("413"), "{}", status(399));
}

#[test]
fn whoever_answers_says_how_the_answer_is_to_be_kept() {
    let settings = [("AUGURY_AUTH", "required"), ("AUGURY_RATE_ANONYMOUS", "1/hour")];
    let server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    let key = server.key(&["all"]).unwrap();
    let told = |answer: &Answer| {
        let names = ["x-content-type-options", "cache-control", "referrer-policy", "x-frame-options"];
        assert_eq!(names.map(|name| answer.header(name)), ["nosniff", "no-store", "no-referrer", "DENY"]);
        let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
        for name in ["etag", "location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"] {
            assert!(exposed.split(',').any(|one| one.trim() == name), "{name}: {exposed}");
        }
    };
    let asked = |method: &str, path: &str| {
        let request = server.http().request(method.parse().unwrap(), server.url(path));
        request.header("origin", "https://app.example")
    };
    for status in [401, 429] {
        told(&Answer::of(asked("GET", "/fhir/Patient/x").send().unwrap()).unwrap().expect(status).unwrap());
    }
    for (method, path, status) in [
        ("GET", "/fhir/Patient/x", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/fhir/metadata", 405),
        ("GET", "/fhir/Patient?_format=text/csv", 406),
        ("POST", "/fhir/Patient", 415),
    ] {
        let request = asked(method, path).bearer_auth(&key).header("content-type", "text/plain");
        told(&Answer::of(request.send().unwrap()).unwrap().expect(status).unwrap());
    }
    let long = asked("POST", "/fhir").bearer_auth(&key).header("content-type", "application/fhir+json");
    let long = long.body(" ".repeat(70 << 20)).send();
    // Where it is refused before it is sent, the connection may end first.
    if let Ok(long) = long {
        told(&Answer::of(long).unwrap().expect(413).unwrap());
    }
}

#[test]
fn a_length_beyond_all_bounds_is_refused_at_once() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let mut stream = TcpStream::connect(server.bind()).unwrap();
    let head = "POST /fhir HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/fhir+json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: 99999999999\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 413");
}
