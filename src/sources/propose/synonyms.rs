//! Usual names in English and Russian: column names for each field, and words for each status. All are in lower case;
//! column names have underscores between words. Within a list, more likely names come first.

use crate::domain::status::{Status, SubjectKind};

/// Suffixes of columns whose times are in UTC.
pub const ZONES: &[&str] = &["_gmt", "_utc"];
/// Suffixes of columns whose amounts are in minor units, such as cents.
pub const MINOR_UNITS: &[&str] = &[
    "_cents", "_in_cents", "_cent", "_minor", "_minor_units", "_kopecks", "_in_kopecks", "_kopeks", "_kopeyki", "_cts", "_pence", "_penny", "_pennies", "_копеек",
    "_в_копейках", "_коп",
];
/// Words that say in a name or a comment that an amount counts minor units. A comment also has them in other cases, which
/// begin with `копе`.
pub const MINOR_WORDS: &[&str] = &[
    "cents", "cent", "centimes", "minor", "kopecks", "kopeck", "kopeks", "kopek", "kopeyki", "cts", "pence", "penny", "pennies", "paise", "grosz", "коп",
];
/// Words that say in a comment that an amount counts major units. Russian words are beginnings.
pub const MAJOR_WORDS: &[&str] = &["major", "euro", "euros", "dollar", "dollars", "ruble", "rubles", "rouble", "roubles", "pounds", "рубл"];
pub const STORES: &[&str] = &[
    "store_id", "shop_id", "restaurant_id", "venue_id", "location_id", "branch_id", "outlet_id", "kitchen_id", "merchant_id", "vendor_id",
    "seller_id", "distributor_id", "sales_channel_id", "channel_id", "cafe_id", "point_id", "site_id", "organization_id",
    "organisation_id", "company_id", "tenant_id", "event_id", "store", "shop", "restaurant", "venue", "branch", "магазин_id",
    "ресторан_id", "заведение_id", "магазин", "ресторан", "заведение", "точка", "филиал", "partner_id", "location",
];
/// Names in `STORES` that often mean something other than a store. For a column with such a name, the proposal contains
/// a question.
pub const DOUBTFUL_STORES: &[&str] = &["partner_id", "location"];
/// Names in `STORES` that may mean a company or a sales channel. For a column with such a name, the proposal contains a
/// guess, which a person should confirm.
pub const LIKELY_STORES: &[&str] = &[
    "seller_id", "sales_channel_id", "channel_id", "site_id", "organization_id", "organisation_id", "company_id", "tenant_id", "event_id",
];
/// Names of columns with the key of a customer.
pub const CUSTOMER_KEYS: &[&str] = &["customer_id", "partner_id", "client_id", "contact_id", "buyer_id", "guest_id"];
/// Names of columns with the key of a user. The user may be a customer, or the person whose orders they are.
pub const USER_KEYS: &[&str] = &["user_id", "account_id"];
pub const NUMBERS: &[&str] = &[
    "number", "order_number", "custom_order_number", "order_no", "short_number", "short_no", "public_id", "short_id", "display_id", "display_number", "code",
    "order_code", "reference", "order_reference", "invoice_number", "invoice_no", "booking_code", "booking_number", "ticket_number", "ticket_no", "receipt_number", "daily_number", "queue_number",
    "order_num", "no", "num", "order_id", "номер", "номер_заказа", "короткий_номер", "tracking_number",
];
pub const STATUSES: &[&str] = &["status", "state", "order_status", "booking_status", "order_state", "статус", "состояние", "order_status_id", "status_id"];
/// Names of the column that holds the word for a status in a table of statuses.
pub const STATUS_NAMES: &[&str] = &["name", "status_name", "state_name", "title", "label", "code", "название", "наименование"];
/// Names of a column in a table of statuses. The column says whether a row is a status of orders or of something else.
pub const STATUS_SUBJECTS: &[&str] = &["status_for", "for", "entity", "entity_type", "kind", "type"];
pub const CUSTOMER_NAMES: &[&str] = &[
    "customer_name", "client_name", "guest_name", "buyer_name", "contact_name", "customer_full_name", "full_name", "fullname", "cust_name", "recipient_name", "receiver_name", "billing_name", "shipping_name",
    "booker_name", "attendee_name", "visitor_name", "contact_person", "cust", "customer",
    "client", "guest", "buyer", "name", "имя_клиента", "имя", "клиент", "фио", "покупатель", "заказчик", "гость",
];
pub const FIRST_NAMES: &[&str] = &["first_name", "customer_first_name", "firstname", "имя"];
pub const LAST_NAMES: &[&str] = &["last_name", "customer_last_name", "lastname", "surname", "фамилия"];
pub const PHONES: &[&str] = &[
    "phone", "customer_phone", "phone_number", "client_phone", "contact_phone", "guest_phone", "telephone", "tel", "mobile", "mobile_phone",
    "mobile_no", "mobile_number", "contact_mobile", "customer_mobile", "client_mobile", "phone_no", "customer_phone_number", "customer_phone_no", "contact_no",
    "contact_number", "contact_phone_number", "buyer_phone", "recipient_phone", "receiver_phone", "user_phone", "delivery_phone", "shipping_phone",
    "billing_phone", "cell_phone", "cellphone", "cell", "phonenumber", "mobilephone", "tel_no", "whatsapp", "whatsapp_number",
    "телефон", "номер_телефона", "телефон_клиента", "тел",
];
pub const COMMENTS: &[&str] = &[
    "comment", "comments", "customer_comment", "customer_note", "note", "notes", "order_note", "special_instructions", "special_requests",
    "instructions", "delivery_instructions", "remark", "remarks", "wish", "wishes", "message", "комментарий", "комментарии", "примечание", "пожелания", "пожелание",
];
pub const PERSONS: &[&str] = &[
    "persons", "guests", "party_size", "people", "people_count", "covers", "guest_count", "guests_count", "number_of_guests", "num_guests", "no_of_guests",
    "persons_count", "person_count", "number_of_people", "number_of_persons", "num_people", "diners", "headcount", "seats", "pax", "персон", "персоны", "гостей", "гости",
    "количество_гостей", "количество_персон", "cutlery", "cutlery_count", "приборы", "количество_приборов",
];
pub const PAYMENT_METHODS: &[&str] =
    &["payment_method", "payment_type", "pay_method", "pay_type", "payment", "способ_оплаты", "оплата", "тип_оплаты"];
