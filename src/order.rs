//! Changes an order's or a booking's status for a person who pressed a button, in the shop's own table, and remembers
//! who it was. The transition is checked in the statement that makes it, so of two people one is first.

use tokio_postgres::types::ToSql;

use crate::attachment::Kind;
use crate::db::{self, Pool};
use crate::event::StoreId;

/// The statuses since V23.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// New: nobody has answered.
    Pending,
    /// Accepted.
    Preparing,
    /// Ready for who takes it.
    Ready,
    /// On its way; only what is delivered.
    Delivering,
    /// Over, well.
    Completed,
    /// Refused by the store.
    Rejected,
    /// Taken back by the customer.
    Cancelled,
}

impl Status {
    const ALL: [Self; 7] = [
        Self::Pending,
        Self::Preparing,
        Self::Ready,
        Self::Delivering,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The name in the tables and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Delivering => "delivering",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// What a person of the store may make of it, the usual first. `delivered`: the order goes to its customer.
    pub fn next(self, kind: Kind, delivered: bool) -> &'static [Self] {
        match (self, kind) {
            (Self::Pending, _) => &[Self::Preparing, Self::Rejected],
            (Self::Preparing, Kind::Order) => &[Self::Ready, Self::Rejected],
            (Self::Preparing, Kind::Booking) => &[Self::Completed, Self::Rejected],
            (Self::Ready, Kind::Order) if delivered => &[Self::Delivering],
            (Self::Ready, _) | (Self::Delivering, _) => &[Self::Completed],
            (Self::Completed | Self::Rejected | Self::Cancelled, _) => &[],
        }
    }
}

/// By which way somebody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A panel's button.
    Panel,
    /// A button below a message.
    Telegram,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Telegram => "telegram",
        }
    }
}

/// What somebody wants.
#[derive(Debug)]
pub struct Change<'a> {
    /// Whose order.
    pub store: &'a StoreId,
    /// Order or booking.
    pub kind: Kind,
    /// Its id, as text.
    pub key: &'a str,
    /// What it should become.
    pub to: Status,
    /// What who wants it believes it to be; where it is not, somebody was first.
    pub from: Option<Status>,
    /// Why, where the table has a column for it.
    pub reason: Option<&'a str>,
    /// How long the preparation will take, as somebody promised, minutes.
    pub minutes: Option<i32>,
    /// Who wants it, as others are told.
    pub by: &'a str,
    /// From where.
    pub way: Way,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Done.
    Done {
        /// What it was.
        previous: String,
    },
    /// It is so already.
    Already {
        /// What it is.
        status: String,
        /// Who made it so, where it was done by a button.
        by: Option<String>,
    },
    /// From where it stands there is no way to there.
    NotAllowed {
        /// What it is.
        status: String,
        /// Who made it so, where it was done by a button.
        by: Option<String>,
    },
    /// The shop's own table does not take it.
    Refused {
        /// What it is.
        status: String,
        /// Who made it so, where it was done by a button.
        by: Option<String>,
    },
    /// The store has no such order.
    Unknown,
}

/// Where the rows of a kind are, quoted for SQL.
struct Table {
    name: String,
    /// Column and type.
    id: (String, String),
    store: String,
    /// Column and type.
    status: (String, String),
    reason: Option<String>,
    order_type: Option<String>,
    updated: Option<String>,
}

/// Where an order stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its status, as the shop's table has it.
    pub status: String,
    /// Who brought it there, where it was done by a button.
    pub by: Option<String>,
    /// Whether it goes to its customer.
    pub delivered: bool,
}

/// Changes the status, if that is allowed from where it stands, and the shop's own table takes it.
pub async fn change_status(pool: &Pool, change: &Change<'_>) -> Result<Changed, db::Failed> {
    db::answered(async {
        let mut client = pool.get().await?;
        for table in tables(&client, change.kind).await? {
            let transaction = client.transaction().await?;
            transaction.execute(LIMITS, &[]).await?;
            let changed = match change_in(&transaction, &table, change).await {
                Err(error) if is_refusal(&error) => {
                    tracing::info!(
                        error = db::reason(&error),
                        "the shop's table refused a change of status"
                    );
                    transaction.rollback().await?;
                    match judge(&client, &table, change).await? {
                        Changed::NotAllowed { status, by } => Changed::Refused { status, by },
                        judged => judged,
                    }
                }
                Ok(Some(previous)) => {
                    transaction.commit().await?;
                    Changed::Done { previous }
                }
                Ok(None) => {
                    transaction.rollback().await?;
                    judge(&client, &table, change).await?
                }
                Err(error) => return Err(error.into()),
            };
            if changed != Changed::Unknown {
                return Ok(changed);
            }
        }
        Ok(Changed::Unknown)
    })
    .await
}

