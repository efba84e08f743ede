//! When a node reads, when it is idle, and when it suppresses NOTIFY: the protocol of docs/notify-suppression.md as a
//! state machine without a database. The caller reports what happened, and executes the returned actions. At most one
//! lock operation is in progress.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::Verdict;
use crate::domain::event::Xid;
use crate::feed::suppression_locks::{IdleLock, LockWait, PeerMessage};

/// A polling node reads at least this often.
pub const POLLING_PAUSE: Duration = Duration::from_millis(50);
/// Pause of a suppressing node after a read without events. It is half of the time that an order takes: the timer and
/// the read double it.
pub const SUPPRESSING_PAUSE: Duration = Duration::from_micros(250);
/// Longest such pause. After a long time without events, the transactions in progress are long, and few.
const MAX_SUPPRESSING_PAUSE: Duration = Duration::from_millis(2);
/// Under load the estimator sets the pause between two reads; this is the longest.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Poll often at first and back off: writers that were denied the lock commit soon. The pause is the polling time
/// divided by this number.
const PAUSE_DIVISOR: u32 = 4;
/// Waits for the idle lock in a row, before the node stops trying for `SUPPRESS_RETRY`: some session does not release
/// the lock.
const MAX_IDLE_LOCK_WAITS: u32 = 10;
/// Pause before the next attempt to suppress NOTIFY.
const SUPPRESS_RETRY: Duration = Duration::from_secs(5);
/// Between two `PollingPeer` messages.
const POLLING_PEER_INTERVAL: Duration = Duration::from_secs(1);
/// After a `PollingPeer` message, the suppressing node sends `EventsRead` for each read during this time.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
/// The same before the first `PollingPeer` message. By then every peer has answered that was asked to release the
/// idle lock, or that requests it meanwhile. A message for each read costs a tenth of the orders, so a single node
/// should not send it for long.
const PEER_ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
/// Otherwise the suppressing node sends `EventsRead` this often, in case a `PollingPeer` message was lost.
const EVENTS_READ_INTERVAL: Duration = POLLING_PAUSE;

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No notification reaches the node.
    NotListening,
    /// The node polls.
    Polling,
    /// The node polls, and has requested the idle lock. `release_requested`: another node asked for its release
    /// meanwhile.
    RequestingIdle { release_requested: bool },
    /// The node holds the idle lock, and polls until every transaction before `own_xid` has ended.
    Draining { own_xid: Xid },
    /// The node holds the idle lock, and reads on notification.
    Idle,
    /// The node polls, and releases the idle lock: for another node, or in order to suppress NOTIFY.
    ReleasingIdle { to_suppress: bool },
    /// The node polls, and waits until no node is idle.
    WaitingForIdlePeers { attempt: u32 },
    /// The node holds the idle lock exclusively, and waits until every transaction that has notified has ended. No
    /// writer notifies from here on.
    WaitingForWriters,
    /// The node holds both locks exclusively.
    Suppressing,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Notifications reach this node, over a session that holds no lock yet.
    Listening,
    /// Notifications do not reach this node.
    NotListening,
    /// The result of [`Action::RequestIdleLock`].
    IdleLockRequested(IdleLock),
    /// [`Action::ReleaseIdleLock`] is complete.
    IdleLockReleased,
    /// The result of [`Action::WaitForIdleLock`] or [`Action::WaitForWriterLock`].
    LockWaitEnded(LockWait),
    /// The suppressor session could not be opened, or ended; or the journal cannot be read.
    SuppressorLost,
    /// A message of another node.
    Received(PeerMessage),
    /// A read that began after all inputs before it. Every transaction before `oldest` had ended.
    Read {
        /// From the snapshot of the read; `None` if it had none.
        oldest: Option<Xid>,
        /// Number of events of the read.
        events: usize,
        /// The load after the read.
        verdict: Verdict,
    },
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Request the idle lock, shared, on the LISTEN session.
    RequestIdleLock,
    /// Release the idle lock.
    ReleaseIdleLock,
    /// Wait for the idle lock, exclusively, on the suppressor session.
    WaitForIdleLock,
    /// Wait for the writer lock, exclusively, on the same session.
    WaitForWriterLock,
    /// End the suppressor session.
    DropSuppressor,
    /// Send a message to the other nodes.
    Send(PeerMessage),
}

