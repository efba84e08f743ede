//! Makes what is served of `panel/`: its modules become two files, its texts lose their comments, and each text is compressed.
//! The sources stay modules that a browser could run as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What the page begins with. What it imports by `import("./x.js")`, and what only that needs, stands in `LATER`.
const FIRST: &str = "panel.js";
const LATER: &str = "later.js";
/// Others take it with them, so that it is served as it was written.
const CLIENT: &str = "vestnik.js";
const WORKER: &str = "sw.js";
/// Stand in the worker for what is made here.
const WORKER_FILES: &str = "[\"FILES\"]";
const WORKER_VERSION: &str = "VERSION";
/// What the worker keeps: with these the page opens without a network.
const KEPT: [&str; 10] = [
    "panel.css",
    FIRST,
    LATER,
    "lang/ru.js",
    "lang/en.js",
    "icon.svg",
    "icon-192.png",
    "onest-latin.woff2",
    "onest-latin-more.woff2",
    "onest-cyrillic.woff2",
];

fn main() {
    println!("cargo::rerun-if-changed=panel");
    println!("cargo::rerun-if-changed=build.rs");
    let source = Path::new("panel");
    let target = PathBuf::from(std::env::var("OUT_DIR").expect("cargo says where")).join("panel");
    let _ = std::fs::remove_dir_all(&target);
    let mut made = serve(source);
    let worker = made.remove(WORKER).expect("panel/sw.js");
    made.insert(WORKER.to_owned(), with_list(&worker, &made));
    for (name, bytes) in &made {
        write(&target.join(name), bytes);
        if is_text(name) {
            write(&target.join(format!("{name}.gz")), &gzip(bytes));
            write(&target.join(format!("{name}.br")), &brotli(bytes));
        }
    }
}

/// Every file that is served, by its name.
fn serve(source: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut modules = BTreeMap::new();
    let mut made = BTreeMap::new();
    for name in names(source, "") {
        let bytes = read(&source.join(&name));
        match name.as_str() {
            "print.css" => continue,
            "panel.css" => {
                let print = text(read(&source.join("print.css")));
                let all = format!("{}\n@media print {{\n{print}}}\n", text(bytes));
                made.insert(name, stripped(&all).into_bytes());
            }
            _ if name.starts_with("lang/") => {
                made.insert(name, stripped(&text(bytes)).into_bytes());
            }
            WORKER => {
                made.insert(name, stripped(&text(bytes)).into_bytes());
            }
            _ if name.ends_with(".js") => {
                if name == CLIENT {
                    made.insert(name.clone(), bytes.clone());
                }
                let module = Module::parse(&name, &stripped(&text(bytes)));
                modules.insert(name, module);
            }
            _ => {
                made.insert(name, bytes);
            }
        }
    }
    let (first, later) = bundle(&modules);
    made.insert(FIRST.to_owned(), first.into_bytes());
    made.insert(LATER.to_owned(), later.into_bytes());
    made
}

/// One module, in parts.
struct Module {
    /// Its imports: the file, and what is taken from it, as it is written between the braces.
    imports: Vec<(String, String)>,
    exports: Vec<String>,
    body: String,
    /// Files that it imports when it needs them.
    later: BTreeSet<String>,
}

impl Module {
    /// Reads one. It understands how these modules are written, and says where one is written otherwise.
    fn parse(file: &str, text: &str) -> Self {
        let (mut imports, mut exports, mut body, mut later) = (Vec::new(), Vec::new(), String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("import {") {
                let (names, from) = rest
                    .split_once("} from \"./")
                    .unwrap_or_else(|| panic!("{file}: an import is one line: {line}"));
                imports.push((from.trim_end_matches("\";").to_owned(), names.replace(" as ", ": ")));
                continue;
            }
            let line = match line.strip_prefix("export ") {
                Some(declared) => {
                    let name = ["const ", "function ", "async function ", "class "]
                        .iter()
                        .find_map(|kind| declared.strip_prefix(kind))
                        .unwrap_or_else(|| panic!("{file}: this cannot be exported: {line}"));
                    let end = name
                        .find(|c: char| !c.is_alphanumeric() && c != '_')
                        .unwrap_or(name.len());
                    exports.push(name[..end].to_owned());
                    declared
                }
                None => line,
            };
            assert!(!line.starts_with("import \""), "{file}: {line}");
            body.push_str(&with_later(line, &mut later));
            body.push('\n');
        }
        Self {
            imports,
            exports,
            body,
            later,
        }
    }

    /// The module as a constant that holds what it exports.
    fn made(&self, file: &str) -> String {
        let mut made = format!("const {} = (() => {{\n", variable(file));
        for (from, names) in &self.imports {
            made.push_str(&format!("const {{{names}}} = {};\n", variable(from)));
        }
        made.push_str(&self.body);
        made.push_str(&format!("return {{ {} }};\n}})();\n", self.exports.join(", ")));
        made
    }
}

