//! Tables: boxed and fitted to the width of a terminal, plain columns in a pipe.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::View;

/// The width that a table is fitted to where the terminal does not tell its own.
const WIDTH: u16 = 100;

pub(super) fn render(view: &View, terminal: bool) -> String {
    match view {
        View::Text(text) => text.clone(),
        View::List { headers, rows } if terminal => {
            let mut table = boxed();
            table.set_header(headers.iter().copied());
            table.add_rows(rows.iter().map(|row| row.iter().map(|cell| Cell::new(printable(cell)))));
            format!("{table}\n")
        }
        View::Record(fields) if terminal => {
            let mut table = boxed();
            for (label, value) in fields {
                table.add_row([Cell::new(label), Cell::new(printable(value))]);
            }
            format!("{table}\n")
        }
        View::List { headers, rows } => {
            let header = headers.iter().map(|h| (*h).to_owned()).collect();
            columns(
                std::iter::once(header)
                    .chain(rows.iter().map(|row| row.iter().map(|c| printable(c)).collect())),
            )
        }
        View::Record(fields) => {
            columns(fields.iter().map(|(label, value)| vec![(*label).to_owned(), printable(value)]))
        }
    }
}

fn boxed() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0));
    table
}

/// Control characters in data must not reach the terminal as commands.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Columns two spaces apart, nothing cut off.
fn columns(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_plain_columns_in_full() {
        let view = View::List {
            headers: vec!["SLUG", "NAME"],
            rows: vec![vec!["a".into(), "x".repeat(300)], vec!["long-slug".into(), "\u{1b}[31mred".into()]],
        };
        let text = render(&view, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "SLUG       NAME");
        assert!(lines[1].ends_with(&"x".repeat(300)));
        assert!(!text.contains('\u{1b}') && !text.contains('│'));
    }

    #[test]
    fn a_terminal_gets_a_box() {
        let view = View::Record(vec![("SLUG", "a".into())]);
        assert!(render(&view, true).contains('│'));
    }
}
