//! Running methods and metrics over a data set.

use std::thread;
use std::time::Instant;

use image::RgbImage;
use ndarray::ArrayD;
use relc::Explainer;
use relc::input::{Input, Origin};
use relc::map::quantize_heat;
use relc::preprocess::{Layout, Preprocess};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::ahead::Ahead;
use crate::attribution::{Attribution, batch_of_one};
use crate::dataset::{Content, Dataset, Item};
use crate::error::EvalError;
use crate::metric::{Metric, Protocol, Subject};
use crate::picture::{Base, Geometry, Picture};
use crate::ranking::Ranking;
use crate::results::{Record, Results};
use crate::scorer::Scorer;

/// How many pictures are read ahead of the one that is measured.
const AHEAD: usize = 4;

/// The class that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The largest output.
    Predicted,
    /// The data set's label.
    Label,
}

/// What to measure, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// How they are run.
    pub protocol: Protocol,
    /// What removed pixels become.
    pub base: Base,
    /// Maps are floored to as many heat levels first.
    pub heat_levels: Option<usize>,
    /// The class that is explained.
    pub class: Class,
    /// What random numbers depend on.
    pub seed: u64,
    /// The controls are run on as many pictures, the first ones.
    pub controls: usize,
}

/// A model and the methods that are compared on it.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The model by the preset `gradient`: what scores inputs, and what methods of many runs run.
    pub model: &'a Explainer,
    /// A hash of the model.
    pub model_key: u64,
    /// The methods.
    pub methods: &'a [Attribution],
    /// For each stage of the model-parameter randomisation, the model and the methods on it.
    pub randomised: &'a [(Explainer, Vec<Attribution>)],
    /// How pictures become inputs.
    pub preprocess: &'a Preprocess,
}

/// A picture of the data set, ready.
#[derive(Debug)]
pub struct Prepared {
    /// As the model takes it.
    pub picture: Picture,
    /// As people see it.
    pub seen: RgbImage,
    /// The pixels that a map should show.
    pub mask: Option<Vec<bool>>,
    /// A hash of all of it.
    key: u64,
}

/// One step of a run.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Records that there are, of how many.
    pub done: usize,
    /// How many there will be.
    pub total: usize,
    /// The picture at hand.
    pub picture: &'a str,
    /// The method at hand.
    pub method: &'a str,
}

/// What a run gave: for each method, the records of the pictures, in the order of the data set.
pub type Outcome = Vec<Vec<Record>>;

/// A picture as the network saw it, and its map by each method.
pub type Maps = (RgbImage, Vec<Vec<f32>>);

