//! `vestnik attach` and `vestnik detach`: install Vestnik's triggers on a shop's tables, and remove them.

use std::path::PathBuf;

use crate::domain::status::SubjectKind;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::standard_webhook::address;
use crate::sources::assumptions;
use crate::sources::attach::{self, Attached, Options};
use crate::sources::catalog::Table;
use crate::sources::derived::preset;
use crate::sources::mapping::Mapping;
use crate::sources::propose::propose;
use tokio_postgres::Client;

use super::Usage;
use super::mapping_file::{ask, keep_proposal, read_answered, to_correct};
use super::newest_rows::{say_notes, show_newest};
use super::refusal::{not_attached, refusal, wrong_mapping};

#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// The table with its schema, such as public.orders; a name in mixed case is quoted: 'public."Order"'
    #[arg(long, required_unless_present_any = ["map", "preset"], conflicts_with_all = ["map", "preset"])]
    table: Option<String>,
    /// Whether the table's rows are orders or bookings, if the table's name does not say so
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

/// Attaches a table with the given mapping. If no mapping is given, proposes one. The proposed mapping is used only if
/// it has no open questions.
pub async fn attach(config: &Config, args: AttachArgs) -> anyhow::Result<()> {
    let mut client = db::connect_directly(&config.database, "command").await?;
    let mapping_toml = match (&args.map, &args.preset) {
        (Some(file), _) => read_answered(file)?,
        (None, Some(name)) => preset::mapping(name).unwrap_or_default().to_owned(),
        (None, None) => mapping_of(&mut client, &args).await?,
    };
    let mapping = Mapping::from_toml(&mapping_toml).map_err(|error| Usage(attach::Error::from(error).to_string()))?;
    check_answer_url(config, &mapping).map_err(Usage)?;
    let table = Table::find(&client, &mapping.table).await.map_err(refusal)?;
    attach::require_migrated(&client).await?;
    let newest = show_newest(&mut client, &table, &mapping, 1).await?;
    // A person finds the text of a mapping in the file that the person has written. Any other text is kept in a new file.
    let unfit = |error: anyhow::Error| match args.map {
        Some(_) => error,
        None => to_correct(&table, &mapping_toml, &error, args.dry_run),
    };
    let newest = newest.unless_all_fail(&table).map_err(unfit)?;
    // A mapping that cannot be examined is refused below.
    let examined = attach::examine(&mut client, &table, &mapping).await.ok();
    if let Some(examined) = &examined {
        say_notes(&table, &mapping, examined, &newest);
    }
    if args.dry_run {
        let sql = match attach::attach_sql(&mut client, &mapping).await {
            Err(error @ attach::Error::Unfit { .. }) => return Err(unfit(wrong_mapping(error))),
            sql => sql.map_err(wrong_mapping)?,
        };
        super::say!("{mapping_toml}\n{sql}");
        return Ok(());
    }
    // Orders without a store are an error only if Vestnik proposed the mapping. If a person wrote the mapping, orders
    // without a store may be intended.
    if newest.has_no_store && args.map.is_none() {
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
    let is_said = |line: &str| {
        let mut said = examined.iter().flat_map(|examined| &examined.findings.warnings);
        said.any(|warning| warning == line)
    };
    let mut say = |line: &str| {
        if !is_said(line) {
            super::say!("{line}");
        }
    };
    let attached = attach::attach(&mut client, &mapping_toml, options, &mut say).await;
    let attached = match attached {
        Ok(attached) => attached,
        Err(error @ attach::Error::Unfit { .. }) => return Err(unfit(wrong_mapping(error))),
        Err(error) => return Err(not_attached(&client, error).await),
    };
    match attached {
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

/// Returns the mapping of a table for which the person has given none: that of a system which the program knows, or a
/// proposal. Fails if the proposal has open questions.
async fn mapping_of(client: &mut Client, args: &AttachArgs) -> anyhow::Result<String> {
    let kind = args.kind.map(|kind| match kind {
        KindArg::Order => SubjectKind::Order,
        KindArg::Booking => SubjectKind::Booking,
    });
    let table = Table::find(client, args.table.as_deref().unwrap_or_default())
        .await
        .map_err(refusal)?;
    if let Some(name) = preset::recognise(client, &table).await? {
        super::say!("{} is one of {name}: attached by --preset {name}", table.quoted);
        return Ok(preset::mapping(name).unwrap_or_default().to_owned());
    }
    if let Some(name) = preset::resembling(&table) {
        super::say!(
            "{} looks like {name}, another version: vestnik attach --preset {name} names what is missing",
            table.quoted
        );
    }
    let proposal = propose(client, &table, kind).await?;
    if let Some(hint) = &proposal.referring {
        super::say!("note: {hint}");
    }
    if !proposal.questions.is_empty() {
        if proposal.lacks_currency {
            super::say!("note: {}", assumptions::default_currency());
        }
        return Err(ask(&table, &proposal, args.dry_run)?);
    }
    proposal.guesses.iter().for_each(|guess| super::say!("{guess}"));
    Ok(proposal.toml)
}

/// Checks the mapping's `answer.url`, an address of the shop's own API that changes the status of orders. Fails if
/// Vestnik may not call this address. Prints a warning if the settings have no secret with which Vestnik signs the
/// requests.
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

/// Detaches a table: removes Vestnik's triggers, so that later writes to the table cause no events.
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
