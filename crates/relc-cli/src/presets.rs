//! `relc preset`.

use relc::Preset;

use crate::args::{PresetArgs, PresetCommand};
use crate::failure::Failure;
use crate::print;

/// Runs the command.
pub fn run(args: &PresetArgs) -> Result<(), Failure> {
    match &args.command {
        PresetCommand::List => {
            for name in Preset::names() {
                let preset = Preset::named(name)?;
                print::line(format!("{name:26} {}", preset.description))?;
            }
        }
        PresetCommand::Show { name } => {
            Preset::named(name).map_err(Failure::usage)?; // suggests the nearest name
            let text = Preset::text(name).unwrap_or_default();
            print::block(text.trim_end())?;
        }
    }
    Ok(())
}
