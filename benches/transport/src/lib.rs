//! The peer link beside what a user would pick instead: two processes over loopback, keys of 33 bytes, a closed loop.
//!
//! The client is the process that measures; the server is this program again, or Redis. What a raw socket does with the same bytes
//! is the limit that all are compared with. The whole engine is measured beside whole caches of others, each a pair of processes.

pub mod attacks;
pub mod batch;
pub mod certificate;
pub mod engine;
pub mod grpc;
pub mod idle;
pub mod large;
pub mod node;
pub mod ours;
pub mod raw;
pub mod redis;
pub mod report;
pub mod round_trips;
pub mod serve;
pub mod targets;

use std::{fmt, sync::LazyLock};

use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Plain sockets with the same bytes, written together whenever there are several: the limit.
    Raw,
    /// Our link.
    Ours,
    /// Our link under mutual TLS.
    OursTls,
    /// gRPC.
    Tonic,
    /// Redis, a connection for each call in flight.
    Redis,
}

impl Subject {
    /// Everyone.
    pub const ALL: &[Self] = &[Self::Raw, Self::Ours, Self::OursTls, Self::Tonic, Self::Redis];

    /// Returns the name that tables show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw tokio",
            Self::Ours => "DistCache",
            Self::OursTls => "DistCache, mutual TLS",
            Self::Tonic => "tonic",
            Self::Redis => "Redis",
        }
    }

    /// Returns the name on the command line.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Ours => "ours",
            Self::OursTls => "ours-tls",
            Self::Tonic => "tonic",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Returns a key that asks for a value of that many bytes.
#[must_use]
pub fn key(value: usize) -> Bytes {
    let mut key = format!("{value:08}").into_bytes();
    key.resize(KEY_BYTES, b'k');
    key.into()
}

/// Returns the value that a key asks for, or nothing if it is none of ours.
#[must_use]
pub fn value_of(key: &[u8]) -> Option<Bytes> {
    let digits = std::str::from_utf8(key.get(..8)?).ok()?;
    let bytes: usize = digits.parse().ok()?;
    VALUES.iter().find(|value| value.len() == bytes).cloned()
}

/// How long a key is.
pub const KEY_BYTES: usize = 33;
/// The sizes of values.
pub const SIZES: &[usize] = &[64, 128, 1 << 10, 16 << 10, 1 << 20];

static VALUES: LazyLock<Vec<Bytes>> = LazyLock::new(|| SIZES.iter().map(|size| vec![7; *size].into()).collect());
