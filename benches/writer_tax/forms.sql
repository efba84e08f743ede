-- The forms of a trigger that `forms.rs` compares: each on a table of its own, like the reference shop's orders.
--
-- One form is where all choices are made alike, and each other one differs from it in one thing. So the defaults of the
-- table below are that form, and each row says only in what it differs. (That a trigger's function be in SQL instead of
-- plpgsql is no choice: Postgres allows none. What it calls may be.)

create schema forms;

-- The journals that the forms write to, by what their rows carry and their indexes.
create table forms.two_indexes (
    id       bigint      not null generated always as identity (cache 1) primary key,
    xid      xid8        not null default pg_current_xact_id(),
    store_id text,
    type     text        not null,
    at       timestamptz not null default clock_timestamp(),
    data     jsonb       not null
);
create index on forms.two_indexes (xid);
create table forms.one_index (like forms.two_indexes including all);
create index on forms.two_indexes (store_id, xid);

create table forms.of_json (like forms.two_indexes including all);
alter table forms.of_json alter data type json;
create table forms.of_text (like forms.two_indexes including all);
alter table forms.of_text alter data type text;

create table forms.index_on_data (like forms.two_indexes including all);
create index on forms.index_on_data (store_id, "left"(coalesce(data ->> 'order_id', data ->> 'booking_id'), 64), id)
    where type in ('new_order', 'new_booking');
create table forms.subject (like forms.two_indexes including all);
alter table forms.subject add column subject text;
create table forms.index_on_subject (like forms.subject including all);
create index on forms.index_on_subject (store_id, subject, id);

-- Where somebody reads anyway, as in this bench, the bell is asked, and refuses.
create function forms.ring() returns void language plpgsql as $$
begin
    if vestnik.vst_should_notify() then
        raise 'the bell is not mute';
    end if;
end $$;

-- What an event says, as functions. The first is inlined where it is called; a limit keeps the second from that, and a
-- setting the third, which a function has that must be safe from its caller's search path.
create function forms.inlined(n public.orders) returns jsonb language sql stable as $$
    select jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status,
        'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items)
$$;
create function forms.called(n public.orders) returns jsonb language sql stable as $$
    select jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status,
        'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items) limit 1
$$;
create function forms.called_pinned(n public.orders) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status,
        'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items)
$$;
create function forms.called_plpgsql(n public.orders) returns jsonb language plpgsql stable as $$
begin
    return jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status,
        'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items);
end $$;

create table forms.form (
    place      integer not null generated always as identity primary key,
    name       text    not null,               -- its table's
    title      text    not null,
    at_writers boolean not null default false, -- also measured by many writers at once
    target     text,                           -- its table where that is there already: then with the triggers that it has
    -- From here on what a form is made of. In braces stand the columns after this one.
    firing     text    default 'referencing new table as inserted_rows for each statement',
    safety     text    not null default 'security definer set search_path = pg_catalog, pg_temp',
    declares   text    not null default '',
    body       text    not null default $$
        {declares}
        begin
            if current_setting('vestnik.quiet', true) = 'on' then
                return null;
            end if;
            {write}
            return null;
        end $$,
    write      text    not null default $$
            insert into {journal} ({columns}) select {cells} from inserted_rows n;
            if found and vestnik.vst_should_notify() then
                raise 'the bell is not mute';
            end if;$$,
    journal    text    not null default 'forms.two_indexes',
    columns    text    not null default 'store_id, type, data',
    cells      text    not null default $$n.store_id::text, 'new_order', {data}$$,
    data       text    not null default $$jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text,
        'status', n.status, 'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items)$$
);

insert into forms.form (name, title, at_writers, firing) values ('none', 'no trigger', true, null);
insert into forms.form (name, title, at_writers) values
    ('plain', 'plain: inline jsonb, one statement, two indexes, by statement', true);

insert into forms.form (name, title, data) values
    ('data_constant', 'what it says: a constant', $$'{"order_id": "1"}'$$),
    ('data_inlined', 'what it says: an SQL function, inlined', 'forms.inlined(row(n.*)::public.orders)'),
    ('data_called', 'what it says: an SQL function, called', 'forms.called(row(n.*)::public.orders)'),
    ('data_called_pinned', 'what it says: an SQL function with a search path of its own', 'forms.called_pinned(row(n.*)::public.orders)'),
    ('data_called_plpgsql', 'what it says: a plpgsql function', 'forms.called_plpgsql(row(n.*)::public.orders)');

