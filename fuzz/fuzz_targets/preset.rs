//! Any text: the preset parser gives a preset or an error that names the file, and a preset can be asked for rules.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| relc_tests::corpus::preset(text));
