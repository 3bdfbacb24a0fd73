//! Whom to ask for a key next, when somebody did not answer: a pure decision.
//!
//! The order is that of memcached's routers (mcrouter's failover routes) and groupcache's fallback, joined: the owner; then the
//! next node on the ring, which acts as the owner, so that all who look for the key still meet in one place; then this node.
//! Nobody who is asked asks another.

use crate::{ident::NodeName, message::Role};

/// What became of asking a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setback {
    /// The request was not sent: to go elsewhere costs the peers nothing.
    NotSent,
    /// It was sent and nothing came back: the node may be at work.
    Silent,
    /// The node says that the key is another's.
    NotOwner,
}

/// What to do next for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this node.
    Ask(NodeName, Role),
    /// Load here.
    Load(Place),
}

/// In what capacity this node loads a key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It owns the key by now.
    Owner,
    /// It is the next in line after an owner that does not answer: others may ask it for the key.
    Acting,
    /// Nobody else is left to ask.
    LastResort,
}

/// One key's way through the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    failed: Vec<NodeName>,
    was_rerouted: bool,
}

impl Route {
    /// Decides after a setback at `at`. `order` is the key's preference by the present view, `may_retry` spends from the budget
    /// for requests that may do a peer's work twice.
    pub(crate) fn after(
        &mut self,
        setback: Setback,
        at: &NodeName,
        order: &[&NodeName],
        me: &NodeName,
        may_retry: impl FnOnce() -> bool,
    ) -> Step {
        if setback == Setback::NotOwner {
            // The views differ. By ours, which is a fresh one, once more, and in a role that cannot be turned down.
            let owner = order.first().copied().filter(|_| !std::mem::replace(&mut self.was_rerouted, true));
            return match owner {
                Some(owner) if owner == me => Step::Load(Place::Owner),
                Some(owner) => Step::Ask(owner.clone(), Role::Acting),
                None => Step::Load(Place::LastResort),
            };
        }
        self.failed.push(at.clone());
        let next = order.iter().position(|node| !self.failed.contains(node));
        match next.map(|place| (place, order[place])) {
            Some((0, node)) if node == me => Step::Load(Place::Owner),
            Some((_, node)) if node == me => Step::Load(Place::Acting),
            // One other node is asked and no more: a cluster in trouble is not asked all around.
            Some((place, node)) if self.failed.len() < MAX_ASKED && (setback == Setback::NotSent || may_retry()) => {
                Step::Ask(node.clone(), if place == 0 { Role::Owner } else { Role::Acting })
            }
            _ => Step::Load(Place::LastResort),
        }
    }
}

/// The owner, and one that acts for it.
const MAX_ASKED: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn after(route: &mut Route, setback: Setback, at: &str, order: &[&str], me: &str, budget: bool) -> Step {
        let order: Vec<_> = order.iter().map(|node| name(node)).collect();
        let order: Vec<_> = order.iter().collect();
        route.after(setback, &name(at), &order, &name(me), || budget)
    }

    fn ask(node: &str, role: Role) -> Step {
        Step::Ask(name(node), role)
    }

    #[test]
    fn next_in_line_acts_for_an_owner_that_cannot_be_asked_and_then_this_node_loads() {
        let mut route = Route::default();
        assert_eq!(after(&mut route, Setback::NotSent, "a", &["a", "b", "c"], "d", false), ask("b", Role::Acting));
        let last = after(&mut route, Setback::NotSent, "b", &["a", "b", "c"], "d", true);
        assert_eq!(last, Step::Load(Place::LastResort));
    }

    #[test]
    fn silent_owner_costs_budget_and_without_any_this_node_loads() {
        for (budget, expected) in [(true, ask("b", Role::Acting)), (false, Step::Load(Place::LastResort))] {
            assert_eq!(after(&mut Route::default(), Setback::Silent, "a", &["a", "b"], "d", budget), expected);
        }
    }

    #[test]
    fn node_that_is_next_in_line_itself_acts() {
        let step = after(&mut Route::default(), Setback::NotSent, "a", &["a", "b", "c"], "b", true);
        assert_eq!(step, Step::Load(Place::Acting));
        let mut route = Route::default();
        after(&mut route, Setback::NotSent, "a", &["a", "b", "c"], "c", true);
        assert_eq!(after(&mut route, Setback::Silent, "b", &["a", "b", "c"], "c", true), Step::Load(Place::Acting));
    }

    #[test]
    fn view_that_moved_on_meanwhile_is_followed() {
        let mut route = Route::default();
        assert_eq!(after(&mut route, Setback::NotSent, "a", &["b", "c"], "d", true), ask("b", Role::Owner));
        let mut route = Route::default();
        assert_eq!(after(&mut route, Setback::NotSent, "a", &["d", "b"], "d", true), Step::Load(Place::Owner));
    }

    #[test]
    fn node_that_disowns_a_key_sends_its_asker_on_once() {
        let mut route = Route::default();
        assert_eq!(after(&mut route, Setback::NotOwner, "a", &["b", "a"], "d", false), ask("b", Role::Acting));
        assert_eq!(after(&mut route, Setback::NotOwner, "b", &["a", "b"], "d", true), Step::Load(Place::LastResort));
        let owner = after(&mut Route::default(), Setback::NotOwner, "a", &["d", "a"], "d", true);
        assert_eq!(owner, Step::Load(Place::Owner));
    }

    #[test]
    fn every_route_ends_after_three_questions_whatever_happens() {
        let setbacks = [Setback::NotSent, Setback::Silent, Setback::NotOwner];
        for choice in 0..3usize.pow(4) {
            let (mut route, mut at, mut asked) = (Route::default(), name("a"), 1);
            for turn in 0..4 {
                let setback = setbacks[choice / 3usize.pow(turn) % 3];
                match after(&mut route, setback, at.as_str(), &["a", "b", "c"], "z", true) {
                    Step::Ask(node, _) => (at, asked) = (node, asked + 1),
                    Step::Load(_) => break,
                }
            }
            assert!(asked <= 3, "{asked} questions");
        }
    }
}
