//! Sends a person's answer as a signed request to the shop's own API, which changes the order itself. The person waits
//! for the outcome, so the number of attempts is small. An order has at most one request at a time. If the outcome is
//! unknown, the person may press the button again. The new request then has the same id, so the shop can recognise the
//! repetition.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::{ToSql, Type};

use super::current_order::{CurrentOrder, find};
use super::promise;
use super::write::{answer_json, note};
use super::{CurrentStatus, LIMITS, REFUSAL_CHARACTERS, StatusChange, StatusChangeOutcome, Step, nothing_changed};
use crate::domain::event::SourceId;
use crate::domain::status::Status;
use crate::domain::wire_time::WireTime;
use crate::infra::config::{Answers, Webhook};
use crate::infra::db::{self, Pool, QueryError, Transaction, Turns, WAITING_PRESSES};
use crate::infra::standard_webhook::{Letter, PostError, Poster};
use crate::sources::{Sources, derived};

/// Time limit for all attempts to send one answer. It is shorter than the time for which a panel waits for the outcome.
const DEADLINE: Duration = Duration::from_millis(4500);
/// Time limit for one attempt to send an answer to the shop's API.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(3);
/// An attempt to send an answer starts only if at least this time is left before [`DEADLINE`].
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(200);
/// Maximum number of attempts to send one answer to the shop's API.
const ATTEMPTS: u32 = 3;
/// Pause before the second attempt to send an answer. The pause doubles before each later attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for which an order stays reserved for a request, seconds. All attempts, and the database writes before and
/// after them, take less time.
const LEASE_S: f64 = 20.0;
/// Maximum number of concurrent requests of a node to the APIs of all shops.
const REQUESTS_AT_ONCE: usize = 64;
/// Maximum size of a response body that is read for the shop's message, bytes.
const MAX_REPLY_BYTES: usize = 16 * 1024;
/// Names of members of the shop's JSON response that may hold a message for people. The first member that exists is
/// used.
const MESSAGE_MEMBERS: [&str; 4] = ["message", "detail", "error", "title"];

/// The client that sends people's answers to the APIs of the shops in one served database.
pub struct ShopApi {
    poster: Poster,
    /// The secrets that sign each request. The list has two secrets while the operator replaces a secret. Without a
    /// secret, no request is sent.
    secrets: Vec<SecretString>,
    turns: Turns,
}

/// A person's answer that must be sent to the shop's API as a request. The order is reserved for this request in the
/// database.
pub struct Ask {
    /// The id of the request. If a person repeats the same answer, the request has the same id.
    id: String,
    url: String,
    source: SourceId,
    /// The time when the database reserved the order, Unix seconds by the clock of Postgres.
    at: i64,
    body: String,
    /// The status word in the shop's table when the order was reserved. `None`: the status column was null.
    from: Option<String>,
    previous: Status,
    current: CurrentStatus,
}

/// The result of a request to the shop's API.
#[derive(Debug, PartialEq)]
enum Reply {
    Taken,
    Refused(Option<String>),
    /// The request was not sent; the text gives the reason. Only the operator can correct the cause.
    Unsent(String),
    /// The API did not reply, or replied with a server error; the text gives the error. The shop may have changed the
    /// order.
    Failed(String),
}

/// Reserves the order for a request to the shop's API, so that no other answer to the order is sent at the same time.
/// `word` is the shop's word for the requested status. `None`: the request only changes the promised minutes.
pub async fn reserve(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    current_order: &CurrentOrder<'_>,
    url: &str,
    word: Option<&str>,
    change: &StatusChange<'_>,
) -> Result<Step, QueryError> {
    const RESERVE: &str = "insert into vestnik.vst_answer_request as r (source, key, store_id, id, wish, status, answer, until) \
         values ($1, $2, $3, $4, $5, $6, vestnik.vst_storable($7)::json, clock_timestamp() + make_interval(secs => $8)) \
         on conflict (source, key, store_id) do update set id = case when r.wish = excluded.wish then r.id else excluded.id end, \
             wish = excluded.wish, status = excluded.status, answer = excluded.answer, until = excluded.until, asked_at = excluded.asked_at \
         where r.until < clock_timestamp() returning id, extract(epoch from clock_timestamp())::bigint";
    let (source, to) = (current_order.source, change.to);
    let wish = json!([current_order.word, to.as_str(), change.reason, change.minutes]).to_string();
    let wish = Sha256::digest(wish.as_bytes());
    let id = format!("ans_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let answer = answer_json(change);
    let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
        (&source.id.0, Type::INT4),
        (&change.key, Type::TEXT),
        (&change.store.as_str(), Type::TEXT),
        (&id, Type::TEXT),
        (&wish.as_slice(), Type::BYTEA),
        (&to.as_str(), Type::TEXT),
        (&answer.as_bytes(), Type::BYTEA),
        (&LEASE_S, Type::FLOAT8),
    ];
    let Some(row) = transaction.query_typed_opt(RESERVE, &parameters).await? else {
        // The order is reserved for a request with another answer, which is still running.
        return Ok(StatusChangeOutcome::Overtaken(current_order.current_status()).into());
    };
    let (id, at): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    // Another answer may have changed the order before this request reserved it. So the code reads the order again and
    // compares its status.
    let now = find(
        transaction,
        sources,
        change.store,
        change.kind,
        Some(&source.name),
        change.key,
    )
    .await?;
    if !now.iter().any(|now| now.word == current_order.word) {
        return Ok(nothing_changed(transaction, sources, current_order, change)
            .await?
            .into());
    }
    let noun = change.kind.as_str();
    let moment = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let body = json!({
        "type": format!("{noun}_answered"), "source": &*source.name, "store_id": change.store.as_str(), format!("{noun}_id"): change.key,
        "status": to.as_str(), "previous_status": current_order.subject.status.as_str(), "word": word,
        "reason": change.reason, "minutes": change.minutes, "by": change.by, "at": WireTime(moment),
    });
    Ok(Step::Ask(Box::new(Ask {
        id,
        url: url.to_owned(),
        source: source.id,
        at,
        body: body.to_string(),
        from: current_order.word.clone(),
        previous: current_order.subject.status,
        current: current_order.current_status(),
    })))
}

