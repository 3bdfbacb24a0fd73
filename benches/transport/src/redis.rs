//! Redis, asked for one key on each of many connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{SIZES, key, round_trips::Load, value_of};

/// Says why Redis is not measured, if it is not.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let found = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_err().then_some("redis-server is not installed")
}

/// Starts a Redis that keeps nothing on disk, and stores the values.
///
/// # Errors
///
/// It is not installed, or does not answer.
pub fn start() -> anyhow::Result<(Child, SocketAddr)> {
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(PROGRAM);
    command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start redis-server")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = store(addr) {
        anyhow::ensure!(Instant::now() < deadline, "redis-server does not answer: {error}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok((child, addr))
}

fn store(addr: SocketAddr) -> io::Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr)?;
    for size in SIZES {
        let (key, value) = (key(*size), value_of(&key(*size)).expect("a value of each size"));
        write!(stream, "*3\r\n$3\r\nSET\r\n${}\r\n", key.len())?;
        stream.write_all(&[&key[..], format!("\r\n${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat())?;
        let mut ok = [0; 5];
        stream.read_exact(&mut ok)?;
    }
    Ok(())
}

/// Asks in a closed loop, on as many connections as calls are in flight, and returns how many answers came.
///
/// # Errors
///
/// A connection breaks.
pub async fn ask(addr: SocketAddr, load: &Load) -> io::Result<u64> {
    let key = key(load.value);
    let mut request = format!("*2\r\n$3\r\nGET\r\n${}\r\n", key.len()).into_bytes();
    request.extend_from_slice(&key);
    request.extend_from_slice(b"\r\n");
    let answer = format!("${}\r\n\r\n", load.value).len() + load.value;
    let mut tasks = tokio::task::JoinSet::new();
    let (start, time) = (Instant::now(), load.time);
    for _ in 0..load.in_flight {
        let request = request.clone();
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            let (mut buffer, mut answers) = (vec![0; answer], 0);
            while start.elapsed() < time {
                stream.write_all(&request).await?;
                stream.read_exact(&mut buffer).await?;
                answers += 1;
            }
            io::Result::Ok(answers)
        });
    }
    let mut answers = 0;
    while let Some(done) = tasks.join_next().await {
        answers += done.map_err(io::Error::other)??;
    }
    Ok(answers)
}

const PROGRAM: &str = "redis-server";
