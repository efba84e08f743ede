//! Ends the test run if one test takes far too long, and says which test. A run that hangs would say nothing.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::minutes_of_chaos;

/// The longest time that one test may take.
const LONGEST: Duration = Duration::from_secs(1800);
/// When each test has restarted its watches last.
static RESTARTED: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// The test harness names each thread after its test.
fn name_of_test() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

/// The watch over the test that has created this value. Dropping the value ends the watch.
pub struct Watch {
    _ended: Sender<()>,
}

impl Watch {
    pub fn begin() -> Self {
        let (ended, is_over) = channel();
        let test = name_of_test();
        let longest = LONGEST + minutes_of_chaos().unwrap_or_default();
        let begun = Instant::now();
        std::thread::spawn(move || {
            let mut since = begun;
            while is_over.recv_timeout(longest.saturating_sub(since.elapsed())) == Err(RecvTimeoutError::Timeout) {
                let restarted = RESTARTED.lock().unwrap().get(&test).copied();
                if restarted.is_some_and(|restarted| restarted > since) {
                    since = restarted.unwrap_or(since);
                    continue;
                }
                let said = format!("the test {test} has not ended after {longest:?}: the run ends here\n");
                // `eprintln!` would write into the captured output of the test, which nobody sees.
                let _ = std::io::stderr().write_all(said.as_bytes());
                std::process::exit(1);
            }
        });
        Self { _ended: ended }
    }

    /// Restarts the watches over the calling test. A test calls this function after it has waited for other tests.
    pub fn restart() {
        RESTARTED.lock().unwrap().insert(name_of_test(), Instant::now());
    }
}
