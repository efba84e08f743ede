//! The program: see `cli`.

mod cli;
mod command;

/// Small things that stay lie apart from large ones that go, so that these are given back: a panel that comes takes several
/// times what it takes as long as it stays.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    cli::run().await
}
