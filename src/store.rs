//! What is known of a store beside its orders: `vestnik.vst_store`, and when it is open.

use deadpool_postgres::Pool;
use time::Time;
use tokio_postgres::Client;

use crate::db::{self, Failed};
use crate::domain::event::StoreId;
use crate::sources::registry::bump_version;

/// What may be set; `None` leaves it as it is.
#[derive(Debug, Default)]
pub struct Settings {
    /// What people call it.
    pub name: Option<String>,
    /// Three letters of ISO 4217.
    pub currency: Option<String>,
    /// As Postgres names them: `Europe/Moscow`.
    pub time_zone: Option<String>,
    /// How long an order may wait for an answer on each rung, seconds.
    pub answer_seconds: Option<i32>,
    /// When it is open.
    pub hours: Option<Vec<Opening>>,
    /// Where the last rung posts to, and the secret that signs it.
    pub webhook: Option<Webhook>,
}

/// One span of one weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// 1: Monday.
    pub weekday: i16,
    /// By the store's clock.
    pub opens: Time,
    /// At or before `opens`: on the next day.
    pub closes: Time,
}

/// Where the last rung posts to.
#[derive(Debug)]
pub enum Webhook {
    /// Nowhere.
    None,
    /// There.
    To {
        /// http or https.
        url: String,
        /// 16 characters at least.
        secret: String,
    },
}

/// A store as it is set up.
#[derive(Debug)]
pub struct Store {
    /// Its key, as text.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Three letters.
    pub currency: String,
    /// As Postgres names them.
    pub time_zone: String,
    /// Seconds.
    pub answer_seconds: i32,
    /// Whether the last rung posts anywhere.
    pub webhook_url: Option<String>,
    /// When it is open, by weekday.
    pub hours: Vec<Opening>,
}

/// Why a store is not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(&'static str),
    /// The database.
    #[error(transparent)]
    Failed(#[from] Failed),
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
            (Some("vst_store_webhook_secret_check"), _) => Self::Setting("a webhook's secret has 16 characters or more"),
            (Some("vst_opening_hours_pkey"), _) => Self::Setting("two openings of one day begin at the same time"),
            (_, Some("22023")) => Self::Setting("Postgres knows no such time zone: they look like Europe/Moscow"),
            _ => Self::Failed(error.into()),
        }
    }
}

/// Sets a store up, or changes what is given. All or nothing.
pub async fn set(client: &mut Client, store: &StoreId, settings: &Settings) -> Result<(), Error> {
    const SET: &str = "insert into vestnik.vst_store as s (id, name, currency, time_zone, answer_seconds) \
         values ($1, $2, coalesce($3, 'RUB'), coalesce($4, 'Europe/Moscow'), coalesce($5, 60)) \
         on conflict (id) do update set name = coalesce($2, s.name), currency = coalesce($3, s.currency), \
             time_zone = coalesce($4, s.time_zone), answer_seconds = coalesce($5, s.answer_seconds)";
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
    if let Some(webhook) = &settings.webhook {
        let (url, secret) = match webhook {
            Webhook::None => (None, None),
            Webhook::To { url, secret } => (Some(url), Some(secret)),
        };
        let set = "update vestnik.vst_store set webhook_url = $2, webhook_secret = $3 where id = $1";
        transaction.execute(set, &[&store.as_str(), &url, &secret]).await?;
    }
    if let Some(hours) = &settings.hours {
        transaction
            .execute("delete from vestnik.vst_opening_hours where store_id = $1", &[&store.as_str()])
            .await?;
        for Opening { weekday, opens, closes } in hours {
            let insert = "insert into vestnik.vst_opening_hours (store_id, weekday, opens, closes) values ($1, $2, $3, $4)";
            transaction
                .execute(insert, &[&store.as_str(), weekday, opens, closes])
                .await?;
        }
    }
    // Nodes know the stores' currencies.
    bump_version(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// The stores that are set up, by id.
pub async fn list(client: &Client) -> Result<Vec<Store>, Failed> {
    const LIST: &str =
        "select id, name, currency, time_zone, answer_seconds, webhook_url from vestnik.vst_store order by id";
    const HOURS: &str =
        "select store_id, weekday, opens, closes from vestnik.vst_opening_hours order by store_id, weekday, opens";
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
    Ok(stores)
}

/// Whether this database has the store: events of it, its settings, or a token that names it.
pub async fn is_known(pool: &Pool, store: &StoreId) -> Result<bool, Failed> {
    const KNOWN: &str = "select exists (select from vestnik.vst_event where store_id = $1) \
         or exists (select from vestnik.vst_store where id = $1) \
         or exists (select from vestnik.vst_token where $1 = any (stores) and revoked_at is null)";
    db::answered(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(KNOWN).await?;
        Ok(client.query_one(&statement, &[&store.as_str()]).await?.try_get(0)?)
    })
    .await
}

/// What a panel is told of its store; the defaults, where it is not set up.
#[derive(Debug)]
pub struct Card {
    /// What people call it.
    pub name: Option<String>,
    /// Three letters.
    pub currency: String,
    /// As Postgres names them.
    pub time_zone: String,
    /// How long an order may wait for an answer, seconds.
    pub answer_seconds: i32,
    /// Whether the bot is stopped: its token is not let in.
    pub bot_stopped: bool,
    /// Its chats that take no messages any more.
    pub chats_disabled: Vec<DisabledChat>,
}

/// A chat that takes no messages any more.
#[derive(Debug)]
pub struct DisabledChat {
    /// Its title, or its number at Telegram.
    pub chat: String,
    /// Why.
    pub reason: Option<String>,
}

/// Reads it.
pub async fn card(pool: &Pool, store: &StoreId) -> Result<Card, Failed> {
    // The defaults are those of the columns.
    const CARD: &str = "select s.name, coalesce(s.currency, 'RUB'), coalesce(s.time_zone, 'Europe/Moscow'), \
         coalesce(s.answer_seconds, 60), b.stopped_at is not null \
         from vestnik.vst_bot b left join vestnik.vst_store s on s.id = $1";
    const DISABLED: &str = "select coalesce(c.title, c.telegram_id::text), c.disabled_why from vestnik.vst_chat_link l \
         join vestnik.vst_chat c on c.id = l.chat_id where l.store_id = $1 and c.disabled_at is not null order by c.id";
    db::answered(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CARD).await?;
        let row = client.query_one(&statement, &[&store.as_str()]).await?;
        let statement = client.prepare_cached(DISABLED).await?;
        let chats = client.query(&statement, &[&store.as_str()]).await?;
        let chat = |row: &tokio_postgres::Row| {
            Ok::<_, tokio_postgres::Error>(DisabledChat {
                chat: row.try_get(0)?,
                reason: row.try_get(1)?,
            })
        };
        Ok(Card {
            name: row.try_get(0)?,
            currency: row.try_get(1)?,
            time_zone: row.try_get(2)?,
            answer_seconds: row.try_get(3)?,
            bot_stopped: row.try_get(4)?,
            chats_disabled: chats.iter().map(chat).collect::<Result<_, _>>()?,
        })
    })
    .await
}
