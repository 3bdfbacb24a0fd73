//! What goes on between start and stop: connections are made, heartbeats sent, and what is heard is noted.

use std::error::Error as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::ID;
use super::config::Settings;
use super::message::{Here, NodeId};
use super::roster::Roster;
use super::session::{CALL_TIMEOUT, Ear, Heard, Session, Voice, open, within};
use crate::bounds::MAX_SEEDS;
use crate::{Change, DiscoveryError, Seed};

/// One life of the provider, from start to stop.
#[derive(Debug)]
pub(super) struct Life {
    settings: Settings,
    id: NodeId,
    aim: Mutex<Aim>,
    /// The number of what was said last. Whoever says something holds it meanwhile, so that the numbers go up on the wire, too.
    last_seq: tokio::sync::Mutex<u64>,
    roster: Mutex<Roster>,
    changes: broadcast::Sender<Change>,
    link: watch::Sender<Link>,
    malformed: Arc<AtomicU64>,
}

/// What the others shall know of this node. It is set before it is said, which may take until a server is back.
#[derive(Debug)]
struct Aim {
    here: Option<Here>,
    /// Whether a leave is owed that nobody confirmed yet.
    leaving: bool,
}

/// What was said, and its number.
#[derive(Debug, Clone, Copy)]
enum Uttered {
    Here(u64),
    Leave(u64),
}

/// Whether anything can be said.
#[derive(Debug)]
enum Link {
    Up(Voice),
    Down(DiscoveryError),
}

impl Life {
    /// Connects for the first time.
    ///
    /// # Errors
    ///
    /// Every attempt failed, or one was refused.
    pub(super) async fn begin(
        settings: &Settings,
        malformed: Arc<AtomicU64>,
    ) -> Result<(Self, Session), DiscoveryError> {
        let id = NodeId::new((u128::from(random()) << 64) | u128::from(random()));
        let mut attempt = 1;
        let session = loop {
            match open(settings, id, 1).await {
                Ok(session) => break session,
                Err(error) if attempt >= settings.connect_attempts || !error.is_retryable() => return Err(error),
                Err(_) => sleep(backoff(attempt)).await,
            }
            attempt += 1;
        };
        let life = Self {
            settings: settings.clone(),
            id,
            aim: Mutex::new(Aim { here: None, leaving: false }),
            last_seq: tokio::sync::Mutex::new(1),
            roster: Mutex::new(Roster::new(ID)),
            changes: broadcast::Sender::new(MAX_SEEDS),
            link: watch::Sender::new(Link::Up(session.voice.clone())),
            malformed,
        };
        Ok((life, session))
    }

    /// Publishes this node, and goes on to do so.
    pub(super) async fn register(&self, here: Here) -> Result<(), DiscoveryError> {
        within(CALL_TIMEOUT, self.publish(here)).await
    }

    /// Withdraws this node, if it is published.
    pub(super) async fn deregister(&self) -> Result<(), DiscoveryError> {
        within(CALL_TIMEOUT, self.withdraw()).await
    }