/// The state machine.
#[derive(Debug)]
pub struct WakeupState {
    state: State,
    /// Start of the polling time.
    since: Instant,
    /// Earliest time of the next request for the idle lock.
    request_idle_at: Instant,
    /// Earliest time of the next suppression.
    suppress_at: Instant,
    /// Earliest time of the next `PollingPeer` message.
    polling_peer_at: Instant,
    /// Until then the node sends `EventsRead` for each read.
    peers_until: Instant,
    /// Earliest time of the next `EventsRead` message without known peers.
    events_read_at: Instant,
    /// The node has suppressed NOTIFY, and a writer that was denied the lock may still be in progress.
    must_notify_peers: bool,
    verdict: Verdict,
    /// Whether the last read found events.
    found_events: bool,
    /// Time of the last read that found events.
    found_events_at: Instant,
}

impl WakeupState {
    /// A node that does not listen yet.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::NotListening,
            since: now,
            request_idle_at: now,
            suppress_at: now,
            polling_peer_at: now,
            peers_until: now,
            events_read_at: now,
            must_notify_peers: false,
            verdict: Verdict::Between,
            found_events: false,
            found_events_at: now,
        }
    }

    /// Whether the node reads only on notification.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether writers do not notify because of this node.
    pub fn is_suppressing(&self) -> bool {
        matches!(self.state, State::WaitingForWriters | State::Suppressing)
    }

    /// Pause until the next read without a notification; `None`: no pause. `safety`: the pause of an idle node.
    pub fn pause(&self, safety: Duration, now: Instant) -> Option<Duration> {
        match (self.state, self.verdict) {
            (State::Idle, _) => Some(safety),
            (State::NotListening, _) => Some(POLLING_PAUSE),
            (State::WaitingForWriters | State::Suppressing, _) if !self.found_events => {
                Some(self.suppressing_pause(now))
            }
            (State::WaitingForWriters | State::Suppressing, Verdict::Busy(pause)) => Some(pause.min(MAX_BUSY_PAUSE)),
            (State::WaitingForWriters | State::Suppressing, _) => None,
            _ => Some(self.polling_pause(now)),
        }
    }

    fn polling_pause(&self, now: Instant) -> Duration {
        ((now - self.since) / PAUSE_DIVISOR).clamp(SUPPRESSING_PAUSE, POLLING_PAUSE)
    }

    fn suppressing_pause(&self, now: Instant) -> Duration {
        ((now - self.found_events_at) / PAUSE_DIVISOR).clamp(SUPPRESSING_PAUSE, MAX_SUPPRESSING_PAUSE)
    }

    /// The action that is due by time alone.
    pub fn due_action(&mut self, now: Instant) -> Option<Action> {
        if self.state != State::Polling || now < self.request_idle_at {
            return None;
        }
        self.state = State::RequestingIdle {
            release_requested: false,
        };
        Some(Action::RequestIdleLock)
    }

    /// The actions that an input requires.
    pub fn apply(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Listening => self.start_polling(now),
            Input::NotListening => {
                let acts = self.start_polling(now);
                self.state = State::NotListening;
                acts
            }
            Input::SuppressorLost => match self.state {
                State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing => {
                    self.suppress_at = now + SUPPRESS_RETRY;
                    self.start_polling(now)
                }
                _ => Vec::new(),
            },
            Input::IdleLockRequested(result) => self.idle_lock_requested(result, now),
            Input::IdleLockReleased => self.idle_lock_released(now),
            Input::LockWaitEnded(wait) => self.lock_wait_ended(wait, now),
            Input::Received(message) => self.received(message, now),
            Input::Read {
                oldest,
                events,
                verdict,
            } => self.read(oldest, events, verdict, now),
        }
    }

    /// Back to polling, without locks.
    fn start_polling(&mut self, now: Instant) -> Vec<Action> {
        let has_suppressor = matches!(
            self.state,
            State::WaitingForIdlePeers { .. } | State::WaitingForWriters | State::Suppressing
        );
        self.must_notify_peers |= self.is_suppressing();
        self.state = State::Polling;
        self.since = now;
        self.request_idle_at = now;
        if has_suppressor {
            vec![Action::DropSuppressor]
        } else {
            Vec::new()
        }
    }

    fn idle_lock_requested(&mut self, result: IdleLock, now: Instant) -> Vec<Action> {
        let State::RequestingIdle { release_requested } = self.state else {
            return Vec::new();
        };
        match result {
            IdleLock::Shared(_) if release_requested => {
                self.state = State::ReleasingIdle { to_suppress: false };
                vec![Action::ReleaseIdleLock]
            }
            IdleLock::Shared(own_xid) => {
                self.state = State::Draining { own_xid };
                Vec::new()
            }
            IdleLock::Refused => {
                self.state = State::Polling;
                self.request_idle_at = now + self.polling_pause(now);
                self.announce_polling(now)
            }
        }
    }

    fn announce_polling(&mut self, now: Instant) -> Vec<Action> {
        // Its own suppressor session may have denied the lock: Postgres releases it a moment later.
        if self.must_notify_peers || now < self.polling_peer_at {
            return Vec::new();
        }
        self.polling_peer_at = now + POLLING_PEER_INTERVAL;
        vec![Action::Send(PeerMessage::PollingPeer)]
    }

    fn idle_lock_released(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::ReleasingIdle { to_suppress: true } => {
                self.state = State::WaitingForIdlePeers { attempt: 1 };
                vec![Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            }
            State::ReleasingIdle { to_suppress: false } => {
                self.state = State::Polling;
                // The other node may not wait for the lock yet.
                self.request_idle_at = now + POLLING_PAUSE;
                self.announce_polling(now)
            }
            _ => Vec::new(),
        }
    }

    fn lock_wait_ended(&mut self, wait: LockWait, now: Instant) -> Vec<Action> {
        match (self.state, wait) {
            // The load ended during the wait.
            (State::WaitingForIdlePeers { .. } | State::WaitingForWriters, _) if self.verdict == Verdict::Calm => {
                self.start_polling(now)
            }
            (State::WaitingForIdlePeers { .. }, LockWait::Held) => {
                self.state = State::WaitingForWriters;
                // It is unknown whether other nodes poll.
                self.peers_until = self.peers_until.max(now + PEER_ANSWER_TIMEOUT);
                vec![Action::WaitForWriterLock]
            }
            (
                State::WaitingForIdlePeers {
                    attempt: MAX_IDLE_LOCK_WAITS,
                },
                LockWait::TimedOut,
            ) => {
                self.suppress_at = now + SUPPRESS_RETRY;
                self.start_polling(now)
            }
            (State::WaitingForIdlePeers { attempt }, LockWait::TimedOut) => {
                self.state = State::WaitingForIdlePeers { attempt: attempt + 1 };
                vec![Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            }
            (State::WaitingForWriters, LockWait::Held) => {
                self.state = State::Suppressing;
                Vec::new()
            }
            // A long transaction holds the writer lock. No other writer notifies, so there is no hurry.
            (State::WaitingForWriters, LockWait::TimedOut) => vec![Action::WaitForWriterLock],
            _ => Vec::new(),
        }
    }

    fn received(&mut self, message: PeerMessage, now: Instant) -> Vec<Action> {
        if message == PeerMessage::ReleaseRequest && !self.is_suppressing() {
            // The other node sends `EventsRead` from here on, and must know its peers.
            self.must_notify_peers = false;
            self.polling_peer_at = now;
        }
        match (message, self.state) {
            (PeerMessage::ReleaseRequest, State::RequestingIdle { .. }) => {
                self.state = State::RequestingIdle {
                    release_requested: true,
                };
                Vec::new()
            }
            (PeerMessage::ReleaseRequest, State::Draining { .. } | State::Idle) => {
                self.state = State::ReleasingIdle { to_suppress: false };
                self.since = now;
                vec![Action::ReleaseIdleLock]
            }
            // Another node was first: it acquires the lock, and there is no deadlock.
            (PeerMessage::ReleaseRequest, State::ReleasingIdle { to_suppress: true }) => {
                self.state = State::ReleasingIdle { to_suppress: false };
                Vec::new()
            }
            (PeerMessage::PollingPeer, _) => {
                self.peers_until = now + PEER_TIMEOUT;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn read(&mut self, oldest: Option<Xid>, events: usize, verdict: Verdict, now: Instant) -> Vec<Action> {
        self.verdict = verdict;
        self.found_events = events > 0;
        if self.found_events {
            self.found_events_at = now;
        }
        let mut acts = Vec::new();
        let must_tell_peers = now < self.peers_until || now >= self.events_read_at;
        if self.found_events && must_tell_peers && (self.is_suppressing() || self.must_notify_peers) {
            self.events_read_at = now + EVENTS_READ_INTERVAL;
            acts.push(Action::Send(PeerMessage::EventsRead));
        }
        match self.state {
            State::Draining { own_xid } if oldest.is_some_and(|oldest| oldest >= own_xid) => {
                self.state = State::Idle;
                self.must_notify_peers = false;
            }
            State::Suppressing if verdict == Verdict::Calm => acts.extend(self.start_polling(now)),
            _ => {}
        }
        let may_suppress = matches!(self.state, State::Draining { .. } | State::Idle) && now >= self.suppress_at;
        if may_suppress && matches!(verdict, Verdict::Busy(_)) {
            self.state = State::ReleasingIdle { to_suppress: true };
            self.since = now;
            acts.push(Action::ReleaseIdleLock);
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFETY: Duration = Duration::from_secs(1);
    const BUSY: Verdict = Verdict::Busy(Duration::from_millis(4));

    fn read(node: &mut WakeupState, oldest: u64, verdict: Verdict, now: Instant) -> Vec<Action> {
        let oldest = Some(Xid(oldest));
        node.apply(
            Input::Read {
                oldest,
                events: 1,
                verdict,
            },
            now,
        )
    }

    /// Idle since `now`.
    fn idle_node(now: Instant) -> WakeupState {
        let mut node = WakeupState::new(now);
        assert_eq!(
            node.due_action(now),
            None,
            "a node that does not listen must not request the idle lock"
        );
        node.apply(Input::Listening, now);
        assert_eq!(node.due_action(now), Some(Action::RequestIdleLock));
        node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now);
        assert!(
            !node.is_idle(),
            "a writer that was denied the lock before must be read first"
        );
        read(&mut node, 8, Verdict::Between, now);
        assert!(!node.is_idle(), "transaction 8 may have been denied the lock");
        read(&mut node, 9, Verdict::Between, now);
        assert!(node.is_idle());
        node
    }

    /// Suppressing since `now`.
    fn suppressing_node(now: Instant) -> WakeupState {
        let mut node = idle_node(now);
        assert_eq!(read(&mut node, 9, BUSY, now), [Action::ReleaseIdleLock]);
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
        );
        assert_eq!(
            node.apply(Input::LockWaitEnded(LockWait::Held), now),
            [Action::WaitForWriterLock]
        );
        assert!(
            node.is_suppressing(),
            "a wait for the writer lock denies it to the writers"
        );
        assert_eq!(node.apply(Input::LockWaitEnded(LockWait::Held), now), []);
        node
    }

    #[test]
    fn a_suppressing_node_reads_without_pause_unless_the_load_is_high() {
        let now = Instant::now();
        let mut node = suppressing_node(now);
        assert_eq!(node.pause(SAFETY, now), Some(Duration::from_millis(4)));
        read(&mut node, 9, Verdict::Between, now);
        assert_eq!(node.pause(SAFETY, now), None);
        let mut node = suppressing_node(now);
        node.apply(
            Input::Read {
                oldest: None,
                events: 0,
                verdict: BUSY,
            },
            now,
        );
        let pause = |after: u64| node.pause(SAFETY, now + Duration::from_millis(after));
        assert_eq!(
            [pause(0), pause(4), pause(60_000)],
            [
                Some(SUPPRESSING_PAUSE),
                Some(Duration::from_millis(1)),
                Some(MAX_SUPPRESSING_PAUSE)
            ]
        );
        assert_eq!(idle_node(now).pause(SAFETY, now), Some(SAFETY));
    }

    #[test]
    fn a_polling_node_reads_often_at_first_and_backs_off_to_a_limit() {
        let now = Instant::now();
        let mut node = WakeupState::new(now);
        node.apply(Input::Listening, now);
        let pause = |after: u64| node.pause(SAFETY, now + Duration::from_millis(after)).unwrap();
        assert_eq!(pause(0), SUPPRESSING_PAUSE);
        assert_eq!(pause(40), Duration::from_millis(10));
        assert_eq!(pause(60_000), POLLING_PAUSE);
    }

    #[test]
    fn an_idle_node_releases_the_lock_on_a_release_request() {
        let now = Instant::now();
        let mut node = idle_node(now);
        assert_eq!(
            node.apply(Input::Received(PeerMessage::ReleaseRequest), now),
            [Action::ReleaseIdleLock]
        );
        assert!(!node.is_idle());
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::Send(PeerMessage::PollingPeer)]
        );
        assert_eq!(
            node.due_action(now),
            None,
            "the other node may not wait for the lock yet"
        );
        assert_eq!(node.due_action(now + POLLING_PAUSE), Some(Action::RequestIdleLock));
        let denied =
            |node: &mut WakeupState| node.apply(Input::IdleLockRequested(IdleLock::Refused), now + POLLING_PAUSE);
        assert_eq!(denied(&mut node), [], "it has sent the message already");
        node.apply(Input::Received(PeerMessage::ReleaseRequest), now + POLLING_PAUSE);
        assert_eq!(node.due_action(now + 2 * POLLING_PAUSE), Some(Action::RequestIdleLock));
        assert_eq!(
            denied(&mut node),
            [Action::Send(PeerMessage::PollingPeer)],
            "the suppressing node has not received the message yet"
        );
    }

    #[test]
    fn a_release_request_during_the_lock_request_is_executed_after_it() {
        let now = Instant::now();
        let mut node = WakeupState::new(now);
        node.apply(Input::Listening, now);
        node.due_action(now);
        assert_eq!(node.apply(Input::Received(PeerMessage::ReleaseRequest), now), []);
        assert_eq!(
            node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now),
            [Action::ReleaseIdleLock]
        );
    }

    #[test]
    fn of_two_nodes_that_want_to_suppress_one_gives_way() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::Received(PeerMessage::ReleaseRequest), now);
        assert_eq!(
            node.apply(Input::IdleLockReleased, now),
            [Action::Send(PeerMessage::PollingPeer)]
        );
    }

    #[test]
    fn writers_notify_again_when_the_load_is_low() {
        let now = Instant::now();
        let mut node = suppressing_node(now);
        assert!(read(&mut node, 9, Verdict::Calm, now).contains(&Action::DropSuppressor));
        assert!(!node.is_suppressing() && !node.is_idle());
        assert_eq!(node.due_action(now), Some(Action::RequestIdleLock));
    }

    #[test]
    fn a_long_transaction_delays_suppression_and_the_node_keeps_waiting() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::IdleLockReleased, now);
        node.apply(Input::LockWaitEnded(LockWait::Held), now);
        for _ in 0..100 {
            assert_eq!(
                node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
                [Action::WaitForWriterLock]
            );
        }
        assert_eq!(
            node.pause(SAFETY, now),
            Some(Duration::from_millis(4)),
            "the node polls meanwhile"
        );
    }

    #[test]
    fn a_peer_that_keeps_the_idle_lock_delays_suppression_for_a_while() {
        let now = Instant::now();
        let mut node = idle_node(now);
        read(&mut node, 9, BUSY, now);
        node.apply(Input::IdleLockReleased, now);
        for _ in 1..MAX_IDLE_LOCK_WAITS {
            assert_eq!(
                node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
                [Action::WaitForIdleLock, Action::Send(PeerMessage::ReleaseRequest)]
            );
        }
        assert_eq!(
            node.apply(Input::LockWaitEnded(LockWait::TimedOut), now),
            [Action::DropSuppressor]
        );
        node.due_action(now);
        node.apply(Input::IdleLockRequested(IdleLock::Shared(Xid(9))), now);
        assert_eq!(read(&mut node, 9, BUSY, now), []);
        assert_eq!(
            read(&mut node, 9, BUSY, now + SUPPRESS_RETRY),
            [Action::ReleaseIdleLock]
        );
    }

    #[test]
    fn a_suppressing_node_without_peers_seldom_sends_events_read() {
        let start = Instant::now();
        let mut node = suppressing_node(start);
        let sends = |node: &mut WakeupState, after| !read(node, 9, Verdict::Between, start + after).is_empty();
        assert!(
            sends(&mut node, Duration::ZERO) && sends(&mut node, Duration::ZERO),
            "there may be peers"
        );
        assert!(
            sends(&mut node, PEER_ANSWER_TIMEOUT) && !sends(&mut node, PEER_ANSWER_TIMEOUT),
            "there are no peers"
        );
        node.apply(Input::Received(PeerMessage::PollingPeer), start + PEER_ANSWER_TIMEOUT);
        assert!(
            sends(&mut node, PEER_TIMEOUT) && sends(&mut node, PEER_TIMEOUT),
            "there are peers"
        );
        let gone = PEER_ANSWER_TIMEOUT + PEER_TIMEOUT;
        assert!(sends(&mut node, gone) && !sends(&mut node, gone), "the peers are gone");
    }

    #[test]
    fn a_node_polls_after_a_broken_session() {
        let now = Instant::now();
        for broken in [Input::NotListening, Input::SuppressorLost] {
            let mut node = suppressing_node(now);
            assert_eq!(node.apply(broken, now), [Action::DropSuppressor]);
            assert!(!node.is_idle() && !node.is_suppressing());
        }
        let mut node = idle_node(now);
        node.apply(Input::NotListening, now);
        assert!(!node.is_idle());
        assert_eq!(node.pause(SAFETY, now), Some(POLLING_PAUSE));
    }
}
