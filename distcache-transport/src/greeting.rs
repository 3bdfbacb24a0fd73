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
    lane::Purpose,
    link::PeerHello,
    secret::{PROOF_BYTES, Role, SecretKeys, Transcript},
    tls::{TlsSession, fill_random},
};

/// Introduces this node on a stream it dialled, and waits until the peer has accepted it.
pub(crate) async fn introduce(
    stream: &mut BoxStream,
    ours: &Hello,
    purpose: Purpose,
    secret: Option<&SecretKeys>,
    session: &TlsSession,
) -> Result<PeerHello, ConnectError> {
    let nonce = fresh_nonce().map_err(|error| ConnectError::broken(&error))?;
    let message = Message::Hello { versions: VERSIONS, nonce, secret: secret.is_some(), purpose, hello: ours.clone() };
    let message = message.encode().map_err(|error| {
        let reason = RefusalReason::Identity;
        ConnectError::Refused(Refusal { reason, message: format!("own hello: {error}") })
    })?;
    // If this fails, the reason may still be there to read.
    let sent = send(stream, &message).await;
    let answer = answer(stream).await?;
    sent.map_err(|error| ConnectError::broken(&error))?;
    match (answer, secret) {
        (Message::Ack { version, hello: peer }, None) => check_peer(version, ours, peer, session),
        (Message::Challenge { version, nonce: listener_nonce, proof, hello: peer }, Some(secret)) => {
            let peer = check_peer(version, ours, peer, session)?;
            let listener = Hello { label: peer.label.clone(), identity: peer.identity.clone() };
            let transcript = Transcript {
                offered: VERSIONS,
                version,
                purpose,
                dialler: ours,
                listener: &listener,
                dialler_nonce: nonce,
                listener_nonce,
                exporter: session.exporter(),
            };
            if !secret.verify(Role::Listener, &transcript, &proof) {
                return Err(give_up(stream, "the listener does not know the dialler's shared secret").await);
            }
            prove(stream, secret.prove(Role::Dialler, &transcript), &peer).await?;
            Ok(peer)
        }
        (Message::Ack { .. }, Some(_)) => Err(ConnectError::Refused(no_secret(LISTENER_HAS_NONE))),
        (Message::Challenge { .. }, None) => Err(give_up(stream, DIALLER_HAS_NONE).await),
        _ => Err(ConnectError::BadPeer(HandshakeError::OutOfTurn.to_string())),
    }
}

/// Waits for the listener's next message, unless that is a refusal.
async fn answer(stream: &mut BoxStream) -> Result<Message, ConnectError> {
    match receive(stream).await {
        Ok(Message::Refuse(refusal)) => Err(ConnectError::Refused(refusal)),
        Ok(message) => Ok(message),
        Err(GreetingError::Malformed(error)) => Err(ConnectError::BadPeer(error.to_string())),
        Err(GreetingError::Io(error)) => Err(ConnectError::broken(&error)),
    }
}

fn check_peer(version: u16, ours: &Hello, peer: Hello, session: &TlsSession) -> Result<PeerHello, ConnectError> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        return Err(ConnectError::BadPeer(format!("peer chose wire version {version}")));
    }
    if let Err(refusal) = check_label(ours, &peer) {
        return Err(ConnectError::Refused(refusal));
    }
    let certificate = session.certificate().cloned();
    Ok(PeerHello { label: peer.label, identity: peer.identity, version, certificate })
}

/// Answers a challenge, and waits for the listener to believe it.
async fn prove(stream: &mut BoxStream, proof: [u8; PROOF_BYTES], peer: &PeerHello) -> Result<(), ConnectError> {
    let message = Message::Proof { proof }.encode().map_err(|error| ConnectError::BadPeer(error.to_string()))?;
    let sent = send(stream, &message).await;
    let answer = answer(stream).await?;
    sent.map_err(|error| ConnectError::broken(&error))?;
    match answer {
        // The proof was for the identity in the challenge and for no other.
        Message::Ack { version, hello }
            if version == peer.version && hello.label == peer.label && hello.identity == peer.identity =>
        {
            Ok(())
        }
        Message::Ack { .. } => Err(ConnectError::BadPeer("peer is another than it has proven to be".to_owned())),
        _ => Err(ConnectError::BadPeer(HandshakeError::OutOfTurn.to_string())),
    }
}

