//! Examines the newest orders of a valid mapping to find probable mistakes. Mistakes are orders without a store,
//! amounts without a chosen currency, and misspelt status words. `vestnik attach` prints the warnings.

use std::collections::HashMap;

use super::catalog::Table;
use super::derived::{ANSWERING_STORE, reads};
use super::mapping::derived::Derived;
use super::mapping::{CurrencyRef, Mapping};
use super::missing_items::{self, MissingItems};
use super::preview::Preview;
use super::propose::{Usual, usual_status};
use super::translate::NamedCurrency;
use super::unused_currency::{self, OF_STORE};
use crate::domain::Subject;
use crate::domain::money::Currency;
use crate::domain::status::{Status, SubjectKind};
use crate::domain::subject::Visibility;
use crate::infra::db::GenericClient;

/// Maximum edit distance (letters inserted, removed, replaced or swapped) between a misspelt status word and the word
/// that was meant.
const NEAR_EDITS: usize = 2;
/// Minimum length of a status word that the warnings may call misspelt, in characters. A shorter word is similar to too
/// many words.
const SHORTEST_WORD: usize = 4;
/// Minimum number of newest rows that a note reports if all of them are hidden.
const FEWEST_HIDDEN: usize = 3;
/// Maximum number of misspelt words that the warnings list.
const NAMED_WORDS: usize = 5;

/// The result of examining the newest orders of a mapping: warnings and notes for the table's owner, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Warnings about orders without a store, and about amounts without a chosen currency.
    pub warnings: Vec<String>,
    /// What the mapping leaves out, one line each. A shop may have no such data.
    pub notes: Vec<String>,
    /// Warnings about status words that are probably misspelt, each with the word that was meant.
    pub misspelt: Vec<String>,
    /// Whether any of the visible newest orders has amounts in the default currency, because nothing names their
    /// currency. `None`: there are no visible orders.
    pub has_default_currency: Option<bool>,
}

/// Finds probable mistakes in a mapping. `orders` are the newest orders of the mapping's table, the newest first.
pub async fn advice(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
    orders: &[Preview],
) -> Result<Advice, tokio_postgres::Error> {
    let visible: Vec<&Preview> = orders
        .iter()
        .filter(|order| order.subject.visibility == Visibility::Visible)
        .collect();
    let mut advice = Advice::default();
    if let Some(derived) = &mapping.derived {
        literals(&derived.status, mapping.kind, &mut advice);
        advice.warnings.extend(statements_without_store(derived, &visible));
    }
    let is_hidden = |order: &Preview| order.subject.visibility == Visibility::Hidden;
    if orders.len() >= FEWEST_HIDDEN && orders.iter().all(is_hidden) {
        advice.notes.push(format!(
            "status: each of the newest {} rows is hidden, so nobody sees them: check that only carts and the like are",
            orders.len()
        ));
    }
    let alone: Vec<&&Preview> = visible.iter().filter(|order| order.store.is_none()).collect();
    if let Some(newest) = alone.first() {
        advice.warnings.push(format!(
            "store: {} without a store, so nobody sees {}; the newest is the order with key {}",
            newest_orders(alone.len(), "is", "are"),
            if alone.len() == 1 { "it" } else { "them" },
            newest.subject.id.key
        ));
    }
    match missing_items::find(mapping, orders) {
        Some(MissingItems::Unfound(warning)) => advice.warnings.push(warning),
        Some(MissingItems::Unmapped(note)) => advice.notes.push(note),
        None => {}
    }
    advice.has_default_currency = (!visible.is_empty()).then(|| visible.iter().any(|order| is_by_default(order)));
    currency(client, table, mapping, &visible, &mut advice.warnings).await?;
    unmapped(mapping, &visible, &mut advice);
    for order in &visible {
        let Some(word) = &order.subject.status_word else {
            continue;
        };
        let Some(meant) = probably_meant(word, mapping) else {
            continue;
        };
        let line = format!(
            "status: `{word}` means nothing, so such orders ring: did you mean {}? The order with key {} has it",
            match mapping.derived {
                Some(_) => format!("`{meant}`"),
                None => format!("`{word}` where the mapping has `{meant}`"),
            },
            order.subject.id.key
        );
        let is_new = advice
            .misspelt
            .iter()
            .all(|known| !known.contains(&format!("status: `{word}`")));
        if is_new && advice.misspelt.len() < NAMED_WORDS {
            advice.misspelt.push(line);
        }
    }
    Ok(advice)
}

