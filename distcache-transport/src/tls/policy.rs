//! Which of an authority's certificates are a peer's: [`PeerPolicy`].

use std::collections::BTreeSet;

use thiserror::Error;

use super::certificate::PeerCertificate;

/// Says whose certificates are accepted, among those that come from a trusted authority and are in force.
///
/// Names are those of the certificate's subject alternative names; a common name is not looked at.
///
/// # Examples
///
/// ```no_run
/// use distcache_transport::{PeerPolicy, TlsConfig};
///
/// let policy = PeerPolicy::Spiffe { trust_domain: "example.org".to_owned(), path_prefix: "/ns/prod/sa/cache".to_owned() };
/// let tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?.peer_policy(policy);
/// # Ok::<(), distcache_transport::TlsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PeerPolicy {
    /// Accepts every certificate of the authority. Right if the authority serves this cluster only.
    #[default]
    AnyFromCa,
    /// Accepts a certificate with a DNS name that is this domain or lies below it, upper or lower case. Without a domain it
    /// accepts none.
    DnsSuffix(String),
    /// Accepts a certificate with exactly one URI, which is a SPIFFE ID of the trust domain whose path begins with the prefix,
    /// whole segments counted. An empty prefix stands for every path.
    Spiffe {
        /// The trust domain, such as `example.org`.
        trust_domain: String,
        /// How paths begin, such as `/ns/prod/sa/cache`.
        path_prefix: String,
    },
    /// Accepts a certificate with one of these DNS names or URIs, written as they are there, a wildcard included. DNS names match
    /// in upper or lower case.
    Exact(BTreeSet<String>),
}

impl PeerPolicy {
    /// Checks the names of a certificate whose chain was verified.
    pub(super) fn check(&self, certificate: &PeerCertificate) -> Result<(), PolicyFault> {
        let (dns, uris) = (&certificate.dns_names, &certificate.uri_names);
        match self {
            Self::AnyFromCa => return Ok(()),
            Self::DnsSuffix(suffix) if dns.iter().any(|name| is_below(name, suffix)) => return Ok(()),
            Self::Spiffe { trust_domain, path_prefix } => match &uris[..] {
                [id] if is_spiffe(id, trust_domain, path_prefix) => return Ok(()),
                [_] => {}
                several => return Err(PolicyFault::UriCount { count: several.len() }),
            },
            Self::Exact(names) => {
                let is_dns = |name: &String| dns.iter().any(|have| have.eq_ignore_ascii_case(name));
                if names.iter().any(|name| is_dns(name) || uris.contains(name)) {
                    return Ok(());
                }
            }
            Self::DnsSuffix(_) => {}
        }
        Err(PolicyFault::Name { names: certificate.to_string() })
    }
}

/// Explains why a certificate that was verified is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum PolicyFault {
    #[error("the policy for peers does not allow the certificate of {names}")]
    Name { names: String },
    #[error("the policy for peers wants one URI in a certificate, and this one has {count}")]
    UriCount { count: usize },
}

fn is_below(name: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').as_bytes();
    let name = name.as_bytes();
    let Some(at) = name.len().checked_sub(domain.len()) else { return false };
    !domain.is_empty() && name[at..].eq_ignore_ascii_case(domain) && (at == 0 || name[at - 1] == b'.')
}

/// The SPIFFE ID standard, section 2: no query, no port, no empty or dotted segment.
fn is_spiffe(id: &str, trust_domain: &str, path_prefix: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_segment = |segment: &str| {
        let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        plain && !matches!(segment, "" | "." | "..")
    };
    let well_formed = id.len() <= MAX_SPIFFE_BYTES && path.split('/').skip(1).all(is_segment);
    let prefix = path_prefix.trim_end_matches('/');
    let below = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    well_formed && !domain.is_empty() && domain == trust_domain && below
}

