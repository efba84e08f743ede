//! Checks the files of the panel: the number of their lines, and forbidden constructs.

use std::path::{Path, PathBuf};

/// The highest allowed number of lines of a file. `vestnik.js` may be longer, because other sites copy it as one file.
const LINES_OF_A_FILE: usize = 400;
const MAY_BE_LONG: [&str; 2] = ["vestnik.js", "panel.css"];
/// The highest allowed number of lines of the example. It is low, so that people can read the example at a glance.
const LINES_OF_THE_EXAMPLE: usize = 40;

fn panel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("panel")
}

/// Every file of the panel, with its path relative to the folder.
fn files() -> Vec<(String, PathBuf)> {
    let mut directories = vec![panel()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(panel()).unwrap().to_str().unwrap().to_owned();
                files.push((name, path));
            }
        }
    }
    assert!(files.len() > 20);
    files
}

#[test]
fn no_file_of_the_panel_is_one_that_nobody_wants_to_open() {
    for (name, path) in files() {
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        let lines = text.lines().count();
        let may_be_long = MAY_BE_LONG.contains(&name.as_str());
        assert!(lines <= LINES_OF_A_FILE || may_be_long, "{name} has {lines} lines");
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch.html");
    let lines = std::fs::read_to_string(example).unwrap().lines().count();
    assert!(lines <= LINES_OF_THE_EXAMPLE, "examples/watch.html has {lines} lines");
}

#[test]
fn the_page_runs_nothing_that_is_written_into_it_and_parses_no_text_as_html() {
    let page = std::fs::read_to_string(panel().join("index.html")).unwrap();
    for forbidden in ["<style", " style=", " onclick=", "javascript:", "http://", "https://"] {
        assert!(!page.contains(forbidden), "index.html has {forbidden}");
    }
    for (name, path) in files().into_iter().filter(|(name, _)| name.ends_with(".js")) {
        let text = std::fs::read_to_string(path).unwrap();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
    }
}
