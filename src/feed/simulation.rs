//! Three nodes' [`WakeupState`]s against locks, transactions and notifications that are played by the rules of Postgres, in any
//! order, with sessions that break between any two steps. What must hold: once nobody writes, a sleeping node that has
//! taken what was said to it has read everything.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::{Duration, Instant};

use super::in_flight::Verdict;
use super::wakeup_state::{Act, Input, WakeupState};
use crate::domain::event::Xid;
use crate::feed::suppression_locks::{IdleLock, LockWait, PeerMessage};

const NODES: usize = 3;
const STEPS: usize = 400;
const SEEDS: u64 = 1500;

/// How the number is taken that a node waits for before it sleeps.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    /// As [`crate::feed::suppression_locks::ListenSession::ask`] does.
    OwnNumber,
    /// One after the last transaction that has ended: what a snapshot calls `xmax`.
    Xmax,
    /// None: it sleeps as soon as it holds R.
    NoSweep,
}

enum Told {
    Ring,
    Word(PeerMessage),
}

#[derive(Default)]
struct Gate {
    r: bool,
    k: bool,
    waits_r: bool,
    waits_k: bool,
    /// Its session has ended; its locks go one by one.
    ended: bool,
}

struct Node {
    mode: WakeupState,
    hears: bool,
    r_shared: bool,
    doing: Option<Act>,
    gate: Option<Gate>,
    told: VecDeque<Told>,
    read: BTreeSet<u64>,
}

struct Writer {
    xid: u64,
    rings: bool,
}

struct World {
    random: fastrand::Rng,
    mark: Mark,
    now: Instant,
    nodes: Vec<Node>,
    /// Gates whose node has dropped them.
    orphans: Vec<Gate>,
    running: Vec<Writer>,
    committed: BTreeSet<u64>,
    next_xid: u64,
    last_ended: u64,
}

impl World {
    fn new(seed: u64, mark: Mark) -> Self {
        let now = Instant::now();
        let node = |_| Node {
            mode: WakeupState::new(now),
            hears: false,
            r_shared: false,
            doing: None,
            gate: None,
            told: VecDeque::new(),
            read: BTreeSet::new(),
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            mark,
            now,
            nodes: (0..NODES).map(node).collect(),
            orphans: Vec::new(),
            running: Vec::new(),
            committed: BTreeSet::new(),
            next_xid: 1,
            last_ended: 0,
        }
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.nodes
            .iter()
            .filter_map(|node| node.gate.as_ref())
            .chain(&self.orphans)
    }

    fn begin_writer(&mut self) {
        let xid = self.next_xid;
        self.next_xid += 1;
        // The event is written, then K is asked for: refused where it is held, or waited for.
        let rings = !self.gates().any(|gate| gate.k || gate.waits_k);
        self.running.push(Writer { xid, rings });
    }

    fn end_writer(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let writer = self.running.swap_remove(self.random.usize(..self.running.len()));
        self.last_ended = self.last_ended.max(writer.xid);
        if self.random.u8(..8) == 0 {
            return; // Rolled back.
        }
        self.committed.insert(writer.xid);
        if writer.rings {
            self.tell_all(|| Told::Ring);
        }
    }

    fn tell_all(&mut self, what: impl Fn() -> Told) {
        for node in self.nodes.iter_mut().filter(|node| node.hears) {
            node.told.push_back(what());
        }
    }

    fn tell(&mut self, at: usize, input: Input) {
        for act in self.nodes[at].mode.on(input, self.now) {
            self.carry_out(at, act);
        }
    }

    fn carry_out(&mut self, at: usize, act: Act) {
        match act {
            Act::Say(word) => {
                for other in (0..NODES).filter(|other| *other != at) {
                    if self.nodes[other].hears {
                        let told = if word == PeerMessage::Grew {
                            Told::Ring
                        } else {
                            Told::Word(word)
                        };
                        self.nodes[other].told.push_back(told);
                    }
                }
            }
            Act::Open => {
                self.nodes[at].doing = None;
                if let Some(mut gate) = self.nodes[at].gate.take() {
                    gate.ended = true;
                    self.orphans.push(gate);
                }
            }
            act => {
                assert!(self.nodes[at].doing.is_none(), "two things at once");
                self.nodes[at].doing = Some(act);
            }
        }
    }

