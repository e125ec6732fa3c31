//! Where a page ends is the server's business: the text in a `next` link can be neither read as a
//! promise nor made up. It holds for the query it was given with, on every process of this database.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::sql_types::Text;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::connection::Link;
use crate::cursor::Cursor;
use crate::error::{Error, Fault};
use crate::sql::Sql;

/// Bytes of the code that stay.
const KEPT: usize = 16;

/// What the database holds under that name; made if it is not there.
pub(crate) fn secret(link: &mut Link, name: &str) -> Result<String, Error> {
    let known = |link: &mut Link| -> Result<Option<String>, Fault> {
        let mut sql = Sql::new(link.dialect, "SELECT value FROM secret WHERE name = ");
        sql.text(name);
        Ok(sql.rows::<Text, String>(&mut link.connection)?.pop())
    };
    if known(link)?.is_none() {
        let made = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|id| id.simple().to_string()).concat();
        let mut sql = Sql::new(link.dialect, "INSERT INTO secret (name, value) VALUES (");
        sql.text(name).push(", ").text(made).push(") ON CONFLICT DO NOTHING");
        sql.run(&mut link.connection).map_err(Fault::from)?;
    }
    known(link)?.ok_or_else(|| Error::internal(format!("there is no secret {name}")))
}

/// The key, shared by all processes on a database.
pub(crate) struct Seal(Hmac<Sha256>);

impl Seal {
    pub(crate) fn of(link: &mut Link) -> Result<Self, Error> {
        let key = secret(link, "page")?;
        Hmac::new_from_slice(key.as_bytes()).map(Self).map_err(Error::internal)
    }

    fn code(&self, of: &str, query: &[(String, String)], end: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&(of.len() as u64).to_be_bytes());
        mac.update(of.as_bytes());
        for (name, value) in query.iter().filter(|(name, _)| name != "_page") {
            for part in [name, value] {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part.as_bytes());
            }
        }
        mac.update(end.as_bytes());
        mac
    }

    /// `of` is what is searched beside the query: the path.
    pub(crate) fn close(&self, of: &str, query: &[(String, String)], end: &str) -> String {
        let mut bytes = self.code(of, query, end).finalize().into_bytes().to_vec();
        bytes.truncate(KEPT);
        bytes.extend(end.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn open(&self, of: &str, query: &[(String, String)], page: &str) -> Result<String, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(page).map_err(|_| Cursor::wrong())?;
        let (code, end) = bytes.split_at_checked(KEPT).ok_or_else(Cursor::wrong)?;
        let end = std::str::from_utf8(end).map_err(|_| Cursor::wrong())?;
        self.code(of, query, end).verify_truncated_left(code).map_err(|_| Cursor::wrong())?;
        Ok(end.to_owned())
    }
}
