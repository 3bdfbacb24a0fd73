//! What a request asks for, read from its path and its query.

use std::collections::HashMap;
use std::time::Duration;

use crate::fault::Verb;
use crate::selector::Selector;

/// Names a kind of object that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Pod,
    Slice,
}

impl Kind {
    /// The version of the API it belongs to, and its name there.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Pod => ("v1", "Pod"),
            Self::Slice => ("discovery.k8s.io/v1", "EndpointSlice"),
        }
    }

    /// Its group, and its name in rights.
    pub(crate) fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Pod => ("", "pods"),
            Self::Slice => ("discovery.k8s.io", "endpointslices"),
        }
    }
}

/// The objects of one kind in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
}

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) collection: Collection,
    pub(crate) verb: Verb,
    pub(crate) selector: Selector,
    /// How many objects a page holds at most.
    pub(crate) limit: Option<usize>,
    /// Where the page begins.
    pub(crate) token: Option<String>,
    /// Since when changes are told; `None` for from now on.
    pub(crate) version: Option<u64>,
    pub(crate) bookmarks: bool,
    /// How long a watch lasts.
    pub(crate) timeout: Duration,
}

/// Says why a request cannot be answered: a status code and a reason.
pub(crate) type Refusal = (u16, &'static str);

impl Query {
    pub(crate) fn parse(path: &str, query: &str) -> Result<Self, Refusal> {
        let collection = collection(path).ok_or((404, "NotFound"))?;
        let bad = (400, "BadRequest");
        let mut fields = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.insert(decode(name).ok_or(bad)?, decode(value).ok_or(bad)?);
        }
        let field = |name: &str| fields.get(name).filter(|value| !value.is_empty());
        let is = |name: &str| field(name).is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        let number = |name: &str| field(name).map(|value| value.parse::<u64>().map_err(|_| bad)).transpose();
        let selector = field("labelSelector").map_or("", String::as_str);
        Ok(Self {
            collection,
            verb: if is("watch") { Verb::Watch } else { Verb::List },
            selector: Selector::parse(selector).ok_or(bad)?,
            limit: number("limit")?.filter(|limit| *limit > 0).map(usize::try_from).transpose().map_err(|_| bad)?,
            token: field("continue").cloned(),
            version: number("resourceVersion")?,
            bookmarks: is("allowWatchBookmarks"),
            timeout: number("timeoutSeconds")?.map_or(TIMEOUT, Duration::from_secs),
        })
    }
}

fn collection(path: &str) -> Option<Collection> {
    let (kind, rest) = match path.strip_prefix("/api/v1/namespaces/") {
        Some(rest) => (Kind::Pod, rest),
        None => (Kind::Slice, path.strip_prefix("/apis/discovery.k8s.io/v1/namespaces/")?),
    };
    let (namespace, resource) = rest.split_once('/')?;
    (resource == kind.resource().1).then(|| Collection { kind, namespace: namespace.to_owned() })
}

/// Undoes the encoding of a query's names and values.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? * 16 + digit(rest.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// How long a watch lasts whose client does not say. A real server takes half an hour to an hour.
const TIMEOUT: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_watch_are_told_apart() {
        let list = Query::parse("/api/v1/namespaces/prod/pods", "limit=2&labelSelector=app%3Dcache%2Ctier").unwrap();
        assert_eq!(list.collection, Collection { kind: Kind::Pod, namespace: "prod".to_owned() });
        assert_eq!((list.verb, list.limit), (Verb::List, Some(2)));
        assert_eq!(list.selector, Selector::parse("app=cache,tier").unwrap());

        let path = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices";
        let watch = Query::parse(path, "&watch=true&resourceVersion=7&timeoutSeconds=9").unwrap();
        assert_eq!((watch.collection.kind, watch.verb, watch.version), (Kind::Slice, Verb::Watch, Some(7)));
        assert_eq!(watch.timeout, Duration::from_secs(9));
    }

    #[test]
    fn what_is_not_served_is_refused() {
        assert_eq!(Query::parse("/api/v1/namespaces/prod/secrets", "").unwrap_err().0, 404);
        assert_eq!(Query::parse("/api/v1/pods", "").unwrap_err().0, 404);
        assert_eq!(Query::parse("/api/v1/namespaces/prod/pods", "limit=many").unwrap_err().0, 400);
        assert_eq!(Query::parse("/api/v1/namespaces/prod/pods", "labelSelector=%zz").unwrap_err().0, 400);
    }
}
