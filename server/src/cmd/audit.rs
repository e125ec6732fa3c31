//! `augury audit …`: is the trail what was recorded, the proof of one event, and what is in it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use fhir::reference::is_id;
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use serde_json::json;
use store::{Act, Commit, Context, Entry, Finding, Store, Trail, Witnessed};

use crate::app;
use crate::audit::witness;
use crate::config::Config;
use crate::http::request;
use crate::rest::audit_event::{HEADING, line};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Look at all of the trail: what was changed, removed, put in or moved is named.
    Verify {
        /// Heads of the log that were kept elsewhere, besides those of the settings.
        #[arg(long = "witness", value_name = "FILE")]
        witnesses: Vec<PathBuf>,
    },
    /// Go on with the log as it is, after it was put back: the servers then seal it again. Leaves an event.
    Accept {
        /// Why that is right; whoever reads the trail will see it.
        #[arg(long)]
        reason: String,
    },
    /// Print the events, oldest first.
    Export {
        /// From this date or time on.
        #[arg(long)]
        from: Option<String>,
        /// To this date or time.
        #[arg(long)]
        to: Option<String>,
        /// About this patient alone.
        #[arg(long, value_name = "ID")]
        patient: Option<String>,
        /// How.
        #[arg(long, value_enum, default_value = "ndjson")]
        format: Format,
        /// Into this file.
        #[arg(short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the public key that heads of the log are signed with.
    Key,
    /// Print the proof that an event is in the log, as JSON for `verify_audit.py` and its like.
    Prove {
        /// The event's id.
        id: String,
        /// A file of heads that were kept; the proof then says too that the log only grew since the last of
        /// them.
        #[arg(long, value_name = "FILE")]
        older: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One AuditEvent a line.
    Ndjson,
    /// A table.
    Csv,
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let store = app::open_store(config).await?;
        let context = super::context();
        match action {
            Action::Verify { witnesses } => {
                let mut witnessed = witness::read(&config.trail)?;
                for path in &witnesses {
                    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                    witnessed.heads.extend(witness::heads(&text));
                }
                verify(&store, &context, witnessed).await
            }
            Action::Export { from, to, patient, format, output } => {
                let of = [
                    from.map(|from| ("date".to_owned(), format!("ge{from}"))),
                    to.map(|to| ("date".to_owned(), format!("le{to}"))),
                    patient.map(|patient| ("patient".to_owned(), patient)),
                ];
                let mut out: Box<dyn Write> = match &output {
                    Some(path) => Box::new(File::create(path).with_context(|| path.display().to_string())?),
                    None => Box::new(std::io::stdout()),
                };
                let mut many = 0;
                let of: Vec<(String, String)> = of.into_iter().flatten().collect();
                let done = export(&store, &context, of.clone(), format, &mut out, &mut many).await;
                // What was read is on record, also where its reader had enough.
                let notes = exported(&of, many);
                store.commit(&context, Commit { notes, ..Commit::default() }).await?;
                let enough = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
                match done {
                    Err(error) if !error.downcast_ref().is_some_and(enough) => Err(error),
                    _ => Ok(ExitCode::SUCCESS),
                }
            }
            Action::Accept { reason } => {
                anyhow::ensure!(!reason.trim().is_empty(), "a reason is needed");
                for head in witness::newest(&config.trail) {
                    store.remember_audit(&head);
                }
                let done = match store.accept_audit(&context, &reason).await? {
                    Some(size) => format!("the log of {size} events is accepted as it is"),
                    None => "the log is made anew of the events that there are".to_owned(),
                };
                writeln!(std::io::stdout(), "{done}")?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Key => {
                writeln!(std::io::stdout(), "{}", store.audit_key())?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Prove { id, older } => {
                prove(&store, &context, &id, older).await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn verify(store: &Store, context: &Context, witnessed: Witnessed) -> anyhow::Result<ExitCode> {
    let bar = super::input::counter();
    let shown = bar.clone();
    let verified = store.verify_audit(context, witnessed, move |events| shown.set_position(events)).await?;
    bar.finish_and_clear();
    let mut out = std::io::stdout();
    for finding in &verified.findings {
        writeln!(out, "{finding}")?;
    }
    let more = verified.wrong - verified.findings.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    if verified.findings.iter().any(Finding::ends) {
        writeln!(out, "without that the rest can't be looked at")?;
        return Ok(ExitCode::FAILURE);
    }
    let (events, signed) = (verified.events, verified.signed);
    let (waiting, wrong) = (verified.waiting, verified.wrong);
    let left =
        if verified.retired > 0 { format!(" ({} left by policy)", verified.retired) } else { String::new() };
    if events < signed {
        writeln!(
            out,
            "{signed} events in the log{left}, of which the first {events} could be compared with what was signed; {waiting} more carry a code of this server, {wrong} findings"
        )?;
    } else {
        writeln!(out, "{events} events in the log{left}, {waiting} to be taken in, {wrong} findings")?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What says that so many events were read: of each patient that was asked for an event, with what was asked.
fn exported(of: &[(String, String)], many: u64) -> Vec<Entry> {
    let patients = of.iter().find(|(name, _)| name == "patient").map_or("", |(_, ids)| ids.as_str());
    let patients = patients.split(',').map(|one| one.strip_prefix("Patient/").unwrap_or(one));
    let mut patients: BTreeSet<&str> = patients.filter(|id| is_id(id)).collect();
    if patients.is_empty() {
        patients.insert("");
    }
    let asked: Vec<String> = of.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let filters = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
    let query = store::kept(&format!("AuditEvent{filters}"));
    let note = format!("{many} audit events");
    let each = patients.into_iter().map(|patient| Entry {
        patient: patient.to_owned(),
        query: query.clone(),
        note: note.clone(),
        ..Entry::of(Act::Export)
    });
    each.collect()
}

async fn export(
    store: &Store,
    context: &Context,
    mut pairs: Vec<(String, String)>,
    format: Format,
    out: &mut dyn Write,
    many: &mut u64,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    pairs.extend(
        [("_sort", "_id"), ("_count", "1000")].map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let kinds = [ResourceType::AUDIT_EVENT];
    let (mut query, _) = SearchQuery::parse(&kinds, &pairs, "", context.at, Handling::Strict)
        .map_err(|issues| anyhow::anyhow!("{issues}"))?;
    if format == Format::Csv {
        out.write_all(HEADING.as_bytes())?;
    }
    loop {
        let page = store.search(context, &query).await?;
        for stored in &page.entries {
            *many += 1;
            match format {
                Format::Ndjson => writeln!(out, "{}", stored.body)?,
                Format::Csv => {
                    let event =
                        request::parse(stored.body.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
                    out.write_all(line(&event).as_bytes())?;
                }
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            out.flush()?;
            return Ok(());
        }
    }
}

async fn prove(store: &Store, context: &Context, id: &str, older: Option<PathBuf>) -> anyhow::Result<()> {
    let older = match older {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Some(witness::heads(&text).pop().context("there is no signed head in the file")?)
        }
        None => None,
    };
    let size = |head: &String| -> anyhow::Result<u64> {
        let size = head.lines().nth(1).and_then(|line| line.parse().ok());
        size.context("this is not a signed head")
    };
    let proved = store.prove_audit(context, id, older.as_ref().map(size).transpose()?).await;
    let proof = super::there(proved, || format!("there is no AuditEvent/{id} in the log, or not yet"))?;
    anyhow::ensure!(proof.holds(&store.audit_key(), older.as_deref()), "the log is not what was signed");
    // The proof holds what the event says: it is read.
    let trail = Trail::default();
    let reading = Context { trail: Some(trail.clone()), ..context.clone() };
    store.read(&reading, ResourceType::AUDIT_EVENT, id).await?;
    store.commit(context, Commit { notes: trail.take(), ..Commit::default() }).await?;
    let hashes = |path: &[[u8; 32]]| path.iter().map(|hash| STANDARD.encode(hash)).collect::<Vec<_>>();
    let mut whole = json!({
        "leaf": STANDARD.encode(&proof.leaf), "index": proof.index, "path": hashes(&proof.path),
        "head": proof.head, "key": store.audit_key(),
    });
    if let (Some(object), Some(older), Some(path)) = (whole.as_object_mut(), older, &proof.consistency) {
        object.insert("older".into(), json!(older));
        object.insert("consistency".into(), json!(hashes(path)));
    }
    writeln!(std::io::stdout(), "{whole}")?;
    Ok(())
}
