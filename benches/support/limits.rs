//! Limits that the operating system sets for a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many sockets as the system gives.
pub fn allow_many_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("enough files");
}