/// `import("./x.js")` becomes the same part of the second file.
fn with_later(line: &str, later: &mut BTreeSet<String>) -> String {
    let mut made = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("import(\"./") {
        let (file, behind) = after.split_once("\")").expect("an import has an end");
        let name = variable(file);
        made.push_str(&format!("{before}import(\"./{LATER}\").then(({{ {name} }}) => {name})"));
        later.insert(file.to_owned());
        rest = behind;
    }
    made + rest
}

/// What a module is called where all of them are in one file.
fn variable(file: &str) -> String {
    format!("${}", file.trim_end_matches(".js").replace(['/', '-'], "_"))
}

/// The two files: what the page begins with, and what it loads when somebody asks for it.
fn bundle(modules: &BTreeMap<String, Module>) -> (String, String) {
    let mut first = Vec::new();
    order(modules, FIRST, &mut first, &mut Vec::new());
    let asked: BTreeSet<&String> = first.iter().flat_map(|file| &modules[*file].later).collect();
    let mut all = first.clone();
    for file in &asked {
        order(modules, file, &mut all, &mut Vec::new());
    }
    let later = &all[first.len()..];
    let needed: BTreeSet<String> = later
        .iter()
        .flat_map(|file| &modules[*file].imports)
        .map(|(from, _)| from)
        .filter(|from| first.contains(&from.as_str()))
        .map(|from| variable(from))
        .collect();
    let made = |files: &[&str]| files.iter().map(|file| modules[*file].made(file)).collect::<String>();
    let needed = needed.into_iter().collect::<Vec<_>>().join(", ");
    let given = asked.iter().map(|file| variable(file)).collect::<Vec<_>>().join(", ");
    for file in modules.keys() {
        assert!(all.contains(&file.as_str()), "panel/{file} is imported by nobody");
    }
    (
        format!("{}export {{ {needed} }};\n", made(&first)),
        format!(
            "import {{ {needed} }} from \"./{FIRST}\";\n{}export {{ {given} }};\n",
            made(later)
        ),
    )
}

/// A module behind all that it imports.
fn order<'a>(modules: &'a BTreeMap<String, Module>, file: &'a str, done: &mut Vec<&'a str>, open: &mut Vec<&'a str>) {
    if done.contains(&file) {
        return;
    }
    assert!(!open.contains(&file), "panel/{file} imports itself, by way of {open:?}");
    let module = modules
        .get(file)
        .unwrap_or_else(|| panic!("there is no panel/{file}: {open:?}"));
    open.push(file);
    for (from, _) in &module.imports {
        order(modules, from, done, open);
    }
    open.pop();
    done.push(file);
}

/// A text without its comments that have a line for themselves, and without what lines begin with.
fn stripped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut in_comment = false;
    for line in text.lines() {
        let mut line = line.trim();
        if !in_comment && line.starts_with("/*") {
            in_comment = true;
        }
        if in_comment {
            let Some((_, behind)) = line.split_once("*/") else {
                continue;
            };
            in_comment = false;
            line = behind.trim_start();
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        assert!(
            line.matches('`').count() % 2 == 0,
            "a template ends on the line where it begins: {line}"
        );
        made.push_str(line);
        made.push('\n');
    }
    made
}

/// The worker, with what it keeps, and with a version that is another one where any of it is.
fn with_list(worker: &[u8], made: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut hash = Sha256::new();
    made.values().for_each(|bytes| hash.update(bytes));
    let version: String = hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let list: Vec<String> = KEPT.iter().map(|name| format!("\"/panel/{name}\"")).collect();
    for name in KEPT {
        assert!(made.contains_key(name), "there is no panel/{name} to keep");
    }
    let worker = text(worker.to_vec());
    assert!(worker.contains(WORKER_FILES) && worker.contains(WORKER_VERSION));
    worker
        .replace(WORKER_FILES, &format!("[\"/\", {}]", list.join(", ")))
        .replace(WORKER_VERSION, &version)
        .into_bytes()
}

/// Every file below a directory.
fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("panel/ can be read") {
        let path = entry.expect("panel/ can be read").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            found.extend(names(&path, &format!("{name}/")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Whether it is worth compressing: pictures and fonts are compressed already.
fn is_text(name: &str) -> bool {
    [".html", ".css", ".js", ".svg", ".webmanifest", ".LICENSE"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let (buffer, quality, window) = (4096, 11, 22);
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), buffer, quality, window);
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.into_inner()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("panel/ is UTF-8")
}

fn write(path: &Path, bytes: &[u8]) {
    let directory = path.parent().expect("a directory");
    std::fs::create_dir_all(directory).expect("OUT_DIR can be written");
    std::fs::write(path, bytes).expect("OUT_DIR can be written");
}
