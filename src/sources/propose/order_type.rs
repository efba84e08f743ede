//! Finds the column for the type of an order: delivery, pickup or dine-in.

use super::column_words::words_of;
use super::columns::{Columns, is_plain, is_whole};
use super::{Draft, TypeWords, synonyms};
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};

/// Names of the column for the type of an order.
const TYPES: &[&str] = &[
    "order_type",
    "delivery_type",
    "delivery_method",
    "fulfillment_type",
    "fulfillment_method",
    "fulfilment_type",
    "service_type",
    "mode",
    "type",
    "тип_заказа",
    "тип",
    "способ_получения",
];
/// Names of a column that has the type of an order only if its words say so. A `channel` may also be the app or the web.
const DOUBTFUL_TYPES: &[&str] = &[
    "fulfillment",
    "fulfilment",
    "fulfillment_mode",
    "fulfilment_method",
    "order_mode",
    "delivery_mode",
    "delivery_option",
    "service_mode",
    "service",
    "receiving_method",
    "shipping_method",
    "channel",
    "order_channel",
    "способ_доставки",
    "доставка",
];
/// Names of boolean columns that are true for one type of an order.
const FLAGS: &[(&[&str], Type, Type)] = &[
    (
        &["is_delivery", "delivery", "for_delivery", "needs_delivery", "доставка"],
        Type::Delivery,
        Type::Pickup,
    ),
    (
        &["is_pickup", "pickup", "is_pick_up", "self_pickup", "is_self_pickup", "is_collection", "самовывоз"],
        Type::Pickup,
        Type::Delivery,
    ),
    (
        &["is_takeaway", "takeaway", "is_take_away", "take_away", "is_takeout", "takeout", "to_go", "is_to_go"],
        Type::Pickup,
        Type::DineIn,
    ),
    (&["is_dine_in", "dine_in", "is_eat_in", "eat_in"], Type::DineIn, Type::Pickup),
];

/// Usual words for delivery.
const DELIVERY: &[&str] = &[
    "delivery", "deliver", "delivered", "courier", "shipping", "home delivery", "door delivery", "доставка", "курьер", "курьером", "доставкой",
];
/// Usual words for pickup.
const PICKUP: &[&str] = &[
    "pickup", "pick up", "takeaway", "take away", "takeout", "take out", "collection", "collect", "to go", "togo", "self pickup", "self collection",
    "store pickup", "carryout", "carry out", "curbside", "click and collect", "самовывоз", "с собой", "навынос",
];
/// Usual words for eating in the restaurant.
const DINE_IN: &[&str] = &[
    "dine in", "dinein", "in store", "eat in", "eatin", "eat here", "for here", "in house", "table", "table service", "hall", "on site", "on premise",
    "в зале", "в ресторане", "на месте",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Delivery,
    Pickup,
    DineIn,
}

impl Type {
    /// What a person reads of an order of this type.
    fn told(self) -> &'static str {
        match self {
            Self::Delivery => "a delivery",
            Self::Pickup => "picked up",
            Self::DineIn => "eaten in the store",
        }
    }
}

impl TypeWords {
    fn put(&mut self, of: Type, word: &str) {
        let list = match of {
            Type::Delivery => &mut self.delivery,
            Type::Pickup => &mut self.pickup,
            Type::DineIn => &mut self.dine_in,
        };
        list.push(word.to_owned());
    }
}

/// Finds the column for the type of an order, and the meaning of its words. Adds them to the draft of the proposal. A
/// column with words that are types is preferred to one that has only the usual name.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let names: Vec<&str> = TYPES.iter().chain(DOUBTFUL_TYPES).copied().collect();
    let mut seen: Vec<&TableColumn> = Vec::new();
    let is_new = |seen: &[&TableColumn], column: &TableColumn| seen.iter().all(|known| known.name != column.name);
    while let Some(column) = columns.peek(&names, |column| is_plain(column) && is_new(&seen, column)) {
        let found = words_of(client, table, column).await?.words;
        let types = meanings(&found);
        if types != TypeWords::default() {
            columns.use_named(&column.name);
            draft.order_type = Some((column.name.clone(), types));
            return Ok(());
        }
        seen.push(column);
    }
    if flag(columns, draft) {
        return Ok(());
    }
    let Some(column) = columns.take(TYPES, is_plain) else {
        return Ok(());
    };
    if is_whole(column) {
        for (word, rows) in words_of(client, table, column).await?.words {
            draft.ask(
                "type",
                format!("is {word} delivery, pickup or dine_in? {rows} rows have it"),
            );
        }
    }
    draft.order_type = Some((column.name.clone(), TypeWords::default()));
    Ok(())
}

/// Groups the words that are types of orders.
fn meanings(found: &[(String, i64)]) -> TypeWords {
    let mut types = TypeWords::default();
    for (word, _) in found {
        let spaced = synonyms::spaced(word);
        for (known, of) in [
            (DELIVERY, Type::Delivery),
            (PICKUP, Type::Pickup),
            (DINE_IN, Type::DineIn),
        ] {
            if known.contains(&spaced.as_str()) {
                types.put(of, word);
            }
        }
    }
    types
}

/// Finds a boolean column that is true for one type of an order, and adds it to the draft. What false means is a guess.
fn flag(columns: &mut Columns<'_>, draft: &mut Draft) -> bool {
    for (names, yes, no) in FLAGS {
        if let Some(column) = columns.take(names, |column| column.base == "boolean") {
            let mut types = TypeWords::default();
            types.put(*yes, "true");
            types.put(*no, "false");
            let guess = format!("where {} is false, the order is {}", column.name, no.told());
            draft.guess("type", guess);
            draft.order_type = Some((column.name.clone(), types));
            return true;
        }
    }
    false
}
