-- What of the program is in force in this database.

-- Triggers and functions are code, not history: each file of triggers/ is applied again when its text changed.
create table vestnik.code (
    file        text        not null primary key,
    fingerprint text        not null,       -- SHA-256 of the file's text, hex
    applied_at  timestamptz not null default now()
);

-- The shop's tables that carry our triggers. Names, not oids, so that a dump restores.
create table vestnik.attachment (
    table_name    text        not null primary key,   -- schema-qualified and quoted as regclass prints it with an empty search_path
    kind          text        not null check (kind in ('order', 'booking')),
    id_column     text        not null default 'id',
    store_column  text        not null default 'store_id',
    status_column text        not null default 'status',
    deferred      boolean     not null default false,
    fingerprint   text        not null,               -- of the SQL that was generated, so that it is only run again when it changed
    attached_at   timestamptz not null default now()
);

-- The cluster that the journal's transaction numbers belong to. A journal restored into another cluster carries
-- numbers that mean nothing there; `vestnik migrate` sees it here and makes all of them the past.
create table vestnik.cluster (
    sole              boolean not null default true primary key check (sole),
    system_identifier bigint  not null
);
insert into vestnik.cluster (system_identifier) select system_identifier from pg_control_system();
