//! The program `vestnik`. Its command line is in `cli`.

/// This allocator separates small, long-lived allocations from large, short-lived ones, so that the large ones are
/// returned to the operating system. A panel that connects needs several times the memory of an open session.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    vestnik::cli::run()
}
