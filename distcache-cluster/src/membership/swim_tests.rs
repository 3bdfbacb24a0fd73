//! SWIM under a clock of the test's own: whole clusters without a socket.

use std::collections::BTreeMap;

use rand::SeedableRng;

use super::*;
use crate::ident::NodeName;

/// A cluster of machines whose packets arrive after a fixed delay unless a link is cut.
struct Sim {
    now: Instant,
    nodes: BTreeMap<std::net::SocketAddr, Swim>,
    wires: VecDeque<(Instant, NodeIdent, NodeIdent, Bytes)>,
    dead: Vec<std::net::SocketAddr>,
    cut: Vec<(std::net::SocketAddr, std::net::SocketAddr)>,
    rejoined: Vec<std::net::SocketAddr>,
    starved: Option<Starved>,
}

/// A node that gets the processor only so often, and then does what its timers say before it reads.
struct Starved {
    addr: std::net::SocketAddr,
    period: Duration,
    next: Instant,
    inbox: Vec<(NodeIdent, Bytes)>,
}

impl Sim {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be made by reading the clock; the test steps it itself"
    )]
    fn new(count: u16) -> Self {
        let mut sim = Self {
            now: Instant::now(),
            nodes: BTreeMap::new(),
            wires: VecDeque::new(),
            dead: Vec::new(),
            cut: Vec::new(),
            rejoined: Vec::new(),
            starved: None,
        };
        for n in 0..count {
            sim.start(n, 1_000);
        }
        sim
    }

    fn start(&mut self, n: u16, generation: u64) {
        let ident = ident(n, generation);
        let swim = Swim::new(ident.clone(), &SwimConfig::default(), StdRng::seed_from_u64(u64::from(n)));
        self.dead.retain(|addr| *addr != ident.addr());
        self.nodes.insert(ident.addr(), swim);
    }

    /// Push/pull between two nodes, as the driver does on each new link.
    fn sync(&mut self, a: u16, b: u16) {
        let (a, b) = (addr(a), addr(b));
        let from_a = self.nodes[&a].snapshot();
        self.nodes.get_mut(&b).unwrap().merge(&from_a, self.now).unwrap();
        let from_b = self.nodes[&b].snapshot();
        self.nodes.get_mut(&a).unwrap().merge(&from_b, self.now).unwrap();
        self.collect();
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(1);
            while self.wires.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, from, to, packet)) = self.wires.pop_front() else {
                    break;
                };
                if self.blocked(from.addr(), to.addr()) {
                    continue;
                }
                match &mut self.starved {
                    Some(starved) if starved.addr == to.addr() => starved.inbox.push((from, packet)),
                    _ => {
                        if let Some(node) = self.nodes.get_mut(&to.addr()) {
                            node.handle_packet(&from, &packet, self.now);
                        }
                    }
                }
            }
            if let Some(starved) = self.starved.as_mut().filter(|starved| starved.next <= self.now) {
                starved.next += starved.period;
                let node = self.nodes.get_mut(&starved.addr).unwrap();
                node.handle_timeout(self.now);
                starved.inbox.drain(..).for_each(|(from, packet)| node.handle_packet(&from, &packet, self.now));
            }
            let starved = self.starved.as_ref().map(|starved| starved.addr);
            for (_, node) in self.nodes.iter_mut().filter(|(addr, _)| Some(**addr) != starved) {
                if node.poll_timeout().is_some_and(|at| at <= self.now) && !self.dead.contains(&node.identity().addr())
                {
                    node.handle_timeout(self.now);
                }
            }
            self.collect();
        }
    }

    fn blocked(&self, a: std::net::SocketAddr, b: std::net::SocketAddr) -> bool {
        self.dead.contains(&a) || self.dead.contains(&b) || self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    fn collect(&mut self) {
        for node in self.nodes.values_mut() {
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Send { to, packet } => {
                        let at = self.now + Duration::from_millis(2);
                        self.wires.push_back((at, node.identity().clone(), to, packet));
                    }
                    Output::Rejoined => self.rejoined.push(node.identity().addr()),
                    Output::Changed | Output::Idle => {}
                }
            }
        }
    }

    fn active_at(&self, n: u16) -> usize {
        self.nodes[&addr(n)].active().len()
    }
}

fn addr(n: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 4_000 + n))
}

fn ident(n: u16, generation: u64) -> NodeIdent {
    NodeIdent::new(NodeName::new(&format!("node-{n}")).unwrap(), addr(n), generation)
}

#[test]
fn one_exchange_makes_two_nodes_members_of_each_other() {
    let mut sim = Sim::new(2);
    sim.sync(0, 1);
    assert_eq!((sim.active_at(0), sim.active_at(1)), (1, 1));
}

#[test]
fn a_node_that_meets_one_member_is_soon_known_to_all() {
    let mut sim = Sim::new(5);
    for n in 1..5 {
        sim.sync(n, 0);
    }
    sim.run(Duration::from_secs(2));
    assert!((0..5).all(|n| sim.active_at(n) == 4));
}

#[test]
fn a_crashed_node_is_removed_everywhere_within_ten_seconds_and_no_other_is() {
    let mut sim = Sim::new(5);
    for n in 1..5 {
        sim.sync(n, 0);
    }
    sim.run(Duration::from_secs(5));
    sim.dead.push(addr(3));
    sim.run(Duration::from_secs(10));
    for n in [0, 1, 2, 4] {
        assert_eq!(sim.active_at(n), 3, "node {n}");
    }
    assert!(sim.rejoined.is_empty());
}

