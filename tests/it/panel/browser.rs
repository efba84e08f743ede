//! A real Chromium, which each test drives through its own chromedriver.

use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, interval};

use super::driver::{Raw, capabilities, start_driver};
use super::webkit;
use crate::support::watch::Watch;

pub use super::driver::PATIENCE;

/// The time between two checks of the page.
pub const LOOK: Duration = Duration::from_millis(40);
/// Limits the number of browsers that run at once. A test waits until it gets a permit.
static BROWSERS: Semaphore = Semaphore::const_new(2);

/// Waits until this number of browsers may start. The wait depends on the other tests, so it does not count for the
/// watch over this test.
async fn permits(browsers: u32) -> SemaphorePermit<'static> {
    let permits = BROWSERS.acquire_many(browsers).await.unwrap();
    Watch::restart();
    permits
}

/// The sizes of the screen that are tested, CSS pixels.
pub const SIZES: [(&str, u32, u32); 3] = [("phone", 390, 844), ("tablet", 1180, 820), ("desktop", 1600, 900)];

/// A browser with its own new profile.
pub struct Browser {
    pub page: Client,
    driver: Child,
    /// A resource that must live as long as the browser: its profile, or its screen.
    _needs: Box<dyn std::any::Any + Send + Sync>,
    _permit: SemaphorePermit<'static>,
}

/// Parts of the errors of a press whose element moved or was replaced.
const MOVING: [&str; 5] = [
    "click intercepted",
    "stale element",
    "no such element",
    "not interactable",
    "does not belong to the document",
];

/// Whether a press failed because its element moved or was replaced.
fn is_moving(error: &CmdError) -> bool {
    let said = error.to_string();
    MOVING.iter().any(|part| said.contains(part))
}

impl Browser {
    /// Starts a browser that allows sound only after a press, as real browsers do.
    pub async fn start() -> Self {
        let [browser] = Self::start_some().await;
        browser
    }

    /// Starts a browser that forbids all sites to store data: no cookies, and no local storage.
    pub async fn start_that_keeps_nothing() -> Self {
        let permit = permits(1).await;
        Self::with(permit, json!({"profile.default_content_setting_values.cookies": 2})).await
    }

    /// Starts several browsers with one request for permits. If two tests each held one permit and waited for a
    /// second one, both would wait forever.
    pub async fn start_some<const N: usize>() -> [Self; N] {
        let mut permits = permits(N as u32).await;
        let mut browsers = Vec::new();
        for _ in 0..N {
            let permit = permits.split(1).expect("as many permits as were acquired");
            browsers.push(Self::with(permit, json!({})).await);
        }
        browsers.try_into().unwrap_or_else(|_| unreachable!())
    }

    async fn with(permit: SemaphorePermit<'static>, preferences: Value) -> Self {
        let (driver, port) = start_driver().await;
        let profile = tempfile::tempdir().unwrap();
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(capabilities(&profile, &preferences));
        let page = builder
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a Chromium");
        Self {
            page,
            driver,
            _needs: Box::new(profile),
            _permit: permit,
        }
    }

    /// Starts a WebKit. WebKit has no headless mode, so it gets a virtual screen.
    pub async fn start_webkit() -> Self {
        let permit = permits(1).await;
        let (page, driver, screen) = webkit::start().await;
        Self {
            page,
            driver,
            _needs: Box::new(screen),
            _permit: permit,
        }
    }

    /// Ends the browser and its driver.
    pub async fn close(mut self) {
        self.page.clone().close().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    /// Runs a script, and returns its result.
    pub async fn js(&self, script: &str) -> Value {
        let result = self.page.execute(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs an asynchronous script, and returns its result. The last argument of the script is a function, and the
    /// script passes its result to that function.
    pub async fn js_later(&self, script: &str) -> Value {
        let result = self.page.execute_async(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until a JavaScript expression is true, and returns its value.
    pub async fn until(&self, expression: &str) -> Value {
        let begin = Instant::now();
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            let value = self.js(&format!("return {expression}")).await;
            if !matches!(value, Value::Null | Value::Bool(false)) && value != json!(0) && value != json!("") {
                return value;
            }
            if begin.elapsed() > PATIENCE {
                let page = self.js("return document.body.innerText").await;
                let light = self.js("return document.getElementById('light')?.dataset.state").await;
                let log = self.logged("browser").await.ok();
                panic!(
                    "the expression did not become true: {expression}\nthe light: {light}\nthe page: {page}\n{log:#?}"
                );
            }
        }
    }

    /// Waits until an element is visible and accepts presses. A button that has just moved ignores presses for a moment.
    pub async fn until_still(&self, selector: &str) {
        self.until(&format!(
            "document.querySelector({selector:?})?.checkVisibility() && !(document.querySelector({selector:?}).closest('[data-still]')?.dataset.still > performance.now())"
        ))
        .await;
    }

    /// Waits until an element is visible, and presses it as a person does.
    pub async fn press(&self, selector: &str) {
        self.until_still(selector).await;
        let (begin, mut look) = (Instant::now(), interval(LOOK));
        loop {
            look.tick().await;
            let found = self.page.find(Locator::Css(selector)).await.unwrap();
            match found.click().await {
                Ok(()) => return,
                // The element still moves, or another element covers it for a moment.
                Err(error) if begin.elapsed() < PATIENCE && is_moving(&error) => {}
                Err(error) => panic!("{selector}: {error}"),
            }
        }
    }

    /// The visible text of an element.
    pub async fn text(&self, selector: &str) -> String {
        let text = self
            .js(&format!("return document.querySelector({selector:?})?.innerText"))
            .await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let path = "goog/cdp/execute";
        let body = json!({"cmd": command, "params": parameters});
        self.page.issue_cmd(Raw { path, body }).await.unwrap()
    }

    /// The entries that the browser has added to the log `browser` or `performance` since the last call.
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        self.logged(kind).await.unwrap().as_array().unwrap().clone()
    }

    /// The entries of a log. Returns an error in WebKit, which has no logs.
    async fn logged(&self, kind: &str) -> Result<Value, CmdError> {
        let body = json!({"type": kind});
        self.page.issue_cmd(Raw { path: "se/log", body }).await
    }

    /// Sets the inner size of the window, CSS pixels.
    pub async fn size(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sets the colour scheme: `light` or `dark`.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Saves pictures of the page in `target/panel` for people to look at: in three sizes, light and dark.
    pub async fn picture(&self, name: &str) {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/panel");
        std::fs::create_dir_all(&directory).unwrap();
        for scheme in ["light", "dark"] {
            self.scheme(scheme).await;
            for (size, width, height) in SIZES {
                self.size(width, height).await;
                self.js_later("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
                    .await;
                let picture = self.page.screenshot().await.unwrap();
                std::fs::write(directory.join(format!("{name}-{size}-{scheme}.png")), picture).unwrap();
            }
        }
        self.scheme("light").await;
        self.size(SIZES[1].1, SIZES[1].2).await;
    }

    /// Every URL that the page has requested since the last call, including the URLs of WebSockets.
    pub async fn addresses(&self) -> Vec<String> {
        let messages = self.log("performance").await;
        let address = |entry: &Value| {
            let text: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &text["message"];
            let url = match message["method"].as_str()? {
                "Network.requestWillBeSent" => &message["params"]["request"]["url"],
                "Network.webSocketCreated" => &message["params"]["url"],
                _ => return None,
            };
            url.as_str().map(str::to_owned)
        };
        messages.iter().filter_map(address).collect()
    }
}
