//! What every node believes, looked at every few milliseconds.

use distcache::Engine;
use distcache_cluster::{KeyspaceSeed, Member, View};

use super::{PATIENCE, REST, Run, Seen, WORK_END};
use crate::{
    client::Deed,
    network::Micros,
    node::{Leave, ROWS},
    rules::Rule,
    scenario::{Kind, SECOND},
    source::{KEYS, key_name},
};

impl Run {
    /// Looks at what every node believes.
    pub(super) fn observe(&mut self) -> anyhow::Result<()> {
        let due: Vec<_> = self.restarts.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, host) in due {
            self.start(host, false)?;
            self.changed = self.now;
        }
        self.leaves();
        for host in 0..self.scenario.hosts {
            let Some(process) = &self.processes[host] else { continue };
            if process.leaving.is_some() || self.engines[host].is_some() || process.frozen {
                continue;
            }
            match process.engine() {
                None => {}
                Some(Ok(engine)) if self.now < WORK_END => {
                    let seed = self.seed ^ process.life.1 << 20;
                    process.spawn_clients(&engine, &self.birth(process.life), seed);
                    self.engines[host] = Some(engine);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    // A supervisor would start it again.
                    self.network.lock().trace.say(self.now, || format!("node {host} did not start: {error}"));
                    self.crash(host, true);
                    self.restarts.push((self.now + SECOND, host));
                }
            }
        }
        self.define();
        for host in 0..self.scenario.hosts {
            let Some(view) = self.engines[host].as_ref().map(Engine::view) else { continue };
            self.look(host, &view);
        }
        let is_broken = self.faults.loss || !self.faults.cuts.is_empty() || self.scenario.tuning.small_log;
        if is_broken || self.processes.iter().flatten().any(|process| process.frozen) {
            self.world.lock().noisy_until = self.now + PATIENCE;
        }
        if self.faults.loss
            || !self.faults.cuts.is_empty()
            || self.processes.iter().flatten().any(|process| process.frozen)
        {
            self.world.lock().disturbed = self.now;
        }
        if self.now < REST {
            self.expect();
        }
        self.check_sizes();
        Ok(())
    }

    /// Sees nodes off that take leave: their clients end, the engine says goodbye, the process ends, and another takes its place.
    fn leaves(&mut self) {
        for host in 0..self.scenario.hosts {
            let Some(process) = &mut self.processes[host] else { continue };
            let Some(leave) = process.leaving else { continue };
            (self.changed, self.struck) = (self.now, None);
            self.world.lock().disturbed = self.now;
            if process.frozen || process.lock().busy > 0 {
                continue;
            }
            if !leave.has_spoken {
                process.leaving = Some(Leave { has_spoken: true, ..leave });
                self.engines[host] = None;
                process.spawn_shutdown();
                continue;
            }
            if process.tasks() > 0 {
                self.world.lock().violate(Rule::Deadlines, format!("node {host} took leave, and tasks are left"));
            }
            self.crash(host, true);
            self.restarts.push((self.now + leave.away, host));
        }
    }

    /// Nothing that is bounded has grown beyond that.
    fn check_sizes(&self) {
        #[cfg(distcache_defects)]
        for (host, engine) in self.engines.iter().enumerate() {
            for size in engine.iter().flat_map(Engine::sizes).filter(|size| size.held > size.bound) {
                self.violate(Rule::Bounds, format!("node {host} holds more than it may: {size:?}"));
            }
        }
    }

    /// Has nodes define the keyspace again that have heard of its end.
    fn define(&self) {
        if !self.scenario.clears && self.scenario.kind != Kind::LastWords {
            return;
        }
        for (process, engine) in self.processes.iter().zip(&self.engines) {
            let (Some(process), Some(engine)) = (process, engine) else { continue };
            if !engine.local_keyspaces().is_empty() || process.lock().defines {
                continue;
            }
            process.lock().defines = true;
            process.spawn_deed(engine, &self.birth(process.life), Deed::Define);
        }
    }

    fn look(&mut self, host: usize, view: &View) {
        let life = self.processes[host].as_ref().map_or(0, |process| process.life.1);
        let seen = &self.seen[host];
        if seen.life == life && seen.ordinal == view.ordinal() {
            return;
        }
        self.views += 1;
        let until = self.now + QUIET;
        let mut truth = self.world.lock();
        truth.noisy_until = truth.noisy_until.max(until);
        (truth.moved, truth.disturbed) = (self.now, self.now);
        drop(truth);
        let members: Vec<_> = view.members().iter().map(|member| member.ident().name().to_string()).collect();
        self.network.lock().trace.say(self.now, || format!("node {host} sees {members:?}"));
        if seen.life == life {
            let removed = seen.members.iter().filter(|name| !members.contains(name));
            let too_soon = self.struck.is_some_and(|at| self.now < at + SUSPICION);
            if too_soon && removed.clone().count() > 0 {
                self.violate(
                    Rule::Membership,
                    format!("node {host} removed a member sooner than it may doubt it: {members:?} are left"),
                );
            }
            let falsely = removed.filter(|name| self.is_well(host, name)).count() as u64;
            self.false_removals += falsely;
            if falsely > 0 && self.is_calm_kind() && self.now < REST {
                self.violate(
                    Rule::Membership,
                    format!("node {host} removed a member that was well: {members:?} are left"),
                );
            }
        }
        let seed = KeyspaceSeed::of(ROWS);
        let mut ring: Vec<_> = (0..KEYS).map(|key| view.owner_index(seed.hash(&key_name(key))) as u64).collect();
        let me = view.members().iter().position(Member::is_self).map_or(u64::MAX, |at| at as u64);
        let is_same = seen.life == life && seen.members == members;
        self.world.lock().believes(host, is_same, ring.iter().map(|owner| *owner == me).collect());
        ring.push(view.fingerprint());
        let agreed = self.rings.entry(members.clone()).or_insert_with(|| ring.clone());
        if *agreed != ring {
            self.violate(Rule::Agreement, format!("node {host} makes another ring of {members:?} than others"));
        }
        self.seen[host] = Seen { life, ordinal: view.ordinal(), members };
    }

    /// Whether a member could be heard and was there.
    fn is_well(&self, host: usize, name: &str) -> bool {
        let number = name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
        let Some(process) = number.and_then(|number| self.processes[number].as_ref()) else { return false };
        let other = process.life.0;
        let cut = self.faults.cuts.contains(&(host, other)) || self.faults.cuts.contains(&(other, host));
        !cut && !process.frozen && process.leaving.is_none() && self.now > self.changed + PATIENCE
    }

    const fn is_calm_kind(&self) -> bool {
        matches!(self.scenario.kind, Kind::Starts | Kind::Source)
    }

    /// Every node sees those it can reach, and nobody else, once they have had time for it.
    fn expect(&mut self) {
        let frozen = self.processes.iter().flatten().any(|process| process.frozen);
        if self.late || frozen || !self.is_cut_clean() || self.faults.loss || self.now < self.changed + PATIENCE {
            return;
        }
        for host in 0..self.scenario.hosts {
            if self.processes[host].is_none() {
                continue;
            }
            let reachable = |other: &usize| {
                self.processes[*other].is_some() && (*other == host || !self.faults.cuts.contains(&(host, *other)))
            };
            let expected: Vec<_> =
                (0..self.scenario.hosts).filter(reachable).map(|other| format!("node-{other}")).collect();
            let believed = self.engines[host].as_ref().map(|_| &self.seen[host].members);
            if believed != Some(&expected) {
                self.violate(
                    Rule::Membership,
                    format!("node {host} sees {believed:?} after {PATIENCE} us, and it should be {expected:?}"),
                );
                self.late = true;
                return;
            }
        }
    }

    /// Whether who can be heard can be heard by the same nodes: no direction is cut alone, and nobody hears two who do not hear each other.
    fn is_cut_clean(&self) -> bool {
        let hear = |a: usize, b: usize| !self.faults.cuts.contains(&(a, b));
        let all = 0..self.scenario.hosts;
        self.faults.cuts.iter().all(|(a, b)| !hear(*b, *a) && all.clone().all(|c| !hear(*a, c) || !hear(c, *b)))
    }
}

/// Nobody is removed on less than three seconds of suspicion.
const SUSPICION: Micros = 5 * SECOND / 2;
/// How long after a view loads may still be poisoned by it.
const QUIET: Micros = 2 * SECOND;
