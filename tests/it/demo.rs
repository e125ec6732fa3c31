//! `augury demo`: what a newcomer sees first.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use harness::{Folder, command};

#[test]
fn every_model_and_every_kind_of_refusal_is_shown() {
    let folder = Folder::new().unwrap();
    let port = harness::free_port().unwrap();
    let mut demo = command(&["demo"]).unwrap();
    demo.env("AUGURY_BIND", format!("127.0.0.1:{port}")).env("AUGURY_DATA_DIR", folder.path());
    let mut demo = demo.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let shown: Vec<String> = lines.take_while(|line| !line.starts_with("Serving")).collect();
    demo.kill().unwrap();
    demo.wait().unwrap();
    let patients = shown.iter().filter(|line| line.starts_with("demo-")).count();
    assert!(patients >= 12, "{shown:#?}");
    for model in ["ckd-epi-2021", "fib-4", "kfre-4", "meld-3", "news2", "prevent-base"] {
        let numbers = shown
            .iter()
            .position(|line| line.starts_with(&format!("  {model} ")) && !line.contains("refused"));
        let grounds = &shown[numbers.unwrap() + 1..];
        let used = grounds.iter().find(|line| !line.starts_with("      ")).unwrap();
        assert!(used.trim_start().starts_with("used "), "{model}: {used}");
    }
    let refusals: Vec<&String> = shown.iter().filter(|line| line.contains("refused: ")).collect();
    for kind in [
        "missing",
        "stale",
        "out-of-range",
        "unit",
        "comparator",
        "absent-reason",
        "value",
        "future",
        "undated",
        "unresolved",
        "setting",
    ] {
        let said = |line: &&String| line.contains(&format!(" {kind} "));
        assert!(refusals.iter().any(said), "{kind}: {refusals:#?}");
    }
    assert!(shown.iter().any(|line| line.contains("remarks     conflict ")));
}
