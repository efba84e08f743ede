//! Waits between two reads, as [`WakeupState`] says, and carries out meanwhile what it says of the bell: on other sessions than
//! the one that reads, so that no lock that is waited for holds up a read.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::in_flight::InFlightEstimator;
use super::precise_sleep::PreciseSleep;
use super::wakeup_state::{Act, Input, WakeupState};
use crate::domain::cursor::Snapshot;
use crate::domain::event::JournalEvent;
use crate::feed::listener::{Bell, Hearing};
use crate::feed::suppression_locks::{Broken, IdleLock, ListenSession, PeerMessage, SuppressorSession};

/// Why a read was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A notification, or a new connection.
    Notified,
    /// Nothing, while it slept: what is found now was rung for by nobody.
    Tick,
    /// The time, while it was awake.
    Poll,
}

/// What a session answered: what happened, and the session that mutes where it was just made.
type Answer = (Input, Option<Arc<SuppressorSession>>);
type Doing<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The node's part in the bell protocol.
pub struct WakeupDriver {
    bell: Arc<Bell>,
    hearing: watch::Receiver<Hearing>,
    ears: watch::Receiver<Option<Arc<ListenSession>>>,
    /// Where the session that mutes is made: past any pooler.
    url: SecretString,
    /// What a sleeping node reads after, though nothing rang.
    safety: Duration,
    mode: WakeupState,
    load: InFlightEstimator,
    ear: Option<Arc<ListenSession>>,
    gate: Option<Arc<SuppressorSession>>,
    doing: Doing<Answer>,
    saying: Doing<()>,
    /// At most one of each.
    to_say: VecDeque<PeerMessage>,
    nap: PreciseSleep,
}

impl WakeupDriver {
    /// Polling.
    pub fn new(bell: Arc<Bell>, hearing: watch::Receiver<Hearing>, url: SecretString, safety: Duration) -> Self {
        let now = Instant::now();
        Self {
            ears: bell.ear.subscribe(),
            bell,
            hearing,
            url,
            safety,
            mode: WakeupState::new(now),
            load: InFlightEstimator::new(now),
            ear: None,
            gate: None,
            doing: None,
            saying: None,
            to_say: VecDeque::new(),
            nap: PreciseSleep::new(),
        }
    }

    /// Takes what a read brought. `snapshot`: what it saw and when, where it had one.
    pub fn read(&mut self, snapshot: Option<(&Snapshot, OffsetDateTime)>, events: &[JournalEvent]) {
        let now = Instant::now();
        if let Some((_, clock)) = snapshot {
            self.load.read(events, clock, self.mode.is_muted(), now);
        }
        let input = Input::Read {
            oldest: snapshot.map(|(snapshot, _)| snapshot.oldest()),
            events: events.len(),
            verdict: self.load.verdict(),
        };
        self.tell(input);
    }

    /// The journal cannot be read: then the others must be rung for.
    pub fn journal_lost(&mut self) {
        self.tell(Input::GateLost);
    }

    /// Waits until it is time to read.
    pub async fn wait(&mut self) -> WakeReason {
        let begin = Instant::now();
        loop {
            self.look();
            if let Some(act) = self.mode.due(Instant::now()) {
                self.carry_out(act);
            }
            let pause = self.mode.pause(self.safety, Instant::now());
            let quiet = if self.mode.is_asleep() {
                WakeReason::Tick
            } else {
                WakeReason::Poll
            };
            tokio::select! {
                biased;
                answer = done(&mut self.doing) => {
                    self.doing = None;
                    let (input, gate) = answer;
                    self.gate = gate.or(self.gate.take());
                    self.tell(input);
                    if matches!(input, Input::Asked(IdleLock::Shared(_))) {
                        // The first read of the sweep: mostly the last, too.
                        return WakeReason::Poll;
                    }
                }
                () = done(&mut self.saying) => self.say_next(),
                () = self.bell.drain.notified() => self.tell(Input::Heard(PeerMessage::Drain)),
                () = self.bell.company.notified() => self.tell(Input::Heard(PeerMessage::Here)),
                () = self.bell.journal.notified() => return WakeReason::Notified,
                Ok(()) = self.hearing.changed() => {
                    self.look();
                    return WakeReason::Notified;
                }
                () = until(&mut self.nap, begin, pause) => return quiet,
            }
        }
    }

