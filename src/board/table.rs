//! An attached table as the lists read it: by its own columns, and with an index where it has one that fits.

use time::OffsetDateTime;

use crate::attachment::Kind;
use crate::db::Transaction;
use crate::journal::{SUBJECT, SUBJECT_CHARACTERS};
use crate::order::Status;

/// A column, quoted for SQL, and its type.
#[derive(Debug)]
pub struct Column {
    name: String,
    kind: String,
}

impl Column {
    /// Whether a value of the column can have this text. A number or uuid is looked up by its own type, for the sake of
    /// its index, so only the text that Postgres itself would write is one.
    pub fn can_hold(&self, text: &str) -> bool {
        match self.kind.as_str() {
            "smallint" => text.parse().is_ok_and(|number: i16| number.to_string() == text),
            "integer" => text.parse().is_ok_and(|number: i32| number.to_string() == text),
            "bigint" => text.parse().is_ok_and(|number: i64| number.to_string() == text),
            "uuid" => is_uuid(text),
            _ => true,
        }
    }

    /// SQL that compares the column of `row` with a parameter of type text.
    fn is(&self, row: &str, parameter: &str) -> String {
        match self.kind.as_str() {
            "smallint" | "integer" | "bigint" | "uuid" => {
                format!("{row}.{} = {parameter}::{}", self.name, self.kind)
            }
            _ => format!("{row}.{}::text = {parameter}", self.name),
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// An attached table.
#[derive(Debug)]
pub struct Table {
    name: String,
    /// The row's id.
    pub id: Column,
    store: Column,
    status: Column,
    /// The values that the status may have, where its type is an enum.
    labels: Option<Vec<String>>,
    /// The function that says what the event of a new row says.
    inserted: String,
    /// The type of `created_at`, where it is a time.
    created: Option<String>,
    /// The same of `updated_at`.
    updated: Option<String>,
    /// Which of the columns that may be missing are there.
    others: Vec<String>,
    /// Whether an index has the rows of each status in their order.
    by_status: bool,
}

/// Of which statuses a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Of all.
    Any,
    /// Of those in the third parameter.
    These,
}

/// The row behind which a page begins.
#[derive(Debug)]
pub struct Anchor {
    /// The place of its table among the tables.
    pub place: usize,
    /// When it was made, where its table says so.
    pub at: Option<OffsetDateTime>,
    /// Its id.
    pub id: String,
}

/// The attached tables of a kind.
pub async fn tables(transaction: &Transaction<'_>, kind: Kind) -> Result<Vec<Table>, tokio_postgres::Error> {
    const TABLES: &str = "select a.table_name, vestnik.emitter(a.table_name, 'inserted'), \
             quote_ident(a.id_column), format_type(i.atttypid, null), quote_ident(a.store_column), format_type(s.atttypid, null), \
             quote_ident(a.status_column), format_type(c.atttypid, null), \
             (select array_agg(l.enumlabel::text) from pg_enum l where l.enumtypid = c.atttypid), \
             (select format_type(o.atttypid, null) from pg_attribute o where o.attrelid = i.attrelid and o.attname = 'created_at' \
                and o.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)), \
             (select format_type(o.atttypid, null) from pg_attribute o where o.attrelid = i.attrelid and o.attname = 'updated_at' \
                and o.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)), \
             array(select o.attname::text from pg_attribute o where o.attrelid = i.attrelid and not o.attisdropped \
                and o.attname in ('reason', 'order_type')), \
             c.attnotnull and exists (select from pg_index x join pg_attribute o on o.attrelid = i.attrelid \
                and o.attname = 'created_at' and o.attnum = x.indkey[1] where x.indrelid = i.attrelid and x.indisvalid \
                and x.indpred is null and x.indkey[0] = c.attnum) \
         from vestnik.attachment a \
         join pg_attribute i on i.attrelid = to_regclass(a.table_name) and i.attname = a.id_column \
         join pg_attribute s on s.attrelid = i.attrelid and s.attname = a.store_column \
         join pg_attribute c on c.attrelid = i.attrelid and c.attname = a.status_column \
         where a.kind = $1 order by 1";
    let statement = transaction.prepare_cached(TABLES).await?;
    let rows = transaction.query(&statement, &[&kind.as_str()]).await?;
    let read = |row: &tokio_postgres::Row| {
        let column = |at: usize| {
            Ok::<_, tokio_postgres::Error>(Column {
                name: row.try_get(at)?,
                kind: row.try_get(at + 1)?,
            })
        };
        Ok(Table {
            name: row.try_get(0)?,
            inserted: row.try_get(1)?,
            id: column(2)?,
            store: column(4)?,
            status: column(6)?,
            labels: row.try_get(8)?,
            created: row.try_get(9)?,
            updated: row.try_get(10)?,
            others: row.try_get(11)?,
            by_status: row.try_get(12)?,
        })
    };
    rows.iter().map(read).collect()
}

/// SQL that writes a time as the wire has it.
fn wire_time(expression: &str) -> String {
    format!(r#"to_char(({expression})::timestamptz at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#)
}

impl Table {
    /// Whether rows of this store can be in it.
    pub fn can_have(&self, store: &str) -> bool {
        self.store.can_hold(store)
    }

    /// Of these statuses, those that its rows may have.
    pub fn known(&self, statuses: &[Status]) -> Vec<String> {
        let names = statuses.iter().map(|status| status.as_str());
        let known = names.filter(|name| {
            let labels = self.labels.as_ref();
            labels.is_none_or(|labels| labels.iter().any(|label| label == name))
        });
        known.map(str::to_owned).collect()
    }

    fn has(&self, column: &str) -> bool {
        self.others.iter().any(|other| other == column)
    }

    /// When the row of `$2` was made.
    pub fn anchor_sql(&self) -> String {
        let at = match &self.created {
            Some(_) => "t.created_at::timestamptz",
            None => "null::timestamptz",
        };
        let (store, id) = (self.store.is("t", "$1"), self.id.is("t", "$2"));
        format!("select {at} from {} t where {store} and {id}", self.name)
    }

    /// A page: when each row was made, its status, whether it is delivered, and what is told of it.
    ///
    /// `$1`: the store, `$2`: rows at most, `$3`: the statuses, `$4` and `$5`: when the anchor was made, and its id.
    pub fn list_sql(&self, kind: Kind, place: usize, anchor: Option<&Anchor>, of: Of) -> String {
        let Table { name, id, status, .. } = self;
        let (at, order) = match &self.created {
            Some(_) => ("page.at::timestamptz", "page.at desc, page.id desc"),
            None => ("page.at", "page.id desc"),
        };
        let delivered = match self.has("order_type") {
            true => "coalesce(t.order_type::text = 'delivery', false)",
            false => "false",
        };
        // What is picked first is only where the rows are: so no more payloads are made than are sent.
        format!(
            "with recursive {pick} \
             select {at}, t.{status}::text, {delivered}, ({told})::text \
             from page join {name} t on t.ctid = page.place and t.tableoid = page.part {joins} order by {order}",
            pick = self.pick(place, anchor, of),
            status = status.name,
            told = self.told(),
            joins = joins(kind, &id.name),
        )
    }

    /// Where the rows of a page are, in their order: as `page`.
    fn pick(&self, place: usize, anchor: Option<&Anchor>, of: Of) -> String {
        let (at, order) = match &self.created {
            Some(_) => ("t.created_at", "t.created_at desc, "),
            None => ("null::timestamptz", ""),
        };
        let (status, kind) = (format!("t.{}", self.status.name), &self.status.kind);
        let rows = |also: &str| {
            let mut wheres = vec![self.store.is("t", "$1")];
            wheres.extend(anchor.map(|anchor| self.behind(place, anchor)));
            format!(
                "select t.ctid as place, t.tableoid as part, {at} as at, t.{id} as id from {name} t \
                 where {wheres}{also} order by {order}t.{id} desc limit $2",
                id = self.id.name,
                name = self.name,
                wheres = wheres.join(" and "),
            )
        };
        // An enum is compared with its own labels, and everything else as text.
        let (these, compared) = match &self.labels {
            Some(_) => (format!("$3::text[]::{kind}[]"), status.clone()),
            None => ("$3::text[]".to_owned(), format!("{status}::text")),
        };
        // By an index that has the rows of each status in their order, the newest of each are read, and of those the
        // newest: a shop has few statuses and many rows. Otherwise whatever other index there is may do.
        let each = |from: &str, compared: &str| {
            let rows = rows(&format!(" and {compared} = s.status"));
            format!(
                "page as (select p.* from {from} cross join lateral ({rows}) p order by p.at desc, p.id desc limit $2)"
            )
        };
        match of {
            Of::These if self.by_status => each(&format!("unnest({these}) as s(status)"), &compared),
            Of::These => format!("page as ({})", rows(&format!(" and {compared} = any ({these})"))),
            Of::Any if self.by_status => {
                let least = |also: &str| {
                    format!(
                        "select {status} as status from {} t {also}order by {status} limit 1",
                        self.name
                    )
                };
                format!(
                    "known as (({first}) union all select ({next}) from known k where k.status is not null), {page}",
                    first = least(""),
                    next = least(&format!("where {status} > k.status ")),
                    page = each("known s", &status)
                )
            }
            Of::Any => format!("page as ({})", rows("")),
        }
    }

    /// What is told of a row: what its event would say, and how it stands.
    fn told(&self) -> String {
        let mut members = vec![
            format!("'id', t.{}::text", self.id.name),
            format!("'status', t.{}::text", self.status.name),
            "'event_id', e.id::text".to_owned(),
            "'acknowledged', coalesce(e.acknowledged, false)".to_owned(),
            "'answer', a.answer".to_owned(),
        ];
        let times = [("created_at", &self.created), ("updated_at", &self.updated)];
        members.extend(
            times
                .iter()
                .filter(|(_, there)| there.is_some())
                .map(|(column, _)| format!("'{column}', {}", wire_time(&format!("t.{column}")))),
        );
        if self.has("reason") {
            members.push("'reason', t.reason::text".to_owned());
        }
        format!(
            "({inserted}(t) - array['order_ids', 'order_id', 'booking_id', 'next']) || jsonb_strip_nulls(jsonb_build_object({members}))",
            inserted = self.inserted,
            members = members.join(", ")
        )
    }

    /// What stands behind the anchor in the list: the newest first, those without a time before them, and where the
    /// times are the same, table by table.
    fn behind(&self, place: usize, anchor: &Anchor) -> String {
        let id = format!("t.{} < $5::text::{}", self.id.name, self.id.kind);
        let same = place == anchor.place;
        let earlier = place < anchor.place;
        match (&self.created, anchor.at) {
            (None, _) if same => id,
            (None, None) if !earlier => "true".to_owned(),
            (None, _) => "false".to_owned(),
            (Some(kind), Some(_)) if same => {
                format!(
                    "(t.created_at, t.{id}) < ($4::{kind}, $5::text::{id_kind})",
                    id = self.id.name,
                    id_kind = self.id.kind
                )
            }
            (Some(kind), Some(_)) if earlier => format!("t.created_at < $4::{kind}"),
            (Some(kind), Some(_)) => format!("t.created_at <= $4::{kind}"),
            (Some(_), None) if same => format!("(t.created_at is not null or {id})"),
            (Some(_), None) if earlier => "t.created_at is not null".to_owned(),
            (Some(_), None) => "true".to_owned(),
        }
    }
}

/// The event that told of the row, and who answered for it last.
fn joins(kind: Kind, id: &str) -> String {
    let (kind, at) = (kind.as_str(), wire_time("a.at"));
    format!(
        "left join lateral (select e.id, exists (select from vestnik.ack k where k.event_id = e.id) as acknowledged \
             from vestnik.event e where e.store_id = $1 and e.subject = left(t.{id}::text, {SUBJECT_CHARACTERS}) \
               and e.type = 'new_{kind}' and {SUBJECT} = t.{id}::text order by e.id desc limit 1) e on true \
         left join lateral (select jsonb_build_object('by', a.by_whom, 'at', {at}, 'status', a.status, 'minutes', a.minutes) as answer \
             from vestnik.answer a where a.store_id = $1 and a.kind = '{kind}' and a.key = t.{id}::text \
             order by a.id desc limit 1) a on true"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_only_the_text_that_postgres_writes() {
        let column = |kind: &str| Column {
            name: "id".into(),
            kind: kind.into(),
        };
        assert!(column("bigint").can_hold("-7") && column("text").can_hold("007"));
        for text in ["07", "+7", " 7", "7.0", "", "9223372036854775808"] {
            assert!(!column("bigint").can_hold(text), "{text}");
        }
        assert!(!column("smallint").can_hold("40000"));
        assert!(column("uuid").can_hold("c0ffee00-0000-4000-8000-00000000000a"));
        for text in [
            "C0FFEE00-0000-4000-8000-00000000000A",
            "{c0ffee00-0000-4000-8000-00000000000a}",
            "7",
        ] {
            assert!(!column("uuid").can_hold(text), "{text}");
        }
    }
}
