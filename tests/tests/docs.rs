//! The tables in the documentation say what the code says.

use relc::Isa;
use relc::unstable::engine::{Cpu, Machine};
use relc::unstable::ir::op::OpClass;
use relc::unstable::program::Backend;
use relc_passes::pass_list;
use relc_rules::RULES;

fn document(name: &str) -> String {
    let path = format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The rows `| a | b |` of the table under a header, cells without backquotes.
fn rows(text: &str, header: &str) -> Vec<(String, String)> {
    let lines = text.lines().skip_while(|l| *l != header).skip(2).take_while(|l| l.starts_with('|'));
    lines
        .map(|line| {
            let inner = line.trim_matches('|').replace("\\|", "\u{1}");
            let cells: Vec<String> =
                inner.split('|').map(|c| c.trim().replace('`', "").replace('\u{1}', "|")).collect();
            (cells[0].clone(), cells[1].clone())
        })
        .collect()
}

#[test]
fn the_architecture_lists_the_passes() {
    let listed = rows(&document("ARCHITECTURE.md"), "| pass | what it does |");
    let passes: Vec<(String, String)> =
        pass_list().into_iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    assert_eq!(listed, passes);
}

#[test]
fn the_architecture_lists_the_passes_over_programs() {
    let listed = rows(&document("ARCHITECTURE.md"), "| pass over programs | what it does |");
    let passes = Cpu { machine: Machine::generic(Isa::Portable) }.pipeline();
    let passes: Vec<(String, String)> =
        passes.iter().map(|pass| (pass.name().to_string(), pass.description().to_string())).collect();
    assert_eq!(listed, passes);
}

#[test]
fn the_how_to_lists_the_rules() {
    let listed = rows(&document("docs/how-to/add-a-rule.md"), "| rule | formula |");
    let rules: Vec<(String, String)> =
        RULES.iter().map(|r| (r.name.to_string(), r.formula.to_string())).collect();
    assert_eq!(listed, rules);
}

#[test]
fn the_architecture_lists_the_crates() {
    let listed: Vec<String> = rows(&document("ARCHITECTURE.md"), "| crate | what lives there | depends on |")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let folder = format!("{}/../crates", env!("CARGO_MANIFEST_DIR"));
    let mut crates: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    crates.sort();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(sorted, crates);
}

#[test]
fn the_operators_are_those_of_the_importer() {
    let text = document("docs/operators.md");
    let (onnx, microsoft) = text.split_once("## com.microsoft").expect("two tables");
    let header = "| operator | from opset | supported | node tests |";
    for (text, specs) in
        [(onnx, relc_onnx::supported_ops()), (microsoft, relc_onnx::supported_microsoft_ops())]
    {
        let expected: Vec<(String, String)> =
            specs.iter().map(|o| (o.op.to_string(), o.min_opset.to_string())).collect();
        assert_eq!(rows(text, header), expected);
    }
}

#[test]
fn classes_of_ops_are_listed_with_all_their_ops() {
    let text = document("docs/how-to/add-a-rule.md");
    let expected: Vec<(String, String)> = OpClass::ALL
        .iter()
        .map(|(name, class)| (name.to_string(), class.members().collect::<Vec<_>>().join(", ")))
        .collect();
    assert_eq!(rows(&text, "| class | its ops |"), expected);
}

#[test]
fn every_rule_has_a_page_that_says_what_the_code_says() {
    let index = document("docs/rules/README.md");
    for rule in RULES {
        let page = document(&format!("docs/rules/{}.md", rule.name));
        for text in [rule.formula, rule.citation, rule.domain, rule.contract, rule.at_zero] {
            assert!(page.contains(text), "docs/rules/{}.md lacks \"{text}\"", rule.name);
        }
        assert!(index.contains(&format!("({}.md)", rule.name)), "the index lacks {}", rule.name);
        let picture = format!("{}/../docs/rules/{}.png", env!("CARGO_MANIFEST_DIR"), rule.name);
        assert!(std::path::Path::new(&picture).is_file(), "{picture} is missing");
    }
}

/// Unsafe code is where the architecture says, and nowhere else.
#[test]
fn few_crates_may_be_unsafe() {
    let crates = format!("{}/../crates", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        let roots = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
        for root in roots.iter().filter(|root| root.is_file()) {
            let forbids = std::fs::read_to_string(root).unwrap().contains("#![forbid(unsafe_code)]");
            let may = ["relc-codegen", "relc-cpu", "relc-cuda", "relc-artifact", "relc-capi", "relc-python"]
                .iter()
                .any(|name| folder.ends_with(name));
            assert_eq!(forbids, !may, "{}", root.display());
        }
    }
}

#[test]
fn the_readme_names_the_opsets_and_files_that_there_are() {
    let readme = document("README.md");
    let opsets = format!("opsets {} to {}", relc_onnx::OPSETS.start(), relc_onnx::OPSETS.end());
    assert!(readme.contains(&opsets), "README.md lacks \"{opsets}\"");
    let words = readme.split(|c: char| c.is_whitespace() || "`()".contains(c));
    let is_path =
        |w: &&str| ["examples/", "docs/"].iter().any(|folder| w.starts_with(folder)) && !w.contains('*');
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    for path in words.filter(is_path).map(|w| w.trim_end_matches([',', ';', '.', ':'])) {
        assert!(std::path::Path::new(&format!("{root}{path}")).exists(), "README.md names {path}");
    }
}

#[test]
fn the_preprocessing_files_of_the_examples_are_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/preprocess");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        relc::preprocess::Preprocess::load(&path.to_string_lossy()).unwrap();
    }
    let v2 = relc::preprocess::Preprocess::load(&format!("{folder}/imagenet_v2.toml")).unwrap();
    assert!(v2.to_string().starts_with("shorter side to 232 (bilinear), centre crop 224 x 224"), "{v2}");
}

/// `pip install` and `python` are those of the environment that `ci.sh` makes.
#[test]
fn the_commands_of_the_readmes_table_are_run_by_ci() {
    let ci = document(".ci/run");
    let table = rows(&document("README.md"), "| from | one command, in a clone | more |");
    let commands: Vec<&str> = table.iter().flat_map(|(_, commands)| commands.split(" && ")).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let run = match command {
            "pip install ./crates/relc-python" => "crates/relc-python/ci.sh",
            command => command.trim_start_matches("python "),
        };
        assert!(ci.contains(run), "`{command}` is not in .ci/run");
    }
}
