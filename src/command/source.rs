//! `vestnik source`: lists sources, and shows, edits and checks their mappings.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::infra::config::Config;
use crate::infra::db;
use crate::sources::attach::{self, Attached, Kept, Options};
use crate::sources::catalog::{NoTable, Table};
use crate::sources::mapping::Mapping;
use crate::sources::propose::open_questions;
use crate::sources::{catalog, health};
use anyhow::Context as _;
use tokio_postgres::Client;

use super::Usage;
use super::attach::check_answer_url;
use super::newest_rows::{say_notes, show_newest};
use super::refusal::{not_attached, refusal, unfit, wrong_mapping};

/// Number of the table's newest rows that `vestnik source check` prints.
const SHOWN_ROWS: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the sources with their problems
    List,
    /// Print the mapping of a source
    Show {
        /// The name of the source, or of its table
        name: String,
    },
    /// Edit the mapping of a source in your editor; every node uses it at once
    Edit {
        /// The name of the source, or of its table
        name: String,
    },
    /// Compare a mapping with its table, and print the newest rows as a partner would see them; changes nothing
    Check {
        /// A file with a mapping, or the name of a source
        what: String,
    },
}

/// Runs `vestnik source` on the configured database.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let mut client = db::connect_directly(&config.database, "command").await?;
    match args.action {
        Action::List => list(&client).await,
        Action::Show { name } => {
            let kept = find(&client, &name).await?;
            super::say!("{}", kept.mapping_toml.trim_end());
            Ok(())
        }
        Action::Edit { name } => edit(config, &mut client, &name).await,
        Action::Check { what } => check(config, &mut client, &what).await,
    }
}

async fn find(client: &Client, name: &str) -> anyhow::Result<Kept> {
    attach::find(client, name).await.map_err(wrong_mapping)
}

async fn list(client: &Client) -> anyhow::Result<()> {
    attach::require_migrated(client).await?;
    let sources = health::check(client).await.context("cannot list the sources")?;
    if sources.is_empty() {
        super::say!("there is no source yet: vestnik attach --table public.orders");
    }
    for source in sources {
        let kind = source.kind.map_or("?", |kind| kind.as_str());
        let state = if source.troubles.is_empty() { "ok" } else { "FAIL" };
        super::say!("{state:<6} {:<24} {kind:<8} {}", source.name, source.table);
        for line in source.troubles.iter().chain(&source.notes) {
            super::say!("       {line}");
        }
    }
    Ok(())
}

async fn check(config: &Config, client: &mut Client, what: &str) -> anyhow::Result<()> {
    let toml = match Path::new(what).is_file() {
        true => read(Path::new(what))?,
        false => find(client, what).await?.mapping_toml,
    };
    let mapping = Mapping::from_toml(&toml).map_err(|error| wrong_mapping(error.into()))?;
    let table = Table::find(client, &mapping.table).await.map_err(refusal)?;
    let mut examined = attach::examine(client, &table, &mapping).await.map_err(wrong_mapping)?;
    let newest = show_newest(client, &table, &mapping, SHOWN_ROWS).await?;
    say_notes(&table, &mapping, &examined, &newest);
    let findings = &mut examined.findings;
    findings.problems.extend(check_answer_url(config, &mapping).err());
    for problem in newest.problems {
        if !findings.problems.contains(&problem) {
            findings.problems.push(problem);
        }
    }
    findings.problems.extend(newest.misspelt);
    let open = open_questions(&toml).into_iter();
    findings.problems.extend(open.map(|(line, question)| {
        format!("line {line} has an open question, answer it and delete the line: {question}")
    }));
    if !findings.problems.is_empty() {
        return Err(unfit(&table, examined.findings.problems));
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Opens the mapping in an editor, and applies the edited text. If the edited mapping is invalid, the edited file is
/// not deleted.
async fn edit(config: &Config, client: &mut Client, name: &str) -> anyhow::Result<()> {
    let kept = find(client, name).await?;
    let file = new_file(&kept)?;
    open(&file)?;
    let edited = read(&file)?;
    if edited == kept.mapping_toml {
        super::say!("nothing was changed");
        return Ok(std::fs::remove_file(&file)?);
    }
    match put(config, client, &kept, &edited).await {
        Ok(said) => {
            super::say!("{said}");
            Ok(std::fs::remove_file(&file)?)
        }
        Err(error) => {
            let file = file.display();
            let says = format!(
                "{error}\nNothing was changed. Your text is in {file}: correct it, then: vestnik attach --map {file}"
            );
            Err(if super::is_usage(&error) {
                Usage(says).into()
            } else {
                error.context(says)
            })
        }
    }
}

async fn put(config: &Config, client: &mut Client, kept: &Kept, toml: &str) -> anyhow::Result<String> {
    let mapping = Mapping::from_toml(toml).map_err(|error| wrong_mapping(error.into()))?;
    check_answer_url(config, &mapping).map_err(Usage)?;
    let table = Table::find(client, &mapping.table).await.map_err(refusal)?;
    let is_renamed = table.quoted != kept.table;
    if is_renamed && !is_gone(client, &kept.table, &table).await? {
        let says = format!(
            "table: {} still exists; attach {} as another source: vestnik attach",
            kept.table, table.quoted
        );
        return Err(Usage(says).into());
    }
    show_newest(client, &table, &mapping, 1)
        .await?
        .unless_all_fail(&table)?;
    let options = Options {
        trust_owner: kept.owner_trusted,
        renamed: is_renamed.then_some(kept.id),
    };
    let attached = attach::attach(client, toml, options, &mut |line| super::say!("{line}")).await;
    let attached = match attached {
        Ok(attached) => attached,
        Err(error) => return Err(not_attached(client, error).await),
    };
    Ok(match attached {
        Attached::Unchanged(name) => format!("source {name} had this mapping already"),
        Attached::New(name) | Attached::Changed(name) => format!("source {name} is changed, on every node"),
    })
}

/// Whether no table has the name `former` any more, or whether that table is a partition of `table` now.
async fn is_gone(client: &Client, former: &str, table: &Table) -> anyhow::Result<bool> {
    match Table::find(client, former).await {
        Ok(_) => Ok(false),
        Err(catalog::Error::NoTable(NoTable::Missing { .. })) => Ok(true),
        Err(catalog::Error::NoTable(NoTable::Partition { root, .. })) => {
            Ok(Table::find(client, &root).await.is_ok_and(|root| root.oid == table.oid))
        }
        Err(error) => Err(refusal(error)),
    }
}

/// Writes the mapping to a new file. Only the file's owner can read it, because it contains the names of the shop's
/// columns.
fn new_file(kept: &Kept) -> anyhow::Result<PathBuf> {
    let file = tempfile::Builder::new()
        .prefix("vestnik-")
        .suffix(".mapping.toml")
        .tempfile()?;
    std::fs::write(file.path(), &kept.mapping_toml)?;
    Ok(file.into_temp_path().keep()?)
}

fn open(file: &Path) -> anyhow::Result<()> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "vi".into());
    // Let a shell separate the editor's name from its options, as in `code --wait`.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status();
    let status = status.with_context(|| format!("cannot start the editor {editor}: set EDITOR"))?;
    if !status.success() {
        let says =
            format!("the editor {editor} ended with {status}, and nothing was changed: set EDITOR to one that is here");
        return Err(Usage(says).into());
    }
    Ok(())
}
