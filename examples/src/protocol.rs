//! What is said to a node process, and what it says: one line of JSON each.
//!
//! ```text
//! <- {"ok":{"name":"node-a","addr":"127.0.0.1:40113","pid":4242,"clock_ms":1796000000000}}  once it serves
//! -> {"do":"get","key":"2643743"}
//! <- {"ok":{"value":"{\"geonameid\":2643743,\"name\":\"London\", ...}"}}
//! -> {"do":"delete","key":"2643743"}
//! <- {"ok":{"pending":[]}}
//! -> {"do":"dance"}
//! <- {"error":"unknown variant `dance`, expected one of ..."}
//! ```
//!
//! Requests are answered one by one, in order. While a load runs, lines with a [`Sample`] stand between the answers. JSON, so that any key survives the line: with spaces, quotes, line ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Audit, Journal};

/// A line to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Reads every city through the cache, in order of `geonameid`, and compares each with the database. Answer: [`ReadReport`].
    ReadAll {
        /// How many reads are under way at one time. Defaults to 1.
        #[serde(default = "one")]
        readers: usize,
    },
    /// Reads one key. Answer: [`Found`].
    Get {
        /// The key.
        key: String,
    },
    /// Puts a value. Answer: [`Pending`].
    Put {
        /// The key.
        key: String,
        /// The value, as text.
        value: String,
    },
    /// Deletes a key. Answer: [`Pending`].
    Delete {
        /// The key.
        key: String,
    },
    /// Deletes keys in one call. Answer: [`Pending`].
    DeleteMany {
        /// The keys.
        keys: Vec<String>,
    },
    /// Changes the population of cities in the database, and only there. Answer: [`Updated`].
    Update {
        /// Which cities.
        keys: Vec<String>,
        /// How many live there from now on.
        population: i64,
    },
    /// Asks for the counts of this node. Answer: [`NodeStats`](crate::NodeStats).
    Stats,
    /// Asks for the members as this node sees them. Answer: [`MemberList`].
    Members,
    /// Waits until this node sees that many members, no more and no fewer. Answer: [`MemberList`], or an error when the time
    /// is up.
    WaitMembers {
        /// How many, this node among them.
        count: usize,
        /// How long to wait, in milliseconds. Defaults to 15,000.
        #[serde(default = "wait_ms")]
        within_ms: u64,
    },
    /// Asks for the counts of this node for the numbered keys, as `Stats` for the cities. Answer: [`NodeStats`](crate::NodeStats).
    VersionStats,
    /// Reads numbered keys, one after the other, and tells which this node owns. Only right while nobody else reads here.
    /// Answer: [`Owned`].
    Owned {
        /// Which keys.
        numbers: Numbers,
    },
    /// Reads numbered keys through the cache, in order, and compares each with the database. Answer: [`ReadReport`].
    Scan {
        /// Which keys.
        numbers: Numbers,
        /// How many reads are under way at one time. Defaults to 1.
        #[serde(default = "one")]
        readers: usize,
    },
    /// Reads one numbered key by many callers at the same time. Answer: [`ReadReport`].
    Storm {
        /// Which key.
        number: u32,
        /// How many callers.
        callers: usize,
    },
    /// Raises the versions of numbered keys in the database, and only there. Answer: [`Updated`].
    Raise {
        /// Which keys.
        numbers: Numbers,
    },
    /// Deletes numbered keys in one call. Answer: [`Pending`].
    Forget {
        /// Which keys.
        numbers: Numbers,
    },
    /// Starts to read numbered keys at a steady rate, in the place of what was read before. Answer: [`Started`], and a [`Sample`]
    /// every tenth of a second.
    Load {
        /// How many keys, from 0.
        keys: u32,
        /// Keys whose reads are counted apart, and made by as many callers again, at the same rate.
        #[serde(default)]
        marked: Vec<u32>,
        /// How many reads are under way at one time.
        callers: u32,
        /// Reads a second, if the callers keep up.
        rate: u32,
        /// What the keys are chosen by. Defaults to 0.
        #[serde(default)]
        seed: u64,
    },
    /// Ends the load, and waits for its last reads. Answer: [`Loaded`].
    StopLoad,
    /// Starts to read and write numbered keys, in the place of what was done before, and tells each read and write. Answer:
    /// [`Started`], and a [`Journal`] every tenth of a second.
    Audit(Audit),
    /// Ends the audit, and waits for the last of its journals. Answer: [`Started`].
    StopAudit,
    /// Reads numbered keys in batches, so that they are cached. Answer: [`Loaded`].
    Fill {
        /// Which keys.
        numbers: Numbers,
    },
    /// Reads one numbered key as fast as that many callers can, each waiting for its read. Answer: [`Hammered`].
    Hammer {
        /// Which key.
        number: u32,
        /// How many callers.
        callers: u32,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Deletes the keyspace of the numbered keys. Answer: [`Pending`].
    DropVersions,
    /// Defines the keyspace of the numbered keys again. Answer: [`Started`].
    DefineVersions,
    /// Waits until this node has no keyspace of the numbered keys. Answer: [`Pending`] with the time, or an error when ten seconds
    /// are up.
    WaitDropped,
    /// Drains, leaves the cluster, and ends the process once answered. Answer: [`Stopped`].
    Shutdown,
}

/// A line from a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done; what this holds depends on the request.
    Ok(Value),
    /// It was not done, and why.
    Error(String),
    /// No answer: how the load went since the last of these.
    Sample(Sample),
    /// No answer: what was read and written since the last of these.
    Journal(Journal),
}

/// Which numbered keys: so many from 0, or these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    /// The first so many.
    First(u32),
    /// These.
    These(Vec<u32>),
}

