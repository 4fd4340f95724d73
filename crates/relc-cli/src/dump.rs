//! `relc dump`: the graph or the program after a pass.

mod page;

use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::ir::spelling::did_you_mean_node;
use relc::unstable::ir::{Graph, NodeId, dot, json};
use relc::unstable::passes::{PassRecord, pass_list};
use relc::unstable::program::{self, Backend, LOWER, Program};
use relc::{Engine, Explainer, Isa, Remark};
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

use crate::args::{DumpArgs, Format};
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print::{self, escaped};

/// What `--json` prints: graphs, programs or kernels, and all that the passes said.
#[derive(Serialize)]
struct Report {
    relc: &'static str,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    graphs: Option<Vec<GraphReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<Vec<ProgramReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<Vec<KernelReport>>,
    /// Empty if a pass fails behind that of the graph.
    passes: Vec<PassReport>,
}

/// The graph that a pass left.
#[derive(Serialize)]
struct GraphReport {
    after: &'static str,
    graph: Value,
}

/// The program that a pass left.
#[derive(Serialize)]
struct ProgramReport {
    after: &'static str,
    program: Value,
}

/// The listing of a kernel of a node.
#[derive(Serialize)]
struct KernelReport {
    node: String,
    text: String,
}

/// What a pass said.
#[derive(Serialize)]
struct PassReport {
    pass: Cow<'static, str>,
    ms: f64,
    remarks: Vec<RemarkReport>,
}

/// As [`Remark`].
#[derive(Serialize)]
struct RemarkReport {
    kind: &'static str,
    node: String,
    message: String,
}

impl Report {
    fn new(args: &DumpArgs, passes: &[PassRecord]) -> Report {
        let remark = |r: &Remark| {
            let (node, message) = (r.node.clone(), r.message.clone());
            RemarkReport { kind: r.kind.name(), node, message }
        };
        let pass = |p: &PassRecord| PassReport {
            pass: p.name.clone(),
            ms: milliseconds(p),
            remarks: p.remarks.iter().map(remark).collect(),
        };
        Report {
            relc: env!("CARGO_PKG_VERSION"),
            model: args.model.display().to_string(),
            graphs: None,
            programs: None,
            kernels: None,
            passes: passes.iter().map(pass).collect(),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        Ok(print::json(&serde_json::to_string_pretty(self)?)?)
    }
}

/// Runs the command.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    if let Some(node) = &args.asm {
        return kernels(args, node);
    }
    if args.format == Format::Html {
        return page::run(args);
    }
    if args.no_profile {
        return Err(Failure::usage("--no-profile is for --format html; leave it out"));
    }
    let of_graph: Vec<&str> =
        std::iter::once(IMPORT).chain(pass_list().into_iter().map(|(n, _)| n)).collect();
    let (backend, source) = backend(args);
    let of_program: Vec<&str> = std::iter::once(LOWER)
        .chain(backend.pipeline().iter().map(|pass| pass.name()))
        .chain(source)
        .collect();
    let last = of_graph.last().copied().unwrap_or(IMPORT);
    let wanted = args.after.as_deref().unwrap_or(last);
    if !of_graph.contains(&wanted) && !of_program.contains(&wanted) {
        let names = of_graph.iter().chain(&of_program).copied().collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("there is no pass \"{wanted}\"; expected one of {names}")));
    }
    let compiler = usual_compiler(&args.compile, &args.model)?;
    let mut compiler = compiler.import(import_options(&args.import)?);
    if source.is_some() {
        compiler = compiler.backend(backend);
    }
    let mut dump =
        Dump { args, wanted, graphs: Vec::new(), programs: Vec::new(), found: false, printed: Ok(()) };
    let result = compiler.passes(&args.model, |name, graph| dump.graph(name, graph));
    let mut records = Vec::new();
    let result = result.and_then(|compiled| {
        records.clone_from(&compiled.passes);
        if args.print_after_all || of_program.contains(&wanted) {
            let mut last = None;
            records.extend(compiler.program(&compiled, |name, program| {
                dump.program(name, program);
                last = source.is_some().then(|| program.clone());
            })?);
            if let (Some(name), Some(program)) = (source, last) {
                dump.source(name, &compiled.graph, &program);
            }
        }
        Ok(())
    });
    let Dump { graphs, programs, found, printed, .. } = dump;
    printed?;
    match result {
        Ok(()) => {}
        // What was asked for is there: a later pass's refusal is worth a word, not a failure.
        Err(e) if found && !args.print_after_all => print::notes(format!("note: a later pass fails: {e}")),
        Err(e) => return Err(e.into()),
    }
    if args.remarks {
        print_remarks(&records);
    }
    if args.json {
        let some = |programs: Vec<ProgramReport>| (!programs.is_empty()).then_some(programs);
        let graphs = (!graphs.is_empty()).then_some(graphs);
        Report { graphs, programs: some(programs), ..Report::new(args, &records) }.print()?;
    }
    Ok(())
}

/// What stands for a pass before the first: the graph as it was read.
const IMPORT: &str = "import";

/// What the pass behind the last is called that is the kernels of a GPU.
#[cfg(feature = "cuda")]
const SOURCE: &str = "cuda-c";

