//! What the authorization server remembers, in its tables: one guarded statement for what may happen
//! once, one read for what must hold together.

use diesel::sql_types::{BigInt, Nullable, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::authorization::{
    AccessToken, AuthorizationChange as Change, Code, Launch, RefreshToken, SigningKey, SmartClient,
    SmartGrant, Status,
};
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::Sql;
use crate::store::Store;

const DAY: i64 = 86_400_000_000;
/// How long a client waits for somebody to look at it.
const PENDING: i64 = 30 * DAY;

pub(crate) fn apply(link: &mut Link, at: i64, changes: &[Change]) -> Result<(), Fault> {
    changes.iter().try_for_each(|change| one(link, at, change))
}

fn one(link: &mut Link, at: i64, change: &Change) -> Result<(), Fault> {
    let begin = |text| Sql::new(link.dialect, text);
    match change {
        Change::Register(client) => {
            let mut sql = begin("INSERT INTO smart_client (id, status, created, body) VALUES (");
            sql.text(client.id.as_str()).push(",").int(client.status.number()).push(",").int(client.created);
            sql.push(",").text(json(&client.registration)?).push(")");
            first(link, "smart_client", "id", &client.id)?;
            sql.run(&mut link.connection)?;
        }
        Change::Decide { id, status } => {
            let mut sql = begin("UPDATE smart_client SET status = ");
            sql.int(status.number()).push(" WHERE id = ").text(id.as_str());
            if sql.run(&mut link.connection)? == 0 {
                return Err(Error::NotFound.into());
            }
        }
        Change::Launch(launch) => {
            let mut sql = begin("INSERT INTO launch (hash, client, expires, body) VALUES (");
            sql.text(launch.hash.as_str()).push(",").text(launch.client.as_str()).push(",");
            sql.int(launch.expires).push(",").text(json(&launch.context)?).push(")");
            sql.run(&mut link.connection)?;
        }
        Change::UseLaunch { hash } => once(link, "launch SET used", "used", at, hash)?,
        Change::Redeem { hash } => once(link, "authorization_code SET redeemed", "redeemed", at, hash)?,
        Change::Grant(grant) => {
            let mut sql =
                begin("INSERT INTO smart_grant (id, client, account, created, expires, body) VALUES (");
            sql.text(grant.id.as_str()).push(",").text(grant.client.as_str()).push(",");
            sql.perhaps(grant.account.as_deref()).push(",").int(grant.created).push(",");
            sql.int(grant.expires).push(",").text(json(&grant.granted)?).push(")");
            sql.run(&mut link.connection)?;
        }
        Change::Code(code) => {
            let mut sql = begin(
                "INSERT INTO authorization_code (hash, grant_id, expires, redirect_uri, challenge) VALUES (",
            );
            sql.text(code.hash.as_str()).push(",").text(code.grant.as_str()).push(",").int(code.expires);
            sql.push(",").text(code.redirect_uri.as_str()).push(",").text(code.challenge.as_str()).push(")");
            sql.run(&mut link.connection)?;
        }
        Change::Access(token) => {
            let mut sql = begin(
                "INSERT INTO access_token (hash, id, grant_id, scope, issued, expires, certificate) VALUES (",
            );
            sql.text(token.hash.as_str()).push(",").text(token.id.as_str()).push(",");
            sql.text(token.grant.as_str()).push(",").text(token.scope.as_str()).push(",");
            sql.int(token.issued).push(",").int(token.expires).push(",");
            sql.perhaps(token.certificate.as_deref()).push(")");
            sql.run(&mut link.connection)?;
        }
        Change::Refresh(token) => {
            let mut sql = begin(
                "INSERT INTO refresh_token (hash, grant_id, scope, session, issued, expires, certificate) VALUES (",
            );
            sql.text(token.hash.as_str()).push(",").text(token.grant.as_str()).push(",");
            sql.text(token.scope.as_str()).push(",").perhaps(token.session.as_deref()).push(",");
            sql.int(token.issued).push(",").int(token.expires).push(",");
            sql.perhaps(token.certificate.as_deref()).push(")");
            let mut lasts = begin("UPDATE smart_grant SET expires = ");
            lasts.int(token.expires).push(" WHERE id = ").text(token.grant.as_str());
            lasts.push(" AND expires < ").int(token.expires);
            sql.run(&mut link.connection)?;
            lasts.run(&mut link.connection)?;
        }
        Change::Replace { hash, successor } => {
            let mut sql = begin("UPDATE refresh_token SET replaced = ");
            sql.int(at).push(", successor = ").text(successor.as_str()).push(" WHERE hash = ");
            sql.text(hash.as_str()).push(" AND replaced IS NULL AND expires > ").int(at);
            only(sql.run(&mut link.connection)?)?;
        }
        Change::Revoke { grant } => {
            let mut sql = begin("UPDATE smart_grant SET revoked = COALESCE(revoked, ");
            sql.int(at).push(") WHERE id = ").text(grant.as_str());
            sql.run(&mut link.connection)?;
        }
        Change::UseOnce { hash, expires } => {
            let mut sql = begin("INSERT INTO used_assertion (hash, expires) VALUES (");
            sql.text(hash.as_str()).push(",").int(*expires).push(")");
            first(link, "used_assertion", "hash", hash)?;
            sql.run(&mut link.connection)?;
        }
        Change::Key(key) => {
            let mut sql = begin("INSERT INTO signing_key (id, algorithm, created, jwk, sealed) VALUES (");
            sql.text(key.id.as_str()).push(",").text(key.algorithm.as_str()).push(",").int(key.created);
            sql.push(",").text(key.jwk.as_str()).push(",").text(key.sealed.as_str()).push(")");
            sql.run(&mut link.connection)?;
        }
        Change::Sweep => sweep(link, at - DAY)?,
    }
    Ok(())
}

/// Marks what may be used once.
fn once(link: &mut Link, what: &str, mark: &str, at: i64, hash: &str) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "UPDATE ");
    sql.push(what).push(" = ").int(at).push(" WHERE hash = ").text(hash);
    sql.push(" AND ").push(mark).push(" IS NULL AND expires > ").int(at);
    only(sql.run(&mut link.connection)?)
}

