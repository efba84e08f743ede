//! Notices that row level security changed. A policy may have hidden rows that the mapping's expressions read, and
//! Postgres gives no error for a hidden row. So after each change of a policy, the orders are computed again.

use super::missed::{project_all, project_open};
use crate::domain::event::SourceId;
use crate::infra::db::{GenericClient, QueryError};

/// Compares the policies of the tables that the expressions may read with those that the projector last saw. If they
/// differ, puts into the queue that all orders of these sources are computed again. Returns whether they differ. The
/// first call only remembers the policies. The caller must hold the projector's lease.
pub(super) async fn notice(client: &impl GenericClient, sources: &[SourceId]) -> Result<bool, QueryError> {
    // The transaction id of a catalog row tells whether somebody changed the row, also if a later change undid it.
    const REMEMBER: &str = "with reader as materialized (select oid, rolsuper, rolbypassrls from pg_roles where oid in ( \
                 select proowner from pg_proc where pronamespace = 'vestnik'::regnamespace and proname like 'vst\\_derive\\_%')), \
             read as materialized (select distinct c.oid, c.relforcerowsecurity, c.relowner from pg_class c, reader r \
                 where c.relrowsecurity and has_any_column_privilege(r.oid, c.oid, 'select')), \
             now as (select md5(coalesce(string_agg(line, ';' order by line), '')) as policies from ( \
                 select concat_ws(',', 'policy', p.oid, p.xmin) as line from pg_policy p where p.polrelid in (select oid from read) \
                 union all select concat_ws(',', 'table', oid, relforcerowsecurity, relowner) from read \
                 union all select concat_ws(',', 'role', oid, rolsuper, rolbypassrls) from reader) lines), \
             before as (select policies from vestnik.vst_projector) \
         update vestnik.vst_projector p set policies = now.policies from now, before \
         where p.policies is distinct from now.policies returning before.policies is not null";
    let Some(row) = client.query_opt(REMEMBER, &[]).await? else {
        return Ok(false);
    };
    let are_changed: bool = row.try_get(0)?;
    if are_changed {
        for source in sources {
            project_open(client, *source).await?;
            project_all(client, *source).await?;
        }
    }
    Ok(are_changed)
}
