//! A real Chromium, driven over WebDriver by a chromedriver of the test's own.

use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, interval};

use super::driver::{Raw, capabilities, start_driver};
use super::webkit;

pub use super::driver::PATIENCE;

/// How often the page is looked at.
pub const LOOK: Duration = Duration::from_millis(40);
/// Browsers at once; a further scene waits.
static BROWSERS: Semaphore = Semaphore::const_new(2);

/// Widths that are looked at, CSS pixels.
pub const SIZES: [(&str, u32, u32); 3] = [("phone", 390, 844), ("tablet", 1180, 820), ("desktop", 1600, 900)];

/// One browser with a profile of its own, which nobody has touched.
pub struct Browser {
    pub page: Client,
    driver: Child,
    /// What lasts as long as the browser: its profile, or its screen.
    _needs: Box<dyn std::any::Any + Send + Sync>,
    _permit: SemaphorePermit<'static>,
}

/// Whether a press missed because the element moved, or was drawn anew.
fn is_moving(error: &CmdError) -> bool {
    let said = error.to_string();
    said.contains("click intercepted") || said.contains("stale element")
}

impl Browser {
    /// A browser that gives sound only to who has pressed something, as real ones do.
    pub async fn start() -> Self {
        let [browser] = Self::start_some().await;
        browser
    }

    /// The same, whose owner lets no site keep anything: no cookies, and no storage either.
    pub async fn start_that_keeps_nothing() -> Self {
        let permit = BROWSERS.acquire().await.unwrap();
        Self::with(permit, json!({"profile.default_content_setting_values.cookies": 2})).await
    }

    /// Several at once: who waits for a second one while it holds a first would wait for ever.
    pub async fn start_some<const N: usize>() -> [Self; N] {
        let mut permits = BROWSERS.acquire_many(N as u32).await.unwrap();
        let mut browsers = Vec::new();
        for _ in 0..N {
            let permit = permits.split(1).expect("as many as were asked for");
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

    /// A WebKit. It shows itself, if only on a screen that nobody sees.
    pub async fn start_webkit() -> Self {
        let permit = BROWSERS.acquire().await.unwrap();
        let (page, driver, screen) = webkit::start().await;
        Self {
            page,
            driver,
            _needs: Box::new(screen),
            _permit: permit,
        }
    }

    /// Ends it.
    pub async fn close(mut self) {
        self.page.clone().close().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    /// What a script gives.
    pub async fn js(&self, script: &str) -> Value {
        let result = self.page.execute(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What a script gives that calls its last argument back.
    pub async fn js_later(&self, script: &str) -> Value {
        let result = self.page.execute_async(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until an expression is true, and gives it.
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
                panic!("it did not become so: {expression}\nthe light: {light}\nthe page: {page}\n{log:#?}");
            }
        }
    }

    /// Waits until what is selected is on the page, and can be pressed, and presses it as a person does.
    pub async fn press(&self, selector: &str) {
        // What has just moved takes no press for a moment.
        self.until(&format!(
            "document.querySelector({selector:?})?.checkVisibility() && !(document.querySelector({selector:?}).closest('[data-still]')?.dataset.still > performance.now())"
        ))
        .await;
        let (begin, mut look) = (Instant::now(), interval(LOOK));
        loop {
            look.tick().await;
            let found = self.page.find(Locator::Css(selector)).await.unwrap();
            match found.click().await {
                Ok(()) => return,
                // It is on its way to another place, and nothing else lies there for long.
                Err(error) if begin.elapsed() < PATIENCE && is_moving(&error) => {}
                Err(error) => panic!("{selector}: {error}"),
            }
        }
    }

    /// The text of what is selected.
    pub async fn text(&self, selector: &str) -> String {
        let text = self
            .js(&format!("return document.querySelector({selector:?})?.innerText"))
            .await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// A command of the browser's own protocol.
    pub async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let path = "goog/cdp/execute";
        let body = json!({"cmd": command, "params": parameters});
        self.page.issue_cmd(Raw { path, body }).await.unwrap()
    }

    /// What was logged since the last look: `browser` or `performance`.
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        self.logged(kind).await.unwrap().as_array().unwrap().clone()
    }

    /// The same, where the browser has a log: WebKit has none.
    async fn logged(&self, kind: &str) -> Result<Value, CmdError> {
        let body = json!({"type": kind});
        self.page.issue_cmd(Raw { path: "se/log", body }).await
    }

    /// The size of the window's inside, CSS pixels.
    pub async fn size(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Light or dark.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Pictures of what is shown now, for people: three widths, light and dark, in `target/panel`.
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

    /// Every address that was asked for since the last look, sockets too.
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