impl Bench<'_> {
    /// How the model takes its input.
    ///
    /// # Errors
    /// If it takes something else, or its batch is fixed to more than one.
    pub fn geometry(&self) -> Result<Geometry, EvalError> {
        geometry(self.model)
    }

    /// Runs what is not in `results` yet. The outcome is the same to the bit whether it was computed now or read.
    ///
    /// # Errors
    /// If a picture can't be read, scored or explained, or a result can't be written.
    pub fn run(
        &self,
        dataset: &Dataset,
        settings: &Settings,
        results: &mut Results,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Outcome, EvalError> {
        let geometry = self.geometry()?;
        let runs_on = |method: &Attribution, i: usize| !method.is_control() || i < settings.controls;
        let of_picture = |i: usize| self.methods.iter().filter(|m| runs_on(m, i)).count();
        let total = (0..dataset.items.len()).map(of_picture).sum();
        // On how many pictures the controls run changes no record.
        let measured = Settings { controls: 0, ..settings.clone() };
        let protocol = xxh3_64(format!("{} {measured:?}", env!("CARGO_PKG_VERSION")).as_bytes());
        let mut outcome = vec![Vec::new(); self.methods.len()];
        let mut done = 0;
        thread::scope(|scope| {
            let prepare = |item| (item, self.prepare(item, geometry, settings));
            let prepared = Ahead::new(scope, dataset.items.iter(), AHEAD, prepare);
            for (i, (item, prepared)) in prepared.enumerate() {
                let prepared = prepared?;
                let mut sample: Option<Sample<'_>> = None;
                for (m, method) in self.methods.iter().enumerate().filter(|(_, method)| runs_on(method, i)) {
                    let key = format!(
                        "{:016x}-{:016x}-{protocol:016x}-{:016x}",
                        self.model_key, method.key, prepared.key
                    );
                    progress(&Progress { done, total, picture: &item.name, method: &method.name });
                    if results.get(&key).is_none() {
                        let sample = match &mut sample {
                            Some(sample) => sample,
                            none => none.insert(self.sample(item, &prepared, geometry, settings)?),
                        };
                        results.add(self.judge(sample, m, key.clone(), settings)?)?;
                    }
                    outcome[m].extend(results.get(&key).cloned());
                    done += 1;
                }
            }
            Ok::<(), EvalError>(())
        })?;
        progress(&Progress { done, total, picture: "", method: "" });
        Ok(outcome)
    }

    /// Reads a picture and its mask.
    ///
    /// # Errors
    /// If they can't be read, or don't fit the model.
    pub fn prepare(
        &self,
        item: &Item,
        geometry: Geometry,
        settings: &Settings,
    ) -> Result<Prepared, EvalError> {
        let ready = match self.model.picture_input() {
            Some((layout, _)) => self.picture(item, geometry, layout)?,
            None => self.array(item, geometry)?,
        };
        let Ready { values, dark, seen, mask } = ready;
        let mut hash = Xxh3::new();
        hash.update(item.name.as_bytes());
        values.iter().chain(&dark).for_each(|v| hash.update(&v.to_le_bytes()));
        if settings.class == Class::Label {
            hash.update(format!("{:?}", item.label).as_bytes());
        }
        mask.iter().flatten().for_each(|m| hash.update(&[u8::from(*m)]));
        let picture = Picture::new(geometry, values, settings.base, &dark);
        Ok(Prepared { picture, seen, mask, key: hash.digest() })
    }

    /// A picture, or an array of a model of pictures.
    fn picture(&self, item: &Item, geometry: Geometry, layout: Layout) -> Result<Ready, EvalError> {
        let wrong = |message: String| EvalError::Dataset { path: item.name.clone().into(), message };
        let size = [geometry.height, geometry.width];
        let apply = |picture: &image::DynamicImage| {
            self.preprocess.apply(picture, layout, size, geometry.channels).map_err(|e| wrong(e.to_string()))
        };
        let dark = apply(&image::DynamicImage::new_rgb8(geometry.width as u32, geometry.height as u32));
        let content = item.content()?;
        let is_input = matches!(content, Content::Input(_));
        let (values, seen) = match content {
            Content::Picture(picture) => {
                let prepared = apply(&picture)?;
                (prepared.values.into_raw_vec_and_offset().0, Some(prepared.picture))
            }
            Content::Input(array) => {
                let (_, ty) = self.model.input()?;
                let expected = &ty.bind(1)[1..];
                if array.shape() != expected {
                    let got = array.shape();
                    return Err(wrong(format!(
                        "has the shape {got:?}, expected {expected:?}, the model's input"
                    )));
                }
                (array.into_raw_vec_and_offset().0, None)
            }
        };
        // A preprocessing that fits no black picture of the model's size fits no other either, unless it is not used.
        let dark = match dark {
            Ok(dark) => dark.values.into_raw_vec_and_offset().0,
            Err(_) if is_input => vec![0.0; geometry.values()],
            Err(error) => return Err(error),
        };
        let mask = match item.mask()? {
            Some(mask) if is_input => Some((mask.to_luma8(), "the input")),
            Some(mask) => {
                let seen = apply(&mask)?.picture;
                Some((image::DynamicImage::ImageRgb8(seen).to_luma8(), "the picture"))
            }
            None => None,
        };
        let mask = match mask {
            Some((mask, what)) if mask.dimensions() != (geometry.width as u32, geometry.height as u32) => {
                return Err(wrong(format!(
                    "its mask has {:?} pixels, not those of {what}",
                    mask.dimensions()
                )));
            }
            Some((mask, _)) => Some(mask.pixels().map(|p| p.0[0] >= 128).collect::<Vec<bool>>()),
            None => None,
        };
        let seen = seen.unwrap_or_else(|| grey(geometry, &values));
        Ok(Ready { values, dark, seen, mask })
    }

    /// A signal, a volume or a video.
    fn array(&self, item: &Item, geometry: Geometry) -> Result<Ready, EvalError> {
        let wrong = |message: String| EvalError::Dataset { path: item.name.clone().into(), message };
        let Input { values, origin } = item.input(self.model, self.preprocess)?;
        let expected = self.model.input()?.1.bind(1);
        if Some(values.shape()) != expected.get(1..) {
            let (got, expected) = (values.shape(), expected.get(1..));
            return Err(wrong(format!("has the shape {got:?}, expected {expected:?}, the model's input")));
        }
        let values = values.into_raw_vec_and_offset().0;
        let black = match origin {
            Origin::Video(_) => self.preprocess.black(geometry.channels),
            _ => black(self.model, self.preprocess, geometry.channels)?,
        };
        let mut dark = vec![0.0; geometry.values()];
        for (channel, black) in black.into_iter().enumerate() {
            (0..geometry.pixels()).for_each(|p| dark[geometry.index(p, channel)] = black);
        }
        let mask = match item.mask_array()? {
            Some(mask) if mask.len() != geometry.pixels() => {
                return Err(wrong(format!(
                    "its mask has {} values, expected {}",
                    mask.len(),
                    geometry.pixels()
                )));
            }
            mask => mask,
        };
        let seen = grey(geometry, &values);
        Ok(Ready { values, dark, seen, mask })
    }

    /// Scores the whole picture.
    fn sample<'a>(
        &'a self,
        item: &'a Item,
        prepared: &'a Prepared,
        geometry: Geometry,
        settings: &Settings,
    ) -> Result<Sample<'a>, EvalError> {
        let (_, ty) = self.model.input()?;
        let shape = ty.bind(1);
        let input = batch_of_one(&prepared.picture.values, &shape);
        let logits = self.model.predict(input.view())?;
        let row: Vec<f64> = logits.iter().copied().collect();
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let predicted = order.first().copied().unwrap_or(0);
        let class = match (settings.class, item.label) {
            (Class::Predicted, _) => predicted,
            (Class::Label, Some(label)) if label < row.len() => label,
            (Class::Label, label) => {
                let got = label.map_or("no label".to_string(), |l| format!("the label {l}"));
                let message = format!("has {got}, expected one of the model's {} outputs", row.len());
                return Err(EvalError::Dataset { path: item.name.clone().into(), message });
            }
        };
        let rival = order.into_iter().find(|k| *k != class);
        let clean = self.model.probabilities(&logits).get((0, class)).copied().unwrap_or(0.0);
        let bytes: Vec<u8> = prepared.picture.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let seed = xxh3_64(&bytes).wrapping_add(settings.seed);
        Ok(Sample { item, prepared, geometry, shape, input, predicted, class, rival, clean, seed })
    }

    /// The map of a method, checked and quantized.
    fn map(
        &self,
        sample: &Sample<'_>,
        method: &Attribution,
        model: &Explainer,
        input: &ArrayD<f32>,
        class: usize,
        settings: &Settings,
    ) -> Result<(Vec<f32>, Option<f64>), EvalError> {
        let explained = method.explain(model, sample.geometry, input.view(), &[class], sample.seed)?;
        let wrong = |message: &str| EvalError::Map {
            method: method.name.clone(),
            picture: sample.item.name.clone(),
            message: message.to_string(),
        };
        let first = explained.into_iter().next().ok_or_else(|| wrong("is missing"))?;
        let mut map = first.map;
        if map.len() != sample.geometry.pixels() {
            return Err(wrong("has another number of pixels than the picture"));
        }
        if map.iter().any(|v| !v.is_finite()) {
            return Err(wrong("holds values that are not finite"));
        }
        if let Some(levels) = settings.heat_levels {
            let [d, h, w] = sample.geometry.sizes();
            let mut maps = ArrayD::from_shape_vec(vec![1, d, h, w], map).unwrap_or_default();
            quantize_heat(&mut maps, levels);
            map = maps.into_raw_vec_and_offset().0;
        }
        Ok((map, first.conservation_error))
    }

    /// Explains the picture and measures the map.
    fn judge(
        &self,
        sample: &Sample<'_>,
        method: usize,
        key: String,
        settings: &Settings,
    ) -> Result<Record, EvalError> {
        let attribution = &self.methods[method];
        let start = Instant::now();
        let (map, conservation_error) =
            self.map(sample, attribution, self.model, &sample.input, sample.class, settings)?;
        let seconds = start.elapsed().as_secs_f64();
        let ranking = Ranking::of(&map);
        let scorer = Scorer { explainer: self.model };
        let score = |count: usize, fill: &crate::metric::Fill<'_>| scorer.scores(sample.class, count, fill);
        let explain = |values: &[f32]| {
            let input = batch_of_one(values, &sample.shape);
            let (map, _) = self.map(sample, attribution, self.model, &input, sample.class, settings)?;
            Ok(map)
        };
        let rival = || match sample.rival {
            Some(class) => self
                .map(sample, attribution, self.model, &sample.input, class, settings)
                .map(|(map, _)| Some(map)),
            None => Ok(None),
        };
        let randomised = || {
            if attribution.is_control() {
                return Ok(None);
            }
            let of = |(model, methods): &(Explainer, Vec<Attribution>)| {
                let (map, _) =
                    self.map(sample, &methods[method], model, &sample.input, sample.class, settings)?;
                Ok(map)
            };
            self.randomised.iter().map(of).collect::<Result<Vec<_>, EvalError>>().map(Some)
        };
        let subject = Subject {
            picture: &sample.prepared.picture,
            map: &map,
            ranking: &ranking,
            mask: sample.prepared.mask.as_deref(),
            clean: sample.clean,
            seed: sample.seed,
            score: &score,
            explain: &explain,
            rival: &rival,
            randomised: &randomised,
            conservation_error,
        };
        let mut record = Record {
            key,
            picture: sample.item.name.clone(),
            method: attribution.name.clone(),
            class: sample.class,
            predicted: sample.predicted,
            seconds,
            values: Default::default(),
            curves: Default::default(),
        };
        for metric in &settings.metrics {
            let measured = metric.measure(&subject, &settings.protocol)?;
            for (column, value) in measured.values {
                // JSON has no numbers but finite ones.
                record.values.insert(column.to_string(), value.filter(|v| v.is_finite()));
            }
            for (name, scores) in measured.curves {
                record.keep_curve(name, &scores);
            }
        }
        Ok(record)
    }

    /// The pictures of a sheet, and the map of each method.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn maps(
        &self,
        dataset: &Dataset,
        settings: &Settings,
        pictures: usize,
    ) -> Result<Vec<Maps>, EvalError> {
        let methods: Vec<usize> = (0..self.methods.len()).collect();
        dataset.items.iter().take(pictures).map(|item| self.maps_of(item, settings, &methods)).collect()
    }

    /// A picture, and its map by each of some methods, which are given by their place.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn maps_of(&self, item: &Item, settings: &Settings, methods: &[usize]) -> Result<Maps, EvalError> {
        let geometry = self.geometry()?;
        let prepared = self.prepare(item, geometry, settings)?;
        let sample = self.sample(item, &prepared, geometry, settings)?;
        let map = |method: &Attribution| {
            self.map(&sample, method, self.model, &sample.input, sample.class, settings).map(|(map, _)| map)
        };
        let maps = methods.iter().filter_map(|m| self.methods.get(*m)).map(map).collect::<Result<_, _>>()?;
        Ok((prepared.seen.clone(), maps))
    }
}

