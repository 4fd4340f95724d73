//! Any bytes: the preprocessing's parser gives a preprocessing or an error that names the file, and what it gives makes
//! finite inputs of small pictures, or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| relc_tests::corpus::preprocess(bytes));