/// Where an order stands; `None`: the store has no such order.
pub async fn stands(pool: &Pool, store: &StoreId, kind: Kind, key: &str) -> Result<Option<Standing>, db::Failed> {
    db::answered(async {
        let client = pool.get().await?;
        for table in tables(&client, kind).await? {
            if let Some(standing) = stands_in(&client, &table, store, kind, key).await? {
                return Ok(Some(standing));
            }
        }
        Ok(None)
    })
    .await
}

/// The row is the shop's. We wait for it no longer than a person waits for a button, and hold it no longer than that,
/// though this process were stopped while it does.
const LIMITS: &str =
    "select set_config('lock_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '5s', true)";

/// Whether Postgres, or a trigger or constraint of the shop's, says that this row does not take this value.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| ["22", "23", "P0"].iter().any(|class| code.starts_with(class)))
}

/// Why it was not changed.
async fn judge(client: &db::Client, table: &Table, change: &Change<'_>) -> Result<Changed, tokio_postgres::Error> {
    let standing = stands_in(client, table, change.store, change.kind, change.key).await?;
    Ok(match standing {
        None => Changed::Unknown,
        Some(Standing { status, by, .. }) if status == change.to.as_str() => Changed::Already { status, by },
        Some(Standing { status, by, .. }) => Changed::NotAllowed { status, by },
    })
}

/// The attached tables of a kind.
async fn tables(client: &db::Client, kind: Kind) -> Result<Vec<Table>, tokio_postgres::Error> {
    const TABLES: &str = "select a.table_name, quote_ident(a.id_column), format_type(i.atttypid, i.atttypmod), \
             quote_ident(a.store_column), quote_ident(a.status_column), format_type(s.atttypid, s.atttypmod), \
             array(select c.attname::text from pg_attribute c where c.attrelid = i.attrelid and not c.attisdropped \
                and c.attname in ('reason', 'order_type', 'updated_at')) \
         from vestnik.attachment a \
         join pg_attribute i on i.attrelid = to_regclass(a.table_name) and i.attname = a.id_column \
         join pg_attribute s on s.attrelid = to_regclass(a.table_name) and s.attname = a.status_column \
         where a.kind = $1 order by 1";
    let statement = client.prepare_cached(TABLES).await?;
    let rows = client.query(&statement, &[&kind.as_str()]).await?;
    let read = |row: &tokio_postgres::Row| {
        let others: Vec<String> = row.try_get(6)?;
        let other = |name: &str| others.iter().find(|other| *other == name).cloned();
        Ok(Table {
            name: row.try_get(0)?,
            id: (row.try_get(1)?, row.try_get(2)?),
            store: row.try_get(3)?,
            status: (row.try_get(4)?, row.try_get(5)?),
            reason: other("reason"),
            order_type: other("order_type"),
            updated: other("updated_at"),
        })
    };
    rows.iter().map(read).collect()
}

