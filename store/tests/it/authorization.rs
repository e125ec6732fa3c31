//! What may happen once happens once, whoever comes at the same time; what follows from a grant ends
//! with it.

use store::{
    AccessToken, Account, AccountChange, Authentication, AuthorizationChange as Change, Code, Commit, Error,
    Granted, Launch, LaunchContext, Options, RefreshToken, Registration, SmartClient, SmartGrant, Status,
    Store,
};

use crate::place::*;

both!(
    of_many_at_once_one_is_first,
    what_has_expired_is_not_used,
    what_follows_from_a_grant_ends_with_it,
    what_has_ended_is_removed,
    a_login_is_unique_and_a_code_of_a_second_factor_good_once,
);

const MINUTE: i64 = 60_000_000;

fn client(id: &str) -> SmartClient {
    let registration = Registration {
        name: "App".into(),
        authentication: Authentication::Public,
        redirect_uris: vec!["https://app.example/".into()],
        launch_url: None,
        scope: "openid".into(),
        bound: false,
    };
    SmartClient { id: id.into(), status: Status::Approved, created: NOW, registration }
}

fn grant(id: &str) -> SmartGrant {
    SmartGrant {
        id: id.into(),
        client: "c1".into(),
        account: Some("a1".into()),
        created: NOW,
        revoked: None,
        expires: NOW + 10 * MINUTE,
        granted: Granted { scope: "openid".into(), ..Granted::default() },
    }
}

fn account(id: &str, login: &str) -> Account {
    Account {
        id: id.into(),
        login: login.into(),
        name: login.into(),
        role: "clinician".into(),
        fhir_user: None,
        password: "hash".into(),
        totp: None,
        totp_step: 0,
        failed: 0,
        locked_until: 0,
        locked: false,
        created: NOW,
    }
}

fn access(hash: &str) -> Change {
    Change::Access(AccessToken {
        certificate: None,
        hash: hash.into(),
        id: format!("id of {hash}"),
        grant: "g1".into(),
        scope: "openid".into(),
        issued: NOW,
        expires: NOW + 10 * MINUTE,
    })
}

fn refresh(hash: &str, session: Option<&str>) -> Change {
    Change::Refresh(RefreshToken {
        certificate: None,
        hash: hash.into(),
        grant: "g1".into(),
        scope: "openid".into(),
        session: session.map(str::to_owned),
        issued: NOW,
        expires: NOW + 100 * MINUTE,
        replaced: None,
        successor: None,
    })
}

async fn change(store: &Store, seconds: i64, changes: Vec<Change>) -> Result<(), Error> {
    let commit = Commit { authorization: changes, ..Commit::default() };
    store.commit(&at(seconds), commit).await.map(drop)
}

async fn people(store: &Store, seconds: i64, changed: AccountChange) -> Result<(), Error> {
    let commit = Commit { accounts: vec![changed], ..Commit::default() };
    store.commit(&at(seconds), commit).await.map(drop)
}

async fn lay_out(store: &Store) {
    let code = Code {
        hash: "code".into(),
        grant: "g1".into(),
        expires: NOW + MINUTE,
        redeemed: None,
        redirect_uri: "https://app.example/".into(),
        challenge: "x".into(),
    };
    let launch = Launch {
        hash: "launch".into(),
        client: "c1".into(),
        expires: NOW + MINUTE,
        used: None,
        context: LaunchContext::default(),
    };
    people(store, 0, AccountChange::Add(account("a1", "carol"))).await.unwrap();
    let all = vec![
        Change::Register(client("c1")),
        Change::Grant(grant("g1")),
        Change::Code(code),
        Change::Launch(launch),
        refresh("refresh", None),
        access("access"),
    ];
    change(store, 0, all).await.unwrap();
}

async fn of_many_at_once_one_is_first(store: Store, url: String) {
    lay_out(&store).await;
    let other = Store::open(&url, &Options::default()).unwrap();
    let replace = |n: usize| vec![Change::Replace { hash: "refresh".into(), successor: format!("next {n}") }];
    let redeem = |n: usize| vec![Change::Redeem { hash: "code".into() }, access(&format!("access {n}"))];
    let launch = |_| vec![Change::UseLaunch { hash: "launch".into() }];
    let assertion = |_| vec![Change::UseOnce { hash: "jti".into(), expires: NOW + MINUTE }];
    let register = |_| vec![Change::Register(client("c2"))];
    let ways: [&dyn Fn(usize) -> Vec<Change>; 5] = [&replace, &redeem, &launch, &assertion, &register];
    for way in ways {
        let tries = (0..12).map(|n| {
            let (store, changes) = (if n % 2 == 0 { &store } else { &other }.clone(), way(n));
            tokio::spawn(async move { change(&store, 1, changes).await })
        });
        let ended = futures_util::future::join_all(tries.collect::<Vec<_>>()).await;
        let (mut won, mut refused) = (0, 0);
        for one in ended {
            match one.unwrap() {
                Ok(()) => won += 1,
                Err(Error::Conflict { .. }) => refused += 1,
                Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
            }
        }
        assert_eq!((won, refused), (1, 11));
    }
    assert!(other.code(&at(1), "code").await.unwrap().redeemed.is_some());
    let (token, _) = other.refresh_token(&at(1), "refresh").await.unwrap();
    assert!(token.replaced.is_some() && token.successor.unwrap().starts_with("next"));
    // Of those who were refused nothing is left.
    let mut left = 0;
    for n in 0..12 {
        left += usize::from(store.access_token(&at(1), &format!("access {n}")).await.is_ok());
    }
    assert_eq!(left, 1);
}