fn only(touched: usize) -> Result<(), Fault> {
    if touched == 1 { Ok(()) } else { Err(Error::Conflict { current: 0 }.into()) }
}

/// Refuses what is there already. Two at once meet at the unique key, and the second, tried again, here.
fn first(link: &mut Link, table: &str, column: &str, key: &str) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT ");
    sql.push(column).push(" FROM ").push(table).push(" WHERE ").push(column).push(" = ").text(key);
    if sql.rows::<Text, String>(&mut link.connection)?.is_empty() {
        return Ok(());
    }
    Err(Error::Conflict { current: 0 }.into())
}

fn sweep(link: &mut Link, before: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "DELETE FROM smart_client WHERE status = ");
    sql.int(Status::Pending.number()).push(" AND created < ").int(before - PENDING);
    sql.run(&mut link.connection)?;
    let tables = [
        "authorization_code",
        "access_token",
        "refresh_token",
        "used_assertion",
        "launch",
        "browser_session",
        "sign_in_source",
        "smart_grant",
    ];
    for table in tables {
        let mut sql = Sql::new(link.dialect, "DELETE FROM ");
        sql.push(table).push(" WHERE expires < ").int(before);
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Error::internal(error).into())
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| Error::internal(error).into())
}

type ClientRow = (String, i64, i64, String);
type GrantRow = (String, String, Option<String>, i64, Option<i64>, i64, String);
type CodeRow = (String, String, i64, Option<i64>, String, String);
type AccessRow = (String, String, String, String, i64, i64, Option<String>);
type RefreshRow =
    (String, String, String, Option<String>, i64, i64, Option<i64>, Option<String>, Option<String>);
type KeyRow = (String, String, i64, String, String);
type LaunchRow = (String, String, i64, Option<i64>, String);

fn clients(link: &mut Link, id: Option<&str>) -> Result<Vec<SmartClient>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT id, status, created, body FROM smart_client");
    if let Some(id) = id {
        sql.push(" WHERE id = ").text(id.to_owned());
    }
    sql.push(" ORDER BY created, id");
    let rows: Vec<ClientRow> = sql.rows::<(Text, BigInt, BigInt, Text), ClientRow>(&mut link.connection)?;
    rows.into_iter()
        .map(|(id, status, created, body)| {
            Ok(SmartClient { id, status: Status::of(status), created, registration: parsed(&body)? })
        })
        .collect()
}

