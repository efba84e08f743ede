//! `vestnik audit`: tells what became of a store's events.

use serde_json::Value;
use vestnik::config::Config;
use vestnik::db;
use vestnik::domain::event::StoreId;
use vestnik::receipts::audit::{self, Moment, Span};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store
    #[arg(long)]
    store: String,
    /// The first moment: 19:00 today by the store's clock, or 2026-11-24 19:00, or 2026-11-24T19:00:00Z
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The moment behind the last one
    #[arg(long, value_name = "TIME")]
    to: String,
    /// A line of JSON for each event, instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let store = StoreId::new(&args.store);
    let (from, to) = (Moment(args.from), Moment(args.to));
    let span = Span {
        store: &store,
        from: &from,
        to: &to,
    };
    let (mut after, mut events) = (0, 0);
    loop {
        let page = audit::page(&client, &span, after).await?;
        let Some(next) = page.next else { break };
        after = next;
        events += page.events.len();
        for event in &page.events {
            if args.json {
                super::say!("{event}");
            } else {
                table(event).iter().for_each(|line| super::say!("{line}"));
            }
        }
    }
    if events == 0 && !args.json {
        super::say!("store {store} had no events between {} and {}", span.from.0, span.to.0);
    }
    Ok(())
}

/// An event, and a line for each way that it went.
fn table(event: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let clock = |value: &Value| value.as_str().and_then(|at| at.get(11..)).unwrap_or("-").to_owned();
    let mut lines = vec![format!(
        "{}  {:<22} {:<12} {:<10} event {}",
        text(&event["at"]),
        text(&event["type"]),
        text(&event["subject"]),
        text(&event["status"]),
        text(&event["id"])
    )];
    for way in event["ways"].as_array().into_iter().flatten() {
        let by = way["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
        lines.push(format!(
            "    {:<10} {:<18} sent {:<12} rendered {:<12} rung {:<12} acknowledged {}{by}",
            text(&way["way"]),
            text(&way["recipient"]),
            clock(&way["sent"]),
            clock(&way["rendered"]),
            clock(&way["rung"]),
            clock(&way["acknowledged"])
        ));
    }
    for chat in event["chats"].as_array().into_iter().flatten() {
        let reason = chat["reason"]
            .as_str()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let (state, attempts) = (text(&chat["state"]), &chat["attempts"]);
        lines.push(format!(
            "    chat {:<24} {state} after {attempts} attempts{reason}",
            text(&chat["chat"])
        ));
    }
    if let Some(rung) = event["ladder"]["rung"].as_i64() {
        let outcome = event["ladder"]["outcome"].as_str().unwrap_or("waiting for an answer");
        lines.push(format!("    ladder: rung {rung}, {outcome}"));
    }
    lines
}
