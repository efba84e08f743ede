//! Generates the SQL with which a list reads the table of a source. The conditions use the table's own column types, so
//! that Postgres can use an index.

use crate::infra::db::Transaction;
use time::OffsetDateTime;
use tokio_postgres::types::Type;

use crate::domain::status::Status;
use crate::sources::Source;
use crate::sources::mapping::{Column, StoreRef};
use crate::sources::sql::{CAST_TYPE, columns_json, ident, literal, value_text};
use crate::sources::yes_no::says_no_sql;

/// A column of a shop's table with its SQL type.
#[derive(Debug, Clone)]
pub struct TypedColumn {
    /// The column's name, quoted for SQL.
    name: String,
    /// The column's type in SQL without its precision, such as `bigint`.
    kind: String,
}

impl TypedColumn {
    /// Creates the column from its name, unquoted, and its type in SQL without the precision.
    pub fn new(name: &str, kind: String) -> Self {
        let name = ident(name);
        Self { name, kind }
    }

    /// Whether a value of the column's type can have exactly this text form. The SQL compares numbers and uuids in
    /// their own type, so that Postgres can use an index. Without this check, another spelling such as `007` would
    /// match the number 7.
    pub fn can_hold(&self, text: &str) -> bool {
        match self.kind.as_str() {
            "smallint" => text.parse().is_ok_and(|number: i16| number.to_string() == text),
            "integer" => text.parse().is_ok_and(|number: i32| number.to_string() == text),
            "bigint" => text.parse().is_ok_and(|number: i64| number.to_string() == text),
            "uuid" => is_uuid(text),
            _ => true,
        }
    }

    /// Returns an SQL condition: this column equals the text parameter `parameter`, such as `$1`. `row` is the table's
    /// alias.
    pub fn is(&self, row: &str, parameter: &str) -> String {
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

/// Where a row's store id comes from: a column, or one constant for all rows.
#[derive(Debug, Clone)]
enum Store {
    Column(TypedColumn),
    Constant(String),
}

/// The table of a source with its current columns, prepared for the SQL of lists.
#[derive(Debug)]
pub struct SourceTable<'a> {
    /// The source with its mapping.
    pub source: &'a Source,
    /// The column of the row's key.
    pub key: TypedColumn,
    store: Store,
    /// An SQL expression for the status word as text; `t` is the table's alias.
    status: String,
    /// The status column, quoted for SQL. `None`: the table has no index that starts with the status column and the
    /// creation time. A list then cannot read the newest rows of each status by index.
    indexed_status: Option<String>,
    /// The column of the creation time; `None`: the table has no sortable column for it.
    created: Option<TypedColumn>,
    /// An SQL condition: the row `t` is not soft-deleted. `None`: the mapping has no column that marks deleted rows.
    alive: Option<String>,
    /// An SQL expression for the recorded columns of the row `t` as a JSON object. A missing column is null.
    recorded: String,
}

/// The row after which a page begins: the last row of the previous page.
#[derive(Debug)]
pub struct Anchor {
    /// The index of the row's table among the tables that the list reads.
    pub place: usize,
    /// The row's creation time. `None`: the table has no column for the creation time, or the value is null.
    pub at: Option<OffsetDateTime>,
    /// The row's key.
    pub key: String,
}

/// The statuses of the orders or bookings to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusFilter {
    /// Every status. Hidden and deleted orders are still left out.
    Any,
    /// Only these statuses.
    These(Vec<Status>),
}

