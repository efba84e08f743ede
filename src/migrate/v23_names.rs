//! The names in V23, the migration that renames statuses: tables, statuses, constraints and indexes.

use tokio_postgres::Client;

use super::Error;

/// The tables whose statuses the migration V23 rewrites.
pub const TABLES: [&str; 2] = ["public.orders", "public.bookings"];
/// Each old status, and the new status that replaces it.
pub const RENAMED: [(&str, &str); 2] = [("new", "pending"), ("confirmed", "preparing")];
/// The constraints that the migration V23 adds, each with its table. V23 does not check existing rows: this happens
/// afterwards, while writers continue.
pub const CONSTRAINTS: [(&str, &str); 3] = [
    ("public.orders", "orders_status_known"),
    ("public.orders", "orders_delivering_is_delivery"),
    ("public.bookings", "bookings_status_known"),
];

/// The quoted names of a table's leaf partitions, or of the table itself if it is not partitioned.
pub async fn parts(client: &Client, table: &str) -> Result<Vec<String>, Error> {
    const PARTS: &str = "select format('%I.%I', n.nspname, c.relname) \
         from (select to_regclass($1) as relid where (select relkind from pg_class where oid = to_regclass($1)) = 'r' \
               union all select relid from pg_partition_tree(to_regclass($1)) where isleaf) part \
         join pg_class c on c.oid = part.relid join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' \
         group by 1 order by 1";
    let rows = client.query(PARTS, &[&table]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Returns the quoted schema and name of the index that the migration V23 builds on a table or partition. The index is
/// in the schema of the table.
pub async fn index_name(client: &Client, part: &str) -> Result<(String, String), Error> {
    const NAME: &str = "select quote_ident(n.nspname), quote_ident(left('idx_' || c.relname, 48) || '_status_created') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)";
    let row = client.query_one(NAME, &[&part]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
