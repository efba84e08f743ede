-- The journal: one immutable row for each event, written in the transaction of the shop's own write.
--
-- `xid` is what makes reading exact. An identity value is taken before commit, so a later id can become visible
-- first and "ids above N" would skip events; "transactions that my snapshot did not see" skips none.
-- The identity must keep CACHE 1: with a larger cache the ids of two sessions no longer follow their row locks,
-- and the order of one shop row's events is the order of their ids.
create table vestnik.event (
    id       bigint      not null generated always as identity (cache 1) primary key,
    xid      xid8        not null default pg_current_xact_id(),
    store_id text,                          -- null: nobody receives it; counted in a metric
    type     text        not null,
    at       timestamptz not null default clock_timestamp(),
    data     jsonb       not null
);

-- The feed reads by transaction, a coming-back session by store and transaction.
create index event_xid on vestnik.event (xid);
create index event_store_xid on vestnik.event (store_id, xid);

-- What the trimming of old events has removed: the highest transaction of which an event is gone. A cursor that does
-- not cover it could be owed something that is no longer there, and is answered with resync_required.
create table vestnik.retention (
    sole            boolean not null default true primary key check (sole),
    trimmed_through xid8    not null default '0'
);
insert into vestnik.retention default values;
