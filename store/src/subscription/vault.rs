//! What endpoints are sent beside notifications may be secrets: of these the database holds what only these
//! processes can read.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Error, Fault};

/// Seals header lines for one Subscription each.
pub(super) struct Vault(RandomizedNonceKey);

impl Vault {
    pub(super) fn new(secret: &[u8]) -> Result<Self, Error> {
        let key = Hmac::<Sha256>::new_from_slice(secret).map_err(Error::internal)?;
        let key = Zeroizing::<[u8; 32]>::new(
            key.chain_update(b"subscription header").finalize().into_bytes().into(),
        );
        RandomizedNonceKey::new(&AES_256_GCM, &*key).map(Self).map_err(Error::internal)
    }

    pub(super) fn seal(&self, id: &str, lines: &[String]) -> Result<String, Fault> {
        if lines.is_empty() {
            return Ok(String::new());
        }
        // No line has a line break in it.
        let mut bytes = lines.join("\n").into_bytes();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(id.as_bytes()), &mut bytes);
        let nonce = nonce.map_err(|_| Fault::Database("nothing can be sealed".into()))?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    pub(super) fn open(&self, id: &str, sealed: &str) -> Option<Vec<String>> {
        if sealed.is_empty() {
            return Some(Vec::new());
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self.0.open_in_place(nonce, Aad::from(id.as_bytes()), &mut text).ok()?;
        Some(std::str::from_utf8(plain).ok()?.split('\n').map(str::to_owned).collect())
    }
}
