/*
 * The bell protocol of docs/notify-suppression.md, for spin: nodes that sleep, wake and mute, writers that ask before they ring, and a
 * crash of any node's sessions between any two steps. scripts/model runs it.
 *
 * Checked (below): `at_rest`, that no node sleeps with a committed event unread once no writer is under way and all that
 * was said has been taken; and `each_read`, that in every fair run every node reads every event. A crashed node comes back.
 *
 * Transactions are numbered as Postgres does it. A snapshot shows whether a number is over; its xmax is one more than the
 * newest that has ended, so a number that is running may lie above it. When a session ends its locks go one by one.
 *
 * Mutants, each of which the checker must catch:
 *   -DMUTE_WITHOUT_R        a node mutes without waiting for those that sleep
 *   -DSLEEP_WITHOUT_SWEEP   a node sleeps as soon as it holds R
 *   -DSWEEP_TO_XMAX         the sweep ends at the xmax of a snapshot, not at a number of its own
 *   -DNO_LOOK_AT_K          a node that got R does not look whether K is still held
 */

#ifndef NODES
#define NODES 2
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MUTINGS
#define MUTINGS 2   /* decisions to mute, of all nodes together */
#endif

#define NOBODY 255

/* The locks. A waiting one refuses others as a held one does. */
byte r_shared;              /* bit a node */
byte r_excl = NOBODY, r_wait = NOBODY;
byte k_excl = NOBODY, k_wait = NOBODY;
byte k_shared;              /* writers that hold it */

/* Transactions: numbers 1.. in the order in which they began to write. */
byte next_xid = 1;
#ifdef SWEEP_TO_XMAX
byte newest_ended;
#define ends(xid) running = running & ~BIT(xid); newest_ended = (xid > newest_ended -> xid : newest_ended)
#else
#define ends(xid) running = running & ~BIT(xid)
#endif
byte running;               /* bit a number */
byte committed;             /* bit a number */
byte read_by[NODES];        /* bit a number */

/* What has been said to a node and not been taken. Rings fold; so do drains. */
bool rung[NODES], drained[NODES];
bool asleep[NODES];
byte crashes = CRASHES, mutings = MUTINGS;
byte writers_left = WRITERS;

#define BIT(n) (1 << (n))
#define r_is_free (r_excl == NOBODY && r_wait == NOBODY)
#define k_is_free (k_excl == NOBODY && k_wait == NOBODY)
#define everything_read(n) ((committed & ~read_by[n]) == 0)
#define read(n) rung[n] = false; read_by[n] = committed

/* A drain is of interest to those that hold R only. */
#define ring(i, but) rung[i] = rung[i] || but != i
#define drain(i) drained[i] = drained[i] || (r_shared & BIT(i))
#if NODES == 1
#define ring_all(but) ring(0, but)
#define drain_all drain(0)
#elif NODES == 2
#define ring_all(but) ring(0, but); ring(1, but)
#define drain_all drain(0); drain(1)
#else
#define ring_all(but) ring(0, but); ring(1, but); ring(2, but)
#define drain_all drain(0); drain(1); drain(2)
#endif

/* An order: its event is written, which gives it a number; then K is asked for; then it ends. */
proctype Writer() {
    byte xid;
    bool rings;
    atomic { xid = next_xid; next_xid++; running = running | BIT(xid) };
    atomic { rings = k_is_free; k_shared = k_shared + rings };
    atomic {
        ends(xid);
        if
        :: committed = committed | BIT(xid);        /* commit: visible first, then rung, then the lock goes */
           if :: rings -> ring_all(NOBODY) :: else fi
        :: true                                     /* rollback */
        fi;
        k_shared = k_shared - rings;
        xid = 0; rings = false;
        writers_left--
    }
}

#define CRASH :: atomic { crashes > 0 -> crashes-- }; goto gone
/* Awake first, then it lets go. */
#define DRAIN :: atomic { drained[n] -> drained[n] = false; asleep[n] = false; mark = 0; r_shared = r_shared & ~BIT(n) }; goto awake