async fn what_has_expired_is_not_used(store: Store, _: String) {
    lay_out(&store).await;
    for late in [
        Change::Redeem { hash: "code".into() },
        Change::UseLaunch { hash: "launch".into() },
        Change::Redeem { hash: "nobody's".into() },
    ] {
        let ended = change(&store, 60, vec![late]).await;
        assert!(matches!(ended, Err(Error::Conflict { .. })), "{ended:?}");
    }
    let replace = Change::Replace { hash: "refresh".into(), successor: "next".into() };
    assert!(change(&store, 6000, vec![replace]).await.is_err());
    assert!(store.access_token(&at(599), "access").await.is_ok());
    assert_eq!(store.access_token(&at(600), "access").await.unwrap_err(), Error::NotFound);
    assert_eq!(store.refresh_token(&at(6000), "refresh").await.unwrap_err(), Error::NotFound);
}

async fn what_follows_from_a_grant_ends_with_it(store: Store, _: String) {
    lay_out(&store).await;
    let begun = AccountChange::SignIn {
        id: "a1".into(),
        session: "session".into(),
        expires: NOW + 50 * MINUTE,
        step: None,
        sources: Vec::new(),
    };
    people(&store, 0, begun.clone()).await.unwrap();
    change(&store, 0, vec![refresh("online", Some("session"))]).await.unwrap();
    let good = async |access: bool, offline: bool, online: bool| {
        let is = |ended: Result<(), Error>| match ended {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, Error::NotFound);
                false
            }
        };
        let found = is(store.access_token(&at(1), "access").await.map(drop));
        let kept = is(store.refresh_token(&at(1), "refresh").await.map(drop));
        let bound = is(store.refresh_token(&at(1), "online").await.map(drop));
        assert_eq!((found, kept, bound), (access, offline, online));
    };
    good(true, true, true).await;
    assert_eq!(store.signed_in(&at(1), "session").await.unwrap().1, NOW);
    people(&store, 1, AccountChange::SignOut { session: "session".into() }).await.unwrap();
    good(true, true, false).await;
    people(&store, 1, begun.clone()).await.unwrap();
    good(true, true, true).await;
    change(&store, 1, vec![Change::Decide { id: "c1".into(), status: Status::Revoked }]).await.unwrap();
    good(false, false, false).await;
    change(&store, 1, vec![Change::Decide { id: "c1".into(), status: Status::Approved }]).await.unwrap();
    assert_eq!(store.grants(&at(1), "a1").await.unwrap().len(), 1);
    change(&store, 1, vec![Change::Revoke { grant: "g1".into() }]).await.unwrap();
    good(false, false, false).await;
    assert!(store.grants(&at(1), "a1").await.unwrap().is_empty());
    assert_eq!(store.grant(&at(1), "g1").await.unwrap_err(), Error::NotFound);
    // So does another password, another role, or being somebody else.
    let described = |role: &str, user: Option<&str>| AccountChange::Describe {
        id: "a1".into(),
        name: "Carol".into(),
        role: role.into(),
        fhir_user: user.map(Into::into),
    };
    for (n, ends) in [
        AccountChange::Password { id: "a1".into(), hash: "other".into() },
        described("operator", None),
        described("clinician", Some("Practitioner/1")),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("of-{n}");
        people(&store, 1, described("clinician", None)).await.unwrap();
        change(&store, 1, vec![Change::Grant(grant(&id))]).await.unwrap();
        people(&store, 1, described("clinician", None)).await.unwrap();
        assert!(store.grant(&at(1), &id).await.is_ok());
        people(&store, 1, ends).await.unwrap();
        assert_eq!(store.grant(&at(1), &id).await.unwrap_err(), Error::NotFound);
        people(&store, 1, described("clinician", None)).await.unwrap();
        assert_eq!(store.grant(&at(1), &id).await.unwrap_err(), Error::NotFound);
    }
    assert!(matches!(store.signed_in(&at(1), "session").await, Err(Error::NotFound)));
    // Who allowed something while their role was changed has allowed nothing.
    let late =
        SmartGrant { granted: Granted { role: Some("admin".into()), ..Granted::default() }, ..grant("late") };
    change(&store, 1, vec![Change::Grant(late)]).await.unwrap();
    assert_eq!(store.grant(&at(1), "late").await.unwrap_err(), Error::NotFound);
    change(&store, 1, vec![Change::Revoke { grant: "late".into() }]).await.unwrap();
    // A lock ends all for good, and nobody signs in beside it.
    change(&store, 1, vec![Change::Grant(grant("g2"))]).await.unwrap();
    assert_eq!(store.grants(&at(1), "a1").await.unwrap().len(), 1);
    people(&store, 1, AccountChange::Lock { id: "a1".into(), locked: true }).await.unwrap();
    assert!(matches!(people(&store, 1, begun).await, Err(Error::Conflict { .. })));
    people(&store, 1, AccountChange::Lock { id: "a1".into(), locked: false }).await.unwrap();
    assert!(store.grants(&at(1), "a1").await.unwrap().is_empty());
    assert_eq!(store.grant(&at(1), "g2").await.unwrap_err(), Error::NotFound);
    let unknown = Change::Decide { id: "nobody".into(), status: Status::Approved };
    assert_eq!(change(&store, 1, vec![unknown]).await.unwrap_err(), Error::NotFound);
}

