//! People who sign in here, and the browsers in which they have.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::Sql;
use crate::store::Store;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Never changes (`sub`).
    pub id: String,
    /// What is typed to sign in.
    pub login: String,
    /// For people.
    pub name: String,
    /// What it may be allowed.
    pub role: String,
    /// The person in FHIR, relative (`Practitioner/1`).
    pub fhir_user: Option<String>,
    /// argon2id hash of the password; empty where another provider says who somebody is.
    pub password: String,
    /// The secret of a second factor, sealed by whoever made it.
    pub totp: Option<String>,
    /// The last time step that a code was accepted for: each is good once.
    pub totp_step: i64,
    /// Wrong passwords in a row.
    pub failed: i64,
    /// Until when no password is looked at, microseconds since 1970 UTC.
    pub locked_until: i64,
    /// Somebody has locked it.
    pub locked: bool,
    /// Since when it is there.
    pub created: i64,
}

/// A change to the accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// A new one; login and id must be unused.
    Add(Account),
    /// Another password. Whoever was signed in no longer is.
    Password {
        /// Whose.
        id: String,
        /// argon2id hash.
        hash: String,
    },
    /// What another provider says of somebody who signs in with it.
    Describe {
        /// Whose.
        id: String,
        /// For people.
        name: String,
        /// What it may be allowed.
        role: String,
        /// The person in FHIR, relative.
        fhir_user: Option<String>,
    },
    /// A second factor, or none any more.
    Totp {
        /// Whose.
        id: String,
        /// Sealed.
        secret: Option<String>,
    },
    /// Locked or unlocked by an administrator. Locking ends sessions; unlocking forgets failures.
    Lock {
        /// Which.
        id: String,
        /// Locked?
        locked: bool,
    },
    /// A wrong password; the next is looked at after that time.
    Failed {
        /// Whose.
        id: String,
        /// Microseconds since 1970 UTC.
        until: i64,
    },
    /// Somebody has signed in.
    SignIn {
        /// Who.
        id: String,
        /// Hash of the browser's cookie.
        session: String,
        /// Until when.
        expires: i64,
        /// The time step of the second factor: a conflict if it was used before.
        step: Option<i64>,
    },
    /// Somebody has signed out.
    SignOut {
        /// Hash of the browser's cookie.
        session: String,
    },
}

pub(crate) fn apply(link: &mut Link, at: i64, changes: &[AccountChange]) -> Result<(), Fault> {
    changes.iter().try_for_each(|change| one(link, at, change))
}

fn one(link: &mut Link, at: i64, change: &AccountChange) -> Result<(), Fault> {
    match change {
        AccountChange::Add(account) => add(link, account),
        AccountChange::Password { id, hash } => {
            let mut sql =
                Sql::new(link.dialect, "UPDATE account SET failed = 0, locked_until = 0, password = ");
            sql.text(hash.as_str()).push(" WHERE id = ").text(id.as_str());
            there(sql.run(&mut link.connection)?)?;
            sign_out_everywhere(link, id)
        }
        AccountChange::Describe { id, name, role, fhir_user } => {
            let mut sql = Sql::new(link.dialect, "UPDATE account SET name = ");
            sql.text(name.as_str()).push(", role = ").text(role.as_str()).push(", fhir_user = ");
            sql.perhaps(fhir_user.as_deref()).push(" WHERE id = ").text(id.as_str());
            there(sql.run(&mut link.connection)?)
        }
        AccountChange::Totp { id, secret } => {
            let mut sql = Sql::new(link.dialect, "UPDATE account SET totp_step = 0, totp = ");
            sql.perhaps(secret.as_deref()).push(" WHERE id = ").text(id.as_str());
            there(sql.run(&mut link.connection)?)
        }
        AccountChange::Lock { id, locked } => {
            let mut sql =
                Sql::new(link.dialect, "UPDATE account SET failed = 0, locked_until = 0, locked = ");
            sql.bool(*locked).push(" WHERE id = ").text(id.as_str());
            there(sql.run(&mut link.connection)?)?;
            if *locked { sign_out_everywhere(link, id) } else { Ok(()) }
        }
        AccountChange::Failed { id, until } => {
            let mut sql = Sql::new(link.dialect, "UPDATE account SET failed = failed + 1, locked_until = ");
            sql.int(*until).push(" WHERE id = ").text(id.as_str());
            there(sql.run(&mut link.connection)?)
        }
        AccountChange::SignIn { id, session, expires, step } => {
            let mut sql = Sql::new(link.dialect, "UPDATE account SET failed = 0, locked_until = 0");
            if let Some(step) = step {
                sql.push(", totp_step = ").int(*step);
            }
            sql.push(" WHERE id = ").text(id.as_str());
            if let Some(step) = step {
                sql.push(" AND totp_step < ").int(*step);
            }
            if sql.run(&mut link.connection)? == 0 {
                return Err(Error::Conflict { current: 0 }.into());
            }
            let mut sql = Sql::new(
                link.dialect,
                "INSERT INTO browser_session (hash, account, began, expires) VALUES (",
            );
            sql.text(session.as_str()).push(",").text(id.as_str()).push(",").int(at).push(",");
            sql.int(*expires).push(")");
            sql.run(&mut link.connection)?;
            Ok(())
        }
        AccountChange::SignOut { session } => {
            let mut sql = Sql::new(link.dialect, "DELETE FROM browser_session WHERE hash = ");
            sql.text(session.as_str());
            sql.run(&mut link.connection)?;
            Ok(())
        }
    }
}

