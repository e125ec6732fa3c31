//! A process that is told to end, beside one that goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use harness::{Answer, Backend, Server};
use serde_json::json;

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

fn beside(server: &Server) -> Server {
    Server::start_with(Backend::Postgres, &[("AUGURY_DATABASE_URL", server.database_url())]).unwrap()
}

/// SIGTERM; gives the time that it took to end.
fn ends(mut server: Server) -> mpsc::Receiver<Duration> {
    let (said, ended) = mpsc::channel();
    spawn(move || {
        let began = Instant::now();
        server.end().unwrap();
        let _ = said.send(began.elapsed());
    });
    ended
}

fn write(server: &Server, patient: &str) {
    server.post("/fhir/Observation", &critical(patient)).unwrap().expect(201).unwrap();
}

fn numbers(calls: &[Call]) -> Vec<u64> {
    calls.iter().filter(|call| call.status == 200).flat_map(Call::numbers).collect()
}

fn wait(until: &AtomicBool) {
    let began = Instant::now();
    while !until.load(Ordering::SeqCst) {
        assert!(began.elapsed() < LONG, "waited in vain");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_under_way_is_finished_and_the_rest_is_another_s_at_once() {
    let ending = Server::start(Backend::Postgres).unwrap();
    let (slow, quick) = (Webhook::start(), Webhook::start());
    let (asked, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (seen, may) = (Arc::clone(&asked), Arc::clone(&answers));
    slow.answers(move |call| {
        if call.numbers() == [1] {
            seen.store(true, Ordering::SeqCst);
            wait(&may);
        }
        Mood::Answers(200)
    });
    let id =
        subscribe(&ending, &topical(CRITICAL, &["Observation?patient=Patient/p"], &slow.url("/"), "id-only"));
    subscribe(&ending, &topical(CRITICAL, &["Observation?patient=Patient/q"], &quick.url("/"), "id-only"));
    write(&ending, "p");
    wait(&asked);
    let staying = beside(&ending);
    for _ in 0..3 {
        write(&staying, "p");
    }
    let ended = ends(ending);
    sleep(Duration::from_millis(700));
    // It begins nothing any more, while what is under way waits for its answer.
    write(&staying, "q");
    quick.wait(Duration::from_secs(2), |calls| numbers(calls) == [1]);
    assert!(slow.calls().len() == 1 && ended.try_recv().is_err(), "it waits for the answer");
    answers.store(true, Ordering::SeqCst);
    slow.wait(Duration::from_secs(2), |calls| numbers(calls) == [1, 2, 3, 4]);
    let took = ended.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    sleep(Duration::from_secs(1));
    assert_eq!((numbers(&slow.calls()), numbers(&quick.calls())), (vec![1, 2, 3, 4], vec![1]));
    let status = staying.get(&format!("/fhir/Subscription/{id}/$status")).unwrap().expect(200).unwrap();
    assert!(!status.text.contains("error"), "{}", status.text);
}

#[test]
fn what_is_not_answered_in_time_is_told_by_another() {
    let ending = Server::start(Backend::Postgres).unwrap();
    let hook = Webhook::start();
    let asked = Arc::<AtomicBool>::default();
    let seen = Arc::clone(&asked);
    hook.answers(move |call| match call.numbers().as_slice() {
        [1] if !seen.swap(true, Ordering::SeqCst) => Mood::Hangs,
        _ => Mood::Answers(200),
    });
    let mut patient = topical(CRITICAL, &[], &hook.url("/"), "id-only");
    let timeout = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout";
    patient["channel"]["extension"] = json!([{"url": timeout, "valueUnsignedInt": 60}]);
    let id = subscribe(&ending, &patient);
    write(&ending, "p");
    wait(&asked);
    let staying = beside(&ending);
    let took = ends(ending).recv_timeout(Duration::from_secs(30)).unwrap();
    assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(&took), "{took:?}");
    hook.wait(Duration::from_secs(2), |calls| numbers(calls) == [1]);
    // That was no failure of its endpoint, and is in the trail all the same.
    let status = staying.get(&format!("/fhir/Subscription/{id}/$status")).unwrap().expect(200).unwrap();
    assert!(!status.text.contains("error"), "{}", status.text);
    let path = "/fhir/AuditEvent?subtype=deliver&outcome=8";
    staying.wait_for(path, |found| found.to_string().contains("the server ended")).unwrap();
}

#[test]
fn requests_under_way_are_answered_and_idle_connections_are_closed() {
    let server = Server::start(Backend::Postgres).unwrap();
    // One connection is kept, and nothing is asked over it.
    server.get("/health/live").unwrap().expect(200).unwrap();
    let many = json!({"resourceType": "Bundle", "type": "transaction", "entry": (0..400).map(|_| json!({
        "resource": critical("p"), "request": {"method": "POST", "url": "Observation"}
    })).collect::<Vec<_>>()});
    let request = server.http().post(server.url("/fhir")).header("content-type", "application/fhir+json");
    let request = request.body(many.to_string());
    let asked = spawn(move || Answer::of(request.send().unwrap()).unwrap());
    sleep(Duration::from_millis(100));
    let took = ends(server).recv_timeout(LONG * 2).unwrap();
    assert!(took < LONG, "{took:?}");
    asked.join().unwrap().expect(200).unwrap();
}
