//! The provider of a DNS name: address records with one port, or service records with theirs.
//!
//! ```text
//! provider   what the user holds
//!   run      from start to stop: the last answer, kept for its TTL
//!   watch    one reader's stream of changes
//!   resolve  a name to seeds, in bounded time
//!   alias    one name and type to records, through CNAMEs
//!   servers  one question to one server after the other
//! ```

mod alias;
mod config;
mod error;
mod provider;
mod resolve;
mod run;
mod search;
mod servers;
#[cfg(test)]
mod stand_in;
mod watch;

pub use provider::DnsProvider;

/// The provider's name in logs, errors and seeds.
const ID: &str = "dns";
