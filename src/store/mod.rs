//! The data of a store (a shop or a kitchen), except its orders: settings in `vestnik.vst_store`, opening hours, a
//! pause, and a stop list (items that are out of stock). This module also knows which stores have a panel that can
//! ring.

mod attendance;
pub mod card;
pub mod hours;
pub mod pause;
pub mod presence;
pub mod secret;
pub mod stock;
pub mod stores_of_token;
pub mod until;
mod zone;

pub use attendance::{AttendedBy, Escalates};
use time::{Date, Time};

use crate::domain::event::StoreId;
use crate::infra::db::{self, Client, GenericClient, Pool, QueryError, Transaction};
use crate::sources::registry::bump_version;
use hours::{Days, Open, Rule};

/// New values for the settings of a store. A field that is `None` leaves the saved value unchanged.
#[derive(Debug, Default)]
pub struct Settings {
    /// The store's display name.
    pub name: Option<String>,
    /// The currency of the store's amounts: three letters of ISO 4217.
    pub currency: Option<String>,
    /// The IANA name of the store's time zone, such as `Europe/Moscow`.
    pub time_zone: Option<String>,
    /// How long to wait for an answer before each escalation step, seconds. A step rings the panels again, or tells
    /// further people about the order.
    pub answer_seconds: Option<i32>,
    /// Who must be reachable while the store is open: a panel, or the chats.
    pub attended_by: Option<AttendedBy>,
    /// At which times unanswered orders are escalated: while the store is open, or always.
    pub escalates: Option<Escalates>,
    /// New rules for the opening hours. If at least one rule sets hours for weekdays, the new rules replace the whole
    /// saved week. If rules only close weekdays, the other weekdays stay as saved. A rule for a date replaces only the
    /// saved rule for this date.
    pub hours: Vec<Rule>,
    /// The webhook that is called as the last escalation step, if nobody has answered an order.
    pub webhook: Option<Webhook>,
}

/// A span of opening hours on one weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The day of the week; 1 is Monday.
    pub weekday: i16,
    /// The opening time, by the store's clock.
    pub opens: Time,
    /// The closing time. If it is not after `opens`, the store closes on the next day.
    pub closes: Time,
}

/// The hours of one day that differ from the weekly opening hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holiday {
    /// The date. If `yearly`, only its month and day have a meaning, and its year is 2000.
    pub day: Date,
    /// Whether these hours apply on this day of every year.
    pub yearly: bool,
    /// The opening hours on this day. `None`: the store is closed all day.
    pub open: Option<hours::Span>,
}

/// The address that a change of settings gives to a store's webhook. The last escalation step calls this webhook.
#[derive(Debug)]
pub enum Webhook {
    /// The store has no webhook.
    None,
    /// The webhook is called at this URL.
    To {
        /// The URL of the webhook. An `http` URL is valid only if Vestnik's settings allow it.
        url: String,
        /// The secret with which requests to the webhook are signed. `None`: the current secret stays.
        secret: Option<String>,
    },
}

/// The settings of a store, as they are saved.
#[derive(Debug)]
pub struct Store {
    /// The store's id.
    pub id: String,
    /// The store's display name. `None`: the store has none.
    pub name: Option<String>,
    /// The currency of the store's amounts: three letters of ISO 4217.
    pub currency: String,
    /// The IANA name of the store's time zone.
    pub time_zone: String,
    /// How long to wait for an answer before each escalation step, seconds. A step rings the panels again, or tells
    /// further people about the order.
    pub answer_seconds: i32,
    /// The URL of the webhook that is called as the last escalation step. `None`: the store has no webhook.
    pub webhook_url: Option<String>,
    /// The weekly opening hours, ordered by weekday.
    pub hours: Vec<Opening>,
    /// The days whose hours differ from the weekly opening hours.
    pub holidays: Vec<Holiday>,
}

/// The reason why settings were not saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is invalid. The field describes the valid values.
    #[error("{0}")]
    Setting(&'static str),
    /// The name of the time zone is unknown.
    #[error("{given:?} is no time zone's name: {}", match .meant {
        Some(meant) => format!("write {meant}"),
        None => "they look like Europe/Moscow".to_owned(),
    })]
    Zone {
        /// The name of a time zone that the operator gave.
        given: String,
        /// The name that the operator probably meant. `None`: no known name is similar.
        meant: Option<String>,
    },
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let constraint = error.as_db_error().and_then(|db| db.constraint());
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        match (constraint, code) {
            (Some("vst_store_id_check"), _) => Self::Setting("a store's key has 1 to 200 bytes"),
            (Some("vst_store_currency_check"), _) => Self::Setting("a currency has three letters, such as RUB"),
            (Some("vst_store_answer_seconds_check"), _) => Self::Setting("an answer is waited for from 5 s to a day"),
            (Some("vst_store_webhook_url_check"), _) => {
                Self::Setting("a webhook's address begins with https:// or http://")
            }
            (Some("vst_store_webhook_secret_check"), _) => {
                Self::Setting("a webhook's secret has 16 characters or more")
            }
            (Some("vst_opening_hours_pkey"), _) => Self::Setting("two openings of one day begin at the same time"),
            _ => Self::Failed(error.into()),
        }
    }
}

