//! What a node process does for each request.

use std::{
    iter,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use distcache::{Bytes, Engine, Entry, KeySpaceHandle, Outcome, SourceKeySpace};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::Mutex,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use crate::{
    Cities, Found, Hammered, Latencies, Loaded, MemberList, NodeStats, Owned, Pending, ReadReport, Request, Started,
    Stopped, Updated, Versions,
    audit::{Auditor, now_us},
    load::{Load, Plan},
    node::{KEYSPACE, VERSIONS},
};

/// A running node and its database.
#[derive(Debug)]
pub(crate) struct Commands {
    engine: Engine,
    keyspace: KeySpaceHandle,
    cities: Cities,
    versions_keyspace: KeySpaceHandle,
    versions: Versions,
    /// How the keyspace of the numbered keys is defined.
    definition: SourceKeySpace,
    load: Mutex<Option<Load>>,
    audit: Mutex<Option<Auditor>>,
}

impl Commands {
    pub(crate) fn new(
        engine: Engine,
        cities: Cities,
        versions: Versions,
        definition: SourceKeySpace,
    ) -> anyhow::Result<Self> {
        let (keyspace, versions_keyspace) = (engine.keyspace(KEYSPACE)?, engine.keyspace(VERSIONS)?);
        let (load, audit) = (Mutex::default(), Mutex::default());
        Ok(Self { engine, keyspace, cities, versions_keyspace, versions, definition, load, audit })
    }

    /// Does what is asked, but for a shutdown, which is the caller's.
    pub(crate) async fn obey(&self, request: Request) -> anyhow::Result<Value> {
        match request {
            Request::ReadAll { readers } => json(self.read_all(readers).await?),
            Request::Get { key } => {
                let value = self.keyspace.get(&key).await?;
                json(Found { value: value.map(|value| String::from_utf8_lossy(&value).into_owned()) })
            }
            Request::Put { key, value } => json(pending(self.keyspace.put(Entry::new(key, value))).await?),
            Request::Delete { key } => json(pending(self.keyspace.delete(&key)).await?),
            Request::DeleteMany { keys } => json(pending(self.keyspace.delete_many(&keys)).await?),
            Request::Update { keys, population } => {
                let cities = self.cities.clone();
                let rows = tokio::task::spawn_blocking(move || cities.set_population(&keys, population)).await??;
                json(Updated { rows })
            }
            Request::Stats => json(stats(&self.keyspace, self.cities.fetches())),
            Request::VersionStats => json(stats(&self.versions_keyspace, self.versions.fetches())),
            Request::Owned { numbers } => json(self.owned(numbers.into()).await?),
            Request::Scan { numbers, readers } => json(self.scan(numbers.into(), readers).await?),
            Request::Storm { number, callers } => json(self.scan(vec![number; callers], callers).await?),
            Request::Raise { numbers } => {
                let (versions, numbers) = (self.versions.clone(), Vec::from(numbers));
                let rows = tokio::task::spawn_blocking(move || versions.raise(&numbers)).await??;
                json(Updated { rows })
            }
            Request::Forget { numbers } => {
                let keys: Vec<_> = Vec::from(numbers).into_iter().map(Versions::key).collect();
                json(pending(self.versions_keyspace.delete_many(&keys)).await?)
            }
            Request::Load { keys, marked, callers, rate, seed } => {
                let mut load = self.load.lock().await;
                if let Some(before) = load.take() {
                    before.stop().await;
                }
                let plan = Plan { keys, marked, callers, rate, seed };
                *load = Some(Load::start(&plan, &self.engine, self.versions_keyspace.clone(), &self.versions));
                json(Started { keys: keys as usize })
            }
            Request::StopLoad => {
                let load = self.load.lock().await.take().context("there is no load")?;
                json(load.stop().await)
            }
            Request::Audit(plan) => {
                let keys = plan.keys as usize;
                let mut audit = self.audit.lock().await;
                if let Some(before) = audit.take() {
                    before.stop().await;
                }
                let (keyspace, versions) = (self.versions_keyspace.clone(), self.versions.clone());
                *audit = Some(Auditor::start(plan, &self.engine, keyspace, versions));
                json(Started { keys })
            }
            Request::StopAudit => {
                self.audit.lock().await.take().context("there is no audit")?.stop().await;
                json(Started { keys: 0 })
            }
            Request::Fill { numbers } => json(self.fill(numbers.into()).await?),
            Request::Hammer { number, callers, for_ms } => {
                json(self.hammer(number, callers, Duration::from_millis(for_ms)).await?)
            }
            Request::DropVersions => json(pending(self.engine.delete_keyspace(VERSIONS)).await?),
            Request::DefineVersions => {
                self.engine.add_keyspace(self.definition.clone())?;
                json(Started { keys: 0 })
            }
            Request::WaitDropped => json(timeout(LONG, self.wait_dropped()).await.context("it is there still")?),
            Request::Members => json(self.members()),
            Request::WaitMembers { count, within_ms } => {
                json(self.wait_members(count, Duration::from_millis(within_ms)).await?)
            }
            Request::Shutdown => bail!("a shutdown is the last request"),
        }
    }

    /// Leaves the cluster.
    pub(crate) async fn shutdown(&self, drain: Duration) -> Stopped {
        let start = Instant::now();
        self.engine.shutdown(drain).await;
        Stopped { took_ms: millis(start.elapsed()) }
    }

    /// Reads every city, and holds each answer against the database as it was at the start.
    async fn read_all(&self, readers: usize) -> anyhow::Result<ReadReport> {
        let cities = self.cities.clone();
        let rows = tokio::task::spawn_blocking(move || cities.rows()).await??;
        read_rows(&self.keyspace, rows, readers).await
    }

    /// Reads numbered keys likewise.
    async fn scan(&self, numbers: Vec<u32>, readers: usize) -> anyhow::Result<ReadReport> {
        let versions = self.versions.clone();
        let rows = tokio::task::spawn_blocking(move || versions.rows(&numbers)).await??;
        read_rows(&self.versions_keyspace, rows, readers).await
    }

    /// Finds the keys of this node by how it counts a read of them: an owner alone answers from its memory, or loads for itself.
    async fn owned(&self, numbers: Vec<u32>) -> anyhow::Result<Owned> {
        let own = || {
            let stats = self.versions_keyspace.stats();
            stats.local_hits + stats.local_loads
        };
        let mut owned = Owned { numbers: Vec::new() };
        for number in numbers {
            let before = own();
            self.versions_keyspace.get(&Versions::key(number)).await?;
            if own() > before {
                owned.numbers.push(number);
            }
        }
        Ok(owned)
    }

    async fn fill(&self, numbers: Vec<u32>) -> anyhow::Result<Loaded> {
        let mut loaded = Loaded::default();
        for batch in numbers.chunks(FILLED_AT_ONCE) {
            let keys: Vec<_> = batch.iter().copied().map(Versions::key).collect();
            for (number, value) in batch.iter().zip(self.versions_keyspace.get_many(&keys).await?) {
                loaded.reads += 1;
                match value {
                    Ok(Some(value)) if Versions::version(*number, &value).is_some() => {}
                    Ok(_) => loaded.wrong += 1,
                    Err(_) => loaded.errors += 1,
                }
            }
        }
        Ok(loaded)
    }

    async fn hammer(&self, number: u32, callers: u32, time: Duration) -> anyhow::Result<Hammered> {
        let start = Instant::now();
        let mut tasks: JoinSet<_> =
            (0..callers).map(|_| strike(self.versions_keyspace.clone(), number, time)).collect();
        let mut all = Hammered::default();
        while let Some(done) = tasks.join_next().await {
            let (reads, errors) = done.context("a caller ended early")?;
            (all.reads, all.errors) = (all.reads + reads, all.errors + errors);
        }
        Ok(Hammered { took_us: micros(start.elapsed()), ..all })
    }

    async fn wait_dropped(&self) -> Pending {
        let start = Instant::now();
        while self.engine.local_keyspaces().iter().any(|name| name == VERSIONS) {
            sleep(Duration::from_millis(1)).await;
        }
        Pending { pending: Vec::new(), took_us: micros(start.elapsed()), at_us: now_us() }
    }

    fn members(&self) -> MemberList {
        MemberList { members: self.engine.members().into_iter().map(|member| member.name).collect() }
    }

    async fn wait_members(&self, count: usize, within: Duration) -> anyhow::Result<MemberList> {
        let mut events = self.engine.events();
        let wait = timeout(within, async {
            // The first event is the members as they are, so nothing is missed between looking and waiting.
            while events.next().await.is_some() {
                let members = self.members();
                if members.members.len() == count {
                    return Ok(members);
                }
            }
            bail!("the engine is gone")
        });
        wait.await.unwrap_or_else(|_| {
            let MemberList { members } = self.members();
            bail!("there are {} members ({}), not {count}, after {within:?}", members.len(), members.join(", "))
        })
    }
}

/// Reads rows, `readers` at a time, and holds each answer against its row.
async fn read_rows(
    keyspace: &KeySpaceHandle,
    rows: Vec<(String, Bytes)>,
    readers: usize,
) -> anyhow::Result<ReadReport> {
    let readers = readers.clamp(1, rows.len().max(1));
    let mut shares = vec![Vec::new(); readers];
    for (at, row) in rows.into_iter().enumerate() {
        shares[at % readers].push(row);
    }
    let start = Instant::now();
    let mut tasks: JoinSet<_> = shares.into_iter().map(|rows| read(keyspace.clone(), rows)).collect();
    let mut reads = Vec::new();
    while let Some(share) = tasks.join_next().await {
        reads.extend(share.context("a reader ended early")?);
    }
    Ok(report(reads, start.elapsed()))
}

fn stats(keyspace: &KeySpaceHandle, fetches: u64) -> NodeStats {
    let stats = keyspace.stats();
    NodeStats {
        fetches,
        reads: stats.reads,
        local_hits: stats.local_hits,
        near_hits: stats.near_hits,
        peer_hits: stats.peer_hits,
        peer_loads: stats.peer_loads,
        peer_fills: stats.peer_fills,
        local_loads: stats.local_loads,
        fallbacks: stats.fallbacks,
        missing: stats.missing,
        failures: stats.failures,
        source_loads: stats.source_loads,
        fallback_loads: stats.fallback_loads,
        peer_reads: stats.peer_reads,
        entries: stats.entries,
        reserve_entries: stats.reserve_entries,
        bytes: stats.bytes,
    }
}

/// How one read went.
struct Read {
    took: Duration,
    fault: Option<Fault>,
}

enum Fault {
    Wrong(String),
    Error(String),
}

async fn read(keyspace: KeySpaceHandle, rows: Vec<(String, Bytes)>) -> Vec<Read> {
    let mut reads = Vec::with_capacity(rows.len());
    for (key, expected) in rows {
        let start = Instant::now();
        let answer = keyspace.get(&key).await;
        let took = start.elapsed();
        let fault = match answer {
            Ok(Some(value)) if value == expected => None,
            Ok(value) => Some(Fault::Wrong(format!("{key}: is {value:?}, should be {expected:?}"))),
            Err(error) => Some(Fault::Error(format!("{key}: {}", with_causes(&error)))),
        };
        reads.push(Read { took, fault });
    }
    reads
}

fn report(reads: Vec<Read>, took: Duration) -> ReadReport {
    let times: Latencies = reads.iter().map(|read| read.took).collect();
    let mut report = ReadReport {
        reads: reads.len() as u64,
        p50_ns: nanos(times.percentile(50.0)),
        p99_ns: nanos(times.percentile(99.0)),
        max_ns: nanos(times.percentile(100.0)),
        took_ms: millis(took),
        ..ReadReport::default()
    };
    for fault in reads.into_iter().filter_map(|read| read.fault) {
        let (count, text) = match fault {
            Fault::Wrong(text) => (&mut report.wrong, text),
            Fault::Error(text) => (&mut report.errors, text),
        };
        *count += 1;
        report.first_fault.get_or_insert(text);
    }
    report
}

/// Waits for a write, and tells how long it took.
async fn pending(write: impl Future<Output = distcache::Result<Outcome>>) -> anyhow::Result<Pending> {
    let start = Instant::now();
    let pending = match write.await? {
        Outcome::Degraded { pending } => pending,
        _ => Vec::new(),
    };
    Ok(Pending { pending, took_us: micros(start.elapsed()), at_us: now_us() })
}

/// Reads one key again and again, and returns how many reads were made and how many of them failed.
async fn strike(keyspace: KeySpaceHandle, number: u32, time: Duration) -> (u64, u64) {
    let (key, start) = (Versions::key(number), Instant::now());
    let (mut reads, mut errors) = (0, 0);
    while start.elapsed() < time {
        for _ in 0..STRIKES {
            let answer = keyspace.get(&key).await;
            errors += u64::from(!answer.is_ok_and(|value| value.is_some()));
        }
        reads += STRIKES;
        // A hit never waits, and the node has other things to do than to hit.
        yield_now().await;
    }
    (reads, errors)
}

fn json(answer: impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(answer)?)
}