impl ShopApi {
    /// Creates the client from the settings for outgoing requests and for answers.
    pub fn new(webhook: Webhook, answers: &Answers) -> Result<Self, reqwest::Error> {
        Ok(Self {
            poster: Poster::new(webhook)?,
            secrets: answers.secrets.clone(),
            turns: Turns::new(REQUESTS_AT_ONCE, WAITING_PRESSES),
        })
    }

    /// Sends the person's answer to the shop's API, and saves it if the API accepted it. Then ends the order's
    /// reservation.
    pub(super) async fn answer(
        &self,
        pool: &Pool,
        sources: &Sources,
        change: &StatusChange<'_>,
        ask: Ask,
    ) -> Result<StatusChangeOutcome, QueryError> {
        let reply = self.ask(change.store.as_str(), &ask).await;
        report(&ask, &reply);
        db::with_timeout(async {
            let mut client = pool.get().await?;
            let mut transaction = client.transaction().await?;
            transaction.execute(LIMITS, &[]).await?;
            if reply == Reply::Taken {
                publish(&mut transaction, sources, change, &ask).await?;
            }
            release(&transaction, change, &ask, &reply).await?;
            transaction.commit().await?;
            Ok::<_, QueryError>(())
        })
        .await?;
        Ok(match reply {
            Reply::Taken => StatusChangeOutcome::Done {
                source: ask.current.source,
                previous: ask.previous,
            },
            Reply::Refused(message) => StatusChangeOutcome::Refused {
                current: ask.current,
                message,
                rule: None,
            },
            Reply::Unsent(_) => StatusChangeOutcome::Denied,
            Reply::Failed(_) => StatusChangeOutcome::Unavailable(ask.current),
        })
    }

    /// Posts the request until the shop has replied, the attempts are used up, or [`DEADLINE`] has passed.
    async fn ask(&self, store: &str, ask: &Ask) -> Reply {
        if self.secrets.is_empty() {
            return Reply::Unsent("answers.secret is not set: it signs the request".to_owned());
        }
        let begun = Instant::now();
        let _turn = match self.turns.take(store).await {
            Ok(turn) => turn,
            Err(busy) => return Reply::Failed(busy.to_string()),
        };
        let mut last = Reply::Failed("no reply in time".to_owned());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            if left < SHORTEST_ATTEMPT {
                break;
            }
            let letter = Letter {
                id: ask.id.clone(),
                time: ask.at + i64::try_from(begun.elapsed().as_secs()).unwrap_or_default(),
                url: ask.url.clone(),
                secrets: self
                    .secrets
                    .iter()
                    .map(|secret| secret.expose_secret().to_owned())
                    .collect(),
                body: ask.body.clone(),
            };
            last = match self.poster.post(&letter, ATTEMPT_DEADLINE.min(left)).await {
                Ok(response) => reply(response).await,
                Err(PostError::Address(refused)) => Reply::Unsent(format!("answer.url: {refused}")),
                Err(PostError::Failed(reason)) => Reply::Failed(reason),
            };
            if !matches!(last, Reply::Failed(_)) {
                break;
            }
        }
        last
    }
}

/// Classifies a response of the shop's API by its status code.
async fn reply(response: reqwest::Response) -> Reply {
    match response.status().as_u16() {
        200..300 => Reply::Taken,
        // 408 Request Timeout, 425 Too Early, 429 Too Many Requests: a later attempt may succeed.
        status @ (408 | 425 | 429) => Reply::Failed(format!("it replied {status}")),
        400..500 => Reply::Refused(message(&text(response).await)),
        status => Reply::Failed(format!("it replied {status}")),
    }
}

