//! Tests of tickets: ESC/POS over USB and a serial port, printing through the browser, and copies. Printing never
//! disturbs a ring.

use serde_json::{Value, json};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// Simulates a USB printer, which collects its bytes in `printer.bytes`.
const USB: &str = "window.printer = { granted: sessionStorage.getItem('granted') !== null, isAway: false, bytes: [] };
    const device = { productName: 'XP-80', configuration: null,
        async open() {}, async close() {}, async forget() {},
        async selectConfiguration() { this.configuration = { interfaces: [{ interfaceNumber: 3, alternates: [{ alternateSetting: 0, interfaceClass: 7, endpoints: [
            { direction: 'in', type: 'bulk', endpointNumber: 1 }, { direction: 'out', type: 'bulk', endpointNumber: 2 }] }] }] }; },
        async claimInterface(number) { if (number !== 3) throw new Error('another interface'); },
        async transferOut(endpoint, chunk) { if (endpoint !== 2) throw new Error('another endpoint'); printer.bytes.push(...chunk); return { status: 'ok', bytesWritten: chunk.length }; } };
    Object.defineProperty(navigator, 'usb', { value: {
        async requestDevice({ filters }) {
            if (!navigator.userActivation.isActive || !filters.some(({ classCode }) => classCode === 7)) throw new DOMException('no', 'SecurityError');
            printer.granted = true; sessionStorage.setItem('granted', ''); return device; },
        async getDevices() { return printer.granted && !printer.isAway ? [device] : []; } } });";

/// Simulates a printer at a serial port, which collects its bytes in `printer.bytes`.
const SERIAL: &str = "window.printer = { granted: false, bytes: [] };
    const port = { async open({ baudRate }) { printer.baud = baudRate; this.writable = new WritableStream({ write: (chunk) => { printer.bytes.push(...chunk); } }); },
        async close() { printer.isClosed = true; }, async forget() {} };
    Object.defineProperty(navigator, 'serial', { value: {
        async requestPort() { printer.granted = true; return port; },
        async getPorts() { return printer.granted ? [port] : []; } } });";

/// A printed ticket: rows of dots, true for black.
#[derive(Debug, PartialEq)]
struct Paper {
    rows: Vec<Vec<bool>>,
}

/// Parses ESC/POS as a printer does. Panics at an unknown command, because a printer would print it as text.
fn printed(bytes: &[u8]) -> Vec<Paper> {
    let (mut papers, mut rows, mut at) = (Vec::new(), None::<Vec<Vec<bool>>>, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [0x1b, b'@', ..] => {
                assert!(rows.is_none(), "a ticket that was not cut");
                rows = Some(Vec::new());
                at += 2;
            }
            [
                0x1d,
                b'v',
                b'0',
                0,
                across_low,
                across_high,
                rows_low,
                rows_high,
                rest @ ..,
            ] => {
                let across = usize::from(*across_low) + 256 * usize::from(*across_high);
                let many = usize::from(*rows_low) + 256 * usize::from(*rows_high);
                assert!(
                    (1..=128).contains(&many),
                    "{many} rows are more than a cheap printer keeps"
                );
                for row in rest[..across * many].chunks(across) {
                    let dots = row
                        .iter()
                        .flat_map(|byte| (0..8).map(move |bit| byte & (0x80 >> bit) != 0));
                    rows.as_mut().expect("the printer was initialized").push(dots.collect());
                }
                at += 8 + across * many;
            }
            [0x1b, b'd', lines, ..] => {
                assert!(*lines >= 3, "too few lines are fed: the knife would cut the text");
                at += 3;
            }
            [0x1d, b'V', 66, 0, ..] => {
                papers.push(Paper {
                    rows: rows.take().expect("a cut follows a ticket"),
                });
                at += 4;
            }
            other => panic!("no command at {at}: {:?}", &other[..other.len().min(8)]),
        }
    }
    assert!(rows.is_none(), "a ticket that was not cut");
    papers
}

impl Paper {
    fn width(&self) -> usize {
        self.rows[0].len()
    }

    /// Whether the ticket shows these dots at any height, `left` dots from its left edge.
    fn shows(&self, dots: &[Vec<bool>], left: usize) -> bool {
        let here = |top: usize| {
            dots.iter().enumerate().all(|(row, expected)| {
                let own = &self.rows[top + row][left..];
                expected.iter().zip(own).all(|(one, other)| one == other)
            })
        };
        self.rows.len() >= dots.len() && (0..=self.rows.len() - dots.len()).any(here)
    }

    /// Saves the ticket as a picture in the PBM format, for people who want to look at it.
    fn save(&self, name: &str) {
        let mut text = format!("P1\n{} {}\n", self.width(), self.rows.len());
        for row in &self.rows {
            text.extend(row.iter().map(|dot| if *dot { '1' } else { '0' }));
            text.push('\n');
        }
        std::fs::write(format!("target/panel/{name}.pbm"), text).unwrap();
    }
}

