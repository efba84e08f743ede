//! `vestnik store`: shows and changes the settings of stores.

use std::time::Duration;

use crate::domain::event::StoreId;
use crate::domain::money::Currency;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::standard_webhook::{address, signature};
use crate::store::hours::{self, Rule};
use crate::store::{self, AttendedBy, Escalates, Settings, Webhook, secret};
use time::Time;

use super::{Usage, duration, webhook};

/// The names of the weekdays. Opening hours number the weekdays from 1 (Monday) to 7.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Change the given settings of a store; a new store gets defaults for the others
    Set(Box<Set>),
    /// List the stores that have settings
    List,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The id of the store in the shop's tables
    #[arg(long)]
    store: String,
    /// The name that people see
    #[arg(long)]
    name: Option<String>,
    /// The currency of its amounts: three letters, such as RUB
    #[arg(long, value_parser = currency)]
    currency: Option<Currency>,
    /// Its time zone, by the IANA name, such as Europe/Moscow
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// How long an order may wait for an answer before the escalation begins, such as 60s
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    answer_within: Option<Duration>,
    /// What must be reachable while the store is open: panel or chats. Otherwise an alarm is sent
    #[arg(long, value_name = "WHO", value_parser = attended_by)]
    attended_by: Option<AttendedBy>,
    /// When unanswered orders are escalated: open (an order of a closed store waits for the opening), or always
    #[arg(long, value_name = "WHEN", value_parser = escalates)]
    escalate: Option<Escalates>,
    /// Opening hours, such as mon-fri=9:00-18:00, sun-thu=12:00-02:00, daily=0:00-24:00, sat,sun=closed; and days
    /// with other hours: 2026-12-31=10:00-16:00, 12-25=closed, 2026-12-31=usual. May be repeated. "none": the store
    /// has no hours, and no alarm is sent for it
    #[arg(long, value_name = "DAYS=FROM-TO", value_parser = hours::rule)]
    hours: Vec<Rule>,
    /// The https address of the last escalation step. VESTNIK_WEBHOOK_SECRET has the signing secret; without it one
    /// is created and printed once. "none" removes the webhook
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

fn attended_by(text: &str) -> Result<AttendedBy, String> {
    AttendedBy::from_name(text).ok_or_else(|| "the value is panel or chats".into())
}

fn escalates(text: &str) -> Result<Escalates, String> {
    Escalates::from_name(text).ok_or_else(|| "the value is open or always".into())
}

/// Runs `vestnik store` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let mut client = db::connect(&config.database).await?;
    match args.action {
        Action::Set(set) => {
            let id = StoreId::new(&set.store);
            let given = webhook::given_secret()?;
            let is_signed = set.webhook.as_deref().is_some_and(|url| url != "none");
            let made = match is_signed && given.is_none() && !secret::is_there(&client, &id).await? {
                true => Some(signature::generate()?),
                false => None,
            };
            let settings = settings(config, &set, given.as_deref().or(made.as_deref()))?;
            store::set(&mut client, &id, &settings).await?;
            super::say!("the settings of store {} are saved", set.store);
            if let Some(made) = made {
                super::say!("its webhook is signed with {made}");
            }
        }
        Action::List => store::list(&client).await?.iter().for_each(print),
    }
    Ok(())
}

fn settings(config: &Config, set: &Set, secret: Option<&str>) -> Result<Settings, Usage> {
    let webhook = match set.webhook.as_deref() {
        None => None,
        Some("none") => Some(Webhook::None),
        Some(url) => {
            address::check(url, config.webhook.allow_private).map_err(|refused| Usage(refused.to_string()))?;
            Some(Webhook::To {
                url: url.to_owned(),
                secret: secret.map(str::to_owned),
            })
        }
    };
    let answer = set
        .answer_within
        .map(|within| i32::try_from(within.as_secs()).unwrap_or(i32::MAX));
    Ok(Settings {
        name: set.name.clone(),
        currency: set.currency.map(|currency| currency.to_string()),
        time_zone: set.time_zone.clone(),
        answer_seconds: answer,
        attended_by: set.attended_by,
        escalates: set.escalate,
        hours: set.hours.clone(),
        webhook,
    })
}

fn print(store: &store::Store) {
    let name = store.name.as_deref().unwrap_or("-");
    let webhook = store.webhook_url.as_deref().map(|_| "  webhook").unwrap_or_default();
    super::say!(
        "{:<12} {:<24} {}  {}  answer within {} s{webhook}",
        store.id,
        name,
        store.currency,
        store.time_zone,
        store.answer_seconds
    );
    for hours in &store.hours {
        let day = DAYS
            .get((hours.weekday - 1).unsigned_abs() as usize)
            .copied()
            .unwrap_or("?");
        super::say!("    {day} {}-{}", clock(hours.opens), closing(hours.closes));
    }
    for holiday in &store.holidays {
        let day = match holiday.yearly {
            true => format!("{:02}-{:02}", u8::from(holiday.day.month()), holiday.day.day()),
            false => holiday.day.to_string(),
        };
        match holiday.open {
            Some(span) => super::say!("    {day} {}-{}", clock(span.opens), closing(span.closes)),
            None => super::say!("    {day} closed"),
        }
    }
}

fn clock(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

/// Formats a closing time. Midnight is the end of the day, so it is written as 24:00.
fn closing(time: Time) -> String {
    if time == Time::MIDNIGHT {
        return "24:00".to_owned();
    }
    clock(time)
}

fn currency(text: &str) -> Result<Currency, String> {
    let known = Currency::from_code(text).filter(|currency| currency.is_known());
    known.ok_or_else(|| "a currency is three letters of ISO 4217, such as RUB or EUR".to_owned())
}
