//! When a node reads, when it sleeps, and when it mutes the bell: the protocol of docs/notify-suppression.md as a state machine that
//! knows no database. It is told what happened, and says what to do; one thing at a time is under way.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::Verdict;
use crate::domain::event::Xid;
use crate::feed::suppression_locks::{IdleLock, LockWait, PeerMessage};

/// A node that is awake reads at least this often.
pub const AWAKE_PAUSE: Duration = Duration::from_millis(50);
/// With the bell muted, the time between two reads when the last one found nothing. Half of what an order takes anyway,
/// for a nap and the read itself make it twice as long.
pub const MUTED_PAUSE: Duration = Duration::from_micros(250);
/// Where nothing has come for long: it is transactions that stay open, and not many, that are on their way then.
const MUTED_PAUSE_MOST: Duration = Duration::from_millis(2);
/// While transactions wait for one another, the time between two reads is what the load says, up to this.
const BUSY_PAUSE_MOST: Duration = Duration::from_millis(5);
/// What was refused just now comes soon, so an awake node reads often at first: after a quarter of the time it has
/// been so. What has been open for long may come a quarter of that later.
const AWAKE_SHARE: u32 = 4;
/// Turns of waiting for R in a row, before the bell is left ringing for a while: somebody does not let go.
const GATHER_TURNS: u32 = 10;
/// For so long.
const GATHER_AGAIN: Duration = Duration::from_secs(5);
/// Between two words that this node is here.
const HERE_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a muting node rings for each read after one has said that it is here.
const COMPANY_FOR: Duration = Duration::from_secs(3);
/// The same where none has said so yet: whoever was told to let go, or asks for R meanwhile, has said it by then. Ringing
/// for each read costs a tenth of the orders, so a node that is alone should not do it for long.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// Otherwise it rings this often: for one whose word was lost.
const ALONE_INTERVAL: Duration = AWAKE_PAUSE;

/// What a node is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No notification reaches it.
    NotListening,
    /// It reads by itself.
    Polling,
    /// The same, and has asked for R. Whether it was told meanwhile that another one wants to mute.
    RequestingIdle { drained: bool },
    /// Holds R, and reads by itself until every transaction before this one is over.
    Draining { mark: Xid },
    /// Holds R, and reads when it is rung.
    Idle,
    /// Polling, and lets go of R: for another one, or in order to mute.
    ReleasingIdle { to_mute: bool },
    /// Polling, and waits until nobody sleeps: the n-th turn.
    WaitingForIdlePeers { turn: u32 },
    /// Holds R exclusively, and waits until nobody who has rung is on his way. Nobody rings from here on.
    WaitingForWriters,
    /// Holds R and K exclusively.
    Suppressing,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Notifications reach this node, over a session that holds nothing yet.
    Hears,
    /// They do not, or no longer.
    NotListening,
    /// The answer to [`Act::Ask`].
    Asked(IdleLock),
    /// The answer to [`Act::LetGo`].
    LetGo,
    /// The answer to [`Act::Gather`] and [`Act::Close`].
    Turn(LockWait),
    /// The session that mutes could not be made, or ended; or the journal cannot be read.
    GateLost,
    /// Another node's word.
    Heard(PeerMessage),
    /// A read that began after everything else that was told. `oldest`: every transaction before it was over.
    Read {
        /// From the read's snapshot, where it had one.
        oldest: Option<Xid>,
        /// How many events it brought.
        events: usize,
        /// What the load is now.
        verdict: Verdict,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Ask for R, shared, on the LISTEN session.
    Ask,
    /// Let go of it.
    LetGo,
    /// Wait a turn for R, exclusively, on a session of its own.
    Gather,
    /// Wait a turn for K, exclusively, on the same.
    Close,
    /// End that session.
    Open,
    /// Tell the others.
    Say(PeerMessage),
}

/// The state machine.
#[derive(Debug)]
pub struct WakeupState {
    state: State,
    /// When it was last certain that nothing is owed.
    since: Instant,
    /// Not before this does it ask for R again.
    ask_at: Instant,
    /// Not before this does it mute.
    mute_at: Instant,
    /// Not before this does it say that it is here.
    here_at: Instant,
    /// Until then it rings for each read.
    company_until: Instant,
    /// Not before this does it ring otherwise.
    grew_at: Instant,
    /// It has muted, and somebody who was refused may still be on his way.
    owes_others: bool,
    verdict: Verdict,
    /// Whether the last read brought anything.
    found: bool,
    /// When one last did.
    found_at: Instant,
}

