//! Any bytes: the importer gives a graph or an error, and the passes take any graph that it gives.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| relc_tests::corpus::import(bytes));
