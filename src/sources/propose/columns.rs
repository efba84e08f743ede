//! Tracks which columns of a table a proposal has assigned to fields, and checks the types of columns.

use super::synonyms::{self, underscored};
use crate::sources::catalog::{Table, TableColumn};

/// A suffix of the names of columns with a foreign key, such as `event_id_fk`.
pub(super) const FOREIGN_KEY: &str = "_fk";

/// The columns of a table, while a proposal assigns each column to at most one field. `all` has each column, its name
/// in lower case with underscores, and whether the proposal already uses it.
pub(super) struct Columns<'a> {
    all: Vec<(&'a TableColumn, String, bool)>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        // A name that begins with `_` is the framework's own, such as `_comments` of the staff, and means no field.
        let known = |column: &TableColumn| match column.name.starts_with('_') {
            true => column.name.clone(),
            false => underscored(&column.name),
        };
        // A mapping cannot name a column with a quote in its name.
        let usable = table.columns.iter().filter(|column| !column.name.contains('"'));
        let all = usable.map(|column| (column, known(column), false));
        Self { all: all.collect() }
    }

    /// Finds the first unused column whose name is in `names` and whose type `may` accepts, and marks the column as
    /// used. Earlier names are preferred. For each name, the column with the suffix `_utc` or `_gmt` comes first,
    /// because the column without a suffix may hold local time. The columns with the suffix of a foreign key, or with a
    /// unit such as `_cents`, come last.
    pub(super) fn take(&mut self, names: &[&str], may: impl Fn(&TableColumn) -> bool) -> Option<&'a TableColumn> {
        let at = self.find(names, may)?;
        let (column, _, used) = &mut self.all[at];
        *used = true;
        Some(column)
    }

    /// Finds the same column as [`Self::take`], but does not mark the column as used.
    pub(super) fn peek(&self, names: &[&str], may: impl Fn(&TableColumn) -> bool) -> Option<&'a TableColumn> {
        self.find(names, may).map(|at| self.all[at].0)
    }

    /// The index in `all` of the column that [`Self::take`] returns.
    fn find(&self, names: &[&str], may: impl Fn(&TableColumn) -> bool) -> Option<usize> {
        let suffixes = synonyms::ZONES
            .iter()
            .chain(&["", FOREIGN_KEY])
            .chain(synonyms::MINOR_UNITS);
        let named = names
            .iter()
            .flat_map(|name| suffixes.clone().map(move |suffix| format!("{name}{suffix}")));
        let place = |name: String| {
            let fits = |(column, known, used): &(&TableColumn, String, bool)| *known == name && !used && may(column);
            self.all.iter().position(fits)
        };
        named.into_iter().find_map(place)
    }

    /// Finds all unused columns whose names are in `names` and whose types `may` accepts, and marks them as used.
    pub(super) fn all(&mut self, names: &[&str], may: impl Fn(&TableColumn) -> bool) -> Vec<&'a TableColumn> {
        let mut found = Vec::new();
        while let Some(column) = self.take(names, &may) {
            found.push(column);
        }
        found
    }

    /// The unused columns with a foreign key, each with the table to which the key refers.
    pub(super) fn foreign_keys(&self) -> impl Iterator<Item = (&'a TableColumn, &'a str)> {
        let unused = self.all.iter().filter(|(.., used)| !used);
        unused.filter_map(|(column, ..)| Some((*column, column.references.first()?.table.as_str())))
    }

    /// Marks the column with this name as used by the proposal.
    pub(super) fn use_named(&mut self, name: &str) {
        self.all
            .iter_mut()
            .filter(|(column, ..)| column.name == name)
            .for_each(|(.., used)| *used = true);
    }

    pub(super) fn rest(&self) -> Vec<String> {
        self.all
            .iter()
            .filter(|(.., used)| !used)
            .map(|(column, ..)| column.name.clone())
            .collect()
    }
}

pub(super) fn is_json(column: &TableColumn) -> bool {
    matches!(column.base.as_str(), "json" | "jsonb")
}

pub(super) fn is_text(column: &TableColumn) -> bool {
    column.base == "text"
        || column.base.starts_with("character")
        || column.base == "citext"
        || column.base.ends_with(".citext")
}

/// Whether the column may hold a name: a text that is not the key of a row of another table.
pub(super) fn is_name(column: &TableColumn) -> bool {
    is_text(column) && column.references.is_empty()
}

pub(in crate::sources) fn is_whole(column: &TableColumn) -> bool {
    matches!(column.base.as_str(), "smallint" | "integer" | "bigint")
}

pub(super) fn is_number(column: &TableColumn) -> bool {
    is_whole(column)
        || column.base.starts_with("numeric")
        || matches!(column.base.as_str(), "real" | "double precision" | "money")
}

pub(super) fn is_time(column: &TableColumn) -> bool {
    column.base.starts_with("timestamp")
}

/// Whether the column is a timestamp, or a number that may count seconds since 1970.
pub(super) fn is_moment(column: &TableColumn) -> bool {
    is_time(column) || matches!(column.base.as_str(), "bigint" | "double precision")
}

/// Whether the column may hold a list of items: JSON, text, or an array of JSON.
pub(super) fn may_list(column: &TableColumn) -> bool {
    let element = column.base.trim_end_matches("[]");
    matches!(element, "json" | "jsonb") || is_text(column)
}

/// Whether the column may hold a code, such as that of a currency: a text or a label, but no key of another table.
pub(in crate::sources) fn is_code(column: &TableColumn) -> bool {
    (is_text(column) || !column.labels.is_empty()) && column.references.is_empty()
}

pub(super) fn is_plain(column: &TableColumn) -> bool {
    is_text(column) || is_whole(column) || !column.labels.is_empty()
}

/// Whether the column may hold the key of a row of another table: no JSON, time, boolean or array.
pub(super) fn may_be_key(column: &TableColumn) -> bool {
    is_plain(column) || column.base == "uuid" || column.base.starts_with("numeric")
}
