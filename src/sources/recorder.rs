//! The role that the trigger functions run as: it may insert into the journal, and nothing else. Whoever owns an attached
//! table chooses its column types, and the functions behind their casts: with this role's rights they reach nothing.

use tokio_postgres::Client;

use crate::infra::db::GenericClient;

/// The role's name, one for all databases of a cluster: its rights are given in each.
pub const ROLE: &str = "vestnik_recorder";

/// Whose rights the trigger functions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorder {
    /// The role's, which may insert into the journal and nothing else.
    Role,
    /// Those of whoever attaches: the role can neither be made nor used by it.
    Attacher,
}

/// Makes the role where it is missing and we may, and gives it what it needs in this database.
pub async fn prepare(client: &Client) -> Result<Recorder, tokio_postgres::Error> {
    // Two databases may be prepared in one moment.
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

/// Whether the role is there and we may give functions to it.
pub async fn usable(client: &impl GenericClient) -> Result<Recorder, tokio_postgres::Error> {
    // From Postgres 16 on, who makes a role is a member that may give it away, and may not become it.
    const USABLE: &str = "select coalesce((select pg_has_role(oid, case when current_setting('server_version_num')::int >= 160000 \
             then 'set' else 'member' end) from pg_roles where rolname = 'vestnik_recorder'), false)";
    Ok(match client.query_one(USABLE, &[]).await?.try_get(0)? {
        true => Recorder::Role,
        false => Recorder::Attacher,
    })
}

/// Gives a function to the role. A new owner must be allowed to create in the schema, for that moment.
pub async fn own(client: &impl GenericClient, function: &str) -> Result<(), tokio_postgres::Error> {
    let own = format!(
        "grant create on schema vestnik to {ROLE}; alter function {function}() owner to {ROLE}; \
         revoke create on schema vestnik from {ROLE}"
    );
    client.batch_execute(&own).await
}
