//! Servers whose answers a unit test sets.

use std::collections::HashMap;
use std::future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::rdata::{CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::alias::{Ask, Reply};
use super::error::{Cause, LookupError};

/// What is answered; a name that was not set does not exist.
#[derive(Debug, Clone, Default)]
pub(super) struct Zone(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    answers: HashMap<(Name, RecordType), Answer>,
    asked: usize,
    at_once: usize,
    most_at_once: usize,
}

#[derive(Debug, Clone)]
enum Answer {
    Records(Vec<Record>, Vec<Record>),
    Fail,
    Hang,
    Slow(Duration, Vec<Record>),
}

impl Zone {
    pub(super) fn set(&self, at: &str, record_type: RecordType, answers: impl IntoIterator<Item = Record>) {
        self.put(at, record_type, Answer::Records(answers.into_iter().collect(), Vec::new()));
    }

    pub(super) fn set_slow(&self, at: &str, record_type: RecordType, delay: Duration, answer: Record) {
        self.put(at, record_type, Answer::Slow(delay, vec![answer]));
    }

    pub(super) fn set_with_additionals(&self, at: &str, answers: Vec<Record>, additionals: Vec<Record>) {
        self.put(at, RecordType::SRV, Answer::Records(answers, additionals));
    }

    pub(super) fn remove(&self, at: &str, record_type: RecordType) {
        self.0.lock().unwrap().answers.remove(&(name(at), record_type));
    }

    pub(super) fn fail(&self, at: &str, record_type: RecordType) {
        self.put(at, record_type, Answer::Fail);
    }

    pub(super) fn hang(&self, at: &str, record_type: RecordType) {
        self.put(at, record_type, Answer::Hang);
    }

    /// How many questions were put.
    pub(super) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    /// How many of them at one time.
    pub(super) fn most_at_once(&self) -> usize {
        self.0.lock().unwrap().most_at_once
    }

    fn put(&self, at: &str, record_type: RecordType, answer: Answer) {
        self.0.lock().unwrap().answers.insert((name(at), record_type), answer);
    }
}

#[async_trait]
impl Ask for Zone {
    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Reply, LookupError> {
        let answer = {
            let mut state = self.0.lock().unwrap();
            state.asked += 1;
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
            state.answers.get(&(name.clone(), record_type)).cloned()
        };
        tokio::task::yield_now().await;
        let reply = match answer {
            None => Ok(Reply { is_final: true, ..Reply::default() }),
            Some(Answer::Records(answers, additionals)) => Ok(Reply { answers, additionals, is_final: false }),
            Some(Answer::Fail) => Err(LookupError::new(name, record_type, Cause::Servers(NetError::NoConnections))),
            Some(Answer::Hang) => future::pending().await,
            Some(Answer::Slow(delay, answers)) => {
                tokio::time::sleep(delay).await;
                Ok(Reply { answers, ..Reply::default() })
            }
        };
        self.0.lock().unwrap().at_once -= 1;
        reply
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// An A or AAAA record.
pub(super) fn a(at: &str, ttl: u32, ip: &str) -> Record {
    Record::from_rdata(name(at), ttl, RData::from(ip.parse::<IpAddr>().unwrap()))
}

pub(super) fn cname(at: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(at), ttl, RData::CNAME(CNAME(name(target))))
}

pub(super) fn srv(at: &str, ttl: u32, port: u16, target: &str) -> Record {
    Record::from_rdata(name(at), ttl, RData::SRV(SRV::new(0, 0, port, name(target))))
}
