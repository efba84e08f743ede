//! Counts the requests and bytes that a tablet loads before it shows the first order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::panel::ORDER;
use crate::panel::browser::Browser;
use crate::support::app::App;

/// The highest allowed numbers of requests and of bytes of the first load.
const REQUESTS: usize = 12;
const BYTES: usize = 80_000;

/// The traffic that the proxy has counted.
#[derive(Default)]
struct Seen {
    /// Each request line, with the number of response bytes that the proxy had forwarded before it.
    requests: Vec<(String, usize)>,
    bytes: usize,
}

impl Seen {
    fn note(&mut self, text: &str) {
        let lines = text.lines().filter(|line| line.ends_with(" HTTP/1.1"));
        self.requests.extend(lines.map(|line| (line.to_owned(), self.bytes)));
    }
}

/// Starts a proxy that forwards all bytes and counts them.
async fn scales(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(target).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let (asked, answered) = (Arc::clone(&counted), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..read]);
                    asked.lock().unwrap().note(&text);
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    answered.lock().unwrap().bytes += read;
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_order_is_seen_after_twelve_requests_and_eighty_kilobytes_at_most() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(ORDER).await;
    let (address, seen) = scales(app.engine.address()).await;
    browser.open_shift(&app.panel_link_through(address)).await;
    browser
        .js_later("document.fonts.ready.then(() => arguments[0](true))")
        .await;
    browser.press("#shift-start").await;
    browser.until_in("pending", 1).await;
    browser.until("navigator.serviceWorker.controller !== null").await;
    expect_light(&seen.lock().unwrap());
    browser.close().await;
}

fn expect_light(seen: &Seen) {
    // The page loads the lists before it counts the orders of the day, so the search below begins after the list of
    // bookings. The request that opens the socket (`/ws/`) is left out.
    let mut lines = seen.requests.iter();
    let lists = lines.position(|(line, _)| line.contains("/bookings?"));
    let lists = lists.expect("the bookings are loaded");
    // Find the first request that the page does not need for the first orders: a request for other modules, for the
    // orders of the day, or for the scope of the token.
    let is_later = |line: &str| {
        ["/later.js", "status=all", "/session/"]
            .iter()
            .any(|part| line.contains(part))
    };
    let later = lines.position(|(line, _)| is_later(line));
    let settled = lists + 1 + later.expect("the day's orders are counted");
    let bytes = seen.requests[settled].1;
    let first: Vec<_> = seen.requests[..settled]
        .iter()
        .filter(|(line, _)| !line.contains("/ws/"))
        .collect();
    println!(
        "the first order: {} requests, {bytes} bytes; with all that follows {} and {}",
        first.len(),
        seen.requests.len(),
        seen.bytes
    );
    assert!(
        first.iter().any(|(line, _)| line.contains("/orders?status=active")),
        "{first:#?}"
    );
    assert!(first.len() <= REQUESTS && bytes <= BYTES, "{bytes} bytes: {first:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_goes_on_asks_for_its_orders_before_it_has_its_words_and_shows_them_before_the_bookings() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(ORDER).await;
    browser.start_shift(&app.panel_link()).await;
    browser.until_in("pending", 1).await;
    // Delete the saved board, because the page would show its order at once. The script also makes the request for
    // bookings wait forever.
    let script = "sessionStorage.removeItem('vestnik.board'); const real = fetch;
        window.fetch = (address, ...given) => String(address).includes('/bookings?') ? new Promise(() => {}) : real(address, ...given);";
    browser
        .cdp(
            "Page.addScriptToEvaluateOnNewDocument",
            serde_json::json!({"source": script}),
        )
        .await;
    browser.page.refresh().await.unwrap();
    browser.until_in("pending", 1).await;
    let asked = "const of = (part) => performance.getEntriesByType('resource').find(({ name }) => name.includes(part));
        return of('/orders?').startTime < of('/lang/ru.js').responseEnd";
    assert_eq!(browser.js(asked).await, true);
    browser.close().await;
}
