//! A share of a processor for a process: control groups, of either version. So several processes can be compared with one where there are
//! not as many processors.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::Context;

/// A group whose processes get so much of one processor together and no more. It goes when this is dropped; its processes have to be gone by then.
pub(super) struct Throttle {
    group: PathBuf,
}

impl Throttle {
    /// Makes a group for `percent` of one processor.
    ///
    /// # Errors
    /// This machine lets nobody make one, or not this user.
    pub(super) fn new(name: &str, percent: u32) -> anyhow::Result<Self> {
        let name = format!("distcache-x-{}-{name}", process::id());
        let (old, new) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let (parent, is_old) = if old.join("cgroup.procs").exists() { (old, true) } else { (new, false) };
        let group = parent.join(name);
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let throttle = Self { group };
        let quota = PERIOD_US * percent / 100;
        if is_old {
            throttle.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            throttle.write("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            throttle.write("cpu.max", &format!("{quota} {PERIOD_US}"))?;
        }
        Ok(throttle)
    }

    /// Puts a process in, with all its threads.
    pub(super) fn hold(&self, pid: u32) -> anyhow::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let file = self.group.join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("{} was not removed: {error}", self.group.display());
        }
    }
}

/// Short, so that a node that has used up its share is not taken for one that hangs.
const PERIOD_US: u32 = 20_000;