pub(crate) fn with_causes(error: &distcache::Error) -> String {
    let causes = iter::successors(std::error::Error::source(error), |cause| cause.source());
    iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As many as a database reads in one visit.
const FILLED_AT_ONCE: usize = 1_000;
/// Some microseconds of hits.
const STRIKES: u64 = 64;
/// A node that was not told by then will not be.
const LONG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_wrong_answers_apart_from_errors() {
        let read = |fault| Read { took: Duration::from_micros(1), fault };
        let (wrong, error) = (Fault::Wrong("stale".to_owned()), Fault::Error("no".to_owned()));
        let report = report(vec![read(None), read(Some(wrong)), read(Some(error))], Duration::from_millis(2));
        assert_eq!((report.reads, report.wrong, report.errors), (3, 1, 1));
        assert_eq!(report.first_fault.as_deref(), Some("stale"));
        assert!(!report.is_clean(3));
    }

    #[tokio::test]
    async fn a_value_other_than_the_expected_one_is_wrong_and_so_is_none() {
        let scratch = crate::Scratch::new("commands").unwrap();
        let cities = Cities::create(&scratch.path().join("cities.db")).unwrap();
        let keyspace = SourceKeySpace::new(KEYSPACE, cities.clone());
        let versions = Versions::new(&cities, Duration::ZERO);
        let numbered = SourceKeySpace::new(VERSIONS, versions.clone());
        let engine = Engine::builder().keyspace(keyspace).keyspace(numbered.clone()).start().await.unwrap();
        let commands = Commands::new(engine, cities.clone(), versions, numbered).unwrap();
        assert!(commands.read_all(4).await.unwrap().is_clean(3_500));

        cities.set_population(&["32900"], 7).unwrap();
        let stale = commands.read_all(1).await.unwrap();
        assert_eq!((stale.wrong, stale.errors), (1, 0));
        assert!(stale.first_fault.unwrap().starts_with("32900: is"));

        let absent = read(commands.keyspace.clone(), vec![("1".to_owned(), Bytes::from("x"))]).await;
        assert!(matches!(absent[0].fault, Some(Fault::Wrong(_))));
    }
}
