//! The behaviour of each method of the Bot API, and the reasons for which a method refuses a request.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::budgets::Budgets;
use super::entities::{plain, shown};
use super::fault::{Fault, Scripted, Taken};
use super::{BOT_ID, Button, Call, Chat, GENERAL, Kind, Topic};

/// The longest callback data of a button, in bytes.
const BUTTON_BYTES: usize = 64;
/// The longest answer to a button press, in characters.
const ANSWER_CHARACTERS: usize = 200;

/// A response of the Bot API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    result: Result<Value, (String, Value)>,
}

impl Answer {
    pub fn ok(result: Value) -> Self {
        Self {
            status: 200,
            result: Ok(result),
        }
    }

    pub fn error(status: u16, why: &str) -> Self {
        Self::error_with(status, why, Value::Null)
    }

    pub fn error_with(status: u16, why: &str, parameters: Value) -> Self {
        Self {
            status,
            result: Err((why.into(), parameters)),
        }
    }

    /// The response as the JSON that is sent to the client.
    pub fn json(&self) -> Value {
        match &self.result {
            Ok(result) => json!({"ok": true, "result": result}),
            Err((why, Value::Null)) => json!({"ok": false, "error_code": self.status, "description": why}),
            Err((why, parameters)) => {
                json!({"ok": false, "error_code": self.status, "description": why, "parameters": parameters})
            }
        }
    }

    fn said(&self) -> String {
        self.result
            .as_ref()
            .map_or_else(|(why, _)| why.clone(), |_| "ok".into())
    }
}

/// The fake's reaction to a request.
#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// A response with this status, and a body that is not JSON of the Bot API.
    Text(u16, String),
    /// The fake resets the connection without a response.
    Reset,
    /// The fake never sends a response.
    Silence,
    /// The fake sends the response when the value is true.
    Held(Answer, watch::Receiver<bool>),
}

/// The requests that a response 429 forbids for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flood {
    Edits,
    Everything,
}

/// A message in a chat, after all its edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    pub text: String,
    pub buttons: Vec<Vec<Button>>,
    pub edits: usize,
}

/// The whole state of the fake Telegram.
#[derive(Default)]
pub struct State {
    /// The tokens that the fake accepts.
    pub tokens: HashSet<String>,
    pub chats: HashMap<i64, Chat>,
    pub messages: BTreeMap<(i64, i32), ChatMessage>,
    pub calls: Vec<Call>,
    pub violations: Vec<String>,
    pub faults: Vec<Scripted>,
    pub updates: VecDeque<Value>,
    pub update_count: i64,
    /// The ids of button presses that the bot has not answered.
    pub presses: HashSet<String>,
    pub poll_turn: u64,
    /// The URL of a webhook that another program has set. While the URL is not empty, `getUpdates` fails.
    pub webhook: String,
    budgets: Budgets,
    /// The time until which the bot must not send to a chat (`Everything`) or edit messages there (`Edits`).
    pub quiet: HashMap<(i64, Flood), Instant>,
}

impl State {
    /// Handles a request of any method except `getUpdates`. If the test has set a fault for the request, the result is
    /// the fault.
    pub fn call(&mut self, token: &str, mut call: Call) -> Reply {
        let chat = call.chat;
        if call.is_new_to(chat) || call.is_edit() {
            self.count(&call);
        }
        let fault = self.fault_for(&call.method, chat, call.body["text"].as_str().unwrap_or_default());
        let answer = match &fault {
            Some(Fault::Answer {
                status,
                text,
                parameters,
            }) => {
                if let Some(seconds) = parameters["retry_after"].as_u64() {
                    let flood = if call.is_edit() {
                        Flood::Edits
                    } else {
                        Flood::Everything
                    };
                    let until = Instant::now() + Duration::from_secs(seconds);
                    self.quiet.insert((chat, flood), until);
                }
                Answer::error_with(*status, text, parameters.clone())
            }
            Some(fault) if fault.taken() == Taken::No => Answer::error(500, "never taken"),
            _ => self.execute(token, &mut call),
        };
        let (reply, said) = match fault {
            Some(Fault::Hang(_)) => (Reply::Silence, "silence".into()),
            Some(Fault::Reset(_)) => (Reply::Reset, "reset".into()),
            Some(Fault::BrokenJson(_)) => (Reply::Text(200, "<html>{\"ok\":".into()), "broken JSON".into()),
            Some(Fault::Run(run)) => {
                run();
                (Reply::Answer(answer), "ran".into())
            }
            Some(Fault::Hold(may_go)) => (Reply::Held(answer, may_go), "held".into()),
            Some(Fault::Page(status)) => (
                Reply::Text(status, "<html>Bad Gateway</html>".into()),
                status.to_string(),
            ),
            _ => {
                let said = answer.said();
                (Reply::Answer(answer), said)
            }
        };
        call.said = said;
        self.calls.push(call);
        reply
    }

