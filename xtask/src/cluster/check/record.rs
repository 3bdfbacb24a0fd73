//! What nodes told of their reads and writes, as values that can be judged.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::Value;

/// Microseconds since 1970, by the clock that all processes of a machine share.
pub(super) type Micros = u64;

/// A process: the node's place, and its process id.
pub(super) type Process = (usize, u64);

/// A read that found a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) by: Process,
    pub(super) number: u64,
    pub(super) version: u64,
    pub(super) start: Micros,
    pub(super) end: Micros,
}

/// A write that had an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) by: Process,
    pub(super) number: u64,
    pub(super) version: u64,
    pub(super) mode: String,
    /// When the database had it.
    pub(super) committed: Micros,
    /// When the cache had answered.
    pub(super) returned: Micros,
    /// Who had not heard.
    pub(super) pending: Vec<String>,
}

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) reads: Vec<Read>,
    pub(super) writes: Vec<Write>,
    pub(super) read_errors: u64,
    pub(super) wrong: u64,
    pub(super) first_fault: Option<String>,
    /// What the cache failed writes with, which it must not.
    pub(super) write_errors: Vec<String>,
    /// Writes that the database did not take.
    pub(super) unwritten: u64,
    /// When a process saw so many members go.
    pub(super) removals: BTreeMap<Process, Vec<(Micros, u64)>>,
}

impl Records {
    /// Reads journals, whose nodes are told by their names.
    pub(super) fn of(journals: &[Value], names: &[String]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for journal in journals {
            all.add(journal, names).with_context(|| format!("a journal cannot be read: {journal}"))?;
        }
        Ok(all)
    }

    fn add(&mut self, journal: &Value, names: &[String]) -> Option<()> {
        let node = names.iter().position(|name| journal["node"] == **name)?;
        let by = (node, journal["pid"].as_u64()?);
        for read in journal["reads"].as_array()? {
            let [number, version, start, end] = [0, 1, 2, 3].map(|at| read[at].as_u64());
            self.reads.push(Read { by, number: number?, version: version?, start: start?, end: end? });
        }
        for write in journal["writes"].as_array()? {
            if let Some(error) = write["error"].as_str() {
                self.write_errors.push(format!("v{} on {}: {error}", write["number"], names[node]));
                continue;
            }
            let pending = write["pending"].as_array()?.iter();
            self.writes.push(Write {
                by,
                number: write["number"].as_u64()?,
                version: write["version"].as_u64()?,
                mode: write["mode"].as_str()?.to_owned(),
                committed: write["committed_us"].as_u64()?,
                returned: write["returned_us"].as_u64()?,
                pending: pending.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            });
        }
        self.read_errors += journal["errors"].as_u64()?;
        self.wrong += journal["wrong"].as_u64()?;
        self.unwritten += journal["unwritten"].as_u64()?;
        if let (None, Some(fault)) = (&self.first_fault, journal["first_fault"].as_str()) {
            self.first_fault = Some(format!("{fault}, on {}", names[node]));
        }
        self.removals.entry(by).or_default().push((journal["at_us"].as_u64()?, journal["left"].as_u64()?));
        Some(())
    }

    /// Whether any process saw a member go in that time.
    pub(super) fn saw_removal(&self, from: Micros, to: Micros) -> bool {
        self.removals.values().any(|told| {
            let before = told.iter().filter(|(at, _)| *at <= from).map(|(_, left)| *left).max().unwrap_or(0);
            told.iter().any(|(at, left)| *at > from && *at <= to && *left > before)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn journals_are_read_as_nodes_write_them() {
        let journal = |at: u64, left: u64| {
            json!({ "node": "node-2", "pid": 7, "at_us": at, "left": left, "reads": [[4, 1, 10, 11]], "errors": 1,
                    "wrong": 0, "first_fault": "v4: no", "unwritten": 2, "writes": [
                { "number": 4, "version": 2, "mode": "delete", "committed_us": 12, "returned_us": 13, "pending": ["node-1"],
                  "error": null },
                { "number": 5, "version": 2, "mode": "put", "committed_us": 12, "returned_us": 13, "pending": [],
                  "error": "out of order" }] })
        };
        let names = ["node-1".to_owned(), "node-2".to_owned()];
        let all = Records::of(&[journal(20, 0), journal(30, 1)], &names).unwrap();
        assert_eq!(all.reads[0], Read { by: (1, 7), number: 4, version: 1, start: 10, end: 11 });
        assert_eq!((all.writes.len(), &*all.writes[0].mode, &*all.writes[0].pending[0]), (2, "delete", "node-1"));
        assert_eq!((all.read_errors, all.write_errors.len(), all.unwritten), (2, 2, 4));
        assert!(all.saw_removal(20, 30) && !all.saw_removal(0, 20) && !all.saw_removal(30, 40));
        assert!(Records::of(&[journal(20, 0)], &names[..1]).is_err(), "nobody is of that name");
    }
}
