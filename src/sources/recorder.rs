//! The role of the trigger functions: it may insert into the journal, and nothing else. The owner of an attached table
//! chooses its column types and the functions behind their casts; with this role's rights those functions can do
//! nothing else.

use tokio_postgres::Client;

use crate::infra::db::GenericClient;

/// The role's name, one for all databases of a cluster; its rights are granted in each database.
pub const ROLE: &str = "vestnik_recorder";

/// Whose rights the trigger functions run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorder {
    /// The recorder role's.
    Role,
    /// Those of the role that attaches: it can neither create nor use the recorder role.
    Attacher,
}

/// Creates the role if it is missing and we may, and grants its rights in this database.
pub async fn prepare(client: &Client) -> Result<Recorder, tokio_postgres::Error> {
    // Two databases may be prepared at the same moment.
    const MAKE: &str = "do $$ begin \
             if to_regrole('vestnik_recorder') is null then create role vestnik_recorder nologin; end if; \
         exception when duplicate_object or unique_violation or insufficient_privilege then null; end $$";
    const JOIN: &str = "do $$ begin \
             if not pg_has_role('vestnik_recorder', case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end) \
                 then execute format('grant vestnik_recorder to %I', current_user); end if; \
         exception when insufficient_privilege or undefined_object or invalid_grant_operation then null; end $$";
    const GRANT: &str = "grant usage on schema vestnik to vestnik_recorder; \
         grant insert (source, store_id, key, type, data, old) on vestnik.vst_event to vestnik_recorder; \
         grant insert (source, watch, key) on vestnik.vst_change to vestnik_recorder; \
         grant execute on all functions in schema vestnik to vestnik_recorder";
    client.batch_execute(MAKE).await?;
    client.batch_execute(JOIN).await?;
    if usable(client).await? == Recorder::Role {
        client.batch_execute(GRANT).await?;
        return Ok(Recorder::Role);
    }
    Ok(Recorder::Attacher)
}

/// Whether the role exists and we may make it the owner of functions.
pub async fn usable(client: &impl GenericClient) -> Result<Recorder, tokio_postgres::Error> {
    // Since Postgres 16, the creator of a role is a member that may grant it, but may not act as it.
    const USABLE: &str = "select coalesce((select pg_has_role(oid, case when current_setting('server_version_num')::int >= 160000 \
             then 'set' else 'member' end) from pg_roles where rolname = 'vestnik_recorder'), false)";
    Ok(match client.query_one(USABLE, &[]).await?.try_get(0)? {
        true => Recorder::Role,
        false => Recorder::Attacher,
    })
}

/// Makes the role the owner of a function. A new owner needs the right to create in the schema at that moment.
pub async fn own(client: &impl GenericClient, function: &str) -> Result<(), tokio_postgres::Error> {
    let own = format!(
        "grant create on schema vestnik to {ROLE}; alter function {function}() owner to {ROLE}; \
         revoke create on schema vestnik from {ROLE}"
    );
    client.batch_execute(&own).await
}
