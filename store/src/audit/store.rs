//! What the store offers of its trail.

use super::verify::{Proof, Verified, prove, verify};
use super::{Auditing, log};
use crate::connection::Link;
use crate::context::Context;
use crate::error::Error;
use crate::store::Store;
use crate::unit::Unit;
use crate::{audit, reader};

impl Store {
    /// Takes what was recorded into the log and signs its new head, which is given back; none if there
    /// was nothing. Of several processes one does it, the others find nothing or `Conflict`.
    pub async fn seal_audit(&self, context: &Context) -> Result<Option<String>, Error> {
        if self.authority.auditing == Auditing::Off {
            return Ok(None);
        }
        let (authority, at) = (self.authority.clone(), context.at);
        let made = self
            .pool
            .run(move |link: &mut Link| {
                reader::snapshot(link, None, |link| Ok(log::prepare(link, &authority, at)?))
            })
            .await?;
        let Some(sealing) = made else { return Ok(None) };
        let (note, keys) = (sealing.note().to_owned(), sealing.keys());
        let done = self.write(Unit::sealing(context, sealing)).await;
        // Another process may have been quicker: they are in the tree all the same.
        self.authority.sealed(keys.into_iter());
        done?;
        Ok(Some(note))
    }

    /// The public key of the log's heads, as C2SP's signed notes write it.
    pub fn audit_key(&self) -> String {
        self.authority.signer.verifier().to_string()
    }

    /// Looks at all of the trail. `witnessed`: heads that were kept elsewhere; `seen` is told how many
    /// events were looked at.
    pub async fn verify_audit(
        &self,
        _: &Context,
        witnessed: Vec<String>,
        mut seen: impl FnMut(u64) + Send + 'static,
    ) -> Result<Verified, Error> {
        let authority = self.authority.clone();
        self.pool
            .run(move |link: &mut Link| {
                reader::snapshot(link, None, |link| Ok(verify(link, &authority, &witnessed, &mut seen)?))
            })
            .await
    }

    /// The proof that an event is in the log, and that a log of `older` entries was its beginning.
    ///
    /// # Errors
    /// `NotFound` while it is not; `Precondition` if the log was never of that size.
    pub async fn prove_audit(
        &self,
        _: &Context,
        id: &str,
        older: Option<u64>,
    ) -> Result<audit::Proof, Error> {
        let key: i64 = id.parse().map_err(|_| Error::NotFound)?;
        self.pool
            .run(move |link: &mut Link| {
                reader::snapshot(link, None, |link| Ok::<Proof, Error>(prove(link, key, older)?))
            })
            .await
    }
}