#[test]
fn a_starved_node_does_not_call_healthy_ones_dead() {
    let mut sim = Sim::new(3);
    sim.sync(1, 0);
    sim.sync(2, 0);
    sim.run(Duration::from_secs(5));
    let period = Duration::from_millis(3_300);
    sim.starved = Some(Starved { addr: addr(0), period, next: sim.now + period, inbox: Vec::new() });
    for second in 0..60 {
        sim.run(Duration::from_secs(1));
        assert_eq!(sim.active_at(0), 2, "after {second} seconds");
    }
    // The starved one may be called dead itself: it does not answer in time.
    assert!(!sim.rejoined.contains(&addr(1)) && !sim.rejoined.contains(&addr(2)));
}

#[test]
fn a_node_that_was_starved_finds_a_dead_one_in_time_again() {
    let mut sim = Sim::new(3);
    sim.sync(1, 0);
    sim.sync(2, 0);
    sim.run(Duration::from_secs(5));
    let period = Duration::from_secs(2);
    sim.starved = Some(Starved { addr: addr(0), period, next: sim.now + period, inbox: Vec::new() });
    sim.run(Duration::from_secs(20));
    sim.starved = None;
    sim.run(Duration::from_secs(10));
    sim.dead.push(addr(1));
    sim.dead.push(addr(2));
    sim.run(Duration::from_secs(10));
    assert_eq!(sim.active_at(0), 0);
}

#[test]
fn a_leaver_is_gone_at_once() {
    let mut sim = Sim::new(3);
    sim.sync(1, 0);
    sim.sync(2, 0);
    sim.run(Duration::from_secs(2));
    let now = sim.now;
    sim.nodes.get_mut(&addr(2)).unwrap().leave(now);
    sim.collect();
    sim.run(Duration::from_millis(500));
    assert_eq!((sim.active_at(0), sim.active_at(1)), (1, 1));
}

#[test]
fn a_peers_own_word_that_it_leaves_is_enough() {
    let mut sim = Sim::new(2);
    sim.sync(0, 1);
    let now = sim.now;
    sim.nodes.get_mut(&addr(0)).unwrap().peer_left(&ident(1, 1_000), now);
    assert_eq!(sim.active_at(0), 0);
}

#[test]
fn a_node_that_was_declared_down_comes_back_and_says_so() {
    let mut sim = Sim::new(3);
    sim.sync(1, 0);
    sim.sync(2, 0);
    sim.run(Duration::from_secs(2));
    sim.cut = vec![(addr(2), addr(0)), (addr(2), addr(1))];
    sim.run(Duration::from_secs(15));
    assert_eq!(sim.active_at(0), 1, "the cut-off node is down");
    sim.cut.clear();
    // The driver compares membership with every peer that is reachable but no member, again and again.
    for _ in 0..3 {
        sim.sync(2, 0);
        sim.sync(2, 1);
        sim.run(Duration::from_secs(1));
    }
    assert!((0..3).all(|n| sim.active_at(n) == 2));
    assert!(sim.rejoined.contains(&addr(2)), "it must know, for what it cached may be stale");
}

#[test]
fn a_restart_with_a_clock_set_back_still_gets_in() {
    let mut sim = Sim::new(2);
    sim.sync(0, 1);
    sim.run(Duration::from_secs(1));
    sim.start(1, 10);
    sim.sync(1, 0);
    sim.run(Duration::from_secs(2));
    sim.sync(1, 0);
    sim.run(Duration::from_secs(2));
    assert_eq!((sim.active_at(0), sim.active_at(1)), (1, 1));
    assert!(sim.nodes[&addr(1)].identity().generation() > 1_000);
}

#[test]
fn a_packet_that_claims_another_sender_is_dropped() {
    let mut sim = Sim::new(3);
    sim.sync(0, 1);
    // Node 2, met by nobody, sends node 1's packets under its own link.
    let now = sim.now;
    sim.nodes.get_mut(&addr(1)).unwrap().leave(now);
    let mut leaves = Vec::new();
    while let Some(output) = sim.nodes.get_mut(&addr(1)).unwrap().poll_output() {
        if let Output::Send { packet, .. } = output {
            leaves.push(packet);
        }
    }
    assert!(!leaves.is_empty());
    for packet in &leaves {
        sim.nodes.get_mut(&addr(0)).unwrap().handle_packet(&ident(2, 1_000), packet, now);
    }
    assert_eq!(sim.active_at(0), 1, "the forged leave was dropped");
    for packet in &leaves {
        sim.nodes.get_mut(&addr(0)).unwrap().handle_packet(&ident(1, 1_000), packet, now);
    }
    assert_eq!(sim.active_at(0), 0, "the true one is taken");
}

#[test]
fn garbage_is_survived() {
    let mut sim = Sim::new(2);
    sim.sync(0, 1);
    let now = sim.now;
    let node = sim.nodes.get_mut(&addr(0)).unwrap();
    for len in 0..64 {
        node.handle_packet(&ident(1, 1_000), &vec![0xa5; len], now);
        assert!(node.merge(&vec![0xa5; len], now).is_err());
    }
    assert_eq!(node.active().len(), 1);
}
