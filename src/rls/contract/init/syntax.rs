//! Takes PostgreSQL's expressions and functions' bodies apart, as far as a guess needs it: names, texts, operators and
//! what stands in parentheses.

use std::collections::BTreeMap;

/// How many functions deep a call is followed.
const DEPTH: usize = 6;
/// How many parentheses deep a text is read.
const NESTING: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A name in its parts, or a number.
    Name(Vec<String>),
    Text(String),
    /// An operator, a comma, or a keyword in capitals.
    Sign(String),
    Group(Vec<Node>),
    /// A call, with the statements of the function where they are known.
    Call {
        name: Vec<String>,
        arguments: Vec<Node>,
        body: Vec<Vec<Node>>,
    },
}

const KEYWORDS: [&str; 51] = [
    "AND",
    "AS",
    "ATOMIC",
    "BEGIN",
    "BY",
    "CASE",
    "CROSS",
    "DECLARE",
    "DISTINCT",
    "ELSE",
    "ELSIF",
    "END",
    "EXCEPT",
    "EXISTS",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOOP",
    "NATURAL",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "PERFORM",
    "QUERY",
    "RETURN",
    "RIGHT",
    "SELECT",
    "THEN",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

impl Node {
    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self, Self::Sign(text) if text == sign)
    }
}

/// A function: its schema and its statements.
type Function = (String, Vec<Vec<Node>>);

/// The functions of the platform, by name.
#[derive(Debug, Default)]
pub(super) struct Library(BTreeMap<String, Vec<Function>>);

impl Library {
    pub(super) fn add(&mut self, schema: &str, name: &str, body: &str) {
        let statements = parse(body).split(|node| node.is(";")).map(<[Node]>::to_vec).collect();
        self.0.entry(name.to_owned()).or_default().push((schema.to_owned(), statements));
    }

    /// An expression, with the statements of the functions that it calls.
    pub(super) fn expression(&self, text: &str) -> Vec<Node> {
        self.followed(&parse(text), &mut Vec::new())
    }

    fn followed(&self, nodes: &[Node], stack: &mut Vec<Vec<String>>) -> Vec<Node> {
        nodes.iter().map(|node| self.one(node, stack)).collect()
    }

    fn one(&self, node: &Node, stack: &mut Vec<Vec<String>>) -> Node {
        match node {
            Node::Group(inner) => Node::Group(self.followed(inner, stack)),
            Node::Call { name, arguments, .. } => {
                let arguments = self.followed(arguments, stack);
                let mut body = Vec::new();
                if stack.len() < DEPTH && !stack.contains(name) {
                    stack.push(name.clone());
                    for statement in self.statements(name) {
                        body.push(self.followed(statement, stack));
                    }
                    stack.pop();
                }
                Node::Call { name: name.clone(), arguments, body }
            }
            other => other.clone(),
        }
    }

    /// The statements of the functions of that name.
    fn statements(&self, name: &[String]) -> impl Iterator<Item = &Vec<Node>> {
        let known = name.last().and_then(|last| self.0.get(last));
        let schema = name.iter().rev().nth(1);
        let fits = move |of: &&Function| schema.is_none_or(|schema| *schema == of.0);
        known.into_iter().flatten().filter(fits).flat_map(|(_, statements)| statements)
    }
}

fn parse(text: &str) -> Vec<Node> {
    Parser { text: text.chars().collect(), at: 0, depth: 0 }.sequence()
}

struct Parser {
    text: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn sequence(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek(0) {
            match c {
                c if c.is_whitespace() => self.at += 1,
                '-' if self.peek(1) == Some('-') => self.skip_past("\n"),
                '/' if self.peek(1) == Some('*') => self.skip_past("*/"),
                '\'' => nodes.push(Node::Text(self.text(false))),
                'e' | 'E' if self.peek(1) == Some('\'') => {
                    self.at += 1;
                    nodes.push(Node::Text(self.text(true)));
                }
                '$' if self.dollars() => {}
                '(' | '[' => self.open(c, &mut nodes),
                ')' | ']' => {
                    self.at += 1;
                    if self.depth > 0 {
                        return nodes;
                    }
                }
                c if c.is_alphanumeric() || matches!(c, '_' | '"' | '$') => nodes.push(self.name()),
                ',' | ';' => {
                    self.at += 1;
                    nodes.push(Node::Sign(c.into()));
                }
                _ => nodes.push(self.operator()),
            }
        }
        nodes
    }

