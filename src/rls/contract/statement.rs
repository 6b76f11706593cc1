//! Reads the statements that set a context: which setting gets which value.

/// The setting that a statement sets, and the value.
///
/// `SET [LOCAL|SESSION] name {=|TO} value` and `SELECT set_config('name', 'value', true)` are all that is understood:
/// the probes set the same settings by themselves, for other tenants as well.
pub(super) fn assignment(statement: &str) -> Result<(String, String), String> {
    let refuse = |why: &str| {
        format!(
            "context.set: {statement:?} {why}; it takes SET LOCAL name = 'value' and SELECT set_config('name', 'value', \
             true)"
        )
    };
    let tokens =
        tokens(statement).ok_or_else(|| refuse("has a quote without an end, or an E'' or $$ string"))?;
    let tokens = match tokens.as_slice() {
        [rest @ .., Token::Mark(';')] => rest,
        all => all,
    };
    let (name, value) = match tokens {
        [first, rest @ ..] if first.is_word("set") => set(rest),
        [first, rest @ ..] if first.is_word("select") => set_config(rest),
        _ => None,
    }
    .ok_or_else(|| refuse("is not understood"))?;
    // The settings of PostgreSQL itself have no dot; who acts is said by app_roles.
    if !name.contains('.') {
        return Err(refuse(&format!("sets {name}, which is no setting of the platform's own")));
    }
    Ok((name, value))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Mark(char),
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text.eq_ignore_ascii_case(word))
    }
}

fn set(tokens: &[Token]) -> Option<(String, String)> {
    let tokens = match tokens {
        [first, rest @ ..] if first.is_word("local") || first.is_word("session") => rest,
        all => all,
    };
    let at = tokens.iter().position(|token| *token == Token::Mark('=') || token.is_word("to"))?;
    let (name, value) = (tokens.get(..at)?, tokens.get(at + 1..)?);
    let mut parts = String::new();
    for token in name {
        match token {
            Token::Word(text) => parts.push_str(&text.to_lowercase()),
            Token::Quoted(text) => parts.push_str(text),
            _ => return None,
        }
    }
    match value {
        [Token::Text(value) | Token::Word(value)] => Some((parts, value.clone())),
        _ => None,
    }
}

fn set_config(tokens: &[Token]) -> Option<(String, String)> {
    let [Token::Word(function), Token::Mark('('), rest @ .., Token::Mark(')')] = tokens else { return None };
    if !["set_config", "pg_catalog.set_config"].contains(&function.to_lowercase().as_str()) {
        return None;
    }
    let casts = |token: &&Token| !matches!(token, Token::Word(word) if word == "::text");
    let rest: Vec<&Token> = rest.iter().filter(casts).collect();
    match rest.as_slice() {
        [Token::Text(name), Token::Mark(','), Token::Text(value), Token::Mark(','), Token::Word(local)]
            if ["true", "false"].contains(&local.to_lowercase().as_str()) =>
        {
            Some((name.to_lowercase(), value.clone()))
        }
        _ => None,
    }
}

fn tokens(statement: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut chars = statement.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            c if c.is_whitespace() => {
                chars.next();
            }
            '\'' | '"' => {
                chars.next();
                let mut text = String::new();
                loop {
                    let next = chars.next()?;
                    if next == c && chars.next_if_eq(&c).is_none() {
                        break;
                    }
                    text.push(next);
                }
                found.push(if c == '"' { Token::Quoted(text) } else { Token::Text(text) });
            }
            '(' | ')' | ',' | ';' | '=' => {
                chars.next();
                found.push(Token::Mark(c));
            }
            _ => {
                let mut word = String::new();
                while let Some(next) =
                    chars.next_if(|next| !next.is_whitespace() && !"'\"(),;=".contains(*next))
                {
                    word.push(next);
                }
                // A string with escapes, or in dollars: not as plain as it looks.
                let is_escaped = ["e", "u&", "b", "x"].contains(&word.to_lowercase().as_str());
                if (chars.peek() == Some(&'\'') && is_escaped) || word.contains('$') {
                    return None;
                }
                found.push(Token::Word(word));
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ways_to_set_a_context_are_read() {
        for (statement, name, value) in [
            ("SET LOCAL app.current_tenant_id = '{tenant}'", "app.current_tenant_id", "{tenant}"),
            ("set app.tenant to '{tenant}';", "app.tenant", "{tenant}"),
            ("SET SESSION \"app\".\"Tenant\" TO {tenant}", "app.Tenant", "{tenant}"),
            ("SELECT set_config('app.tenant', '{tenant}', true)", "app.tenant", "{tenant}"),
            (
                "select pg_catalog.set_config('request.jwt.claims'::text, '{\"sub\": \"{user}\", \"it''s\": 1}' , TRUE) ;",
                "request.jwt.claims",
                "{\"sub\": \"{user}\", \"it's\": 1}",
            ),
        ] {
            assert_eq!(assignment(statement), Ok((name.into(), value.into())), "{statement}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for statement in [
            "",
            "SET ROLE app",
            "SET LOCAL role = 'app'",
            "SET search_path = a, b",
            "SET LOCAL row_security = off",
            "SET LOCAL app.tenant = '{tenant}'; DROP TABLE x",
            "SET LOCAL app.tenant = '{tenant}",
            "SET LOCAL app.tenant = E'\\'{tenant}'",
            "SELECT set_config('app.tenant', $${tenant}$$, true)",
            "SELECT set_config('app.tenant', '{tenant}', true), pg_sleep(1)",
            "SELECT set_config('app.tenant', '{tenant}' || 'x', true)",
            "SELECT app.enter('{tenant}')",
            "INSERT INTO sessions VALUES ('{tenant}')",
        ] {
            let message = assignment(statement).expect_err(statement);
            assert!(message.starts_with("context.set: ") && message.contains("set_config"), "{message}");
        }
    }
}
