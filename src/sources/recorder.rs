//! Manages the Postgres role `vestnik_recorder`, which owns the trigger functions. This role can only insert into the
//! journal and into `vst_change`, the queue of orders to compute. A trigger runs functions of the table's column types,
//! and the table's owner chooses these types. So these functions run with the rights of `vestnik_recorder`, and cannot
//! read or change other data.

use tokio_postgres::Client;

use crate::infra::db::GenericClient;

/// The name of the recorder role. All databases of a Postgres cluster share the role; each database grants it rights.
pub const ROLE: &str = "vestnik_recorder";

/// The role with whose rights the trigger functions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionOwner {
    /// The recorder role owns the functions.
    Role,
    /// The role that attaches the table owns the functions, because it can neither create nor use the recorder role.
    Attacher,
}

/// Creates the role `vestnik_recorder` if it is missing, and grants this role its rights in this database. Returns
/// [`FunctionOwner::Attacher`] if the current role may not create `vestnik_recorder` or grant these rights.
pub async fn prepare(client: &Client) -> Result<FunctionOwner, tokio_postgres::Error> {
    // Another process may create the role at the same moment, for another database.
    const MAKE: &str = "do $$ begin \
             if to_regrole('vestnik_recorder') is null then create role vestnik_recorder nologin; end if; \
         exception when duplicate_object or unique_violation or insufficient_privilege then null; end $$";
    const JOIN: &str = "do $$ begin \
             if not pg_has_role('vestnik_recorder', case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end) \
                 then execute format('grant vestnik_recorder to %I', current_user); end if; \
         exception when insufficient_privilege or undefined_object or invalid_grant_operation then null; end $$";
    // A function with the rights of its owner, such as one that computes orders, would read more than the role may.
    const GRANT: &str = "grant usage on schema vestnik to vestnik_recorder; \
         grant insert (source, store_id, key, type, data, old) on vestnik.vst_event to vestnik_recorder; \
         grant insert (source, watch, key) on vestnik.vst_change to vestnik_recorder; \
         do $$ declare helper regprocedure; begin \
             for helper in select oid from pg_proc where pronamespace = 'vestnik'::regnamespace and not prosecdef loop \
                 execute format('grant execute on function %s to vestnik_recorder', helper); \
             end loop; end $$";
    client.batch_execute(MAKE).await?;
    client.batch_execute(JOIN).await?;
    if usable(client).await? == FunctionOwner::Role {
        client.batch_execute(GRANT).await?;
        return Ok(FunctionOwner::Role);
    }
    Ok(FunctionOwner::Attacher)
}

/// Returns [`FunctionOwner::Role`] if the role `vestnik_recorder` exists and the current role can make it the owner of
/// functions. Otherwise returns [`FunctionOwner::Attacher`].
pub async fn usable(client: &impl GenericClient) -> Result<FunctionOwner, tokio_postgres::Error> {
    // In Postgres 16 and later, the creator of a role is its member, but may not use `set role` without a further
    // grant. So the query checks the privilege `set` in these versions.
    const USABLE: &str = "select coalesce((select pg_has_role(oid, case when current_setting('server_version_num')::int >= 160000 \
             then 'set' else 'member' end) from pg_roles where rolname = 'vestnik_recorder'), false)";
    Ok(match client.query_one(USABLE, &[]).await?.try_get(0)? {
        true => FunctionOwner::Role,
        false => FunctionOwner::Attacher,
    })
}

/// Makes `vestnik_recorder` the owner of a function. Postgres requires that a new owner may create objects in the
/// function's schema. So `vestnik_recorder` has this right during the change.
pub async fn own(client: &impl GenericClient, function: &str) -> Result<(), tokio_postgres::Error> {
    let own = format!(
        "grant create on schema vestnik to {ROLE}; alter function {function}() owner to {ROLE}; \
         revoke create on schema vestnik from {ROLE}"
    );
    client.batch_execute(&own).await
}