/// Saves these settings of a store in one transaction, so that either all are saved or none. A store that is not set up
/// yet gets a row in `vestnik.vst_store`.
pub async fn set(client: &mut Client, store: &StoreId, settings: &Settings) -> Result<(), Error> {
    const SET: &str = "insert into vestnik.vst_store as s (id, name, currency, time_zone, answer_seconds) \
         values ($1, $2, coalesce($3, 'RUB'), coalesce($4, 'Europe/Moscow'), coalesce($5, 60)) \
         on conflict (id) do update set name = coalesce($2, s.name), currency = coalesce($3, s.currency), \
             time_zone = coalesce($4, s.time_zone), answer_seconds = coalesce($5, s.answer_seconds)";
    if let Some(zone) = &settings.time_zone {
        zone::check(client, zone).await?;
    }
    let transaction = client.transaction().await?;
    let Settings {
        name,
        currency,
        time_zone,
        answer_seconds,
        ..
    } = settings;
    transaction
        .execute(SET, &[&store.as_str(), name, currency, time_zone, answer_seconds])
        .await?;
    if let Some(attended_by) = settings.attended_by {
        let set = "update vestnik.vst_store set attended_by = $2 where id = $1";
        transaction
            .execute(set, &[&store.as_str(), &attended_by.as_str()])
            .await?;
    }
    if let Some(escalates) = settings.escalates {
        let set = "update vestnik.vst_store set escalates = $2 where id = $1";
        transaction
            .execute(set, &[&store.as_str(), &escalates.as_str()])
            .await?;
    }
    if let Some(webhook) = &settings.webhook {
        let (url, secret) = match webhook {
            Webhook::None => (None, None),
            Webhook::To { url, secret } => (Some(url), secret.as_ref()),
        };
        // A new secret replaces both the current secret and the old secret.
        let set = "update vestnik.vst_store set webhook_url = $2, \
                 webhook_secret = case when $2::text is not null then coalesce($3, webhook_secret) end, \
                 webhook_secret_old = case when $2::text is not null and $3::text is null then webhook_secret_old end \
             where id = $1";
        transaction.execute(set, &[&store.as_str(), &url, &secret]).await?;
    }
    set_hours(&transaction, store, &settings.hours).await?;
    // Notify the nodes, because they cache the currencies of stores.
    bump_version(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Saves rules for the opening hours, one after another. If at least one rule sets hours for weekdays, first deletes
/// the saved week. If rules only close weekdays, the other weekdays stay as saved.
async fn set_hours(transaction: &Transaction<'_>, store: &StoreId, rules: &[Rule]) -> Result<(), Error> {
    const OPEN: &str =
        "insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) values ($1, $2, $3, $4)";
    const CLOSE: &str = "delete from vestnik.vst_opening_hours where store_id = $1 and weekday = $2";
    let store = store.as_str();
    const IS_OPEN_AT_ALL: &str = "select exists (select from vestnik.vst_opening_hours where store_id = $1)";
    let is_of_week = |rule: &Rule| matches!(rule.days, Days::Week(_));
    let closes = |rule: &Rule| matches!(&rule.open, Open::Spans(spans) if spans.is_empty());
    if rules.iter().any(|rule| is_of_week(rule) && !closes(rule)) {
        transaction
            .execute("delete from vestnik.vst_opening_hours where store_id = $1", &[&store])
            .await?;
    }
    for rule in rules {
        match (&rule.days, &rule.open) {
            (Days::Never, _) => {
                for table in ["vst_opening_hours", "vst_holiday"] {
                    let sql = format!("delete from vestnik.{table} where store_id = $1");
                    transaction.execute(&sql, &[&store]).await?;
                }
            }
            (Days::Week(days), Open::Spans(spans)) => {
                for day in days {
                    if spans.is_empty() {
                        transaction.execute(CLOSE, &[&store, day]).await?;
                    }
                    for span in spans {
                        transaction
                            .execute(OPEN, &[&store, day, &span.opens, &span.closes])
                            .await?;
                    }
                }
            }
            (Days::Week(_), Open::AsUsual) => {}
            (Days::Dates(days), open) => {
                for day in days {
                    set_holiday(transaction, store, *day, false, open).await?;
                }
            }
            (Days::Yearly(day), open) => set_holiday(transaction, store, *day, true, open).await?,
        }
    }
    let is_open_at_all: bool = transaction.query_one(IS_OPEN_AT_ALL, &[&store]).await?.try_get(0)?;
    if rules.iter().any(is_of_week) && !is_open_at_all {
        // A store without hours always counts as open.
        return Err(Error::Setting(
            "no hours are left, and a store without hours is always open: give the week, such as --hours daily=10:00-22:00 --hours wed=closed; \
             close the store on dates, such as --hours 2026-12-31..2027-01-08=closed",
        ));
    }
    Ok(())
}

async fn set_holiday(
    transaction: &Transaction<'_>,
    store: &str,
    day: Date,
    yearly: bool,
    open: &Open,
) -> Result<(), Error> {
    const FORGET: &str = "delete from vestnik.vst_holiday where store_id = $1 and day = $2 and yearly = $3";
    const SET: &str =
        "insert into vestnik.vst_holiday (store_id, day, yearly, opens, closes) values ($1, $2, $3, $4, $5)";
    transaction.execute(FORGET, &[&store, &day, &yearly]).await?;
    let Open::Spans(spans) = open else { return Ok(()) };
    let closed: Option<Time> = None;
    if spans.is_empty() {
        transaction
            .execute(SET, &[&store, &day, &yearly, &closed, &closed])
            .await?;
    }
    for span in spans {
        transaction
            .execute(SET, &[&store, &day, &yearly, &span.opens, &span.closes])
            .await?;
    }
    Ok(())
}

/// Reads the settings of all stores that are set up, ordered by id.
pub async fn list(client: &Client) -> Result<Vec<Store>, QueryError> {
    const LIST: &str =
        "select id, name, currency, time_zone, answer_seconds, webhook_url from vestnik.vst_store order by id";
    const HOURS: &str =
        "select store_id, weekday, opens, closes from vestnik.vst_opening_hours order by store_id, weekday, opens";
    const HOLIDAYS: &str =
        "select store_id, day, yearly, opens, closes from vestnik.vst_holiday order by store_id, day, yearly, opens";
    let mut stores = Vec::new();
    for row in client.query(LIST, &[]).await? {
        stores.push(Store {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            currency: row.try_get(2)?,
            time_zone: row.try_get(3)?,
            answer_seconds: row.try_get(4)?,
            webhook_url: row.try_get(5)?,
            hours: Vec::new(),
            holidays: Vec::new(),
        });
    }
    for row in client.query(HOURS, &[]).await? {
        let id: String = row.try_get(0)?;
        let opening = Opening {
            weekday: row.try_get(1)?,
            opens: row.try_get(2)?,
            closes: row.try_get(3)?,
        };
        stores
            .iter_mut()
            .filter(|store| store.id == id)
            .for_each(|store| store.hours.push(opening));
    }
    for row in client.query(HOLIDAYS, &[]).await? {
        let id: String = row.try_get(0)?;
        let (opens, closes): (Option<Time>, Option<Time>) = (row.try_get(3)?, row.try_get(4)?);
        let holiday = Holiday {
            day: row.try_get(1)?,
            yearly: row.try_get(2)?,
            open: opens.zip(closes).map(|(opens, closes)| hours::Span { opens, closes }),
        };
        stores
            .iter_mut()
            .filter(|store| store.id == id)
            .for_each(|store| store.holidays.push(holiday));
    }
    Ok(stores)
}

/// Reads the ids of the stores that this database knows, at most `most`, shorter ids first. The database knows a store
/// that has recent events or settings, or that is named by a token. Revoked tokens do not count.
pub async fn known(client: &Client, most: i64) -> Result<Vec<String>, QueryError> {
    const KNOWN: &str = "select id from ( \
             select store_id as id from (select distinct store_id from vestnik.vst_event where id > (select coalesce(max(id), 0) - 10000 from vestnik.vst_event) and source is distinct from 0) e \
             union select id from vestnik.vst_store union select unnest(stores) from vestnik.vst_token where revoked_at is null) known \
         where id is not null order by length(id), id limit $1";
    let rows = client.query(KNOWN, &[&most]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

const KNOWN: &str = "select exists (select from vestnik.vst_event where store_id = $1) \
     or exists (select from vestnik.vst_store where id = $1) \
     or exists (select from vestnik.vst_token where $1 = any (stores) and revoked_at is null)";

/// Whether this database knows the store: the store has events or settings, or a token names it. Revoked tokens do not
/// count. Unlike [`is_known`], uses the caller's connection.
pub async fn is_known_to(client: &impl GenericClient, store: &StoreId) -> Result<bool, QueryError> {
    Ok(client.query_one(KNOWN, &[&store.as_str()]).await?.try_get(0)?)
}

/// Whether this database knows the store: the store has events or settings, or a token names it. Revoked tokens do not
/// count.
pub async fn is_known(pool: &Pool, store: &StoreId) -> Result<bool, QueryError> {
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(KNOWN).await?;
        Ok(client.query_one(&statement, &[&store.as_str()]).await?.try_get(0)?)
    })
    .await
}
