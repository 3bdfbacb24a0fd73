//! Traffic from within a node: callers that read at a steady rate, and a line every tenth of a second that says how it went.
//!
//! It runs in the node's own process, so that nobody else's scheduling is measured with it.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use distcache::{Engine, KeySpaceHandle};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use crate::{Class, Loaded, Sample, Versions, commands::with_causes, node::say, pulse::pulse};

/// A load that is under way.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
    teller: JoinHandle<()>,
    /// Once this is sent or dropped, the teller tells the rest and ends.
    ended: oneshot::Sender<()>,
}

/// How to load a node.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) keys: u32,
    /// Keys whose reads are counted apart, and made by callers of their own.
    pub(crate) marked: Vec<u32>,
    /// Callers of each class, each of which waits for its read.
    pub(crate) callers: u32,
    /// Reads a second of each class, if the callers keep up.
    pub(crate) rate: u32,
    /// What the first keys are chosen by.
    pub(crate) seed: u64,
}

#[derive(Debug)]
struct Shared {
    keyspace: KeySpaceHandle,
    stop: AtomicBool,
    /// The newest version that was read here of each number. What is older was replaced, and told so.
    seen: Vec<AtomicU64>,
    others: Stream,
    marked: Stream,
    total: Mutex<Loaded>,
}

/// One class of keys, and what became of its reads since the last line.
#[derive(Debug)]
struct Stream {
    numbers: Vec<u32>,
    class: Mutex<Class>,
}

impl Load {
    /// Starts the callers and the lines.
    pub(crate) fn start(plan: &Plan, engine: &Engine, keyspace: KeySpaceHandle, source: &Versions) -> Self {
        let highest = plan.marked.iter().map(|number| number + 1).max().unwrap_or(0).max(plan.keys);
        let mut is_marked = vec![false; highest as usize];
        plan.marked.iter().for_each(|number| is_marked[*number as usize] = true);
        let others = (0..plan.keys).filter(|number| !is_marked[*number as usize]).collect();
        let shared = Arc::new(Shared {
            keyspace,
            stop: AtomicBool::new(false),
            seen: (0..highest).map(|_| AtomicU64::new(0)).collect(),
            others: Stream::new(others),
            marked: Stream::new(plan.marked.clone()),
            total: Mutex::default(),
        });
        let mut callers = JoinSet::new();
        for (salt, stream) in [Shared::others as Choice, Shared::marked].into_iter().enumerate() {
            if stream(&shared).numbers.is_empty() {
                continue;
            }
            for caller in 0..plan.callers.max(1) {
                let period = Duration::from_secs(1) * plan.callers.max(1) / plan.rate.max(1);
                let seed = plan.seed ^ (u64::from(caller) << 32) ^ salt as u64;
                callers.spawn(Arc::clone(&shared).call(stream, period, seed));
            }
        }
        let (ended, end) = oneshot::channel();
        let teller = tokio::spawn(Arc::clone(&shared).report(engine.clone(), source.clone(), end));
        Self { shared, callers, teller, ended }
    }

    /// Lets the reads under way end, and returns what was read in all.
    pub(crate) async fn stop(mut self) -> Loaded {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        drop(self.ended);
        // It panics no more than the callers do.
        let _ = self.teller.await;
        self.shared.total().clone()
    }
}

/// Which stream a caller reads.
type Choice = fn(&Shared) -> &Stream;

impl Shared {
    const fn others(&self) -> &Stream {
        &self.others
    }

    const fn marked(&self) -> &Stream {
        &self.marked
    }

