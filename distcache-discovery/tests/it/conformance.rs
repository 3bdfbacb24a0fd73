//! The providers of this crate pass the conformance suite, and each way to break the contract is caught.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground, Violation};
use distcache_discovery::{DiscoveryError, Fault, Provider, Registration, Seed, StandaloneProvider, StaticProvider};

fn this_node() -> Registration {
    Registration::new("cache-0", "10.0.0.1:3320".parse().unwrap())
}

#[tokio::test]
async fn static_keeps_the_contract() {
    let provider = StaticProvider::new(["10.0.0.1:3320", "localhost:3320", "[fd00::1]:3320"]);
    conformance::run(&provider, &this_node()).await.unwrap();
}

#[tokio::test]
async fn standalone_keeps_the_contract() {
    conformance::run(&StandaloneProvider::new(), &this_node()).await.unwrap();
}

#[tokio::test]
async fn nodes_of_one_static_list_find_each_other() {
    let report = conformance::together(&SameList).await;
    print!("{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn the_stand_in_keeps_the_contract_when_nothing_is_wrong_with_it() {
    check(Flaw::None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_flaw_is_caught_under_its_own_rule() {
    let cases = [
        (Flaw::ShoutingId, "the id is of lower-case"),
        (Flaw::ChangingId, "the id is always the same"),
        (Flaw::Faulty, "has no faults"),
        (Flaw::StopNeedsStart, "stop does nothing to a provider that was never started"),
        (Flaw::AnswersUnstarted, "discover fails before start"),
        (Flaw::NeverStarts, "start succeeds"),
        (Flaw::StartsTwice, "a second start fails"),
        (Flaw::SecondStartStops, "a started provider answers"),
        (Flaw::BlamesAnother, "errors name their provider"),
        (Flaw::ForeignSeed, "seeds carry their provider's id"),
        (Flaw::PortZero, "seeds can be dialled"),
        (Flaw::Duplicates, "an answer holds each address once"),
        (Flaw::StandaloneWithSeeds, "a standalone provider finds nobody"),
        (Flaw::OneAtATime, "a started provider answers"),
        (Flaw::DroppedCallLocks, "discover works after a call that was dropped"),
        (Flaw::Hangs, "every call ends in its own time"),
        (Flaw::AnswersStopped, "discover fails after stop"),
        (Flaw::OneLifeOnly, "a stopped provider starts again"),
        (Flaw::PublishesUnstarted, "register before start fails, or does nothing"),
        (Flaw::PublishesOnce, "register succeeds a second time"),
        (Flaw::WithdrawsOnce, "deregister succeeds a second time"),
        (Flaw::WithdrawnIsBlind, "a node that was withdrawn still finds others"),
    ];
    for (flaw, rule) in cases {
        let violation = check(flaw).await.expect_err(rule);
        assert!(violation.rule.contains(rule), "{flaw:?} was caught as {violation}");
    }
}

#[tokio::test]
async fn the_provider_is_not_running_after_a_violation() {
    let provider = Flawed::new(Flaw::Duplicates);
    conformance::run(&provider, &this_node()).await.unwrap_err();
    assert!(!provider.started.load(SeqCst));
}

async fn check(flaw: Flaw) -> Result<(), Violation> {
    conformance::run(&Flawed::new(flaw), &this_node()).await
}

/// One way to break the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    ShoutingId,
    ChangingId,
    Faulty,
    StopNeedsStart,
    AnswersUnstarted,
    NeverStarts,
    StartsTwice,
    SecondStartStops,
    BlamesAnother,
    ForeignSeed,
    PortZero,
    Duplicates,
    StandaloneWithSeeds,
    OneAtATime,
    DroppedCallLocks,
    Hangs,
    AnswersStopped,
    OneLifeOnly,
    PublishesUnstarted,
    PublishesOnce,
    WithdrawsOnce,
    WithdrawnIsBlind,
}

/// A provider that is right but for one flaw.
#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    started: AtomicBool,
    lives: AtomicUsize,
    ids_given: AtomicUsize,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    dropped: AtomicBool,
    published: AtomicBool,
    withdrawals: AtomicUsize,
}

impl Flawed {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            started: AtomicBool::new(false),
            lives: AtomicUsize::new(0),
            ids_given: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            dropped: AtomicBool::new(false),
            published: AtomicBool::new(false),
            withdrawals: AtomicUsize::new(0),
        }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }
}

