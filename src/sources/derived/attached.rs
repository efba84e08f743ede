//! Finds the attached source of a table, and the role that runs its expressions. The role of `vestnik serve` may call
//! the source's function, which runs the expressions with the rights of its owner, but may not become this owner.

use super::super::catalog::Table;
use super::super::trigger::body_of;
use super::{Derived, function, projection};
use crate::domain::event::SourceId;
use crate::infra::db::GenericClient;

/// The attached source of a table.
#[derive(Debug)]
pub(super) struct Attached {
    pub id: SourceId,
    /// The role that owns the source's function, quoted: the expressions run with its rights.
    pub runs_as: String,
    /// The role that attached the table, quoted.
    pub attached_by: String,
    /// The body of the source's function.
    body: String,
    /// Whether the current role may call the source's function.
    may_call: bool,
    /// Whether the current role owns the source's function.
    pub is_own: bool,
}

impl Attached {
    /// Whether the current role can run these expressions by a call of the source's function.
    pub fn can_run(&self, table: &Table, derived: &Derived) -> bool {
        self.may_call && self.body == body_of(&function::sql(self.id, table, derived))
    }
}

/// Finds the attached source of the table. `None`: the table is not attached as a derived source, or the current role
/// may not read Vestnik's tables.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
) -> Result<Option<Attached>, tokio_postgres::Error> {
    const MAY_READ: &str = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = 'vestnik' and c.relname = 'vst_source' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))";
    const SOURCE: &str = "select id from vestnik.vst_source where table_name = $1 and detached_at is null";
    const FUNCTION: &str = "select quote_ident(pg_get_userbyid(p.proowner)), p.prosrc, has_function_privilege(p.oid, 'execute'), \
             pg_get_userbyid(p.proowner) = current_user, quote_ident(pg_get_userbyid(c.relowner)) \
         from pg_proc p, pg_class c where p.oid = to_regprocedure($1) and c.oid = to_regclass($2)";
    if !client.query_one(MAY_READ, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let Some(row) = client.query_opt(SOURCE, &[&table.quoted]).await? else {
        return Ok(None);
    };
    let id = SourceId(row.try_get(0)?);
    let row = client
        .query_opt(FUNCTION, &[&function::signature(id), &projection(id)])
        .await?;
    let attached = |row: tokio_postgres::Row| {
        Ok(Attached {
            id,
            runs_as: row.try_get(0)?,
            body: row.try_get(1)?,
            may_call: row.try_get(2)?,
            is_own: row.try_get(3)?,
            attached_by: row.try_get(4)?,
        })
    };
    row.map(attached).transpose()
}
