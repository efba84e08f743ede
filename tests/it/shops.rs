//! Tests with shops of many kinds, as their tools create them. Each shop is a directory `tests/shops/NAME/`:
//!
//! - `schema.sql`: the tables, with the rows that exist before Vestnik. A line `-- attach: TABLE` names a table to
//!   attach.
//! - `attach.txt`: the output and the exit code of `vestnik attach --table TABLE` for each table.
//! - `mapping.toml` (`mapping.2.toml`): the mapping that `attach` proposes. If `attach` asks questions, they are in
//!   `proposal.toml`, and `mapping.toml` is a person's answer.
//! - `steps.sql`: the writes of the application, one transaction for each `-- step: TITLE`. A line `-- press: STORE
//!   orders/KEY JSON` stands for a button of the panel.
//! - `events.txt`: the events that clients receive over HTTP after each step.
//!
//! After each step, the lists of the stores must agree with their events. VESTNIK_TEST_BLESS=1 overwrites the expected
//! files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vestnik::infra::db::Client;

use crate::support::app::App;
use crate::support::db::Database;

/// A time within this many seconds of now is printed as `(now)`.
const NOW_SECONDS: i64 = 600;
/// Fields that only lists have, or that only events have. If the row has no column for the promised time, the list
/// shows the promised time in `answer`.
const ONE_SIDED: [&str; 12] = [
    "id",
    "event_id",
    "acknowledged",
    "answer",
    "order_id",
    "booking_id",
    "order_ids",
    "previous_status",
    "changed",
    "by",
    "overwritten_answer",
    "promised_minutes",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_shop_is_translated_as_its_files_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shops");
    let only = std::env::var("VESTNIK_TEST_SHOP").ok();
    let mut wrong = Vec::new();
    let mut shops: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // `tests/it/derived.rs` runs the shops in the directory `derived`.
        .filter(|shop| !shop.ends_with("derived"))
        .collect();
    shops.sort();
    assert!(shops.len() >= 12, "{shops:?}");
    for shop in shops {
        if only.as_ref().is_none_or(|only| shop.ends_with(only)) {
            wrong.extend(run(&Shop { directory: shop }).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The directory of one shop.
struct Shop {
    directory: PathBuf,
}

impl Shop {
    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(file)).ok()
    }

    /// Compares a text with an expected file, and returns a description of the difference.
    fn expect(&self, file: &str, got: &str) -> Option<String> {
        let expected = self.read(file).unwrap_or_default();
        if expected == got {
            return None;
        }
        let path = self.directory.join(file);
        if std::env::var_os("VESTNIK_TEST_BLESS").is_some() {
            std::fs::write(&path, got).unwrap();
            return None;
        }
        Some(format!("{}\n--- expected\n{expected}--- got\n{got}", path.display()))
    }
}

/// Runs one shop, and returns descriptions of all differences.
async fn run(shop: &Shop) -> Vec<String> {
    let name = shop.directory.file_name().unwrap().to_string_lossy().into_owned();
    let database = Database::without_shop().await;
    let schema = shop
        .read("schema.sql")
        .unwrap_or_else(|| panic!("{name} has no schema.sql"));
    // psql executes each statement in its own transaction, as the tool of a shop does.
    psql(&database, &schema);
    let mut wrong = attach(shop, &database, &schema).await;
    if !wrong.is_empty() {
        return wrong;
    }
    let app = App::start_on(database, |_| ()).await;
    let mut told = Told {
        app: &app,
        client: app.database.client().await,
        stores: BTreeMap::new(),
        text: String::new(),
        wrong: Vec::new(),
    };
    let steps = shop
        .read("steps.sql")
        .unwrap_or_else(|| panic!("{name} has no steps.sql"));
    for step in steps.split("\n-- ").map(|step| step.trim_start_matches("-- ")) {
        let (head, body) = step.split_once('\n').unwrap_or((step, ""));
        match head.split_once(": ") {
            Some(("step", title)) => told.write(title, body).await,
            Some(("press", press)) => told.press(press).await,
            _ => assert!(step.trim().is_empty() || head.starts_with("--"), "{name}: {head}"),
        }
    }
    wrong.extend(shop.expect("events.txt", &told.text));
    wrong.extend(told.wrong.iter().map(|what| format!("{name}: {what}")));
    wrong
}

fn psql(database: &Database, sql: &str) {
    use std::io::Write as _;
    let mut child = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=on", database.url()])
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("psql runs");
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{sql}");
}

/// Attaches the shop's tables as a person does, and returns descriptions of all differences.
async fn attach(shop: &Shop, database: &Database, schema: &str) -> Vec<String> {
    let tables = schema.lines().filter_map(|line| line.strip_prefix("-- attach: "));
    let (mut wrong, mut said) = (Vec::new(), String::new());
    for (place, arguments) in tables.enumerate() {
        let number = if place == 0 {
            String::new()
        } else {
            format!(".{}", place + 1)
        };
        let (mapping, proposal) = (format!("mapping{number}.toml"), format!("proposal{number}.toml"));
        let here = tempfile::tempdir().unwrap();
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let table: Vec<&str> = ["attach", "--table"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let (code, text) = vestnik(database, here.path(), &table);
        said.push_str(&format!("$ vestnik {}\n{text}exit {code}\n", table.join(" ")));
        if code == 0 {
            let client = database.client().await;
            let sql = "select mapping from vestnik.vst_source order by id desc limit 1";
            let proposed: String = client.query_one(sql, &[]).await.unwrap().get(0);
            wrong.extend(shop.expect(&mapping, &proposed));
            continue;
        }
        if code != 2 {
            wrong.push(format!("{}: exit {code}: {text}", shop.directory.display()));
            continue;
        }
        if let Some(file) = std::fs::read_dir(here.path()).unwrap().next() {
            wrong.extend(shop.expect(&proposal, &std::fs::read_to_string(file.unwrap().path()).unwrap()));
        }
        let answered = shop.directory.join(&mapping);
        if !answered.exists() {
            wrong.push(format!(
                "{} asks, and has no {mapping}:\n{text}",
                shop.directory.display()
            ));
            continue;
        }
        std::fs::copy(answered, here.path().join("answered.toml")).unwrap();
        let (code, text) = vestnik(database, here.path(), &["attach", "--map", "answered.toml"]);
        said.push_str(&format!("$ vestnik attach --map answered.toml\n{text}exit {code}\n"));
        if code != 0 {
            wrong.push(text);
        }
    }
    let said = said.lines().map(|line| with_times(line) + "\n").collect::<String>();
    wrong.extend(shop.expect("attach.txt", &said));
    wrong
}

/// Runs the program, and returns its exit code and its output.
fn vestnik(database: &Database, directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(arguments)
        .current_dir(directory)
        .env("DATABASE_URL", database.url())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap_or(-1), text)
}

/// The events that clients have received so far, and descriptions of all differences from the expected files.
struct Told<'a> {
    app: &'a App,
    client: Client,
    stores: BTreeMap<String, Store>,
    text: String,
    wrong: Vec<String>,
}

/// The client of one store: its cursor, and its orders as the events have described them.
#[derive(Default)]
struct Store {
    cursor: Option<String>,
    orders: BTreeMap<(String, String), Map<String, Value>>,
}

impl Told<'_> {
    async fn write(&mut self, title: &str, sql: &str) {
        self.text.push_str(&format!("== {title}\n"));
        if let Err(error) = self.client.batch_execute(sql).await {
            self.client.batch_execute("rollback").await.unwrap();
            self.text.push_str(&format!(
                "! {}\n",
                error
                    .as_db_error()
                    .map_or_else(|| error.to_string(), |db| db.message().to_owned())
            ));
        }
        self.read(title).await;
    }

    /// Presses a button of the panel; `press` is for example `7 orders/1 {"status":"preparing"}`.
    async fn press(&mut self, press: &str) {
        let (store, rest) = press.split_once(' ').unwrap();
        let (path, body) = rest.split_once(' ').unwrap();
        self.text.push_str(&format!("== press {press}\n"));
        let wish: Value = serde_json::from_str(body).unwrap();
        let (table, key) = self.row_of(path, wish["source"].as_str()).await;
        let before = self.row(&table, &key).await;
        let answer = self
            .app
            .post(&format!("/api/partner/stores/{store}/{path}/status"), &wish)
            .await;
        self.text.push_str(&format!("{} {}\n", answer.status, answer.json()));
        let after = self.row(&table, &key).await;
        let wrote: Map<String, Value> = after
            .into_iter()
            .filter(|(name, value)| before.get(name) != Some(value))
            .collect();
        self.text
            .push_str(&format!("wrote {}\n", with_times(&Value::Object(wrote).to_string())));
        self.read(press).await;
    }

    /// The table and the key column of the row that `path` names (for example `orders/1`), and the row's key. If no
    /// table has this row, the function returns the first table of this kind.
    async fn row_of(&self, path: &str, source: Option<&str>) -> ((String, String), String) {
        let (kind, key) = path.split_once("s/").unwrap();
        let sources = "select table_name, columns -> 0 ->> 'name' from vestnik.vst_source where kind = $1 \
             and coalesce($2 = name, true) order by id";
        let mut tables = Vec::new();
        for source in self.client.query(sources, &[&kind, &source]).await.unwrap() {
            let table: (String, String) = (source.get(0), source.get(1));
            if !self.row(&table, key).await.is_empty() {
                return (table, key.to_owned());
            }
            tables.push(table);
        }
        (tables.swap_remove(0), key.to_owned())
    }

    async fn row(&self, (table, column): &(String, String), key: &str) -> Map<String, Value> {
        let sql = format!("select row_to_json(t)::text from {table} t where t.\"{column}\"::text = $1");
        let row = self.client.query_opt(&sql, &[&key]).await.unwrap();
        row.map_or_else(Map::new, |row| serde_json::from_str(row.get(0)).unwrap())
    }

    /// Reads the new events of every store, and compares the stores' lists with them.
    async fn read(&mut self, title: &str) {
        let stores = "select distinct store_id from vestnik.vst_event where store_id is not null";
        for row in self.client.query(stores, &[]).await.unwrap() {
            self.stores.entry(row.get(0)).or_default();
        }
        let mut stores = std::mem::take(&mut self.stores);
        for (name, store) in &mut stores {
            let after = store
                .cursor
                .as_ref()
                .map(|cursor| format!("?after={cursor}"))
                .unwrap_or_default();
            let page = self
                .app
                .get_json(&format!("/api/partner/stores/{name}/events{after}"))
                .await;
            assert_eq!(page["more"], false);
            store.cursor = Some(page["cursor"].as_str().unwrap().to_owned());
            for event in page["events"].as_array().unwrap() {
                self.text
                    .push_str(&format!("{} to store {name}\n", event["type"].as_str().unwrap()));
                let data = event["data"].as_object().unwrap();
                data.iter().for_each(|(member, value)| {
                    self.text
                        .push_str(&format!("  {member}: {}\n", with_times(&value.to_string())))
                });
                store.take(event["type"].as_str().unwrap(), data);
            }
            for kind in ["orders", "bookings"] {
                let list = self
                    .app
                    .get_json(&format!("/api/partner/stores/{name}/{kind}?limit=500"))
                    .await;
                self.wrong.extend(
                    store
                        .differences(kind, &list)
                        .into_iter()
                        .map(|what| format!("after {title:?}, store {name}: {what}")),
                );
            }
        }
        self.stores = stores;
    }
}

