//! The names that shops usually give the JSON members of an item. Vestnik searches for these names if the mapping does
//! not name the members.

pub(super) const NAMES: [&str; 14] = [
    "name",
    "title",
    "product_name",
    "productName",
    "item_name",
    "itemName",
    "dish",
    "label",
    "product",
    "item",
    "menu_item",
    "menuItem",
    "название",
    "наименование",
];
pub(super) const QUANTITIES: [&str; 9] = [
    "quantity",
    "qty",
    "count",
    "amount",
    "pcs",
    "number",
    "quantity_ordered",
    "количество",
    "кол-во",
];
pub(super) const PRICES: [&str; 9] = [
    "price",
    "unit_price",
    "unitPrice",
    "price_per_unit",
    "pricePerUnit",
    "item_price",
    "cost",
    "цена",
    "стоимость",
];
pub(super) const OPTIONS: [&str; 15] = [
    "options",
    "modifiers",
    "extras",
    "addons",
    "add_ons",
    "addOns",
    "toppings",
    "variants",
    "variant",
    "choices",
    "selections",
    "ingredients",
    "attributes",
    "опции",
    "добавки",
];
/// Names of JSON members that hold the name of a group of options, such as `"group": "Sauces"`. The name of a group may
/// also be in a member from [`NAMES`]. The options of a group are in a member from `OPTIONS` or [`CHOICES`].
pub(super) const GROUPS: [&str; 5] = ["group", "group_name", "groupName", "category", "section"];
pub(super) const CHOICES: [&str; 4] = ["items", "values", "selected", "modifierOptions"];
pub(super) const NOTES: [&str; 13] = [
    "note",
    "notes",
    "comment",
    "comments",
    "special_instructions",
    "specialInstructions",
    "instructions",
    "remark",
    "remarks",
    "wish",
    "special_request",
    "комментарий",
    "примечание",
];
/// Names of JSON members that hold the station that prepares the item, or the part of the menu to which the item
/// belongs. The names for stations come first, because kitchens sort items by station.
pub(super) const CATEGORIES: [&str; 19] = [
    "station",
    "station_name",
    "stationName",
    "kitchen_station",
    "kitchenStation",
    "цех",
    "category",
    "category_name",
    "categoryName",
    "menu_category",
    "menuCategory",
    "categories",
    "section",
    "menu_section",
    "menuSection",
    "department",
    "категория",
    "раздел",
    "отдел",
];
/// Names of JSON members that hold a list of keys and values, such as `{"key": "Note", "value": "NO NUTS"}`. Each pair
/// becomes a note.
pub(super) const META: [&str; 3] = ["meta_data", "meta", "custom_fields"];
/// Names of JSON members with technical data, such as ids. People never see these members.
pub(super) const TECHNICAL: [&str; 20] = [
    "id",
    "uuid",
    "guid",
    "_id",
    "sku",
    "key",
    "slug",
    "image",
    "img",
    "photo",
    "picture",
    "thumbnail",
    "url",
    "link",
    "barcode",
    "ean",
    "currency",
    "created_at",
    "updated_at",
    "type",
];

/// Whether one of the lists in this file contains the name. A JSON member with another name may hold a customer's note.
pub(super) fn is_usual(name: &str) -> bool {
    let usual = NAMES
        .iter()
        .chain(&QUANTITIES)
        .chain(&PRICES)
        .chain(&OPTIONS)
        .chain(&NOTES)
        .chain(&CATEGORIES)
        .chain(&TECHNICAL)
        .chain(&META);
    let is_technical = name.ends_with("_id") || name.ends_with("Id") || name.starts_with('_');
    usual.into_iter().any(|known| *known == name) || is_technical || name.to_lowercase().contains("name")
}