/// Warnings about answers whose statements do not read the store, although an order may belong to several stores. Such
/// a statement changes the parts of all these stores.
fn statements_without_store(derived: &Derived, orders: &[&Preview]) -> Vec<String> {
    let mut stores = HashMap::new();
    let of_several = orders.iter().find(|order| {
        let first = *stores.entry(&order.subject.id.key).or_insert(&order.store);
        first != &order.store
    });
    let Some(of_several) = of_several else {
        return Vec::new();
    };
    let key = &of_several.subject.id.key;
    let has_store = |sql: &String| reads(sql, ANSWERING_STORE);
    let lacking = derived
        .answers
        .iter()
        .filter(|(_, statements)| !statements.iter().any(has_store));
    lacking
        .map(|(status, _)| {
            format!(
                "answer.{}: one key is an order of several stores, as with key {key}, and no statement says `{}`, the store that answers",
                status.as_str(),
                ANSWERING_STORE
            )
        })
        .collect()
}

fn newest_orders(count: usize, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 of the newest orders {one}"),
        _ => format!("{count} of the newest orders {several}"),
    }
}

/// Adds a warning for each status word that the newest orders have and the mapping lacks, unless another line names it:
/// it is probably misspelt, or is a literal of the status expression.
fn unmapped(mapping: &Mapping, orders: &[&Preview], advice: &mut Advice) {
    let named: Vec<&String> = advice.warnings.iter().chain(&advice.misspelt).collect();
    let is_named = |word: &str| {
        let of_literal = format!("derived.status: `{word}` ");
        named.iter().any(|line| line.starts_with(&of_literal))
    };
    let mut words: Vec<(&str, usize, &Preview)> = Vec::new();
    for order in orders {
        let Some(word) = order.subject.status_word.as_deref() else {
            continue;
        };
        let is_full = words.len() >= NAMED_WORDS;
        match words.iter_mut().find(|(named, ..)| *named == word) {
            Some((_, rows, _)) => *rows += 1,
            None if is_full || is_named(word) || probably_meant(word, mapping).is_some() => {}
            None => words.push((word, 1, order)),
        }
    }
    for (word, rows, newest) in words {
        advice.warnings.push(format!(
            "status: `{word}` is not mapped ({}, the newest is the order with key {}): such an order rings, and is shown with this word",
            newest_orders(rows, "has it", "have it"),
            newest.subject.id.key
        ));
    }
}

/// Whether the order has amounts, but neither its row nor its store names a currency for them. The amounts then get the
/// default currency.
fn is_by_default(order: &Preview) -> bool {
    let has_amounts = |subject: &Subject| {
        let prices = subject.items.list.iter().any(|item| item.price.is_some());
        subject.total.is_some() || prices
    };
    order.currency == NamedCurrency::Missing && !order.store_has_currency && has_amounts(&order.subject)
}

/// Adds warnings about amounts that get the default currency by mistake, and about invalid currency codes.
async fn currency(
    client: &impl GenericClient,
    table: &Table,
    mapping: &Mapping,
    orders: &[&Preview],
    warnings: &mut Vec<String>,
) -> Result<(), tokio_postgres::Error> {
    let by_default: Vec<&&Preview> = orders.iter().filter(|order| is_by_default(order)).collect();
    if let (CurrencyRef::Column(_), Some(newest)) = (&mapping.currency, by_default.first()) {
        warnings.push(format!(
            "currency: {} no currency, and neither has its store, so amounts are shown in {}; the newest is the order with key {}: \
             {OF_STORE}, or let the mapping name one where the shop has none",
            newest_orders(by_default.len(), "has", "have"),
            Currency::DEFAULT,
            newest.subject.id.key
        ));
    }
    if let (CurrencyRef::Store, Some(_)) = (&mapping.currency, by_default.first()) {
        warnings.extend(unused_currency::warning(client, table, mapping).await?);
    }
    let mut named: Vec<&str> = Vec::new();
    for order in orders {
        if let NamedCurrency::Unknown(code) = &order.currency
            && !named.contains(&code.as_str())
        {
            named.push(code);
            warnings.push(format!(
                "currency: `{code}` of the order with key {} is no code of three letters, such as EUR: its amounts are not shown",
                order.subject.id.key
            ));
        }
    }
    Ok(())
}