fn add(link: &mut Link, account: &Account) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT id FROM account WHERE login = ");
    sql.text(account.login.as_str());
    if !sql.rows::<Text, String>(&mut link.connection)?.is_empty() {
        return Err(Error::Conflict { current: 0 }.into());
    }
    let mut sql = Sql::new(
        link.dialect,
        "INSERT INTO account (id, login, name, role, fhir_user, password, totp, totp_step, failed, locked_until, locked, created) VALUES (",
    );
    sql.text(account.id.as_str()).push(",").text(account.login.as_str()).push(",");
    sql.text(account.name.as_str()).push(",").text(account.role.as_str()).push(",");
    sql.perhaps(account.fhir_user.as_deref()).push(",").text(account.password.as_str()).push(",");
    sql.perhaps(account.totp.as_deref()).push(",").int(account.totp_step).push(",");
    sql.int(account.failed).push(",").int(account.locked_until).push(",").bool(account.locked);
    sql.push(",").int(account.created).push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}

fn there(touched: usize) -> Result<(), Fault> {
    if touched == 0 { Err(Error::NotFound.into()) } else { Ok(()) }
}

fn sign_out_everywhere(link: &mut Link, id: &str) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "DELETE FROM browser_session WHERE account = ");
    sql.text(id);
    sql.run(&mut link.connection)?;
    Ok(())
}

type First = (String, String, String, String, Option<String>, String);
type Second = (Option<String>, i64, i64, i64, bool, i64);

type Types =
    ((Text, Text, Text, Text, Nullable<Text>, Text), (Nullable<Text>, BigInt, BigInt, BigInt, Bool, BigInt));

fn accounts(link: &mut Link, column: &str, value: Option<&str>) -> Result<Vec<Account>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT id, login, name, role, fhir_user, password, totp, totp_step, failed, locked_until, locked, created FROM account",
    );
    if let Some(value) = value {
        sql.push(" WHERE ").push(column).push(" = ").text(value.to_owned());
    }
    sql.push(" ORDER BY login");
    let rows: Vec<(First, Second)> = sql.rows::<Types, (First, Second)>(&mut link.connection)?;
    let account = |((id, login, name, role, fhir_user, password), rest): (First, Second)| {
        let (totp, totp_step, failed, locked_until, locked, created) = rest;
        Account {
            id,
            login,
            name,
            role,
            fhir_user,
            password,
            totp,
            totp_step,
            failed,
            locked_until,
            locked,
            created,
        }
    };
    Ok(rows.into_iter().map(account).collect())
}

/// Is it there, and not locked by somebody?
pub(crate) fn may_act(link: &mut Link, id: &str) -> Result<bool, Fault> {
    Ok(accounts(link, "id", Some(id))?.pop().is_some_and(|account| !account.locked))
}

/// Whose session it is, and since when, if it has not ended.
pub(crate) fn session(link: &mut Link, hash: &str, at: i64) -> Result<Option<(String, i64)>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT account, began FROM browser_session WHERE hash = ");
    sql.text(hash.to_owned()).push(" AND expires > ").int(at);
    Ok(sql.rows::<(Text, BigInt), (String, i64)>(&mut link.connection)?.pop())
}

impl Store {
    /// All accounts by login.
    pub async fn accounts(&self, _: &Context) -> Result<Vec<Account>, Error> {
        self.pool.run(|link| accounts(link, "id", None)).await
    }

    /// The account with that login, locked or not.
    pub async fn account(&self, _: &Context, login: &str) -> Result<Account, Error> {
        let login = login.to_owned();
        let found = self.pool.run(move |link| accounts(link, "login", Some(&login))).await?.pop();
        found.ok_or(Error::NotFound)
    }

    /// Who is signed in with that cookie, and since when; `NotFound` if nobody is, or they are locked.
    pub async fn signed_in(&self, context: &Context, hash: &str) -> Result<(Account, i64), Error> {
        let (hash, at) = (hash.to_owned(), context.at);
        let read = move |link: &mut Link| -> Result<(Account, i64), Fault> {
            let (id, began) = session(link, &hash, at)?.ok_or(Error::NotFound)?;
            let account = accounts(link, "id", Some(&id))?.pop().filter(|account| !account.locked);
            Ok((account.ok_or(Error::NotFound)?, began))
        };
        self.pool.run(read).await
    }
}
