//! The source of canaries, the synthetic orders of a node's self-test. The table `vestnik.vst_canary` belongs to
//! Vestnik, but has the same trigger as a shop's table. So a canary takes the same path as a real order. The source has
//! no row in `vst_source`, so no list of sources contains it.

use std::sync::{Arc, LazyLock};

use super::attach_error::Error;
use super::catalog::Table;
use super::install::has_function;
use super::mapping::Mapping;
use super::recorder::{self, FunctionOwner};
use super::trigger::{body_of, function_name, function_sql};
use super::{RecordedColumn, Source};
use crate::domain::event::SourceId;

const TABLE: &str = "vestnik.vst_canary";
const MAPPING: &str = r#"
    table = "vestnik.vst_canary"
    kind = "order"
    key = "round"
    store = "store"
    [status]
    column = "status"
    pending = ["pending"]
"#;
/// SQL that creates the trigger of the table `vst_canary`; the caller appends the function's name. The trigger fires
/// only for inserts, because only a new row must become an event. The node later updates the row with the self-test's
/// result, and deletes old rows.
const TRIGGER: &str = "create or replace trigger vestnik_record_insert after insert on vestnik.vst_canary \
     referencing new table as new_rows for each statement execute function";
const HAS_TRIGGER: &str = "select exists (select from pg_trigger where tgrelid = to_regclass($1) \
     and tgname = 'vestnik_record_insert' and tgenabled in ('O', 'A') and tgfoid = to_regprocedure($2 || '()'))";

/// The source of canaries, the synthetic orders of a node's self-test. It is built into the program, not loaded from
/// the database.
pub static SOURCE: LazyLock<Arc<Source>> = LazyLock::new(|| {
    let mapping = mapping().expect("the mapping of the canaries is good: a test reads it");
    let column = |name: &str| RecordedColumn {
        name: name.to_owned(),
        kind: "text".to_owned(),
    };
    Arc::new(Source {
        id: SourceId::CANARY,
        name: "vst_canary".into(),
        table: TABLE.to_owned(),
        columns: mapping.recorded_columns().into_iter().map(column).collect(),
        mapping,
        former: None,
    })
});

fn mapping() -> Result<Mapping, Error> {
    Ok(Mapping::from_toml(MAPPING)?)
}

/// Installs the trigger of `vst_canary` and its function, unless their current version is installed already. Returns
/// whether anything was installed.
pub async fn install(client: &mut tokio_postgres::Client) -> Result<bool, Error> {
    let owner = recorder::prepare(client).await?;
    let table = Table::find(client, TABLE).await?;
    let (sql, function) = (
        function_sql(SourceId::CANARY, &table, &mapping()?),
        function_name(SourceId::CANARY),
    );
    let has_trigger: bool = client.query_one(HAS_TRIGGER, &[&TABLE, &function]).await?.try_get(0)?;
    if has_trigger && has_function(client, &function, body_of(&sql), owner).await? {
        return Ok(false);
    }
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!(
            "{sql}; revoke all on function {function}() from public; {TRIGGER} {function}()"
        ))
        .await?;
    if owner == FunctionOwner::Role {
        recorder::own(&transaction, &function).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_of_the_canaries_is_good() {
        assert_eq!(SOURCE.mapping.recorded_columns(), ["round", "store", "status"]);
    }
}
