//! Any bytes: the picture's reader gives a picture, of which inputs are made, or an error that names the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| relc_tests::corpus::picture(bytes));
