//! Tests of the documents: the index names each document, each link has a target, and the commands work exactly as they
//! are written.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::time::timeout;

use crate::support::app::LISTEN_PATIENCE;
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::running::Running;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The documents in `docs` and in the root directory.
fn documents() -> Vec<PathBuf> {
    let of = |directory: &str| {
        let entries = std::fs::read_dir(root().join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let mut documents = [of("."), of("docs")].concat();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(documents.len() > 10, "{documents:?}");
    documents
}

#[test]
fn the_index_of_the_documents_names_each_of_them() {
    let index = read("docs/README.md");
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && name != "README.md" {
            assert!(index.contains(&format!("({name})")), "docs/README.md lacks {name}");
        }
    }
    for readme in ["README.md", "README.ru.md"] {
        assert!(read(readme).contains("(docs/README.md)"), "{readme}");
        assert!(read(readme).lines().count() <= 100, "{readme} has at most 100 lines");
    }
}

/// The anchor of a heading: `## The shop's own API` becomes `#the-shops-own-api`.
fn anchor(heading: &str) -> String {
    let letters = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    letters
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter))
        .collect()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    let mut followed = 0;
    for document in documents() {
        let text = read(&document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.clone(),
                _ => document.parent().unwrap().join(file),
            };
            assert!(path.exists(), "{} links to {target}", document.display());
            let found = || {
                read(&path)
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading)
            };
            assert!(
                heading.is_empty() || found(),
                "{} links to {target}",
                document.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 80, "{followed}");
}

/// The words of a command line, as a shell splits them. A comment ends the line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            ('#', None) if word.is_none() => break,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(open)) if letter == open => quote = None,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_program_accepts_every_command_of_the_documents() {
    let mut run = 0;
    for document in documents() {
        let text = read(&document);
        let inline = text.split('`').filter(|code| code.starts_with("vestnik "));
        let lines = text.lines().filter(|line| line.starts_with("vestnik "));
        for line in inline.chain(lines) {
            let command = &words(line)[1..];
            let mut program = Command::new(env!("CARGO_BIN_EXE_vestnik"));
            let output = program.args(command).arg("--help").output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{}: {line}: {said}", document.display());
            run += 1;
        }
    }
    assert!(run > 80, "{run}");
}

/// The commands of the document's first `sh` block that begins with `export DATABASE_URL`. That first line is left out.
fn commands(document: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let block = text
        .split("```sh\n")
        .find(|block| block.starts_with("export DATABASE_URL"));
    let block = block.and_then(|block| block.split("```").next()).unwrap();
    block.lines().skip(1).map(words).collect()
}

/// A shop's table before Vestnik is installed. A CHECK constraint lists the allowed statuses, and the table has one
/// order.
const SHOP: &str = "create table orders (id int generated always as identity primary key, store_id int not null, \
    status text not null check (status in ('pending', 'preparing', 'ready', 'completed', 'rejected', 'cancelled')), \
    customer_name text); insert into orders (store_id, status, customer_name) values (7, 'pending', 'Anna')";

/// Waits until the node at this address receives notifications.
async fn until_listening(ops: &str) {
    let url = format!("http://{ops}/readyz");
    let listening = timeout(LISTEN_PATIENCE, async {
        while !reqwest::get(&url)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("listening")
        {
            look_again().await;
        }
    });
    listening.await.expect("the node listens");
}

/// Runs the commands of a document in their order. `serve` keeps running while the later commands run.
async fn follow(document: &str) {
    let database = Database::empty().await;
    let client = database.client().await;
    client.batch_execute(SHOP).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (mut serving, mut token) = (None, String::new());
    for line in commands(document) {
        assert_eq!(line[0], "vestnik", "{document}");
        let mut program = Command::new(env!("CARGO_BIN_EXE_vestnik"));
        program
            .args(&line[1..])
            .current_dir(directory.path())
            .env("DATABASE_URL", database.url())
            .env("VESTNIK_LISTEN", "127.0.0.1:0")
            .env("VESTNIK_OPS_LISTEN", "127.0.0.1:0");
        if line.last().is_some_and(|word| word == "serve") {
            let mut running = Running::start(program.stderr(Stdio::piped()));
            let mut log = BufReader::new(running.child.stderr.take().unwrap());
            let mut said = String::new();
            while !said.contains("serving;") {
                assert!(log.read_line(&mut said).unwrap() > 0, "{document}: it ended: {said}");
            }
            running.child.stderr = Some(log.into_inner());
            let address = |field: &str| {
                let behind = said.split_once(field).unwrap().1;
                behind.split_whitespace().next().unwrap().to_owned()
            };
            until_listening(&address("ops=")).await;
            serving = Some((running, address("address=")));
            continue;
        }
        let output = program.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        match line.last().map(String::as_str) {
            // The Postgres of the tests runs without fsync. `doctor` must report this problem and no other.
            Some("doctor") => assert!(said.ends_with("vestnik: one thing is wrong\n"), "{document}: {said}"),
            _ => assert!(output.status.success(), "{document}: {line:?}: {said}"),
        }
        if line.iter().any(|word| word == "token") {
            token = said.lines().next().unwrap().to_owned();
        }
    }
    let (_running, address) = serving.expect("the node serves");
    client
        .batch_execute("insert into orders (store_id, status, customer_name) values (7, 'pending', 'Boris')")
        .await
        .unwrap();
    let list = reqwest::Client::new()
        .get(format!("http://{address}/api/partner/stores/7/orders?status=pending"))
        .bearer_auth(&token);
    let list = list.send().await.unwrap().text().await.unwrap();
    assert!(list.contains("Anna") && list.contains("Boris"), "{document}: {list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_bring_the_orders_of_an_own_table_to_its_store() {
    follow("README.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_document_on_sources_bring_the_orders_of_an_own_table_to_its_store() {
    follow("docs/sources.md").await;
    assert_eq!(commands("README.ru.md"), commands("README.md"));
}
