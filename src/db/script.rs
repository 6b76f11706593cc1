//! Taking a script apart: the statements of a file as psql reads it, with the lines where they begin.

/// What a script consists of, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A statement for the server.
    Sql(Statement<'a>),
    /// `COPY … FROM stdin` and the rows that follow it.
    Copy {
        statement: Statement<'a>,
        data: &'a str,
        /// Where the rows begin.
        data_line: usize,
    },
    /// A command of psql's own, without the backslash.
    Meta { line: usize, command: &'a str, arguments: &'a str },
}

/// One statement, without the comments before it and the semicolon after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
    /// Its first words outside of parentheses: bare ones in lower case, quoted ones with their quotes.
    pub(crate) words: Vec<String>,
}

impl Statement<'_> {
    /// Whether it begins with these words.
    pub(crate) fn begins(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(a, b)| a == b)
    }

    fn copies_from_stdin(&self) -> bool {
        self.begins(&["copy"]) && self.words.windows(2).any(|pair| pair[0] == "from" && pair[1] == "stdin")
    }
}

/// Why a script cannot be taken apart, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// More of them say nothing about what a statement is.
const MOST_WORDS: usize = 64;

/// Takes a script apart.
pub(crate) fn split(text: &str) -> Result<Vec<Item<'_>>, Unreadable> {
    let mut scanner = Scanner { text, at: 0, counted: 0, line: 1 };
    let mut items = Vec::new();
    while let Some(item) = scanner.item()? {
        items.push(item);
    }
    Ok(items)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// As far as the lines are counted, and which one that is.
    counted: usize,
    line: usize,
}

/// The statement under way.
struct Pending {
    start: usize,
    line: usize,
    words: Vec<String>,
    parentheses: usize,
    /// How deep in BEGIN ATOMIC … END, with the CASE … END in it.
    blocks: usize,
}

impl<'a> Scanner<'a> {
    /// The next statement or command, if there is one.
    fn item(&mut self) -> Result<Option<Item<'a>>, Unreadable> {
        let mut pending: Option<Pending> = None;
        while let Some(byte) = self.peek(0) {
            match (byte, &mut pending) {
                (b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', _) if self.peek(1) == Some(b'-') => self.at = self.end_of_line(),
                (b'/', _) if self.peek(1) == Some(b'*') => self.comment()?,
                (b'\\', None) => return Ok(Some(self.meta())),
                (b'\\', Some(_)) => {
                    let command = self.text[self.at..self.end_of_line()].trim_end();
                    return Err(self.wrong(self.at, format!("{command} within a statement is not supported")));
                }
                (b';', None) => self.at += 1,
                (b';', Some(open)) if open.parentheses == 0 && open.blocks == 0 => {
                    let item = pending.map(|pending| self.complete(pending));
                    return Ok(item);
                }
                (_, Some(open)) => self.token(byte, open)?,
                (_, None) => {
                    let (start, line) = (self.at, self.line_at(self.at));
                    let open = Pending { start, line, words: Vec::new(), parentheses: 0, blocks: 0 };
                    self.token(byte, pending.insert(open))?;
                }
            }
        }
        // The last one needs no semicolon.
        Ok(pending.map(|pending| self.complete(pending)))
    }

