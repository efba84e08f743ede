//! The canonical order and booking. Each shop's rows are translated into this form. The protocol, lists, the panel,
//! chats and webhooks show only this form.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::event::{SourceId, SubjectId};
use super::money::Currency;
use super::status::{Status, StatusSet, SubjectKind};
use super::wire_time::WireTime;

/// An order or booking in its current state. The form is the same for all shops. `None` in a field means that the value
/// is not known, unless the field's comment says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Whether the subject is an order or a booking.
    pub kind: SubjectKind,
    /// The source's id, and the key of the shop's row.
    pub id: SubjectId,
    /// The name of the source, which is the shop's attached table.
    pub source: Arc<str>,
    /// The order number that people use. If the shop has no such number, this is the key of the shop's row.
    pub number: String,
    /// Whether people see the order or booking, or why not.
    pub visibility: Visibility,
    /// The statuses that the shop's table can store, because the mapping has a status word for each of them.
    pub words: StatusSet,
    /// The status. If the mapping does not know the shop's status word, this is `Pending`, because a false alarm is
    /// better than a missed order.
    pub status: Status,
    /// The shop's own status word, if the mapping does not know it. `None`: the mapping knows the word.
    pub status_word: Option<String>,
    /// The reason for a rejection or cancellation.
    pub reason: Option<String>,
    /// How the order reaches the customer: delivery, pickup or dine-in.
    pub order_type: Option<OrderType>,
    /// The customer's name.
    pub customer_name: Option<String>,
    /// The customer's telephone number.
    pub phone: Option<String>,
    /// The delivery address.
    pub address: Option<String>,
    /// The customer's comment, such as allergies.
    pub comment: Option<String>,
    /// The number of people: how many people eat the order, or the guests of the booking.
    pub persons: Option<Quantity>,
    /// The method of payment, and whether the order is paid.
    pub payment: Payment,
    /// The total in minor units of the currency.
    pub total: Option<i64>,
    /// The currency of all amounts.
    pub currency: Currency,
    /// The ordered items.
    pub items: Items,
    /// The time for which the order is wanted or promised. For a booking, the time at which the guests arrive.
    pub due_at: Option<OffsetDateTime>,
    /// The preparation time that the store promised, minutes.
    pub promised_minutes: Option<i32>,
    /// When the customer made the order or booking.
    pub created_at: Option<OffsetDateTime>,
    /// Extra fields that the mapping shows to people, in the mapping's order.
    pub extra: Vec<Extra>,
    /// Fields whose values could not be read from the shop's row, with these values as text.
    pub unreadable: Vec<Unreadable>,
}

/// Whether people see an order or booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// People see the order or booking.
    Visible,
    /// People do not see the order yet: it is a cart, or waits for its payment.
    Hidden,
    /// The order is gone for people: the shop deleted its row, marked it as deleted, or moved it to another store.
    Deleted,
}

/// How an order reaches its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderType {
    /// The order is delivered to the customer.
    Delivery,
    /// The customer picks the order up.
    Pickup,
    /// The customer eats in the store.
    DineIn,
    /// Another type, in the shop's own word.
    Other(String),
}

impl OrderType {
    /// The name of the type in the protocol, or the shop's own word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Delivery => "delivery",
            Self::Pickup => "pickup",
            Self::DineIn => "dine_in",
            Self::Other(word) => word,
        }
    }
}

/// How an order is paid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payment {
    /// The shop's word for the method, such as `cash` or `card`. `None`: not known.
    pub method: Option<String>,
    /// Whether the order is paid already. `None`: not known.
    pub is_paid: Option<bool>,
    /// The amount of cash that the customer will pay with, such as a banknote, in minor units. The courier must bring
    /// the change. `None`: not known.
    pub change_from: Option<i64>,
}

/// A quantity: a number, or the shop's own words.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    /// A finite number.
    Number(f64),
    /// Words, such as `200 g`.
    Words(String),
}

/// The items of an order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Items {
    /// The listed items, in the shop's order.
    pub list: Vec<Item>,
    /// The number of further items that are not listed.
    pub omitted: usize,
}

/// One item of an order, such as a dish.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The name of the item.
    pub name: String,
    /// The quantity of the item.
    pub quantity: Quantity,
    /// The price of a single piece, minor units. `None`: not known.
    pub price: Option<i64>,
    /// The options that the customer chose, such as toppings.
    pub options: Vec<String>,
    /// The customer's note on this item. `None`: no note.
    pub note: Option<String>,
    /// The part of the menu, or the station of the kitchen, to which the item belongs. `None`: not known.
    pub category: Option<String>,
}

/// An extra field that only this shop has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// The label that people see.
    pub label: String,
    /// The value, as text for people.
    pub value: String,
}

/// A field whose value could not be read from the shop's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The name of the field in the protocol. If the whole row could not be read: `order` or `booking`.
    pub field: &'static str,
    /// The value in the shop's row as text, unchanged, but shortened if it is long. If the trigger could not record the
    /// value: `…` for a value that is too large, or the SQLSTATE of the error.
    pub text: String,
}

