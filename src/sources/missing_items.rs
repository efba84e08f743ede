//! Finds newest orders without items: a wrong key joins no item to its order, and every query still works.

use super::mapping::{ItemsRef, Mapping};
use super::preview::Preview;
use crate::domain::status::SubjectKind;
use crate::domain::subject::Visibility;

/// Minimum number of newest orders without an item that are a reason for a warning. A test order often has none.
const FEWEST_ORDERS: usize = 3;

/// What the newest orders say about the items of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MissingItems {
    /// The mapping names items, and no order has one. The text is a warning.
    Unfound(String),
    /// The mapping names no items. The text is a note.
    Unmapped(String),
}

/// Examines the items of the newest orders. `None`: an order has an item or its items cannot be read, there are too few
/// orders to say it, or the rows are bookings.
pub(super) fn find(mapping: &Mapping, orders: &[Preview]) -> Option<MissingItems> {
    let orders = orders.iter().map(|order| &order.subject);
    let orders: Vec<_> = orders.filter(|order| order.visibility == Visibility::Visible).collect();
    let has_items = orders
        .iter()
        .any(|order| !order.items.list.is_empty() || order.items.omitted > 0);
    let is_unread = |field: &str| matches!(field, "items" | "details" | "order");
    let mut unreadable = orders.iter().flat_map(|order| &order.unreadable);
    if mapping.kind != SubjectKind::Order || has_items || unreadable.any(|it| is_unread(it.field)) {
        return None;
    }
    let is_mapped = match &mapping.derived {
        Some(derived) => derived.items.is_some(),
        None => mapping.items.is_some(),
    };
    if !is_mapped {
        // The details may say the items, which only orders show.
        let may_come = mapping.details.is_some() && orders.len() < FEWEST_ORDERS;
        let place = if mapping.derived.is_some() {
            "`items`"
        } else {
            "[items]"
        };
        let who = match mapping.details {
            Some(_) => "neither the mapping nor its details query names items",
            None => "the mapping names no items",
        };
        let note = format!(
            "{who}, so orders come without dishes: write {place} where the shop keeps them in a column or in another table"
        );
        return (!may_come).then_some(MissingItems::Unmapped(note));
    }
    if orders.len() < FEWEST_ORDERS {
        return None;
    }
    let (place, advice) = match (&mapping.derived, mapping.items.as_ref().map(|items| &items.from)) {
        (Some(_), _) => (
            "derived.items",
            "check which column its WHERE compares with the order, such as `l.order_id = o.id`".to_owned(),
        ),
        (None, Some(ItemsRef::Table { table, order_key })) => (
            "items",
            format!(
                "check that {order_key} of {table} (`order_key`) holds the {} of the order",
                mapping.key
            ),
        ),
        (None, Some(ItemsRef::Column(column))) => ("items", format!("check that the column {column} holds the items")),
        (None, None) => return None,
    };
    let count = orders.len();
    Some(MissingItems::Unfound(format!(
        "{place}: none of the newest {count} orders has an item: {advice}"
    )))
}