#[async_trait]
impl Provider for Flawed {
    fn id(&self) -> &'static str {
        match self.flaw {
            Flaw::ShoutingId => "FLAWED",
            Flaw::ChangingId if self.ids_given.fetch_add(1, SeqCst) % 2 == 1 => "other",
            _ => "flawed",
        }
    }

    fn validate(&self) -> Vec<Fault> {
        if self.has(Flaw::Faulty) { vec![Fault::new("all", "is wrong")] } else { Vec::new() }
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        let spent = self.has(Flaw::OneLifeOnly) && self.lives.load(SeqCst) > 0 && !self.started.load(SeqCst);
        if self.has(Flaw::NeverStarts) || spent {
            return Err(DiscoveryError::unavailable("flawed", "down"));
        }
        if self.started.swap(true, SeqCst) && !self.has(Flaw::StartsTwice) {
            if self.has(Flaw::SecondStartStops) {
                self.started.store(false, SeqCst);
            }
            let provider = if self.has(Flaw::BlamesAnother) { "another" } else { "flawed" };
            return Err(DiscoveryError::AlreadyStarted { provider });
        }
        self.lives.fetch_add(1, SeqCst);
        Ok(())
    }

    async fn register(&self, _: &Registration) -> Result<(), DiscoveryError> {
        if !self.started.load(SeqCst) {
            let unstarted = DiscoveryError::unavailable("flawed", "no socket");
            return if self.has(Flaw::PublishesUnstarted) { Err(unstarted) } else { Ok(()) };
        }
        if self.published.swap(true, SeqCst) && self.has(Flaw::PublishesOnce) {
            return Err(DiscoveryError::unavailable("flawed", "published already"));
        }
        Ok(())
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        let was_published = self.published.swap(false, SeqCst);
        if was_published {
            self.withdrawals.fetch_add(1, SeqCst);
        } else if self.has(Flaw::WithdrawsOnce) && self.withdrawals.load(SeqCst) > 0 {
            return Err(DiscoveryError::unavailable("flawed", "not published"));
        }
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        if self.has(Flaw::WithdrawnIsBlind) && self.withdrawals.load(SeqCst) > 0 {
            return Err(DiscoveryError::unavailable("flawed", "withdrawn"));
        }
        let lived = self.lives.load(SeqCst) > 0;
        let answers_anyway = match self.flaw {
            Flaw::AnswersUnstarted => !lived,
            Flaw::AnswersStopped => lived,
            _ => false,
        };
        if !self.started.load(SeqCst) && !answers_anyway {
            return Err(DiscoveryError::NotStarted { provider: "flawed" });
        }
        if self.has(Flaw::Hangs) && self.calls.fetch_add(1, SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        if self.has(Flaw::DroppedCallLocks) && self.dropped.load(SeqCst) {
            return Err(DiscoveryError::unavailable("flawed", "locked"));
        }
        let mut call = Call { provider: self, ended: false };
        if self.under_way.fetch_add(1, SeqCst) > 0 && self.has(Flaw::OneAtATime) {
            return Err(DiscoveryError::unavailable("flawed", "busy"));
        }
        tokio::task::yield_now().await;
        call.ended = true;
        let provider = if self.has(Flaw::ForeignSeed) { "another" } else { "flawed" };
        let port = if self.has(Flaw::PortZero) { 0 } else { 3320 };
        let seed = Seed::new(([10, 0, 0, 1], port).into(), provider);
        Ok(if self.has(Flaw::Duplicates) { vec![seed, seed] } else { vec![seed] })
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        if !self.started.swap(false, SeqCst) && self.has(Flaw::StopNeedsStart) {
            return Err(DiscoveryError::NotStarted { provider: "flawed" });
        }
        Ok(())
    }

    fn is_standalone(&self) -> bool {
        self.has(Flaw::StandaloneWithSeeds)
    }
}

/// A call of `discover` under way, which notices when it is dropped.
struct Call<'a> {
    provider: &'a Flawed,
    ended: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.provider.under_way.fetch_sub(1, SeqCst);
        if !self.ended {
            self.provider.dropped.store(true, SeqCst);
        }
    }
}

/// A list in every node's configuration.
struct SameList;

#[async_trait]
impl Ground for SameList {
    fn server(&self) -> String {
        "none".to_owned()
    }

    fn provider(&self, _: u16) -> Box<dyn Provider> {
        Box::new(StaticProvider::new([1, 2, 3].map(|node| self.registration(node).addr.to_string())))
    }

    fn changes(&self) -> bool {
        false
    }
}
