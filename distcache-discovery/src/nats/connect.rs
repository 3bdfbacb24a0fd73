//! One connection to one server, and how it ends.
//!
//! The client library would reconnect by itself, for ever, and go on to do so after its last handle is gone. It would send what was
//! said before the connection broke after it is back, too. So it may try once, and whoever uses a connection makes another when it is
//! [lost](Condition::Lost).

use std::error::Error;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ID;
use super::config::{Credentials, Settings};
use super::tls;
use crate::DiscoveryError;
use crate::bounds::MAX_SEEDS;

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) condition: watch::Receiver<Condition>,
}

/// How a connection fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    /// The server forbids something that the provider cannot do without, in its words.
    Forbidden(String),
    /// It is gone, and nothing that was not confirmed may have arrived.
    Lost,
}

/// Connects to the first server that takes us, each tried once in the order configured.
///
/// # Errors
///
/// That of the last server; or [`Refused`](DiscoveryError::Refused) as soon as one refuses, for all know the same users.
pub(super) async fn connect(settings: &Settings) -> Result<Connection, DiscoveryError> {
    let mut failure = DiscoveryError::unavailable(ID, "no server is configured");
    for server in &settings.servers {
        match timeout(settings.connect_timeout, connect_to(server, settings)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(refused @ DiscoveryError::Refused { .. })) => return Err(refused),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = late(server.as_url_str(), settings.connect_timeout),
        }
    }
    Err(failure)
}

/// Says that somebody did not answer.
pub(super) fn late(who: &str, waited: Duration) -> DiscoveryError {
    DiscoveryError::unavailable(ID, format!("{who} did not answer within {waited:?}"))
}

async fn connect_to(server: &ServerAddr, settings: &Settings) -> Result<Connection, DiscoveryError> {
    let (sender, condition) = watch::channel(Condition::Up);
    let options = authenticated(&settings.credentials).await?;
    let options = options
        .name("distcache")
        .connection_timeout(settings.connect_timeout)
        .request_timeout(Some(settings.connect_timeout))
        .require_tls(settings.tls.required || server.tls_required())
        .tls_client_config(tls::config(settings).await?)
        .ignore_discovered_servers()
        // None would be for ever.
        .max_reconnects(1)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(MOST_WAITING)
        .event_callback(move |event| {
            note(&sender, event);
            std::future::ready(())
        });
    let client = options.connect(server.clone()).await.map_err(|error| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            DiscoveryError::refused(ID, error)
        }
        _ => DiscoveryError::unavailable(ID, error),
    })?;
    Ok(Connection { client, condition })
}

async fn authenticated(credentials: &[Credentials]) -> Result<ConnectOptions, DiscoveryError> {
    let options = ConnectOptions::new();
    Ok(match credentials.first() {
        None => options,
        Some(Credentials::UserPassword(user, password)) => {
            options.user_and_password(user.0.clone(), password.0.clone())
        }
        Some(Credentials::Token(token)) => options.token(token.0.clone()),
        Some(Credentials::NkeySeed(seed)) => options.nkey(seed.0.clone()),
        // Read anew for each connection: whoever renews it need not start the node again.
        Some(Credentials::File(path)) => {
            options.credentials_file(path).await.map_err(|error| tls::unreadable(path, &error))?
        }
    })
}

/// Notes what becomes of the connection. Events may be lost when there are many; [`is_up`] tells for sure.
fn note(condition: &watch::Sender<Condition>, event: Event) {
    let new = match event {
        Event::Disconnected | Event::Closed => Condition::Lost,
        Event::ServerError(ServerError::AuthorizationViolation) => Condition::Lost,
        Event::ServerError(ServerError::Other(text)) if is_violation(&text) => Condition::Forbidden(text),
        _ => return,
    };
    // What is lost stays lost.
    condition.send_if_modified(|now| {
        let worse = *now != Condition::Lost && *now != new;
        if worse {
            *now = new;
        }
        worse
    });
}

fn is_violation(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with("permissions violation")
}

impl Connection {
    /// Waits until the connection is of no more use, and says why.
    pub(super) async fn ended(&self) -> DiscoveryError {
        let mut condition = self.condition.clone();
        loop {
            match timeout(LOOK_INTERVAL, condition.wait_for(|now| *now != Condition::Up)).await {
                Ok(Ok(now)) => return failure(&now),
                Ok(Err(_)) => return failure(&Condition::Lost),
                Err(_) if self.client.connection_state() != State::Connected => return failure(&Condition::Lost),
                Err(_) => {}
            }
        }
    }
}

fn failure(condition: &Condition) -> DiscoveryError {
    match condition {
        Condition::Forbidden(words) => DiscoveryError::refused(ID, words.as_str()),
        Condition::Up | Condition::Lost => DiscoveryError::unavailable(ID, "the connection to the server is lost"),
    }
}

/// Wraps an error of the client library that comes while the connection is up.
pub(super) fn failed(error: impl Error + Send + Sync + 'static) -> DiscoveryError {
    DiscoveryError::unavailable(ID, error)
}

/// A server that went without a word is given up after three of these.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How soon a lost connection is noticed even if the word of it was lost.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Of messages that wait to be read; more are dropped. As many as there are answers of use, since each may be large, whoever sends it.
const MOST_WAITING: usize = MAX_SEEDS;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: Vec<Event>) -> Condition {
        let (sender, receiver) = watch::channel(Condition::Up);
        for event in events {
            note(&sender, event);
        }
        receiver.borrow().clone()
    }

    #[test]
    fn what_is_lost_stays_lost() {
        assert_eq!(after(vec![Event::Connected, Event::SlowConsumer(1), Event::LameDuckMode]), Condition::Up);
        assert_eq!(after(vec![Event::Disconnected, Event::Connected]), Condition::Lost);
        let words = "Permissions Violation for Publish to \"a\"".to_owned();
        let violation = Event::ServerError(ServerError::Other(words.clone()));
        assert_eq!(after(vec![violation.clone()]), Condition::Forbidden(words));
        assert_eq!(after(vec![violation.clone(), Event::Disconnected]), Condition::Lost);
        assert_eq!(after(vec![Event::Disconnected, violation]), Condition::Lost);
        assert_eq!(after(vec![Event::ServerError(ServerError::Other("Stale Connection".to_owned()))]), Condition::Up);
    }
}
