//! Finds the present problems of a derived source, for its health report.

use crate::infra::db::GenericClient;

use super::{Derived, failure, function, projection};
use crate::domain::event::SourceId;

/// The present problems of a derived source, one line each, with the remedy.
pub(in crate::sources) async fn troubles(
    client: &impl GenericClient,
    source: SourceId,
    name: &str,
    table: &str,
    derived: &Derived,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const THERE: &str = "select to_regprocedure($1) is not null and to_regclass($2) is not null";
    const CARRIED: &str = "select exists (select from pg_trigger g where g.tgfoid = to_regprocedure($1 || '()') and g.tgenabled in ('O', 'A'))";
    let mut troubles = failure::lines(client, source, name).await?;
    for answer in super::answer::broken(client, table, derived).await? {
        troubles.push(format!(
            "an answer cannot be saved: {answer}: `vestnik source edit {name}`"
        ));
    }
    let is_there: bool = client
        .query_one(THERE, &[&function::signature(source), &projection(source)])
        .await?
        .try_get(0)?;
    if !is_there {
        troubles.push("its function or its table is gone: run `vestnik migrate`".to_owned());
    }
    for number in 0..=derived.watch.len() {
        let function = match number {
            0 => super::super::trigger::function_name(source),
            number => format!("vestnik.vst_watch_{}_{number}", source.0),
        };
        if !client.query_one(CARRIED, &[&function]).await?.try_get::<_, bool>(0)? {
            let of = number
                .checked_sub(1)
                .and_then(|at| derived.watch.get(at))
                .map_or(table, |watch| watch.table.as_str());
            troubles.push(format!(
                "the triggers of {of} are gone, so its rows make no events: run `vestnik migrate`"
            ));
        }
    }
    Ok(troubles)
}
