//! Rules for the source code that a test can check: dependencies point downward, only some modules use SQL, and files
//! stay short.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers from top to bottom. A module may use the modules of the same layer and of lower layers.
const LAYERS: [&[&str]; 7] = [
    &["main", "cli", "command"],
    &["engine", "doctor", "erasure"],
    &["http", "telegram"],
    &["fanout", "delivery", "feed"],
    &[
        "receipts", "sources", "journal", "token", "store", "text", "migrate", "embedded",
    ],
    &["infra"],
    &["domain"],
];
/// The modules that may use tokio_postgres.
const KNOW_POSTGRES: [&str; 15] = [
    "cli", "command", "delivery", "doctor", "embedded", "erasure", "feed", "infra", "journal", "main", "migrate",
    "receipts", "sources", "store", "token",
];
/// The modules that may use warp.
const KNOW_WARP: [&str; 1] = ["http"];
/// The modules that may use teloxide.
const KNOW_TELOXIDE: [&str; 1] = ["telegram"];
/// Words that this project does not use. The glossary of ARCHITECTURE.md has the word to use instead, for example
/// `step` instead of `rung`.
const BANNED: [&str; 12] = [
    "rung", "rungs", "ladder", "ladders", "bell", "deaf", "asleep", "sweep", "unrung", "aside", "shard", "shards",
];
/// Banned words that are allowed in one directory. In the panel, a `bell` is the sound for the kitchen.
const AT_HOME: [(&str, &str); 2] = [("bell", "panel/"), ("bell", "tests/it/panel/")];
/// The directories that this test checks, in addition to the documents in the root directory.
const OURS: [&str; 10] = [
    "src", "tests", "benches", "sql", "triggers", "panel", "docs", "scripts", "examples", "messages",
];
/// Paths that the test for banned words skips: texts of other authors, and this file, which contains the words.
const NOT_OURS: [&str; 3] = ["tests/shops/", "tests/it/panel/axe.", "tests/it/architecture.rs"];
/// The highest allowed number of lines of a source file before its unit tests.
const LINES_OF_A_FILE: usize = 400;

/// Every source file: its path, its top-level module, and its text.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let module = Path::new(first.as_os_str())
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push((path, module, text));
        }
    }
    assert!(sources.len() > 20);
    sources
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level modules of this crate that a line names.
fn named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for prefix in ["crate::", "vestnik::"] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let list = rest
                .strip_prefix('{')
                .map_or(rest, |list| list.split('}').next().unwrap_or(list));
            let until = if rest.starts_with('{') {
                list.len()
            } else {
                list.find([':', ';', ',', ' ', ')']).unwrap_or(list.len())
            };
            named.extend(
                list[..until]
                    .split(", ")
                    .map(|name| name.split("::").next().unwrap().trim().to_owned()),
            );
        }
    }
    named
}

