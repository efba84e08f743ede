//! `vestnik store`: sets stores up.

use std::time::Duration;

use time::Time;
use time::macros::format_description;
use vestnik::config::Config;
use vestnik::db;
use vestnik::domain::event::StoreId;
use vestnik::store::{self, Opening, Settings, Webhook};

use super::{Usage, duration};

/// The variable that holds what signs the webhook, so that it stands in no list of processes.
const SECRET_VARIABLE: &str = "VESTNIK_WEBHOOK_SECRET";
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set a store up, or change what is given
    Set(Box<Set>),
    /// List the stores that are set up
    List,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The store's key in the shop's tables
    #[arg(long)]
    store: String,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Its money: three letters, such as RUB
    #[arg(long)]
    currency: Option<String>,
    /// Its clock, such as Europe/Moscow
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// How long an order may wait for an answer before it climbs, such as 60s
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    answer_within: Option<Duration>,
    /// When it is open, such as mon-fri=10:00-22:00; may be given again. "none": it has no hours, and is never missed
    #[arg(long, value_name = "DAYS=FROM-TO", value_parser = openings)]
    hours: Vec<Hours>,
    /// Where the last rung posts to; the secret that signs it is in VESTNIK_WEBHOOK_SECRET. "none" ends it
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

/// The openings that one option names.
#[derive(Debug, Clone)]
struct Hours(Vec<Opening>);

/// `mon-fri=10:00-22:00`, `sun=12:00-02:00`.
fn openings(text: &str) -> Result<Hours, String> {
    if text == "none" {
        return Ok(Hours(Vec::new()));
    }
    let read = || {
        let (days, span) = text.split_once('=')?;
        let (from, to) = days.split_once('-').unwrap_or((days, days));
        let day = |name: &str| DAYS.iter().position(|day| *day == name);
        let (from, to) = (day(from)?, day(to)?);
        let (opens, closes) = span.split_once('-')?;
        let clock = |text: &str| Time::parse(text, format_description!("[hour]:[minute]")).ok();
        let (opens, closes) = (clock(opens)?, clock(closes)?);
        let days = (from..=to).map(|day| Opening {
            weekday: day as i16 + 1,
            opens,
            closes,
        });
        (from <= to).then(|| Hours(days.collect()))
    };
    read().ok_or_else(|| "hours look like mon-fri=10:00-22:00 or sun=12:00-02:00".into())
}

/// Does it on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let mut client = db::connect(&config.database).await?;
    match args.action {
        Action::Set(set) => {
            let settings = settings(&set)?;
            store::set(&mut client, &StoreId::new(&set.store), &settings).await?;
            super::say!("store {} is set up", set.store);
        }
        Action::List => store::list(&client).await?.iter().for_each(print),
    }
    Ok(())
}

fn settings(set: &Set) -> Result<Settings, Usage> {
    let webhook = match set.webhook.as_deref() {
        None => None,
        Some("none") => Some(Webhook::None),
        Some(url) => Some(Webhook::To {
            url: url.to_owned(),
            secret: std::env::var(SECRET_VARIABLE)
                .ok()
                .filter(|secret| secret.len() >= 16)
                .ok_or_else(|| {
                    Usage(format!(
                        "a webhook is signed: set {SECRET_VARIABLE} to 16 characters or more"
                    ))
                })?,
        }),
    };
    let answer = set
        .answer_within
        .map(|within| i32::try_from(within.as_secs()).unwrap_or(i32::MAX));
    let hours: Vec<Opening> = set.hours.iter().flat_map(|hours| hours.0.iter().copied()).collect();
    Ok(Settings {
        name: set.name.clone(),
        currency: set.currency.as_ref().map(|currency| currency.to_uppercase()),
        time_zone: set.time_zone.clone(),
        answer_seconds: answer,
        hours: (!set.hours.is_empty()).then_some(hours),
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
        let clock = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        super::say!("    {day} {}-{}", clock(hours.opens), clock(hours.closes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_days_and_a_span() {
        let Hours(week) = openings("mon-fri=10:00-22:00").unwrap();
        assert_eq!(week.iter().map(|day| day.weekday).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(openings("sun=12:00-02:00").unwrap().0[0].weekday, 7);
        assert!(openings("none").unwrap().0.is_empty());
        for wrong in [
            "",
            "mon",
            "mon=10-22",
            "fri-mon=10:00-22:00",
            "mon=25:00-26:00",
            "xyz=10:00-22:00",
        ] {
            assert!(openings(wrong).is_err(), "{wrong}");
        }
    }
}
