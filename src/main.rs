//! The program: see `cli`.

mod cli;
mod command;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    cli::run().await
}
