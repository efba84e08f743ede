//! `vestnik attach` and `vestnik detach`: install Vestnik's triggers on a shop's tables, and remove them.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::domain::status::SubjectKind;
use crate::domain::subject::Visibility;
use crate::infra::config::Config;
use crate::infra::db;
use crate::infra::standard_webhook::address;
use crate::sources::attach::{self, Attached, Options};
use crate::sources::catalog::{self, Table};
use crate::sources::derived::{self, preset};
use crate::sources::mapping::Mapping;
use crate::sources::newest_rows::{self, Advice};
use crate::sources::preview::{self, Preview};
use crate::sources::propose::propose;
use crate::sources::validate::warnings_of_rows;
use anyhow::bail;
use tokio_postgres::error::SqlState;

use super::Usage;
use super::mapping_file::{ask, keep_proposal, read_answered, to_correct};

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
                    if let Some(name) = preset::resembling(&table) {
                        super::say!(
                            "{} looks like {name}, another version: vestnik attach --preset {name} names what is missing",
                            table.quoted
                        );
                    }
                    let proposal = propose(&client, &table, kind).await?;
                    if !proposal.questions.is_empty() {
                        return Err(ask(&table, &proposal, args.dry_run)?);
                    }
                    proposal.guesses.iter().for_each(|guess| super::say!("{guess}"));
                    proposal.toml
                }
            }
        }
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
    let attached = attach::attach(&mut client, &mapping_toml, options, &mut |line| super::say!("{line}")).await;
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

/// Converts an error of [`Table::find`] into the command's error. A missing or unsuitable table counts as wrong usage
/// of the command, but a failed query does not.
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

/// Returns the error of a failed attach. If a right is missing, the error names the right and the role that needs it.
pub async fn not_attached(client: &tokio_postgres::Client, error: attach::Error) -> anyhow::Error {
    let attach::Error::Postgres(denied) = &error else {
        return wrong_mapping(error);
    };
    if denied.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return wrong_mapping(error);
    }
    let role = client.query_one("select quote_ident(current_user)", &[]).await;
    let role: String = role
        .and_then(|row| row.try_get(0))
        .unwrap_or_else(|_| "this role".to_owned());
    let message = denied.as_db_error().map(|db| db.message()).unwrap_or_default();
    let name = message.rsplit(' ').next().unwrap_or_default();
    let remedy = match message.split(" for ").nth(1).and_then(|of| of.split(' ').next()) {
        Some("schema") if name == "vestnik" => format!("grant usage, create on schema vestnik to {role}"),
        Some("schema") => format!("grant usage on schema {name} to {role}"),
        Some("table") if name.starts_with("vst_") => {
            format!("grant select, insert, update, delete on all tables in schema vestnik to {role}")
        }
        Some("table" | "view") => format!("grant select, trigger on {name} to {role}"),
        Some("function") => format!("grant execute on function {name} to {role}"),
        _ => format!(
            "run the command as the role that attached the source or owns {name}, or: grant THAT_ROLE to {role}"
        ),
    };
    Usage(format!("{error}, as role {role}: {remedy}")).into()
}

/// Returns the error for a mapping with expressions that fail for the table's newest rows.
pub fn unfit(table: &Table, problems: Vec<String>) -> anyhow::Error {
    let table = table.quoted.clone();
    wrong_mapping(attach::Error::Unfit { table, problems })
}

/// Number of the table's newest rows that are translated as a check. The command prints some of them.
const LOOKED_AT: i64 = 20;

/// The result of translating the newest rows of a table with a mapping.
#[derive(Debug, Default)]
pub struct NewestRows {
    /// Whether a printed order has no store, so that nobody would receive it. Hidden orders, such as carts, do not
    /// count.
    pub has_no_store: bool,
    /// One line for each expression of the mapping that fails for one of the rows.
    pub problems: Vec<String>,
    /// Whether the table has rows, and the mapping fails for all of them.
    pub all_fail: bool,
    /// One line for each status word that is probably misspelled.
    pub misspelt: Vec<String>,
    /// Whether the amounts of the newest rows are in the default currency; `None`: the table has no rows.
    pub has_default_currency: Option<bool>,
}

impl NewestRows {
    /// Prints the failing expressions as warnings. Returns an error only if the mapping fails for every row, because
    /// the owner must be able to attach a table with a single bad row.
    pub fn unless_all_fail(self, table: &Table) -> anyhow::Result<Self> {
        if self.all_fail {
            return Err(unfit(table, self.problems));
        }
        for problem in &self.problems {
            super::say!("warning: {problem}: such a value is shown as ?");
        }
        for misspelt in &self.misspelt {
            super::say!("warning: {misspelt}");
        }
        Ok(self)
    }
}

/// Prints at most `most` of the table's newest rows as the people of a store would see them. Hidden rows, such as
/// carts, come last.
pub async fn show_newest(
    client: &mut tokio_postgres::Client,
    table: &Table,
    mapping: &Mapping,
    most: usize,
) -> anyhow::Result<NewestRows> {
    let known = crate::sources::registry::load(client).await.ok();
    let currencies = known.map_or_else(HashMap::new, |known| known.currencies().clone());
    let found = match &mapping.derived {
        Some(derived) => derived::newest(client, table, mapping, derived, &currencies, LOOKED_AT).await,
        None => {
            let source = attach::unattached(table, mapping);
            let rows = preview::newest(client, &source, table, &currencies, LOOKED_AT).await;
            rows.map(|(orders, problems)| {
                Some(derived::NewestOrders {
                    orders,
                    problems,
                    ..derived::NewestOrders::default()
                })
            })
        }
    };
    let derived::NewestOrders {
        mut orders,
        problems,
        all_fail,
        warnings: of_rows,
    } = match found {
        Ok(Some(found)) => found,
        // An error in the mapping is not reported here, because attaching the table reports it later.
        Ok(None) => return Ok(NewestRows::default()),
        Err(catalog::Error::Failed(db::QueryError::Postgres(error))) if error.as_db_error().is_some() => {
            // Other errors are of the mapping, such as a missing column.
            let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            let reason = format!("the rows of {} cannot be read: {}", table.quoted, db::reason(&error));
            return Ok(NewestRows {
                problems: is_denied.then_some(reason).into_iter().collect(),
                ..NewestRows::default()
            });
        }
        Err(error) => bail!(error),
    };
    let Advice {
        mut warnings,
        notes,
        misspelt,
        has_default_currency,
    } = newest_rows::advice(client, table, mapping, &orders).await?;
    if mapping.derived.is_none() {
        warnings.extend(warnings_of_rows(client, table, mapping).await?);
    }
    let is_seen = |row: &Preview| row.subject.visibility == Visibility::Visible;
    orders.sort_by_key(|row| !is_seen(row));
    orders.truncate(most);
    // A warning about the rows means that the table has rows, although they give no order.
    if orders.is_empty() && problems.is_empty() && of_rows.is_empty() {
        super::say!("{} has no rows yet", table.quoted);
    } else if !orders.is_empty() {
        super::say!("the newest of {}, as a partner would see it:", table.quoted);
        orders
            .iter()
            .flat_map(preview::lines)
            .for_each(|line| super::say!("  {line}"));
    }
    warnings.extend(of_rows);
    for warning in warnings {
        super::say!("warning: {warning}");
    }
    notes.iter().for_each(|note| super::say!("note: {note}"));
    Ok(NewestRows {
        misspelt,
        has_no_store: orders.iter().any(|row| row.store.is_none() && is_seen(row)),
        problems,
        all_fail,
        has_default_currency,
    })
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
