//! What sockets alone can do: frames of the same size as ours, and as many in one write as there are to be written.

use std::{io, net::SocketAddr, time::Instant};

use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{key, round_trips::Load, value_of};

/// Answers frames until the process ends.
///
/// # Errors
///
/// It cannot listen.
pub async fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(addr)
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut output) = (BytesMut::with_capacity(BUFFER), BytesMut::with_capacity(BUFFER));
    while stream.read_buf(&mut input).await? > 0 {
        while let Some(key) = next_frame(&mut input) {
            let count = key.len() / crate::KEY_BYTES;
            let value = value_of(&key).ok_or(io::ErrorKind::InvalidData)?;
            put_header(count * value.len(), &mut output);
            for _ in 0..count {
                if value.len() >= UNCOPIED {
                    stream.write_all(&output).await?;
                    output.clear();
                    stream.write_all(&value).await?;
                } else {
                    output.put_slice(&value);
                }
            }
        }
        stream.write_all(&output).await?;
        output.clear();
        input.reserve(BUFFER);
    }
    Ok(())
}

/// Asks in a closed loop, and returns how many answers came.
///
/// # Errors
///
/// The connection breaks.
pub async fn ask(stream: &mut TcpStream, load: &Load) -> io::Result<u64> {
    let mut request = BytesMut::new();
    let keys = key(load.value).repeat(load.keys);
    put_header(keys.len(), &mut request);
    request.put_slice(&keys);
    let mut requests = request.repeat(load.in_flight);
    stream.write_all(&requests).await?;
    let answer_bytes = HEADER + load.value * load.keys;
    let mut buffer = vec![0; BUFFER.max(answer_bytes.min(4 * BUFFER))];
    let (start, mut answers, mut waiting, mut arrived) = (Instant::now(), 0, load.in_flight, 0);
    while waiting > 0 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        arrived += read;
        let whole = arrived / answer_bytes;
        if whole == 0 {
            continue;
        }
        arrived -= whole * answer_bytes;
        answers += whole as u64;
        if start.elapsed() < load.time {
            requests.clear();
            (0..whole).for_each(|_| requests.extend_from_slice(&request));
            stream.write_all(&requests).await?;
        } else {
            waiting -= whole;
        }
    }
    Ok(answers)
}

/// Connects a client.
///
/// # Errors
///
/// Nobody listens.
pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn next_frame(input: &mut BytesMut) -> Option<BytesMut> {
    let (length, _) = input.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if input.len() < HEADER + length {
        input.reserve(HEADER + length - input.len());
        return None;
    }
    input.advance(HEADER);
    Some(input.split_to(length))
}

fn put_header(length: usize, output: &mut BytesMut) {
    output.put_u32_le(u32::try_from(length).expect("frames are small"));
    output.put_bytes(0, HEADER - 4);
}

/// As long as our header.
const HEADER: usize = 20;
const BUFFER: usize = 64 << 10;
/// From here on values go to the socket as they are.
const UNCOPIED: usize = 64 << 10;
