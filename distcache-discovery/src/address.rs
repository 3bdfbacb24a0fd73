//! Reads `host:port` as people write it, and says what is wrong with it when they do not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a configured address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IP literal: the seed itself.
    Ip(SocketAddr),
    /// A name to be resolved each time.
    Host(String, u16),
}

impl Address {
    /// Parses `10.0.0.1:3320`, `[::1]:3320` or `cache-0.cache:3320`.
    ///
    /// # Errors
    ///
    /// A phrase that completes "the address ...".
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty");
        }
        if text.contains("://") {
            return Err("must be host:port, without a scheme");
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err("has no port, or lacks the brackets of an IPv6 address: write [address]:port");
        }
        let (host, port) = text.rsplit_once(':').ok_or(NO_PORT)?;
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(NO_PORT);
        }
        let port = parse_port(port)?;
        if host.starts_with('[') {
            let addr: SocketAddr =
                text.parse().map_err(|_| "has no IPv6 address in its brackets (a zone must be a number)")?;
            return check_dialable(addr).map(Self::Ip);
        }
        if host.contains(':') {
            return Err("has too many colons: an IPv6 address is written [address]:port");
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return check_dialable(SocketAddr::new(IpAddr::V4(ip), port)).map(Self::Ip);
        }
        check_host(host)?;
        Ok(Self::Host(host.to_owned(), port))
    }
}

/// Passes an address that can be the far end of a connection.
pub(crate) fn check_dialable(addr: SocketAddr) -> Result<SocketAddr, &'static str> {
    let ip = addr.ip().to_canonical();
    if addr.port() == 0 {
        Err(PORT_ZERO)
    } else if ip.is_unspecified() {
        Err("means every interface of this machine, which no peer can dial: name one address")
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err("is a multicast or broadcast address, which no peer can dial")
    } else {
        Ok(addr)
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err(NO_PORT);
    }
    // `u16::from_str` alone would take "+3320".
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has a port that is not a number");
    }
    match text.parse() {
        Ok(0) => Err(PORT_ZERO),
        Ok(port) => Ok(port),
        Err(_) => Err("has a port above 65535"),
    }
}

/// Passes what RFC 1123 calls a host name, and underscores, which container platforms put into theirs.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err("has no host");
    }
    if name.len() > MAX_HOST_BYTES {
        return Err("has a host name of more than 253 bytes");
    }
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err("has a host that is neither an IP address nor a host name");
    }
    // The system's resolver would read "10.1" or "0x7f000001" as an address nobody meant.
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err("ends in a number like an IPv4 address, but is not one");
    }
    Ok(())
}

const NO_PORT: &str = "has no port: write host:port";
const PORT_ZERO: &str = "has port 0, at which no peer can listen";
/// RFC 1035 allows 255 bytes on the wire, which leaves 253 in text without the final dot.
const MAX_HOST_BYTES: usize = 253;
/// RFC 1035, section 2.3.4.
const MAX_LABEL_BYTES: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_names_are_read() {
        for text in ["10.0.0.1:3320", "[::1]:3320", "[fe80::1%3]:3320", "127.0.0.1:65535"] {
            assert_eq!(Address::parse(text), Ok(Address::Ip(text.parse().unwrap())), "{text}");
        }
        for host in [
            "localhost",
            "cache-0.cache",
            "cache-0.cache.svc.cluster.local.",
            "my_service",
            "4chan.org",
            "0xcafe.example",
        ] {
            let text = format!("{host}:3320");
            assert_eq!(Address::parse(&text), Ok(Address::Host(host.to_owned(), 3320)), "{text}");
        }
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert!(Address::parse(&format!("{longest}:1")).is_ok());
    }

    #[test]
    fn each_mistake_is_told_apart() {
        let cases = [
            ("", "is empty"),
            ("10.0.0.1", "no port"),
            ("cache-0", "no port"),
            ("cache-0:", "no port"),
            ("[::1]", "no port"),
            ("::1", "brackets"),
            ("fd00::1:3320", "brackets"),
            ("1:2:3:4:5:6:7:8:3320", "too many colons"),
            ("10.0.0.1:0", "port 0"),
            ("[::1]:0", "port 0"),
            ("cache-0:00", "port 0"),
            ("10.0.0.1:65536", "above 65535"),
            ("cache-0:+3320", "not a number"),
            ("cache-0:http", "not a number"),
            ("http://cache-0:3320", "scheme"),
            ("cache-0/path:3320", "neither"),
            ("cache 0:3320", "neither"),
            ("-cache:3320", "neither"),
            ("a..b:3320", "neither"),
            ("caché:3320", "neither"),
            (":3320", "no host"),
            (".:3320", "no host"),
            ("10.0.0.256:3320", "ends in a number"),
            ("10.1:3320", "ends in a number"),
            ("0x7f000001:3320", "ends in a number"),
            ("[cache-0]:3320", "in its brackets"),
            ("[fe80::1%eth0]:3320", "in its brackets"),
            ("0.0.0.0:3320", "every interface"),
            ("[::]:3320", "every interface"),
            ("[::ffff:0.0.0.0]:3320", "every interface"),
            ("224.0.0.1:3320", "multicast"),
            ("[ff02::1]:3320", "multicast"),
            ("255.255.255.255:3320", "broadcast"),
        ];
        for (text, wanted) in cases {
            let fault = Address::parse(text).unwrap_err();
            assert!(fault.contains(wanted), "{text:?} gave {fault:?}, not {wanted:?}");
        }
        let label = "a".repeat(64);
        assert!(Address::parse(&format!("{label}:1")).is_err());
        let name = ["a"; 127].join(".") + "a";
        assert!(Address::parse(&format!("{name}:1")).unwrap_err().contains("253"));
    }

    #[test]
    fn whatever_is_accepted_can_be_dialled_and_read_back() {
        let (mut literals, mut names) = (0, 0);
        for text in every_sentence(&["1", "0", "a", ":", ".", "[", "]", "-", "%", "::1", "10.0.0.1"], 5) {
            match Address::parse(&text) {
                Ok(Address::Ip(addr)) => {
                    literals += 1;
                    assert_eq!(check_dialable(addr), Ok(addr), "{text}");
                    assert_eq!(Address::parse(&addr.to_string()), Ok(Address::Ip(addr)), "{text}");
                }
                Ok(Address::Host(host, port)) => {
                    names += 1;
                    assert!(port > 0 && host.parse::<IpAddr>().is_err(), "{text}");
                    assert_eq!(Address::parse(&format!("{host}:{port}")), Ok(Address::Host(host, port)), "{text}");
                }
                Err(fault) => assert!(!fault.is_empty()),
            }
        }
        assert!(literals > 20 && names > 20, "{literals} and {names}: the test checked next to nothing");
    }

    /// Every concatenation of up to `len` of the `words`.
    fn every_sentence(words: &[&str], len: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..len {
            longest = longest.iter().flat_map(|text| words.iter().map(move |word| format!("{text}{word}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }
}
