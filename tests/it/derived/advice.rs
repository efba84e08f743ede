//! What the program advises for an SQL statement of a mapping that Postgres rejects.

use vestnik::sources::health;

use super::attaching::vestnik;
use crate::support::db::Database;

const TABLES: &str = "create table purchase (id int primary key, shop int, state text); \
    create table parcel (id int primary key, purchase_id int, state text); insert into purchase values (1, 7, 'new')";
const MAPPING: &str = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
    [[derived.watch]]\ntable = 'parcel'\ncolumn = 'id'\nkeys = 'select purchase_id from parcel where id = any ($1::int[])'\n\
    [answer]\npreparing = \"update purchase set shop = shop where id = $1::int and state = 'new'\"\n";

#[tokio::test]
async fn a_statement_gets_no_advice_about_the_row_of_an_expression() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    client
        .batch_execute("alter table purchase rename state to stage; alter table parcel rename purchase_id to order_id")
        .await
        .unwrap();
    let sources = health::check(&client).await.unwrap();
    let purchase = sources.into_iter().find(|source| source.name == "purchase").unwrap();
    let gone = "no table of the statement has this column, and a text stands in quotes, `'state'`";
    let of_answer = "answer.preparing: column \"state\" does not exist (42703)";
    assert!(
        purchase
            .troubles
            .iter()
            .any(|line| line.contains(of_answer) && line.contains(gone)),
        "{:#?}",
        purchase.troubles
    );
    let (_, said) = vestnik(&database, &["source", "check", "purchase"]).await;
    let of_keys = "derived.watch of parcel: keys: column \"purchase_id\" does not exist (42703)";
    for line in [of_answer, of_keys, gone] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(!said.contains("o.state") && !said.contains("o.purchase_id"), "{said}");
}
