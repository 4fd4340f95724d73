//! The page of each rule in docs/rules, with a picture of what it does on the demo model.
//!
//! ```sh
//! cargo run --release -p relc-cli --example rule_pages
//! ```

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use image::imageops::{FilterType, resize};
use ndarray::Axis;
use relc::preprocess::{Preprocess, load_picture};
use relc::{Compiler, Preset, RULES, Seed, Targets};
use relc_viz::{ColorMap, Style, contact_sheet, heat_map, overlay};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Height and width of each panel.
const SIDE: u32 = 64;

/// A preset that uses the rule, for its page and its picture.
fn example(rule: &str) -> Result<String> {
    let on_conv =
        |line: &str| format!("extends = \"conserve\"\nseed = \"onehot\"\n\n[[rule]]\nop = \"Conv\"\n{line}");
    let first = |line: &str| on_conv(&format!("position = \"first\"\n{line}"));
    Ok(match rule {
        "epsilon" => on_conv("rule = \"epsilon\"\nsigned_eps = 1e-2\nbias = \"include\"\n"),
        "zplus" => on_conv("rule = \"zplus\"\ninput = \"signed\"\nfallback = \"flat\"\n"),
        "alpha_beta" => on_conv("rule = \"alpha_beta\"\nalpha = 2.0\nbeta = 1.0\nsigned_eps = 1e-6\n"),
        "gamma" => "extends = \"epsilon_gamma_box\"    # gamma 0.25 on convolutions, zbox on the first\n".into(),
        "zbox" => first("rule = \"zbox\"          # its bounds are those of the preprocessing\nfallback = \"flat\"\n"),
        "wsquare" => first("rule = \"wsquare\"\nfallback = \"flat\"\n"),
        "flat" => first("rule = \"flat\"\nfallback = \"flat\"\n"),
        "norm" => "extends = \"conserve\"\nseed = \"onehot\"\nsplit = \"signed\"       # the norm rule on residual \
                   sums\n\n[[rule]]\nop = [\"AveragePool\", \"GlobalAveragePool\"]\nrule = \"norm\"\nsigned_eps = 1e-6\n"
            .into(),
        "gradient" => "extends = \"gradient\"\n".into(),
        "relu_guided" => "extends = \"guided_backprop\"\n".into(),
        "relu_deconv" => "extends = \"deconvnet\"\n".into(),
        "winner" => "extends = \"conserve\"\n\n[[rule]]\nop = \"MaxPool\"\nrule = \"winner\"\n".into(),
        "average" => "extends = \"conserve\"\n\n[[rule]]\nop = \"MaxPool\"\nrule = \"average\"\nwindow = \"own\"\n\
                      input = \"signed\"\nfallback = \"flat\"\n"
            .into(),
        "pass" => "extends = \"conserve\"\n\n[[rule]]\nop = [\"Relu\", \"BatchNormalization\"]\nrule = \"pass\"\n".into(),
        "crop" => "extends = \"conserve\"\n\n[[rule]]\nop = \"Pad\"\nrule = \"crop\"\nspread = true\n".into(),
        "split" => "extends = \"conserve\"\nsplit = \"half\"\n".into(),
        other => return Err(format!("the rule {other} has no example here").into()),
    })
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let demo = root.join("examples/demo");
    let folder = root.join("docs/rules");
    std::fs::create_dir_all(&folder)?;
    let preprocess = Preprocess::load(&demo.join("preprocess.toml").to_string_lossy())?;
    let picture = load_picture(&demo.join("images/03_star.png"))?;
    let mut index = String::from(
        "# The rules\n\nOne page per rule, written by `cargo run --release -p relc-cli --example rule_pages`: formula, \
         source, domain, what it promises, and a picture: the demo model's star under a preset that uses the rule.\n\n",
    );
    for rule in RULES {
        let preset_text = example(rule.name)?;
        let preset = Preset::parse(&preset_text, rule.name)?.with_bounds(preprocess.bounds());
        let explainer = Compiler::new(preset).compile(demo.join("model.onnx"))?;
        let (layout, size) = explainer.picture_input().ok_or("the demo takes pictures")?;
        let prepared = preprocess.apply(&picture, layout, size, 3)?;
        let input = prepared.values.insert_axis(Axis(0)).into_dyn();
        let seed = Seed::Named(explainer.preset().seed);
        let result = explainer.explain(input.view(), &seed, &Targets::Argmax)?;
        let map = result.explanations.first().and_then(|e| e.picture(0)).ok_or("there is a map")?;
        let style = Style::new(ColorMap::Seismic);
        let panels = [
            resize(&prepared.picture, SIDE, SIDE, FilterType::Nearest),
            heat_map(map, &style)?,
            overlay(&prepared.picture, map, &style)?,
        ];
        let panels = panels.iter().map(|p| resize(p, SIDE, SIDE, FilterType::Triangle)).collect();
        contact_sheet(&[panels], 4)?.save(folder.join(format!("{}.png", rule.name)))?;
        std::fs::write(folder.join(format!("{}.md", rule.name)), page(&rule, &preset_text)?)?;
        writeln!(index, "- [`{0}`]({0}.md): `{1}`", rule.name, rule.formula)?;
    }
    std::fs::write(folder.join("README.md"), index)?;
    Ok(())
}

fn page(rule: &relc::Description, preset: &str) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "# `{}`\n\n```text\n{}\n```\n", rule.name, rule.formula)?;
    writeln!(page, "- Source: {}.", rule.citation)?;
    writeln!(page, "- Domain: {}.", rule.domain)?;
    writeln!(page, "- Promise: {}.", rule.contract)?;
    writeln!(page, "- At 0/0: {}.\n", rule.at_zero)?;
    writeln!(page, "A preset that uses it:\n\n```toml\n{}```\n", preset)?;
    writeln!(page, "![The picture, the map, and both]({}.png)", rule.name)?;
    Ok(page)
}
