//! Defects that a node is started with, to see that whoever checks it finds them. None of this is in a normal build.

use std::sync::OnceLock;

use anyhow::Context;
use distcache_cluster::{Defect, plant};

/// Has every thread from now on plant that defect, once it calls [`here`].
pub(crate) fn choose(name: Option<&str>) -> anyhow::Result<()> {
    let defect = name.map(named).transpose()?;
    CHOSEN.set(defect).ok().context("a node has one defect")
}

/// Plants it in what this thread runs.
pub(crate) fn here() {
    plant(CHOSEN.get().copied().flatten());
}

fn named(name: &str) -> anyhow::Result<Defect> {
    let found = DEFECTS.iter().find(|defect| format!("{defect:?}") == name);
    found.copied().with_context(|| format!("no defect {name}; there are {DEFECTS:?}"))
}

static CHOSEN: OnceLock<Option<Defect>> = OnceLock::new();

/// Those that a run of some seconds can find.
const DEFECTS: [Defect; 4] =
    [Defect::NotBroadcast, Defect::NoSecondInvalidation, Defect::StrictAcksAtOnce, Defect::LeaseIgnored];
