//! `augury client …`: API keys. A key is shown once and kept only as a digest.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use store::{ClientChange, Commit, Context};
use uuid::Uuid;

use crate::app;
use crate::config::Config;
use crate::http::caller::key_hash;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Register a caller; prints its key, once.
    Add {
        /// For people to recognise it by.
        name: String,
    },
    /// All registered callers.
    List,
    /// Make a caller's key worthless.
    Revoke {
        /// The caller's id, as `list` shows it.
        id: String,
    },
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let store = app::open_store(config)?;
        let context = Context::system("command line", app::now());
        let mut out = std::io::stdout();
        let change = match action {
            Action::List => {
                for client in store.clients(&context).await? {
                    let state = if client.revoked.is_some() { "revoked" } else { "active" };
                    writeln!(out, "{}  {state:8}  {}", client.id, client.name)?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            Action::Add { name } => {
                anyhow::ensure!(!name.trim().is_empty(), "a caller needs a name");
                // Two random UUIDs: 244 bits from the system's generator.
                let key = format!("augury_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
                let id = Uuid::now_v7().to_string();
                writeln!(out, "id   {id}\nkey  {key}\nKeep the key; it can't be shown again.")?;
                ClientChange::Add { id, name, key_hash: key_hash(&key) }
            }
            Action::Revoke { id } => ClientChange::Revoke { id },
        };
        store.commit(&context, Commit { clients: vec![change], ..Commit::default() }).await?;
        Ok(ExitCode::SUCCESS)
    })
}
