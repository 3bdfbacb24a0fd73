//! `transport-bench round-trips`: answers a second, by size of value and calls in flight, each server in turn.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Subject, certificate, grpc, key, ours, raw, redis, serve};
use distcache_benches::{records, stats};

/// How a client asks.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes of a value.
    pub value: usize,
    /// Keys in one request.
    pub keys: usize,
    /// Requests that wait for an answer at any time.
    pub in_flight: usize,
    /// For how long it asks.
    pub time: Duration,
}

impl Load {
    /// Runs a loop of calls in as many tasks as are to be in flight, and returns how many ended well.
    ///
    /// # Errors
    ///
    /// That of a call that failed.
    pub async fn in_tasks<F, C>(&self, call: F) -> anyhow::Result<u64>
    where
        F: Fn(Bytes, usize) -> C + Clone + Send + Sync + 'static,
        C: Future<Output = anyhow::Result<()>> + Send,
    {
        let keys = Bytes::from(key(self.value).repeat(self.keys));
        let mut tasks = tokio::task::JoinSet::new();
        let (start, time, answer) = (Instant::now(), self.time, self.value * self.keys);
        for _ in 0..self.in_flight {
            let (call, keys) = (call.clone(), keys.clone());
            tasks.spawn(async move {
                let mut answers = 0;
                while start.elapsed() < time {
                    call(keys.clone(), answer).await?;
                    answers += 1;
                }
                anyhow::Ok(answers)
            });
        }
        let mut answers = 0;
        while let Some(done) = tasks.join_next().await {
            answers += done??;
        }
        Ok(answers)
    }
}

/// How many answers came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rate {
    /// Who answered.
    pub subject: Subject,
    /// Bytes of a value.
    pub value: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// Keys in one call.
    pub keys: usize,
    /// Answers a second, in each round.
    pub rounds: Vec<f64>,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leaves the others out.
    #[arg(long, value_delimiter = ',')]
    pub subjects: Vec<Subject>,
    /// Leaves the other sizes of values out.
    #[arg(long, value_delimiter = ',')]
    pub values: Vec<usize>,
    /// Leaves other numbers of calls in flight out.
    #[arg(long, value_delimiter = ',')]
    pub in_flight: Vec<usize>,
    /// How many times each runs.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300)]
    pub time: u64,
}

/// A client that is connected to its server.
pub struct Client {
    subject: Subject,
    _server: serve::Served,
    kind: Kind,
}

enum Kind {
    Raw(Option<tokio::net::TcpStream>),
    Ours(distcache_transport::Link),
    Tonic(grpc::Client),
    Redis(std::net::SocketAddr),
}

impl Client {
    /// Starts a server and connects to it.
    ///
    /// # Errors
    ///
    /// The server does not start, or cannot be reached.
    pub async fn start(subject: Subject) -> anyhow::Result<Self> {
        let certificate = (subject == Subject::OursTls).then(certificate::make).transpose()?;
        let server = serve::Served::start(subject, certificate.as_deref())?;
        let addr = server.addr;
        let kind = match subject {
            Subject::Raw => Kind::Raw(Some(raw::connect(addr).await?)),
            Subject::Ours | Subject::OursTls => {
                let tls = certificate.as_deref().map(certificate::read).transpose()?;
                Kind::Ours(ours::connect(addr, tls).await?)
            }
            Subject::Tonic => Kind::Tonic(grpc::connect(addr).await?),
            Subject::Redis => Kind::Redis(addr),
        };
        Ok(Self { subject, _server: server, kind })
    }

    /// Asks, and returns answers a second.
    ///
    /// # Errors
    ///
    /// A call fails.
    pub async fn rate(&mut self, load: &Load) -> anyhow::Result<f64> {
        let start = Instant::now();
        let answers = match &mut self.kind {
            Kind::Raw(stream) => {
                let (mut taken, load) = (stream.take().context("the stream broke before")?, *load);
                // On one of the runtime's threads, as the tasks of the others are.
                let asked = async move { raw::ask(&mut taken, &load).await.map(|answers| (taken, answers)) };
                let (whole, answers) = tokio::spawn(asked).await??;
                *stream = Some(whole);
                answers
            }
            Kind::Ours(link) => ours::ask(link, load).await?,
            Kind::Tonic(client) => grpc::ask(client, load).await?,
            Kind::Redis(addr) => redis::ask(*addr, load).await?,
        };
        Ok(answers as f64 / start.elapsed().as_secs_f64())
    }

    /// Returns our link, if it is one.
    #[must_use]
    pub fn link(&self) -> Option<&distcache_transport::Link> {
        if let Kind::Ours(link) = &self.kind { Some(link) } else { None }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Starts a client for each of those asked for that can be had.
///
/// # Errors
///
/// A server does not start, or cannot be reached.
pub async fn clients(chosen: &[Subject]) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for subject in Subject::ALL.iter().filter(|subject| chosen.is_empty() || chosen.contains(subject)) {
        match redis::missing().filter(|_| *subject == Subject::Redis) {
            Some(why) => println!("skipped: {subject}, {why}"),
            None => clients.push(Client::start(*subject).await?),
        }
    }
    Ok(clients)
}

/// Lets clients take turns at one load, tells about them, and returns their rates.
///
/// # Errors
///
/// A call fails.
pub async fn contest(clients: &mut [Client], load: &Load, rounds: usize) -> anyhow::Result<Vec<Rate>> {
    let mut all = vec![Vec::new(); clients.len()];
    let warm_up = Load { time: load.time / 4, ..*load };
    for _ in 0..rounds {
        for (client, rounds) in clients.iter_mut().zip(&mut all) {
            client.rate(&warm_up).await?;
            rounds.push(client.rate(load).await?);
        }
    }
    println!("\nvalues of {} bytes, {} keys a call, {} calls in flight", load.value, load.keys, load.in_flight);
    let limit = stats::median(&all[0]);
    let mut rates = Vec::new();
    for (client, rounds) in clients.iter().zip(all) {
        let middle = stats::median(&rounds);
        let share = middle / limit;
        println!("{:<24}{middle:>12.0} answers/s   {share:>5.2} of the first", client.subject);
        let Load { value, in_flight, keys, .. } = *load;
        rates.push(Rate { subject: client.subject, value, in_flight, keys, rounds });
    }
    Ok(rates)
}

/// Measures, tells about each load, and stores all.
///
/// # Errors
///
/// A server does not start, a call fails, or the results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let rates = serve::runtime()?.block_on(async {
        let mut clients = clients(&args.subjects).await?;
        let mut rates = Vec::new();
        for (value, in_flight) in LOADS {
            let is_wanted = |chosen: &[usize], one| chosen.is_empty() || chosen.contains(one);
            if is_wanted(&args.values, value) && is_wanted(&args.in_flight, in_flight) {
                let time = Duration::from_millis(args.time);
                let load = Load { value: *value, keys: 1, in_flight: *in_flight, time };
                rates.extend(contest(&mut clients, &load, args.rounds).await?);
            }
        }
        anyhow::Ok(rates)
    })?;
    records::write(out, FILE, &rates)
}

/// The file of [`Rate`]s.
pub const FILE: &str = "round-trips.jsonl";

/// Sizes of values, and how many calls are in flight.
const LOADS: &[(usize, usize)] = &[
    (128, 1),
    (128, 16),
    (128, 64),
    (128, 256),
    (64, 64),
    (1 << 10, 1),
    (1 << 10, 64),
    (16 << 10, 1),
    (16 << 10, 64),
    (1 << 20, 1),
    (1 << 20, 4),
];
