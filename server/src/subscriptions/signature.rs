//! What is sent is signed, so that its receiver knows from whom it is (<https://www.standardwebhooks.com>).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::smart::secret::Secret;

/// After another secret took its place, the one before is used too for so long, in microseconds.
pub(crate) const OVERLAP: i64 = 86_400_000_000;

/// A secret that this server shares with the receivers of one Subscription.
pub(crate) struct Key(Zeroizing<Vec<u8>>);

/// What a message is signed with, and what it is called.
pub(super) struct Seal {
    pub(super) id: String,
    pub(super) keys: Vec<Key>,
}

impl Key {
    /// What is signed with at that time: the newest first, then until when the one before is used too.
    pub(crate) fn of(secret: &Secret, of: &store::Subscription, at: i64) -> (Self, Option<(Self, i64)>) {
        let key = |generation: i64| {
            Self(secret.derived("webhook", &[&of.number.to_string(), &of.id, &generation.to_string()]))
        };
        let until = of.rotated.map(|rotated| rotated + OVERLAP).filter(|until| *until > at);
        (key(of.generation), until.map(|until| (key(of.generation - 1), until)))
    }

    /// As receivers are told it.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("whsec_{}", STANDARD.encode(&*self.0)))
    }

    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.sign()))
    }
}

impl Seal {
    /// Of a message to a Subscription; what is sent again has the same `part`.
    pub(super) fn new(secret: &Secret, of: &store::Subscription, part: &str, at: i64) -> Self {
        let (newest, before) = Key::of(secret, of, at);
        let keys = std::iter::once(newest).chain(before.map(|(key, _)| key)).collect();
        // A full stop ends the name of a message where it is signed.
        Self { id: format!("{}_{part}", of.id.replace('.', "_")), keys }
    }

    /// The signatures, with spaces between.
    pub(super) fn signatures(&self, seconds: i64, body: &[u8]) -> String {
        let all: Vec<String> = self.keys.iter().map(|key| key.sign(&self.id, seconds, body)).collect();
        all.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_published_vector_does() {
        let key = Key(Zeroizing::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()));
        assert_eq!(key.text().as_str(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
