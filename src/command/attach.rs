//! `vestnik attach` and `vestnik detach`: install Vestnik's triggers on existing tables, and remove them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::domain::status::SubjectKind;
use crate::domain::subject::Visibility;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::standard_webhook::address;
use crate::sources::attach::{self, Attached, Options};
use crate::sources::catalog::{self, Table};
use crate::sources::derived::{self, preset};
use crate::sources::mapping::Mapping;
use crate::sources::preview;
use crate::sources::propose::{Proposal, propose};
use anyhow::{Context as _, bail};

use super::Usage;

#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// The table with its schema, such as public.orders; a name in mixed case is quoted: 'public."Order"'
    #[arg(long, required_unless_present_any = ["map", "preset"], conflicts_with_all = ["map", "preset"])]
    table: Option<String>,
    /// Whether its rows are orders or bookings, if its name does not say so
    #[arg(long, value_enum, conflicts_with = "map")]
    kind: Option<KindArg>,
    /// A file with the mapping of its columns
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    map: Option<PathBuf>,
    /// The name of a mapping that comes with the program
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(preset::names()))]
    preset: Option<String>,
    /// Attach a table of another owner; that owner can then use your rights
    #[arg(long)]
    trust_owner: bool,
    /// Print the mapping and the SQL, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KindArg {
    Order,
    Booking,
}

