//! Any bytes: an artifact loads or is refused, whatever its hashes say, and what loads explains an input or refuses it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| relc_tests::corpus::artifact(bytes));