fn grants(link: &mut Link, column: &str, value: &str) -> Result<Vec<SmartGrant>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT id, client, account, created, revoked, expires, body FROM smart_grant WHERE ",
    );
    sql.push(column).push(" = ").text(value.to_owned()).push(" ORDER BY created DESC").limit(1000);
    let rows: Vec<GrantRow> = sql
        .rows::<(Text, Text, Nullable<Text>, BigInt, Nullable<BigInt>, BigInt, Text), GrantRow>(
            &mut link.connection,
        )?;
    rows.into_iter()
        .map(|(id, client, account, created, revoked, expires, body)| {
            Ok(SmartGrant { id, client, account, created, revoked, expires, granted: parsed(&body)? })
        })
        .collect()
}

/// Ends all that an account allowed.
pub(crate) fn end_all(link: &mut Link, at: i64, account: &str) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "UPDATE smart_grant SET revoked = ");
    sql.int(at).push(" WHERE revoked IS NULL AND account = ").text(account);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// The access token of that hash, ended or not.
fn issued(link: &mut Link, hash: &str) -> Result<Option<AccessToken>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT hash, id, grant_id, scope, issued, expires, certificate FROM access_token WHERE hash = ",
    );
    sql.text(hash);
    let mut rows: Vec<AccessRow> = sql
        .rows::<(Text, Text, Text, Text, BigInt, BigInt, Nullable<Text>), AccessRow>(&mut link.connection)?;
    let token = |(hash, id, grant, scope, issued, expires, certificate): AccessRow| AccessToken {
        hash,
        id,
        grant,
        scope,
        issued,
        expires,
        certificate,
    };
    Ok(rows.pop().map(token))
}

/// The grant with its client, if it holds: neither of them nor its account was ended.
fn living(link: &mut Link, id: &str) -> Result<(SmartGrant, SmartClient), Fault> {
    let grant = grants(link, "id", id)?.pop().filter(|grant| grant.revoked.is_none());
    let grant = grant.ok_or(Error::NotFound)?;
    let client = clients(link, Some(&grant.client))?.pop();
    let client = client.filter(|client| client.status == Status::Approved).ok_or(Error::NotFound)?;
    if let Some(account) = &grant.account
        && !crate::account::may_act(link, account, grant.granted.role.as_deref())?
    {
        return Err(Error::NotFound.into());
    }
    Ok((grant, client))
}

impl Store {
    /// The client of that id, whatever its status.
    pub async fn smart_client(&self, _: &Context, id: &str) -> Result<SmartClient, Error> {
        let id = id.to_owned();
        let found = self.pool.run(move |link| clients(link, Some(&id))).await?.pop();
        found.ok_or(Error::NotFound)
    }

    /// All clients, the oldest first.
    pub async fn smart_clients(&self, _: &Context) -> Result<Vec<SmartClient>, Error> {
        self.pool.run(|link| clients(link, None)).await
    }

    /// The launch of that hash, used or not.
    pub async fn launch(&self, _: &Context, hash: &str) -> Result<Launch, Error> {
        let hash = hash.to_owned();
        let read = move |link: &mut Link| -> Result<Launch, Fault> {
            let mut sql =
                Sql::new(link.dialect, "SELECT hash, client, expires, used, body FROM launch WHERE hash = ");
            sql.text(hash.as_str());
            let mut rows: Vec<LaunchRow> =
                sql.rows::<(Text, Text, BigInt, Nullable<BigInt>, Text), LaunchRow>(&mut link.connection)?;
            let (hash, client, expires, used, body) = rows.pop().ok_or(Error::NotFound)?;
            Ok(Launch { hash, client, expires, used, context: parsed(&body)? })
        };
        self.pool.run(read).await
    }

    /// The code of that hash, used or not.
    pub async fn code(&self, _: &Context, hash: &str) -> Result<Code, Error> {
        let hash = hash.to_owned();
        let read = move |link: &mut Link| -> Result<Code, Fault> {
            let mut sql = Sql::new(
                link.dialect,
                "SELECT hash, grant_id, expires, redeemed, redirect_uri, challenge FROM authorization_code WHERE hash = ",
            );
            sql.text(hash.as_str());
            let mut rows: Vec<CodeRow> = sql
                .rows::<(Text, Text, BigInt, Nullable<BigInt>, Text, Text), CodeRow>(&mut link.connection)?;
            let (hash, grant, expires, redeemed, redirect_uri, challenge) =
                rows.pop().ok_or(Error::NotFound)?;
            Ok(Code { hash, grant, expires, redeemed, redirect_uri, challenge })
        };
        self.pool.run(read).await
    }

