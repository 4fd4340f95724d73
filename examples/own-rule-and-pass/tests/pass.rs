//! The pass, on small graphs: `tests/filetests/*.relc`. `; nodes: GLOB` says which layers get the rule.

use own_rule_and_pass::{GiveRule, square_share};
use relc::NameGlob;
use relc::testing::Filetests;

#[test]
fn the_pass_does_what_its_files_say() {
    let tests = Filetests::made_by(|header| {
        let nodes = NameGlob::new(header.get("nodes").unwrap_or("*"))?;
        Ok(Box::new(GiveRule { nodes, rule: square_share() }))
    });
    tests.check("tests/filetests");
}
