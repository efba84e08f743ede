//! Tests of the history view of a manager: figures, search, and a table to download.

use crate::panel::browser::Browser;
use crate::support::app::App;

const DAY: &str = "insert into orders (store_id, customer_name, customer_phone, total, order_type, status, reason, items) values \
     (7, 'Иван', '+7 900 111-22-33', 50000, 'delivery', 'completed', null, '[{\"name\": \"Борщ\", \"count\": 2}]'), \
     (7, '=2+3', '+7 900 444-55-66', 25050, 'pickup', 'completed', null, null), \
     (7, 'Пётр', null, 99900, 'pickup', 'rejected', 'Кончились продукты', null)";

#[tokio::test(flavor = "multi_thread")]
async fn a_day_has_its_figures_its_search_and_its_table() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(DAY).await;
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=history]").await;
    let figures = "[...document.querySelectorAll('#day .figure dd')].map((figure) => figure.firstChild.textContent.replace(/\\s/g, ' ')).join('|')";
    browser.until(&format!("{figures} === '3|750,50 ₽|–|–|–|1'")).await;
    browser
        .until("document.querySelector('.reasons-of')?.innerText.includes('Кончились продукты')")
        .await;
    // People search by a name, or by the last digits of a phone number.
    let found = "[...document.querySelectorAll('.closed-open b')].map((number) => number.innerText).join()";
    for (words, expected) in [
        ("ива", "Заказ №1"),
        ("5566", "Заказ №2"),
        ("№3", "Заказ №3"),
        ("", "Заказ №3,Заказ №2,Заказ №1"),
    ] {
        browser
            .js(&format!(
                "const field = document.getElementById('closed-words'); field.value = '{words}'; field.dispatchEvent(new Event('input'))"
            ))
            .await;
        browser.until(&format!("{found} === '{expected}'")).await;
    }
    // The table has all orders. A spreadsheet program must not run a customer's name as a formula.
    browser
        .js("window.taken = null; const make = URL.createObjectURL; URL.createObjectURL = (blob) => (blob.text().then((text) => (window.taken = text)), make(blob));")
        .await;
    browser.press(".csv").await;
    let table = browser.until("window.taken").await;
    let table = table.as_str().unwrap().trim_start_matches('\u{feff}').to_owned();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(rows[0].starts_with("\"Номер\",\"Время\",\"Статус\""), "{table}");
    assert!(
        rows[2].contains("\"'=2+3\"") && rows[2].contains("\"250.50\",\"RUB\""),
        "{table}"
    );
    assert!(rows[3].contains("\"Борщ\"") || rows[3].contains("2 × Борщ"), "{table}");
    browser.expect_clean(&app).await;
    // If the time span ends before it begins, the page shows a message about this.
    browser
        .js("document.getElementById('history-to').value = '2020-01-01T00:00'; document.getElementById('history-filter').requestSubmit()")
        .await;
    browser
        .until("document.getElementById('history-problem').innerText.includes('начало позже конца')")
        .await;
    browser
        .until("document.querySelectorAll('.closed-open').length === 0")
        .await;
    browser.close().await;
}
