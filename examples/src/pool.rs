//! Connections to the database file, one for each query that is under way.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

/// The connections of a process to one SQLite file.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    /// Connections that no query uses now. A query takes one, or opens one, so that queries run beside each other.
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default() }
    }

    /// Runs a query on a connection of its own. Blocks.
    pub(crate) fn query<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            // Without the flag to create: a wrong path is a fault, not an empty database.
            None => Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
        };
        let result = run(&mut connection);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }

    #[cfg(test)]
    pub(crate) fn close_idle(&self) {
        self.idle.lock().unwrap().clear();
    }
}
