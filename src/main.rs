//! The program `vestnik`. Its command line is in `cli`.

/// The allocator keeps small, long-lived allocations apart from large, short-lived ones, so that the large ones return
/// to the system. A connecting panel allocates several times the memory that its open session keeps.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    vestnik::cli::run()
}
