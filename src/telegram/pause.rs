//! Executes `/pause`: the stores of a chat take no new orders for some time. Everybody in a chat may pause its stores,
//! not only administrators, because in busy times nobody can wait for a permission.

use teloxide::types::{CallbackQuery, MaybeInaccessibleMessage, Message};

use super::bot::Bot;
use super::chat;
use super::command::Commands;
use super::duration::duration;
use crate::delivery::chat_links::{self, ChatLink};
use crate::delivery::next_message::Button;
use crate::domain::event::StoreId;
use crate::infra::db::QueryError;
use crate::store::pause;
use crate::store::until::Until;
use crate::text::catalog::Catalog;
use crate::text::value::inline;

/// The durations of a pause that the buttons offer, minutes.
const MINUTES: [u64; 3] = [15, 30, 60];
/// The prefix of the data of each button that begins or ends a pause.
const PRESS: &str = "z:";

/// A request to pause stores, or to end their pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PauseRequest {
    Pause(Until),
    Resume,
}

/// Parses the argument of `/pause`, or the data of a button: `30` (minutes), `30m`, `2h`, `tomorrow` or `off`. Also
/// accepts Russian words. `None`: the text has another form.
fn read(text: &str) -> Option<PauseRequest> {
    let text = text.trim().to_lowercase();
    match text.as_str() {
        "off" | "0" | "none" | "stop" | "нет" | "выкл" => return Some(PauseRequest::Resume),
        "tomorrow" | "завтра" | "до завтра" => return Some(PauseRequest::Pause(Until::Tomorrow)),
        _ => {}
    }
    Until::after(duration(&text)?).map(PauseRequest::Pause)
}

impl Commands<'_> {
    /// Executes `/pause` for the stores of these links. If the argument is invalid or missing, the answer offers
    /// buttons with durations. Every chat of a paused store, including this one, gets a message about the pause.
    pub async fn pause(
        &self,
        message: &Message,
        argument: &str,
        links: &[ChatLink],
        words: &Catalog,
    ) -> Result<(), QueryError> {
        let by = chat::author(message);
        match read(argument) {
            Some(request) => match carry_out(self.bot, links, request, &by).await? {
                true => Ok(()),
                false => self.reply(message, words.get("pause.not_paused"), None).await,
            },
            None => {
                let pauses = links.iter().filter_map(|link| chat::pause_of(words, link));
                let lines: Vec<String> = pauses.chain([words.get("pause.ask").to_owned()]).collect();
                let buttons = serde_json::json!(buttons(words));
                self.reply(message, &lines.join("\n"), Some(&buttons)).await
            }
        }
    }
}

fn buttons(words: &Catalog) -> Vec<Vec<Button>> {
    let minutes = |minutes: u64| {
        let label = words.get("pause.minutes").replace("{minutes}", &minutes.to_string());
        (label, format!("{PRESS}{minutes}"))
    };
    let of = |key: &str, press: &str| vec![(words.get(key).to_owned(), format!("{PRESS}{press}"))];
    vec![
        MINUTES.map(minutes).to_vec(),
        of("pause.tomorrow", "tomorrow"),
        of("pause.off", "off"),
    ]
}

/// Executes a press of a button that begins or ends a pause of stores. Returns the answer to the person. `None`: the
/// button has another purpose.
pub(super) async fn press(bot: &Bot, query: &CallbackQuery) -> Result<Option<String>, QueryError> {
    let request = query.data.as_deref().and_then(|data| read(data.strip_prefix(PRESS)?));
    let (Some(request), Some(place)) = (request, &query.message) else {
        return Ok(None);
    };
    let topic = match place {
        MaybeInaccessibleMessage::Regular(message) => chat::topic(message),
        MaybeInaccessibleMessage::Inaccessible(_) => None,
    };
    let links = chat::of_topic(&chat_links::links(&bot.pool, place.chat().id.0).await?, topic);
    let words = chat::words_of(&links, query.from.language_code.as_deref());
    if links.is_empty() {
        return Ok(Some(words.get("pressed.unknown").to_owned()));
    }
    let is_done = carry_out(bot, &links, request, &query.from.full_name()).await?;
    let text = match request {
        PauseRequest::Pause(_) => "pause.done",
        PauseRequest::Resume if is_done => "pause.done_off",
        PauseRequest::Resume => "pause.not_paused",
    };
    Ok(Some(words.get(text).to_owned()))
}

/// Pauses the stores of these links, or ends their pauses. Returns whether the state of at least one store changed.
async fn carry_out(bot: &Bot, links: &[ChatLink], request: PauseRequest, by: &str) -> Result<bool, QueryError> {
    let by: String = inline(by).chars().take(chat::NAME_CHARACTERS).collect();
    let mut is_any = false;
    for link in links {
        let store = StoreId::new(&link.store);
        is_any |= match request {
            PauseRequest::Pause(until) => pause::begin(&bot.pool, &store, until, &by, None).await?.is_some(),
            PauseRequest::Resume => pause::end(&bot.pool, &store, &by).await?,
        };
    }
    Ok(is_any)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pause_is_read_as_people_write_it() {
        let minutes = |minutes: u64| Some(PauseRequest::Pause(Until::After(Duration::from_secs(minutes * 60))));
        for (text, request) in [
            ("30", minutes(30)),
            ("30m", minutes(30)),
            ("15 мин", minutes(15)),
            ("2h", minutes(120)),
            ("Tomorrow", Some(PauseRequest::Pause(Until::Tomorrow))),
            ("до завтра", Some(PauseRequest::Pause(Until::Tomorrow))),
            ("OFF", Some(PauseRequest::Resume)),
            ("0", Some(PauseRequest::Resume)),
        ] {
            assert_eq!(read(text), request, "{text}");
        }
        for wrong in ["", "soon", "-5", "0m", "99999999999", "30 days", "200h", "m"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
