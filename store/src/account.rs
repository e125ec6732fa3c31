//! People who sign in here, and the browsers in which they have.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::Sql;
use crate::store::Store;

/// How long a wrong password is held against where it came from, and a browser or network is known.
const HELD: i64 = 86_400_000_000;
const KNOWN: i64 = 400 * HELD;

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
    /// Wrong passwords in a row, from wherever nobody has signed in before.
    pub failed: i64,
    /// Until when no password from there is looked at, microseconds since 1970 UTC.
    pub locked_until: i64,
    /// Somebody has locked it.
    pub locked: bool,
    /// Since when it is there.
    pub created: i64,
}

/// A browser or network that passwords of one account come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// A hash that only the server can make.
    pub hash: String,
    /// Somebody has signed in from there.
    pub known: bool,
    /// Wrong passwords in a row.
    pub failed: i64,
    /// Until when no password from there is looked at, microseconds since 1970 UTC.
    pub locked_until: i64,
}

/// A change to the accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// A new one; login and id must be unused.
    Add(Account),
    /// Another password. Whoever was signed in no longer is, and all that was allowed ends, for good.
    Password {
        /// Whose.
        id: String,
        /// argon2id hash.
        hash: String,
    },
    /// What is known of somebody, as an administrator or the provider they sign in with says. All that they allowed
    /// as another, or with another role, ends for good.
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
    /// Locked or unlocked by an administrator. Locking ends sessions and all that was allowed, for good;
    /// unlocking forgets failures.
    Lock {
        /// Which.
        id: String,
        /// Locked?
        locked: bool,
    },
    /// A wrong password.
    Failed {
        /// Whose.
        id: String,
        /// Hash of where it came from.
        source: String,
        /// When the next from there is looked at, microseconds since 1970 UTC.
        until: i64,
        /// When the next from anywhere unknown is; none if it came from where somebody signed in before.
        elsewhere: Option<i64>,
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
        /// Hashes of where they are, which is known from now on.
        sources: Vec<String>,
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
            crate::tokens::end_all(link, at, id)?;
            sign_out_everywhere(link, id)
        }
        AccountChange::Describe { id, name, role, fhir_user } => {
            let before = accounts(link, "id", Some(id))?.pop().ok_or(Error::NotFound)?;
            if (&before.role, &before.fhir_user) != (role, fhir_user) {
                crate::tokens::end_all(link, at, id)?;
            }
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
            if *locked {
                crate::tokens::end_all(link, at, id)?;
                return sign_out_everywhere(link, id);
            }
            let mut sql = Sql::new(
                link.dialect,
                "UPDATE sign_in_source SET failed = 0, locked_until = 0 WHERE account = ",
            );
            sql.text(id.as_str());
            sql.run(&mut link.connection)?;
            Ok(())
        }
        AccountChange::Failed { id, source, until, elsewhere } => {
            held(link, id, source, *until, at + HELD)?;
            let Some(until) = elsewhere else { return Ok(()) };
            let mut sql = Sql::new(
                link.dialect,
                "UPDATE account SET failed = failed + 1, locked_until = CASE WHEN locked_until > ",
            );
            sql.int(*until).push(" THEN locked_until ELSE ").int(*until).push(" END WHERE id = ");
            sql.text(id.as_str());
            there(sql.run(&mut link.connection)?)
        }
        AccountChange::SignIn { id, session, expires, step, sources } => {
            let mut sql = Sql::new(link.dialect, "UPDATE account SET failed = 0, locked_until = 0");
            if let Some(step) = step {
                sql.push(", totp_step = ").int(*step);
            }
            // Or a session would outlive the lock that came while the password was looked at.
            sql.push(" WHERE id = ").text(id.as_str()).push(" AND locked = ").bool(false);
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
            sources.iter().try_for_each(|source| met(link, id, source, at + KNOWN))
        }
        AccountChange::SignOut { session } => {
            let mut sql = Sql::new(link.dialect, "DELETE FROM browser_session WHERE hash = ");
            sql.text(session.as_str());
            sql.run(&mut link.connection)?;
            Ok(())
        }
    }
}

/// A wrong password from there.
fn held(link: &mut Link, id: &str, source: &str, until: i64, expires: i64) -> Result<(), Fault> {
    let mut sql = from(link, id, source, false);
    sql.push(",1,").int(until).push(",").int(expires).push(
        ") ON CONFLICT (account, source) DO UPDATE SET failed = sign_in_source.failed + 1, \
         locked_until = CASE WHEN sign_in_source.locked_until > excluded.locked_until \
         THEN sign_in_source.locked_until ELSE excluded.locked_until END, expires = CASE WHEN sign_in_source.known \
         THEN sign_in_source.expires ELSE excluded.expires END",
    );
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Somebody has signed in from there.
fn met(link: &mut Link, id: &str, source: &str, expires: i64) -> Result<(), Fault> {
    let mut sql = from(link, id, source, true);
    sql.push(",0,0,").int(expires).push(
        ") ON CONFLICT (account, source) DO UPDATE SET known = excluded.known, failed = 0, \
         locked_until = 0, expires = excluded.expires",
    );
    sql.run(&mut link.connection)?;
    Ok(())
}

fn from<'s>(link: &Link, id: &'s str, source: &'s str, known: bool) -> Sql<'s> {
    let columns = "account, source, known, failed, locked_until, expires";
    let mut sql = Sql::new(link.dialect, &format!("INSERT INTO sign_in_source ({columns}) VALUES ("));
    sql.text(id).push(",").text(source).push(",").bool(known);
    sql
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

/// Ends all sessions; where they were is not known any more.
fn sign_out_everywhere(link: &mut Link, id: &str) -> Result<(), Fault> {
    for table in ["browser_session", "sign_in_source"] {
        let mut sql = Sql::new(link.dialect, "DELETE FROM ");
        sql.push(table).push(" WHERE account = ").text(id);
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

type SourceRow = (String, bool, i64, i64);
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

/// Is it there, not locked by somebody, and of that role still?
pub(crate) fn may_act(link: &mut Link, id: &str, role: Option<&str>) -> Result<bool, Fault> {
    let may = |account: Account| !account.locked && role.is_none_or(|role| role == account.role);
    Ok(accounts(link, "id", Some(id))?.pop().is_some_and(may))
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

    /// What is known of these sources of an account's passwords.
    pub async fn sources(
        &self,
        context: &Context,
        account: &str,
        hashes: &[String],
    ) -> Result<Vec<Source>, Error> {
        let (account, hashes, at) = (account.to_owned(), hashes.to_vec(), context.at);
        let read = move |link: &mut Link| -> Result<Vec<Source>, Fault> {
            let mut sql = Sql::new(
                link.dialect,
                "SELECT source, known, failed, locked_until FROM sign_in_source WHERE account = ",
            );
            sql.text(account.as_str()).push(" AND expires > ").int(at).push(" AND source IN ");
            sql.texts(hashes.iter().map(String::as_str));
            let rows = sql.rows::<(Text, Bool, BigInt, BigInt), SourceRow>(&mut link.connection)?;
            let source = |(hash, known, failed, locked_until)| Source { hash, known, failed, locked_until };
            Ok(rows.into_iter().map(source).collect())
        };
        self.pool.run(read).await
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
