//! What the verifier refuses: one topic a test, each with the line that it prints.

use relc_ir::op::{Activation, Arithmetic, Relevance, SplitKind};
use relc_ir::residual::{Branch, BranchKind, Residual};
use relc_ir::rule::{AssignedRule, Contract, Rule, SplitPolicy};
use relc_ir::{Claim, Graph, IrError, NodeId, Op, TensorType, ValueId, parse, verify};

fn value(node: NodeId) -> ValueId {
    ValueId { node, port: 0 }
}

/// `y = relu(x) + x`, the nodes relu and add.
fn forward() -> (Graph, ValueId, NodeId, NodeId) {
    let mut g = Graph::new("t");
    let x = g.add_input("x", TensorType::batched(&[3])).unwrap();
    let relu = g.add_node(Op::Activation(Activation::Relu), "relu", &[x]).unwrap();
    let add = g.add_node(Op::Arithmetic(Arithmetic::Add), "add", &[value(relu), x]).unwrap();
    g.add_output("y", value(add));
    (g, x, relu, add)
}

fn split(branches: usize) -> Op {
    Op::Relevance(Relevance::Split { kind: SplitKind::Ratio, branches, skip: 1 })
}

/// The same with its relevance graph; the seed and the sum at the input.
fn with_relevance() -> (Graph, NodeId, NodeId) {
    let (mut g, x, relu, add) = forward();
    let seed = g.add_relevance(Op::Relevance(Relevance::Seed), add, &[value(add)]).unwrap();
    let split = g.add_relevance(split(2), add, &[value(relu), x, value(seed)]).unwrap();
    let pass = g.add_relevance(Op::Relevance(Relevance::Pass), relu, &[value(split)]).unwrap();
    let skip = ValueId { node: split, port: 1 };
    let sum = g.add_relevance(Op::Relevance(Relevance::Sum), x.node, &[value(pass), skip]).unwrap();
    g.relevance_outputs.push((x.node, value(sum)));
    (g, seed, sum)
}

#[track_caller]
fn check(graph: &Graph, expected: &[&str]) {
    let errors = verify(graph).expect_err("the graph is malformed").to_string();
    for text in expected {
        assert!(errors.contains(text), "expected \"{text}\" in\n{errors}");
    }
}

#[test]
fn a_well_formed_graph_passes() {
    verify(&forward().0).unwrap();
    verify(&with_relevance().0).unwrap();
}

#[test]
fn relevance_is_never_copied() {
    let (mut g, seed, sum) = with_relevance();
    let x = g.inputs()[0];
    let twice = g.add_relevance(Op::Relevance(Relevance::Sum), x, &[value(sum), value(seed)]).unwrap();
    g.relevance_outputs = vec![(x, value(twice))];
    check(
        &g,
        &[
            "%r4 = seed %3, of=%3 : f32[N,3]\n  ^ error: %r4 is used 2 times, expected once: relevance is split, never copied",
            "1 verifier error(s) in graph @t",
        ],
    );
}

#[test]
fn relevance_is_never_dropped() {
    let (mut g, _, _) = with_relevance();
    g.relevance_outputs.clear();
    let (x, relu) = (g.inputs()[0], g.node_ids().nth(1).unwrap());
    let other = g.add_relevance(Op::Relevance(Relevance::Seed), relu, &[value(relu)]).unwrap();
    g.relevance_outputs.push((x, value(other)));
    check(&g, &["got 2 seeds, expected 1", "is used 0 times"]);
}

#[test]
fn relevance_has_the_type_of_what_it_is_the_relevance_of() {
    let (mut g, x, relu, add) = forward();
    let narrow = g.add_input("z", TensorType::batched(&[1])).unwrap();
    let seed = g.add_relevance(Op::Relevance(Relevance::Seed), add, &[narrow]).unwrap();
    g.relevance_outputs.push((x.node, value(seed)));
    let _ = relu;
    check(
        &g,
        &[
            "got the types f32[N,1], expected f32[N,3] of %3",
            "relevance of %x: got f32[N,1], expected f32[N,3]",
        ],
    );
}

#[test]
fn a_split_belongs_to_its_add() {
    let (mut g, x, relu, add) = forward();
    g.add_relevance(split(2), relu, &[x, x]).unwrap();
    g.add_relevance(split(2), add, &[x, value(relu)]).unwrap();
    check(
        &g,
        &["got branches that are not the operands of %2", "got branches that are not the operands of %3"],
    );
}

