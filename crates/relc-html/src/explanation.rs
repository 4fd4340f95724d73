//! The page of an explanation: what the network saw, what it used, and which way the relevance took.

use std::collections::{HashMap, HashSet};

use askama::Template;
use image::RgbImage;
use ndarray::{ArrayD, Axis};
use relc::report::{RuleReport, SampleReport, WholeReport};
use relc::unstable::ir::{Graph, NodeId, Op};
use relc::{Explainer, Explanation, Flow, Method};
use relc_viz::percent;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::Value;

use crate::array::{Grid, Picture, picture};
use crate::colours::Colours;
use crate::error::PageError;
use crate::network::Network;
use crate::page::{Page, module, quoted};
use crate::words::in_words;

/// What the drawing of the network is.
const LABEL: &str = "The network: the input above, the explained output below";

/// An input and its explanations.
pub struct ExplainedInput<'a> {
    /// What explained it.
    pub explainer: &'a Explainer,
    /// What the report says of it.
    pub report: &'a SampleReport,
    /// The explanations of its batch.
    pub explanations: &'a [Explanation],
    /// Which of the batch it is.
    pub sample: usize,
    /// As the network saw it, if it is a picture.
    pub picture: Option<&'a RgbImage>,
    /// Of an input that is no picture, a drawing of each explanation.
    pub drawings: Vec<Option<Picture>>,
    /// The way of each explanation's relevance; or why there is none to show.
    pub flows: Result<Vec<Flow>, String>,
}

/// An input as the page shows it.
#[derive(Clone, Debug)]
pub struct ShownInput {
    data: InputData,
    network: NetworkData,
    drawn: Network,
}

/// A page's data, as its scripts read it.
#[derive(Serialize, JsonSchema)]
struct Data<'a> {
    /// The report, as `relc explain --json` writes it, with every explanation that the page shows.
    #[schemars(with = "Value")]
    report: &'a WholeReport<'a>,
    /// The rule of each node, and who gave it.
    rules: &'a [RuleReport],
    /// The colours of maps of both signs, and of what is above zero.
    colours: [Colours; 2],
    network: &'a NetworkData,
    /// In the order of `report.results`.
    inputs: Vec<&'a InputData>,
}

/// The nodes and edges of the drawing.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct NetworkData {
    nodes: Vec<NodeFacts>,
    /// From which node to which.
    edges: Vec<[usize; 2]>,
}

