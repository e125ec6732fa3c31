//! The head of the log, signed: a checkpoint (C2SP tlog-checkpoint) in a signed note (C2SP
//! signed-note) with one Ed25519 signature (RFC 8032), so any auditor's tools read it.
//!
//! ```text
//! ORIGIN
//! SIZE
//! BASE64 OF THE ROOT
//! recorded MICROSECONDS
//! last EPOCH KEY
//!
//! — NAME BASE64 OF (KEY ID || SIGNATURE)
//! ```
//!
//! The name of the key is the origin of the log: a key that another log uses proves nothing of this.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::merkle::Hash;

#[cfg(test)]
mod tests;

/// C2SP signed-note, "Signature types": Ed25519.
const TYPE: u8 = 1;
/// A signature line begins with this.
const DASH: &str = "— ";
/// Room for a hundred witnesses and more; what is longer is not looked at.
const LIMIT: usize = 1 << 20;

/// What is known of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which log.
    pub(crate) origin: String,
    /// How many entries.
    pub(crate) size: u64,
    /// The root over them.
    pub(crate) root: Hash,
    /// When, microseconds since 1970 UTC.
    pub(crate) recorded: i64,
    /// Where the last entry stands: which transaction wrote it, where they are numbered, and its number.
    pub(crate) last: (i64, i64),
}

/// Why a head, or a key, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// A name is empty, or has a space, a plus or a control character.
    #[error("this can't be the name of a key")]
    Name,
    /// Not `NAME+ID+KEY`, or of another kind than Ed25519, or the id is not this key's.
    #[error("this is not a verifier key")]
    Key,
    /// Not a signed note.
    #[error("this is not a signed note")]
    Note,
    /// No signature is by the key.
    #[error("the note is not signed by this key")]
    Unsigned,
    /// A signature is said to be by the key, and is not.
    #[error("the signature is wrong")]
    Signature,
    /// The note's text is not a head, or is not written the one way there is.
    #[error("the note is not a head")]
    Text,
    /// The head is of a log with another name than the key.
    #[error("the head is of another log")]
    Origin,
    /// The library could not sign.
    #[error("the head could not be signed")]
    Library,
}

impl Head {
    fn text(&self) -> String {
        let Self { origin, size, root, recorded, last: (epoch, key) } = self;
        format!("{origin}\n{size}\n{}\nrecorded {recorded}\nlast {epoch} {key}\n", STANDARD.encode(root))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head = Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: STANDARD.decode(lines.next()?).ok()?.try_into().ok()?,
            recorded: lines.next()?.strip_prefix("recorded ")?.parse().ok()?,
            last: {
                let (epoch, key) = lines.next()?.strip_prefix("last ")?.split_once(' ')?;
                (epoch.parse().ok()?, key.parse().ok()?)
            },
        };
        // One head, one text: no leading zero, no sign, no line after the last.
        (head.text() == text).then_some(head)
    }
}

/// Who signs the heads of a log.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// The key with this seed (RFC 8032, section 5.1.5). The only copy made of it is the library's,
    /// which is zeroed when it is freed, as the caller's is.
    pub(crate) fn new(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Self, HeadError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| HeadError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| HeadError::Key)?;
        Ok(Self { pair, verifier: Verifier::new(name, key)? })
    }

    /// The other half of the key.
    pub(crate) fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// The head as a signed note; it must be of the log with the key's name.
    pub(crate) fn sign(&self, head: &Head) -> Result<String, HeadError> {
        if head.origin != self.verifier.name {
            return Err(HeadError::Origin);
        }
        self.note(&head.text())
    }

    fn note(&self, text: &str) -> Result<String, HeadError> {
        let Verifier { name, id, .. } = &self.verifier;
        let signature = self.pair.try_sign(text.as_bytes()).map_err(|_| HeadError::Library)?;
        let line = STANDARD.encode([id.as_slice(), signature.as_ref()].concat());
        Ok(format!("{text}\n{DASH}{name} {line}\n"))
    }
}

/// Who believes the heads of a log: its public key. As a text it is the C2SP verifier key (vkey),
/// `NAME+ID+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl Verifier {
    fn new(name: &str, key: [u8; 32]) -> Result<Self, HeadError> {
        if !is_name(name) {
            return Err(HeadError::Name);
        }
        let digest =
            Sha256::new().chain_update(name).chain_update([b'\n', TYPE]).chain_update(key).finalize();
        let (id, _) = digest.split_first_chunk().ok_or(HeadError::Key)?;
        Ok(Self { name: name.to_owned(), id: *id, key })
    }

    /// The head in a signed note, when this key signed it. What others signed beside it, witnesses or
    /// the key that comes after this one, is not looked at.
    pub(crate) fn open(&self, note: &str) -> Result<Head, HeadError> {
        let head = Head::parse(self.text(note)?).ok_or(HeadError::Text)?;
        if head.origin == self.name { Ok(head) } else { Err(HeadError::Origin) }
    }

    /// The text of a signed note.
    fn text<'a>(&self, note: &'a str) -> Result<&'a str, HeadError> {
        if note.len() > LIMIT || note.contains(|c| c < ' ' && c != '\n') {
            return Err(HeadError::Note);
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(HeadError::Note)?;
        // The line's end belongs to the text.
        let text = note.get(..=text.len()).ok_or(HeadError::Note)?;
        let mut signed = false;
        for line in signatures.strip_suffix('\n').ok_or(HeadError::Note)?.split('\n') {
            let (name, id, signature) = signature(line).ok_or(HeadError::Note)?;
            if name == self.name && id == self.id {
                let key = UnparsedPublicKey::new(&ED25519, self.key);
                key.verify(text.as_bytes(), &signature).map_err(|_| HeadError::Signature)?;
                signed = true;
            }
        }
        if signed { Ok(text) } else { Err(HeadError::Unsigned) }
    }
}

/// Key name, key id and signature of a signature line.
fn signature(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    let (id, signature) = bytes.split_first_chunk()?;
    (is_name(name) && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([[TYPE].as_slice(), &self.key].concat());
        write!(f, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.id))
    }
}

impl FromStr for Verifier {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (name, key) = text.split_once('+').ok_or(HeadError::Key)?;
        let (_, key) = key.split_once('+').ok_or(HeadError::Key)?;
        let key = STANDARD.decode(key).map_err(|_| HeadError::Key)?;
        let key = key.strip_prefix(&[TYPE]).ok_or(HeadError::Key)?;
        let verifier = Self::new(name, key.try_into().map_err(|_| HeadError::Key)?)?;
        // The id is in it for people; a wrong one means that something was copied wrongly.
        if verifier.to_string() == text { Ok(verifier) } else { Err(HeadError::Key) }
    }
}
