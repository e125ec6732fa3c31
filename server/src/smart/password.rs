//! Passwords and second factors of accounts.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Each takes 19 MiB: not more at a time than there are cores to work them off.
static TURNS: Semaphore = Semaphore::const_new(2);
/// Wrong passwords in a row that cost nothing: from one browser or network, and from all that are not known
/// (NIST SP 800-63B section 5.2.2).
pub(crate) const FREE: i64 = 4;
pub(crate) const FREE_ELSEWHERE: i64 = 99;
const SECOND: i64 = 1_000_000;
/// What a password must have at least (NIST SP 800-63B section 3.1.1).
pub(crate) const SHORTEST: usize = 12;
/// Seconds that one code of a second factor is shown.
const STEP: i64 = 30;

/// What is looked at where there is no such account: it takes as long.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash(&uuid::Uuid::new_v4().to_string()).unwrap_or_default());

/// The argon2id hash of a password, salted.
pub(crate) fn hash(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| anyhow::anyhow!("argon2: {error}"))
}

/// Is it the password? Without an account it takes as long to say no.
pub(crate) async fn is_right(password: &str, hash: Option<&str>) -> bool {
    let Ok(_turn) = TURNS.acquire().await else { return false };
    let (password, hash) = (Zeroizing::new(password.to_owned()), hash.map(str::to_owned));
    let looked = tokio::task::spawn_blocking(move || {
        let hash = hash.filter(|hash| !hash.is_empty());
        let known = hash.as_deref().unwrap_or(&NOBODY);
        let right = PasswordHash::new(known)
            .is_ok_and(|known| Argon2::default().verify_password(password.as_bytes(), &known).is_ok());
        right && hash.is_some()
    });
    looked.await.unwrap_or(false)
}

/// Until when no password is looked at after so many wrong ones, of which some are free: half a minute, then
/// twice as long each time, an hour at most.
pub(crate) fn locked_until(at: i64, failed: i64, free: i64) -> i64 {
    let over = failed - free;
    // Who asked a moment before must not find it locked.
    if over <= 0 { 0 } else { at + (30_i64 << over.clamp(1, 8).saturating_sub(1)).min(3600) * SECOND }
}

/// The time step whose code that is (RFC 6238), if it is now or next to it.
pub(crate) fn totp_step(secret: &[u8], code: &str, at: i64) -> Option<i64> {
    let now = at / SECOND / STEP;
    [now, now - 1, now + 1].into_iter().find(|step| super::secret::same(&totp(secret, *step), code.trim()))
}

fn totp(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let mac = hmac::sign(&key, &step.to_be_bytes());
    let bytes = mac.as_ref();
    let offset = usize::from(bytes.last().copied().unwrap_or(0) & 15);
    let four = bytes.get(offset..offset + 4).unwrap_or_default();
    let number = four.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// Base32 without padding (RFC 4648 section 6), as authenticator apps take a secret.
pub(crate) fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    (0..(bytes.len() * 8).div_ceil(5))
        .map(|n| (0..5).fold(0_u8, |value, k| value << 1 | bit(n * 5 + k)))
        .filter_map(|value| LETTERS.get(usize::from(value)).map(|letter| char::from(*letter)))
        .collect()
}

/// A password that nobody chose.
pub(crate) fn generated() -> anyhow::Result<String> {
    let random = super::secret::random()?;
    let bytes = URL_SAFE_NO_PAD.decode(random)?;
    let letters = base32(bytes.get(..15).unwrap_or_default()).to_lowercase();
    let groups: Vec<String> =
        letters.as_bytes().chunks(6).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238 appendix B, the last six digits.
        let secret = b"12345678901234567890";
        assert_eq!(totp(secret, 59 / 30), "287082");
        assert_eq!(totp(secret, 1_111_111_109 / 30), "081804");
        assert_eq!(totp_step(secret, "287082", 80 * SECOND), Some(1));
        assert_eq!(totp_step(secret, "287082", 200 * SECOND), None);
    }

    #[test]
    fn base32_is_that_of_the_standard() {
        assert_eq!(base32(b"foobar"), "MZXW6YTBOI");
        assert_eq!(generated().unwrap().len(), 27);
    }

    #[test]
    fn delays_grow() {
        let wait = |failed| (locked_until(0, failed, FREE)) / SECOND;
        assert_eq!([4, 5, 6, 7, 12, 99].map(wait), [0, 30, 60, 120, 3600, 3600]);
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong() {
        let known = hash("correct horse battery").unwrap();
        assert!(known.starts_with("$argon2id$"));
        assert!(is_right("correct horse battery", Some(&known)).await);
        assert!(!is_right("correct horse", Some(&known)).await);
        assert!(!is_right("correct horse battery", None).await);
    }
}
