//! What an endpoint takes to be wrong, however often it is sent, is put aside, so that it keeps nothing else from
//! being sent.

use store::Next;

use super::{Courier, Drive, Receipts, Stop, TOGETHER, TURN};
use crate::subscriptions::record;

impl Courier {
    /// Puts an event aside, which is the next or was aside before.
    pub(super) async fn bury(
        &self,
        drive: &mut Drive,
        receipts: &mut Receipts,
        event: i64,
        error: String,
    ) -> Result<(), Stop> {
        let notes = receipts.settled().await?;
        metrics::counter!("augury_subscription_dead_letters_total").increment(1);
        tracing::warn!(subscription = drive.entry.subscription.id, event, error, "an event is put aside");
        drive.delivered = drive.delivered.max(event);
        let progress = drive.progress(Next::Bury { event, error, until: drive.until });
        Ok(record::proceed(&self.app, &drive.context(), progress, notes).await?)
    }

    /// Sends what was put aside and is asked for again.
    pub(super) async fn send_again(&self, drive: &mut Drive, receipts: &mut Receipts) -> Result<(), Stop> {
        let turn = self.now() + TURN;
        let number = drive.entry.subscription.number;
        loop {
            let letters = self.app.store.dead_letters(&drive.context, number, true, TOGETHER).await?;
            let none = letters.is_empty();
            for letter in letters {
                if self.app.lines.are_ending() || self.now() > turn {
                    return Err(Stop::Later(self.now()));
                }
                self.go_on(drive, receipts).await?;
                let event = letter.event.number;
                match self.tell(drive, std::slice::from_ref(&letter.event)).await {
                    Ok(()) => receipts.notes.extend(record::told(&drive.entry, &letter.event, Ok(()))),
                    Err(refusal) => {
                        let why = refusal.to_string();
                        receipts.notes.extend(record::told(&drive.entry, &letter.event, Err(&why)));
                        if !refusal.is_of_message() {
                            return Err(Stop::Failed(refusal));
                        }
                        self.bury(drive, receipts, event, why).await?;
                        continue;
                    }
                }
                let notes = receipts.settled().await?;
                let progress = drive.progress(Next::Raise { event: Some(event), until: drive.until });
                record::proceed(&self.app, &drive.context(), progress, notes).await?;
            }
            if none {
                let progress = drive.progress(Next::Raise { event: None, until: drive.until });
                return Ok(record::proceed(&self.app, &drive.context(), progress, Vec::new()).await?);
            }
        }
    }
}
