//! The presets and their errors.

use relc_ir::rule::{BiasPolicy, Bounds, Rule, SplitPolicy};

use super::*;
use crate::rules::{InputForm, zplus};
use relc_ir::op::{Conv, Window};

const LATER: Place = Place { depth: 1, layers: 2, last: false };

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
    assert_eq!(error, PresetError::BiasFixed { preset: "conserve".into(), bias: "include" });
}

#[test]
fn rules_of_ones_own_have_a_canonical_form() {
    let parse = |rule: &str| {
        Preset::parse(&format!("extends = \"conserve\"\n\n[[rule]]\nop = \"Conv\"\n{rule}"), "own")
    };
    let boxed = |low: f64| {
        let rule = "rule = { name = \"mine\", parts = [\"a*w -l*w+gw+ b+gb+\"] }\nfallback = \"flat\"";
        parse(&format!("{rule}\ngamma = 0.25\nlow = {low:?}\nhigh = 1.0")).unwrap()
    };
    assert_ne!(boxed(-1.0).hash(), boxed(-9.0).hash());
    let plain = parse("rule = { name = \"mine\", parts = [\"a+*w+\"] }\nfallback = \"flat\"").unwrap();
    let bounds = Bounds { low: vec![-1.0], high: vec![1.0] };
    assert_eq!(plain.hash(), plain.clone().with_bounds(bounds).hash());
    for preset in [boxed(-1.0), plain] {
        assert_eq!(Preset::parse(&preset.canonical(), "again").unwrap().hash(), preset.hash());
    }
    for (rule, says) in [
        ("rule = { name = \"gate\", parts = [\"a*w\"] }", "expected another name"),
        ("rule = { name = \"zplus\", parts = [\"a*w\"] }", "expected another name"),
        ("rule = { name = \"Mine\", parts = [\"a*w\"] }", "small letters"),
        ("rule = { name = \"mine\", parts = [\"a*w b+gb+\"] }\nfallback = \"flat\"", "expected gamma"),
        ("rule = { name = \"mine\", parts = [\"a*w\", \"a*w undivided\"] }", "such a part alone"),
        ("rule = { name = \"mine\", parts = [\"a*w\"] }", "a denominator can be 0"),
        ("rule = \"zpluss\"", "did you mean \"zplus\"?"),
    ] {
        let error = parse(rule).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    parse("rule = { name = \"mine\", parts = [\"a*w undivided\"] }").unwrap();
}

#[test]
fn errors_name_the_line_and_what_is_expected() {
    check_error(
        "[[rule]]\nop='Conv'\nrule='zplus'\nplus_eps=1e-5\n",
        "t.toml, line 7: rule = \"zplus\": expected input",
    );
    check_error("[[rule]]\nop='Konv'\nrule='pass'\n", "did you mean \"Conv\"");
    check_error("[[rule]]\nop='Conv'\nrule='zplus'\ninput='raw'\n", "a denominator can be 0");
    check_error("[[rule]]\nop='Conv'\nrule='zpluss'\n", "did you mean \"zplus\"?");
    check_error("speed=1\n", "unknown field `speed`");
    check_error("sede='logit'\n", "did you mean \"seed\"?");
    let error = Preset::named("papr").unwrap_err().to_string();
    assert!(error.contains("did you mean \"paper\"?"), "{error}");
}

#[test]
fn the_canonical_text_is_a_preset_that_computes_the_same() {
    for preset in Preset::names().into_iter().map(|name| Preset::named(name).unwrap()) {
        let preset = preset
            .with_mask("/layer\"*=3,17")
            .unwrap()
            .with_bounds(Bounds { low: vec![-1.5, 0.0], high: vec![0.1, 2.0] });
        let text = preset.canonical();
        let again = Preset::parse(&text, "again.toml").unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert_eq!(again.canonical(), text);
        assert_eq!(again.hash(), preset.hash());
        let rule = |p: &Preset| p.rule(&conv(), "c", Place::default()).unwrap().unwrap().0;
        assert_eq!(rule(&again), rule(&preset), "{}", preset.name);
    }
}

#[test]
fn a_changed_copy_under_a_shipped_name_is_modified() {
    let copy = |from: &str, to: &str| {
        let text = Preset::text("conserve").unwrap();
        assert!(text.contains(from));
        Preset::parse(&text.replacen(from, to, 1), "mine.toml").unwrap()
    };
    let shipped = Preset::named("conserve").unwrap();
    let unasked = Bounds { low: vec![0.0], high: vec![1.0] };
    for (same, how) in [
        (shipped.clone(), "itself"),
        (copy("# Of several", "# Now of several"), "a comment"),
        (copy("op = \"MaxPool\"", "op = [\"MaxPool\"]"), "another spelling"),
        (shipped.clone().with_bounds(unasked.clone()), "a box that no line asks for"),
    ] {
        assert_eq!((same.title().as_str(), same.hash()), ("conserve", shipped.hash()), "{how}");
    }
    let ones = "input = \"ones\"";
    for (changed, how) in [
        (copy(ones, "input = \"raw\""), "a line"),
        (copy("split = \"ratio\"", "split = \"half\""), "an option in the file"),
        (shipped.clone().with_split(SplitPolicy::Half), "an option of the user's"),
        (shipped.clone().with_mask("a=1").unwrap(), "a mask"),
    ] {
        assert_eq!(changed.title(), "conserve (modified)", "{how}");
        assert_ne!(changed.hash(), shipped.hash(), "{how}");
    }
    let (_, origin) = copy(ones, "input = \"raw\"").rule(&conv(), "", LATER).unwrap().unwrap();
    assert!(origin.starts_with("preset mine.toml, line "), "{origin}");
    let own = "extends = \"conserve\"\nname = \"mine\"\nsplit = \"half\"";
    assert_eq!(Preset::parse(own, "f.toml").unwrap().title(), "mine");
    // A box is what zbox lines ask for, and decides what is computed.
    let boxed = Preset::named("epsilon_gamma_box").unwrap();
    let filled = boxed.clone().with_bounds(unasked);
    assert_eq!(filled.title(), "epsilon_gamma_box");
    assert_ne!(filled.hash(), boxed.hash());
}

/// A class stands for its ops, in whatever order they are named: the text, and so the hash, is one.
#[test]
fn classes_stand_for_their_ops() {
    let preset = |ops: &str| {
        let text =
            format!("extends = 'conserve'\n[[rule]]\nop = {ops}\nrule = 'epsilon'\nsigned_eps = 1e-6\n");
        Preset::parse(&text, "mine").unwrap()
    };
    let [class, ops] =
        ["'@shape'", "['Concat', 'Slice', 'Slice', 'Transpose', 'Expand', 'Reshape']"].map(preset);
    assert_eq!(class.canonical(), ops.canonical());
    assert_ne!(class.hash(), preset("['Concat', 'Slice']").hash());
    check_error("extends='conserve'\n[[rule]]\nop='@shapes'\nrule='pass'\n", "did you mean \"@shape\"?");
    check_error("extends='conserv'\n", "did you mean \"conserve\"?");
}

/// Every preset has a rule for every op of the classes of which any network may have one.
#[test]
fn every_preset_has_a_rule_for_every_activation() {
    use relc_ir::op::{Activation, Arithmetic, OpClass};
    let ops = [
        Op::Activation(Activation::Softsign),
        Op::Activation(Activation::Mish),
        Op::Arithmetic(Arithmetic::PRelu),
        Op::Arithmetic(Arithmetic::Div),
    ];
    for name in Preset::names() {
        let preset = Preset::named(name).unwrap();
        for op in &ops {
            assert!(preset.rule(op, "", Place::default()).is_some(), "{name}: {}", op.onnx_name());
        }
        for class in [OpClass::Activation, OpClass::Constant, OpClass::Normalization, OpClass::Shape] {
            let has = |op: &&str| preset.lines.iter().any(|line| line.ops.contains(op));
            assert_eq!(class.members().find(|op| !has(op)), None, "{name}");
        }
    }
}