impl Subject {
    /// Creates an order or booking of which only the kind, the id, the source and the currency are known.
    pub fn empty(kind: SubjectKind, id: SubjectId, source: Arc<str>, currency: Currency) -> Self {
        Self {
            kind,
            number: id.key.to_string(),
            id,
            source,
            visibility: Visibility::Visible,
            words: StatusSet::ALL,
            status: Status::Pending,
            status_word: None,
            reason: None,
            order_type: None,
            customer_name: None,
            phone: None,
            address: None,
            comment: None,
            persons: None,
            payment: Payment::default(),
            total: None,
            currency,
            items: Items::default(),
            due_at: None,
            promised_minutes: None,
            created_at: None,
            extra: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// The status, if people see the order or booking. `None`: people do not see it.
    pub fn visible_status(&self) -> Option<Status> {
        (self.visibility == Visibility::Visible).then_some(self.status)
    }

    /// Whether the order is a delivery.
    pub fn is_delivered(&self) -> bool {
        self.order_type == Some(OrderType::Delivery)
    }

    /// The statuses that a person may choose next, the usual one first.
    pub fn next(&self) -> Vec<Status> {
        match self.visibility {
            Visibility::Visible => self.status.next_of(self.kind, self.is_delivered(), self.words),
            Visibility::Hidden | Visibility::Deleted => Vec::new(),
        }
    }

    /// The source's id.
    pub fn source_id(&self) -> SourceId {
        self.id.source
    }

    /// The protocol's names of the fields that differ from the state `before`. The status is not compared.
    pub fn changed_fields(&self, before: &Self) -> Vec<&'static str> {
        let (due_at, persons) = (name_of_due_at(self.kind), name_of_persons(self.kind));
        let fields = [
            ("number", self.number != before.number),
            ("customer_name", self.customer_name != before.customer_name),
            ("phone", self.phone != before.phone),
            ("address", self.address != before.address),
            ("comment", self.comment != before.comment),
            (persons, self.persons != before.persons),
            ("order_type", self.order_type != before.order_type),
            ("payment", self.payment != before.payment),
            ("total", (self.total, self.currency) != (before.total, before.currency)),
            ("items", self.items != before.items),
            (due_at, self.due_at != before.due_at),
            ("promised_minutes", self.promised_minutes != before.promised_minutes),
            ("extra", self.extra != before.extra),
        ];
        let mut changed: Vec<&'static str> = fields
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| *name)
            .collect();
        for Unreadable { field, .. } in self.unreadable.iter().chain(&before.unreadable) {
            let text = |of: &Self| {
                of.unreadable
                    .iter()
                    .find(|it| it.field == *field)
                    .map(|it| it.text.clone())
            };
            if !changed.contains(field) && text(self) != text(before) {
                changed.push(field);
            }
        }
        changed
    }

    /// The order or booking as a JSON object, for an event's `data` and for a row of a list. Unknown values are left
    /// out.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = self.head();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        put("customer_name", text(&self.customer_name));
        put("phone", text(&self.phone));
        put("address", text(&self.address));
        put("comment", text(&self.comment));
        put(name_of_persons(self.kind), self.persons.as_ref().map(Quantity::to_json));
        put("order_type", self.order_type.as_ref().map(|it| it.as_str().into()));
        put("payment", self.payment.to_json());
        put("total", self.total.map(Value::from));
        put("currency", Some(self.currency.as_str().into()));
        put("currency_digits", Some(self.currency.digits().into()));
        let time = |at: Option<OffsetDateTime>| at.map(|at| WireTime(at).to_string().into());
        put(name_of_due_at(self.kind), time(self.due_at));
        put("promised_minutes", self.promised_minutes.map(Value::from));
        put("created_at", time(self.created_at));
        if self.kind == SubjectKind::Order || !self.items.list.is_empty() {
            put("items", Some(self.items.list.iter().map(Item::to_json).collect()));
        }
        let omitted = self.items.omitted;
        put("items_omitted", (omitted > 0).then(|| omitted.into()));
        let extra = self
            .extra
            .iter()
            .map(|it| json!({"label": it.label, "value": it.value}));
        put("extra", (!self.extra.is_empty()).then(|| extra.collect()));
        let unreadable = self
            .unreadable
            .iter()
            .map(|it| json!({"field": it.field, "text": it.text}));
        let is_whole = self.unreadable.is_empty();
        put("unreadable", (!is_whole).then(|| unreadable.collect()));
        json
    }

    /// The JSON members that each event about this order or booking has: the key, source, number and status, and the
    /// possible next statuses. The shop's status word and the reason are included if they are known.
    pub fn head(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert(name_of_key(self.kind).to_owned(), self.id.key.as_ref().into());
        json.insert("source".to_owned(), self.source.as_ref().into());
        json.insert("number".to_owned(), self.number.as_str().into());
        json.insert("status".to_owned(), self.status.as_str().into());
        let next: Value = self.next().iter().map(|status| status.as_str()).collect();
        json.insert("next".to_owned(), next);
        for (name, value) in [("status_word", &self.status_word), ("reason", &self.reason)] {
            if let Some(value) = value {
                json.insert(name.to_owned(), value.as_str().into());
            }
        }
        json
    }
}

