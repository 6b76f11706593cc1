//! A text that a regular expression matches, for the plain patterns that checks are made of.

/// The patterns that an expression, as PostgreSQL prints it, matches against.
pub(crate) fn patterns(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for operator in ["~ '", "~* '", "~ E'"] {
        for (at, _) in expression.match_indices(operator) {
            if expression[..at].ends_with('!') {
                continue;
            }
            let rest = &expression[at + operator.len()..];
            if let Some(end) = rest.find("'::text").or_else(|| rest.find('\'')) {
                found.push(rest[..end].replace("''", "'").replace("\\\\", "\\"));
            }
        }
    }
    found
}

/// A text that the pattern matches, made of the letters of `word` where it leaves a choice; none where the pattern has
/// more in it than this understands.
pub(crate) fn sample(pattern: &str, word: &str) -> Option<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut state = State { chars: &chars, at: 0, word: word.chars().collect(), used: 0 };
    let text = state.alternatives(0)?;
    (state.at == chars.len()).then_some(text)
}

struct State<'a> {
    chars: &'a [char],
    at: usize,
    word: Vec<char>,
    used: usize,
}

impl State<'_> {
    /// The first alternative; the others are read and dropped.
    fn alternatives(&mut self, depth: usize) -> Option<String> {
        let first = self.sequence(depth)?;
        while self.chars.get(self.at) == Some(&'|') {
            self.at += 1;
            self.sequence(depth)?;
        }
        Some(first)
    }

    fn sequence(&mut self, depth: usize) -> Option<String> {
        let mut text = String::new();
        while let Some(&c) = self.chars.get(self.at) {
            if c == '|' || (c == ')' && depth > 0) {
                break;
            }
            let start = self.at;
            let once = self.atom(depth)?;
            let end = self.at;
            let (least, most) = self.repeat()?;
            // As many as the word gives, so that two rows differ.
            let times = if most > 1 { least.max(most.min(8)) } else { most };
            let after = self.at;
            if times > 0 {
                text.push_str(&once);
            }
            for _ in 1..times {
                self.at = start;
                text.push_str(&self.atom(depth)?);
                debug_assert_eq!(self.at, end);
            }
            self.at = after;
        }
        Some(text)
    }

    fn atom(&mut self, depth: usize) -> Option<String> {
        let c = *self.chars.get(self.at)?;
        self.at += 1;
        match c {
            '^' | '$' => Some(String::new()),
            '.' => self.pick(&|_| true),
            '(' => {
                if self.chars.get(self.at) == Some(&'?') {
                    if self.chars.get(self.at + 1) != Some(&':') {
                        return None;
                    }
                    self.at += 2;
                }
                let inner = self.alternatives(depth + 1)?;
                (self.chars.get(self.at) == Some(&')')).then(|| self.at += 1)?;
                Some(inner)
            }
            '[' => self.class(),
            '\\' => {
                let escaped = *self.chars.get(self.at)?;
                self.at += 1;
                match escaped {
                    'd' => self.pick(&|c| c.is_ascii_digit()),
                    'w' => self.pick(&|c| c.is_ascii_alphanumeric()),
                    's' => Some(" ".into()),
                    'S' => self.pick(&|c| c.is_ascii_alphanumeric()),
                    'm' | 'M' | 'y' | 'A' | 'Z' => Some(String::new()),
                    c if c.is_alphanumeric() => None,
                    c => Some(c.into()),
                }
            }
            '*' | '+' | '?' | '{' => None,
            c => Some(c.into()),
        }
    }

    fn class(&mut self) -> Option<String> {
        let negated = self.chars.get(self.at) == Some(&'^');
        if negated {
            self.at += 1;
        }
        let mut ranges: Vec<(char, char)> = Vec::new();
        let start = self.at;
        while let Some(&c) = self.chars.get(self.at) {
            if c == ']' && self.at > start {
                self.at += 1;
                let inside = |c: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                return self.pick(&|c| inside(c) != negated);
            }
            if c == '[' && self.chars.get(self.at + 1) == Some(&':') {
                let rest: String = self.chars[self.at + 2..].iter().take_while(|c| **c != ':').collect();
                self.at += rest.chars().count() + 4;
                ranges.extend(match rest.as_str() {
                    "alpha" => vec![('a', 'z'), ('A', 'Z')],
                    "lower" => vec![('a', 'z')],
                    "upper" => vec![('A', 'Z')],
                    "digit" => vec![('0', '9')],
                    "alnum" => vec![('a', 'z'), ('A', 'Z'), ('0', '9')],
                    "xdigit" => vec![('0', '9'), ('a', 'f')],
                    "space" => vec![(' ', ' '), ('\t', '\r')],
                    _ => return None,
                });
                continue;
            }
            let mut low = c;
            self.at += 1;
            if c == '\\' {
                low = *self.chars.get(self.at)?;
                self.at += 1;
                match low {
                    'd' => {
                        ranges.push(('0', '9'));
                        continue;
                    }
                    'w' => {
                        ranges.extend([('a', 'z'), ('A', 'Z'), ('0', '9')]);
                        continue;
                    }
                    's' => {
                        ranges.extend([(' ', ' '), ('\t', '\r')]);
                        continue;
                    }
                    _ => {}
                }
            }
            let is_range = self.chars.get(self.at) == Some(&'-')
                && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            if is_range {
                ranges.push((low, *self.chars.get(self.at + 1)?));
                self.at += 2;
            } else {
                ranges.push((low, low));
            }
        }
        None
    }

    /// The next letter of the word that fits, else the first letter at all that does.
    fn pick(&mut self, fits: &dyn Fn(char) -> bool) -> Option<String> {
        for step in 0..self.word.len() {
            let c = self.word[(self.used + step) % self.word.len()];
            if fits(c) {
                self.used += step + 1;
                return Some(c.into());
            }
        }
        let others = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("-_.@/ #+:".chars());
        others.into_iter().find(|c| fits(*c)).map(String::from)
    }

    /// How often the atom before is repeated: at least, and at most (capped).
    fn repeat(&mut self) -> Option<(usize, usize)> {
        let range = match self.chars.get(self.at) {
            Some('*') => (0, 8),
            Some('+') => (1, 8),
            Some('?') => (0, 1),
            Some('{') => {
                let close = self.at + self.chars[self.at..].iter().position(|c| *c == '}')?;
                let inner: String = self.chars[self.at + 1..close].iter().collect();
                self.at = close;
                let (low, high) = inner.split_once(',').unwrap_or((&inner, &inner));
                let low: usize = low.trim().parse().ok()?;
                (low, if high.trim().is_empty() { low.max(8) } else { high.trim().parse().ok()? })
            }
            _ => return Some((1, 1)),
        };
        self.at += 1;
        if self.chars.get(self.at) == Some(&'?') {
            self.at += 1;
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_match_the_patterns_that_checks_use() {
        for (pattern, expected) in [
            ("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "v1b2c3d4e5"),
            ("^[A-Z]{2}$", "AA"),
            ("^\\d{3}-\\d{4}$", "123-4512"),
            ("^(draft|live)$", "draft"),
            ("^#[[:xdigit:]]{6}$", "#1b2c3d"),
            ("^[^@ ]+@[^@ ]+\\.[a-z]{2,}$", "v1b2c3d4@e5v1b2c3.dedbcdev"),
        ] {
            let text = sample(pattern, "v1b2c3d4e5");
            assert_eq!(text.as_deref().map(str::len), Some(expected.len()), "{pattern}: {text:?}");
        }
        assert_eq!(sample("^(?=x)y$", "a"), None);
        assert_eq!(patterns("CHECK ((code ~ '^[A-Z]{3}$'::text))"), ["^[A-Z]{3}$"]);
    }
}
