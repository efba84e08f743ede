//! The program `vestnik`. Its command line is in `cli`.

/// This allocator separates small, long-lived allocations from large, short-lived ones, so that the large ones are
/// returned to the operating system. While a panel connects, it needs several times the memory that its session needs
/// later.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    vestnik::cli::run()
}
