//! Completions and manual pages.

mod support;

use std::process::{Command, Stdio};

use support::{check_fails, check_ok, relc};

/// Every command that people call.
const COMMANDS: [&str; 11] = [
    "explain",
    "eval",
    "tune",
    "check",
    "dump",
    "preset",
    "bench",
    "profile",
    "schema",
    "completions",
    "man",
];

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = check_ok(&relc(&["completions", shell]));
        for word in COMMANDS.into_iter().chain(["heat-quantization"]) {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let help = check_ok(&relc(&["completions", "--help"]));
    for place in
        ["bash-completion/completions/relc", ".zfunc/_relc", "fish/completions/relc.fish", "$PROFILE"]
    {
        assert!(help.contains(place), "{place}: {help}");
    }
    check_fails(&relc(&["completions", "tcsh"]), 2, &["bash", "zsh"]);
}

/// The shells that are here read their scripts.
#[test]
fn shells_read_their_scripts() {
    for (shell, args) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let folder = support::folder();
        let (file, text) = support::path(&folder, "script");
        std::fs::write(file, check_ok(&relc(&["completions", shell]))).unwrap();
        let mut command = Command::new(shell);
        let Ok(output) = command.args(args).arg(&text).stdin(Stdio::null()).output() else { continue };
        check_ok(&output);
    }
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let main = check_ok(&relc(&["man"]));
    assert!(main.contains(".TH relc 1") && main.contains("Exit codes"), "{main}");
    assert!(COMMANDS.iter().all(|command| main.contains(&format!("relc\\-{command}(1)"))), "{main}");
    for command in COMMANDS {
        let page = check_ok(&relc(&["man", command]));
        assert!(page.contains(&format!(".TH relc-{command} 1")), "{page}");
        let help = check_ok(&relc(&[command, "--help"]));
        let words = help.split(|c: char| c.is_whitespace() || "[]<>,;=.)".contains(c));
        // The page leaves aliases out.
        for option in words.filter(|w| w.starts_with("--") && w.len() > 2 && *w != "--jobs") {
            assert!(page.contains(&option.replace('-', "\\-")), "relc man {command}: no {option}");
        }
        assert!(page.contains(".SH EXAMPLES") && page.contains("relc"), "{page}");
    }
    assert!(check_ok(&relc(&["man", "preset", "show"])).contains("preset\\-show"));
    check_fails(&relc(&["man", "explian"]), 2, &["did you mean \"explain\"?"]);
}