    /// The access token of that hash with what it follows from and the client that has it; `NotFound` if
    /// one of them has ended.
    pub async fn access_token(
        &self,
        context: &Context,
        hash: &str,
    ) -> Result<(AccessToken, SmartGrant, SmartClient), Error> {
        let (hash, at) = (hash.to_owned(), context.at);
        let read = move |link: &mut Link| -> Result<(AccessToken, SmartGrant, SmartClient), Fault> {
            let token = issued(link, &hash)?.filter(|token| token.expires > at).ok_or(Error::NotFound)?;
            let (from, client) = living(link, &token.grant)?;
            Ok((token, from, client))
        };
        self.pool.run(read).await
    }

    /// The same of one that may have ended, but not so long ago that it was swept.
    pub async fn issued(
        &self,
        _: &Context,
        hash: &str,
    ) -> Result<(AccessToken, SmartGrant, SmartClient), Error> {
        let hash = hash.to_owned();
        let read = move |link: &mut Link| -> Result<(AccessToken, SmartGrant, SmartClient), Fault> {
            let token = issued(link, &hash)?.ok_or(Error::NotFound)?;
            let grant = grants(link, "id", &token.grant)?.pop().ok_or(Error::NotFound)?;
            let client = clients(link, Some(&grant.client))?.pop().ok_or(Error::NotFound)?;
            Ok((token, grant, client))
        };
        self.pool.run(read).await
    }

    /// The refresh token of that hash with what it follows from; `NotFound` if either has ended. It may
    /// have been replaced.
    pub async fn refresh_token(
        &self,
        context: &Context,
        hash: &str,
    ) -> Result<(RefreshToken, SmartGrant), Error> {
        let (hash, at) = (hash.to_owned(), context.at);
        let read = move |link: &mut Link| -> Result<(RefreshToken, SmartGrant), Fault> {
            let mut sql = Sql::new(
                link.dialect,
                "SELECT hash, grant_id, scope, session, issued, expires, replaced, successor, certificate FROM refresh_token WHERE hash = ",
            );
            sql.text(hash.as_str()).push(" AND expires > ").int(at);
            let mut rows: Vec<RefreshRow> = sql.rows::<(
                Text,
                Text,
                Text,
                Nullable<Text>,
                BigInt,
                BigInt,
                Nullable<BigInt>,
                Nullable<Text>,
                Nullable<Text>,
            ), RefreshRow>(&mut link.connection)?;
            let (hash, grant, scope, session, issued, expires, replaced, successor, certificate) =
                rows.pop().ok_or(Error::NotFound)?;
            let (from, _) = living(link, &grant)?;
            if let Some(session) = &session
                && crate::account::session(link, session, at)?.is_none()
            {
                return Err(Error::NotFound.into());
            }
            let token = RefreshToken {
                hash,
                grant,
                scope,
                session,
                issued,
                expires,
                certificate,
                replaced,
                successor,
            };
            Ok((token, from))
        };
        self.pool.run(read).await
    }

    /// What was granted; `NotFound` if it, its client or its account has ended.
    pub async fn grant(&self, _: &Context, id: &str) -> Result<SmartGrant, Error> {
        let id = id.to_owned();
        self.pool.run(move |link| Ok(living(link, &id)?.0)).await
    }

    /// What an account allowed and did not end, the newest first.
    pub async fn grants(&self, context: &Context, account: &str) -> Result<Vec<SmartGrant>, Error> {
        let (account, at) = (account.to_owned(), context.at);
        let mut found = self.pool.run(move |link| grants(link, "account", &account)).await?;
        found.retain(|grant| grant.revoked.is_none() && grant.expires > at);
        Ok(found)
    }

    /// All keys that this database knows, the oldest first.
    pub async fn signing_keys(&self, _: &Context) -> Result<Vec<SigningKey>, Error> {
        let read = |link: &mut Link| -> Result<Vec<SigningKey>, Fault> {
            let sql = Sql::new(
                link.dialect,
                "SELECT id, algorithm, created, jwk, sealed FROM signing_key ORDER BY created, id",
            );
            let rows: Vec<KeyRow> =
                sql.rows::<(Text, Text, BigInt, Text, Text), KeyRow>(&mut link.connection)?;
            let key =
                |(id, algorithm, created, jwk, sealed)| SigningKey { id, algorithm, created, jwk, sealed };
            Ok(rows.into_iter().map(key).collect())
        };
        self.pool.run(read).await
    }
}