    /// The statement that ends here, at its semicolon or at the end of the file.
    fn complete(&mut self, pending: Pending) -> Item<'a> {
        let text = self.text[pending.start..self.at].trim_end();
        let statement = Statement { text, line: pending.line, words: pending.words };
        self.at = (self.at + 1).min(self.text.len());
        if !statement.copies_from_stdin() {
            return Item::Sql(statement);
        }
        self.at = self.next_line();
        let (start, data_line) = (self.at, self.line_at(self.at));
        let mut end = start;
        while self.at < self.text.len() {
            let line = &self.text[self.at..self.end_of_line()];
            self.at = self.next_line();
            if line.trim_end_matches('\r') == "\\." {
                break;
            }
            end = self.at;
        }
        Item::Copy { statement, data: &self.text[start..end], data_line }
    }

    /// A line for psql.
    fn meta(&mut self) -> Item<'a> {
        let line = self.line_at(self.at);
        let end = self.end_of_line();
        let text = self.text[self.at + 1..end].trim_end();
        self.at = end;
        let (command, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Item::Meta { line, command, arguments: arguments.trim() }
    }

    /// Passes over one token of a statement.
    fn token(&mut self, byte: u8, open: &mut Pending) -> Result<(), Unreadable> {
        match byte {
            b'\'' => self.quoted(b'\'', false)?,
            b'"' => {
                let start = self.at;
                self.quoted(b'"', false)?;
                open.word(self.text[start..self.at].to_owned());
            }
            b'$' => self.dollar()?,
            b'(' | b'[' => {
                open.parentheses += 1;
                self.at += 1;
            }
            b')' | b']' => {
                open.parentheses = open.parentheses.saturating_sub(1);
                self.at += 1;
            }
            _ if in_word(byte) => {
                let start = self.at;
                while self.peek(0).is_some_and(|next| in_word(next) || next == b'$') {
                    self.at += 1;
                }
                let word = self.text[start..self.at].to_ascii_lowercase();
                if word == "e" && self.peek(0) == Some(b'\'') {
                    return self.quoted(b'\'', true);
                }
                match word.as_str() {
                    "atomic" if open.words.last().is_some_and(|last| last == "begin") => open.blocks = 1,
                    "case" if open.blocks > 0 => open.blocks += 1,
                    "end" if open.blocks > 0 => open.blocks -= 1,
                    _ => {}
                }
                open.word(word);
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    /// Passes over a string or a quoted name. A doubled quote begins the next part of it, which comes to the same.
    fn quoted(&mut self, quote: u8, backslashes: bool) -> Result<(), Unreadable> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' if backslashes => self.at = (self.at + 1).min(self.text.len()),
                _ if byte == quote => {
                    if self.peek(0) != Some(quote) {
                        return Ok(());
                    }
                    self.at += 1;
                }
                _ => {}
            }
        }
        let what = if quote == b'"' { "quoted name" } else { "string" };
        Err(self.wrong(start, format!("the {what} that begins here does not end")))
    }

    /// Passes over `$tag$ … $tag$`, or over the dollar alone.
    fn dollar(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        let tag = rest.bytes().take_while(|byte| in_word(*byte)).count();
        let numbered = rest.starts_with(|first: char| first.is_ascii_digit());
        if numbered || rest.as_bytes().get(tag) != Some(&b'$') {
            self.at += 1;
            return Ok(());
        }
        let delimiter = &self.text[start..start + tag + 2];
        let body = start + delimiter.len();
        match self.text[body..].find(delimiter) {
            Some(length) => {
                self.at = body + length + delimiter.len();
                Ok(())
            }
            None => Err(self.wrong(start, format!("the string {delimiter} that begins here does not end"))),
        }
    }

    /// Passes over a comment, and those within it.
    fn comment(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        let mut depth = 0;
        while let Some(byte) = self.peek(0) {
            let step = match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    2
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    2
                }
                _ => 1,
            };
            self.at += step;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.wrong(start, "the comment that begins here does not end".into()))
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn end_of_line(&self) -> usize {
        self.text[self.at..].find('\n').map_or(self.text.len(), |length| self.at + length)
    }

    fn next_line(&self) -> usize {
        (self.end_of_line() + 1).min(self.text.len())
    }

    /// The line of a place that is not before one that was asked for earlier.
    fn line_at(&mut self, at: usize) -> usize {
        self.line += self.text[self.counted..at].bytes().filter(|byte| *byte == b'\n').count();
        self.counted = at;
        self.line
    }

    fn wrong(&self, at: usize, what: String) -> Unreadable {
        Unreadable { line: line_of(self.text, at), what }
    }
}

impl Pending {
    fn word(&mut self, word: String) {
        if self.blocks > 0 || (self.parentheses == 0 && self.words.len() < MOST_WORDS) {
            self.words.push(word);
        }
    }
}

