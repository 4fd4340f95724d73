//! How far the work is.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::table::is_utf8;

/// A bar for several inputs, or for a method of many runs.
pub fn progress_bar(total: usize, long: bool) -> ProgressBar {
    if total < 2 && !long {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} inputs, {pace} {msg}") {
        bar.set_style(style.with_key("pace", pace).progress_chars(if is_utf8() { "█░" } else { "#-" }));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How fast it goes, and how long it will take: known once the first inputs are done.
fn pace(state: &ProgressState, text: &mut dyn Write) {
    let _ = if state.pos() == 0 {
        write!(text, "{} so far", HumanDuration(state.elapsed()))
    } else {
        let (rate, left) = (state.per_sec(), HumanDuration(state.eta()));
        write!(text, "{rate:.2}/s, {left} left")
    };
}
