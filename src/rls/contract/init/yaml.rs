//! Writes a contract with the reasons for each key above it.

use super::Guess;
use crate::rls::contract::Tenants;

const WIDTH: usize = 110;

pub(super) fn write(guess: &Guess) -> String {
    let contract = &guess.contract;
    let mut text = String::new();
    comment(
        &mut text,
        "",
        "Isolation contract: how this platform keeps its tenants apart, for rls verify --contract.",
    );
    comment(
        &mut text,
        "",
        "Guessed from the catalogue. Read it before you rely on it; each TODO is a question.",
    );
    let mut page = Page { text, guess };
    page.list("", "tenant_column", &contract.tenant_column);
    if page.begin("", "tables", !contract.tables.is_empty()) {
        page.text.push_str("tables:\n");
        for (table, column) in &contract.tables {
            page.text.push_str(&format!("  {}: {}\n", scalar(table), scalar(column)));
        }
    }
    page.list("", "schemas", &contract.schemas);
    page.list("", "app_roles", &contract.app_roles);
    page.list("", "admin_roles", &contract.admin_roles);
    page.list("", "shared_tables", &contract.shared_tables);
    page.text.push_str("\ncontext:");
    page.list("  ", "context.set", &contract.context.set);
    page.list("  ", "context.prepare", &contract.context.prepare);
    if page.begin("  ", "context.tenants", true) {
        match &contract.context.tenants {
            Tenants::Auto => page.text.push_str("  tenants: auto\n"),
            Tenants::Given(keys) => {
                page.text.push_str(&format!("  tenants: [{}, {}]\n", scalar(&keys[0]), scalar(&keys[1])));
            }
        }
    }
    page.text
}

struct Page<'g> {
    text: String,
    guess: &'g Guess,
}

impl Page<'_> {
    /// Writes why a key has its value and what is open about it. Says whether the key follows.
    fn begin(&mut self, indent: &str, key: &str, present: bool) -> bool {
        let about = |remarks: &[super::Remark]| -> Vec<String> {
            remarks.iter().filter(|remark| remark.key == key).map(|remark| remark.text.clone()).collect()
        };
        let (reasons, questions) = (about(&self.guess.reasons), about(&self.guess.questions));
        if present || !reasons.is_empty() || !questions.is_empty() {
            self.text.push('\n');
        }
        for reason in reasons {
            comment(&mut self.text, indent, &reason);
        }
        for question in questions {
            comment(&mut self.text, indent, &format!("TODO: {question}"));
        }
        present
    }

    fn list(&mut self, indent: &str, key: &str, values: &[String]) {
        if !self.begin(indent, key, !values.is_empty()) {
            return;
        }
        let name = key.rsplit('.').next().unwrap_or(key);
        self.text.push_str(&format!("{indent}{name}:\n"));
        for value in values {
            // A statement that is full of quotes is easier to read without more of them.
            let block = value.contains('"') && !value.starts_with(' ') && !value.ends_with(' ');
            if block && !value.contains(breaks) {
                self.text.push_str(&format!("{indent}  - >-\n{indent}    {value}\n"));
            } else {
                self.text.push_str(&format!("{indent}  - {}\n", scalar(value)));
            }
        }
    }
}

/// Whether YAML might take a character for the end of a line, or refuse it.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A comment, wrapped; no name in it can end it.
fn comment(into: &mut String, indent: &str, text: &str) {
    let text = text.replace(breaks, " ");
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && indent.len() + line.chars().count() + word.chars().count() + 3 > WIDTH {
            into.push_str(&format!("{indent}# {line}\n"));
            line = String::from("  ");
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    into.push_str(&format!("{indent}# {line}\n"));
}

/// A text as YAML has it, in quotes unless it is a plain word.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && text.chars().all(plain) && !words.contains(&text.to_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if breaks(c) => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "a",
            "no",
            "1",
            "~",
            "a b",
            "it's \"x\" \\",
            "{}",
            "#",
            "a: b",
            "é\u{85}\n\t\u{2028}\u{7f}",
            "",
            "<<",
            "- x",
        ] {
            let list: Vec<String> = serde_yaml::from_str(&format!("- {}\n", scalar(text))).unwrap();
            assert_eq!(list, [text]);
        }
    }

    #[test]
    fn comments_stay_comments() {
        let mut text = String::new();
        comment(&mut text, "  ", &format!("a\nb: c\u{85}d\u{2028} {}", "word ".repeat(50)));
        assert!(text.lines().all(|line| line.starts_with("  # ") && line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().count() > 2, "{text}");
    }
}
