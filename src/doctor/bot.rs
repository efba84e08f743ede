//! Checks the Telegram bot: whether Telegram accepts its token, whether a node polls for updates, and whether its chats
//! accept messages.

use crate::infra::db::Client;

use super::{Finding, fail, ok};
use crate::delivery::chat_links::{self, LONG_PAUSE_S, ListedChat};
use crate::delivery::shared_bot::{self, State};
use crate::infra::config::Telegram;
use crate::infra::db::QueryError;
use crate::telegram;

/// A chat is reported if one of its messages has been waiting for more than this many seconds.
const WAITS_TOO_LONG_S: f64 = 600.0;

/// Checks the bot's token, its polling for updates, and its linked chats.
pub(super) async fn examine(settings: &Telegram, client: &Client) -> Result<Vec<Finding>, QueryError> {
    let (state, chats) = (shared_bot::state(client).await?, chat_links::list(client).await?);
    let mut findings = vec![token_finding(settings, &state).await, poll_of(&state)];
    findings.extend(chats_of(&chats));
    Ok(findings)
}

/// Checks that Telegram accepts the token, and that the bot has no webhook, because a webhook would get the updates
/// instead of Vestnik.
async fn token_finding(settings: &Telegram, state: &State) -> Finding {
    const WEBHOOK: &str = "another program has set a webhook for this bot, so no node can poll: stop that program, or call \
         deleteWebhook for this token, or create another bot for Vestnik";
    let responses = async {
        let client = telegram::Client::new(settings)?;
        Ok::<_, telegram::Unreachable>((client.name().await?, client.webhook().await?))
    };
    match responses.await {
        Err(error) => fail("bot", error.to_string()),
        Ok((_, webhook)) if !webhook.is_empty() => fail("bot", WEBHOOK),
        Ok((name, _)) => match &state.stopped {
            Some(why) => fail(
                "bot",
                format!("stopped ({why}), but Telegram accepts the token of @{name} now: restart the nodes"),
            ),
            None => ok("bot", format!("Telegram accepts the token of @{name}")),
        },
    }
}

fn poll_of(state: &State) -> Finding {
    if let Some(since_s) = state.recent_conflict_s() {
        let says = format!(
            "{since_s:.0} s ago another program polled with this token (409), and received button presses: stop it, or create another bot for it"
        );
        return fail("poll", says);
    }
    match &state.poller {
        None => fail(
            "poll",
            "no node polls, so button presses have no effect: start `vestnik serve`",
        ),
        Some(node) if !state.is_polled() => {
            let says = format!(
                "node {node} gets no response from Telegram: its log has the error; is a proxy needed (telegram.proxy)?"
            );
            fail("poll", says)
        }
        Some(node) => ok("poll", format!("node {node} receives messages and button presses")),
    }
}

fn chats_of(chats: &[ListedChat]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for chat in chats {
        let title = chat.title.clone().unwrap_or_else(|| chat.telegram_id.to_string());
        let of = format!("“{title}” of store {}", chat.store);
        if let Some((why, _)) = &chat.disabled {
            let says = format!(
                "{of} is disabled ({why}): add the bot again, or `vestnik telegram unlink --chat {}`",
                chat.telegram_id
            );
            findings.push(fail("chat", says));
        } else if let Some((why, _)) = &chat.blocked {
            let says = format!("{of} is blocked ({why}): allow the bot to write there, or open the topic");
            findings.push(fail("chat", says));
        } else if chat.throttled_s > LONG_PAUSE_S {
            let says = format!(
                "{of} gets no message for another {:.0} s, because Telegram asks to wait (429); {} wait",
                chat.throttled_s, chat.open
            );
            findings.push(fail("chat", says));
        } else if chat.open_s > WAITS_TOO_LONG_S {
            let says = format!(
                "{of} has {} waiting messages, the oldest for {:.0} s: `vestnik telegram status`",
                chat.open, chat.open_s
            );
            findings.push(fail("chat", says));
        }
    }
    if findings.is_empty() {
        findings.push(match chats.len() {
            0 => fail(
                "chats",
                "no chat is linked, so the bot sends no orders: `vestnik telegram link --store ID`",
            ),
            1 => ok("chats", "the linked chat takes messages"),
            many => ok("chats", format!("the {many} linked chats take messages")),
        });
    }
    findings
}
