//! The store of a row.

use crate::sources::sql::{ident, literal};

/// Where a row's store id comes from: a column, or one constant for all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRef {
    /// The column with this name holds the store's id.
    Column(String),
    /// All rows belong to the store with this id, because the application serves one shop.
    Constant(String),
}

impl StoreRef {
    /// An SQL expression for the store of the row `t`.
    pub fn sql(&self) -> String {
        match self {
            Self::Column(name) => format!("vestnik.vst_store_id(t.{}::text)", ident(name)),
            Self::Constant(store) => format!("{}::text", literal(store)),
        }
    }
}
