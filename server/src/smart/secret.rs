//! What only this server knows: tokens are drawn from the system's generator, and what leaves us for a
//! while (a form's hidden field, a private key in the database) is sealed.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use zeroize::Zeroizing;

use crate::app::make_folder;
use crate::config::Config;

/// Fewer bytes could be guessed.
pub(crate) const LEAST: usize = 32;

/// Keys that are derived from the `secret` setting, one for each purpose.
pub(crate) struct Secret {
    seal: RandomizedNonceKey,
    code: hmac::Key,
    audit: Zeroizing<[u8; 32]>,
}

impl Secret {
    /// The setting, or else a random one in `DATA_DIR/secret`, made if it is not there.
    pub(crate) fn load(config: &Config) -> anyhow::Result<Self> {
        if let Some(secret) = &config.secret {
            return Self::of(secret.as_bytes());
        }
        let place = config.data_dir.join("secret");
        Self::of(kept(&place).with_context(|| place.display().to_string())?.as_bytes())
    }

    fn of(secret: &[u8]) -> anyhow::Result<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"augury").extract(secret);
        let derived = |purpose: &[u8]| -> anyhow::Result<[u8; 32]> {
            let mut key = [0; 32];
            let purpose = [purpose];
            let filled = root.expand(&purpose, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
            filled.map(|()| key).map_err(|_| anyhow::anyhow!("no key can be derived"))
        };
        let seal = RandomizedNonceKey::new(&AES_256_GCM, &derived(b"seal")?);
        let seal = seal.map_err(|_| anyhow::anyhow!("no key to seal with"))?;
        let code = hmac::Key::new(hmac::HMAC_SHA256, &derived(b"code")?);
        Ok(Self { seal, code, audit: Zeroizing::new(derived(b"audit")?) })
    }

    /// What the audit trail is signed with.
    pub(crate) fn audit(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.audit.to_vec())
    }

    /// Makes it unreadable and unchangeable for others; only [`Self::open`] for the same purpose undoes it.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> Option<String> {
        let mut bytes = plain.to_vec();
        let nonce = self.seal.seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// What was sealed for this purpose.
    pub(crate) fn open(&self, purpose: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = self.seal.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut text).ok()?;
        Some(plain.to_vec())
    }

    /// A text that only this server can make of these parts; the same each time.
    pub(crate) fn code(&self, purpose: &str, parts: &[&str]) -> String {
        URL_SAFE_NO_PAD.encode(&*self.derived(purpose, parts))
    }

    /// The same as bytes.
    pub(crate) fn derived(&self, purpose: &str, parts: &[&str]) -> Zeroizing<Vec<u8>> {
        let mut mac = hmac::Context::with_key(&self.code);
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Zeroizing::new(mac.sign().as_ref().to_vec())
    }
}

fn kept(place: &Path) -> anyhow::Result<String> {
    if let Some(folder) = place.parent() {
        make_folder(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(place) {
        Ok(mut file) => {
            let made = random()?;
            file.write_all(made.as_bytes())?;
            file.sync_all()?;
            Ok(made)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Another process may be writing it in this moment.
            for _ in 0..50 {
                let text = std::fs::read_to_string(place)?;
                if text.trim().len() >= LEAST {
                    return Ok(text.trim().to_owned());
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            bail!("holds fewer than {LEAST} bytes");
        }
        Err(error) => Err(error.into()),
    }
}

/// 256 bits from the system's generator.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Are both the same? Takes as long wherever they differ.
pub(crate) fn same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_for_its_purpose_alone() {
        let (one, other) = (Secret::of(&[1; 32]).unwrap(), Secret::of(&[2; 32]).unwrap());
        let sealed = one.seal("a", b"text").unwrap();
        assert_eq!(one.open("a", &sealed).unwrap(), b"text");
        assert_eq!(one.open("b", &sealed), None);
        assert_eq!(other.open("a", &sealed), None);
        assert_eq!(one.open("a", "AAAA"), None);
        assert_ne!(one.code("a", &["b", "c"]), one.code("a", &["bc"]));
    }
}