    fn open(&mut self, c: char, nodes: &mut Vec<Node>) {
        self.at += 1;
        // Deeper than anybody writes: read on as if nothing were opened.
        if self.depth >= NESTING {
            return;
        }
        self.depth += 1;
        let inner = self.sequence();
        self.depth -= 1;
        if c == '[' {
            nodes.extend([Node::Sign("[]".into()), Node::Group(inner)]);
        } else if let Some(Node::Name(name)) = nodes.pop_if(|last| matches!(last, Node::Name(_))) {
            nodes.push(Node::Call { name, arguments: inner, body: Vec::new() });
        } else {
            nodes.push(Node::Group(inner));
        }
    }

    fn skip_past(&mut self, end: &str) {
        let end: Vec<char> = end.chars().collect();
        while self.at < self.text.len() && !self.text[self.at..].starts_with(&end) {
            self.at += 1;
        }
        self.at += end.len();
    }

    /// Skips the dollars around a text: what is in it is read as well.
    fn dollars(&mut self) -> bool {
        let word = |c: &&char| c.is_alphanumeric() || **c == '_';
        let tag = self.text[self.at + 1..].iter().take_while(word).count();
        let found = self.peek(tag + 1) == Some('$') && !self.peek(1).is_some_and(char::is_numeric);
        self.at += if found { tag + 2 } else { 0 };
        found
    }

    fn text(&mut self, escapes: bool) -> String {
        let mut text = String::new();
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\'' if self.peek(0) == Some('\'') => self.at += 1,
                '\'' => break,
                '\\' if escapes => {
                    text.extend(self.peek(0));
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            text.push(c);
        }
        text
    }

    fn name(&mut self) -> Node {
        let mut parts = Vec::new();
        let mut quoted = false;
        loop {
            let mut part = String::new();
            if self.peek(0) == Some('"') {
                quoted = true;
                self.at += 1;
                while let Some(c) = self.peek(0) {
                    self.at += 1;
                    if c == '"' {
                        if self.peek(0) != Some('"') {
                            break;
                        }
                        self.at += 1;
                    }
                    part.push(c);
                }
            } else {
                while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                    part.extend(c.to_lowercase());
                    self.at += 1;
                }
            }
            parts.push(part);
            if self.peek(0) != Some('.') {
                break;
            }
            self.at += 1;
        }
        let upper = parts[0].to_uppercase();
        if parts.len() == 1 && !quoted && KEYWORDS.contains(&upper.as_str()) {
            return Node::Sign(upper);
        }
        Node::Name(parts)
    }

    fn operator(&mut self) -> Node {
        let from = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(|c| "+*/<>=~!@#%^&|?:-".contains(c))
            && !self.text[from..=self.at].ends_with(&['-', '-'])
        {
            self.at += 1;
        }
        Node::Sign(self.text[from..self.at].iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_taken_apart() {
        let nodes = parse("(\"Tenant Key\" = (NULLIF(current_setting('a''b'::text, true), ''::text))::uuid)");
        let [Node::Group(inner)] = nodes.as_slice() else { panic!("{nodes:?}") };
        assert_eq!(inner[0], Node::Name(vec!["Tenant Key".into()]));
        assert!(inner[1].is("="), "{inner:?}");
        let Node::Group(value) = &inner[2] else { panic!("{inner:?}") };
        let Node::Call { name, arguments, .. } = &value[0] else { panic!("{value:?}") };
        assert_eq!(name, &["nullif"]);
        let Node::Call { arguments, .. } = &arguments[0] else { panic!("{arguments:?}") };
        assert_eq!(arguments[0], Node::Text("a'b".into()));
    }

    #[test]
    fn functions_are_followed_and_ends_found() {
        let mut library = Library::default();
        library.add("app", "tenant", "-- it's\n SELECT $q$ x $q$; /* ' */ RETURN app.tenant();");
        library.add("other", "tenant", "SELECT 1");
        let nodes = library.expression("t=app.tenant()");
        let Node::Call { body, .. } = &nodes[2] else { panic!("{nodes:?}") };
        assert_eq!(body.len(), 3, "{body:?}");
        let Node::Call { body, .. } = &body[1][1] else { panic!("{body:?}") };
        assert!(body.is_empty(), "a function that calls itself ends");
    }

    #[test]
    fn nothing_makes_it_fail() {
        for text in
            ["'", "\"", "$", "$x", ")", "((((", "e'\\", "/*", "--", "a.", "a.b.", "->>", "]]", "\u{0}"]
        {
            parse(text);
        }
        parse(&"(".repeat(100_000));
    }
}
