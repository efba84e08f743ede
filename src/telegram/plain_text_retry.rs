//! Simplifies a message that Telegram has refused, for the next attempt. The second attempt has plain text instead of
//! markup, and the third has no buttons either. `delivery::send_outcome` counts the refusals and sets the time of the
//! next attempt.

use teloxide::types::{InlineKeyboardButton, InlineKeyboardMarkup, ParseMode};

use super::digest;
use super::message::Message;
use crate::delivery::next_message::{Button, OpenButton};
use crate::text::html;

/// The text and the buttons of one request to Telegram.
pub(super) struct Content {
    pub text: String,
    pub parse_mode: Option<ParseMode>,
    pub keyboard: InlineKeyboardMarkup,
    /// The buttons that send the message of one order when somebody presses them. Empty if the message is no list of
    /// orders.
    pub opens: Vec<OpenButton>,
}

/// Simplifies a message that Telegram has refused. After one refusal it is sent without markup, and after two refusals
/// also without buttons.
pub(super) fn content_after(message: Message, refusals: u32) -> Content {
    let buttons = match refusals {
        0 | 1 => message.buttons,
        _ => Vec::new(),
    };
    let (text, parse_mode) = match refusals {
        0 => (message.text, Some(ParseMode::Html)),
        _ => (html::to_plain_text(&message.text), None),
    };
    Content {
        text,
        parse_mode,
        keyboard: keyboard(&buttons),
        opens: digest::open_buttons(&buttons),
    }
}

fn keyboard(rows: &[Vec<Button>]) -> InlineKeyboardMarkup {
    let button = |(label, press): &Button| InlineKeyboardButton::callback(label, press);
    InlineKeyboardMarkup::new(rows.iter().map(|row| row.iter().map(button).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_loses_its_markup_and_then_its_buttons() {
        let message = || Message {
            text: "<b>Order</b> 1 &amp; &lt;2&gt;".into(),
            buttons: vec![vec![("Accept".into(), "s:1:preparing".into())]],
        };
        let of = |refusals| {
            let content = content_after(message(), refusals);
            (content.text, content.parse_mode, content.keyboard.inline_keyboard.len())
        };
        assert_eq!(of(0), (message().text, Some(ParseMode::Html), 1));
        assert_eq!(of(1), ("Order 1 & <2>".into(), None, 1));
        assert_eq!(of(2), ("Order 1 & <2>".into(), None, 0));
    }
}
