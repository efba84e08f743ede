//! Sorts the parts of an address into the order in which people read them. Postgres sorts the members of a `jsonb`
//! object by the length of their names. Without this sorting, panels would show an address as `Cork, IE, 1 Main St`.

use super::json::{JOINED_VALUES, Json};

/// The parts of an address, in the order in which people read them. A JSON member belongs to a part if its name ends
/// with one of the part's words. Names are compared in lower case, without spaces, dashes and underscores.
const PARTS: [&[&str]; 9] = [
    &["company", "name", "recipient"],
    &["line1", "address1", "street1", "street", "streetname", "road", "улица"],
    &["house", "housenumber", "streetnumber", "building", "дом"],
    &["line2", "address2", "street2", "line3", "address3"],
    &[
        "apartment",
        "flat",
        "unit",
        "entrance",
        "floor",
        "intercom",
        "квартира",
        "подъезд",
        "этаж",
    ],
    &["district", "suburb", "neighborhood", "neighbourhood", "район"],
    &["city", "town", "locality", "village", "город"],
    &[
        "state",
        "region",
        "province",
        "county",
        "zip",
        "zipcode",
        "postcode",
        "postalcode",
        "индекс",
    ],
    &["country", "countrycode", "countryname", "страна"],
];

/// Converts the value of an address to text for people. The parts in a JSON object are sorted into their usual order.
/// All other members follow in their original order.
pub fn readable(mut value: Json<'_>) -> Option<String> {
    if let Json::Object(members) = &mut value {
        members.truncate(JOINED_VALUES);
        members.sort_by_cached_key(|(name, _)| place(name));
    }
    value.readable()
}

/// The index in [`PARTS`] of the part to which a JSON member with this name belongs; the length of `PARTS` if no part
/// fits. The longest matching ending decides: `street_number` is a house number, and not a street.
fn place(name: &str) -> usize {
    let name: String = name
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let endings = PARTS
        .iter()
        .enumerate()
        .flat_map(|(at, endings)| endings.iter().map(move |ending| (at, *ending)));
    let matching = endings.filter(|(_, ending)| name.ends_with(ending));
    matching
        .max_by_key(|(_, ending)| ending.len())
        .map_or(PARTS.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(members: &[(&str, &str)]) -> String {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{name:?}: {value:?}"))
            .collect();
        readable(Json::read(&format!("{{{}}}", members.join(", ")))).unwrap()
    }

    #[test]
    fn the_parts_of_an_address_stand_in_the_order_in_which_people_read_them() {
        let stripe = [
            ("city", "Cork"),
            ("country", "IE"),
            ("address_line_1", "1 Main St"),
            ("address_line_2", "Flat 2"),
        ];
        assert_eq!(ordered(&stripe), "1 Main St, Flat 2, Cork, IE");
        let parts = [
            ("zip", "220030"),
            ("flat", "12"),
            ("house", "5"),
            ("city", "Минск"),
            ("street", "Ленина"),
            ("floor", "3"),
        ];
        assert_eq!(ordered(&parts), "Ленина, 5, 12, 3, Минск, 220030");
        let google = [
            ("postalCode", "10115"),
            ("streetNumber", "7"),
            ("shippingStreet", "Torstraße"),
        ];
        assert_eq!(ordered(&google), "Torstraße, 7, 10115");
    }

    #[test]
    fn members_that_are_no_parts_of_an_address_keep_their_order() {
        assert_eq!(ordered(&[("note", "b"), ("a", "a"), ("city", "Cork")]), "Cork, b, a");
        assert_eq!(ordered(&[("x", "2"), ("a", "1")]), "2, 1");
    }
}
