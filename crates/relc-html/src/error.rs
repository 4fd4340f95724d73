//! Errors of pages.

use relc_viz::VizError;

/// A page that can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// A template failed.
    #[error("the page can't be written: {0}")]
    Template(#[from] askama::Error),
    /// Data that is no JSON.
    #[error("the page's data can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A picture can't be encoded.
    #[error("a picture can't be encoded: {0}")]
    Picture(#[from] image::ImageError),
    /// A picture or chart can't be drawn.
    #[error(transparent)]
    Drawing(#[from] VizError),
    /// A chart can't be drawn.
    #[error("can't draw a chart: {0}")]
    Chart(String),
}
