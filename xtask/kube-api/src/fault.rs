//! The ways in which an API server fails, planted by a test.

/// Names what a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One page of a list.
    List,
    /// The changes since a version.
    Watch,
}

/// Names how every answer to a [`Verb`] fails from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// 401: the server does not know who asks.
    Unauthorized,
    /// 403: who asks may not.
    Forbidden,
    /// 410: the version or the page asked for is too old.
    Gone,
    /// 500: the server is at fault.
    Internal,
    /// 200, and a body that is no JSON.
    Garbage,
    /// 200, and a body that never ends: white space, for ever.
    Endless,
    /// No answer at all, and the connection stays open.
    Hang,
    /// 200, and then not a byte; to a watch, nothing after its first moment.
    Mute,
}

/// What is planted now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Option<Fault>,
    watch: Option<Fault>,
}

impl Faults {
    pub(crate) fn plant(&mut self, verb: Verb, fault: Option<Fault>) {
        *self.slot(verb) = fault;
    }

    pub(crate) fn of(&mut self, verb: Verb) -> Option<Fault> {
        *self.slot(verb)
    }

    fn slot(&mut self, verb: Verb) -> &mut Option<Fault> {
        match verb {
            Verb::List => &mut self.list,
            Verb::Watch => &mut self.watch,
        }
    }
}