#[test]
fn dependencies_point_downward_only() {
    let mut wrong = Vec::new();
    for (path, module, text) in sources() {
        if module == "lib" {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{module} has no layer: give it one in LAYERS"));
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in named(line).iter().filter_map(|name| Some((name, layer(name)?))) {
                if used.1 < own {
                    wrong.push(format!(
                        "{}: {module} uses {}, which is above it",
                        path.display(),
                        used.0
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Shortens `path` from its end until it names a file of `files`. Returns the shortened path, or `None` if no part of
/// `path` names a file.
fn file_of<'a>(files: &BTreeSet<Vec<&'a str>>, path: &[&'a str]) -> Option<Vec<&'a str>> {
    (1..=path.len())
        .rev()
        .map(|end| path[..end].to_vec())
        .find(|modules| files.contains(modules))
}

/// The module paths that a file names with `crate::`, `super::` or `self::`. The returned paths start at the root of
/// the crate.
fn paths<'a>(own: &[&'a str], text: &'a str) -> Vec<Vec<&'a str>> {
    let code = text.split("\n#[cfg(test)]\n").next().unwrap_or(text);
    let is_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let mut paths = Vec::new();
    for line in code.split(';').flat_map(|statement| statement.split('\n')) {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        for root in ["crate::", "super::", "self::"] {
            for (at, _) in line.match_indices(root) {
                if line[..at].ends_with(is_of_path) {
                    continue;
                }
                let end = line[at..].find(|letter| !is_of_path(letter)).unwrap_or(line.len() - at);
                let (said, behind) = (&line[at..at + end], &line[at + end..]);
                let mut base = if root == "crate::" { Vec::new() } else { own.to_vec() };
                for step in said.split("::").filter(|step| !step.is_empty()) {
                    match step {
                        "crate" | "self" => {}
                        "super" => drop(base.pop()),
                        name => base.push(name),
                    }
                }
                let list = behind.strip_prefix('{').and_then(|list| list.split('}').next());
                for name in list.unwrap_or_default().split(", ") {
                    let more = name
                        .trim()
                        .split("::")
                        .filter(|name| !name.is_empty() && *name != "self");
                    paths.push(base.iter().copied().chain(more).collect());
                }
            }
        }
    }
    paths
}

/// Groups of files that use each other in a cycle; each group is one line with the names of its files.
fn circles(uses: &BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>>) -> Vec<String> {
    let reached = |from: &Vec<&str>| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = open.pop() {
            for used in uses.get(&next).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = uses.keys().map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, far) in &reach {
        let back = |other: &&Vec<&str>| reach.get(other).is_some_and(|far| far.contains(*file));
        let circle: Vec<String> = far.iter().filter(back).map(|file| file.join("::")).collect();
        if circle.len() > 1 {
            circles.insert(circle.join(", "));
        }
    }
    circles.into_iter().collect()
}

#[test]
fn no_two_files_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts: Vec<(String, String)> = sources()
        .into_iter()
        .map(|(path, _, text)| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text))
        .collect();
    let modules = |path: &'_ str| -> Vec<String> {
        let path = path.trim_end_matches(".rs");
        path.trim_end_matches("/mod").split('/').map(str::to_owned).collect()
    };
    let named: Vec<(Vec<String>, &str)> = texts
        .iter()
        .map(|(path, text)| (modules(path), text.as_str()))
        .collect();
    let named: Vec<(Vec<&str>, &str)> = named
        .iter()
        .map(|(modules, text)| (modules.iter().map(String::as_str).collect(), *text))
        .collect();
    let files: BTreeSet<Vec<&str>> = named.iter().map(|(modules, _)| modules.clone()).collect();
    let mut uses: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for (own, text) in &named {
        let used = paths(own, text).into_iter().filter_map(|path| file_of(&files, &path));
        uses.entry(own.clone())
            .or_default()
            .extend(used.filter(|used| used != own));
    }
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 300, "{uses:?}");
    let circles = circles(&uses);
    assert!(
        circles.is_empty(),
        "these files use each other:\n{}",
        circles.join("\n")
    );
}

#[test]
fn a_circle_is_found_however_a_file_names_the_other() {
    let one = "use super::{Error, two};\n";
    let files = BTreeSet::from([vec!["a"], vec!["a", "one"], vec!["a", "two"]]);
    assert!(paths(&["a", "one"], one).contains(&vec!["a", "two"]));
    assert_eq!(file_of(&files, &["a", "two", "Thing"]), Some(vec!["a", "two"]));
    assert_eq!(
        paths(&["a", "two"], "let x = crate::a::one::f();"),
        [vec!["a", "one", "f"]]
    );
    let uses = BTreeMap::from([
        (vec!["a", "one"], BTreeSet::from([vec!["a", "two"]])),
        (vec!["a", "two"], BTreeSet::from([vec!["a", "one"]])),
    ]);
    assert_eq!(circles(&uses), ["a::one, a::two"]);
}

#[test]
fn the_router_the_sessions_and_the_routes_know_no_sql() {
    for (path, module, text) in sources() {
        let names = |word: &str| {
            text.lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word))
        };
        let postgres = names("tokio_postgres") && !KNOW_POSTGRES.contains(&module.as_str());
        assert!(!postgres, "{} names tokio_postgres", path.display());
        let warp = names("warp::") && !KNOW_WARP.contains(&module.as_str());
        assert!(!warp, "{} names warp", path.display());
        let teloxide = names("teloxide::") && !KNOW_TELOXIDE.contains(&module.as_str());
        assert!(!teloxide, "{} names teloxide", path.display());
    }
}

/// Every text file of the project, with its path from the root. Pictures and fonts are left out.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_root = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let is_document = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "md" || kind == "toml");
    let mut open: Vec<PathBuf> = of_root.filter(is_document).collect();
    open.extend(OURS.map(|directory| root.join(directory)));
    let mut texts = Vec::new();
    while let Some(path) = open.pop() {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if NOT_OURS
            .iter()
            .any(|other| format!("{name}/").starts_with(other) || name.starts_with(other))
        {
            continue;
        }
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            texts.push((name, text));
        }
    }
    texts
}

