//! How DistCache nodes find each other: one [`Provider`] trait, the providers that need no outside service, and one feature for
//! each of the others.
//!
//! A provider answers one question, over and over: at which addresses might peers be? It does not
//! know who is alive, who owns a key, or whether a peer is reachable: membership decides that, and it goes on
//! asking for as long as the node lives, so that nodes which started apart find each other later.
//!
//! Start at [`StaticProvider`] for a list of addresses or names, at [`StandaloneProvider`] for a node that
//! stays alone, at `DnsProvider` (feature `dns`) for the records of a name, and at [`Provider`] to write your own;
//! [`conformance`] checks yours against the contract. [`SeveralProviders`] asks several at once.
//!
//! # Examples
//!
//! ```
//! use distcache_discovery::{Provider, Registration, StaticProvider};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = StaticProvider::new(["10.0.0.2:3320", "10.0.0.1:3320", "[fd00::1]:3320"]);
//! assert!(provider.validate().is_empty());
//!
//! let this_node = Registration::new("cache-0", "10.0.0.1:3320".parse()?);
//! provider.start().await?;
//! provider.register(&this_node).await?;
//! for seed in provider.discover().await? {
//!     println!("{} (found by {})", seed.addr, seed.provider);
//! }
//! provider.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | none | | `static` and `standalone` are always there |
//! | `dns` | no | `DnsProvider`: A and AAAA records with one port, or SRV records |
//! | `nats` | no | `NatsProvider`: nodes that meet at a NATS server, on a subject or in a key-value bucket |
//! | `kubernetes` | no | `KubernetesProvider`: pods, or the endpoints of a service, from the API server |
//! | `kubernetes-unversioned` | no | the same, for programs that choose a version feature of `k8s-openapi` themselves |

mod address;
mod bounds;
pub mod conformance;
#[cfg(feature = "dns")]
mod dns;
mod error;
#[cfg(any(feature = "dns", feature = "kubernetes-unversioned"))]
mod family;
mod fixed;
mod forward;
#[cfg(feature = "kubernetes-unversioned")]
mod kubernetes;
#[cfg(feature = "nats")]
mod nats;
mod network;
mod provider;
mod resolve;
mod seed;
mod several;
mod standalone;

#[cfg(feature = "dns")]
pub use dns::DnsProvider;
pub use error::{DiscoveryError, Fault};
#[cfg(any(feature = "dns", feature = "kubernetes-unversioned"))]
pub use family::IpFamily;
pub use fixed::StaticProvider;
#[cfg(feature = "kubernetes-unversioned")]
pub use kubernetes::{KubernetesAccess, KubernetesProvider};
#[cfg(feature = "nats")]
pub use nats::NatsProvider;
pub use network::{Network, ParseNetworkError};
pub use provider::{Provider, Registration};
pub use seed::{Change, ChangeStream, Seed};
pub use several::SeveralProviders;
pub use standalone::StandaloneProvider;