    /// Something under way gets on.
    fn answer(&mut self, at: usize) {
        let Some(act) = self.nodes[at].doing else { return };
        let others_share = self.nodes.iter().any(|node| node.r_shared);
        let others_gate_r = self.gates().filter(|gate| gate.r).count() > 0;
        let running_rung = self.running.iter().any(|writer| writer.rings);
        let input = match act {
            Act::Ask => {
                let refused = self
                    .gates()
                    .any(|gate| gate.r || gate.waits_r || gate.k || gate.waits_k);
                if refused {
                    Input::Asked(IdleLock::Refused)
                } else {
                    self.nodes[at].r_shared = true;
                    let mark = match self.mark {
                        Mark::OwnNumber => {
                            self.next_xid += 1;
                            self.last_ended = self.next_xid - 1;
                            self.next_xid - 1
                        }
                        Mark::Xmax => self.last_ended + 1,
                        Mark::NoSweep => 0,
                    };
                    Input::Asked(IdleLock::Shared(Xid(mark)))
                }
            }
            Act::LetGo => {
                self.nodes[at].r_shared = false;
                Input::LetGo
            }
            Act::Gather | Act::Close => {
                let to_close = act == Act::Close;
                let free = if to_close {
                    !running_rung
                } else {
                    !others_share && !others_gate_r
                };
                let gate = self.nodes[at].gate.get_or_insert_default();
                if gate.ended {
                    self.nodes[at].doing = None;
                    return self.tell(at, Input::GateLost);
                }
                let waits = if to_close { &mut gate.waits_k } else { &mut gate.waits_r };
                if !*waits {
                    *waits = true;
                    return;
                }
                let turn = match (free, self.random.bool()) {
                    (true, _) => LockWait::Held,
                    (false, true) => LockWait::TimedOut,
                    (false, false) => return,
                };
                let gate = self.nodes[at].gate.as_mut().unwrap();
                (gate.waits_r, gate.waits_k) = (false, false);
                if turn == LockWait::Held {
                    *(if to_close { &mut gate.k } else { &mut gate.r }) = true;
                }
                Input::Turn(turn)
            }
            Act::Open | Act::Say(_) => unreachable!("neither has an answer"),
        };
        self.nodes[at].doing = None;
        self.tell(at, input);
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
        let verdict = [Verdict::Busy(Duration::ZERO), Verdict::Between, Verdict::Calm][self.random.usize(..3)];
        self.tell(
            at,
            Input::Read {
                oldest,
                events,
                verdict,
            },
        );
    }

    fn hear(&mut self, at: usize) {
        match self.nodes[at].told.pop_front() {
            Some(Told::Ring) => self.read(at),
            Some(Told::Word(word)) => self.tell(at, Input::Heard(word)),
            None => {}
        }
    }

    /// A session ends: what it holds goes, and the node is told in the same moment or later.
    fn break_ear(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.hears, node.r_shared) = (false, false);
        node.told.clear();
        if matches!(node.doing, Some(Act::Ask | Act::LetGo)) {
            node.doing = None;
        }
        self.tell(at, Input::NotListening);
    }

    fn break_gate(&mut self, at: usize) {
        let gates = self.nodes.iter_mut().filter_map(|node| node.gate.as_mut());
        let mut ended: Vec<&mut Gate> = gates.filter(|gate| gate.ended).chain(&mut self.orphans).collect();
        if !ended.is_empty() && self.random.bool() {
            let one = self.random.usize(..ended.len());
            let gate = &mut ended[one];
            (gate.waits_r, gate.waits_k) = (false, false);
            *(if self.random.bool() { &mut gate.r } else { &mut gate.k }) = false;
            self.orphans
                .retain(|gate| gate.r || gate.k || gate.waits_r || gate.waits_k);
        } else if let Some(gate) = self.nodes[at].gate.as_mut() {
            gate.ended = true;
            if self.random.bool() {
                self.nodes[at].doing = None;
                self.tell(at, Input::GateLost);
                // A node that had no more use for it drops it all the same.
                self.carry_out(at, Act::Open);
            }
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.u64(..30));
        let at = self.random.usize(..NODES);
        match self.random.u8(..100) {
            0..20 => self.begin_writer(),
            20..40 => self.end_writer(),
            40..55 => self.hear(at),
            55..75 => self.answer(at),
            75..88 if !self.nodes[at].mode.is_asleep() => self.read(at),
            88..94 => {
                if let Some(act) = self.nodes[at].mode.due(self.now) {
                    self.carry_out(at, act);
                }
            }
            94..96 if !self.nodes[at].hears => {
                self.nodes[at].hears = true;
                self.tell(at, Input::Hears);
            }
            96 => self.break_ear(at),
            97..100 => self.break_gate(at),
            _ => {}
        }
    }

    /// Nobody begins to write any more, and everything that is said is heard, one writer after another.
    fn rest(&mut self) -> Result<(), String> {
        loop {
            for at in 0..NODES {
                while !self.nodes[at].told.is_empty() {
                    self.hear(at);
                }
                let node = &self.nodes[at];
                if node.mode.is_asleep() && node.read != self.committed {
                    let missed: Vec<_> = self.committed.difference(&node.read).collect();
                    return Err(format!("node {at} sleeps and has not read {missed:?}"));
                }
            }
            if self.running.is_empty() {
                return Ok(());
            }
            self.end_writer();
        }
    }
}

fn play(mark: Mark) -> Result<[usize; 2], String> {
    let mut seen = [0, 0];
    for seed in 0..SEEDS {
        let mut world = World::new(seed, mark);
        for step in 0..STEPS {
            world.step();
            seen[0] += usize::from(world.nodes.iter().any(|node| node.mode.is_asleep()));
            seen[1] += usize::from(world.nodes.iter().any(|node| node.mode.is_muted()));
            if step % 40 == 39 {
                world
                    .rest()
                    .map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
            }
        }
    }
    Ok(seen)
}

#[test]
fn at_rest_no_sleeping_node_has_anything_unread() {
    let [asleep, muted] = play(Mark::OwnNumber).unwrap();
    assert!(
        asleep > 10_000 && muted > 10_000,
        "too little was seen: {asleep} steps asleep, {muted} muted"
    );
}

#[test]
fn the_play_catches_a_node_that_sleeps_without_a_sweep() {
    assert!(play(Mark::NoSweep).is_err());
}

#[test]
fn the_play_catches_a_sweep_that_ends_at_a_snapshots_xmax() {
    assert!(play(Mark::Xmax).is_err());
}
