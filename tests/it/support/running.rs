//! A child process that a test has started.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use super::watch::Watch;

/// A running child process. Dropping the value kills the process. A test that waits for the process forever is ended by
/// the watch.
pub struct Running {
    pub child: Child,
    _watch: Watch,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self {
            child: command.spawn().expect("the program starts"),
            _watch: Watch::begin(),
        }
    }

    /// Asks the process to end, and waits until it has ended without an error.
    pub fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