impl Store {
    /// Applies an event to the orders of the client, as a panel does.
    fn take(&mut self, kind: &str, data: &Map<String, Value>) {
        let id = data.get("order_id").or(data.get("booking_id")).and_then(Value::as_str);
        let Some(id) = id else { return };
        let key = (data["source"].as_str().unwrap().to_owned(), id.to_owned());
        if kind.ends_with("_removed") {
            self.orders.remove(&key);
        } else if kind.starts_with("new_") || kind.ends_with("_changed") && data.contains_key("currency") {
            self.orders.insert(key, data.clone());
        } else if let Some(order) = self.orders.get_mut(&key) {
            let gone = data
                .get("changed")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            gone.chain(["reason", "status_word"])
                .for_each(|member| drop(order.remove(member)));
            order.extend(data.clone());
        }
    }

    /// Describes the differences between a list and the orders of the client that are still open.
    fn differences(&self, kind: &str, list: &Value) -> Vec<String> {
        let is_open = |order: &Map<String, Value>| {
            ["pending", "preparing", "ready", "delivering"].contains(&order["status"].as_str().unwrap())
        };
        let is_meant = |order: &Map<String, Value>| order.contains_key("booking_id") == (kind == "bookings");
        let rows = list[kind].as_array().expect("a list");
        let mut wrong = Vec::new();
        for ((source, key), order) in self.orders.iter().filter(|(_, order)| is_meant(order)) {
            let row = rows
                .iter()
                .find(|row| row["id"] == *key && row["source"] == **source)
                .and_then(Value::as_object);
            match row {
                None if is_open(order) => wrong.push(format!("the list lacks {key} of {source}")),
                Some(_) if !is_open(order) => wrong.push(format!("the list has {key} of {source}, which is over")),
                Some(row) => {
                    let names = order
                        .keys()
                        .chain(row.keys())
                        .filter(|name| !ONE_SIDED.contains(&name.as_str()));
                    let differing = names.filter(|name| order.get(*name) != row.get(*name));
                    wrong.extend(differing.map(|name| {
                        format!(
                            "{name} of {key}: {:?} in events, {:?} in the list",
                            order.get(name),
                            row.get(name)
                        )
                    }));
                }
                None => {}
            }
        }
        wrong
    }
}

/// Replaces each time by `(now)`, or by its distance from now in hours, because absolute times differ in each run.
fn with_times(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("20") {
        told.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_digit() || "-:.TZ+".contains(c)))
            .unwrap_or(rest.len());
        match told_moment(&rest[..length]) {
            Some(moment) => {
                told.push_str(&moment);
                rest = &rest[length..];
            }
            None => {
                told.push_str("20");
                rest = &rest[2..];
            }
        }
    }
    told + rest
}

fn told_moment(text: &str) -> Option<String> {
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let at = parse(text)
        .or_else(|| parse(&format!("{text}Z")))
        .or_else(|| parse(&format!("{text}:00")))?;
    let seconds = (at - OffsetDateTime::now_utc()).whole_seconds();
    let hours = (seconds as f64 / 3600.0).round() as i64;
    if seconds.abs() < NOW_SECONDS {
        Some("(now)".to_owned())
    } else if (seconds - hours * 3600).abs() < NOW_SECONDS && hours.abs() <= 24 {
        Some(format!("(now {hours:+} h)"))
    } else {
        Some(text.to_owned())
    }
}
