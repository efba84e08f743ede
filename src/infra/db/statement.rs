//! SQL statements, as text or prepared, and the types in which the parameters of unprepared statements are sent.

use tokio_postgres::types::{ToSql, Type};

/// The parameters of a statement, in the order of `$1`, `$2` and so on.
pub type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// The Postgres types in which Vestnik sends the parameters of statements that are not prepared. Each Rust type that
/// Vestnik sends matches exactly one of these types.
const SENT_AS: [Type; 25] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::FLOAT8,
    Type::TEXT,
    Type::BYTEA,
    Type::TIMESTAMPTZ,
    Type::DATE,
    Type::TIME,
    Type::OID,
    Type::JSONB,
    Type::XID8,
    Type::BOOL_ARRAY,
    Type::INT2_ARRAY,
    Type::INT4_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::FLOAT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::BYTEA_ARRAY,
    Type::JSONB_ARRAY,
    Type::OID_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::XID8_ARRAY,
];

/// A statement that can be executed: SQL text, or a prepared statement.
pub trait Sql: Sync {
    /// The statement as text or as a prepared statement, as it is sent to Postgres.
    fn spoken(&self) -> Spoken<'_>;
}

/// The two forms in which a statement is sent to Postgres.
#[derive(Clone, Copy)]
pub enum Spoken<'a> {
    /// The SQL text.
    Text(&'a str),
    /// A statement that Postgres has prepared.
    Prepared(&'a tokio_postgres::Statement),
}

impl Sql for str {
    fn spoken(&self) -> Spoken<'_> {
        Spoken::Text(self)
    }
}

impl Sql for String {
    fn spoken(&self) -> Spoken<'_> {
        Spoken::Text(self)
    }
}

/// A statement that is executed often. [`Client::prepare_cached`](super::Client::prepare_cached) returns it.
#[derive(Debug, Clone)]
pub enum Statement {
    /// The SQL text, because a pooler cannot keep a prepared statement.
    Text(String),
    /// The prepared statement of a direct connection.
    Prepared(tokio_postgres::Statement),
}

impl Sql for Statement {
    fn spoken(&self) -> Spoken<'_> {
        match self {
            Self::Text(text) => Spoken::Text(text),
            Self::Prepared(statement) => Spoken::Prepared(statement),
        }
    }
}

/// Returns each parameter with the Postgres type in which it is sent.
pub fn typed<'a>(parameters: &Parameters<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let mut scratch = bytes::BytesMut::new();
    let mut sent_as = |value: &(dyn ToSql + Sync)| {
        let fits = |kind: &&Type| value.to_sql_checked(kind, &mut scratch).is_ok();
        SENT_AS.iter().find(fits).cloned().unwrap_or(Type::UNKNOWN)
    };
    parameters.iter().map(|value| (*value, sent_as(*value))).collect()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn each_value_is_sent_as_what_it_is() {
        let hashes = [[7_u8].as_slice()];
        let values: [(&(dyn ToSql + Sync), Type); 13] = [
            (&true, Type::BOOL),
            (&7_i16, Type::INT2),
            (&7_i32, Type::INT4),
            (&7_i64, Type::INT8),
            (&1.5_f64, Type::FLOAT8),
            (&"7", Type::TEXT),
            (&None::<&str>, Type::TEXT),
            (&Some(7_i64), Type::INT8),
            (&[7_u8].as_slice(), Type::BYTEA),
            (&OffsetDateTime::UNIX_EPOCH, Type::TIMESTAMPTZ),
            (&["7"].as_slice(), Type::TEXT_ARRAY),
            (&hashes.as_slice(), Type::BYTEA_ARRAY),
            (&serde_json::Value::Null, Type::JSONB),
        ];
        for (value, kind) in values {
            assert_eq!(typed(&[value])[0].1, kind, "{value:?}");
        }
    }
}
