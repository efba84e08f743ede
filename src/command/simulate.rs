//! `vestnik simulate`: simulates the application of a shop, for trials. It writes rows over its own connection, and
//! uses no other part of Vestnik.

use std::time::Duration;

use crate::infra::config::Config;
use crate::infra::db::{self, Client};
use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::duration;

const CUSTOMERS: [&str; 8] = ["Иван", "Мария", "Пётр", "Анна", "Олег", "Дарья", "Тимур", "Ольга"];
const DISHES: [(&str, i64); 6] = [
    ("Пицца Маргарита", 54_000),
    ("Борщ", 32_000),
    ("Пельмени", 41_000),
    ("Салат Цезарь", 39_000),
    ("Чай", 12_000),
    ("Сырники", 28_000),
];
/// The probability that a step creates a booking, 0 to 1.
const BOOKINGS: f64 = 0.1;
/// The probability that a step changes the status of an open order, if there is an open order, 0 to 1.
const CHANGES: f64 = 0.5;
/// The probability that a status change rejects or cancels the order, 0 to 1.
const CANCELLATIONS: f64 = 0.1;
/// Maximum number of open orders whose status the simulation changes. When a further order is created, the simulation
/// stops changing one of these orders.
const OPEN_ORDERS: usize = 500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of stores; their ids are 1, 2, and so on
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    stores: u32,
    /// Average number of rows a second
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    rate: f64,
    /// How long to write, such as 60s or 5m [default: until it is stopped]
    #[arg(long = "duration", value_name = "TIME", value_parser = duration::parse)]
    length: Option<Duration>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=10_000.0).contains(rate));
    rate.ok_or_else(|| "a rate is a number from 0.01 to 10000 rows a second".into())
}

struct OpenOrder {
    id: i64,
    status: &'static str,
    delivered: bool,
}

/// Writes rows until the given time is over, or until the command is stopped.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let end = args.length.map(|length| Instant::now() + length);
    let mut next = Instant::now();
    let mut open = Vec::new();
    let mut written = 0_u64;
    loop {
        // The pauses are distributed exponentially, like the times between orders of independent customers.
        next += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / args.rate);
        if end.is_some_and(|end| next > end) {
            break;
        }
        sleep_until(next).await;
        let store = i64::from(fastrand::u32(1..=args.stores));
        let step = step(&client, store, &mut open).await;
        let said = step.context("the reference shop's tables are needed: run `vestnik migrate` first")?;
        written += 1;
        super::say!("{said}");
    }
    super::say!("wrote {written} rows");
    Ok(())
}

async fn step(client: &Client, store: i64, open: &mut Vec<OpenOrder>) -> Result<String, tokio_postgres::Error> {
    let chance = fastrand::f64();
    if chance < BOOKINGS {
        book(client, store).await
    } else if chance < BOOKINGS + CHANGES && !open.is_empty() {
        let index = fastrand::usize(..open.len());
        let order = open.swap_remove(index);
        advance(client, order, open).await
    } else {
        order(client, store, open).await
    }
}

async fn order(client: &Client, store: i64, open: &mut Vec<OpenOrder>) -> Result<String, tokio_postgres::Error> {
    const INSERT: &str = "insert into orders (store_id, customer_name, total, order_type, items) \
         values ($1, $2, $3, $4, $5) returning id";
    let dishes = fastrand::choose_multiple(DISHES, fastrand::usize(1..=3));
    let total: i64 = dishes.iter().map(|(_, price)| price).sum();
    let items: Value = dishes
        .iter()
        .map(|(name, price)| json!({"name": name, "price": price}))
        .collect();
    let delivered = fastrand::bool();
    let kind = if delivered { "delivery" } else { "pickup" };
    let row = client
        .query_one(INSERT, &[&store, &customer(), &total, &kind, &items])
        .await?;
    let id = row.try_get(0)?;
    if open.len() == OPEN_ORDERS {
        open.remove(0);
    }
    open.push(OpenOrder {
        id,
        status: "pending",
        delivered,
    });
    Ok(format!(
        "store {store}: order {id}, {kind}, {}.{:02}",
        total / 100,
        total % 100
    ))
}

async fn advance(
    client: &Client,
    mut order: OpenOrder,
    open: &mut Vec<OpenOrder>,
) -> Result<String, tokio_postgres::Error> {
    let bad = fastrand::f64() < CANCELLATIONS;
    let (status, reason) = match order.status {
        "pending" if bad => ("rejected", Some("кухня закрыта")),
        _ if bad => ("cancelled", Some("клиент передумал")),
        "pending" => ("preparing", None),
        "preparing" => ("ready", None),
        "ready" if order.delivered => ("delivering", None),
        _ => ("completed", None),
    };
    client
        .execute(
            "update orders set status = $2, reason = $3, updated_at = now() where id = $1",
            &[&order.id, &status, &reason],
        )
        .await?;
    let said = format!("order {}: {} -> {status}", order.id, order.status);
    order.status = status;
    if !matches!(status, "completed" | "cancelled" | "rejected") {
        open.push(order);
    }
    Ok(said)
}

async fn book(client: &Client, store: i64) -> Result<String, tokio_postgres::Error> {
    const INSERT: &str = "insert into bookings (store_id, customer_name, guests, starts_at) \
         values ($1, $2, $3, date_trunc('hour', now()) + make_interval(hours => $4)) returning id";
    let (guests, hours) = (fastrand::i32(1..=8), fastrand::i32(1..=72));
    let row = client
        .query_one(INSERT, &[&store, &customer(), &guests, &hours])
        .await?;
    Ok(format!(
        "store {store}: booking {}, {guests} guests",
        row.try_get::<_, i64>(0)?
    ))
}

fn customer() -> &'static str {
    fastrand::choice(CUSTOMERS).unwrap_or(CUSTOMERS[0])
}
