//! How far the work is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for several inputs, or for a method of many runs.
pub fn progress_bar(total: usize, long: bool) -> ProgressBar {
    if total < 2 && !long {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    let template = "{bar:32} {pos}/{len} inputs, {per_sec}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
