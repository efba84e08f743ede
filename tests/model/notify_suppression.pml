/*
 * The protocol of NOTIFY suppression (docs/notify-suppression.md), as a model for spin. Nodes poll, go idle and suppress NOTIFY.
 * Writers request the writer lock before they notify. The sessions of any node crash between any two steps. scripts/model runs it.
 *
 * Two claims are checked; both are at the end of this file.
 *   at_rest               When all writers have ended, no idle node has an unread committed event. Notifications and
 *                         messages that are still on the way do not count: the node reads after them.
 *   each_node_reads_all   In every fair run each node reads each committed event. A crashed node starts again.
 *
 * Transaction ids are allocated as Postgres does it. A snapshot shows whether a transaction has ended. Its xmax is one more than
 * the newest id that has ended, so a running transaction may have a higher id. A session that ends releases its locks one by one.
 *
 * Each mutant omits one rule of the protocol, and the checker must find an error in it:
 *   -DSUPPRESS_WITHOUT_IDLE_LOCK   a node suppresses NOTIFY and does not wait until its peers have left the state Idle
 *   -DIDLE_WITHOUT_DRAINING        a node goes idle as soon as it holds the idle lock
 *   -DDRAIN_TO_XMAX                draining ends at the xmax of a snapshot, not at the node's own transaction id
 *   -DNO_WRITER_LOCK_TEST          a node that was granted the idle lock does not test whether the writer lock is held
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
#ifndef SUPPRESSIONS
#define SUPPRESSIONS 2   /* attempts to suppress NOTIFY, of all nodes together */
#endif

#define NO_NODE 255
#define BIT(n) (1 << (n))

/* The two advisory locks. A session that waits for a lock denies it to others, as a holder does. */
byte idle_shared;           /* nodes that hold the idle lock shared: one bit a node */
byte idle_exclusive = NO_NODE, idle_waiter = NO_NODE;
byte writer_exclusive = NO_NODE, writer_waiter = NO_NODE;
byte writer_shared;         /* count of the writers that hold the writer lock shared */

/* Transaction ids: 1, 2, ... in the order in which the transactions began to write. */
byte next_xid = 1;
#ifdef DRAIN_TO_XMAX
byte newest_ended_xid;
#define end_transaction(xid) running = running & ~BIT(xid); newest_ended_xid = (xid > newest_ended_xid -> xid : newest_ended_xid)
#else
#define end_transaction(xid) running = running & ~BIT(xid)
#endif
byte running;               /* one bit a transaction */
byte committed;             /* one bit a transaction */
byte has_read[NODES];       /* the transactions that a node has read: one bit each */

/* Notifications and release requests that a node has not handled yet. Several of a kind count as one. */
bool notified[NODES], release_requested[NODES];
bool is_idle[NODES];
byte crashes = CRASHES, suppressions = SUPPRESSIONS;
byte writers_left = WRITERS;

#define idle_lock_is_free (idle_exclusive == NO_NODE && idle_waiter == NO_NODE)
#define writer_lock_is_free (writer_exclusive == NO_NODE && writer_waiter == NO_NODE)
#define has_read_all(n) ((committed & ~has_read[n]) == 0)
#define read_journal(n) notified[n] = false; has_read[n] = committed

/* notify wakes node i, unless it is the sender. Only nodes that hold the idle lock handle a release request. */
#define notify(i, but) notified[i] = notified[i] || but != i
#define request_release(i) release_requested[i] = release_requested[i] || (idle_shared & BIT(i))
#if NODES == 1
#define notify_all(but) notify(0, but)
#define request_release_of_all request_release(0)
#elif NODES == 2
#define notify_all(but) notify(0, but); notify(1, but)
#define request_release_of_all request_release(0); request_release(1)
#else
#define notify_all(but) notify(0, but); notify(1, but); notify(2, but)
#define request_release_of_all request_release(0); request_release(1); request_release(2)
#endif

/* One order. Its transaction writes the event, which allocates an id; requests the writer lock, shared; and ends. */
proctype Writer() {
    byte xid;
    bool notifies;
    atomic { xid = next_xid; next_xid++; running = running | BIT(xid) };
    atomic { notifies = writer_lock_is_free; writer_shared = writer_shared + notifies };
    atomic {
        end_transaction(xid);
        if
        /* Commit: first the event is visible, then the nodes are notified, then the lock is released. */
        :: committed = committed | BIT(xid);
           if :: notifies -> notify_all(NO_NODE) :: else fi
        :: true         /* rollback */
        fi;
        writer_shared = writer_shared - notifies;
        xid = 0; notifies = false;
        writers_left--
    }
}

#define CRASH :: atomic { crashes > 0 -> crashes-- }; goto session_ended
/* ReleasingIdle: the node polls first, then releases the idle lock. */
#define RELEASE_REQUEST :: atomic { release_requested[n] -> \
        release_requested[n] = false; is_idle[n] = false; older = 0; idle_shared = idle_shared & ~BIT(n) }; goto polling

