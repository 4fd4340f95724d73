//! Any text: the kernel parser gives a kernel or an error, and a kernel that verifies does compiled what it does
//! interpreted, between guards.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| relc_tests::corpus::kernel(text));
