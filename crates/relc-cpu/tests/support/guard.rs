//! How far guards reach.

/// Elements before and after each buffer: 128, or none if `RELC_NO_GUARDS` is set. Guards hold values that show what a
/// kernel reads and uses, or writes, beyond its buffers; without them a buffer ends where its allocation does, and
/// valgrind sees reads whose values are dropped too.
pub fn guard() -> usize {
    if std::env::var_os("RELC_NO_GUARDS").is_some() { 0 } else { 128 }
}
