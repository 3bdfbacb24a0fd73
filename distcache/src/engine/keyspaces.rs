//! Keyspaces come, change and go while the engine runs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Engine,
    start::definition_faults,
    write::{Name, outcome},
};
use crate::{
    entry::Outcome,
    error::{Error, ErrorKind, Result},
    keyspace::KeySpace,
};

/// The keyspaces of a cluster, as its nodes tell.
///
/// ```no_run
/// # async fn example(engine: distcache::Engine) -> distcache::Result<()> {
/// let keyspaces = engine.keyspaces().await?;
/// for (name, nodes) in &keyspaces.nodes_by_name {
///     println!("{name}: {}", nodes.join(", "));
/// }
/// if !keyspaces.is_complete() {
///     println!("no answer from {}", keyspaces.unanswered.join(", "));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeySpaces {
    /// By name, the names of the nodes that have it, in order.
    pub nodes_by_name: BTreeMap<String, Vec<String>>,
    /// The names of the nodes that did not answer: what they have is not known.
    pub unanswered: Vec<String>,
}

impl KeySpaces {
    /// Whether all nodes have answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Returns the names of all keyspaces that some node has, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes_by_name.keys().map(String::as_str)
    }
}

impl Engine {
    /// Returns the names of all keyspaces of this node, in order.
    #[must_use]
    pub fn local_keyspaces(&self) -> Vec<String> {
        self.inner.local.names().iter().map(ToString::to_string).collect()
    }

    /// Asks every node of the cluster which keyspaces it has: a data source is code, so nodes may differ, as while a new version is
    /// rolled out. Nodes that say nothing for a second are left out, and named.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`]. Never because a peer is down.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing changes anywhere.
    pub async fn keyspaces(&self) -> Result<KeySpaces> {
        self.inner.open()?;
        let told = self.inner.cluster.keyspaces(self.inner.config.read_timeout).await;
        let (mut nodes_by_name, mut unanswered) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
        for (node, names) in told {
            let Some(names) = names else {
                unanswered.push(node.to_string());
                continue;
            };
            for name in names {
                nodes_by_name.entry(name.to_string()).or_default().push(node.to_string());
            }
        }
        nodes_by_name.values_mut().for_each(|nodes| nodes.sort());
        Ok(KeySpaces { nodes_by_name, unanswered })
    }

    /// Adds a keyspace to this node. Other nodes answer reads of keys they own with
    /// [`ErrorKind::UnknownKeySpace`] until they have it too: a data source is code, and does not travel.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with all faults of the definition, or when the name is taken; [`ErrorKind::Closed`].
    pub fn add_keyspace(&self, keyspace: impl KeySpace) -> Result<()> {
        self.define(Arc::new(keyspace), false).map(|_| ())
    }

    /// Puts a new definition in the place of one of the same name, and empties the keyspace on every node: what a new data
    /// source says may differ. Handles go on with the new definition.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`] when there is none of that name, [`ErrorKind::Invalid`] with all faults of the
    /// definition, [`ErrorKind::Closed`]; the old definition stays then.
    ///
    /// # Cancel safety
    /// Once polled, the definition is in place and the news is on its way.
    pub async fn update_keyspace(&self, keyspace: impl KeySpace) -> Result<Outcome> {
        let name = self.define(Arc::new(keyspace), true)?;
        let delivery = self.inner.cluster.clear(&name, self.inner.config.write_timeout).await;
        Ok(outcome(&delivery))
    }

    /// Removes a keyspace from every node: its definition and all it holds. Operations on it end with
    /// [`ErrorKind::UnknownKeySpace`] from then on.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownKeySpace`] when this node has none of that name, [`ErrorKind::Closed`]. Never because a peer is
    /// down: then the outcome is [`Outcome::Degraded`].
    ///
    /// # Cancel safety
    /// Once polled, the keyspace is gone here and the news is on its way.
    pub async fn delete_keyspace(&self, name: &str) -> Result<Outcome> {
        self.delete_keyspaces(&[name]).await
    }

    /// Removes several keyspaces from every node, as [`delete_keyspace`](Self::delete_keyspace) does.
    ///
    /// # Errors
    /// As [`delete_keyspace`](Self::delete_keyspace); one unknown name fails the call before anything is removed.
    ///
    /// # Cancel safety
    /// As [`delete_keyspace`](Self::delete_keyspace).
    pub async fn delete_keyspaces(&self, names: &[impl AsRef<str> + Sync]) -> Result<Outcome> {
        let spaces: Result<Vec<_>> = names.iter().map(|name| self.inner.space(name.as_ref())).collect();
        let names: Vec<Name> = spaces?.iter().map(|space| Arc::clone(&space.name)).collect();
        let delivery = self.inner.cluster.delete_keyspaces(&names, self.inner.config.write_timeout).await;
        Ok(outcome(&delivery))
    }

    fn define(&self, keyspace: Arc<dyn KeySpace>, replace: bool) -> Result<Name> {
        self.inner.open()?;
        let faults = definition_faults(&*keyspace);
        if !faults.is_empty() {
            return Err(Error::faults(ErrorKind::Invalid, "the keyspace cannot be used", faults));
        }
        Ok(Arc::clone(&self.inner.local.define(keyspace, replace)?.name))
    }
}
