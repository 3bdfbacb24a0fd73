//! Presence over a subject: nodes say that they are there, and ask who else is.
//!
//! Everything is said on one subject, which every node hears, itself too: its own words coming back tell that the server has passed
//! them on. Answers go to the one who asked, at `<subject>.reply.<id>`.

use std::sync::Arc;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::ID;
use super::connect::failed;
use super::message::{Body, Here, Message, NodeId};
use super::session::Heard;
use crate::DiscoveryError;

/// What is said.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    client: Client,
    id: NodeId,
    subject: Arc<str>,
    /// How far our own words came back.
    echo: watch::Receiver<u64>,
}

/// What is heard.
#[derive(Debug)]
pub(super) struct Ear {
    id: NodeId,
    replies: String,
    all: Subscriber,
    answers: Subscriber,
    echo: watch::Sender<u64>,
}

impl Presence {
    pub(super) async fn open(client: Client, subject: &str, id: NodeId) -> Result<(Self, Ear), DiscoveryError> {
        let all = client.subscribe(subject.to_owned()).await.map_err(failed)?;
        let answers = client.subscribe(reply_subject(subject, id)).await.map_err(failed)?;
        let (sender, echo) = watch::channel(0);
        let ear = Ear { id, replies: format!("{subject}.{REPLY}."), all, answers, echo: sender };
        Ok((Self { client, id, subject: subject.into(), echo }, ear))
    }

    pub(super) async fn here(&self, seq: u64, here: &Here) -> Result<(), DiscoveryError> {
        self.say(self.subject.to_string(), seq, Body::Here(here.clone())).await
    }

    pub(super) async fn leave(&self, seq: u64) -> Result<(), DiscoveryError> {
        self.say(self.subject.to_string(), seq, Body::Leave).await
    }

    pub(super) async fn who(&self, seq: u64) -> Result<(), DiscoveryError> {
        let bytes = encode(self.id, seq, Body::Who)?;
        let reply = reply_subject(&self.subject, self.id);
        self.client.publish_with_reply(self.subject.to_string(), reply, bytes.into()).await.map_err(failed)
    }

    pub(super) async fn answer(&self, to: String, seq: u64, here: &Here) -> Result<(), DiscoveryError> {
        self.say(to, seq, Body::Here(here.clone())).await
    }

    pub(super) async fn confirmed(&self, seq: u64) -> Result<(), DiscoveryError> {
        let mut echo = self.echo.clone();
        let came = echo.wait_for(|came| *came >= seq).await;
        came.map(drop).map_err(|_| DiscoveryError::unavailable(ID, "the connection to the server is lost"))
    }

    async fn say(&self, subject: String, seq: u64, body: Body) -> Result<(), DiscoveryError> {
        let bytes = encode(self.id, seq, body)?;
        self.client.publish(subject, bytes.into()).await.map_err(failed)
    }
}

impl Ear {
    pub(super) async fn next(&mut self) -> Result<Heard, DiscoveryError> {
        let message = tokio::select! {
            message = self.all.next() => message,
            message = self.answers.next() => message,
        };
        let message = message.ok_or_else(|| DiscoveryError::unavailable(ID, "the connection to the server is lost"))?;
        let reply = message.reply.as_ref().map(|reply| reply.as_str());
        Ok(self.understand(&message.payload, reply))
    }

    /// Waits until our own words come back, and passes over everything else.
    pub(super) async fn until(&mut self, seq: u64) -> Result<(), DiscoveryError> {
        while *self.echo.borrow() < seq {
            self.next().await?;
        }
        Ok(())
    }

    fn understand(&self, payload: &[u8], reply: Option<&str>) -> Heard {
        let message = match Message::decode(payload) {
            Ok(message) => message,
            Err(reason) => return Heard::Malformed(reason),
        };
        if message.from == self.id {
            self.echo.send_if_modified(|came| {
                let further = message.seq > *came;
                *came = message.seq.max(*came);
                further
            });
            return Heard::Nothing;
        }
        match message.body {
            Body::Here(here) => Heard::Here(message.from, message.seq, here),
            Body::Leave => Heard::Leave(message.from, message.seq),
            // Else whoever may ask could have us write to any subject that we may write to.
            Body::Who => match reply.and_then(|reply| Some((reply, reply.strip_prefix(self.replies.as_str())?))) {
                Some((reply, id)) if NodeId::parse(id) == Some(message.from) => Heard::Who(reply.to_owned()),
                _ => Heard::Malformed("asks for an answer elsewhere than at the asker's own subject"),
            },
        }
    }
}

fn encode(from: NodeId, seq: u64, body: Body) -> Result<Vec<u8>, DiscoveryError> {
    Message { from, seq, body }
        .encode()
        .map_err(|fault| DiscoveryError::unavailable(ID, format!("the message {fault}")))
}

fn reply_subject(subject: &str, id: NodeId) -> String {
    format!("{subject}.{REPLY}.{id}")
}

const REPLY: &str = "reply";
