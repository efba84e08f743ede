//! `vestnik erase`: erases the data of a customer from everything that Vestnik stores.

use crate::domain::event::StoreId;
use crate::erasure::{self, Report, Whom};
use crate::infra::config::Config;
use crate::infra::db;

/// Places with data of the customer that the command cannot erase.
const LEFT: [&str; 6] = [
    "the shop's own tables: erase there first, for a later write of the row is recorded as it is",
    "backups, archived WAL, standbys that lag, and backup_before_v23_*.sql of `vestnik migrate`",
    "what partners' systems and webhooks were sent, and the open panels until they load their lists again",
    "in Telegram: digests, notes and the bot's answers, whose numbers are not kept, and what people wrote or forwarded",
    "`reason` columns and words of a person's in the shop's tables, and the names of those who answered",
    "the log: it never has a customer's data",
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id of the store; with --phone it may be left out, which means every store
    #[arg(long, required_unless_present = "phone")]
    store: Option<String>,
    /// One order or booking: its number as people call it out, or its key
    #[arg(
        long,
        value_name = "NUMBER",
        required_unless_present = "phone",
        conflicts_with = "phone",
        requires = "store"
    )]
    order: Option<String>,
    /// Every order and booking with this telephone number
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// Print what would be erased, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Erases the data, and prints what was erased, and which data the command cannot erase.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let mut client = db::connect(&config.database).await?;
    let store = args.store.as_deref().map(StoreId::new);
    let whom = match (store, args.order, args.phone) {
        (Some(store), Some(order), _) => Whom::Order { store, order },
        (store, _, Some(phone)) => Whom::Phone { store, phone },
        _ => return Err(super::Usage("name --store and --order, or --phone".into()).into()),
    };
    let report = erasure::erase(&mut client, &whom, args.dry_run).await?;
    tell(&report, args.dry_run);
    Ok(())
}

fn tell(report: &Report, is_dry: bool) {
    for (source, number, key) in &report.orders {
        super::say!("{source} {number} (key {key})");
    }
    let did = if is_dry { "would erase" } else { "erased" };
    super::say!("{did} the customer in {} rows of the journal", report.events);
    for (count, what) in [
        (report.projections, "rows of derived sources"),
        (report.answers, "answers that the shop's API was asked for"),
        (report.replies, "answers of the bot that it keeps"),
    ] {
        if count > 0 {
            super::say!("{did} the customer in {count} {what}");
        }
    }
    if report.messages > 0 {
        let edit = if is_dry {
            "would be edited"
        } else {
            "will be edited by a node with the bot"
        };
        super::say!(
            "{} messages in Telegram {edit}: number and status stay",
            report.messages
        );
    }
    if report.dead > 0 {
        super::say!(
            "{} deliveries that were given up stay, without the customer",
            report.dead
        );
    }
    if report.sending > 0 {
        super::say!(
            "{} messages are being sent now, perhaps with the old text: run this again in a minute",
            report.sending
        );
    }
    if !is_dry {
        super::say!("every node drops its cache of events at its next read, within a second");
    }
    super::say!("not erased, for it is not Vestnik's:");
    LEFT.iter().for_each(|left| super::say!("  {left}"));
}