/// The standard's limit.
const MAX_SPIFFE_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(dns: &[&str], uris: &[&str]) -> PeerCertificate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        PeerCertificate { dns_names: owned(dns), uri_names: owned(uris) }
    }

    fn allows(policy: &PeerPolicy, dns: &[&str], uris: &[&str]) -> bool {
        policy.check(&certificate(dns, uris)).is_ok()
    }

    #[test]
    fn by_default_every_certificate_of_the_authority_will_do() {
        assert!(allows(&PeerPolicy::default(), &[], &[]));
    }

    #[test]
    fn dns_suffix_ends_at_a_label() {
        let policy = PeerPolicy::DnsSuffix("cache.example.org".to_owned());
        for name in ["cache.example.org", "n1.cache.example.org", "N1.Cache.Example.ORG", "*.cache.example.org"] {
            assert!(allows(&policy, &["other", name], &[]), "{name}");
        }
        for name in ["evilcache.example.org", "example.org", "*.example.org", "cache.example.org.evil", ""] {
            assert!(!allows(&policy, &[name], &[]), "{name}");
        }
        assert!(!allows(&policy, &[], &["cache.example.org"]), "a URI is no DNS name");
        assert!(allows(&PeerPolicy::DnsSuffix(".example.org".to_owned()), &["n1.example.org"], &[]));
        for empty in ["", "."] {
            assert!(!allows(&PeerPolicy::DnsSuffix(empty.to_owned()), &["n1.example.org", ""], &[]));
        }
    }

    #[test]
    fn spiffe_wants_one_well_formed_id_below_the_prefix() {
        let policy = |path: &str| PeerPolicy::Spiffe { trust_domain: "org.example".into(), path_prefix: path.into() };
        let cache = policy("/ns/prod/sa/cache");
        for id in ["spiffe://org.example/ns/prod/sa/cache", "spiffe://org.example/ns/prod/sa/cache/0"] {
            assert!(allows(&cache, &["ignored"], &[id]), "{id}");
            assert!(allows(&policy(""), &[], &[id]) && allows(&policy("/ns/"), &[], &[id]));
        }
        for id in [
            "spiffe://org.example/ns/prod/sa/cache2",
            "spiffe://org.example/ns/prod/sa",
            "spiffe://org.example.evil/ns/prod/sa/cache",
            "spiffe://org.example:1/ns/prod/sa/cache",
            "spiffe://user@org.example/ns/prod/sa/cache",
            "spiffe://org.example/ns/prod/sa/cache/../admin",
            "spiffe://org.example/ns/prod/sa/cache//x",
            "spiffe://org.example/ns/prod/sa/cache/",
            "spiffe://org.example/ns/prod/sa/cache?x",
            "SPIFFE://org.example/ns/prod/sa/cache",
            "https://org.example/ns/prod/sa/cache",
            "",
        ] {
            assert!(!allows(&cache, &[], &[id]), "{id}");
        }
        let id = "spiffe://org.example/ns/prod/sa/cache";
        assert_eq!(cache.check(&certificate(&[], &[])), Err(PolicyFault::UriCount { count: 0 }));
        assert_eq!(cache.check(&certificate(&[], &[id, id])), Err(PolicyFault::UriCount { count: 2 }));
        let nowhere = PeerPolicy::Spiffe { trust_domain: String::new(), path_prefix: String::new() };
        assert!(!allows(&nowhere, &[], &["spiffe:///x"]));
    }

    #[test]
    fn exact_names_are_compared_whole() {
        let policy = PeerPolicy::Exact(["n1.example.org", "spiffe://org.example/a"].map(String::from).into());
        assert!(allows(&policy, &["N1.example.org"], &[]));
        assert!(allows(&policy, &[], &["spiffe://org.example/b", "spiffe://org.example/a"]));
        assert!(!allows(&policy, &["n2.example.org", "x.n1.example.org"], &["spiffe://org.example/A"]));
        assert!(!allows(&PeerPolicy::Exact(BTreeSet::new()), &["n1.example.org"], &[]));
        let fault = policy.check(&certificate(&["n2.example.org"], &[])).unwrap_err();
        assert!(fault.to_string().contains("n2.example.org"), "{fault}");
    }
}
