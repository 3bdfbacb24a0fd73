//! What the API server lists: which object leads to which addresses.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::ID;
use crate::Seed;
use crate::bounds::MAX_SEEDS;

/// Holds the addresses of every object that has any.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: HashMap<String, Vec<SocketAddr>>,
    /// Over all objects.
    addrs: usize,
}

/// One pod or slice as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    /// None, if the object counts for nothing.
    pub(super) addrs: Vec<SocketAddr>,
}

impl Store {
    /// Notes an object as it is now, and returns whether any address came or went.
    ///
    /// What does not fit is left out: more than [`MAX_ADDRS`] is either a hostile answer or far more than a node will try.
    pub(super) fn put(&mut self, object: Object) -> bool {
        let Object { name, addrs } = object;
        if self.objects.get(&name).is_some_and(|before| *before == addrs) {
            return false;
        }
        let removed = self.remove(&name);
        if addrs.is_empty() || addrs.len() > MAX_ADDRS - self.addrs || name.len() > MAX_NAME_BYTES {
            return removed;
        }
        self.addrs += addrs.len();
        self.objects.insert(name, addrs);
        true
    }

    /// Forgets an object, and returns whether it had any address.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(addrs) = self.objects.remove(name) else { return false };
        self.addrs -= addrs.len();
        true
    }

    /// Returns whether nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.addrs >= MAX_ADDRS
    }

    pub(super) fn seeds(&self) -> BTreeSet<Seed> {
        self.objects.values().flatten().map(|addr| Seed::new(*addr, ID)).collect()
    }
}

/// Above [`MAX_SEEDS`], so that those which are cut from an answer are known when others go.
const MAX_ADDRS: usize = 8 * MAX_SEEDS;
/// RFC 1123, as the API server has it.
const MAX_NAME_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, addrs: &[&str]) -> Object {
        Object { name: name.to_owned(), addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect() }
    }

    fn shown(store: &Store) -> Vec<String> {
        store.seeds().iter().map(|seed| seed.addr.to_string()).collect()
    }

    #[test]
    fn an_address_stays_as_long_as_any_object_has_it() {
        let mut store = Store::default();
        assert!(store.put(object("a", &["10.0.0.1:1", "10.0.0.2:1"])));
        assert!(store.put(object("b", &["10.0.0.2:1"])));
        assert!(!store.put(object("b", &["10.0.0.2:1"])), "nothing changed");
        assert_eq!(shown(&store), ["10.0.0.1:1", "10.0.0.2:1"]);
        assert!(store.remove("a"));
        assert!(!store.remove("a"));
        assert_eq!(shown(&store), ["10.0.0.2:1"]);
        assert!(store.put(object("b", &[])), "an object without addresses takes its own away");
        assert!(!store.put(object("c", &[])));
        assert_eq!((shown(&store), store.addrs), (vec![], 0));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut store = Store::default();
        let many: Vec<_> =
            (0..MAX_ADDRS).map(|i| SocketAddr::from(([10, 0, 0, 1], u16::try_from(i).unwrap()))).collect();
        assert!(!store.put(Object { name: "long".repeat(64), addrs: many.clone() }));
        assert!(store.put(Object { name: "a".to_owned(), addrs: many }));
        assert!(store.is_full());
        assert!(!store.put(object("b", &["10.0.0.2:1"])));
        assert!(store.put(object("a", &["10.0.0.1:1"])));
        assert!(store.put(object("b", &["10.0.0.2:1"])));
        assert_eq!(store.addrs, 2);
    }
}
