//! Figures as blocks: bars and sparklines.

/// Cells of a bar.
const CELLS: usize = 10;
const FULL: char = '█';
const EMPTY: char = '░';
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for a share in percent; something that is more than nothing is seen, and only all is all of it.
pub(crate) fn bar(percent: f64) -> String {
    let share = (percent / 100.0).clamp(0.0, 1.0) * CELLS as f64;
    let full = match share {
        share if share <= 0.0 => 0,
        share => (share.floor() as usize).max(1),
    };
    std::iter::repeat_n(FULL, full).chain(std::iter::repeat_n(EMPTY, CELLS - full)).collect()
}

/// Colours the bars in a text: red where the limit is reached, yellow from 80 % on, green below.
pub(super) fn colour_bars(text: &str) -> String {
    let mut painted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find([FULL, EMPTY]) {
        let (before, found) = rest.split_at(start);
        let end = found.find(|c| c != FULL && c != EMPTY).unwrap_or(found.len());
        let (bar, after) = found.split_at(end);
        let (full, cells) = (bar.matches(FULL).count(), bar.chars().count());
        let colour = match full {
            full if full == cells => 31,
            full if full * 10 >= cells * 8 => 33,
            _ => 32,
        };
        painted.push_str(before);
        painted.push_str(&format!("\u{1b}[{colour}m{bar}\u{1b}[0m"));
        rest = after;
    }
    painted.push_str(rest);
    painted
}

/// A line of blocks, one a figure, from the least (or nothing, if that is less) to the most.
pub(crate) fn sparkline(figures: &[i64]) -> String {
    let low = figures.iter().copied().min().unwrap_or(0).min(0) as f64;
    let high = figures.iter().copied().max().unwrap_or(0).max(0) as f64;
    let top = (LEVELS.len() - 1) as f64;
    figures
        .iter()
        .map(|figure| {
            let level = if high > low { (*figure as f64 - low) / (high - low) * top } else { 0.0 };
            LEVELS[(level.round() as usize).min(LEVELS.len() - 1)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_only_where_all_is_used() {
        assert_eq!(bar(0.0), "░".repeat(10));
        assert_eq!(bar(0.1), format!("█{}", "░".repeat(9)));
        assert_eq!(bar(55.0), format!("{}{}", "█".repeat(5), "░".repeat(5)));
        assert_eq!(bar(99.9), format!("{}░", "█".repeat(9)));
        assert_eq!(bar(100.0), "█".repeat(10));
        assert_eq!(bar(250.0), "█".repeat(10));
    }

    #[test]
    fn the_colour_of_a_bar_says_how_near_the_limit_is() {
        for (percent, colour) in [(0.0, 32), (79.9, 32), (80.0, 33), (99.9, 33), (100.0, 31)] {
            let text = format!("│ {} │", bar(percent));
            assert_eq!(
                colour_bars(&text),
                format!("│ \u{1b}[{colour}m{}\u{1b}[0m │", bar(percent)),
                "{percent}"
            );
        }
        assert_eq!(colour_bars("no bar"), "no bar");
    }

    #[test]
    fn a_sparkline_goes_from_nothing_to_the_most() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
        assert_eq!(sparkline(&[7, 0, 3, 4]), "█▁▄▅");
        assert_eq!(sparkline(&[5, 5]), "██");
        assert_eq!(sparkline(&[-7, 0]), "▁█");
        assert_eq!(sparkline(&[i64::MIN, i64::MAX]), "▁█");
    }
}
