//! Reads the description of a shop's table from the Postgres catalog. The description is used to validate a mapping and
//! to propose one.

use super::sql;
use super::table_name::TableName;
use crate::infra::db::{GenericClient, QueryError};

/// A shop's table, as the Postgres catalog describes it.
#[derive(Debug, Clone)]
pub struct Table {
    /// The table's OID.
    pub oid: u32,
    /// The table's name with its schema, quoted for SQL.
    pub quoted: String,
    /// The schema's name, unquoted.
    pub schema: String,
    /// The table's name, unquoted.
    pub name: String,
    /// Whether the table is partitioned.
    pub shape: Shape,
    /// The columns, in the order of the table.
    pub columns: Vec<TableColumn>,
    /// The tables that inherit from this table, with their schemas, quoted for SQL. Empty for a partitioned table.
    pub children: Vec<String>,
    /// The role that owns the table.
    pub owner: String,
    /// Whether the current role is the owner, or has all rights of the owner.
    pub is_ours: bool,
}

/// Whether a table is partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The table is an ordinary table.
    Plain,
    /// The table is partitioned.
    Partitioned,
}

/// A column of a shop's table.
#[derive(Debug, Clone)]
pub struct TableColumn {
    /// The column's name, unquoted.
    pub name: String,
    /// The column's type in SQL, with its precision: `numeric(10,2)`.
    pub kind: String,
    /// The column's type in SQL, with its precision. For a domain, this is the type on which the domain is based;
    /// otherwise it equals `kind`.
    pub base: String,
    /// Whether the type is built into Postgres, or is an enum. A domain counts like its base type, and an array like
    /// its element type.
    pub is_builtin: bool,
    /// Whether a value of the type can be long, such as a text. The trigger checks the size of such values before it
    /// records them.
    pub is_long: bool,
    /// The labels of an enum type, in order. Empty for any other type.
    pub labels: Vec<String>,
    /// Whether the column may hold null.
    pub is_nullable: bool,
    /// The columns to which the column's foreign keys refer. A foreign key that consists of several columns is left out.
    pub references: Vec<Reference>,
    /// The column's default as an SQL expression. `None`: the column has no default, or [`Table::with_defaults`] was
    /// not called.
    pub default: Option<String>,
}

/// A column to which a foreign key refers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The column's table with its schema, quoted for SQL.
    pub table: String,
    /// The column's name, unquoted.
    pub column: String,
}

/// Why a relation cannot be a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// No table has this name.
    #[error("there is no table {name}{hint}")]
    Missing {
        /// The name that the caller gave for the table.
        name: String,
        /// Advice for the end of the error message, such as a similar name.
        hint: String,
    },
    /// The relation is not a table.
    #[error("{name} is {what}, not a table: attach the table that the application writes to")]
    Other {
        /// The relation's name, quoted for SQL.
        name: String,
        /// The kind of the relation, such as `a view`.
        what: &'static str,
    },
    /// The table is a partition of another table.
    #[error("{name} is a partition of {root}: attach {root}")]
    Partition {
        /// The partition's name, quoted for SQL.
        name: String,
        /// The name of the partitioned table, quoted and with its schema, as in `public."order"`.
        root: String,
    },
}