impl WakeupState {
    /// Nothing is known yet: it reads by itself.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::NotListening,
            since: now,
            ask_at: now,
            mute_at: now,
            here_at: now,
            company_until: now,
            grew_at: now,
            owes_others: false,
            verdict: Verdict::Between,
            found: false,
            found_at: now,
        }
    }

    /// Whether it reads only when it is rung.
    pub fn is_asleep(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether nobody rings on its behalf.
    pub fn is_muted(&self) -> bool {
        matches!(self.state, State::WaitingForWriters | State::Suppressing)
    }

    /// How long after a read the next one comes if nothing rings; `None`: at once. `safety`: what a sleeping node does.
    pub fn pause(&self, safety: Duration, now: Instant) -> Option<Duration> {
        match (self.state, self.verdict) {
            (State::Idle, _) => Some(safety),
            (State::NotListening, _) => Some(AWAKE_PAUSE),
            (State::WaitingForWriters | State::Suppressing, _) if !self.found => Some(self.muted_pause(now)),
            (State::WaitingForWriters | State::Suppressing, Verdict::Busy(pause)) => Some(pause.min(BUSY_PAUSE_MOST)),
            (State::WaitingForWriters | State::Suppressing, _) => None,
            _ => Some(self.awake_pause(now)),
        }
    }

    fn awake_pause(&self, now: Instant) -> Duration {
        ((now - self.since) / AWAKE_SHARE).clamp(MUTED_PAUSE, AWAKE_PAUSE)
    }

    fn muted_pause(&self, now: Instant) -> Duration {
        ((now - self.found_at) / AWAKE_SHARE).clamp(MUTED_PAUSE, MUTED_PAUSE_MOST)
    }

    /// What is due by the clock alone.
    pub fn due(&mut self, now: Instant) -> Option<Act> {
        if self.state != State::Polling || now < self.ask_at {
            return None;
        }
        self.state = State::RequestingIdle { drained: false };
        Some(Act::Ask)
    }

    /// What follows from what happened.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Act> {
        match input {
            Input::Hears => self.wake_up(now),
            Input::NotListening => {
                let acts = self.wake_up(now);
                self.state = State::NotListening;
                acts
            }
            Input::GateLost => match self.state {
                State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing => {
                    self.mute_at = now + GATHER_AGAIN;
                    self.wake_up(now)
                }
                _ => Vec::new(),
            },
            Input::Asked(asked) => self.asked(asked, now),
            Input::LetGo => self.let_go(now),
            Input::Turn(turn) => self.turned(turn, now),
            Input::Heard(word) => self.heard(word, now),
            Input::Read {
                oldest,
                events,
                verdict,
            } => self.read(oldest, events, verdict, now),
        }
    }

    /// Polling, holding nothing.
    fn wake_up(&mut self, now: Instant) -> Vec<Act> {
        let gate = matches!(
            self.state,
            State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing
        );
        self.owes_others |= self.is_muted();
        self.state = State::Polling;
        self.since = now;
        self.ask_at = now;
        if gate { vec![Act::Open] } else { Vec::new() }
    }

    fn asked(&mut self, asked: IdleLock, now: Instant) -> Vec<Act> {
        let State::RequestingIdle { drained } = self.state else {
            return Vec::new();
        };
        match asked {
            IdleLock::Shared(_) if drained => {
                self.state = State::ReleasingIdle { to_mute: false };
                vec![Act::LetGo]
            }
            IdleLock::Shared(mark) => {
                self.state = State::Draining { mark };
                Vec::new()
            }
            IdleLock::Refused => {
                self.state = State::Polling;
                self.ask_at = now + self.awake_pause(now);
                self.say_here(now)
            }
        }
    }

    fn say_here(&mut self, now: Instant) -> Vec<Act> {
        // What its own session still holds for a moment after muting is nobody else's.
        if self.owes_others || now < self.here_at {
            return Vec::new();
        }
        self.here_at = now + HERE_INTERVAL;
        vec![Act::Say(PeerMessage::Here)]
    }

    fn let_go(&mut self, now: Instant) -> Vec<Act> {
        match self.state {
            State::ReleasingIdle { to_mute: true } => {
                self.state = State::WaitingForIdlePeers { turn: 1 };
                vec![Act::Gather, Act::Say(PeerMessage::Drain)]
            }
            State::ReleasingIdle { to_mute: false } => {
                self.state = State::Polling;
                // The other one may not stand in the queue yet.
                self.ask_at = now + AWAKE_PAUSE;
                self.say_here(now)
            }
            _ => Vec::new(),
        }
    }

    fn turned(&mut self, turn: LockWait, now: Instant) -> Vec<Act> {
        match (self.state, turn) {
            // It has become calm while it waited: as if nothing had been.
            (State::WaitingForIdlePeers { .. } | State::WaitingForWriters, _) if self.verdict == Verdict::Calm => {
                self.wake_up(now)
            }
            (State::WaitingForIdlePeers { .. }, LockWait::Held) => {
                self.state = State::WaitingForWriters;
                // Nobody is known to be alone.
                self.company_until = self.company_until.max(now + ANSWER_WITHIN);
                vec![Act::Close]
            }
            (State::WaitingForIdlePeers { turn: GATHER_TURNS }, LockWait::TimedOut) => {
                self.mute_at = now + GATHER_AGAIN;
                self.wake_up(now)
            }
            (State::WaitingForIdlePeers { turn }, LockWait::TimedOut) => {
                self.state = State::WaitingForIdlePeers { turn: turn + 1 };
                vec![Act::Gather, Act::Say(PeerMessage::Drain)]
            }
            (State::WaitingForWriters, LockWait::Held) => {
                self.state = State::Suppressing;
                Vec::new()
            }
            // A long transaction holds K. Nobody else rings, so there is no hurry.
            (State::WaitingForWriters, LockWait::TimedOut) => vec![Act::Close],
            _ => Vec::new(),
        }
    }

    fn heard(&mut self, word: PeerMessage, now: Instant) -> Vec<Act> {
        if word == PeerMessage::Drain && !self.is_muted() {
            // That one rings for the others from here on, and wants to know who they are.
            self.owes_others = false;
            self.here_at = now;
        }
        match (word, self.state) {
            (PeerMessage::Drain, State::RequestingIdle { .. }) => {
                self.state = State::RequestingIdle { drained: true };
                Vec::new()
            }
            (PeerMessage::Drain, State::Draining { .. } | State::Idle) => {
                self.state = State::ReleasingIdle { to_mute: false };
                self.since = now;
                vec![Act::LetGo]
            }
            // Another one was first: whoever waits gets it, and no deadlock comes of it.
            (PeerMessage::Drain, State::ReleasingIdle { to_mute: true }) => {
                self.state = State::ReleasingIdle { to_mute: false };
                Vec::new()
            }
            (PeerMessage::Here, _) => {
                self.company_until = now + COMPANY_FOR;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn read(&mut self, oldest: Option<Xid>, events: usize, verdict: Verdict, now: Instant) -> Vec<Act> {
        self.verdict = verdict;
        self.found = events > 0;
        if self.found {
            self.found_at = now;
        }
        let mut acts = Vec::new();
        let others_wait = now < self.company_until || now >= self.grew_at;
        if self.found && others_wait && (self.is_muted() || self.owes_others) {
            self.grew_at = now + ALONE_INTERVAL;
            acts.push(Act::Say(PeerMessage::Grew));
        }
        match self.state {
            State::Draining { mark } if oldest.is_some_and(|oldest| oldest >= mark) => {
                self.state = State::Idle;
                self.owes_others = false;
            }
            State::Suppressing if verdict == Verdict::Calm => acts.extend(self.wake_up(now)),
            _ => {}
        }
        let may_mute = matches!(self.state, State::Draining { .. } | State::Idle) && now >= self.mute_at;
        if may_mute && matches!(verdict, Verdict::Busy(_)) {
            self.state = State::ReleasingIdle { to_mute: true };
            self.since = now;
            acts.push(Act::LetGo);
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFETY: Duration = Duration::from_secs(1);
    const BUSY: Verdict = Verdict::Busy(Duration::from_millis(4));

    fn read(mode: &mut WakeupState, oldest: u64, verdict: Verdict, now: Instant) -> Vec<Act> {
        let oldest = Some(Xid(oldest));
        mode.on(
            Input::Read {
                oldest,
                events: 1,
                verdict,
            },
            now,
        )
    }

    /// Idle since `now`.
    fn asleep(now: Instant) -> WakeupState {
        let mut mode = WakeupState::new(now);
        assert_eq!(mode.due(now), None, "a deaf node must not sleep");
        mode.on(Input::Hears, now);
        assert_eq!(mode.due(now), Some(Act::Ask));
        mode.on(Input::Asked(IdleLock::Shared(Xid(9))), now);
        assert!(!mode.is_asleep(), "whoever was refused before is owed");
        read(&mut mode, 8, Verdict::Between, now);
        assert!(!mode.is_asleep(), "transaction 8 may have been refused");
        read(&mut mode, 9, Verdict::Between, now);
        assert!(mode.is_asleep());
        mode
    }

    /// Suppressing since `now`.
    fn muted(now: Instant) -> WakeupState {
        let mut mode = asleep(now);
        assert_eq!(read(&mut mode, 9, BUSY, now), [Act::LetGo]);
        assert_eq!(mode.on(Input::LetGo, now), [Act::Gather, Act::Say(PeerMessage::Drain)]);
        assert_eq!(mode.on(Input::Turn(LockWait::Held), now), [Act::Close]);
        assert!(mode.is_muted(), "whoever waits for K refuses it to the writers");
        assert_eq!(mode.on(Input::Turn(LockWait::Held), now), []);
        mode
    }

    #[test]
    fn a_muted_node_reads_at_once_while_there_is_work_unless_there_is_much() {
        let now = Instant::now();
        let mut mode = muted(now);
        assert_eq!(mode.pause(SAFETY, now), Some(Duration::from_millis(4)));
        read(&mut mode, 9, Verdict::Between, now);
        assert_eq!(mode.pause(SAFETY, now), None);
        let mut mode = muted(now);
        mode.on(
            Input::Read {
                oldest: None,
                events: 0,
                verdict: BUSY,
            },
            now,
        );
        let idle = |after: u64| mode.pause(SAFETY, now + Duration::from_millis(after));
        assert_eq!(
            [idle(0), idle(4), idle(60_000)],
            [
                Some(MUTED_PAUSE),
                Some(Duration::from_millis(1)),
                Some(MUTED_PAUSE_MOST)
            ]
        );
        assert_eq!(asleep(now).pause(SAFETY, now), Some(SAFETY));
    }

    #[test]
    fn an_awake_node_reads_often_at_first_and_never_seldom() {
        let now = Instant::now();
        let mut mode = WakeupState::new(now);
        mode.on(Input::Hears, now);
        let pause = |after: u64| mode.pause(SAFETY, now + Duration::from_millis(after)).unwrap();
        assert_eq!(pause(0), MUTED_PAUSE);
        assert_eq!(pause(40), Duration::from_millis(10));
        assert_eq!(pause(60_000), AWAKE_PAUSE);
    }

    #[test]
    fn a_sleeping_node_lets_go_when_another_one_wants_to_mute() {
        let now = Instant::now();
        let mut mode = asleep(now);
        assert_eq!(mode.on(Input::Heard(PeerMessage::Drain), now), [Act::LetGo]);
        assert!(!mode.is_asleep());
        assert_eq!(mode.on(Input::LetGo, now), [Act::Say(PeerMessage::Here)]);
        assert_eq!(mode.due(now), None, "the other one may not stand in the queue yet");
        assert_eq!(mode.due(now + AWAKE_PAUSE), Some(Act::Ask));
        let refused = |mode: &mut WakeupState| mode.on(Input::Asked(IdleLock::Refused), now + AWAKE_PAUSE);
        assert_eq!(refused(&mut mode), [], "it has said so");
        mode.on(Input::Heard(PeerMessage::Drain), now + AWAKE_PAUSE);
        assert_eq!(mode.due(now + 2 * AWAKE_PAUSE), Some(Act::Ask));
        assert_eq!(
            refused(&mut mode),
            [Act::Say(PeerMessage::Here)],
            "whoever mutes now has not heard it"
        );
    }

    #[test]
    fn one_that_is_told_while_it_asks_lets_go_again() {
        let now = Instant::now();
        let mut mode = WakeupState::new(now);
        mode.on(Input::Hears, now);
        mode.due(now);
        assert_eq!(mode.on(Input::Heard(PeerMessage::Drain), now), []);
        assert_eq!(mode.on(Input::Asked(IdleLock::Shared(Xid(9))), now), [Act::LetGo]);
    }

    #[test]
    fn of_two_that_want_to_mute_one_gives_way() {
        let now = Instant::now();
        let mut mode = asleep(now);
        read(&mut mode, 9, BUSY, now);
        mode.on(Input::Heard(PeerMessage::Drain), now);
        assert_eq!(mode.on(Input::LetGo, now), [Act::Say(PeerMessage::Here)]);
    }

    #[test]
    fn when_it_is_calm_the_bell_rings_again() {
        let now = Instant::now();
        let mut mode = muted(now);
        assert!(read(&mut mode, 9, Verdict::Calm, now).contains(&Act::Open));
        assert!(!mode.is_muted() && !mode.is_asleep());
        assert_eq!(mode.due(now), Some(Act::Ask));
    }

    #[test]
    fn a_long_transaction_delays_muting_and_keeps_it_closing() {
        let now = Instant::now();
        let mut mode = asleep(now);
        read(&mut mode, 9, BUSY, now);
        mode.on(Input::LetGo, now);
        mode.on(Input::Turn(LockWait::Held), now);
        for _ in 0..100 {
            assert_eq!(mode.on(Input::Turn(LockWait::TimedOut), now), [Act::Close]);
        }
        assert_eq!(
            mode.pause(SAFETY, now),
            Some(Duration::from_millis(4)),
            "it reads meanwhile"
        );
    }

    #[test]
    fn one_that_does_not_let_go_leaves_the_bell_ringing_for_a_while() {
        let now = Instant::now();
        let mut mode = asleep(now);
        read(&mut mode, 9, BUSY, now);
        mode.on(Input::LetGo, now);
        for _ in 1..GATHER_TURNS {
            assert_eq!(
                mode.on(Input::Turn(LockWait::TimedOut), now),
                [Act::Gather, Act::Say(PeerMessage::Drain)]
            );
        }
        assert_eq!(mode.on(Input::Turn(LockWait::TimedOut), now), [Act::Open]);
        mode.due(now);
        mode.on(Input::Asked(IdleLock::Shared(Xid(9))), now);
        assert_eq!(read(&mut mode, 9, BUSY, now), []);
        assert_eq!(read(&mut mode, 9, BUSY, now + GATHER_AGAIN), [Act::LetGo]);
    }

    #[test]
    fn a_muting_node_rings_for_others_seldom_where_there_are_none() {
        let start = Instant::now();
        let mut mode = muted(start);
        let grew = |mode: &mut WakeupState, after| !read(mode, 9, Verdict::Between, start + after).is_empty();
        assert!(
            grew(&mut mode, Duration::ZERO) && grew(&mut mode, Duration::ZERO),
            "there may be others"
        );
        assert!(
            grew(&mut mode, ANSWER_WITHIN) && !grew(&mut mode, ANSWER_WITHIN),
            "there are none"
        );
        mode.on(Input::Heard(PeerMessage::Here), start + ANSWER_WITHIN);
        assert!(
            grew(&mut mode, COMPANY_FOR) && grew(&mut mode, COMPANY_FOR),
            "there are"
        );
        let gone = ANSWER_WITHIN + COMPANY_FOR;
        assert!(grew(&mut mode, gone) && !grew(&mut mode, gone), "they have gone");
    }

    #[test]
    fn what_broke_leaves_it_awake() {
        let now = Instant::now();
        for broken in [Input::NotListening, Input::GateLost] {
            let mut mode = muted(now);
            assert_eq!(mode.on(broken, now), [Act::Open]);
            assert!(!mode.is_asleep() && !mode.is_muted());
        }
        let mut mode = asleep(now);
        mode.on(Input::NotListening, now);
        assert!(!mode.is_asleep());
        assert_eq!(mode.pause(SAFETY, now), Some(AWAKE_PAUSE));
    }
}