pub const PAID: &[&str] = &["is_paid", "paid", "paid_at", "оплачен", "оплачено"];
/// Columns with a word for the state of an order's payment.
pub const PAYMENT_STATES: &[&str] = &["payment_state", "payment_status", "financial_status", "pay_status", "paid_status", "статус_оплаты"];
/// Words of a column for the payment's state that mean that the order is paid. They have the form that [`spaced`]
/// gives.
pub const PAID_WORDS: &[&str] = &["paid", "captured", "succeeded", "settled", "completed", "complete", "success", "fully paid", "оплачен", "оплачено"];
/// Names of the column with the banknote that the customer pays with.
pub const CHANGE_FROM: &[&str] = &[
    "change_from", "change_for", "need_change_from", "cash_given", "cash_tendered", "cash_received", "amount_tendered", "tendered", "paid_with", "pays_with", "pay_with",
    "banknote", "сдача_с", "купюра", "банкнота",
];
/// Names of a column with the banknote, or with the change that is given back.
pub const CHANGE: &[&str] = &["change", "cash_change", "сдача"];
/// Names of the column with the total. Names for the sum with taxes come first.
pub const TOTALS: &[&str] = &[
    "grand_total", "total_gross", "total_gross_amount", "gross_total", "total_with_tax", "total_incl_tax", "total_inc_tax",
    "total", "total_price", "total_amount", "amount_total", "order_total", "total_sum", "total_cents", "total_minor", "total_price_gross", "total_price_with_tax", "total_payable",
    "final_price", "final_total", "final_amount", "final_sum", "final_cost", "order_amount", "order_price", "order_sum", "order_value", "order_cost", "total_value",
    "rounded_total", "totalprice", "totalamount", "grandtotal", "payable_amount", "amount", "amount_cents",
    "sum", "price", "cost", "total_cost", "итого", "сумма", "сумма_заказа", "стоимость", "всего", "общая_сумма",
];
pub const CURRENCIES: &[&str] = &["currency", "currency_code", "customer_currency_code", "order_currency", "order_currency_code", "валюта"];
pub const DUE: &[&str] = &[
    "due_at", "due_time", "deliver_at", "delivery_at", "delivery_time", "pickup_at", "pickup_time", "ready_by", "wanted_at", "scheduled_at",
    "scheduled_for", "scheduled_time", "promised_at", "promise_time", "desired_time", "requested_time", "requested_at", "expected_at", "expected_delivery_time", "expected_delivery_at",
    "delivery_date", "delivery_datetime", "delivery_date_time", "pickup_date", "pickup_datetime", "required_date", "required_at", "needed_by", "deliver_by", "due_date",
    "ко_времени", "время_доставки", "доставить_к",
];
pub const STARTS: &[&str] = &[
    "starts_at", "start_at", "start_time", "start", "start_date", "booked_for", "reserved_for", "reservation_time", "booking_time", "date_time",
    "datetime", "visit_at", "scheduled_at", "scheduled_for", "начало", "время", "дата_и_время",
];
/// Names of columns that hold only the date, or only the time of day, at which guests come.
pub const BOOKED: &[&str] = &[
    "date", "time", "booking_date", "reservation_date", "appointment_date", "appointment_time", "visit_date", "visit_time", "arrival_date", "arrival_time",
    "дата", "дата_брони", "время_брони",
];
/// Usual names of the column with the creation time. Names for the time when the order was placed come first, because a
/// row may be created earlier, as a cart.
pub const CREATED: &[&str] = &[
    "placed_at", "order_placed_at", "date_placed", "ordered_at", "submitted_at", "created_at", "created", "created_on", "order_date", "date_order", "inserted_at", "date_added", "added_at", "dateadded", "date_created", "creation_date",
    "created_date", "createdat", "created_time", "created_ts", "creation_time", "creation_ts", "creation_timestamp", "created_timestamp", "create_time", "create_date",
    "create_at", "created_dt", "creation_datetime", "created_datetime", "creation", "datecreated", "creationdate", "creationtime", "createtime", "createdon", "order_time",
    "ordered_on", "order_datetime", "order_timestamp", "placed_on", "transaction_date", "создан", "создано", "дата_создания", "дата_заказа",
];
pub const DELETED: &[&str] = &[
    "deleted_at", "is_deleted", "deleted", "deleted_on", "removed_at", "deletion_date", "delete_at", "delete_time", "deleted_time", "is_delete", "is_del", "del_flag",
    "delete_flag", "deleted_flag", "soft_deleted", "удален", "удалён",
];
/// Names of the column for the reason why the shop rejected an order.
pub const REJECTION_REASONS: &[&str] = &[
    "rejection_reason", "reject_reason", "rejected_reason", "reason_for_rejection", "rejection_note", "decline_reason", "declined_reason", "denial_reason",
    "refusal_reason", "rejectionreason", "rejectreason", "declinereason", "причина_отказа", "причина_отклонения",
];
/// Names of the column for the reason of a cancellation, by the customer or by the shop.
pub const CANCELLATION_REASONS: &[&str] = &[
    "cancel_reason", "cancellation_reason", "cancelation_reason", "cancelled_reason", "canceled_reason", "reason_for_cancellation", "cancelreason",
    "cancellationreason", "причина_отмены",
];
/// Names of the column for the reason of any change. In a table of bookings, it may be the reason of the visit.
pub const REASONS: &[&str] = &["reason", "status_reason", "причина"];
pub const MINUTES: &[&str] = &[
    "prep_minutes", "preparation_minutes", "preparation_time", "prep_time", "cooking_time", "cooking_minutes", "promised_minutes", "eta_minutes",
    "minutes", "время_приготовления",
];
pub const UPDATED: &[&str] = &["updated_at", "updated", "updated_on", "modified_at", "modified_on", "modified", "last_modified", "last_modified_at",
    "last_updated", "last_updated_at", "last_update", "date_updated", "date_modified", "modified_date", "modified_time", "modified_ts", "updated_time", "updated_ts",
    "updated_date", "update_time", "update_date", "update_at", "write_date", "updatedat", "updatedon", "modifiedat", "datemodified", "обновлен", "обновлено"];
