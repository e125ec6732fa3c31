//! A black-box runner against any FHIR R4 server: what its REST core must do, each check with the
//! section of the specification it comes from.
//!
//!     cargo run -p conformance -- --base http://127.0.0.1:8080/fhir

mod checks;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

/// Checks a FHIR R4 server from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Base address of the server, e.g. `http://127.0.0.1:8080/fhir`.
    #[arg(long)]
    base: String,
    /// Bearer token, if the server wants one.
    #[arg(long)]
    token: Option<String>,
}

/// A server under test.
struct Server {
    base: String,
    token: Option<String>,
    http: Client,
}

/// An answer, read whole.
struct Answer {
    status: u16,
    etag: String,
    location: String,
    json: Value,
}

impl Server {
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let method = method.parse().map_err(|_| "no such method".to_owned())?;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/fhir+json").body(body.to_string());
        }
        let response = request.send().map_err(|e| e.to_string())?;
        let header = |response: &Response, name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (status, etag, location) =
            (response.status().as_u16(), header(&response, "etag"), header(&response, "location"));
        let text = response.text().map_err(|e| e.to_string())?;
        Ok(Answer { status, etag, location, json: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let server = Server {
        base: arguments.base.trim_end_matches('/').to_owned(),
        token: arguments.token,
        http: Client::new(),
    };
    let (mut passed, mut failed) = (0, 0);
    let mut out = std::io::stdout().lock();
    for check in checks::ALL {
        let line = match (check.run)(&server) {
            Ok(()) => {
                passed += 1;
                format!("ok    {:32} {}", check.section, check.title)
            }
            Err(why) => {
                failed += 1;
                format!("FAIL  {:32} {}: {why}", check.section, check.title)
            }
        };
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