async fn what_has_ended_is_removed(store: Store, _: String) {
    lay_out(&store).await;
    let used = vec![Change::UseOnce { hash: "jti".into(), expires: NOW }];
    change(&store, 0, used.clone()).await.unwrap();
    let day = 86_400;
    change(&store, day + 120, vec![Change::Sweep]).await.unwrap();
    assert_eq!(store.code(&at(0), "code").await.unwrap_err(), Error::NotFound);
    assert_eq!(store.launch(&at(0), "launch").await.unwrap_err(), Error::NotFound);
    change(&store, 0, used).await.unwrap();
    // The grant lasts as long as its refresh token.
    assert!(store.refresh_token(&at(0), "refresh").await.is_ok());
    change(&store, day + 6060, vec![Change::Sweep]).await.unwrap();
    assert!(store.refresh_token(&at(0), "refresh").await.is_err());
    assert_eq!(store.grant(&at(0), "g1").await.unwrap_err(), Error::NotFound);
    let waiting = SmartClient { status: Status::Pending, ..client("c2") };
    change(&store, 0, vec![Change::Register(waiting)]).await.unwrap();
    change(&store, 30 * day, vec![Change::Sweep]).await.unwrap();
    assert_eq!(store.smart_clients(&at(0)).await.unwrap().len(), 2);
    change(&store, 32 * day, vec![Change::Sweep]).await.unwrap();
    assert_eq!(store.smart_clients(&at(0)).await.unwrap().len(), 1);
}

async fn a_login_is_unique_and_a_code_of_a_second_factor_good_once(store: Store, _: String) {
    people(&store, 0, AccountChange::Add(account("a1", "carol"))).await.unwrap();
    let again = people(&store, 0, AccountChange::Add(account("a2", "carol"))).await;
    assert!(matches!(again, Err(Error::Conflict { .. })));
    people(&store, 0, AccountChange::Totp { id: "a1".into(), secret: Some("sealed".into()) }).await.unwrap();
    let tries = (0..6).map(|n| {
        let store = store.clone();
        let (id, session) = ("a1".to_owned(), format!("session {n}"));
        let sources = vec!["browser".to_owned()];
        let change = AccountChange::SignIn { id, session, expires: NOW + MINUTE, step: Some(7), sources };
        tokio::spawn(async move { people(&store, 0, change).await })
    });
    let ended = futures_util::future::join_all(tries.collect::<Vec<_>>()).await;
    assert_eq!(ended.into_iter().filter(|one| one.as_ref().unwrap().is_ok()).count(), 1);
    for (source, elsewhere) in [
        ("browser", None),
        ("network", Some(NOW + MINUTE)),
        ("network", Some(NOW + MINUTE)),
        ("other", Some(NOW + MINUTE)),
    ] {
        let (id, source, until) = ("a1".to_owned(), source.to_owned(), NOW + 2 * MINUTE);
        people(&store, 0, AccountChange::Failed { id, source, until, elsewhere }).await.unwrap();
    }
    let hashes = ["browser", "network", "nowhere"].map(str::to_owned);
    let sources = async |at: store::Context| {
        let mut found = store.sources(&at, "a1", &hashes).await.unwrap();
        found.sort_by(|one, other| one.hash.cmp(&other.hash));
        found.into_iter().map(|one| (one.hash, one.known, one.failed, one.locked_until)).collect::<Vec<_>>()
    };
    let browser = |failed, until| ("browser".to_owned(), true, failed, until);
    let late = NOW + 2 * MINUTE;
    assert_eq!(sources(at(0)).await, [browser(1, late), ("network".to_owned(), false, 2, late)]);
    // What went wrong is held against an unknown place for a day.
    assert_eq!(sources(at(25 * 3600)).await, [browser(1, late)]);
    let known = store.account(&at(0), "carol").await.unwrap();
    assert_eq!((known.failed, known.locked_until, known.totp.as_deref()), (3, NOW + MINUTE, Some("sealed")));
    people(&store, 0, AccountChange::Lock { id: "a1".into(), locked: false }).await.unwrap();
    assert_eq!(sources(at(0)).await, [browser(0, 0), ("network".to_owned(), false, 0, 0)]);
    people(&store, 0, AccountChange::Password { id: "a1".into(), hash: "other".into() }).await.unwrap();
    assert_eq!(sources(at(0)).await, []);
    assert_eq!(store.account(&at(0), "Carol").await.unwrap_err(), Error::NotFound);
}
