//! Rows of `index_chart` that are known to be there, so that they need not be written again: nearly
//! all of a patient's next Observation are those of the one before.
//!
//! Rows are never taken out of that table, so what was committed once stays true.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// `param`, `value`, `patient`.
pub(crate) type ChartRow = [i64; 3];

/// Rows remembered at most: about 4 MB. Then all are forgotten.
const MOST: usize = 100_000;

/// What this process knows to be committed.
#[derive(Debug, Default)]
pub(crate) struct Charts(Mutex<HashSet<ChartRow>>);

impl Charts {
    /// Leaves only rows that may be missing.
    pub(crate) fn leave_unknown(&self, rows: &mut Vec<ChartRow>) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|row| !known.contains(row));
    }

    /// Called when the transaction that wrote them is committed.
    pub(crate) fn learn(&self, rows: &mut Vec<ChartRow>) {
        if rows.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len().saturating_add(rows.len()) > MOST {
            known.clear();
        }
        known.extend(rows.drain(..).take(MOST));
    }
}
