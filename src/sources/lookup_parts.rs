//! The parts of a look-up in other tables: the items in a separate table, and the result of the mapping's `[details]`
//! query.

/// A part of the look-ups of a source. Each part has a query of its own, and can fail alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The items in a separate table.
    Items,
    /// What the mapping's `[details]` query says.
    Details,
}

impl Part {
    /// The name of the part, as clients receive it for an unreadable field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Details => "details",
        }
    }
}

/// A set of the parts of a source's look-ups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    items: bool,
    details: bool,
}

impl Parts {
    /// Whether the set has this part.
    pub fn has(self, part: Part) -> bool {
        match part {
            Part::Items => self.items,
            Part::Details => self.details,
        }
    }

    /// The parts in the set.
    pub fn iter(self) -> impl Iterator<Item = Part> {
        // An order without its details can be prepared, so the items are looked up first.
        [Part::Items, Part::Details]
            .into_iter()
            .filter(move |part| self.has(*part))
    }

    /// The number of parts in the set.
    pub fn len(self) -> u32 {
        u32::from(self.items) + u32::from(self.details)
    }

    /// Whether the set has no part.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<T: IntoIterator<Item = Part>>(parts: T) -> Self {
        let mut set = Self::default();
        set.extend(parts);
        set
    }
}

impl Extend<Part> for Parts {
    fn extend<T: IntoIterator<Item = Part>>(&mut self, parts: T) {
        for part in parts {
            match part {
                Part::Items => self.items = true,
                Part::Details => self.details = true,
            }
        }
    }
}
