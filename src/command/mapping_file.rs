//! The files with mappings that `vestnik attach` reads, and those that it writes for a person to correct.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Usage;
use crate::sources::catalog::Table;
use crate::sources::propose::{Proposal, open_questions};

/// Reads a file with a mapping. Fails if the file still contains an open question, which `vestnik attach` has written
/// into its proposal.
pub fn read_answered(file: &Path) -> anyhow::Result<String> {
    let toml = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let open = open_questions(&toml).into_iter();
    let open: Vec<String> = open
        .map(|(line, question)| format!("\n  line {line}: {question}"))
        .collect();
    match open.is_empty() {
        true => Ok(toml),
        false => Err(Usage(format!(
            "{} has open questions, so nothing was changed: answer each question and delete its line{}",
            file.display(),
            open.concat()
        ))
        .into()),
    }
}

/// Writes the proposed mapping to a file. The returned error asks the person to answer the open questions in this file.
/// A dry run prints the mapping instead.
pub fn ask(table: &Table, proposal: &Proposal, is_dry: bool) -> anyhow::Result<anyhow::Error> {
    let answer = if is_dry {
        super::say!("{}", proposal.toml);
        "Save the mapping above as FILE, answer each question there and delete its line, then: vestnik attach --map FILE".to_owned()
    } else {
        let file = keep_proposal(table, &proposal.toml)?;
        let file = file.display();
        format!("Answer each question in {file} and delete its line, then: vestnik attach --map {file}")
    };
    let questions: Vec<String> = proposal
        .questions
        .iter()
        .map(|question| format!("  {question}"))
        .collect();
    Ok(Usage(format!(
        "{} was not attached: only you can know this:\n{}\n{answer}",
        table.quoted,
        questions.join("\n")
    ))
    .into())
}

/// Writes a mapping to a new file, so that a person can correct it. Returns the path of the file.
pub fn keep_proposal(table: &Table, mapping_toml: &str) -> anyhow::Result<PathBuf> {
    let file = free_file(&table.name);
    std::fs::write(&file, mapping_toml).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Chooses the name of a file that does not exist, so that no edited file is overwritten.
fn free_file(table: &str) -> PathBuf {
    let name: String = table
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let numbered = (2..).map(|number| format!("{name}.mapping.{number}.toml"));
    let mut names = std::iter::once(format!("{name}.mapping.toml")).chain(numbered);
    let free = names.find(|name| !Path::new(name).exists());
    PathBuf::from(free.unwrap_or(name))
}

/// Adds to the error about a mapping that does not fit its table where a person finds the mapping's text. The text comes
/// with the program, so it is written to a file. A dry run prints the mapping instead.
pub fn to_correct(table: &Table, mapping_toml: &str, error: &anyhow::Error, is_dry: bool) -> anyhow::Error {
    let last = if is_dry {
        super::say!("{}", mapping_toml.trim_end());
        "Save the mapping above as FILE, correct it there, then: vestnik attach --map FILE".to_owned()
    } else {
        match keep_proposal(table, mapping_toml) {
            Ok(file) => {
                let file = file.display();
                format!("The mapping is in {file}: correct it there, then: vestnik attach --map {file}")
            }
            Err(failed) => format!("{failed:#}"),
        }
    };
    Usage(format!("{error}\n{last}")).into()
}