/// The count of a row's writes, for optimistic locking.
pub const VERSIONS: &[&str] = &["lock_version", "row_version", "optimistic_lock", "opt_lock", "version"];
pub const ACCEPTED: &[&str] = &["accepted_at", "confirmed_at", "approved_at", "accepted_on", "confirmed_on", "accepted_time", "confirmed_time", "accepted_ts", "принят_в"];
/// Names of other columns that are useful in a kitchen. The proposal makes these columns extra fields.
pub const EXTRA: &[&str] = &["table_no", "table_number", "table", "table_name", "стол", "номер_стола", "courier", "courier_name", "entrance", "floor", "door_code", "intercom",
    "delivery_entrance", "delivery_floor", "delivery_intercom", "подъезд", "этаж", "домофон"];

/// Parts of the names of columns for the time when an order expires. The names are compared without underscores.
const EXPIRIES: &[&str] = &[
    "expir", "validity", "validuntil", "validtill", "validto", "reserveduntil", "reservedtill", "reservationuntil", "reservationend", "holduntil",
    "holdtill", "helduntil", "heldtill", "lockeduntil", "lockuntil", "lockedtill", "blockeduntil", "blockuntil",
    "timeout", "timesout", "timedout", "payuntil", "paybefore", "paymentdeadline", "paymentuntil", "abandonafter", "abandonedafter", "истекает",
    "действуетдо", "действителендо", "срокдействия", "срокрезерва", "срокброни", "броньдо", "резервдо",
];
/// Parts of the names of columns that expire with something other than the order.
const OTHER_EXPIRIES: &[&str] = &["card", "token", "coupon", "voucher", "password", "session", "link", "license", "licence", "subscription", "otp", "code"];

