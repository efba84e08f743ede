//! Starts a chromedriver, and lists the options of a Chromium. The tests and the bench of the panel use both.

use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The longest wait for a condition. It is long, because several browsers share the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A raw command for the driver or the browser.
#[derive(Debug)]
pub struct Raw {
    pub path: &'static str,
    pub body: Value,
}

impl WebDriverCompatibleCommand for Raw {
    fn endpoint(
        &self,
        base: &reqwest::Url,
        session: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &reqwest::Url) -> (hyper::Method, Option<String>) {
        (hyper::Method::POST, Some(self.body.to_string()))
    }
}

/// The highest number of attempts to start a driver. A driver chooses a port that is free for IPv4 or for IPv6, and
/// exits if the port is not free for both.
const DRIVER_STARTS: usize = 5;

/// Starts a driver, and returns it with its port.
pub async fn start_driver() -> (Child, u16) {
    for _ in 0..DRIVER_STARTS {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts: `scripts/test` installs chromium and chromium-driver");
        let mut said = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = timeout(PATIENCE, async {
            while let Some(line) = said.next_line().await.expect("its output") {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Some(port.trim_end_matches('.').parse::<u16>().expect("a port"));
                }
            }
            None
        });
        if let Some(port) = port.await.expect("chromedriver says its port, or ends") {
            // Keep reading the output of the driver: a full pipe would block the driver.
            tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
            return (driver, port);
        }
    }
    panic!("chromedriver found no port {DRIVER_STARTS} times");
}

/// The options that a Chromium is started with.
pub fn capabilities(profile: &TempDir, preferences: &Value) -> fantoccini::wd::Capabilities {
    let profile = format!("--user-data-dir={}", profile.path().display());
    let arguments = json!([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // Allow sound only after a press, as desktop browsers do. With the policy `user-gesture-required`, a page
        // could play sound without a press.
        "--autoplay-policy=document-user-activation-required",
        "--lang=ru",
        "--accept-lang=ru",
        // With this pipe, the browser ends when its driver ends.
        "--remote-debugging-pipe",
        profile
    ]);
    let capabilities = json!({
        "goog:chromeOptions": {"args": arguments, "prefs": preferences},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "unhandledPromptBehavior": "ignore",
        "timeouts": {"script": PATIENCE.as_millis() as u64},
    });
    capabilities.as_object().expect("an object").clone()
}
