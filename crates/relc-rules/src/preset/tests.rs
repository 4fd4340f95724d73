//! The presets and their errors.

use relc_ir::rule::{BiasPolicy, Rule};

use super::*;
use crate::rules::{InputForm, zplus};
use relc_ir::op::{Conv, Window};

const LATER: Place = Place { depth: 1, last: false };

fn conv() -> Op {
    let window = Window::new([3, 3], [1, 1]);
    Op::Conv(Conv { window, group: 1, folded_bias: false })
}

fn check_error(text: &str, expected: &str) {
    let base = "name='t'\ndescription=''\nseed='logit'\nbatchnorm='keep'\nbias='exclude'\nsplit='ratio'\n";
    let error = Preset::parse(&format!("{base}{text}"), "t.toml").unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn shipped_presets_parse_and_are_called_what_they_are() {
    for name in Preset::names() {
        assert_eq!(Preset::named(name).unwrap().name, name);
    }
}

#[test]
fn the_last_matching_line_decides_and_is_named() {
    let paper = Preset::named("paper").unwrap();
    let (first, origin) = paper.rule(&conv(), "c", Place::default()).unwrap().unwrap();
    let (later, _) = paper.rule(&conv(), "c", LATER).unwrap().unwrap();
    assert!(
        matches!(&first, Rule::Linear(r) if r.parts == zplus::parts(InputForm::Ones, BiasPolicy::Exclude))
    );
    assert!(
        matches!(&later, Rule::Linear(r) if r.parts == zplus::parts(InputForm::Raw, BiasPolicy::Exclude))
    );
    let line: usize = origin.strip_prefix("preset paper, line ").unwrap().parse().unwrap();
    let text = Preset::text("paper").unwrap();
    assert_eq!(text.lines().nth(line - 1), Some("[[rule]]"));
    assert_eq!(text.lines().nth(line + 1), Some("position = \"first\""));
}

#[test]
fn the_bias_option_reaches_only_lines_that_leave_it_open() {
    let paper = Preset::named("paper").unwrap().with_bias(BiasPolicy::Include).unwrap();
    let bias = |op: &Op| match paper.rule(op, "", LATER) {
        Some(Ok((Rule::Linear(rule), _))) => rule.bias,
        other => panic!("{other:?}"),
    };
    assert_eq!(bias(&conv()), BiasPolicy::Include);
    assert_eq!(bias(&Op::GlobalAveragePool), BiasPolicy::Exclude);
    let error = Preset::named("conserve").unwrap().with_bias(BiasPolicy::Include).unwrap_err();
    assert_eq!(error, PresetError::BiasFixed { preset: "conserve".into() });
}

#[test]
fn errors_name_the_line_and_what_is_expected() {
    check_error(
        "[[rule]]\nop='Conv'\nrule='zplus'\nplus_eps=1e-5\n",
        "t.toml, line 7: rule Zplus: expected input",
    );
    check_error("[[rule]]\nop='Konv'\nrule='pass'\n", "did you mean \"Conv\"");
    check_error("[[rule]]\nop='Conv'\nrule='zplus'\ninput='raw'\n", "a denominator can be 0");
    check_error("[[rule]]\nop='Conv'\nrule='zpluss'\n", "did you mean \"zplus\"?");
    check_error("speed=1\n", "unknown field `speed`");
    check_error("sede='logit'\n", "did you mean \"seed\"?");
    let error = Preset::named("papr").unwrap_err().to_string();
    assert!(error.contains("did you mean \"paper\"?"), "{error}");
}
