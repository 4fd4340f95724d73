//! Programs: what each pass leaves prints, parses back and verifies; the verifier tells what is wrong; and the passes that
//! make programs fast change nothing of what they compute.

use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::ir::Graph;
use relc::unstable::program::{Backend, BackendError, dot, json, parse, through, verify};
use relc::{Compiler, Isa, Preset};
use relc_tests::graphs::{Plan, build, plans};
use relc_tests::shared::shared;
use relc_tests::zoo::models;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// The presets whose rules have every form: quotients in epilogues, several parts, constants, leaks, derivatives.
const PRESETS: [&str; 4] = ["two_level", "conserve", "epsilon_alpha2_beta1_flat", "gradient"];

fn derived(preset: &str, graph: &Graph) -> Graph {
    let compiler = Compiler::new(Preset::named(preset).unwrap());
    compiler.passes(graph.clone(), |_, _| {}).unwrap().graph
}

/// Holds every stage of a graph's program against its text; how many steps the last one has.
#[track_caller]
fn check(graph: &Graph) -> usize {
    let mut last = 0;
    for isa in [Isa::Portable, Isa::detect().unwrap()] {
        Cpu { machine: Machine::generic(isa) }
            .program(graph, &[], &mut |after, program| {
                let text = program.to_string();
                let again = parse(&text).unwrap_or_else(|e| panic!("after {after}: {e}"));
                assert!(again == *program, "after {after}: {} parses to another program", graph.name());
                assert_eq!(again.to_string(), text, "after {after}");
                assert_eq!(verify(&again), Ok(()), "after {after}");
                last = program.steps().count();
            })
            .unwrap();
    }
    last
}

#[test]
fn the_programs_of_every_model_parse_back() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let zoo = models(&folder);
    assert!(zoo.len() > 20, "{} models", zoo.len());
    for model in zoo {
        for preset in PRESETS {
            let compiler = Compiler::new(Preset::named(preset).unwrap());
            let explainer = model.compile(&compiler).unwrap();
            assert!(check(explainer.graph()) > 0, "{}", model.name);
        }
    }
}

#[test]
fn the_programs_of_the_reference_models_parse_back() {
    let Some(shared) = shared() else { return };
    for path in shared.models() {
        for preset in PRESETS {
            let compiled =
                Compiler::new(Preset::named(preset).unwrap()).passes(path.as_path(), |_, _| {}).unwrap();
            check(&compiled.graph);
        }
    }
}

/// One program with a value of every kind, to be spoilt.
const SOUND: &str = r#"program @sound {
  constants {
    @b: f64[4] = 0.5
    @w: f32[4,4,3,3] #0000000000000001
  }
  values {
    %0: f32[N,4,3,3] blocks=8 halo=[1,1,1,1] slot=0
    %1: f32[N,4,3,3] blocks=8 slot=1
    %2: f32[N,4,3,3] blocks=8 slot=2
    %3: f32[N,4,3,3] blocks=8 slot=3
    %4: f32[N,4,3,3] blocks=8 slot=4
  }
  ends %0, %1, %2, %4
  forward {
    %1 = conv %0, @w, @b, channels=[4,4], kernel=[3,3], pads=[1,1,1,1], epilogue=activate, bias=yes, kernel_id=0 ; "%1" "conv" "conv"
  }
  backward {
    %3 = mul %2, %1, kernel_id=1 ; "%r3" "pass" "mul"
    raise flag=0 ; "%r3" "pass" "mul"
    %3 = flat %2, %2, kernel=[1,1], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], groups=1, flag=0 ; "%r3" "pass" "mul"
    %4 = mul %3, %1, kernel_id=1 ; "%r4" "pass" "mul1"
    tally %4, of="%r4" ; "%r4" "pass" "mul1"
  }
}
"#;