#[test]
fn relevance_nodes_belong_to_forward_nodes() {
    let (mut g, _, _, add) = forward();
    let orphan = g.add_node(Op::Relevance(Relevance::Seed), "", &[value(add)]).unwrap();
    g.add_node(Op::Activation(Activation::Relu), "late", &[value(orphan)]).unwrap();
    check(&g, &["got no forward node, expected of=", "got the relevance value %r4, expected forward values"]);
}

#[test]
fn residuals_rules_and_claims_fit_their_nodes() {
    let (mut g, _, relu, add) = forward();
    let branch = Branch { kind: BranchKind::Identity, weighted_layers: 0, length: 0 };
    g.residuals.push(Residual { join: add, fork: relu, branches: vec![branch; 3], skip: 0 });
    g.residuals.push(Residual { join: relu, fork: relu, branches: vec![branch], skip: 0 });
    let origin = || "a test".to_string();
    g.rules.insert(relu, AssignedRule { rule: Rule::Split(SplitPolicy::Half), origin: origin() });
    g.rules.insert(add, AssignedRule { rule: Rule::Winner, origin: origin() });
    g.claim = Some(Claim { leaks: vec![(relu, Contract::LeaksToBias)] });
    check(
        &g,
        &[
            "got a residual of 3 branches, skip 0, for 2 operands",
            "got a residual of 1 branches, skip 0, for 1 operands",
            "got the rule split on relu",
            "got the rule winner on add",
            "got leaks-to-bias in the claim, expected leaking relevance nodes",
        ],
    );
}

#[test]
fn a_graph_has_inputs_and_outputs() {
    check(&Graph::new("empty"), &["got 0 inputs and 0 outputs, expected at least one of each"]);
}

#[test]
fn nodes_are_checked_when_they_are_added() {
    let (mut g, x, relu, _) = forward();
    let narrow = g.add_input("z", TensorType::batched(&[2])).unwrap();
    let refused = g.add_node(Op::Arithmetic(Arithmetic::Add), "bad", &[x, narrow]).unwrap_err().to_string();
    assert_eq!(refused, "node \"bad\" (add): got f32[N,3] and f32[N,2], expected shapes that broadcast");
    let refused = g.add_input("x", TensorType::batched(&[3])).unwrap_err().to_string();
    assert!(refused.contains("the name is taken"), "{refused}");
    assert!(g.remove(relu).unwrap_err().to_string().contains("in use"));
}

#[track_caller]
fn check_parse(body: &str, line: usize, expected: &str) {
    let text = format!("graph @t (%x: f32[N,3]) -> (%2 \"y\") {{\n{body}\n}}\n");
    match parse(&text).expect_err("the text is malformed") {
        IrError::Parse { line: at, message, .. } => {
            assert_eq!(at, line, "{message}");
            assert!(message.contains(expected), "expected \"{expected}\" in \"{message}\"");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn parse_errors_name_line_and_expectation() {
    check_parse("  %2 = relu %x : f32[N,4]", 2, "got type f32[N,4], expected f32[N,3]");
    check_parse("  %2 = rleu %x : f32[N,3]", 2, "unknown op \"rleu\"");
    check_parse("\n  %2 = relu %9 : f32[N,3]", 3, "got %9, expected a value that is defined above");
    check_parse("  %2 = relu %x, speed=3 : f32[N,3]", 2, "unknown attribute \"speed\"");
    check_parse(
        "  %2 = relu %x : f32[N,3]\n  %2 = relu %x : f32[N,3]",
        3,
        "expected every value to be defined once",
    );
    check_parse("  %2 = relu %x : f32[N,3] ; \"unfinished", 2, "the end of the text inside a string");
    check_parse("  weights {\n    @w: f32[2] #12\n  }", 3, "expected 16 hexadecimal digits");
    check_parse("  %2 = relu %x : f32[99999999999,99999999999]", 2, "got type");
    check_parse("  %3 = relu %x : f32[N,3]", 1, "the output \"y\" names a value that is not defined");
    let slice = |start, step| {
        format!("  %2 = slice %x, starts=[0,{start}], sizes=[N,2], steps=[1,{step}] : f32[N,2]")
    };
    check_parse(
        &slice(0, -1),
        2,
        "got start 0, size 2, step -1 along axis 1 of f32[N,3], expected a range inside",
    );
    check_parse(&slice(3, -2), 2, "got start 3, size 2, step -2 along axis 1");
    check_parse(&slice(1, 0), 2, "got start 1, size 2, step 0 along axis 1");
    check_parse(&slice(1, i64::MAX), 2, "got start 1, size 2, step 9223372036854775807 along axis 1");
    check_parse("  %2 = softmax %x, axis=0 : f32[N,3]", 2, "expected an axis of fixed size");
}