impl Browser {
    /// The tickets that were printed since the last call.
    async fn papers(&self) -> Vec<Paper> {
        let bytes = self.js("return printer.bytes.splice(0)").await;
        printed(&serde_json::from_value::<Vec<u8>>(bytes).unwrap())
    }

    /// The dots of a text, drawn by the browser itself.
    async fn dots(&self, text: &str, font: &str) -> Vec<Vec<bool>> {
        let script = format!(
            "const canvas = new OffscreenCanvas(900, 120).getContext('2d');
             canvas.fillStyle = '#fff'; canvas.fillRect(0, 0, 900, 120); canvas.fillStyle = '#000';
             canvas.font = '{font} Onest'; const wide = Math.ceil(canvas.measureText({text:?}).width); canvas.fillText({text:?}, 0, 90);
             const {{ data }} = canvas.getImageData(0, 0, wide, 120);
             const rows = Array.from({{ length: 120 }}, (_, row) => Array.from({{ length: wide }}, (_, dot) => data[(row * wide + dot) * 4] < 160));
             const inked = (row) => row.some(Boolean);
             return rows.slice(rows.findIndex(inked), rows.findLastIndex(inked) + 1)"
        );
        let rows: Vec<Vec<bool>> = serde_json::from_value(self.js(&script).await).unwrap();
        assert!(rows.len() > 15, "the text has letters");
        rows
    }

