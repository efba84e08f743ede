//! Draws the pictures of docs/telegram.md from messages that the bot sends in this test. VESTNIK_TEST_BLESS=1
//! overwrites the pictures.

use std::fmt::Write as _;
use std::path::Path;

use super::{ANNA, BORIS, KITCHEN, code};
use crate::support::app::App;
use crate::support::db::until;
use crate::support::telegram::{Button, Call, Telegram};
use vestnik::delivery::chat_links::Mode;

/// The highest number of characters in one line of a message.
const LINE: usize = 46;
/// The height of a line. The next two constants are the width of a message and the margin around its text. All are in
/// pixels.
const LINE_PX: usize = 20;
const WIDTH_PX: usize = 400;
const EDGE_PX: usize = 12;

/// The table of a shop, with a column for every field that a message can show.
const SHOP: &str = "create table shop_orders (id int primary key, store_id int not null, status text not null default 'pending', name text, phone text, \
         address text, comment text, total bigint, items jsonb); \
     update vestnik.vst_store set time_zone = 'UTC'";
const MAPPING: &str = r#"table = "public.shop_orders"
kind = "order"
key = "id"
store = "store_id"
[status]
column = "status"
pending = ["pending"]
preparing = ["preparing"]
ready = ["ready"]
delivering = ["delivering"]
completed = ["completed"]
rejected = ["rejected"]
cancelled = ["cancelled"]
[fields]
customer_name = "name"
phone = "phone"
address = "address"
comment = "comment"
total = { column = "total", unit = "minor" }
[items]
column = "items"
"#;

/// The texts of the example shop in one language.
struct Shop {
    language: &'static str,
    name: &'static str,
    kitchen: &'static str,
    cook: &'static str,
    order: &'static str,
    items_then: &'static str,
}

const SHOPS: [Shop; 2] = [
    Shop {
        language: "en",
        name: "Bakery",
        kitchen: "Kitchen",
        cook: "Anna",
        order: r#"(12, 7, 'pending', 'Mary', '+44 20 7946 0958', '5 High Street', 'Allergic to nuts', 4250,
            '[{"name": "Margherita", "quantity": 2, "options": ["jalapeño"], "note": "no onions"}, {"name": "Tea"}]')"#,
        items_then: r#"[{"name": "Margherita", "quantity": 2, "options": ["jalapeño"], "note": "no onions"}, {"name": "Tea", "quantity": 2}]"#,
    },
    Shop {
        language: "ru",
        name: "Пекарня",
        kitchen: "Кухня",
        cook: "Анна",
        order: r#"(12, 7, 'pending', 'Мария', '+7 900 123-45-67', 'ул. Мира, 5', 'Аллергия на орехи', 125000,
            '[{"name": "Пицца Маргарита", "quantity": 2, "options": ["халапеньо"], "note": "без лука"}, {"name": "Чай"}]')"#,
        items_then: r#"[{"name": "Пицца Маргарита", "quantity": 2, "options": ["халапеньо"], "note": "без лука"}, {"name": "Чай", "quantity": 2}]"#,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_pictures_of_the_guide_show_what_the_bot_sends() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    let mut stale = Vec::new();
    for shop in &SHOPS {
        for (name, picture) in pictures(shop).await {
            let path = directory.join(format!("telegram-{name}-{}.svg", shop.language));
            if std::fs::read_to_string(&path).is_ok_and(|there| there == picture) {
                continue;
            }
            match std::env::var_os("VESTNIK_TEST_BLESS") {
                Some(_) => std::fs::write(&path, &picture).unwrap(),
                None => stale.push(path),
            }
        }
    }
    assert!(
        stale.is_empty(),
        "scripts/telegram-pictures draws these anew; look at what changed: {stale:?}"
    );
}

/// Simulates an evening of the shop, and returns a named picture (SVG) of each part.
async fn pictures(shop: &Shop) -> Vec<(&'static str, String)> {
    let telegram = Telegram::start().await;
    telegram.add_private(ANNA, "Anna");
    telegram.add_private(BORIS, "Boris");
    telegram.add_group(KITCHEN, shop.kitchen, &[ANNA]);
    let app = App::start_with(|config| config.telegram = Some(telegram.settings())).await;
    let client = app.database.client().await;
    for (chat, mode, command) in [
        (KITCHEN, Mode::Mirror, "/link@vestnik_test_bot "),
        (BORIS, Mode::Manager, "/start "),
    ] {
        let code = code(&app.database, "7", mode, shop.language).await;
        let currency = if shop.language == "en" { "GBP" } else { "RUB" };
        app.write(&format!(
            "update vestnik.vst_store set name = '{}', currency = '{currency}'",
            shop.name
        ))
        .await;
        telegram.write(
            chat,
            if chat == KITCHEN { ANNA } else { BORIS },
            &format!("{command}{code}"),
        );
        telegram.until_messages(chat, 1).await;
    }
    let linked = telegram.until_messages(KITCHEN, 1).await.remove(0);
    client.batch_execute(SHOP).await.unwrap();
    app.database.attach(MAPPING).await;
    app.write(&format!("insert into shop_orders values {}", shop.order))
        .await;
    let order = telegram.until_messages(KITCHEN, 2).await.remove(1);
    until(&client, "select exists (select from vestnik.vst_escalation)").await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;

    app.write("update vestnik.vst_event set at = at - interval '3 minutes' where type = 'insert'")
        .await;
    const HURRY: &str = "update vestnik.vst_escalation set due_at = now() - interval '1 s' where ended_at is null";
    app.write(HURRY).await;
    let reminder = telegram.until_messages(KITCHEN, 3).await.remove(2);
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    app.write(HURRY).await;
    let escalated = telegram.until_messages(BORIS, 2).await.remove(1);
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;

    app.write(&format!(
        "update shop_orders set items = '{}', total = total + 15000",
        shop.items_then
    ))
    .await;
    let changed = telegram.until_messages(KITCHEN, 4).await.remove(3);
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    let accept = order.buttons[0][0].1.clone();
    telegram.push_press(KITCHEN, ANNA, order.message.unwrap(), &accept);
    let accepted = telegram.until_messages(KITCHEN, 5).await.remove(4);
    telegram.write(KITCHEN, ANNA, "/pause@vestnik_test_bot");
    let pause = telegram
        .until_call("the pause", |call| call.is_new_to(KITCHEN) && call.text.contains('⏸'))
        .await;
    telegram.write(KITCHEN, ANNA, "/today@vestnik_test_bot");
    let today = telegram
        .until_call("the day", |call| call.is_new_to(KITCHEN) && call.text.contains('📊'))
        .await;
    app.engine.shut_down().await;
    vec![
        ("order", draw(shop, &[linked, order])),
        ("unanswered", draw(shop, &[reminder, escalated])),
        ("answered", draw(shop, &[changed, accepted])),
        ("day", draw(shop, &[pause, today])),
    ]
}

