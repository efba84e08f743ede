//! Simulates the [`SuppressionState`]s of three nodes with random locks, transactions, notifications and broken
//! Postgres sessions. Invariant: an idle node that has handled all its messages has read all committed events.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::{Duration, Instant};

use super::in_flight::Load;
use super::suppression_state::{Action, Input, SuppressionState};
use crate::domain::event::Xid;
use crate::feed::suppression_locks::{IdleLock, LockWait, PeerMessage};

const NODES: usize = 3;
const STEPS: usize = 400;
const SEEDS: u64 = 1500;

/// The limit of the wait before a node goes idle: the node waits until all transactions with a lower id have ended.
/// Only `OwnXid` is correct. The tests check that the simulation finds the errors of the other variants.
#[derive(Clone, Copy, PartialEq)]
enum WaitFor {
    /// The limit is a transaction id that the node allocates for itself, after it holds the idle lock.
    OwnXid,
    /// The limit is the `xmax` of a snapshot: the id after the newest transaction that has ended.
    Xmax,
    /// There is no wait: the node goes idle as soon as it holds the idle lock.
    Nothing,
}

enum Message {
    Notification,
    Peer(PeerMessage),
}

#[derive(Default)]
struct Suppressor {
    idle_lock: bool,
    writer_lock: bool,
    waits_idle_lock: bool,
    waits_writer_lock: bool,
    /// Whether this Postgres session has ended. Postgres then releases the session's locks one by one.
    ended: bool,
}

impl Suppressor {
    fn holds_or_waits(&self) -> bool {
        self.idle_lock || self.writer_lock || self.waits_idle_lock || self.waits_writer_lock
    }
}

struct Node {
    state: SuppressionState,
    listens: bool,
    holds_idle_lock: bool,
    lock_operation: Option<Action>,
    suppressor: Option<Suppressor>,
    inbox: VecDeque<Message>,
    read: BTreeSet<u64>,
}

struct Writer {
    xid: u64,
    notifies: bool,
}

struct World {
    random: fastrand::Rng,
    wait_for: WaitFor,
    now: Instant,
    nodes: Vec<Node>,
    /// Ended Postgres sessions of nodes that suppressed NOTIFY. Postgres has not released all of their locks yet.
    orphans: Vec<Suppressor>,
    running: Vec<Writer>,
    committed: BTreeSet<u64>,
    next_xid: u64,
    last_ended: u64,
}

impl World {
    fn new(seed: u64, wait_for: WaitFor) -> Self {
        let now = Instant::now();
        let node = |_| Node {
            state: SuppressionState::new(now),
            listens: false,
            holds_idle_lock: false,
            lock_operation: None,
            suppressor: None,
            inbox: VecDeque::new(),
            read: BTreeSet::new(),
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            wait_for,
            now,
            nodes: (0..NODES).map(node).collect(),
            orphans: Vec::new(),
            running: Vec::new(),
            committed: BTreeSet::new(),
            next_xid: 1,
            last_ended: 0,
        }
    }

    fn suppressors(&self) -> impl Iterator<Item = &Suppressor> {
        self.nodes
            .iter()
            .filter_map(|node| node.suppressor.as_ref())
            .chain(&self.orphans)
    }

    fn begin_writer(&mut self) {
        let xid = self.next_xid;
        self.next_xid += 1;
        // A writer requests the writer lock after it has written its event. If a node holds the lock or waits for it,
        // the request is denied, and the writer does not notify.
        let notifies = !self
            .suppressors()
            .any(|suppressor| suppressor.writer_lock || suppressor.waits_writer_lock);
        self.running.push(Writer { xid, notifies });
    }

    fn end_writer(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let writer = self.running.swap_remove(self.random.usize(..self.running.len()));
        self.last_ended = self.last_ended.max(writer.xid);
        if self.random.u8(..8) == 0 {
            return; // The transaction is rolled back.
        }
        self.committed.insert(writer.xid);
        if writer.notifies {
            self.send_to_all(|| Message::Notification);
        }
    }

    fn send_to_all(&mut self, message: impl Fn() -> Message) {
        for node in self.nodes.iter_mut().filter(|node| node.listens) {
            node.inbox.push_back(message());
        }
    }

    fn apply(&mut self, at: usize, input: Input) {
        for action in self.nodes[at].state.apply(input, self.now) {
            self.execute(at, action);
        }
    }