    /// Looks at what holds its locks.
    fn look(&mut self) {
        let ear = self.ears.borrow_and_update().clone();
        let same = match (&self.ear, &ear) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            // What is under way on the old session is of no interest any more.
            self.doing = None;
            self.saying = None;
            self.to_say.clear();
            self.tell(Input::NotListening);
            self.ear = ear;
            if self.ear.is_some() {
                self.tell(Input::Hears);
            }
        }
        if self.gate.as_ref().is_some_and(|gate| gate.is_lost()) {
            self.tell(Input::GateLost);
        }
    }

    fn tell(&mut self, input: Input) {
        let was_muted = self.mode.is_muted();
        for act in self.mode.on(input, Instant::now()) {
            self.carry_out(act);
        }
        if self.mode.is_muted() != was_muted {
            let muted = self.mode.is_muted();
            tracing::debug!(muted, "the bell");
            let gauge = metrics::gauge!("vestnik_notify_suppressed");
            if muted {
                gauge.increment(1.0);
                metrics::counter!("vestnik_notify_suppressions_total").increment(1);
            } else {
                gauge.decrement(1.0);
            }
        }
    }

    /// Where the ear is broken there is no answer: that it is gone will be seen.
    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Ask => self.on_ear(|ear| {
                Box::pin(async move {
                    match ear.ask().await {
                        Ok(asked) => (Input::Asked(asked), None),
                        Err(Broken) => pending().await,
                    }
                })
            }),
            Act::LetGo => self.on_ear(|ear| {
                Box::pin(async move {
                    match ear.let_go().await {
                        Ok(()) => (Input::LetGo, None),
                        Err(Broken) => pending().await,
                    }
                })
            }),
            Act::Gather => self.gather(),
            Act::Close => {
                if let Some(gate) = self.gate.clone() {
                    self.doing = Some(Box::pin(async move { (turn(gate.close().await), None) }));
                }
            }
            Act::Open => {
                self.gate = None;
                self.doing = None;
            }
            Act::Say(word) => {
                if !self.to_say.contains(&word) {
                    self.to_say.push_back(word);
                }
                if self.saying.is_none() {
                    self.say_next();
                }
            }
        }
    }

    fn on_ear(&mut self, act: impl FnOnce(Arc<ListenSession>) -> Pin<Box<dyn Future<Output = Answer> + Send>>) {
        // Without an ear the mode is deaf, and asks for nothing.
        self.doing = self.ear.clone().map(act);
    }

    fn gather(&mut self) {
        let (gate, url) = (self.gate.clone(), self.url.clone());
        let Some(key) = self.ear.as_ref().map(|ear| ear.key()) else {
            return;
        };
        self.doing = Some(Box::pin(async move {
            let gate = match gate {
                Some(gate) => gate,
                None => match SuppressorSession::connect(&url, key).await {
                    Ok(gate) => Arc::new(gate),
                    Err(error) => return (turn(Err(error)), None),
                },
            };
            (turn(gate.gather().await), Some(gate))
        }));
    }

    fn say_next(&mut self) {
        self.saying = None;
        let (Some(ear), Some(word)) = (self.ear.clone(), self.to_say.pop_front()) else {
            return;
        };
        let node = self.bell.node;
        self.saying = Some(Box::pin(async move { ear.say(word, node).await }));
    }
}

fn turn(turn: Result<crate::feed::suppression_locks::LockWait, crate::infra::db::QueryError>) -> Input {
    match turn {
        Ok(turn) => Input::Turn(turn),
        Err(error) => {
            tracing::warn!(%error, "the bell could not be muted; it rings for every order");
            Input::GateLost
        }
    }
}

/// Resolves when it is done; never where there is nothing to do.
async fn done<T>(doing: &mut Doing<T>) -> T {
    match doing {
        Some(doing) => doing.await,
        None => pending().await,
    }
}

async fn until(nap: &mut PreciseSleep, begin: Instant, pause: Option<Duration>) {
    match pause {
        // The sessions' turn.
        None => tokio::task::yield_now().await,
        Some(pause) => nap.take(pause.saturating_sub(begin.elapsed())).await,
    }
}