/// Draws the messages one below the other, as SVG.
fn draw(shop: &Shop, messages: &[Call]) -> String {
    let (mut body, mut y) = (String::new(), EDGE_PX);
    for message in messages {
        let text = at_a_time(message.body["text"].as_str().unwrap());
        let lines = lines(&text.replace(&format!("Person{ANNA}"), shop.cook));
        let height = lines.len() * LINE_PX + 2 * EDGE_PX;
        let _ = write!(
            body,
            "<rect x=\"{EDGE_PX}\" y=\"{y}\" width=\"{WIDTH_PX}\" height=\"{height}\" rx=\"12\" fill=\"#fff\"/>"
        );
        for (index, line) in lines.iter().enumerate() {
            let baseline = y + EDGE_PX + (index + 1) * LINE_PX - 5;
            let _ = writeln!(body, "<text x=\"{}\" y=\"{baseline}\">{line}</text>", 2 * EDGE_PX);
        }
        y += height + 4;
        for row in &message.buttons {
            y = draw_row(&mut body, row, y);
        }
        y += EDGE_PX;
    }
    let width = WIDTH_PX + 2 * EDGE_PX;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" \
         font-family=\"-apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif\" font-size=\"14\" fill=\"#111\" xml:space=\"preserve\">\n\
         <rect width=\"{width}\" height=\"{y}\" fill=\"#b9cfe4\"/>\n{body}</svg>\n"
    )
}

/// Draws a row of buttons. Returns the vertical position below the row, in pixels.
fn draw_row(body: &mut String, row: &[Button], y: usize) -> usize {
    let width = (WIDTH_PX - 4 * (row.len() - 1)) / row.len();
    for (index, (label, _)) in row.iter().enumerate() {
        let x = EDGE_PX + index * (width + 4);
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"32\" rx=\"8\" fill=\"#7d9bb8\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#fff\" text-anchor=\"middle\">{}</text>",
            x + width / 2,
            y + 21,
            escaped(label)
        );
    }
    y + 36
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Replaces every time of day by 19:03, so that the pictures are the same in each run.
fn at_a_time(html: &str) -> String {
    let letters: Vec<char> = html.chars().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < letters.len() {
        let is_time = letters.get(at..at + 5).is_some_and(|five| {
            five.iter()
                .enumerate()
                .all(|(index, c)| if index == 2 { *c == ':' } else { c.is_ascii_digit() })
        });
        text.push_str(if is_time { "19:03" } else { "" });
        if !is_time {
            text.push(letters[at]);
        }
        at += if is_time { 5 } else { 1 };
    }
    // Remove the date from the summary of a day, because the date differs in each run.
    match text.find("📊") {
        Some(_) => {
            let first = text.lines().next().unwrap_or_default().to_owned();
            let comma = first.find(',').unwrap_or(first.len());
            text.replacen(&first, &format!("{}</b>", &first[..comma]), 1)
        }
        None => text,
    }
}

/// Splits a text into lines that fit the width of a message. Each line opens and closes its own tags.
fn lines(html: &str) -> Vec<String> {
    let mut drawn = Vec::new();
    // SVG drops spaces at the beginning of a line, so these spaces become non-breaking spaces.
    for line in html.replace("\n   ", "\n\u{a0}\u{a0}\u{a0}").lines() {
        let (mut style, mut width, mut text) = ("", 0, String::new());
        for piece in line.replace('<', "\u{0}<").split('\u{0}') {
            let words = match piece.strip_prefix('<').and_then(|tag| tag.split_once('>')) {
                Some((tag, words)) => {
                    style = match tag.split(' ').next().unwrap_or_default() {
                        "b" => " font-weight=\"bold\"",
                        "s" => " text-decoration=\"line-through\"",
                        "i" => " font-style=\"italic\"",
                        "a" => " fill=\"#2a6fb5\"",
                        "code" => " font-family=\"monospace\"",
                        _ => "",
                    };
                    words
                }
                None => piece,
            };
            for word in words.split_inclusive(' ') {
                if width > 0 && width + word.trim_end().chars().count() > LINE {
                    drawn.push(std::mem::take(&mut text));
                    width = 0;
                }
                width += word.chars().count();
                let _ = write!(text, "<tspan{style}>{word}</tspan>");
            }
        }
        drawn.push(text);
    }
    drawn
}
