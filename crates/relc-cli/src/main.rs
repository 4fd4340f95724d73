//! The command `relc`.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod check;
mod compile;
mod completions;
mod dump;
mod emit;
mod eval;
mod explain;
mod export;
mod failure;
mod inputs;
mod labels;
mod names;
mod outputs;
mod presets;
mod print;
mod profile;
mod save;
mod schema;
mod table;
mod tables;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Cli, Command};

fn main() -> ExitCode {
    start_log();
    let result = match Cli::parse().command {
        Command::Explain(args) => explain::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Tune(args) => eval::tune::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Compile(args) => save::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Preset(args) => presets::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Schema => schema::run(),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::notes(&failure);
            failure.exit_code()
        }
    }
}

/// Writes relc's own log to standard error, as `RELC_LOG` says. A level alone is that of relc: what the code generator
/// logs has to be asked for by name.
fn start_log() {
    let said = std::env::var("RELC_LOG").unwrap_or_default();
    let own = |part: &str| match part.trim().parse::<LevelFilter>() {
        Ok(level) => format!("relc={level}"),
        Err(_) => part.trim().to_string(),
    };
    let filter: Vec<String> = said.split(',').filter(|part| !part.trim().is_empty()).map(own).collect();
    let filter = EnvFilter::try_new(if filter.is_empty() { "off".into() } else { filter.join(",") });
    let filter = filter.unwrap_or_else(|e| {
        print::note(format!("warning: RELC_LOG is \"{said}\", which is no filter: {e}"));
        EnvFilter::new("off")
    });
    let colours =
        std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(colours).without_time().init();
}