    /// Asks for the others, waits for answers, and returns all that are known.
    pub(super) async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        within(CALL_TIMEOUT + self.settings.answer_window, self.ask()).await?;
        Ok(self.roster().seeds().into_iter().collect())
    }

    async fn publish(&self, here: Here) -> Result<(), DiscoveryError> {
        *self.aim() = Aim { here: Some(here), leaving: false };
        self.say(&self.voice()?).await
    }

    async fn withdraw(&self) -> Result<(), DiscoveryError> {
        {
            let mut aim = self.aim();
            aim.leaving |= aim.here.take().is_some();
            if !aim.leaving {
                return Ok(());
            }
        }
        self.say(&self.voice()?).await
    }

    async fn ask(&self) -> Result<(), DiscoveryError> {
        let voice = self.voice()?;
        let mut last_seq = self.last_seq.lock().await;
        let seq = next(&mut last_seq);
        voice.who(seq).await?;
        drop(last_seq);
        voice.answered(seq, self.settings.answer_window).await
    }

    /// Says what is aimed at, and waits until the server has it.
    async fn say(&self, voice: &Voice) -> Result<(), DiscoveryError> {
        match self.utter(voice).await? {
            Some(uttered) => self.confirm(voice, uttered).await,
            None => Ok(()),
        }
    }

    /// Says what is aimed at.
    async fn utter(&self, voice: &Voice) -> Result<Option<Uttered>, DiscoveryError> {
        let mut last_seq = self.last_seq.lock().await;
        let (here, leaving) = {
            let aim = self.aim();
            (aim.here.clone(), aim.leaving)
        };
        let seq = next(&mut last_seq);
        match here {
            Some(here) => voice.here(seq, &here).await.map(|()| Some(Uttered::Here(seq))),
            None if leaving => voice.leave(seq).await.map(|()| Some(Uttered::Leave(seq))),
            None => Ok(None),
        }
    }

    async fn confirm(&self, voice: &Voice, uttered: Uttered) -> Result<(), DiscoveryError> {
        let (Uttered::Here(seq) | Uttered::Leave(seq)) = uttered;
        voice.confirmed(seq).await?;
        let mut aim = self.aim();
        // It may have been registered again meanwhile, which is a leave of its own one day.
        if matches!(uttered, Uttered::Leave(_)) && aim.here.is_none() {
            aim.leaving = false;
        }
        Ok(())
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns how often a node is published anew.
    pub(super) fn heartbeat(&self) -> Duration {
        self.settings.heartbeat
    }

    fn voice(&self) -> Result<Voice, DiscoveryError> {
        match &*self.link.borrow() {
            Link::Up(voice) => Ok(voice.clone()),
            Link::Down(error) => Err(error.clone()),
        }
    }

    fn aim(&self) -> MutexGuard<'_, Aim> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }
}

/// Keeps the node connected, published and informed, until it is dropped.
pub(super) async fn drive(life: Arc<Life>, mut session: Session) {
    loop {
        let failure = serve(&life, &mut session).await;
        tracing::warn!(provider = ID, error = %failure, cause = failure.source(), "discovery lost its server");
        life.link.send_replace(Link::Down(failure));
        drop(session);
        session = reconnect(&life).await;
        // Nobody was heard meanwhile, which says nothing of them.
        life.roster().renew(Instant::now());
        life.link.send_replace(Link::Up(session.voice.clone()));
        tracing::info!(provider = ID, "discovery has its server again");
    }
}

/// Serves one session to its end, and returns why it ended.
async fn serve(life: &Life, session: &mut Session) -> DiscoveryError {
    let Session { connection, voice, ear } = session;
    tokio::select! {
        failure = connection.ended() => failure,
        failure = listen(life, voice, ear) => failure,
        failure = beat(life, voice) => failure,
    }
}

async fn reconnect(life: &Life) -> Session {
    let mut attempt = 1;
    loop {
        sleep(backoff(attempt)).await;
        let seq = next(&mut *life.last_seq.lock().await);
        match open(&life.settings, life.id, seq).await {
            Ok(session) => return session,
            Err(error) => {
                tracing::debug!(provider = ID, error = %error, cause = error.source(), attempt, "no server yet");
                life.link.send_replace(Link::Down(error));
            }
        }
        attempt = attempt.saturating_add(1);
    }
}

/// Notes what is heard, and forgets who is heard no more.
async fn listen(life: &Life, voice: &Voice, ear: &mut Ear) -> DiscoveryError {
    let mut look = interval(life.settings.heartbeat / 4);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::new(Instant::now());
    loop {
        let heard = tokio::select! {
            heard = ear.next() => heard,
            _ = look.tick() => {
                let mut roster = life.roster();
                life.tell(roster.expire(Instant::now()));
                continue;
            }
        };
        match heard {
            Ok(Heard::Who(to)) => {
                if pace.allows(Instant::now())
                    && let Err(error) = answer(life, voice, to).await
                {
                    return error;
                }
            }
            Ok(heard) => note(life, heard),
            Err(error) => return error,
        }
    }
}