    /// Handles one attempt of a long poll. Removes the updates before the request's `offset`, and returns the later
    /// updates, or `None` if no update waits. Refuses a poll with an older `turn`, because a later poll has replaced
    /// that poll.
    pub fn updates_for(&mut self, token: &str, turn: u64, body: &Value) -> Option<Reply> {
        let refused = |status, why: &str| Some(Reply::Answer(Answer::error(status, why)));
        if !self.tokens.contains(token) {
            return refused(401, "Unauthorized");
        }
        match self.fault_for("getUpdates", 0, "") {
            Some(Fault::Answer {
                status,
                text,
                parameters,
            }) => return Some(Reply::Answer(Answer::error_with(status, &text, parameters))),
            Some(Fault::Page(status)) => return Some(Reply::Text(status, "<html>Bad Gateway</html>".into())),
            Some(Fault::Hang(_)) => return Some(Reply::Silence),
            Some(Fault::Reset(_)) => return Some(Reply::Reset),
            Some(_) | None => {}
        }
        if turn != self.poll_turn {
            let why =
                "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
            return refused(409, why);
        }
        let offset = body["offset"].as_i64().unwrap_or(0);
        self.updates
            .retain(|update| update["update_id"].as_i64().unwrap_or(0) >= offset);
        let limit = body["limit"].as_u64().unwrap_or(100).clamp(1, 100) as usize;
        let wanted = |update: &&Value| {
            let kinds = body["allowed_updates"].as_array();
            kinds.is_none_or(|kinds| {
                kinds.is_empty() || kinds.iter().any(|kind| update.get(kind.as_str().unwrap()).is_some())
            })
        };
        let some: Vec<Value> = self.updates.iter().filter(wanted).take(limit).cloned().collect();
        (!some.is_empty()).then(|| Reply::Answer(Answer::ok(Value::Array(some))))
    }

    fn count(&mut self, call: &Call) {
        let (chat, now) = (call.chat, Instant::now());
        self.violations.extend(self.budgets.arrive(chat, now));
        let is_quiet = |flood| self.quiet.get(&(chat, flood)).is_some_and(|until| *until > now);
        if is_quiet(Flood::Everything) || call.is_edit() && is_quiet(Flood::Edits) {
            self.violations.push(format!(
                "chat {chat}: a {} before its retry_after was over",
                call.method
            ));
        }
    }

    fn fault_for(&mut self, method: &str, chat: i64, text: &str) -> Option<Fault> {
        let meets = |scripted: &Scripted| scripted.meets(method, chat, text);
        let index = self.faults.iter().position(meets)?;
        let fault = self.faults[index].fault.clone();
        if self.faults[index].spend() {
            self.faults.remove(index);
        }
        Some(fault)
    }

    fn execute(&mut self, token: &str, call: &mut Call) -> Answer {
        let (method, body) = (&*call.method.clone(), &call.body.clone());
        if !self.tokens.contains(token) {
            return Answer::error(401, "Unauthorized");
        }
        let done = match method {
            _ if is(method, "getMe") => Ok(me()),
            _ if is(method, "sendMessage") => self.send(body, call),
            _ if is(method, "editMessageText") => self.edit_text(body, call),
            _ if is(method, "editMessageReplyMarkup") => self.edit_buttons(body, call),
            _ if is(method, "answerCallbackQuery") => self.answer_press(body),
            _ if is(method, "getChatMember") => self.member(body),
            _ if is(method, "setMyCommands") => Ok(Value::Bool(true)),
            _ if is(method, "getWebhookInfo") => Ok(json!({"url": self.webhook, "has_custom_certificate": false,
                "pending_update_count": self.updates.len()})),
            _ => Err(Answer::error(404, "Not Found: method not found")),
        };
        done.map_or_else(|refused| refused, Answer::ok)
    }

