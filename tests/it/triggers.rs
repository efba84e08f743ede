//! Tests of the triggers: each `tests/sql/<behaviour>.sql` shows one behaviour. psql runs the file in a new database,
//! with the program in `$VESTNIK` and the mappings in `$CASES`. `<behaviour>.out` has the expected output and events;
//! VESTNIK_TEST_BLESS=1 overwrites this file.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::db::Database;

/// Prints the journal after each case. Times differ in each run, so the query replaces them.
const EVENTS: &str = "\nreset role; select s.name, e.type, e.store_id, e.key, \
         regexp_replace(e.data::text, '\"20[0-9]{2}-[0-9-]*T[^\"]*\"', '\"(time)\"', 'g'), \
         regexp_replace(e.old::text, '\"20[0-9]{2}-[0-9-]*T[^\"]*\"', '\"(time)\"', 'g') \
     from vestnik.vst_event e left join vestnik.vst_source s on s.id = e.source order by e.id;\n";

#[tokio::test]
async fn every_behaviour_is_as_it_is_written_down() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        cases += 1;
        let database = Database::fresh().await;
        let output = psql(&database, &std::fs::read_to_string(&path).unwrap());
        let written = path.with_extension("out");
        let expected = std::fs::read_to_string(&written).unwrap_or_else(|_| "(nothing is written down)".into());
        if output == expected {
            continue;
        }
        if std::env::var_os("VESTNIK_TEST_BLESS").is_some() {
            std::fs::write(&written, output).unwrap();
        } else {
            wrong.push(format!("{}\n--- expected\n{expected}--- got\n{output}", path.display()));
        }
    }
    assert!(cases > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn psql(database: &Database, sql: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=on",
            "-v",
            "VERBOSITY=terse",
            database.url(),
        ])
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .env("VESTNIK", env!("CARGO_BIN_EXE_vestnik"))
        .env("CASES", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql/mappings"))
        .env("DATABASE_URL", database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql runs");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{sql}{EVENTS}").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // Process ids and creation times differ in each run, so the output must not contain them.
    let lines = text
        .lines()
        .map(|line| match line.split_once(" received from server process") {
            Some((head, _)) => head.split_once(", \"xid\"").map_or(head, |(head, _)| head).to_owned(),
            None if line.trim_start().starts_with("created ") => "    created      (time)".to_owned(),
            None => line.to_owned(),
        });
    lines.map(|line| line + "\n").collect()
}