    fn execute(&mut self, at: usize, action: Action) {
        match action {
            Action::Send(message) => {
                for other in (0..NODES).filter(|other| *other != at) {
                    if self.nodes[other].listens {
                        let sent = if message == PeerMessage::EventsRead {
                            Message::Notification
                        } else {
                            Message::Peer(message)
                        };
                        self.nodes[other].inbox.push_back(sent);
                    }
                }
            }
            Action::DropSuppressor => {
                self.nodes[at].lock_operation = None;
                if let Some(mut suppressor) = self.nodes[at].suppressor.take() {
                    suppressor.ended = true;
                    self.orphans.push(suppressor);
                }
            }
            action => {
                assert!(self.nodes[at].lock_operation.is_none(), "two lock operations at once");
                self.nodes[at].lock_operation = Some(action);
            }
        }
    }

    /// Completes the lock operation of a node if the lock is free. Otherwise the operation waits, or times out.
    fn complete(&mut self, at: usize) {
        let Some(action) = self.nodes[at].lock_operation else {
            return;
        };
        let a_node_is_idle = self.nodes.iter().any(|node| node.holds_idle_lock);
        let others_hold_idle_lock = self.suppressors().filter(|suppressor| suppressor.idle_lock).count() > 0;
        let a_notifier_runs = self.running.iter().any(|writer| writer.notifies);
        let input = match action {
            Action::RequestIdleLock => {
                let denied = self.suppressors().any(Suppressor::holds_or_waits);
                if denied {
                    Input::IdleLockRequested(IdleLock::Refused)
                } else {
                    self.nodes[at].holds_idle_lock = true;
                    let wait_for = match self.wait_for {
                        WaitFor::OwnXid => {
                            self.next_xid += 1;
                            self.last_ended = self.next_xid - 1;
                            self.next_xid - 1
                        }
                        WaitFor::Xmax => self.last_ended + 1,
                        WaitFor::Nothing => 0,
                    };
                    Input::IdleLockRequested(IdleLock::Shared(Xid(wait_for)))
                }
            }
            Action::ReleaseIdleLock => {
                self.nodes[at].holds_idle_lock = false;
                Input::IdleLockReleased
            }
            Action::WaitForIdleLock | Action::WaitForWriterLock => {
                let for_writer_lock = action == Action::WaitForWriterLock;
                let free = if for_writer_lock {
                    !a_notifier_runs
                } else {
                    !a_node_is_idle && !others_hold_idle_lock
                };
                let suppressor = self.nodes[at].suppressor.get_or_insert_default();
                if suppressor.ended {
                    self.nodes[at].lock_operation = None;
                    return self.apply(at, Input::SuppressorLost);
                }
                let waits = if for_writer_lock {
                    &mut suppressor.waits_writer_lock
                } else {
                    &mut suppressor.waits_idle_lock
                };
                if !*waits {
                    *waits = true;
                    return;
                }
                let wait = match (free, self.random.bool()) {
                    (true, _) => LockWait::Held,
                    (false, true) => LockWait::TimedOut,
                    (false, false) => return,
                };
                let suppressor = self.nodes[at].suppressor.as_mut().unwrap();
                (suppressor.waits_idle_lock, suppressor.waits_writer_lock) = (false, false);
                if wait == LockWait::Held {
                    *(if for_writer_lock {
                        &mut suppressor.writer_lock
                    } else {
                        &mut suppressor.idle_lock
                    }) = true;
                }
                Input::LockWaitEnded(wait)
            }
            Action::DropSuppressor | Action::Send(_) => unreachable!("neither has a result"),
        };
        self.nodes[at].lock_operation = None;
        self.apply(at, input);
    }

    fn read(&mut self, at: usize) {
        let oldest = self
            .running
            .iter()
            .map(|writer| writer.xid)
            .filter(|xid| *xid <= self.last_ended)
            .min();
        let oldest = Some(Xid(oldest.unwrap_or(self.last_ended + 1)));
        let events = self.committed.difference(&self.nodes[at].read).count();
        self.nodes[at].read = self.committed.clone();
        let load = [Load::Busy(Duration::ZERO), Load::Between, Load::Calm][self.random.usize(..3)];
        self.apply(at, Input::Read { oldest, events, load });
    }

