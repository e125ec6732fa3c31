//! The load generator: N keep-alive connections to a loopback address, for a bounded time,
//! with bodies made beforehand. Prints requests a second, latency quantiles, and the CPU
//! time the server process used for each request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an effect of a request is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it asks for what is to follow.
const AGAIN: Duration = Duration::from_millis(2);

/// Loads one HTTP server on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Loopback address of the server.
    #[arg(long)]
    to: SocketAddr,
    /// Method and path of each request; `{}` stands for a line of `--lines`.
    #[arg(long, default_value = "POST")]
    method: String,
    #[arg(long)]
    path: String,
    /// File whose lines are the bodies (for POST) or go into the path's `{}` (for GET), in turn.
    #[arg(long)]
    lines: PathBuf,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Stop after so many seconds …
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// … or after so many requests.
    #[arg(long, default_value_t = usize::MAX)]
    requests: usize,
    /// Requests a second over all connections (default: as many as go).
    #[arg(long)]
    rate: Option<f64>,
    /// Server process whose CPU time and memory are read.
    #[arg(long)]
    pid: Option<u32>,
    /// Items that one request carries (e.g. entries of a Bundle); also reported a second.
    #[arg(long, default_value_t = 1.0)]
    items: f64,
    /// Write the Location header of each answer to this file.
    #[arg(long)]
    locations: Option<PathBuf>,
    /// After each answer, GET this path until its body names what was made (`Type/id`), and measure
    /// up to there; `{}` stands for the posted body's `subject.reference`.
    #[arg(long)]
    then: Option<String>,
}

#[derive(Default)]
struct Tally {
    micros: Vec<u64>,
    failed: usize,
    locations: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    anyhow::ensure!(arguments.to.ip().is_loopback(), "only a loopback address may be loaded");
    let text = std::fs::read_to_string(&arguments.lines)?;
    let requests: Arc<Vec<Vec<u8>>> = Arc::new(text.lines().map(|line| request(&arguments, line)).collect());
    anyhow::ensure!(!requests.is_empty(), "no lines");
    let next = Arc::new(AtomicUsize::new(0));
    let before = arguments.pid.map(cpu_seconds).transpose()?;
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..arguments.connections)
        .map(|_| {
            local.spawn_local(connection(
                Arc::clone(&arguments),
                Arc::clone(&requests),
                Arc::clone(&next),
                began,
            ))
        })
        .collect();
    let mut all = Tally::default();
    local
        .run_until(async {
            for task in tasks {
                let tally = task.await??;
                all.micros.extend(tally.micros);
                all.failed += tally.failed;
                all.locations.extend(tally.locations);
            }
            anyhow::Ok(())
        })
        .await?;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = match (before, arguments.pid) {
        (Some(before), Some(pid)) => Some(cpu_seconds(pid)? - before),
        _ => None,
    };
    report(&arguments, &mut all, elapsed, cpu)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
#[expect(clippy::print_stdout, reason = "the report is the product")]
fn report(arguments: &Arguments, all: &mut Tally, elapsed: f64, cpu: Option<f64>) -> anyhow::Result<()> {
    all.micros.sort_unstable();
    let count = all.micros.len();
    let quantile = |q: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = ((count as f64 * q) as usize).min(count.saturating_sub(1));
        all.micros.get(at).copied().unwrap_or(0)
    };
    let rate = count as f64 / elapsed;
    println!(
        "{}",
        serde_json::json!({
            "requests": count, "failed": all.failed, "rate": rate.round(), "items_rate": (rate * arguments.items).round(),
            "p50_us": quantile(0.5), "p95_us": quantile(0.95), "p99_us": quantile(0.99), "max_us": quantile(1.0),
            "cpu_us": cpu.map(|cpu| (cpu * 1e6 / count.max(1) as f64).round()),
            "rss_mb": arguments.pid.and_then(rss_mb),
        })
    );
    if let Some(path) = &arguments.locations {
        std::fs::write(path, all.locations.join("\n"))?;
    }
    Ok(())
}

fn request(arguments: &Arguments, line: &str) -> Vec<u8> {
    if arguments.method == "GET" {
        let path = arguments.path.replace("{}", line);
        return format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", arguments.to).into_bytes();
    }
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n",
        arguments.method,
        arguments.path,
        arguments.to,
        line.len()
    );
    [head.as_bytes(), line.as_bytes()].concat()
}

async fn connection(
    arguments: Arc<Arguments>,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    began: Instant,
) -> anyhow::Result<Tally> {
    let mut stream = TcpStream::connect(arguments.to).await?;
    stream.set_nodelay(true)?;
    let mut tally = Tally::default();
    let mut buffer = Vec::with_capacity(64 << 10);
    let limit = Duration::from_secs_f64(arguments.seconds);
    while began.elapsed() < limit {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(bytes) = requests.get(number % requests.len()).filter(|_| number < arguments.requests)
        else {
            break;
        };
        if let Some(rate) = arguments.rate {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            let due = Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
        let sent = Instant::now();
        stream.write_all(bytes).await?;
        let (status, location) = answer(&mut stream, &mut buffer).await?;
        if let (Some(then), Some(location)) = (&arguments.then, &location) {
            let path = then.replace("{}", &subject(bytes)?);
            await_mention(&arguments, &mut stream, &mut buffer, &path, location).await?;
        }
        tally.micros.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        tally.failed += usize::from(!(200..300).contains(&status));
        tally.locations.extend(location.filter(|_| arguments.locations.is_some()));
    }
    Ok(tally)
}

/// Asks again and again until the body names the resource.
async fn await_mention(
    arguments: &Arguments,
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    path: &str,
    location: &str,
) -> anyhow::Result<()> {
    let made: Vec<&str> = location.rsplitn(5, '/').collect(); // …/Type/id/_history/1
    let (Some(id), Some(kind)) = (made.get(2), made.get(3)) else {
        anyhow::bail!("{location} is no version's address")
    };
    let name = format!("{kind}/{id}");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", arguments.to);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        stream.write_all(ask.as_bytes()).await?;
        answer(stream, buffer).await?;
        if buffer.windows(name.len()).any(|part| part == name.as_bytes()) {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
    anyhow::bail!("{path} does not name {name} after {PATIENCE:?}")
}

/// The subject of a posted resource.
fn subject(request: &[u8]) -> anyhow::Result<String> {
    let body = request.splitn(2, |byte| *byte == b'{').nth(1).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&[b"{", body].concat())?;
    let reference = body.pointer("/subject/reference").and_then(serde_json::Value::as_str);
    Ok(reference.ok_or_else(|| anyhow::anyhow!("the body has no subject"))?.to_owned())
}

/// Reads one answer that has a Content-Length.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, Option<String>)> {
    buffer.clear();
    let head = loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
    };
    let text = std::str::from_utf8(buffer.get(..head).unwrap_or_default())?;
    let status = text.get(9..12).unwrap_or("0").parse()?;
    let header = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let length: usize = header("content-length").unwrap_or("0").parse()?;
    let location = header("location").map(str::to_owned);
    while buffer.len() < head + 4 + length {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
    }
    Ok((status, location))
}

/// User and system time of a process so far, from `/proc/PID/stat` (100 ticks a second).
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

fn rss_mb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
