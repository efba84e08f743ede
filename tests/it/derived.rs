//! Derived sources: popular shop systems, read with the mappings that come with the program.
//!
//! `tests/shops/derived/NAME/life.sql` has the tables of a system and the writes of its application. `truth.sql` is a
//! plain SQL query for the orders that a panel must show. After each transaction, the lists must equal the result of
//! `truth.sql`. The new events must describe how the transaction has changed this result.

mod advice;
mod amounts;
pub mod answers;
mod attaching;
mod change_of_kind;
mod elsewhere;
mod failing_sql;
mod faults;
mod hidden_rows;
mod hidden_tables;
mod kept_answers;
mod keys;
mod proposing;
mod proposing_systems;
mod queue;
mod random;
mod reading_rights;
mod renamed_columns;
mod replaced_tables;
mod rights;
mod several_stores;
pub mod shop;
mod shop_api;
mod source_check;
mod status_words;
mod truth;
mod watching;

use shop::Shop;

/// Runs the transactions of a system three times: under the isolation level that its application uses, and under the
/// two stricter levels.
async fn is_shown_as_it_is(system: &str) {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let mut shop = Shop::open(system, isolation).await;
        for transaction in shop.life() {
            shop.live(&transaction).await;
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn evershop_is_shown_as_its_tables_say() {
    is_shown_as_it_is("evershop").await;
}

#[tokio::test]
async fn spree_is_shown_as_its_tables_say() {
    is_shown_as_it_is("spree").await;
}

#[tokio::test]
async fn openfoodnetwork_is_shown_as_its_tables_say() {
    is_shown_as_it_is("openfoodnetwork").await;
}

#[tokio::test]
async fn pretix_is_shown_as_its_tables_say() {
    is_shown_as_it_is("pretix").await;
}

#[tokio::test]
async fn vendure_is_shown_as_its_tables_say() {
    is_shown_as_it_is("vendure").await;
}

#[tokio::test]
async fn saleor_is_shown_as_its_tables_say() {
    is_shown_as_it_is("saleor").await;
}

#[tokio::test]
async fn odoo_pos_is_shown_as_its_tables_say() {
    is_shown_as_it_is("odoo-pos").await;
}

#[tokio::test]
async fn coopcycle_is_shown_as_its_tables_say() {
    is_shown_as_it_is("coopcycle").await;
}