/// The first banned word of a line, if the file at `path` may not use that word.
fn banned_word<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    line.split(|letter: char| !letter.is_alphanumeric()).find(|word| {
        let word = word.to_ascii_lowercase();
        let is_at_home = |home: &(&str, &str)| home.0 == word && path.starts_with(home.1);
        BANNED.contains(&word.as_str()) && !AT_HOME.iter().any(is_at_home)
    })
}

#[test]
fn no_word_is_used_that_the_glossary_replaces() {
    let texts = texts();
    for directory in OURS {
        let prefix = format!("{directory}/");
        assert!(
            texts.iter().any(|(path, _)| path.starts_with(&prefix)),
            "{directory} has no text"
        );
    }
    let mut found = Vec::new();
    for (path, text) in &texts {
        for (number, line) in (1..).zip(text.lines()) {
            found.extend(banned_word(path, line).map(|word| format!("{path}:{number}: {word}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_banned_word_is_found_within_a_name_and_allowed_only_at_home() {
    assert_eq!(banned_word("src/feed/mod.rs", "let bell_lock = 1;"), Some("bell"));
    assert_eq!(banned_word("docs/panel.md", "A Bell."), Some("Bell"));
    assert_eq!(banned_word("panel/sound.js", "// A bell, or a ladder."), Some("ladder"));
    assert_eq!(banned_word("panel/sound.js", "// A bell, twice."), None);
}

/// The documents name tests, by function or by file. This test asserts that each named test exists.
#[test]
fn each_promise_of_the_documents_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    let mut directories = vec![root.join("src"), root.join("tests/it")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None if path.is_dir() => directories.push(path),
                Some(extension) if extension == "rs" => code.push_str(&std::fs::read_to_string(path).unwrap()),
                _ => {}
            }
        }
    }
    for document in ["SECURITY.md", "ARCHITECTURE.md", "docs/reliability.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        let is_test = |name: &&str| {
            name.matches('_').count() >= 4
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        };
        let names: Vec<&str> = quoted.filter(is_test).collect();
        assert!(names.len() >= 10, "{document} names {names:?}");
        for name in names {
            assert!(
                code.contains(&format!("fn {name}(")),
                "{document} names {name}, which is no test"
            );
        }
    }
}

#[test]
fn no_file_is_one_that_nobody_wants_to_open() {
    for (path, _, text) in sources() {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= LINES_OF_A_FILE, "{} has {lines} lines", path.display());
    }
}

/// The names of the metrics that directly follow one of `words` in a text. An example of a word is `counter!("`.
fn metrics_behind(text: &str, words: &[&str]) -> BTreeSet<String> {
    let text: String = text.split_whitespace().collect();
    let named = |word: &&str| {
        let behind = text
            .match_indices(*word)
            .filter(|(at, _)| !text[..*at].ends_with("describe_"))
            .map(|(at, _)| &text[at + word.len()..]);
        behind.filter_map(metric).collect::<Vec<_>>()
    };
    words.iter().flat_map(named).collect()
}

/// The name of a metric at the beginning of a text, without a histogram's suffix `_bucket`.
fn metric(text: &str) -> Option<String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
        .unwrap_or(text.len());
    let name = text[..end].strip_suffix("_bucket").unwrap_or(&text[..end]);
    name.starts_with("vestnik_").then(|| name.to_owned())
}

#[test]
fn every_metric_is_described_and_documented_and_no_other_is_spoken_of() {
    const COUNTED: [&str; 4] = ["counter!(\"", "gauge!(\"", "histogram!(\"", "latency.render(\""];
    const DESCRIBED: [&str; 4] = [
        "describe_counter!(\"",
        "describe_gauge!(\"",
        "describe_histogram!(\"",
        "latency.render(\"",
    ];
    let code: String = sources().into_iter().map(|(_, _, text)| text).collect();
    let described = metrics_behind(&code, &DESCRIBED);
    assert!(described.len() > 20, "{described:?}");
    assert_eq!(metrics_behind(&code, &COUNTED), described, "counted, and described");
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let documented = metrics_behind(&read("docs/operations.md"), &["`"]);
    assert_eq!(documented, described, "documented, and described");
    let watched = metrics_behind(&read("examples/alerts.yml"), &["expr:", "("]);
    assert!(watched.is_subset(&described) && watched.len() > 8, "{watched:?}");
}

#[test]
fn a_look_at_a_line_finds_what_it_names() {
    assert_eq!(named("use crate::{db, token};"), ["db", "token"]);
    assert_eq!(named("use crate::fanout::router::Router;"), ["fanout"]);
    assert_eq!(named("    vestnik::migrate::run(x)"), ["migrate"]);
    assert_eq!(named("use crate::infra::backoff;"), ["infra"]);
}
