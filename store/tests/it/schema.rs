//! The schema goes up, down and up again, and is the same on both databases.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::Text;
use store::{Error, Options, Store};

use crate::place::Place;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    relation: String,
    #[diesel(sql_type = Text)]
    name: String,
}

fn grouped(columns: Vec<Column>) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for column in columns.into_iter().filter(|column| !column.relation.starts_with("__diesel")) {
        tables.entry(column.relation).or_default().push(column.name);
    }
    tables
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = (Place::sqlite(), Place::postgres());
    drop((sqlite.open(), postgres.open()));
    let mut connection = SqliteConnection::establish(sqlite.url.strip_prefix("sqlite:").unwrap()).unwrap();
    // The store that was dropped may still be closing its files.
    diesel::sql_query("PRAGMA busy_timeout = 5000").execute(&mut connection).unwrap();
    let of_sqlite: Vec<Column> = diesel::sql_query(
        "SELECT m.name AS relation, c.name AS name FROM sqlite_master m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid",
    )
    .load(&mut connection)
    .unwrap();
    let mut connection = PgConnection::establish(&postgres.url).unwrap();
    let of_postgres: Vec<Column> = diesel::sql_query(
        "SELECT table_name::text AS relation, column_name::text AS name FROM information_schema.columns \
         WHERE table_schema = current_schema() AND NOT (SELECT relispartition FROM pg_class \
         WHERE oid = CAST(quote_ident(table_name) AS regclass)) ORDER BY table_name, ordinal_position",
    )
    .load(&mut connection)
    .unwrap();
    let of_sqlite = grouped(of_sqlite);
    assert_eq!(of_sqlite.len(), 41);
    assert_eq!(of_sqlite, grouped(of_postgres));
}

#[test]
fn up_down_and_up_again() {
    for place in [Place::sqlite(), Place::postgres()] {
        let strict = Options { migrate: false, ..Options::default() };
        assert!(matches!(Store::open(&place.url, &strict), Err(Error::Internal(_))));
        let steps = Store::migrate(&place.url).unwrap();
        assert!(steps > 0);
        assert_eq!(Store::migrate(&place.url).unwrap(), 0);
        assert!(Store::open(&place.url, &strict).is_ok());
        assert_eq!(Store::demolish(&place.url).unwrap(), steps);
        assert_eq!(Store::migrate(&place.url).unwrap(), steps);
    }
}

#[test]
fn urls_that_name_no_database_are_refused() {
    for url in ["", "mysql://x", "sqlite:", "sqlite::memory:", "/tmp/x.db"] {
        assert!(Store::open(url, &Options::default()).is_err(), "{url}");
    }
}
