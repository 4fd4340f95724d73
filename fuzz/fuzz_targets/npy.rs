//! Any bytes: the `.npy` reader gives an array of finite values or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| relc_tests::corpus::npy(bytes));
