//! The committed table: every check, and what came of it where.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::Value;

use crate::check::Check;
use crate::requirements;
use crate::server::{list, text};

/// Markdown of all checks with one column of results for each TestReport.
pub(crate) fn markdown(checks: &[Check], reports: &[Value]) -> String {
    let names: Vec<&str> = reports.iter().map(|report| text(report, "/name")).collect();
    let results: Vec<HashMap<&str, &str>> = reports.iter().map(results).collect();
    let mut out = String::from(HEAD);
    let _ = writeln!(out, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for result in ["pass", "fail", "skip"] {
        let count =
            |all: &HashMap<&str, &str>| all.values().filter(|one| **one == result).count().to_string();
        let counts: Vec<String> = results.iter().map(count).collect();
        let _ = writeln!(out, "| {result} | {} |", counts.join(" | "));
    }
    out.push_str("\n## Requirements\n\n| id | what | checks |\n|---|---|---|\n");
    for one in requirements::all() {
        let checks: Vec<String> = one.checks.iter().map(|prefix| format!("`{prefix}`")).collect();
        let _ = writeln!(out, "| `{}` | {} | {} |", one.id, cell(one.what), checks.join(" "));
    }
    let mut last = "";
    for check in checks.iter().filter(|check| !check.id.starts_with("types/")) {
        if check.chapter() != last {
            last = check.chapter();
            let _ = writeln!(
                out,
                "\n## {last}\n\n| id | section | what | {} |\n|---|---|---|{}",
                names.join(" | "),
                "---|".repeat(names.len())
            );
        }
        let found: Vec<&str> = results.iter().map(|all| mark(all.get(check.id.as_str()))).collect();
        let _ = writeln!(
            out,
            "| `{}` | [{}]({}) | {} | {} |",
            check.id,
            shown(check.section),
            check.address(),
            cell(&check.title),
            found.join(" | ")
        );
    }
    out.push_str(&types(checks, &names, &results));
    out
}

const HEAD: &str = "# Conformance

A black-box runner: it speaks to any FHIR R4 server by HTTP alone.

```sh
cargo run -p conformance -- --base http://127.0.0.1:8080/fhir
```

`--token T` for a bearer token, `--only search/date` for a part, `--list` for all checks without asking a server,
`--junit FILE` and `--test-report FILE` for other programs. What a server's CapabilityStatement does not claim is
skipped, and so is what it says it does not support; a skip is no pass. The exit code is 1 if a check failed.

It speaks HTTP without TLS: put a proxy that ends TLS before a server that has it.

For SMART on FHIR it has to be told of an account and of apps; `--help` has all of `--smart-…`, and what is not told is
skipped:

| | |
|---|---|
| `--smart-user` `--smart-password` | somebody who may see all patients and has a `fhirUser` that can be read |
| `--smart-redirect` | where the apps are answered; nobody need be there |
| `--smart-public-client` | an app without a secret |
| `--smart-secret-client` `--smart-secret` | an app with one |
| `--smart-key-client` `--smart-backend-client` | an app with keys, and a client with the same keys that acts for itself |
| `--smart-key KID=FILE` | their private keys, PEM (PKCS #8): one RSA, one P-384 |
| `--smart-launch` `--smart-launch-scope` | where the backend client makes a launch, and the scope that takes: it sends JSON with `client_id`, `patient`, `encounter`, `intent`, `fhirContext`, and is answered JSON with `launch` and the `url` to open |
| `--smart-jwks ADDRESS:PORT` `--smart-jwks-client` | where the runner serves keys, and a client registered with `http://ADDRESS:PORT/jwks.json` |
| `--smart-patience` | seconds a check may wait; 310 is enough for all |

The apps may have any scope, the backend clients `system/*.rs`. It goes through the server's pages as a browser without
scripts: it signs in where there is a password field, takes the button or box that has the patient's id (or types the
family name into a search), and presses what says allow or deny. A box's value must be the scope it stands for.

For Subscriptions with topics the runner is the endpoint, and defines a topic of its own as a `Basic`. On one machine with the
server that is all; else, or where a server takes no topics, it has to be told:

| | |
|---|---|
| `--subscriptions-hook ADDRESS:PORT` | where the runner waits for notifications |
| `--subscriptions-endpoint URL` | the address of that for the server, if it is another: of a proxy, perhaps with TLS |
| `--subscriptions-topic` `--subscriptions-filter` | a topic, and a filter of it with `<patient>` for the reference: `Encounter?patient=<patient>` |
| `--subscriptions-trigger FILE` | a resource, JSON with `<patient>` in it, that lets the topic speak when it is created |
| `--subscriptions-patience` | seconds that a notification may take, and a handshake in vain until the status is `error`: 20 if nothing is said, so start Augury with `AUGURY_WEBHOOK_HANDSHAKE_SECONDS=2`, and where its access is not open with `AUGURY_WEBHOOK_ALLOW=127.0.0.1` |

What is only recommended there, and not done, is a skip.

Each check makes what it needs under tags and identifiers of its own and touches nothing else; it leaves behind what it
made, all but Subscriptions. This file is written by `just conformance-table`.

";

/// A section without what all of its guide begin with.
fn shown(section: &str) -> &str {
    let guides = ["smart-app-launch/", "uv/"];
    guides.iter().find_map(|guide| section.strip_prefix(guide)).unwrap_or(section)
}

/// `types/…` as a matrix: a row for each type, a column for each group of interactions.
fn types(checks: &[Check], names: &[&str], results: &[HashMap<&str, &str>]) -> String {
    let mut rows: BTreeMap<&str, Vec<(&str, &Check)>> = BTreeMap::new();
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for check in checks {
        let Some((kind, group)) = check.id.strip_prefix("types/").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        rows.entry(kind).or_default().push((group, check));
        if !columns.iter().any(|(known, _)| *known == group) {
            columns.push((group, check.section));
        }
    }
    let heads: Vec<String> = columns
        .iter()
        .map(|(group, section)| format!("[{group}](https://hl7.org/fhir/R4/{section})"))
        .collect();
    let mut out = format!(
        "\n## types\n\nEach check is `types/TYPE/COLUMN`; in each cell the results of {}.\n\n| type | {} |\n|---|{}\n",
        names.join(" and "),
        heads.join(" | "),
        "---|".repeat(columns.len())
    );
    for (kind, row) in rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|(group, _)| {
                let check = row.iter().find(|(known, _)| known == group).map(|(_, check)| check.id.as_str());
                let found = results.iter().map(|all| mark(check.and_then(|id| all.get(id))));
                found.collect::<Vec<_>>().join(" ")
            })
            .collect();
        let _ = writeln!(out, "| {kind} | {} |", cells.join(" | "));
    }
    out
}

fn results(report: &Value) -> HashMap<&str, &str> {
    let tests = list(report, "/test").iter();
    tests.map(|test| (text(test, "/name"), text(test, "/action/0/assert/result"))).collect()
}

fn mark(result: Option<&&str>) -> &'static str {
    match result {
        Some(&"pass") => "✓",
        Some(&"fail") => "**✗**",
        Some(&"skip") => "skip",
        _ => "–",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
