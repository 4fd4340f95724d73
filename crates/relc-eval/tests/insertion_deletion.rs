//! Insertion and deletion on the demo model, against curves that NumPy and ONNX Runtime computed from the protocol's
//! text (`tools/insertion_deletion.py`).

use std::path::{Path, PathBuf};

use relc::preprocess::{Layout, Preprocess, load_picture};
use relc::{Explainer, Method};
use relc_eval::metric::{Curve, Curves, Ends, area, curve, default_step};
use relc_eval::{Base, Picture, Ranking, Scorer, Ties, geometry};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    picture: String,
    class: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    map: String,
    base: String,
    ends: String,
    insertion: Vec<f64>,
    deletion: Vec<f64>,
    insertion_area: f64,
    deletion_area: f64,
}

fn demo(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo")).join(file)
}

fn map(name: &str) -> Vec<f32> {
    let value = |p: i64| {
        let permutation = p * 1597 % 4096;
        let nearness = 64 - (p / 64 - 32).abs() - (p % 64 - 32).abs();
        if name == "tied" { permutation / 16 } else { permutation + 4096 * nearness }
    };
    (0..4096).map(|p| value(p) as f32).collect()
}

#[test]
fn an_independent_implementation_computes_the_same_curves() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/insertion_deletion.json"));
    let reference: Reference = serde_json::from_str(&text.unwrap()).unwrap();
    let model: Explainer = Method::compiler().unwrap().compile(demo("model.onnx")).unwrap();
    let geometry = geometry(&model).unwrap();
    let preprocess = Preprocess::load(&demo("preprocess.toml").to_string_lossy()).unwrap();
    let prepare = |picture: &image::DynamicImage| {
        let prepared = preprocess.apply(picture, Layout::Nchw, [64, 64], 3).unwrap();
        prepared.values.into_raw_vec_and_offset().0
    };
    let values = prepare(&load_picture(&demo("images").join(&reference.picture)).unwrap());
    let black = prepare(&image::DynamicImage::new_rgb8(64, 64));
    let scorer = Scorer { explainer: &model };
    let step = 4 * default_step(64 * 64);
    for case in &reference.cases {
        let picture = Picture::new(geometry, values.clone(), case.base.parse::<Base>().unwrap(), &black);
        let ranking = Ranking::of(&map(&case.map));
        let ties = if ranking.has_ties() { Ties::Together } else { Ties::Strict { orders: 3 } };
        let curves = Curves { step, ends: case.ends.parse::<Ends>().unwrap(), ties };
        let score = |n: usize, fill: &relc_eval::metric::Fill<'_>| scorer.scores(reference.class, n, fill);
        for (which, expected, expected_area) in [
            (Curve::Insertion, &case.insertion, case.insertion_area),
            (Curve::Deletion, &case.deletion, case.deletion_area),
        ] {
            let name = format!("{} {} {} {which:?}", case.map, case.base, case.ends);
            let got = curve(&picture, &ranking, which, curves, 0, &score).unwrap();
            assert_eq!(got.len(), expected.len(), "{name}");
            // Two f32 engines: single probabilities differ in their last digits.
            let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-5, "{name}: a score differs by {off:e}");
            let off = (area(&got) - expected_area).abs();
            assert!(off < 1e-6, "{name}: the area differs by {off:e}");
            // On the stored scores themselves, the areas agree to their last digits.
            assert!((area(expected) - expected_area).abs() < 1e-8, "{name}");
        }
    }
}