    /// The chat of the request, if the bot is allowed to write to it.
    fn chat(&self, body: &Value) -> Result<(i64, &Chat), Answer> {
        let id = body["chat_id"].as_i64().unwrap_or_default();
        let chat = self
            .chats
            .get(&id)
            .ok_or_else(|| Answer::error(400, "Bad Request: chat not found"))?;
        if let Some(new) = chat.moved_to {
            let why = "Bad Request: group chat was upgraded to a supergroup chat";
            return Err(Answer::error_with(400, why, json!({"migrate_to_chat_id": new})));
        }
        if chat.is_deleted {
            return Err(Answer::error(403, "Forbidden: the group chat was deleted"));
        }
        let kicked = |from: &str| {
            Err(Answer::error(
                403,
                &format!("Forbidden: bot was kicked from the {from} chat"),
            ))
        };
        match (chat.bot_is_out, chat.kind) {
            (false, _) => Ok((id, chat)),
            (true, Kind::Private) => Err(Answer::error(403, "Forbidden: bot was blocked by the user")),
            (true, Kind::Group) if id < -1_000_000_000_000 => kicked("supergroup"),
            (true, Kind::Group) => kicked("group"),
            (true, Kind::Channel) => kicked("channel"),
        }
    }

    /// The id of the chat, if the bot may send a new message to the chat and to the topic that the request names.
    fn writable(&self, body: &Value) -> Result<i64, Answer> {
        let (id, chat) = self.chat(body)?;
        if !chat.may_write {
            let why = "Bad Request: not enough rights to send text messages to the chat";
            return Err(Answer::error(400, why));
        }
        if chat.topics.is_empty() {
            return Ok(id);
        }
        let named = body["message_thread_id"].as_i64().map(|topic| topic as i32);
        match (chat.topics.get(&named.unwrap_or(GENERAL)), named) {
            // The general topic has no thread number, so a request must not name one.
            (_, Some(GENERAL)) | (None | Some(Topic::Deleted), Some(_)) => {
                Err(Answer::error(400, "Bad Request: message thread not found"))
            }
            (None | Some(Topic::Deleted), None) => Err(Answer::error(400, "Bad Request: TOPIC_DELETED")),
            (Some(Topic::Closed), _) => Err(Answer::error(400, "Bad Request: TOPIC_CLOSED")),
            (Some(Topic::Open), _) => Ok(id),
        }
    }

    fn send(&mut self, body: &Value, call: &mut Call) -> Result<Value, Answer> {
        let chat = self.writable(body)?;
        let may_be_gone = body["reply_parameters"]["allow_sending_without_reply"] == true;
        if call
            .reply_to
            .is_some_and(|there| !may_be_gone && !self.messages.contains_key(&(chat, there)))
        {
            return Err(Answer::error(400, "Bad Request: message to be replied not found"));
        }
        let (text, buttons) = content(body, call)?;
        let newest = self.messages.range((chat, 0)..=(chat, i32::MAX)).next_back();
        let number = newest.map_or(1, |((_, number), _)| number + 1);
        self.messages.insert(
            (chat, number),
            ChatMessage {
                text,
                buttons,
                edits: 0,
            },
        );
        call.message = Some(number);
        Ok(self.message_json(chat, number))
    }

    fn edit_text(&mut self, body: &Value, call: &mut Call) -> Result<Value, Answer> {
        let (chat, _) = self.chat(body)?;
        let (text, buttons) = content(body, call)?;
        self.edit(chat, body, call, Some(text), buttons)
    }

    fn edit_buttons(&mut self, body: &Value, call: &mut Call) -> Result<Value, Answer> {
        let (chat, _) = self.chat(body)?;
        let buttons = buttons(body)?;
        call.buttons.clone_from(&buttons);
        self.edit(chat, body, call, None, buttons)
    }

