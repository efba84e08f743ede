//! A chromedriver of one's own, and what a Chromium is started with: for the tests of the panel, and for its bench.

use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A wait after which a scene has failed: long, because browsers share the machine with everything else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command of the driver, or of the browser behind it.
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

/// Times that a driver is started. It takes a free port of one address family, and ends where the other's is taken.
const DRIVER_STARTS: usize = 5;

/// A driver, and its port.
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
            // What it says later is read, so that it never waits for us.
            tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
            return (driver, port);
        }
    }
    panic!("chromedriver found no port {DRIVER_STARTS} times");
}

/// What a Chromium is started with.
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
        // What desktop browsers do; `user-gesture-required` lets a page of its own make sound unasked.
        "--autoplay-policy=document-user-activation-required",
        "--lang=ru",
        "--accept-lang=ru",
        // It ends with its driver, however that ends.
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
