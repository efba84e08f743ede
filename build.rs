//! Bundles the JavaScript modules of `panel/` into two files, removes comments from all text files, and compresses
//! each text file. Browsers can also load the modules without this bundling.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The names of the two bundles. `FIRST` is also the name of the entry module. Its bundle has the modules that the
/// entry module imports statically. The bundle `LATER` has the modules that only a dynamic import loads.
const FIRST: &str = "panel.js";
const LATER: &str = "later.js";
/// The client library. The build also keeps it as a separate file, so that pages of other sites can import it.
const CLIENT: &str = "vestnik.js";
const WORKER: &str = "sw.js";
/// Placeholders in the service worker: one for the list of cached files, one for the version.
const WORKER_FILES: &str = "[\"FILES\"]";
const WORKER_VERSION: &str = "VERSION";
/// The files that the service worker caches, so that the page opens without a network.
const CACHED: [&str; 10] = [
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
    let target = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("panel");
    let _ = std::fs::remove_dir_all(&target);
    let mut served = serve(source);
    let worker = served.remove(WORKER).expect("panel/sw.js");
    served.insert(WORKER.to_owned(), with_list(&worker, &served));
    for (name, bytes) in &served {
        write(&target.join(name), bytes);
        if is_text(name) {
            write(&target.join(format!("{name}.gz")), &gzip(bytes));
            write(&target.join(format!("{name}.br")), &brotli(bytes));
        }
    }
}

/// Reads `panel/`, and returns the uncompressed content of every file that the server serves, by the file's name.
fn serve(source: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut modules = BTreeMap::new();
    let mut served = BTreeMap::new();
    for name in names(source, "") {
        let bytes = read(&source.join(&name));
        match name.as_str() {
            "print.css" => continue,
            "panel.css" => {
                let print = text(read(&source.join("print.css")));
                let all = format!("{}\n@media print {{\n{print}}}\n", text(bytes));
                served.insert(name, stripped(&all).into_bytes());
            }
            _ if name.starts_with("lang/") => {
                served.insert(name, stripped(&text(bytes)).into_bytes());
            }
            "index.html" => {
                let page = text(bytes);
                let lines: Vec<&str> = page.lines().map(str::trim_start).collect();
                served.insert(name, lines.join("\n").into_bytes());
            }
            WORKER => {
                served.insert(name, stripped(&text(bytes)).into_bytes());
            }
            _ if name.ends_with(".js") => {
                if name == CLIENT {
                    served.insert(name.clone(), bytes.clone());
                }
                let module = Module::parse(&name, &stripped(&text(bytes)));
                modules.insert(name, module);
            }
            _ => {
                served.insert(name, bytes);
            }
        }
    }
    let (first, later) = bundle(&modules);
    served.insert(FIRST.to_owned(), first.into_bytes());
    served.insert(LATER.to_owned(), later.into_bytes());
    served
}

/// A parsed module of the panel.
struct Module {
    /// Static imports: the imported file, and the names between the braces.
    imports: Vec<(String, String)>,
    exports: Vec<String>,
    body: String,
    /// The files that the module imports dynamically.
    later: BTreeSet<String>,
}

impl Module {
    /// Parses a module. If the syntax of an import or export is not supported, panics with the line.
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

    /// Renders the module as a constant that holds its exports.
    fn render(&self, file: &str) -> String {
        let mut rendered = format!("const {} = (() => {{\n", variable(file));
        for (from, names) in &self.imports {
            rendered.push_str(&format!("const {{{names}}} = {};\n", variable(from)));
        }
        rendered.push_str(&self.body);
        rendered.push_str(&format!("return {{ {} }};\n}})();\n", self.exports.join(", ")));
        rendered
    }
}

/// Replaces each dynamic import `import("./x.js")` by an import of the second bundle. Adds the imported files to
/// `later`.
fn with_later(line: &str, later: &mut BTreeSet<String>) -> String {
    let mut replaced = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("import(\"./") {
        let (file, behind) = after.split_once("\")").expect("an import has an end");
        let name = variable(file);
        replaced.push_str(&format!("{before}import(\"./{LATER}\").then(({{ {name} }}) => {name})"));
        later.insert(file.to_owned());
        rest = behind;
    }
    replaced + rest
}

/// The name of a module's constant within a bundle.
fn variable(file: &str) -> String {
    format!("${}", file.trim_end_matches(".js").replace(['/', '-'], "_"))
}

/// Builds the two bundles. The first has the entry module with its static imports, the second has the dynamically
/// imported modules.
fn bundle(modules: &BTreeMap<String, Module>) -> (String, String) {
    let mut first = Vec::new();
    order(modules, FIRST, &mut first, &mut Vec::new());
    let dynamic: BTreeSet<&String> = first.iter().flat_map(|file| &modules[*file].later).collect();
    let mut all = first.clone();
    for file in &dynamic {
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
    let render = |files: &[&str]| files.iter().map(|file| modules[*file].render(file)).collect::<String>();
    let needed = needed.into_iter().collect::<Vec<_>>().join(", ");
    let exported = dynamic.iter().map(|file| variable(file)).collect::<Vec<_>>().join(", ");
    for file in modules.keys() {
        assert!(all.contains(&file.as_str()), "panel/{file} is imported by nobody");
    }
    (
        format!("{}export {{ {needed} }};\n", render(&first)),
        format!(
            "import {{ {needed} }} from \"./{FIRST}\";\n{}export {{ {exported} }};\n",
            render(later)
        ),
    )
}

/// Appends a module to `done`, after all its imports.
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

/// Returns the text without indentation, empty lines, comments that begin a line, and JSDoc types within a line.
fn stripped(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
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
        stripped.push_str(&without_types(line));
        stripped.push('\n');
    }
    stripped
}

/// Removes the JSDoc types of expressions from a line.
fn without_types(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(start) = line.find("/** @type") {
        let Some(length) = line[start..].find("*/") else { break };
        let end = start + length + 2;
        let spaces = line[end..].len() - line[end..].trim_start().len();
        line.replace_range(start..end + spaces, "");
    }
    line
}

/// Fills in the service worker's list of cached files, and its version. The version changes when any served file
/// changes.
fn with_list(worker: &[u8], served: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut hash = Sha256::new();
    served.values().for_each(|bytes| hash.update(bytes));
    let version: String = hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let list: Vec<String> = CACHED.iter().map(|name| format!("\"/panel/{name}\"")).collect();
    for name in CACHED {
        assert!(served.contains_key(name), "there is no panel/{name} to cache");
    }
    let worker = text(worker.to_vec());
    assert!(worker.contains(WORKER_FILES) && worker.contains(WORKER_VERSION));
    worker
        .replace(WORKER_FILES, &format!("[\"/\", {}]", list.join(", ")))
        .replace(WORKER_VERSION, &version)
        .into_bytes()
}

/// The names of all files below a directory, sorted.
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

/// Whether the build compresses the file. Pictures and fonts are compressed already.
fn is_text(name: &str) -> bool {
    [".html", ".css", ".js", ".svg", ".webmanifest", ".LICENSE"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("writing to a vector cannot fail");
    encoder.finish().expect("writing to a vector cannot fail")
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let (buffer, quality, window) = (4096, 11, 22);
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), buffer, quality, window);
    encoder.write_all(bytes).expect("writing to a vector cannot fail");
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
