//! Which secret what is sent to an endpoint is signed with: they are made of numbers, and only these are kept.

use fhir::resource_type::ResourceType;
use fhir::scope::Op;

use super::Subscription;
use crate::access::Sight;
use crate::audit::Entry;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::reader::is_shown;
use crate::row;
use crate::sql::Sql;
use crate::store::Store;
use crate::unit::Unit;

/// Is another secret to take the place of what there is?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// It stays.
    No,
    /// If the last time was so long ago, in microseconds: the one before that is used meanwhile.
    After(i64),
    /// Now.
    AtOnce,
}

/// Somebody wants to know the secret of a Subscription, or another one.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) rotate: Rotate,
}

/// Is the one who asks somebody who may read and change it?
pub(super) fn may_change(link: &mut Link, sight: &Sight, id: &str) -> Result<(), Fault> {
    let kind = ResourceType::SUBSCRIPTION;
    sight.access().permits(Op::Read, kind)?;
    sight.access().permits(Op::Update, kind)?;
    let held = row::held(link, &[(kind, id)])?.pop().ok_or(Error::NotFound)?;
    if !is_shown(link, sight, Op::Read, &held)? {
        return Err(Error::NotFound.into());
    }
    if held.deleted {
        return Err(Error::Gone { version: held.version }.into());
    }
    if !is_shown(link, sight, Op::Update, &held)? {
        return Err(Error::Denied(Op::Update, kind).into());
    }
    Ok(())
}

/// Only for who may read and change the Subscription: whoever has the secret can speak in this server's name.
pub(crate) fn ask(link: &mut Link, sight: &Sight, asked: &Asked, at: i64) -> Result<(), Fault> {
    may_change(link, sight, &asked.id)?;
    if asked.rotate == Rotate::No {
        return Ok(());
    }
    link.touched = true;
    let at = link.time(at);
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET generation = generation + 1, rotated = ");
    sql.int(at).push(" WHERE id = ").text(asked.id.as_str());
    if let Rotate::After(long) = asked.rotate {
        sql.push(" AND rotated <= ").int(at - long);
    }
    if sql.run(&mut link.connection)? == 0 {
        return Err(Error::Conflict { current: 0 }.into());
    }
    Ok(())
}

impl Store {
    /// A Subscription for who is to know its secret, after that was replaced if it is to be; what is noted
    /// is recorded with it.
    ///
    /// # Errors
    /// `NotFound` or `Denied` if the caller may not change the Subscription; `Conflict` if it is too soon for another.
    pub async fn subscription_secret(
        &self,
        context: &Context,
        id: &str,
        rotate: Rotate,
        note: Entry,
    ) -> Result<Subscription, Error> {
        let asked = Asked { id: id.to_owned(), rotate };
        self.write(Unit::asking(context, asked, vec![note])).await?;
        self.subscriptions(vec![id.to_owned()]).await?.pop().ok_or(Error::NotFound)
    }
}
