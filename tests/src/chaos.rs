//! Faults by seeded chance while Subscriptions are told of what is written, and whether the promise holds once
//! they have ended: nothing is lost, the order is kept, what comes twice has the same number, and what is
//! missing can be asked for.

mod check;
mod ground;
mod receiver;
mod writers;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Backend;
use ground::{Ground, Replica};
use receiver::Receiver;
use writers::Writers;

/// Who holds a Subscription holds it for less than this.
const LEASE: Duration = Duration::from_secs(17);
/// How long all may take to be told, once the faults have ended.
const DRAIN: Duration = Duration::from_mins(3);

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The same one makes the same choices; what comes of them is up to the machine.
    pub seed: u64,
    /// So many events there are at least.
    pub events: u64,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Processes.
    pub replicas: usize,
    /// The database that is given; none for a cluster of its own, which is knocked over too.
    pub backend: Option<Backend>,
    /// One of so many requests to the subscriber meets a mood.
    pub moody: u64,
    /// The longest pause between two faults.
    pub calm: Duration,
}

/// Chance that can be repeated.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    /// Another one, for somebody else.
    fn of(seed: u64, whose: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ whose.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// What happened, and what must not have.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Vec<(&'static str, u64)>,
    /// Each promise that was broken.
    pub breaches: Vec<String>,
}

impl Tally {
    fn count(&mut self, what: &'static str, count: u64) {
        match self.counts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, known)) => *known += count,
            None => self.counts.push((what, count)),
        }
    }

    fn breach(&mut self, what: &'static str, details: &str) {
        self.count(what, 1);
        // The first ones say enough.
        if self.breaches.len() < 40 {
            self.breaches.push(format!("{what}: {details}"));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>9}  {what}")?;
        }
        self.breaches.iter().try_for_each(|breach| writeln!(f, "BREACH {breach}"))
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Pause,
    Cut,
    Crash,
    Redis,
    Away,
    Rewrite,
}

#[derive(Default)]
struct Faults {
    kills: AtomicU64,
    pauses: AtomicU64,
    cuts: AtomicU64,
    crashes: AtomicU64,
    redis: AtomicU64,
    away: AtomicU64,
    rewrites: AtomicU64,
    /// One at a time is paused or cut off.
    absence: Mutex<()>,
    redis_away: Mutex<()>,
    failed: Mutex<Vec<String>>,
}

/// Does it, and says what came of it; `say` hears how far it is. Once `stop` is so it ends soon, and all that it
/// started.
///
/// # Errors
/// What could not be set up, or never came back. A broken promise is in the tally.
pub fn run(plan: &Plan, stop: &AtomicBool, say: &(dyn Fn(String) + Sync)) -> anyhow::Result<Tally> {
    let began = Instant::now();
    let mut ground = if plan.backend.is_none() { Ground::own()? } else { Ground::bare()? };
    if plan.backend.is_none() && ground.network.is_none() {
        say("no network namespace can be made here: instead of being cut off, replicas are only paused"
            .into());
    }
    let receiver = Receiver::start(&ground.hosts, Dice::of(plan.seed, 1))?;
    ground.replicate(plan.backend.unwrap_or(Backend::Postgres), plan.replicas, receiver.port())?;
    let urls: Vec<String> = ground.replicas.iter().map(|replica| replica.url.clone()).collect();
    let writers = Writers::new(plan, urls, receiver.port());
    let faults = Faults::default();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for n in 0..8 {
            let (writers, seed) = (&writers, plan.seed);
            scope.spawn(move || writers.write(n, Dice::of(seed, 100 + n)));
        }
        // However it ends, those who write are to end too.
        let done = || -> anyhow::Result<()> {
            // Most are asked for while others write, and some while much else happens.
            let calm = plan.subscriptions - plan.subscriptions / 5;
            writers.subscribe(0..calm)?;
            say(format!("{:?}: {calm} Subscriptions are active", began.elapsed()));
            receiver.moody(plan.moody);
            let (mut dice, mut deck) = (Dice::of(plan.seed, 2), Vec::new());
            std::thread::scope(|scope| {
                let late = scope.spawn(|| writers.subscribe(calm..plan.subscriptions));
                let mut told = Instant::now();
                while !writers.enough() || !late.is_finished() {
                    sleep(Duration::from_millis(
                        dice.below(u64::try_from(plan.calm.as_millis()).unwrap_or(u64::MAX)),
                    ));
                    let fault = deal(&mut deck, &ground, &mut dice);
                    let own = Dice::of(plan.seed, dice.next());
                    let (faults, ground, receiver, writers) = (&faults, &ground, &receiver, &writers);
                    let long = plan.calm;
                    scope.spawn(move || {
                        if let Err(error) = faults.strike(fault, ground, receiver, writers, long, own) {
                            faults.failed(format!("{fault:?}: {error:#}"));
                        }
                    });
                    if told.elapsed() > Duration::from_secs(10) {
                        told = Instant::now();
                        say(format!(
                            "{:?}: {} of {} events are to be, {} were taken",
                            began.elapsed(),
                            writers.expected(),
                            plan.events,
                            receiver.count()
                        ));
                    }
                    anyhow::ensure!(!stop.load(Ordering::Relaxed), "it was stopped");
                    anyhow::ensure!(
                        began.elapsed() < Duration::from_mins(2) + Duration::from_millis(plan.events * 40),
                        "the writers never come to an end"
                    );
                }
                late.join().map_err(|_| anyhow::anyhow!("a Subscription was given up"))?
            })
        };
        let done = done();
        writers.stop();
        done
    })?;
    say(format!("{:?}: the faults have ended", began.elapsed()));
    receiver.moody(0);
    receiver.away(false);
    for replica in &ground.replicas {
        replica.up()?;
    }
    let mut tally = Tally::default();
    let drained = Instant::now();
    let quiet = check::drain(&writers, &receiver, DRAIN)?;
    say(format!("{:?}: drained in {:?}", began.elapsed(), drained.elapsed()));
    faults.tell(&mut tally);
    tally.count("seconds until all was told", drained.elapsed().as_secs());
    if !quiet {
        tally.breach("never told", &format!("not all was told within {DRAIN:?}"));
    }
    check::check(&writers, &receiver, &mut tally)?;
    for replica in &ground.replicas {
        for line in replica.errors() {
            tally.breach("panics", &line);
        }
    }
    Ok(tally)
}

