//! A small residual block, compiled with the pass among relc's own.

use own_rule_and_pass::{GiveRule, square_share};
use relc::testing::Snapshot;
use relc::unstable::ir;
use relc::{Compiler, NameGlob, Preset};

const BLOCK: &str = r#"graph @block (%x: f32[N,4,8,8]) -> (%4 "y") {
  weights {
    @w1: f32[4,4,3,3] #0000000000000000
    @w2: f32[4,4,3,3] #0000000000000000
  }
  %1 = conv %x, @w1, kernel=[3,3], strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1 : f32[N,4,8,8] ; "conv1"
  %2 = relu %1 : f32[N,4,8,8] ; "relu1"
  %3 = conv %2, @w2, kernel=[3,3], strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1 : f32[N,4,8,8] ; "conv2"
  %4 = add %3, %x : f32[N,4,8,8] ; "join"
}
"#;

#[test]
fn the_rule_of_the_pass_is_in_the_relevance_graph() {
    let nodes = NameGlob::new("conv2").unwrap();
    let pass = GiveRule { nodes, rule: square_share() };
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).pass_after("assign-rules", pass);
    let compiled = compiler.passes(ir::parse(BLOCK).unwrap(), |_, _| {}).unwrap();
    insta::assert_snapshot!(Snapshot::from(&compiled));
}
