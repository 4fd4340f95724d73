//! `relc completions` and `relc man`: what shells and `man` know of the command line.

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use relc::unstable::ir::spelling::did_you_mean;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::print;

/// Runs `relc completions`.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "relc", &mut script);
    Ok(print::raw(&script)?)
}

/// Runs `relc man`.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut command = &root;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            let hint = did_you_mean(name, command.get_subcommands().map(clap::Command::get_name));
            Failure::usage(format!("there is no command \"{name}\"{hint}"))
        })?;
    }
    Ok(print::raw(&page(command)?)?)
}

/// The page of a command, in roff.
fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let version = concat!("relc ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(version).manual("relc manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        examples(&text.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// What stands below a command's help: examples, which keep their lines, and sentences.
fn examples(text: &str) -> Roff {
    let mut roff = Roff::default();
    let mut in_example = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with("Example") {
            roff.control("SH", ["EXAMPLES"]);
            continue;
        }
        if line.starts_with(' ') != in_example {
            in_example = !in_example;
            roff.control(if in_example { "nf" } else { "fi" }, []);
        }
        if !in_example {
            roff.control("PP", []);
        }
        roff.text([roman(line)]);
    }
    if in_example {
        roff.control("fi", []);
    }
    roff
}