    async fn call(self: Arc<Self>, stream: Choice, period: Duration, seed: u64) {
        let stream = stream(&self);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut random = seed;
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            random = random.wrapping_add(GOLDEN_GAMMA);
            let number = stream.numbers[(mix(random) % stream.numbers.len() as u64) as usize];
            let floor = self.seen[number as usize].load(Ordering::Relaxed);
            let start = Instant::now();
            let answer = self.keyspace.get(&Versions::key(number)).await;
            let took = start.elapsed();
            let answer = answer.map(|value| value.as_deref().and_then(|value| Versions::version(number, value)));
            if let Ok(Some(version)) = answer {
                self.seen[number as usize].fetch_max(version, Ordering::Relaxed);
            }
            let mut class = stream.class();
            class.took_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            let fault = match answer {
                Ok(Some(version)) if version >= floor => continue,
                Ok(Some(version)) => {
                    class.stale += 1;
                    format!("v{number}: version {version} after {floor}")
                }
                Ok(None) => {
                    class.wrong += 1;
                    format!("v{number}: not its value")
                }
                Err(error) => {
                    class.errors += 1;
                    format!("v{number}: {}", with_causes(&error))
                }
            };
            class.first_fault.get_or_insert(fault);
        }
    }

    async fn report(self: Arc<Self>, engine: Engine, source: Versions, end: oneshot::Receiver<()>) {
        pulse(&engine, PERIOD, end, |left| {
            let (others, marked) = (self.others.take(), self.marked.take());
            self.total().add(&others);
            self.total().add(&marked);
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let at_ms = u64::try_from(at_ms.as_millis()).unwrap_or(u64::MAX);
            let members = engine.members().len();
            // Nobody reads them any more; whoever started the node is gone, and so will it be.
            let _ =
                say(&crate::Answer::Sample(Sample { at_ms, members, left, fetches: source.fetches(), others, marked }));
        })
        .await;
    }

    fn total(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn new(numbers: Vec<u32>) -> Self {
        Self { numbers, class: Mutex::default() }
    }

    fn class(&self) -> std::sync::MutexGuard<'_, Class> {
        self.class.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Class {
        mem::take(&mut *self.class())
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): even, and the same in every run.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
/// Short enough to see when things change, long enough to cost nothing.
const PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use distcache::{Entry, SourceKeySpace};

    use super::*;
    use crate::{Cities, Scratch};

    /// Loads one node until `enough` reads were made of a cache that was put `value` under `v0`, after it was read once.
    async fn load_with(value: &str) -> Loaded {
        let scratch = Scratch::new("load").unwrap();
        let cities = Cities::create(&scratch.path().join("cities.db")).unwrap();
        let source = Versions::new(&cities, Duration::ZERO);
        source.raise(&[0]).unwrap();
        let engine = Engine::builder().keyspace(SourceKeySpace::new("versions", source.clone())).start().await.unwrap();
        let keyspace = engine.keyspace("versions").unwrap();
        let plan = Plan { keys: 1, marked: Vec::new(), callers: 1, rate: 2_000, seed: 1 };
        let load = Load::start(&plan, &engine, keyspace.clone(), &source);
        let deadline = Instant::now() + Duration::from_secs(10);
        let reads = |after: u64| {
            let keyspace = keyspace.clone();
            async move {
                while keyspace.stats().reads < after {
                    assert!(Instant::now() < deadline, "there is no traffic");
                    tokio::task::yield_now().await;
                }
            }
        };
        reads(3).await;
        let put = keyspace.put(Entry::new("v0", value.to_owned())).await.unwrap();
        assert_eq!(put, distcache::Outcome::Applied);
        reads(keyspace.stats().reads + 3).await;
        load.stop().await
    }

    #[tokio::test]
    async fn a_right_value_an_older_one_and_another_key_s_are_told_apart() {
        let right = load_with("v0 1").await;
        assert!(right.reads >= 6 && (right.wrong, right.stale, right.errors) == (0, 0, 0), "{right:?}");
        let stale = load_with("v0 0").await;
        assert!(stale.stale > 0 && (stale.wrong, stale.errors) == (0, 0), "{stale:?}");
        let wrong = load_with("v1 1").await;
        assert!(wrong.wrong > 0 && (wrong.stale, wrong.errors) == (0, 0), "{wrong:?}");
    }
}