/// How a model takes its input: a picture, a signal `f32[N,C,L]`, or a volume `f32[N,C,D,H,W]`.
///
/// # Errors
/// If it takes something else, or its batch is fixed to more than one.
pub fn geometry(model: &Explainer) -> Result<Geometry, EvalError> {
    let (name, ty) = model.input()?;
    let usage = |what: &str| Err(EvalError::Usage(format!("the model's input \"{name}\" {ty} {what}")));
    if ty.dims().first().and_then(|d| d.fixed()).is_some_and(|n| n != 1) {
        return usage("has a fixed batch; export the model with a dynamic one");
    }
    let spatial = model.spatial_input().map(|(axis, size)| (axis, ty.dims().get(axis), size));
    let Some((axis, Some(channels), size)) = spatial else {
        return usage(
            "has no spatial axes, so that there is no map to measure; expected a signal, a picture or a volume",
        );
    };
    let interleaved = axis > 1 && axis + 1 == ty.rank();
    if axis > 1 && !interleaved {
        return usage(
            "has its channels between its axes, which evaluation can't take; export it as f32[N,C,T,H,W]",
        );
    }
    let [depth, height, width] = match size[..] {
        [length] => [1, 1, length],
        [height, width] => [1, height, width],
        [depth, height, width] => [depth, height, width],
        _ => return usage("has more than three spatial axes, expected one to three"),
    };
    let Some(channels) = channels.fixed() else { return usage("leaves its channels open; state them") };
    Ok(Geometry { depth, height, width, channels, interleaved })
}

