//! Runs the stand-in as a process: prints its URL, and takes pods as lines of its standard input, to its end.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use distcache_kube_api::{ApiServer, Line};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// A stand-in for a Kubernetes API server. It answers each line with `ok`, and ends with its standard input.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let server = ApiServer::start_at(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
    println!("{}", server.url());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.parse()? {
            Line::Add(pod) => server.put_pod(&pod),
            Line::Remove(name) => {
                server.remove_pod(&name);
            }
        }
        println!("ok");
    }
    Ok(())
}