#[derive(Debug, clap::Args)]
pub struct DetachArgs {
    /// The table with its schema, or the name of its source
    #[arg(long, alias = "source")]
    table: String,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Attaches a table with the given mapping. Without one, proposes a mapping, and attaches the table if nothing about it
/// is uncertain.
pub async fn attach(config: &Config, args: AttachArgs) -> anyhow::Result<()> {
    let mut client = db::connect_directly(&config.database, "command").await?;
    let mapping_toml = match (&args.map, &args.preset) {
        (Some(file), _) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        (None, Some(name)) => preset::mapping(name).unwrap_or_default().to_owned(),
        (None, None) => {
            let kind = args.kind.map(|kind| match kind {
                KindArg::Order => SubjectKind::Order,
                KindArg::Booking => SubjectKind::Booking,
            });
            let table = Table::find(&client, args.table.as_deref().unwrap_or_default())
                .await
                .map_err(refusal)?;
            match preset::recognise(&mut client, &table).await? {
                Some(name) => {
                    super::say!("{} is one of {name}: attached by --preset {name}", table.quoted);
                    preset::mapping(name).unwrap_or_default().to_owned()
                }
                None => {
                    let proposal = propose(&client, &table, kind).await?;
                    if !proposal.questions.is_empty() {
                        return Err(ask(&table, &proposal)?);
                    }
                    proposal.toml
                }
            }
        }
    };
    let mapping = Mapping::from_toml(&mapping_toml).map_err(|error| Usage(attach::Error::from(error).to_string()))?;
    check_answer_url(config, &mapping).map_err(Usage)?;
    let table = Table::find(&client, &mapping.table).await.map_err(refusal)?;
    let has_no_store = show_newest(&mut client, &table, &mapping, 1).await?;
    if args.dry_run {
        super::say!("{mapping_toml}\n{}", attach::attach_sql(&mut client, &mapping).await?);
        return Ok(());
    }
    // A person who wrote the mapping may want it so.
    if has_no_store && args.map.is_none() {
        let file = keep_proposal(&table, &mapping_toml)?;
        let file = file.display();
        return Err(Usage(format!(
            "{} was not attached: its newest order has no store, so nobody would be told of it\nCorrect `store` in {file}, then: vestnik attach --map {file}",
            table.quoted
        ))
        .into());
    }
    let options = Options {
        trust_owner: args.trust_owner,
        renamed: None,
    };
    let attached = attach::attach(&mut client, &mapping_toml, options, &mut |line| super::say!("{line}")).await;
    match attached.map_err(wrong_mapping)? {
        Attached::New(name) => {
            super::say!(
                "attached {} as source {name}: its rows emit events from now on",
                table.quoted
            );
            super::say!("to see its mapping: vestnik source show {name}; to change it: vestnik source edit {name}");
        }
        Attached::Changed(name) => super::say!("attached {} as source {name} again", table.quoted),
        Attached::Unchanged(name) => super::say!("{} is already attached in this way, as source {name}", table.quoted),
    }
    Ok(())
}

/// Turns the error of a table look-up into the error of the command. A table that does not fit counts as wrong usage;
/// an unreachable database does not.
pub fn refusal(error: catalog::Error) -> anyhow::Error {
    match error {
        catalog::Error::NoTable(problem) => Usage(problem.to_string()).into(),
        catalog::Error::Failed(error) => error.into(),
    }
}

pub fn wrong_mapping(error: attach::Error) -> anyhow::Error {
    match error {
        attach::Error::Mapping(_)
        | attach::Error::Unfit { .. }
        | attach::Error::ForeignOwner { .. }
        | attach::Error::NameTaken(_)
        | attach::Error::Unknown(_) => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

/// Writes the proposed mapping to a file, and returns the error that asks the person to answer its open questions.
fn ask(table: &Table, proposal: &Proposal) -> anyhow::Result<anyhow::Error> {
    let file = keep_proposal(table, &proposal.toml)?;
    let questions: Vec<String> = proposal
        .questions
        .iter()
        .map(|question| format!("  {question}"))
        .collect();
    let file = file.display();
    Ok(Usage(format!(
        "{} was not attached: only you can know this:\n{}\nAnswer it in {file}, then: vestnik attach --map {file}",
        table.quoted,
        questions.join("\n")
    ))
    .into())
}

/// Writes a mapping to a file for a person to correct; returns its name.
fn keep_proposal(table: &Table, mapping_toml: &str) -> anyhow::Result<PathBuf> {
    let file = free_file(&table.name);
    std::fs::write(&file, mapping_toml).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Chooses a file name that does not exist yet, so that a file that a person has edited is not overwritten.
fn free_file(table: &str) -> PathBuf {
    let name: String = table
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let numbered = (2..).map(|number| format!("{name}.mapping.{number}.toml"));
    let mut names = std::iter::once(format!("{name}.mapping.toml")).chain(numbered);
    let free = names.find(|name| !Path::new(name).exists());
    PathBuf::from(free.unwrap_or(name))
}

/// Prints the table's newest rows as a partner, the reader of the event stream, would see them. Returns whether an order among
/// them that a partner should see has no store.
pub async fn show_newest(
    client: &mut tokio_postgres::Client,
    table: &Table,
    mapping: &Mapping,
    rows: i64,
) -> anyhow::Result<bool> {
    let known = crate::sources::registry::load(client).await.ok();
    let currencies = known.map_or_else(HashMap::new, |known| known.currencies().clone());
    let newest = match &mapping.derived {
        Some(derived) => derived::newest(client, table, mapping, derived, &currencies, rows).await,
        None => preview::newest(client, &attach::unattached(table, mapping), table, &currencies, rows).await,
    };
    let mut has_no_store = false;
    match newest {
        Ok(rows) if rows.is_empty() => super::say!("{} has no rows yet", table.quoted),
        Ok(rows) => {
            super::say!("the newest of {}, as a partner would see it:", table.quoted);
            rows.iter()
                .flat_map(preview::lines)
                .for_each(|line| super::say!("  {line}"));
            has_no_store = rows
                .iter()
                .any(|row| row.store.is_none() && row.subject.visibility == Visibility::Visible);
        }
        // An error in the mapping is reported later, when the table is attached.
        Err(catalog::Error::Failed(db::QueryError::Postgres(error))) if error.as_db_error().is_some() => {}
        Err(error) => bail!(error),
    }
    Ok(has_no_store)
}

/// Checks that the mapping's `answer.url`, the shop's own API, may be called. Warns if no secret signs the answers yet.
pub fn check_answer_url(config: &Config, mapping: &Mapping) -> Result<(), String> {
    let Some(url) = &mapping.answer.url else { return Ok(()) };
    address::check(url, config.webhook.allow_private).map_err(|refused| format!("answer.url: {refused}"))?;
    if config.answers.secrets.is_empty() {
        super::say!(
            "answer.url: answers fail until VESTNIK_ANSWERS_SECRET is set for `vestnik serve`, which signs each answer with it"
        );
    }
    Ok(())
}

/// Detaches a table: removes Vestnik's triggers, so that its rows give no more events.
pub async fn detach(config: &Config, args: DetachArgs) -> anyhow::Result<()> {
    let mut client = db::connect_directly(&config.database, "command").await?;
    if args.dry_run {
        super::say!(
            "{}",
            attach::detach_sql(&client, &args.table).await.map_err(wrong_mapping)?
        );
        return Ok(());
    }
    let detached = attach::detach(&mut client, &args.table, &mut |line| super::say!("{line}")).await;
    let detached = detached.map_err(wrong_mapping)?;
    super::say!("detached {}: its rows no longer emit events", detached.table);
    Ok(())
}
