//! Keyspaces come, change and go while the engine runs.

use std::sync::Arc;

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

impl Engine {
    /// Returns the names of all keyspaces of this node, in order.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.inner.local.names().iter().map(ToString::to_string).collect()
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
