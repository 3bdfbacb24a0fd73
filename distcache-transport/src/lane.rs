//! The two lanes of a peer pair: [`Lane`], and the number by which a listener knows a link again.

/// Is what a connection between two nodes is for.
///
/// Two nodes that talk have a connection of each kind, so that a large value on its way delays neither the word that a node is
/// alive nor the word that a value is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Requests and their answers, in any order: a [`Link`](crate::Link).
    Data,
    /// Small messages, and the events of a log in their order: a [`ControlLink`](crate::ControlLink).
    Control,
}

/// Numbers a link, the same in each of its connections and, by chance alone, in no other link.
///
/// It tells a listener which of its connections a new one takes the place of, and how far the link's log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkNumber(pub(crate) u64);

/// Which link a connection belongs to, and what it is for: what a dialler says of the connection, not of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) lane: Lane,
    pub(crate) link: LinkNumber,
}