/// The back end whose passes are shown, and the name of its kernels.
#[cfg(feature = "cuda")]
fn backend(args: &DumpArgs) -> (Arc<dyn Backend>, Option<&'static str>) {
    use relc::unstable::cuda::{Cuda, Planned};

    match args.cuda {
        Some(multiprocessors) => (Arc::new(Cuda::new(Arc::new(Planned { multiprocessors }))), Some(SOURCE)),
        None => (Arc::new(Cpu { machine: Machine::generic(Isa::Portable) }), None),
    }
}

#[cfg(not(feature = "cuda"))]
fn backend(_: &DumpArgs) -> (Arc<dyn Backend>, Option<&'static str>) {
    (Arc::new(Cpu { machine: Machine::generic(Isa::Portable) }), None)
}

/// What is printed, or gathered for one JSON document.
struct Dump<'a> {
    args: &'a DumpArgs,
    wanted: &'a str,
    graphs: Vec<GraphReport>,
    programs: Vec<ProgramReport>,
    found: bool,
    printed: std::io::Result<()>,
}

impl Dump<'_> {
    /// Whether what a pass left was asked for.
    fn takes(&mut self, name: &str) -> bool {
        let takes = (self.args.print_after_all || name == self.wanted) && self.printed.is_ok();
        self.found |= takes;
        takes
    }

    fn graph(&mut self, after: &'static str, graph: &Graph) {
        if !self.takes(after) {
            return;
        }
        match self.args.json {
            true => self.graphs.push(GraphReport { after, graph: json(graph) }),
            false => self.printed = self.print(after, graph, || dot(graph), || json(graph)),
        }
    }

    fn program(&mut self, after: &'static str, program: &Program) {
        if !self.takes(after) {
            return;
        }
        match self.args.json {
            true => self.programs.push(ProgramReport { after, program: program::json(program) }),
            false => {
                self.printed =
                    self.print(after, program, || program::dot(program), || program::json(program));
            }
        }
    }

    /// The kernels of a GPU, which have a text form only.
    #[cfg(feature = "cuda")]
    fn source(&mut self, after: &'static str, graph: &Graph, program: &Program) {
        if !self.takes(after) {
            return;
        }
        let text = kernel_source(graph, program);
        match self.args.json {
            true => self.programs.push(ProgramReport { after, program: text.into() }),
            false => self.printed = print::block(text),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn source(&mut self, _: &'static str, _: &Graph, _: &Program) {}

    fn print(
        &self,
        name: &str,
        text: impl std::fmt::Display,
        dot: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> std::io::Result<()> {
        match self.args.format {
            Format::Text => {
                if self.args.print_after_all {
                    print::line(format!("; after {name}"))?;
                }
                print::block(text)
            }
            Format::Dot => print::block(dot()),
            Format::Json => print::json(&format!("{:#}", json())),
            // A page of all passes, which is none of one.
            Format::Html => Ok(()),
        }
    }
}

/// The kernels of a GPU, or why there are none, as a comment.
#[cfg(feature = "cuda")]
fn kernel_source(graph: &Graph, program: &Program) -> String {
    match relc::unstable::cuda::plan(graph, program) {
        Ok(plan) => plan.code.source,
        Err(error) => format!("// {error}\n"),
    }
}

/// Prints the machine code of a node's kernels.
fn kernels(args: &DumpArgs, wanted: &str) -> Result<(), Failure> {
    if args.format != Format::Text {
        return Err(Failure::usage("kernels have a text form only; leave --format out"));
    }
    let compiler = usual_compiler(&args.compile, &args.model)?;
    let compiler = compiler.engine(Engine::Jit).import(import_options(&args.import)?);
    let explainer = compiler.compile(&args.model)?;
    let executable = explainer.executable().ok_or("the compiled engine has no program")?;
    let mut kernels = Vec::new();
    for node in nodes(&explainer, wanted)? {
        for text in executable.listings(node)? {
            kernels.push(KernelReport { node: explainer.graph().describe(node), text });
        }
    }
    if kernels.is_empty() {
        print::note(format!(
            "note: \"{wanted}\" has no kernel of its own: it is fused, a move, or a convolution by micro-kernels"
        ));
    }
    if args.json {
        let mut records = explainer.compiled().passes.clone();
        records.extend(compiler.program(explainer.compiled(), |_, _| {})?);
        return Report { kernels: Some(kernels), ..Report::new(args, &records) }.print();
    }
    for kernel in kernels {
        print::block(format!("; {}\n{}", escaped(&kernel.node), kernel.text))?;
    }
    Ok(())
}

/// The nodes of a name or label.
fn nodes(explainer: &Explainer, wanted: &str) -> Result<Vec<NodeId>, Failure> {
    let graph = explainer.graph();
    let of_name = |id: &NodeId| graph.node(*id).name == *wanted || graph.node_label(*id) == *wanted;
    let nodes: Vec<NodeId> = graph.node_ids().filter(of_name).collect();
    if nodes.is_empty() {
        let known = graph.node_ids().map(|id| graph.node(id).name.as_str());
        let hint = did_you_mean_node(wanted, known);
        return Err(Failure::usage(format!("there is no node \"{wanted}\"{hint}")));
    }
    Ok(nodes)
}

fn print_remarks(passes: &[PassRecord]) {
    for pass in passes {
        print::note(format!("{} ({:.1} ms)", pass.name, milliseconds(pass)));
        for remark in &pass.remarks {
            print::note(format!("  {remark}"));
        }
    }
}

fn milliseconds(pass: &PassRecord) -> f64 {
    pass.time.as_secs_f64() * 1e3
}
