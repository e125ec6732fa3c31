//! How resources are found: index rows into their tables, and out again.
//!
//! A row points to one version's key. The next version has another key, so an old row can never
//! be mistaken for a new one; it is removed all the same.

use fhir::search::{Index, Quantity, Row, textual};

use crate::charts::ChartRow;
use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql, chunks};

/// The parameter of the rows in `index_exact` that stand for a parameter's texts.
pub(crate) fn read(param: i64) -> i64 {
    !param
}

/// Rows of many resources, by table.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    exact: Vec<[i64; 6]>,
    range: Vec<[i64; 5]>,
    text: Vec<(i64, &'a str, [i64; 2])>,
    number: Vec<[i64; 10]>,
}

impl<'a> Rows<'a> {
    /// The rows of the version with that key.
    pub(crate) fn add(&mut self, key: i64, index: &'a Index) {
        for row in &index.rows {
            match row {
                Row::Exact { param, value, system } => {
                    self.exact.push([index.patient, *param, *value, index.date, key, *system]);
                }
                Row::Range { param, low, high } => {
                    self.range.push([*param, *low, *high, key, index.patient]);
                }
                Row::Text { param, text } => {
                    let value = textual(text);
                    self.exact.push([index.patient, read(*param), value, index.date, key, 0]);
                    self.text.push((*param, text, [value, index.patient]));
                }
                Row::Number { param, quantity } => {
                    let Quantity { extent, code, label, system, unit, canonical } = *quantity;
                    let (low, high) = (extent.low, extent.high);
                    let base = [canonical.low, canonical.high];
                    self.number.push([key, *param, low, high, code, label, system, unit, base[0], base[1]]);
                }
            }
        }
    }

    /// Sorted, each once: as the tables want them, and in the order of their pages.
    fn settle(&mut self) {
        self.exact.sort_unstable();
        self.exact.dedup();
        self.range.sort_unstable();
        self.range.dedup_by_key(|&mut [param, low, high, key, _]| [param, low, high, key]);
        self.text.sort_unstable();
        self.text.dedup();
        self.number.sort_unstable();
        self.number.dedup();
    }

    pub(crate) fn insert(mut self, link: &mut Link) -> Result<(), Fault> {
        self.settle();
        for rows in chunks(&self.exact) {
            let mut sql = Sql::new(
                link.dialect,
                "INSERT INTO index_exact (patient, param, value, date, key, system) VALUES ",
            );
            tuples(&mut sql, rows);
            sql.run(&mut link.connection)?;
        }
        let mut charts: Vec<ChartRow> =
            self.exact.iter().map(|&[patient, param, value, ..]| [param, value, patient]).collect();
        charts.sort_unstable();
        charts.dedup();
        link.charts.leave_unknown(&mut charts);
        // A text was written when its first chart was.
        self.text.retain(|(param, _, [value, patient])| {
            charts.binary_search(&[read(*param), *value, *patient]).is_ok()
        });
        self.text.dedup_by_key(|(param, text, _)| (*param, *text));
        for rows in chunks(&self.text) {
            let mut sql = Sql::new(link.dialect, "INSERT INTO index_text (param, text, value) VALUES ");
            for (n, (param, text, [value, _])) in rows.iter().enumerate() {
                sql.push(if n > 0 { ",(" } else { "(" }).int(*param).push(",").text(*text);
                sql.push(",").int(*value).push(")");
            }
            sql.push(" ON CONFLICT DO NOTHING");
            sql.run(&mut link.connection)?;
        }
        for rows in chunks(&charts) {
            let mut sql = Sql::new(link.dialect, "INSERT INTO index_chart (param, value, patient) VALUES ");
            tuples(&mut sql, rows);
            sql.push(" ON CONFLICT DO NOTHING");
            sql.run(&mut link.connection)?;
        }
        link.brought.append(&mut charts);
        for rows in chunks(&self.range) {
            let mut sql =
                Sql::new(link.dialect, "INSERT INTO index_range (param, low, high, key, patient) VALUES ");
            tuples(&mut sql, rows);
            sql.run(&mut link.connection)?;
        }
        for rows in chunks(&self.number) {
            let mut sql = Sql::new(
                link.dialect,
                "INSERT INTO index_number (key, param, low, high, code, label, system, unit, base_low, base_high) \
                 VALUES ",
            );
            tuples(&mut sql, rows);
            sql.run(&mut link.connection)?;
        }
        Ok(())
    }

    pub(crate) fn delete(mut self, link: &mut Link) -> Result<(), Fault> {
        self.settle();
        delete(link, "index_exact", ["patient", "param", "value", "date", "key", "system"], &self.exact)?;
        let range: Vec<[i64; 4]> =
            self.range.iter().map(|&[param, low, high, key, _]| [param, low, high, key]).collect();
        delete(link, "index_range", ["param", "low", "high", "key"], &range)?;
        let mut numbers: Vec<[i64; 2]> = self.number.iter().map(|&[key, param, ..]| [key, param]).collect();
        numbers.dedup();
        delete(link, "index_number", ["key", "param"], &numbers)?;
        Ok(())
    }
}

fn tuples<const N: usize>(sql: &mut Sql<'_>, rows: &[[i64; N]]) {
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            sql.push(",");
        }
        sql.ints(row.iter().copied());
    }
}

/// SQLite has no `DELETE … USING`, PostgreSQL pays a round trip per statement.
fn delete<const N: usize>(
    link: &mut Link,
    table: &str,
    columns: [&str; N],
    rows: &[[i64; N]],
) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        for rows in chunks(rows) {
            let mut sql = Sql::new(link.dialect, "DELETE FROM ");
            sql.push(table).push(" t USING (VALUES ");
            tuples(&mut sql, rows);
            sql.push(") v WHERE ");
            for (n, column) in columns.iter().enumerate() {
                let and = if n > 0 { " AND " } else { "" };
                sql.push(and).push("t.").push(column).push(" = v.column").push(&(n + 1).to_string());
            }
            sql.run(&mut link.connection)?;
        }
    } else {
        for row in rows {
            let mut sql = Sql::new(link.dialect, "DELETE FROM ");
            sql.push(table).push(" WHERE ");
            for (n, (column, value)) in columns.iter().zip(row).enumerate() {
                sql.push(if n > 0 { " AND " } else { "" }).push(column).push(" = ").int(*value);
            }
            sql.run(&mut link.connection)?;
        }
    }
    Ok(())
}