/// Reads at most the first [`MAX_REPLY_BYTES`] bytes of the response's body as text.
async fn text(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_REPLY_BYTES {
            bytes.truncate(MAX_REPLY_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The shop's message for people, from a JSON body or a plain text body. `None`: the body has no message, or is HTML.
fn message(body: &str) -> Option<String> {
    let found = match serde_json::from_str::<Value>(body) {
        Ok(Value::String(text)) => text,
        Ok(value) => MESSAGE_MEMBERS.iter().find_map(|name| {
            let member = &value[*name];
            let text = member.as_str().or_else(|| member["message"].as_str())?;
            (!text.trim().is_empty()).then(|| text.to_owned())
        })?,
        Err(_) if body.trim_start().starts_with(['<', '{', '[']) => return None,
        Err(_) => body.to_owned(),
    };
    let words = found.split_whitespace().collect::<Vec<_>>().join(" ");
    let message: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(REFUSAL_CHARACTERS)
        .collect();
    (!message.is_empty()).then_some(message)
}

fn report(ask: &Ask, reply: &Reply) {
    let source = ask.current.source.as_str();
    let outcome = match reply {
        Reply::Taken => "taken",
        Reply::Refused(_) => {
            tracing::info!(source, id = ask.id, "the shop's API refused an answer");
            "refused"
        }
        Reply::Unsent(reason) => {
            tracing::error!(
                source,
                reason,
                "no request can be sent to the shop's API: no answer to its orders succeeds"
            );
            "unsent"
        }
        Reply::Failed(reason) => {
            tracing::warn!(
                source,
                id = ask.id,
                reason,
                "the shop's API did not accept an answer: the person got an error, and the order still waits"
            );
            "failed"
        }
    };
    metrics::counter!("vestnik_shop_api_answers_total", "outcome" => outcome).increment(1);
}

/// Saves which person answered. If the answer only changed the promised minutes, and the shop's write appended no
/// event, appends an event.
async fn publish(
    transaction: &mut Transaction<'_>,
    sources: &Sources,
    change: &StatusChange<'_>,
    ask: &Ask,
) -> Result<(), QueryError> {
    let source = Some(ask.current.source.as_str());
    let found = find(transaction, sources, change.store, change.kind, source, change.key).await?;
    let Some(current_order) = found
        .into_iter()
        .find(|current_order| current_order.source.id == ask.source)
    else {
        // The shop has deleted the order, or moved it to another store.
        return Ok(());
    };
    if let Some(derived) = &current_order.source.mapping.derived {
        let from = ask.from.as_deref().unwrap_or_default();
        derived::taken(transaction, current_order.source, derived, from, change).await?;
    }
    let told = note(transaction, current_order.source, ask.previous, change).await?;
    if told == 0 && ask.previous == change.to {
        promise::append(transaction, current_order.source, change).await?;
    }
    Ok(())
}

/// Ends the order's reservation for this request, so that another answer can be sent. If the outcome is unknown, the
/// reservation's row stays in the table. A repetition of the answer then gets the same request id.
async fn release(
    transaction: &Transaction<'_>,
    change: &StatusChange<'_>,
    ask: &Ask,
    reply: &Reply,
) -> Result<(), tokio_postgres::Error> {
    const KEEP: &str = "update vestnik.vst_answer_request set until = '-infinity' \
         where source = $1 and key = $2 and store_id = $3 and id = $4";
    const DROP: &str =
        "delete from vestnik.vst_answer_request where source = $1 and key = $2 and store_id = $3 and id = $4";
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&ask.source.0, Type::INT4),
        (&change.key, Type::TEXT),
        (&change.store.as_str(), Type::TEXT),
        (&ask.id, Type::TEXT),
    ];
    let sql = match reply {
        Reply::Failed(_) => KEEP,
        _ => DROP,
    };
    transaction.query_typed(sql, &parameters).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shops_message_is_found_in_what_it_replies_and_cut() {
        for (body, expected) in [
            (r#"{"message": "Sold  out\n"}"#, Some("Sold out")),
            (r#"{"error": {"message": "Closed"}}"#, Some("Closed")),
            (r#"{"error": "Closed", "code": 7}"#, Some("Closed")),
            (
                r#"{"title": "Conflict", "detail": "Paid already"}"#,
                Some("Paid already"),
            ),
            (r#""Not yours""#, Some("Not yours")),
            ("Too late", Some("Too late")),
            ("<html><body>Forbidden</body></html>", None),
            (r#"{"code": 7}"#, None),
            ("{", None),
            ("[1]", None),
            ("", None),
        ] {
            assert_eq!(message(body).as_deref(), expected, "{body}");
        }
        assert_eq!(message(&"я".repeat(500)), Some("я".repeat(REFUSAL_CHARACTERS)));
    }
}