impl<'a> SourceTable<'a> {
    /// Reads the table's current columns. `None`: the table lacks the column of the status, the key, or the store.
    pub async fn look(
        transaction: &Transaction<'_>,
        source: &'a Source,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let sql = format!(
            "select a.attname::text, {CAST_TYPE}, \
                 exists (select from pg_index x join pg_attribute c on c.attrelid = a.attrelid and c.attname = $2 and c.attnum = x.indkey[1] \
                    where x.indrelid = a.attrelid and x.indisvalid and x.indpred is null and x.indkey[0] = a.attnum) \
             from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped"
        );
        let mapping = &source.mapping;
        let created = mapping
            .fields
            .created_at
            .as_ref()
            .map(|created| &created.column)
            .filter(|column| column.path.is_empty());
        let created_name = created.map_or("", |column| column.name.as_str());
        let rows = transaction
            .query_typed(&sql, &[(&source.table, Type::TEXT), (&created_name, Type::TEXT)])
            .await?;
        let mut columns = Vec::with_capacity(rows.len());
        for row in &rows {
            columns.push((
                row.try_get::<_, String>(0)?,
                row.try_get::<_, String>(1)?,
                row.try_get::<_, bool>(2)?,
            ));
        }
        Ok(Self::of(source, &columns, created))
    }

    fn of(source: &'a Source, columns: &[(String, String, bool)], created: Option<&Column>) -> Option<Self> {
        let mapping = &source.mapping;
        let typed = |name: &str| {
            let (name, kind, _) = columns.iter().find(|(known, ..)| known == name)?;
            Some(TypedColumn {
                name: ident(name),
                kind: kind.clone(),
            })
        };
        let status_column = typed(&mapping.status.column.name)?;
        let status = &mapping.status.column;
        let status = format!("btrim({})", value_text(&status.name, &status.path, &status_column.kind));
        let is_indexed = columns
            .iter()
            .any(|(name, _, indexed)| *indexed && *name == mapping.status.column.name);
        let recorded = mapping.recorded_columns().into_iter().map(|name| {
            let known = columns.iter().find(|(known, ..)| known == name);
            (name, known.map(|(_, kind, _)| kind.as_str()))
        });
        let sortable = |column: &TypedColumn| column.kind.starts_with("timestamp") || column.kind == "date";
        let deleted = mapping.fields.deleted_at.as_ref();
        Some(Self {
            key: typed(&mapping.key)?,
            store: match &mapping.store {
                StoreRef::Column(name) => Store::Column(typed(name)?),
                StoreRef::Constant(store) => Store::Constant(store.clone()),
            },
            status,
            indexed_status: (is_indexed && mapping.status.column.path.is_empty()).then(|| status_column.name.clone()),
            created: created.and_then(|column| typed(&column.name)).filter(sortable),
            alive: deleted.and_then(|column| Some(is_alive(column, &typed(&column.name)?))),
            recorded: columns_json("t", recorded),
            source,
        })
    }

    /// Whether the table can hold rows of the store with this id.
    pub fn can_have(&self, store: &str) -> bool {
        match &self.store {
            Store::Column(column) => column.can_hold(store),
            Store::Constant(constant) => constant == store,
        }
    }

    /// Returns an SQL condition: the row `t` belongs to the store whose id is the query parameter `parameter`, such as
    /// `$1`.
    pub fn is_of_store(&self, parameter: &str) -> String {
        match &self.store {
            Store::Column(column) => column.is("t", parameter),
            Store::Constant(constant) => format!("{parameter} = {}", literal(constant)),
        }
    }

    /// An SQL query for the creation time of one row. `$1` is the store's id, and `$2` is the row's key.
    pub fn anchor_sql(&self) -> String {
        let at = match &self.created {
            Some(created) => readable_time(&format!("t.{}", created.name)),
            None => "null::timestamptz".to_owned(),
        };
        let (store, key) = (self.is_of_store("$1"), self.key.is("t", "$2"));
        format!("select {at} from {} t where {store} and {key}", self.source.table)
    }

    /// SQL for one page: the creation time of each row, its key, and its recorded columns as JSON.
    ///
    /// `$1` is the store's id, `$2` the maximum number of rows, `$3` the words of the wanted statuses. `$4` and `$5`
    /// are the creation time and the key of the anchor (the last row of the previous page). `$6` is every status word
    /// of the mapping.
    pub fn list_sql(&self, place: usize, anchor: Option<&Anchor>, filter: &StatusFilter) -> String {
        let (at, order) = match &self.created {
            Some(_) => (readable_time("page.at"), "page.at desc, page.id desc"),
            None => ("page.at".to_owned(), "page.id desc"),
        };
        // The inner query finds the rows of the page by their physical locations (`ctid`). The outer query then
        // converts only these rows to JSON.
        format!(
            "with recursive {pick} \
             select {at}, vestnik.vst_readable(t.{key}::text), \
                 vestnik.vst_readable({recorded})::text \
             from page join {table} t on t.ctid = page.place and t.tableoid = page.part order by {order}",
            pick = self.pick(place, anchor, filter),
            key = self.key.name,
            recorded = self.recorded,
            table = self.source.table,
        )
    }

    /// SQL that selects the physical locations (`ctid`) of a page's rows, in the order of the list. The SQL has the
    /// same parameters as `list_sql`.
    fn pick(&self, place: usize, anchor: Option<&Anchor>, filter: &StatusFilter) -> String {
        let (at, order) = match &self.created {
            Some(created) => (format!("t.{}", created.name), format!("t.{} desc, ", created.name)),
            None => ("null::timestamptz".to_owned(), String::new()),
        };
        let table = &self.source.table;
        let rows = |also: String| {
            // A row without a key is no order that anybody could name.
            let mut wheres = vec![self.is_of_store("$1"), format!("t.{} is not null", self.key.name), also];
            wheres.extend(self.alive.clone());
            wheres.extend(anchor.map(|anchor| self.rows_after(place, anchor)));
            format!(
                "select t.ctid as place, t.tableoid as part, {at} as at, t.{key} as id from {table} t \
                 where {wheres} order by {order}t.{key} desc limit $2",
                key = self.key.name,
                wheres = wheres.join(" and "),
            )
        };
        // A shop has few statuses and many rows. If an index sorts the rows of each status by time, the query reads the
        // newest rows of each status and merges them. Otherwise the planner chooses how to read the table.
        match &self.indexed_status {
            Some(status) => {
                let least = |also: &str| {
                    format!("select t.{status} as status from {table} t {also}order by t.{status} limit 1")
                };
                // The loop over the statuses compares with `=`, so it finds no row whose status is null. A second query
                // finds these rows.
                let nulls = match wants_unmapped(filter) {
                    true => format!("union all ({})", rows(format!("t.{status} is null"))),
                    false => String::new(),
                };
                format!(
                    "known as (({first}) union all select ({next}) from known k where k.status is not null), \
                     page as (select p.* from (select status from known where {wanted}) s cross join lateral ({rows}) p \
                         {nulls} order by at desc, id desc limit $2)",
                    first = least(""),
                    next = least(&format!("where t.{status} > k.status ")),
                    wanted = is_wanted("btrim(status::text)", filter),
                    rows = rows(format!("t.{status} = s.status")),
                )
            }
            None => format!("page as ({})", rows(is_wanted(&self.status, filter))),
        }
    }

    /// Returns an SQL condition: the row `t` comes after `anchor`, the last row of the previous page. Rows without a
    /// creation time come first in the list; the others follow, newest first. Rows with equal times are sorted by
    /// table.
    fn rows_after(&self, place: usize, anchor: &Anchor) -> String {
        let key = format!("t.{} < $5::text::{}", self.key.name, self.key.kind);
        let same = place == anchor.place;
        let earlier = place < anchor.place;
        let Some(created) = &self.created else {
            return match (same, anchor.at, earlier) {
                (true, ..) => key,
                (false, None, false) => "true".to_owned(),
                _ => "false".to_owned(),
            };
        };
        let (at, kind) = (&created.name, &created.kind);
        match anchor.at {
            Some(_) if same => format!(
                "(t.{at}, t.{0}) < ($4::{kind}, $5::text::{1})",
                self.key.name, self.key.kind
            ),
            Some(_) if earlier => format!("t.{at} < $4::{kind}"),
            Some(_) => format!("t.{at} <= $4::{kind}"),
            None if same => format!("(t.{at} is not null or {key})"),
            None if earlier => format!("t.{at} is not null"),
            None => "true".to_owned(),
        }
    }
}

