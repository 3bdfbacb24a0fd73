//! How discovery fails: [`DiscoveryError`] at run time, [`Fault`] in the configuration.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Explains why a provider could not start, answer or stop.
///
/// A failed call changes nothing: the provider stays in the state it was in, and the caller may go on with the
/// seeds it has. Every variant names the provider, the one piece of provenance a log needs.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{DiscoveryError, Provider, StaticProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = StaticProvider::new(["10.0.0.1:3320"]).discover().await.unwrap_err();
/// assert!(matches!(error, DiscoveryError::NotStarted { .. }));
/// assert!(!error.is_retryable());
/// assert_eq!(error.provider(), "static");
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The caller asked before [`start`](crate::Provider::start) or after [`stop`](crate::Provider::stop).
    /// A retry helps only once the provider is started.
    NotStarted {
        /// The provider's id.
        provider: &'static str,
    },
    /// The caller started a provider that is already running, and it goes on running with its first registration.
    /// A retry does not help.
    AlreadyStarted {
        /// The provider's id.
        provider: &'static str,
    },
    /// The configuration is wrong, so the provider did not start. A retry does not help; whoever wrote the
    /// configuration can correct every fault listed.
    Invalid {
        /// The provider's id.
        provider: &'static str,
        /// What [`validate`](crate::Provider::validate) found, never empty.
        faults: Vec<Fault>,
    },
    /// The resolver found no usable address of a host, and no other host gave one either. The name or the resolver is
    /// to blame. A retry helps if the name appears later, as it does while a cluster is being created.
    Resolve {
        /// The provider's id.
        provider: &'static str,
        /// The name that failed; the first one if several did.
        host: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The resolver did not answer in time, and no other host gave an address either. A retry helps once the resolver is
    /// back.
    ResolveTimeout {
        /// The provider's id.
        provider: &'static str,
        /// The name that was asked for; the first one if several failed.
        host: String,
        /// How long the provider waited.
        waited: Duration,
    },
    /// The service behind the provider failed or could not be reached. A retry helps once the service is back.
    Unavailable {
        /// The provider's id.
        provider: &'static str,
        /// What went wrong there.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The service behind the provider refused this node, for want of credentials or rights. A retry does not help until
    /// an operator grants them.
    Refused {
        /// The provider's id.
        provider: &'static str,
        /// How the service put it.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl DiscoveryError {
    /// Wraps a failure of the service behind `provider` that a later call may not meet.
    pub fn unavailable(provider: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        Self::Unavailable { provider, source }
    }

    /// Wraps a refusal by the service behind `provider` that every later call will meet too.
    pub fn refused(provider: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        Self::Refused { provider, source }
    }

    /// Returns the id of the provider that failed.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match self {
            Self::NotStarted { provider }
            | Self::AlreadyStarted { provider }
            | Self::Invalid { provider, .. }
            | Self::Resolve { provider, .. }
            | Self::ResolveTimeout { provider, .. }
            | Self::Unavailable { provider, .. }
            | Self::Refused { provider, .. } => provider,
        }
    }

    /// Returns whether the same call may succeed later with nothing changed on this node.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::ResolveTimeout { .. } | Self::Unavailable { .. } => true,
            Self::NotStarted { .. } | Self::AlreadyStarted { .. } | Self::Invalid { .. } | Self::Refused { .. } => {
                false
            }
        }
    }
}

// Written out rather than derived: a derived `source` would return the `Arc`, and then no caller could downcast it to
// the error inside.
impl Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Resolve { source, .. } => Some(source.as_ref()),
            Self::Unavailable { source, .. } | Self::Refused { source, .. } => Some(source.as_ref()),
            Self::NotStarted { .. }
            | Self::AlreadyStarted { .. }
            | Self::Invalid { .. }
            | Self::ResolveTimeout { .. } => None,
        }
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} discovery ", self.provider())?;
        match self {
            Self::NotStarted { .. } => f.write_str("is not started"),
            Self::AlreadyStarted { .. } => f.write_str("is already started"),
            Self::Invalid { faults, .. } => {
                f.write_str("is misconfigured")?;
                for (i, fault) in faults.iter().take(FAULTS_SHOWN).enumerate() {
                    write!(f, "{} {fault}", if i == 0 { ":" } else { ";" })?;
                }
                match faults.len().saturating_sub(FAULTS_SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Self::Resolve { host, .. } => write!(f, "found no address of {host}"),
            Self::ResolveTimeout { host, waited, .. } => {
                write!(f, "got no answer about {host} within {waited:?}")
            }
            Self::Unavailable { .. } => f.write_str("is unavailable"),
            Self::Refused { .. } => f.write_str("was refused"),
        }
    }
}

/// Describes one mistake in a provider's configuration, in words for whoever wrote it.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Provider, StaticProvider};
///
/// let faults = StaticProvider::new(["10.0.0.1"]).validate();
/// assert_eq!(faults[0].field, "addresses[0]");
/// assert!(faults[0].to_string().contains("has no port"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fault {
    /// Which setting is wrong, as the user wrote it: `addresses[3]`.
    pub field: String,
    /// What is wrong with it and, if that is not plain, what would be right. It has to read well after the field and a
    /// colon.
    pub message: String,
}

impl Fault {
    /// Creates a fault of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// An error is one line of a log; `validate` gives them all.
const FAULTS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_can_be_downcast_from_a_clone() {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        let error = DiscoveryError::Resolve { provider: "static", host: "cache-0".into(), source: Arc::new(cause) };
        let io = error.clone().source().unwrap().downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!(io, Some(io::ErrorKind::NotFound));

        let error = DiscoveryError::unavailable("nats", io::Error::from(io::ErrorKind::BrokenPipe));
        let io = error.clone().source().unwrap().downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!(io, Some(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_refusal_is_final_and_an_outage_is_not() {
        assert!(DiscoveryError::unavailable("nats", "no server").is_retryable());
        assert!(!DiscoveryError::refused("nats", "bad password").is_retryable());
    }

    #[test]
    fn messages_name_the_provider_and_leave_the_cause_to_source() {
        let error = DiscoveryError::refused("nats", "bad password");
        assert_eq!(error.to_string(), "nats discovery was refused");
        assert_eq!(error.source().unwrap().to_string(), "bad password");
    }

    #[test]
    fn a_long_list_of_faults_is_cut_in_the_message_only() {
        let faults: Vec<_> = (0..10).map(|i| Fault::new(format!("addresses[{i}]"), "is empty")).collect();
        let error = DiscoveryError::Invalid { provider: "static", faults };
        let shown = error.to_string();
        assert!(shown.starts_with("static discovery is misconfigured: addresses[0]: is empty; addresses[1]: "));
        assert!(shown.ends_with("addresses[7]: is empty; and 2 more"), "{shown}");
    }
}
