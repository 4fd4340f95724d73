//! Tables that fit where they are printed.

use std::env;
use std::fmt;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Drawn, Width, presets};

use crate::print::escaped;

/// The least width of a column of text that is still readable.
const READABLE: usize = 12;

/// Rows under a header; the columns from some one on hold numbers.
pub struct Table {
    header: Vec<String>,
    numbers_from: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table; the columns from `numbers_from` on are aligned to the right and never wrapped.
    pub fn new(header: &[&str], numbers_from: usize) -> Table {
        Table { header: header.iter().map(|h| h.to_string()).collect(), numbers_from, rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| escaped(cell.as_ref()).into_owned()).collect());
    }

    fn drawn(&self) -> Drawn {
        let mut table = Drawn::new();
        let style = if is_utf8() { presets::UTF8_BORDERS_ONLY } else { presets::ASCII_BORDERS_ONLY };
        table.load_style(style).set_header(&self.header);
        for (i, column) in table.column_iter_mut().enumerate() {
            if i >= self.numbers_from {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.rows {
            table.add_row(row);
        }
        table
    }

    /// The table in so many columns of characters: as it is, with its text wrapped, or each row as a list.
    fn fitted(&self, room: Option<usize>) -> String {
        let mut table = self.drawn();
        table.set_content_arrangement(ContentArrangement::Disabled);
        let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
        // A space at both sides of each cell, and the borders.
        let frame = 2 * natural.len() + 2;
        let Some(room) = room.filter(|room| natural.iter().sum::<usize>() + frame > *room) else {
            return table.to_string();
        };
        let least =
            |(i, width): (usize, &usize)| if i < self.numbers_from { READABLE.min(*width) } else { *width };
        if natural.iter().enumerate().map(least).sum::<usize>() + frame > room {
            return self.listed();
        }
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(room as u16);
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_constraint(if i < self.numbers_from {
                ColumnConstraint::LowerBoundary(Width::Fixed(READABLE.min(natural[i]) as u16 + 2))
            } else {
                ColumnConstraint::ContentWidth
            });
        }
        table.to_string()
    }

    fn listed(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (i, (name, cell)) in self.header.iter().zip(row).enumerate() {
                text.push_str(&format!("{}{name}: {cell}\n", if i == 0 { "" } else { "  " }));
            }
        }
        text.trim_end().to_string()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted(room()))
    }
}

/// The width to keep to: what `COLUMNS` says, or that of the terminal; a file or a pipe has none.
fn room() -> Option<usize> {
    let said = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| Drawn::new().width()).map(usize::from)
}

/// Whether the locale writes UTF-8, as POSIX finds it out: the first of these variables that says something.
pub fn is_utf8() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| env::var(name).ok());
    match said.filter(|value| !value.is_empty()).take(1).next() {
        Some(locale) => {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        }
        None => !cfg!(unix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["node", "op", "lost", "spread"], 2);
        table.add_row(["/layer1/layer1.0/conv1/Conv_with_a_long_name", "Conv", "1.234e-5", "12.5 %"]);
        table.add_row(["a\x1bb\nc", "Add", "0", "0"]);
        table
    }

    #[test]
    fn a_narrow_table_wraps_text_and_a_narrower_one_is_a_list() {
        let width = |text: &str| text.lines().map(|l| l.chars().count()).max().unwrap_or(0);
        let wide = table().fitted(None);
        assert!(width(&wide) > 60 && wide.contains("a\\u{1b}b\\nc"), "{wide}");
        assert_eq!(table().fitted(Some(200)), wide);
        let narrow = table().fitted(Some(50));
        assert!(width(&narrow) <= 50 && narrow.contains("1.234e-5"), "{narrow}");
        let list = table().fitted(Some(30));
        assert!(list.contains("\n  lost: 1.234e-5\n"), "{list}");
    }
}
