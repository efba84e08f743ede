//! `vestnik attach` and `vestnik detach`: the triggers, on tables that are there already.

use vestnik::attachment::{self, Attach, Kind};
use vestnik::config::Config;
use vestnik::db;

#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// The table, with its schema: public.orders
    #[arg(long)]
    table: String,
    /// What its rows are
    #[arg(long, value_enum)]
    kind: KindArg,
    /// The column of the row's id
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    id_column: String,
    /// The column of the store's id
    #[arg(long, value_name = "COLUMN", default_value = "store_id")]
    store_column: String,
    /// The column of the status
    #[arg(long, value_name = "COLUMN", default_value = "status")]
    status_column: String,
    /// Emit at the end of the transaction, for shops that write an order's items after the order
    #[arg(long)]
    deferred: bool,
    /// Print the SQL and change nothing
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
    /// The table, with its schema: public.orders
    #[arg(long)]
    table: String,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Puts the triggers on a table.
pub async fn attach(config: &Config, args: AttachArgs) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    let attach = Attach {
        table: args.table,
        kind: match args.kind {
            KindArg::Order => Kind::Order,
            KindArg::Booking => Kind::Booking,
        },
        id_column: args.id_column,
        store_column: args.store_column,
        status_column: args.status_column,
        deferred: args.deferred,
    };
    if args.dry_run {
        super::say!("{}", attachment::attach_sql(&client, &attach).await?);
    } else if attachment::attach(&client, &attach).await? {
        super::say!("attached {}: its rows are events from now on", attach.table);
    } else {
        super::say!("{} was attached just so already", attach.table);
    }
    Ok(())
}

/// Takes them off.
pub async fn detach(config: &Config, args: DetachArgs) -> anyhow::Result<()> {
    let client = db::connect(&config.database).await?;
    if args.dry_run {
        super::say!("{}", attachment::detach_sql(&client, &args.table).await?);
    } else {
        attachment::detach(&client, &args.table).await?;
        super::say!("detached {}: its rows are no events any more", args.table);
    }
    Ok(())
}
