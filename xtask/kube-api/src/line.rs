//! The lines by which a process is told what to list.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::objects::Pod;

/// Says one change: `add NAME IP PORT ready`, `add NAME IP PORT starting`, or `remove NAME`.
///
/// The pods are in the namespace `default`, with the label `app=distcache` and a port named `distcache`.
///
/// # Examples
///
/// ```
/// use distcache_kube_api::Line;
///
/// let Line::Add(pod) = "add cache-0 10.0.0.1 3320 starting".parse()? else { unreachable!() };
/// assert_eq!((pod.name.as_str(), pod.ready), ("cache-0", false));
/// # Ok::<(), distcache_kube_api::LineError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Adds a pod, or changes the one of its name.
    Add(Box<Pod>),
    /// Removes the pod of that name.
    Remove(String),
}

/// Says that a line is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError(String);

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neither `add NAME IP PORT ready|starting` nor `remove NAME`: {:?}", self.0)
    }
}

impl std::error::Error for LineError {}

impl FromStr for Line {
    type Err = LineError;

    fn from_str(line: &str) -> Result<Self, LineError> {
        let error = || LineError(line.to_owned());
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["add", name, ip, port, state] => {
                let ip: IpAddr = ip.parse().map_err(|_| error())?;
                let mut pod = match state {
                    "ready" => Pod::ready(name, ip),
                    "starting" => Pod::starting(name, ip),
                    _ => return Err(error()),
                };
                pod.ports = vec![("distcache".to_owned(), port.parse().map_err(|_| error())?)];
                Ok(Self::Add(Box::new(pod)))
            }
            ["remove", name] => Ok(Self::Remove(name.to_owned())),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_or_refused() {
        let Ok(Line::Add(pod)) = "add cache-0 fd00::1 4000 ready".parse() else { panic!() };
        assert_eq!(pod.labels["app"], "distcache");
        assert!(pod.ready && pod.ports == [("distcache".to_owned(), 4000)]);
        assert_eq!("remove cache-0".parse(), Ok(Line::Remove("cache-0".to_owned())));
        for line in ["", "add", "add a 10.0.0.1 70000 ready", "add a b 1 ready", "add a 10.0.0.1 1 done", "drop a"] {
            assert!(line.parse::<Line>().is_err(), "{line}");
        }
    }
}
