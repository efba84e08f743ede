//! Reads the current state of an order from the shop's table, before a person's answer changes the order.

use crate::infra::db::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::CurrentStatus;
use super::answer_error::is_denied;
use super::denied::report_denied;
use crate::domain::Subject;
use crate::domain::event::StoreId;
use crate::domain::status::SubjectKind;
use crate::infra::db::{self, QueryError};
use crate::sources::list::TypedColumn;
use crate::sources::lookup_results::LookupResult;
use crate::sources::mapping::{Column, StoreRef};
use crate::sources::sql::{CAST_TYPE, columns_json, ident, literal, value_text};
use crate::sources::{Context, Source, Sources};

/// The current state of an order, with its source and the columns of its table. `by` is the name of the person who set
/// the current status with a button. `None`: the status was not set with a button.
pub struct CurrentOrder<'a> {
    pub source: &'a Source,
    pub table: AnswerTable,
    pub subject: Subject,
    /// The status word in the shop's table; `None`: the column is null.
    pub word: Option<String>,
    pub by: Option<String>,
}

impl CurrentOrder<'_> {
    /// The order's current state, as shown to the person who answers the order.
    pub fn current_status(&self) -> CurrentStatus {
        CurrentStatus {
            source: self.source.name.to_string(),
            status: self.subject.status,
            word: self.subject.status_word.clone(),
            by: self.by.clone(),
            is_delivered: self.subject.is_delivered(),
        }
    }
}

/// The columns of the shop's table with their types, for the SQL that writes a person's answer.
pub struct AnswerTable {
    /// The column of the row's key.
    pub key: TypedColumn,
    columns: Vec<AnswerColumn>,
}

/// A column of the shop's table.
pub struct AnswerColumn {
    pub name: String,
    /// The column's type in SQL, with its precision.
    pub kind: String,
    /// Whether the column may be null.
    pub is_nullable: bool,
    /// Whether the column's type is one of Postgres' string types, such as `text` or `varchar`.
    is_text: bool,
}

impl AnswerColumn {
    /// Returns an SQL expression that has the column's type. Its value is that of `text`, an SQL expression of type
    /// text. A string column gets no cast, because a cast to `varchar(5)` silently cuts a long text. Without a cast,
    /// Postgres rejects the long text.
    pub fn of_text(&self, text: &str) -> String {
        match self.is_text {
            true => text.to_owned(),
            false => format!("{text}::{}", self.kind),
        }
    }
}

impl AnswerTable {
    /// The column with this name; `None`: the table no longer has it.
    pub fn column(&self, name: &str) -> Option<&AnswerColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// An SQL expression for this column of the row `t` as text.
    pub fn text_of(&self, column: &Column) -> String {
        let kind = self.column(&column.name).map_or("text", |column| column.kind.as_str());
        value_text(&column.name, &column.path, kind)
    }
}

