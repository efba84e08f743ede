//! `vestnik attach` and `vestnik detach`: install and remove the triggers of existing tables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use vestnik::domain::status::SubjectKind;
use vestnik::infra::config::Config;
use vestnik::infra::db;
use vestnik::infra::standard_webhook::address;
use vestnik::sources::attach::{self, Attached, Options};
use vestnik::sources::catalog::{self, Table};
use vestnik::sources::derived::{self, preset};
use vestnik::sources::mapping::Mapping;
use vestnik::sources::preview;
use vestnik::sources::propose::{Proposal, propose};

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

/// Attaches a table, with a given mapping, or with a proposed one that leaves no questions.
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
    show_newest(&mut client, &table, &mapping, 1).await?;
    if args.dry_run {
        super::say!("{mapping_toml}\n{}", attach::attach_sql(&mut client, &mapping).await?);
        return Ok(());
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

/// An unsuitable table is wrong usage; an unreachable database is not.
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

/// Writes the proposal to a file, so that a person can answer its questions.
fn ask(table: &Table, proposal: &Proposal) -> anyhow::Result<anyhow::Error> {
    let file = free_file(&table.name);
    std::fs::write(&file, &proposal.toml).with_context(|| format!("cannot write {}", file.display()))?;
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

/// An unused file name: a file that a person has edited is not overwritten.
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

/// Prints the newest rows as a partner would see them.
pub async fn show_newest(
    client: &mut tokio_postgres::Client,
    table: &Table,
    mapping: &Mapping,
    rows: i64,
) -> anyhow::Result<()> {
    let known = vestnik::sources::registry::load(client).await.ok();
    let currencies = known.map_or_else(HashMap::new, |known| known.currencies().clone());
    let newest = match &mapping.derived {
        Some(derived) => derived::newest(client, table, mapping, derived, &currencies, rows).await,
        None => preview::newest(client, &attach::unattached(table, mapping), table, &currencies, rows).await,
    };
    match newest {
        Ok(rows) if rows.is_empty() => super::say!("{} has no rows yet", table.quoted),
        Ok(rows) => {
            super::say!("the newest of {}, as a partner would see it:", table.quoted);
            rows.iter()
                .flat_map(preview::lines)
                .for_each(|line| super::say!("  {line}"));
        }
        // Errors in the mapping are reported when it is attached.
        Err(catalog::Error::Failed(db::QueryError::Postgres(error))) if error.as_db_error().is_some() => {}
        Err(error) => bail!(error),
    }
    Ok(())
}

/// Whether the shop's API may be called with these settings. Warns of a missing secret.
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

/// Detaches a table.
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
