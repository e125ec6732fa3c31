//! `augury user …`: people who sign in here to allow apps something.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use store::{Account, AccountChange, Act, Commit, Context, Entry, Store};

use crate::app;
use crate::config::Config;
use crate::smart::name;
use crate::smart::password::{SHORTEST, base32, generated, hash};
use crate::smart::role::Role;
use crate::smart::secret::{Secret, random};
use crate::smart::sign_in::is_user;

const TAKEN: &str = "there is an account with that login already";

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Add somebody. The password is read from standard input if that is no terminal; else one is made
    /// and printed once.
    Add {
        /// What is typed to sign in.
        login: String,
        /// What they may be allowed: clinician, integration, compliance, data-scientist, operator, admin
        /// or patient.
        #[arg(long)]
        role: String,
        /// Who they are in FHIR: Practitioner/ID, PractitionerRole/ID, Patient/ID, RelatedPerson/ID or Person/ID.
        #[arg(long, value_name = "REFERENCE")]
        fhir_user: Option<String>,
        /// Their name for people; else the login.
        #[arg(long)]
        name: Option<String>,
    },
    /// All accounts, each with what it is called in the trail (`AuditEvent?agent:identifier=…`).
    List,
    /// Nobody can sign in with it any more, and what was allowed with it is worthless for good.
    Lock {
        /// Whose.
        login: String,
    },
    /// Let its owner sign in again, and forget wrong passwords.
    Unlock {
        /// Whose.
        login: String,
    },
    /// Another role. What was allowed with the one before is worthless for good, within a second: each app asks
    /// anew.
    Role {
        /// Whose.
        login: String,
        /// As with `add`.
        role: String,
    },
    /// Another password, read or made like that of `add`. Sessions end, and what was allowed is worthless for good,
    /// within a second.
    Password {
        /// Whose.
        login: String,
    },
    /// A second factor: prints an address for an authenticator app, once.
    Totp {
        /// Whose.
        login: String,
        /// Ask for none any more.
        #[arg(long)]
        off: bool,
    },
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let store = app::open_store(config).await?;
        let context = super::context();
        let mut out = std::io::stdout();
        let ended = match &action {
            Action::Role { .. } => "what was allowed with another role has ended",
            Action::Password { .. } => "sessions, and what was allowed, have ended",
            _ => "",
        };
        let (change, id, note) = match action {
            Action::List => {
                for one in store.accounts(&context).await? {
                    let state = if one.locked { "locked" } else { "active" };
                    let user = one.fhir_user.unwrap_or_default();
                    let Account { id, login, role, name, .. } = one;
                    writeln!(out, "{login}  {id}  {state:6}  {role}  {name}  {user}")?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            Action::Add { login, role, fhir_user, name } => {
                known_role(&role)?;
                ensure!(
                    role != "patient" || is_patient(fhir_user.as_deref()),
                    "a patient needs --fhir-user Patient/ID"
                );
                for (what, text) in [("the login", Some(&login)), ("--name", name.as_ref())] {
                    if let Some(fault) = text.and_then(|text| name::fault(text)) {
                        bail!("{what} {fault}");
                    }
                }
                ensure!(fhir_user.as_deref().is_none_or(is_user), "--fhir-user must be like Practitioner/1");
                // Else a password would be shown that is nobody's.
                match store.account(&context, &login).await {
                    Err(store::Error::NotFound) => {}
                    Ok(_) => bail!(TAKEN),
                    Err(error) => return Err(error.into()),
                }
                let password = hash(&password(&mut out)?)?;
                let name = name.unwrap_or_else(|| login.clone());
                let id = uuid::Uuid::new_v4().to_string();
                let note = format!("account {id} added with the role {role}");
                let account = Account {
                    id: id.clone(),
                    login,
                    name,
                    role,
                    fhir_user,
                    password,
                    totp: None,
                    totp_step: 0,
                    failed: 0,
                    locked_until: 0,
                    locked: false,
                    created: context.at,
                };
                (AccountChange::Add(account), id, note)
            }
            Action::Role { login, role } => {
                known_role(&role)?;
                let known = account(&store, &context, &login).await?;
                ensure!(
                    role != "patient" || is_patient(known.fhir_user.as_deref()),
                    "a patient needs --fhir-user Patient/ID"
                );
                let Account { id, name, fhir_user, role: before, .. } = known;
                let note = format!("the role of account {id} was {before}, is {role}");
                (AccountChange::Describe { id: id.clone(), name, role, fhir_user }, id, note)
            }
            Action::Lock { login } => {
                let id = account(&store, &context, &login).await?.id;
                let note = format!("account {id} locked");
                (AccountChange::Lock { id: id.clone(), locked: true }, id, note)
            }
            Action::Unlock { login } => {
                let id = account(&store, &context, &login).await?.id;
                let note = format!("account {id} unlocked");
                (AccountChange::Lock { id: id.clone(), locked: false }, id, note)
            }
            Action::Password { login } => {
                let id = account(&store, &context, &login).await?.id;
                let change = AccountChange::Password { id: id.clone(), hash: hash(&password(&mut out)?)? };
                let note = format!("account {id} has another password");
                (change, id, note)
            }
            Action::Totp { login, off } => {
                let id = account(&store, &context, &login).await?.id;
                let secret = if off { None } else { Some(second_factor(config, &login, &mut out)?) };
                let what = if off { "no second factor" } else { "another second factor" };
                let note = format!("account {id} has {what}");
                (AccountChange::Totp { id: id.clone(), secret }, id, note)
            }
        };
        let notes = vec![Entry { account: id, note, ..Entry::of(Act::Security) }];
        match store.commit(&context, Commit { accounts: vec![change], notes, ..Commit::default() }).await {
            Err(store::Error::Conflict { .. }) => {
                bail!(TAKEN)
            }
            done => drop(done?),
        }
        if !ended.is_empty() {
            writeln!(out, "{ended}")?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn account(store: &Store, context: &Context, login: &str) -> anyhow::Result<Account> {
    let not_there = || format!("there is no account with the login {login}; `augury user list` shows all");
    super::there(store.account(context, login).await, not_there)
}

fn known_role(role: &str) -> anyhow::Result<()> {
    let known = Role::names().collect::<Vec<_>>().join(", ");
    ensure!(Role::parse(role).is_some(), "the role must be one of {known}");
    Ok(())
}

fn is_patient(reference: Option<&str>) -> bool {
    reference.is_some_and(|reference| is_user(reference) && reference.starts_with("Patient/"))
}

fn password(out: &mut impl Write) -> anyhow::Result<String> {
    let mut input = std::io::stdin();
    let mut given = String::new();
    if !input.is_terminal() {
        input.read_to_string(&mut given).context("standard input")?;
    }
    let given = given.trim_end_matches(['\r', '\n']);
    if given.is_empty() {
        let made = generated()?;
        writeln!(out, "password  {made}\nIt can't be shown again.")?;
        return Ok(made);
    }
    ensure!(given.chars().count() >= SHORTEST, "a password has at least {SHORTEST} characters");
    Ok(given.to_owned())
}

/// A new secret, printed for an app and sealed for the store (RFC 6238).
fn second_factor(config: &Config, login: &str, out: &mut impl Write) -> anyhow::Result<String> {
    let random = URL_SAFE_NO_PAD.decode(random()?)?;
    let secret = random.get(..20).context("too few random bytes")?;
    let label = percent_encoding::utf8_percent_encode(login, percent_encoding::NON_ALPHANUMERIC);
    writeln!(out, "otpauth://totp/Augury:{label}?secret={}&issuer=Augury", base32(secret))?;
    Secret::load(config)?.seal("totp", secret).context("nothing can be sealed")
}
