//! What Subscriptions are told lies in parts by day on PostgreSQL, and leaves with them once nobody waits for it.

use std::time::{SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use store::{Error, Options, Store};

use crate::audit_kept::intrude;
use crate::audit_unreadable::number;
use crate::place::*;

const DAY: i64 = 86_400_000_000;

pub(crate) fn clock() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A Subscription with so many events, of which it has the first.
pub(crate) fn subscription(url: &str, number: i64, status: i64, events: i64, delivered: i64) {
    intrude(
        url,
        &format!(
            "INSERT INTO subscription (number, id, stamp, status, started, since, horizon, owner, headers, events, \
             delivered, due, tries, failing, holder, until, error, generation, rotated, line, again, refusals) VALUES \
             ({number}, 's{number}', 1, {status}, TRUE, 0, 0, '', '', {events}, {delivered}, {}, 0, 0, '', 0, '', 1, \
             0, '', FALSE, 0)",
            i64::MAX
        ),
    );
}

fn event(url: &str, subscription: i64, number: i64, at: i64) {
    intrude(
        url,
        &format!(
            "INSERT INTO event (subscription, number, key, effect, at) VALUES ({subscription}, {number}, {number}, 0, {at})"
        ),
    );
}

/// A part of the day that many days ago.
fn day(url: &str, ago: i64) -> i64 {
    let low = (clock() / DAY - ago) * DAY;
    intrude(
        url,
        &format!(
            "CREATE TABLE event_ago_{ago} PARTITION OF event FOR VALUES FROM ({low}) TO ({})",
            low + DAY
        ),
    );
    low
}

fn is_there(url: &str, ago: i64) -> bool {
    number(
        url,
        &format!(
            "(SELECT COUNT(*) FROM pg_class WHERE relname = 'event_ago_{ago}' AND pg_table_is_visible(oid))"
        ),
    ) == 1
}

async fn told(store: &Store, subscription: i64, after: i64) -> Vec<i64> {
    let events = store.events(&now(), subscription, after, 100).await.unwrap();
    events.into_iter().map(|event| event.number).collect()
}

#[test]
fn a_day_leaves_once_nobody_waits_for_it() {
    Place::postgres().run(|store, url| async move {
        let (old, older) = (day(&url, 9), day(&url, 10));
        // One waits for its fourth, one is off, one has all.
        subscription(&url, 1, 1, 5, 3);
        subscription(&url, 2, 3, 2, 0);
        subscription(&url, 3, 1, 2, 2);
        for (number, at) in [(1, older), (2, older + 5), (3, older + 7), (4, old + 1), (5, clock())] {
            event(&url, 1, number, at);
        }
        for number in [1, 2] {
            event(&url, 2, number, older + number);
            event(&url, 3, number, old + number);
        }
        intrude(
            &url,
            "INSERT INTO dead_letter (subscription, number, at, error, again) VALUES (1, 2, 0, '', FALSE), \
                       (3, 1, 0, '', FALSE)",
        );
        assert_eq!(told(&store, 1, 0).await, [1, 2, 3, 4, 5], "in order over days");
        let sweep = async || store.sweep_events(&now(), clock() - 7 * DAY).await.unwrap();
        sweep().await;
        assert_eq!((is_there(&url, 10), is_there(&url, 9)), (false, false));
        assert_eq!(told(&store, 1, 0).await, [4, 5], "the fourth is waited for");
        assert_eq!(told(&store, 2, 0).await, Vec::<i64>::new());
        assert_eq!(told(&store, 3, 0).await, Vec::<i64>::new());
        assert_eq!(
            number(&url, "(SELECT COUNT(*) FROM dead_letter)"),
            0,
            "what was put aside went with its event"
        );
        assert_eq!(store.deliveries().await.unwrap().oldest, Some(old + 1));
        intrude(&url, "UPDATE subscription SET delivered = 4 WHERE number = 1");
        sweep().await;
        assert_eq!(told(&store, 1, 0).await, [5]);
        assert_eq!(number(&url, "(SELECT COUNT(*) FROM dead_letter)"), 0);
        // What is numbered late has a place all the same.
        event(&url, 3, 3, old + 9);
        assert_eq!(number(&url, "(SELECT COUNT(*) FROM event_default)"), 1);
        intrude(&url, "UPDATE subscription SET events = 3 WHERE number = 3");
        sweep().await;
        assert_eq!(told(&store, 3, 0).await, [3], "it is waited for");
        intrude(&url, "UPDATE subscription SET delivered = 3 WHERE number = 3");
        sweep().await;
        assert_eq!(told(&store, 3, 0).await, Vec::<i64>::new());
    });
}

/// One that is told no more keeps its own events, and nobody else's.
#[test]
fn one_that_fails_is_no_reason_to_keep_a_day() {
    Place::postgres().run(|store, url| async move {
        let (last, first) = (day(&url, 9), day(&url, 12));
        let many = 50_002;
        subscription(&url, 1, 2, many, 0);
        subscription(&url, 2, 1, 1, 1);
        event(&url, 2, 1, first);
        intrude(
            &url,
            &format!(
                "INSERT INTO event (subscription, number, key, effect, at) \
                 SELECT 1, n, n, 0, CASE n WHEN {many} THEN {last} ELSE {first} END FROM generate_series(1, {many}) n; \
                 INSERT INTO dead_letter (subscription, number, at, error, again) VALUES \
                 (1, 1, 0, '', FALSE), (1, 2, 0, '', FALSE), (2, 1, 0, '', FALSE)"
            ),
        );
        let sweep = async || store.sweep_events(&now(), clock() - 7 * DAY).await.unwrap();
        sweep().await;
        assert_eq!((is_there(&url, 12), is_there(&url, 9)), (true, false), "too many would have to be moved");
        assert_eq!(told(&store, 2, 0).await, [1]);
        intrude(&url, "UPDATE subscription SET delivered = 1 WHERE number = 1");
        sweep().await;
        assert!(!is_there(&url, 12));
        assert_eq!(told(&store, 2, 0).await, Vec::<i64>::new());
        assert_eq!(number(&url, "(SELECT SUM(number) FROM dead_letter)"), 2);
        // It can be asked again for all that it does not have, in order.
        sweep().await;
        assert_eq!(told(&store, 1, 0).await, (2..=101).collect::<Vec<_>>());
        assert_eq!(told(&store, 1, many - 3).await, [many - 2, many - 1, many]);
        intrude(&url, &format!("UPDATE subscription SET delivered = {many} WHERE number = 1"));
        sweep().await;
        assert_eq!(told(&store, 1, 0).await, Vec::<i64>::new());
    });
}

#[test]
fn what_a_wrong_clock_says_has_a_place_and_leaves() {
    Place::postgres().run(|store, url| async move {
        let at = day(&url, 9);
        subscription(&url, 1, 1, 4, 4);
        let years = 3650 * DAY;
        for (number, at) in [(1, at), (2, clock() + years), (3, at + 1), (4, clock() - years)] {
            event(&url, 1, number, at);
        }
        assert_eq!(number(&url, "(SELECT COUNT(*) FROM event_default)"), 2);
        assert_eq!(told(&store, 1, 0).await, [1, 2, 3, 4]);
        store.sweep_events(&now(), clock() - 7 * DAY).await.unwrap();
        assert_eq!(told(&store, 1, 0).await, Vec::<i64>::new(), "what came after it has left");
        // One that is the last stays.
        subscription(&url, 2, 1, 1, 1);
        event(&url, 2, 1, clock() + years);
        store.sweep_events(&now(), clock() - 7 * DAY).await.unwrap();
        assert_eq!(told(&store, 2, 0).await, [1]);
    });
}

/// A server that slept: what happened meanwhile is no part's, and the days to come have theirs.
#[test]
fn days_are_made_ahead_where_they_can_be() {
    Place::postgres().run(|store, url| async move {
        let parts = "(SELECT COUNT(*) FROM pg_inherits WHERE inhparent = CAST('event' AS regclass))";
        let made = number(&url, parts);
        assert_eq!(made, 5, "today, three days, and what has none");
        store.keep_parts().await.unwrap();
        assert_eq!(number(&url, parts), made);
        let none = "DO $$ DECLARE part text; BEGIN FOR part IN SELECT c.relname FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid \
             WHERE inhparent = CAST('event' AS regclass) AND relname <> 'event_default' LOOP \
             EXECUTE format('DROP TABLE %I', part); END LOOP; END $$";
        intrude(&url, none);
        subscription(&url, 1, 1, 1, 0);
        event(&url, 1, 1, clock());
        store.keep_parts().await.unwrap();
        assert_eq!(number(&url, parts), made - 1, "all but today");
        assert_eq!(told(&store, 1, 0).await, [1]);
        assert_eq!(number(&url, "(SELECT COUNT(*) FROM event_default)"), 1);
        // One whose clock was years ahead left a part there: those of the days before are made all the same.
        let far = (clock() / DAY + 3650) * DAY;
        let anew = || {
            intrude(&url, "TRUNCATE event");
            intrude(&url, none);
            intrude(
                &url,
                &format!(
                    "CREATE TABLE event_far PARTITION OF event FOR VALUES FROM ({far}) TO ({})",
                    far + DAY
                ),
            );
        };
        anew();
        store.keep_parts().await.unwrap();
        assert_eq!(number(&url, parts), made + 1);
        // Where they are kept for years, a part is of more than a day, up to where the next one is.
        anew();
        let near = (clock() / DAY + 2) * DAY;
        intrude(
            &url,
            &format!("CREATE TABLE event_near PARTITION OF event FOR VALUES FROM ({near}) TO ({})", near + DAY),
        );
        let store = Store::open(&url, &Options { event_days: 3650, ..Options::default() }).unwrap();
        store.keep_parts().await.unwrap();
        let these = number(&url, parts);
        assert!((5..=6).contains(&these), "what has none, two, and those beside the near one: {these}");
        for at in [clock(), near - 1, near, near + DAY, near + DAY + 1] {
            event(&url, 1, 1, at);
        }
        assert_eq!(number(&url, "(SELECT COUNT(*) FROM event_default)"), 0);
    });
}

/// Whoever reads for long is not waited for, and is in nobody's way.
#[test]
fn a_day_that_is_read_leaves_later() {
    Place::postgres().run(|store, url| async move {
        day(&url, 9);
        let mut reading = PgConnection::establish(&url).unwrap();
        reading.batch_execute("BEGIN; SELECT COUNT(*) FROM event").unwrap();
        let swept = async || store.sweep_events(&now(), clock() - 7 * DAY).await;
        assert_eq!(swept().await, Err(Error::Busy));
        reading.batch_execute("ROLLBACK").unwrap();
        swept().await.unwrap();
        assert!(!is_there(&url, 9));
    });
}
