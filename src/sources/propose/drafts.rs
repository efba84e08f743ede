//! Recognises tables in which each order is two rows, a draft and a published one, as Strapi makes them.

use super::Draft;
use super::columns::is_time;
use super::synonyms::underscored;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Adds a question if the table has the columns of draft and publish, unless its rows show that it is turned off.
pub(super) async fn ask(client: &impl GenericClient, table: &Table, draft: &mut Draft) -> Result<(), catalog::Error> {
    let named = |name: &str| table.columns.iter().find(|column| underscored(&column.name) == name);
    let published = named("published_at").filter(|column| is_time(column));
    let (Some(document), Some(published)) = (named("document_id"), published) else {
        return Ok(());
    };
    if is_turned_off(client, table, document, published).await? {
        return Ok(());
    }
    let (document, published) = (&document.name, &published.name);
    let question = format!(
        "is one order two rows, a draft ({published} is null) and a published one, with the same {document}? Then each order would ring \
         twice: write a section [derived] with status = \"case when o.{published} is null then 'hidden' else ... end\" \
         (docs/derived-sources.md), or turn off draft and publish for this type. If each order is one row, delete this line"
    );
    draft.ask("key", question);
    Ok(())
}

/// Whether the newest rows are all published, and none has the document of another one.
async fn is_turned_off(
    client: &impl GenericClient,
    table: &Table,
    document: &TableColumn,
    published: &TableColumn,
) -> Result<bool, catalog::Error> {
    let sql = format!(
        "select count(*) > 0 and count(*) = count(published) and count(*) = count(distinct document) \
         from (select {} as document, {} as published from {} limit 1000) sample",
        ident(&document.name),
        ident(&published.name),
        table.quoted
    );
    Ok(client.query_one(&sql, &[]).await?.try_get(0)?)
}