/// Tells the listener why the dialler leaves.
async fn give_up(stream: &mut BoxStream, message: &str) -> ConnectError {
    let refusal = no_secret(message);
    refuse(stream, refusal.clone()).await;
    ConnectError::Refused(refusal)
}

/// What a dialler said of itself, and the version to speak with it.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) hello: Hello,
    pub(crate) purpose: Purpose,
    pub(crate) version: u16,
}

/// Why an accepted stream does not become a connection.
#[derive(Debug, Error)]
pub(crate) enum Rejection {
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The dialler does not want this listener.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    #[error(transparent)]
    Greeting(#[from] GreetingError),
}

/// Waits for the dialler's introduction and checks what the transport can check, a shared secret included.
pub(crate) async fn meet(
    stream: &mut BoxStream,
    ours: &Hello,
    secret: Option<&SecretKeys>,
    session: &TlsSession,
) -> Result<Introduced, Rejection> {
    let (offered, dialler_nonce, holds_secret, purpose, hello) = match receive(stream).await? {
        Message::Hello { versions, nonce, secret, purpose, hello } => (versions, nonce, secret, purpose, hello),
        Message::ForeignHello { versions } => return Err(no_common_version(versions)),
        _ => return Err(GreetingError::Malformed(HandshakeError::OutOfTurn).into()),
    };
    let version = VERSIONS.common(offered).ok_or_else(|| no_common_version(offered))?;
    check_label(ours, &hello).map_err(Rejection::Refused)?;
    match (secret, holds_secret) {
        (None, false) => {}
        (Some(_), false) => return Err(Rejection::Refused(no_secret(DIALLER_HAS_NONE))),
        (None, true) => return Err(Rejection::Refused(no_secret(LISTENER_HAS_NONE))),
        (Some(secret), true) => {
            let listener_nonce = fresh_nonce().map_err(GreetingError::Io)?;
            let exporter = session.exporter();
            let (dialler, listener) = (&hello, ours);
            let transcript =
                Transcript { offered, version, purpose, dialler, listener, dialler_nonce, listener_nonce, exporter };
            challenge(stream, secret, &transcript).await?;
        }
    }
    Ok(Introduced { hello, purpose, version })
}

/// Proves this node to the dialler, and has it prove itself.
async fn challenge(stream: &mut BoxStream, secret: &SecretKeys, transcript: &Transcript<'_>) -> Result<(), Rejection> {
    let proof = secret.prove(Role::Listener, transcript);
    let (version, nonce, hello) = (transcript.version, transcript.listener_nonce, transcript.listener.clone());
    let message = Message::Challenge { version, nonce, proof, hello }.encode().map_err(GreetingError::from)?;
    send(stream, &message).await.map_err(GreetingError::from)?;
    match receive(stream).await? {
        Message::Proof { proof } if secret.verify(Role::Dialler, transcript, &proof) => Ok(()),
        Message::Proof { .. } => {
            Err(Rejection::Refused(no_secret("the dialler does not know the listener's shared secret")))
        }
        Message::Refuse(refusal) => Err(Rejection::RefusedByPeer(refusal)),
        _ => Err(GreetingError::Malformed(HandshakeError::OutOfTurn).into()),
    }
}

fn no_secret(message: &str) -> Refusal {
    Refusal { reason: RefusalReason::Secret, message: message.to_owned() }
}

fn fresh_nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce)?;
    Ok(nonce)
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

const DIALLER_HAS_NONE: &str = "the listener demands proof of a shared secret, and the dialler has none";

const LISTENER_HAS_NONE: &str = "the dialler demands proof of a shared secret, and the listener has none";

/// Long enough for one round trip anywhere.
const LINGER: Duration = Duration::from_secs(1);

/// A stranger may make us read this many kilobytes for nothing.
const MAX_DISCARDED_READS: usize = 64;