#ifdef NO_WRITER_LOCK_TEST
#define may_go_idle idle_lock_is_free
#else
#define may_go_idle (idle_lock_is_free && writer_lock_is_free)
#endif
/* The running transactions with a lower id than the one that the node allocates for itself: a draining node waits for them. */
#ifdef DRAIN_TO_XMAX
#define older_transactions (running & (BIT(newest_ended_xid + 1) - 1))
#else
#define older_transactions running
#endif

proctype Node(byte n) {
    byte older;
polling:
end_polling:  /* the prefix end_ marks a state in which a process may stop */
    do
    :: atomic { !has_read_all(n) || notified[n] -> read_journal(n) }
    :: atomic { may_go_idle -> idle_shared = idle_shared | BIT(n) }; break
    CRASH
    od;
    older = older_transactions;
end_draining:
    do
#ifdef IDLE_WITHOUT_DRAINING
    :: atomic { true -> read_journal(n); is_idle[n] = true; older = 0 }; break
#else
    :: atomic { (running & older) == 0 -> read_journal(n); is_idle[n] = true; older = 0 }; break
#endif
    :: atomic { !has_read_all(n) -> read_journal(n) }
    RELEASE_REQUEST
    :: atomic { suppressions > 0 -> suppressions--; older = 0 }; goto waiting_for_idle_peers
    CRASH
    od;
end_idle:
    do
    :: atomic { notified[n] -> read_journal(n) }
    RELEASE_REQUEST
    :: atomic { suppressions > 0 -> suppressions--; is_idle[n] = false }; goto waiting_for_idle_peers
    CRASH
    od;
waiting_for_idle_peers:
    atomic {
        release_requested[n] = false; idle_shared = idle_shared & ~BIT(n);
#ifdef SUPPRESS_WITHOUT_IDLE_LOCK
    };
#else
        if
        :: idle_waiter == NO_NODE -> idle_waiter = n; request_release_of_all
        :: else -> goto polling                       /* another node suppresses */
        fi
    };
    do
    :: atomic { idle_shared == 0 && idle_exclusive == NO_NODE -> idle_waiter = NO_NODE; idle_exclusive = n }; break
    :: atomic { !has_read_all(n) || notified[n] -> read_journal(n) }
    :: idle_shared != 0 || idle_exclusive != NO_NODE -> goto session_ended       /* MAX_IDLE_LOCK_WAITS is reached */
    CRASH
    od;
#endif
    /* WaitingForWriters */
    atomic { writer_lock_is_free -> writer_waiter = n };
    do
    :: atomic { writer_shared == 0 -> writer_waiter = NO_NODE; writer_exclusive = n }; break
    :: atomic { !has_read_all(n) || notified[n] -> read_journal(n); notify_all(n) }
    CRASH
    od;
    /* Suppressing */
    do
    :: atomic { !has_read_all(n) || notified[n] -> read_journal(n); notify_all(n) }      /* EventsRead */
    :: goto session_ended                                    /* the load is low */
    CRASH
    od;
session_ended:
    /* The notifications of the ended session are lost. Suppression ends in the same way: its session is dropped. */
    atomic {
        is_idle[n] = false; notified[n] = false; release_requested[n] = false; older = 0;
        idle_shared = idle_shared & ~BIT(n);
        if :: idle_waiter == n -> idle_waiter = NO_NODE :: else fi;
        if :: writer_waiter == n -> writer_waiter = NO_NODE :: else fi
    };
    do
    :: idle_exclusive == n -> idle_exclusive = NO_NODE
    :: writer_exclusive == n -> writer_exclusive = NO_NODE
    :: idle_exclusive != n && writer_exclusive != n -> goto polling
    od
}

init {
    byte started = 0;
    atomic {
        do :: started < NODES -> run Node(started); started++ :: else -> break od;
        started = 0;
        do :: started < WRITERS -> run Writer(); started++ :: else -> break od
    }
}

#define is_idle_with_unread(n) (is_idle[n] && !notified[n] && !release_requested[n] && !has_read_all(n))
#define writers_have_ended (writers_left == 0)

#if NODES == 1
#define some_node_is_idle_with_unread is_idle_with_unread(0)
#define each_has_read_all has_read_all(0)
#elif NODES == 2
#define some_node_is_idle_with_unread (is_idle_with_unread(0) || is_idle_with_unread(1))
#define each_has_read_all (has_read_all(0) && has_read_all(1))
#else
#define some_node_is_idle_with_unread (is_idle_with_unread(0) || is_idle_with_unread(1) || is_idle_with_unread(2))
#define each_has_read_all (has_read_all(0) && has_read_all(1) && has_read_all(2))
#endif

ltl at_rest { [] !(writers_have_ended && some_node_is_idle_with_unread) }
ltl each_node_reads_all { [] (writers_have_ended -> <> each_has_read_all) }