    async fn before_each_page(&self, script: &str) {
        self.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}))
            .await;
    }

    async fn choose(&self, field: &str, value: &str) {
        self.js(&format!(
            "const field = document.getElementById('{field}'); field.value = '{value}'; field.dispatchEvent(new Event('change'))"
        ))
        .await;
    }

    async fn until_print(&self, order: u64, state: &str) -> Value {
        self.until(&format!(
            "document.querySelector('[data-key=\"orders/7/orders/{order}\"] .print-mark[data-print={state}]')?.innerText"
        ))
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_printer_gets_each_order_once_as_a_picture_and_a_reprint_says_that_it_is_a_copy() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.before_each_page(USB).await;
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=settings]").await;
    browser
        .until("document.querySelectorAll('#set-printer option').length >= 2")
        .await;
    browser.choose("set-printer", "usb").await;
    browser.press("#choose-printer").await;
    browser
        .until("document.getElementById('print-hint').innerText.includes('XP-80')")
        .await;
    browser.press("#try-printer").await;
    browser
        .until("document.getElementById('print-result').innerText.includes('отправлен')")
        .await;
    let trial = browser.papers().await;
    trial[0].save("53-trial");
    assert!(trial.len() == 1 && trial[0].width() == 576);
    browser.choose("set-copies", "2").await;
    browser.choose("set-print", "arrival").await;
    browser
        .js("document.getElementById('set-print').scrollIntoView({ block: 'start' })")
        .await;
    browser.picture("54-printing").await;
    browser.press("[data-view-of=orders]").await;

    app.write(&ORDER.replace("Иван", "Ғани Ўтаев")).await;
    let mark = browser.until_print(1, "printed").await;
    assert!(mark.as_str().unwrap().contains("Напечатан в"), "{mark}");
    // The order still rings while its ticket is printed.
    assert_eq!(
        browser
            .js("return vestnik.ringer.ringing.has('orders/7/orders/1')")
            .await,
        true
    );
    browser.until_heard().await;
    let papers = browser.papers().await;
    papers[0].save("55-ticket");
    assert!(papers.len() == 2 && papers[0] == papers[1], "{} papers", papers.len());
    for (text, font) in [
        ("Заказ №1", "800 68px"),
        ("2 × Пицца Маргарита", "700 40px"),
        ("Клиент: Ғани Ўтаев", "500 28px"),
    ] {
        assert!(papers[0].shows(&browser.dots(text, font).await, 0), "{text}");
    }
    assert!(!papers[0].shows(&browser.dots("Заказ №2", "800 68px").await, 0));

    // A print by hand uses the current paper width. The ticket says that it is a copy.
    browser
        .js("vestnik.settings.copies = 1; vestnik.settings.paper = 58")
        .await;
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser
        .until("document.querySelector('#order .order-print')?.title === 'Напечатать копию'")
        .await;
    browser.press("#order .order-print").await;
    browser.until("printer.bytes.length > 0").await;
    browser.until_print(1, "printed").await;
    let again = browser.papers().await;
    again[0].save("56-copy");
    assert!(again.len() == 1 && again[0].width() == 384);
    assert!(again[0].rows[3].iter().all(|dot| *dot), "white on black: КОПИЯ");
    assert!(papers[0].rows[3].iter().any(|dot| !*dot));
    browser.press("#order .order-close").await;

    // An order that came while the page was closed is printed when the page opens again. An order that was printed
    // before is not printed again.
    browser.page.goto("about:blank").await.unwrap();
    app.write(ORDER).await;
    let address = format!("http://{}/", app.engine.address());
    browser.page.goto(&address).await.unwrap();
    browser.until_light("live").await;
    browser.until_print(2, "printed").await;
    browser.until_print(1, "printed").await;
    let papers = browser.papers().await;
    assert_eq!(papers.len(), 2, "two copies were chosen");
    assert!(papers[0].shows(&browser.dots("Заказ №2", "800 68px").await, 0));
    browser.picture("57-printed").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_printer_is_away_says_so_and_is_printed_when_somebody_tries_again() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.before_each_page(USB).await;
    browser.start_shift(&app.panel_link()).await;
    browser
        .js("printer.granted = printer.isAway = true; vestnik.settings.printer = 'usb'; vestnik.settings.autoPrint = 'arrival'")
        .await;
    app.write(ORDER).await;
    let mark = browser.until_print(1, "failed").await;
    assert!(mark.as_str().unwrap().contains("принтер не подключён"), "{mark}");
    browser
        .until("document.querySelector('[data-notice=printer]')?.innerText.includes('№1')")
        .await;
    browser.until_heard().await;
    browser.picture("58-printer-away").await;
    // The page also reports a failed print if the printer accepts no data.
    browser.js("printer.isAway = false; navigator.usb.getDevices().then(([one]) => { printer.take = one.transferOut; one.transferOut = async () => ({ status: 'stall' }); })").await;
    browser.until("printer.take !== undefined").await;
    browser.press("[data-notice=printer] button").await;
    browser
        .until(
            "document.querySelector('[data-key=\"orders/7/orders/1\"] .print-mark')?.innerText.includes('не принял чек')",
        )
        .await;
    browser
        .js("navigator.usb.getDevices().then(([one]) => { one.transferOut = printer.take; printer.take = undefined; })")
        .await;
    browser.until("printer.take === undefined").await;
    browser.press("[data-notice=printer] button").await;
    browser.until_print(1, "printed").await;
    browser
        .until("document.querySelector('[data-notice=printer]') === null")
        .await;
    let papers = browser.papers().await;
    assert_eq!(papers.len(), 1);
    assert!(
        papers[0].rows[3].iter().any(|dot| !*dot),
        "the first printed ticket is not a copy"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_printer_prints_what_was_accepted_wherever_that_was() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.before_each_page(SERIAL).await;
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=settings]").await;
    browser
        .until("document.querySelectorAll('#set-printer option').length >= 2")
        .await;
    browser.choose("set-printer", "serial").await;
    browser.choose("set-baud", "19200").await;
    browser.press("#choose-printer").await;
    browser.until("printer.granted").await;
    browser.choose("set-print", "accept").await;
    browser.press("[data-view-of=orders]").await;
    app.write(ORDER).await;
    browser.until_in("pending", 1).await;
    browser.until_heard().await;
    assert_eq!(
        browser.js("return printer.bytes.length").await,
        0,
        "the order is not accepted yet"
    );
    app.write("update orders set status = 'preparing'").await;
    browser.until_print(1, "printed").await;
    assert_eq!(
        browser.js("return [printer.baud, printer.isClosed]").await,
        json!([19200, true])
    );
    let papers = browser.papers().await;
    assert!(papers.len() == 1 && papers[0].shows(&browser.dots("Заказ №1", "800 68px").await, 0));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_print_window_waits_for_the_ring_and_is_refused_where_it_stops_the_page() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser
        .before_each_page(
            "window.prints = 0; window.print = () => { prints += 1; const began = performance.now(); while (performance.now() - began < 2500); }",
        )
        .await;
    browser.start_shift(&app.panel_link()).await;
    browser.js("vestnik.settings.autoPrint = 'arrival'").await;
    app.write(ORDER).await;
    browser.until_print(1, "waits").await;
    browser.until_heard().await;
    assert_eq!(
        browser.js("return prints").await,
        0,
        "the ticket waits while the order rings"
    );
    browser.press("[data-key='orders/7/orders/1'] .yes").await;
    browser.until("prints === 1").await;
    browser
        .until("document.querySelector('[data-notice=autoprint]')?.innerText.includes('Автопечать выключена')")
        .await;
    assert_eq!(browser.js("return vestnik.settings.autoPrint").await, "");
    // A person can still print a ticket by hand.
    browser.press("[data-key='orders/7/orders/1'] .card-open").await;
    browser.press("#order .order-print").await;
    browser.until("prints === 2").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_ask_for_the_devices_that_print() {
    let (app, browser) = (App::start().await, Browser::start().await);
    browser.open_shift(&app.panel_link()).await;
    for devices in ["navigator.usb.getDevices()", "navigator.serial.getPorts()"] {
        let asked = format!(
            "const done = arguments[0]; {devices}.then((all) => done(all.length), (error) => done(`${{error.name}}: ${{error.message}}`))"
        );
        assert_eq!(browser.js_later(&asked).await, 0, "{devices}");
    }
    browser.close().await;
}