/// All status words of a mapping, including the words of hidden orders.
fn known_words(mapping: &Mapping) -> Vec<&str> {
    let words = mapping.status.words.iter().flat_map(|(_, words)| words);
    words.chain(&mapping.status.hidden).map(String::as_str).collect()
}

/// The known word that is most similar to `word`. `None`: `word` is probably not misspelt.
fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&known.to_lowercase(), &lower);
    let nearest = known.iter().copied().min_by_key(|known| distance(known))?;
    let is_near = distance(&nearest) <= NEAR_EDITS && word.chars().count() >= SHORTEST_WORD;
    (is_near && nearest != word).then_some(nearest)
}

/// What a status word that the mapping lacks probably means: a similar word of the mapping, or, for a derived mapping,
/// the status that shops usually mean by it.
fn probably_meant<'a>(word: &str, mapping: &'a Mapping) -> Option<&'a str> {
    let usual = || usual_meaning(word, mapping.kind).filter(|_| mapping.derived.is_some());
    meant(word, &known_words(mapping)).or_else(usual)
}

/// The status, or `hidden`, that shops usually mean by a word. `None`: the word is unknown.
fn usual_meaning(word: &str, kind: SubjectKind) -> Option<&'static str> {
    usual_status(word, kind).map(|usual| match usual {
        Usual::Status(status) => status.as_str(),
        Usual::Hidden => "hidden",
    })
}

/// Examines the status expression of a derived mapping (one with SQL expressions). Checks each string literal after
/// THEN or ELSE, and an expression that is only one literal. If a literal is no status, but is similar to a status or
/// usually means one, it is a mistake. Any other literal that is no status is only a warning, because a shop may show
/// words of its own.
fn literals(expression: &str, kind: SubjectKind, advice: &mut Advice) {
    let known: Vec<&str> = Status::ALL
        .iter()
        .map(|status| status.as_str())
        .chain(["hidden"])
        .collect();
    let parts: Vec<&str> = expression.split('\'').collect();
    for (at, word) in parts.iter().enumerate().filter(|(at, _)| at % 2 == 1) {
        let before = parts[at - 1]
            .split_whitespace()
            .next_back()
            .unwrap_or_default()
            .to_lowercase();
        let is_result = matches!(before.as_str(), "then" | "else") || parts.len() == 3 && before.is_empty();
        if !is_result || known.contains(word) {
            continue;
        }
        let (lines, line) = match meant(word, &known).or_else(|| usual_meaning(word, kind)) {
            Some(meant) => (
                &mut advice.misspelt,
                format!("derived.status: `{word}` is no status, so such orders ring: did you mean `{meant}`?"),
            ),
            None => (
                &mut advice.warnings,
                format!("derived.status: `{word}` is no status: such an order shows this word, and rings"),
            ),
        };
        if !lines.contains(&line) && lines.len() < NAMED_WORDS {
            lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_status_of_an_expression_is_found() {
        let expression = "case when o.a = 'pendng' then 'pendng' when o.b then 'canceled' when o.c = 'complet' then 'completed' else o.state end";
        let examined = |expression| {
            let mut advice = Advice::default();
            literals(expression, SubjectKind::Order, &mut advice);
            advice
        };
        let found = examined(expression).misspelt;
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("`pendng`") && found[0].ends_with("did you mean `pending`?"),
            "{found:?}"
        );
        assert!(
            found[1].contains("`canceled`") && found[1].ends_with("did you mean `cancelled`?"),
            "{found:?}"
        );
        let own = examined("case when true then 'Awaiting courier' else 'hidden' end");
        assert_eq!((own.misspelt.len(), own.warnings.len()), (0, 1), "{own:?}");
    }
}
