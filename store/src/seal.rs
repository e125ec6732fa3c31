//! Where a page ends is the server's business: the text in a `next` link can be neither read, for it may
//! hold a name, nor made up. It holds for the query it was given with, on every process of this database.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::sql_types::Text;
use sha2::{Digest, Sha256};

use crate::connection::Link;
use crate::cursor::Cursor;
use crate::error::{Error, Fault};
use crate::sql::Sql;

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

/// Is the secret that signs the trail the one it was begun with? `key` is its public half.
///
/// # Errors
/// `Internal` if not: two secrets on one database would each call the other's records forged.
pub(crate) fn known(link: &mut Link, key: &str) -> Result<(), Error> {
    const NAME: &str = "audit key";
    let mut sql = Sql::new(link.dialect, "INSERT INTO secret (name, value) VALUES (");
    sql.text(NAME).push(", ").text(key).push(") ON CONFLICT DO NOTHING");
    sql.run(&mut link.connection).map_err(Fault::from)?;
    if secret(link, NAME)? == key {
        return Ok(());
    }
    let why =
        "the secret is not the one this database was begun with: its audit trail is signed with another";
    Err(Error::internal(why))
}

/// The key, shared by all processes on a database.
pub(crate) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(crate) fn of(link: &mut Link) -> Result<Self, Error> {
        let key = Sha256::digest(secret(link, "page")?.as_bytes());
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(Self).map_err(Error::internal)
    }

    /// What the end belongs to, as it is authenticated beside it.
    fn query(of: &str, query: &[(String, String)]) -> Aad<[u8; 32]> {
        let mut all = Sha256::new();
        let named = query.iter().filter(|(name, _)| name != "_page");
        for part in [of].into_iter().chain(named.flat_map(|(name, value)| [name.as_str(), value.as_str()])) {
            all.update((part.len() as u64).to_be_bytes());
            all.update(part.as_bytes());
        }
        Aad::from(all.finalize().into())
    }

    /// `of` is what is searched beside the query: by whom, and the path.
    pub(crate) fn close(&self, of: &str, query: &[(String, String)], end: &str) -> Result<String, Error> {
        let mut bytes = end.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Self::query(of, query), &mut bytes);
        let nonce = nonce.map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    pub(crate) fn open(&self, of: &str, query: &[(String, String)], page: &str) -> Result<String, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(page).map_err(|_| Cursor::wrong())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(Cursor::wrong)?;
        let mut sealed = sealed.to_vec();
        let end = self.0.open_in_place(Nonce::from(nonce), Self::query(of, query), &mut sealed);
        let end = end.map_err(|_| Cursor::wrong())?;
        std::str::from_utf8(end).map(str::to_owned).map_err(|_| Cursor::wrong())
    }
}
