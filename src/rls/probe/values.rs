//! Values that a column may accept: a ladder of candidates by type, with what its checks seem to ask for first.

use crate::rls::probe::sample;
use crate::rls::probe::schema::{Column, Node};

/// What must differ from row to row: a word of letters and digits, and a number.
#[derive(Debug, Clone)]
pub(crate) struct Unique {
    pub(crate) word: String,
    pub(crate) number: u32,
}

impl Unique {
    /// One that nobody can guess or has used before.
    pub(crate) fn new() -> Self {
        let id = uuid::Uuid::new_v4();
        let hex = id.simple().to_string();
        let (high, low) = id.as_u64_pair();
        Self {
            word: format!("v{}", &hex[..11]),
            number: u32::try_from((high ^ low) % 100_000_000).unwrap_or(7),
        }
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// The value of a tenant of that kind in a tenant column: random, so that it names no real one.
pub(crate) fn tenant_value(column: &Column, id: &uuid::Uuid) -> String {
    let (high, _) = id.as_u64_pair();
    match column.base.as_str() {
        "uuid" => id.to_string(),
        "int2" => (20_000 + high % 12_000).to_string(),
        // The same in both, so that a bigint may reference an integer.
        "int4" | "int8" => (2_000_000_000 + high % 147_000_000).to_string(),
        "numeric" => (high % 1000).to_string(),
        _ => {
            let text = id.to_string();
            if column.typmod > 4 {
                // The end of it, so that a short column still holds random digits.
                let length = usize::try_from(column.typmod - 4).unwrap_or(36).min(36);
                text[36 - length..].to_string()
            } else {
                text
            }
        }
    }
}

/// Values to try in a column of a table, best first. None stands for NULL, and is never among them.
pub(crate) fn candidates(node: &Node, column: &Column, unique: &Unique, is_key: bool) -> Vec<String> {
    let mut checks = column.domain_checks.clone();
    for constraint in node.constraints.iter().filter(|constraint| constraint.kind == "c") {
        if constraint.columns.contains(&column.attnum) {
            checks.push(' ');
            checks.push_str(&constraint.definition);
        }
    }
    let bounds = if node.partition_keys.contains(&column.attnum) { node.bounds.as_str() } else { "" };
    let mut values: Vec<String> = literals(bounds);
    values.extend(values.clone().iter().flat_map(|bound| beyond(column, bound)));
    let hints = literals(&checks);
    // A value that a check names is a likely one where it can stand alone; elsewhere it is a part of one at most.
    let hints_first = !is_key && matches!(column.category.as_str(), "S" | "N" | "D" | "E");
    if hints_first {
        values.extend(hints.iter().cloned());
    }
    values
        .extend(sample::patterns(&checks).iter().filter_map(|pattern| sample::sample(pattern, &unique.word)));
    values.extend(by_type(column, unique, is_key, &hints));
    values.extend(numbers(&checks).iter().flat_map(|n| lengths(column, *n, unique)));
    if !hints_first {
        values.extend(hints);
    }
    let mut seen = std::collections::BTreeSet::new();
    values.retain(|value| fits(column, value) && seen.insert(value.clone()));
    values.truncate(48);
    values
}

/// Whether a value can be one of the column's type at all, where that is cheap to tell.
fn fits(column: &Column, value: &str) -> bool {
    match column.category.as_str() {
        "N" => value.parse::<f64>().is_ok(),
        "S" if column.typmod > 4 => {
            usize::try_from(column.typmod - 4).is_ok_and(|most| value.chars().count() <= most)
        }
        "E" => column.labels.iter().any(|label| label == value),
        "B" => matches!(value, "true" | "false"),
        "A" => value.starts_with('{'),
        "R" => value.starts_with(['[', '(', '{']) || value == "empty",
        _ => match column.base.as_str() {
            "json" | "jsonb" => serde_json::from_str::<serde_json::Value>(value).is_ok(),
            "uuid" => value.parse::<uuid::Uuid>().is_ok(),
            _ => true,
        },
    }
}

/// Values a little above the lower bound of a partition, so that it takes more than one row.
fn beyond(column: &Column, bound: &str) -> Vec<String> {
    match column.category.as_str() {
        "N" => match bound.parse::<i64>() {
            Ok(number) => (1..6).map(|step| number.saturating_add(step).to_string()).collect(),
            Err(_) => Vec::new(),
        },
        "D" if bound.is_char_boundary(8) && bound.len() >= 10 => {
            (2..8).map(|day| format!("{}{day:02}", &bound[..8])).collect()
        }
        _ => Vec::new(),
    }
}

fn by_type(column: &Column, unique: &Unique, is_key: bool, hints: &[String]) -> Vec<String> {
    let word = &unique.word;
    let number = unique.number;
    let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    if column.kind == "e" {
        return column.labels.clone();
    }
    if column.kind == "r" {
        return range(&column.element, number);
    }
    if column.kind == "m" {
        return owned(&["{}"]);
    }
    if column.category == "A" {
        let mut values = owned(&["{}"]);
        values.extend(column.labels.iter().map(|label| format!("{{{label}}}")));
        values.extend(hints.iter().map(|hint| format!("{{{hint}}}")));
        values.extend([format!("{{{word}}}"), format!("{{{number}}}"), "{1}".into(), "{1,2,3}".into()]);
        values.push(format!("{{{}}}", unique.uuid()));
        values.push("{2020-01-01}".into());
        return values;
    }
    match column.base.as_str() {
        "bool" => owned(&["false", "true"]),
        "int2" if is_key => vec![(20_000 + number % 12_000).to_string(), (number % 20_000).to_string()],
        "int4" if is_key => vec![(1_900_000_000 + number).to_string(), number.to_string()],
        "int8" if is_key => {
            vec![(8_000_000_000_000_000_000 + i64::from(number)).to_string(), number.to_string()]
        }
        "numeric" | "int2" | "int4" | "int8" | "float4" | "float8" | "money" => {
            let mut values = Vec::new();
            for hint in hints.iter().filter_map(|hint| hint.parse::<f64>().ok()) {
                values.extend([hint + 1.0, hint - 1.0].map(|value| value.to_string()));
            }
            if is_key {
                values.insert(0, decimal(column, number));
            }
            values.extend(owned(&[
                "1", "0", "10", "5", "2", "100", "50", "0.5", "1000", "2020", "-1", "12", "3",
            ]));
            values
        }
        "oid" | "regclass" | "regtype" | "xid" => owned(&["0", "1"]),
        "text" | "varchar" | "bpchar" | "citext" | "name" => words(column, word, number),
        "char" => owned(&["a", "A", "1"]),
        "uuid" => vec![unique.uuid()],
        "date" | "timestamp" | "timestamptz" => dates(number, is_key),
        "time" | "timetz" => owned(&["10:00", "11:00", "12:30", "00:00", "23:00"]),
        "interval" => owned(&["1 hour", "1 day", "0", "1 month", "1 year"]),
        "json" | "jsonb" => {
            let mut values = vec!["{}".to_string(), "[]".into(), "\"x\"".into(), "1".into(), "true".into()];
            values.extend(hints.iter().map(|hint| format!("{{\"{hint}\": 1}}")));
            values.extend(hints.iter().map(|hint| format!("{{\"{hint}\": \"x\"}}")));
            if is_key {
                values.insert(0, format!("{{\"{word}\": {number}}}"));
            }
            values
        }
        "bytea" => vec![format!("\\x{number:08x}"), "\\x".into(), format!("\\x{}", "00".repeat(32))],
        "inet" | "cidr" => vec![address(number), "10.0.0.0/8".into(), "::1".into()],
        "macaddr" => vec![format!("02:00:{}", hex_pairs(number, 4))],
        "macaddr8" => vec![format!("02:00:00:00:{}", hex_pairs(number, 4))],
        "bit" => vec!["1".repeat(usize::try_from(column.typmod.max(1)).unwrap_or(1))],
        "varbit" => owned(&["1", "0"]),
        "tsvector" => vec![word.clone()],
        "tsquery" => vec![word.clone()],
        "xml" => owned(&["<a/>"]),
        "point" => vec![format!("({number},1)")],
        "line" => owned(&["{1,2,3}"]),
        "lseg" => owned(&["[(0,0),(1,1)]"]),
        "box" => vec![format!("({number},0),({},1)", number + 1)],
        "path" | "polygon" => owned(&["((0,0),(1,1),(1,0))"]),
        "circle" => owned(&["<(0,0),1>"]),
        "pg_lsn" => owned(&["0/0"]),
        "hstore" => vec![format!("{word}=>1"), String::new()],
        "ltree" => vec![word.clone()],
        "geometry" | "geography" => {
            owned(&["POINT(0 0)", "POLYGON((0 0,1 0,1 1,0 0))", "LINESTRING(0 0,1 1)"])
        }
        "vector" | "halfvec" => {
            let length = usize::try_from(column.typmod.max(1)).unwrap_or(1);
            vec![format!("[{}]", vec!["1"; length].join(","))]
        }
        "isbn" | "isbn13" | "ean13" => owned(&["9780306406157"]),
        "semver" => owned(&["1.0.0"]),
        _ => vec![word.clone(), "1".into(), String::new(), "{}".into(), "()".into()],
    }
}

fn decimal(column: &Column, number: u32) -> String {
    if column.base != "numeric" || column.typmod < 4 {
        return number.to_string();
    }
    let (precision, scale) = ((column.typmod - 4) >> 16, (column.typmod - 4) & 0x7ff);
    let digits = u32::try_from((precision - scale).clamp(1, 8)).unwrap_or(1);
    (number % 10u32.pow(digits)).to_string()
}

fn words(column: &Column, word: &str, number: u32) -> Vec<String> {
    let most = if column.typmod > 4 { usize::try_from(column.typmod - 4).unwrap_or(1) } else { usize::MAX };
    // A short column: the end of the word and of the number differ most.
    let tail = |text: &str| text.chars().skip(text.chars().count().saturating_sub(most)).collect::<String>();
    let mut values = vec![
        tail(word),
        tail(&number.to_string()),
        format!("{word}@example.com"),
        format!("https://{word}.example.com"),
        word.to_uppercase(),
        format!("+1555{number:08}"),
        format!("{word}.example.com"),
        format!("#{:06x}", number & 0x00ff_ffff),
        format!("/{word}"),
        format!("{}.{}.0", number % 100, number / 100 % 100),
        "{}".into(),
        uuid::Uuid::new_v4().to_string(),
        "2030-01-01".into(),
    ];
    values.extend(
        ["en", "US", "USD", "en-US", "UTC", "a", "A", "1", "image/png", "127.0.0.1", "main", ""]
            .map(String::from),
    );
    values
}

fn dates(number: u32, is_key: bool) -> Vec<String> {
    let mut values: Vec<String> =
        ["2026-01-01", "2026-01-02", "2020-01-01", "2035-06-01", "2036-06-01", "1990-05-05", "infinity"]
            .map(String::from)
            .into();
    if is_key {
        let (year, month, day) = (2100 + number % 800, 1 + number / 800 % 12, 1 + number / 9600 % 28);
        values.insert(0, format!("{year}-{month:02}-{day:02}"));
    }
    values
}

fn range(element: &str, number: u32) -> Vec<String> {
    let values: [String; 2] = match element {
        "date" | "timestamp without time zone" | "timestamp with time zone" => {
            let year = 2100 + number % 800;
            let (month, day) = (1 + number / 800 % 12, 1 + number / 9600 % 27);
            [
                format!("[{year}-{month:02}-{day:02},{year}-{month:02}-{:02})", day + 1),
                "[2026-01-01,2026-01-02)".into(),
            ]
        }
        _ => [format!("[{number},{})", number + 1), "[1,2)".into()],
    };
    values.into_iter().chain(["empty".into()]).collect()
}

fn address(number: u32) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

fn hex_pairs(number: u32, pairs: usize) -> String {
    let hex = format!("{number:08x}");
    (0..pairs).map(|at| &hex[at * 2..at * 2 + 2]).collect::<Vec<_>>().join(":")
}

/// Texts of the lengths that a check may ask for.
fn lengths(column: &Column, number: f64, unique: &Unique) -> Vec<String> {
    if column.category != "S" || !(1.0..=300.0).contains(&number) {
        return Vec::new();
    }
    let digits = format!("{:08}", unique.number);
    let source: String = unique.word.chars().chain(digits.chars()).cycle().take(301).collect();
    // Truncation towards zero is what is meant: these are lengths.
    [number, number + 1.0, number - 1.0]
        .iter()
        .filter_map(|length| format!("{length:.0}").parse::<usize>().ok())
        .flat_map(|length| [source[..length.min(300)].to_string(), source[..length.min(300)].to_uppercase()])
        .collect()
}

/// The quoted literals of an expression as PostgreSQL prints it, and its bare numbers.
fn literals(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find('\'') {
        let is_pattern = rest[..start].trim_end().ends_with('~') || rest[..start].trim_end().ends_with("~*");
        let mut text = String::new();
        let mut after = rest.len();
        let mut chars = rest[start + 1..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c == '\'' {
                if chars.peek().is_some_and(|(_, next)| *next == '\'') {
                    chars.next();
                } else {
                    after = start + 1 + at + 1;
                    break;
                }
            }
            text.push(c);
        }
        rest = &rest[after..];
        if !is_pattern && !text.is_empty() && text.len() < 200 && !found.contains(&text) {
            // An array literal: each element may be a value.
            if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                found.extend(inner.split(',').map(|item| item.trim_matches('"').to_string()));
            }
            found.push(text);
        }
    }
    for number in numbers(expression) {
        let text = number.to_string();
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// The bare numbers of an expression.
fn numbers(expression: &str) -> Vec<f64> {
    let outside: String = expression.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    outside
        .split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_' || c == '-'))
        .filter_map(|word| word.parse::<f64>().ok())
        .filter(|number| number.is_finite())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_a_check_are_found_and_patterns_left_out() {
        let check = "CHECK (((status = ANY (ARRAY['a'::text, 'it''s'::text])) AND (age >= 18) AND (slug ~ '^[a-z]+$'::text)))";
        assert_eq!(literals(check), ["a", "it's", "18"]);
        assert_eq!(
            literals("FOR VALUES IN ('eu', 'us') FOR VALUES FROM (10) TO (20)"),
            ["eu", "us", "10", "20"]
        );
    }
}
