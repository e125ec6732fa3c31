//! Where searches are answered beside the database itself.

use super::{ConfigError, Hidden, wrong};

const NAME: &str = "database_read_url";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];

/// The address of a replica, if one is given; it may hold a password.
pub(super) fn read_url<'v>(
    get: impl Fn(&str) -> Option<&'v str>,
    database_url: &str,
) -> Result<Option<Hidden>, ConfigError> {
    let Some(url) = get(NAME) else { return Ok(None) };
    let is_postgres = |url: &str| POSTGRES.iter().any(|scheme| url.starts_with(scheme));
    if !is_postgres(database_url) {
        let why = "is for a replica of PostgreSQL, and database_url is an SQLite file, which has none";
        return Err(wrong(NAME, why));
    }
    if !is_postgres(url) {
        return Err(wrong(NAME, "must begin with postgres://"));
    }
    Ok(Some(Hidden::new(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgresql_has_a_replica() {
        let said = |database: &str, url: &'static str| read_url(|_| Some(url), database).map(drop);
        assert!(said("postgres://h/d", "postgresql://r/d").is_ok());
        for (database, url) in [("sqlite:x.db", "postgres://r/d"), ("postgres://h/d", "sqlite:y.db")] {
            let error = said(database, url).unwrap_err().to_string();
            assert!(error.starts_with("database_read_url: "), "{error}");
        }
        assert!(read_url(|_| None, "sqlite:x.db").unwrap().is_none());
    }

    #[test]
    fn its_password_is_hidden() {
        let url = read_url(|_| Some("postgres://me:swordfish@r/d"), "postgres://h/d").unwrap();
        assert!(!format!("{url:?}").contains("swordfish"));
    }
}