/// How often each fault is in a deck, which is dealt to its end before there is another: each happens in any long run.
const DECK: [(Fault, usize); 7] = [
    (Fault::Kill, 3),
    (Fault::Cut, 2),
    (Fault::Pause, 1),
    (Fault::Crash, 1),
    (Fault::Redis, 1),
    (Fault::Away, 1),
    (Fault::Rewrite, 1),
];

/// The next of what can happen here, dealt from a shuffled deck.
fn deal(left: &mut Vec<Fault>, ground: &Ground, dice: &mut Dice) -> Fault {
    let can = |fault: &Fault| match fault {
        Fault::Cut => ground.network.is_some(),
        Fault::Crash => ground.postgres.is_some(),
        Fault::Redis => ground.redis.is_some(),
        // Alone, it would only keep everybody waiting.
        Fault::Pause => ground.replicas.len() > 1,
        Fault::Kill | Fault::Away | Fault::Rewrite => true,
    };
    if left.is_empty() {
        left.extend(DECK.iter().flat_map(|(fault, times)| std::iter::repeat_n(*fault, *times)).filter(can));
    }
    let n = dice.below(u64::try_from(left.len()).unwrap_or(u64::MAX));
    left.swap_remove(usize::try_from(n).unwrap_or_default())
}

impl Faults {
    fn strike(
        &self,
        fault: Fault,
        ground: &Ground,
        receiver: &Receiver,
        writers: &Writers,
        calm: Duration,
        mut dice: Dice,
    ) -> anyhow::Result<()> {
        let mut below = |most: Duration| {
            Duration::from_millis(dice.below(u64::try_from(most.as_millis()).unwrap_or(u64::MAX)))
        };
        match fault {
            Fault::Kill => {
                let Some(replica) = pick(ground, below(Duration::from_secs(1))) else { return Ok(()) };
                let Ok(_busy) = replica.busy.try_lock() else { return Ok(()) };
                replica.kill();
                self.kills.fetch_add(1, Ordering::Relaxed);
                sleep(below(calm));
                replica.up()?;
            }
            Fault::Pause => {
                let Some(replica) = pick(ground, below(Duration::from_secs(1))) else { return Ok(()) };
                let (Ok(_one), Ok(_busy)) = (self.absence.try_lock(), replica.busy.try_lock()) else {
                    return Ok(());
                };
                replica.signal("STOP")?;
                self.pauses.fetch_add(1, Ordering::Relaxed);
                sleep(LEASE + below(Duration::from_secs(3)));
                replica.signal("CONT")?;
            }
            Fault::Cut => {
                let (Some(network), Some(replica)) = (&ground.network, ground.replicas.last()) else {
                    return Ok(());
                };
                let (Ok(_one), Ok(_busy)) = (self.absence.try_lock(), replica.busy.try_lock()) else {
                    return Ok(());
                };
                network.cut(true)?;
                self.cuts.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(2) + below(LEASE + LEASE / 2));
                network.cut(false)?;
            }
            Fault::Crash => {
                if let Some(postgres) = &ground.postgres {
                    self.crashes.fetch_add(1, Ordering::Relaxed);
                    postgres.crash()?;
                }
            }
            Fault::Redis => {
                if let (Some(redis), Ok(_one)) = (&ground.redis, self.redis_away.try_lock()) {
                    redis.down();
                    self.redis.fetch_add(1, Ordering::Relaxed);
                    sleep(below(calm * 2));
                    redis.up()?;
                }
            }
            Fault::Away => {
                receiver.away(true);
                self.away.fetch_add(1, Ordering::Relaxed);
                sleep(below(calm * 2));
                receiver.away(false);
            }
            Fault::Rewrite => {
                let n = usize::try_from(below(Duration::from_mins(1)).as_millis()).unwrap_or_default();
                if writers.rewrite(n) {
                    self.rewrites.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn failed(&self, why: String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    }

    fn tell(&self, tally: &mut Tally) {
        for (what, count) in [
            ("replicas killed", &self.kills),
            ("replicas paused beyond their lease", &self.pauses),
            ("replicas cut off", &self.cuts),
            ("crashes of PostgreSQL", &self.crashes),
            ("times that Redis was away", &self.redis),
            ("times that the receiver was away", &self.away),
            ("Subscriptions written again", &self.rewrites),
        ] {
            tally.count(what, count.load(Ordering::Relaxed));
        }
        for why in self.failed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            tally.breach("never came back", &why);
        }
    }
}

fn pick(ground: &Ground, chance: Duration) -> Option<&Replica> {
    let n = usize::try_from(chance.as_millis()).unwrap_or_default();
    ground.replicas.get(n % ground.replicas.len().max(1))
}
