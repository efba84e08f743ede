//! `vestnik audit`: reports how a store's events reached people, or what the owner of a token did.

use crate::domain::event::StoreId;
use crate::infra::config::Config;
use crate::infra::db::{self, Client};
use crate::receipts::audit::{self, Moment, Span};
use crate::receipts::token_audit::{self, Act};
use crate::token::TokenId;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id of the store; may be left out with --order and --token
    #[arg(long, required_unless_present_any = ["order", "token"])]
    store: Option<String>,
    /// Start of the report: 19:00 (today, in the store's time zone), 2026-11-24 19:00, or 2026-11-24T19:00:00Z
    #[arg(long, value_name = "TIME", required_unless_present_any = ["order", "token"])]
    from: Option<String>,
    /// End of the report, exclusive; in the same formats as --from
    #[arg(long, value_name = "TIME", required_unless_present_any = ["order", "token"])]
    to: Option<String>,
    /// Report only one order or booking, given by its number or its key
    #[arg(long, value_name = "NUMBER")]
    order: Option<String>,
    /// Report what the holder of this token did; `vestnik token list` shows the number
    #[arg(long, value_name = "NUMBER", conflicts_with = "order")]
    token: Option<i64>,
    /// Print one line of JSON for each event, instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs `vestnik audit` on the configured database, and prints the report.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let store = args.store.as_deref().map(StoreId::new);
    let (from, to) = (args.from.map(Moment), args.to.map(Moment));
    let span = Span {
        store: store.as_ref(),
        from: from.as_ref(),
        to: to.as_ref(),
        subject: args.order.as_deref(),
    };
    if let Some(token) = args.token {
        return of_token(&client, TokenId(token), &span, args.json).await;
    }
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
        super::say!("{}", nothing(&span));
    }
    Ok(())
}

/// Prints what the owner of a token did: the status changes and the acknowledgements.
async fn of_token(client: &Client, token: TokenId, span: &Span<'_>, json: bool) -> anyhow::Result<()> {
    let mut count = 0;
    let print = |act: Act| {
        count += 1;
        match json {
            true => super::say!("{}", serde_json::to_string(&act).unwrap_or_default()),
            false => super::say!("{}", line_of(&act)),
        }
    };
    token_audit::acts(client, token, span, print).await?;
    if count == 0 && !json {
        super::say!(
            "token {} has done nothing in this time: `vestnik token list` has all tokens",
            token.0
        );
    }
    Ok(())
}

fn line_of(act: &Act) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let what = match (&act.previous, &act.status) {
        (Some(previous), Some(status)) => format!("{previous} -> {status}"),
        _ => format!("acknowledged event {}", text(&act.event)),
    };
    format!(
        "{}  store {:<8} {:<12} {:<12} {what}, as {}",
        act.at,
        act.store,
        text(&act.source),
        text(&act.key),
        text(&act.by)
    )
}

fn nothing(span: &Span<'_>) -> String {
    let store = span
        .store
        .map_or_else(|| "no store".to_owned(), |store| format!("store {store}"));
    let events = if span.store.is_some() {
        "had no events"
    } else {
        "had events"
    };
    let subject = span.subject.map(|subject| format!(" of {subject}")).unwrap_or_default();
    let span = match (span.from, span.to) {
        (Some(from), Some(to)) => format!(" between {} and {}", from.0, to.0),
        (Some(from), None) => format!(" since {}", from.0),
        (None, Some(to)) => format!(" before {}", to.0),
        (None, None) => String::new(),
    };
    format!("{store} {events}{subject}{span}")
}

/// Formats an event as lines of text: one line for the event, and one for each receipt, chat and escalation.
fn table(event: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let clock = |value: &Value| value.as_str().and_then(|at| at.get(11..)).unwrap_or("-").to_owned();
    let mut lines = vec![format!(
        "{}  {:<22} {:<12} {:<10} event {}",
        text(&event["at"]),
        text(&event["type"]),
        text(&event["number"]),
        text(&event["status"]),
        text(&event["id"])
    )];
    for channel in event["channels"].as_array().into_iter().flatten() {
        let by = channel["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
        lines.push(format!(
            "    {:<10} {:<18} sent {:<12} rendered {:<12} sounded {:<12} acknowledged {}{by}",
            text(&channel["channel"]),
            text(&channel["recipient"]),
            clock(&channel["sent"]),
            clock(&channel["rendered"]),
            clock(&channel["sounded"]),
            clock(&channel["acknowledged"])
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
    if let Some(step) = event["escalation"]["step"].as_i64() {
        let outcome = event["escalation"]["outcome"]
            .as_str()
            .unwrap_or("waiting for an answer");
        lines.push(format!("    escalation: step {step}, {outcome}"));
    }
    lines
}