#ifdef NO_LOOK_AT_K
#define may_share r_is_free
#else
#define may_share (r_is_free && k_is_free)
#endif
/* Which numbers it waits for: those below one that it takes for itself. */
#ifdef SWEEP_TO_XMAX
#define below_the_mark (running & (BIT(newest_ended + 1) - 1))
#else
#define below_the_mark running
#endif

proctype Node(byte n) {
    byte mark;
awake:
end_awake:
    do
    :: atomic { !everything_read(n) || rung[n] -> read(n) }
    :: atomic { may_share -> r_shared = r_shared | BIT(n) }; break
    CRASH
    od;
    mark = below_the_mark;
end_sweeping:
    do
#ifdef SLEEP_WITHOUT_SWEEP
    :: atomic { true -> read(n); asleep[n] = true; mark = 0 }; break
#else
    :: atomic { (running & mark) == 0 -> read(n); asleep[n] = true; mark = 0 }; break
#endif
    :: atomic { !everything_read(n) -> read(n) }
    DRAIN
    :: atomic { mutings > 0 -> mutings--; mark = 0 }; goto mute
    CRASH
    od;
end_asleep:
    do
    :: atomic { rung[n] -> read(n) }
    DRAIN
    :: atomic { mutings > 0 -> mutings--; asleep[n] = false }; goto mute
    CRASH
    od;
mute:
    atomic {
        drained[n] = false; r_shared = r_shared & ~BIT(n);
#ifdef MUTE_WITHOUT_R
    };
#else
        if
        :: r_wait == NOBODY -> r_wait = n; drain_all
        :: else -> goto awake                       /* another one was first */
        fi
    };
    do
    :: atomic { r_shared == 0 && r_excl == NOBODY -> r_wait = NOBODY; r_excl = n }; break
    :: atomic { !everything_read(n) || rung[n] -> read(n) }
    :: r_shared != 0 || r_excl != NOBODY -> goto gone       /* its turns are over */
    CRASH
    od;
#endif
    atomic { k_is_free -> k_wait = n };
    do
    :: atomic { k_shared == 0 -> k_wait = NOBODY; k_excl = n }; break
    :: atomic { !everything_read(n) || rung[n] -> read(n); ring_all(n) }
    CRASH
    od;
    do
    :: atomic { !everything_read(n) || rung[n] -> read(n); ring_all(n) }      /* grew */
    :: goto gone                                    /* calm */
    CRASH
    od;
gone:
    /* What was said to the session is lost. Muting ends in the same way: its session is dropped. */
    atomic {
        asleep[n] = false; rung[n] = false; drained[n] = false; mark = 0;
        r_shared = r_shared & ~BIT(n);
        if :: r_wait == n -> r_wait = NOBODY :: else fi;
        if :: k_wait == n -> k_wait = NOBODY :: else fi
    };
    do
    :: r_excl == n -> r_excl = NOBODY
    :: k_excl == n -> k_excl = NOBODY
    :: r_excl != n && k_excl != n -> goto awake
    od
}

init {
    byte w = 0;
    atomic {
        do :: w < NODES -> run Node(w); w++ :: else -> break od;
        w = 0;
        do :: w < WRITERS -> run Writer(); w++ :: else -> break od
    }
}

#define owes(n) (asleep[n] && !rung[n] && !drained[n] && !everything_read(n))
#define all_over (writers_left == 0)

#if NODES == 1
#define somebody_owes owes(0)
#define all_read everything_read(0)
#elif NODES == 2
#define somebody_owes (owes(0) || owes(1))
#define all_read (everything_read(0) && everything_read(1))
#else
#define somebody_owes (owes(0) || owes(1) || owes(2))
#define all_read (everything_read(0) && everything_read(1) && everything_read(2))
#endif

/* At rest: a sleeping node that has taken everything that was said to it has read all. */
ltl at_rest { [] !(all_over && somebody_owes) }
/* In every fair run: everybody reads all. */
ltl each_read { [] (all_over -> <> all_read) }
