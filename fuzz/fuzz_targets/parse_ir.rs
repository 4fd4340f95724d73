//! Any text: the parser gives a graph or an error, and what it gives prints and parses back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| relc_tests::corpus::parse_ir(text));