/// Why the description of a table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relation cannot be a source.
    #[error(transparent)]
    NoTable(#[from] NoTable),
    /// Postgres reported an error, or the connection failed.
    #[error(transparent)]
    Failed(#[from] QueryError),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Table {
    /// The names of the table and of the tables that inherit from it, with their schemas, quoted for SQL.
    pub fn with_children(&self) -> Vec<&String> {
        std::iter::once(&self.quoted).chain(&self.children).collect()
    }

    /// Returns an SQL expression that combines the columns with these names into one JSON object. The expression refers
    /// to the table's row by the alias `t`. A column that the table lacks is null.
    pub fn columns_json<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        let typed = |name| (name, self.column(name).map(|column| column.base.as_str()));
        sql::columns_json("t", names.into_iter().map(typed))
    }

    /// Returns the table with the defaults of its columns. Postgres locks the table to print a default, so a caller
    /// that must not wait for a lock must not call this function.
    pub async fn with_defaults(&self, client: &impl GenericClient) -> Result<Self, Error> {
        const DEFAULTS: &str = "select a.attname::text, pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d \
             join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum where d.adrelid = $1";
        let mut table = self.clone();
        for row in client.query(DEFAULTS, &[&self.oid]).await? {
            let (name, default): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let column = table.columns.iter_mut().find(|column| column.name == name);
            if let Some(column) = column {
                column.default = default;
            }
        }
        Ok(table)
    }

    /// The column with this name; `None`: the table has no such column.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Another column than `column`, if its foreign key refers to the column `key` of the table `orders`, and `column`
    /// has no such foreign key. Then `column` probably holds no key of an order.
    pub fn other_column_with_key(&self, column: &str, orders: &Self, key: &str) -> Option<&TableColumn> {
        if self.refers(column, orders, key) || orders.refers(key, self, column) || self.oid == orders.oid {
            return None;
        }
        self.columns.iter().find(|other| self.refers(&other.name, orders, key))
    }

    /// Whether a foreign key of the column `column` refers to the column `to` of the table `other`.
    pub fn refers(&self, column: &str, other: &Self, to: &str) -> bool {
        let references = self.column(column).map_or(&[][..], |column| &column.references);
        references
            .iter()
            .any(|reference| (reference.table.as_str(), reference.column.as_str()) == (&*other.quoted, to))
    }

    /// Reads the description of a table. `name` is the table's name as in SQL. If `name` has no schema, the schema
    /// `public` is searched first.
    pub async fn find(client: &impl GenericClient, name: &str) -> Result<Self, Error> {
        const COLUMNS: &str = "select c.oid, format('%I.%I', n.nspname, c.relname), n.nspname::text, c.relname::text, c.relkind::text, \
                 pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'usage'), \
                 case when c.relispartition then pg_partition_root(c.oid)::regclass::text end \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relname = $2 and case when $1::text is null then n.nspname = 'public' or pg_table_is_visible(c.oid) else n.nspname = $1 end \
             order by n.nspname = 'public' desc limit 1";
        // `to_regclass` is not used: it fails for a text that is no name, and for a role that may not use the schema.
        let row = match TableName::read(name) {
            Some(name) => client.query_opt(COLUMNS, &[&name.schema, &name.name]).await?,
            None => None,
        };
        let Some(row) = row else {
            let hint = similar(client, name).await?;
            let name = name.to_owned();
            return Err(NoTable::Missing { name, hint }.into());
        };
        let (oid, quoted): (u32, String) = (row.try_get(0)?, row.try_get(1)?);
        let shape = match row.try_get::<_, &str>(4)? {
            "r" => Shape::Plain,
            "p" => Shape::Partitioned,
            other => {
                let what = match other {
                    "v" => "a view",
                    "m" => "a materialized view",
                    "f" => "a foreign table",
                    _ => "something else",
                };
                return Err(NoTable::Other { name: quoted, what }.into());
            }
        };
        if let Some(root) = row.try_get::<_, Option<String>>(7)? {
            return Err(NoTable::Partition { name: quoted, root }.into());
        }
        Ok(Self {
            oid,
            schema: row.try_get(2)?,
            name: row.try_get(3)?,
            shape,
            columns: columns(client, oid).await?,
            children: children(client, oid, shape).await?,
            owner: row.try_get(5)?,
            is_ours: row.try_get(6)?,
            quoted,
        })
    }
}

/// Returns advice for an unknown table name: the tables whose names differ only in case or in the schema.
async fn similar(client: &impl GenericClient, name: &str) -> Result<String, tokio_postgres::Error> {
    const SIMILAR: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'vestnik') \
           and n.nspname not like 'pg\\_%' and not c.relispartition and lower(c.relname) = lower($1) order by 1 limit 5";
    let bare = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    let rows = client.query(SIMILAR, &[&bare]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(match names.as_slice() {
        [] => ": `\\dt *.*` in psql lists them; name it with its schema, such as public.orders".to_owned(),
        names => {
            let quoted: Vec<String> = names.iter().map(|name| format!("--table '{name}'")).collect();
            format!(": did you mean {}? A name in mixed case is quoted", quoted.join(" or "))
        }
    })
}

