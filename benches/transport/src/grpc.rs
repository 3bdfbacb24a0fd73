//! gRPC as tonic speaks it, with keys and values as they are for messages.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{NamedService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{round_trips::Load, value_of};

/// A connected client.
pub type Client = Grpc<Channel>;

/// Serves until the process ends.
///
/// # Errors
///
/// It cannot listen.
pub async fn serve() -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    // The builder's own option would not reach sockets that it did not accept itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(Values).serve_with_incoming(incoming));
    Ok(addr)
}

/// Connects a client.
///
/// # Errors
///
/// Nobody listens.
pub async fn connect(addr: SocketAddr) -> anyhow::Result<Client> {
    let channel = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true).connect().await?;
    Ok(Grpc::new(channel).max_decoding_message_size(4 << 20))
}

/// Asks in a closed loop, in as many tasks as calls are in flight, and returns how many answers came.
///
/// # Errors
///
/// A call fails.
pub async fn ask(client: &Client, load: &Load) -> anyhow::Result<u64> {
    let client = client.clone();
    load.in_tasks(move |key, answer_bytes| {
        let mut client = client.clone();
        async move {
            client.ready().await?;
            let answer = client.unary(Request::new(key), PathAndQuery::from_static(PATH), Plain).await?;
            anyhow::ensure!(answer.get_ref().len() == answer_bytes, "an answer of {} bytes", answer.get_ref().len());
            Ok(())
        }
    })
    .await
}

/// Answers each key with its value.
#[derive(Clone)]
struct Values;

impl NamedService for Values {
    const NAME: &'static str = "bench.Values";
}

impl Service<http::Request<Body>> for Values {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(Self, request).await) })
    }
}

impl UnaryService<Bytes> for Values {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, key: Request<Bytes>) -> Self::Future {
        let value = value_of(key.get_ref());
        ready(value.map(Response::new).ok_or_else(|| Status::not_found("no such key")))
    }
}

/// Messages are bytes already.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

const PATH: &str = "/bench.Values/Get";