/// What does not depend on the input.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct NodeFacts {
    /// The ONNX name.
    name: String,
    /// The op.
    op: String,
    /// As the IR writes it.
    label: String,
    /// Which of `rules` is its.
    rule: Option<usize>,
    /// The values of the relevance graph that are its, as the ledger names them.
    values: Vec<String>,
    /// The share that a read-out takes here.
    readout: Option<f64>,
    /// Which of a report's `joins` it is.
    join: Option<usize>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct InputData {
    /// What the network saw, as the `src` of an `img`.
    picture: Option<String>,
    /// In the order of the report's `explanations`.
    explanations: Vec<ExplanationData>,
    /// Why the network is not shown.
    no_network: Option<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct ExplanationData {
    map: Option<Grid>,
    /// Of an input that is no picture, as the `src` of an `img`.
    drawing: Option<String>,
    /// The sums in words.
    words: Vec<String>,
    /// What each node of the network got; none where no relevance arrives.
    nodes: Vec<Option<NodeData>>,
    /// `sum |R|` of each edge of the network.
    edges: Vec<Option<f64>>,
    /// Maps on the way, from the output to the input.
    stages: Vec<StageData>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct NodeData {
    /// The type of its output without the batch.
    shape: Vec<usize>,
    /// Whether it is known to have channels first, and then pixels: a layer or a pool gives as much.
    pixels: bool,
    sum: f64,
    magnitude: f64,
    map: Grid,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct StageData {
    node: usize,
    title: String,
}

#[derive(Template)]
#[template(path = "explanation.html")]
struct Body<'a> {
    report: &'a WholeReport<'a>,
    facts: Vec<(&'static str, String)>,
    network: String,
    pictures: bool,
    maps: bool,
    ledger: bool,
    has_readouts: bool,
}

impl ShownInput {
    /// Makes what the page shows of an input.
    ///
    /// # Errors
    /// If a picture can't be encoded.
    pub fn new(input: &ExplainedInput<'_>) -> Result<ShownInput, PageError> {
        let graph = input.explainer.graph();
        let (drawn, ids) = Network::of(graph);
        let network = NetworkData {
            nodes: facts(input.explainer, &ids),
            edges: drawn.edges.iter().map(|(from, to, _)| [*from, *to]).collect(),
        };
        let split = input.explainer.preset().split.to_string();
        let flow = |i: usize| input.flows.as_ref().ok().and_then(|flows| flows.get(i));
        let explanations = input.explanations.iter().zip(&input.report.explanations).enumerate();
        let explanations = explanations.map(|(i, (explanation, report))| {
            let of_sample = |array: &ArrayD<f32>| array.index_axis(Axis(0), input.sample).to_owned();
            let (nodes, edges) =
                flow(i).map_or_else(Default::default, |flow| shown(graph, flow, &ids, &network));
            Ok(ExplanationData {
                map: explanation.map.as_ref().map(|map| Grid::new(of_sample(map).view())),
                drawing: input.drawings.get(i).and_then(Option::as_ref).map(Picture::url).transpose()?,
                words: in_words(report, input.explainer.is_conserving(), &split),
                stages: stages(&network, &nodes),
                nodes,
                edges,
            })
        });
        let data = InputData {
            picture: input.picture.map(picture).transpose()?,
            explanations: explanations.collect::<Result<_, PageError>>()?,
            no_network: input.flows.as_ref().err().cloned(),
        };
        Ok(ShownInput { data, network, drawn })
    }
}

/// Makes the page of a run's inputs, which are in the order of the report's results.
///
/// # Errors
/// If the data can't be written.
pub fn explanation_page(
    report: &WholeReport<'_>,
    rules: &[RuleReport],
    mut inputs: Vec<ShownInput>,
) -> Result<String, PageError> {
    if let Some((first, rest)) = inputs.split_first_mut() {
        for other in rest.iter_mut().filter(|other| other.network != first.network) {
            let why = "This input has another size, for which the network was compiled again.";
            other.data.no_network = Some(why.into());
        }
    }
    let empty = NetworkData { nodes: Vec::new(), edges: Vec::new() };
    let first = inputs.first();
    let network = first.map_or(&empty, |input| &input.network);
    let data = Data {
        report,
        rules,
        colours: [Colours::signed(), Colours::positive()],
        network,
        inputs: inputs.iter().map(|input| &input.data).collect(),
    };
    let explanations = || inputs.iter().flat_map(|input| &input.data.explanations);
    let body = Body {
        has_readouts: network.nodes.iter().any(|node| node.readout.is_some()),
        report,
        facts: facts_of_run(report),
        network: first.map(|input| input.drawn.svg(LABEL)).transpose()?.unwrap_or_default(),
        pictures: inputs.iter().any(|input| input.data.picture.is_some()),
        maps: explanations().any(|e| e.map.is_some()),
        ledger: report
            .results
            .iter()
            .flat_map(|r| &r.report.explanations)
            .any(|e| e.ledger.as_ref().is_some_and(|ledger| !ledger.nodes.is_empty())),
    };
    let page = Page {
        title: &title(report),
        of: &format!("Explained by relc: {}", report.model),
        body: body.render()?,
        data: &data,
        entry: module!("explanation"),
        modules: &[module!("data"), module!("maps"), module!("tables"), module!("graph")],
    };
    page.render()
}

/// The JSON Schema of the data in a page of [`explanation_page`]; its `report` is a [`WholeReport`].
pub fn explanation_schema() -> Schema {
    schemars::schema_for!(Data<'_>)
}

/// What the page is about: the first input, and the output of it that is explained.
fn title(report: &WholeReport<'_>) -> String {
    let [first, rest @ ..] = report.results else { return "No input could be explained".into() };
    let target = first.report.explanations.first().map(|e| &e.target);
    let output = target.map(|t| t.label.clone().unwrap_or_else(|| format!("output {}", t.index)));
    let name = first.report.input.rsplit(['/', '\\']).next().unwrap_or_default();
    let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
    format!("Why “{}”? {name}{more}", output.unwrap_or_default())
}

/// What the run was made of.
fn facts_of_run(report: &WholeReport<'_>) -> Vec<(&'static str, String)> {
    let WholeReport { compiled, run, .. } = report;
    let how = match (&compiled.method, &compiled.preset) {
        (Some(method), _) => ("Method", described(method)),
        (_, preset) => {
            ("Preset", format!("{} ({})", preset.clone().unwrap_or_default(), compiled.preset_hash))
        }
    };
    let claim = match (compiled.claim.conserving, &compiled.method) {
        (_, Some(_)) => "none: a method conserves nothing".to_string(),
        (true, _) => "relevance is conserved by every rule".to_string(),
        (false, _) => format!("{} nodes may lose relevance", compiled.claim.leaks.len()),
    };
    let seed = report.results.first().and_then(|r| r.report.explanations.first()).map(|e| e.seed.clone());
    let isa = run.isa.map(|isa| format!(", {isa}")).unwrap_or_default();
    let mut facts = vec![
        ("Model", format!("{} ({} bytes, SHA-256 {})", run.model.path, run.model.bytes, run.model.sha256)),
        ("Input", format!("{} {}", compiled.input.name, compiled.input.shape)),
        ("Output", format!("{} {}", compiled.output.name, compiled.output.shape)),
        how,
        ("Split at joins", compiled.split.clone()),
        ("Residual joins", compiled.joins.len().to_string()),
        ("Claim", claim),
        ("Engine", format!("{}{isa}", compiled.engine)),
    ];
    // A method starts from no seed.
    facts.extend(seed.filter(|_| compiled.method.is_none()).map(|seed| ("Seed", seed)));
    let preprocess = run.preprocess.as_ref();
    facts.extend(preprocess.map(|p| ("Preprocessing", format!("{}: {}", p.name, p.description))));
    facts.push(("Command", quoted(&run.command)));
    facts
}

/// A method's name and parameters.
fn described(method: &Method) -> String {
    let Ok(Value::Object(parts)) = serde_json::to_value(method) else { return method.name().to_string() };
    let others = parts.iter().filter(|(name, value)| *name != "name" && !value.is_null());
    let told: Vec<String> = others.map(|(name, value)| format!("{name} {value}")).collect();
    if told.is_empty() {
        method.name().to_string()
    } else {
        format!("{} ({})", method.name(), told.join(", "))
    }
}

/// What is known of nodes without an input.
fn facts(explainer: &Explainer, nodes: &[NodeId]) -> Vec<NodeFacts> {
    let graph = explainer.graph();
    let assigned = graph.forward_order().unwrap_or_default().into_iter();
    let rules: HashMap<NodeId, usize> =
        assigned.filter(|n| graph.rules.contains_key(n)).enumerate().map(|(i, n)| (n, i)).collect();
    let joins: HashMap<NodeId, usize> =
        graph.residuals.iter().enumerate().map(|(i, r)| (r.join, i)).collect();
    let mut values: HashMap<NodeId, Vec<String>> = HashMap::new();
    for relevance in graph.relevance_order().unwrap_or_default() {
        let Some(of) = graph.node(relevance).of else { continue };
        values.entry(of).or_default().push(graph.node_label(relevance));
    }
    let mut fact = |node: &NodeId| NodeFacts {
        name: graph.node(*node).name.clone(),
        op: graph.node(*node).op.mnemonic(),
        label: graph.node_label(*node),
        rule: rules.get(node).copied(),
        values: values.remove(node).unwrap_or_default(),
        readout: graph.readout(*node),
        join: joins.get(node).copied(),
    };
    nodes.iter().map(&mut fact).collect()
}

/// What each node and edge of the drawing got.
fn shown(
    graph: &Graph,
    flow: &Flow,
    ids: &[NodeId],
    network: &NetworkData,
) -> (Vec<Option<NodeData>>, Vec<Option<f64>>) {
    let places: HashMap<NodeId, usize> = flow.nodes.iter().enumerate().map(|(i, n)| (n.node, i)).collect();
    let shape = |id: &NodeId| {
        let ty = graph.node(*id).types().first()?;
        Some(ty.bind(1).get(1..).unwrap_or_default().to_vec())
    };
    let gives_pixels =
        |id: &&NodeId| matches!(graph.node(**id).op, Op::Conv(_) | Op::MaxPool(_) | Op::AveragePool(_));
    let of_pixels: HashSet<Vec<usize>> =
        ids.iter().filter(gives_pixels).filter_map(shape).filter(|shape| shape.len() > 1).collect();
    let node = |id: &NodeId| {
        let node = flow.nodes.get(*places.get(id)?)?;
        let shape = shape(id)?;
        let (pixels, map) = (of_pixels.contains(&shape), Grid::new(node.map.view()));
        Some(NodeData { shape, pixels, sum: node.sum, magnitude: node.magnitude, map })
    };
    // Where a node reads another twice, the edges are in the order of the operands.
    let mut waiting: HashMap<[usize; 2], Vec<f64>> = HashMap::new();
    for edge in flow.edges.iter().rev() {
        waiting.entry([edge.from, edge.to]).or_default().push(edge.magnitude);
    }
    let edges = network.edges.iter().map(|[from, to]| {
        let place = |end: &usize| ids.get(*end).and_then(|id| places.get(id)).copied();
        waiting.get_mut(&[place(from)?, place(to)?])?.pop()
    });
    let edges = edges.collect();
    (ids.iter().map(node).collect(), edges)
}

/// The read-outs, and of the nodes with as many pixels the one next to the output.
fn stages(network: &NetworkData, nodes: &[Option<NodeData>]) -> Vec<StageData> {
    let mut stages: Vec<(usize, String)> = Vec::new();
    let mut last: HashMap<(usize, usize), usize> = HashMap::new();
    for (i, (facts, node)) in network.nodes.iter().zip(nodes).enumerate() {
        let Some(node) = node else { continue };
        let size = (node.map.height, node.map.width);
        if let Some(share) = facts.readout {
            let (name, share) = (&facts.name, percent(share));
            stages.push((
                i,
                format!("Read-out at {name}: {share} of the relevance goes from here to the input"),
            ));
            last.remove(&size);
        } else if node.pixels && size.0 * size.1 > 1 {
            last.insert(size, i);
        }
    }
    for ((height, width), i) in last {
        if let Some(facts) = network.nodes.get(i) {
            stages.push((i, format!("{height} × {width}: {}", facts.name)));
        }
    }
    stages.sort_by(|a, b| b.cmp(a));
    stages.into_iter().map(|(node, title)| StageData { node, title }).collect()
}