/// The line of a place in a text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// As PostgreSQL has it: whatever is not ASCII may stand in a name.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<(usize, &str)> {
        let items = split(text).unwrap();
        items
            .into_iter()
            .map(|item| match item {
                Item::Sql(statement) => (statement.line, statement.text),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[track_caller]
    fn is_one(text: &str) {
        assert_eq!(statements(&format!("{text};")), [(1, text)]);
    }

    #[test]
    fn statements_begin_at_their_first_word() {
        let text = "-- first; one\n/* a /* nested; */ b */ SELECT 1 ;;\n\n  SELECT\n2 -- no;\n;SELECT 3";
        assert_eq!(statements(text), [(2, "SELECT 1"), (4, "SELECT\n2 -- no;"), (6, "SELECT 3")]);
        assert_eq!(statements(" -- nothing\n ; /* at all */"), []);
        assert_eq!(statements("SELECT 1;\r\nSELECT 2;\r\n"), [(1, "SELECT 1"), (2, "SELECT 2")]);
    }

    #[test]
    fn quoted_semicolons_end_nothing() {
        for text in [
            "SELECT 'a;b', 'it''s;', '\\'",
            r"SELECT E'a\';b\\', e'\\'';'",
            r#"SELECT "a;b""c;" FROM "Täble;""#,
            "SELECT $$a;b$$, $fn$ $$;$$ ' $fn$, $ü1$;$ü1$",
            "DO $x$ BEGIN EXECUTE $y$ SELECT 1; $y$; END $x$",
            "SELECT a$b$c, 1 FROM t$x",
            "PREPARE p AS SELECT $1, $2",
            "SELECT U&'d\\0061t;', B'01', type'x;'",
            "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2);)",
            "SELECT 1 /* ; */ -- ;\n + 2",
        ] {
            is_one(text);
        }
        assert_eq!(statements(r"SELECT type'\';SELECT 2").len(), 2);
    }

    #[test]
    fn a_body_in_sql_is_part_of_its_function() {
        let text = "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql\nBEGIN ATOMIC\n SELECT CASE WHEN a > 0 THEN (CASE a WHEN 1 \
                    THEN 2 END) ELSE 0 END;\n SELECT 1;\nEND";
        assert_eq!(statements(&format!("{text};\nSELECT 2;")), [(1, text), (6, "SELECT 2")]);
        // A transaction is none.
        assert_eq!(statements("BEGIN; SELECT 1; END;").len(), 3);
    }

    #[test]
    fn rows_follow_a_copy() {
        let text = "COPY public.\"T\" (a, b) FROM stdin;\n1\tit's; $$\n2\t\\N\n\\.\n\nSELECT 1;\ncopy t from stdin with csv;\n\\.\n";
        let items = split(text).unwrap();
        let [
            Item::Copy { statement, data, data_line },
            Item::Sql(after),
            Item::Copy { data: "", data_line: 8, .. },
        ] = &items[..]
        else {
            panic!("{items:?}")
        };
        assert_eq!(statement.text, "COPY public.\"T\" (a, b) FROM stdin");
        assert_eq!((*data, *data_line), ("1\tit's; $$\n2\t\\N\n", 2));
        assert_eq!((after.line, after.text), (6, "SELECT 1"));
        is_one("COPY t FROM '/tmp/stdin'");
    }

    #[test]
    fn commands_of_psql_are_told_apart() {
        let items = split("\\restrict aB3\n\\set ON_ERROR_STOP on\nSELECT 1;\n  \\q").unwrap();
        assert_eq!(items[0], Item::Meta { line: 1, command: "restrict", arguments: "aB3" });
        assert_eq!(items[1], Item::Meta { line: 2, command: "set", arguments: "ON_ERROR_STOP on" });
        assert_eq!(items[3], Item::Meta { line: 4, command: "q", arguments: "" });
        let error = split("\n\nSELECT 'x' \\gexec\n").unwrap_err();
        assert_eq!(error, Unreadable { line: 3, what: "\\gexec within a statement is not supported".into() });
    }

    #[test]
    fn what_does_not_end_is_named_where_it_begins() {
        for (text, line, what) in [
            ("SELECT 1;\nSELECT 'a;\n", 2, "string"),
            ("SELECT\n\"a;\n", 2, "quoted name"),
            ("\n\nDO $fn$ BEGIN; $$", 3, "string $fn$"),
            ("SELECT 1; /* /* */\n", 1, "comment"),
            ("SELECT E'\\", 1, "string"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text}: {error:?}");
        }
    }

    #[test]
    fn words_are_those_outside_of_parentheses() {
        let items = split("Create /* x */ SCHEMA IF not exists \"Auth\" (from stdin) x").unwrap();
        let Item::Sql(statement) = &items[0] else { panic!("{items:?}") };
        assert!(statement.begins(&["create", "schema"]));
        assert_eq!(statement.words, ["create", "schema", "if", "not", "exists", "\"Auth\"", "x"]);
    }
}
