//! The tables that the writers write. Each table is a source with its own mapping. The orders are the table of the
//! reference shop. The tickets have other column names and other words for statuses. The meals are a derived source of
//! two tables.

use crate::support::db::Database;

const TABLES: &str = "create sequence ticket_number; \
     create table tickets (ref text primary key default 't' || nextval('ticket_number'), branch bigint not null, \
         state text not null default 'new', guest text, why text); \
     create sequence meal_number; \
     create table meals (ref text primary key default 'm' || nextval('meal_number'), branch bigint not null, guest text); \
     create table dishes (meal text, name text); \
     create index on dishes (meal)";

/// Saves the tag of each written row in the table `written`, in the same transaction. After a loss of commits, this
/// table shows which changes the database still has. The test need not trust Vestnik's own tables for this.
const WRITTEN: &str = "create table written (tag text); \
     create function save_tag() returns trigger language plpgsql as $$ begin \
         insert into written select to_jsonb(new) ->> tg_argv[case tg_op when 'INSERT' then 0 else 1 end]; \
         return null; end $$; \
     create trigger save_tag after insert or update on orders for each row execute function save_tag('customer_name', 'reason'); \
     create trigger save_tag after insert or update on tickets for each row execute function save_tag('guest', 'why'); \
     create trigger save_tag after insert on meals for each row execute function save_tag('guest')";

const TICKETS: &str = r#"
table = "public.tickets"
kind = "order"
key = "ref"
store = "branch"

[status]
column = "state"
pending = ["new"]
preparing = ["cooking"]
ready = ["on the pass"]
completed = ["gone"]
rejected = ["declined"]
cancelled = ["void"]

[fields]
customer_name = "guest"

[answer]
reason = "why"
"#;

const MEALS: &str = r#"
table = "public.meals"
kind = "order"
key = "ref"

[derived]
store = "o.branch"
status = "'pending'"
customer_name = "o.guest"
items = "select d.name, 1 as quantity from dishes d where d.meal = o.ref"

[[derived.watch]]
table = "dishes"
column = "meal"
"#;

/// SQL that inserts a meal of the store `$1` with the tag `$2` and one dish, and returns the meal's key.
pub const INSERT_MEAL: &str = "with meal as (insert into meals (branch, guest) values ($1, $2) returning ref), \
     dish as (insert into dishes select ref, 'soup' from meal) select ref from meal";

/// A table whose rows the writers insert and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Orders,
    Tickets,
}

impl Table {
    /// SQL that inserts a row of the store `$1` with the tag `$2`, and returns the row's number.
    pub fn insert(self) -> &'static str {
        match self {
            Self::Orders => "insert into orders (store_id, customer_name) values ($1, $2) returning id",
            Self::Tickets => "insert into tickets (branch, guest) values ($1, $2) returning substr(ref, 2)::bigint",
        }
    }

    /// SQL that sets the status `$2` and the tag `$3` of the row with the number `$1`. Returns the row's earlier status
    /// and its store. If the row has the status `$2` already, the statement changes nothing and creates no event.
    pub fn update(self) -> &'static str {
        match self {
            Self::Orders => {
                "with before as (select id, status, store_id from orders where id = $1 for update) \
                 update orders o set status = $2, reason = $3 from before where o.id = before.id and before.status <> $2 \
                 returning before.status, before.store_id"
            }
            Self::Tickets => {
                "with before as (select ref, state, branch from tickets where ref = 't' || $1::bigint for update) \
                 update tickets t set state = $2, why = $3 from before where t.ref = before.ref and before.state <> $2 \
                 returning before.state, before.branch"
            }
        }
    }

    /// The table's words for [`STATUSES`](super::writer::STATUSES).
    pub fn words(self) -> [&'static str; 6] {
        match self {
            Self::Orders => super::writer::STATUSES,
            Self::Tickets => ["new", "cooking", "on the pass", "gone", "declined", "void"],
        }
    }

    /// The `order_id` that the events of this row have.
    pub fn key(self, number: i64) -> String {
        match self {
            Self::Orders => number.to_string(),
            Self::Tickets => format!("t{number}"),
        }
    }
}

/// Creates the tables of tickets and meals, and attaches them.
pub async fn attach(database: &Database) {
    for sql in [TABLES, WRITTEN] {
        database.client().await.batch_execute(sql).await.unwrap();
    }
    for mapping in [TICKETS, MEALS] {
        database.attach(mapping).await;
    }
}