impl From<Numbers> for Vec<u32> {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::First(count) => (0..count).collect(),
            Numbers::These(numbers) => numbers,
        }
    }
}

/// The first line of a node: it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Its name on the ring.
    pub name: String,
    /// The address it listens on: a seed for the next node.
    pub addr: String,
    /// Its process id.
    pub pid: u32,
    /// The time it believes it is, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// How reading every city went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReport {
    /// How many cities were asked for.
    pub reads: u64,
    /// How many answers were not what the database holds: stale, missing or mangled.
    pub wrong: u64,
    /// How many reads failed.
    pub errors: u64,
    /// The first thing that went wrong, if anything did.
    pub first_fault: Option<String>,
    /// The median read, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 reads were not slower, in nanoseconds.
    pub p99_ns: u64,
    /// The slowest read, in nanoseconds.
    pub max_ns: u64,
    /// All reads together, in milliseconds.
    pub took_ms: u64,
}

impl ReadReport {
    /// Whether all `count` cities were read and all were right.
    #[must_use]
    pub const fn is_clean(&self, count: usize) -> bool {
        self.reads == count as u64 && self.wrong == 0 && self.errors == 0
    }

    /// Returns the median read.
    #[must_use]
    pub const fn p50(&self) -> Duration {
        Duration::from_nanos(self.p50_ns)
    }

    /// Returns the time that 99 of 100 reads did not exceed.
    #[must_use]
    pub const fn p99(&self) -> Duration {
        Duration::from_nanos(self.p99_ns)
    }

    /// Returns the slowest read.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The value, as text; `None` when the database has no such key either.
    pub value: Option<String>,
}

/// How a write went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The nodes that have not heard of it yet. Empty when it was applied.
    pub pending: Vec<String>,
    /// How long the call took, in microseconds.
    pub took_us: u64,
    /// When it had returned, in microseconds since 1970.
    pub at_us: u64,
}

/// What an update changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// How many rows.
    pub rows: usize,
}

/// The members, as one node sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberList {
    /// Their names, in order.
    pub members: Vec<String>,
}

/// What this node owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// The numbers of the keys.
    pub numbers: Vec<u32>,
}

/// A load has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// How many keys are read.
    pub keys: usize,
}

/// A load has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// How many reads were made.
    pub reads: u64,
    /// How many failed.
    pub errors: u64,
    /// How many answers were no value of their key.
    pub wrong: u64,
    /// How many were older than what this node had read before.
    pub stale: u64,
}

impl Loaded {
    pub(crate) fn add(&mut self, class: &Class) {
        self.reads += class.took_us.len() as u64;
        self.errors += class.errors;
        self.wrong += class.wrong;
        self.stale += class.stale;
    }
}

/// How fast one key was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hammered {
    /// How many reads were made.
    pub reads: u64,
    /// How many failed.
    pub errors: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// How a load went for a tenth of a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When that ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// How many members this node sees.
    pub members: usize,
    /// How often it saw a member go since the load began.
    pub left: u64,
    /// Numbered keys asked of the database by this process since it started, counted by the data source itself.
    pub fetches: u64,
    /// Reads of keys that are not marked.
    pub others: Class,
    /// Reads of marked keys.
    pub marked: Class,
}

/// The reads of some keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// How long each took, in microseconds.
    pub took_us: Vec<u64>,
    /// How many failed.
    pub errors: u64,
    /// How many answers were no value of their key.
    pub wrong: u64,
    /// How many were older than what this node had read before.
    pub stale: u64,
    /// The first thing that went wrong, if anything did.
    pub first_fault: Option<String>,
}

/// A node has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// How long that took, in milliseconds.
    pub took_ms: u64,
}

const fn one() -> usize {
    1
}

/// A dead node is out after some 4 s; this is ample, and short enough to sit through when it fails.
const fn wait_ms() -> u64 {
    15_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Request {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_request_is_a_line_that_a_person_can_type() {
        assert_eq!(read(r#"{"do":"get","key":"2643743"}"#), Request::Get { key: "2643743".to_owned() });
        assert_eq!(read(r#"{"do":"read-all"}"#), Request::ReadAll { readers: 1 });
        assert_eq!(read(r#"{"do":"wait-members","count":3}"#), Request::WaitMembers { count: 3, within_ms: 15_000 });
        assert_eq!(read(r#"{"do":"shutdown"}"#), Request::Shutdown);
        assert_eq!(read(r#"{"do":"owned","numbers":9}"#), Request::Owned { numbers: Numbers::First(9) });
        assert_eq!(read(r#"{"do":"raise","numbers":[4,7]}"#), Request::Raise { numbers: Numbers::These(vec![4, 7]) });
    }

    #[test]
    fn any_key_survives_its_line() {
        for key in ["New York", "\"quoted\"", "two\nlines", "Golestān", ""] {
            let request = Request::Put { key: key.to_owned(), value: key.to_owned() };
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(read(&line), request);
        }
    }

    #[test]
    fn a_misspelt_request_is_refused_rather_than_guessed() {
        for line in [r#"{"do":"dance"}"#, r#"{"do":"get"}"#, r#"{"do":"read-all","reader":2}"#, "get 1", ""] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_answer_says_which_of_the_two_it_is() {
        let ok = serde_json::to_string(&Answer::Ok(serde_json::json!({ "rows": 1 }))).unwrap();
        assert_eq!(ok, r#"{"ok":{"rows":1}}"#);
        assert_eq!(serde_json::to_string(&Answer::Error("no".to_owned())).unwrap(), r#"{"error":"no"}"#);
    }
}
