//! Scenarios that lead up to one situation, which chance would hardly bring about: what each of the protocol's rules is there for.

use rand::RngExt;

use super::{Action, Micros, ROUND, SECOND, Script, Writers};

impl Script {
    /// A node takes leave, comes back and takes leave again before the others have swept their stores of what it was given back: what they
    /// had before is theirs once more, and was another's in between (R5).
    pub(super) fn flap(&mut self, start: Micros) {
        let host = self.any_host();
        let away = self.between(SECOND / 2, SECOND);
        let stay = self.between(SECOND, 2 * SECOND);
        // Its clients end, it says goodbye, and it starts: some two seconds besides.
        let turn = away + stay + 2 * SECOND;
        for at in [start, start + turn] {
            self.at(at, Action::Leave { host, away });
        }
    }

    /// A node that one other hears, and nobody else, takes writes and dies: whoever heard of them has to tell (R7), also of a keyspace
    /// that was emptied (R9).
    pub(super) fn last_words(&mut self, start: Micros) {
        let [host, hearer, _] = self.three();
        let others = (0..self.hosts).filter(|other| ![host, hearer].contains(other));
        let cuts = others.flat_map(|other| [(host, other), (other, host)]).collect();
        self.at(start, Action::Cut(cuts));
        let cleared = start + self.between(SECOND / 10, SECOND / 2);
        self.at(cleared, Action::Clear(host));
        // It has waited for the others' word in vain by then, and nobody holds it for dead yet.
        let dies = cleared + self.between(2_200_000, 2_600_000);
        let powered = self.rng.random_bool(0.5);
        self.at(dies, Action::Crash { host, powered });
        let heals = dies + self.between(1, SECOND / 2);
        self.at(heals, Action::Heal);
        let back = dies + self.between(6 * SECOND, 9 * SECOND);
        self.at(back, Action::Start { host, clock_back: false });
    }

    /// A node is away for longer than anybody remembers what was written to its keys, and whose log told of it is dead: it does not hear of
    /// it from anyone, and has to see by itself that its time is over (R8).
    pub(super) fn away(&mut self, start: Micros) {
        let [host, heir, _] = self.three();
        self.at(start, Action::Writers(Writers::Nobody));
        let cut = start + SECOND / 2;
        let cuts = (0..self.hosts).filter(|other| *other != host).flat_map(|other| [(host, other), (other, host)]);
        let cuts = cuts.collect();
        self.at(cut, Action::Cut(cuts));
        // The others have its keys by then.
        let written = cut + 6 * SECOND;
        self.at(written, Action::Writers(Writers::Owner(heir)));
        self.at(written + 3 * SECOND / 2, Action::Writers(Writers::Nobody));
        self.at(written + 2 * SECOND, Action::Crash { host: heir, powered: true });
        let heals = written + 3 * SECOND / 2 + SHORT_MEMORY + SECOND;
        self.at(heals, Action::Heal);
        self.at(heals + SECOND, Action::Start { host: heir, clock_back: false });
        self.at(start + ROUND - SECOND, Action::Writers(Writers::All));
    }

    /// A node puts, and hears nothing: what it put waits in the network, its word that it is old overtakes it, and so do later writes.
    pub(super) fn late_puts(&mut self, start: Micros) {
        let [host, owner, other] = self.three();
        self.at(start, Action::Cut(vec![(host, owner), (owner, host)]));
        self.at(start + SECOND / 100, Action::Puts { host, owner });
        // It has given up by then.
        let overtaken = start + self.between(2_100_000, 2_300_000);
        self.at(overtaken, Action::Puts { host: other, owner });
        let heals = overtaken + self.between(SECOND / 5, 2 * SECOND);
        self.at(heals, Action::Heal);
    }

    /// Three nodes, all different.
    fn three(&mut self) -> [usize; 3] {
        let first = self.any_host();
        let second = (first + self.rng.random_range(1..self.hosts)) % self.hosts;
        let others: Vec<_> = (0..self.hosts).filter(|host| ![first, second].contains(host)).collect();
        let third = others[self.rng.random_range(0..others.len())];
        [first, second, third]
    }
}

/// For how long invalidations are remembered where a node is away for longer.
pub(crate) const SHORT_MEMORY: Micros = 4 * SECOND;
