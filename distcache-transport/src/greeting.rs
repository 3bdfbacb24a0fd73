//! The handshake as it happens: who sends what, and what each side makes of the answer.

use std::{io, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    config::Hello,
    error::{ConnectError, Refusal, RefusalReason},
    handshake::{HandshakeError, Message, NONCE_BYTES, PREFIX_BYTES, Prefix, VERSIONS, may_be_ours},
    io::BoxStream,
    link::PeerHello,
    tls::fill_random,
};

/// Introduces this node on a stream it dialled, and waits for the answer.
pub(crate) async fn introduce(stream: &mut BoxStream, hello: &Hello) -> Result<PeerHello, ConnectError> {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce);
    let message = Message::Hello { versions: VERSIONS, nonce, hello: hello.clone() };
    let message = message.encode().map_err(|error| {
        let reason = RefusalReason::Identity;
        ConnectError::Refused(Refusal { reason, message: format!("own hello: {error}") })
    })?;
    // If this fails, the reason may still be there to read.
    let sent = send(stream, &message).await;
    match receive(stream).await {
        Ok(Message::Ack { version, hello: peer }) => {
            sent.map_err(|error| ConnectError::broken(&error))?;
            check_ack(version, hello, peer)
        }
        Ok(Message::Refuse(refusal)) => Err(ConnectError::Refused(refusal)),
        Ok(Message::Hello { .. } | Message::ForeignHello { .. }) => {
            Err(ConnectError::BadPeer(HandshakeError::OutOfTurn.to_string()))
        }
        Err(GreetingError::Malformed(error)) => Err(ConnectError::BadPeer(error.to_string())),
        Err(GreetingError::Io(error)) => Err(ConnectError::broken(&error)),
    }
}

fn check_ack(version: u16, ours: &Hello, peer: Hello) -> Result<PeerHello, ConnectError> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        return Err(ConnectError::BadPeer(format!("peer chose wire version {version}")));
    }
    if let Err(refusal) = check_label(ours, &peer) {
        return Err(ConnectError::Refused(refusal));
    }
    Ok(PeerHello { label: peer.label, identity: peer.identity, version })
}

/// What a dialler said of itself, and the version to speak with it.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) hello: Hello,
    pub(crate) version: u16,
}

/// Why an accepted stream does not become a connection.
#[derive(Debug, Error)]
pub(crate) enum Rejection {
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Greeting(#[from] GreetingError),
}

/// Waits for the dialler's introduction and checks what the transport can check.
pub(crate) async fn meet(stream: &mut BoxStream, ours: &Hello) -> Result<Introduced, Rejection> {
    match receive(stream).await? {
        Message::Hello { versions, hello, .. } => {
            let version = VERSIONS.common(versions).ok_or_else(|| no_common_version(versions))?;
            check_label(ours, &hello).map_err(Rejection::Refused)?;
            Ok(Introduced { hello, version })
        }
        Message::ForeignHello { versions } => Err(no_common_version(versions)),
        Message::Ack { .. } | Message::Refuse(_) => Err(GreetingError::Malformed(HandshakeError::OutOfTurn).into()),
    }
}

fn no_common_version(theirs: crate::handshake::VersionRange) -> Rejection {
    let message = format!(
        "no common wire version: this node speaks {} to {}, the peer {} to {}",
        VERSIONS.min, VERSIONS.max, theirs.min, theirs.max
    );
    Rejection::Refused(Refusal { reason: RefusalReason::Version, message })
}

fn check_label(ours: &Hello, theirs: &Hello) -> Result<(), Refusal> {
    if ours.label == theirs.label {
        return Ok(());
    }
    let message = format!("nodes of clusters {:?} and {:?} do not mix", ours.label.as_str(), theirs.label.as_str());
    Err(Refusal { reason: RefusalReason::Label, message })
}

/// Tells the dialler that the connection stands.
pub(crate) async fn accept(stream: &mut BoxStream, ours: &Hello, version: u16) -> Result<(), GreetingError> {
    let message = Message::Ack { version, hello: ours.clone() }.encode()?;
    Ok(send(stream, &message).await?)
}

/// Tells the dialler why there will be no connection, as far as it listens.
pub(crate) async fn refuse(stream: &mut BoxStream, refusal: Refusal) {
    if let Ok(message) = Message::Refuse(refusal).encode() {
        // The stream is given up either way.
        let _ = send(stream, &message).await;
    }
}

/// Ends a stream so that what was sent last arrives: closing with unread bytes would make the kernel reset the connection and
/// the peer lose our reason.
pub(crate) async fn close_gently(mut stream: BoxStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        for _ in 0..MAX_DISCARDED_READS {
            if stream.read(&mut discarded).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // The stream is given up either way.
    let _ = timeout(LINGER, drain).await;
}

/// What can go wrong before both sides know each other.
#[derive(Debug, Error)]
pub(crate) enum GreetingError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] HandshakeError),
}

async fn send(stream: &mut BoxStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

/// Reads one message and not a byte more, since frames may follow it.
async fn receive(stream: &mut BoxStream) -> Result<Message, GreetingError> {
    let mut prefix = [0; PREFIX_BYTES];
    let mut filled = 0;
    while filled < PREFIX_BYTES {
        let read = stream.read(&mut prefix[filled..]).await?;
        filled += read;
        if !may_be_ours(&prefix[..filled]) {
            return Err(HandshakeError::foreign(&prefix[..filled]).into());
        }
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    let prefix = Prefix::decode(prefix)?;
    let mut body = vec![0; prefix.length];
    stream.read_exact(&mut body).await?;
    Ok(Message::decode(prefix, &body)?)
}

/// Long enough for one round trip anywhere.
const LINGER: Duration = Duration::from_secs(1);

/// A stranger may make us read this many kilobytes for nothing.
const MAX_DISCARDED_READS: usize = 64;
