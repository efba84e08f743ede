//! The memory of another process.

/// The resident memory of the process, in KB. `None`: the process has ended.
pub fn resident_kb(process: u32) -> Option<u64> {
    kb(process, "VmRSS:")
}

/// The private memory of the process without files and shared memory, in KB. `None`: the process has ended.
#[expect(clippy::allow_attributes, reason = "not every bench asks")]
#[allow(dead_code)]
pub fn private_kb(process: u32) -> Option<u64> {
    kb(process, "RssAnon:")
}

fn kb(process: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
