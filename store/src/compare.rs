//! How values compare, as SQL, by the same rules as they have in memory
//! ([`fhir::search::Clause::matches`]).

use fhir::search::{Bound, DateTest, ExactTest, NumberTest, Place, Prefix, TextTest, Unit};

use crate::sql::{Dialect, Sql};

/// ` AND …` for values and systems, each a column of its own table.
pub(crate) fn values<'q>(sql: &mut Sql<'q>, of_value: &str, of_system: &str, any: &'q [ExactTest]) {
    let plain: Option<Vec<i64>> =
        any.iter().map(|test| test.value.filter(|_| test.system.is_none())).collect();
    if let Some(plain) = plain {
        sql.push(" AND ").push(of_value).push(".value");
        match plain.as_slice() {
            [value] => sql.push(" = ").int(*value),
            _ => sql.push(" IN ").ints(padded(plain)),
        };
        return;
    }
    sql.push(" AND ");
    either(sql, any, &mut |sql, test| {
        if let Some(value) = test.value {
            sql.push(of_value).push(".value = ").int(value);
        }
        if let Some(system) = test.system {
            sql.push(if test.value.is_some() { " AND " } else { "" });
            sql.push(of_system).push(".system = ").int(system);
        }
    });
}

/// `(… OR …) OR (… OR …)`: SQLite nests expressions only so deep, and a list of choices would be as deep
/// as it is long.
pub(crate) fn either<'q, T>(sql: &mut Sql<'q>, any: &'q [T], one: &mut dyn FnMut(&mut Sql<'q>, &'q T)) {
    sql.push("(");
    match any {
        [] => {
            sql.push("1 = 0");
        }
        [only] => one(sql, only),
        several => {
            let (first, second) = several.split_at(several.len() / 2);
            either(sql, first, one);
            sql.push(" OR ");
            either(sql, second, one);
        }
    }
    sql.push(")");
}

/// Filled up with its last to a power of two, so that few different statements occur.
fn padded(mut values: Vec<i64>) -> Vec<i64> {
    if let Some(last) = values.last().copied() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// Is one of the ids in the column, which are written with spaces between, one of these? They are one
/// value, however many there are, and looked at once.
pub(crate) fn about(sql: &mut Sql<'_>, column: &str, ids: &[String]) {
    let ids = ids.join(" ");
    let (part, open, close, many) = match sql.dialect() {
        Dialect::Sqlite => (".value", "json_each('[\"' || replace(", r#", ' ', '","') || '"]')"#, "instr"),
        Dialect::Postgres => ("", "unnest(string_to_array(", ", ' '))", "strpos"),
    };
    sql.push("(").push(column).push(" IN (SELECT w").push(part).push(" FROM ").push(open);
    sql.text(ids.clone()).push(close).push(" w) OR ").push(many).push("(").push(column);
    sql.push(", ' ') > 0 AND EXISTS (SELECT 1 FROM ").push(open).push(column).push(close);
    sql.push(" v WHERE v").push(part).push(" IN (SELECT w").push(part).push(" FROM ").push(open);
    sql.text(ids).push(close).push(" w)))");
}

/// ` AND …` for a choice of dates.
pub(crate) fn spans<'q>(sql: &mut Sql<'q>, low: &str, high: &str, any: &'q [DateTest]) {
    sql.push(" AND ");
    either(sql, any, &mut |sql, DateTest { prefix, span }| {
        match prefix {
            // The second bound of `low` follows from the other two; the database seeks by it.
            Prefix::Eq => {
                sql.push(low).push(" >= ").int(span.low).push(" AND ").push(low).push(" <= ").int(span.high);
                sql.push(" AND ").push(high).push(" <= ").int(span.high)
            }
            Prefix::Ne => {
                sql.push(low).push(" < ").int(span.low).push(" OR ").push(high).push(" > ").int(span.high)
            }
            Prefix::Gt => sql.push(high).push(" > ").int(span.high),
            Prefix::Ge => sql.push(high).push(" >= ").int(span.low),
            Prefix::Lt => sql.push(low).push(" < ").int(span.low),
            Prefix::Le => sql.push(low).push(" <= ").int(span.high),
            Prefix::Sa => sql.push(low).push(" > ").int(span.high),
            Prefix::Eb => sql.push(high).push(" < ").int(span.low),
            Prefix::Ap => {
                sql.push(low).push(" <= ").int(span.high).push(" AND ").push(high).push(" >= ").int(span.low)
            }
        };
    });
}

/// ` AND …` for a choice of numbers in the rows `x` of `index_number`.
pub(crate) fn numbers<'q>(sql: &mut Sql<'q>, x: &str, any: &'q [NumberTest]) {
    sql.push(" AND ");
    either(sql, any, &mut |sql, test| {
        if let Some(of) = test.of {
            sql.push(x).push(".label = ").int(of).push(" AND ");
        }
        let columns = match test.unit {
            Unit::Any => ("low", "high"),
            Unit::Named(code) => {
                sql.push("(").push(x).push(".code = ").int(code).push(" OR ");
                sql.push(x).push(".label = ").int(code).push(") AND ");
                ("low", "high")
            }
            Unit::Coded { system, code } => {
                sql.push(x).push(".code = ").int(code).push(" AND ");
                sql.push(x).push(".system = ").int(system).push(" AND ");
                ("low", "high")
            }
            Unit::Canonical(unit) => {
                sql.push(x).push(".unit = ").int(unit).push(" AND ");
                ("base_low", "base_high")
            }
        };
        bound(sql, &format!("{x}.{}", columns.0), &format!("{x}.{}", columns.1), test.bound());
        if let Some(last) = test.last {
            sql.push(" AND (");
            bound(sql, &format!("{x}.base_low"), &format!("{x}.base_high"), last);
            sql.push(")");
        }
    });
}

fn bound(sql: &mut Sql<'_>, low: &str, high: &str, of: Bound) {
    match of.prefix {
        Prefix::Eq => {
            sql.push(low).push(" >= ").int(of.low).push(" AND ").push(high).push(" < ").int(of.high)
        }
        Prefix::Ne => {
            sql.push("(").push(low).push(" < ").int(of.low).push(" OR ");
            sql.push(high).push(" >= ").int(of.high).push(")")
        }
        Prefix::Gt => sql.push(high).push(" > ").int(of.value),
        Prefix::Ge => sql.push(high).push(" >= ").int(of.value),
        Prefix::Lt => sql.push(low).push(" < ").int(of.value),
        Prefix::Le => sql.push(low).push(" <= ").int(of.value),
        Prefix::Sa => sql.push(low).push(" > ").int(of.value),
        Prefix::Eb => sql.push(high).push(" < ").int(of.value),
        Prefix::Ap => {
            sql.push(low).push(" <= ").int(of.high);
            sql.push(" AND ").push(high).push(" >= ").int(of.low)
        }
    };
}

/// ` AND …` for a choice of texts in the rows `x` of `index_text`.
pub(crate) fn texts<'q>(sql: &mut Sql<'q>, x: &str, any: &'q [TextTest]) {
    let column = format!("{x}.text");
    sql.push(" AND ");
    either(sql, any, &mut |sql, test| match test.place {
        Place::Start => {
            sql.push(&column).push(" >= ").text(test.text.as_str());
            sql.push(" AND ").push(&column).push(" < ").text(format!("{}\u{10ffff}", test.text));
        }
        Place::Anywhere => {
            let mut pattern = String::from("%");
            for c in test.text.chars() {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern.push('%');
            sql.push(&column).push(" LIKE ").text(pattern).push(" ESCAPE '\\'");
        }
    });
}