async fn columns(client: &impl GenericClient, table: u32) -> Result<Vec<TableColumn>, tokio_postgres::Error> {
    // For a column whose type is a domain, the query also reads the domain's base type. For an array, it also reads the
    // element type, which may be an enum with labels.
    const COLUMNS: &str = "with recursive below (attnum, type, depth) as ( \
             select attnum, atttypid, 0 from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped \
             union all \
             select b.attnum, case when t.typtype = 'd' then t.typbasetype else t.typelem end, b.depth + 1 \
             from below b join pg_type t on t.oid = b.type \
             where (t.typtype = 'd' or t.typcategory = 'A' and t.typelem <> 0) and b.depth < 10), \
         bare (attnum, type, typmod, depth) as ( \
             select attnum, atttypid, atttypmod, 0 from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped \
             union all \
             select b.attnum, t.typbasetype, t.typtypmod, b.depth + 1 from bare b join pg_type t on t.oid = b.type where t.typtype = 'd'), \
         plain as (select distinct on (attnum) attnum, format_type(type, typmod) as name from bare order by attnum, depth desc), \
         base as (select distinct on (attnum) attnum, type from below order by attnum, depth desc) \
         select a.attname::text, format_type(a.atttypid, a.atttypmod), \
             plain.name, \
             bt.oid < 16384 or bt.typtype = 'e', t.typlen = -1 and t.typname <> 'numeric', \
             array(select l.enumlabel::text from pg_enum l where l.enumtypid = base.type order by l.enumsortorder), \
             not a.attnotnull, \
             array(select x.x from pg_constraint f \
                 join pg_class c on c.oid = f.confrelid join pg_namespace n on n.oid = c.relnamespace \
                 join pg_attribute r on r.attrelid = f.confrelid and r.attnum = f.confkey[1] \
                 cross join unnest(array[format('%I.%I', n.nspname, c.relname), r.attname::text]) with ordinality x (x, at) \
                 where f.conrelid = a.attrelid and f.contype = 'f' and f.conkey = array[a.attnum] order by f.oid, x.at) \
         from pg_attribute a join pg_type t on t.oid = a.atttypid join base on base.attnum = a.attnum join plain on plain.attnum = a.attnum \
         join pg_type bt on bt.oid = base.type \
         where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum";
    let rows = client.query(COLUMNS, &[&table]).await?;
    let column = |row: &tokio_postgres::Row| {
        // Each foreign key gives two texts: the table and the column to which it refers.
        let references: Vec<String> = row.try_get(7)?;
        let references = references.chunks_exact(2).map(|of_key| Reference {
            table: of_key[0].clone(),
            column: of_key[1].clone(),
        });
        Ok(TableColumn {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            base: row.try_get(2)?,
            is_builtin: row.try_get(3)?,
            is_long: row.try_get(4)?,
            labels: row.try_get(5)?,
            is_nullable: row.try_get(6)?,
            references: references.collect(),
            default: None,
        })
    };
    rows.iter().map(column).collect()
}

async fn children(client: &impl GenericClient, table: u32, shape: Shape) -> Result<Vec<String>, tokio_postgres::Error> {
    const CHILDREN: &str = "with recursive below (oid) as ( \
             select inhrelid from pg_inherits where inhparent = $1 \
             union select i.inhrelid from below b join pg_inherits i on i.inhparent = b.oid) \
         select format('%I.%I', n.nspname, c.relname) from below b join pg_class c on c.oid = b.oid \
         join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' order by 1";
    match shape {
        // Postgres applies the triggers of a partitioned table to all its partitions, so the partitions need no
        // triggers of their own.
        Shape::Partitioned => Ok(Vec::new()),
        Shape::Plain => client
            .query(CHILDREN, &[&table])
            .await?
            .iter()
            .map(|row| row.try_get(0))
            .collect(),
    }
}

/// Whether a column is a whole number with an index, so that the rows with the greatest numbers are found quickly.
/// `table` is the table's OID.
pub(super) async fn has_numeric_index(
    client: &impl GenericClient,
    table: u32,
    column: &str,
) -> Result<bool, tokio_postgres::Error> {
    const INDEXED: &str = "select exists (select from pg_attribute a where a.attrelid = $1 and a.attname = $2 \
           and a.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) \
           and exists (select from pg_index x join pg_class c on c.oid = x.indexrelid join pg_am m on m.oid = c.relam \
                       where x.indrelid = a.attrelid and x.indisvalid and x.indpred is null and x.indkey[0] = a.attnum \
                         and m.amname = 'btree'))";
    client.query_one(INDEXED, &[&table, &column]).await?.try_get(0)
}