/// Ends of the names of columns that hold a duration.
pub const DURATIONS: &[&str] = &["_in", "seconds", "secs", "_sec", "minutes", "mins", "_min", "hours", "days", "_ms", "millis", "_s", "timeout"];

/// Whether a column with this name may say when an order expires. `name` is in lower case with underscores. In a table of
/// bookings, the end of a reservation is the time when guests go.
pub fn says_expiry(name: &str, kind: SubjectKind) -> bool {
    let name = name.replace('_', "");
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let is_end_of_visit = kind == SubjectKind::Booking && (name.contains("reserv") || name.contains("брон"));
    has(EXPIRIES) && !has(OTHER_EXPIRIES) && !is_end_of_visit
}

/// Words for `pending` that a cart never has. They have the form that [`spaced`] gives.
pub const PLACED: &[&str] = &[
    "placed", "submitted", "received", "ordered", "awaiting confirmation", "pending confirmation", "awaiting approval", "pending approval",
    "to confirm", "unfulfilled", "ожидает подтверждения", "оформлен", "поступил",
];
/// Words without a meaning of their own that a cart often has, in a table whose orders expire.
pub const HELD: &[&str] = &["reserved", "hold", "on hold", "held", "locked", "blocked", "initiated", "initialized", "active", "резерв"];

/// The usual words for each status, in lower case. A space stands for any separator between words, such as `_`.
const STATUS_WORDS: &[(Status, &[&str])] = &[
    (Status::Pending, &[
        "new", "pending", "placed", "created", "open", "submitted", "received", "requested", "unconfirmed", "waiting", "awaiting",
        "awaiting confirmation", "pending confirmation", "awaiting approval", "pending approval", "to confirm", "unfulfilled", "ordered",
        "новый", "новая", "новое", "ожидает", "ожидает подтверждения", "ждет", "ждёт", "создан", "создана", "оформлен", "поступил",
    ]),
    (Status::Preparing, &[
        "preparing", "accepted", "confirmed", "approved", "accepted by restaurant", "accepted by store", "in progress", "inprogress", "cooking", "processing", "started", "in kitchen",
        "in preparation", "preparation", "in work", "making", "being processed", "being prepared", "принят", "принята", "подтвержден", "подтверждён",
        "подтверждена", "готовится", "в работе", "в обработке", "на кухне",
    ]),
    (Status::Ready, &[
        "ready", "prepared", "ready for pickup", "ready for pick up", "ready to pickup", "ready for delivery", "ready to ship", "packed", "awaiting pickup", "cooked",
        "готов", "готова", "готов к выдаче", "собран",
    ]),
    (Status::Delivering, &[
        "delivering", "out for delivery", "on the way", "on its way", "shipped", "in transit", "in delivery", "dispatched", "picked up", "en route",
        "with courier", "handed to courier", "courier picked up", "в пути", "доставляется", "отправлен", "передан курьеру", "у курьера",
    ]),
    (Status::Completed, &[
        "completed", "complete", "done", "delivered", "finished", "fulfilled", "closed", "collected", "served", "handed over", "checked out",
        "выполнен", "выполнена", "завершен", "завершён", "завершена", "доставлен", "выдан", "закрыт", "состоялась",
    ]),
    (Status::Rejected, &["rejected", "declined", "cancelled by restaurant", "canceled by restaurant", "cancelled by store", "canceled by store", "refused", "denied", "отклонен", "отклонён", "отклонена", "отказ", "отказано"]),
    (Status::Cancelled, &[
        "cancelled", "canceled", "cancel", "cancelled by customer", "canceled by customer", "void", "voided", "refunded", "expired", "returned", "failed",
        "no show", "отменен", "отменён", "отменена", "отмена", "возврат", "аннулирован",
    ]),
];
const HIDDEN_WORDS: &[&str] = &[
    "cart", "draft", "basket", "checkout", "checkout draft", "awaiting payment", "pending payment", "payment pending", "waiting payment",
    "waiting for payment", "unpaid", "incomplete", "abandoned", "address", "payment", "корзина", "черновик", "ожидает оплаты", "не оплачен",
];
/// The status words of WooCommerce and their meanings. They take precedence over [`STATUS_WORDS`]. `None`: the order is
/// hidden.
const WOOCOMMERCE: &[(&str, Option<Status>)] = &[
    ("wc-pending", None),
    ("wc-on-hold", None),
    ("wc-checkout-draft", None),
    ("wc-failed", None),
    ("wc-processing", Some(Status::Pending)),
    ("wc-completed", Some(Status::Completed)),
    ("wc-cancelled", Some(Status::Cancelled)),
    ("wc-refunded", Some(Status::Cancelled)),
];