    fn edit(
        &mut self,
        chat: i64,
        body: &Value,
        call: &mut Call,
        text: Option<String>,
        buttons: Vec<Vec<Button>>,
    ) -> Result<Value, Answer> {
        let number = body["message_id"]
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or(0);
        let Some(there) = self.messages.get_mut(&(chat, number)) else {
            return Err(Answer::error(400, "Bad Request: message to edit not found"));
        };
        let text = text.unwrap_or_else(|| there.text.clone());
        if (&text, &buttons) == (&there.text, &there.buttons) {
            let why = "Bad Request: message is not modified: specified new message content and reply markup are exactly \
                 the same as a current content and reply markup of the message";
            return Err(Answer::error(400, why));
        }
        *there = ChatMessage {
            text,
            buttons,
            edits: there.edits + 1,
        };
        call.message = Some(number);
        Ok(self.message_json(chat, number))
    }

    fn answer_press(&mut self, body: &Value) -> Result<Value, Answer> {
        if body["text"]
            .as_str()
            .is_some_and(|text| text.chars().count() > ANSWER_CHARACTERS)
        {
            return Err(Answer::error(400, "Bad Request: MESSAGE_TOO_LONG"));
        }
        if !self
            .presses
            .remove(body["callback_query_id"].as_str().unwrap_or_default())
        {
            let why = "Bad Request: query is too old and response timeout expired or query ID is invalid";
            return Err(Answer::error(400, why));
        }
        Ok(Value::Bool(true))
    }

    fn member(&self, body: &Value) -> Result<Value, Answer> {
        let (_, chat) = self.chat(body)?;
        let person = body["user_id"].as_i64().unwrap_or_default();
        let user = json!({"id": person, "is_bot": false, "first_name": "Somebody"});
        Ok(if chat.administrators.contains(&person) {
            json!({"status": "creator", "user": user, "is_anonymous": false})
        } else {
            json!({"status": "member", "user": user})
        })
    }

    /// A message in the form of the Bot API.
    pub fn message_json(&self, chat: i64, number: i32) -> Value {
        let mut message =
            json!({"message_id": number, "date": 1_790_000_000, "from": me(), "chat": self.chats[&chat].json(chat)});
        let there = &self.messages[&(chat, number)];
        message["text"] = there.text.clone().into();
        if !there.buttons.is_empty() {
            let row = |row: &Vec<Button>| -> Value {
                row.iter()
                    .map(|(label, press)| json!({"text": label, "callback_data": press}))
                    .collect()
            };
            message["reply_markup"] = json!({"inline_keyboard": there.buttons.iter().map(row).collect::<Value>()});
        }
        message
    }
}

fn is(method: &str, name: &str) -> bool {
    method.eq_ignore_ascii_case(name)
}

fn me() -> Value {
    json!({"id": BOT_ID, "is_bot": true, "first_name": "Vestnik", "username": "vestnik_test_bot", "can_join_groups": true,
        "can_read_all_group_messages": false, "supports_inline_queries": false, "can_connect_to_business": false,
        "has_main_web_app": false})
}

/// The visible text and the buttons of a request that sends or edits a message.
fn content(body: &Value, call: &mut Call) -> Result<(String, Vec<Vec<Button>>), Answer> {
    let text = body["text"].as_str().unwrap_or_default();
    let text = match body["parse_mode"].as_str() {
        Some("HTML") => shown(text),
        None => plain(text),
        Some(_) => Err("Bad Request: only HTML is known here".into()),
    };
    let text = text.map_err(|why| Answer::error(400, &why))?;
    call.text.clone_from(&text);
    let buttons = buttons(body)?;
    call.buttons.clone_from(&buttons);
    Ok((text, buttons))
}

fn buttons(body: &Value) -> Result<Vec<Vec<Button>>, Answer> {
    let mut rows = Vec::new();
    for row in body["reply_markup"]["inline_keyboard"].as_array().into_iter().flatten() {
        let mut buttons = Vec::new();
        for button in row.as_array().into_iter().flatten() {
            let (label, press) = (button["text"].as_str(), button["callback_data"].as_str());
            let (label, press) = (
                label.unwrap_or_default().to_owned(),
                press.unwrap_or_default().to_owned(),
            );
            if label.is_empty() {
                return Err(Answer::error(
                    400,
                    "Bad Request: inline keyboard button text must be non-empty",
                ));
            }
            if press.is_empty() || press.len() > BUTTON_BYTES {
                return Err(Answer::error(400, "Bad Request: BUTTON_DATA_INVALID"));
            }
            buttons.push((label, press));
        }
        rows.push(buttons);
    }
    Ok(rows)
}
