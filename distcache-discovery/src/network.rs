//! Networks, as allow-lists name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Is a network of IP addresses: `10.0.0.0/8`, `fd00::/8`, or one address alone.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) counts as what it is.
///
/// # Examples
///
/// ```
/// use distcache_discovery::Network;
///
/// let network: Network = "10.1.0.0/16".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!(!network.contains("10.2.2.3".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Returns whether an address lies in the network.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

/// Says why a text is no network. Whoever wrote it is to blame; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseNetworkError(&'static str);

impl FromStr for Network {
    type Err = ParseNetworkError;

    /// Reads `address/prefix`, or an address alone.
    ///
    /// # Errors
    ///
    /// The text is none of these, or the address has bits set beyond the prefix: then one of the two is not what was meant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(ip.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| ParseNetworkError("is neither address/prefix nor an address"))?;
        if matches!(network.addr(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return Err(ParseNetworkError("is of IPv4 addresses in IPv6 clothes: write it as an IPv4 network"));
        }
        if network.trunc() != network {
            return Err(ParseNetworkError("has an address with bits beyond its prefix"));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ParseNetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseNetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.2.3", "fd00::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{outside} in {text}");
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        assert!(network("10.0.0.0/8").contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!network("::/0").contains("::ffff:10.0.0.1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }

    #[test]
    fn each_mistake_is_told_apart() {
        for (text, wanted) in [
            ("", "neither"),
            ("10.0.0.0/33", "neither"),
            ("10.0.0/8", "neither"),
            ("cache-0", "neither"),
            ("10.0.0.1/8", "beyond its prefix"),
            ("::ffff:10.0.0.0/104", "in IPv6 clothes"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.to_string().contains(wanted), "{text:?} gave {error}");
        }
    }
}