fn note(life: &Life, heard: Heard) {
    let mut roster = life.roster();
    match heard {
        Heard::Here(id, seq, here) => {
            let refused = roster.refused();
            // Told under the lock, so that changes are told in the order in which they happen.
            life.tell(roster.here(id, seq, &here, Instant::now()));
            if refused == 0 && roster.refused() > 0 {
                tracing::warn!(provider = ID, kept = MAX_SEEDS, name = here.name, "more nodes than a node will try");
            }
        }
        Heard::Leave(id, seq) => life.tell(roster.leave(id, seq)),
        Heard::Malformed(reason) => {
            if life.malformed.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(provider = ID, reason, "a message that no node of ours sends; more are not logged");
            }
        }
        Heard::Who(_) | Heard::Nothing => {}
    }
}

async fn answer(life: &Life, voice: &Voice, to: String) -> Result<(), DiscoveryError> {
    let mut last_seq = life.last_seq.lock().await;
    let Some(here) = life.aim().here.clone() else { return Ok(()) };
    voice.answer(to, next(&mut last_seq), &here).await
}

/// Says again and again what is true of this node, at once at first.
async fn beat(life: &Life, voice: &Voice) -> DiscoveryError {
    let mut failures = 0;
    loop {
        match within(CALL_TIMEOUT, repeat(life, voice)).await {
            Ok(()) => failures = 0,
            Err(error) if failures + 1 >= MOST_FAILURES => return error,
            Err(_) => failures += 1,
        }
        sleep(jittered(life.settings.heartbeat)).await;
    }
}

/// Says what is aimed at once more. That a node is there need not be confirmed: it is said again soon, and a flood that drowns our own
/// words is no reason to connect anew.
async fn repeat(life: &Life, voice: &Voice) -> Result<(), DiscoveryError> {
    match life.utter(voice).await? {
        Some(leave @ Uttered::Leave(_)) => life.confirm(voice, leave).await,
        Some(Uttered::Here(_)) | None => Ok(()),
    }
}

/// Returns the number of what is said next.
fn next(last_seq: &mut u64) -> u64 {
    *last_seq = last_seq.saturating_add(1);
    *last_seq
}

/// Answers so many questions in a second, and no more: a flood of questions is not made worse by answers.
#[derive(Debug)]
struct Pace {
    since: Instant,
    answers: u32,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { since: now, answers: 0 }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.answers) = (now, 0);
        }
        self.answers = self.answers.saturating_add(1);
        self.answers <= MOST_ANSWERS_PER_SECOND
    }
}

/// How long to wait after a number of failed attempts.
fn backoff(attempts: u32) -> Duration {
    let longer = FIRST_PAUSE * 2u32.saturating_pow(attempts.saturating_sub(1).min(16));
    jittered(longer.min(LONGEST_PAUSE))
}

/// Up to a fifth less: nodes that begin together do not stay so, and nobody is later than it said.
fn jittered(duration: Duration) -> Duration {
    let parts = u32::try_from(random() % 200).unwrap_or(0);
    duration - duration * parts / 1000
}

/// Random bits from the system, by way of what seeds the standard library's hash maps.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A bucket may be full for a while, which is no reason to stop listening; if it is gone, only a new session makes another.
const MOST_FAILURES: u32 = 3;
/// As many nodes may start within one second and all be answered at once; beyond, the heartbeats tell.
const MOST_ANSWERS_PER_SECOND: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        for (attempts, most) in [(0, 100), (1, 100), (2, 200), (5, 1_600), (7, 5_000), (u32::MAX, 5_000)] {
            let most = Duration::from_millis(most);
            for _ in 0..100 {
                let pause = backoff(attempts);
                assert!(pause <= most && pause >= most * 4 / 5, "{pause:?} after {attempts}");
            }
        }
        let all: std::collections::HashSet<_> = (0..100).map(|_| random()).collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn a_flood_of_questions_gets_few_answers() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let answered = |pace: &mut Pace, now| (0..10_000).filter(|_| pace.allows(now)).count();
        assert_eq!(answered(&mut pace, start), 64);
        assert_eq!(answered(&mut pace, start + Duration::from_millis(999)), 0);
        assert_eq!(answered(&mut pace, start + Duration::from_secs(1)), 64);
    }
}
