//! Usual names in English and Russian for items: of the column or table that has them, and of the columns of an items
//! table. As in `synonyms.rs`, more likely names come first.

/// Names of columns of an items table that certainly mark a deleted item.
pub const ITEM_DELETED: &[&str] = &[
    "deleted_at", "is_deleted", "deleted", "deleted_on", "removed_at", "is_removed", "removed", "deletion_date", "удален", "удалён",
];
/// Names of columns of an items table that probably mark an item that the kitchen must not prepare.
pub const ITEM_WITHDRAWN: &[&str] = &[
    "archived_at", "is_archived", "archived", "voided_at", "is_voided", "voided", "cancelled_at", "canceled_at", "is_cancelled", "is_canceled",
    "cancelled", "canceled",
];
pub const ITEMS: &[&str] = &[
    "items", "order_items", "line_items", "lines", "order_lines", "cart_items", "basket_items", "item_list", "items_json", "order_items_json", "order_products",
    "orderitems", "lineitems", "products", "positions", "dishes", "cart", "basket", "goods", "details", "состав", "позиции",
    "товары", "блюда", "корзина",
];
/// Parts of the names of tables that hold the items of orders.
pub const ITEM_TABLES: &[&str] = &["item", "line", "position", "product", "dish", "menu", "detail", "позици", "товар", "блюд", "состав"];
pub const ITEM_NAMES: &[&str] = &[
    "product_name", "item_name", "dish_name", "name", "title", "item_title", "menu_item_name", "meal_name", "food_name", "service_name", "variant_name", "full_product_name", "product_title", "label", "description", "dish", "product",
    "название", "наименование", "блюдо", "товар",
];
/// Names of the column with the quantity of an item. `amount` is not among them, because it may be money.
pub const QUANTITIES: &[&str] = &[
    "quantity", "qty", "count", "pcs", "pieces", "quantity_ordered", "qty_ordered", "ordered_qty", "order_qty", "item_qty", "product_qty", "product_uom_qty",
    "product_quantity", "item_quantity", "ordered_quantity", "item_count", "items_count", "product_count", "pieces_count", "quant", "qnt", "qnty", "qtty", "cnt", "nb", "units",
    "portions", "portion_count", "servings", "num", "menge", "anzahl", "cantidad", "quantite", "quantità", "quantita", "количество", "кол_во", "колво", "кол", "штук", "шт", "порций",
];
/// The name of a column with the quantity of an item, or with a sum of money.
pub const AMOUNT: &[&str] = &["amount"];
/// Parts of the names of whole numbers that are no quantity, between underscores.
pub const NO_QUANTITIES: &[&str] = &[
    "id", "fk", "key", "position", "pos", "sort", "order", "ordering", "ord", "seq", "sequence", "index", "idx", "rank", "version", "lock", "rev", "revision", "line", "row",
    "price", "amount", "total", "subtotal", "sum", "cost", "rate", "tax", "vat", "discount", "fee", "tip", "margin", "deposit", "bonus", "points", "status", "state", "type", "kind",
    "created", "updated", "deleted", "removed", "modified", "at", "time", "ts", "timestamp", "date", "year", "minutes", "seconds", "duration", "calories", "kcal", "weight", "grams",
    "gram", "volume", "ml", "size", "code", "sku", "barcode", "ean", "plu", "percent", "level", "parent", "display", "station", "course", "seat", "guest", "table", "course", "позиция",
    "цена", "сумма", "стоимость", "скидка", "вес", "код", "порядок",
];
pub const PRICES: &[&str] = &["unit_price", "price", "price_per_unit", "item_price", "unit_cost", "unit_amount", "price_unit", "price_each", "sale_price", "selling_price", "rate", "cost", "цена", "стоимость"];
pub const ITEM_NOTES: &[&str] = &[
    "note", "notes", "comment", "special_instructions", "special_request", "wish", "customer_note", "remark", "комментарий", "примечание", "пожелание",
];
pub const ITEM_OPTIONS: &[&str] = &["options", "modifiers", "extras", "addons", "add_ons", "toppings", "variants", "опции", "добавки"];
pub const ITEM_CATEGORIES: &[&str] = &[
    "station", "station_name", "kitchen_station", "цех", "category", "category_name", "menu_category", "section", "menu_section", "department",
    "категория", "раздел", "отдел",
];