/// Each rule of the verifier's specification, broken by an edit, and what the error says.
#[test]
fn the_verifier_tells_what_is_wrong() {
    let sound = parse(SOUND).unwrap();
    assert_eq!(verify(&sound), Ok(()));
    assert_eq!(sound.to_string(), SOUND);
    let cases = [
        ("%4 = mul %3, %1,", "%4 = mul %9, %1,", "got %9, expected a value that is there"),
        ("ends %0, %1, %2, %4", "ends %0, %1, %2, %7", "the relevance: got %7"),
        ("conv %0, @w, @b,", "conv %0, @w, @c,", "got @c, expected a constant that is there"),
        (
            "conv %0, @w, @b,",
            "conv %0, @w,",
            "got 1 values read, 1 constants and 1 values written, expected 1, 2 and 1",
        ),
        (
            "channels=[4,4]",
            "channels=[4,8]",
            "the convolution's output: got [C,D,H,W] = [4, 1, 3, 3], expected [8, 1, 3, 3]",
        ),
        ("@b: f64[4]", "@b: f64[5]", "got constants of [144, 5] elements, expected [144, 4]"),
        (
            "%4: f32[N,4,3,3]",
            "%4: f32[N,4,3,2]",
            "an operand: got [C,D,H,W] = [4, 1, 3, 3], expected [4, 1, 3, 2]",
        ),
        ("%3 = mul %2, %1,", "%3 = mul %4, %1,", "got %4 before anything writes it"),
        ("%4 = mul %3, %1,", "%4 = mul %4, %1,", "got %4 that it reads and writes"),
        ("%3 = mul %2, %1,", "%1 = mul %2, %2,", "got %1, which the next seed needs"),
        ("%3 = mul %2, %1,", "%2 = mul %1, %1,", "got %2, which the caller gives"),
        ("    raise flag=0 ; \"%r3\" \"pass\" \"mul\"\n", "", "got a flag that nothing raises before"),
        ("groups=1, flag=0", "groups=3, flag=0", "got 3 groups, expected a divisor of the channels"),
        ("ends %0, %1, %2, %4", "ends %0, %3, %2, %4", "got no forward step that writes the output %3"),
        (
            "%0: f32[N,4,3,3] blocks=8 halo=[1,1,1,1]",
            "%0: f32[N,4,3,3] blocks=8 halo=[1,1,1,0]",
            "got the halo Halo",
        ),
        ("%3: f32[N,4,3,3] blocks=8 slot=3", "%3: f32[N,4,3,3]", "got layouts of some values"),
        ("slot=3", "slot=4", "slot 4: got %3 and %4 alive at once"),
        ("blocks=8 slot=3", "blocks=8 slot=2", "slot 2: got %2 and %3 alive at once"),
        ("blocks=8 slot=4", "blocks=8 slot=1", "slot 1: got %1 and %4 alive at once"),
        ("blocks=8 slot=4", "blocks=8 slot=0", "got slot 0, expected one of its layout"),
        (" blocks=8 slot=4", " blocks=8", "got slots of some values"),
        (
            "%4 = mul %3, %1, kernel_id=1",
            "%4 = sub %3, %1, kernel_id=1",
            "got kernel 1, expected that of steps that do the same",
        ),
        ("ends %0, %1, %2, %4", "ends %0, %1, %0, %4", "the seed: got %0, which is the input"),
        (
            "%4 = mul %3, %1, kernel_id=1",
            "%4 = move %3, dims=[2,3,3], to=0, to_strides=[9,3,1], from=0, from_strides=[9,3,1]",
            "%4: got moves of Some(18) elements, expected all 36",
        ),
        (
            "%1 = conv %0, @w, @b, channels=[4,4],",
            "%1, %3 = conv %0, @w, @b, algorithm=winograd2, channels=[4,4],",
            "got %3, which other steps work in",
        ),
        (
            "%1 = conv %0, @w, @b, channels=[4,4],",
            "%1, %2 = conv %0, @w, @b, algorithm=winograd2, channels=[4,4],",
            "got %2 as memory to work in, which a caller gives or reads",
        ),
        ("slot=4", "slot=99", "expected fewer slots than values"),
    ];
    for (from, to, expected) in cases {
        assert!(SOUND.contains(from), "{from}");
        let spoilt = parse(&SOUND.replacen(from, to, 1)).unwrap_or_else(|e| panic!("{to}: {e}"));
        let errors = verify(&spoilt).expect_err(to).to_string();
        assert!(errors.contains(expected), "{to}: got\n{errors}\nexpected\n{expected}");
    }
}