/// Finds the order with this key and store in each source of this kind. `source` is the name of the only source to
/// search; `None`: all sources. If a table cannot be read, the error is logged and its source is skipped. If a source
/// was skipped and no other source has the order, the error is returned.
pub async fn find<'a>(
    transaction: &mut Transaction<'_>,
    sources: &'a Sources,
    store: &StoreId,
    kind: SubjectKind,
    source: Option<&str>,
    key: &str,
) -> Result<Vec<CurrentOrder<'a>>, QueryError> {
    let mut found = Vec::new();
    let meant = sources
        .all()
        .into_iter()
        .filter(|it| it.mapping.kind == kind && source.is_none_or(|name| it.name.as_ref() == name));
    let mut unreadable = None;
    for source in meant {
        let savepoint = transaction.savepoint().await?;
        let context = Context {
            currency: sources.currency_of(store),
            lookup: LookupResult::Nothing,
        };
        match find_in(&savepoint, source, store, key, context).await {
            Ok(current_order) => {
                savepoint.commit().await?;
                found.extend(current_order);
            }
            Err(error) if error.as_db_error().is_some() => {
                savepoint.rollback().await?;
                tracing::warn!(
                    source = &*source.name,
                    error = db::reason(&error),
                    "an order was not looked for in a source"
                );
                unreadable = Some((source, error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    match unreadable {
        Some((source, error)) if found.is_empty() => {
            if is_denied(&error) {
                report_denied(&*transaction, source, &error).await;
            }
            Err(error.into())
        }
        _ => Ok(found),
    }
}

async fn find_in<'a>(
    transaction: &Transaction<'_>,
    source: &'a Source,
    store: &StoreId,
    key: &str,
    context: Context<'_>,
) -> Result<Option<CurrentOrder<'a>>, tokio_postgres::Error> {
    let Some(table) = answer_table(transaction, source).await? else {
        // The table or the column of its key has another name now. This statement fails, and its error names it.
        let key = ident(&source.mapping.key);
        let missing = format!("select t.{key} from {} t limit 0", source.table);
        transaction.query_typed(&missing, &[]).await?;
        return Ok(None);
    };
    if !table.key.can_hold(key) {
        return Ok(None);
    }
    let recorded = source
        .mapping
        .recorded_columns()
        .into_iter()
        .map(|name| (name, table.column(name).map(|column| column.kind.as_str())));
    let sql = format!(
        "select vestnik.vst_readable({})::text, \
             (select a.by_whom from vestnik.vst_status_change a where a.source = $3 and a.key = $1 and a.store_id = $2 order by a.id desc limit 1), \
             (select a.status from vestnik.vst_status_change a where a.source = $3 and a.key = $1 and a.store_id = $2 order by a.id desc limit 1), \
             vestnik.vst_readable({}) \
         from {} t where {} and t.{}::text = $1 and {}",
        columns_json("t", recorded),
        table.text_of(&source.mapping.status.column),
        source.table,
        table.key.is("t", "$1"),
        ident(&source.mapping.key),
        store_is(source, "$2"),
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&key, Type::TEXT),
        (&store.as_str(), Type::TEXT),
        (&source.id.0, Type::INT4),
    ];
    let Some(row) = transaction.query_typed_opt(&sql, &parameters).await? else {
        return Ok(None);
    };
    let subject = source.translate(key, row.try_get(0)?, context);
    let by: Option<String> = row.try_get(1)?;
    let answered: Option<&str> = row.try_get(2)?;
    Ok(Some(CurrentOrder {
        source,
        table,
        word: row.try_get(3)?,
        by: by.filter(|_| answered == Some(subject.status.as_str())),
        subject,
    }))
}

async fn answer_table(
    transaction: &Transaction<'_>,
    source: &Source,
) -> Result<Option<AnswerTable>, tokio_postgres::Error> {
    let sql = format!(
        "select attname::text, {CAST_TYPE}, format_type(atttypid, atttypmod), typcategory = 'S', not attnotnull \
         from pg_attribute a join pg_type t on t.oid = atttypid where attrelid = to_regclass($1) and attnum > 0 and not attisdropped"
    );
    let rows = transaction.query_typed(&sql, &[(&source.table, Type::TEXT)]).await?;
    let mut columns = Vec::with_capacity(rows.len());
    let mut key = None;
    for row in &rows {
        let name: String = row.try_get(0)?;
        if name == source.mapping.key {
            key = Some(TypedColumn::new(&name, row.try_get(1)?));
        }
        columns.push(AnswerColumn {
            name,
            kind: row.try_get(2)?,
            is_text: row.try_get(3)?,
            is_nullable: row.try_get(4)?,
        });
    }
    Ok(key.map(|key| AnswerTable { key, columns }))
}

/// Returns an SQL condition: the row `t` belongs to the store whose id is the query parameter `parameter`, such as
/// `$1`.
pub fn store_is(source: &Source, parameter: &str) -> String {
    match &source.mapping.store {
        StoreRef::Column(name) => format!("t.{}::text = {parameter}", ident(name)),
        StoreRef::Constant(store) => format!("{parameter} = {}", literal(store)),
    }
}