/// The usual meaning of a status word in shops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    /// Orders with this word have this status.
    Status(Status),
    /// Orders with this word are hidden, such as carts.
    Hidden,
}

/// The usual meaning of a status word; `None`: the word is unknown.
pub fn usual_status(word: &str, kind: SubjectKind) -> Option<Usual> {
    if let Some((_, meaning)) = WOOCOMMERCE.iter().find(|(known, _)| *known == word) {
        return Some(meaning.map_or(Usual::Hidden, Usual::Status));
    }
    let word = spaced(word);
    if HIDDEN_WORDS.contains(&word.as_str()) {
        return Some(Usual::Hidden);
    }
    if kind == SubjectKind::Booking && matches!(word.as_str(), "seated" | "arrived" | "checked in") {
        return Some(Usual::Status(Status::Completed));
    }
    let of_status = STATUS_WORDS.iter().find(|(_, words)| words.contains(&word.as_str()));
    of_status.map(|(status, _)| Usual::Status(*status))
}

/// Whether a word of the status `preparing` clearly means accepted, or a word of `cancelled` clearly means cancelled.
/// False for a word of any other status.
pub fn is_plainly(status: Status, word: &str) -> bool {
    let parts: &[&str] = match status {
        Status::Preparing => &["accept", "confirm", "approve", "принят", "подтвержд"],
        Status::Cancelled => &["cancel", "отмен"],
        _ => &[],
    };
    let word = spaced(word);
    parts.iter().any(|part| word.starts_with(part))
}

/// Whether a table holds orders or bookings, guessed from its name; `None`: the name gives no hint.
pub fn kind_of(table: &str) -> Option<SubjectKind> {
    let name = table.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["booking", "reservation", "appointment", "брон", "запис"]) {
        Some(SubjectKind::Booking)
    } else if has(&["order", "заказ", "purchase", "checkout", "ticket", "sale"]) {
        Some(SubjectKind::Order)
    } else {
        None
    }
}

/// Converts a word to lower case, with one space between its parts, so that `OUT_FOR_DELIVERY`, `outForDelivery` and
/// `out-for-delivery` are equal.
pub fn spaced(word: &str) -> String {
    underscored(word).replace('_', " ")
}

/// Converts a name to lower case, with one underscore between its parts: `storeId` becomes `store_id`.
pub fn underscored(name: &str) -> String {
    let mut parts = String::with_capacity(name.len() + 4);
    let mut previous = '_';
    for c in name.chars() {
        let separates = matches!(c, '_' | '-' | ' ' | '.' | '/');
        let begins = c.is_uppercase() && (previous.is_lowercase() || previous.is_ascii_digit());
        if (separates || begins) && !parts.ends_with('_') && !parts.is_empty() {
            parts.push('_');
        }
        if !separates {
            parts.extend(c.to_lowercase());
        }
        previous = c;
    }
    parts.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_convention_are_one() {
        for name in ["customer_name", "customerName", "CustomerName", "CUSTOMER_NAME", "customer-name", "Customer Name"] {
            assert_eq!(underscored(name), "customer_name", "{name}");
        }
        assert_eq!(underscored("storeId"), "store_id");
        assert_eq!(underscored("Статус"), "статус");
    }

    #[test]
    fn words_of_many_shops_are_known() {
        let order = |word| usual_status(word, SubjectKind::Order);
        for (word, status) in [
            ("PENDING", Status::Pending),
            ("placed", Status::Pending),
            ("IN_PROGRESS", Status::Preparing),
            ("outForDelivery", Status::Delivering),
            ("Отменён", Status::Cancelled),
            ("wc-processing", Status::Pending),
        ] {
            assert_eq!(order(word), Some(Usual::Status(status)), "{word}");
        }
        assert_eq!(order("AWAITING_PAYMENT"), Some(Usual::Hidden));
        assert_eq!(order("wc-pending"), Some(Usual::Hidden));
        assert_eq!(order("on_hold"), None);
        assert_eq!(order("0"), None);
    }
}