#[test]
fn what_is_no_program_is_refused_where_it_stands() {
    let cases = [
        ("program @sound {", "graph @sound {", "line 1, column 1: got \"graph\", expected \"program\""),
        ("%3: f32[N,4,3,3]", "%3: f32[N,4,3]", "got f32[N,4,3], expected f32[N,C,H,W]"),
        ("%4: f32", "%3: f32", "got %3 again, expected every value once"),
        ("@b: f64[4] = 0.5", "@b: f64[4] = (0.5, 1.0)", "got 2 values, expected those of [4]"),
        ("@b: f64[4] = 0.5", "@b: f64[4000000,4000000] = 0.5", "expected fewer elements"),
        ("blocks=8 slot=1", "blocks=0 slot=1", "expected sizes of at least 1"),
        ("epilogue=activate, bias=yes", "epilogue=activate, bias=perhaps", "expected yes or no"),
        ("epilogue=activate", "epilogue=deactivate", "expected activate, quotient, product or sum"),
        ("%3 = mul", "%3 = divide", "divide"),
        ("kernel_id=0", "kernel_id=0, colour=3", "unknown attribute \"colour\""),
        ("%4 = mul %3", "%4294967295 = mul %3", "expected a smaller number"),
        ("@b: f64[4] = 0.5", "@b: f64[4] = 0.5\n    @c: f64[16777216] = 0.5", "expected fewer elements"),
        ("%3: f32[N,4,3,3]", "%3: f32[N,4,4000000000,4000000000]", "expected fewer elements"),
        ("%4 = mul %3", "%99999999999 = mul %3", "expected a smaller number"),
    ];
    for (from, to, expected) in cases {
        assert!(SOUND.contains(from), "{from}");
        let error = parse(&SOUND.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: got {error}, expected {expected}");
    }
}

#[test]
fn programs_are_drawn_and_written_as_json() {
    let program = parse(SOUND).unwrap();
    let drawn = dot(&program);
    assert!(drawn.starts_with("digraph \"sound\"") && drawn.contains("s0 -> s1 [label=\"%1\"]"), "{drawn}");
    let json = json(&program);
    assert_eq!(json["backward"].as_array().unwrap().len(), 5);
    assert_eq!(json["forward"][0]["attributes"]["channels"], serde_json::json!([4, 4]));
    assert_eq!((&json["values"][0]["slot"], &json["ends"]["seed"]), (&0.into(), &"%2".into()));
}

/// The relevance of noise by the program that these passes make of a graph.
fn relevance(graph: &Graph, skipped: &[&str]) -> Vec<f32> {
    let module = without(graph, skipped).unwrap();
    let input = graph.node(graph.inputs()[0]).types()[0].bind(1).iter().product();
    let mut rng = fastrand::Rng::with_seed(3);
    let x: Vec<f32> = (0..input).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let mut session = module.session(1);
    let logits = session.forward(&x).unwrap();
    session.backward(&logits, true).unwrap().relevance
}

/// What the CPU makes of a graph without some of its passes.
fn without(
    graph: &Graph,
    skipped: &[&str],
) -> Result<Box<dyn relc::unstable::program::Module>, BackendError> {
    let cpu = Cpu { machine: Machine::detect(Isa::detect().unwrap()).unwrap() };
    let mut passes = cpu.pipeline();
    passes.retain(|pass| !skipped.contains(&pass.name()));
    let (program, _) = through(graph, &[], &passes, &mut |_, _| {})?;
    cpu.compile(graph, program)
}

/// What the passes do to a program is no matter of its results: the f32 rounding of other orders apart.
#[track_caller]
fn check_passes(plan: &Plan) {
    let plain = build(plan);
    for preset in PRESETS {
        let graph = derived(preset, &plain);
        let fast = relevance(&graph, &[]);
        let largest = fast.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for skipped in [
            &["flatten-reshapes"][..],
            &["fuse-epilogues"],
            &["alias-moves"],
            &["fold-constants"],
            &["factor-ones"],
            &["schedule", "share-kernels"],
        ] {
            let slow = relevance(&graph, skipped);
            let off = fast.iter().zip(&slow).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= 1e-4 * largest, "{preset} without {skipped:?}: differs by {off:e} of {largest:e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passes_change_no_results(plan in plans()) {
        check_passes(&plan);
    }
}

/// A program is no use without the values that choose-layouts and plan-memory give.
#[test]
fn a_program_without_layouts_is_refused() {
    let plan = plans().new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current();
    let graph = derived("conserve", &build(&plan));
    for missing in ["choose-layouts", "plan-memory"] {
        assert!(without(&graph, &[missing]).is_err(), "{missing}");
    }
}

/// Steps of one op and shape share a kernel, and kernels are compiled once.
#[test]
fn kernels_are_shared() {
    let plan = plans().new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current();
    let graph = derived("conserve", &build(&plan));
    let (program, _) =
        Cpu { machine: Machine::generic(Isa::Portable) }.program(&graph, &[], &mut |_, _| {}).unwrap();
    let with = program.steps().filter(|step| step.kernel.is_some()).count();
    assert!(program.kernels() < with, "{} kernels of {with} steps", program.kernels());
}

/// What another seed changes of the backward steps: relevance and quotients, but no denominator, and nothing that a
/// denominator or a product is made of.
#[test]
fn denominators_do_not_depend_on_the_seed() {
    use relc::unstable::program::Rerun::{self, Epilogue, Outputs, Whole};
    #[track_caller]
    fn check(filetest: &str, stage: usize, expected: &[Rerun]) {
        let text = filetest.split("; ----").nth(stage).unwrap();
        let code: Vec<&str> = text.trim().lines().skip_while(|line| line.starts_with(';')).collect();
        assert_eq!(parse(&code.join("\n")).unwrap().reruns(), expected);
    }
    let zplus = include_str!("../filetests/program/fuse-epilogues/quotient-product.relc");
    check(zplus, 0, &[Outputs, Whole, Whole, Whole, Whole]);
    check(zplus, 1, &[Epilogue, Whole, Whole, Whole]);
    let two_sided = include_str!("../filetests/program/fuse-epilogues/terms.relc");
    check(two_sided, 0, &[Outputs, Outputs, Whole, Whole, Whole, Whole, Whole, Whole]);
}
