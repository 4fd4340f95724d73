//! The figures of the demo's documentation: how much relevance lies inside the object's mask, and the README's picture.
//!
//! ```sh
//! cargo run --release -p relc-cli --example demo_figures
//! ```
//!
//! Prints the table of examples/demo/README.md and writes docs/images/demo.png.

use std::error::Error;
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::imageops::{FilterType, resize};
use ndarray::{ArrayView2, Axis};
use relc::preprocess::{Preprocess, load_picture};
use relc::{Compiler, Explainer, Preset, Seed, Targets};
use relc_viz::{ColorMap, Style, contact_sheet, heat_map, overlay};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let demo = root.join("examples/demo");
    let preprocess = Preprocess::load(&demo.join("preprocess.toml").to_string_lossy())?;
    let mut pictures: Vec<PathBuf> = std::fs::read_dir(demo.join("images"))?
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<_>>()?;
    pictures.sort();
    let presets = [Preset::DEFAULT, "conserve", "paper"];
    let explainers = presets
        .map(|name| Ok(Compiler::new(Preset::named(name)?).compile(demo.join("model.onnx"))?))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;

    println!("| picture | object's area | {} |", presets.map(|name| format!("`{name}` inside")).join(" | "));
    println!("|---|---{}|", "|---".repeat(presets.len()));
    let style = Style::new(ColorMap::Seismic);
    let mut sheet = Vec::new();
    let mut sums = vec![0.0; 1 + presets.len()];
    for picture in &pictures {
        let name = picture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mask = load_picture(&demo.join("masks").join(&name))?;
        let inside =
            |x: usize, y: usize| mask.as_luma8().is_some_and(|m| m.get_pixel(x as u32, y as u32).0[0] > 127);
        let explained = explainers.iter().map(|explainer| explain(explainer, &preprocess, picture));
        let explained = explained.collect::<Result<Vec<_>>>()?;
        let (seen, map) = explained.first().ok_or("there is a preset")?;
        let mut shares = vec![share(ndarray::Array2::ones(map.raw_dim()).view(), inside)];
        shares.extend(explained.iter().map(|(_, map)| share(map.view(), inside)));
        println!("| {name} | {} |", percent(shares.iter().copied()));
        sums.iter_mut().zip(shares).for_each(|(sum, s)| *sum += s);
        if sheet.len() < 4 {
            let side = style.min_side;
            let large = |p: &RgbImage| resize(p, side, side, FilterType::Nearest);
            sheet.push(vec![
                large(seen),
                heat_map(map.view(), &style)?,
                overlay(seen, map.view(), &style)?,
                large(&mask.to_rgb8()),
            ]);
        }
    }
    println!("| mean | {} |", percent(sums.iter().map(|s| s / pictures.len() as f64)));
    let sheet = contact_sheet(&sheet, 8)?;
    let half = resize(&sheet, sheet.width() / 2, sheet.height() / 2, FilterType::Triangle);
    half.save(root.join("docs/images/demo.png"))?;
    Ok(())
}

/// The picture as the network sees it and its map `f32[H,W]`, by the preset's own seed.
fn explain(
    explainer: &Explainer,
    preprocess: &Preprocess,
    picture: &Path,
) -> Result<(RgbImage, ndarray::Array2<f32>)> {
    let (layout, size) = explainer.picture_input().ok_or("the demo takes pictures")?;
    let prepared = preprocess.apply(&load_picture(picture)?, layout, size, 3)?;
    let input = prepared.values.insert_axis(Axis(0)).into_dyn();
    let seed = Seed::Named(explainer.preset().seed);
    let result = explainer.explain(input.view(), &seed, &Targets::Argmax)?;
    let map =
        result.explanations.first().and_then(|e| e.picture(0)).ok_or("the demo's input is a picture")?;
    Ok((prepared.picture, map.to_owned()))
}

/// The cells of a line of the table.
fn percent(shares: impl Iterator<Item = f64>) -> String {
    shares.map(|s| format!("{:.1} %", s * 100.0)).collect::<Vec<_>>().join(" | ")
}

/// The share of the map's positive relevance that lies inside the mask.
fn share(map: ArrayView2<'_, f32>, inside: impl Fn(usize, usize) -> bool) -> f64 {
    let positive = |v: &f32| f64::from(v.max(0.0));
    let total: f64 = map.iter().map(positive).sum();
    map.indexed_iter().filter(|((y, x), _)| inside(*x, *y)).map(|(_, v)| positive(v)).sum::<f64>() / total
}
