//! What the server lists: objects, their versions, and the changes since some version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::query::{Collection, Kind};
use crate::selector::Selector;

/// Holds the objects. Every change makes one version, counted over all kinds, as etcd's revisions are.
#[derive(Debug)]
pub(crate) struct Store {
    version: u64,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
}

type Key = (Kind, String, String);

#[derive(Debug)]
struct Change {
    version: u64,
    kind: Kind,
    namespace: String,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// A version that is too old to go on from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Value>>,
    /// The version from which a watch goes on.
    pub(crate) version: u64,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

impl Store {
    /// Creates a store whose versions are above those of every store before it, which are forgotten: whoever watched one that was
    /// in its place has to list again.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let version = u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 2);
        Self { version, forgotten: version, objects: BTreeMap::new(), log: VecDeque::new() }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Adds an object, or puts it in the place of the one of its name, and gives it a version of its own.
    pub(crate) fn put(&mut self, kind: Kind, namespace: &str, name: &str, mut object: Value) {
        self.version += 1;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        }
        let object = Arc::new(object);
        let before = self.objects.insert((kind, namespace.to_owned(), name.to_owned()), object.clone());
        self.note(kind, namespace, before, Some(object));
    }

    /// Removes an object; `false` if there was none.
    pub(crate) fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(before) = self.objects.remove(&(kind, namespace.to_owned(), name.to_owned())) else { return false };
        self.version += 1;
        self.note(kind, namespace, Some(before), None);
        true
    }

    fn note(&mut self, kind: Kind, namespace: &str, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        let namespace = namespace.to_owned();
        self.log.push_back(Change { version: self.version, kind, namespace, before, after });
        while self.log.len() > LOG_LEN {
            if let Some(change) = self.log.pop_front() {
                self.forgotten = change.version;
            }
        }
    }

    /// Forgets every change so far, as etcd does when it is compacted: a watch that is behind has to list again.
    pub(crate) fn forget(&mut self) {
        self.forgotten = self.version;
        self.log.clear();
    }

    /// Makes a version of nothing and forgets it too, so that who has seen every change is behind as well.
    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.forget();
    }

    /// Returns the objects of a collection from `token` on, `limit` of them at most.
    ///
    /// A further page holds what is there now, under the version of the first: whoever watches from there is told of the
    /// difference.
    pub(crate) fn page(
        &self,
        collection: &Collection,
        selector: &Selector,
        limit: Option<usize>,
        token: Option<&str>,
    ) -> Result<Page, Gone> {
        let (version, after) = match token {
            None => (self.version, None),
            Some(token) => {
                let (version, name) = token.split_once('/').ok_or(Gone)?;
                (version.parse().map_err(|_| Gone)?, Some(name))
            }
        };
        if version < self.forgotten {
            return Err(Gone);
        }
        let mut found = self.objects.iter().filter(|((kind, namespace, name), object)| {
            (*kind, namespace) == (collection.kind, &collection.namespace)
                && after.is_none_or(|after| name.as_str() > after)
                && selector.matches(object)
        });
        let mut items = Vec::new();
        let mut last = String::new();
        for ((_, _, name), object) in found.by_ref().take(limit.unwrap_or(usize::MAX)) {
            items.push(object.clone());
            last.clone_from(name);
        }
        let next = found.next().map(|_| format!("{version}/{last}"));
        Ok(Page { items, version, next })
    }

    /// Returns what changed in a collection since `version`, as its watchers are told.
    pub(crate) fn since(&self, collection: &Collection, selector: &Selector, version: u64) -> Result<Vec<Value>, Gone> {
        if version < self.forgotten {
            return Err(Gone);
        }
        let changes = self.log.iter().filter(|change| {
            change.version > version && (change.kind, &change.namespace) == (collection.kind, &collection.namespace)
        });
        Ok(changes.filter_map(|change| change.told(selector)).collect())
    }
}

impl Change {
    /// To a watcher, an object begins when it begins to match.
    fn told(&self, selector: &Selector) -> Option<Value> {
        let before = self.before.as_ref().filter(|object| selector.matches(object));
        let after = self.after.as_ref().filter(|object| selector.matches(object));
        let (event, object) = match (before, after) {
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", self.after.as_ref().unwrap_or(before)),
            (None, None) => return None,
        };
        let mut object = Value::clone(object);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        }
        Some(json!({ "type": event, "object": object }))
    }
}

/// More than any test makes between two looks.
const LOG_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Collection {
        Collection { kind: Kind::Pod, namespace: "default".to_owned() }
    }

    fn store_of(names: &[&str]) -> Store {
        let mut store = Store::new();
        for name in names {
            let object = json!({ "metadata": { "name": name, "labels": { "app": "cache" } } });
            store.put(Kind::Pod, "default", name, object);
        }
        store
    }

    #[test]
    fn pages_hold_every_object_once() {
        let store = store_of(&["a", "b", "c", "d", "e"]);
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let page = store.page(&pods(), &Selector::default(), Some(2), token.as_deref()).unwrap();
            names.extend(page.items.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_watcher_is_told_of_what_matches_its_selector() {
        let mut store = store_of(&["a"]);
        let from = store.version();
        let labelled = |app: &str| json!({ "metadata": { "name": "b", "labels": { "app": app } } });
        store.put(Kind::Pod, "default", "b", labelled("other"));
        store.put(Kind::Pod, "default", "b", labelled("cache"));
        store.put(Kind::Pod, "default", "b", labelled("cache"));
        store.put(Kind::Pod, "default", "b", labelled("other"));
        store.put(Kind::Pod, "elsewhere", "b", labelled("cache"));
        assert!(store.remove(Kind::Pod, "default", "a"));
        assert!(!store.remove(Kind::Pod, "default", "a"));
        let told = store.since(&pods(), &Selector::parse("app=cache").unwrap(), from).unwrap();
        let told: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(told, ["ADDED", "MODIFIED", "DELETED", "DELETED"]);
    }

    #[test]
    fn versions_of_a_store_that_is_gone_are_too_old() {
        let store = store_of(&["a"]);
        assert_eq!(store.since(&pods(), &Selector::default(), 1).unwrap_err(), Gone);
        assert!(store.since(&pods(), &Selector::default(), store.version()).is_ok());
    }

    #[test]
    fn a_version_from_before_a_compaction_is_gone() {
        let mut store = store_of(&["a", "b", "c"]);
        let page = store.page(&pods(), &Selector::default(), Some(1), None).unwrap();
        store.compact();
        let further = store.page(&pods(), &Selector::default(), Some(1), page.next.as_deref());
        assert_eq!(further.unwrap_err(), Gone);
        assert_eq!(store.since(&pods(), &Selector::default(), page.version).unwrap_err(), Gone);
        assert!(store.since(&pods(), &Selector::default(), store.version()).unwrap().is_empty());
    }
}