/// What it was before; `None`: no such row may be changed so.
async fn change_in(
    transaction: &db::Transaction<'_>,
    table: &Table,
    change: &Change<'_>,
) -> Result<Option<String>, tokio_postgres::Error> {
    let (store, key, to) = (change.store.as_str(), change.key, change.to.as_str());
    let (by, way, kind) = (change.by, change.way.as_str(), change.kind.as_str());
    let statement = transaction.prepare_cached(&change_sql(table, change)).await?;
    let from = change.from.map(Status::as_str);
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &key,
        &store,
        &to,
        &change.reason,
        &kind,
        &way,
        &by,
        &change.minutes,
        &from,
    ];
    let row = transaction.query_opt(&statement, &parameters).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn stands_in(
    client: &db::Client,
    table: &Table,
    store: &StoreId,
    kind: Kind,
    key: &str,
) -> Result<Option<Standing>, tokio_postgres::Error> {
    let statement = client.prepare_cached(&standing_sql(table)).await?;
    let row = match client
        .query_opt(&statement, &[&key, &store.as_str(), &kind.as_str()])
        .await
    {
        // The key is none of the column's type: no row has it.
        Err(error) if error.code().is_some_and(|code| code.code().starts_with("22")) => None,
        row => row?,
    };
    let read = |row: tokio_postgres::Row| {
        Ok(Standing {
            status: row.try_get(0)?,
            by: row.try_get(1)?,
            delivered: row.try_get(2)?,
        })
    };
    row.map(read).transpose()
}

/// Where a row stands, and who brought it there.
fn standing_sql(table: &Table) -> String {
    let (name, (id, id_type), store, (status, _)) = (&table.name, &table.id, &table.store, &table.status);
    let delivered = match &table.order_type {
        Some(column) => format!("coalesce(t.{column}::text = 'delivery', false)"),
        None => "false".to_owned(),
    };
    format!(
        "select coalesce(t.{status}::text, ''), (select a.by_whom from vestnik.answer a where a.store_id = $2 and a.kind = $3 \
           and a.key = $1 and a.status = t.{status}::text order by a.id desc limit 1), {delivered} \
         from {name} t where t.{id} = $1::text::{id_type} and t.{id}::text = $1 and t.{store}::text = $2"
    )
}

/// The change, its check and the note of who made it, in one statement. Whoever comes second waits for the row, and
/// is judged by what the first has left.
fn change_sql(table: &Table, change: &Change<'_>) -> String {
    let (name, (id, id_type), store, (status, status_type)) = (&table.name, &table.id, &table.store, &table.status);
    let allowed = |delivered: bool| {
        let from = Status::ALL
            .iter()
            .filter(|from| from.next(change.kind, delivered).contains(&change.to));
        let from: Vec<String> = from.map(|from| format!("'{}'", from.as_str())).collect();
        if from.is_empty() {
            "false".to_owned()
        } else {
            format!("t.{status}::text in ({})", from.join(", "))
        }
    };
    let may = match &table.order_type {
        Some(column) => {
            let (delivered, fetched) = (allowed(true), allowed(false));
            format!("case when t.{column}::text = 'delivery' then {delivered} else {fetched} end")
        }
        None => allowed(false),
    };
    let mut set = vec![format!("{status} = $3::text::{status_type}")];
    set.extend(
        table
            .reason
            .iter()
            .map(|reason| format!("{reason} = coalesce($4::text, t.{reason})")),
    );
    set.extend(table.updated.iter().map(|updated| format!("{updated} = now()")));
    let (set, row) = (
        set.join(", "),
        format!("t.{id} = $1::text::{id_type} and t.{id}::text = $1 and t.{store}::text = $2"),
    );
    // A parameter that no column takes has to be used all the same, for Postgres to know its type.
    format!(
        "with before as (select t.{status}::text as previous from {name} t where {row} for update), \
         changed as (update {name} t set {set} from before \
            where {row} and {may} and t.{status}::text = coalesce($9::text, t.{status}::text) \
              and $4::text is not distinct from $4::text returning before.previous), \
         noted as (insert into vestnik.answer (store_id, kind, key, previous, status, way, by_whom, minutes) \
            select $2, $5, $1, previous, $3, $6, $7, $8 from changed) \
         select previous from changed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_delivered_is_on_its_way() {
        assert_eq!(Status::Ready.next(Kind::Order, true), [Status::Delivering]);
        assert_eq!(Status::Ready.next(Kind::Order, false), [Status::Completed]);
        assert!(
            Status::ALL
                .iter()
                .all(|from| !from.next(Kind::Booking, true).contains(&Status::Delivering))
        );
    }

    #[test]
    fn what_is_over_stays_over() {
        for over in [Status::Completed, Status::Rejected, Status::Cancelled] {
            assert!(over.next(Kind::Order, true).is_empty());
        }
    }
}
