//! One node of a cluster as a process: an engine over the cities, told what to do by lines on its standard input.
//!
//! See [`Request`] for the lines. The process ends with a `shutdown` request, or when its input is closed, so
//! that no node outlives whoever started it.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use distcache::{Engine, SourceKeySpace, TlsConfig};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::{Answer, Cities, Ready, Request, Versions, commands::Commands, finding::Finding};

/// How to start a node.
#[derive(Debug, Clone, clap::Args)]
#[non_exhaustive]
pub struct Args {
    /// The node's name on the ring, unique in the cluster.
    #[arg(long)]
    pub name: String,
    /// The address to listen on; with port 0 the system chooses.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub bind: String,
    /// How it finds the others.
    #[command(flatten)]
    pub finding: Finding,
    /// The SQLite database of cities.
    #[arg(long, value_name = "FILE")]
    pub database: PathBuf,
    /// Makes that database first, from the cities that come with the examples.
    #[arg(long)]
    pub create: bool,
    /// How much longer a visit to the source of the numbered keys takes than its query, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub source_delay_ms: u64,
    /// For how long this node keeps copies of hot values that others own, in milliseconds; 0 for not at all. The engine's default if it is not
    /// given.
    #[arg(long, value_name = "MS")]
    pub near_ttl_ms: Option<u64>,
    /// How many bytes of the hottest numbered values another node has copies of.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub backup_bytes: u64,
    /// How many bytes the numbered keys may take.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_bytes: u64,
    /// How many members, this node among them, must be there before the node says that it serves.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_members: usize,
    /// A defect to run with.
    #[cfg(distcache_defects)]
    #[arg(long, value_name = "NAME")]
    pub defect: Option<String>,
    /// Allows plain links on addresses that other machines can reach.
    #[arg(long)]
    pub insecure: bool,
    /// The certificate authority of the cluster, as PEM.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// This node's certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// The private key of that certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
}

/// Runs a node until it is told to shut down, or its standard input is closed.
///
/// # Errors
/// The database cannot be opened, the engine cannot start, or standard output is closed. A request that fails is answered
/// with an error, and does not end the node.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // Standard output is for answers only.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    #[cfg(distcache_defects)]
    {
        crate::defect::choose(args.defect.as_deref())?;
        crate::defect::here();
        runtime.on_thread_start(crate::defect::here);
    }
    runtime.enable_all().build()?.block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let cities = if args.create { Cities::create(&args.database)? } else { Cities::open(&args.database)? };
    let versions = Versions::new(&cities, Duration::from_millis(args.source_delay_ms));
    let numbered =
        SourceKeySpace::new(VERSIONS, versions.clone()).max_bytes(args.max_bytes).backup_bytes(args.backup_bytes);
    let engine =
        start(args, cities.clone(), numbered.clone()).await.with_context(|| format!("{} cannot start", args.name))?;
    let addr = engine.local_addr().context("the node has no address")?.to_string();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock_ms = u64::try_from(clock.as_millis())?;
    answer(&Ok(Ready { name: engine.name().to_owned(), addr, pid: std::process::id(), clock_ms }))?;

    let commands = Commands::new(engine, cities, versions, numbered)?;
    let mut lines = input();
    while let Some(line) = lines.recv().await {
        match serde_json::from_str(&line) {
            Ok(Request::Shutdown) => return answer(&Ok(commands.shutdown(DRAIN).await)),
            Ok(request) => answer(&commands.obey(request).await)?,
            Err(error) => answer::<()>(&Err(error.into()))?,
        }
    }
    commands.shutdown(DRAIN).await;
    Ok(())
}

async fn start(args: &Args, cities: Cities, numbered: SourceKeySpace) -> anyhow::Result<Engine> {
    let mut builder = Engine::builder()
        .bind(&args.bind)
        .name(&args.name)
        .label("cities")
        .insecure(args.insecure)
        .min_members(args.min_members)
        .keyspace(SourceKeySpace::new(KEYSPACE, cities))
        .keyspace(numbered);
    if let Some(near_ttl) = args.near_ttl_ms {
        builder = builder.near_ttl(Duration::from_millis(near_ttl));
    }
    builder = args.finding.apply(builder)?;
    if let (Some(ca), Some(cert), Some(key)) = (&args.ca, &args.cert, &args.key) {
        builder = builder.tls(TlsConfig::from_pem_files(ca, cert, key)?);
    }
    Ok(builder.start().await?)
}

/// Reads lines in a thread of its own. A blocking read cannot be cancelled, and a runtime that waited for one would not end.
fn input() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Writes the line of an answer.
fn answer<T: Serialize>(result: &anyhow::Result<T>) -> anyhow::Result<()> {
    say(&match result {
        Ok(value) => Answer::Ok(serde_json::to_value(value)?),
        // The alternate form is the error with all its causes, on one line.
        Err(error) => Answer::Error(format!("{error:#}")),
    })
}

/// Writes one line.
pub(crate) fn say(answer: &Answer) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The keyspace of the examples.
pub const KEYSPACE: &str = "cities";
/// The keyspace of the numbered keys, for traffic.
pub const VERSIONS: &str = "versions";
/// Enough for requests in flight to end; the reads of the examples take microseconds.
const DRAIN: Duration = Duration::from_secs(5);