insert into forms.form (name, title, declares, write) values
    ('two_returning', 'two statements: returning into, then the bell', 'declare rung record;', $$
            insert into {journal} ({columns}) select {cells} from inserted_rows n returning id, xid, store_id, type into rung;
            perform forms.ring();$$),
    ('two_variable', 'two statements: what it says into a variable, then the insert', 'declare said jsonb;', $$
            select {data} into said from inserted_rows n;
            insert into {journal} ({columns}) select n.store_id::text, 'new_order', said from inserted_rows n;
            if found and vestnik.vst_should_notify() then
                raise 'the bell is not mute';
            end if;$$);

insert into forms.form (name, title, at_writers, journal, data) values
    ('json', 'data is json', true, 'forms.of_json', $$json_build_object('order_ids', json_build_array(n.id::text), 'order_id', n.id::text,
        'status', n.status, 'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items)$$),
    ('text', 'data is text, put together by hand', false, 'forms.of_text', $$concat('{"order_ids":["', n.id, '"],"order_id":"', n.id,
        '","status":', to_json(n.status), ',"customer_name":' || to_json(n.customer_name), ',"total":' || n.total,
        ',"order_type":' || to_json(n.order_type), ',"items":' || n.items::text, '}')$$);

insert into forms.form (name, title, at_writers, journal) values
    ('one_index', 'indexes: without the one on (store_id, xid)', true, 'forms.one_index'),
    ('index_on_data', 'indexes: one more on data ->> ''order_id''', true, 'forms.index_on_data');
insert into forms.form (name, title, at_writers, journal, columns, cells) values
    ('subject', 'a column subject, not indexed', false, 'forms.subject', 'store_id, type, data, subject',
        $$n.store_id::text, 'new_order', {data}, n.id::text$$),
    ('index_on_subject', 'indexes: one more on a column subject', true, 'forms.index_on_subject', 'store_id, type, data, subject',
        $$n.store_id::text, 'new_order', {data}, n.id::text$$);

insert into forms.form (name, title, at_writers, firing, declares, write) values
    ('by_row', 'by row', true, 'for each row', 'declare n alias for new;', $$
            insert into {journal} ({columns}) values ({cells});
            if found and vestnik.vst_should_notify() then
                raise 'the bell is not mute';
            end if;$$);
insert into forms.form (name, title, safety) values
    ('unsafe', 'no security definer, no search path of its own', ''),
    ('definer_only', 'security definer alone', 'security definer');

insert into forms.form (name, title, at_writers, target, journal, firing) values
    ('shipped', 'the shipped trigger', true, 'public.orders', 'vestnik.vst_event', null);

-- Makes the tables, the triggers, and what measures each: microseconds an INSERT in a loop.
do $$
declare
    form forms.form;
    body text;
begin
    for form in select * from forms.form order by place loop
        if form.target is null then
            form.target := format('forms.t_%s', form.name);
            execute format('create table %s (like public.orders including all)', form.target);
            update forms.form f set target = form.target where f.place = form.place;
        end if;
        if form.firing is not null then
            body := replace(replace(replace(form.body, '{declares}', form.declares), '{write}', form.write), '{journal}', form.journal);
            body := replace(replace(replace(body, '{columns}', form.columns), '{cells}', form.cells), '{data}', form.data);
            execute format('create function forms.emit_%s() returns trigger language plpgsql %s as %L', form.name, form.safety, body);
            execute format('create trigger emit after insert on %s %s execute function forms.emit_%s()',
                           form.target, form.firing, form.name);
        end if;
        execute format($f$
            create function forms.microseconds_%s(inserts integer) returns double precision language plpgsql as $body$
            declare
                begun constant timestamptz := clock_timestamp();
            begin
                for i in 1..inserts loop
                    insert into %s (store_id, customer_name, total, order_type, items)
                    values (i %% 16, 'Иван', 50000, 'delivery', '[{"name": "Пицца", "count": 2}]');
                end loop;
                return extract(epoch from clock_timestamp() - begun) * 1e6 / inserts;
            end $body$ $f$, form.name, form.target);
    end loop;
end $$;
