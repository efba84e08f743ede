//! Splits the joins of a mapping's `from`. If one join fails, orders are computed with the others.

/// Maximum number of parts of a `from`. The last part has all further joins.
const MOST_PARTS: usize = 32;
/// The words that may stand before the word `join`.
const KINDS: [&str; 4] = ["inner", "left", "outer", "cross"];
/// A `from` with one of these joins is not split. A right or full join also gives rows without a row of the shop's
/// table. A natural join depends on the columns of all earlier joins.
const NOT_SPLIT: [&str; 3] = ["right", "full", "natural"];

/// Splits the joins of `from`, an SQL text such as `left join a on a.id = o.a_id left join b on b.id = a.b_id`. The
/// parts together are the whole text. A part may refer to earlier parts.
pub(super) fn split(from: &str) -> Vec<&str> {
    let (mut begins, mut conditions) = (Vec::new(), Vec::new());
    let mut first_kind = None;
    let mut is_cross = false;
    for (at, word) in words(from) {
        match word.to_ascii_lowercase().as_str() {
            word if NOT_SPLIT.contains(&word) => return vec![from],
            word @ ("join" | ",") => {
                begins.push(first_kind.take().unwrap_or(at));
                // The number of conditions that this part still needs.
                conditions.push(i32::from(word == "join" && !is_cross));
                is_cross = false;
            }
            "on" | "using" => {
                first_kind = None;
                if let Some(needed) = conditions.last_mut() {
                    *needed -= 1;
                }
            }
            kind if KINDS.contains(&kind) => {
                first_kind.get_or_insert(at);
                is_cross = kind == "cross";
            }
            _ => (first_kind, is_cross) = (None, false),
        }
    }
    // In a nested join, such as `a join b join c on .. on ..`, the conditions of a part stand in another part.
    if conditions.iter().any(|needed| *needed != 0) {
        return vec![from];
    }
    begins.truncate(MOST_PARTS);
    // Text before the first join belongs to the first part.
    match begins.first_mut() {
        Some(first) => *first = 0,
        None if from.trim().is_empty() => return Vec::new(),
        None => return vec![from],
    }
    let ends = begins.iter().skip(1).copied().chain([from.len()]);
    begins.iter().zip(ends).map(|(begin, end)| &from[*begin..end]).collect()
}

/// The words, commas and opening parentheses of an SQL text that are outside of parentheses, quotes and comments, each
/// with its position in bytes.
fn words(sql: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    let mut has_escapes = false;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let length = match first {
            '\'' if has_escapes => escaped_length(rest),
            '\'' | '"' => quoted_length(rest, first),
            '$' => dollar_quoted_length(rest),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            _ if is_of_word(first) => rest.find(|next| !is_of_word(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let word = &rest[..length];
        if depth == 0 && (matches!(first, ',' | '(') || is_of_word(first)) {
            words.push((at, word));
        }
        match first {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        has_escapes = word.eq_ignore_ascii_case("e");
        at += length;
    }
    words
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The number of bytes of a text such as `'it\'s'` after the letter `E`, with both quotes. A backslash escapes the next
/// letter.
fn escaped_length(sql: &str) -> usize {
    let mut letters = sql.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    sql.len()
}

/// The number of bytes of a text in quotes, with both quotes. A backslash does not escape a quote, as in standard SQL.
fn quoted_length(sql: &str, quote: char) -> usize {
    sql[1..].find(quote).map_or(sql.len(), |end| end + 2)
}

/// The number of bytes of a text in dollar quotes, such as `$$it's$$`, with the quotes. If no such text begins here,
/// the result is 1.
fn dollar_quoted_length(sql: &str) -> usize {
    let Some(tag) = sql[1..].find('$').map(|end| &sql[..end + 2]) else {
        return 1;
    };
    if !tag[1..tag.len() - 1].chars().all(is_of_word) {
        return 1;
    }
    sql[tag.len()..].find(tag).map_or(sql.len(), |end| end + 2 * tag.len())
}

/// The number of bytes of a comment `/* .. */`. Postgres allows comments inside comments.
fn comment_length(sql: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < sql.len() {
        let rest = &sql.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    sql.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(from: &str) -> Vec<&str> {
        split(from).into_iter().map(str::trim).collect()
    }

    #[test]
    fn each_join_is_a_part() {
        let from = "left join a on a.id = left(o.a_id, 2)\n  JOIN b using (id) left outer join c on true cross join d";
        let expected = [
            "left join a on a.id = left(o.a_id, 2)",
            "JOIN b using (id)",
            "left outer join c on true",
            "cross join d",
        ];
        assert_eq!(parts(from), expected);
        assert_eq!(parts(", lateral (select 1) x, y"), [", lateral (select 1) x", ", y"]);
        assert!(parts("").is_empty());
        let lateral = "left join lateral (select * from b join c on true) x on left(x.n, 1) = o.n";
        assert_eq!(parts(lateral), [lateral]);
    }

    #[test]
    fn words_in_quotes_and_comments_divide_nothing() {
        for from in [
            "join \"left join\" j on true",
            "join j on j.word = ' join it''s, '",
            "join j on j.word = $x$ join, $x$",
            r"join j on j.word = E'it\'s, join' and true",
            "join j -- join k, \n on true",
            "join j /* join /* , */ join */ on true",
            "join j on j.a = any (array[1, 2]) and j.b[1, 2] = $1",
        ] {
            assert_eq!(split(from), [from]);
        }
    }

    #[test]
    fn a_join_whose_parts_have_no_meaning_alone_is_not_split() {
        for from in [
            "left join a on true full join b on true",
            "left join a on a.id = o.a_id natural left join b",
            "left join a join b on b.id = a.b_id on a.id = o.a_id",
        ] {
            assert_eq!(split(from), [from]);
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole_text(
            from in "(left |join |, |[a-zé_\"'$(/*)\\-\\[\\]\n]{0,4}){0,40}"
        ) {
            let parts = split(&from);
            prop_assert!(parts.concat() == from || from.trim().is_empty());
            prop_assert!(parts.len() <= MOST_PARTS);
        }
    }
}