/// What a removed value becomes under [`Base::Black`], for each channel of a signal or volume: 0, normalised if arrays are.
///
/// # Errors
/// If the preprocessing has values of another number of channels.
pub fn black(model: &Explainer, preprocess: &Preprocess, channels: usize) -> Result<Vec<f32>, EvalError> {
    if model.picture_input().is_some() {
        return Ok(preprocess.black(channels));
    }
    let mut zeros = ArrayD::zeros(vec![channels]);
    if preprocess.is_of_arrays() {
        preprocess.normalise(&mut zeros, 0)?;
    }
    Ok(zeros.into_raw_vec_and_offset().0)
}

/// What the metrics need of an item.
struct Ready {
    values: Vec<f32>,
    /// The input without anything on it.
    dark: Vec<f32>,
    seen: RgbImage,
    mask: Option<Vec<bool>>,
}

/// A picture with its class.
struct Sample<'a> {
    item: &'a Item,
    prepared: &'a Prepared,
    geometry: Geometry,
    shape: Vec<usize>,
    input: ArrayD<f32>,
    predicted: usize,
    class: usize,
    rival: Option<usize>,
    clean: f64,
    seed: u64,
}

/// An input as people may see it: its first channel, of a volume in its middle, from its minimum to its maximum.
fn grey(geometry: Geometry, values: &[f32]) -> RgbImage {
    let channel: Vec<f32> = (0..geometry.pixels()).map(|p| values[geometry.index(p, 0)]).collect();
    let min = channel.iter().copied().fold(f32::INFINITY, f32::min);
    let max = channel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let span = if max > min { max - min } else { 1.0 };
    RgbImage::from_fn(geometry.width as u32, geometry.height as u32, |x, y| {
        let v = channel[(geometry.depth / 2 * geometry.height + y as usize) * geometry.width + x as usize];
        image::Rgb([((v - min) / span * 255.0) as u8; 3])
    })
}