    fn receive(&mut self, at: usize) {
        match self.nodes[at].inbox.pop_front() {
            Some(Message::Notification) => self.read(at),
            Some(Message::Peer(message)) => self.apply(at, Input::Received(message)),
            None => {}
        }
    }

    /// Ends the LISTEN session of a node. The node loses the idle lock and the messages that it has not handled yet.
    fn break_listen_session(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.listens, node.holds_idle_lock) = (false, false);
        node.inbox.clear();
        if matches!(
            node.lock_operation,
            Some(Action::RequestIdleLock | Action::ReleaseIdleLock)
        ) {
            node.lock_operation = None;
        }
        self.apply(at, Input::NotListening);
    }

    fn break_suppressor(&mut self, at: usize) {
        let suppressors = self.nodes.iter_mut().filter_map(|node| node.suppressor.as_mut());
        let mut ended: Vec<&mut Suppressor> = suppressors
            .filter(|suppressor| suppressor.ended)
            .chain(&mut self.orphans)
            .collect();
        if !ended.is_empty() && self.random.bool() {
            let one = self.random.usize(..ended.len());
            let suppressor = &mut ended[one];
            (suppressor.waits_idle_lock, suppressor.waits_writer_lock) = (false, false);
            *(if self.random.bool() {
                &mut suppressor.idle_lock
            } else {
                &mut suppressor.writer_lock
            }) = false;
            self.orphans.retain(Suppressor::holds_or_waits);
        } else if let Some(suppressor) = self.nodes[at].suppressor.as_mut() {
            suppressor.ended = true;
            if self.random.bool() {
                self.nodes[at].lock_operation = None;
                self.apply(at, Input::SuppressorLost);
                // If the state machine does not use the ended session, `apply` returns no `DropSuppressor`. So the
                // session is dropped here.
                self.execute(at, Action::DropSuppressor);
            }
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.u64(..30));
        let at = self.random.usize(..NODES);
        match self.random.u8(..100) {
            0..20 => self.begin_writer(),
            20..40 => self.end_writer(),
            40..55 => self.receive(at),
            55..75 => self.complete(at),
            75..88 if !self.nodes[at].state.is_idle() => self.read(at),
            88..94 => {
                if let Some(action) = self.nodes[at].state.due_action(self.now) {
                    self.execute(at, action);
                }
            }
            94..96 if !self.nodes[at].listens => {
                self.nodes[at].listens = true;
                self.apply(at, Input::Listening);
            }
            96 => self.break_listen_session(at),
            97..100 => self.break_suppressor(at),
            _ => {}
        }
    }

    /// Ends all writers one by one. Before each of these steps and after the last one, the nodes handle their messages,
    /// and the invariant is checked.
    fn quiesce(&mut self) -> Result<(), String> {
        loop {
            for at in 0..NODES {
                while !self.nodes[at].inbox.is_empty() {
                    self.receive(at);
                }
                let node = &self.nodes[at];
                if node.state.is_idle() && node.read != self.committed {
                    let missed: Vec<_> = self.committed.difference(&node.read).collect();
                    return Err(format!("node {at} is idle and has not read {missed:?}"));
                }
            }
            if self.running.is_empty() {
                return Ok(());
            }
            self.end_writer();
        }
    }
}

fn simulate(wait_for: WaitFor) -> Result<[usize; 2], String> {
    let mut seen = [0, 0];
    for seed in 0..SEEDS {
        let mut world = World::new(seed, wait_for);
        for step in 0..STEPS {
            world.step();
            seen[0] += usize::from(world.nodes.iter().any(|node| node.state.is_idle()));
            seen[1] += usize::from(world.nodes.iter().any(|node| node.state.is_suppressing()));
            if step % 40 == 39 {
                world
                    .quiesce()
                    .map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
            }
        }
    }
    Ok(seen)
}

#[test]
fn at_rest_no_idle_node_has_an_unread_event() {
    let [idle, suppressing] = simulate(WaitFor::OwnXid).unwrap();
    assert!(
        idle > 10_000 && suppressing > 10_000,
        "too few steps: {idle} idle, {suppressing} suppressing"
    );
}

#[test]
fn the_simulation_catches_a_node_that_goes_idle_without_draining() {
    assert!(simulate(WaitFor::Nothing).is_err());
}

#[test]
fn the_simulation_catches_draining_up_to_a_snapshots_xmax() {
    assert!(simulate(WaitFor::Xmax).is_err());
}
