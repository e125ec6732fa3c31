//! Chaos over replicas, PostgreSQL, Redis, the network and a subscriber: whether Subscriptions keep their
//! promise. Prints what happened; fails if the promise was broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use harness::chaos::{Plan, run};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Events over all Subscriptions, at least.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    #[arg(long, default_value_t = 20)]
    subscriptions: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Passes connections on, within a network namespace; each way is LISTEN=TO.
    #[command(hide = true)]
    Relay { ways: Vec<String> },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Part::Relay { ways }) = arguments.part {
        return relay(&ways);
    }
    let plan = Plan {
        seed: arguments.seed,
        events: arguments.events,
        subscriptions: arguments.subscriptions,
        replicas: 3,
        backend: None,
        moody: 250,
        calm: Duration::from_secs(3),
    };
    say(&format!("{plan:?}"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::spawn(move || wait_for_stop(&stopped));
    let tally = run(&plan, &stop, &|text| say(&text))?;
    say(&tally.to_string());
    anyhow::ensure!(tally.breaches.is_empty(), "the promise was broken");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn say(text: &str) {
    println!("{text}");
}

/// Whoever ends it with a signal is not left with what it started.
#[tokio::main(flavor = "current_thread")]
async fn wait_for_stop(stop: &AtomicBool) {
    if let Ok(mut end) = signal(SignalKind::terminate()) {
        tokio::select! {
            _ = end.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.store(true, Ordering::Relaxed);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn relay(ways: &[String]) -> anyhow::Result<()> {
    let mut tasks = Vec::new();
    for way in ways {
        let (from, to) = way.split_once('=').ok_or_else(|| anyhow::anyhow!("a way is LISTEN=TO"))?;
        let (listener, to) = (TcpListener::bind(from).await?, to.parse::<SocketAddr>()?);
        tasks.push(tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}
