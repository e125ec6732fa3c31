//! One statement for both databases: text with places for values, and the values.
//!
//! The text is built once with the placeholders of its dialect; values never become text.
//! Both connections keep a prepared statement per text, so there must be few different texts:
//! lists are bound in lengths from a short ladder ([`chunk`]).

use std::borrow::Cow;
use std::marker::PhantomData;

use diesel::connection::Connection as _;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::connection::{Database, MultiBackend};

/// Which way placeholders are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone)]
enum Value<'a> {
    Int(i64),
    Bool(bool),
    Text(Cow<'a, str>),
}

/// A statement being written.
#[derive(Debug, Clone)]
pub(crate) struct Sql<'a> {
    dialect: Dialect,
    text: String,
    values: Vec<Value<'a>>,
}

impl<'a> Sql<'a> {
    pub(crate) fn new(dialect: Dialect, text: &str) -> Self {
        let mut sql = Self { dialect, text: String::with_capacity(256), values: Vec::with_capacity(8) };
        sql.text.push_str(text);
        sql
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Writes ` AND …` that ends a search whose time is over: looked at for each row of the table that
    /// the column is of.
    pub(crate) fn in_time(&mut self, column: &str) -> &mut Self {
        match self.dialect {
            Dialect::Sqlite => self.push(" AND in_time(").push(column).push(")"),
            Dialect::Postgres => self,
        }
    }

    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        self.place(Value::Int(value))
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.place(Value::Bool(value))
    }

    pub(crate) fn text(&mut self, value: impl Into<Cow<'a, str>>) -> &mut Self {
        self.place(Value::Text(value.into()))
    }

    /// A text, or `NULL`.
    pub(crate) fn perhaps(&mut self, value: Option<&'a str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.push("NULL"),
        }
    }

    /// `(?, ?, …)` of whole numbers; of none `(NULL)`, which nothing is in: PostgreSQL knows no `()`.
    pub(crate) fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> &mut Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return self.push("(NULL)");
        }
        self.text.push('(');
        for (n, value) in values.enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            self.int(value);
        }
        self.text.push(')');
        self
    }

    /// `(?, ?, …)` of texts.
    pub(crate) fn texts<T: Into<Cow<'a, str>>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        self.text.push('(');
        for (n, value) in values.into_iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            self.text(value);
        }
        self.text.push(')');
        self
    }

    /// ` LIMIT …`. Cast, because SQLite prepares a statement anew whenever a bare limit is bound.
    pub(crate) fn limit(&mut self, most: usize) -> &mut Self {
        self.push(" LIMIT CAST(").int(i64::try_from(most).unwrap_or(i64::MAX)).push(" AS BIGINT)")
    }

    fn place(&mut self, value: Value<'a>) -> &mut Self {
        self.values.push(value);
        match self.dialect {
            Dialect::Sqlite => self.text.push('?'),
            Dialect::Postgres => {
                self.text.push('$');
                self.text.push_str(&self.values.len().to_string());
            }
        }
        self
    }

    /// Runs it; how many rows were touched.
    pub(crate) fn run(&self, connection: &mut Database) -> QueryResult<usize> {
        connection.execute_returning_count(&Statement::<()> { sql: self, rows: PhantomData })
    }

    /// Runs it; its rows, as the SQL types `ST`.
    pub(crate) fn rows<ST, U>(&self, connection: &mut Database) -> QueryResult<Vec<U>>
    where
        for<'q> Statement<'q, ST>: LoadQuery<'q, Database, U>,
    {
        Statement::<ST> { sql: self, rows: PhantomData }.load(connection)
    }
}

/// A finished statement whose rows are of the SQL types `ST`.
pub(crate) struct Statement<'q, ST> {
    sql: &'q Sql<'q>,
    rows: PhantomData<ST>,
}

impl<ST> QueryFragment<MultiBackend> for Statement<'_, ST> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        pass.push_sql(&self.sql.text);
        for value in &self.sql.values {
            match value {
                Value::Int(value) => pass.push_bind_param_value_only::<BigInt, _>(value)?,
                Value::Bool(value) => pass.push_bind_param_value_only::<Bool, _>(value)?,
                Value::Text(value) => pass.push_bind_param_value_only::<Text, str>(value)?,
            }
        }
        Ok(())
    }
}

/// The text is the identity: the statement cache compares it.
impl<ST> QueryId for Statement<'_, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> Query for Statement<'_, ST> {
    type SqlType = ST;
}

impl<ST> RunQueryDsl<Database> for Statement<'_, ST> {}

/// A text that was read as `Binary`, so that one which is no text of the database's, as SQLite takes any, is
/// another text and no failure.
pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// How many of `left` rows to put into the next statement, so that few lengths occur.
pub(crate) fn chunk(left: usize) -> usize {
    match left {
        0..=16 => left,
        17..=31 => 16,
        32..=63 => 32,
        64..=127 => 64,
        128..=255 => 128,
        _ => 256,
    }
}

/// Cuts rows into lengths from the ladder.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let (head, tail) = rows.split_at_checked(chunk(rows.len()))?;
        rows = tail;
        (!head.is_empty()).then_some(head)
    })
}
