//! Converts the journal's Postgres types to Rust types and back, in Postgres' binary format. The types are `xid8`,
//! `pg_snapshot`, and jsonb as text.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::domain::cursor::Snapshot;
use crate::domain::event::Xid;

type BoxError = Box<dyn Error + Sync + Send>;

/// A transaction id. Its SQL type is `xid8`.
#[derive(Debug, Clone, Copy)]
pub struct SqlXid(pub Xid);

impl<'a> FromSql<'a> for SqlXid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(Self(Xid(u64::from_be_bytes(raw.try_into()?))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }
}

impl ToSql for SqlXid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.put_u64(self.0.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }

    to_sql_checked!();
}

/// Converts transaction ids to a parameter of the type `xid8[]`.
pub fn xids(xids: &[Xid]) -> Vec<SqlXid> {
    xids.iter().copied().map(SqlXid).collect()
}

impl<'a> FromSql<'a> for Snapshot {
    /// Parses the binary form of a `pg_snapshot`: the number of running transactions, `xmin`, `xmax`, and the ids of
    /// the running transactions.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        let numbers = raw.get(4..).ok_or("a pg_snapshot is 20 bytes at least")?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| Xid(u64::from_be_bytes(*number)));
        let (Some(_xmin), Some(xmax), []) = (numbers.next(), numbers.next(), rest) else {
            return Err("a pg_snapshot is a count and whole numbers".into());
        };
        Ok(Self {
            xmax,
            running: numbers.collect(),
        })
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::PG_SNAPSHOT
    }
}

/// The text of a json or jsonb value. The text is not parsed, because clients receive it unchanged.
#[derive(Debug)]
pub struct JsonText(pub String);

impl<'a> FromSql<'a> for JsonText {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        let text = match (ty, raw) {
            // A binary jsonb value is a version byte, followed by text.
            (&Type::JSONB, [1, text @ ..]) => text,
            (&Type::JSONB, _) => return Err("a jsonb of an unknown version".into()),
            _ => raw,
        };
        Ok(Self(std::str::from_utf8(text)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::JSONB)
    }
}