/// Whether the requested list includes orders with status words that the mapping does not contain. These orders count
/// as `pending`.
fn wants_unmapped(filter: &StatusFilter) -> bool {
    match filter {
        StatusFilter::Any => true,
        StatusFilter::These(statuses) => statuses.contains(&Status::Pending),
    }
}

/// An SQL expression for a creation time that a client can read: `infinity` and years beyond 9999 become the last such
/// day.
fn readable_time(time: &str) -> String {
    format!("case when {time} is not null then least(greatest({time}, '0001-01-02'), '9999-12-30')::timestamptz end")
}

/// Returns an SQL condition: the SQL expression `status` is a word of a wanted status. `$3` has the words of the wanted
/// statuses, and `$6` every status word of the mapping.
fn is_wanted(status: &str, filter: &StatusFilter) -> String {
    match wants_unmapped(filter) {
        true => format!("({status} = any ($3) or {status} is null or {status} <> all ($6))"),
        false => format!("{status} = any ($3)"),
    }
}

/// Returns an SQL condition: the row `t` is not soft-deleted. As in `translate.rs`, null, 0 or a word for no in the
/// column means that the row is not deleted.
fn is_alive(column: &Column, typed: &TypedColumn) -> String {
    let name = format!("t.{}", typed.name);
    let text = match (typed.kind.as_str(), column.path.is_empty()) {
        ("boolean", true) => return format!("{name} is not true"),
        ("smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision", true) => {
            return format!("coalesce({name}, 0) = 0");
        }
        (kind, true) if kind.starts_with("timestamp") || kind == "date" => return format!("{name} is null"),
        ("json" | "jsonb", true) => format!("({name}::jsonb #>> '{{}}')"),
        (kind, _) => value_text(&column.name, &column.path, kind),
    };
    says_no_sql(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_only_the_text_that_postgres_writes() {
        let column = |kind: &str| TypedColumn {
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
