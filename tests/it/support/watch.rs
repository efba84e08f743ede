//! Ends the test run if one test takes far too long, and says which test. A run that hangs would say nothing.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::minutes_of_chaos;

/// The longest time that one test may take.
const LONGEST: Duration = Duration::from_secs(600);

/// The watch over the test that has created this value. Dropping the value ends the watch.
pub struct Watch {
    _ended: Sender<()>,
}

impl Watch {
    pub fn begin() -> Self {
        let (ended, is_over) = channel();
        // The test harness names each thread after its test.
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let longest = LONGEST + minutes_of_chaos().unwrap_or_default();
        std::thread::spawn(move || {
            if is_over.recv_timeout(longest) == Err(RecvTimeoutError::Timeout) {
                let said = format!("the test {test} has not ended after {longest:?}: the run ends here\n");
                // `eprintln!` would write into the captured output of the test, which nobody sees.
                let _ = std::io::stderr().write_all(said.as_bytes());
                std::process::exit(1);
            }
        });
        Self { _ended: ended }
    }
}