/// The protocol's name of the key: `order_id` or `booking_id`.
pub fn name_of_key(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Order => "order_id",
        SubjectKind::Booking => "booking_id",
    }
}

/// The protocol's name of the field `due_at`: `due_at` for orders, and `starts_at` for bookings.
pub fn name_of_due_at(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Order => "due_at",
        SubjectKind::Booking => "starts_at",
    }
}

/// The protocol's name of the field `persons`: `persons` for orders, and `guests` for bookings.
pub fn name_of_persons(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Order => "persons",
        SubjectKind::Booking => "guests",
    }
}

impl Payment {
    fn to_json(&self) -> Option<Value> {
        let mut json = Map::new();
        let method = self.method.as_deref();
        json.extend(method.map(|method| ("method".to_owned(), method.into())));
        json.extend(self.is_paid.map(|paid| ("paid".to_owned(), paid.into())));
        json.extend(self.change_from.map(|from| ("change_from".to_owned(), from.into())));
        (!json.is_empty()).then_some(Value::Object(json))
    }
}

impl Quantity {
    /// The quantity one, which is the default.
    pub const ONE: Self = Self::Number(1.0);

    /// The quantity as JSON: a number (whole numbers without `.0`), or the shop's words.
    pub fn to_json(&self) -> Value {
        /// The largest number up to which an `f64` represents every whole number exactly.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT => Value::from(*number as i64),
            Self::Number(number) => Value::from(*number),
            Self::Words(words) => words.as_str().into(),
        }
    }
}

impl Item {
    fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("name".into(), self.name.as_str().into());
        json.insert("quantity".into(), self.quantity.to_json());
        json.extend(self.price.map(|price| ("price".to_owned(), price.into())));
        if !self.options.is_empty() {
            json.insert("options".into(), self.options.iter().map(String::as_str).collect());
        }
        for (name, text) in [("note", &self.note), ("category", &self.category)] {
            json.extend(text.as_deref().map(|text| (name.to_owned(), text.into())));
        }
        Value::Object(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Subject {
        let id = SubjectId {
            source: SourceId(1),
            key: "c0ffee".into(),
        };
        Subject::empty(SubjectKind::Order, id, "orders".into(), Currency::DEFAULT)
    }

    #[test]
    fn what_is_known_is_said_and_nothing_else() {
        let expected = json!({"order_id": "c0ffee", "source": "orders", "number": "c0ffee", "status": "pending",
            "next": ["preparing", "rejected"], "currency": "RUB", "currency_digits": 2, "items": []});
        assert_eq!(Value::Object(order().to_json()), expected);
    }

    #[test]
    fn an_order_says_all_that_a_kitchen_and_a_courier_need() {
        let mut order = order();
        order.number = "A-17".into();
        order.customer_name = Some("Иван".into());
        order.phone = Some("+7 900".into());
        order.comment = Some("без орехов".into());
        order.order_type = Some(OrderType::Other("curbside".into()));
        order.payment = Payment {
            method: Some("cash".into()),
            is_paid: Some(false),
            change_from: Some(200_000),
        };
        order.items.list.push(Item {
            name: "Пицца".into(),
            quantity: Quantity::Number(2.0),
            price: Some(25_000),
            options: vec!["сыр".into()],
            note: Some("острая".into()),
            category: Some("Печь".into()),
        });
        order.items.omitted = 3;
        order.extra.push(Extra {
            label: "Стол".into(),
            value: "5".into(),
        });
        order.unreadable.push(Unreadable {
            field: "total",
            text: "по счёту".into(),
        });
        let json = Value::Object(order.to_json());
        assert_eq!(json["number"], "A-17");
        assert_eq!(json["order_type"], "curbside");
        assert_eq!(
            json["payment"],
            json!({"method": "cash", "paid": false, "change_from": 200_000})
        );
        let item = json!({"name": "Пицца", "quantity": 2, "price": 25_000, "options": ["сыр"], "note": "острая", "category": "Печь"});
        assert_eq!(json["items"], json!([item]));
        assert_eq!(json["items_omitted"], 3);
        assert_eq!(json["extra"], json!([{"label": "Стол", "value": "5"}]));
        assert_eq!(json["unreadable"], json!([{"field": "total", "text": "по счёту"}]));
    }

    #[test]
    fn a_change_names_the_fields_that_changed() {
        let before = order();
        let mut after = before.clone();
        assert!(after.changed_fields(&before).is_empty());
        after.total = Some(1);
        after.comment = Some("!".into());
        after.status = Status::Ready;
        assert_eq!(after.changed_fields(&before), ["comment", "total"]);
        after.unreadable.push(Unreadable {
            field: "due_at",
            text: "завтра".into(),
        });
        assert_eq!(after.changed_fields(&before), ["comment", "total", "due_at"]);
    }
}
